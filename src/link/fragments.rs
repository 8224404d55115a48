//! Reassembly of IPv4 fragments (RFC 791 §3.2) and IPv6 fragments (RFC 8200 §4.5, RFC 5722), in any order and with
//! repeats.
//!
//! Pieces of the same Identification, addresses and (IPv4) protocol belong together. Captures repeat fragments more than
//! networks do (the same frame seen on two interfaces), so that the bytes of a finished packet are kept for a while: a
//! late repeat is told from the first fragment of another packet with the same Identification by its bytes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;

use super::{LinkContent, parse_ip};
use crate::capture::deadline;
use crate::error::{Fault, Stage};
use crate::net::{Datagram, Fragment, IpVersion, ip};

/// Packets put together at the same time.
const MAX_SLOTS: usize = 1024;
/// Finished packets whose bytes are kept.
const MAX_FINISHED: usize = 64;
/// Frames of one packet: all 8192 pieces that fit, twice.
const MAX_FRAMES: usize = 16_384;
/// What the length fields of IPv4 (Total Length) and IPv6 (Payload Length) can say.
const MAX_LEN: usize = 65_535;
/// How long fragments wait for the rest: Linux's 30 s for IPv4, RFC 8200's 60 s for IPv6.
const TIMEOUT_V4_NS: i64 = 30_000_000_000;
const TIMEOUT_V6_NS: i64 = 60_000_000_000;

/// Collects fragments, of at most 1024 packets at a time, until packets are whole.
#[derive(Debug, Default)]
pub struct Reassembler {
    slots: HashMap<Key, Slot>,
    /// Finished packets, oldest first.
    finished: VecDeque<Key>,
    /// Slots out of use, for their buffers.
    spare: Vec<Slot>,
    /// No slot is out of date before.
    next_deadline: Option<i64>,
    given_up: Vec<u64>,
}

/// An IP packet put together from fragments. Its buffers are used again by the next one.
#[derive(Debug, Default)]
pub struct Reassembled {
    packet: Vec<u8>,
    fragments: Vec<u64>,
}

impl Reassembled {
    /// The packet as if it had never been fragmented: headers of the first fragment, without Fragment header (IPv6) or
    /// offset and More Fragments (IPv4), lengths and checksum right. Faults are offsets in the packet.
    pub fn datagram(&self) -> Result<Datagram<'_>, Fault> {
        match parse_ip(&self.packet, 0, None) {
            LinkContent::Datagram(datagram) => Ok(datagram),
            LinkContent::Malformed { fault, .. } => Err(fault),
            LinkContent::Fragment(_) | LinkContent::NotIp(_) => {
                Err(Fault::unsupported(Stage::Link, 0, "a fragment of fragments"))
            }
        }
    }

    /// The numbers of the frames that brought its fragments, repeats included, in the order they were pushed.
    pub fn fragments(&self) -> &[u64] {
        &self.fragments
    }
}

impl Reassembler {
    /// One without fragments.
    pub fn new() -> Reassembler {
        Reassembler::default()
    }

    /// Takes a fragment, of frame number `frame`, captured at `time_ns` (nanoseconds since 1970, not always rising).
    /// True if it completes a packet, which is then in `out`; else `out` is left alone.
    ///
    /// A fault, as offset in the frame, if the fragment cannot be part of any packet: cut by the snap length, of a wrong
    /// length, or (IPv6) overlapping others, whose packet is then given up.
    ///
    /// A frame that is taken shows up once, in [`Reassembled::fragments`] or in [`Reassembler::given_up`].
    pub fn push(
        &mut self,
        frame: u64,
        time_ns: i64,
        fragment: &Fragment<'_>,
        out: &mut Reassembled,
    ) -> Result<bool, Fault> {
        self.begin();
        self.push_inner(&[frame], time_ns, fragment, out)
    }

