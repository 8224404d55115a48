//! pcap (draft-ietf-opsawg-pcap).
//!
//! ```text
//! file header, 24 bytes: magic, version 2.4, 8 bytes not used, snap length, link type
//! record: seconds, fraction of a second, captured length, original length (4 bytes each), frame
//! ```
//! In the upper half of the link type, bit 26 says that bits 28 to 31 are the length of the frame check sequence in
//! units of 16 bits.

use byteorder_slice::{BigEndian, LittleEndian};
use pcap_file::pcap::{PcapHeader, PcapParseError, PcapTsResolution, RawPcapPacket};
use pcap_file::{DataLink, Endianness};

use super::read::{Found, Section, Step};
use super::window::Record;
use super::{Interface, MAX_PACKET_LEN, options};

/// Length of the file header.
pub(super) const FILE_HEADER_LEN: usize = 24;
const FCS_LEN_PRESENT: u32 = 1 << 26;

/// What the header of a pcap file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flavour {
    header: PcapHeader,
    /// 16, or 24 in the variant of Alexey Kuznetsov, with interface, protocol and packet type.
    record_header_len: usize,
}

impl Flavour {
    /// What `header` says, if it is one; its first 4 bytes decide.
    pub(super) fn of_header(mut header: [u8; FILE_HEADER_LEN]) -> Option<Flavour> {
        let mut record_header_len = 16;
        let [a, b, c, d, ..] = &mut header;
        // The variant has a magic number of its own, a1b2cd34, in front of an ordinary header.
        match [*a, *b, *c, *d] {
            [0xa1, 0xb2, 0xcd, 0x34] => (*c, *d, record_header_len) = (0xc3, 0xd4, 24),
            [0x34, 0xcd, 0xb2, 0xa1] => (*a, *b, record_header_len) = (0xd4, 0xc3, 24),
            _ => {}
        }
        let (_, header) = PcapHeader::from_slice(&header).ok()?;
        Some(Flavour { header, record_header_len })
    }

    /// The only interface of the file; a problem that the user is told, if the header cannot be used.
    pub(super) fn interface(self) -> Result<Interface, String> {
        let PcapHeader { version_major, snaplen, datalink, ts_resolution, .. } = self.header;
        if version_major != 2 {
            return Err(format!("is pcap of major version {version_major}, which is not known"));
        }
        let network = u32::from(datalink);
        let mut list = Vec::new();
        if ts_resolution == PcapTsResolution::NanoSecond {
            options::push(&mut list, options::IF_TSRESOL, &[9]);
        }
        if network & FCS_LEN_PRESENT != 0 {
            let bits = (network >> 28) as u8 * 16;
            options::push(&mut list, options::IF_FCSLEN, &[bits]);
        }
        Ok(Interface::from_options(0, network as u16, snaplen, list))
    }

    /// The record that `bytes` starts with. It is taken raw: the checked form refuses frames over the snap length and
    /// fractions over a second, which Wireshark reads.
    #[inline]
    pub(super) fn record(self, section: &Section, bytes: &[u8]) -> Step {
        let limit = section.interface(0).map_or(MAX_PACKET_LEN, |interface| interface.max_packet_len());
        let too_long = |len: usize| Step::Damage(format!("a frame claims {len} bytes; {limit} are the most"));
        let raw = match self.header.endianness {
            Endianness::Little => RawPcapPacket::from_slice::<LittleEndian>(bytes),
            Endianness::Big => RawPcapPacket::from_slice::<BigEndian>(bytes),
        };
        let raw = match raw {
            Ok((_, raw)) if raw.incl_len > limit => return too_long(raw.incl_len as usize),
            Ok((_, raw)) => raw,
            // Needed are the 16 bytes of the header, or as many as that claims.
            Err(PcapParseError::IncompleteBuffer(needed, _)) if needed > limit as usize => return too_long(needed),
            Err(PcapParseError::IncompleteBuffer(..)) => return Step::More,
            Err(PcapParseError::Validation(problem)) => return Step::Damage(problem.to_string()),
        };
        let len = self.record_header_len + raw.incl_len as usize;
        if bytes.len() < len {
            return Step::More;
        }
        let units = match self.header.ts_resolution {
            PcapTsResolution::MicroSecond => 1_000_000,
            PcapTsResolution::NanoSecond => 1_000_000_000,
        };
        let record = Record {
            number: 0,
            ticks: u64::from(raw.ts_sec) * units + u64::from(raw.ts_frac),
            orig_len: raw.orig_len,
            interface: 0,
            data: self.record_header_len as u32,
            data_len: raw.incl_len,
            options: 0,
            options_len: 0,
            big_endian: false,
        };
        Step::Next { len, found: Found::Packet(record) }
    }
}

/// Appends the header of a little-endian file, whose frames have no frame check sequence: it would have to declare one for
/// all of them or for none.
pub(super) fn push_file_header(out: &mut Vec<u8>, interface: &Interface, nanos: bool) {
    let header = PcapHeader {
        // Frames may have grown, and libpcap cuts what is longer than the header says.
        snaplen: interface.snap_len.max(MAX_PACKET_LEN),
        datalink: DataLink::from(u32::from(interface.link_type)),
        ts_resolution: if nanos { PcapTsResolution::NanoSecond } else { PcapTsResolution::MicroSecond },
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    // Writing into a vector cannot fail.
    let _ = header.write_to(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_type_is_kept() {
        for network in (0..=0xffff).chain([0x2400_0001, 0xf400_0069, u32::MAX]) {
            assert_eq!(u32::from(DataLink::from(network)), network);
        }
    }
}
