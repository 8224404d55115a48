//! Which frames a command shows or writes. All frames are opened, whatever is selected: what follows depends on them.

use crate::decoder::status::Status;
use crate::net::Selector;
use crate::records::record::Record;

/// The selection of `--spi`, `--src`, `--dst`, `--frames`, `--failed`; all that are given must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// The restored SPI; of a packet that did not verify that of the only SA it may belong to.
    pub spi: Option<u32>,
    /// Outer source.
    pub src: Option<Selector>,
    /// Outer destination.
    pub dst: Option<Selector>,
    /// First and last frame number.
    pub frames: Option<(u64, u64)>,
    /// Only what is not `ok`.
    pub failed: bool,
}

impl Selection {
    /// Whether it may leave out frames.
    pub fn is_any(&self) -> bool {
        let Selection { spi, src, dst, frames, failed } = self;
        spi.is_some() || src.is_some() || dst.is_some() || frames.is_some() || *failed
    }

    /// Whether a frame is taken.
    pub fn takes(&self, record: &Record<'_>) -> bool {
        self.frames.is_none_or(|(first, last)| (first..=last).contains(&record.frame()))
            && self.spi.is_none_or(|wanted| record.spi() == Some(wanted))
            && self.src.is_none_or(|selector| record.outer().is_some_and(|outer| selector.accepts(outer.src)))
            && self.dst.is_none_or(|selector| record.outer().is_some_and(|outer| selector.accepts(outer.dst)))
            && !(self.failed && record.status() == Status::Ok)
    }
}
