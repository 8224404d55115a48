//! The Internet checksum (RFC 1071), alone and over a pseudo-header.

use std::net::IpAddr;

use crate::bytes::last_word;

/// The Internet checksum of `bytes` (RFC 1071 §1): the value to store if the checksum field is 0 in `bytes`. If the
/// field already has the right value, the result is 0. An odd last byte counts as the high half of a word.
pub fn internet(bytes: &[u8]) -> u16 {
    finish(sum(bytes))
}

/// The Internet checksum of `segment` (upper-layer header and payload) with the pseudo-header of `src`, `dst`,
/// `protocol` and its length (IPv4: RFC 9293 §3.1, RFC 768; IPv6: RFC 8200 §8.1).
///
/// It is stored and checked like [`internet`]. UDP stores 0 as `ffff`, which is left to the caller.
pub fn upper_layer(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    finish(address(src) + address(dst) + protocol_and_segment(protocol, segment))
}

/// Like [`upper_layer`], with source and destination address in one piece, as in an IP header.
pub(crate) fn upper_layer_of(addresses: &[u8], protocol: u8, segment: &[u8]) -> u16 {
    finish(sum(addresses) + protocol_and_segment(protocol, segment))
}

/// Length and protocol have different offsets in the two pseudo-headers, but always even ones, so the sum is the
/// same.
fn protocol_and_segment(protocol: u8, segment: &[u8]) -> u64 {
    let len = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    u64::from(len) + u64::from(protocol) + sum(segment)
}

fn address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    }
}

/// The sum of all words, not yet folded: at most 33 bits plus carries. It adds eight bytes at a time. A carry
/// counts as 1 (RFC 1071 §2).
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let add = |(sum, carries): (u64, u64), word| {
        let (sum, carry) = sum.overflowing_add(word);
        (sum, carries + u64::from(carry))
    };
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word));
    let (sum, carries) = add(words.fold((0, 0), add), last_word(bytes));
    (sum >> 32) + (sum & 0xffff_ffff) + carries
}

fn finish(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    // At most 16 bits are left.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §3: the sum of 0001 f203 f4f5 f6f7 is ddf2.
    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6]), !0xdcfb_u16);
    }

    #[test]
    fn ends_and_carries() {
        assert_eq!(internet(&[]), 0xffff);
        assert_eq!(internet(&[0x12]), !0x1200);
        assert_eq!(internet(&[0xff; 65535]), !0xff00);
        assert_eq!(internet(&[0xff; 65534]), 0);
        // ffff + 0001 carries around to 0001.
        assert_eq!(internet(&[0xff, 0xff, 0x00, 0x01]), !0x0001);
    }

    /// Compares with a simple word-by-word sum, for each length and alignment.
    #[test]
    fn lengths_and_places() {
        let bytes: Vec<u8> = (0..100u32).map(|at| (at * at * 37 + 251) as u8 | 0xc0).collect();
        for (start, end) in (0..9).flat_map(|start| (start..100).map(move |end| (start, end))) {
            let words = bytes[start..end].chunks(2).map(|word| [word[0], word.get(1).copied().unwrap_or(0)]);
            let sum = words.fold(0u32, |sum, word| {
                let sum = sum + u32::from(u16::from_be_bytes(word));
                (sum & 0xffff) + (sum >> 16)
            });
            assert_eq!(internet(&bytes[start..end]), !(sum as u16), "{start}..{end}");
        }
    }

    /// An IPv4 header with its checksum b861 (Wikipedia, "Internet checksum").
    #[test]
    fn an_ipv4_header() {
        let mut header = *b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\xb8\x61\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";
        assert_eq!(internet(&header), 0);
        header[10] = 0;
        header[11] = 0;
        assert_eq!(internet(&header), 0xb861);
    }

    /// UDP checksums as scapy 2.5 computes them.
    #[test]
    fn pseudo_headers() {
        // IP(src="192.0.2.1", dst="198.51.100.7")/UDP(sport=4500, dport=4500)/b"hello"
        let v4 = upper_layer(
            "192.0.2.1".parse().unwrap(),
            "198.51.100.7".parse().unwrap(),
            17,
            b"\x11\x94\x11\x94\x00\x0d\x00\x00hello",
        );
        assert_eq!(v4, 0xac9d);
        // IPv6(src="2001:db8::1", dst="2001:db8:ffff::2")/UDP(sport=5683, dport=61616)/b"coap!!"
        let v6 = upper_layer(
            "2001:db8::1".parse().unwrap(),
            "2001:db8:ffff::2".parse().unwrap(),
            17,
            b"\x16\x33\xf0\xb0\x00\x0e\x00\x00coap!!",
        );
        assert_eq!(v6, 0xb778);
    }
}
