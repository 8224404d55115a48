//! Frames in the format of the output, ready to be written. Workers fill batches without access to the writer.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use super::pcapng_blocks::{field_mut, finish_block, pad, push_options, put_fields, put_interface};
use super::{Frame, Interface, pcapng};
use crate::Error;

/// Length of the header before the data: of a pcap record, and of pcapng blocks with type and length.
const PCAP_HEADER_LEN: usize = 16;
const ENHANCED_PACKET_HEADER_LEN: usize = 28;
const SIMPLE_PACKET_HEADER_LEN: usize = 12;

/// The format of a capture that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Pcap,
    Pcapng,
}

impl Format {
    #[cold]
    fn unfit(self, frame: &Frame<'_>, what: &str) -> Error {
        let help = if self == Format::Pcap { "write pcapng: let the output end in .pcapng" } else { "" };
        Error::usage(format!("frame {}: its {what} does not fit in the output format", frame.number), help)
    }
}

/// Packets in the format of a [`Writer`], ready to be appended. Workers can fill a batch without access to the writer.
#[derive(Debug, Clone)]
pub struct Batch {
    format: Format,
    pub(super) bytes: Vec<u8>,
    pub(super) starts: Vec<Start>,
    /// The interfaces of the packets. Packets hold an index into this list until the writer replaces it with the number
    /// in the file.
    pub(super) interfaces: Vec<Arc<Interface>>,
}

/// Where a packet of a [`Batch`] starts, and the index of its interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub offset: usize,
    pub interface: u32,
    /// The lengths of a frame without time.
    pub undated: Option<Lens>,
}

/// Captured and original length of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lens {
    pub data: u32,
    pub orig: u32,
}

impl Lens {
    /// Whether a Simple Packet Block on an interface with this snap length implies these lengths.
    pub(super) fn fit(self, snap_len: u32) -> bool {
        self.data == if snap_len == 0 { self.orig } else { self.orig.min(snap_len) }
    }

    /// A snap length that fits these lengths: that of the interface, if possible.
    pub(super) fn snap_len(self, of_interface: u32) -> u32 {
        match self {
            _ if self.fit(of_interface) => of_interface,
            Lens { data, orig } if data == orig => 0,
            Lens { data, .. } => data,
        }
    }
}

impl Batch {
    pub(super) fn new(format: Format) -> Batch {
        Batch { format, bytes: Vec::new(), starts: Vec::new(), interfaces: Vec::new() }
    }

    /// Whether the batch has no packets.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Size in bytes.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether any frame has no time.
    pub(super) fn has_undated(&self) -> bool {
        self.starts.iter().any(|start| start.undated.is_some())
    }

    /// Whether packets of several link types can be written: in pcapng, but not in pcap.
    pub fn mixes_link_types(&self) -> bool {
        self.format == Format::Pcapng
    }

    /// Adds the packet at `index` of another batch of the same writer, which must not have been appended yet. Does
    /// nothing if there is no such packet.
    pub fn push_from(&mut self, other: &Batch, index: usize) {
        let Some((from, range)) = other.start_and_range(index) else { return };
        let Some(interface) = other.interfaces.get(from.interface as usize) else { return };
        let start = Start { offset: self.bytes.len(), interface: self.interface_index(interface), ..from };
        self.bytes.extend_from_slice(other.bytes.get(range).unwrap_or_default());
        if self.format == Format::Pcapng && start.undated.is_none() {
            put_interface(&mut self.bytes, start.offset, start.interface);
        }
        self.starts.push(start);
    }

