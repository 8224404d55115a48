//! compress: standard ESP, or plain IP packets, to Diet-ESP (wire format §7).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;

use super::convert::{is_beside, iv_of};
use super::drive::{self, Input, Job};
use super::find::Limits;
use super::item::{Arena, Item};
use super::ledger::MULTICAST_SOURCES;
use super::outcome::{Bytes, Status};
use super::outlet::{Change, Outlet, Raw};
use super::seal::{IvIssuer, UsedNumbers};
use super::select::Selection;
use super::warnings::Warnings;
use crate::capture::{Packet, Reader, Window, Writer};
use crate::codec::{Mismatch, State};
use crate::context::IpVersion;
use crate::error::{Error, Fault};
use crate::esp;
use crate::link::{self, Datagram, Outer};
use crate::report::totals::Totals;
use crate::sa::table::{Entry, SaTable};
use crate::suite::Random;

/// What is done with a packet that its context does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMismatch {
    /// End the run; nothing is written.
    Stop,
    /// Leave it out.
    Skip,
    /// Write it as standard ESP, on an SA without context.
    Pass,
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is done with a packet that does not match.
    pub on_mismatch: OnMismatch,
    /// The packets to compress: ESP packets if true, plain IP packets if false. `None` leaves it to the first window.
    pub esp_input: Option<bool>,
    /// Seal a new plaintext under the nonce of the input where an implicit-IV cipher keeps its key.
    pub allow_nonce_reuse: bool,
    /// Makes IVs repeatable, for tests.
    pub seed: Option<u64>,
    /// How far to search in the input.
    pub limits: Limits,
    /// Which frames are written.
    pub selection: Selection,
    /// What the link layer of the input has to be told.
    pub link: link::Settings,
    /// Worker threads.
    pub threads: usize,
}

/// What [`run`] did.
#[derive(Debug, Default)]
pub struct Compressed {
    /// Counts of the input.
    pub totals: Totals,
    /// Frames written.
    pub written: u64,
    /// Packets compressed.
    pub compressed: u64,
    /// Bytes of these on the wire, and as standard ESP of the same cipher.
    pub bytes: Bytes,
    /// Packets that did not match, by field.
    pub mismatches: BTreeMap<&'static str, u64>,
    /// The first packet that did not match: frame, and what did not match.
    pub first_mismatch: Option<(u64, String)>,
    /// Packets that could not be sealed without using a nonce twice.
    pub refused: u64,
}

