//! IPv6 (RFC 8200 §3), and its Jumbo Payload option (RFC 2675 §2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version|   DSCP    |ECN|              Flow Label               |
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! |                           Source (16)                         |
//! |                         Destination (16)                      |
//! ```

use std::borrow::{Borrow, BorrowMut};
use std::net::Ipv6Addr;
use std::ops::Range;

use super::header::{bytes, header, set_bytes, set_u8, set_u16, set_u32, u8_at, u16_at, u32_at};
use super::ip::HeaderError;
use super::{IpVersion, OuterHeader, protocol};

/// Bytes of an IPv6 header without extension headers.
pub(crate) const HEADER_LEN: usize = 40;
/// Offset of Next Header.
pub(crate) const PROTOCOL_OFFSET: usize = 6;
/// Offset of Source.
pub(crate) const SRC_OFFSET: usize = 8;
/// Offset of Destination.
pub(crate) const DST_OFFSET: usize = 24;
/// Where Source and Destination are.
pub(super) const ADDRESSES: Range<usize> = SRC_OFFSET..HEADER_LEN;

header! {
    /// An IPv6 header, without extension headers.
    Ipv6, HEADER_LEN
}

impl<'a> Ipv6<&'a [u8; HEADER_LEN]> {
    /// The header at the start of `bytes`. An error if it is cut short or of another version.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let short = HeaderError::Short { version: IpVersion::V6, needs: HEADER_LEN, has: bytes.len() };
        let header = Ipv6::of(bytes).ok_or(short)?;
        match u8_at(header.as_bytes(), 0) >> 4 {
            6 => Ok(header),
            got => Err(HeaderError::Version { got, expected: IpVersion::V6 }),
        }
    }
}

impl<T: Borrow<[u8; HEADER_LEN]>> Ipv6<T> {
    /// Version, DSCP, ECN and Flow Label.
    #[inline]
    fn first_word(&self) -> u32 {
        u32_at(self.as_bytes(), 0)
    }

    /// Differentiated Services Code Point, 6 bits.
    #[inline]
    pub(crate) fn dscp(&self) -> u8 {
        (self.first_word() >> 22 & 0x3f) as u8
    }

    /// Explicit Congestion Notification, 2 bits.
    #[inline]
    pub(crate) fn ecn(&self) -> u8 {
        (self.first_word() >> 20 & 3) as u8
    }

    /// Flow Label, 20 bits.
    #[inline]
    pub(crate) fn flow_label(&self) -> u32 {
        self.first_word() & 0xf_ffff
    }

    /// Bytes after the header; 0 for jumbograms and after segmentation offload.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        usize::from(u16_at(self.as_bytes(), 4))
    }

    /// The protocol of what follows.
    #[inline]
    pub(crate) fn next_header(&self) -> u8 {
        u8_at(self.as_bytes(), PROTOCOL_OFFSET)
    }

    /// Hop Limit.
    #[inline]
    pub(crate) fn hop_limit(&self) -> u8 {
        u8_at(self.as_bytes(), 7)
    }

    /// Source address.
    #[inline]
    pub(crate) fn src(&self) -> Ipv6Addr {
        u128::from_be_bytes(bytes(self.as_bytes(), SRC_OFFSET)).into()
    }

    /// Destination address.
    #[inline]
    pub(crate) fn dst(&self) -> Ipv6Addr {
        u128::from_be_bytes(bytes(self.as_bytes(), DST_OFFSET)).into()
    }

    /// The fields that an inner header may be restored from.
    #[inline]
    pub(crate) fn outer(&self) -> OuterHeader {
        OuterHeader {
            version: IpVersion::V6,
            src: self.src().into(),
            dst: self.dst().into(),
            dscp: self.dscp(),
            ecn: self.ecn(),
            hop_limit: self.hop_limit(),
            flow_label: self.flow_label(),
        }
    }
}

