//! Workers that take turns.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// A value that workers use one after another, in the order of their tickets.
pub(super) struct Turn<T> {
    inner: Mutex<TurnState<T>>,
    next: Condvar,
}

struct TurnState<T> {
    ticket: u64,
    /// Workers that wait for their turn.
    waiting: usize,
    stopped: bool,
    error: Option<Error>,
    value: T,
}

/// The right to use the value, until [`Turn::done`].
pub(super) struct TurnGuard<'a, T>(MutexGuard<'a, TurnState<T>>);

impl<T> std::ops::Deref for TurnGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> std::ops::DerefMut for TurnGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value
    }
}

impl<T> Turn<T> {
    pub(super) fn new(value: T) -> Turn<T> {
        Turn {
            inner: Mutex::new(TurnState { ticket: 0, waiting: 0, stopped: false, error: None, value }),
            next: Condvar::new(),
        }
    }

    /// Waits for the turn of `ticket`; `None` if the run is over.
    pub(super) fn wait(&self, ticket: u64) -> Option<TurnGuard<'_, T>> {
        let mut state = lock(&self.inner);
        while state.ticket != ticket && !state.stopped {
            state.waiting += 1;
            state = self.next.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        (!state.stopped).then_some(TurnGuard(state))
    }

    /// Ends a turn; false if it ends the run, too.
    pub(super) fn done(&self, guard: TurnGuard<'_, T>, result: Result<ControlFlow<()>, Error>) -> bool {
        let TurnGuard(mut state) = guard;
        state.ticket += 1;
        match result {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => state.stopped = true,
            Err(error) => {
                state.stopped = true;
                state.error.get_or_insert(error);
            }
        }
        let (goes_on, waiting) = (!state.stopped, state.waiting);
        drop(state);
        // A system call even if no worker waits.
        if waiting > 0 {
            self.next.notify_all();
        }
        goes_on
    }

    /// Ends the run with an error when the turn of `ticket` comes, so that what was read before is still written.
    pub(super) fn fail(&self, ticket: u64, error: Error) {
        if let Some(guard) = self.wait(ticket) {
            self.done(guard, Err(error));
        }
    }

    pub(super) fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.next.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.inner).stopped
    }

    pub(super) fn error(&self) -> Option<Error> {
        lock(&self.inner).error.take()
    }

    pub(super) fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner).value
    }
}

/// Locks `mutex`, even after a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic the run ends, so half-changed state is not read.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
