//! Sealing without ever using a nonce twice (wire format §7).
//!
//! A nonce that meets two plaintexts under one key gives both away, and with counter modes the integrity key too. So
//! every explicit IV issued here is unique per key, and differs from all that the capture shows under that key.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::Error;
use crate::suite::{Keys, Random};

/// IVs of one key: those seen in the capture and those issued.
#[derive(Debug, Default)]
struct Ivs {
    seen: HashSet<u64>,
    /// First issued, and the next to issue; all between are taken.
    first: u64,
    next: u64,
}

impl Ivs {
    fn was_issued(&self, iv: u64) -> bool {
        iv.wrapping_sub(self.first) < self.next.wrapping_sub(self.first)
    }
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
        if ivs.was_issued(iv) && !ivs.seen.contains(&iv) {
            return Err(Error::usage(
                "an IV that was chosen for a rebuilt packet turned up later in the capture",
                "run the command again: the IVs start from another random number each time",
            ));
        }
        ivs.seen.insert(iv);
        Ok(())
    }

    /// The next IV to seal with under `keys`.
    pub fn issue(&mut self, keys: &Keys) -> Result<u64, Error> {
        let ivs = self.ivs(keys)?;
        loop {
            let iv = ivs.next;
            ivs.next = iv.wrapping_add(1);
            if !ivs.seen.contains(&iv) {
                return Ok(iv);
            }
        }
    }

    fn ivs(&mut self, keys: &Keys) -> Result<&mut Ivs, Error> {
        use std::collections::hash_map::Entry;
        match self.by_key.entry(keys.fingerprint()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let start = self.random.u64()?;
                Ok(entry.insert(Ivs { seen: HashSet::new(), first: start, next: start }))
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
}

/// Numbers as runs of consecutive ones: first to last.
type Runs = BTreeMap<u64, u64>;

impl UsedNumbers {
    /// Takes a number for `keys`; false if it was taken before.
    pub fn take(&mut self, keys: &Keys, number: u64) -> bool {
        let runs = self.by_key.entry(keys.fingerprint()).or_default();
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
            assert!(used.take(&keys(1), number), "{number}");
            assert!(!used.take(&keys(1), number), "{number} again");
        }
        assert!(used.take(&keys(2), 5));
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
}
