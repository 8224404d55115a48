//! decode: a record of every packet of every captured frame.

use crate::batch::workers::{self, BatchCommand, Input};
use crate::capture::Window;
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::streams::Streams;
use crate::error::Error;
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

struct Out<'s> {
    totals: Totals,
    sink: &'s mut Sink<'s>,
}

struct Decode<'t, R> {
    table: &'t SaTable,
    selection: Selection,
    render: &'t R,
}

/// What a window adds to the output.
#[derive(Debug, Default)]
struct Work {
    text: Vec<u8>,
    totals: Totals,
}

/// Reads a capture to its end. Returns counts and streams. `sink` gets the text of each window, in capture order, and
/// how many bytes of the input have been read.
///
/// # Errors
/// The capture cannot be read on, or `sink` cannot write.
pub fn run<R: Render>(
    input: Input<'_, '_>,
    selection: Selection,
    render: &R,
    sink: &mut Sink<'_>,
) -> Result<(Totals, Streams), Error> {
    let command = Decode { table: input.table, selection, render };
    let mut out = Out { totals: Totals::default(), sink };
    let streams = workers::run(input, &command, &mut (), &mut out)?;
    Ok((out.totals, streams))
}

impl<R: Render> BatchCommand<Out<'_>> for Decode<'_, R> {
    type State = ();
    type Work = Work;

    fn new_work(&self) -> Work {
        Work::default()
    }

    fn render(&self, window: &Window, outcomes: &[Outcome<'_>], arena: &Arena, work: &mut Work) -> Result<(), Error> {
        work.text.clear();
        work.totals = Totals::default();
        work.totals.shown = self.selection.is_any().then_some(0);
        for (packet, outcome) in window.frames().zip(outcomes) {
            let mut render = |part: &Outcome<'_>| {
                let record = Record::new(&packet, part, self.table, arena);
                work.totals.count(part);
                if self.selection.takes(&record) {
                    self.render.record(&record, &mut work.text);
                    work.totals.shown.iter_mut().for_each(|shown| *shown += 1);
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
