//! Writes the converted packets of a frame, either in place of the frame or separately.

use super::decide::Action;
use crate::capture::Frame;
use crate::command::frame_batch::{FrameBatch, Original, is_separate, rebuilt_from};
use crate::decoder::outcome::Outcome;
use crate::error::{Error, Fault};

/// A frame whose packets are being written.
pub(super) struct OutputFrame<'f> {
    frame: &'f Frame<'f>,
    /// Why some of its packets could not be decrypted.
    comment: Option<String>,
    /// The frame was written unchanged, because a packet of it is written separately.
    is_written: bool,
}

/// Why a packet is not replaced.
pub(super) enum NotReplaced {
    /// It is written unchanged.
    Kept,
    /// The new packet is too long for the frame.
    Fault(Fault),
}

impl From<Fault> for NotReplaced {
    fn from(fault: Fault) -> NotReplaced {
        NotReplaced::Fault(fault)
    }
}

impl<'f> OutputFrame<'f> {
    /// Starts the output of `frame`, whose first packet is `first`.
    pub(super) fn new(frame: &'f Frame<'f>, first: &Outcome<'_>) -> OutputFrame<'f> {
        OutputFrame { frame, comment: comment(first), is_written: false }
    }

    /// Writes one converted packet, which `write` appends.
    #[inline]
    pub(super) fn packet(
        &mut self,
        packet: &Outcome<'_>,
        action: &Action,
        frames: &mut FrameBatch,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), NotReplaced>,
    ) -> Result<(Original, Result<(), NotReplaced>), Error> {
        let is_nested = packet.inside > 0;
        match action {
            Action::Hold => return Ok((Original::Waits, Err(NotReplaced::Kept))),
            Action::Omit => return Ok((Original::Replaced, Err(NotReplaced::Kept))),
            Action::Keep if is_nested => return Ok((Original::Kept, Err(NotReplaced::Kept))),
            _ => {}
        }
        if is_nested {
            let origin = format!("dietesp: part {} of frame {}", packet.part, self.frame.number);
            return Ok((Original::Kept, frames.add(self.frame, &origin, write)?));
        }
        if is_separate(packet) {
            return Ok((Original::Kept, self.separate_packet(packet, frames, write)?));
        }
        let comment = self.comment.as_deref();
        let written = frames.replace(self.frame, comment, write)?;
        match &written {
            Ok(()) => return Ok((Original::Replaced, written)),
            Err(NotReplaced::Kept) => frames.keep(self.frame, comment)?,
            Err(NotReplaced::Fault(fault)) => frames.keep(self.frame, Some(&not_converted(fault)))?,
        }
        Ok((Original::Kept, written))
    }

    /// Writes a radio frame, or one with a tunnel before ESP, unchanged, followed by its packet, which `write`
    /// appends. Returns whether the packet was replaced.
    fn separate_packet(
        &mut self,
        packet: &Outcome<'_>,
        frames: &mut FrameBatch,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), NotReplaced>,
    ) -> Result<Result<(), NotReplaced>, Error> {
        let OutputFrame { frame, comment, .. } = self;
        if !std::mem::replace(&mut self.is_written, true) && (!packet.radio || frames.mixes_link_types()) {
            frames.keep(frame, comment.as_deref())?;
        }
        let Some(datagram) = packet.datagram().filter(|_| !packet.repeat) else { return Ok(Err(NotReplaced::Kept)) };
        let mut origin = rebuilt_from(frame.number, packet.fragments());
        let written = frames.add(frame, &origin, write)?;
        match &written {
            Ok(()) => return Ok(written),
            // The frame itself shows the packet.
            Err(NotReplaced::Kept) if !packet.radio => return Ok(written),
            Err(NotReplaced::Kept) => origin.extend(comment.as_ref().map(|comment| format!("\n{comment}"))),
            Err(NotReplaced::Fault(fault)) => origin += &format!("\n{}", not_converted(fault)),
        }
        frames.add_datagram(frame, &datagram, &origin)?;
        Ok(written)
    }
}

fn not_converted(fault: &Fault) -> String {
    format!("dietesp: not converted: {fault}")
}

/// Why packets of a frame that belong to an SA could not be decrypted.
fn comment(first: &Outcome<'_>) -> Option<String> {
    let mut comment: Option<String> = None;
    for packet in first.parts() {
        let Some(reason) = packet.reason.filter(|_| packet.of_known_sa) else { continue };
        let line = match packet.part {
            0 => format!("dietesp: {}: {reason}", packet.status.name()),
            number => format!("dietesp: part {number}: {}: {reason}", packet.status.name()),
        };
        match &mut comment {
            Some(comment) => *comment += &format!("\n{line}"),
            None => comment = Some(line),
        }
    }
    comment
}
