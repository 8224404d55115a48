//! compress: standard ESP, or plain IP packets, to Diet-ESP (wire format §7).

mod decide;
mod rule_match;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::convert::is_beside;
use super::frame_writer::{End, Frames, Outlet};
use super::seal_queue::Payloads;
use crate::batch::workers::{self, BatchCommand};
use crate::capture::{Frame, Reader, Window, Writer};
use crate::cipher::nonces::Digester;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::{Bytes, Status};
use crate::error::{Error, Fault, Stage};
use crate::link::{self, UdpChecksum};
use crate::net::{Datagram, IpVersion, OuterHeader, esp};
use crate::records::record::Record;
use crate::records::select::Selection;
use crate::records::totals::Totals;
use crate::sa::table::{PreparedSa, SaTable};
use decide::Decider;
use rule_match::{RuleMatch, RuleMatcher, Text, Texts};

/// What is done with a packet that no context matches, and with a frame that holds no whole IP packet where all packets
/// are to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMismatch {
    /// End the run; nothing is written.
    Stop,
    /// Omit it.
    Skip,
    /// Write the packet as standard ESP, on an SA without context; the frame as it is.
    Pass,
}

/// Which packets of a capture are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The ESP packets that decrypt. Every other frame is written as it is: it was on the network next to the ESP.
    Esp,
    /// Every IP packet, as a gateway encrypts all that it forwards into a tunnel. No frame is written as it is, unless
    /// [`OnMismatch::Pass`] says so.
    Plain,
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is done with a packet that does not match.
    pub on_mismatch: OnMismatch,
    /// Which packets are compressed: see [`holds_esp`].
    pub input: Input,
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
    /// Packets written as standard ESP.
    pub standard: u64,
    /// Frames written as they were captured.
    pub unchanged: u64,
    /// Bytes of these on the wire, and as standard ESP of the same cipher.
    pub bytes: Bytes,
    /// Packets that did not match, by field.
    pub mismatches: BTreeMap<&'static str, u64>,
    /// The first packet that did not match: frame, and what did not match.
    pub first_mismatch: Option<(u64, String)>,
    /// Packets that no frame can hold once they are encrypted; they are omitted.
    pub unwritable: u64,
    /// The first of these: frame, and why.
    pub first_unwritable: Option<(u64, String)>,
    /// Frames of plain input that are malformed, cut short, or of a link type that is not supported.
    pub unreadable: u64,
    /// Frames of plain input that hold no IP packet.
    pub not_ip: u64,
    /// The first of the frames that are unreadable or hold no IP packet, and why.
    pub first_without_packet: Option<(u64, String)>,
    /// Packets among ESP that only the encryption of their radio frames protected; they are omitted.
    pub decrypted: u64,
    /// Radio frames that bring no packet: acknowledgments, fragments before the last, repeats.
    pub radio: u64,
    /// Packets that could not be sealed without using a nonce twice.
    pub refused: u64,
    /// What the nonces rest on that outputs of other runs may share.
    pub nonces: Nonces,
}

/// What the nonces of an output rest on.
#[derive(Debug, Default)]
pub struct Nonces {
    /// Plain packets were sealed under nonces made of their new Sequence Numbers.
    pub numbers_of_plain: bool,
    /// Packets were sealed with IVs from a random start, or random ones.
    pub random: bool,
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
    if output.entries().iter().all(|entry| entry.context.is_none()) {
        return Err(Error::usage("there is no context to compress by", "give --rules a file with `contexts`"));
    }
    let outlet = Outlet::new(writer);
    let frames = outlet.frames();
    let digester = Digester::default();
    let matcher = RuleMatcher::new(input, output, digester.clone());
    let command = Compress { input, output, settings, matcher, frames };
    let mut decider = Decider::new(input, output, settings, digester);
    let mut out = Out { outlet, result: Compressed::default(), tell };
    let Settings { limits, ref link, threads, .. } = *settings;
    let link = &link::Settings { outermost: settings.input == Input::Plain, ..link.clone() };
    let read = workers::Input { reader, table: input, limits, link, threads };
    workers::run(read, &command, &mut decider, &mut out)?;
    let mut result = out.result;
    result.add(decider.counts);
    result.written = out.outlet.finish()?;
    // Fragments that wait for the rest of their packet may pass or go long after they were read.
    result.unchanged = result.written.saturating_sub(result.compressed + result.standard);
    Ok(result)
}

