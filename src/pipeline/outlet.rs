//! Frames out, in capture order.
//!
//! A fragment cannot be written before its packet is whole: then the rebuilt packet takes the place of the last fragment
//! and the others go; or it never becomes whole, or is not ours, and all pass as they were. Until that is known the frames
//! behind it wait.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::item::Item;
use crate::capture::{Interface, LINKTYPE_RAW, Options, OwnedPacket, Packet, Window, Writer};
use crate::error::Error;

/// Bytes of memory for frames that wait; beyond, the oldest fragments pass as they are.
const MAX_WAITING: usize = 16 << 20;
/// About what a frame takes besides its bytes.
const OVERHEAD: usize = 256;

/// What becomes of one frame of the input.
#[derive(Debug)]
pub enum Change {
    /// It is written as it is, with one more comment if there is one.
    Pass(Option<String>),
    /// A fragment whose packet is not whole yet.
    Hold,
    /// It is left out, and with it the fragments that it completes.
    Leave,
    /// Another frame is written in its place, and in that of the fragments that it completes: these bytes.
    Replace(Range<usize>),
    /// A frame that cannot hold the packet that came out of it, such as a radio frame: it stays, with one more comment if
    /// there is one, and the packet goes beside it. pcap holds one link type: there the packets of radio frames are alone.
    Beside {
        /// The comment.
        comment: Option<String>,
        /// The packet.
        raw: Option<Raw>,
    },
    /// The packet that came out of a frame is written, the frame is not.
    Alone(Raw),
}

/// An IP packet that has no frame of its own.
#[derive(Debug)]
pub struct Raw {
    /// Its bytes.
    pub bytes: Range<usize>,
    /// Bytes that the capture lacks of it.
    pub missing: usize,
    /// Says where it comes from.
    pub comment: String,
}

/// Writes the frames of a run.
pub struct Outlet {
    writer: Writer,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    written: u64,
    /// Where packets go that have no frame of their own.
    raw: Arc<Interface>,
}

#[derive(Debug)]
struct Waiting {
    packet: OwnedPacket,
    comment: Option<String>,
    /// A fragment whose packet is not whole yet.
    undecided: bool,
    dropped: bool,
}

impl Outlet {
    /// Writes to `writer`.
    pub fn new(writer: Writer) -> Outlet {
        Outlet { writer, waiting: VecDeque::new(), bytes: 0, written: 0, raw: Interface::new(LINKTYPE_RAW) }
    }

    /// Writes the frames of a window, changed as `changes` says; replaced ones are in `frames`. The packets of the frames
    /// `given_up` will never be whole.
    pub fn apply(
        &mut self,
        window: &Window,
        items: &[Item<'_>],
        changes: &[Change],
        frames: &[u8],
        given_up: &[u64],
    ) -> Result<(), Error> {
        for ((packet, item), change) in window.packets().zip(items).zip(changes) {
            match change {
                Change::Pass(comment) => {
                    self.release(item.fragments())?;
                    self.write(&packet, comment.as_deref())?;
                }
                Change::Hold => self.hold(&packet)?,
                Change::Leave => self.drop_frames(item.fragments())?,
                Change::Replace(range) => {
                    self.drop_frames(item.fragments())?;
                    self.write(&packet.with_data(frames.get(range.clone()).unwrap_or_default()), None)?;
                }
                Change::Beside { comment, raw } => {
                    self.release(item.fragments())?;
                    if !item.radio || self.writer.mixes_link_types() {
                        self.write(&packet, comment.as_deref())?;
                    }
                    if let Some(raw) = raw {
                        self.write_raw(&packet, raw, frames)?;
                    }
                }
                Change::Alone(raw) => {
                    self.drop_frames(item.fragments())?;
                    self.write_raw(&packet, raw, frames)?;
                }
            }
        }
        self.release(given_up)?;
        self.writer.flush()
    }

    /// Writes a packet that came out of `frame` or was completed by it, without link header, on an interface of its own.
    fn write_raw(&mut self, frame: &Packet<'_>, raw: &Raw, frames: &[u8]) -> Result<(), Error> {
        let interface = Arc::clone(&self.raw);
        let data = frames.get(raw.bytes.clone()).unwrap_or_default();
        let orig_len = u32::try_from(data.len().saturating_add(raw.missing)).unwrap_or(u32::MAX);
        let packet = Packet { interface: &interface, data, orig_len, options: Options::default(), ..*frame };
        self.write(&packet, Some(&raw.comment))
    }

    /// Writes a frame, with one more comment if there is one.
    fn write(&mut self, packet: &Packet<'_>, comment: Option<&str>) -> Result<(), Error> {
        if self.waiting.is_empty() {
            self.written += 1;
            return self.writer.write(packet, comment);
        }
        self.queue(packet, comment, false)
    }

    /// Takes a fragment whose packet is not whole yet.
    fn hold(&mut self, packet: &Packet<'_>) -> Result<(), Error> {
        self.queue(packet, None, true)
    }

    /// The packet of these frames is not ours, or will never be whole: they pass.
    fn release(&mut self, frames: &[u64]) -> Result<(), Error> {
        self.decide(frames, false)
    }

    /// The packet of these frames was rebuilt: they go.
    fn drop_frames(&mut self, frames: &[u64]) -> Result<(), Error> {
        self.decide(frames, true)
    }

    /// Writes what waits.
    pub fn release_all(&mut self) -> Result<(), Error> {
        self.waiting.iter_mut().for_each(|waiting| waiting.undecided = false);
        self.flush()?;
        self.writer.flush()
    }

    /// Writes what waits and completes the output.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.release_all()?;
        self.writer.finish()?;
        Ok(self.written)
    }

    fn queue(&mut self, packet: &Packet<'_>, comment: Option<&str>, undecided: bool) -> Result<(), Error> {
        self.bytes += packet.data.len() + OVERHEAD;
        let packet = OwnedPacket::from(packet);
        self.waiting.push_back(Waiting { packet, comment: comment.map(str::to_owned), undecided, dropped: false });
        while self.bytes > MAX_WAITING {
            if let Some(first) = self.waiting.front_mut() {
                first.undecided = false;
            }
            self.flush()?;
        }
        Ok(())
    }

    fn decide(&mut self, frames: &[u64], dropped: bool) -> Result<(), Error> {
        if frames.is_empty() || self.waiting.is_empty() {
            return Ok(());
        }
        // They wait in the order of their numbers; a packet that came out of a frame has the number of the frame.
        for frame in frames {
            let first = self.waiting.partition_point(|waiting| waiting.packet.number < *frame);
            let same = self.waiting.range_mut(first..).take_while(|waiting| waiting.packet.number == *frame);
            for waiting in same.filter(|waiting| waiting.undecided) {
                waiting.undecided = false;
                waiting.dropped = dropped;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        while let Some(first) = self.waiting.pop_front_if(|first| !first.undecided) {
            self.bytes -= first.packet.as_packet().data.len() + OVERHEAD;
            if !first.dropped {
                self.written += 1;
                self.writer.write(&first.packet.as_packet(), first.comment.as_deref())?;
            }
        }
        Ok(())
    }
}
