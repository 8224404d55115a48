//! Key material: never printed, and wiped when dropped.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret bytes. `Debug` shows only how many there are. They are wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Drop for Secret {
    fn drop(&mut self) {
        // Skip an empty buffer: `zeroize` issues a fence even then.
        if self.0.capacity() > 0 {
            self.0.zeroize();
        }
    }
}

impl ZeroizeOnDrop for Secret {}

impl Secret {
    /// Takes ownership of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// The bytes, to be passed only to a cipher or a key file.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A part of a [`Secret`]. `Debug` shows only its length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretSlice<'s>(&'s [u8]);

impl<'s> SecretSlice<'s> {
    pub(crate) fn new(bytes: &'s [u8]) -> SecretSlice<'s> {
        SecretSlice(bytes)
    }

    /// The bytes, to be passed only to a cipher or a key file.
    pub fn expose(self) -> &'s [u8] {
        self.0
    }

    /// Number of bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretSlice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new(vec![0xab; 16])), "Secret(16 bytes)");
        assert_eq!(format!("{:?}", SecretSlice::new(&[0xab; 16])), "Secret(16 bytes)");
    }
}
