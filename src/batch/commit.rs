//! Finishes the outcomes of a batch in capture order.
//!
//! A packet that was opened ahead is committed if [`Decoder::decode`] would have found the same sequence number.
//! All other frames are decoded as if nothing had been opened ahead.

use super::open_ahead::PacketState;
use crate::capture::{Frame, Window};
use crate::decoder::Decoder;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Opened;
use crate::decoder::esp_packet::EspPacket;
use crate::decoder::outcome::Outcome;
use crate::decoder::streams::{ProgressSnapshot, Streams};
use crate::prefetch::PACKETS_AHEAD;
use crate::sa::table::SaTable;

/// Finishes `outcomes`, the outcomes of the frames of `window`. `states` says which were opened ahead. Afterwards,
/// `snapshot` contains the progress of the streams.
pub(super) fn commit<'w>(
    decoder: &mut Decoder,
    table: &SaTable,
    window: &'w Window,
    (outcomes, states): (&mut [Outcome<'w>], &[PacketState]),
    arena: &mut Arena,
    snapshot: &ProgressSnapshot,
) {
    if states.iter().any(|state| matches!(state, PacketState::InOrder)) {
        decoder.survey(window.frames());
    }
    let has_many = table.has_many();
    let mut shown = None;
    for (at, frame) in window.frames().enumerate() {
        if has_many {
            let (next, then) = (states.get(at + PACKETS_AHEAD), states.get(at + PACKETS_AHEAD / 2));
            prefetch(table, decoder.streams(), next, then, snapshot);
        }
        let (Some(outcome), Some(state)) = (outcomes.get_mut(at), states.get(at)) else { break };
        match state {
            PacketState::Done => continue,
            PacketState::Opened { opened, digest } => {
                commit_opened(decoder, table, &frame, (opened, *digest), outcome, arena);
            }
            PacketState::NotOpened => decoder.decode_in_frame(&frame, outcome, arena),
            PacketState::InOrder => *outcome = decoder.decode(&frame, arena),
        }
        let streams = decoder.streams();
        for nested in outcome.others().iter().filter_map(|part| part.sa) {
            streams.show(nested, snapshot);
        }
        // Once for every run of packets of one SA.
        if let Some(sa) = outcome.sa.filter(|sa| outcome.esp.is_some() && shown != Some(*sa))
            && let Some(before) = shown.replace(sa)
        {
            streams.show(before, snapshot);
        }
    }
    if let Some(last) = shown {
        decoder.streams().show(last, snapshot);
    }
}

/// Commits a packet that was opened ahead.
#[inline]
fn commit_opened<'w>(
    decoder: &mut Decoder,
    table: &SaTable,
    frame: &Frame<'w>,
    (opened, digest): (&Opened, u64),
    outcome: &mut Outcome<'w>,
    arena: &mut Arena,
) {
    let Some((place, bytes)) = outcome.in_frame() else { return };
    let Ok(esp) = EspPacket::in_frame(table, bytes, place) else { return };
    let Some(place) = decoder.esp_mut().commit_ahead(frame, &esp, (opened, digest), outcome) else {
        // A search that starts from the present state would not reach this number.
        outcome.forget();
        return decoder.decode_in_frame(frame, outcome, arena);
    };
    if table.entry(opened.sa).is_some_and(|entry| entry.codec.is_stateful()) {
        decoder.esp_mut().restore_from(outcome.clear, &esp, place, outcome, arena);
    }
    if outcome.nests(table) {
        decoder.decode_nested_in(frame, outcome, arena);
    }
}

/// Prefetches the data for the packet `next`. For the packet `then`, which was `next` some packets ago, it follows
/// the pointers loaded then.
#[inline(always)]
fn prefetch(
    table: &SaTable,
    streams: &Streams,
    next: Option<&PacketState>,
    then: Option<&PacketState>,
    snapshot: &ProgressSnapshot,
) {
    let sa_of = |state: Option<&PacketState>| match state? {
        PacketState::Opened { opened, .. } => Some(opened.sa),
        _ => None,
    };
    if let Some(sa) = sa_of(next) {
        table.prefetch_entry(sa);
        streams.prefetch(sa);
        snapshot.prefetch(sa);
    }
    if let Some(sa) = sa_of(then) {
        streams.prefetch_recent(sa);
    }
}
