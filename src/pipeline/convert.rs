//! convert: Diet-ESP to standard ESP, or to the inner packets (wire format §7).

use std::sync::Arc;

use super::drive::{self, Input, Job};
use super::find::{Limits, explicit_iv};
use super::item::{Arena, Item};
use super::outcome::Status;
use super::outlet::{Change, Outlet, Raw};
use super::seal::{IvIssuer, UsedKeys};
use super::select::Selection;
use crate::capture::{Packet, Reader, Window, Writer};
use crate::error::{Error, Fault};
use crate::esp;
use crate::link;
use crate::report::totals::Totals;
use crate::sa::table::{Entry, SaTable};
use crate::suite::{Cryptor, Keys, Random, Suite};

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
}

/// How the packets of one SA become standard ESP; the same for all of them, because Wireshark takes the first key that
/// fits an SPI.
#[derive(Debug, Clone)]
enum Plan {
    /// They are.
    Standard,
    /// SPI and Sequence Number are put back.
    HeaderOnly,
    /// The implicit IV is inserted as well.
    ExplicitIv,
    /// The restored packet is sealed again.
    Sealed(Arc<Sealer>),
}

#[derive(Debug)]
struct Sealer {
    keys: Keys,
    cryptor: Cryptor,
    /// The key is that of the capture.
    kept: bool,
}

/// What becomes of one frame; decided in capture order.
#[derive(Debug)]
enum Make {
    /// It passes as it is.
    Pass,
    /// A fragment that waits.
    Hold,
    /// It is left out.
    Leave,
    /// The inner packet.
    Plain,
    HeaderOnly,
    ExplicitIv,
    Sealed(Arc<Sealer>, [u8; 16]),
}

struct State {
    /// By SA, made when its first packet comes.
    plans: Vec<Option<Plan>>,
    /// By SA: IVs counted under a fresh key.
    counts: Vec<u64>,
    random: Random,
    issuer: IvIssuer,
}

#[derive(Debug, Default)]
struct Work {
    makes: Vec<Make>,
    totals: Totals,
    rewritten: [u64; 3],
    changes: Vec<Change>,
    /// The bytes of rewritten frames.
    frames: Vec<u8>,
    given_up: Vec<u64>,
    clear: Vec<u8>,
    esp: Vec<u8>,
    frame: Vec<u8>,
}

struct Out<'o> {
    outlet: Outlet,
    totals: Totals,
    rewritten: [u64; 3],
    tell: &'o mut (dyn FnMut(u64) + Send),
}

struct Convert<'t, 's> {
    table: &'t SaTable,
    settings: &'s Settings,
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
        plans: table.entries().iter().map(|_| None).collect(),
        counts: table.entries().iter().map(|_| 0).collect(),
        random: Random::new(settings.seed, "keys"),
        issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
    };
    let mut out = Out { outlet: Outlet::new(writer), totals: Totals::default(), rewritten: [0; 3], tell };
    let job = Convert { table, settings };
    drive::run(input_of(reader, table, settings), &job, &mut state, &mut out)?;
    out.outlet.release_all()?;
    keep(&used_keys(table, state.plans))?;
    let written = out.outlet.finish()?;
    Ok(Converted { totals: out.totals, written, rewritten: out.rewritten })
}

impl Convert<'_, '_> {
    fn make(&self, state: &mut State, item: &Item<'_>, taken: bool) -> Result<Make, Error> {
        if item.repeat {
            return Ok(if taken && self.settings.keep_repeats { Make::Pass } else { Make::Leave });
        }
        self.note_iv(state, item)?;
        if item.waits {
            return Ok(if taken { Make::Hold } else { Make::Leave });
        }
        if !taken {
            return Ok(Make::Leave);
        }
        let Some((sa, entry)) = item.sa.and_then(|sa| Some((sa as usize, self.table.entry(sa)?))) else {
            return Ok(Make::Pass);
        };
        if item.status != Status::Ok {
            return Ok(Make::Pass);
        }
        if self.settings.target == Target::Plain {
            let dummy = item.restored.is_some_and(|restored| restored.upper.is_none());
            return Ok(if dummy { Make::Leave } else { Make::Plain });
        }
        let plan = match state.plans.get(sa) {
            Some(Some(plan)) => plan.clone(),
            _ => {
                let plan = self.plan(state, entry)?;
                if let Some(slot) = state.plans.get_mut(sa) {
                    *slot = Some(plan.clone());
                }
                plan
            }
        };
        Ok(match plan {
            Plan::Standard => Make::Pass,
            Plan::HeaderOnly => Make::HeaderOnly,
            Plan::ExplicitIv => Make::ExplicitIv,
            Plan::Sealed(sealer) => {
                let mut iv = [0; 16];
                match sealer.cryptor.iv_len() {
                    0 => {}
                    8 => {
                        let number = match state.counts.get_mut(sa) {
                            Some(count) if !sealer.kept => {
                                *count += 1;
                                *count
                            }
                            _ => state.issuer.issue(&sealer.keys)?,
                        };
                        iv[..8].copy_from_slice(&number.to_be_bytes());
                    }
                    _ => state.random.fill(&mut iv)?,
                }
                Make::Sealed(sealer, iv)
            }
        })
    }

