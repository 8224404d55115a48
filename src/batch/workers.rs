//! Reads a capture window by window and runs a command on it, on all cores.
//!
//! Workers take turns at the reader. They open and rewrite windows at the same time. Commits, decisions and output are
//! done in capture order, so that the result does not depend on the number of threads.
//!
//! ```text
//! read | open ahead ..... | commit | prepare .... | decide | render ........ | emit
//!      read | open ahead .....     | commit | prepare ....  | decide | render ........ | emit
//! ```

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::commit::commit;
use super::open_ahead::AheadOpener;
use super::recycle::recycle;
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

/// What a command does with the packets of a window. The result is written to an `Out`.
pub(crate) trait BatchCommand<Out>: Sync {
    /// What it keeps from window to window.
    type State: Send;
    /// What it makes of one window.
    type Work: Send;

    /// Memory for what a worker makes of its windows, one after another.
    fn new_work(&self) -> Self::Work;

    /// Prepares what does not depend on earlier packets, while other workers do the same for other windows.
    fn prepare(&self, _window: &Window, _items: &[Outcome<'_>], _arena: &Arena, _work: &mut Self::Work) {}

    /// Decides what depends on earlier packets. Called in capture order.
    fn decide(
        &self,
        _state: &mut Self::State,
        _window: &Window,
        _items: &[Outcome<'_>],
        _arena: &Arena,
        _work: &mut Self::Work,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Makes the output, while other workers do the same for other windows.
    fn render(
        &self,
        window: &Window,
        outcomes: &[Outcome<'_>],
        arena: &Arena,
        work: &mut Self::Work,
    ) -> Result<(), Error>;

    /// Writes the output. Called in capture order. `bytes_read` is how far the input has been read.
    fn emit(
        &self,
        out: &mut Out,
        window: &Window,
        outcomes: &[Outcome<'_>],
        work: &mut Self::Work,
        bytes_read: u64,
    ) -> Result<(), Error>;
}

/// A capture, and what is needed to open its packets.
pub struct Input<'i, 't> {
    /// The capture.
    pub reader: &'i mut Reader,
    /// The SAs.
    pub table: &'t SaTable,
    /// How far to search.
    pub limits: Limits,
    /// What the link layer has to be told.
    pub link: &'i link::Settings,
    /// Worker threads.
    pub threads: usize,
}

/// Reads a capture to its end. Gives the streams at the end.
pub(crate) fn run<'t, Out: Send, C: BatchCommand<Out>>(
    input: Input<'_, 't>,
    command: &C,
    state: &mut C::State,
    out: &mut Out,
) -> Result<Streams<'t>, Error> {
    let Input { reader, table, limits, link, threads } = input;
    // A window is work for one worker, and starting more of them takes longer than decoding a short capture.
    let threads = if reader.fits_window() { 1 } else { threads };
    let snapshot = ProgressSnapshot::new(table);
    let reader = Mutex::new((reader, 0u64));
    let committing = Turn::new(Decoder::new(table, limits, link));
    let deciding = Turn::new(state);
    let emitting = Turn::new(out);
    let work = || {
        let _guard = OnPanic(|| {
            committing.stop();
            deciding.stop();
            emitting.stop();
        });
        let mut opener = AheadOpener::new(table, limits, link, &snapshot);
        let mut window = Window::default();
        let mut arena = Arena::default();
        let mut work = command.new_work();
        let (mut memory, mut states): (Vec<Outcome<'static>>, _) = (vec![], vec![]);
        loop {
            let (ticket, bytes_read) = {
                let mut reader = lock(&reader);
                match reader.0.fill(&mut window) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        let ticket = reader.1;
                        reader.1 = u64::MAX;
                        drop(reader);
                        return committing.fail(ticket, error);
                    }
                }
                if reader.1 == u64::MAX {
                    return;
                }
                reader.1 += 1;
                (reader.1 - 1, reader.0.bytes_read())
            };
            arena.clear();
            let mut outcomes = recycle(std::mem::take(&mut memory));
            opener.open_ahead(&window, &mut outcomes, &mut states, &mut arena);
            let Some(mut turn) = committing.wait(ticket) else { return };
            commit(&mut turn, &window, (&mut outcomes, &states), &mut arena, &snapshot);
            if !committing.done(turn, Ok(())) {
                return;
            }
            command.prepare(&window, &outcomes, &arena, &mut work);
            let Some(mut turn) = deciding.wait(ticket) else { return };
            let result = command.decide(&mut turn, &window, &outcomes, &arena, &mut work);
            if !deciding.done(turn, result) {
                return committing.stop();
            }
            let result = command.render(&window, &outcomes, &arena, &mut work);
            let Some(mut turn) = emitting.wait(ticket) else { return };
            let result = result.and_then(|()| command.emit(&mut turn, &window, &outcomes, &mut work, bytes_read));
            if !emitting.done(turn, result) {
                return committing.stop();
            }
            memory = recycle(outcomes);
        }
    };
    cores::side_by_side(threads, work);
    if let Some(error) = emitting.error() {
        return Err(error);
    }
    if let Some(error) = deciding.error() {
        return Err(error);
    }
    if let Some(error) = committing.error() {
        return Err(error);
    }
    Ok(committing.into_inner().into_streams())
}

/// Calls `see` for every packet of a capture in order, until it breaks; true if it did.
pub fn visit(
    reader: &mut Reader,
    table: &SaTable,
    limits: Limits,
    link: &link::Settings,
    mut see: impl FnMut(&Frame<'_>, &Outcome<'_>, &Arena) -> ControlFlow<()>,
) -> Result<bool, Error> {
    let snapshot = ProgressSnapshot::new(table);
    let mut opener = AheadOpener::new(table, limits, link, &snapshot);
    let mut decoder = Decoder::new(table, limits, link);
    let (mut window, mut arena) = (Window::default(), Arena::default());
    let (mut memory, mut states): (Vec<Outcome<'static>>, _) = (vec![], vec![]);
    while reader.fill(&mut window)? {
        arena.clear();
        let mut outcomes = recycle(memory);
        opener.open_ahead(&window, &mut outcomes, &mut states, &mut arena);
        commit(&mut decoder, &window, (&mut outcomes, &states), &mut arena, &snapshot);
        for (packet, outcome) in window.frames().zip(&outcomes) {
            for part in outcome.parts() {
                if see(&packet, part, &arena).is_break() {
                    return Ok(true);
                }
            }
        }
        memory = recycle(outcomes);
    }
    Ok(false)
}

/// Runs when a worker panics. Otherwise the other workers would wait for its tickets forever.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// A value that workers use one after another, in the order of their tickets.
struct Turn<T> {
    inner: Mutex<TurnState<T>>,
    next: Condvar,
}

struct TurnState<T> {
    ticket: u64,
    stopped: bool,
    error: Option<Error>,
    value: T,
}

/// The right to use the value, until [`Turn::done`].
struct Taken<'a, T>(MutexGuard<'a, TurnState<T>>);

impl<T> std::ops::Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> std::ops::DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value
    }
}

impl<T> Turn<T> {
    fn new(value: T) -> Turn<T> {
        Turn { inner: Mutex::new(TurnState { ticket: 0, stopped: false, error: None, value }), next: Condvar::new() }
    }

    /// Waits for the turn of `ticket`; `None` if the run is over.
    fn wait(&self, ticket: u64) -> Option<Taken<'_, T>> {
        let mut state = lock(&self.inner);
        while state.ticket != ticket && !state.stopped {
            state = self.next.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.stopped).then_some(Taken(state))
    }

    /// Ends a turn; false if it ends the run, too.
    fn done(&self, taken: Taken<'_, T>, result: Result<(), Error>) -> bool {
        let Taken(mut state) = taken;
        state.ticket += 1;
        if let Err(error) = result {
            state.stopped = true;
            state.error.get_or_insert(error);
        }
        let goes_on = !state.stopped;
        drop(state);
        self.next.notify_all();
        goes_on
    }

    /// Ends the run with an error when the turn of `ticket` comes, so that what was read before is still written.
    fn fail(&self, ticket: u64, error: Error) {
        if let Some(taken) = self.wait(ticket) {
            self.done(taken, Err(error));
        }
    }

    fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.next.notify_all();
    }

    fn error(&self) -> Option<Error> {
        lock(&self.inner).error.take()
    }

    fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner).value
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic the run ends, so half-changed state is not read.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// Panics in the window with this packet.
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

    /// The packets that came out of a run with a command that panics.
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
