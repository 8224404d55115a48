//! Frames that repeat an earlier one on the link layer.

use super::Settler;
use crate::link::{self, Outer};
use crate::pipeline::item::{Arena, Item, Source, Whole};
use crate::pipeline::warnings::Warnings;

/// What became of a frame that may be repeated.
#[derive(Debug)]
pub(super) struct Kept {
    frame: u64,
    /// At least one.
    parts: Vec<KeptPart>,
}

#[derive(Debug)]
struct KeptPart {
    item: Item<'static>,
    outer: Option<Outer>,
    fragments: Vec<u64>,
    packet: Vec<u8>,
}

impl Settler<'_> {
    /// Keeps what became of a frame, for its repeats.
    pub(super) fn keep(&mut self, frame: u64, item: &Item<'_>, arena: &Arena) {
        if self.kept.len() >= link::REPEATS_KEPT {
            self.kept.pop_front();
        }
        let parts = item.parts().map(|part| KeptPart {
            item: part.without_frame(),
            outer: part.outer(),
            fragments: part.fragments().to_vec(),
            packet: part.packet(arena).to_vec(),
        });
        self.kept.push_back(Kept { frame, parts: parts.collect() });
    }

    /// A frame that repeats another one on the link layer has all that that one had.
    pub(super) fn repeat<'w>(&self, of: u64, item: &mut Item<'w>, arena: &mut Arena) {
        let kept = self.kept.binary_search_by_key(&of, |kept| kept.frame).ok().and_then(|at| self.kept.get(at));
        if let Some((first, others)) = kept.and_then(|kept| kept.parts.split_first()) {
            first.fill(item, arena);
            for other in others {
                let mut part = Item::new(item.frame);
                other.fill(&mut part, arena);
                note_repeat(&mut part, of);
                item.add(part, other.item.inside != 0);
            }
        }
        note_repeat(item, of);
    }
}

impl KeptPart {
    fn fill(&self, item: &mut Item<'_>, arena: &mut Arena) {
        let KeptPart { item: first, outer, fragments, packet } = self;
        (item.status, item.reason) = (first.status, first.reason);
        (item.sa, item.of_known_sa, item.esp) = (first.sa, first.of_known_sa, first.esp);
        (item.restored, item.bytes, item.warnings) = (first.restored, first.bytes, first.warnings);
        item.packet = arena.put(packet);
        item.source = Source::Whole(Box::new(Whole {
            packet: vec![],
            outer: *outer,
            link_header_len: 0,
            fragments: fragments.clone(),
            rebuilt: true,
            link: None,
        }));
    }
}

fn note_repeat(item: &mut Item<'_>, of: u64) {
    item.warnings.add(Warnings::DUPLICATE);
    item.repeat_of = Some(of);
    (item.radio, item.repeat) = (true, true);
}
