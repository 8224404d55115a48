//! compress: converts standard ESP or plain IP packets to Diet-ESP (wire format §7).
//!
//! [`Compress`] processes a batch of frames (a window) in four steps:
//!
//! * `prepare` finds the context that matches each packet, and compresses the packet with it;
//! * `decide` gives the packets Sequence Numbers and IVs, in capture order;
//! * `render` lays out the frames and encrypts their ESP;
//! * `emit` writes them.

mod counts;
mod decide;
mod nonces;
mod output_esp;
mod route;

use std::ops::ControlFlow;

use super::frame_batch::{FrameBatch, Original, is_separate, rebuilt_from};
use super::frame_writer::{FrameWriter, Output};
use super::seal_queue::SealQueue;
use crate::batch::workers::{self, BatchCommand};
use crate::capture::{Frame, Reader, Window, Writer};
use crate::cipher::nonces::Digester;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Status;
use crate::encoder::{ClearTexts, RuleMatcher, wire_bytes};
use crate::error::{Error, Remedy};
use crate::link;
use crate::records::select::Selection;
use crate::sa::table::SaTable;
pub(crate) use counts::Compressed;
use decide::{Action, Decider};
use output_esp::{Content, OutputEsp};
use route::Route;

/// What to do with a packet that no context matches. If all IP packets are to be compressed, also with a frame
/// without a whole IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMismatch {
    /// End the run and write nothing.
    Stop,
    /// Omit the packet.
    Skip,
    /// Write the packet as standard ESP, on an SA without context. Write the frame unchanged.
    Pass,
}

/// Which packets of a capture are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The ESP packets that decrypt. Every other frame is written unchanged.
    Esp,
    /// Every IP packet, like a gateway that encrypts all packets it forwards into a tunnel. No frame is written
    /// unchanged, except with [`OnMismatch::Pass`].
    Plain,
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// What to do with a packet that does not match.
    pub on_mismatch: OnMismatch,
    /// Which packets are compressed: see [`holds_esp`].
    pub input: Input,
    /// Encrypt a new plaintext under the nonce of the input if a cipher with implicit IV keeps its key.
    pub allow_nonce_reuse: bool,
    /// A seed for reproducible IVs, for tests.
    pub seed: Option<u64>,
    /// How far to search for sequence numbers in the input.
    pub limits: Limits,
    /// Which frames are written.
    pub selection: Selection,
    /// Settings of the link layer of the input.
    pub link: link::Settings,
    /// Worker threads.
    pub threads: usize,
}

