//! The state of one stream of packets: the numbers received, and how the sender generates its IVs.

use super::runs::{Runs, runs_kept};
use crate::hash::mix;
use crate::prefetch;

/// Number of packets of a stream whose numbers and digests are kept.
const REMEMBERED: usize = 4096;

/// The state from which the search for the next sequence number starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The highest verified sequence number.
    pub highest: Option<u64>,
    /// Its capture time in nanoseconds since 1970, or [`NO_TIME`](crate::capture::NO_TIME).
    pub time_ns: i64,
    /// The explicit IV XOR the sequence number of the last verified packet, for 8-byte IVs.
    pub iv_mask: Option<u64>,
    /// Packets that failed since the last verified one.
    pub failed_in_row: u32,
}

impl Progress {
    /// Records a verified packet. `explicit_iv` is the 8 bytes of its explicit IV.
    pub fn verified(&mut self, sn: u64, explicit_iv: Option<u64>, time_ns: i64) {
        // A repeat of the highest number arrives late, so it does not show the sender's clock.
        if self.highest.is_none_or(|highest| sn > highest) {
            self.highest = Some(sn);
            self.time_ns = time_ns;
        }
        self.iv_mask = explicit_iv.map(|iv| iv ^ sn);
        self.failed_in_row = 0;
    }

    /// Records a packet for which no number verified.
    pub fn failed(&mut self) {
        self.failed_in_row = self.failed_in_row.saturating_add(1);
    }
}

/// Counts of a stream, for output.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Verified packets, including repeats.
    pub verified: u64,
    /// Decryption attempts for the verified packets.
    pub tries: u64,
    /// Verified sequence numbers.
    pub numbers: Runs,
    /// Boxed because few streams have anomalies, and each stream should be small.
    anomalies: Option<Box<Anomalies>>,
}

/// Counts of failures, repeats and reordering.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anomalies {
    /// Failed packets with this SA as their only candidate.
    pub failed: u64,
    /// Decryption attempts for these packets, over all sequence numbers.
    pub failed_tries: u64,
    /// Packets that repeat a number and its payload.
    pub duplicates: u64,
    /// Packets that repeat a number with another payload.
    pub replays: u64,
    /// Largest distance of a late packet from the highest number.
    pub reorder_depth: u64,
    /// Packets whose number was only found by the wider search.
    pub resyncs: u64,
}

impl Counts {
    /// Whether every packet verified and had the next sequence number.
    pub fn are_regular(&self) -> bool {
        self.anomalies.is_none() && self.numbers.others.is_none()
    }

    /// Counts of failures, repeats and reordering.
    pub fn anomalies(&self) -> Anomalies {
        self.anomalies.as_deref().copied().unwrap_or_default()
    }

    /// The counts of anomalies, to be increased.
    pub fn anomalies_mut(&mut self) -> &mut Anomalies {
        self.anomalies.get_or_insert_default()
    }
}

/// State of the packets of one SA. If the destination is a multicast address, each source has its own state.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Stream {
    /// Where the search for the next number starts.
    pub progress: Progress,
    /// The codec state for restoring the next packet.
    pub codec: crate::codec::State,
    /// Counts.
    pub counts: Counts,
    /// The recent packets, a ring buffer of [`Seen`]; free slots are 0.
    recent: Box<[u128]>,
    /// The slot for the next packet.
    next: u32,
}

/// A recent packet. It is packed into one integer, because with many streams every cache line is fetched from main
/// memory.
///
/// ```text
/// Sequence Number, low half (32 bits) | digest (48) | frame (48)
/// ```
#[derive(Debug, Clone, Copy)]
struct Seen(u128);

impl Seen {
    const MASK: u64 = u64::MAX >> 16;

    /// Frames are counted from 1.
    fn new(sn: u64, digest: u64, frame: u64) -> Seen {
        Seen(u128::from(sn as u32) << 96 | u128::from(Self::short(digest)) << 48 | u128::from(frame & Self::MASK))
    }

    fn frame(self) -> u64 {
        self.0 as u64 & Self::MASK
    }

    fn has_number(self, sn: u64) -> bool {
        (self.0 >> 96) as u32 == sn as u32
    }

    fn has_digest(self, digest: u64) -> bool {
        (self.0 >> 48) as u64 & Self::MASK == Self::short(digest)
    }

    fn short(digest: u64) -> u64 {
        (digest ^ digest >> 48) & Self::MASK
    }
}

/// The result of the replay check for a verified packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayCheck {
    /// The number is not among the recent packets.
    New,
    /// The same ESP payload was in this frame.
    Duplicate(u64),
    /// The number was seen with another ESP payload.
    Replayed,
}

