//! `rules check --capture`: which packets of a capture the contexts match.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::show::sa_name;
use crate::batch::workers;
use crate::capture::Reader;
use crate::cli::options::EspPortArgs;
use crate::cli::status::Outcome;
use crate::cli::{counted, print_damage};
use crate::codec::{Mismatch, State};
use crate::context::{Context, SaReference};
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::outcome;
use crate::decoder::status::Status;
use crate::error::Error;
use crate::files;
use crate::link;
use crate::sa::Sa;
use crate::sa::table::{PreparedSa, SaTable};

/// The SAs of the contexts, and those of the capture.
pub(super) struct Trial {
    /// SAs with a context, prepared.
    entries: Vec<PreparedSa>,
    /// The results for each of `entries`.
    tried: Vec<Tried>,
    /// The SAs of the capture, as standard ESP.
    capture: SaTable,
    /// For each SA of the capture, the positions in `entries` to try, in this order.
    by_sa: Vec<Vec<usize>>,
    /// Decrypted packets of SAs without a context.
    without_context: u64,
    /// Packets that could not be decrypted although their SA is known.
    failed: u64,
    /// The capture is truncated or damaged.
    truncated: bool,
}

/// The results of one context.
#[derive(Debug, Default)]
struct Tried {
    state: State,
    matched: u64,
    failed: u64,
    /// For each field, the number of packets it stopped, and the message about the first.
    stopped: BTreeMap<&'static str, (u64, String)>,
}

/// Whether the key files have none of the SAs that the contexts name.
pub(super) fn names_are_unknown(sas: &[Arc<Sa>], contexts: &[Context]) -> bool {
    contexts.iter().all(|context| match &context.sa {
        SaReference::Name(name) => !sas.iter().any(|sa| sa.name == *name),
        SaReference::Spi { .. } => false,
    })
}

