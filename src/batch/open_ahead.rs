//! Opens the packets of a batch before the earlier batches are finished. Workers do this in parallel.

use std::collections::HashMap;
use std::net::IpAddr;

use super::recycle::recycle;
use crate::capture::{Frame, LINKTYPE_RAW, Window};
use crate::cipher::{MultiKeyRequest, OpenRequest, SIDE_BY_SIDE, Scratch, open_multi_key};
use crate::codec::State;
use crate::decoder::arena::{Arena, Span};
use crate::decoder::candidates::{Candidates, Limits, Opened};
use crate::decoder::esp_packet::EspPayload;
use crate::decoder::esp_packet::explicit_iv;
use crate::decoder::likely_numbers::first_sealed;
use crate::decoder::not_esp;
use crate::decoder::outcome::{Outcome, Source};
use crate::decoder::status::{Reason, Status};
use crate::decoder::streams::ProgressSnapshot;
use crate::link::{self, Standalone};
use crate::net::{IpLocation, OuterHeader};
use crate::prefetch;
use crate::sa::stream::{Progress, digest};
use crate::sa::table::{FlowCache, Lookup, PreparedSa, SaTable};

/// What was done ahead with the first packet of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PacketState {
    /// The outcome is final: the frame contains no ESP.
    Done,
    /// The frame depends on earlier frames. Nothing was done.
    InOrder,
    /// The packet was opened but not yet committed to its stream.
    Opened {
        /// SA and sequence number.
        opened: Opened,
        /// [`digest`] of the ESP payload.
        digest: u64,
    },
    /// The packet could not be opened with the state known at the time.
    NotOpened,
}

/// Opens packets before their turn.
#[derive(Debug)]
pub(crate) struct AheadOpener<'t, 'g> {
    table: &'t SaTable,
    candidates: Candidates,
    /// See [`link::Settings::outermost`]: ESP is not opened.
    outermost: bool,
    snapshot: &'g ProgressSnapshot,
    /// The streams of this batch.
    seen: Seen,
    scratch: Scratch,
    /// Memory for [`Plan::packets`].
    planned: Vec<Planned<'static>>,
}

/// The progress of the streams of a batch.
#[derive(Debug, Default)]
struct Seen {
    streams: Vec<SeenStream>,
    /// The number of the batch. Entries of other batches are ignored, so `places` need not be cleared.
    window: u32,
    /// By SA: the last batch with packets of it, and the position in `streams`.
    places: Vec<(u32, u32)>,
    /// Multicast packets have one stream per source. By SA and source: the position in `streams`.
    multicast: HashMap<(u32, IpAddr), u32>,
}

#[derive(Debug)]
struct SeenStream {
    sa: u32,
    progress: Progress,
    /// The positions of the first and the last packet to open.
    planned: Option<(u32, u32)>,
}

/// A packet with only one candidate SA. It is opened together with other packets of its stream.
#[derive(Debug, Clone, Copy)]
struct Planned<'w> {
    /// Its position among the outcomes.
    index: u32,
    /// The position of the next packet of its stream; [`NONE`] for the last one.
    next: u32,
    time_ns: i64,
    /// Its ESP payload.
    bytes: &'w [u8],
}

const NONE: u32 = u32::MAX;

/// The packets of a batch that are opened together.
#[derive(Debug)]
struct Plan<'w> {
    packets: Vec<Planned<'w>>,
    before: Option<FlowCache>,
}

impl Seen {
    fn new(sas: usize) -> Seen {
        Seen { places: vec![(0, 0); sas], ..Seen::default() }
    }

    /// Begins the next batch.
    fn clear(&mut self) {
        self.streams.clear();
        self.multicast.clear();
        self.window = self.window.wrapping_add(1);
        if self.window == 0 {
            self.places.fill((0, 0));
            self.window = 1;
        }
    }

