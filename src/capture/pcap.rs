//! pcap (draft-ietf-opsawg-pcap) and its variants.
//!
//! ```text
//! file header, 24 bytes: magic, version 2.4, 8 bytes not used, snap length, link type
//! record: seconds, fraction of a second, captured length, original length (4 bytes each), frame
//! ```
//! If bit 26 of the link type is set, bits 28 to 31 give the length of the frame check sequence in units of 16 bits.
//!
//! | variant | what differs |
//! |---|---|
//! | Kuznetsov, 1999-10-29 (magic a1b2cd34) or 1999-04-17 (the usual magic, Red Hat 6.1) | records have 8 more bytes: interface, protocol, packet type |
//! | Kuznetsov, 1999-09-15 (magic a1b2cd34, SuSE 6.3) | 12 more bytes |
//! | Nokia (the usual magic) | 4 more bytes |
//! | AIX (version 2.2, link types of RFC 1573) | nanoseconds; FDDI frames have 3 bytes of padding before them |
//! | before version 2.3, and DG/UX (version 543) | the two lengths change places; in 2.3 perhaps |
//! | Ixia (magic 1c0001ab, 1c0001ac) | 4 more bytes of file header |

use super::read::{Found, Section, Step};
use super::window::Record;
use super::{Interface, MAX_PACKET_LEN, options};

/// Length of the file header that all variants have.
const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
const FCS_LEN_PRESENT: u32 = 1 << 26;

pub(super) const MAGIC: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
pub(super) const MAGIC_KUZNETSOV: u32 = 0xa1b2_cd34;
const MAGIC_IXIA_MICROS: u32 = 0x1c00_01ab;
const MAGIC_IXIA_NANOS: u32 = 0x1c00_01ac;

const LINKTYPE_FDDI: u16 = 10;

/// The format of the records of a pcap file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flavour {
    big_endian: bool,
    nanos: bool,
    lengths: Lengths,
    record_header_len: usize,
    /// Padding bytes before each frame, included in its length.
    padding: u32,
}

/// The order of captured and original length in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    OriginalFirst,
    /// The captured length is the smaller one.
    SmallerIsCaptured,
}

/// The result of reading the first bytes of a file.
pub(super) enum Header {
    /// A pcap file, with its only interface and the length of its header.
    Pcap { flavour: Flavour, interface: Interface, len: usize },
    /// More bytes are needed.
    More,
    /// Not a pcap file, according to its magic number.
    Other,
    /// A pcap file that cannot be read, and why.
    Problem(String),
}

