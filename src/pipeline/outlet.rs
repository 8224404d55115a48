//! Frames out, in capture order.
//!
//! A fragment cannot be written before its packet is whole: then the rebuilt packet takes the place of the last fragment
//! and the others go; or it never becomes whole, or is not ours, and all pass as they were. Until that is known the frames
//! behind it wait.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::capture::{Interface, LINKTYPE_RAW, Options, OwnedPacket, Packet, Writer};
use crate::error::Error;

/// Bytes of frames that may wait; beyond, the oldest fragments pass as they are.
const MAX_WAITING: usize = 16 << 20;

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

    /// Frames written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes a frame, with one more comment if there is one.
    pub fn write(&mut self, packet: &Packet<'_>, comment: Option<&str>) -> Result<(), Error> {
        if self.waiting.is_empty() {
            self.written += 1;
            return self.writer.write(packet, comment);
        }
        self.queue(packet, comment, false)
    }

    /// Writes an IP packet, of which the capture lacks `missing` bytes, that came out of `frame` or was completed by it;
    /// it goes without link header on an interface of its own.
    pub fn write_raw(&mut self, frame: &Packet<'_>, ip: &[u8], missing: usize, comment: &str) -> Result<(), Error> {
        let raw = Arc::clone(&self.raw);
        let orig_len = u32::try_from(ip.len().saturating_add(missing)).unwrap_or(u32::MAX);
        let packet = Packet { interface: &raw, data: ip, orig_len, options: Options::default(), ..*frame };
        self.write(&packet, Some(comment))
    }

    /// Whether the output can have frames of several link types.
    pub fn mixes_link_types(&self) -> bool {
        self.writer.mixes_link_types()
    }

    /// Takes a fragment whose packet is not whole yet.
    pub fn hold(&mut self, packet: &Packet<'_>) -> Result<(), Error> {
        self.queue(packet, None, true)
    }

    /// The packet of these frames is not ours, or will never be whole: they pass.
    pub fn release(&mut self, frames: &[u64]) -> Result<(), Error> {
        self.decide(frames, false)
    }

    /// The packet of these frames was rebuilt: they go.
    pub fn drop_frames(&mut self, frames: &[u64]) -> Result<(), Error> {
        self.decide(frames, true)
    }

    /// Writes what waits and completes the output.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.waiting.iter_mut().for_each(|waiting| waiting.undecided = false);
        self.flush()?;
        self.writer.finish()?;
        Ok(self.written)
    }

    fn queue(&mut self, packet: &Packet<'_>, comment: Option<&str>, undecided: bool) -> Result<(), Error> {
        self.bytes += packet.data.len();
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
        for waiting in &mut self.waiting {
            if waiting.undecided && frames.contains(&waiting.packet.number) {
                waiting.undecided = false;
                waiting.dropped = dropped;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Error> {
        while let Some(first) = self.waiting.pop_front_if(|first| !first.undecided) {
            self.bytes -= first.packet.as_packet().data.len();
            if !first.dropped {
                self.written += 1;
                self.writer.write(&first.packet.as_packet(), first.comment.as_deref())?;
            }
        }
        Ok(())
    }
}
