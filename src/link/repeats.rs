//! Recognizes frames that were sent, or captured, more than once.
//!
//! To reach a sleeping neighbor, an 802.15.4 node may repeat a frame dozens of times, until it is acknowledged.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};

use crate::capture::NO_TIME;

/// Most frames that are remembered.
pub(crate) const REPEATS_KEPT: usize = 1024;
/// How long a frame is remembered.
const MAX_AGE_NS: i64 = 16_000_000_000;

/// Remembers the last frames.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Keyed digest of a frame, with its number and time.
    seen: HashMap<u64, (u64, i64)>,
    /// The digests, oldest first.
    order: VecDeque<u64>,
    /// The last frame that was added.
    latest: u64,
    hasher: RandomState,
}

impl Repeats {
    /// The earlier frame that this one repeats. Both have the same `identity`: the MAC frame without FCS, including
    /// addresses and sequence number. A frame that repeats none is remembered.
    pub(super) fn check(&mut self, frame: u64, time_ns: i64, identity: impl Hash) -> Option<u64> {
        let digest = self.hasher.hash_one(identity);
        if let Some((first, time)) = self.seen.get_mut(&digest) {
            let is_undated = time_ns == NO_TIME || *time == NO_TIME;
            if is_undated || time_ns.abs_diff(*time) <= MAX_AGE_NS.unsigned_abs() {
                return Some(*first);
            }
            (*first, *time) = (frame, time_ns);
            self.latest = frame;
            return None;
        }
        if self.order.len() >= REPEATS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(digest, (frame, time_ns));
        self.order.push_back(digest);
        self.latest = frame;
        None
    }

    /// Whether `frame`, the last one that was checked, is remembered.
    pub(super) fn remembers(&self, frame: u64) -> bool {
        self.latest == frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_the_same_frame_soon_after() {
        const SECOND: i64 = 1_000_000_000;
        let mut repeats = Repeats::default();
        assert_eq!(repeats.check(1, 0, b"abc"), None);
        assert_eq!(repeats.check(2, 0, b"abd"), None);
        assert_eq!(repeats.check(3, SECOND, b"abc"), Some(1));
        assert_eq!(repeats.check(4, 16 * SECOND, b"abc"), Some(1));
        assert_eq!(repeats.check(5, 17 * SECOND, b"abc"), None);
        assert_eq!(repeats.check(6, 17 * SECOND, b"abc"), Some(5));
        for frame in 0..REPEATS_KEPT as u64 {
            assert_eq!(repeats.check(7 + frame, 17 * SECOND, frame.to_be_bytes()), None);
        }
        assert_eq!(repeats.check(9999, 17 * SECOND, b"abc"), None, "pushed out by others");
        assert!(repeats.seen.len() <= REPEATS_KEPT && repeats.order.len() == repeats.seen.len());
    }
}
