//! Work on all cores. Where the system gives no more threads, fewer do it.

use std::thread::{Builder, Scope, ScopedJoinHandle};

/// How many cores there are for this process.
pub(crate) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `work` on this thread and `threads - 1` others, which share out among themselves what there is to do. Gives what
/// each came to.
pub(crate) fn side_by_side<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map_while(|_| spawn(scope, &work)).collect();
        let own = work();
        others.into_iter().map(joined).chain([own]).collect()
    })
}

/// Runs both, `beside` on another thread.
pub(crate) fn both<A, B: Send>(work: impl FnOnce() -> A, beside: impl Fn() -> B + Sync) -> (A, B) {
    std::thread::scope(|scope| {
        let other = spawn(scope, &beside);
        let own = work();
        (own, other.map_or_else(&beside, joined))
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
