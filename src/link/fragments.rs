//! Reassembly of IPv4 fragments (RFC 791 §3.2) and IPv6 fragments (RFC 8200 §4.5, RFC 5722), in any order and with
//! repeats.
//!
//! Fragments with the same Identification, addresses and (IPv4) protocol belong to one packet. A capture may
//! contain a fragment twice, for example when it was seen on two interfaces. So the bytes of a complete packet are
//! kept for a while: if a later fragment has the same bytes, it is a repeat. Otherwise it starts a new packet with
//! the same Identification.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;

use super::{LinkContent, parse_ip};
use crate::capture::deadline;
use crate::error::{Fault, Stage};
use crate::net::ipv4::Ipv4;
use crate::net::{Datagram, Fragment, IpVersion, ip, ipv6};

/// Most packets that are reassembled at the same time.
const MAX_SLOTS: usize = 1024;
/// Most complete packets whose bytes are kept.
const MAX_FINISHED: usize = 64;
/// Most frames of one packet: all 8192 fragments that a packet can have, twice.
const MAX_FRAMES: usize = 16_384;
/// Highest value of the length fields of IPv4 (Total Length) and IPv6 (Payload Length).
const MAX_LEN: usize = 65_535;
/// How long fragments wait for the rest: 30 s for IPv4 as in Linux, 60 s for IPv6 (RFC 8200).
const TIMEOUT_V4_NS: i64 = 30_000_000_000;
const TIMEOUT_V6_NS: i64 = 60_000_000_000;

/// Collects fragments until packets are complete, of at most 1024 packets at a time.
#[derive(Debug, Default)]
pub struct Reassembler {
    slots: HashMap<Key, Slot>,
    /// Complete packets, oldest first.
    finished: VecDeque<Key>,
    /// Unused slots, kept to reuse their buffers.
    spare: Vec<Slot>,
    /// No slot expires before this time.
    next_deadline: Option<i64>,
    given_up: Vec<u64>,
}

/// An IP packet that was reassembled from fragments. The next one reuses its buffers.
#[derive(Debug, Default)]
pub struct Reassembled {
    packet: Vec<u8>,
    fragments: Vec<u64>,
}

impl Reassembled {
    /// The packet as if it had never been fragmented. Its headers are those of the first fragment, without Fragment
    /// header (IPv6) or offset and More Fragments (IPv4). Lengths and checksum are correct. Offsets of faults count
    /// from its start.
    ///
    /// # Errors
    /// The headers of the reassembled packet are malformed.
    pub fn datagram(&self) -> Result<Datagram<'_>, Fault> {
        match parse_ip(&self.packet, 0, None) {
            LinkContent::Datagram(datagram) => Ok(datagram),
            LinkContent::Malformed { fault, .. } => Err(fault),
            LinkContent::Fragment(_) | LinkContent::NotIp(_) => {
                Err(Fault::unsupported(Stage::Link, 0, "a fragment of fragments"))
            }
        }
    }

    /// The numbers of the frames with its fragments, including repeats, in the order they were pushed.
    pub fn fragments(&self) -> &[u64] {
        &self.fragments
    }
}

fn timeout_ns(version: IpVersion) -> i64 {
    match version {
        IpVersion::V4 => TIMEOUT_V4_NS,
        IpVersion::V6 => TIMEOUT_V6_NS,
    }
}

impl Reassembler {
    /// A packet without fragments.
    pub fn new() -> Reassembler {
        Reassembler::default()
    }

    /// Adds a fragment from frame number `frame`, captured at `time_ns` (nanoseconds since 1970, not always
    /// increasing). Returns true if it completes a packet, and stores the packet in `out`. Otherwise `out` is
    /// unchanged.
    ///
    /// Returns a fault, with its offset in the frame, if the fragment cannot be part of any packet: it is truncated
    /// by the snap length, has an invalid length, or (IPv6) overlaps other fragments. An overlap also gives up the
    /// packet of these fragments.
    ///
    /// Each accepted frame appears exactly once, in [`Reassembled::fragments`] or in [`Reassembler::given_up`].
    ///
    /// # Errors
    /// The fragment is malformed, or overlaps another one.
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

    /// Adds a fragment that was itself reassembled from several frames. [`Reassembler::given_up`] keeps its
    /// content.
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
            // Fragments that arrive later are rejected too (RFC 5722 §3), until the deadline.
            slot.overlapped = true;
        }
        if slot.overlapped {
            let at = fragment.frame_offset.saturating_add(fragment.header.len());
            return Err(Fault::unsupported(Stage::Link, at, "overlapping IPv6 fragments (RFC 5722)"));
        }
        if slot.frames.is_empty() {
            slot.deadline = deadline(time_ns, timeout_ns(fragment.outer.version));
            self.next_deadline = Some(self.next_deadline.map_or(slot.deadline, |next| next.min(slot.deadline)));
        }

        slot.frames.extend_from_slice(frames);
        slot.add(fragment);
        if !slot.is_whole() {
            return Ok(false);
        }
        if slot.write(fragment.outer.version, out).is_err() {
            // The headers of the first fragment are longer than those of the other fragments, so the whole packet
            // may be too long.
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

    /// Begins a frame: clears [`Reassembler::given_up`].
    pub(super) fn begin(&mut self) {
        self.given_up.clear();
    }

    /// Gives up the frames of a reassembled packet that cannot be read.
    pub(super) fn give_up(&mut self, frames: &[u64]) {
        self.given_up.extend_from_slice(frames);
    }

    /// Gives up packets that have waited too long at `time_ns`, and returns their frames like
    /// [`Reassembler::given_up`]. [`push`] also does this. Callers that hold frames back call it between pushes.
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
            // Sorted, because the order of a HashMap differs from run to run.
            self.given_up.get_mut(before..).unwrap_or_default().sort_unstable();
        }
    }

    /// Gives up all waiting packets at the end of a capture, and returns their frames like
    /// [`Reassembler::given_up`].
    pub fn finish(&mut self) -> &[u64] {
        self.expire(i64::MAX)
    }

    /// The frames whose packet the last call gave up: too old, too many, overlapping, or replaced by another packet
    /// with the same Identification. They are not part of any [`Reassembled`].
    pub fn given_up(&self) -> &[u64] {
        &self.given_up
    }

    /// Makes room for one packet. Removes complete packets first, then the oldest one.
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

