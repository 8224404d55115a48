//! The output frames of one window, laid out by a worker in the format of the output.

use std::sync::Arc;

use crate::capture::{Batch, Frame, Interface, LINKTYPE_RAW, Options, Writer};
use crate::decoder::outcome::Outcome;
use crate::error::Error;
use crate::net::Datagram;

/// The output frames of a window.
#[derive(Debug, Clone)]
pub(crate) struct FrameBatch {
    pub(super) frames: Batch,
    /// By frame of the window.
    pub(super) changes: Vec<Change>,
    /// Frames, of this window and earlier ones, whose packet will never be complete.
    pub(super) given_up: Vec<u64>,
    /// The interface of packets that are written without a frame of their own.
    raw: Arc<Interface>,
}

/// What to do with a captured frame once all its packets are written, and with the earlier fragments that it
/// completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Original {
    /// The frame is replaced or omitted, and the fragments are omitted.
    Replaced,
    /// The frame and the fragments are written unchanged.
    Kept,
    /// The frame is a fragment whose packet is not complete yet.
    Waits,
}

/// The output of one captured frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// It is a fragment whose packet is not complete yet.
    Hold,
    /// Its frames end at `end` in the batch. The fragments that it completes are omitted, or written as they are.
    Write { end: usize, omits_fragments: bool },
}

impl FrameBatch {
    /// An empty batch for `writer`.
    pub(super) fn new(writer: &Writer) -> FrameBatch {
        let raw = Interface::new(LINKTYPE_RAW);
        FrameBatch { frames: writer.batch(), changes: vec![], given_up: vec![], raw }
    }

    /// Removes the frames of the last window and keeps the memory. The packets of the frames `given_up` will never
    /// be complete.
    pub(crate) fn begin(&mut self, given_up: &[u64]) {
        self.frames.clear();
        self.changes.clear();
        self.given_up.clear();
        self.given_up.extend_from_slice(given_up);
    }

    /// Whether one file can hold both radio frames and their packets: pcapng can. pcap holds one link type, so it gets the
    /// packets only.
    pub(crate) fn mixes_link_types(&self) -> bool {
        self.frames.mixes_link_types()
    }

    /// Writes a frame unchanged, with one more comment if `comment` is given.
    pub(crate) fn keep(&mut self, frame: &Frame<'_>, comment: Option<&str>) -> Result<(), Error> {
        self.frames.push(frame, comment)
    }

    /// Writes a frame with other data, which `write` appends, and with one more comment if `comment` is given. If
    /// `write` fails, nothing is written.
    #[inline]
    pub(crate) fn replace<E>(
        &mut self,
        frame: &Frame<'_>,
        comment: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        self.frames.push_written(frame, comment, write)
    }

    /// Writes an IP packet that was extracted from `frame`. `write` appends it. It has no link header, and is on a
    /// separate interface. If `write` fails, nothing is written.
    pub(crate) fn add<E>(
        &mut self,
        frame: &Frame<'_>,
        comment: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Result<(), E>, Error> {
        let packet = Frame { interface: &self.raw, options: Options::default(), ..*frame };
        self.frames.push_written(&packet, Some(comment), write)
    }

    /// Writes an IP packet that was extracted from `frame`, unchanged; otherwise like [`FrameBatch::add`].
    pub(crate) fn add_datagram(
        &mut self,
        frame: &Frame<'_>,
        packet: &Datagram<'_>,
        comment: &str,
    ) -> Result<(), Error> {
        let data = &[packet.header, packet.payload].concat();
        let orig_len = u32::try_from(data.len().saturating_add(packet.missing)).unwrap_or(u32::MAX);
        let packet = Frame { interface: &self.raw, data, orig_len, options: Options::default(), ..*frame };
        self.frames.push(&packet, Some(comment))
    }

    /// All bytes of the batch, to complete frames in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.frames.bytes_mut()
    }

    /// Ends the output of a captured frame.
    #[inline]
    pub(crate) fn end(&mut self, original: Original) {
        self.changes.push(match original {
            Original::Waits => Change::Hold,
            Original::Kept => Change::Write { end: self.frames.len(), omits_fragments: false },
            Original::Replaced => Change::Write { end: self.frames.len(), omits_fragments: true },
        });
    }
}

/// Whether the packet of a frame cannot be written back into the frame, so that it is written separately.
pub(crate) fn is_separate(outcome: &Outcome<'_>) -> bool {
    outcome.radio || outcome.is_rebuilt()
}

/// The comment of a packet that is written separately: the frames that contained it.
pub(crate) fn rebuilt_from(frame: u64, fragments: &[u64]) -> String {
    match fragments {
        [] => format!("dietesp: rebuilt from frame {frame}"),
        fragments => {
            let numbers: Vec<String> = fragments.iter().map(u64::to_string).collect();
            format!("dietesp: rebuilt from frames {}", numbers.join(", "))
        }
    }
}
