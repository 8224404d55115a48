//! A frame of the output: where what is made of its packets is written.

use super::{Make, Unwritten, is_beside};
use crate::capture::Frame;
use crate::command::frame_writer::{End, Frames};
use crate::decoder::outcome::Outcome;
use crate::error::Error;

/// A frame whose packets are being written.
pub(super) struct OutputFrame<'f> {
    packet: &'f Frame<'f>,
    /// Why packets in it could not be opened.
    comment: Option<String>,
    /// It was written as it is.
    is_there: bool,
}

impl<'f> OutputFrame<'f> {
    /// The frame `packet`, of whose packets `outcome` is the first.
    pub(super) fn new(packet: &'f Frame<'f>, outcome: &Outcome<'_>) -> OutputFrame<'f> {
        OutputFrame { packet, comment: comment(outcome), is_there: false }
    }

    /// Writes what is made of one of its packets, as `write` appends it.
    #[inline]
    pub(super) fn part(
        &mut self,
        part: &Outcome<'_>,
        make: &Make,
        frames: &mut Frames,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unwritten>,
    ) -> Result<(End, Result<(), Unwritten>), Error> {
        match make {
            Make::Hold => return Ok((End::Waits, Err(Unwritten::Passes))),
            Make::Leave => return Ok((End::Leaves, Err(Unwritten::Passes))),
            Make::Pass if part.inside > 0 => return Ok((End::Stays, Err(Unwritten::Passes))),
            _ => {}
        }
        if part.inside > 0 {
            let origin = format!("dietesp: part {} of frame {}", part.part, self.packet.number);
            return Ok((End::Stays, frames.raw_written(self.packet, &origin, write)?));
        }
        if is_beside(part) {
            return Ok((End::Stays, self.beside(part, frames, write)?));
        }
        let comment = self.comment.as_deref();
        let written = frames.rewritten(self.packet, comment, write)?;
        match &written {
            Ok(()) => return Ok((End::Leaves, written)),
            Err(Unwritten::Passes) => frames.frame(self.packet, comment)?,
            Err(Unwritten::Fault(fault)) => {
                frames.frame(self.packet, Some(&format!("dietesp: not converted: {fault}")))?;
            }
        }
        Ok((End::Stays, written))
    }

    /// A radio frame, or one with a tunnel in front of ESP, stays as it is, and the packet that came out of it goes beside
    /// it: as `write` writes it, or unchanged. Tells whether it was written, or could not be.
    fn beside(
        &mut self,
        part: &Outcome<'_>,
        frames: &mut Frames,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unwritten>,
    ) -> Result<Result<(), Unwritten>, Error> {
        let OutputFrame { packet, comment, .. } = self;
        if !std::mem::replace(&mut self.is_there, true) && (!part.radio || frames.mixes_link_types()) {
            frames.frame(packet, comment.as_deref())?;
        }
        let Some(datagram) = part.datagram().filter(|_| !part.repeat) else { return Ok(Err(Unwritten::Passes)) };
        let mut origin = match part.fragments() {
            [] => format!("dietesp: rebuilt from frame {}", packet.number),
            fragments => {
                let numbers: Vec<String> = fragments.iter().map(u64::to_string).collect();
                format!("dietesp: rebuilt from frames {}", numbers.join(", "))
            }
        };
        let written = frames.raw_written(packet, &origin, write)?;
        match &written {
            Ok(()) => return Ok(written),
            // It can be read where it is.
            Err(Unwritten::Passes) if !part.radio => return Ok(written),
            Err(Unwritten::Passes) => origin.extend(comment.as_ref().map(|comment| format!("\n{comment}"))),
            Err(Unwritten::Fault(fault)) => origin += &format!("\ndietesp: not converted: {fault}"),
        }
        frames.raw(packet, &[datagram.header, datagram.payload].concat(), datagram.missing, &origin)?;
        Ok(written)
    }
}

/// Why packets of a frame that belong to an SA could not be opened.
fn comment(outcome: &Outcome<'_>) -> Option<String> {
    let mut comment: Option<String> = None;
    for part in outcome.parts() {
        let Some(reason) = part.reason.filter(|_| part.of_known_sa) else { continue };
        let line = match part.part {
            0 => format!("dietesp: {}: {reason}", part.status.name()),
            number => format!("dietesp: part {number}: {}: {reason}", part.status.name()),
        };
        match &mut comment {
            Some(comment) => *comment += &format!("\n{line}"),
            None => comment = Some(line),
        }
    }
    comment
}
