//! Reads and writes bit strings, most significant bit first (RFC 8724 §7.4 residues). Offsets and lengths are in
//! bits.

/// Returns the `bits` bits (0 to 128) of `bytes` from bit `at` on, or `None` if there are fewer.
pub fn read(bytes: &[u8], mut at: usize, bits: usize) -> Option<u128> {
    debug_assert!(bits <= 128);
    if !fits(bytes, at, bits) {
        return None;
    }
    let mut value = 0u128;
    let mut left = bits;
    while left > 0 {
        let taken = left.min(CHUNK);
        value = (value << taken) | u128::from(window(bytes, at) >> (64 - taken));
        at += taken;
        left -= taken;
    }
    Some(value)
}

/// Overwrites `bits` bits (0 to 128) of `bytes` from bit `at` on with the low bits of `value`. Returns `None` and
/// writes nothing if they do not fit.
pub fn write(bytes: &mut [u8], mut at: usize, bits: usize, value: u128) -> Option<()> {
    debug_assert!(bits <= 128);
    if !fits(bytes, at, bits) {
        return None;
    }
    let mut left = bits;
    while left > 0 {
        let taken = left.min(CHUNK);
        // `insert` keeps only the low `taken` bits.
        insert(bytes, at, taken, (value >> (left - taken)) as u64);
        at += taken;
        left -= taken;
    }
    Some(())
}

/// Copies `bits` bits of `from`, from bit `from_at` on, to bit `to_at` of `to`. Returns `None` and writes nothing
/// if either is too short.
pub fn copy(from: &[u8], mut from_at: usize, to: &mut [u8], mut to_at: usize, bits: usize) -> Option<()> {
    if (from_at | to_at | bits).is_multiple_of(8) {
        let from = from.get(from_at / 8..)?.get(..bits / 8)?;
        to.get_mut(to_at / 8..)?.get_mut(..bits / 8)?.copy_from_slice(from);
        return Some(());
    }
    if !fits(from, from_at, bits) || !fits(to, to_at, bits) {
        return None;
    }
    let mut left = bits;
    while left > 0 {
        let taken = left.min(CHUNK);
        insert(to, to_at, taken, window(from, from_at) >> (64 - taken));
        from_at += taken;
        to_at += taken;
        left -= taken;
    }
    Some(())
}

/// Number of bits that a 64-bit load always contains, whatever bit of the first byte they start at.
const CHUNK: usize = 56;

fn fits(bytes: &[u8], at: usize, bits: usize) -> bool {
    at.checked_add(bits).is_some_and(|end| end <= bytes.len().saturating_mul(8))
}

/// At least [`CHUNK`] bits from bit `at` on, left-aligned. Past the end of `bytes`, the bits are 0.
fn window(bytes: &[u8], at: usize) -> u64 {
    let tail = bytes.get(at / 8..).unwrap_or_default();
    let word = tail.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        word
    });
    u64::from_be_bytes(word) << (at % 8)
}

/// Overwrites `bits` (1 to [`CHUNK`]) bits from bit `at` with the low bits of `value`.
fn insert(bytes: &mut [u8], at: usize, bits: usize, value: u64) {
    let shift = 64 - at % 8 - bits;
    let mask = (u64::MAX >> (64 - bits)) << shift;
    let merged = |word: u64| (word & !mask) | ((value << shift) & mask);
    let tail = bytes.get_mut(at / 8..).unwrap_or_default();
    if let Some(word) = tail.first_chunk_mut() {
        *word = merged(u64::from_be_bytes(*word)).to_be_bytes();
    } else {
        let word = merged(window(tail, 0)).to_be_bytes();
        tail.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
}

/// A writer that appends bit strings to a byte vector.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// Unused bits in the last byte, 0 to 7.
    free: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer that appends after the present content of `bytes`.
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        BitWriter { bytes, free: 0 }
    }

    /// Appends the low `bits` bits (0 to 128) of `value`.
    pub(crate) fn write(&mut self, value: u128, bits: u32) {
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
        assert_eq!(bytes, [0b1011_0101, 0b0111_1001, 0b1010_0000]);
    }

    proptest! {
        #[test]
        fn bits_at_any_offset_are_those_of_the_binary_digits(
            from in proptest::collection::vec(any::<u8>(), 0..24),
            mut to in proptest::collection::vec(any::<u8>(), 0..24),
            from_at in 0usize..200,
            to_at in 0usize..200,
            bits in 0usize..=128,
            value: u128,
        ) {
            let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:08b}")).collect::<String>();
            let (source, before) = (digits(&from), digits(&to));
            let wanted = source.get(from_at..from_at + bits);
            prop_assert_eq!(
                read(&from, from_at, bits),
                wanted.map(|digits| u128::from_str_radix(&format!("0{digits}"), 2).unwrap())
            );
            let place = to_at..to_at + bits;
            let mut after = before.clone();
            let fits = wanted.is_some() && before.get(place.clone()).is_some();
            if fits {
                after.replace_range(place.clone(), wanted.unwrap());
            }
            prop_assert_eq!(copy(&from, from_at, &mut to, to_at, bits).is_some(), fits);
            prop_assert_eq!(digits(&to), after.clone());
            if write(&mut to, to_at, bits, value).is_some() {
                after.replace_range(place, &format!("{value:0128b}")[128 - bits..]);
            }
            prop_assert_eq!(digits(&to), after);
        }

        #[test]
        fn what_was_written_is_read(fields in proptest::collection::vec((any::<u128>(), 0u32..=128), 0..20)) {
            let mut bytes = vec![];
            let mut writer = BitWriter::new(&mut bytes);
            for (value, bits) in &fields {
                writer.write(*value, *bits);
            }
            let total: usize = fields.iter().map(|(_, bits)| *bits as usize).sum();
            prop_assert_eq!(bytes.len(), total.div_ceil(8));
            let mut at = 0;
            for (value, bits) in &fields {
                let mask = if *bits == 128 { u128::MAX } else { (1 << bits) - 1 };
                prop_assert_eq!(read(&bytes, at, *bits as usize), Some(value & mask));
                at += *bits as usize;
            }
            let padding = bytes.len() * 8 - total;
            prop_assert_eq!(read(&bytes, at, padding), Some(0));
        }
    }
}
