//! convert: Diet-ESP to standard ESP, or to the inner packets (wire format §7).

mod frame;

use std::sync::OnceLock;

use super::frame_writer::{End, Frames, Outlet};
use super::seal_queue::Payloads;
use crate::batch::workers::{self, BatchCommand, Input};
use crate::capture::{Frame, Reader, Window, Writer};
use crate::cipher::nonces::{IvIssuer, KeyId, KeyIds};
use crate::cipher::{EspCipher, Keys, Random, Suite};
use crate::decoder::arena::Arena;
use crate::decoder::candidates::{Limits, explicit_iv};
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Status;
use crate::error::{Error, Fault};
use crate::link;
use crate::net::esp;
use crate::records::record::Record;
use crate::records::select::Selection;
use crate::records::totals::Totals;
use crate::sa::UsedKeys;
use crate::sa::table::{PreparedSa, SaTable};
use frame::OutputFrame;

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard ESP.
    Esp,
    /// The inner packets, in the clear.
    Plain,
}

/// The keys under which packets are sealed whose plaintext changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reseal {
    /// New random keys, of this cipher.
    Fresh(&'static Suite),
    /// The keys of the SA, with IVs of our own.
    Keep,
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// What comes out.
    pub target: Target,
    /// The keys to seal with.
    pub reseal: Reseal,
    /// Makes keys and IVs repeatable, for tests.
    pub seed: Option<u64>,
    /// How far to search.
    pub limits: Limits,
    /// Which frames are written.
    pub selection: Selection,
    /// What the link layer has to be told.
    pub link: link::Settings,
    /// Frames that repeat another one on the link layer are written, too.
    pub keep_repeats: bool,
    /// Worker threads.
    pub threads: usize,
}

/// What [`run`] did.
#[derive(Debug)]
pub struct Converted {
    /// Counts of the input.
    pub totals: Totals,
    /// Frames written.
    pub written: u64,
    /// Packets rewritten, by tier: headers put back, IV made explicit, sealed again.
    pub rewritten: [u64; 3],
    /// Packets that no frame can hold once they are converted: they stay as they were captured.
    pub unwritable: u64,
    /// Packets written as they were captured because they could not be decoded.
    pub still_encrypted: u64,
}

/// How the packets of one SA become standard ESP; the same for all of them, because Wireshark takes the first key that
/// fits an SPI.
#[derive(Debug)]
enum Plan {
    /// They are.
    Standard,
    /// SPI and Sequence Number are put back.
    HeaderOnly,
    /// The implicit IV is inserted as well.
    ExplicitIv,
    /// The restored packet is sealed again.
    Sealed(Box<Sealer>),
}

#[derive(Debug)]
struct Sealer {
    keys: Keys,
    cipher: EspCipher,
    /// The key, if it is that of the capture.
    kept: Option<KeyId>,
}

/// What becomes of one packet of a frame; decided in capture order.
#[derive(Debug, Clone, Copy)]
enum Make {
    /// It passes as it is.
    Pass,
    /// A fragment that waits.
    Hold,
    /// It is omitted.
    Leave,
    /// The inner packet, the innermost one if there are several.
    Plain,
    HeaderOnly,
    ExplicitIv,
    /// Sealed again under an IV of as many of these bytes as the cipher wants.
    Sealed([u8; 16]),
}

struct State {
    /// By SA: IVs counted under a fresh key.
    counts: Vec<u64>,
    /// By SA: the key, once a packet has come.
    keys: Vec<Option<KeyId>>,
    ids: KeyIds,
    random: Random,
    issuer: IvIssuer,
}

#[derive(Debug, Default)]
struct Work {
    makes: Vec<Make>,
    payloads: Payloads,
    totals: Totals,
    rewritten: [u64; 3],
    unwritable: u64,
    still_encrypted: u64,
    /// Made of those of the command.
    frames: Option<Frames>,
}

/// Why a frame is not rewritten.
enum Unwritten {
    /// It passes as it is.
    Passes,
    /// It cannot be.
    Fault(Fault),
}

impl From<Fault> for Unwritten {
    fn from(fault: Fault) -> Unwritten {
        Unwritten::Fault(fault)
    }
}

struct Out<'o> {
    outlet: Outlet,
    totals: Totals,
    rewritten: [u64; 3],
    unwritable: u64,
    still_encrypted: u64,
    tell: &'o mut (dyn FnMut(u64) + Send),
}

struct Convert<'t, 's> {
    table: &'t SaTable,
    settings: &'s Settings,
    /// By SA, made when its first packet comes.
    plans: Box<[OnceLock<Plan>]>,
    /// None yet.
    frames: Frames,
}

