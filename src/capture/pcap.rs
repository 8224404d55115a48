//! pcap (draft-ietf-opsawg-pcap).
//!
//! ```text
//! file header, 24 bytes: magic, version 2.4, 8 bytes not used, snap length, link type
//! record: seconds, fraction of a second, captured length, original length (4 bytes each), frame
//! ```
//! In the upper half of the link type, bit 26 says that bits 28 to 31 are the length of the frame check sequence in
//! units of 16 bits.

use super::read::{Found, Section, Step};
use super::window::Record;
use super::{Interface, MAX_PACKET_LEN, options};

/// Length of the file header.
pub(super) const FILE_HEADER_LEN: usize = 24;
const FCS_LEN_PRESENT: u32 = 1 << 26;

/// What the magic number of a pcap file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flavour {
    big_endian: bool,
    nanos: bool,
    /// 16, or 24 in the variant of Alexey Kuznetsov, with interface, protocol and packet type.
    record_header_len: usize,
}

impl Flavour {
    /// The flavour of a file that starts with `magic`, if it is pcap.
    pub(super) fn of_magic(magic: [u8; 4]) -> Option<Flavour> {
        let of = |magic| match magic {
            0xa1b2_c3d4_u32 => Some((false, 16)),
            0xa1b2_3c4d => Some((true, 16)),
            0xa1b2_cd34 => Some((false, 24)),
            _ => None,
        };
        let flavour = |big_endian| move |(nanos, record_header_len)| Flavour { big_endian, nanos, record_header_len };
        let little = of(u32::from_le_bytes(magic)).map(flavour(false));
        little.or_else(|| of(u32::from_be_bytes(magic)).map(flavour(true)))
    }

    /// The only interface of the file; a problem that the user is told, if the header cannot be used.
    pub(super) fn interface(self, header: &[u8; FILE_HEADER_LEN]) -> Result<Interface, String> {
        let [_, version, _, _, snap_len, network] = self.integers(header);
        let major = if self.big_endian { version >> 16 } else { version & 0xffff };
        if major != 2 {
            return Err(format!("is pcap of major version {major}, which is not known"));
        }
        let mut list = Vec::new();
        if self.nanos {
            options::push(&mut list, options::IF_TSRESOL, &[9]);
        }
        if network & FCS_LEN_PRESENT != 0 {
            let bits = (network >> 28) as u8 * 16;
            options::push(&mut list, options::IF_FCSLEN, &[bits]);
        }
        Ok(Interface::from_options(0, network as u16, snap_len, list))
    }

    /// The record that `bytes` starts with.
    #[inline]
    pub(super) fn record(self, section: &Section, bytes: &[u8]) -> Step {
        let Some(header) = bytes.first_chunk::<16>() else {
            return Step::More;
        };
        let [seconds, fraction, data_len, orig_len] = self.integers(header);
        let limit = section.interface(0).map_or(MAX_PACKET_LEN, |interface| interface.max_packet_len());
        if data_len > limit {
            return Step::Damage(format!("a frame claims {data_len} bytes; {limit} are the most"));
        }
        let len = self.record_header_len + data_len as usize;
        if bytes.len() < len {
            return Step::More;
        }
        let units = if self.nanos { 1_000_000_000 } else { 1_000_000 };
        let record = Record {
            number: 0,
            ticks: u64::from(seconds) * units + u64::from(fraction),
            orig_len,
            interface: 0,
            data: self.record_header_len as u32,
            data_len,
            options: 0,
            options_len: 0,
            big_endian: false,
        };
        Step::Next { len, found: Found::Packet(record) }
    }

    #[inline]
    fn integers<const BYTES: usize, const COUNT: usize>(self, header: &[u8; BYTES]) -> [u32; COUNT] {
        let (chunks, _) = header.as_chunks::<4>();
        let mut chunks = chunks.iter();
        std::array::from_fn(|_| {
            let bytes = chunks.next().copied().unwrap_or_default();
            if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        })
    }
}

/// The header of a little-endian file.
pub(super) fn file_header(interface: &Interface, nanos: bool) -> [u8; FILE_HEADER_LEN] {
    let magic: u32 = if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    // Frames may have grown, and libpcap cuts what is longer than the header says.
    let snap_len = interface.snap_len.max(MAX_PACKET_LEN);
    let fcs_bits = interface.options().iter().find(|(code, _)| *code == options::IF_FCSLEN);
    let fcs = match fcs_bits {
        Some((_, [bits, ..])) if bits % 16 == 0 => u32::from(bits / 16) << 28 | FCS_LEN_PRESENT,
        _ => 0,
    };
    let version = 4 << 16 | 2;
    let mut header = [0; FILE_HEADER_LEN];
    let fields = [magic, version, 0, 0, snap_len, u32::from(interface.link_type) | fcs];
    for (place, field) in header.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
        *place = field.to_le_bytes();
    }
    header
}
