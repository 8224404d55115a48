//! Reads a capture batch by batch and runs a command on it, on all cores.
//!
//! Workers take turns reading a batch ("window"). They open and rewrite batches in parallel. Commits, decisions and
//! output are done in capture order, so the result does not depend on the number of threads.
//!
//! ```text
//! read | open ahead ..... | commit | prepare .... | decide | render ........ | emit
//!      read | open ahead .....     | commit | prepare ....  | decide | render ........ | emit
//! ```

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::Mutex;

use super::commit::commit;
use super::open_ahead::AheadOpener;
use super::recycle::recycle;
use super::turn::{Turn, lock};
use crate::capture::{Frame, Reader, Window};
use crate::cores;
use crate::decoder::Decoder;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::outcome::Outcome;
use crate::decoder::streams::{ProgressSnapshot, Streams};
use crate::error::Error;
use crate::link;
use crate::sa::table::SaTable;

/// What a command does with the packets of a batch. The result is written to an `Out`.
pub(crate) trait BatchCommand<Out>: Sync {
    /// State that the command keeps from batch to batch.
    type State: Send;
    /// The result of one batch.
    type Work: Send;

    /// Memory for what a worker makes of its windows, one after another.
    fn new_work(&self) -> Self::Work;

    /// Does the part that does not depend on earlier packets, in parallel with other batches.
    fn prepare(&self, _window: &Window, _outcomes: &[Outcome<'_>], _arena: &Arena, _work: &mut Self::Work) {}

    /// Decides what depends on earlier packets. Called in capture order. After `Break`, this window is still written,
    /// and the run ends without an error.
    fn decide(
        &self,
        _state: &mut Self::State,
        _window: &Window,
        _outcomes: &[Outcome<'_>],
        _arena: &Arena,
        _work: &mut Self::Work,
    ) -> Result<ControlFlow<()>, Error> {
        Ok(ControlFlow::Continue(()))
    }

    /// Makes the output, in parallel with other batches.
    fn render(
        &self,
        _window: &Window,
        _outcomes: &[Outcome<'_>],
        _arena: &Arena,
        _work: &mut Self::Work,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Writes the output. Called in capture order. `bytes_read` is the number of input bytes read so far.
    fn emit(
        &self,
        _out: &mut Out,
        _window: &Window,
        _outcomes: &[Outcome<'_>],
        _work: &mut Self::Work,
        _bytes_read: u64,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// A capture, and the settings for decoding it.
pub struct Input<'i, 't> {
    /// The capture.
    pub reader: &'i mut Reader,
    /// The SAs.
    pub table: &'t SaTable,
    /// How far to search for sequence numbers.
    pub limits: Limits,
    /// Settings of the link layer.
    pub link: &'i link::Settings,
    /// Number of worker threads.
    pub threads: usize,
}

/// Reads a capture to its end, or to where the command ends the run. Returns the streams at the end.
pub(crate) fn run<Out: Send, C: BatchCommand<Out>>(
    input: Input<'_, '_>,
    command: &C,
    state: &mut C::State,
    out: &mut Out,
) -> Result<Streams, Error> {
    let Input { reader, table, limits, link, threads } = input;
    // One worker handles one batch at a time. Starting more workers than batches takes longer than decoding a short
    // capture.
    let threads = if reader.fits_window() { 1 } else { threads };
    let snapshot = ProgressSnapshot::new(table);
    let pipeline = Pipeline {
        table,
        reading: Mutex::new(Reading { reader, next_ticket: 0, failed: false }),
        committing: Turn::new(Decoder::new(table, limits, link)),
        deciding: Turn::new(state),
        emitting: Turn::new(out),
    };
    cores::side_by_side(threads, || {
        let opener = AheadOpener::new(table, limits, link, &snapshot);
        pipeline.work(command, opener, &snapshot);
    });
    pipeline.into_streams()
}

/// Calls `see` for every packet of a capture in order, until it breaks. Returns true if it did.
pub(crate) fn visit(
    input: Input<'_, '_>,
    see: impl FnMut(&Frame<'_>, &Outcome<'_>, &Arena) -> ControlFlow<()> + Send,
) -> Result<bool, Error> {
    let mut visitor = Visitor { see, has_stopped: false };
    run(input, &Visit(PhantomData), &mut visitor, &mut ())?;
    Ok(visitor.has_stopped)
}

/// Calls a function for every packet.
struct Visit<F>(PhantomData<fn(F)>);

struct Visitor<F> {
    see: F,
    has_stopped: bool,
}

impl<F: FnMut(&Frame<'_>, &Outcome<'_>, &Arena) -> ControlFlow<()> + Send> BatchCommand<()> for Visit<F> {
    type State = Visitor<F>;
    type Work = ();

    fn new_work(&self) {}

    fn decide(
        &self,
        visitor: &mut Visitor<F>,
        window: &Window,
        outcomes: &[Outcome<'_>],
        arena: &Arena,
        (): &mut (),
    ) -> Result<ControlFlow<()>, Error> {
        for (frame, first) in window.frames().zip(outcomes) {
            for packet in first.parts() {
                if (visitor.see)(&frame, packet, arena).is_break() {
                    visitor.has_stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What the workers of a run share. The ticket of a window, from 0, is its place in the order of turns.
struct Pipeline<'r, State, Out> {
    table: &'r SaTable,
    reading: Mutex<Reading<'r>>,
    committing: Turn<Decoder>,
    deciding: Turn<&'r mut State>,
    emitting: Turn<&'r mut Out>,
}

struct Reading<'r> {
    reader: &'r mut Reader,
    next_ticket: u64,
    failed: bool,
}

impl<State, Out> Pipeline<'_, State, Out> {
    /// The work of one thread: windows, from reading to writing.
    fn work<C: BatchCommand<Out, State = State>>(
        &self,
        command: &C,
        mut opener: AheadOpener<'_, '_>,
        snapshot: &ProgressSnapshot,
    ) {
        let _guard = OnPanic(|| self.stop());
        let (mut window, mut arena, mut work) = (Window::default(), Arena::default(), command.new_work());
        let (mut memory, mut states): (Vec<Outcome<'static>>, _) = (vec![], vec![]);
        while let Some((ticket, bytes_read)) = self.read(&mut window) {
            arena.clear();
            let mut outcomes = recycle(std::mem::take(&mut memory));
            opener.open_ahead(&window, &mut outcomes, &mut states, &mut arena);
            let Some(mut turn) = self.committing.wait(ticket) else { return };
            commit(&mut turn, self.table, &window, (&mut outcomes, &states), &mut arena, snapshot);
            if !self.committing.done(turn, Ok(ControlFlow::Continue(()))) {
                return;
            }
            command.prepare(&window, &outcomes, &arena, &mut work);
            let Some(mut turn) = self.deciding.wait(ticket) else { return };
            let result = command.decide(&mut turn, &window, &outcomes, &arena, &mut work);
            let is_last = matches!(result, Ok(ControlFlow::Break(())));
            if !self.deciding.done(turn, result) && !is_last {
                return self.committing.stop();
            }
            let result = command.render(&window, &outcomes, &arena, &mut work);
            let Some(mut turn) = self.emitting.wait(ticket) else { return };
            let result = result.and_then(|()| command.emit(&mut turn, &window, &outcomes, &mut work, bytes_read));
            if !self.emitting.done(turn, result.map(ControlFlow::Continue)) {
                return self.committing.stop();
            }
            if is_last {
                return self.committing.stop();
            }
            memory = recycle(outcomes);
        }
    }

    /// Reads the next window. Returns its ticket and how many bytes of the input were read so far; `None` at the end.
    fn read(&self, window: &mut Window) -> Option<(u64, u64)> {
        let mut reading = lock(&self.reading);
        let result = reading.reader.fill(window);
        let ticket = reading.next_ticket;
        match result {
            Ok(true) if !reading.failed => {
                reading.next_ticket += 1;
                Some((ticket, reading.reader.bytes_read()))
            }
            Ok(_) => None,
            Err(error) => {
                reading.failed = true;
                drop(reading);
                self.committing.fail(ticket, error);
                None
            }
        }
    }

    /// Ends the run at once.
    fn stop(&self) {
        self.committing.stop();
        self.deciding.stop();
        self.emitting.stop();
    }

    /// The streams at the end of the run, or the error of the earliest window.
    fn into_streams(self) -> Result<Streams, Error> {
        // What cannot be read after the last window that was wanted is not missed.
        let from_reading = || self.committing.error().filter(|_| !self.deciding.is_stopped());
        let error = self.emitting.error().or_else(|| self.deciding.error()).or_else(from_reading);
        match error {
            Some(error) => Err(error),
            None => Ok(self.committing.into_inner().into_streams()),
        }
    }
}

/// Runs when a worker panics. Otherwise, the other workers would wait for its tickets forever.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// Panics in the batch with this packet.
    struct Panics(u64);

    impl BatchCommand<Vec<u64>> for Panics {
        type State = ();
        type Work = ();

        fn new_work(&self) {}

        fn render(&self, window: &Window, _: &[Outcome<'_>], _: &Arena, (): &mut ()) -> Result<(), Error> {
            assert!(window.frames().all(|packet| packet.number != self.0), "as the test wants it");
            Ok(())
        }

        fn emit(
            &self,
            out: &mut Vec<u64>,
            window: &Window,
            _: &[Outcome<'_>],
            (): &mut (),
            _: u64,
        ) -> Result<(), Error> {
            out.extend(window.frames().map(|packet| packet.number));
            Ok(())
        }
    }

    /// The packets written by a run whose command panics.
    fn run_with(threads: usize, panics: Panics) -> Vec<u64> {
        let mut capture = vec![];
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 101] {
            capture.extend(word.to_le_bytes());
        }
        for _ in 0..10_000 {
            for word in [0u32, 0, 100, 100] {
                capture.extend(word.to_le_bytes());
            }
            capture.extend([0x5a; 100]);
        }
        let mut reader = Reader::from_read(Path::new("f"), Box::new(std::io::Cursor::new(capture))).unwrap();
        let (table, link, mut out) = (SaTable::new(vec![]), link::Settings::default(), vec![]);
        let input = Input { reader: &mut reader, table: &table, limits: Limits::default(), link: &link, threads };
        run(input, &panics, &mut (), &mut out).unwrap();
        out
    }

    #[test]
    fn a_panic_ends_the_run() {
        assert_eq!(run_with(4, Panics(0)), (1..=10_000).collect::<Vec<_>>());
        for threads in [1, 4] {
            let (sender, ended) = channel();
            std::thread::spawn(move || {
                let result = std::panic::catch_unwind(|| run_with(threads, Panics(4000)));
                sender.send(result.is_err()).unwrap();
            });
            assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(true), "{threads} threads");
        }
    }
}