/// The header of a file in its byte order.
#[derive(Debug, Clone, Copy)]
struct Fields {
    magic: u32,
    major: u16,
    minor: u16,
    snap_len: u32,
    network: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`. Variants with the same magic number are distinguished by the
    /// following records, as far as they are available. If a pipe has delivered none yet, the usual variant is
    /// assumed.
    pub(super) fn of(bytes: &[u8]) -> Header {
        let Some(magic) = bytes.first_chunk::<4>() else { return Header::More };
        let known = [MAGIC, MAGIC_NANOS, MAGIC_KUZNETSOV, MAGIC_IXIA_MICROS, MAGIC_IXIA_NANOS];
        let big_endian =
            match (known.contains(&u32::from_le_bytes(*magic)), known.contains(&u32::from_be_bytes(*magic))) {
                (true, _) => false,
                (_, true) => true,
                _ => return Header::Other,
            };
        let Some(header) = bytes.first_chunk::<FILE_HEADER_LEN>() else { return Header::More };
        let fields = Fields::of(header, big_endian);
        let lengths = match (fields.major, fields.minor) {
            (2, 0..=2) | (543, _) => Lengths::OriginalFirst,
            (2, 3) => Lengths::SmallerIsCaptured,
            (2, _) => Lengths::CapturedFirst,
            (major, _) => return Header::Problem(format!("unknown major version {major} of pcap")),
        };
        let aix = fields.aix_link_type();
        let is_ixia = matches!(fields.magic, MAGIC_IXIA_MICROS | MAGIC_IXIA_NANOS);
        let mut flavour = Flavour {
            big_endian,
            nanos: matches!(fields.magic, MAGIC_NANOS | MAGIC_IXIA_NANOS) || aix.is_some(),
            lengths,
            record_header_len: RECORD_HEADER_LEN,
            padding: if aix == Some(LINKTYPE_FDDI) { 3 } else { 0 },
        };
        let len = FILE_HEADER_LEN + if is_ixia { 4 } else { 0 };
        let interface = fields.interface(aix, flavour.nanos);
        if let Some(records) = bytes.get(len..) {
            let limit = interface.max_packet_len();
            flavour.record_header_len = super::pcap_variants::record_header_len(flavour, fields.magic, records, limit);
        }
        match bytes.len() < len {
            true => Header::More,
            false => Header::Pcap { flavour, interface, len },
        }
    }
}

impl Fields {
    fn of(header: &[u8; FILE_HEADER_LEN], big_endian: bool) -> Fields {
        let [magic, version, _, _, snap_len, network] = words(header, big_endian);
        let [low, high] = [version as u16, (version >> 16) as u16];
        let (major, minor) = if big_endian { (high, low) } else { (low, high) };
        Fields { magic, major, minor, snap_len, network }
    }

    /// The link type of a file that AIX wrote. Programs of other systems had stopped to write version 2.2 before they used
    /// these numbers.
    fn aix_link_type(self) -> Option<u16> {
        if (self.magic, self.major, self.minor) != (MAGIC, 2, 2) {
            return None;
        }
        // RFC 1573: ethernet-csmacd, iso88025-tokenRing, fddi, softwareLoopback.
        match self.network {
            6 => Some(1),
            9 => Some(6),
            15 => Some(LINKTYPE_FDDI),
            24 => Some(0),
            _ => None,
        }
    }

    fn interface(self, aix: Option<u16>, nanos: bool) -> Interface {
        let mut list = Vec::new();
        if nanos {
            options::push(&mut list, options::IF_TSRESOL, &[9]);
        }
        if self.network & FCS_LEN_PRESENT != 0 {
            let bits = (self.network >> 28) as u8 * 16;
            options::push(&mut list, options::IF_FCSLEN, &[bits]);
        }
        Interface::from_options(0, aix.unwrap_or(self.network as u16), self.snap_len, list)
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHeader {
    pub(super) seconds: u32,
    pub(super) fraction: u32,
    pub(super) captured: u32,
    pub(super) original: u32,
}

impl Flavour {
    /// Reads the header of the record at the start of `bytes`.
    #[inline]
    pub(super) fn record_header(self, bytes: &[u8]) -> Option<RecordHeader> {
        let [seconds, fraction, first, second] = words(bytes.first_chunk::<RECORD_HEADER_LEN>()?, self.big_endian);
        let (captured, original) = match self.lengths {
            Lengths::CapturedFirst => (first, second),
            Lengths::OriginalFirst => (second, first),
            Lengths::SmallerIsCaptured => (first.min(second), first.max(second)),
        };
        Some(RecordHeader { seconds, fraction, captured, original })
    }

    /// Whether times are in nanoseconds.
    pub(super) fn is_nanos(self) -> bool {
        self.nanos
    }

    /// The integer at `offset`.
    pub(super) fn u32_at(self, bytes: &[u8], offset: usize) -> Option<u32> {
        let [word] = words(bytes.get(offset..)?.first_chunk::<4>()?, self.big_endian);
        Some(word)
    }

    /// The record at the start of `bytes`. Like Wireshark, accepts frames over the snap length and fractions over a
    /// second.
    #[inline]
    pub(super) fn record(self, section: &Section, bytes: &[u8]) -> Step {
        let Some(RecordHeader { seconds, fraction, captured, original }) = self.record_header(bytes) else {
            return Step::More;
        };
        let limit = section.interface(0).map_or(MAX_PACKET_LEN, |interface| interface.max_packet_len());
        if captured > limit {
            return Step::Damage(format!("a frame has a length of {captured} bytes, but the maximum is {limit}"));
        }
        let len = self.record_header_len + captured as usize;
        if bytes.len() < len {
            return Step::More;
        }
        let units = if self.nanos { 1_000_000_000 } else { 1_000_000 };
        let padding = self.padding.min(captured);
        let record = Record {
            number: 0,
            ticks: u64::from(seconds) * units + u64::from(fraction),
            timed: true,
            orig_len: original.saturating_sub(padding),
            interface: 0,
            data: self.record_header_len as u32 + padding,
            data_len: captured - padding,
            options: 0,
            options_len: 0,
            big_endian: false,
        };
        Step::Next { len, found: Found::Packet(record) }
    }
}

/// Appends integers one after the other.
#[inline]
fn words<const LEN: usize, const COUNT: usize>(bytes: &[u8; LEN], big_endian: bool) -> [u32; COUNT] {
    let mut words = [0; COUNT];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    if big_endian {
        words = words.map(u32::swap_bytes);
    }
    words
}

/// Appends the header of a little-endian file, whose frames have no frame check sequence: it would have to declare one for
/// all of them or for none.
pub(super) fn push_file_header(out: &mut Vec<u8>, interface: &Interface, nanos: bool) {
    let magic = if nanos { MAGIC_NANOS } else { MAGIC };
    // Frames may have grown, and libpcap truncates frames that are longer than the header says.
    let snap_len = interface.snap_len.max(MAX_PACKET_LEN);
    let version = 2 | 4 << 16;
    for field in [magic, version, 0, 0, snap_len, u32::from(interface.link_type)] {
        out.extend_from_slice(&field.to_le_bytes());
    }
}
