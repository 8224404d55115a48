//! convert: converts Diet-ESP to standard ESP, or to the inner packets (wire format §7).
//!
//! [`Convert`] processes a batch of frames (a window) in three steps:
//!
//! * `decide` chooses what becomes of each packet, with the keys and IVs that it needs, in capture order;
//! * `render` lays out the frames and encrypts their ESP;
//! * `emit` writes them.

mod decide;
mod frame;
mod output_packet;
mod resealing;

use std::ops::{AddAssign, ControlFlow};

use super::frame_batch::{FrameBatch, Original};
use super::frame_writer::{FrameWriter, Output};
use super::seal_queue::SealQueue;
use crate::batch::workers::{self, BatchCommand, Input};
use crate::capture::{Frame, Reader, Window, Writer};
use crate::cipher::Suite;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::outcome::Outcome;
use crate::error::Error;
use crate::link;
use crate::records::record::Record;
use crate::records::select::Selection;
use crate::records::totals::Totals;
use crate::sa::UsedKeys;
use crate::sa::table::SaTable;
use decide::Action;
use frame::{NotReplaced, OutputFrame};
use resealing::{Conversions, KeySource};

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard ESP.
    Esp,
    /// The inner packets, decrypted.
    Plain,
}

/// The keys for packets that must be encrypted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reseal {
    /// New random keys for this cipher.
    Fresh(&'static Suite),
    /// The keys of the SA, with new IVs.
    Keep,
}

/// Settings of [`run`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The form of the output.
    pub target: Target,
    /// The keys for encryption.
    pub reseal: Reseal,
    /// A seed for reproducible keys and IVs, for tests.
    pub seed: Option<u64>,
    /// How far to search for sequence numbers.
    pub limits: Limits,
    /// Which frames are written.
    pub selection: Selection,
    /// Settings of the link layer.
    pub link: link::Settings,
    /// Also write frames that repeat another one on the link layer.
    pub keep_repeats: bool,
    /// Worker threads.
    pub threads: usize,
}

/// The result of [`run`].
#[derive(Debug, Default)]
pub struct Converted {
    /// Counts of the input.
    pub totals: Totals,
    /// Frames written.
    pub written: u64,
    /// Packets rewritten: header restored, IV made explicit, encrypted again.
    pub rewritten: [u64; 3],
    /// Packets that are too long for a frame once they are converted. They are written unchanged.
    pub unwritable: u64,
    /// Packets written unchanged because they could not be decoded.
    pub still_encrypted: u64,
}

/// Adds the counts of the next window.
impl AddAssign for Converted {
    fn add_assign(&mut self, window: Converted) {
        self.totals.add(&window.totals);
        self.unwritable += window.unwritable;
        self.still_encrypted += window.still_encrypted;
        self.rewritten.iter_mut().zip(window.rewritten).for_each(|(total, own)| *total += own);
    }
}

/// Reads a capture to its end and writes it converted. `progress` is called after each window with the number of
/// bytes read so far.
///
/// `keep` gets the SAs of the output with their keys, before the output file gets its name. If `keep` fails, there
/// is no output file.
///
/// # Errors
///
/// The capture cannot be read, the output cannot be written, the operating system has no random bytes, or `keep`
/// fails.
pub fn run(
    reader: &mut Reader,
    writer: Writer,
    table: &SaTable,
    settings: &Settings,
    progress: &mut (dyn FnMut(u64) + Send),
    keep: impl FnOnce(&[UsedKeys]) -> Result<(), Error>,
) -> Result<Converted, Error> {
    let writer = FrameWriter::new(writer);
    let command = Convert { table, settings, conversions: Conversions::new(table), frames: writer.batch() };
    let mut source = KeySource::new(table, settings.seed);
    let mut out = Output { writer, counts: Converted::default(), progress };
    let Settings { limits, link, threads, .. } = settings;
    let input = Input { reader, table, limits: *limits, link, threads: *threads };
    workers::run(input, &command, &mut source, &mut out)?;
    out.writer.write_held()?;
    keep(&command.conversions.into_used_keys())?;
    Ok(Converted { written: out.writer.finish()?, ..out.counts })
}