/// Reads a capture to its end and writes it converted. `tell` is called after each window with the bytes read so far.
///
/// `keep` takes the SAs of the output with the keys that open them before it gets its name: if they cannot
/// be kept, there is none.
pub fn run(
    reader: &mut Reader,
    writer: Writer,
    table: &SaTable,
    settings: &Settings,
    tell: &mut (dyn FnMut(u64) + Send),
    keep: impl FnOnce(&[UsedKeys]) -> Result<(), Error>,
) -> Result<Converted, Error> {
    let mut state = State {
        counts: vec![0; table.entries().len()],
        keys: vec![None; table.entries().len()],
        ids: KeyIds::default(),
        random: Random::new(settings.seed, "keys"),
        issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
    };
    let outlet = Outlet::new(writer);
    let frames = outlet.frames();
    let mut out = Out { outlet, totals: Totals::default(), rewritten: [0; 3], unwritable: 0, still_encrypted: 0, tell };
    let plans = table.entries().iter().map(|_| OnceLock::new()).collect();
    let command = Convert { table, settings, plans, frames };
    workers::run(input_of(reader, table, settings), &command, &mut state, &mut out)?;
    out.outlet.release_all()?;
    keep(&used_keys(table, command.plans))?;
    let Out { outlet, totals, rewritten, unwritable, still_encrypted, .. } = out;
    Ok(Converted { totals, written: outlet.finish()?, rewritten, unwritable, still_encrypted })
}

impl Convert<'_, '_> {
    /// Whether the selection takes a packet, or one inside it.
    fn takes(&self, packet: &Frame<'_>, frame: &Outcome<'_>, outer: &Outcome<'_>, arena: &Arena) -> bool {
        let takes = |part: &Outcome<'_>| self.settings.selection.takes(&Record::new(packet, part, self.table, arena));
        takes(outer) || frame.inside_of(outer).any(takes)
    }

    /// `innermost` is `outcome`, or the packet farthest inside it that opened.
    fn make(
        &self,
        state: &mut State,
        outcome: &Outcome<'_>,
        innermost: &Outcome<'_>,
        taken: bool,
    ) -> Result<Make, Error> {
        if outcome.inside > 0 {
            return self.make_nested(state, outcome, taken);
        }
        if outcome.repeat {
            return Ok(if taken && self.settings.keep_repeats { Make::Pass } else { Make::Leave });
        }
        self.note_iv(state, outcome)?;
        if outcome.waits {
            return Ok(if taken { Make::Hold } else { Make::Leave });
        }
        if !taken {
            return Ok(Make::Leave);
        }
        let Some((sa, entry)) = outcome.sa.and_then(|sa| Some((sa as usize, self.table.entry(sa)?))) else {
            return Ok(Make::Pass);
        };
        if outcome.status != Status::Ok {
            return Ok(Make::Pass);
        }
        if self.settings.target == Target::Plain {
            let dummy = innermost.restored.is_some_and(|restored| restored.upper.is_none());
            return Ok(if dummy { Make::Leave } else { Make::Plain });
        }
        self.make_esp(state, sa, entry)
    }

    /// A packet inside another one stays there, and if it was not standard ESP, that goes beside the frame.
    fn make_nested(&self, state: &mut State, outcome: &Outcome<'_>, taken: bool) -> Result<Make, Error> {
        if outcome.repeat {
            return Ok(Make::Leave);
        }
        self.note_iv(state, outcome)?;
        if !taken {
            return Ok(Make::Leave);
        }
        let is_esp = outcome.status == Status::Ok && self.settings.target == Target::Esp;
        match outcome.sa.filter(|_| is_esp).and_then(|sa| Some((sa as usize, self.table.entry(sa)?))) {
            Some((sa, entry)) => self.make_esp(state, sa, entry),
            None => Ok(Make::Pass),
        }
    }

    /// How a packet of this SA that opened becomes standard ESP.
    fn make_esp(&self, state: &mut State, sa: usize, entry: &PreparedSa) -> Result<Make, Error> {
        let Some(place) = self.plans.get(sa) else { return Ok(Make::Pass) };
        let plan = match place.get() {
            Some(plan) => plan,
            // Nobody else is here.
            None => {
                let plan = self.plan(state, sa, entry)?;
                place.get_or_init(|| plan)
            }
        };
        Ok(match plan {
            Plan::Standard => Make::Pass,
            Plan::HeaderOnly => Make::HeaderOnly,
            Plan::ExplicitIv => Make::ExplicitIv,
            Plan::Sealed(sealer) => {
                let mut iv = [0; 16];
                match (sealer.cipher.iv_len(), sealer.kept) {
                    (0, _) => {}
                    (8, Some(key)) => iv[..8].copy_from_slice(&state.issuer.issue(key)?.to_be_bytes()),
                    (8, None) => {
                        if let Some(count) = state.counts.get_mut(sa) {
                            *count += 1;
                            iv[..8].copy_from_slice(&count.to_be_bytes());
                        }
                    }
                    _ => state.random.fill(&mut iv)?,
                }
                Make::Sealed(iv)
            }
        })
    }

