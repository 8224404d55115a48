//! ESP (RFC 4303 §2) without its cipher: header and trailer.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |               Security Parameters Index (SPI)                 |
//! |                      Sequence Number                          |
//! |                      IV, Payload Data                         |
//! |        Padding (0 to 255)     |  Pad Length   |  Next Header  |
//! |                Integrity Check Value (ICV)                    |
//! ```
//!
//! The Sequence Number field has the low half of an extended Sequence Number (§2.2.1).

/// UDP port of ESP in UDP, and of IKE after a non-ESP marker (RFC 3948).
pub(crate) const UDP_PORT: u16 = 4500;
/// Length of SPI and sequence number in bytes.
pub(crate) const HEADER_LEN: usize = 8;
/// Bytes of Pad Length and Next Header.
pub(crate) const TRAILER_LEN: usize = 2;
/// Standard ESP aligns its payload and trailer to this many bytes, whatever the cipher block (§2.4).
pub(crate) const ALIGNMENT: usize = 4;

/// The SPI at the start of `esp`; `None` if it is cut short.
#[inline]
pub(crate) fn spi(esp: &[u8]) -> Option<u32> {
    esp.first_chunk().map(|spi| u32::from_be_bytes(*spi))
}

/// Appends the SPI and the low half of the sequence number.
pub fn write_header(spi: u32, sn: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&spi.to_be_bytes());
    out.extend_from_slice(&(sn as u32).to_be_bytes());
}

/// Appends Padding 1, 2, 3, ..., Pad Length and Next Header, so that the length of `clear` from `start` on becomes
/// a multiple of 4 bytes and of the cipher block (RFC 4303 §2.4). `clear` contains the payload data from `start`
/// on.
pub fn write_trailer(start: usize, next_header: u8, block: usize, clear: &mut Vec<u8>) {
    let align = block.max(ALIGNMENT);
    let len = clear.len() - start + TRAILER_LEN;
    let padding = (align - len % align) % align;
    clear.extend((1..=padding).map(|byte| byte as u8));
    clear.push(padding as u8);
    clear.push(next_header);
}

/// Length of standard ESP for a payload (packet or segment) of `len` bytes: header, IV, payload, trailer padded to
/// 4 bytes or the cipher block, ICV.
pub(crate) fn standard_len(len: usize, iv_len: usize, block: usize, icv_len: usize) -> usize {
    // Faster than `next_multiple_of`: it is a power of two.
    let unit = block.max(ALIGNMENT);
    HEADER_LEN + iv_len + ((len + TRAILER_LEN + unit - 1) & !(unit - 1)) + icv_len
}

/// Whether a UDP 4500 payload that belongs to no SA is not ESP at all: an IKE message after its non-ESP marker, or
/// a NAT keepalive (RFC 3948 §2.2, §2.3).
pub(crate) fn is_marker_or_keepalive(payload: &[u8]) -> bool {
    payload.starts_with(&[0; 4]) || payload == [0xff]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_fill_four_bytes_or_the_block() {
        let mut clear = vec![0xaa; 9];
        write_trailer(0, 41, 1, &mut clear);
        assert_eq!(clear[9..], [1, 1, 41]);
        let mut clear = vec![0xaa; 14];
        write_trailer(0, 4, 16, &mut clear);
        assert_eq!(clear[14..], [0, 4]);
        // RFC 4303: 8 header, 8 IV, 9 payload + 1 padding + 2, 8 ICV.
        assert_eq!(standard_len(9, 8, 1, 8), 36);
        assert_eq!(standard_len(15, 16, 16, 16), 8 + 16 + 32 + 16);
    }

    #[test]
    fn markers() {
        assert!(is_marker_or_keepalive(&[0, 0, 0, 0, 1]));
        assert!(is_marker_or_keepalive(&[0xff]));
        assert!(!is_marker_or_keepalive(&[0xff, 0xff]));
        assert!(!is_marker_or_keepalive(&[0, 0, 0]));
    }
}