struct Convert<'t, 's> {
    table: &'t SaTable,
    settings: &'s Settings,
    conversions: Conversions<'t>,
    /// An empty batch for the output.
    frames: FrameBatch,
}

/// What becomes of a window.
struct Work {
    actions: Vec<Action>,
    seal_queue: SealQueue,
    frames: FrameBatch,
    counts: Converted,
}

impl BatchCommand<Output<'_, Converted>> for Convert<'_, '_> {
    type State = KeySource;
    type Work = Work;

    fn new_work(&self) -> Work {
        Work {
            actions: vec![],
            seal_queue: SealQueue::default(),
            frames: self.frames.clone(),
            counts: Converted::default(),
        }
    }

    fn decide(
        &self,
        source: &mut KeySource,
        window: &Window,
        outcomes: &[Outcome<'_>],
        arena: &Arena,
        work: &mut Work,
    ) -> Result<ControlFlow<()>, Error> {
        work.actions.clear();
        for (frame, first) in window.frames().zip(outcomes) {
            let mut selected = false;
            for packet in first.parts() {
                if packet.inside == 0 {
                    selected = self.selects(&frame, first, packet, arena);
                }
                work.actions.push(self.action(source, packet, first.innermost_of(packet), selected)?);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn render(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        let Work { actions, seal_queue, frames, counts } = work;
        *counts = Converted::default();
        frames.begin(arena.given_up());
        let mut actions = actions.iter();
        for (frame, first) in window.frames().zip(outcomes) {
            let mut output = OutputFrame::new(&frame, first);
            let mut original = Original::Replaced;
            for (packet, action) in first.parts().zip(actions.by_ref()) {
                let packets = (packet, first.innermost_of(packet));
                let write = |out: &mut Vec<u8>| self.append_frame(packets, arena, action, seal_queue, out);
                let (own, written) = output.packet(packet, action, frames, write)?;
                counts.count(packet, action, &written);
                if packet.inside == 0 {
                    original = original.max(own);
                }
            }
            frames.end(original);
        }
        // Sequence numbers of 32 bits even for an SA with 64, because Wireshark before 4.4 does not support longer
        // ones.
        let cipher = |sa| self.conversions.sealer(sa).map(|sealer| (&sealer.cipher, false));
        seal_queue.complete(frames.bytes_mut(), cipher);
        Ok(())
    }

    fn emit(
        &self,
        out: &mut Output<'_, Converted>,
        window: &Window,
        outcomes: &[Outcome<'_>],
        work: &mut Work,
        bytes_read: u64,
    ) -> Result<(), Error> {
        out.emit(window, outcomes, (&mut work.frames, std::mem::take(&mut work.counts)), bytes_read)
    }
}

impl Convert<'_, '_> {
    /// Whether the selection matches a packet of a frame, or one nested in it.
    fn selects(&self, frame: &Frame<'_>, first: &Outcome<'_>, packet: &Outcome<'_>, arena: &Arena) -> bool {
        let takes = |part: &Outcome<'_>| self.settings.selection.selects(&Record::new(frame, part, self.table, arena));
        takes(packet) || first.inside_of(packet).any(takes)
    }
}

impl Converted {
    /// Counts a packet.
    fn count(&mut self, packet: &Outcome<'_>, action: &Action, written: &Result<(), NotReplaced>) {
        self.totals.count(packet);
        let [header_only, explicit_iv, sealed] = &mut self.rewritten;
        match (written, action) {
            (Err(NotReplaced::Fault(_)), _) => self.unwritable += 1,
            (_, Action::Keep) => self.still_encrypted += u64::from(packet.is_still_encrypted()),
            (Ok(()), Action::HeaderOnly) => *header_only += 1,
            (Ok(()), Action::ExplicitIv) => *explicit_iv += 1,
            (Ok(()), Action::Sealed(_)) => *sealed += 1,
            _ => {}
        }
    }
}