    /// With `keep`, remembers the IVs that the capture shows.
    fn note_iv(&self, state: &mut State, item: &Item<'_>) -> Result<(), Error> {
        if self.settings.reseal != Reseal::Keep || self.settings.target != Target::Esp {
            return Ok(());
        }
        match item
            .sa
            .and_then(|sa| self.table.entry(sa))
            .and_then(|entry| Some((entry, iv_of(item, entry, self.table)?)))
        {
            Some((entry, iv)) => state.issuer.seen(&entry.sa.keys, iv),
            None => Ok(()),
        }
    }

    fn plan(&self, state: &mut State, entry: &Entry) -> Result<Plan, Error> {
        let suite = entry.cryptor.suite();
        if entry.codec.clear_text_is_standard() {
            return Ok(match (suite.implicit_iv, entry.context.is_some()) {
                (true, _) => Plan::ExplicitIv,
                (false, true) => Plan::HeaderOnly,
                (false, false) => Plan::Standard,
            });
        }
        let (keys, kept) = match self.settings.reseal {
            Reseal::Fresh(suite) => (Keys::generate(suite, &mut state.random)?, false),
            Reseal::Keep => (entry.sa.keys.with_explicit_iv(), true),
        };
        let cryptor = Cryptor::new(&keys);
        Ok(Plan::Sealed(Arc::new(Sealer { keys, cryptor, kept })))
    }

    /// Writes the frame of a packet into `work.frame`; false if it passes as it is.
    fn write(&self, item: &Item<'_>, arena: &Arena, make: &Make, work: &mut Work) -> Result<bool, Fault> {
        let entry = || item.sa.and_then(|sa| self.table.entry(sa));
        if let Make::Plain = make {
            return link::replace(item.link_type, item.link_header(), item.packet(arena), &mut work.frame)
                .map(|()| true);
        }
        let (Some(restored), Some(entry), Some(datagram)) = (item.esp, entry(), item.datagram()) else {
            return Ok(false);
        };
        let Some(payload) = item.payload(self.table) else { return Ok(false) };
        work.esp.clear();
        esp::write_header(restored.spi, restored.sequence, &mut work.esp);
        let behind_header = payload.bytes.get(entry.header_len()..).unwrap_or_default();
        let tier = match make {
            Make::HeaderOnly => {
                work.esp.extend_from_slice(behind_header);
                0
            }
            Make::ExplicitIv => {
                work.esp.extend_from_slice(&restored.sequence.to_be_bytes());
                work.esp.extend_from_slice(behind_header);
                1
            }
            Make::Sealed(sealer, iv) => {
                work.clear.clear();
                let next_header = item.protected(arena, &mut work.clear);
                esp::write_trailer(0, next_header, sealer.cryptor.block(), &mut work.clear);
                let iv = iv.get(..sealer.cryptor.iv_len()).unwrap_or_default();
                // 32-bit numbers, whatever the SA has: Wireshark before 4.4 cannot be told of longer ones.
                let sealed =
                    sealer.cryptor.seal(restored.spi, restored.sequence, false, iv, &work.clear, &mut work.esp);
                debug_assert!(sealed.is_ok(), "IV and clear text have the lengths of the suite");
                2
            }
            Make::Pass | Make::Hold | Make::Leave | Make::Plain => return Ok(false),
        };
        if let Some(count) = work.rewritten.get_mut(tier) {
            *count += 1;
        }
        let protocol = if payload.udp_header.is_some() { esp::UDP } else { esp::PROTOCOL };
        link::rebuild(item.link_header(), &datagram, protocol, payload.udp_header, &[&work.esp], &mut work.frame)?;
        Ok(true)
    }
}

/// Whether a frame cannot hold the packet that came out of it.
pub fn is_beside(item: &Item<'_>) -> bool {
    item.radio || item.datagram().is_some_and(|datagram| datagram.rebuilt)
}

