//! Captures built byte by byte, in both byte orders, and the expected packets. tshark reads them for comparison.

mod read;
mod tshark;
mod write;

use std::io::{self, Cursor, Read};
use std::path::Path;

use super::{Frame, NO_TIME, Reader, Window};
use crate::Error;

/// Integers in one byte order.
#[derive(Debug, Clone, Copy)]
enum Order {
    Big,
    Little,
}

use Order::{Big, Little};

impl Order {
    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Big => value.to_be_bytes(),
            Little => value.to_le_bytes(),
        }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Big => value.to_be_bytes(),
            Little => value.to_le_bytes(),
        }
    }

    fn u32s<const COUNT: usize>(self, values: [u32; COUNT]) -> Vec<u8> {
        values.into_iter().flat_map(|value| self.u32(value)).collect()
    }

    fn pcap_header(self, magic: u32, network: u32) -> Vec<u8> {
        [&self.u32(magic)[..], &self.u16(2), &self.u16(4), &self.u32s([0, 0, 65_535, network])].concat()
    }

    fn pcap_record(self, seconds: u32, fraction: u32, orig_len: u32, data: &[u8]) -> Vec<u8> {
        [&self.u32s([seconds, fraction, data.len() as u32, orig_len])[..], data].concat()
    }

    fn block(self, block_type: u32, parts: &[&[u8]]) -> Vec<u8> {
        let mut body = parts.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = self.u32(body.len() as u32 + 12);
        [&self.u32(block_type)[..], &len, &body, &len].concat()
    }

    fn section(self) -> Vec<u8> {
        self.block(0x0a0d_0d0a, &[&self.u32(0x1a2b_3c4d), &self.u16(1), &self.u16(0), &[0xff; 8]])
    }

    fn interface(self, link_type: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
        self.block(1, &[&self.u16(link_type), &[0, 0], &self.u32(snap_len), options])
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [&self.u16(code)[..], &self.u16(value.len() as u16), value].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn packet(self, interface: u32, ticks: u64, orig_len: u32, data: &[u8], options: &[u8]) -> Vec<u8> {
        let fields = [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, orig_len];
        let padding = vec![0; data.len().next_multiple_of(4) - data.len()];
        self.block(6, &[&self.u32s(fields), data, &padding, options])
    }
}

/// A packet that is independent of its window.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    number: u64,
    interface: u32,
    link_type: u16,
    /// `NO_TIME` if it has no time.
    nanos: i128,
    orig_len: u32,
    data: Vec<u8>,
    comments: Vec<Vec<u8>>,
}

impl Seen {
    fn of(packet: &Frame<'_>) -> Seen {
        Seen {
            number: packet.number,
            interface: packet.interface.index,
            link_type: packet.link_type(),
            nanos: packet.time.map_or(NO_TIME.into(), |time| time.nanos()),
            orig_len: packet.orig_len,
            data: packet.data.to_vec(),
            comments: packet.options.comments().map(<[u8]>::to_vec).collect(),
        }
    }

    /// A packet of the first interface, whole, without a comment.
    fn plain(number: u64, link_type: u16, nanos: i128, data: &[u8]) -> Seen {
        let orig_len = data.len() as u32;
        Seen { number, interface: 0, link_type, nanos, orig_len, data: data.to_vec(), comments: Vec::new() }
    }
}

/// Reads to the end. Returns the packets and the warnings.
fn drain(mut reader: Reader) -> Result<(Vec<Seen>, Vec<String>), Error> {
    let mut window = Window::default();
    let mut seen = Vec::new();
    while reader.fill(&mut window)? {
        assert!(!window.is_empty());
        seen.extend(window.frames().map(|packet| Seen::of(&packet)));
    }
    assert!(window.is_empty());
    assert!(!reader.fill(&mut window)?);
    Ok((seen, reader.warnings()))
}

fn reader(bytes: &[u8]) -> Result<Reader, Error> {
    Reader::from_read(Path::new("made.cap"), Box::new(Cursor::new(bytes.to_vec())))
}

fn read(bytes: &[u8]) -> (Vec<Seen>, Vec<String>) {
    drain(reader(bytes).unwrap()).unwrap()
}

/// Reads a capture that must not cause a warning.
fn read_clean(bytes: &[u8]) -> Vec<Seen> {
    let (seen, warnings) = read(bytes);
    assert_eq!(warnings, [""; 0]);
    seen
}

/// Returns the pieces one by one.
struct Pieces(std::vec::IntoIter<Vec<u8>>, Cursor<Vec<u8>>);

impl Pieces {
    fn new(pieces: Vec<Vec<u8>>) -> Pieces {
        Pieces(pieces.into_iter(), Cursor::default())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.1.read(buffer)? {
                0 => match self.0.next() {
                    Some(piece) => self.1 = Cursor::new(piece),
                    None => return Ok(0),
                },
                len => return Ok(len),
            }
        }
    }
}