impl Stream {
    /// Prefetches the state.
    #[inline]
    pub fn prefetch(&self) {
        prefetch::whole(self, &self.next);
    }

    /// Prefetches the slot of the next packet.
    #[inline]
    pub fn prefetch_recent(&self) {
        prefetch::element(&self.recent, self.next as usize);
    }

    /// Records a verified packet. `explicit_iv` is the 8 bytes of its explicit IV, `digest` is the digest of its
    /// ESP payload, and `streams` is the number of all streams: see [`runs_kept`].
    pub fn verified(
        &mut self,
        sn: u64,
        explicit_iv: Option<u64>,
        time_ns: i64,
        (digest, frame): (u64, u64),
        streams: usize,
    ) -> ReplayCheck {
        let late = self.progress.highest.map_or(0, |highest| highest.saturating_sub(sn));
        self.progress.verified(sn, explicit_iv, time_ns);
        self.counts.verified += 1;
        let is_new = self.counts.numbers.add(sn, || runs_kept(streams));
        let check = if is_new { ReplayCheck::New } else { self.repeat(sn, digest) };
        if check == ReplayCheck::New {
            self.remember(Seen::new(sn, digest, frame));
        }
        match check {
            // Outside the replay window, so not counted as reordering.
            ReplayCheck::New if !is_new || late == 0 => {}
            ReplayCheck::New => {
                let depth = &mut self.counts.anomalies_mut().reorder_depth;
                *depth = late.max(*depth);
            }
            ReplayCheck::Duplicate(_) => self.counts.anomalies_mut().duplicates += 1,
            ReplayCheck::Replayed => self.counts.anomalies_mut().replays += 1,
        }
        check
    }

    /// Checks a packet whose number was seen before against the recent packets. The newest are checked first,
    /// because most repeats follow soon.
    fn repeat(&self, sn: u64, digest: u64) -> ReplayCheck {
        let (newer, older) = self.recent.split_at_checked(self.next as usize).unwrap_or_default();
        let seen = newer.iter().rev().chain(older.iter().rev()).map(|seen| Seen(*seen));
        let mut same_number = seen.filter(|seen| seen.frame() != 0 && seen.has_number(sn)).peekable();
        match same_number.peek() {
            None => ReplayCheck::New,
            // Two extended sequence numbers can have the same low half.
            Some(_) => match same_number.find(|seen| seen.has_digest(digest)) {
                Some(seen) => ReplayCheck::Duplicate(seen.frame()),
                None => ReplayCheck::Replayed,
            },
        }
    }

    fn remember(&mut self, seen: Seen) {
        /// Initial size of the ring.
        const ROOM: usize = 12;
        /// Growth factor when it is full.
        const TIMES: usize = 3;
        // A ring below its maximum size has not wrapped, so its packets are in order and can be copied.
        if self.next as usize == self.recent.len() && self.recent.len() < REMEMBERED {
            let room = (self.recent.len() * TIMES).clamp(ROOM, REMEMBERED);
            let mut larger = vec![0; room].into_boxed_slice();
            larger.iter_mut().zip(&self.recent).for_each(|(to, from)| *to = *from);
            self.recent = larger;
        }
        if let Some(place) = self.recent.get_mut(self.next as usize) {
            *place = seen.0;
        }
        self.next += 1;
        if self.next as usize == REMEMBERED {
            self.next = 0;
        }
    }
}

/// A digest that distinguishes ESP payloads with the same number and key. If the ICV verified, its last 8 bytes are
/// the digest. Otherwise all bytes are hashed, but not cryptographically.
#[inline]
pub(crate) fn digest(payload: &[u8], icv_verified: bool) -> u64 {
    match payload.last_chunk() {
        Some(end) if icv_verified => u64::from_ne_bytes(*end),
        _ => digest_of_all(payload),
    }
}