    /// Returns a stream. At its first packet in the batch, its progress is copied from `snapshot`.
    #[inline]
    fn stream(&mut self, stream: StreamOf, snapshot: &ProgressSnapshot) -> Option<&mut SeenStream> {
        let next = self.streams.len() as u32;
        let sa = stream.sa;
        let place = match stream.multicast_source {
            None => match self.places.get_mut(sa as usize)? {
                (window, place) if *window == self.window => *place,
                place => {
                    *place = (self.window, next);
                    next
                }
            },
            Some(source) => *self.multicast.entry((sa, source)).or_insert(next),
        };
        if place == next {
            self.streams.push(SeenStream { sa, progress: snapshot.of(sa), planned: None });
        }
        self.streams.get_mut(place as usize)
    }

    /// The progress of a stream; `None` if the batch has had no packet of it.
    fn progress(&self, StreamOf { sa, multicast_source }: StreamOf) -> Option<Progress> {
        let place = match multicast_source {
            None => self.places.get(sa as usize).filter(|(window, _)| *window == self.window).map(|(_, place)| *place),
            Some(source) => self.multicast.get(&(sa, source)).copied(),
        };
        self.streams.get(place? as usize).map(|stream| stream.progress)
    }
}

/// The keys of a stream are prefetched this many streams before they are needed.
const STREAMS_AHEAD: usize = 4;

/// Prefetches the keys of a stream that will be opened soon, if there are so many SAs that the keys may not be
/// cached.
#[inline]
fn prefetch_cipher(table: &SaTable, stream: Option<&SeenStream>) {
    if table.has_many()
        && let Some(entry) = stream.and_then(|stream| table.entry(stream.sa))
    {
        entry.prefetch_cipher();
    }
}

/// Number of sequence numbers tried ahead. A packet that needs more is opened in its turn, when the progress of its
/// stream is known.
const EARLY_TRIES: u32 = 64;

impl<'t, 'g> AheadOpener<'t, 'g> {
    /// Copies the progress of streams from `snapshot`.
    pub(crate) fn new(
        table: &'t SaTable,
        limits: Limits,
        link: &link::Settings,
        snapshot: &'g ProgressSnapshot,
    ) -> AheadOpener<'t, 'g> {
        let limits = Limits { sn_tries: limits.sn_tries.min(EARLY_TRIES), resync_tries: None, ..limits };
        AheadOpener {
            table,
            candidates: Candidates::new(limits),
            outermost: link.outermost,
            snapshot,
            seen: Seen::new(table.entries().len()),
            scratch: Scratch::default(),
            planned: vec![],
        }
    }