/// Reads a capture to its end and writes it compressed. `input` decrypts its ESP packets. `output` has the contexts
/// and the keys for encryption. `progress` is called after each window with the number of bytes read so far.
///
/// # Errors
///
/// The capture cannot be read, the output cannot be written, no SA has a context, or a packet cannot be encrypted
/// with these settings.
pub fn run(
    reader: &mut Reader,
    writer: Writer,
    input: &SaTable,
    output: &SaTable,
    settings: &Settings,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Compressed, Error> {
    if output.entries().iter().all(|entry| entry.context.is_none()) {
        return Err(Error::usage("there is no context to compress by", Remedy::Contexts));
    }
    let writer = FrameWriter::new(writer);
    let digester = Digester::default();
    let matcher = RuleMatcher::new(input, output, digester.clone());
    let command = Compress { input, output, settings, matcher: &matcher, frames: writer.batch() };
    let mut decider = Decider::new(&matcher, (input, output), settings, digester);
    let mut out = Output { writer, counts: Compressed::default(), progress };
    let Settings { limits, ref link, threads, .. } = *settings;
    let link = &link::Settings { outermost: settings.input == Input::Plain, ..link.clone() };
    let read = workers::Input { reader, table: input, limits, link, threads };
    workers::run(read, &command, &mut decider, &mut out)?;
    let mut counts = out.counts;
    counts += decider.into_counts();
    counts.written = out.writer.finish()?;
    // A held fragment is written or omitted only when its packet is complete, so it is not counted with its window.
    counts.unchanged = counts.written.saturating_sub(counts.compressed + counts.standard);
    Ok(counts)
}

/// Whether a capture has ESP that decrypts with these SAs, so that it is [`Input::Esp`]. Reads up to the first such
/// packet.
pub(crate) fn holds_esp(
    reader: &mut Reader,
    table: &SaTable,
    limits: Limits,
    link: &link::Settings,
) -> Result<bool, Error> {
    // One thread reads no further than it has to.
    let input = workers::Input { reader, table, limits, link, threads: 1 };
    workers::visit(input, |_, outcome, _| match outcome.status {
        Status::Ok => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
}

struct Compress<'t> {
    input: &'t SaTable,
    output: &'t SaTable,
    settings: &'t Settings,
    matcher: &'t RuleMatcher<'t>,
    /// An empty batch for the output.
    frames: FrameBatch,
}

/// What becomes of a window.
struct Work {
    routes: Vec<Route>,
    texts: ClearTexts,
    actions: Vec<Action>,
    seal_queue: SealQueue,
    frames: FrameBatch,
    counts: Compressed,
}

impl<'t> BatchCommand<Output<'_, Compressed>> for Compress<'t> {
    type State = Decider<'t>;
    type Work = Work;

    fn new_work(&self) -> Work {
        Work {
            routes: vec![],
            texts: ClearTexts::default(),
            actions: vec![],
            seal_queue: SealQueue::default(),
            frames: self.frames.clone(),
            counts: Compressed::default(),
        }
    }

    fn prepare(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) {
        let Work { routes, texts, .. } = work;
        routes.clear();
        texts.clear();
        for (frame, first) in window.frames().zip(outcomes) {
            for packet in first.packets() {
                routes.push(self.route(&frame, packet, arena, texts));
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
    ) -> Result<ControlFlow<()>, Error> {
        let Work { routes, texts, actions, .. } = work;
        actions.clear();
        let mut routes = routes.iter();
        for (frame, first) in window.frames().zip(outcomes) {
            for (packet, route) in first.packets().zip(routes.by_ref()) {
                actions.push(decider.decide(frame.number, (first, packet), arena, route, texts)?);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn render(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        let Work { texts, actions, seal_queue, frames, counts, .. } = work;
        *counts = Compressed::default();
        frames.begin(arena.given_up());
        let mut actions = actions.as_slice();
        for (frame, first) in window.frames().zip(outcomes) {
            let (own, rest) = actions.split_at_checked(first.packets().count()).unwrap_or((actions, &[]));
            actions = rest;
            self.write_frame(&frame, first, own, (texts, seal_queue), frames, counts)?;
        }
        let cipher = |sa| self.output.entry(sa).map(|entry| (entry.cipher(), entry.esn()));
        seal_queue.complete(frames.bytes_mut(), cipher);
        Ok(())
    }

    fn emit(
        &self,
        out: &mut Output<'_, Compressed>,
        window: &Window,
        outcomes: &[Outcome<'_>],
        work: &mut Work,
        bytes_read: u64,
    ) -> Result<(), Error> {
        out.emit(window, outcomes, (&mut work.frames, std::mem::take(&mut work.counts)), bytes_read)
    }
}

impl Compress<'_> {
    /// Writes the packets of a frame. `actions` has one for each packet, and `first` is the first packet.
    fn write_frame(
        &self,
        frame: &Frame<'_>,
        first: &Outcome<'_>,
        actions: &[Action],
        (texts, seal_queue): (&ClearTexts, &mut SealQueue),
        frames: &mut FrameBatch,
        counts: &mut Compressed,
    ) -> Result<(), Error> {
        // If one of several packets is replaced, the others are written without the frame.
        let omits_frame = first.part > 0 && actions.iter().any(|action| matches!(action, Action::Esp(_)));
        let (mut original, mut is_written) = (Original::Replaced, false);
        for (packet, action) in first.packets().zip(actions) {
            counts.totals.count(packet);
            original = original.max(match action {
                Action::Keep if !omits_frame && std::mem::replace(&mut is_written, true) => Original::Kept,
                Action::Keep => keep(frame, packet, omits_frame, frames)?,
                Action::Omit => Original::Replaced,
                Action::OmitRadioFrame => {
                    counts.radio += 1;
                    Original::Replaced
                }
                Action::Hold => Original::Waits,
                Action::Esp(esp) => {
                    self.write_esp(frame, packet, esp, (texts, seal_queue), frames, counts)?;
                    Original::Replaced
                }
            });
        }
        frames.end(original);
        Ok(())
    }

    /// Writes ESP in place of a packet.
    #[inline]
    fn write_esp(
        &self,
        frame: &Frame<'_>,
        packet: &Outcome<'_>,
        esp: &OutputEsp,
        (texts, seal_queue): (&ClearTexts, &mut SealQueue),
        frames: &mut FrameBatch,
        counts: &mut Compressed,
    ) -> Result<(), Error> {
        let tables = (self.input, self.output);
        let write = |out: &mut Vec<u8>| esp.append_frame(packet, tables, texts, seal_queue, out);
        let written = match is_separate(packet) {
            true => frames.add(frame, &rebuilt_from(frame.number, &[]), write)?,
            false => frames.replace(frame, None, write)?,
        };
        match written {
            Ok(()) if esp.content == Content::Standard => counts.standard += 1,
            Ok(()) => {
                let Some(to) = self.output.entry(esp.sa) else { return Ok(()) };
                let bytes = wire_bytes(to, esp.clear.len(), esp.protected_len as usize);
                counts.compressed += 1;
                counts.bytes.diet += bytes.diet;
                counts.bytes.esp += bytes.esp;
            }
            Err(fault) if self.settings.on_mismatch == OnMismatch::Stop => {
                return Err(Error::Mismatch { frame: frame.number, problem: fault.to_string() });
            }
            Err(fault) => {
                counts.unwritable += 1;
                counts.first_unwritable.get_or_insert((frame.number, fault.to_string()));
            }
        }
        Ok(())
    }
}

/// Writes a packet that is not compressed: its frame as it is, or the packet alone if it is from a radio frame or the frame
/// is omitted.
fn keep(
    frame: &Frame<'_>,
    packet: &Outcome<'_>,
    omits_frame: bool,
    frames: &mut FrameBatch,
) -> Result<Original, Error> {
    match packet.datagram().filter(|_| packet.radio || omits_frame) {
        Some(datagram) => {
            frames.add_datagram(frame, &datagram, &rebuilt_from(frame.number, &[]))?;
            Ok(Original::Replaced)
        }
        None if omits_frame => Ok(Original::Replaced),
        None => {
            frames.keep(frame, None)?;
            Ok(Original::Kept)
        }
    }
}
