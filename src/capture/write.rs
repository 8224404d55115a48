//! From packets to a capture on disk or in a pipe.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::encoder::names_pcap;
use super::options::{self, Block};
use super::sink::Sink;
use super::{Frame, Interface, Options, pcap, pcapng};
use crate::Error;

/// [`Writer::write`] collects this many bytes.
const FLUSH_LEN: usize = 128 * 1024;
/// shb_userappl
const USER_APPLICATION: u16 = 4;

/// In front of the data: of a record of pcap; of an Enhanced Packet Block, its type and length included.
const PCAP_HEADER_LEN: usize = 16;
const ENHANCED_PACKET_HEADER_LEN: usize = 28;
const SIMPLE_PACKET_HEADER_LEN: usize = 12;

/// Which format a capture is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Pcap,
    Pcapng,
}

/// A capture being written. pcapng keeps of a packet that was read its data, lengths, time stamp and options byte for
/// byte, and of its interface all attributes; pcap keeps data without frame check sequence, lengths and time. A packet
/// without time has none in pcapng, and no options; pcap cannot hold it.
///
/// A file appears under its name only with [`Writer::finish`]; without, nothing is left. What is no regular file (a FIFO,
/// a device, standard output) is written to as it goes.
pub struct Writer {
    path: PathBuf,
    format: Format,
    sink: Sink,
    /// What [`Writer::write`] collects.
    pending: Batch,
    /// pcap: what the header says, once it is written.
    header: Option<PcapHeader>,
    /// pcapng: the interfaces described so far, by address. Holding them keeps an address from being used again.
    described: HashMap<usize, (u32, Arc<Interface>)>,
    /// pcapng: address and snap length, as written, of the first interface of the section, to which frames without time
    /// belong.
    first: Option<(usize, u32)>,
    started: bool,
}

#[derive(Debug, Clone, Copy)]
struct PcapHeader {
    link_type: u16,
    nanos: bool,
}

impl Writer {
    /// Starts a capture at `path`: pcap if it ends in `.pcap`, else pcapng; `.gz` or `.zst` after that compresses. `-` is
    /// standard output.
    ///
    /// # Errors
    /// The file cannot be created; standard output is a terminal, or is already used by another writer.
    pub fn create(path: &Path) -> Result<Writer, Error> {
        let format = if names_pcap(path) { Format::Pcap } else { Format::Pcapng };
        Ok(Writer {
            path: path.to_owned(),
            format,
            sink: Sink::create(path)?,
            pending: Batch::new(format),
            header: None,
            described: HashMap::new(),
            first: None,
            started: false,
        })
    }

    /// An empty batch for this writer, to be filled by a worker.
    pub fn batch(&self) -> Batch {
        Batch::new(self.format)
    }

    /// Writes one packet. `comment` is added to the comments that the packet has; pcap has none.
    ///
    /// # Errors
    /// As [`Batch::push`] and [`Writer::append`].
    pub fn write(&mut self, frame: &Frame<'_>, comment: Option<&str>) -> Result<(), Error> {
        self.pending.push(frame, comment)?;
        if self.pending.bytes.len() >= FLUSH_LEN { self.flush() } else { Ok(()) }
    }

