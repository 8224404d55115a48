//! What depends on the packets before, in capture order: places in streams, frames that others complete or repeat.

pub mod arena;
pub mod candidates;
pub mod esp_payload;
pub mod hints;
mod nested;
pub(crate) mod not_esp;
pub mod outcome;
mod repeats;
pub mod status;
pub mod streams;
pub mod warnings;

use std::collections::VecDeque;

use crate::capture::{Packet, Window};
use crate::codec::Form;
use crate::error::{Fault, Stage};
use crate::ike;
use crate::link::{self, Content, InnerReceiver, Received, Receiver};
use crate::net::{Datagram, LinkAddresses, Outer, esp};
use crate::prefetch::PACKETS_AHEAD;
use crate::sa::stream::{Novelty, digest};
use crate::sa::table::{Hints, Lookup, PreparedSa, SaTable};
use arena::{Arena, Span};
use candidates::{Candidates, Found, Limits, expected, explicit_iv};
use esp_payload::EspPayload;
use hints::Hint;
use outcome::{Outcome, Source, Step, Verified};
use repeats::Kept;
use status::{Method, Reason, Status};
use streams::{ProgressSnapshot, Streams};
use warnings::Warnings;

/// An ESP payload and what carries it.
#[derive(Debug, Clone, Copy)]
struct Carried<'a> {
    payload: EspPayload<'a>,
    /// See [`Carrier`].
    header: &'a [u8],
    protocol_offset: usize,
    link: Option<LinkAddresses>,
    /// `header`, if the packet goes to a multicast address.
    multicast: Option<&'a [u8]>,
}

impl<'a> Carried<'a> {
    fn by_datagram(datagram: &Datagram<'a>, payload: EspPayload<'a>) -> Carried<'a> {
        let Datagram { outer, header, protocol_offset, link, .. } = *datagram;
        let multicast = outer.dst.is_multicast().then_some(header);
        Carried { payload, header, protocol_offset, link, multicast }
    }

    fn lookup<'l>(&'l self, outer: &'l Outer) -> Lookup<'l> {
        Lookup { protocol: self.payload.protocol, outer, link: self.link, payload: self.payload.bytes }
    }
}

/// Candidates of a packet for which the likely cause is looked for.
const MOST_HINTED: usize = 4;

/// Settles in capture order what depends on the packets before.
#[derive(Debug)]
pub struct Decoder<'t> {
    finder: Candidates<'t>,
    ledger: Streams<'t>,
    receiver: Receiver,
    inner_receiver: InnerReceiver,
    /// Memory for the packet that is looked into.
    inner_packet: Vec<u8>,
    /// See [`link::Settings::outermost`]: no packet is looked into for ESP.
    outermost: bool,
    kept: VecDeque<Kept>,
    found: Vec<u32>,
    hints: Hints,
}

impl<'t> Decoder<'t> {
    /// Nothing seen yet.
    pub fn new(table: &'t SaTable, limits: Limits, link: &link::Settings) -> Decoder<'t> {
        Decoder {
            finder: Candidates::new(table, limits),
            ledger: Streams::new(table),
            receiver: Receiver::new(link),
            inner_receiver: InnerReceiver::new(link),
            inner_packet: vec![],
            outermost: link.outermost,
            kept: VecDeque::new(),
            found: vec![],
            hints: Hints::default(),
        }
    }

    /// What is known of the streams.
    pub fn into_ledger(self) -> Streams<'t> {
        self.ledger
    }

