//! The packets of one window on their way from frame to record.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use super::find::{Finder, Found, Limits, expected, explicit_iv, first_sealed, spi};
use super::inner::Inner;
use super::ledger::{Glimpse, Ledger};
use super::outcome::{Bytes, Esp, Method, Reason, Status};
use super::warnings::Warnings;
use crate::capture::{LINKTYPE_RAW, Packet, Window};
use crate::codec::{self, Carrier, Form, Restored, State};
use crate::error::{Fault, FaultKind, Stage};
use crate::esp;
use crate::link::{self, Content, Datagram, Frame, LinkAddresses, Outer, Receiver};
use crate::report::record::Record;
use crate::sa::hash::MixHasher;
use crate::sa::stream::{Novelty, Progress, digest};
use crate::sa::table::{Entry, Lookup, SaTable};
use crate::suite::{SIDE_BY_SIDE, Scratch, Sealed};

/// One frame, and what became of it.
#[derive(Debug)]
pub struct Item<'w> {
    /// The outer IP header, if there was one.
    pub outer: Option<Outer>,
    /// The bytes in front of the IP header of this frame; none for a rebuilt packet.
    pub link_header: &'w [u8],
    /// The link type of a frame that starts with `link_header`: that of the capture, or raw IP.
    pub link_type: u16,
    /// A frame of IEEE 802.15.4 or 6LoWPAN: it stays as it is in what is written, and its packet goes beside it.
    pub radio: bool,
    /// The same link-layer frame as that of `repeat_of`: all else is what that frame had.
    pub repeat: bool,
    /// A fragment whose packet is not whole yet.
    pub waits: bool,
    /// The verdict.
    pub status: Status,
    /// Why it is not `ok`.
    pub reason: Option<Reason>,
    /// The SA that verified, or the only candidate.
    pub sa: Option<u32>,
    /// Some SA was a candidate: such a packet failed, it is not somebody else's.
    pub of_known_sa: bool,
    /// The restored ESP header.
    pub esp: Option<Esp>,
    /// Where fields of the packet came from; `ok` only.
    pub restored: Option<Restored>,
    /// Bytes on the wire and as standard ESP; `ok` only.
    pub bytes: Option<Bytes>,
    /// Warnings.
    pub warnings: Warnings,
    /// The frame that this one repeats.
    pub repeat_of: Option<u64>,
    source: Source<'w>,
    step: Step,
    packet: Stretch,
    clear: Stretch,
}

/// Where the IP packet of a frame is.
#[derive(Debug)]
enum Source<'w> {
    None,
    /// In the frame.
    Frame(Framed<'w>),
    /// Put together from several frames.
    Whole(Box<Whole>),
}

/// A [`Datagram`] without its `outer`, which the item has.
#[derive(Debug, Clone, Copy)]
struct Framed<'w> {
    header: &'w [u8],
    payload: &'w [u8],
    protocol_offset: u32,
    missing: u32,
    frame_offset: u32,
    protocol: u8,
}

#[derive(Debug)]
struct Whole {
    packet: Vec<u8>,
    fragments: Vec<u64>,
    rebuilt: bool,
    link: Option<LinkAddresses>,
}

/// How far a frame has come.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The verdict stands.
    Done,
    /// What it holds depends on frames before: it waits for its turn.
    InOrder,
    /// It verified; its place in the stream is not looked at yet.
    Verified { sa: u32, sn: u64, ambiguous: bool, digest: u64 },
    /// It did not verify with what was known when it was tried.
    Failed,
}

/// The ESP payload of a datagram, and how it is carried.
#[derive(Debug, Clone, Copy)]
pub struct EspPayload<'a> {
    /// IP protocol number: 50, or one that a context names. 50 for UDP encapsulation too.
    pub protocol: u8,
    /// The UDP header, where ESP is carried in UDP.
    pub udp_header: Option<&'a [u8; 8]>,
    /// From the first byte of SPI or RuleID to the end of the ICV.
    pub bytes: &'a [u8],
    /// Bytes that the lengths promise and the capture does not have (snap length).
    pub missing: usize,
}

