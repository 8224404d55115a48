//! What the header types of this folder have in common.
//!
//! `Udp<&[u8; 8]>` is a view of the header of a captured packet, `Udp<&mut [u8; 8]>` changes it in place, and `Udp<[u8; 8]>`
//! is an owned header. All three have the same methods. Each module draws its header and names the RFC.
//!
//! Offsets are constants inside an array, so the compiler removes the checks of [`bytes`] and [`set_bytes`].

/// Defines a header type of a constant length.
macro_rules! header {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name<T>(T);

        #[allow(dead_code, reason = "every header has the same constructors")]
        impl<'a> $name<&'a [u8; $len]> {
            /// The header at the start of `bytes`; `None` if they are too short.
            #[inline(always)]
            pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
                bytes.first_chunk().map($name)
            }

            /// The header at the start of `bytes`, and the bytes after it.
            #[inline(always)]
            pub(crate) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
                bytes.split_first_chunk().map(|(header, rest)| ($name(header), rest))
            }

            /// The bytes of the header, for as long as the packet lives.
            #[inline(always)]
            pub(crate) fn into_bytes(self) -> &'a [u8; $len] {
                self.0
            }
        }

        #[allow(dead_code, reason = "every header has the same constructors")]
        impl<'a> $name<&'a mut [u8; $len]> {
            /// The header at byte `offset` of `packet`, to be changed; `None` if the packet ends before.
            #[inline(always)]
            pub(crate) fn at_mut(packet: &'a mut [u8], offset: usize) -> Option<Self> {
                packet.get_mut(offset..)?.first_chunk_mut().map($name)
            }
        }

        #[allow(dead_code, reason = "every header has the same methods")]
        impl<T: std::borrow::Borrow<[u8; $len]>> $name<T> {
            /// The bytes of the header.
            #[inline(always)]
            pub(crate) fn as_bytes(&self) -> &[u8; $len] {
                self.0.borrow()
            }
        }

        #[allow(dead_code, reason = "every header has the same methods")]
        impl<T: std::borrow::BorrowMut<[u8; $len]>> $name<T> {
            /// The bytes of the header, to be changed.
            #[inline(always)]
            fn as_bytes_mut(&mut self) -> &mut [u8; $len] {
                self.0.borrow_mut()
            }
        }
    };
}
pub(super) use header;
/// The `N` bytes at `offset`; zeros beyond the end.
#[inline(always)]
pub(super) fn bytes<const N: usize>(header: &[u8], offset: usize) -> [u8; N] {
    header.get(offset..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Overwrites the `N` bytes at `offset`; nothing beyond the end.
#[inline(always)]
pub(super) fn set_bytes<const N: usize>(header: &mut [u8], offset: usize, value: [u8; N]) {
    if let Some(field) = header.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) {
        *field = value;
    }
}

/// The byte at `offset`.
#[inline(always)]
pub(super) fn u8_at(header: &[u8], offset: usize) -> u8 {
    header.get(offset).copied().unwrap_or(0)
}

/// The 16-bit integer at `offset`.
#[inline(always)]
pub(super) fn u16_at(header: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes(bytes(header, offset))
}

/// The 32-bit integer at `offset`.
#[inline(always)]
pub(super) fn u32_at(header: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(bytes(header, offset))
}

/// Overwrites the byte at `offset`.
#[inline(always)]
pub(super) fn set_u8(header: &mut [u8], offset: usize, value: u8) {
    set_bytes(header, offset, [value]);
}

/// Overwrites the 16-bit integer at `offset`.
#[inline(always)]
pub(super) fn set_u16(header: &mut [u8], offset: usize, value: u16) {
    set_bytes(header, offset, value.to_be_bytes());
}

/// Overwrites the 32-bit integer at `offset`.
#[inline(always)]
pub(super) fn set_u32(header: &mut [u8], offset: usize, value: u32) {
    set_bytes(header, offset, value.to_be_bytes());
}