    /// The same for a fragment that came in several frames, because it is inside a packet that was reassembled from them;
    /// [`Reassembler::given_up`] keeps what it has.
    pub(super) fn push_inner(
        &mut self,
        frames: &[u64],
        time_ns: i64,
        fragment: &Fragment<'_>,
        out: &mut Reassembled,
    ) -> Result<bool, Fault> {
        self.give_up_old(time_ns);
        check(fragment)?;
        let key = Key::of(fragment);
        if !self.slots.contains_key(&key) && self.slots.len() >= MAX_SLOTS {
            self.evict();
        }
        let slot = match self.slots.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.spare.pop().unwrap_or_default()),
        };

        if slot.is_of_another_packet(fragment) || slot.frames.len() >= MAX_FRAMES {
            self.given_up.append(&mut slot.frames);
            slot.clear();
        }
        if fragment.outer.version == IpVersion::V6 && !slot.fits(fragment) {
            self.given_up.append(&mut slot.frames);
            slot.clear();
            // Fragments that are still to come are refused too (RFC 5722 §3), until the deadline.
            slot.overlapped = true;
        }
        if slot.overlapped {
            let at = fragment.frame_offset.saturating_add(fragment.header.len());
            return Err(Fault::unsupported(Stage::Link, at, "overlapping IPv6 fragments (RFC 5722)"));
        }
        if slot.frames.is_empty() {
            slot.deadline = deadline(
                time_ns,
                match fragment.outer.version {
                    IpVersion::V4 => TIMEOUT_V4_NS,
                    IpVersion::V6 => TIMEOUT_V6_NS,
                },
            );
            self.next_deadline = Some(self.next_deadline.map_or(slot.deadline, |next| next.min(slot.deadline)));
        }

        slot.frames.extend_from_slice(frames);
        slot.add(fragment);
        if !slot.is_whole() {
            return Ok(false);
        }
        if slot.write(fragment.outer.version, out).is_err() {
            // The headers of the first fragment are longer than those of the others.
            self.given_up.append(&mut slot.frames);
            slot.clear();
            return Ok(false);
        }
        slot.rest();
        self.finished.push_back(key);
        if self.finished.len() > MAX_FINISHED {
            self.forget_oldest();
        }
        Ok(true)
    }

    /// Begins a frame: [`Reassembler::given_up`] is empty again.
    pub(super) fn begin(&mut self) {
        self.given_up.clear();
    }

    /// Gives up the frames of a packet that was put together, but cannot be read.
    pub(super) fn give_up(&mut self, frames: &[u64]) {
        self.given_up.extend_from_slice(frames);
    }

    /// Gives up what waits for too long at `time_ns`, and tells the frames like [`Reassembler::given_up`]. [`push`]
    /// does so by itself; it is for callers that hold frames back.
    ///
    /// [`push`]: Reassembler::push
    pub fn expire(&mut self, time_ns: i64) -> &[u64] {
        self.begin();
        self.give_up_old(time_ns);
        &self.given_up
    }

    fn give_up_old(&mut self, time_ns: i64) {
        if self.next_deadline.is_some_and(|deadline| deadline <= time_ns) {
            let before = self.given_up.len();
            for (_, slot) in self.slots.extract_if(|_, slot| slot.deadline <= time_ns) {
                discard(slot, &mut self.given_up, &mut self.spare);
            }
            self.next_deadline = self.slots.values().map(|slot| slot.deadline).min();
            // The order of a HashMap is another one in each run.
            self.given_up.get_mut(before..).unwrap_or_default().sort_unstable();
        }
    }

    /// Gives up all that waits, at the end of a capture, and tells the frames like [`Reassembler::given_up`].
    pub fn finish(&mut self) -> &[u64] {
        self.expire(i64::MAX)
    }

    /// The frames whose packet the last call gave up: too old, too many, overlapping, or replaced by another packet of
    /// the same Identification. They are no part of any [`Reassembled`].
    pub fn given_up(&self) -> &[u64] {
        &self.given_up
    }

    /// Makes room for one packet: those that wait for nothing first, then the oldest.
    fn evict(&mut self) {
        let rank = |slot: &Slot| (!slot.frames.is_empty(), slot.deadline, slot.frames.first().copied());
        let oldest = self.slots.iter().min_by_key(|(_, slot)| rank(slot)).map(|(key, _)| *key);
        if let Some(slot) = oldest.and_then(|key| self.slots.remove(&key)) {
            discard(slot, &mut self.given_up, &mut self.spare);
        }
    }

    fn forget_oldest(&mut self) {
        let Some(key) = self.finished.pop_front() else { return };
        if let Entry::Occupied(entry) = self.slots.entry(key)
            && entry.get().frames.is_empty()
        {
            discard(entry.remove(), &mut self.given_up, &mut self.spare);
        }
    }
}