/// A radio frame, or one with a tunnel in front of ESP, stays as it is, and the packet that came out of it goes beside it:
/// as it was `written` into `work.frame`, or unchanged.
fn beside(
    packet: &Packet<'_>,
    item: &Item<'_>,
    written: Result<bool, Fault>,
    comment: Option<String>,
    work: &mut Work,
) -> Change {
    let Some(datagram) = item.datagram().filter(|_| !item.repeat) else { return Change::Beside { comment, raw: None } };
    let mut origin = match item.fragments() {
        [] => format!("dietesp: rebuilt from frame {}", packet.number),
        frames => {
            let frames: Vec<String> = frames.iter().map(u64::to_string).collect();
            format!("dietesp: rebuilt from frames {}", frames.join(", "))
        }
    };
    let start = work.frames.len();
    let mut missing = 0;
    match written {
        Ok(true) => work.frames.extend_from_slice(&work.frame),
        // It can be read where it is.
        Ok(false) if !item.radio => return Change::Beside { comment, raw: None },
        unchanged => {
            if let Err(fault) = unchanged {
                origin += &format!("\ndietesp: not converted: {fault}");
            } else if let Some(comment) = &comment {
                origin += &format!("\n{comment}");
            }
            work.frames.extend_from_slice(datagram.header);
            work.frames.extend_from_slice(datagram.payload);
            missing = datagram.missing;
        }
    }
    Change::Beside { comment, raw: Some(Raw { bytes: start..work.frames.len(), missing, comment: origin }) }
}

/// The IV of a packet, sent or implicit, if it is 8 bytes long.
pub fn iv_of(item: &Item<'_>, entry: &Entry, table: &SaTable) -> Option<u64> {
    let implicit = || item.esp.filter(|_| entry.cryptor.suite().implicit_iv).map(|esp| esp.sequence);
    item.payload(table).and_then(|payload| explicit_iv(entry, payload.bytes)).or_else(implicit)
}

fn input_of<'i, 't>(reader: &'i mut Reader, table: &'t SaTable, settings: &'i Settings) -> Input<'i, 't> {
    let Settings { limits, link, threads, .. } = settings;
    Input { reader, table, limits: *limits, link, threads: *threads }
}

impl Job<Out<'_>> for Convert<'_, '_> {
    type State = State;
    type Work = Work;

    fn settle(
        &self,
        state: &mut State,
        window: &Window,
        items: &mut [Item<'_>],
        arena: &Arena,
        work: &mut Work,
    ) -> Result<(), Error> {
        work.makes.clear();
        for (packet, item) in window.packets().zip(items) {
            let taken = self.settings.selection.takes(&item.record(&packet, self.table, arena));
            work.makes.push(self.make(state, item, taken)?);
        }
        Ok(())
    }

    fn render(&self, window: &Window, items: &[Item<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        work.totals = Totals::default();
        work.rewritten = [0; 3];
        work.changes.clear();
        work.frames.clear();
        let makes = std::mem::take(&mut work.makes);
        for ((packet, item), make) in window.packets().zip(items).zip(&makes) {
            work.totals.count(item);
            let change = match make {
                Make::Hold => Change::Hold,
                Make::Leave => Change::Leave,
                make => {
                    let written = self.write(item, arena, make, work);
                    let reason = item.reason.filter(|_| item.of_known_sa);
                    let comment = reason.map(|reason| format!("dietesp: {}: {reason}", item.status.name()));
                    match written {
                        _ if is_beside(item) => beside(&packet, item, written, comment, work),
                        Ok(true) => {
                            let start = work.frames.len();
                            work.frames.extend_from_slice(&work.frame);
                            Change::Replace(start..work.frames.len())
                        }
                        Ok(false) => Change::Pass(comment),
                        Err(fault) => Change::Pass(Some(format!("dietesp: not converted: {fault}"))),
                    }
                }
            };
            work.changes.push(change);
        }
        work.makes = makes;
        work.given_up = arena.given_up().to_vec();
        Ok(())
    }

    fn emit(
        &self,
        out: &mut Out<'_>,
        window: &Window,
        items: &[Item<'_>],
        work: &mut Work,
        bytes_read: u64,
    ) -> Result<(), Error> {
        out.totals.add(&work.totals);
        out.rewritten.iter_mut().zip(work.rewritten).for_each(|(total, own)| *total += own);
        out.outlet.apply(window, items, &work.changes, &work.frames, &work.given_up)?;
        (out.tell)(bytes_read);
        Ok(())
    }
}

fn used_keys(table: &SaTable, plans: Vec<Option<Plan>>) -> Vec<UsedKeys> {
    let used = |(entry, plan): (&Entry, Option<Plan>)| {
        let (keys, esn) = match plan? {
            Plan::Standard | Plan::HeaderOnly => (entry.sa.keys.clone(), entry.sa.esn),
            Plan::ExplicitIv => (entry.sa.keys.with_explicit_iv(), entry.sa.esn),
            Plan::Sealed(sealer) => (sealer.keys.clone(), false),
        };
        let (src, dst) = (entry.sa.src, entry.sa.dst);
        Some(UsedKeys { name: entry.sa.name.clone(), spi: entry.sa.spi, src, dst, keys, esn })
    };
    table.entries().iter().zip(plans).filter_map(used).collect()
}
