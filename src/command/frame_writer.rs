//! Frames out, in capture order.
//!
//! A fragment cannot be written before its packet is whole: then the rebuilt packet takes the place of the last fragment
//! and the others go; or it never becomes whole, or is not ours, and all pass as they were. Until that is known the frames
//! behind it wait.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::capture::{Batch, Frame, Interface, LINKTYPE_RAW, Options, OwnedFrame, Window, Writer};
use crate::decoder::outcome::Outcome;
use crate::error::Error;

/// Bytes of memory for frames that wait; beyond, the oldest fragments pass as they are.
const MAX_WAITING: usize = 16 << 20;
/// About what a frame takes besides its bytes.
const OVERHEAD: usize = 256;

/// The frames that a window gives, made by a worker in the format of the output.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    batch: Batch,
    /// By frame of the window.
    changes: Vec<Change>,
    /// Frames, of this window and before, whose packet will never be whole.
    given_up: Vec<u64>,
    /// Where packets go that have no frame of their own.
    raw: Arc<Interface>,
}

/// What becomes of a frame when all its packets are written, and of the fragments that it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It is written anew, or not at all, and the fragments go.
    Leaves,
    /// It passes as it is, and so do they.
    Stays,
    /// It is a fragment whose packet is not whole yet.
    Waits,
}

/// What becomes of one frame of the input.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A fragment whose packet is not whole yet.
    Hold,
    /// Frames are written up to `end` in the batch. The fragments that this frame completes pass as they are, or go.
    Write { end: usize, fragments_go: bool },
}

impl Frames {
    /// Forgets the last window and keeps the memory. The packets of the frames `given_up` will never be whole.
    pub(crate) fn begin(&mut self, given_up: &[u64]) {
        self.batch.clear();
        self.changes.clear();
        self.given_up.clear();
        self.given_up.extend_from_slice(given_up);
    }

    /// Whether frames and packets without one can be written into one file: into pcapng. pcap holds one link type: there
    /// the packets of radio frames are alone.
    pub(crate) fn mixes_link_types(&self) -> bool {
        self.batch.mixes_link_types()
    }

    /// Writes a frame, as it is or rewritten, with one more comment if there is one.
    pub(crate) fn frame(&mut self, packet: &Frame<'_>, comment: Option<&str>) -> Result<(), Error> {
        self.batch.push(packet, comment)
    }

    /// Writes a frame with other data, what `write` appends, and with one more comment if there is one. Where `write` fails
    /// nothing is written.
    #[inline]
    pub(crate) fn rewritten<E>(
        &mut self,
        packet: &Frame<'_>,
        comment: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        self.batch.push_written(packet, comment, write)
    }

    /// Writes what `write` appends, a packet that came out of `frame`, as in [`Frames::raw`]; nothing where `write` fails.
    pub(crate) fn raw_written<E>(
        &mut self,
        frame: &Frame<'_>,
        comment: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        let packet = Frame { interface: &self.raw, options: Options::default(), ..*frame };
        self.batch.push_written(&packet, Some(comment), write)
    }

    /// All that was written, to complete it where it is.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.batch.bytes_mut()
    }

    /// Writes a packet that came out of `frame` or was completed by it, without link header, on an interface of its own.
    /// The capture lacks `missing` bytes of it. The comment says where it comes from.
    pub(crate) fn raw(&mut self, frame: &Frame<'_>, data: &[u8], missing: usize, comment: &str) -> Result<(), Error> {
        let orig_len = u32::try_from(data.len().saturating_add(missing)).unwrap_or(u32::MAX);
        let packet = Frame { interface: &self.raw, data, orig_len, options: Options::default(), ..*frame };
        self.batch.push(&packet, Some(comment))
    }

    /// That was all of a frame of the window.
    #[inline]
    pub(crate) fn end(&mut self, end: End) {
        self.changes.push(match end {
            End::Waits => Change::Hold,
            End::Stays | End::Leaves => Change::Write { end: self.batch.len(), fragments_go: end == End::Leaves },
        });
    }
}

/// Writes the frames of a run.
pub(crate) struct Outlet {
    writer: Writer,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    written: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    frame: Waiter,
    /// A fragment whose packet is not whole yet.
    undecided: bool,
    dropped: bool,
}