    /// Writes the packet at `index` of a batch for this writer; nothing if there is none.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn write_from(&mut self, batch: &Batch, index: usize) -> Result<(), Error> {
        self.pending.push_from(batch, index);
        if self.pending.bytes.len() >= FLUSH_LEN { self.flush() } else { Ok(()) }
    }

    /// Writes the packets of `batch`, and empties it.
    ///
    /// # Errors
    /// The file cannot be written; or pcap was asked for and the packets have several link types.
    pub fn append(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        self.put(batch)
    }

    /// Hands what [`Writer::write`] has collected to the operating system, so that the reader of a pipe sees it.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let mut pending = std::mem::replace(&mut self.pending, Batch::new(self.format));
        let result = self.put(&mut pending);
        self.pending = pending;
        result
    }

    /// Completes the capture and gives the file its name. A capture without packets is valid, too.
    ///
    /// # Errors
    /// The file cannot be written, or not be given its name.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        if !self.started {
            let mut head = Vec::new();
            match self.format {
                Format::Pcapng => push_section_header(&mut head),
                Format::Pcap => {
                    const LINKTYPE_ETHERNET: u16 = 1;
                    let interface = Interface::from_options(0, LINKTYPE_ETHERNET, 0, Vec::new());
                    pcap::push_file_header(&mut head, &interface, false);
                }
            }
            self.sink.write(&head).map_err(Error::io(&self.path, "write"))?;
        }
        self.sink.finish(&self.path)
    }

    fn put(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut head = Vec::new();
        match self.format {
            Format::Pcap => self.settle_pcap(batch, &mut head)?,
            Format::Pcapng if batch.starts.iter().any(|start| start.undated.is_some()) => {
                self.settle_undated(batch, &mut head);
                batch.bytes.clear();
            }
            Format::Pcapng => self.settle_pcapng(batch, &mut head),
        }
        self.started = true;
        if !head.is_empty() {
            self.sink.write(&head).map_err(Error::io(&self.path, "write"))?;
        }
        self.sink.write(&batch.bytes).map_err(Error::io(&self.path, "write"))?;
        batch.clear();
        Ok(())
    }

    /// Writes the blocks that a batch needs before it, and sets the numbers of its interfaces in this file.
    fn settle_pcapng(&mut self, batch: &mut Batch, head: &mut Vec<u8>) {
        if !self.started {
            push_section_header(head);
        }
        let mut ids = Vec::with_capacity(batch.interfaces.len());
        for interface in &batch.interfaces {
            ids.push(self.describe(interface, interface.snap_len, head));
        }
        if ids.iter().zip(0..).any(|(id, index)| *id != index) {
            batch.map_interfaces(&ids);
        }
    }

    /// The number of an interface in this section; describes it first if need be.
    fn describe(&mut self, interface: &Arc<Interface>, snap_len: u32, head: &mut Vec<u8>) -> u32 {
        let next = self.described.len() as u32;
        let address = Arc::as_ptr(interface).addr();
        let (id, _) = self.described.entry(address).or_insert_with(|| {
            push_interface_description(head, interface, snap_len);
            (next, Arc::clone(interface))
        });
        if next == 0 {
            self.first = Some((address, snap_len));
        }
        *id
    }

    /// Appends a batch with frames without time to `out`, with what it needs. Their Simple Packet Blocks belong to the first
    /// interface of a section, whose snap length says how many of their bytes were captured: where that does not hold, a
    /// section begins.
    fn settle_undated(&mut self, batch: &mut Batch, out: &mut Vec<u8>) {
        for index in 0..batch.starts.len() {
            let Some((start, range)) = batch.start_and_range(index) else { continue };
            let Some(interface) = batch.interfaces.get(start.interface as usize) else { continue };
            let is_first = |snap_len: u32| {
                let address = Arc::as_ptr(interface).addr();
                self.first.is_some_and(|first| first == (address, snap_len))
            };
            let snap_len = start.undated.and_then(|lens| match self.first {
                Some((_, snap_len)) if lens.fit(snap_len) && is_first(snap_len) => None,
                _ => Some(lens.snap_len(interface.snap_len)),
            });
            pad(out);
            if snap_len.is_some() || !self.started {
                push_section_header(out);
                self.described.clear();
                self.started = true;
            }
            let id = self.describe(interface, snap_len.unwrap_or(interface.snap_len), out);
            if start.undated.is_none() {
                put_interface(&mut batch.bytes, start, id);
            }
            out.extend_from_slice(batch.bytes.get(range).unwrap_or_default());
        }
    }

    /// Writes the header before the first batch, and checks that a batch has the link type of the header.
    fn settle_pcap(&mut self, batch: &mut Batch, head: &mut Vec<u8>) -> Result<(), Error> {
        let header = match (self.header, batch.interfaces.first()) {
            (Some(header), _) => header,
            (None, Some(first)) => {
                let header = PcapHeader { link_type: first.link_type, nanos: first.finer_than_micros() };
                pcap::push_file_header(head, first, header.nanos);
                header
            }
            (None, None) => return Ok(()),
        };
        self.header = Some(header);
        if let Some(other) = batch.interfaces.iter().find(|interface| interface.link_type != header.link_type) {
            return Err(Error::file(
                &self.path,
                format!(
                    "a pcap file holds one link type, but the packets have link types {} and {}",
                    header.link_type, other.link_type
                ),
                "write pcapng: let the output end in .pcapng",
            ));
        }
        if !header.nanos {
            batch.round_to_micros();
        }
        Ok(())
    }
}

/// Packets in the format of a [`Writer`], ready to be appended. Workers can fill a batch without access to the writer.
#[derive(Debug, Clone)]
pub struct Batch {
    format: Format,
    bytes: Vec<u8>,
    starts: Vec<Start>,
    /// The interfaces of the packets. Packets hold an index into this list until the writer replaces it with the number
    /// in the file.
    interfaces: Vec<Arc<Interface>>,
}

/// Where a packet of a [`Batch`] starts, and the index of its interface.
#[derive(Debug, Clone, Copy)]
struct Start {
    offset: usize,
    interface: u32,
    /// Of a frame without time.
    undated: Option<Lens>,
}

/// Captured and original length of a frame.
#[derive(Debug, Clone, Copy)]
struct Lens {
    data: u32,
    orig: u32,
}