/// Finds the ESP payload of a datagram, or says why there is none.
pub fn esp_payload<'a>(table: &SaTable, datagram: &Datagram<'a>) -> Result<EspPayload<'a>, Reason> {
    match datagram.protocol {
        esp::UDP if !table.uses_protocol(esp::UDP) => match link::udp_encapsulation(datagram) {
            Ok(Some(udp)) => Ok(EspPayload {
                protocol: esp::PROTOCOL,
                udp_header: Some(udp.udp_header),
                bytes: udp.payload,
                missing: udp.missing,
            }),
            Ok(None) => Err(Reason::Protocol(esp::UDP)),
            Err(fault) => Err(Reason::Fault(fault)),
        },
        protocol if table.uses_protocol(protocol) => {
            Ok(EspPayload { protocol, udp_header: None, bytes: datagram.payload, missing: datagram.missing })
        }
        protocol => Err(Reason::Protocol(protocol)),
    }
}

/// Bytes of an [`Arena`]. A window is a few hundred kilobytes, and no packet of it restores to more than 64 more.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    start: u32,
    len: u32,
}

/// The restored packets and clear texts of one window.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    packet: Vec<u8>,
    given_up: Vec<u64>,
}

impl Arena {
    /// Forgets the last window and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Frames, of this window and before, whose packet will never be whole.
    pub fn given_up(&self) -> &[u64] {
        &self.given_up
    }

    fn put(&mut self, bytes: &[u8]) -> Stretch {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Stretch { start, len: bytes.len() as u32 }
    }

    fn get(&self, Stretch { start, len }: Stretch) -> &[u8] {
        self.bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or_default()
    }
}

impl<'w> Framed<'w> {
    fn of(datagram: &Datagram<'w>) -> Framed<'w> {
        let Datagram { header, payload, protocol_offset, protocol, missing, frame_offset, .. } = *datagram;
        let [protocol_offset, missing, frame_offset] =
            [protocol_offset, missing, frame_offset].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Framed { header, payload, protocol_offset, missing, frame_offset, protocol }
    }

    fn datagram(&self, outer: Outer) -> Datagram<'w> {
        let Framed { header, payload, protocol_offset, missing, frame_offset, protocol } = *self;
        Datagram {
            outer,
            header,
            protocol_offset: protocol_offset as usize,
            protocol,
            payload,
            missing: missing as usize,
            frame_offset: frame_offset as usize,
            rebuilt: false,
            link: None,
        }
    }
}