/// Checks the fragment alone, without the others of its packet.
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
        IpVersion::V6 => fragment.header.len().saturating_sub(ipv6::HEADER_LEN),
    };
    let end = header_len.saturating_add(fragment.offset).saturating_add(len);
    if end > MAX_LEN {
        return Err(Fault::value(Stage::Link, at, "end of the fragment", end as u64, "65535 or less"));
    }
    Ok(())
}

/// The values that all fragments of one packet share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    identification: u32,
    /// Only for IPv4. In IPv6 the first fragment alone determines the protocol (RFC 8200 §4.5).
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
    /// When to give up, counted from the first fragment that arrived.
    deadline: i64,
    /// Headers of the fragment at offset 0; empty until it arrives.
    header: Vec<u8>,
    protocol_offset: usize,
    protocol: u8,
    /// The payload, as far as it has arrived.
    data: Vec<u8>,
    /// Ranges of `data` that have arrived: one per fragment, in order, without overlap.
    pieces: Vec<Range<usize>>,
    /// The sum of the lengths of `pieces`.
    held: usize,
    /// Final length of `data`, known from the last fragment.
    total: Option<usize>,
    /// Frame numbers, in the order they were pushed.
    frames: Vec<u64>,
    /// `data` belongs to a complete packet, and all fragments since then repeat it.
    repeat: bool,
    /// The packet is rejected because fragments overlapped.
    overlapped: bool,
}

impl Slot {
    /// Clears everything but the deadline, and keeps the buffers.
    fn clear(&mut self) {
        self.rest();
        self.header.clear();
        self.data.clear();
        self.total = None;
        self.repeat = false;
        self.overlapped = false;
    }

    /// Keeps the bytes of the complete packet to recognize repeats.
    fn rest(&mut self) {
        self.frames.clear();
        self.pieces.clear();
        self.held = 0;
        self.repeat = true;
    }

    /// Whether `fragment` contradicts the collected fragments, so that it belongs to another packet with the same
    /// Identification.
    fn is_of_another_packet(&self, fragment: &Fragment<'_>) -> bool {
        let range = range(fragment);
        if self.repeat {
            return self.total.is_none_or(|total| (range.end == total) == fragment.more || range.end > total)
                || self.data.get(range) != Some(fragment.payload);
        }
        // An overlap of IPv6 fragments ends the packet, whatever the reason.
        fragment.outer.version == IpVersion::V4
            && (!self.ends_agree(fragment) || self.has_piece(&range) && self.data.get(range) != Some(fragment.payload))
    }

    /// Whether `fragment` agrees with the others about the end, and overlaps none except as an exact repeat.
    fn fits(&self, fragment: &Fragment<'_>) -> bool {
        let range = range(fragment);
        self.ends_agree(fragment)
            && (self.overlap(&range).is_empty()
                || self.has_piece(&range) && self.data.get(range) == Some(fragment.payload))
    }

    /// Whether no bytes lie after the end of the last fragment.
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

    /// The `pieces` that overlap `range`.
    fn overlap(&self, range: &Range<usize>) -> Range<usize> {
        let first = self.pieces.partition_point(|piece| piece.end <= range.start);
        let last = self.pieces.partition_point(|piece| piece.start < range.end);
        first..last.max(first)
    }

    /// Copies those bytes of `fragment` that have not arrived yet: the first copy wins.
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
            // For each piece: copy the gap before it, then skip the piece.
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

    /// Removes all traces of fragmentation from the packet.
    fn write(&self, version: IpVersion, out: &mut Reassembled) -> Result<(), Fault> {
        let Reassembled { packet, fragments } = out;
        packet.clear();
        packet.extend_from_slice(&self.header);
        packet.extend_from_slice(&self.data);
        match version {
            IpVersion::V4 => {
                // Keep only the reserved bit and Don't Fragment of these 16 bits.
                if let Some(mut header) = Ipv4::at_mut(packet, 0) {
                    header.clear_fragment();
                }
            }
            IpVersion::V6 => {
                if let Some(next_header) = packet.get_mut(self.protocol_offset) {
                    *next_header = self.protocol;
                }
            }
        }
        ip::write_length(packet)?;
        fragments.clone_from(&self.frames);
        Ok(())
    }
}

/// The range of the payload that `fragment` contains.
fn range(fragment: &Fragment<'_>) -> Range<usize> {
    fragment.offset..fragment.offset.saturating_add(fragment.payload.len())
}
