//! Reading and writing of bit strings, most significant bit first (RFC 8724 §7.4 residues).

/// A cursor over a bit string.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Reads `bytes` from the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, position: 0 }
    }

    /// Bits read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bits left.
    pub fn left(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    /// The next `bits` bits (0 to 128) as an integer, or `None` if there are fewer.
    pub fn read(&mut self, bits: u32) -> Option<u128> {
        debug_assert!(bits <= 128);
        if bits as usize > self.left() {
            return None;
        }
        let mut value = 0u128;
        let mut wanted = bits;
        while wanted > 0 {
            let byte = *self.bytes.get(self.position / 8)?;
            let offset = (self.position % 8) as u32;
            let taken = wanted.min(8 - offset);
            let piece = (byte >> (8 - offset - taken)) & (0xff >> (8 - taken));
            value = (value << taken) | u128::from(piece);
            self.position += taken as usize;
            wanted -= taken;
        }
        Some(value)
    }

    /// Skips to the next byte boundary; true if all skipped bits were 0.
    pub fn align(&mut self) -> bool {
        let padding = (8 - self.position % 8) % 8;
        self.read(padding as u32).is_none_or(|bits| bits == 0)
    }

    /// The bytes behind the cursor, which must stand on a byte boundary.
    pub fn rest(&self) -> &'a [u8] {
        debug_assert_eq!(self.position % 8, 0);
        self.bytes.get(self.position / 8..).unwrap_or_default()
    }
}

/// Appends a bit string to a byte vector.
#[derive(Debug)]
pub struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// Bits still free in the last byte, 0 to 7.
    free: u32,
}

impl<'a> BitWriter<'a> {
    /// Appends behind what `bytes` holds.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        BitWriter { bytes, free: 0 }
    }

    /// Appends the low `bits` bits (0 to 128) of `value`.
    pub fn write(&mut self, value: u128, bits: u32) {
        debug_assert!(bits <= 128);
        let mut left = bits;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let written = left.min(self.free);
            let piece = (value >> (left - written)) as u8 & (0xff >> (8 - written));
            if let Some(last) = self.bytes.last_mut() {
                *last |= piece << (self.free - written);
            }
            self.free -= written;
            left -= written;
        }
    }

    /// Bits (0) that fill the last byte.
    pub fn padding(&self) -> u32 {
        self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn most_significant_bit_first() {
        let mut bytes = vec![];
        let mut writer = BitWriter::new(&mut bytes);
        writer.write(0b101, 3);
        writer.write(0xabcd, 16);
        assert_eq!(writer.padding(), 5);
        assert_eq!(bytes, [0b1011_0101, 0b0111_1001, 0b1010_0000]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(fields in proptest::collection::vec((any::<u128>(), 0u32..=128), 0..20)) {
            let mut bytes = vec![];
            let mut writer = BitWriter::new(&mut bytes);
            for (value, bits) in &fields {
                writer.write(*value, *bits);
            }
            let total: usize = fields.iter().map(|(_, bits)| *bits as usize).sum();
            prop_assert_eq!(bytes.len(), total.div_ceil(8));
            let mut reader = BitReader::new(&bytes);
            for (value, bits) in &fields {
                let mask = if *bits == 128 { u128::MAX } else { (1 << bits) - 1 };
                prop_assert_eq!(reader.read(*bits), Some(value & mask));
            }
            prop_assert!(reader.align());
            prop_assert_eq!(reader.read(1), None);
        }
    }
}