    /// With `keep`, remembers the IVs that the capture shows.
    fn note_iv(&self, state: &mut State, outcome: &Outcome<'_>) -> Result<(), Error> {
        if self.settings.reseal != Reseal::Keep || self.settings.target != Target::Esp {
            return Ok(());
        }
        let Some((sa, entry)) = outcome.sa.and_then(|sa| Some((sa as usize, self.table.entry(sa)?))) else {
            return Ok(());
        };
        let Some(iv) = iv_of(outcome, entry, self.table) else { return Ok(()) };
        let key = state.key(sa, entry);
        state.issuer.seen(key, iv)
    }

    fn plan(&self, state: &mut State, sa: usize, entry: &PreparedSa) -> Result<Plan, Error> {
        let suite = entry.cipher().suite();
        if entry.codec.clear_text_is_standard() {
            return Ok(match (suite.implicit_iv, entry.context.is_some()) {
                (true, _) => Plan::ExplicitIv,
                (false, true) => Plan::HeaderOnly,
                (false, false) => Plan::Standard,
            });
        }
        let (keys, kept) = match self.settings.reseal {
            Reseal::Fresh(suite) => (Keys::generate(suite, &mut state.random)?, None),
            Reseal::Keep => (entry.sa.keys.with_explicit_iv(), Some(state.key(sa, entry))),
        };
        let cipher = EspCipher::new(&keys);
        Ok(Plan::Sealed(Box::new(Sealer { keys, cipher, kept })))
    }

    /// Appends the frame of `outcome` with standard ESP in it, still to be sealed where that is to be done, or the packet that
    /// `innermost` restored to.
    fn write(
        &self,
        (outcome, innermost): (&Outcome<'_>, &Outcome<'_>),
        arena: &Arena,
        make: &Make,
        payloads: &mut Payloads,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritten> {
        let sealer = match make {
            Make::Pass | Make::Hold | Make::Leave => return Err(Unwritten::Passes),
            Make::Plain => {
                return Ok(link::append(outcome.link_type, outcome.link_header(), innermost.packet(arena), out)?);
            }
            Make::HeaderOnly | Make::ExplicitIv => None,
            Make::Sealed(_) => Some(outcome.sa.and_then(|sa| self.sealer(sa)).ok_or(Unwritten::Passes)?),
        };
        let of_sa = || {
            let sa = outcome.sa?;
            Some((sa, self.table.entry(sa)?, outcome.esp?, outcome.payload(self.table)?, outcome.headers()?))
        };
        let Some((sa, entry, esp, payload, headers)) = of_sa() else { return Err(Unwritten::Passes) };
        let protocol = if payload.udp_header.is_some() { esp::UDP } else { esp::PROTOCOL };
        let start = out.len();
        let begun = link::begin(outcome.link_header(), headers, protocol, payload.udp_header, out);
        esp::write_header(esp.spi, esp.sequence, out);
        match (make, sealer) {
            (Make::Sealed(iv), Some(Sealer { cipher, .. })) => {
                let iv = iv.get(..cipher.iv_len()).unwrap_or_default();
                payloads.body((sa, esp.spi, esp.sequence), iv, cipher.icv_len(), out, |clear| {
                    let start = clear.len();
                    let next_header = outcome.protected(arena, clear);
                    esp::write_trailer(start, next_header, cipher.block(), clear);
                });
            }
            _ => {
                if matches!(make, Make::ExplicitIv) {
                    out.extend_from_slice(&esp.sequence.to_be_bytes());
                }
                out.extend_from_slice(payload.bytes.get(entry.header_len()..).unwrap_or_default());
            }
        }
        match begun.finish(out) {
            Ok(checksum) => payloads.checksum(checksum),
            Err(fault) => {
                payloads.give_up(start);
                return Err(fault.into());
            }
        }
        Ok(())
    }

    fn sealer(&self, sa: u32) -> Option<&Sealer> {
        match self.plans.get(sa as usize)?.get()? {
            Plan::Sealed(sealer) => Some(sealer),
            Plan::Standard | Plan::HeaderOnly | Plan::ExplicitIv => None,
        }
    }
}

impl State {
    fn key(&mut self, sa: usize, entry: &PreparedSa) -> KeyId {
        let State { keys, ids, .. } = self;
        match keys.get_mut(sa) {
            Some(key) => *key.get_or_insert_with(|| ids.of(&entry.sa.keys)),
            None => ids.of(&entry.sa.keys),
        }
    }
}

/// Whether a frame cannot hold the packet that came out of it.
pub(crate) fn is_beside(outcome: &Outcome<'_>) -> bool {
    outcome.radio || outcome.is_rebuilt()
}

/// The IV of a packet, sent or implicit, if it is 8 bytes long.
pub(crate) fn iv_of(outcome: &Outcome<'_>, entry: &PreparedSa, table: &SaTable) -> Option<u64> {
    let implicit = || outcome.esp.filter(|_| entry.cipher().suite().implicit_iv).map(|esp| esp.sequence);
    outcome.payload(table).and_then(|payload| explicit_iv(entry, payload.bytes)).or_else(implicit)
}

fn input_of<'i, 't>(reader: &'i mut Reader, table: &'t SaTable, settings: &'i Settings) -> Input<'i, 't> {
    let Settings { limits, link, threads, .. } = settings;
    Input { reader, table, limits: *limits, link, threads: *threads }
}

impl BatchCommand<Out<'_>> for Convert<'_, '_> {
    type State = State;
    type Work = Work;