    /// The position of the packet at `index`.
    pub(super) fn start_and_range(&self, index: usize) -> Option<(Start, Range<usize>)> {
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).map_or(self.bytes.len(), |next| next.offset);
        Some((start, start.offset..end))
    }

    /// Removes the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.interfaces.clear();
    }

    /// Adds a packet. `comment` is added to the comments that the packet has; pcap has none. To change a packet that was
    /// read, take it with other data and lengths: `Frame { data, orig_len, ..frame }`.
    ///
    /// # Errors
    /// The format cannot hold the packet's time (pcap: 1970 to 2106) or its length.
    pub fn push(&mut self, frame: &Frame<'_>, comment: Option<&str>) -> Result<(), Error> {
        let as_it_is = |out: &mut Vec<u8>| {
            out.extend_from_slice(frame.data);
            Ok::<_, Infallible>(())
        };
        self.push_whole(frame, Some(frame.orig_len), comment, as_it_is).map(|_| ())
    }

    /// Like [`Batch::push`], with other data: `write` appends the complete frame. If `write` fails, nothing is
    /// added.
    pub fn push_written<T, E>(
        &mut self,
        frame: &Frame<'_>,
        comment: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        self.push_whole(frame, None, comment, write)
    }

    /// Without `orig_len`, the data are the complete frame.
    fn push_whole<T, E>(
        &mut self,
        frame: &Frame<'_>,
        orig_len: Option<u32>,
        comment: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let before = self.bytes.len();
        let result = self.try_push(frame, orig_len, comment, write);
        if !matches!(result, Ok(Ok(_))) {
            self.bytes.truncate(before);
        }
        result
    }

    fn try_push<T, E>(
        &mut self,
        frame: &Frame<'_>,
        orig_len: Option<u32>,
        comment: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        let out = &mut self.bytes;
        if self.format == Format::Pcapng {
            pad(out);
        }
        let offset = out.len();
        match (self.format, frame.time) {
            (Format::Pcap, _) => out.extend_from_slice(&[0; PCAP_HEADER_LEN]),
            (Format::Pcapng, Some(_)) => out.extend_from_slice(&[0; ENHANCED_PACKET_HEADER_LEN]),
            (Format::Pcapng, None) => out.extend_from_slice(&[0; SIMPLE_PACKET_HEADER_LEN]),
        }
        let data = out.len();
        let written = match write(out) {
            Ok(written) => written,
            Err(error) => return Ok(Err(error)),
        };
        let data_len = u32::try_from(out.len() - data).map_err(|_| self.format.unfit(frame, "length"))?;
        let lens = Lens { data: data_len, orig: orig_len.unwrap_or(data_len) };
        let has_new_data = orig_len.is_none();
        let source = if has_new_data { frame.interface.without_fcs() } else { frame.interface };
        // Only a packet that is written adds its interface: another link type would make a pcap file impossible.
        let (interface, undated) = match (self.format, frame.time) {
            (Format::Pcap, _) => {
                self.finish_record(offset, frame, lens, has_new_data)?;
                (self.interface_index(source), None)
            }
            (Format::Pcapng, Some(time)) => {
                let ticks = time.ticks_in(source.ts_resolution, source.ts_offset);
                let ticks = ticks.ok_or_else(|| self.format.unfit(frame, "time"))?;
                push_options(&mut self.bytes, frame.options, has_new_data, comment);
                let interface = self.interface_index(source);
                let [high, low] = [(ticks >> 32) as u32, ticks as u32];
                let fields = [interface, high, low, lens.data, lens.orig];
                finish_block(&mut self.bytes, offset, pcapng::ENHANCED_PACKET_BLOCK, fields);
                (interface, None)
            }
            (Format::Pcapng, None) => {
                // A Simple Packet Block has no options, so comments are lost.
                pad(&mut self.bytes);
                finish_block(&mut self.bytes, offset, pcapng::SIMPLE_PACKET_BLOCK, [lens.orig]);
                (self.interface_index(source), Some(lens))
            }
        };
        self.starts.push(Start { offset, interface, undated });
        Ok(Ok(written))
    }

    /// Removes the frame check sequence of a pcap record and fills in its header.
    #[inline]
    fn finish_record(
        &mut self,
        offset: usize,
        frame: &Frame<'_>,
        Lens { mut data, mut orig }: Lens,
        has_new_data: bool,
    ) -> Result<(), Error> {
        let fcs_len = if has_new_data { 0 } else { frame.fcs_len() };
        if fcs_len > 0 {
            orig = orig.saturating_sub(fcs_len);
            data = data.min(orig);
            self.bytes.truncate(offset + PCAP_HEADER_LEN + data as usize);
        }
        let Some(time) = frame.time else {
            return Err(Error::usage(
                format!("frame {} has no time stamp, which pcap cannot express", frame.number),
                "write pcapng: let the output end in .pcapng",
            ));
        };
        let (seconds, nanos) = time.seconds_and_nanos();
        let seconds = u32::try_from(seconds).map_err(|_| self.format.unfit(frame, "time"))?;
        put_fields(&mut self.bytes, offset, [seconds, nanos, data, orig]);
        Ok(())
    }

    /// All bytes, to complete data in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    #[inline]
    fn interface_index(&mut self, interface: &Arc<Interface>) -> u32 {
        let known = self.interfaces.iter().position(|known| Arc::ptr_eq(known, interface));
        known.unwrap_or_else(|| {
            self.interfaces.push(Arc::clone(interface));
            self.interfaces.len() - 1
        }) as u32
    }

    /// Replaces the index of the interface in each Enhanced Packet Block.
    pub(super) fn map_interfaces(&mut self, ids: &[u32]) {
        for start in &self.starts {
            if let Some(id) = ids.get(start.interface as usize) {
                put_interface(&mut self.bytes, start.offset, *id);
            }
        }
    }

    /// Nanoseconds to microseconds in each pcap record.
    pub(super) fn round_to_micros(&mut self) {
        // Seconds are before it.
        const FRACTION: usize = 4;
        for start in &self.starts {
            if let Some(field) = field_mut(&mut self.bytes, start.offset + FRACTION) {
                *field = (u32::from_le_bytes(*field) / 1000).to_le_bytes();
            }
        }
    }
}