fn discard(mut slot: Slot, given_up: &mut Vec<u64>, spare: &mut Vec<Slot>) {
    given_up.append(&mut slot.frames);
    slot.clear();
    spare.push(slot);
}

/// What makes a fragment useless by itself.
fn check(fragment: &Fragment<'_>) -> Result<(), Fault> {
    let at = fragment.frame_offset.saturating_add(fragment.header.len());
    let len = fragment.payload.len();
    if fragment.missing > 0 {
        return Err(Fault::short(Stage::Link, at, "fragment", len.saturating_add(fragment.missing), len));
    }
    if len == 0 || fragment.more && !len.is_multiple_of(8) {
        return Err(Fault::value(Stage::Link, at, "fragment length", len as u64, "a multiple of 8, or the last bytes"));
    }
    let header_len = match fragment.outer.version {
        IpVersion::V4 => fragment.header.len(),
        IpVersion::V6 => fragment.header.len().saturating_sub(ip::V6_HEADER_LEN),
    };
    let end = header_len.saturating_add(fragment.offset).saturating_add(len);
    if end > MAX_LEN {
        return Err(Fault::value(Stage::Link, at, "end of the fragment", end as u64, "65535 or less"));
    }
    Ok(())
}

/// What the fragments of one packet have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    identification: u32,
    /// IPv4 only: in IPv6 the first fragment alone decides (RFC 8200 §4.5).
    protocol: Option<u8>,
}

impl Key {
    fn of(fragment: &Fragment<'_>) -> Key {
        let Fragment { outer, identification, protocol, .. } = *fragment;
        let protocol = (outer.version == IpVersion::V4).then_some(protocol);
        Key { src: outer.src, dst: outer.dst, identification, protocol }
    }
}

/// The fragments of one packet.
#[derive(Debug, Default)]
struct Slot {
    /// When to give up; counts from the first fragment.
    deadline: i64,
    /// Headers of the fragment at offset 0; empty before it is there.
    header: Vec<u8>,
    protocol_offset: usize,
    protocol: u8,
    /// What was fragmented, as far as it is there.
    data: Vec<u8>,
    /// Which bytes of `data` are there: one range a fragment, in order, without overlap.
    pieces: Vec<Range<usize>>,
    /// The sum of `pieces`.
    held: usize,
    /// Length of `data` in the end; known from the last fragment.
    total: Option<usize>,
    /// The frames, in the order they were pushed.
    frames: Vec<u64>,
    /// `data` is that of a finished packet, whole, and the fragments are repeats of it so far.
    repeat: bool,
    /// Not to be put together, because fragments overlapped.
    overlapped: bool,
}

impl Slot {
    /// Forgets all but the deadline; the buffers stay.
    fn clear(&mut self) {
        self.rest();
        self.header.clear();
        self.data.clear();
        self.total = None;
        self.repeat = false;
        self.overlapped = false;
    }

    /// Waits for a repeat of the packet that is whole now.
    fn rest(&mut self) {
        self.frames.clear();
        self.pieces.clear();
        self.held = 0;
        self.repeat = true;
    }

    /// Whether `fragment` contradicts what is there in a way that only a packet that uses the Identification again does.
    fn is_of_another_packet(&self, fragment: &Fragment<'_>) -> bool {
        let range = range(fragment);
        if self.repeat {
            return self.total.is_none_or(|total| (range.end == total) == fragment.more || range.end > total)
                || self.data.get(range) != Some(fragment.payload);
        }
        // Overlapping IPv6 fragments end a packet whatever the reason.
        fragment.outer.version == IpVersion::V4
            && (!self.ends_agree(fragment) || self.has_piece(&range) && self.data.get(range) != Some(fragment.payload))
    }