impl Trial {
    /// Checks the packets of each SA of `capture` against the context of the SA in `entries` with the same SPI.
    pub(super) fn by_spi(entries: Vec<PreparedSa>, capture: files::Loaded) -> Result<Trial, Error> {
        let entries: Vec<PreparedSa> = entries.into_iter().filter(|entry| entry.context.is_some()).collect();
        let mut by_spi: HashMap<u32, Vec<usize>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_spi.entry(entry.spi().unwrap_or_default()).or_default().push(at);
        }
        let is_same = |sa: &Sa, at: &usize| {
            entries.get(*at).is_some_and(|own| own.sa.src.overlaps(sa.src) && own.sa.dst.overlaps(sa.dst))
        };
        let of_sa = |sa: &Arc<Sa>| {
            let all = sa.spi.and_then(|spi| by_spi.get(&spi)).map_or(&[][..], Vec::as_slice);
            all.iter().copied().filter(|at| is_same(sa, at)).collect()
        };
        let by_sa = capture.sas.iter().map(of_sa).collect();
        Trial::new(entries, by_sa, capture)
    }

    /// Checks the packets of each SA of `capture` against all contexts whose tunnel has its addresses.
    pub(super) fn by_tunnel(contexts: &[Context], capture: files::Loaded) -> Result<Trial, Error> {
        let mut entries: Vec<PreparedSa> = vec![];
        let mut places: Vec<Option<usize>> = vec![None; contexts.len()];
        let mut by_sa = vec![];
        for sa in &capture.sas {
            let mut own: Vec<usize> = vec![];
            for (context, place) in contexts.iter().zip(&mut places) {
                let has_tunnel = context.tunnel_ip.is_none_or(|(src, dst)| sa.src.accepts(src) && sa.dst.accepts(dst));
                let is_known = |at: &usize| {
                    let known = entries.get(*at).and_then(|entry| entry.context.as_deref());
                    known.is_some_and(|known| known.same_compression(context))
                };
                if !has_tunnel || own.iter().any(is_known) {
                    continue;
                }
                // A context whose rule excludes this SPI belongs to another SA.
                if place.is_none()
                    && let Ok(entry) = PreparedSa::new(Arc::clone(sa), Some(context.clone()))
                {
                    entries.push(entry);
                    *place = Some(entries.len() - 1);
                }
                own.extend(*place);
            }
            by_sa.push(own);
        }
        Trial::new(entries, by_sa, capture)
    }

    fn new(entries: Vec<PreparedSa>, by_sa: Vec<Vec<usize>>, capture: files::Loaded) -> Result<Trial, Error> {
        let tried = entries.iter().map(|_| Tried::default()).collect();
        let sas = capture.sas.into_iter().map(|sa| PreparedSa::new(sa, None));
        let capture = SaTable::new(sas.collect::<Result<_, _>>()?);
        Ok(Trial { entries, tried, capture, by_sa, without_context: 0, failed: 0, truncated: false })
    }

    /// Reads a capture.
    pub(super) fn run(mut self, path: &Path, esp_ports: &EspPortArgs) -> Result<Trial, Error> {
        let (capture, link) = esp_ports.apply((std::mem::take(&mut self.capture), link::Settings::default()));
        let mut clear = vec![];
        let mut reader = Reader::open(path)?;
        let (limits, threads) = (Limits::default(), 1);
        let input = workers::Input { reader: &mut reader, table: &capture, limits, link: &link, threads };
        workers::visit(input, |packet, item, arena| {
            self.packet(packet.number, item, arena, &mut clear);
            ControlFlow::Continue(())
        })?;
        self.truncated = print_damage(&mut reader);
        Ok(self)
    }

    fn packet(&mut self, number: u64, item: &outcome::Outcome<'_>, arena: &Arena, clear: &mut Vec<u8>) {
        let own = item.sa.and_then(|sa| self.by_sa.get(sa as usize)).map_or(&[][..], Vec::as_slice);
        let Some(outer) = item.outer().filter(|_| item.status == Status::Ok) else {
            if item.status != Status::NoSa && item.is_still_encrypted() {
                self.failed += 1;
                if let [only] = own
                    && let Some(tried) = self.tried.get_mut(*only)
                {
                    tried.failed += 1;
                }
            }
            return;
        };
        let mut first: Option<(usize, Mismatch)> = None;
        for at in own {
            let (Some(entry), Some(tried)) = (self.entries.get(*at), self.tried.get_mut(*at)) else { continue };
            match entry.codec.compress(item.packet(arena), &outer, &mut tried.state, clear) {
                Ok(_) => {
                    tried.matched += 1;
                    return;
                }
                Err(mismatch) => first = first.or(Some((*at, mismatch))),
            }
        }
        match first.and_then(|(at, mismatch)| Some((self.tried.get_mut(at)?, mismatch))) {
            None => self.without_context += 1,
            Some((tried, mismatch)) => {
                let first = || (0, format!("frame {number}: {mismatch}"));
                tried.stopped.entry(mismatch.field).or_insert_with(first).0 += 1;
            }
        }
    }

    /// What decides the exit status: packets that matched, and packets that did not or could not be decrypted.
    pub(super) fn outcome(&self) -> Outcome {
        let decoded = self.tried.iter().map(|tried| tried.matched).sum();
        let stopped: u64 = self.tried.iter().map(Tried::stopped).sum();
        Outcome { decoded, failed: self.failed + stopped, truncated: self.truncated }
    }

    /// Packets that were decrypted.
    pub(super) fn decrypted(&self) -> u64 {
        self.without_context + self.tried.iter().map(|tried| tried.matched + tried.stopped()).sum::<u64>()
    }

    /// The result: a line for each context and for each field that stops packets. A context of an unknown SA is shown
    /// under its own name.
    pub(super) fn text(&self, has_sas: bool) -> String {
        let mut text = String::new();
        for (entry, tried) in self.entries.iter().zip(&self.tried) {
            let name = match &entry.context {
                Some(context) if !has_sas => sa_name(context),
                _ => entry.sa.name.clone(),
            };
            text += &tried.text(&name);
        }
        if self.without_context > 0 {
            text += &format!("{} of SAs without a context\n", counted(self.without_context, "packet"));
        }
        let unknown = self.failed - self.tried.iter().map(|tried| tried.failed).sum::<u64>();
        if unknown > 0 {
            text += &format!("{} could not be decrypted\n", counted(unknown, "more packet"));
        }
        text
    }
}

impl Tried {
    fn stopped(&self) -> u64 {
        self.stopped.values().map(|(count, _)| count).sum()
    }

    fn text(&self, name: &str) -> String {
        let mut text = format!("{name}: {} of {} packets match\n", self.matched, self.matched + self.stopped());
        for (field, (count, first)) in &self.stopped {
            text += &format!("  {count} stopped by {field}; {first}\n");
        }
        if self.failed > 0 {
            text += &format!("  {} could not be decrypted\n", counted(self.failed, "more packet"));
        }
        text
    }
}
