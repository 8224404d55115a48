//! IPv6 extension headers (RFC 8200 §4) and the Authentication Header (RFC 4302 §2), which all begin alike:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |  Next Header  |  Header Len   |        depends on the type    |
//! ```
//!
//! Header Len counts units of 8 bytes after the first 8; in the Authentication Header, units of 4 bytes after the first 8.
//! The Fragment header has no length (RFC 8200 §4.5):
//!
//! ```text
//! |  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
//! |                         Identification                        |
//! ```

use super::IpVersion;
use super::header::{bytes, header, u8_at, u16_at};
use super::protocol::{AH, DESTINATION_OPTIONS, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6};

/// Bytes of the shortest extension header, and of the Fragment header.
pub(crate) const MIN_LEN: usize = 8;

header! {
    /// The first 8 bytes of an extension header.
    Extension, MIN_LEN
}

impl<T: std::borrow::Borrow<[u8; MIN_LEN]>> Extension<T> {
    /// The protocol of what follows.
    #[inline]
    pub(crate) fn next_header(&self) -> u8 {
        u8_at(self.as_bytes(), 0)
    }

    /// Header Len as it is sent.
    #[inline]
    pub(crate) fn units(&self) -> u8 {
        u8_at(self.as_bytes(), 1)
    }

    /// Bytes of the header, which is one of type `protocol`; an Authentication Header has at least 8.
    #[inline]
    pub(crate) fn header_len(&self, protocol: u8) -> usize {
        let units = usize::from(self.units());
        match protocol {
            FRAGMENT => MIN_LEN,
            AH => ((units + 2) * 4).max(MIN_LEN),
            _ => (units + 1) * 8,
        }
    }

    /// In a Fragment header, the offset in bytes.
    #[inline]
    pub(crate) fn fragment_offset(&self) -> usize {
        usize::from(u16_at(self.as_bytes(), 2) & !7)
    }

    /// In a Fragment header, whether More Fragments is set.
    #[inline]
    pub(crate) fn more_fragments(&self) -> bool {
        u16_at(self.as_bytes(), 2) & 1 != 0
    }

    /// In a Fragment header, the Identification.
    #[inline]
    pub(crate) fn identification(&self) -> u32 {
        u32::from_be_bytes(bytes(self.as_bytes(), 4))
    }
}

/// Whether `protocol` is an extension header (IANA "IPv6 Extension Header Types", without ESP).
#[inline]
pub(super) fn is_extension(version: IpVersion, protocol: u8) -> bool {
    match protocol {
        AH => true,
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => version == IpVersion::V6,
        _ => false,
    }
}

/// Next Header and length in bytes of the extension header of type `protocol` at the start of `bytes`. `None` if it is
/// truncated or not an extension header.
pub(super) fn next(protocol: u8, bytes: &[u8]) -> Option<(u8, usize)> {
    let header = Extension::of(bytes).filter(|_| is_extension(IpVersion::V6, protocol))?;
    let len = header.header_len(protocol);
    (len <= bytes.len()).then_some((header.next_header(), len))
}