impl<T: BorrowMut<[u8; HEADER_LEN]>> Ipv6<T> {
    fn set_first_word(&mut self, mask: u32, value: u32) {
        let word = self.first_word() & !mask | value & mask;
        set_u32(self.as_bytes_mut(), 0, word);
    }

    /// Sets DSCP, of which the low 6 bits count.
    pub(crate) fn set_dscp(&mut self, dscp: u8) {
        self.set_first_word(0x3f << 22, u32::from(dscp) << 22);
    }

    /// Sets ECN, of which the low 2 bits count.
    pub(crate) fn set_ecn(&mut self, ecn: u8) {
        self.set_first_word(3 << 20, u32::from(ecn) << 20);
    }

    /// Sets Flow Label, of which the low 20 bits count.
    pub(crate) fn set_flow_label(&mut self, flow_label: u32) {
        self.set_first_word(0xf_ffff, flow_label);
    }

    /// Sets Payload Length.
    #[inline]
    pub(crate) fn set_payload_len(&mut self, len: u16) {
        set_u16(self.as_bytes_mut(), 4, len);
    }

    /// Sets the protocol of what follows.
    pub(crate) fn set_next_header(&mut self, protocol: u8) {
        set_u8(self.as_bytes_mut(), PROTOCOL_OFFSET, protocol);
    }

    /// Sets Hop Limit.
    pub(crate) fn set_hop_limit(&mut self, hop_limit: u8) {
        set_u8(self.as_bytes_mut(), 7, hop_limit);
    }
}

impl Ipv6<[u8; HEADER_LEN]> {
    /// A header between these addresses. The other fields are 0.
    pub(crate) fn new(src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        let mut header = [0; HEADER_LEN];
        set_u8(&mut header, 0, 0x60);
        set_bytes(&mut header, SRC_OFFSET, src.octets());
        set_bytes(&mut header, DST_OFFSET, dst.octets());
        Ipv6(header)
    }
}

/// The Jumbo Payload Length of an IPv6 packet that has the option.
pub(super) fn jumbo_len(packet: &[u8]) -> Option<usize> {
    const PAD1: u8 = 0;
    const JUMBO_PAYLOAD: u8 = 0xc2;
    let (header, rest) = Ipv6::split(packet)?;
    if header.next_header() != protocol::HOP_BY_HOP {
        return None;
    }
    let len = (usize::from(*rest.get(1)?) + 1) * 8;
    let mut options = rest.get(2..len)?;
    loop {
        options = match options {
            [JUMBO_PAYLOAD, 4, a, b, c, d, ..] => return usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok(),
            [PAD1, rest @ ..] => rest,
            [_, len, rest @ ..] => rest.get(usize::from(*len)..)?,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IPv6(tc=0xa9, fl=0x12345, plen=18, nh=17, hlim=64, src="2001:db8::1", dst="2001:db8::2") of scapy 2.5.
    #[test]
    fn a_header_is_read_and_written() {
        let bytes =
            hex::decode("6a9123450012114020010db800000000000000000000000120010db8000000000000000000000002").unwrap();
        let header = Ipv6::parse(&bytes).unwrap();
        assert_eq!((header.dscp(), header.ecn(), header.flow_label()), (0x2a, 1, 0x12345));
        assert_eq!((header.payload_len(), header.next_header(), header.hop_limit()), (18, 17, 64));
        let mut own = Ipv6::new("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        own.set_flow_label(0xfff1_2345);
        own.set_dscp(0xea);
        own.set_ecn(5);
        own.set_payload_len(18);
        own.set_next_header(17);
        own.set_hop_limit(64);
        assert_eq!(own.as_bytes()[..], bytes);
        assert_eq!(own.outer(), header.outer());
        let short = HeaderError::Short { version: IpVersion::V6, needs: 40, has: 39 };
        assert_eq!(Ipv6::parse(&bytes[..39]).unwrap_err(), short);
    }
}
