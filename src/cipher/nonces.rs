//! Nonces that are never used twice with one key (wire format §7).
//!
//! Two plaintexts encrypted with one key and one nonce reveal each other, and in counter modes also the integrity key.
//! Therefore every explicit IV issued here is unique for its key and differs from all IVs of that key in the capture.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::runs::Runs;
use super::{Keys, Random};
use crate::bytes::last_word;
use crate::error::Error;
use crate::hash::mix;

/// Most IVs issued under one key.
const MAX_ISSUED: u64 = 1 << 48;

/// IVs of one key: those seen in the capture and those issued. All are stored relative to the first issued IV. An
/// IV at a distance of [`MAX_ISSUED`] or more is never issued, so it is not stored.
#[derive(Debug, Default)]
struct Ivs {
    first: u64,
    seen: Runs,
    /// The next IV to issue. All before it are used.
    next: u64,
}

/// Identifies a key, or several keys under which a nonce must not be used twice. Valid for one [`KeyIds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(u32);

/// Maps keys to numbers by their fingerprints. A fingerprint is computed once for each SA, not for each packet.
#[derive(Debug, Default)]
pub(crate) struct KeyIds {
    by_fingerprint: HashMap<[u8; 32], KeyId>,
}

impl KeyIds {
    /// The number of `keys`, which is new if they were not seen before.
    pub(crate) fn of(&mut self, keys: &Keys) -> KeyId {
        let next = KeyId(self.by_fingerprint.len() as u32);
        *self.by_fingerprint.entry(keys.fingerprint()).or_insert(next)
    }

    /// The number of `keys`, if they were seen before.
    pub(crate) fn known(&self, keys: &Keys) -> Option<KeyId> {
        self.by_fingerprint.get(&keys.fingerprint()).copied()
    }
}

/// The element of `key`, created if it does not exist.
fn place_of<T: Default>(by_key: &mut Vec<T>, KeyId(index): KeyId) -> &mut T {
    let index = index as usize;
    if by_key.len() <= index {
        by_key.resize_with(index + 1, T::default);
    }
    by_key.get_mut(index).expect("it was made above")
}

/// Issues explicit IVs for keys that the sender of the capture uses, too.
#[derive(Debug)]
pub(crate) struct IvIssuer {
    by_key: Vec<Option<Ivs>>,
    random: Random,
}

impl IvIssuer {
    /// An issuer that has seen no key yet.
    pub(crate) fn new(random: Random) -> IvIssuer {
        IvIssuer { by_key: vec![], random }
    }

    /// Records an explicit or implicit IV that the capture contains under `key`. Returns an error if this IV was
    /// issued before, because the output is then insecure. The probability is about the square of the number of
    /// packets, divided by 2^64.
    pub(crate) fn seen(&mut self, key: KeyId, iv: u64) -> Result<(), Error> {
        let ivs = self.ivs(key)?;
        let iv = iv.wrapping_sub(ivs.first);
        if iv >= MAX_ISSUED {
            return Ok(());
        }
        if !ivs.seen.insert(iv) {
            return Ok(());
        }
        if iv < ivs.next {
            return Err(Error::usage(
                "an IV that was chosen for a rebuilt packet turned up later in the capture",
                "run the command again: the IVs start from another random number each time",
            ));
        }
        Ok(())
    }

    /// The next unused IV for `key`.
    pub(crate) fn issue(&mut self, key: KeyId) -> Result<u64, Error> {
        let ivs = self.ivs(key)?;
        if let Some(last) = ivs.seen.end_of_run_with(ivs.next) {
            ivs.next = last + 1;
        }
        if ivs.next >= MAX_ISSUED {
            return Err(Error::usage("the IVs of a key are used up", "give the output keys of its own"));
        }
        let iv = ivs.first.wrapping_add(ivs.next);
        ivs.next += 1;
        Ok(iv)
    }

    fn ivs(&mut self, key: KeyId) -> Result<&mut Ivs, Error> {
        let IvIssuer { by_key, random } = self;
        match place_of(by_key, key) {
            Some(ivs) => Ok(ivs),
            place => Ok(place.insert(Ivs { first: random.u64()?, ..Ivs::default() })),
        }
    }
}