/// Reads a capture to its end and writes it compressed. `input` opens its ESP packets, `output` has the contexts and the
/// keys to seal with. `tell` is called after each window with the bytes read so far.
pub fn run(
    reader: &mut Reader,
    writer: Writer,
    input: &SaTable,
    output: &SaTable,
    settings: &Settings,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<Compressed, Error> {
    let mut compressor = Compressor::new(output, settings);
    let mut out = Out { outlet: Outlet::new(writer), totals: Totals::default(), tell };
    drive::run(input_of(reader, input, settings), &Compress { input, settings }, &mut compressor, &mut out)?;
    let mut result = compressor.result;
    result.totals = out.totals;
    result.written = out.outlet.finish()?;
    Ok(result)
}

fn input_of<'i, 't>(reader: &'i mut Reader, table: &'t SaTable, settings: &'i Settings) -> Input<'i, 't> {
    let Settings { limits, link, threads, .. } = settings;
    Input { reader, table, limits: *limits, link, threads: *threads }
}

/// Whether a capture has packets of these SAs; reads up to the first.
pub fn holds_esp(reader: &mut Reader, input: &SaTable, limits: Limits, link: &link::Settings) -> Result<bool, Error> {
    drive::visit(reader, input, limits, link, |_, item, _| match item.status {
        Status::Ok => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

/// What became of one packet.
enum Made {
    /// `frame` holds it.
    Frame,
    /// Not ours: it passes as it is.
    NotOurs,
    /// It was not compressed, and is left out.
    Left,
    /// A fragment whose packet is not whole yet.
    Waits,
}

struct Compress<'t> {
    input: &'t SaTable,
    settings: &'t Settings,
}

struct Out<'o> {
    outlet: Outlet,
    totals: Totals,
    tell: &'o mut (dyn FnMut(u64) + Send),
}

#[derive(Debug, Default)]
struct Work {
    totals: Totals,
    changes: Vec<Change>,
    /// The bytes of compressed frames.
    frames: Vec<u8>,
    given_up: Vec<u64>,
}

impl<'t> Job<Out<'_>> for Compress<'t> {
    type State = Compressor<'t>;
    type Work = Work;

    fn settle(
        &self,
        compressor: &mut Compressor<'t>,
        window: &Window,
        items: &mut [Item<'_>],
        arena: &Arena,
        work: &mut Work,
    ) -> Result<(), Error> {
        work.changes.clear();
        work.frames.clear();
        let esp_there = || items.iter().any(|item| item.status == Status::Ok);
        compressor.esp_input.get_or_insert_with(esp_there);
        for (packet, item) in window.packets().zip(items) {
            let taken = self.settings.selection.takes(&item.record(&packet, self.input, arena));
            let change = match compressor.change(&packet, item, arena, self.input, taken)? {
                made @ (Made::Frame | Made::NotOurs) => {
                    let start = work.frames.len();
                    let mut missing = 0;
                    match (&made, item.datagram().filter(|_| item.radio)) {
                        (Made::Frame, _) => work.frames.extend_from_slice(&compressor.frame),
                        (_, Some(datagram)) => {
                            work.frames.extend_from_slice(datagram.header);
                            work.frames.extend_from_slice(datagram.payload);
                            missing = datagram.missing;
                        }
                        _ => {}
                    }
                    let bytes = start..work.frames.len();
                    if bytes.is_empty() {
                        Change::Pass(None)
                    } else if is_beside(item) {
                        let comment = format!("dietesp: rebuilt from frame {}", packet.number);
                        Change::Alone(Raw { bytes, missing, comment })
                    } else {
                        Change::Replace(bytes)
                    }
                }
                Made::Left => Change::Leave,
                Made::Waits => Change::Hold,
            };
            work.changes.push(change);
        }
        Ok(())
    }

    fn render(&self, _window: &Window, items: &[Item<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        work.totals = Totals::default();
        items.iter().for_each(|item| work.totals.count(item));
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
        out.outlet.apply(window, items, &work.changes, &work.frames, &work.given_up)?;
        (out.tell)(bytes_read);
        Ok(())
    }
}

struct Compressor<'t> {
    output: &'t SaTable,
    settings: &'t Settings,
    /// The packets to compress are ESP packets; `None` until the first window has been seen.
    esp_input: Option<bool>,
    /// By SA of the output: the next Sequence Number for plain input.
    next_sn: Vec<u64>,
    /// What the packets sent before left for the next one, by SA of the output and, as receivers keep it, by source
    /// where the destination is a multicast address.
    states: HashMap<(usize, Option<IpAddr>), State>,
    /// SPI to SAs of the output, in file order.
    by_spi: HashMap<u32, Vec<usize>>,
    issuer: IvIssuer,
    random: Random,
    used: UsedNumbers,
    plain: Vec<u8>,
    clear: Vec<u8>,
    esp: Vec<u8>,
    frame: Vec<u8>,
    result: Compressed,
}

impl<'t> Compressor<'t> {
    fn new(output: &'t SaTable, settings: &'t Settings) -> Compressor<'t> {
        let first = |entry: &Entry| entry.context.as_ref().and_then(|context| context.esp_sn).unwrap_or(1);
        let mut by_spi: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, entry) in output.entries().iter().enumerate() {
            if let Some(spi) = entry.sa.spi {
                by_spi.entry(spi).or_default().push(index);
            }
        }
        Compressor {
            output,
            settings,
            esp_input: settings.esp_input,
            next_sn: output.entries().iter().map(first).collect(),
            states: HashMap::new(),
            by_spi,
            issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
            random: Random::new(settings.seed, "blocks"),
            used: UsedNumbers::default(),
            plain: vec![],
            clear: vec![],
            esp: vec![],
            frame: vec![],
            result: Compressed::default(),
        }
    }

    fn change(
        &mut self,
        packet: &Packet<'_>,
        item: &Item<'_>,
        arena: &Arena,
        input: &SaTable,
        taken: bool,
    ) -> Result<Made, Error> {
        // The packets of radio frames go on without them, and once.
        if item.repeat || item.radio && item.datagram().is_none() {
            return Ok(Made::Left);
        }
        if let Some(entry) = item.sa.and_then(|sa| input.entry(sa))
            && let Some(iv) = iv_of(item, entry, input)
        {
            self.issuer.seen(&entry.sa.keys, iv)?;
        }
        if !taken {
            return Ok(Made::Left);
        }
        if item.waits {
            return Ok(Made::Waits);
        }
        match item.datagram() {
            Some(datagram) if item.status == Status::Ok => self.esp_packet(packet, item, &datagram, arena, input),
            Some(datagram)
                if item.status == Status::NotEsp && self.esp_input == Some(false) && item.payload(input).is_none() =>
            {
                self.plain_datagram(packet, item, &datagram)
            }
            _ => Ok(Made::NotOurs),
        }
    }

    /// An ESP packet that opened: the SA of the output is the one of the same SPI and outer addresses.
    fn esp_packet(
        &mut self,
        packet: &Packet<'_>,
        item: &Item<'_>,
        datagram: &Datagram<'_>,
        arena: &Arena,
        input: &SaTable,
    ) -> Result<Made, Error> {
        let (Some(esp), Some(payload)) = (item.esp, item.payload(input)) else { return Ok(Made::NotOurs) };
        let Some(from) = item.sa.and_then(|sa| input.entry(sa)) else { return Ok(Made::NotOurs) };
        let Some((index, to)) = self.sa_of(esp.spi, &datagram.outer) else { return Ok(Made::NotOurs) };
        let udp = payload.udp_header;
        self.clear.clear();
        let mut state = self.state(index, &datagram.outer);
        let protocol = match to.codec.compress(item.packet(arena), &datagram.outer, &mut state, &mut self.clear) {
            Err(mismatch) => {
                if self.mismatch(packet.number, &mismatch)? == OnMismatch::Skip {
                    return Ok(Made::Left);
                }
                self.clear.clear();
                let next_header = item.protected(arena, &mut self.clear);
                self.seal_standard(&datagram.outer, next_header)?;
                esp::PROTOCOL
            }
            Ok(compressed) => {
                self.esp.clear();
                to.codec.encode_header(esp.spi, esp.sequence, &mut self.esp);
                if self.clear == item.clear(arena) && from.sa.keys == to.sa.keys && from.sa.esn == to.sa.esn {
                    // Only SPI and Sequence Number bits go.
                    self.esp.extend_from_slice(payload.bytes.get(from.header_len()..).unwrap_or_default());
                } else if from.sa.keys.fingerprint() == to.sa.keys.fingerprint() {
                    self.seal_with_key_of_input(to, esp.sequence)?;
                } else {
                    let repeated = item.warnings.has(Warnings::DUPLICATE);
                    if !self.used.take(&to.sa.keys, esp.sequence) && !repeated {
                        self.result.refused += 1;
                        return Ok(Made::Left);
                    }
                    self.seal(to, esp.sequence, esp.sequence)?;
                }
                self.count(index, item.packet(arena).len() - compressed.payload_offset);
                to.protocol
            }
        };
        let protocol = if udp.is_some() { esp::UDP } else { protocol };
        let rebuilt = link::rebuild(item.link_header(), datagram, protocol, udp, &[&self.esp], &mut self.frame);
        if rebuilt.is_ok() {
            self.sent(index, &datagram.outer, state);
        }
        self.made(packet.number, rebuilt)
    }

    /// A plain IP packet: the first context that matches takes it.
    fn plain_datagram(&mut self, packet: &Packet<'_>, item: &Item<'_>, datagram: &Datagram<'_>) -> Result<Made, Error> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        plain.extend_from_slice(datagram.header);
        plain.extend_from_slice(datagram.payload);
        let made = self.plain_packet(packet, item, datagram, &plain);
        self.plain = plain;
        made
    }

    fn plain_packet(
        &mut self,
        packet: &Packet<'_>,
        item: &Item<'_>,
        datagram: &Datagram<'_>,
        plain: &[u8],
    ) -> Result<Made, Error> {
        let mut first_mismatch = None;
        for (index, to) in self.output.entries().iter().enumerate() {
            let Some(outer) = new_outer(to, datagram) else { continue };
            self.clear.clear();
            let mut state = self.state(index, &outer);
            let compressed = match to.codec.compress(plain, &outer, &mut state, &mut self.clear) {
                Ok(compressed) => compressed,
                Err(mismatch) => {
                    first_mismatch.get_or_insert((mismatch, outer, to));
                    continue;
                }
            };
            let sn = self.next_number(index, to)?;
            self.esp.clear();
            to.codec.encode_header(to.sa.spi.unwrap_or(0), sn, &mut self.esp);
            if !self.used.take(&to.sa.keys, sn) {
                return Err(Error::usage(
                    format!("SA {}: another SA has the same key and would use the same nonces", to.sa.name),
                    "give every SA a key of its own",
                ));
            }
            self.seal(to, sn, sn)?;
            self.count(index, plain.len() - compressed.payload_offset);
            let rebuilt = self.carry(item, datagram, to, &outer, to.protocol);
            if rebuilt.is_ok() {
                self.sent(index, &outer, state);
            }
            return self.made(packet.number, rebuilt);
        }
        let Some((mismatch, outer, to)) = first_mismatch else { return Ok(Made::NotOurs) };
        if self.mismatch(packet.number, &mismatch)? == OnMismatch::Skip {
            return Ok(Made::Left);
        }
        self.clear.clear();
        let next_header = if to.is_tunnel() {
            self.clear.extend_from_slice(plain);
            datagram.outer.version.next_header()
        } else {
            self.clear.extend_from_slice(datagram.payload);
            datagram.protocol
        };
        self.seal_standard(&outer, next_header)?;
        let rebuilt = self.carry(item, datagram, to, &outer, esp::PROTOCOL);
        self.made(packet.number, rebuilt)
    }

    /// Puts `self.esp`, made of a plain packet, behind the outer header of its SA.
    fn carry(
        &mut self,
        item: &Item<'_>,
        datagram: &Datagram<'_>,
        to: &Entry,
        outer: &Outer,
        protocol: u8,
    ) -> Result<(), Fault> {
        let (esp, frame) = ([self.esp.as_slice()], &mut self.frame);
        if to.is_tunnel() {
            link::encapsulate(item.link_type, item.link_header(), outer, protocol, &esp, frame)
        } else {
            link::rebuild(item.link_header(), datagram, protocol, None, &esp, frame)
        }
    }

    /// The state that the next packet of an SA meets.
    fn state(&self, sa: usize, outer: &Outer) -> State {
        self.states.get(&state_key(sa, outer)).copied().unwrap_or_default()
    }

    /// Notes that a packet was sent, and the state it leaves.
    fn sent(&mut self, sa: usize, outer: &Outer, state: State) {
        if state != State::default() {
            // As the receivers' ledger does.
            if self.states.len() >= self.output.entries().len() + MULTICAST_SOURCES {
                self.states.retain(|(_, src), _| src.is_none());
            }
            self.states.insert(state_key(sa, outer), state);
        }
    }

    /// Notes a packet that does not match. Never tells `Stop`: that ends the run.
    fn mismatch(&mut self, frame: u64, mismatch: &Mismatch) -> Result<OnMismatch, Error> {
        if self.settings.on_mismatch == OnMismatch::Stop {
            return Err(Error::Mismatch { frame, problem: mismatch.to_string() });
        }
        *self.result.mismatches.entry(mismatch.field).or_default() += 1;
        self.result.first_mismatch.get_or_insert_with(|| (frame, mismatch.to_string()));
        Ok(self.settings.on_mismatch)
    }

    fn made(&mut self, frame: u64, rebuilt: Result<(), Fault>) -> Result<Made, Error> {
        let Err(fault) = rebuilt else { return Ok(Made::Frame) };
        *self.result.mismatches.entry("link").or_default() += 1;
        self.result.first_mismatch.get_or_insert_with(|| (frame, fault.to_string()));
        Ok(Made::Left)
    }

    fn count(&mut self, sa: usize, protected_len: usize) {
        let Some(to) = self.output.entries().get(sa) else { return };
        let cryptor = &to.cryptor;
        self.result.compressed += 1;
        self.result.bytes.diet += self.esp.len() as u64;
        self.result.bytes.esp +=
            esp::standard_len(protected_len, cryptor.iv_len(), cryptor.block(), cryptor.icv_len()) as u64;
    }

    /// The SA of the output with a context that an ESP packet of the input belongs to.
    fn sa_of(&self, spi: u32, outer: &Outer) -> Option<(usize, &'t Entry)> {
        let same = self.by_spi.get(&spi)?;
        same.iter().find_map(|index| {
            let entry = self.output.entries().get(*index)?;
            let ours = entry.context.is_some() && entry.sa.src.accepts(outer.src) && entry.sa.dst.accepts(outer.dst);
            ours.then_some((*index, entry))
        })
    }

    /// The next Sequence Number of an SA; a packet that is not compressed takes none.
    fn next_number(&mut self, sa: usize, to: &Entry) -> Result<u64, Error> {
        let used_up = || Error::usage(format!("SA {}: its Sequence Numbers are used up", to.sa.name), "use a new SA");
        let next = self.next_sn.get_mut(sa).ok_or_else(used_up)?;
        let sn = *next;
        if !to.sa.esn && sn > u64::from(u32::MAX) {
            return Err(used_up());
        }
        *next = sn.checked_add(1).ok_or_else(used_up)?;
        Ok(sn)
    }

    /// Seals `self.clear` behind the header in `self.esp`; an explicit 8-byte IV is `iv`.
    fn seal(&mut self, to: &Entry, sn: u64, iv: u64) -> Result<(), Error> {
        let mut random = [0; 16];
        let counted = iv.to_be_bytes();
        let iv: &[u8] = match to.cryptor.iv_len() {
            0 => &[],
            8 => &counted,
            _ => {
                self.random.fill(&mut random)?;
                &random
            }
        };
        let sealed = to.cryptor.seal(to.sa.spi.unwrap_or(0), sn, to.sa.esn, iv, &self.clear, &mut self.esp);
        debug_assert!(sealed.is_ok(), "IV and clear text have the lengths of the suite");
        Ok(())
    }

    /// Seals under the key of the input, whose nonces must not meet another plaintext.
    fn seal_with_key_of_input(&mut self, to: &Entry, sn: u64) -> Result<(), Error> {
        if to.cryptor.suite().implicit_iv && !self.settings.allow_nonce_reuse {
            return Err(Error::usage(
                format!(
                    "SA {}: with the key of the input and an implicit IV, every packet would be sealed under a nonce that \
                     the input used for another plaintext",
                    to.sa.name
                ),
                "give the keys of the input with --esp-keys and other ones with --keys (in a laboratory \
                 --allow-nonce-reuse: then whoever has both captures learns both plaintexts and can forge packets)",
            ));
        }
        let iv = if to.cryptor.iv_len() == 8 { self.issuer.issue(&to.sa.keys)? } else { 0 };
        self.seal(to, sn, iv)
    }

    /// Seals `self.clear` as standard ESP into `self.esp`, on an SA without context between these addresses.
    fn seal_standard(&mut self, outer: &Outer, next_header: u8) -> Result<(), Error> {
        let found = self.output.entries().iter().enumerate().find(|(_, entry)| {
            entry.context.is_none()
                && entry.sa.spi.is_some()
                && entry.sa.src.accepts(outer.src)
                && entry.sa.dst.accepts(outer.dst)
        });
        let Some((index, to)) = found else {
            return Err(Error::usage(
                format!("--on-mismatch pass needs an SA without context from {} to {}", outer.src, outer.dst),
                "add one to the key file, or use --on-mismatch skip",
            ));
        };
        let sn = self.next_number(index, to)?;
        esp::write_trailer(0, next_header, to.cryptor.block(), &mut self.clear);
        self.esp.clear();
        esp::write_header(to.sa.spi.unwrap_or(0), sn, &mut self.esp);
        let iv = if to.cryptor.iv_len() == 8 { self.issuer.issue(&to.sa.keys)? } else { sn };
        if to.cryptor.suite().implicit_iv && !self.used.take(&to.sa.keys, sn) {
            return Err(Error::usage(
                format!("SA {}: another SA has the same key and would use the same nonces", to.sa.name),
                "give every SA a key of its own",
            ));
        }
        self.seal(to, sn, iv)
    }
}

fn state_key(sa: usize, outer: &Outer) -> (usize, Option<IpAddr>) {
    (sa, Some(outer.src).filter(|_| outer.dst.is_multicast()))
}

/// The outer header of a plain packet on this SA; `None` if the SA cannot take plain packets.
fn new_outer(to: &Entry, datagram: &Datagram<'_>) -> Option<Outer> {
    let context = to.context.as_ref()?;
    if !to.is_tunnel() {
        return Some(datagram.outer);
    }
    let (src, dst) = context.tunnel_ip?;
    Some(Outer { version: IpVersion::of(src), src, dst, ..datagram.outer })
}
