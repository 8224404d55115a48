//! The common header of SCTP (RFC 9260 §3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |      Source Port Number       |    Destination Port Number    |
//! |                       Verification Tag                        |
//! |            Checksum (least significant byte first)            |
//! ```

use std::borrow::{Borrow, BorrowMut};

use crc::Crc;

use super::header::{bytes, header, set_bytes};

/// Bytes of the common header.
pub(crate) const HEADER_LEN: usize = 12;
const CHECKSUM_OFFSET: usize = 8;

header! {
    /// The common header.
    Sctp, HEADER_LEN
}

impl<T: Borrow<[u8; HEADER_LEN]>> Sctp<T> {
    /// The Checksum.
    pub(crate) fn checksum(&self) -> u32 {
        u32::from_le_bytes(bytes(self.as_bytes(), CHECKSUM_OFFSET))
    }
}

impl<T: BorrowMut<[u8; HEADER_LEN]>> Sctp<T> {
    /// Sets Checksum.
    pub(crate) fn set_checksum(&mut self, checksum: u32) {
        set_bytes(self.as_bytes_mut(), CHECKSUM_OFFSET, checksum.to_le_bytes());
    }
}

/// The checksum of SCTP (RFC 9260 Appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// The checksum of a packet, whose own Checksum counts as 0.
pub(crate) fn checksum_of(segment: &[u8]) -> u32 {
    let (front, rest) = segment.split_at_checked(CHECKSUM_OFFSET).unwrap_or((segment, &[]));
    let mut crc = CRC32C.digest();
    crc.update(front);
    if let Some((_, rest)) = rest.split_first_chunk::<4>() {
        crc.update(&[0; 4]);
        crc.update(rest);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 §B.4: 32 bytes of zeros, of ones, and ascending.
    #[test]
    fn crc32c_examples_of_rfc_3720() {
        assert_eq!(CRC32C.checksum(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(CRC32C.checksum(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(CRC32C.checksum(&ascending).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }

    /// The field counts as 0, whatever it holds.
    #[test]
    fn the_checksum_does_not_cover_itself() {
        let mut segment = [0; 32];
        if let Some(mut sctp) = Sctp::at_mut(&mut segment, 0) {
            sctp.set_checksum(0x0102_0304);
            assert_eq!((sctp.checksum(), sctp.as_bytes()[8]), (0x0102_0304, 4));
        }
        assert_eq!(checksum_of(&segment), CRC32C.checksum(&[0; 32]));
    }
}
