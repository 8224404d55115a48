//! IPv4 (RFC 791 §3.1, RFC 2474, RFC 3168).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version|  IHL  |   DSCP    |ECN|          Total Length         |
//! |         Identification        |R|D|M|     Fragment Offset     |
//! |      TTL      |    Protocol   |        Header Checksum        |
//! |                            Source                             |
//! |                          Destination                          |
//! |                       Options (4 * IHL - 20)                  |
//! ```

use std::borrow::{Borrow, BorrowMut};
use std::net::Ipv4Addr;
use std::ops::Range;

use super::header::{bytes, header, set_bytes, set_u8, set_u16, set_u32, u8_at, u16_at, u32_at};
use super::ip::HeaderError;
use super::{IpVersion, OuterHeader, checksum};

/// Bytes of an IPv4 header without options.
pub(crate) const HEADER_LEN: usize = 20;
/// Offset of Protocol.
pub(crate) const PROTOCOL_OFFSET: usize = 9;
/// Offset of Source.
pub(crate) const SRC_OFFSET: usize = 12;
/// Offset of Destination.
pub(crate) const DST_OFFSET: usize = 16;
/// Where Source and Destination are.
pub(super) const ADDRESSES: Range<usize> = SRC_OFFSET..HEADER_LEN;
const FLAGS_OFFSET: usize = 6;
const CHECKSUM_OFFSET: usize = 10;

/// Bits of [`Ipv4::flags_and_offset`].
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

header! {
    /// An IPv4 header, without its options.
    Ipv4, HEADER_LEN
}

impl<'a> Ipv4<&'a [u8; HEADER_LEN]> {
    /// The header at the start of `bytes`. An error if it is cut short, of another version, or has an invalid IHL.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let short = |needs| HeaderError::Short { version: IpVersion::V4, needs, has: bytes.len() };
        let header = Ipv4::of(bytes).ok_or_else(|| short(HEADER_LEN))?;
        let (version, ihl) = (u8_at(header.as_bytes(), 0) >> 4, u8_at(header.as_bytes(), 0) & 0xf);
        match header.header_len() {
            _ if version != 4 => Err(HeaderError::Version { got: version, expected: IpVersion::V4 }),
            ..HEADER_LEN => Err(HeaderError::Ihl(ihl)),
            len if len > bytes.len() => Err(short(len)),
            _ => Ok(header),
        }
    }
}

impl<T: Borrow<[u8; HEADER_LEN]>> Ipv4<T> {
    /// Whether Version is 4 and there are no options.
    #[inline]
    pub(crate) fn is_without_options(&self) -> bool {
        u8_at(self.as_bytes(), 0) == 0x45
    }

    /// Bytes of the header with its options, by IHL: 0 to 60.
    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        usize::from(u8_at(self.as_bytes(), 0) & 0xf) * 4
    }

    /// Differentiated Services Code Point, 6 bits.
    #[inline]
    pub(crate) fn dscp(&self) -> u8 {
        u8_at(self.as_bytes(), 1) >> 2
    }

    /// Explicit Congestion Notification, 2 bits.
    #[inline]
    pub(crate) fn ecn(&self) -> u8 {
        u8_at(self.as_bytes(), 1) & 3
    }

    /// Bytes of header and payload; 0 after segmentation offload.
    #[inline]
    pub(crate) fn total_len(&self) -> usize {
        usize::from(u16_at(self.as_bytes(), 2))
    }

    /// The Identification.
    #[inline]
    pub(crate) fn identification(&self) -> u16 {
        u16_at(self.as_bytes(), 4)
    }

    /// Flags and Fragment Offset.
    #[inline]
    fn flags_and_offset(&self) -> u16 {
        u16_at(self.as_bytes(), FLAGS_OFFSET)
    }

    /// More Fragments.
    #[inline]
    pub(crate) fn more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// The Fragment Offset, in bytes.
    #[inline]
    pub(crate) fn fragment_offset(&self) -> usize {
        usize::from(self.flags_and_offset() & FRAGMENT_OFFSET) * 8
    }

    /// Whether the packet is a fragment.
    #[inline]
    pub(crate) fn is_fragment(&self) -> bool {
        self.flags_and_offset() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Time to Live.
    #[inline]
    pub(crate) fn ttl(&self) -> u8 {
        u8_at(self.as_bytes(), 8)
    }

    /// The protocol of the payload.
    #[inline]
    pub(crate) fn protocol(&self) -> u8 {
        u8_at(self.as_bytes(), PROTOCOL_OFFSET)
    }

    /// The Header Checksum.
    #[inline]
    pub(crate) fn checksum(&self) -> u16 {
        u16_at(self.as_bytes(), CHECKSUM_OFFSET)
    }

    /// Source address.
    #[inline]
    pub(crate) fn src(&self) -> Ipv4Addr {
        u32_at(self.as_bytes(), SRC_OFFSET).into()
    }

    /// Destination address.
    #[inline]
    pub(crate) fn dst(&self) -> Ipv4Addr {
        u32_at(self.as_bytes(), DST_OFFSET).into()
    }

    /// The fields that an inner header may be restored from.
    #[inline]
    pub(crate) fn outer(&self) -> OuterHeader {
        OuterHeader {
            version: IpVersion::V4,
            src: self.src().into(),
            dst: self.dst().into(),
            dscp: self.dscp(),
            ecn: self.ecn(),
            hop_limit: self.ttl(),
            flow_label: u32::from(self.identification()),
        }
    }
}

