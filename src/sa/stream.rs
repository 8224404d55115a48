//! What is known of one stream of packets: the numbers seen and how the sender makes its IVs.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Packets of a stream whose numbers and digests are kept.
const REMEMBERED: usize = 4096;

/// State of the packets of one SA (of one source of it, where the destination is a multicast address).
#[derive(Debug, Default)]
pub struct Stream {
    /// The highest Sequence Number that verified.
    pub highest: Option<u64>,
    /// Explicit IV xor Sequence Number of the last verified packet, for 8-byte IVs.
    pub iv_mask: Option<u64>,
    /// What the packets before left for the next one to be restored.
    pub codec: crate::codec::State,
    /// Packets that failed since the last that verified.
    pub failed_in_row: u32,
    recent: HashMap<u64, Seen, BuildHasherDefault<NumberHasher>>,
    order: VecDeque<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    digest: u64,
    frame: u64,
}

/// How a verified packet relates to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// The number was not seen among the packets remembered.
    New,
    /// The same ESP payload was in this frame.
    Duplicate(u64),
    /// The number was seen with another ESP payload.
    Replayed,
}

impl Stream {
    /// Notes a verified packet. `first_iv` are the 8 bytes of an explicit IV.
    pub fn verified(&mut self, sn: u64, explicit_iv: Option<u64>, payload: &[u8], frame: u64) -> Novelty {
        self.highest = Some(self.highest.map_or(sn, |highest| highest.max(sn)));
        self.iv_mask = explicit_iv.map(|iv| iv ^ sn);
        self.failed_in_row = 0;
        let digest = digest(payload);
        match self.recent.get(&sn) {
            Some(seen) if seen.digest == digest => Novelty::Duplicate(seen.frame),
            Some(_) => Novelty::Replayed,
            None => {
                if self.order.len() == REMEMBERED
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.recent.remove(&oldest);
                }
                self.order.push_back(sn);
                self.recent.insert(sn, Seen { digest, frame });
                Novelty::New
            }
        }
    }

    /// Notes a packet for which no number verified.
    pub fn failed(&mut self) {
        self.failed_in_row = self.failed_in_row.saturating_add(1);
    }
}

/// Tells payloads apart that carry the same number under the same key. Not a cryptographic digest: what it compares
/// has verified already.
fn digest(payload: &[u8]) -> u64 {
    let mut state = payload.len() as u64;
    let mut chunks = payload.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        state = mix(state ^ word);
    }
    let tail = chunks.remainder().iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
    mix(state ^ tail)
}

fn mix(word: u64) -> u64 {
    let wide = u128::from(word ^ 0xf39c_c060_5ced_c835) * 0x9e37_79b9_7f4a_7c15;
    (wide >> 64) as u64 ^ wide as u64
}

/// Sequence Numbers need no keyed hash: only verified ones get here.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| mix(hash ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_told_from_replays_for_4096_packets() {
        let mut stream = Stream::default();
        assert_eq!(stream.verified(1, None, b"a", 10), Novelty::New);
        assert_eq!(stream.verified(1, None, b"a", 11), Novelty::Duplicate(10));
        assert_eq!(stream.verified(1, None, b"b", 12), Novelty::Replayed);
        for sn in 2..=4096 {
            assert_eq!(stream.verified(sn, None, b"c", sn + 20), Novelty::New);
        }
        assert_eq!(stream.verified(1, None, b"a", 9000), Novelty::Duplicate(10));
        assert_eq!(stream.verified(4097, None, b"d", 9001), Novelty::New);
        assert_eq!(stream.verified(1, None, b"a", 9002), Novelty::New, "forgotten after 4096 others");
        assert_eq!(stream.highest, Some(4097));
    }

    #[test]
    fn the_mask_is_that_of_the_last_packet() {
        let mut stream = Stream::default();
        stream.verified(5, Some(5 ^ 0xfeed), b"a", 1);
        assert_eq!(stream.iv_mask, Some(0xfeed));
        stream.verified(6, Some(6 ^ 0xbeef), b"b", 2);
        assert_eq!(stream.iv_mask, Some(0xbeef));
    }

    #[test]
    fn digests_see_every_byte_and_the_length() {
        let payload = [0u8; 37];
        for at in 0..payload.len() {
            let mut other = payload;
            other[at] = 1;
            assert_ne!(digest(&payload), digest(&other), "byte {at}");
        }
        assert_ne!(digest(&payload), digest(&payload[..36]));
    }
}