impl<'w> Item<'w> {
    fn new(outer: Option<Outer>, step: Step) -> Item<'w> {
        Item {
            outer,
            link_header: &[],
            link_type: LINKTYPE_RAW,
            radio: false,
            repeat: false,
            waits: false,
            status: Status::NotEsp,
            reason: None,
            sa: None,
            of_known_sa: false,
            esp: None,
            restored: None,
            bytes: None,
            warnings: Warnings::NONE,
            repeat_of: None,
            source: Source::None,
            step,
            packet: Stretch::default(),
            clear: Stretch::default(),
        }
    }

    fn done(outer: Option<Outer>, status: Status, reason: Reason) -> Item<'w> {
        Item { status, reason: Some(reason), ..Item::new(outer, Step::Done) }
    }

    fn set(&mut self, status: Status, reason: Reason) {
        (self.status, self.reason) = (status, Some(reason));
    }

    /// The IP packet that the frame holds or completes.
    pub fn datagram(&self) -> Option<Datagram<'_>> {
        match &self.source {
            Source::None => None,
            Source::Frame(framed) => self.outer.map(|outer| framed.datagram(outer)),
            Source::Whole(whole) => match link::parse(LINKTYPE_RAW, &whole.packet).apart(&whole.packet) {
                Frame::Datagram(datagram) => Some(Datagram { rebuilt: whole.rebuilt, link: whole.link, ..datagram }),
                _ => None,
            },
        }
    }

    /// The IP packet that the frame holds.
    fn of_frame(&self) -> Option<Datagram<'w>> {
        match &self.source {
            Source::Frame(framed) => self.outer.map(|outer| framed.datagram(outer)),
            _ => None,
        }
    }

    /// The ESP payload of the packet, if it carries one.
    pub fn payload(&self, table: &SaTable) -> Option<EspPayload<'_>> {
        esp_payload(table, &self.datagram()?).ok()
    }

    /// All frames of a packet that was reassembled.
    pub fn fragments(&self) -> &[u64] {
        match &self.source {
            Source::Whole(whole) => &whole.fragments,
            _ => &[],
        }
    }

    /// The restored packet, if the frame is `ok`: the inner one in tunnel mode, the whole one in transport mode. Empty
    /// for a dummy.
    pub fn packet<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.get(self.packet)
    }

    /// The clear text, if the frame is `ok`.
    pub fn clear<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        arena.get(self.clear)
    }

    /// Appends what ESP protects (tunnel mode: the restored packet; transport mode: its segment) and tells its Next
    /// Header.
    pub fn protected(&self, arena: &Arena, out: &mut Vec<u8>) -> u8 {
        const NO_NEXT_HEADER: u8 = 59;
        let Some(restored) = &self.restored else { return NO_NEXT_HEADER };
        out.extend_from_slice(self.packet(arena).get(restored.payload_offset..).unwrap_or_default());
        restored.next_header
    }

    /// The record of this frame.
    pub fn record<'r>(&'r self, packet: &Packet<'_>, table: &'r SaTable, arena: &'r Arena) -> Record<'r> {
        let ok = self.status == Status::Ok;
        let bytes = self.packet(arena);
        let has_packet = ok && !bytes.is_empty();
        Record {
            frame: packet.number,
            time: packet.time,
            status: self.status,
            reason: self.reason,
            sa: self.sa.and_then(|sa| table.entry(sa)).map(|entry| entry.sa.name.as_str()),
            fragments: self.fragments(),
            repeat_of: self.repeat_of,
            outer: self.outer,
            esp: self.esp,
            inner: self.restored.filter(|_| has_packet).and_then(|restored| Inner::of(bytes, &restored)),
            packet: has_packet.then_some(bytes),
            restored: self.restored.filter(|_| ok).map(|restored| restored.sources),
            bytes: self.bytes,
            warnings: self.warnings,
        }
    }

    /// Takes a clear text that verified as far as it goes without knowing what came before.
    fn verified(
        &mut self,
        entry: &Entry,
        (sa, sn, ambiguous): (u32, u64, bool),
        datagram: &Datagram<'_>,
        payload: &[u8],
        clear: Stretch,
        arena: &mut Arena,
    ) {
        self.step = Step::Verified { sa, sn, ambiguous, digest: digest(payload) };
        if entry.codec.is_stateful() {
            self.clear = clear;
        } else {
            self.restore(entry, datagram, clear, payload.len(), &mut State::default(), arena);
        }
    }

    /// Restores the packet of a clear text that verified under `entry`.
    fn restore(
        &mut self,
        entry: &Entry,
        datagram: &Datagram<'_>,
        clear: Stretch,
        wire_len: usize,
        state: &mut State,
        arena: &mut Arena,
    ) {
        let Datagram { outer, header, protocol_offset, .. } = datagram;
        let carrier = Carrier { outer, header, protocol_offset: *protocol_offset };
        let mut packet = std::mem::take(&mut arena.packet);
        match entry.codec.restore(arena.get(clear), &carrier, state, &mut packet) {
            Ok(restored) => {
                self.status = Status::Ok;
                self.reason = None;
                self.warnings.add_codec(restored.warnings);
                let protected_len = packet.len().saturating_sub(restored.payload_offset);
                let cryptor = &entry.cryptor;
                let standard = esp::standard_len(protected_len, cryptor.iv_len(), cryptor.block(), cryptor.icv_len());
                self.bytes = Some(Bytes { diet: wire_len as u64, esp: standard as u64 });
                self.restored = Some(restored);
                self.clear = clear;
                // Standard ESP: the packet, then the trailer.
                self.packet = match arena.get(clear).starts_with(&packet) {
                    true => Stretch { len: packet.len() as u32, ..clear },
                    false => arena.put(&packet),
                };
            }
            Err(fault) => {
                let unsupported = matches!(fault.kind, FaultKind::Unsupported(_));
                let status = if unsupported { Status::Unsupported } else { Status::Malformed };
                self.set(status, Reason::Fault(fault));
            }
        }
        arena.packet = packet;
    }
}

/// Takes frames as far as they go without knowing what came before.
#[derive(Debug)]
pub struct Attempter<'t, 'g> {
    finder: Finder<'t>,
    glimpse: &'g Glimpse,
    /// What this window has shown of the streams so far.
    seen: HashMap<u64, Progress, BuildHasherDefault<MixHasher>>,
    scratch: Scratch,
}

/// A packet that can belong to one SA only and is opened next to others of its stream.
#[derive(Debug, Clone, Copy)]
struct Planned<'w> {
    /// [`stream_key`].
    stream: u64,
    sa: u32,
    /// Position in the window.
    index: u32,
    time_ns: i64,
    /// The ESP payload.
    bytes: &'w [u8],
}

