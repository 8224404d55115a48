//! A fast hash for numbers that an attacker cannot choose: SPIs of key files, and sequence numbers that verified.

use std::hash::Hasher;

/// Mixes all bits of a word.
pub(crate) fn mix(word: u64) -> u64 {
    let wide = u128::from(word ^ 0xf39c_c060_5ced_c835) * 0x9e37_79b9_7f4a_7c15;
    (wide >> 64) as u64 ^ wide as u64
}

/// Hashes integers by [`mix`].
#[derive(Debug, Default)]
pub(crate) struct MixHasher(u64);

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| mix(hash ^ u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = mix(self.0 ^ u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}
