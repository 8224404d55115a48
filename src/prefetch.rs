//! Prefetching. With many SAs, the state of each is usually not in the CPU cache. Requested early, it is loaded
//! while other packets are processed.

use std::ptr::from_ref;
use std::slice;

#[cfg(feature = "cli")]
use prefetch_index::prefetch_index;

/// Only the batch path prefetches. Without the command line there is none.
#[cfg(not(feature = "cli"))]
fn prefetch_index<T>(_elements: &[T], _index: usize) {}

/// From this number of SAs on, their state does not fit into the CPU caches. Lower in tests, so that they reach
/// this code.
pub(crate) const MANY_SAS: usize = if cfg!(any(test, fuzzing)) { 2 } else { 4096 };

/// How many packets ahead memory is prefetched: about 2 microseconds.
pub(crate) const PACKETS_AHEAD: usize = 16;

/// Size of a cache line in bytes.
const CACHE_LINE: usize = 64;

/// Prefetches all of `value`, which is aligned to a cache line. `part` is a field of it.
#[inline(always)]
pub(crate) fn whole<T, P>(value: &T, part: &P) {
    const { assert!(align_of::<T>() >= CACHE_LINE && CACHE_LINE.is_multiple_of(size_of::<P>())) };
    let before_part = from_ref(part).addr() - from_ref(value).addr();
    for offset in (0..size_of::<T>()).step_by(CACHE_LINE) {
        let parts = (offset as isize - before_part as isize) / size_of::<P>() as isize;
        prefetch_index(slice::from_ref(part), parts as usize);
    }
}

/// Prefetches the first cache line of the element at `index`, if there is one.
#[inline(always)]
pub(crate) fn element<T>(elements: &[T], index: usize) {
    // Prefetching an unmapped address costs a page table walk.
    if index < elements.len() {
        prefetch_index(elements, index);
    }
}
