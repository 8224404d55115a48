//! Sealing without ever using a nonce twice (wire format §7).
//!
//! A nonce that meets two plaintexts under one key gives both away, and with counter modes the integrity key too. So
//! every explicit IV issued here is unique per key, and differs from all that the capture shows under that key.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::error::Error;
use crate::suite::{Keys, Random};

/// IVs issued under one key, at most.
const MAX_ISSUED: u64 = 1 << 48;

/// IVs of one key: those seen in the capture and those issued. All are counted from the first that was issued; what is
/// [`MAX_ISSUED`] or more away from it is never issued and need not be kept.
#[derive(Debug, Default)]
struct Ivs {
    first: u64,
    seen: Runs,
    /// The next to issue; all before it are taken.
    next: u64,
}

/// Issues explicit IVs, for keys that are also used by the sender of the capture.
#[derive(Debug)]
pub struct IvIssuer {
    by_key: HashMap<[u8; 32], Ivs>,
    random: Random,
}

impl IvIssuer {
    /// No key known yet.
    pub fn new(random: Random) -> IvIssuer {
        IvIssuer { by_key: HashMap::new(), random }
    }

    /// Notes an IV (or an implicit one) that the capture shows under `keys`. If this IV was issued before, which has
    /// odds of about packets squared in 2^64, the output cannot be used and the error says so.
    pub fn seen(&mut self, keys: &Keys, iv: u64) -> Result<(), Error> {
        let ivs = self.ivs(keys)?;
        let iv = iv.wrapping_sub(ivs.first);
        if iv >= MAX_ISSUED {
            return Ok(());
        }
        if !insert(&mut ivs.seen, iv) {
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

    /// The next IV to seal with under `keys`.
    pub fn issue(&mut self, keys: &Keys) -> Result<u64, Error> {
        let ivs = self.ivs(keys)?;
        if let Some((_, last)) = ivs.seen.range(..=ivs.next).next_back().filter(|(_, last)| **last >= ivs.next) {
            ivs.next = last + 1;
        }
        if ivs.next >= MAX_ISSUED {
            return Err(Error::usage("the IVs of a key are used up", "give the output keys of its own"));
        }
        let iv = ivs.first.wrapping_add(ivs.next);
        ivs.next += 1;
        Ok(iv)
    }

    fn ivs(&mut self, keys: &Keys) -> Result<&mut Ivs, Error> {
        use std::collections::hash_map::Entry;
        match self.by_key.entry(keys.fingerprint()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let start = self.random.u64()?;
                Ok(entry.insert(Ivs { first: start, ..Ivs::default() }))
            }
        }
    }
}

/// An SA of the output with the keys that open it.
#[derive(Debug)]
pub struct UsedKeys {
    /// Name of the SA.
    pub name: String,
    /// Its SPI.
    pub spi: Option<u32>,
    /// Outer source addresses.
    pub src: crate::sa::Selector,
    /// Outer destination addresses.
    pub dst: crate::sa::Selector,
    /// The keys.
    pub keys: Keys,
    /// Extended Sequence Numbers.
    pub esn: bool,
}

/// Nonces used, by key, where they are made of Sequence Numbers.
#[derive(Debug, Default)]
pub struct UsedNumbers {
    by_key: HashMap<[u8; 32], Runs>,
    /// What the last packets were, by key and number, oldest first in `order`.
    recent: HashMap<([u8; 32], u64), u64>,
    order: VecDeque<([u8; 32], u64)>,
    hasher: RandomState,
}

/// Numbers as runs of consecutive ones: first to last.
type Runs = BTreeMap<u64, u64>;

impl UsedNumbers {
    /// Takes a number for `keys`; false if it was taken before, or may have been: of a stream with very many holes the
    /// lowest count as taken. It may be taken again for the very same `packet`, SPI and clear text, as long as that is among
    /// the last [`REMEMBERED`].
    pub fn take(&mut self, keys: &Keys, number: u64, packet: Option<(u32, &[u8])>) -> bool {
        let key = keys.fingerprint();
        let packet = packet.map(|packet| self.hasher.hash_one(packet));
        let runs = self.by_key.entry(key).or_default();
        if !insert(runs, number) {
            return packet.is_some() && self.recent.get(&(key, number)) == packet.as_ref();
        }
        if runs.len() > MAX_RUNS
            && let Some((first, _)) = runs.pop_first()
            && let Some((_, last)) = runs.pop_first()
        {
            runs.insert(first, last);
        }
        let Some(packet) = packet else { return true };
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
        self.order.push_back((key, number));
        self.recent.insert((key, number), packet);
        true
    }
}

/// Runs of numbers kept for a key.
const MAX_RUNS: usize = 4096;
/// Packets remembered of which a repeat may be sealed again.
const REMEMBERED: usize = 1 << 14;

/// Adds a number; false if it was there.
fn insert(runs: &mut Runs, number: u64) -> bool {
    let before = runs.range(..=number).next_back().map(|(first, last)| (*first, *last));
    if before.is_some_and(|(_, last)| last >= number) {
        return false;
    }
    let first = match before {
        Some((first, last)) if last + 1 == number => first,
        _ => number,
    };
    let last = number.checked_add(1).and_then(|next| runs.remove(&next)).unwrap_or(number);
    runs.insert(first, last);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::suite::{IntegKey, Suite};

    fn keys(byte: u8) -> Keys {
        let suite = Suite::by_name("ENCR_AES_CCM_8").unwrap();
        Keys::new(suite, Secret::new(vec![byte; 16]), Secret::new(vec![byte; 3]), IntegKey::Missing).unwrap()
    }

    #[test]
    fn a_number_is_taken_once_per_key() {
        let mut used = UsedNumbers::default();
        for number in [5, 7, 6, 1, 0, u64::MAX, u64::MAX - 1] {
            assert!(used.take(&keys(1), number, Some((9, b"one".as_slice()))), "{number}");
            assert!(!used.take(&keys(1), number, Some((9, b"other".as_slice()))), "{number} again");
            assert!(!used.take(&keys(1), number, Some((8, b"one".as_slice()))), "{number} of another SA");
            assert!(used.take(&keys(1), number, Some((9, b"one".as_slice()))), "{number}, the same packet");
        }
        assert!(used.take(&keys(2), 5, Some((9, b"other".as_slice()))));
        assert_eq!(used.by_key[&keys(1).fingerprint()], Runs::from([(0, 1), (5, 7), (u64::MAX - 1, u64::MAX)]));
    }

    #[test]
    fn issued_ivs_avoid_those_seen_and_a_late_collision_is_an_error() {
        let mut issuer = IvIssuer::new(Random::new(Some(1), "iv"));
        let first = issuer.issue(&keys(1)).unwrap();
        issuer.seen(&keys(1), first.wrapping_add(1)).unwrap();
        issuer.seen(&keys(1), first.wrapping_add(1)).unwrap();
        assert_eq!(issuer.issue(&keys(1)).unwrap(), first.wrapping_add(2));
        // What was skipped may come again; what was issued may not.
        issuer.seen(&keys(1), first.wrapping_add(1)).unwrap();
        assert!(issuer.seen(&keys(1), first).is_err());
        assert!(issuer.seen(&keys(1), first.wrapping_add(2)).is_err());
        issuer.seen(&keys(2), first).unwrap();
    }

    #[test]
    fn memory_does_not_grow_with_the_capture() {
        let mut used = UsedNumbers::default();
        let numbers = || (0..100_000u64).map(|index| index * 2);
        assert!(numbers().all(|number| used.take(&keys(1), number, Some((9, b"one".as_slice())))));
        assert!(used.by_key[&keys(1).fingerprint()].len() <= MAX_RUNS);
        assert_eq!((used.recent.len(), used.order.len()), (REMEMBERED, REMEMBERED));
        // Whatever is forgotten, nothing is taken twice; what is recent is known exactly.
        assert!(!numbers().any(|number| used.take(&keys(1), number, Some((9, b"two".as_slice())))));
        assert!(!used.take(&keys(1), 0, Some((9, b"one".as_slice()))));
        assert!(used.take(&keys(1), 199_998, Some((9, b"one".as_slice()))));
        assert!(used.take(&keys(1), 199_997, Some((9, b"one".as_slice()))));
        assert!(!used.take(&keys(1), 1, Some((9, b"one".as_slice()))));

        let mut issuer = IvIssuer::new(Random::new(Some(1), "iv"));
        let mut random = Random::new(Some(2), "senders");
        for _ in 0..100_000 {
            issuer.seen(&keys(1), random.u64().unwrap()).unwrap();
        }
        assert!(issuer.by_key[&keys(1).fingerprint()].seen.len() < 100);
    }
}