/// Numbers tried per SA before a packet waits for its turn.
const EARLY_TRIES: u32 = 512;

impl<'t, 'g> Attempter<'t, 'g> {
    /// One that knows of streams what `glimpse` shows.
    pub fn new(table: &'t SaTable, limits: Limits, glimpse: &'g Glimpse) -> Attempter<'t, 'g> {
        let limits = Limits { sn_tries: limits.sn_tries.min(EARLY_TRIES), resync_tries: None, ..limits };
        Attempter { finder: Finder::new(table, limits), glimpse, seen: HashMap::default(), scratch: Scratch::default() }
    }

    /// Takes the frames of a window; what they restore to goes into `arena`.
    pub fn attempt<'w>(&mut self, window: &'w Window, arena: &mut Arena) -> Vec<Item<'w>> {
        self.seen.clear();
        let mut items = Vec::with_capacity(window.len());
        let mut planned = Vec::with_capacity(window.len());
        for packet in window.packets() {
            items.push(self.attempt_one(&packet, items.len() as u32, &mut planned, arena));
        }
        if !planned.is_sorted_by_key(|packet| packet.stream) {
            planned.sort_by_key(|packet| packet.stream);
        }
        for stream in planned.chunk_by(|a, b| a.stream == b.stream) {
            self.open_stream(stream, &mut items, arena);
        }
        items
    }

    fn attempt_one<'w>(
        &mut self,
        packet: &Packet<'w>,
        index: u32,
        planned: &mut Vec<Planned<'w>>,
        arena: &mut Arena,
    ) -> Item<'w> {
        let table = self.finder.table();
        let Some(frame) = link::parse_alone(packet.link_type(), packet.data, |protocol| table.uses_protocol(protocol))
        else {
            return Item::new(None, Step::InOrder);
        };
        match frame {
            Frame::Datagram(datagram) => {
                let mut item = Item::new(Some(datagram.outer), Step::Done);
                item.link_type = packet.link_type();
                item.link_header = packet.data.get(..datagram.frame_offset).unwrap_or_default();
                match esp_payload(table, &datagram) {
                    Ok(payload) => {
                        item.step = Step::Failed;
                        if payload.missing == 0 {
                            match self.plan(&datagram, &payload, index, packet.time.nanos_i64()) {
                                Some(packet) => planned.push(packet),
                                None => {
                                    self.attempt_payload(packet.time.nanos_i64(), &datagram, &payload, &mut item, arena)
                                }
                            }
                        }
                    }
                    Err(reason) => item.reason = Some(reason),
                }
                item.source = Source::Frame(Framed::of(&datagram));
                item
            }
            Frame::Fragment(_) => Item::new(None, Step::InOrder),
            Frame::NotIp(what) => Item::done(None, Status::NotEsp, Reason::Text(what)),
            Frame::Malformed { outer, fault } => Item::done(outer, Status::Malformed, Reason::Fault(fault)),
        }
    }

    /// `None` if the packet is one to be searched for.
    fn plan<'w>(
        &mut self,
        datagram: &Datagram<'w>,
        payload: &EspPayload<'w>,
        index: u32,
        time_ns: i64,
    ) -> Option<Planned<'w>> {
        let lookup =
            Lookup { protocol: payload.protocol, outer: &datagram.outer, link: datagram.link, payload: payload.bytes };
        let sa = self.finder.only(&lookup)?;
        Some(Planned { stream: stream_key(sa, &datagram.outer), sa, index, time_ns, bytes: payload.bytes })
    }

    /// Opens packets of one stream with the number that each has if those before it have theirs. The first that does not
    /// verify, and those opened with it, are searched for.
    fn open_stream<'w>(&mut self, stream: &[Planned<'w>], items: &mut [Item<'w>], arena: &mut Arena) {
        let table = self.finder.table();
        let Some((key, sa)) = stream.first().map(|packet| (packet.stream, packet.sa)) else { return };
        let Some(entry) = table.entry(sa) else { return };
        for group in stream.chunks(SIDE_BY_SIDE) {
            let known = self.seen.entry(key).or_insert_with(|| self.glimpse.of(sa));
            let mut progress = *known;
            let mut sealed = [Sealed::default(); SIDE_BY_SIDE];
            let mut count = 0;
            for (place, packet) in sealed.iter_mut().zip(group) {
                let Some(first) = first_sealed(entry, packet.bytes, &progress, packet.time_ns) else { break };
                *place = first;
                progress.verified(first.sn, explicit_iv(entry, packet.bytes), packet.time_ns);
                count += 1;
            }
            let sealed = sealed.get(..count).unwrap_or_default();
            let mut start = arena.bytes.len() as u32;
            let opened = entry.cryptor.open_side_by_side(entry.sa.esn, sealed, &mut self.scratch, &mut arena.bytes);
            for (packet, sealed) in group.iter().zip(sealed).take(opened) {
                let clear = Stretch { start, len: entry.cryptor.clear_len(sealed.body.len()) as u32 };
                start += clear.len;
                known.verified(sealed.sn, explicit_iv(entry, packet.bytes), packet.time_ns);
                let Some(item) = items.get_mut(packet.index as usize) else { continue };
                let Some(datagram) = item.of_frame() else { continue };
                item.verified(entry, (sa, sealed.sn, false), &datagram, packet.bytes, clear, arena);
            }
            for packet in group.iter().skip(opened) {
                let Some(item) = items.get_mut(packet.index as usize) else { continue };
                let Some(datagram) = item.of_frame() else { continue };
                let Ok(payload) = esp_payload(table, &datagram) else { continue };
                self.attempt_payload(packet.time_ns, &datagram, &payload, item, arena);
            }
        }
    }

    fn attempt_payload(
        &mut self,
        time_ns: i64,
        datagram: &Datagram<'_>,
        payload: &EspPayload<'_>,
        item: &mut Item<'_>,
        arena: &mut Arena,
    ) {
        let Attempter { finder, glimpse, seen, .. } = self;
        let table = finder.table();
        let lookup =
            Lookup { protocol: payload.protocol, outer: &datagram.outer, link: datagram.link, payload: payload.bytes };
        let found = finder.find(&lookup, time_ns, false, |sa| {
            // Readings that the ledger may know to be void, and such as verify nothing, wait for their turn.
            table.entry(sa).filter(|entry| entry.cryptor.authenticates())?;
            let known = seen.get(&stream_key(sa, &datagram.outer)).copied();
            Some(known.unwrap_or_else(|| glimpse.of(sa)))
        });
        let Found::Verified { sa, sn, ambiguous } = found else { return };
        let Some(entry) = table.entry(sa) else { return };
        let iv = explicit_iv(entry, payload.bytes);
        seen.entry(stream_key(sa, &datagram.outer)).or_insert_with(|| glimpse.of(sa)).verified(sn, iv, time_ns);
        let clear = arena.put(&finder.clear);
        item.verified(entry, (sa, sn, ambiguous), datagram, payload.bytes, clear, arena);
    }
}