    fn decide(
        &self,
        state: &mut State,
        window: &Window,
        outcomes: &[Outcome<'_>],
        arena: &Arena,
        work: &mut Work,
    ) -> Result<(), Error> {
        work.makes.clear();
        for (packet, outcome) in window.frames().zip(outcomes) {
            let mut taken = false;
            for part in outcome.parts() {
                if part.inside == 0 {
                    taken = self.takes(&packet, outcome, part, arena);
                }
                work.makes.push(self.make(state, part, outcome.innermost_of(part), taken)?);
            }
        }
        Ok(())
    }

    fn render(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        let Work { makes, payloads, totals, rewritten, unwritable, still_encrypted, frames } = work;
        (*totals, *rewritten, *unwritable, *still_encrypted) = (Totals::default(), [0; 3], 0, 0);
        payloads.clear();
        let frames = frames.get_or_insert_with(|| self.frames.clone());
        frames.begin(arena.given_up());
        let mut makes = makes.iter();
        for (packet, outcome) in window.frames().zip(outcomes) {
            let mut frame = OutputFrame::new(&packet, outcome);
            let mut end = End::Leaves;
            for (part, make) in outcome.parts().zip(makes.by_ref()) {
                totals.count(part);
                let tier = match make {
                    Make::Hold | Make::Leave | Make::Pass | Make::Plain => None,
                    Make::HeaderOnly => Some(0),
                    Make::ExplicitIv => Some(1),
                    Make::Sealed(_) => Some(2),
                };
                *still_encrypted += u64::from(matches!(make, Make::Pass) && part.is_still_encrypted());
                let innermost = outcome.innermost_of(part);
                let write = |out: &mut Vec<u8>| self.write((part, innermost), arena, make, payloads, out);
                let (ends, written) = frame.part(part, make, frames, write)?;
                if part.inside == 0 {
                    end = end.max(ends);
                }
                if written.is_ok()
                    && let Some(count) = tier.and_then(|tier| rewritten.get_mut(tier))
                {
                    *count += 1;
                }
                *unwritable += u64::from(matches!(written, Err(Unwritten::Fault(_))));
            }
            frames.end(end);
        }
        // 32-bit numbers, whatever the SA has: Wireshark before 4.4 cannot be told of longer ones.
        payloads.complete(frames.bytes_mut(), |sa| self.sealer(sa).map(|sealer| (&sealer.cipher, false)));
        Ok(())
    }

    fn emit(
        &self,
        out: &mut Out<'_>,
        window: &Window,
        outcomes: &[Outcome<'_>],
        work: &mut Work,
        bytes_read: u64,
    ) -> Result<(), Error> {
        out.totals.add(&work.totals);
        out.unwritable += work.unwritable;
        out.still_encrypted += work.still_encrypted;
        out.rewritten.iter_mut().zip(work.rewritten).for_each(|(total, own)| *total += own);
        if let Some(frames) = &mut work.frames {
            out.outlet.apply(window, outcomes, frames)?;
        }
        (out.tell)(bytes_read);
        Ok(())
    }
}

fn used_keys(table: &SaTable, plans: Box<[OnceLock<Plan>]>) -> Vec<UsedKeys> {
    let used = |(entry, plan): (&PreparedSa, OnceLock<Plan>)| {
        let (keys, esn) = match plan.into_inner()? {
            Plan::Standard | Plan::HeaderOnly => (entry.sa.keys.clone(), entry.esn()),
            Plan::ExplicitIv => (entry.sa.keys.with_explicit_iv(), entry.esn()),
            Plan::Sealed(sealer) => (sealer.keys, false),
        };
        let (src, dst) = (entry.sa.src, entry.sa.dst);
        Some(UsedKeys { name: entry.sa.name.clone(), spi: entry.spi(), src, dst, keys, esn })
    };
    table.entries().iter().zip(plans).filter_map(used).collect()
}