    /// Fills `outcomes` and `states` for the frames of `window`. Restored packets are added to `arena`.
    pub(crate) fn open_ahead<'w>(
        &mut self,
        window: &'w Window,
        outcomes: &mut Vec<Outcome<'w>>,
        states: &mut Vec<PacketState>,
        arena: &mut Arena,
    ) {
        let (table, outermost) = (self.table, self.outermost);
        let stops_at = |protocol| outermost || table.uses_protocol(protocol);
        self.seen.clear();
        outcomes.clear();
        outcomes.reserve(window.len());
        states.clear();
        states.resize(window.len(), PacketState::Done);
        let mut planned = Plan { packets: recycle(std::mem::take(&mut self.planned)), before: None };
        planned.packets.reserve(window.len());
        for packet in window.frames() {
            let index = outcomes.len() as u32;
            outcomes.push(Outcome::new(packet.data));
            let (Some(outcome), Some(state)) = (outcomes.last_mut(), states.get_mut(index as usize)) else { continue };
            outcome.link_type = packet.link_type();
            match link::parse_plain(outcome.link_type, packet.data, stops_at) {
                Some(place) => {
                    // Most packets have their headers at the same offsets as the previous packet.
                    if table.has_many()
                        && let Some(next) = window.get(index as usize + prefetch::PACKETS_AHEAD)
                    {
                        table.prefetch(place.protocol, place.header(next.data), place.payload(next.data));
                    }
                    self.plan_in_frame(&packet, place, (outcome, state), index, &mut planned, arena);
                }
                None => self.plan_other(&packet, (outcome, state), index, &mut planned, arena),
            }
        }
        let planned = planned.packets;
        let packets = &mut Packets { outcomes, states };
        let mut alone = [0; SIDE_BY_SIDE];
        let mut count = 0;
        for place in 0..self.seen.streams.len() {
            match self.seen.streams.get(place).and_then(|stream| stream.planned) {
                None => {}
                Some((first, last)) if first == last => {
                    if let Some(slot) = alone.get_mut(count) {
                        *slot = place;
                        count += 1;
                    }
                    if count == SIDE_BY_SIDE {
                        self.open_alone(&alone, &planned, packets, arena);
                        count = 0;
                    }
                }
                Some(_) => {
                    prefetch_cipher(table, self.seen.streams.get(place + STREAMS_AHEAD));
                    self.open_stream(place, &planned, packets, arena);
                }
            }
        }
        self.open_alone(alone.get(..count).unwrap_or_default(), &planned, packets, arena);
        self.planned = recycle(planned);
    }

    /// Handles a frame that [`link::parse_plain`] does not parse.
    fn plan_other<'w>(
        &mut self,
        packet: &Frame<'w>,
        (outcome, state): (&mut Outcome<'w>, &mut PacketState),
        index: u32,
        planned: &mut Plan<'w>,
        arena: &mut Arena,
    ) {
        let (table, outermost) = (self.table, self.outermost);
        match link::parse_standalone(outcome.link_type, packet.data, |protocol| {
            outermost || table.uses_protocol(protocol)
        }) {
            Some(Standalone::Packet(place)) => {
                return self.plan_in_frame(packet, place, (outcome, state), index, planned, arena);
            }
            Some(Standalone::NotIp(what)) => outcome.set(Status::NotEsp, Reason::not_ip(what, packet)),
            Some(Standalone::Malformed { outer, fault }) => {
                outcome.source = Source::header(outer);
                outcome.set(Status::Malformed, Reason::Fault(fault));
            }
            None => *state = PacketState::InOrder,
        }
        outcome.link_type = LINKTYPE_RAW;
    }

    #[inline(always)]
    fn plan_in_frame<'w>(
        &mut self,
        packet: &Frame<'w>,
        place: IpLocation,
        (outcome, state): (&mut Outcome<'w>, &mut PacketState),
        index: u32,
        planned: &mut Plan<'w>,
        arena: &mut Arena,
    ) {
        let (table, frame) = (self.table, packet.data);
        outcome.source = Source::Frame(place);
        if self.outermost {
            outcome.reason = Some(Reason::Protocol(place.protocol));
            return;
        }
        let payload = match EspPayload::in_frame(table, frame, place) {
            Ok(payload) => payload,
            Err(reason) => {
                outcome.reason = Some(not_esp::reason(reason, table, place.payload(frame)));
                return;
            }
        };
        *state = PacketState::NotOpened;
        if payload.missing > 0 {
            return;
        }
        let time_ns = packet.time_ns();
        let Plan { packets, before } = planned;
        let Some(sa) = table.unique_candidate(payload.protocol, place.header(frame), payload.bytes, before) else {
            return self.search_payload(time_ns, (place, frame), &payload, (outcome, state), arena);
        };
        table.prefetch_entry(sa);
        let at = packets.len() as u32;
        packets.push(Planned { index, next: NONE, time_ns, bytes: payload.bytes });
        let Some(stream) = self.seen.stream(StreamOf::new(sa, place, frame), self.snapshot) else { return };
        match &mut stream.planned {
            Some((_, last)) => {
                if let Some(last) = packets.get_mut(std::mem::replace(last, at) as usize) {
                    last.next = at;
                }
            }
            None => stream.planned = Some((at, at)),
        }
    }

    /// Opens packets that are the only ones of their streams in the batch, at most [`SIDE_BY_SIDE`] at once.
    fn open_alone<'w>(
        &mut self,
        places: &[usize],
        planned: &[Planned<'w>],
        packets: &mut Packets<'_, 'w>,
        arena: &mut Arena,
    ) {
        let table = self.table;
        let streams = &self.seen.streams;
        let mut chosen: [Option<(usize, &Planned<'w>, &PreparedSa)>; SIDE_BY_SIDE] = [None; SIDE_BY_SIDE];
        let with_first = places.iter().filter_map(|place| Some((*place, streams.get(*place)?)));
        let with_packet = with_first.filter_map(|(place, stream)| {
            let (first, _) = stream.planned?;
            Some((place, planned.get(first as usize)?, table.entry(stream.sa)?))
        });
        chosen.iter_mut().zip(with_packet).for_each(|(to, packet)| *to = Some(packet));
        let Some(any) = chosen.iter().flatten().map(|(_, _, entry)| entry.cipher()).next() else { return };
        let mut apart = [MultiKeyRequest { cipher: any, esn: false, sealed: OpenRequest::default() }; SIDE_BY_SIDE];
        let mut count = 0;
        for ((place, packet, entry), apart) in chosen.iter().flatten().zip(&mut apart) {
            let Some(stream) = streams.get(*place) else { continue };
            // An empty request fails. It stands for a packet that is too short, or whose number is computed from
            // the ICV.
            (apart.cipher, apart.esn) = (entry.cipher(), entry.esn());
            first_sealed(entry, packet.bytes, &stream.progress, packet.time_ns, &mut apart.sealed);
            count += 1;
        }
        let apart = apart.get(..count).unwrap_or_default();
        // One prefetch after each packet, because the CPU supports only a few outstanding loads.
        let mut next = places.last().and_then(|last| streams.get(last + 1..)).unwrap_or_default().iter();
        let after_each = || prefetch_cipher(table, next.next());
        let opened = open_multi_key(apart, &mut self.scratch, &mut arena.bytes, after_each);
        for (((place, packet, entry), apart), clear) in chosen.iter().flatten().zip(apart).zip(opened) {
            let Some((outcome, state)) = packets.get_mut(packet.index) else { continue };
            match (clear, self.seen.streams.get_mut(*place)) {
                (Some(clear), Some(stream)) => {
                    let clear = Span { start: clear.start as u32, len: clear.len() as u32 };
                    stream.progress.verified(apart.sealed.sn, explicit_iv(entry, packet.bytes), packet.time_ns);
                    let opened = Opened { sa: stream.sa, sn: apart.sealed.sn, ambiguous: false };
                    keep((outcome, state), entry, opened, packet.bytes, clear, arena);
                }
                _ => self.search(packet, (outcome, state), arena),
            }
        }
    }

    /// Searches for the SA and the sequence number of a packet that the first try did not open.
    fn search<'w>(
        &mut self,
        packet: &Planned<'w>,
        (outcome, state): (&mut Outcome<'w>, &mut PacketState),
        arena: &mut Arena,
    ) {
        let Some(in_frame @ (place, frame)) = outcome.in_frame() else { return };
        let Ok(payload) = EspPayload::in_frame(self.table, frame, place) else { return };
        self.search_payload(packet.time_ns, in_frame, &payload, (outcome, state), arena);
    }

    /// Opens the packets of one stream, assuming that no packet was lost. If a packet does not verify, it and the
    /// rest of its group are searched.
    fn open_stream<'w>(
        &mut self,
        place: usize,
        planned: &[Planned<'w>],
        packets: &mut Packets<'_, 'w>,
        arena: &mut Arena,
    ) {
        let table = self.table;
        let Some(stream) = self.seen.streams.get_mut(place) else { return };
        let (sa, Some((first, _))) = (stream.sa, stream.planned) else { return };
        let Some(entry) = table.entry(sa) else { return };
        let mut next = planned.get(first as usize);
        while next.is_some() {
            let Some(known) = self.seen.streams.get_mut(place).map(|stream| &mut stream.progress) else { return };
            let mut progress = *known;
            let mut group: [Option<&Planned<'_>>; SIDE_BY_SIDE] = [None; SIDE_BY_SIDE];
            let mut sealed = [OpenRequest::default(); SIDE_BY_SIDE];
            let mut count = None;
            for (index, (place, sealed)) in group.iter_mut().zip(&mut sealed).enumerate() {
                let Some(packet) = next else { break };
                next = planned.get(packet.next as usize);
                *place = Some(packet);
                if count.is_none() && first_sealed(entry, packet.bytes, &progress, packet.time_ns, sealed) {
                    progress.verified(sealed.sn, explicit_iv(entry, packet.bytes), packet.time_ns);
                } else {
                    count = count.or(Some(index));
                }
            }
            let group_len = group.iter().flatten().count();
            let sealed = sealed.get(..count.unwrap_or(group_len)).unwrap_or_default();
            let mut start = arena.bytes.len() as u32;
            let opened = entry.cipher().open_side_by_side(entry.esn(), sealed, &mut self.scratch, &mut arena.bytes);
            for (packet, sealed) in group.iter().flatten().zip(sealed).take(opened) {
                let clear = Span { start, len: entry.clear_len(sealed.body.len()) as u32 };
                start += clear.len;
                known.verified(sealed.sn, explicit_iv(entry, packet.bytes), packet.time_ns);
                if let Some(kept) = packets.get_mut(packet.index) {
                    let opened = Opened { sa, sn: sealed.sn, ambiguous: false };
                    keep(kept, entry, opened, packet.bytes, clear, arena);
                }
            }
            for packet in group.iter().flatten().skip(opened) {
                if let Some(kept) = packets.get_mut(packet.index) {
                    self.search(packet, kept, arena);
                }
            }
        }
    }

    fn search_payload(
        &mut self,
        time_ns: i64,
        (place, frame): (IpLocation, &[u8]),
        payload: &EspPayload<'_>,
        kept: (&mut Outcome<'_>, &mut PacketState),
        arena: &mut Arena,
    ) {
        let AheadOpener { table, candidates, snapshot, seen, .. } = self;
        let Some(outer) = OuterHeader::of(place.header(frame)) else { return };
        let lookup = Lookup { protocol: payload.protocol, outer: &outer, link: None, payload: payload.bytes };
        let found = candidates.open(table, &lookup, time_ns, false, |sa| {
            // SAs without ICV accept any packet, so they are tried last, once the progress of all other SAs is
            // known.
            table.entry(sa).filter(|entry| entry.authenticates())?;
            Some(seen.progress(StreamOf::new(sa, place, frame)).unwrap_or_else(|| snapshot.of(sa)))
        });
        let Ok(opened @ Opened { sa, sn, .. }) = found else { return };
        let Some(entry) = table.entry(sa) else { return };
        let iv = explicit_iv(entry, payload.bytes);
        if let Some(stream) = seen.stream(StreamOf::new(sa, place, frame), snapshot) {
            stream.progress.verified(sn, iv, time_ns);
        }
        let clear = arena.put(&candidates.clear);
        keep(kept, entry, opened, payload.bytes, clear, arena);
    }
}

/// Outcomes and states of the frames of a batch.
struct Packets<'p, 'w> {
    outcomes: &'p mut [Outcome<'w>],
    states: &'p mut [PacketState],
}

impl<'w> Packets<'_, 'w> {
    #[inline]
    fn get_mut(&mut self, index: u32) -> Option<(&mut Outcome<'w>, &mut PacketState)> {
        self.outcomes.get_mut(index as usize).zip(self.states.get_mut(index as usize))
    }
}

/// Keeps the clear text of an opened packet. If its codec needs no state, also restores the inner packet.
fn keep(
    (outcome, state): (&mut Outcome<'_>, &mut PacketState),
    entry: &PreparedSa,
    opened: Opened,
    payload: &[u8],
    clear: Span,
    arena: &mut Arena,
) {
    *state = PacketState::Opened { opened, digest: digest(payload, entry.authenticates()) };
    if entry.codec.is_stateful() {
        outcome.clear = clear;
    } else if let Some((place, frame)) = outcome.in_frame() {
        let (header, protocol_offset) = (place.header(frame), place.protocol_offset());
        outcome.restore(entry, header, protocol_offset, clear, payload.len(), &mut State::default(), arena);
    }
}

/// The stream of a packet under an SA. Multicast packets have one per source.
#[derive(Debug, Clone, Copy)]
struct StreamOf {
    sa: u32,
    multicast_source: Option<IpAddr>,
}

impl StreamOf {
    #[inline]
    fn new(sa: u32, place: IpLocation, frame: &[u8]) -> StreamOf {
        let source = || crate::net::addresses(place.header(frame)).map(|(source, _)| source);
        StreamOf { sa, multicast_source: if place.is_multicast(frame) { source() } else { None } }
    }
}
