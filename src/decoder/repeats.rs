//! Frames that repeat an earlier one on the link layer.

use std::collections::VecDeque;

use super::arena::Arena;
use super::outcome::{Outcome, OwnedDatagram, Source};
use super::outcomes::Outcomes;
use super::warnings::Warnings;
use crate::link;
use crate::net::OuterHeader;

/// The outcomes of a frame that may be repeated.
#[derive(Debug)]
struct Kept {
    frame: u64,
    /// At least one outcome.
    parts: Vec<KeptPart>,
}

#[derive(Debug)]
struct KeptPart {
    outcome: Outcome<'static>,
    outer: Option<OuterHeader>,
    fragments: Vec<u64>,
    packet: Vec<u8>,
}

/// The outcomes of recent frames that may be repeated.
#[derive(Debug, Default)]
pub(super) struct RecentFrames(VecDeque<Kept>);

impl RecentFrames {
    /// Keeps the outcomes of a frame, if it may be repeated.
    pub(super) fn keep(&mut self, outcomes: &Outcomes<'_, '_>) {
        if !outcomes.may_repeat {
            return;
        }
        if self.0.len() >= link::REPEATS_KEPT {
            self.0.pop_front();
        }
        let parts = outcomes.first.parts().map(|part| KeptPart {
            outcome: part.without_frame(),
            outer: part.outer(),
            fragments: part.fragments().to_vec(),
            packet: part.packet(outcomes.arena).to_vec(),
        });
        self.0.push_back(Kept { frame: outcomes.frame().number, parts: parts.collect() });
    }

    /// Copies the outcomes of frame `of`, which this frame repeats on the link layer.
    pub(super) fn repeat(&self, of: u64, outcomes: &mut Outcomes<'_, '_>) {
        let kept = self.0.binary_search_by_key(&of, |kept| kept.frame).ok().and_then(|at| self.0.get(at));
        let (outcome, arena) = (&mut *outcomes.first, &mut *outcomes.arena);
        if let Some((first, others)) = kept.and_then(|kept| kept.parts.split_first()) {
            first.fill(outcome, arena);
            for other in others {
                let mut part = Outcome::new(outcome.frame);
                other.fill(&mut part, arena);
                note_repeat(&mut part, of);
                outcome.add(part, other.outcome.inside != 0);
            }
        }
        note_repeat(outcome, of);
    }
}

impl KeptPart {
    fn fill(&self, outcome: &mut Outcome<'_>, arena: &mut Arena) {
        let KeptPart { outcome: first, outer, fragments, packet } = self;
        (outcome.status, outcome.reason) = (first.status, first.reason);
        (outcome.sa, outcome.of_known_sa, outcome.esp) = (first.sa, first.of_known_sa, first.esp);
        (outcome.restored, outcome.bytes, outcome.warnings) = (first.restored, first.bytes, first.warnings);
        outcome.packet = arena.put(packet);
        outcome.source = Source::Owned(Box::new(OwnedDatagram {
            packet: vec![],
            outer: *outer,
            link_header_len: 0,
            fragments: fragments.clone(),
            rebuilt: true,
            link: None,
        }));
    }
}

fn note_repeat(outcome: &mut Outcome<'_>, of: u64) {
    outcome.warnings.add(Warnings::DUPLICATE);
    outcome.repeat_of = Some(of);
    (outcome.radio, outcome.repeat) = (true, true);
}
