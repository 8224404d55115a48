//! decode: a record of every packet of every captured frame.

use std::ops::ControlFlow;

use crate::batch::workers::{self, BatchCommand, Input};
use crate::capture::{Frame, Stop, Window};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::streams::Streams;
use crate::error::Error;
use crate::records::filter::Evaluation;
use crate::records::record::Record;
use crate::records::select::Selection;
use crate::records::totals::Totals;
use crate::sa::table::SaTable;

/// How records become text. Records of one window are rendered side by side with those of others.
pub trait Render: Sync {
    /// Appends a record to the text of its window.
    fn record(&self, record: &Record<'_>, text: &mut Vec<u8>);
}

/// Takes the text of each window, in capture order, and how many bytes of the input have been read.
pub(crate) type Sink<'s> = dyn FnMut(&[u8], u64) -> Result<(), Error> + Send + 's;

/// Which records are rendered.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Records that meet these conditions.
    pub selection: Selection,
    /// Only this many of them. The run ends with the last one.
    pub most: Option<u64>,
}

/// How a run ended.
pub struct Decoded {
    /// Counts of the packets up to the last one that was wanted.
    pub totals: Totals,
    /// All streams.
    pub streams: Streams,
    /// The run ended before the end of the capture, because it had shown [`Shown::most`] records.
    pub is_complete: bool,
}

struct Out<'s> {
    totals: Totals,
    sink: &'s mut Sink<'s>,
}

struct Decode<'t, R> {
    table: &'t SaTable,
    shown: Shown,
    render: &'t R,
    /// Ends the reading. Another worker may be waiting for the next packet of a pipe.
    stop: Stop,
}

/// What is known of the windows before.
#[derive(Debug, Default)]
struct Before {
    /// Time of the first frame with a time stamp.
    first_ns: Option<i128>,
    /// Records that were shown, if there is a limit.
    shown: u64,
}

/// What a window adds to the output.
#[derive(Debug, Default)]
struct Work {
    text: Vec<u8>,
    totals: Totals,
    evaluation: Evaluation,
    /// Packets to be counted and shown; `None` for all.
    packets: Option<usize>,
}

/// Reads a capture to its end, or until enough records were shown. `sink` takes the text of each window, in capture
/// order, and how many bytes of the input have been read.
///
/// # Errors
/// The capture cannot be read on, or `sink` cannot write.
pub fn run<R: Render>(input: Input<'_, '_>, shown: Shown, render: &R, sink: &mut Sink<'_>) -> Result<Decoded, Error> {
    let command = Decode { table: input.table, shown, render, stop: input.reader.stopper() };
    let mut out = Out { totals: Totals::default(), sink };
    let mut before = Before::default();
    let streams = workers::run(input, &command, &mut before, &mut out)?;
    Ok(Decoded { totals: out.totals, streams, is_complete: command.shown.most == Some(before.shown) })
}

/// The packets of a window, each with its frame.
fn packets<'w>(window: &'w Window, outcomes: &'w [Outcome<'w>]) -> impl Iterator<Item = (Frame<'w>, &'w Outcome<'w>)> {
    window.frames().zip(outcomes).flat_map(|(frame, outcome)| outcome.parts().map(move |part| (frame, part)))
}

impl<R: Render> BatchCommand<Out<'_>> for Decode<'_, R> {
    type State = Before;
    type Work = Work;

    fn new_work(&self) -> Work {
        Work::default()
    }

    fn decide(
        &self,
        before: &mut Before,
        window: &Window,
        outcomes: &[Outcome<'_>],
        arena: &Arena,
        work: &mut Work,
    ) -> Result<ControlFlow<()>, Error> {
        if before.first_ns.is_none() {
            before.first_ns = window.frames().find_map(|frame| frame.time).map(|time| time.nanos());
        }
        work.evaluation.first_ns = before.first_ns;
        let Some(most) = self.shown.most else { return Ok(ControlFlow::Continue(())) };
        let mut counted = 0;
        for (frame, outcome) in packets(window, outcomes) {
            if before.shown == most {
                break;
            }
            let record = Record::new(&frame, outcome, self.table, arena);
            before.shown += u64::from(self.shown.selection.shows(&record, &mut work.evaluation));
            counted += 1;
        }
        work.packets = Some(counted);
        if before.shown < most {
            return Ok(ControlFlow::Continue(()));
        }
        self.stop.request_at_once();
        Ok(ControlFlow::Break(()))
    }

    fn render(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        let Work { text, totals, evaluation, packets } = work;
        text.clear();
        *totals = Totals::default();
        totals.shown = (self.shown.selection.is_any() || self.shown.most.is_some()).then_some(0);
        let mut left = packets.unwrap_or(usize::MAX);
        for (frame, outcome) in window.frames().zip(outcomes) {
            let mut render = |part: &Outcome<'_>| {
                let Some(after) = left.checked_sub(1) else { return };
                left = after;
                let record = Record::new(&frame, part, self.table, arena);
                totals.count(part);
                if self.shown.selection.shows(&record, evaluation) {
                    self.render.record(&record, text);
                    totals.shown.iter_mut().for_each(|shown| *shown += 1);
                } else if self.shown.selection.takes_inner(&record) {
                    totals.inner_matches += 1;
                }
            };
            render(outcome);
            outcome.others().iter().for_each(render);
        }
        Ok(())
    }

    fn emit(
        &self,
        out: &mut Out<'_>,
        _window: &Window,
        _items: &[Outcome<'_>],
        work: &mut Work,
        bytes_read: u64,
    ) -> Result<(), Error> {
        out.totals.add(&work.totals);
        (out.sink)(&work.text, bytes_read)
    }
}