fn stream_key(sa: u32, outer: &Outer) -> u64 {
    use crate::context::address_value;
    use crate::sa::hash::mix;
    match outer.dst.is_multicast() {
        true => mix(address_value(outer.src) as u64) << 32 | u64::from(sa),
        false => u64::from(sa),
    }
}

fn nanos(packet: &Packet<'_>) -> i64 {
    packet.time.nanos_i64()
}

/// Where a packet stands in its stream.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Numbers before it are missing.
    after_gap: bool,
}

/// Settles in capture order what depends on the packets before.
#[derive(Debug)]
pub struct Settler<'t> {
    finder: Finder<'t>,
    ledger: Ledger<'t>,
    receiver: Receiver,
    kept: VecDeque<Kept>,
    found: Vec<u32>,
    hints: crate::sa::table::Hints,
}

impl<'t> Settler<'t> {
    /// Nothing seen yet.
    pub fn new(table: &'t SaTable, limits: Limits, link: &link::Settings) -> Settler<'t> {
        Settler {
            finder: Finder::new(table, limits),
            ledger: Ledger::new(table),
            receiver: Receiver::new(link),
            kept: VecDeque::new(),
            found: vec![],
            hints: crate::sa::table::Hints::default(),
        }
    }

    /// What is known of the streams.
    pub fn into_ledger(self) -> Ledger<'t> {
        self.ledger
    }