fn digest_of_all(payload: &[u8]) -> u64 {
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    // Four independent chains, because one chain would wait for each multiplication.
    let mut lanes = [1, 2, 3, 4].map(|lane| payload.len() as u64 ^ lane << 32);
    let (stretches, rest) = payload.as_chunks::<32>();
    for stretch in stretches {
        for (lane, bytes) in lanes.iter_mut().zip(stretch.as_chunks().0) {
            *lane = mix(*lane ^ word(bytes));
        }
    }
    let (words, tail) = rest.as_chunks();
    for (lane, bytes) in lanes.iter_mut().zip(words) {
        *lane = mix(*lane ^ word(bytes));
    }
    let tail = tail.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
    lanes.into_iter().fold(mix(tail), |state, lane| mix(state ^ lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_replays_are_distinguished_for_4096_packets() {
        let mut stream = Stream::default();
        assert_eq!(stream.verified(1, None, 0, (digest(b"a", false), 10), 1), ReplayCheck::New);
        assert_eq!(stream.verified(1, None, 0, (digest(b"a", false), 11), 1), ReplayCheck::Duplicate(10));
        assert_eq!(stream.verified(1, None, 0, (digest(b"b", false), 12), 1), ReplayCheck::Replayed);
        for sn in 2..=4096 {
            assert_eq!(stream.verified(sn, None, 0, (digest(b"c", false), sn + 20), 1), ReplayCheck::New);
        }
        assert_eq!(stream.verified(1, None, 0, (digest(b"a", false), 9000), 1), ReplayCheck::Duplicate(10));
        assert_eq!(stream.verified(4097, None, 0, (digest(b"d", false), 9001), 1), ReplayCheck::New);
        assert_eq!(
            stream.verified(1, None, 0, (digest(b"a", false), 9002), 1),
            ReplayCheck::New,
            "forgotten after 4096 others"
        );
        assert_eq!(stream.progress.highest, Some(4097));
    }

    #[test]
    fn recent_packets_keep_their_digest_and_frame() {
        for count in [1, 4, 5, 16, 17, 4095, 4096, 4097, 6000] {
            let mut stream = Stream::default();
            (1..=count).for_each(|sn| _ = stream.verified(sn, None, 0, (sn * 7, sn * 3), 1));
            for sn in count.saturating_sub(4095).max(1)..=count {
                assert_eq!(
                    stream.verified(sn, None, 0, (sn * 7, 0), 1),
                    ReplayCheck::Duplicate(sn * 3),
                    "{sn} of {count}"
                );
            }
        }
    }

    #[test]
    fn the_mask_is_that_of_the_last_packet() {
        let mut stream = Stream::default();
        stream.verified(5, Some(5 ^ 0xfeed), 0, (digest(b"a", false), 1), 1);
        assert_eq!(stream.progress.iv_mask, Some(0xfeed));
        stream.verified(6, Some(6 ^ 0xbeef), 0, (digest(b"b", false), 2), 1);
        assert_eq!(stream.progress.iv_mask, Some(0xbeef));
    }

    #[test]
    fn the_memory_of_a_stream_is_bounded() {
        let kept = |streams| {
            let mut stream = Stream::default();
            (0..10_000).for_each(|sn| _ = stream.verified(sn * 2, None, 0, (sn, sn), streams));
            (stream.recent.len(), stream.counts.numbers.iter().count())
        };
        assert_eq!(kept(1), (4096, 4097));
        assert_eq!(kept(1000), (4096, 263));
        assert_eq!(kept(1 << 30), (4096, 17));
        assert_eq!(runs_kept(64), runs_kept(0));
    }

    #[test]
    fn an_old_repeat_is_not_a_late_packet() {
        let mut stream = Stream::default();
        (1..=5000).for_each(|sn| _ = stream.verified(sn, None, 0, (sn, sn), 1));
        stream.verified(1, None, 0, (1, 5001), 1);
        assert_eq!(stream.counts.anomalies().reorder_depth, 0);
        stream.verified(6000, None, 0, (6000, 5002), 1);
        stream.verified(5990, None, 0, (5990, 5003), 1);
        assert_eq!(stream.counts.anomalies().reorder_depth, 10);
    }

    #[test]
    fn a_repeat_of_the_highest_number_does_not_move_the_clock() {
        let mut stream = Stream::default();
        stream.verified(7, None, 1000, (7, 1), 1);
        stream.verified(7, None, 9000, (7, 2), 1);
        assert_eq!((stream.progress.highest, stream.progress.time_ns), (Some(7), 1000));
    }

    #[test]
    fn verified_payloads_are_distinguished_by_their_icv() {
        let payload: Vec<u8> = (0..40).collect();
        let mut other = payload.clone();
        other[39] ^= 1;
        assert_ne!(digest(&payload, true), digest(&other, true));
        assert_eq!(digest(&payload, true), digest(&payload.clone(), true));
    }

    #[test]
    fn digests_depend_on_every_byte_and_the_length() {
        let payload = [0u8; 37];
        for at in 0..payload.len() {
            let mut other = payload;
            other[at] = 1;
            assert_ne!(digest(&payload, false), digest(&other, false), "byte {at}");
        }
        assert_ne!(digest(&payload, false), digest(&payload[..36], false));
    }
}