    /// Whether `fragment` overlaps nothing, unless it repeats a fragment exactly, and agrees about the end.
    fn fits(&self, fragment: &Fragment<'_>) -> bool {
        let range = range(fragment);
        self.ends_agree(fragment)
            && (self.overlap(&range).is_empty()
                || self.has_piece(&range) && self.data.get(range) == Some(fragment.payload))
    }

    /// Whether nothing lies behind the last fragment.
    fn ends_agree(&self, fragment: &Fragment<'_>) -> bool {
        let end = range(fragment).end;
        match (self.total, fragment.more) {
            (Some(total), true) => end < total,
            (Some(total), false) => end == total,
            (None, true) => true,
            (None, false) => self.pieces.last().is_none_or(|last| last.end < end),
        }
    }

    fn has_piece(&self, range: &Range<usize>) -> bool {
        self.pieces.get(self.overlap(range)) == Some(std::slice::from_ref(range))
    }

    /// Which of `pieces` share bytes with `range`.
    fn overlap(&self, range: &Range<usize>) -> Range<usize> {
        let first = self.pieces.partition_point(|piece| piece.end <= range.start);
        let last = self.pieces.partition_point(|piece| piece.start < range.end);
        first..last.max(first)
    }

    /// Puts the bytes of `fragment` where none are yet: the first copy wins.
    fn add(&mut self, fragment: &Fragment<'_>) {
        let range = range(fragment);
        if fragment.offset == 0 && (self.header.is_empty() || self.repeat) {
            self.header.clear();
            self.header.extend_from_slice(fragment.header);
            self.protocol_offset = fragment.protocol_offset;
            self.protocol = fragment.protocol;
        }
        if !fragment.more {
            self.total = Some(range.end);
        }
        if self.data.len() < range.end {
            self.data.resize(range.end, 0);
        }
        let mut at = self.overlap(&range).start;
        let mut start = range.start;
        while start < range.end {
            // From one piece to the next: first the gap, then over the piece.
            let next = self.pieces.get(at).cloned().unwrap_or(MAX_LEN + 1..MAX_LEN + 1);
            let gap = start..next.start.clamp(start, range.end);
            if !gap.is_empty() {
                let from = gap.start - range.start..gap.end - range.start;
                if let (Some(to), Some(from)) = (self.data.get_mut(gap.clone()), fragment.payload.get(from)) {
                    to.copy_from_slice(from);
                }
                self.held += gap.len();
                self.pieces.insert(at, gap);
                at += 1;
            }
            start = next.end;
            at += 1;
        }
    }

    fn is_whole(&self) -> bool {
        self.total == Some(self.held) && !self.header.is_empty()
    }

    /// The packet without traces of fragmentation.
    fn write(&self, version: IpVersion, out: &mut Reassembled) -> Result<(), Fault> {
        let Reassembled { packet, fragments } = out;
        packet.clear();
        packet.extend_from_slice(&self.header);
        packet.extend_from_slice(&self.data);
        match version {
            IpVersion::V4 => {
                // Of these 16 bits the reserved one and Don't Fragment stay.
                if let Some([flags, offset]) = packet.get_mut(6..8) {
                    (*flags, *offset) = (*flags & 0xc0, 0);
                }
            }
            IpVersion::V6 => {
                if let Some(next_header) = packet.get_mut(self.protocol_offset) {
                    *next_header = self.protocol;
                }
            }
        }
        ip::finish(packet)?;
        fragments.clone_from(&self.frames);
        Ok(())
    }
}

/// Which bytes of what was fragmented `fragment` brings.
fn range(fragment: &Fragment<'_>) -> Range<usize> {
    fragment.offset..fragment.offset.saturating_add(fragment.payload.len())
}
