//! Frames that repeat an earlier one on the link layer.

use super::Decoder;
use super::arena::Arena;
use super::outcome::{Outcome, OwnedDatagram, Source};
use super::warnings::Warnings;
use crate::link;
use crate::net::Outer;

/// What became of a frame that may be repeated.
#[derive(Debug)]
pub(super) struct Kept {
    frame: u64,
    /// At least one.
    parts: Vec<KeptPart>,
}

#[derive(Debug)]
struct KeptPart {
    outcome: Outcome<'static>,
    outer: Option<Outer>,
    fragments: Vec<u64>,
    packet: Vec<u8>,
}

impl Decoder<'_> {
    /// Keeps what became of a frame, for its repeats.
    pub(super) fn keep(&mut self, frame: u64, outcome: &Outcome<'_>, arena: &Arena) {
        if self.kept.len() >= link::REPEATS_KEPT {
            self.kept.pop_front();
        }
        let parts = outcome.parts().map(|part| KeptPart {
            outcome: part.without_frame(),
            outer: part.outer(),
            fragments: part.fragments().to_vec(),
            packet: part.packet(arena).to_vec(),
        });
        self.kept.push_back(Kept { frame, parts: parts.collect() });
    }

    /// A frame that repeats another one on the link layer has all that that one had.
    pub(super) fn repeat<'w>(&self, of: u64, outcome: &mut Outcome<'w>, arena: &mut Arena) {
        let kept = self.kept.binary_search_by_key(&of, |kept| kept.frame).ok().and_then(|at| self.kept.get(at));
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