impl Compressed {
    /// Adds the counts of the next window.
    fn add(&mut self, window: Compressed) {
        self.totals.add(&window.totals);
        self.compressed += window.compressed;
        self.standard += window.standard;
        self.bytes.diet += window.bytes.diet;
        self.bytes.esp += window.bytes.esp;
        self.refused += window.refused;
        self.nonces.numbers_of_plain |= window.nonces.numbers_of_plain;
        self.nonces.random |= window.nonces.random;
        for (field, count) in window.mismatches {
            *self.mismatches.entry(field).or_default() += count;
        }
        self.unwritable += window.unwritable;
        self.unreadable += window.unreadable;
        self.not_ip += window.not_ip;
        self.decrypted += window.decrypted;
        self.radio += window.radio;
        note_first(&mut self.first_mismatch, window.first_mismatch);
        note_first(&mut self.first_unwritable, window.first_unwritable);
        note_first(&mut self.first_without_packet, window.first_without_packet);
    }
}

/// Keeps the one of the lower frame.
fn note_first(first: &mut Option<(u64, String)>, other: Option<(u64, String)>) {
    let Some(other) = other else { return };
    if first.as_ref().is_none_or(|first| other.0 < first.0) {
        *first = Some(other);
    }
}

/// Whether a capture has ESP that decrypts under these SAs: then it is [`Input::Esp`]. Reads up to the first such packet.
pub(crate) fn holds_esp(
    reader: &mut Reader,
    input: &SaTable,
    limits: Limits,
    link: &link::Settings,
) -> Result<bool, Error> {
    workers::visit(reader, input, limits, link, |_, outcome, _| match outcome.status {
        Status::Ok => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

/// Where a packet goes; what its context makes of it, if that needs nothing of the packets before.
#[derive(Debug, Clone, Copy)]
enum Route {
    /// It is omitted.
    Left,
    /// A fragment whose packet is not whole yet.
    Waits,
    /// A radio frame that brings no packet.
    NoPacket,
    /// An ESP packet that opened.
    Esp(Option<RuleMatch>),
    /// A packet of plain input.
    Plain(Option<RuleMatch>),
    /// Only the encryption of its radio frame protected it, and the packet would go on without that.
    Decrypted,
    /// There is no whole IP packet in it, and the input is plain.
    Unprotected,
    /// It passes as it is, which only frames of ESP input do.
    NotOurs,
}

/// What becomes of a packet; decided in capture order.
#[derive(Debug, Clone, Copy)]
enum Make {
    /// It passes as it is.
    Unchanged,
    /// It is omitted.
    Left,
    /// A radio frame without a packet is omitted.
    NoPacket,
    /// A fragment whose packet is not whole yet.
    Waits,
    /// ESP in its place: see [`Texts::sending`].
    Esp(u32),
}

/// An ESP packet to be made.
#[derive(Debug, Clone, Copy)]
struct Sending {
    /// The SA of the output that it belongs to.
    sa: u32,
    /// Of a plain packet the SA whose outer header carries it.
    carrier: Option<u32>,
    /// Of a plain packet that is compressed, what stays in front of ESP in transport mode.
    in_front: Option<InFront>,
    content: Content,
    /// The clear text that is sealed.
    clear: Text,
    /// What standard ESP would protect of the packet.
    protected_len: u32,
    sn: u64,
    /// As many bytes of it as the cipher wants, from the most significant one on.
    iv: u128,
}

/// The headers of a packet that ESP of transport mode leaves in front of it: not all extension headers are.
#[derive(Debug, Clone, Copy)]
struct InFront {
    len: u32,
    /// Where the protocol is named.
    protocol_offset: u32,
}

/// What follows an ESP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// What stands there in the input.
    AsItIs,
    /// The clear text, sealed.
    Compressed,
    /// The clear text, which is one of standard ESP, sealed.
    Standard,
}

struct Compress<'t> {
    input: &'t SaTable,
    output: &'t SaTable,
    settings: &'t Settings,
    matcher: RuleMatcher<'t>,
    /// None yet.
    frames: Frames,
}

struct Out<'o> {
    outlet: Outlet,
    result: Compressed,
    tell: &'o mut (dyn FnMut(u64) + Send),
}

