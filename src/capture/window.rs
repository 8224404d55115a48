//! A part of a capture in memory, and the positions of its packets.

use std::sync::Arc;

use super::frame_numbers::FrameNumbers;
use super::{Frame, Interface, Options, Timestamp};

/// Bytes requested with one read.
pub(super) const READ_LEN: usize = 128 * 1024;

/// Whole packets, one after the other. Its buffers are kept from one [`Reader::fill`](super::Reader::fill) to the next.
#[derive(Debug, Default)]
pub struct Window {
    /// All bytes are initialized; those before `filled` have content.
    bytes: Vec<u8>,
    filled: usize,
    records: Vec<Record>,
    interfaces: Vec<Arc<Interface>>,
}

/// The position of a packet in the bytes of a window, and the fields of its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub number: u64,
    pub ticks: u64,
    /// Whether `ticks` are a time stamp.
    pub timed: bool,
    pub orig_len: u32,
    /// Index of its interface; in a window, among the interfaces of the window.
    pub interface: u32,
    /// Offsets and lengths in bytes.
    pub data: u32,
    pub data_len: u32,
    pub options: u32,
    pub options_len: u32,
    /// Byte order of the options.
    pub big_endian: bool,
}

impl Window {
    /// Number of packets.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no packets.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The packets in file order.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        (0..self.len()).map(|index| self.get(index).expect("every record was made from a packet of the window"))
    }

    /// The packet at `index`, from 0.
    pub fn get(&self, index: usize) -> Option<Frame<'_>> {
        let record = self.records.get(index)?;
        let interface = self.interfaces.get(record.interface as usize)?;
        let part = |offset: u32, len: u32| self.bytes.get(offset as usize..)?.get(..len as usize);
        Some(Frame {
            number: record.number,
            interface,
            time: record.timed.then_some(Timestamp {
                ticks: record.ticks,
                resolution: interface.ts_resolution,
                offset: interface.ts_offset,
            }),
            orig_len: record.orig_len,
            data: part(record.data, record.data_len)?,
            options: Options::new(part(record.options, record.options_len)?, record.big_endian),
        })
    }

    /// Removes the packets. Keeps only `carry`, the bytes that were read but not used.
    pub(super) fn restart(&mut self, carry: &[u8]) {
        self.records.clear();
        self.interfaces.clear();
        self.filled = 0;
        self.room(carry.len());
        if let Some(start) = self.bytes.get_mut(..carry.len()) {
            start.copy_from_slice(carry);
            self.filled = carry.len();
        }
    }

    /// The content from `offset` on.
    pub(super) fn content(&self, offset: usize) -> &[u8] {
        self.bytes.get(offset..self.filled).unwrap_or_default()
    }

    /// Drops the first `len` bytes of the content. There must be no packets in it.
    pub(super) fn discard(&mut self, len: usize) {
        debug_assert!(self.records.is_empty());
        let len = len.min(self.filled);
        if len > 0 {
            self.bytes.copy_within(len..self.filled, 0);
            self.filled -= len;
        }
    }

    /// Free space after the content to read into; report the bytes read with [`Window::filled`]. The buffer grows only
    /// with the bytes that were actually read, not with lengths from the file.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        self.room(READ_LEN);
        self.bytes.get_mut(self.filled..self.filled + READ_LEN).unwrap_or_default()
    }

    /// Declares that `len` more bytes are content.
    pub(super) fn filled(&mut self, len: usize) {
        self.filled = (self.filled + len).min(self.bytes.len());
    }

    /// Removes the packets whose numbers are not among `frames`.
    pub(super) fn keep(&mut self, frames: &FrameNumbers) {
        self.records.retain(|record| frames.contains(record.number));
    }

    pub(super) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Adds an interface. Returns its index.
    pub(super) fn push_interface(&mut self, interface: &Arc<Interface>) -> u32 {
        self.interfaces.push(Arc::clone(interface));
        self.interfaces.len() as u32 - 1
    }

    fn room(&mut self, len: usize) {
        let wanted = self.filled + len;
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }
}