    /// Settles the frames of the next window.
    pub fn settle<'w>(&mut self, window: &'w Window, items: &mut [Item<'w>], arena: &mut Arena, glimpse: &Glimpse) {
        arena.given_up.clear();
        if items.iter().any(|item| matches!(item.step, Step::InOrder)) {
            self.receiver.survey(window.packets());
        }
        let mut shown = None;
        for (packet, item) in window.packets().zip(items) {
            match item.step {
                Step::Done => {}
                Step::Verified { sa, sn, ambiguous, digest } => {
                    let Some(datagram) = item.of_frame() else { continue };
                    let Ok(payload) = esp_payload(self.ledger.table(), &datagram) else { continue };
                    match self.enter(&packet, &datagram, &payload, item, (sa, sn, ambiguous, digest)) {
                        // Further away than the search would have gone from what is known now.
                        None => self.open(&packet, &datagram, &payload, item, arena),
                        Some(place) => {
                            if self.ledger.table().entry(sa).is_some_and(|entry| entry.codec.is_stateful()) {
                                let clear = item.clear;
                                self.restore(&datagram, &payload, item, (sa, place), clear, arena);
                            }
                        }
                    }
                }
                Step::Failed => {
                    let Some(datagram) = item.of_frame() else { continue };
                    let Ok(payload) = esp_payload(self.ledger.table(), &datagram) else { continue };
                    self.open(&packet, &datagram, &payload, item, arena);
                }
                Step::InOrder => self.receive(&packet, item, arena),
            }
            item.step = Step::Done;
            // Once for every run of packets of one SA.
            if let Some(sa) = item.sa.filter(|sa| item.esp.is_some() && shown != Some(*sa))
                && let Some(before) = shown.replace(sa)
            {
                self.ledger.show(before, glimpse);
            }
        }
        if let Some(last) = shown {
            self.ledger.show(last, glimpse);
        }
    }

    /// A packet that verified takes its place in its stream. `None`, and nothing noted, if its number is out of reach.
    fn enter(
        &mut self,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        payload: &EspPayload<'_>,
        item: &mut Item<'_>,
        (sa, sn, ambiguous, digest): (u32, u64, bool, u64),
    ) -> Option<Place> {
        let table = self.ledger.table();
        let entry = table.entry(sa)?;
        let (bytes, time_ns) = (payload.bytes, nanos(packet));
        let progress = self.ledger.progress(sa, &datagram.outer)?;
        let (method, own_tries) = self.finder.method(entry, bytes, time_ns, sn, &progress)?;
        let tries = match ambiguous {
            false => own_tries,
            true => {
                let lookup =
                    Lookup { protocol: payload.protocol, outer: &datagram.outer, link: datagram.link, payload: bytes };
                let tries = self.tries_of(&lookup, sa, own_tries);
                table.learn(&lookup, sa, &mut self.hints);
                tries
            }
        };
        item.sa = Some(sa);
        item.of_known_sa = true;
        let verified = entry.cryptor.authenticates();
        if !verified {
            item.warnings.add(Warnings::UNAUTHENTICATED);
        }
        item.esp = Some(Esp {
            spi: spi(entry, bytes),
            sequence: sn,
            method,
            spi_bits: entry.codec.spi_bits(),
            sn_bits: entry.codec.sn_bits(),
            wire_bytes: bytes.len(),
            verified,
            tries,
            revision: entry.revision(),
        });
        let iv = explicit_iv(entry, bytes);
        let most_runs = self.ledger.runs_kept(sa, &datagram.outer);
        let stream = self.ledger.stream_mut(sa, &datagram.outer);
        stream.counts.tries += tries;
        stream.counts.resyncs += u64::from(method == Method::Search);
        match stream.verified(sn, iv, time_ns, (digest, packet.number), most_runs) {
            Novelty::New => {}
            Novelty::Duplicate(first) => {
                item.warnings.add(Warnings::DUPLICATE);
                item.repeat_of = Some(first);
            }
            Novelty::Replayed => item.warnings.add(Warnings::REPLAYED),
        }
        Some(Place { after_gap: sn > expected(entry, &progress, time_ns) })
    }

    /// Restores the packet of a clear text that took its place in its stream.
    fn restore(
        &mut self,
        datagram: &Datagram<'_>,
        payload: &EspPayload<'_>,
        item: &mut Item<'_>,
        (sa, place): (u32, Place),
        clear: Stretch,
        arena: &mut Arena,
    ) {
        let Some(entry) = self.ledger.table().entry(sa) else { return };
        let state = &mut self.ledger.stream_mut(sa, &datagram.outer).codec;
        item.restore(entry, datagram, clear, payload.bytes.len(), state, arena);
        let has_packet = item.restored.is_some_and(|restored| restored.form != Form::Dummy);
        if place.after_gap && entry.codec.is_stateful() && has_packet {
            item.warnings.add(Warnings::TCP_NEAREST);
        }
    }

