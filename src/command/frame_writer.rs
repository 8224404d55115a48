//! Writes the output frames of all windows in capture order and adds up their counts.

use super::frame_batch::{Change, FrameBatch};
use super::held_frames::{Held, HeldFrames};
use crate::capture::{Batch, Frame, OwnedFrame, Window, Writer};
use crate::decoder::outcome::Outcome;
use crate::error::Error;

/// The output of a run.
pub(crate) struct Output<'o, Counts> {
    pub(crate) writer: FrameWriter,
    pub(crate) counts: Counts,
    /// Called after each window with the number of input bytes read so far.
    pub(crate) progress: &'o mut (dyn FnMut(u64) + Send),
}

impl<Counts: std::ops::AddAssign> Output<'_, Counts> {
    /// Writes the frames of a window, and adds its counts.
    pub(crate) fn emit(
        &mut self,
        window: &Window,
        outcomes: &[Outcome<'_>],
        (frames, counts): (&mut FrameBatch, Counts),
        bytes_read: u64,
    ) -> Result<(), Error> {
        self.counts += counts;
        self.writer.write(window, outcomes, frames)?;
        (self.progress)(bytes_read);
        Ok(())
    }
}

/// Writes the frames of a run.
pub(crate) struct FrameWriter {
    writer: Writer,
    held: HeldFrames,
    written: u64,
}

impl FrameWriter {
    /// Writes to `writer`.
    pub(crate) fn new(writer: Writer) -> FrameWriter {
        FrameWriter { writer, held: HeldFrames::default(), written: 0 }
    }

    /// An empty batch of frames; each worker fills a clone.
    pub(crate) fn batch(&self) -> FrameBatch {
        FrameBatch::new(&self.writer)
    }

    /// Writes the frames of a window.
    fn write(&mut self, window: &Window, outcomes: &[Outcome<'_>], frames: &mut FrameBatch) -> Result<(), Error> {
        let FrameBatch { frames, changes, given_up, .. } = frames;
        if self.held.is_empty() && !changes.iter().any(|change| matches!(change, Change::Hold)) {
            self.written += frames.len() as u64;
            return self.writer.append(frames);
        }
        let mut next = 0;
        for ((frame, outcome), change) in window.frames().zip(outcomes).zip(&*changes) {
            match *change {
                Change::Hold => self.hold(&frame)?,
                Change::Write { end, omits_fragments } => {
                    self.held.decide(outcome.fragments(), omits_fragments);
                    self.write_ready()?;
                    for index in next..end {
                        self.write_or_hold(frames, index, frame.number)?;
                    }
                    next = end;
                }
            }
        }
        self.held.decide(given_up, false);
        self.write_ready()?;
        self.writer.flush()
    }

    /// Writes a frame of a batch after all waiting frames.
    fn write_or_hold(&mut self, batch: &Batch, index: usize, number: u64) -> Result<(), Error> {
        if self.held.is_empty() {
            self.written += 1;
            return self.writer.write_from(batch, index);
        }
        let mut one = self.writer.batch();
        one.push_from(batch, index);
        self.held.push(number, Held::Output(one));
        self.write_ready()
    }

    /// Holds a fragment whose packet is not complete yet.
    fn hold(&mut self, frame: &Frame<'_>) -> Result<(), Error> {
        self.held.push(frame.number, Held::Fragment(OwnedFrame::from(frame)));
        self.write_ready()
    }

    /// Writes the held frames up to the first undecided fragment.
    fn write_ready(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.held.next() {
            self.written += 1;
            match frame {
                Held::Fragment(frame) => self.writer.write(&frame.as_frame(), None)?,
                Held::Output(batch) => self.writer.write_from(&batch, 0)?,
            }
        }
        Ok(())
    }

    /// Writes all waiting frames.
    pub(crate) fn write_held(&mut self) -> Result<(), Error> {
        self.held.keep_all();
        self.write_ready()?;
        self.writer.flush()
    }

    /// Writes all waiting frames and completes the output. Returns the number of frames written.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        self.write_held()?;
        self.writer.finish()?;
        Ok(self.written)
    }
}