/// Sequence numbers that were used as nonces, by key.
#[derive(Debug, Default)]
pub(crate) struct UsedNumbers {
    by_key: Vec<Runs>,
    /// Key, number and digest of recent packets, at an index computed from key and number.
    recent: Vec<Option<(KeyId, u64, u64)>>,
}

/// Distinguishes packets with the same key and number by a 64-bit digest under secret random keys. Two different
/// packets have the same digest with a probability of 2^-64.
#[derive(Clone)]
pub(crate) struct Digester {
    /// One key for each word of a text of up to [`LONG`] bytes.
    keys: Arc<[u128]>,
    of_long: RandomState,
}

/// Longer texts are rare and are digested with SipHash.
const LONG: usize = 2048;

impl Default for Digester {
    fn default() -> Digester {
        let random = RandomState::new();
        let key = |index| u128::from(random.hash_one((index, 0))) << 64 | u128::from(random.hash_one((index, 1)));
        // The first two words are the length of the text and the SA.
        Digester { keys: (0..LONG / 8 + 2).map(key).collect(), of_long: RandomState::new() }
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// The digest of a clear text and the SA of the output: the upper half of the sum of all words times their
    /// keys. This is strongly universal (Lemire and Kaser, "Strongly Universal String Hashing is Fast", 2014,
    /// section 3).
    pub(crate) fn of(&self, sa: u32, clear: &[u8]) -> u64 {
        let Some((first_key, keys)) = self.keys.split_first().filter(|_| clear.len() <= LONG) else {
            return self.of_long.hash_one((sa, clear));
        };
        let add = |sum: u128, (key, word): (&u128, u64)| sum.wrapping_add(key.wrapping_mul(u128::from(word)));
        let words = clear.as_chunks::<8>().0;
        let sum = first_key.wrapping_mul((clear.len() as u128) << 32 | u128::from(sa));
        let sum = keys.iter().zip(words.iter().map(|word| u64::from_be_bytes(*word))).fold(sum, add);
        // The last word is padded with zeros. The length of the text is part of the sum, so padding is not
        // ambiguous.
        let sum = keys.get(words.len()).map_or(sum, |key| add(sum, (key, last_word(clear))));
        (sum >> 64) as u64
    }
}

impl UsedNumbers {
    /// Marks a number as used for `key`. Returns false if it was used before, or may have been: if a stream has too
    /// many gaps, the lowest ones are filled. An identical `packet` (by its [`Digester`]) may use its number again
    /// while it is remembered. With one key, these are the last `REMEMBERED` numbers. With several keys, an entry
    /// may be overwritten earlier.
    pub(crate) fn take(&mut self, key: KeyId, number: u64, packet: Option<u64>) -> bool {
        let runs = place_of(&mut self.by_key, key);
        let is_new = runs.insert(number);
        runs.limit(MAX_RUNS);
        let Some(packet) = packet else { return is_new };
        if self.recent.is_empty() {
            self.recent.resize(REMEMBERED, None);
        }
        // Consecutive numbers have consecutive entries.
        let at = mix(u64::from(key.0)).wrapping_add(number) % REMEMBERED as u64;
        let Some(place) = self.recent.get_mut(at as usize) else { return is_new };
        if is_new {
            *place = Some((key, number, packet));
        }
        is_new || *place == Some((key, number, packet))
    }
}

/// Most runs of numbers kept for one key.
const MAX_RUNS: usize = 4096;
/// Most numbers whose packet may be sealed again.
const REMEMBERED: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::{IntegKey, Suite};
    use crate::secret::Secret;

    fn keys(byte: u8) -> Keys {
        let suite = Suite::by_name("ENCR_AES_CCM_8").unwrap();
        Keys::new(suite, Secret::new(vec![byte; 16]), Secret::new(vec![byte; 3]), IntegKey::Missing).unwrap()
    }