    /// Openings up to the one that verified, where several SAs are candidates: the first number of every SA, then the
    /// second of each, and so on, the SA that the flow had last before all others.
    fn tries_of(&mut self, lookup: &Lookup<'_>, sa: u32, own_tries: u64) -> u64 {
        let table = self.ledger.table();
        let complete = table.likely(lookup, &self.hints, &mut self.found);
        let place = self.found.iter().position(|other| *other == sa);
        match place {
            Some(place) if own_tries == 1 => place as u64 + 1,
            _ => {
                let likely = self.found.len();
                if !complete {
                    table.candidates(lookup, &mut self.found);
                }
                let place = self.found.iter().position(|other| *other == sa).unwrap_or(0);
                let again = if complete { 0 } else { likely };
                (self.found.len() as u64) * (own_tries - 1) + (place + 1 + again) as u64
            }
        }
    }

    /// Whether the clear text just found rests on the second reading of a key-file line, which verifies nothing, and does
    /// not look like one: any bytes end in some Next Header, but few in right padding and the number of a tunnelled packet
    /// or of a common transport protocol.
    fn is_nonsense(&self, sa: u32, datagram: &Datagram<'_>, arena: &mut Arena) -> bool {
        let Some(entry) = self.ledger.table().entry(sa).filter(|entry| entry.sa.alternative_to.is_some()) else {
            return false;
        };
        let Datagram { outer, header, protocol_offset, .. } = datagram;
        let carrier = Carrier { outer, header, protocol_offset: *protocol_offset };
        let Ok(restored) = entry.codec.restore(&self.finder.clear, &carrier, &mut State::default(), &mut arena.packet)
        else {
            return true;
        };
        let known = match restored.form {
            Form::Tunnel => true,
            Form::Transport => {
                restored.upper.is_some_and(|upper| upper.ports.is_some() || matches!(upper.protocol, 1 | 58))
            }
            Form::Dummy => false,
        };
        !known || restored.warnings.contains(codec::Warnings::PADDING)
    }

    /// Opens a packet with all that is known.
    fn open(
        &mut self,
        packet: &Packet<'_>,
        datagram: &Datagram<'_>,
        payload: &EspPayload<'_>,
        item: &mut Item<'_>,
        arena: &mut Arena,
    ) {
        const NOT_ESP: Reason = Reason::Text("IKE or NAT keepalive on UDP 4500");
        let bytes = payload.bytes;
        let lookup = Lookup { protocol: payload.protocol, outer: &datagram.outer, link: datagram.link, payload: bytes };
        let ledger = &self.ledger;
        let progress = |sa| ledger.progress(sa, &datagram.outer);
        let udp = payload.udp_header.is_some();
        let is_marker = udp && (esp::is_marker_or_keepalive(bytes) || bytes.is_empty());
        let found = match payload.missing {
            0 => match self.finder.find(&lookup, nanos(packet), true, progress) {
                Found::Verified { sa, .. } if self.is_nonsense(sa, datagram, arena) => {
                    Found::NotAuthentic { tries: self.finder.candidates().len() as u64 }
                }
                found => found,
            },
            _ => self.finder.cut(&lookup, progress),
        };
        let only = match self.finder.candidates() {
            [one] => Some(*one),
            _ => None,
        };
        item.restored = None;
        item.of_known_sa = found != Found::NoSa;
        match found {
            Found::Verified { sa, sn, ambiguous } => {
                let verified = (sa, sn, ambiguous, digest(bytes));
                let clear = arena.put(&self.finder.clear);
                if let Some(place) = self.enter(packet, datagram, payload, item, verified) {
                    self.restore(datagram, payload, item, (sa, place), clear, arena);
                }
                return;
            }
            _ if is_marker => {
                item.of_known_sa = false;
                return item.set(Status::NotEsp, NOT_ESP);
            }
            Found::NoSa => {
                let mut head = [0; 4];
                head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                return item.set(Status::NoSa, Reason::NoSa { head: u32::from_be_bytes(head) });
            }
            Found::Short(least) => {
                let fault = Fault::short(Stage::EspHeader, 0, "ESP header, IV and ICV", least, bytes.len());
                item.set(Status::Malformed, Reason::Fault(fault));
            }
            Found::Cut => {
                let (needs, has) = (bytes.len() + payload.missing, bytes.len());
                let fault = Fault::short(Stage::EspHeader, 0, "ESP packet (cut by the snap length)", needs, has);
                item.set(Status::Malformed, Reason::Fault(fault));
            }
            Found::NotAuthentic { tries } => {
                let sas = self.finder.candidates().len() as u32;
                item.set(Status::AuthFailed, Reason::NotAuthentic { sas, tries });
            }
        }
        item.sa = only;
        if let Some(sa) = only {
            self.ledger.failed(sa, &datagram.outer);
        }
    }

