//! Finds the length of the record header in variants of pcap that share a magic number.
//!
//! The usual length is assumed, unless a record contradicts it and another length is consistent with every record.

use super::pcap::{Flavour, MAGIC, MAGIC_KUZNETSOV, RecordHeader};

/// The usual header of a record.
const USUAL: usize = 16;
/// With 4 bytes more, of Nokia.
const NOKIA: usize = 20;
/// With interface (4 bytes), protocol (2), packet type and a byte of padding, of Kuznetsov's patches of April and October
/// 1999.
const KUZNETSOV: usize = 24;
/// With 4 bytes more, of the patch of September 1999.
const KUZNETSOV_LONG: usize = 28;
/// Number of records that are examined.
const RECORDS: usize = 4;

/// The length of the record headers of a file with this magic number, whose first records are in `bytes`.
pub(super) fn record_header_len(flavour: Flavour, magic: u32, bytes: &[u8], limit: u32) -> usize {
    let sight = |header_len| Sight::of(flavour, header_len, bytes, limit);
    let (usual, others): (usize, &[usize]) = match magic {
        MAGIC_KUZNETSOV => (KUZNETSOV, &[KUZNETSOV_LONG]),
        MAGIC => (USUAL, &[KUZNETSOV, NOKIA]),
        _ => return USUAL,
    };
    if sight(usual).contradiction.is_none() {
        // Bytes left over also contradict it, if another length leaves none. For a single record this is not
        // sufficient, unless it has other signs of a variant.
        return others
            .iter()
            .copied()
            .find(|other| sight(*other).is_marked_and_exact(flavour, *other, bytes))
            .unwrap_or(usual);
    }
    let fits = |other: &&usize| {
        let sight = sight(**other);
        sight.contradiction.is_none() && sight.records >= 2
    };
    others.iter().find(fits).copied().unwrap_or(usual)
}

/// How consistent the first records are with a given header length.
struct Sight {
    /// Whole records without contradiction.
    records: usize,
    /// The first inconsistent record.
    contradiction: Option<usize>,
    /// The last record ends with the bytes.
    exact: bool,
}

impl Sight {
    fn of(flavour: Flavour, header_len: usize, bytes: &[u8], limit: u32) -> Sight {
        let mut sight = Sight { records: 0, contradiction: None, exact: false };
        let mut rest = bytes;
        while sight.records < RECORDS {
            let Some(header) = flavour.record_header(rest) else { break };
            if !is_plausible(header, flavour, limit) || !has_plausible_extension(flavour, header_len, rest) {
                sight.contradiction = Some(sight.records);
                break;
            }
            let Some(after) = rest.get(header_len + header.captured as usize..) else { break };
            sight.records += 1;
            rest = after;
        }
        sight.exact = rest.is_empty();
        sight
    }

    /// Whether this is all of a file of one record, with a value in its longer header that no frame starts with.
    fn is_marked_and_exact(&self, flavour: Flavour, header_len: usize, bytes: &[u8]) -> bool {
        let is_marked = match header_len {
            // As seen in files of Nokia: 9 or b, fbf, b or d, 6 or 9, 0, 1 or 2.
            NOKIA => flavour.u32_at(bytes, USUAL).is_some_and(|mark| mark & 0xdfff_90f0 == 0x9fbf_9000),
            KUZNETSOV_LONG => true,
            _ => false,
        };
        is_marked && self.exact && self.contradiction.is_none() && self.records == 1
    }
}

fn is_plausible(header: RecordHeader, flavour: Flavour, limit: u32) -> bool {
    /// The longest original length that Wireshark accepts.
    const MAX_ORIGINAL: u32 = 128 << 20;
    let second = if flavour.is_nanos() { 1_000_000_000 } else { 1_000_000 };
    let RecordHeader { fraction, captured, original, .. } = header;
    fraction < second && captured <= limit && captured <= original && original <= MAX_ORIGINAL
}

/// Whether what follows the usual header makes sense: an interface of Linux in 1999 and a type of packet.
fn has_plausible_extension(flavour: Flavour, header_len: usize, bytes: &[u8]) -> bool {
    const MAX_INTERFACE: u32 = 10_000;
    const MAX_PACKET_TYPE: u8 = 4;
    if header_len < KUZNETSOV {
        return true;
    }
    let interface = flavour.u32_at(bytes, USUAL);
    let packet_type = bytes.get(USUAL + 6);
    interface.is_none_or(|interface| interface <= MAX_INTERFACE)
        && packet_type.is_none_or(|kind| *kind <= MAX_PACKET_TYPE)
}
