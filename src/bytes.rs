//! Bounded reading of bytes. No other module does offset arithmetic on input.

use crate::error::{Fault, Stage};

/// The last 0 to 7 bytes, after all whole groups of eight, in the upper bytes of a word. The other bits are 0.
#[inline]
pub(crate) fn last_word(bytes: &[u8]) -> u64 {
    let last = match bytes.last_chunk() {
        Some(last) => u64::from_be_bytes(*last),
        None => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    // Shifts out the bytes of the previous word. Two shifts, because one by 64 would overflow if no byte is left. A
    // branch would be slower, because the number of bytes left cannot be predicted.
    last << (63 - 8 * (bytes.len() % 8)) << 1
}

/// A cursor over the bytes of one structure. Reading past the end is a [`Fault`] that names the structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    stage: Stage,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`. Faults call them `what`.
    pub(crate) fn new(stage: Stage, what: &'static str, bytes: &'a [u8]) -> Self {
        Reader { bytes, position: 0, stage, what }
    }

    /// The same position, but faults call the structure `what`.
    pub(crate) fn named(self, what: &'static str) -> Self {
        Reader { what, ..self }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// All bytes that are left, without reading them.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let rest = self.rest();
        match rest.get(..len) {
            Some(taken) => {
                self.position += len;
                Ok(taken)
            }
            None => Err(Fault::short(self.stage, self.position, self.what, len, rest.len())),
        }
    }

    /// The next `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = self.rest();
        match rest.first_chunk::<N>() {
            Some(taken) => {
                self.position += N;
                Ok(*taken)
            }
            None => Err(Fault::short(self.stage, self.position, self.what, N, rest.len())),
        }
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// The next two bytes, big-endian.
    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// The next four bytes, big-endian.
    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_be_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_says_what_and_where() {
        let mut reader = Reader::new(Stage::Link, "UDP header", &[1, 2, 3]);
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.take(2), Err(Fault::short(Stage::Link, 2, "UDP header", 2, 1)));
        assert_eq!(reader.rest(), [3]);
        assert_eq!(reader.u8(), Ok(3));
        assert_eq!(reader.left(), 0);
    }
}
