//! Commits a verified packet to its stream, then restores the inner packet.

use super::EspDecoder;
use super::arena::{Arena, Span};
use super::candidates::Opened;
use super::esp_packet::EspPacket;
use super::esp_packet::explicit_iv;
use super::likely_numbers::expected;
use super::outcome::Outcome;
use super::outcomes::Outcomes;
use super::status::Method;
use super::warnings::Warnings;
use crate::capture::Frame;
use crate::codec::Form;
use crate::net::OuterHeader;
use crate::sa::stream::{ReplayCheck, digest};
use crate::sa::table::{Hints, Lookup, PreparedSa, SaTable};

/// The position of a packet in the stream of its SA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    sa: u32,
    /// The codec keeps state from packet to packet, and packets before this one are missing.
    after_gap: bool,
}

impl EspDecoder {
    /// Records a verified packet in the stream of its SA.
    pub(super) fn commit(&mut self, esp: &EspPacket<'_>, opened: &Opened, outcomes: &mut Outcomes<'_, '_>) -> Place {
        let authenticates = self.sas.entry(opened.sa).is_some_and(PreparedSa::authenticates);
        let digest = digest(esp.payload.bytes, authenticates);
        let place = self.commit_if(false, outcomes.frame(), esp, (opened, digest), outcomes.last());
        place.unwrap_or(Place { sa: opened.sa, after_gap: false })
    }

    /// Records a packet that was opened before all earlier frames were decoded. Returns `None` and records nothing
    /// if a search from the present state would not reach its sequence number.
    #[inline]
    pub(crate) fn commit_ahead(
        &mut self,
        frame: &Frame<'_>,
        esp: &EspPacket<'_>,
        opened: (&Opened, u64),
        outcome: &mut Outcome<'_>,
    ) -> Option<Place> {
        self.commit_if(true, frame, esp, opened, outcome)
    }

    #[inline(always)]
    fn commit_if(
        &mut self,
        is_ahead: bool,
        frame: &Frame<'_>,
        esp: &EspPacket<'_>,
        (opened, digest): (&Opened, u64),
        outcome: &mut Outcome<'_>,
    ) -> Option<Place> {
        let Opened { sa, sn, ambiguous } = *opened;
        let EspDecoder { sas, candidates, streams, found, flows, .. } = self;
        let entry = sas.entry(sa)?;
        let (bytes, time_ns) = (esp.payload.bytes, frame.time_ns());
        let progress = streams.progress(sa, esp.multicast);
        let (method, own_tries) = candidates.method(entry, bytes, time_ns, sn, &progress);
        if is_ahead && !candidates.reaches(&progress, own_tries) {
            return None;
        }
        let tries = match ambiguous.then(|| OuterHeader::of(esp.header)).flatten() {
            None => own_tries,
            Some(outer) => {
                let lookup = esp.lookup(&outer);
                let tries = tries_of(sas, &lookup, sa, own_tries, (flows, found));
                sas.learn(&lookup, sa, flows);
                tries
            }
        };
        outcome.identified(entry, bytes, (sa, sn), (method, tries));
        let after_gap = entry.codec.is_stateful() && sn > expected(entry, &progress, time_ns);
        let iv = explicit_iv(entry, bytes);
        let (stream, streams) = streams.next_of(sa, esp.multicast);
        stream.counts.tries += tries;
        if method == Method::Search {
            stream.counts.anomalies_mut().resyncs += 1;
        }
        match stream.verified(sn, iv, time_ns, (digest, frame.number), streams) {
            ReplayCheck::New => {}
            ReplayCheck::Duplicate(first) => {
                outcome.warnings.add(Warnings::DUPLICATE);
                outcome.repeat_of = Some(first);
            }
            ReplayCheck::Replayed => outcome.warnings.add(Warnings::REPLAYED),
        }
        Some(Place { sa, after_gap })
    }

    /// Restores the inner packet from the clear text of [`EspDecoder::open`].
    pub(super) fn restore(&mut self, esp: &EspPacket<'_>, place: Place, outcomes: &mut Outcomes<'_, '_>) {
        let (outcome, arena) = outcomes.last_and_arena();
        let clear = arena.put(&self.candidates.clear);
        self.restore_from(clear, esp, place, outcome, arena);
    }

    /// Restores the inner packet from its clear text. If the codec keeps state, this must be done in capture order.
    pub(crate) fn restore_from(
        &mut self,
        clear: Span,
        esp: &EspPacket<'_>,
        Place { sa, after_gap }: Place,
        outcome: &mut Outcome<'_>,
        arena: &mut Arena,
    ) {
        let EspDecoder { sas, streams, .. } = self;
        let Some(entry) = sas.entry(sa) else { return };
        let state = &mut streams.stream_mut(sa, esp.multicast).codec;
        let (header, wire_len) = (esp.header, esp.payload.bytes.len());
        outcome.restore(entry, header, esp.protocol_offset, clear, wire_len, state, arena);
        if after_gap && outcome.restored.is_some_and(|restored| restored.form != Form::Dummy) {
            outcome.warnings.add(Warnings::TCP_NEAREST);
        }
    }
}

/// Number of attempts up to the one that verified, if there are several candidate SAs. The SA that the flow had last is
/// tried first, then the first number of every SA, then the second number of each, and so on. `found` is memory for the
/// candidates.
fn tries_of(
    sas: &SaTable,
    lookup: &Lookup<'_>,
    sa: u32,
    own_tries: u64,
    (flows, found): (&Hints, &mut Vec<u32>),
) -> u64 {
    let complete = sas.hinted_candidates(lookup, flows, found);
    let place = found.iter().position(|other| *other == sa);
    match place {
        Some(place) if own_tries == 1 => place as u64 + 1,
        _ => {
            let likely = found.len();
            if !complete {
                sas.candidates(lookup, found);
            }
            let place = found.iter().position(|other| *other == sa).unwrap_or(0);
            let again = if complete { 0 } else { likely };
            (found.len() as u64) * (own_tries - 1) + (place + 1 + again) as u64
        }
    }
}
