//! UDP-Lite (RFC 3828 §3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |          Source Port          |       Destination Port        |
//! |       Checksum Coverage       |           Checksum            |
//! ```

use std::borrow::{Borrow, BorrowMut};

use super::header::{header, set_u16, u16_at};
use super::{checksum, ip, protocol};

/// Bytes of a UDP-Lite header.
pub(crate) const HEADER_LEN: usize = 8;

header! {
    /// A UDP-Lite header.
    UdpLite, HEADER_LEN
}

impl<T: Borrow<[u8; HEADER_LEN]>> UdpLite<T> {
    /// Bytes from the start of the header that the checksum covers: 8 or more, or 0 for all.
    #[inline]
    pub(crate) fn coverage(&self) -> u16 {
        u16_at(self.as_bytes(), 4)
    }

    /// The Checksum, which is never 0.
    #[inline]
    pub(crate) fn checksum(&self) -> u16 {
        u16_at(self.as_bytes(), 6)
    }
}

impl<T: BorrowMut<[u8; HEADER_LEN]>> UdpLite<T> {
    /// Sets Checksum Coverage.
    pub(crate) fn set_coverage(&mut self, coverage: u16) {
        set_u16(self.as_bytes_mut(), 4, coverage);
    }

    /// Sets Checksum to `sum`, and to `ffff` if that is 0.
    pub(crate) fn set_checksum(&mut self, sum: u16) {
        set_u16(self.as_bytes_mut(), 6, if sum == 0 { 0xffff } else { sum });
    }
}

/// The Internet checksum of the UDP-Lite segment at byte `segment` of `packet`, an IP packet, over its coverage: 0 if the
/// field already holds the right value. `None` if the coverage is invalid: 1 to 7, or beyond the segment.
pub(crate) fn checksum_of(packet: &[u8], segment: usize) -> Option<u16> {
    let bytes = packet.get(segment..)?;
    let coverage = match usize::from(UdpLite::of(bytes)?.coverage()) {
        0 => bytes.len(),
        coverage @ 8.. => coverage,
        _ => return None,
    };
    let covered = checksum::internet(bytes.get(..coverage)?);
    // The pseudo-header contains the length of the whole segment, whatever the coverage. So start with the
    // pseudo-header of an empty segment and add the length.
    let pseudo = checksum::upper_layer_of(ip::address_bytes(packet)?, protocol::UDP_LITE, &[]);
    let len = u16::try_from(bytes.len()).ok()?;
    let sum = u32::from(!covered) + u32::from(!pseudo) + u32::from(len);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    Some(!(sum as u16))
}