    /// Takes a frame whose packet depends on frames before, and opens the packet if there is one.
    fn receive<'w>(&mut self, packet: &Packet<'w>, item: &mut Item<'w>, arena: &mut Arena) {
        let table = self.ledger.table();
        let mut receiver = std::mem::take(&mut self.receiver);
        let received = receiver.receive(packet, |protocol| table.uses_protocol(protocol));
        let (may_repeat, unknown_context) = (received.may_repeat, received.unknown_context);
        item.radio = received.radio;
        match received.content {
            Content::Repeat { of } => self.repeat(of, item, arena),
            Content::NotIp(what) => item.set(Status::NotEsp, Reason::Text(what)),
            Content::Fragment { outer, waits } => {
                (item.outer, item.waits) = (outer, waits);
                item.set(Status::NotEsp, Reason::Text("fragment"));
            }
            Content::Malformed { outer, fault } => {
                item.outer = outer;
                item.set(Status::Malformed, Reason::Fault(fault));
            }
            Content::Datagram(datagram) => {
                item.outer = Some(datagram.outer);
                if !datagram.rebuilt {
                    item.link_type = packet.link_type();
                    item.link_header = packet.data.get(..received.link_header.len()).unwrap_or_default();
                }
                match esp_payload(table, &datagram) {
                    Ok(payload) => self.open(packet, &datagram, &payload, item, arena),
                    Err(reason) => item.reason = Some(reason),
                }
                item.source = Source::Whole(Box::new(Whole {
                    packet: [datagram.header, datagram.payload].concat(),
                    fragments: received.fragments.to_vec(),
                    rebuilt: datagram.rebuilt,
                    link: datagram.link,
                }));
            }
        }
        arena.given_up.extend_from_slice(receiver.given_up());
        self.receiver = receiver;
        if unknown_context {
            item.warnings.add(Warnings::UNKNOWN_CONTEXT);
        }
        if may_repeat {
            self.keep(packet.number, item, arena);
        }
    }

    /// Keeps what became of a frame, for its repeats.
    fn keep(&mut self, frame: u64, item: &Item<'_>, arena: &Arena) {
        if self.kept.len() >= link::REPEATS_KEPT {
            self.kept.pop_front();
        }
        let Item { outer, status, reason, sa, of_known_sa, esp, restored, bytes, warnings, .. } = *item;
        let kept = Item {
            status,
            reason,
            sa,
            of_known_sa,
            esp,
            restored,
            bytes,
            warnings,
            radio: item.radio,
            ..Item::new(outer, Step::Done)
        };
        let (fragments, packet) = (item.fragments().to_vec(), item.packet(arena).to_vec());
        self.kept.push_back(Kept { frame, item: kept, fragments, packet });
    }

    /// A frame that repeats another one on the link layer has all that that one had.
    fn repeat(&self, of: u64, item: &mut Item<'_>, arena: &mut Arena) {
        let kept = self.kept.binary_search_by_key(&of, |kept| kept.frame).ok().and_then(|at| self.kept.get(at));
        if let Some(Kept { item: first, fragments, packet, .. }) = kept {
            (item.outer, item.status, item.reason) = (first.outer, first.status, first.reason);
            (item.sa, item.of_known_sa, item.esp) = (first.sa, first.of_known_sa, first.esp);
            (item.restored, item.bytes, item.warnings) = (first.restored, first.bytes, first.warnings);
            item.packet = arena.put(packet);
            let (fragments, packet) = (fragments.clone(), vec![]);
            item.source = Source::Whole(Box::new(Whole { packet, fragments, rebuilt: true, link: None }));
        }
        item.warnings.add(Warnings::DUPLICATE);
        item.repeat_of = Some(of);
        (item.radio, item.repeat) = (true, true);
    }
}

/// What became of a frame that may be repeated.
#[derive(Debug)]
struct Kept {
    frame: u64,
    item: Item<'static>,
    fragments: Vec<u64>,
    packet: Vec<u8>,
}