impl Lens {
    /// Whether a Simple Packet Block on an interface with this snap length has these lengths.
    fn fit(self, snap_len: u32) -> bool {
        self.data == if snap_len == 0 { self.orig } else { self.orig.min(snap_len) }
    }

    /// A snap length for them: that of the interface if it fits.
    fn snap_len(self, of_interface: u32) -> u32 {
        match self {
            _ if self.fit(of_interface) => of_interface,
            Lens { data, orig } if data == orig => 0,
            Lens { data, .. } => data,
        }
    }
}

impl Batch {
    fn new(format: Format) -> Batch {
        Batch { format, bytes: Vec::new(), starts: Vec::new(), interfaces: Vec::new() }
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// How many packets there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Bytes that they take.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether packets of several link types can be written: in pcapng, not in pcap.
    pub fn mixes_link_types(&self) -> bool {
        self.format == Format::Pcapng
    }

    /// Adds the packet at `index` of another batch of the same writer that was not yet appended; nothing if there is none.
    pub fn push_from(&mut self, other: &Batch, index: usize) {
        let Some((from, range)) = other.start_and_range(index) else { return };
        let Some(interface) = other.interfaces.get(from.interface as usize) else { return };
        let start = Start { offset: self.bytes.len(), interface: self.interface_index(interface), ..from };
        self.bytes.extend_from_slice(other.bytes.get(range).unwrap_or_default());
        if self.format == Format::Pcapng && start.undated.is_none() {
            put_interface(&mut self.bytes, start, start.interface);
        }
        self.starts.push(start);
    }

    /// Where the packet at `index` is.
    fn start_and_range(&self, index: usize) -> Option<(Start, Range<usize>)> {
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

    /// As [`Batch::push`], with other data: what `write` appends, which is all of the frame. Where `write` fails nothing is
    /// added.
    pub fn push_written<T, E>(
        &mut self,
        frame: &Frame<'_>,
        comment: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        self.push_whole(frame, None, comment, write)
    }

    /// Without `orig_len` the data are all of the frame.
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
        let unfit = |what| {
            let help = if self.format == Format::Pcap { "write pcapng: let the output end in .pcapng" } else { "" };
            Error::usage(format!("frame {}: its {what} does not fit in the output format", frame.number), help)
        };
        let has_new_data = orig_len.is_none();
        let source = if has_new_data { frame.interface.without_fcs() } else { frame.interface };
        let out = &mut self.bytes;
        let (offset, header) = match self.format {
            Format::Pcap => (out.len(), [0; PCAP_HEADER_LEN].as_slice()),
            Format::Pcapng => {
                pad(out);
                let header = [0; ENHANCED_PACKET_HEADER_LEN].as_slice();
                let len = if frame.time.is_none() { SIMPLE_PACKET_HEADER_LEN } else { header.len() };
                (out.len(), header.get(..len).unwrap_or_default())
            }
        };
        out.extend_from_slice(header);
        let written = match write(out) {
            Ok(written) => written,
            Err(error) => return Ok(Err(error)),
        };
        let mut data_len = u32::try_from(out.len() - offset - header.len()).map_err(|_| unfit("length"))?;
        let mut orig_len = orig_len.unwrap_or(data_len);
        let fcs_len = if self.format == Format::Pcap && !has_new_data { frame.fcs_len() } else { 0 };
        if fcs_len > 0 {
            orig_len = orig_len.saturating_sub(fcs_len);
            data_len = data_len.min(orig_len);
            out.truncate(offset + header.len() + data_len as usize);
        }
        let interface = match self.format {
            Format::Pcap => {
                let Some(time) = frame.time else {
                    return Err(Error::usage(
                        format!("frame {} has no time stamp, which pcap cannot express", frame.number),
                        "write pcapng: let the output end in .pcapng",
                    ));
                };
                let (seconds, nanos) = time.seconds_and_nanos();
                let seconds = u32::try_from(seconds).map_err(|_| unfit("time"))?;
                put_fields(out, offset, [seconds, nanos, data_len, orig_len]);
                self.interface_index(source)
            }
            Format::Pcapng => {
                let Some(time) = frame.time else {
                    // It has no options, so comments are lost.
                    pad(out);
                    let len = (out.len() - offset + 4) as u32;
                    push_fields(out, [len]);
                    put_fields(out, offset, [pcapng::SIMPLE_PACKET_BLOCK, len, orig_len]);
                    let interface = self.interface_index(source);
                    let undated = Some(Lens { data: data_len, orig: orig_len });
                    self.starts.push(Start { offset, interface, undated });
                    return Ok(Ok(written));
                };
                let Interface { ts_resolution, ts_offset, .. } = **source;
                let ticks = time.ticks_in(ts_resolution, ts_offset).ok_or_else(|| unfit("time"))?;
                push_options(out, frame.options, has_new_data, comment);
                let len = (out.len() - offset + 4) as u32;
                push_fields(out, [len]);
                let interface = self.interface_index(source);
                let (high, low) = ((ticks >> 32) as u32, ticks as u32);
                let fields = [pcapng::ENHANCED_PACKET_BLOCK, len, interface, high, low, data_len, orig_len];
                put_fields(&mut self.bytes, offset, fields);
                interface
            }
        };
        self.starts.push(Start { offset, interface, undated: None });
        Ok(Ok(written))
    }

    /// All of the bytes, to complete data where it is.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn interface_index(&mut self, interface: &Arc<Interface>) -> u32 {
        let known = self.interfaces.iter().position(|known| Arc::ptr_eq(known, interface));
        known.unwrap_or_else(|| {
            self.interfaces.push(Arc::clone(interface));
            self.interfaces.len() - 1
        }) as u32
    }

