//! Reassembly of 6LoWPAN fragments (RFC 4944 §5.3), in any order, with repeats and overlaps. The first copy of a
//! byte wins.
//!
//! The bytes of a complete packet are kept for a while. If a later fragment has the same bytes, it is a repeat.
//! Otherwise it starts a new packet that reuses the tag.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::iphc::ElidedFields;
use crate::capture::deadline;
use crate::error::{Fault, Stage};
use crate::net::LinkAddresses;

/// Most packets that are reassembled at the same time.
const MAX_SLOTS: usize = 1024;
/// Most frames of one packet: all 256 fragments that a packet can have, twice.
const MAX_FRAMES: usize = 512;
/// How long fragments wait for the rest (RFC 4944 §5.3).
const TIMEOUT_NS: i64 = 60_000_000_000;

/// The values that all fragments of one packet share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub link: LinkAddresses,
    pub size: u16,
    pub tag: u16,
}

/// One fragment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub frame: u64,
    pub time_ns: i64,
    /// Offset in the IPv6 packet, in bytes.
    pub offset: usize,
    /// The bytes at this offset, with headers decompressed.
    pub bytes: &'a [u8],
    /// Only for the first fragment: header fields that still have to be filled in.
    pub elided: Option<&'a ElidedFields>,
}

#[derive(Debug, Default)]
pub(super) struct Fragments {
    slots: HashMap<Key, Slot>,
    /// The keys of `slots`, oldest first.
    order: VecDeque<Key>,
}

#[derive(Debug, Default)]
struct Slot {
    deadline: i64,
    /// The packet, in its final length.
    data: Vec<u8>,
    /// Which bytes of `data` have arrived; at most 2047.
    there: [u64; 32],
    /// How many of them have arrived.
    held: usize,
    /// Start and end of each fragment.
    pieces: Vec<(usize, usize)>,
    frames: Vec<u64>,
    has_first: bool,
    elided: ElidedFields,
    /// `data` belongs to a complete packet, and all fragments since then repeat it.
    repeat: bool,
}

impl Fragments {
    /// Adds a fragment. Returns true if it completes a packet, and stores the packet in `packet` and the numbers of
    /// its frames in `frames`.
    pub(super) fn push(
        &mut self,
        key: Key,
        piece: Piece<'_>,
        packet: &mut Vec<u8>,
        frames: &mut Vec<u64>,
    ) -> Result<Option<&ElidedFields>, Fault> {
        let size = usize::from(key.size);
        let range = (piece.offset, piece.offset.saturating_add(piece.bytes.len()));
        if range.1 > size || piece.bytes.is_empty() {
            let expected = "1 to the datagram size";
            return Err(Fault::value(Stage::Link, 0, "end of the 6LoWPAN fragment", range.1 as u64, expected));
        }
        if !self.slots.contains_key(&key) {
            while self.slots.len() >= MAX_SLOTS {
                let Some(oldest) = self.order.pop_front() else { break };
                self.slots.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let slot = match self.slots.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Slot { data: vec![0; size], deadline: i64::MIN, ..Slot::default() }),
        };
        if slot.deadline <= piece.time_ns || slot.frames.len() >= MAX_FRAMES || slot.is_of_another_packet(range, piece)
        {
            slot.rest();
            slot.repeat = false;
        }
        if slot.frames.is_empty() {
            slot.deadline = deadline(piece.time_ns, TIMEOUT_NS);
        }
        slot.add(range, piece);
        if slot.held < size || !slot.has_first {
            return Ok(None);
        }
        packet.clear();
        packet.extend_from_slice(&slot.data);
        std::mem::swap(frames, &mut slot.frames);
        slot.rest();
        Ok(Some(&slot.elided))
    }
}

impl Slot {
    /// Forgets the fragments but keeps the bytes, to recognize repeats.
    fn rest(&mut self) {
        self.there = [0; 32];
        self.held = 0;
        self.pieces.clear();
        self.frames.clear();
        self.has_first = false;
        self.repeat = true;
    }

    /// Whether the fragment contradicts the collected data, so that it belongs to another packet that reuses the
    /// tag. Then its bytes differ from those of the complete packet, or from those of an earlier fragment at the
    /// same offset.
    fn is_of_another_packet(&self, range: (usize, usize), piece: Piece<'_>) -> bool {
        (self.repeat || self.pieces.contains(&range)) && self.data.get(range.0..range.1) != Some(piece.bytes)
    }

    fn add(&mut self, range: (usize, usize), piece: Piece<'_>) {
        for (at, byte) in (range.0..range.1).zip(piece.bytes) {
            if let (Some(word), Some(to)) = (self.there.get_mut(at / 64), self.data.get_mut(at)) {
                let bit = 1 << (at % 64);
                if *word & bit == 0 {
                    *word |= bit;
                    *to = *byte;
                    self.held += 1;
                }
            }
        }
        if !self.pieces.contains(&range) {
            self.pieces.push(range);
        }
        self.frames.push(piece.frame);
        if let Some(elided) = piece.elided
            && !self.has_first
        {
            self.has_first = true;
            self.elided.copy_from(elided);
        }
    }
}
