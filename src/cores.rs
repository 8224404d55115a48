//! Runs work on all cores. If the system refuses to start a thread, fewer threads do the work.

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Number of cores that this process may use.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` on this thread and on `threads - 1` others, which divide the work among themselves. Returns the
/// result of each.
pub(crate) fn side_by_side<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map_while(|_| spawn(scope, &work)).collect();
        let own = work();
        others.into_iter().map(joined).chain([own]).collect()
    })
}

fn spawn<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> Option<ScopedJoinHandle<'s, T>> {
    Builder::new().spawn_scoped(scope, work).ok()
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
