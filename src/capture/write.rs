//! Writes packets to a capture file or a pipe.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{Batch, Format};
use super::encoder::names_pcap;
use super::pcapng_blocks::{pad, push_interface_description, push_section_header, put_interface};
use super::sink::Sink;
use super::{Frame, Interface, pcap};
use crate::Error;

/// [`Writer::write`] buffers this many bytes.
const FLUSH_LEN: usize = 128 * 1024;

/// A capture being written. pcapng keeps the data, lengths, time stamp and options of a captured frame byte for byte, and
/// all attributes of its interface. pcap keeps lengths, time, and data without frame check sequence. In pcapng, a frame
/// without time stays without time and loses its options; pcap cannot hold it.
///
/// A file appears under its name only with [`Writer::finish`]. Without it, no file is left. FIFOs, devices and
/// standard output are written to at once.
pub struct Writer {
    path: PathBuf,
    format: Format,
    sink: Sink,
    /// The buffer of [`Writer::write`].
    pending: Batch,
    /// pcap: the content of the header, once it is written.
    header: Option<PcapHeader>,
    /// pcapng: the interfaces described so far, by address. They are kept, so that an address is not used again.
    described: HashMap<usize, (u32, Arc<Interface>)>,
    /// pcapng: address and written snap length of the first interface of the section, which frames without time
    /// belong to.
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

    /// Writes the packet at `index` of a batch for this writer. Does nothing if there is no such packet.
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
    /// The file cannot be written, or it is a pcap file and the packets have several link types.
    pub fn append(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        self.put(batch)
    }

    /// Flushes the buffer of [`Writer::write`], so that the reader of a pipe gets it.
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
    /// The file cannot be written or renamed.
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
            Format::Pcap => self.begin_pcap(batch, &mut head)?,
            Format::Pcapng if batch.has_undated() => {
                self.append_undated(batch, &mut head);
                batch.bytes.clear();
            }
            Format::Pcapng => self.begin_pcapng(batch, &mut head),
        }
        self.started = true;
        if !head.is_empty() {
            self.sink.write(&head).map_err(Error::io(&self.path, "write"))?;
        }
        self.sink.write(&batch.bytes).map_err(Error::io(&self.path, "write"))?;
        batch.clear();
        Ok(())
    }

    /// Writes the blocks that a batch needs before it, and sets its interface numbers for this file.
    fn begin_pcapng(&mut self, batch: &mut Batch, head: &mut Vec<u8>) {
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

    /// The number of an interface in this section. Describes the interface first, if necessary.
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

    /// Appends a batch with frames without time to `out`, and the blocks that it needs. Simple Packet Blocks belong
    /// to the first interface of a section, whose snap length determines the captured length. If this length is
    /// wrong, a new section starts.
    fn append_undated(&mut self, batch: &mut Batch, out: &mut Vec<u8>) {
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
                put_interface(&mut batch.bytes, start.offset, id);
            }
            out.extend_from_slice(batch.bytes.get(range).unwrap_or_default());
        }
    }

    /// Writes the header before the first batch, and checks that a batch has the link type of the header.
    fn begin_pcap(&mut self, batch: &mut Batch, head: &mut Vec<u8>) -> Result<(), Error> {
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