    /// Settles the frames of the next window.
    pub fn settle<'w>(
        &mut self,
        window: &'w Window,
        outcomes: &mut [Outcome<'w>],
        arena: &mut Arena,
        glimpse: &ProgressSnapshot,
    ) {
        arena.given_up.clear();
        if outcomes.iter().any(|outcome| matches!(outcome.step, Step::InOrder)) {
            self.receiver.survey(window.packets());
        }
        let mut shown = None;
        for (at, packet) in window.packets().enumerate() {
            if self.ledger.table().has_many() {
                self.prefetch(outcomes.get(at + PACKETS_AHEAD), outcomes.get(at + PACKETS_AHEAD / 2), glimpse);
            }
            let Some(outcome) = outcomes.get_mut(at) else { break };
            match outcome.step {
                Step::Done => {}
                step @ (Step::Verified(_) | Step::Failed) => {
                    let Some((place, frame)) = outcome.in_frame() else { continue };
                    let table = self.ledger.table();
                    let carried = Carried {
                        payload: match place.protocol {
                            esp::UDP => match EspPayload::in_frame(table, frame, place) {
                                Ok(payload) => payload,
                                Err(_) => continue,
                            },
                            protocol => {
                                let (bytes, missing) = (place.payload(frame), place.missing());
                                EspPayload { protocol, udp_header: None, bytes, missing }
                            }
                        },
                        header: place.header(frame),
                        protocol_offset: place.protocol_offset(),
                        link: None,
                        multicast: place.is_multicast(frame).then(|| place.header(frame)),
                    };
                    match step {
                        Step::Verified(found) => match self.enter(&packet, &carried, outcome, found) {
                            // Further away than the search would have gone from what is known now.
                            None => {
                                outcome.forget();
                                self.open(&packet, &carried, outcome, arena);
                            }
                            Some(after_gap) => {
                                if table.entry(found.sa).is_some_and(|entry| entry.codec.is_stateful()) {
                                    let clear = outcome.clear;
                                    self.restore(&carried, outcome, (found.sa, after_gap), clear, arena);
                                }
                            }
                        },
                        _ => self.open(&packet, &carried, outcome, arena),
                    }
                    if outcome.nests(table) {
                        self.open_nested(&packet, outcome, arena);
                    }
                }
                Step::InOrder => self.receive(&packet, outcome, arena),
            }
            outcome.step = Step::Done;
            for nested in outcome.parts().skip(1).filter_map(|part| part.sa) {
                self.ledger.show(nested, glimpse);
            }
            // Once for every run of packets of one SA.
            if let Some(sa) = outcome.sa.filter(|sa| outcome.esp.is_some() && shown != Some(*sa))
                && let Some(before) = shown.replace(sa)
            {
                self.ledger.show(before, glimpse);
            }
        }
        if let Some(last) = shown {
            self.ledger.show(last, glimpse);
        }
    }