impl<T: BorrowMut<[u8; HEADER_LEN]>> Ipv4<T> {
    /// Sets DSCP, of which the low 6 bits count.
    pub(crate) fn set_dscp(&mut self, dscp: u8) {
        let ecn = self.ecn();
        set_u8(self.as_bytes_mut(), 1, dscp << 2 | ecn);
    }

    /// Sets ECN, of which the low 2 bits count.
    pub(crate) fn set_ecn(&mut self, ecn: u8) {
        let dscp = self.dscp();
        set_u8(self.as_bytes_mut(), 1, dscp << 2 | ecn & 3);
    }

    /// Sets Total Length.
    #[inline]
    pub(crate) fn set_total_len(&mut self, len: u16) {
        set_u16(self.as_bytes_mut(), 2, len);
    }

    /// Sets Identification.
    pub(crate) fn set_identification(&mut self, identification: u16) {
        set_u16(self.as_bytes_mut(), 4, identification);
    }

    /// Sets Don't Fragment.
    pub(crate) fn set_dont_fragment(&mut self) {
        let value = self.flags_and_offset() | DONT_FRAGMENT;
        set_u16(self.as_bytes_mut(), FLAGS_OFFSET, value);
    }

    /// Makes the header that of an unfragmented packet: no More Fragments, Fragment Offset 0.
    pub(crate) fn clear_fragment(&mut self) {
        let value = self.flags_and_offset() & !(MORE_FRAGMENTS | FRAGMENT_OFFSET);
        set_u16(self.as_bytes_mut(), FLAGS_OFFSET, value);
    }

    /// Sets Time to Live.
    pub(crate) fn set_ttl(&mut self, ttl: u8) {
        set_u8(self.as_bytes_mut(), 8, ttl);
    }

    /// Sets the protocol of the payload.
    pub(crate) fn set_protocol(&mut self, protocol: u8) {
        set_u8(self.as_bytes_mut(), PROTOCOL_OFFSET, protocol);
    }
}

impl Ipv4<[u8; HEADER_LEN]> {
    /// A header without options, between these addresses. The other fields are 0.
    pub(crate) fn new(src: Ipv4Addr, dst: Ipv4Addr) -> Self {
        let mut header = [0; HEADER_LEN];
        set_u8(&mut header, 0, 0x45);
        set_u32(&mut header, SRC_OFFSET, src.to_bits());
        set_u32(&mut header, DST_OFFSET, dst.to_bits());
        Ipv4(header)
    }
}

/// Computes the Header Checksum of `header`, which holds at least the header with its options, and writes it.
#[inline]
pub(crate) fn write_checksum(header: &mut [u8]) {
    set_u16(header, CHECKSUM_OFFSET, 0);
    let sum = checksum_of(header);
    set_bytes(header, CHECKSUM_OFFSET, sum.to_be_bytes());
}

/// The Internet checksum of the header at the start of `packet`: 0 if Header Checksum is right.
#[inline]
pub(crate) fn checksum_of(packet: &[u8]) -> u16 {
    let [first] = bytes(packet, 0);
    let len = usize::from(first & 0xf) * 4;
    checksum::internet(packet.get(..len).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header with its checksum b861 (Wikipedia, "Internet checksum").
    const HEADER: &[u8; 20] = b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\xb8\x61\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";

    #[test]
    fn a_header_is_read_and_written() {
        let header = Ipv4::parse(HEADER).unwrap();
        assert_eq!((header.total_len(), header.ttl(), header.protocol(), header.checksum()), (0x73, 64, 17, 0xb861));
        assert_eq!((header.is_fragment(), checksum_of(HEADER)), (false, 0));
        let mut own = Ipv4::new(header.src(), header.dst());
        own.set_total_len(0x73);
        own.set_dont_fragment();
        own.set_ttl(64);
        own.set_protocol(17);
        write_checksum(own.as_bytes_mut());
        assert_eq!(own.as_bytes(), HEADER);
        own.set_dscp(0x2a);
        own.set_ecn(1);
        own.set_identification(7);
        assert_eq!((own.dscp(), own.ecn(), own.identification(), own.as_bytes()[1]), (0x2a, 1, 7, 0xa9));
    }

    #[test]
    fn fragments() {
        let mut header = *HEADER;
        header[6..8].copy_from_slice(&[0xe0, 0x03]);
        let mut header = Ipv4(header);
        assert_eq!((header.is_fragment(), header.more_fragments(), header.fragment_offset()), (true, true, 24));
        header.clear_fragment();
        assert_eq!(header.as_bytes()[6..8], [0xc0, 0]);
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        let error = |change: (usize, u8), len: usize| {
            let mut header = *HEADER;
            header[change.0] = change.1;
            Ipv4::parse(&header[..len]).unwrap_err()
        };
        let short = |needs, has| HeaderError::Short { version: IpVersion::V4, needs, has };
        assert_eq!(error((0, 0x45), 19), short(20, 19));
        assert_eq!(error((0, 0x46), 20), short(24, 20));
        assert_eq!(error((0, 0x44), 20), HeaderError::Ihl(4));
        assert_eq!(error((0, 0x65), 20), HeaderError::Version { got: 6, expected: IpVersion::V4 });
    }
}
