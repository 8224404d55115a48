//! UDP (RFC 768).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |          Source Port          |       Destination Port        |
//! |            Length             |           Checksum            |
//! ```

use std::borrow::{Borrow, BorrowMut};

use super::header::{header, set_u16, u16_at};
use super::{ip, protocol};

/// Bytes of a UDP header.
pub(crate) const HEADER_LEN: usize = 8;

header! {
    /// A UDP header.
    Udp, HEADER_LEN
}

impl<T: Borrow<[u8; HEADER_LEN]>> Udp<T> {
    /// Bytes of header and payload; 0 after segmentation offload.
    #[inline]
    pub(crate) fn length(&self) -> u16 {
        u16_at(self.as_bytes(), 4)
    }

    /// The Checksum; 0 if there is none.
    #[inline]
    pub(crate) fn checksum(&self) -> u16 {
        u16_at(self.as_bytes(), 6)
    }
}

impl<T: BorrowMut<[u8; HEADER_LEN]>> Udp<T> {
    /// Sets Length.
    #[inline]
    pub(crate) fn set_length(&mut self, length: u16) {
        set_u16(self.as_bytes_mut(), 4, length);
    }

    /// Sets Checksum to `sum`, and to `ffff` if that is 0, because 0 means that there is no checksum.
    #[inline]
    pub(crate) fn set_checksum(&mut self, sum: u16) {
        set_u16(self.as_bytes_mut(), 6, if sum == 0 { 0xffff } else { sum });
    }

    /// Sets Checksum to 0: it has none, or is still to be computed.
    #[inline]
    pub(crate) fn clear_checksum(&mut self) {
        set_u16(self.as_bytes_mut(), 6, 0);
    }
}

impl Udp<[u8; HEADER_LEN]> {
    /// A header with these ports and checksum, without Length.
    pub(crate) fn new([src, dst]: [u16; 2], checksum: u16) -> Self {
        let mut bytes = [0; HEADER_LEN];
        for (offset, value) in [(0, src), (2, dst), (6, checksum)] {
            set_u16(&mut bytes, offset, value);
        }
        Udp(bytes)
    }
}

/// Computes the Checksum of the UDP datagram at byte `segment` of `packet`, an IP packet, and writes it.
pub(crate) fn write_checksum(packet: &mut [u8], segment: usize) {
    let Some(mut udp) = Udp::at_mut(packet, segment) else { return };
    udp.clear_checksum();
    let Some(sum) = ip::upper_layer_checksum(packet, segment, protocol::UDP) else { return };
    if let Some(mut udp) = Udp::at_mut(packet, segment) {
        udp.set_checksum(sum);
    }
}

/// Whether the Checksum of the UDP datagram at byte `segment` of `packet`, an IP packet, is absent or right.
pub(crate) fn is_checksum_right(packet: &[u8], segment: usize) -> bool {
    let udp = Udp::of(packet.get(segment..).unwrap_or_default());
    udp.is_none_or(|udp| udp.checksum() == 0) || ip::upper_layer_checksum(packet, segment, protocol::UDP) == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IPv6(src="2001:db8::1", dst="2001:db8:ffff::2")/UDP(sport=5683, dport=61616)/b"coap!!" of scapy 2.5.
    #[test]
    fn a_header_is_read_and_written() {
        let mut packet = hex::decode("60000000000e114020010db800000000000000000000000120010db8ffff000000000000000000021633f0b0000e0000636f61702121").unwrap();
        write_checksum(&mut packet, 40);
        let (udp, payload) = Udp::split(&packet[40..]).unwrap();
        assert_eq!((udp.length(), udp.checksum(), payload), (14, 0xb778, &b"coap!!"[..]));
        assert!(is_checksum_right(&packet, 40));
        let mut own = Udp::new([5683, 61616], 0xb778);
        own.set_length(14);
        assert_eq!(own.as_bytes(), udp.as_bytes());
        packet[45] ^= 1;
        assert!(!is_checksum_right(&packet, 40));
        assert!(Udp::of(&packet[..7]).is_none());
    }
}