    /// Replaces the index of the interface in each Enhanced Packet Block.
    fn map_interfaces(&mut self, ids: &[u32]) {
        for start in &self.starts {
            if let Some(id) = ids.get(start.interface as usize) {
                put_interface(&mut self.bytes, *start, *id);
            }
        }
    }

    /// Nanoseconds to microseconds in each pcap record.
    fn round_to_micros(&mut self) {
        // Seconds are before it.
        const FRACTION: usize = 4;
        for start in &self.starts {
            if let Some(field) = field_mut(&mut self.bytes, start.offset + FRACTION) {
                *field = (u32::from_le_bytes(*field) / 1000).to_le_bytes();
            }
        }
    }
}

/// Sets the interface number in an Enhanced Packet Block.
fn put_interface(bytes: &mut [u8], start: Start, id: u32) {
    // Type and length are before it.
    const INTERFACE: usize = 8;
    if let Some(field) = field_mut(bytes, start.offset + INTERFACE) {
        *field = id.to_le_bytes();
    }
}

fn field_mut(bytes: &mut [u8], offset: usize) -> Option<&mut [u8; 4]> {
    bytes.get_mut(offset..)?.first_chunk_mut()
}

fn push_fields<const COUNT: usize>(out: &mut Vec<u8>, fields: [u32; COUNT]) {
    let start = out.len();
    out.resize(start + COUNT * 4, 0);
    put_fields(out, start, fields);
}

fn put_fields<const COUNT: usize>(bytes: &mut [u8], offset: usize, fields: [u32; COUNT]) {
    let places = bytes.get_mut(offset..).unwrap_or_default().as_chunks_mut::<4>().0;
    for (place, field) in places.iter_mut().zip(fields) {
        *place = field.to_le_bytes();
    }
}

/// Appends what follows the data of an Enhanced Packet Block, up to the length at its end.
fn push_options(out: &mut Vec<u8>, list: Options<'_>, has_new_data: bool, comment: Option<&str>) {
    pad(out);
    let before = out.len();
    match has_new_data {
        true => options::copy_for_new_data(out, list),
        false => options::copy(out, list, Block::EnhancedPacket),
    }
    if let Some(comment) = comment {
        let end = comment.floor_char_boundary(usize::from(u16::MAX));
        options::push(out, options::COMMENT, comment.get(..end).unwrap_or_default().as_bytes());
    }
    if out.len() > before {
        options::push(out, options::END, &[]);
    }
}

fn push_interface_description(out: &mut Vec<u8>, interface: &Interface, snap_len: u32) {
    push_block(out, pcapng::INTERFACE_DESCRIPTION_BLOCK, |out| {
        push_fields(out, [u32::from(interface.link_type), snap_len]);
        let before_options = out.len();
        options::copy(out, interface.options(), Block::InterfaceDescription);
        if out.len() > before_options {
            options::push(out, options::END, &[]);
        }
    });
}

fn push_section_header(out: &mut Vec<u8>) {
    push_block(out, pcapng::SECTION_HEADER_BLOCK, |out| {
        // Version 1.0; section length not given: -1.
        push_fields(out, [pcapng::BYTE_ORDER_MAGIC, 1, u32::MAX, u32::MAX]);
        options::push(out, USER_APPLICATION, concat!("dietesp ", env!("CARGO_PKG_VERSION")).as_bytes());
        options::push(out, options::END, &[]);
    });
}

/// Appends a block whose body `body` appends, padded to 32 bits.
fn push_block(out: &mut Vec<u8>, block_type: u32, body: impl FnOnce(&mut Vec<u8>)) {
    pad(out);
    let start = out.len();
    push_fields(out, [block_type, 0]);
    body(out);
    let len = ((out.len() - start + 4) as u32).to_le_bytes();
    out.extend_from_slice(&len);
    if let Some(field) = field_mut(out, start + 4) {
        *field = len;
    }
}

/// Pads to 32 bits. All blocks have a length of whole 32-bit words, so alignment in `out` is alignment in the block.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
