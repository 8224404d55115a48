//! The SA that the last packet of each flow belonged to.

use crate::hash::mix;
use crate::net::{OuterHeader, address_value};

use super::buckets::hash;

/// Up to this many SAs with the same SPI bits are tried without using hints.
pub(super) const FEW: usize = 1;
/// Number of flows in the cache. A collision costs only one more decryption attempt.
const HINTS: usize = 4096;

/// The SA that the last packet of each flow belonged to. Used if many SAs share the same SPI bits.
#[derive(Debug, Clone, Default)]
pub struct Hints(Vec<(u64, u32)>);

impl Hints {
    pub(super) fn of(&self, key: u64) -> Option<u32> {
        self.0.get(key as usize % HINTS).filter(|(own, _)| *own == key).map(|(_, sa)| *sa)
    }

    pub(super) fn set(&mut self, key: u64, sa: u32) {
        if self.0.is_empty() {
            self.0.resize(HINTS, (0, 0));
        }
        if let Some(place) = self.0.get_mut(key as usize % HINTS) {
            *place = (key, sa);
        }
    }
}

pub(super) fn hint_key(group: usize, low: u32, outer: &OuterHeader) -> u64 {
    let addresses = hash([outer.src, outer.dst].map(address_value));
    let group = (group as u64) << 32 | u64::from(low);
    // 0 marks a free slot.
    mix(mix(group) ^ addresses) | 1 << 63
}