#[derive(Debug, Default)]
struct Work {
    routes: Vec<Route>,
    texts: Texts,
    makes: Vec<Make>,
    payloads: Payloads,
    /// Made from those of the command.
    frames: Option<Frames>,
    counts: Compressed,
}

impl Compress<'_> {
    fn route(&self, packet: &Frame<'_>, outcome: &Outcome<'_>, arena: &Arena, texts: &mut Texts) -> Route {
        if !self.settings.selection.takes(&Record::new(packet, outcome, self.input, arena)) {
            return Route::Left;
        }
        match (self.settings.input, outcome.status) {
            // It may have held a packet.
            (Input::Plain, Status::Malformed) => Route::Unprotected,
            // The packets of radio frames go on without them, and once.
            _ if is_without_packet(outcome) => Route::NoPacket,
            (Input::Plain, _) => match outcome.datagram() {
                Some(datagram) => Route::Plain(self.matcher.plain(&datagram, None, texts)),
                None => Route::Unprotected,
            },
            _ if outcome.waits => Route::Waits,
            (Input::Esp, Status::Ok) => match outcome.outer() {
                Some(outer) => Route::Esp(self.matcher.esp(outcome, &outer, arena, None, texts)),
                None => Route::NotOurs,
            },
            (Input::Esp, _) if outcome.decrypted && outcome.payload(self.input).is_none() => Route::Decrypted,
            (Input::Esp, _) => Route::NotOurs,
        }
    }

    /// Appends a frame with ESP that is still to be sealed.
    fn write(
        &self,
        outcome: &Outcome<'_>,
        sending: &Sending,
        texts: &Texts,
        payloads: &mut Payloads,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let start = out.len();
        let esp = |out: &mut Vec<u8>| self.lay_out(outcome, sending, texts, payloads, out);
        match carry(outcome, (self.input, self.output), sending, esp, out) {
            Ok(checksum) => payloads.checksum(checksum),
            Err(fault) => {
                payloads.give_up(start);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Appends ESP, still to be sealed.
    #[inline]
    fn lay_out(
        &self,
        outcome: &Outcome<'_>,
        sending: &Sending,
        texts: &Texts,
        payloads: &mut Payloads,
        out: &mut Vec<u8>,
    ) {
        let Some(to) = self.output.entry(sending.sa) else { return };
        let spi = to.spi().unwrap_or(0);
        match sending.content {
            Content::Standard => esp::write_header(spi, sending.sn, out),
            Content::Compressed | Content::AsItIs => to.codec.encode_header(spi, sending.sn, out),
        }
        if sending.content == Content::AsItIs {
            return out.extend_from_slice(behind_header(outcome, self.input));
        }
        let iv = sending.iv.to_be_bytes();
        let iv = iv.get(..to.iv_len()).unwrap_or_default();
        payloads.body((sending.sa, spi, sending.sn), iv, to.cipher().icv_len(), out, |out| {
            out.extend_from_slice(texts.get(sending.clear));
        });
    }

    /// Notes in `counts` what the ESP of a packet was made of.
    fn count(&self, outcome: &Outcome<'_>, sending: &Sending, counts: &mut Compressed) {
        if sending.content == Content::Standard {
            counts.standard += 1;
            return;
        }
        let Some(to) = self.output.entry(sending.sa) else { return };
        let (protected_len, around) = (sending.protected_len as usize, to.least_len() - to.header_len());
        let standard = esp::standard_len(protected_len, around, to.cipher().block(), 0);
        counts.compressed += 1;
        counts.bytes.diet += sending.esp_len(outcome, self.input, self.output) as u64;
        counts.bytes.esp += standard as u64;
    }
}

impl<'t> BatchCommand<Out<'_>> for Compress<'t> {
    type State = Decider<'t>;
    type Work = Work;

    fn prepare(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) {
        let Work { routes, texts, .. } = work;
        routes.clear();
        texts.clear();
        for (packet, outcome) in window.frames().zip(outcomes) {
            for part in outcome.packets() {
                routes.push(self.route(&packet, part, arena, texts));
            }
        }
    }

    fn decide(
        &self,
        decider: &mut Decider<'t>,
        window: &Window,
        outcomes: &[Outcome<'_>],
        arena: &Arena,
        work: &mut Work,
    ) -> Result<(), Error> {
        let Work { routes, texts, makes, .. } = work;
        makes.clear();
        let frames = window.frames().zip(outcomes);
        let parts = frames.flat_map(|(packet, all)| all.packets().map(move |outcome| (packet.number, all, outcome)));
        for ((frame, all, outcome), route) in parts.zip(routes) {
            decider.note_iv(outcome)?;
            for nested in all.inside_of(outcome) {
                decider.note_iv(nested)?;
            }
            makes.push(match *route {
                Route::Left => Make::Left,
                Route::Waits => Make::Waits,
                Route::Esp(Some(rule_match)) => decider.esp_packet(frame, outcome, arena, rule_match, texts)?,
                Route::Esp(None) => {
                    let rule_match = outcome
                        .outer()
                        .and_then(|outer| self.matcher.esp(outcome, &outer, arena, Some(&decider.states), texts));
                    decider.esp_packet(frame, outcome, arena, rule_match.unwrap_or(RuleMatch::NotOurs), texts)?
                }
                Route::Plain(rule_match) => match outcome.datagram() {
                    Some(datagram) => {
                        let states = Some(&decider.states);
                        let rule_match = rule_match.or_else(|| self.matcher.plain(&datagram, states, texts));
                        decider.plain_packet(
                            frame,
                            outcome,
                            &datagram,
                            rule_match.unwrap_or(RuleMatch::NotOurs),
                            texts,
                        )?
                    }
                    None => decider.without_packet(frame, outcome)?,
                },
                Route::Unprotected => decider.without_packet(frame, outcome)?,
                Route::NoPacket => Make::NoPacket,
                Route::Decrypted if self.settings.on_mismatch == OnMismatch::Pass => Make::Unchanged,
                Route::Decrypted => {
                    decider.counts.decrypted += 1;
                    Make::Left
                }
                Route::NotOurs => Make::Unchanged,
            });
        }
        Ok(())
    }

    fn render(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        let Work { texts, makes, payloads, frames, counts, .. } = work;
        *counts = Compressed::default();
        payloads.clear();
        let frames = frames.get_or_insert_with(|| self.frames.clone());
        frames.begin(arena.given_up());
        let mut makes = makes.iter();
        for (packet, outcome) in window.frames().zip(outcomes) {
            let own = outcome.packets().zip(makes.clone());
            // Then packets of the same frame that are not ours go on without it.
            let frame_goes = outcome.part > 0 && own.into_iter().any(|(_, make)| matches!(make, Make::Esp(_)));
            let (mut end, mut is_there) = (End::Leaves, false);
            for (part, make) in outcome.packets().zip(makes.by_ref()) {
                counts.totals.count(part);
                end = end.max(match make {
                    Make::Unchanged if !frame_goes && std::mem::replace(&mut is_there, true) => End::Stays,
                    Make::Unchanged => pass(&packet, part, frame_goes, frames)?,
                    Make::Left => End::Leaves,
                    Make::NoPacket => {
                        counts.radio += 1;
                        End::Leaves
                    }
                    Make::Waits => End::Waits,
                    Make::Esp(index) => {
                        let sending = texts.sending(*index);
                        let write = |out: &mut Vec<u8>| self.write(part, sending, texts, payloads, out);
                        let written = match is_beside(part) {
                            true => frames.raw_written(&packet, &origin(&packet), write)?,
                            false => frames.rewritten(&packet, None, write)?,
                        };
                        match written {
                            Ok(()) => self.count(part, sending, counts),
                            Err(fault) if self.settings.on_mismatch == OnMismatch::Stop => {
                                return Err(Error::Mismatch { frame: packet.number, problem: fault.to_string() });
                            }
                            Err(fault) => {
                                counts.unwritable += 1;
                                counts.first_unwritable.get_or_insert((packet.number, fault.to_string()));
                            }
                        }
                        End::Leaves
                    }
                });
            }
            frames.end(end);
        }
        payloads.complete(frames.bytes_mut(), |sa| self.output.entry(sa).map(|entry| (entry.cipher(), entry.esn())));
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
        out.result.add(std::mem::take(&mut work.counts));
        if let Some(frames) = &mut work.frames {
            out.outlet.apply(window, outcomes, frames)?;
        }
        (out.tell)(bytes_read);
        Ok(())
    }
}

impl Sending {
    /// Bytes from the ESP header to the ICV.
    fn esp_len(&self, outcome: &Outcome<'_>, input: &SaTable, output: &SaTable) -> usize {
        let Some(to) = output.entry(self.sa) else { return 0 };
        match self.content {
            Content::AsItIs => to.header_len() + behind_header(outcome, input).len(),
            Content::Compressed => to.least_len() + self.clear.len(),
            Content::Standard => to.least_len() - to.header_len() + esp::HEADER_LEN + self.clear.len(),
        }
    }
}

/// A frame that is not ours passes as it is; of a radio frame, and `without_frame`, the packet goes on.
fn pass(packet: &Frame<'_>, outcome: &Outcome<'_>, without_frame: bool, frames: &mut Frames) -> Result<End, Error> {
    match outcome.datagram().filter(|_| outcome.radio || without_frame) {
        Some(Datagram { header, payload, missing, .. }) => {
            frames.raw(packet, &[header, payload].concat(), missing, &origin(packet))?;
            Ok(End::Leaves)
        }
        None if without_frame => Ok(End::Leaves),
        None => {
            frames.frame(packet, None)?;
            Ok(End::Stays)
        }
    }
}

fn origin(packet: &Frame<'_>) -> String {
    format!("dietesp: rebuilt from frame {}", packet.number)
}

/// A radio frame, or part of one, that gives no packet or one that was there before.
fn is_without_packet(outcome: &Outcome<'_>) -> bool {
    outcome.repeat || outcome.radio && outcome.datagram().is_none()
}

/// IV, cipher text and ICV of an ESP packet of the input.
fn behind_header<'i>(outcome: &'i Outcome<'_>, input: &SaTable) -> &'i [u8] {
    let from = outcome.sa.and_then(|sa| input.entry(sa));
    let behind = from.zip(outcome.payload(input)).and_then(|(from, payload)| payload.bytes.get(from.header_len()..));
    behind.unwrap_or_default()
}

/// Appends a frame in place of that of `outcome`, with the ESP that `esp` appends in it. Gives the UDP checksum that is to be
/// written when the ESP is sealed.
#[inline]
fn carry(
    outcome: &Outcome<'_>,
    (input, output): (&SaTable, &SaTable),
    sending: &Sending,
    esp: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) -> Result<Option<UdpChecksum>, Fault> {
    let protocol = match sending.content {
        Content::Standard => esp::PROTOCOL,
        _ => output.entry(sending.sa).map_or(esp::PROTOCOL, |to| to.protocol),
    };
    let new_outer = || {
        let to = output.entry(sending.carrier?).filter(|to| to.is_tunnel())?;
        new_outer(to, &outcome.datagram()?)
    };
    let begun = match new_outer() {
        Some(outer) => link::begin_encapsulated(outcome.link_type, outcome.link_header(), &outer, protocol, out)?,
        None => {
            let no_packet = || Fault::unsupported(Stage::Link, 0, "there is no IP packet");
            let mut headers = outcome.headers().ok_or_else(no_packet)?;
            if let Some(InFront { len, protocol_offset }) = sending.in_front {
                headers = (headers.0.get(..len as usize).unwrap_or(headers.0), protocol_offset as usize);
            }
            let udp = if sending.carrier.is_none() { outcome.udp_header(input) } else { None };
            let protocol = if udp.is_some() { esp::UDP } else { protocol };
            link::begin(outcome.link_header(), headers, protocol, udp, out)
        }
    };
    esp(out);
    begun.finish(out)
}

/// The outer header of a plain packet on this SA; `None` if the SA cannot take plain packets.
fn new_outer(to: &PreparedSa, datagram: &Datagram<'_>) -> Option<OuterHeader> {
    let context = to.context.as_ref()?;
    if !to.is_tunnel() {
        return Some(datagram.outer);
    }
    let (src, dst) = context.tunnel_ip?;
    Some(OuterHeader { version: IpVersion::of(src), src, dst, ..datagram.outer })
}