#[derive(Debug)]
enum Waiter {
    /// A fragment.
    Fragment(OwnedFrame),
    /// What stands behind one: a batch of one.
    Ready(Batch),
}

impl Waiter {
    fn len(&self) -> usize {
        match self {
            Waiter::Fragment(packet) => packet.as_frame().data.len(),
            Waiter::Ready(batch) => batch.bytes_len(),
        }
    }
}

impl Outlet {
    /// Writes to `writer`.
    pub(crate) fn new(writer: Writer) -> Outlet {
        Outlet { writer, waiting: VecDeque::new(), bytes: 0, written: 0 }
    }

    /// No frames yet; each worker takes a clone.
    pub(crate) fn frames(&self) -> Frames {
        let raw = Interface::new(LINKTYPE_RAW);
        Frames { batch: self.writer.batch(), changes: vec![], given_up: vec![], raw }
    }

    /// Writes the frames of a window.
    pub(crate) fn apply(
        &mut self,
        window: &Window,
        outcomes: &[Outcome<'_>],
        frames: &mut Frames,
    ) -> Result<(), Error> {
        let Frames { batch, changes, given_up, .. } = frames;
        if self.waiting.is_empty() && !changes.iter().any(|change| matches!(change, Change::Hold)) {
            self.written += batch.len() as u64;
            return self.writer.append(batch);
        }
        let mut next = 0;
        for ((packet, outcome), change) in window.frames().zip(outcomes).zip(&*changes) {
            match *change {
                Change::Hold => self.hold(&packet)?,
                Change::Write { end, fragments_go } => {
                    self.decide(outcome.fragments(), fragments_go)?;
                    for index in next..end {
                        self.write(batch, index, packet.number)?;
                    }
                    next = end;
                }
            }
        }
        self.decide(given_up, false)?;
        self.writer.flush()
    }

    /// Writes a frame of a batch.
    fn write(&mut self, batch: &Batch, index: usize, number: u64) -> Result<(), Error> {
        if self.waiting.is_empty() {
            self.written += 1;
            return self.writer.write_from(batch, index);
        }
        let mut one = self.writer.batch();
        one.push_from(batch, index);
        self.queue(number, Waiter::Ready(one), false)
    }

    /// Takes a fragment whose packet is not whole yet.
    fn hold(&mut self, packet: &Frame<'_>) -> Result<(), Error> {
        self.queue(packet.number, Waiter::Fragment(OwnedFrame::from(packet)), true)
    }

    /// Writes what waits.
    pub(crate) fn release_all(&mut self) -> Result<(), Error> {
        self.waiting.iter_mut().for_each(|waiting| waiting.undecided = false);
        self.flush()?;
        self.writer.flush()
    }

    /// Writes what waits and completes the output.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.release_all()?;
        self.writer.finish()?;
        Ok(self.written)
    }

    fn queue(&mut self, number: u64, frame: Waiter, undecided: bool) -> Result<(), Error> {
        self.bytes += frame.len() + OVERHEAD;
        self.waiting.push_back(Waiting { number, frame, undecided, dropped: false });
        while self.bytes > MAX_WAITING {
            if let Some(first) = self.waiting.front_mut() {
                first.undecided = false;
            }
            self.flush()?;
        }
        Ok(())
    }

    /// The packet of these frames was rebuilt, and they go; or it is not ours, or will never be whole, and they pass.
    fn decide(&mut self, frames: &[u64], dropped: bool) -> Result<(), Error> {
        if frames.is_empty() || self.waiting.is_empty() {
            return Ok(());
        }
        // They wait in the order of their numbers; a packet that came out of a frame has the number of the frame.
        for frame in frames {
            let first = self.waiting.partition_point(|waiting| waiting.number < *frame);
            let same = self.waiting.range_mut(first..).take_while(|waiting| waiting.number == *frame);
            for waiting in same.filter(|waiting| waiting.undecided) {
                waiting.undecided = false;
                waiting.dropped = dropped;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        while let Some(first) = self.waiting.pop_front_if(|first| !first.undecided) {
            self.bytes -= first.frame.len() + OVERHEAD;
            if !first.dropped {
                self.written += 1;
                match &first.frame {
                    Waiter::Fragment(packet) => self.writer.write(&packet.as_frame(), None)?,
                    Waiter::Ready(batch) => self.writer.write_from(batch, 0)?,
                }
            }
        }
        Ok(())
    }
}