    /// Asks for what the frame `next` will need, and for more of what was asked for when `then` was next.
    #[inline(always)]
    fn prefetch(&self, next: Option<&Outcome<'_>>, then: Option<&Outcome<'_>>, glimpse: &ProgressSnapshot) {
        let sa_of = |outcome: Option<&Outcome<'_>>| match outcome?.step {
            Step::Verified(Verified { sa, .. }) => Some(sa),
            _ => None,
        };
        if let Some(sa) = sa_of(next) {
            self.ledger.table().prefetch_entry(sa);
            self.ledger.prefetch(sa);
            glimpse.prefetch(sa);
        }
        if let Some(sa) = sa_of(then) {
            self.ledger.prefetch_recent(sa);
        }
    }

    /// A packet that verified takes its place in its stream; whether that is behind a gap. `None`, and nothing noted, if its
    /// number, found from what was known earlier, is out of reach.
    fn enter(
        &mut self,
        packet: &Packet<'_>,
        carried: &Carried<'_>,
        outcome: &mut Outcome<'_>,
        Verified { sa, sn, ambiguous, digest }: Verified,
    ) -> Option<bool> {
        let table = self.ledger.table();
        let entry = table.entry(sa)?;
        let (bytes, time_ns, source) = (carried.payload.bytes, packet.time_ns(), carried.multicast);
        let progress = self.ledger.progress(sa, source);
        let (method, own_tries) = self.finder.method(entry, bytes, time_ns, sn, &progress);
        if matches!(outcome.step, Step::Verified(_)) && !self.finder.reaches(&progress, own_tries) {
            return None;
        }
        let tries = match ambiguous.then(|| Outer::of(carried.header)).flatten() {
            None => own_tries,
            Some(outer) => {
                let lookup = carried.lookup(&outer);
                let tries = self.tries_of(&lookup, sa, own_tries);
                table.learn(&lookup, sa, &mut self.hints);
                tries
            }
        };
        outcome.identified(entry, bytes, (sa, sn), (method, tries));
        let after_gap = entry.codec.is_stateful() && sn > expected(entry, &progress, time_ns);
        let iv = explicit_iv(entry, bytes);
        let (stream, streams) = self.ledger.next_of(sa, source);
        stream.counts.tries += tries;
        if method == Method::Search {
            stream.counts.irregular_mut().resyncs += 1;
        }
        match stream.verified(sn, iv, time_ns, (digest, packet.number), streams) {
            Novelty::New => {}
            Novelty::Duplicate(first) => {
                outcome.warnings.add(Warnings::DUPLICATE);
                outcome.repeat_of = Some(first);
            }
            Novelty::Replayed => outcome.warnings.add(Warnings::REPLAYED),
        }
        Some(after_gap)
    }

    /// Restores the packet of a clear text that took its place in its stream.
    fn restore(
        &mut self,
        carried: &Carried<'_>,
        outcome: &mut Outcome<'_>,
        (sa, after_gap): (u32, bool),
        clear: Span,
        arena: &mut Arena,
    ) {
        let Some(entry) = self.ledger.table().entry(sa) else { return };
        let state = &mut self.ledger.stream_mut(sa, carried.multicast).codec;
        let (header, wire_len) = (carried.header, carried.payload.bytes.len());
        outcome.restore(entry, header, carried.protocol_offset, clear, wire_len, state, arena);
        if after_gap && outcome.restored.is_some_and(|restored| restored.form != Form::Dummy) {
            outcome.warnings.add(Warnings::TCP_NEAREST);
        }
    }

    /// Openings up to the one that verified, where several SAs are candidates: the first number of every SA, then the
    /// second of each, and so on, the SA that the flow had last before all others.
    fn tries_of(&mut self, lookup: &Lookup<'_>, sa: u32, own_tries: u64) -> u64 {
        let table = self.ledger.table();
        let complete = table.hinted_candidates(lookup, &self.hints, &mut self.found);
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

    /// The likely cause of a packet that its candidates do not open.
    fn hint(&mut self, payload: &[u8], source: Option<&[u8]>) -> Option<Hint> {
        let ledger = &self.ledger;
        let (candidates, clear) = self.finder.candidates_and_clear();
        let lost = candidates.iter().filter(|sa| ledger.progress(**sa, source).highest.is_none());
        let entries = lost.take(MOST_HINTED).filter_map(|sa| ledger.table().entry(*sa));
        entries.filter_map(|entry| hints::not_authentic(entry, payload, clear)).next()
    }

    fn authenticates(&self, sa: u32) -> bool {
        self.ledger.table().entry(sa).is_some_and(PreparedSa::authenticates)
    }

    /// Opens a packet with all that is known.
    fn open(&mut self, packet: &Packet<'_>, carried: &Carried<'_>, outcome: &mut Outcome<'_>, arena: &mut Arena) {
        const NOT_ESP: Reason = Reason::Text("IKE or NAT keepalive on UDP 4500");
        let (payload, source) = (&carried.payload, carried.multicast);
        let bytes = payload.bytes;
        let Some(outer) = Outer::of(carried.header) else { return };
        let lookup = carried.lookup(&outer);
        let ledger = &self.ledger;
        let progress = |sa| Some(ledger.progress(sa, source));
        let udp = payload.udp_header.is_some();
        let is_marker = udp && (esp::is_marker_or_keepalive(bytes) || bytes.is_empty());
        let found = match payload.missing {
            0 => self.finder.find(&lookup, packet.time_ns(), true, progress),
            _ => self.finder.cut(&lookup, progress),
        };
        let only = match self.finder.candidates() {
            [one] => Some(*one),
            _ => None,
        };
        outcome.restored = None;
        outcome.of_known_sa = found != Found::NoSa;
        match found {
            // To an SA without integrity check every packet is right, also an IKE message.
            Found::Verified { sa, sn, ambiguous }
                if self.authenticates(sa) || !(udp && ike::is_after_marker(bytes)) =>
            {
                let authenticates = self.authenticates(sa);
                let verified = Verified { sa, sn, ambiguous, digest: digest(bytes, authenticates) };
                let clear = arena.put(&self.finder.clear);
                if let Some(after_gap) = self.enter(packet, carried, outcome, verified) {
                    self.restore(carried, outcome, (sa, after_gap), clear, arena);
                }
                return;
            }
            Found::Verified { .. } => {
                outcome.of_known_sa = false;
                return outcome.set(Status::NotEsp, NOT_ESP);
            }
            _ if is_marker => {
                outcome.of_known_sa = false;
                return outcome.set(Status::NotEsp, NOT_ESP);
            }
            Found::NoSa => {
                let mut head = [0; 4];
                head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                let hint = hints::without_sa(self.ledger.table(), payload.protocol, bytes);
                return outcome.set(Status::NoSa, Reason::NoSa { head: u32::from_be_bytes(head), hint });
            }
            Found::Short(least) => {
                let fault = Fault::short(Stage::EspHeader, 0, "ESP header, IV and ICV", least, bytes.len());
                outcome.set(Status::Malformed, Reason::Fault(fault));
            }
            Found::Truncated => {
                let (needs, has) = (bytes.len() + payload.missing, bytes.len());
                let fault = Fault::short(Stage::EspHeader, 0, "ESP packet (cut by the snap length)", needs, has);
                outcome.set(Status::Malformed, Reason::Fault(fault));
            }
            Found::NotAuthentic { tries } => {
                let sas = self.finder.candidates().len() as u32;
                let hint = self.hint(bytes, source);
                outcome.set(Status::AuthFailed, Reason::NotAuthentic { sas, tries, hint });
            }
        }
        outcome.sa = only;
        if let Some(sa) = only {
            let tries = if let Found::NotAuthentic { tries } = found { tries } else { 0 };
            self.ledger.failed(sa, source, tries);
        }
        if matches!(found, Found::NotAuthentic { .. }) {
            for sa in self.finder.candidates() {
                self.ledger.not_authentic(*sa, source);
            }
        }
    }

    /// Takes a frame whose packets depend on frames before, and opens them.
    fn receive<'w>(&mut self, packet: &Packet<'w>, outcome: &mut Outcome<'w>, arena: &mut Arena) {
        let table = self.ledger.table();
        let wants = |protocol| table.uses_protocol(protocol);
        let mut receiver = std::mem::take(&mut self.receiver);
        let received = receiver.receive(packet, wants);
        let may_repeat = received.may_repeat;
        match received.content {
            Content::Repeat { of } => self.repeat(of, outcome, arena),
            _ => self.take(packet, received, outcome, arena),
        }
        if outcome.nests(table) {
            self.open_nested(packet, outcome, arena);
        }
        while let Some(received) = receiver.next(packet, wants) {
            let mut part = Outcome::new(packet.data);
            self.take(packet, received, &mut part, arena);
            outcome.add(part, false);
            self.open_nested(packet, outcome, arena);
        }
        arena.given_up.extend_from_slice(receiver.given_up());
        self.receiver = receiver;
        if may_repeat {
            self.keep(packet.number, outcome, arena);
        }
    }

    /// Takes what a frame brought, or one of its packets, and opens the packet if there is one.
    fn take<'w>(&mut self, packet: &Packet<'w>, received: Received<'_>, outcome: &mut Outcome<'w>, arena: &mut Arena) {
        let table = self.ledger.table();
        (outcome.radio, outcome.decrypted) = (received.radio, received.decrypted);
        match received.content {
            // Only a whole frame is one.
            Content::Repeat { .. } => {}
            Content::NotIp(what) => outcome.set(Status::NotEsp, Reason::not_ip(what, packet)),
            Content::Fragment { outer, waits } => {
                outcome.source = Source::header(outer);
                outcome.waits = waits;
                outcome.set(Status::NotEsp, Reason::Text("fragment"));
            }
            Content::Malformed { outer, fault } => {
                outcome.source = Source::header(outer);
                outcome.set(Status::Malformed, Reason::Fault(fault));
            }
            Content::Datagram(datagram) => {
                let mut link_header_len = 0;
                if !datagram.rebuilt {
                    outcome.link_type = packet.link_type();
                    link_header_len = received.link_header.len();
                }
                match EspPayload::of(table, &datagram) {
                    _ if self.outermost => outcome.reason = Some(Reason::Protocol(datagram.protocol)),
                    Ok(payload) => self.open(packet, &Carried::by_datagram(&datagram, payload), outcome, arena),
                    Err(reason) => {
                        let reason = received.unread.map_or(reason, Reason::Text);
                        outcome.reason = Some(not_esp::reason(reason, table, datagram.payload));
                    }
                }
                outcome.source = Source::whole(&datagram, link_header_len, received.fragments);
            }
        }
        if received.unknown_context {
            outcome.warnings.add(Warnings::UNKNOWN_CONTEXT);
        }
    }
}
