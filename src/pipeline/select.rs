//! Which frames a command shows or writes. All frames are opened, whatever is selected: what follows depends on them.

use super::outcome::{Esp, Status};
use crate::link::Outer;
use crate::report::record::Record;
use crate::sa::Selector;

/// The selection of `--spi`, `--src`, `--dst`, `--frames`, `--failed`; all that are given must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// The restored SPI.
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
    /// Whether the frame of a record is taken.
    pub fn takes(&self, record: &Record<'_>) -> bool {
        self.takes_frame(record.frame, record.outer.as_ref(), record.esp.as_ref(), record.status)
    }

    /// Whether a frame is taken of which no record is made.
    pub fn takes_frame(&self, frame: u64, outer: Option<&Outer>, esp: Option<&Esp>, status: Status) -> bool {
        self.frames.is_none_or(|(first, last)| (first..=last).contains(&frame))
            && self.spi.is_none_or(|wanted| esp.is_some_and(|esp| esp.spi == wanted))
            && self.src.is_none_or(|selector| outer.is_some_and(|outer| selector.accepts(outer.src)))
            && self.dst.is_none_or(|selector| outer.is_some_and(|outer| selector.accepts(outer.dst)))
            && !(self.failed && status == Status::Ok)
    }
}
