//! TCP (RFC 9293 §3.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |          Source Port          |       Destination Port        |
//! |                        Sequence Number                        |
//! |                    Acknowledgment Number                      |
//! | DOffs |  Rsrvd |C|E|U|A|P|R|S|F|            Window            |
//! |           Checksum            |        Urgent Pointer         |
//! |                  Options (4 * DOffs - 20)                     |
//! ```

use std::borrow::{Borrow, BorrowMut};

use super::header::{header, set_u8, set_u16, set_u32, u8_at, u16_at, u32_at};

/// Bytes of a TCP header without options.
pub(crate) const HEADER_LEN: usize = 20;
/// Offset of the Checksum.
pub(crate) const CHECKSUM_OFFSET: usize = 16;

header! {
    /// A TCP header, without its options.
    Tcp, HEADER_LEN
}

impl<T: Borrow<[u8; HEADER_LEN]>> Tcp<T> {
    /// Sequence Number and Acknowledgment Number.
    #[inline]
    pub(crate) fn numbers(&self) -> [u32; 2] {
        [u32_at(self.as_bytes(), 4), u32_at(self.as_bytes(), 8)]
    }

    /// Length of the header with its options, in units of 4 bytes.
    #[inline]
    pub(crate) fn data_offset(&self) -> u8 {
        u8_at(self.as_bytes(), 12) >> 4
    }

    /// The Checksum.
    #[inline]
    pub(crate) fn checksum(&self) -> u16 {
        u16_at(self.as_bytes(), CHECKSUM_OFFSET)
    }
}

impl<T: BorrowMut<[u8; HEADER_LEN]>> Tcp<T> {
    /// Sets Sequence Number and Acknowledgment Number.
    pub(crate) fn set_numbers(&mut self, [sequence, acknowledgment]: [u32; 2]) {
        set_u32(self.as_bytes_mut(), 4, sequence);
        set_u32(self.as_bytes_mut(), 8, acknowledgment);
    }

    /// Sets the length of the header, in units of 4 bytes.
    pub(crate) fn set_data_offset(&mut self, words: u8) {
        let low = u8_at(self.as_bytes(), 12) & 0xf;
        set_u8(self.as_bytes_mut(), 12, words << 4 | low);
    }

    /// Sets Checksum.
    pub(crate) fn set_checksum(&mut self, checksum: u16) {
        set_u16(self.as_bytes_mut(), CHECKSUM_OFFSET, checksum);
    }
}
