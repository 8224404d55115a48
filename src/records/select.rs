//! Selects the records that a command shows or writes. Every frame is still decrypted, because later packets depend
//! on its sequence number.

use super::filter::{Evaluation, Filter};
use super::record::Record;
use crate::capture::FrameNumbers;
use crate::decoder::status::Status;
use crate::net::Selector;

/// Conditions of options. A record must meet all that are given.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The restored SPI. For a packet that did not verify: the SPI of its only candidate SA.
    pub spi: Option<u32>,
    /// Outer source address.
    pub src: Option<Selector>,
    /// Outer destination address.
    pub dst: Option<Selector>,
    /// Frame numbers.
    pub frames: Option<FrameNumbers>,
    /// Only failed packets of known SAs.
    pub failed: bool,
    /// Only packets with one of these statuses, if there are any.
    pub statuses: Vec<Status>,
    /// An expression.
    pub filter: Option<Filter>,
}

impl Selection {
    /// Whether any condition is given.
    pub fn is_any(&self) -> bool {
        let Selection { spi, src, dst, frames, failed, statuses, filter } = self;
        let by_header = spi.is_some() || src.is_some() || dst.is_some();
        by_header || frames.is_some() || *failed || !statuses.is_empty() || filter.is_some()
    }

    /// Whether the record meets the conditions of `spi`, `src`, `dst`, `frames` and `failed`.
    pub fn selects(&self, record: &Record<'_>) -> bool {
        self.frames.as_ref().is_none_or(|frames| frames.contains(record.frame()))
            && self.spi.is_none_or(|wanted| record.spi() == Some(wanted))
            && self.src.is_none_or(|selector| record.outer().is_some_and(|outer| selector.accepts(outer.src)))
            && self.dst.is_none_or(|selector| record.outer().is_some_and(|outer| selector.accepts(outer.dst)))
            && (!self.failed || record.is_failed())
    }

    /// Whether the inner addresses meet the conditions of `src` and `dst`, if one of these is given.
    pub(crate) fn takes_inner(&self, record: &Record<'_>) -> bool {
        let meets = |selector: Option<Selector>, address| selector.is_none_or(|selector| selector.accepts(address));
        let is_given = self.src.is_some() || self.dst.is_some();
        is_given && record.inner().is_some_and(|inner| meets(self.src, inner.src) && meets(self.dst, inner.dst))
    }

    /// Whether the record meets all conditions.
    pub fn shows(&self, record: &Record<'_>, evaluation: &mut Evaluation) -> bool {
        self.selects(record)
            && (self.statuses.is_empty() || self.statuses.contains(&record.status()))
            && self.filter.as_ref().is_none_or(|filter| filter.matches(record, evaluation))
    }
}