    fn ids() -> [KeyId; 2] {
        let mut ids = KeyIds::default();
        let [one, two] = [1, 2].map(|byte| ids.of(&keys(byte)));
        assert_ne!(one, two);
        assert_eq!([1, 3].map(|byte| ids.known(&keys(byte))), [Some(one), None]);
        assert_eq!([1, 2].map(|byte| ids.of(&keys(byte))), [one, two], "of their bytes, wherever these are kept");
        [one, two]
    }

    #[test]
    fn a_number_is_used_once_per_key() {
        let [one, two] = ids();
        let digester = Digester::default();
        let packet = |sa, clear: &[u8]| Some(digester.of(sa, clear));
        let mut used = UsedNumbers::default();
        for number in [5, 7, 6, 1, 0, u64::MAX, u64::MAX - 1] {
            assert!(used.take(one, number, packet(9, b"one")), "{number}");
            assert!(!used.take(one, number, packet(9, b"other")), "{number} again");
            assert!(!used.take(one, number, packet(8, b"one")), "{number} of another SA");
            assert!(used.take(one, number, packet(9, b"one")), "{number}, the same packet");
        }
        assert!(used.take(two, 5, packet(9, b"other")));
        let runs: Vec<_> = used.by_key[one.0 as usize].iter().collect();
        assert_eq!(runs, [(0, 1), (5, 7), (u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn different_texts_have_different_digests() {
        let digester = Digester::default();
        let mut digests: Vec<u64> = (0..LONG + 20).map(|len| digester.of(9, &vec![0; len])).collect();
        for len in [1, 7, 8, 9, 15, 16, 70, LONG, LONG + 1] {
            for at in 0..len {
                let mut clear = vec![0; len];
                clear[at] = 0x80;
                digests.push(digester.of(9, &clear));
                assert_eq!(digester.clone().of(9, &clear), digester.of(9, &clear));
            }
            digests.push(digester.of(8, &vec![0; len]));
        }
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
        assert_ne!(digester.of(9, b"text"), Digester::default().of(9, b"text"), "under other keys");
    }

    #[test]
    fn issued_ivs_avoid_those_seen_and_a_late_collision_is_an_error() {
        let [one, two] = ids();
        let mut issuer = IvIssuer::new(Random::new(Some(1), "iv"));
        let first = issuer.issue(one).unwrap();
        issuer.seen(one, first.wrapping_add(1)).unwrap();
        issuer.seen(one, first.wrapping_add(1)).unwrap();
        assert_eq!(issuer.issue(one).unwrap(), first.wrapping_add(2));
        // Skipped IVs may still appear in the capture; issued ones may not.
        issuer.seen(one, first.wrapping_add(1)).unwrap();
        assert!(issuer.seen(one, first).is_err());
        assert!(issuer.seen(one, first.wrapping_add(2)).is_err());
        issuer.seen(two, first).unwrap();
    }

    #[test]
    fn memory_does_not_grow_with_the_capture() {
        let [one, _] = ids();
        let digester = Digester::default();
        let packet = |sa, clear: &[u8]| Some(digester.of(sa, clear));
        let mut used = UsedNumbers::default();
        let numbers = || (0..100_000u64).map(|index| index * 2);
        assert!(numbers().all(|number| used.take(one, number, packet(9, b"one"))));
        assert!(used.by_key[one.0 as usize].iter().count() <= MAX_RUNS);
        assert_eq!(used.recent.len(), REMEMBERED);
        // Even after entries are forgotten, no number is used twice, and recent numbers are known exactly.
        assert!(!numbers().any(|number| used.take(one, number, packet(9, b"two"))));
        assert!(!used.take(one, 0, packet(9, b"one")));
        assert!(used.take(one, 199_998, packet(9, b"one")));
        assert!(used.take(one, 199_997, packet(9, b"one")));
        assert!(!used.take(one, 1, packet(9, b"one")));

        let mut issuer = IvIssuer::new(Random::new(Some(1), "iv"));
        let mut random = Random::new(Some(2), "senders");
        for _ in 0..100_000 {
            issuer.seen(one, random.u64().unwrap()).unwrap();
        }
        assert!(issuer.by_key[one.0 as usize].as_ref().unwrap().seen.iter().count() < 100);
    }
}
