//! Selects the frames that a command shows or writes. Every frame is still decrypted, because later packets depend
//! on its sequence number.

use crate::decoder::status::Status;
use crate::net::Selector;
use crate::records::record::Record;

/// The selection of `--spi`, `--src`, `--dst`, `--frames` and `--failed`. A frame must meet all conditions that are
/// given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// The restored SPI. For a packet that did not verify: the SPI of its only candidate SA.
    pub spi: Option<u32>,
    /// Outer source address.
    pub src: Option<Selector>,
    /// Outer destination address.
    pub dst: Option<Selector>,
    /// First and last frame number.
    pub frames: Option<(u64, u64)>,
    /// Only packets whose status is not `ok`.
    pub failed: bool,
}

impl Selection {
    /// Whether any condition is given.
    pub fn is_any(&self) -> bool {
        let Selection { spi, src, dst, frames, failed } = self;
        spi.is_some() || src.is_some() || dst.is_some() || frames.is_some() || *failed
    }

    /// Whether the record meets all conditions.
    pub fn takes(&self, record: &Record<'_>) -> bool {
        self.frames.is_none_or(|(first, last)| (first..=last).contains(&record.frame()))
            && self.spi.is_none_or(|wanted| record.spi() == Some(wanted))
            && self.src.is_none_or(|selector| record.outer().is_some_and(|outer| selector.accepts(outer.src)))
            && self.dst.is_none_or(|selector| record.outer().is_some_and(|outer| selector.accepts(outer.dst)))
            && !(self.failed && record.status() == Status::Ok)
    }
}
