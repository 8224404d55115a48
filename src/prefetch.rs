//! Memory that is asked for before it is needed. With many SAs what is known of each is far from the CPU; asked for early, it
//! comes while other packets are at work.

use std::ptr::from_ref;
use std::slice;

use prefetch_index::prefetch_index;

/// SAs from which on what is known of them does not stay near the CPU. Tests are to come here, too.
pub(crate) const MANY_SAS: usize = if cfg!(any(test, fuzzing)) { 2 } else { 4096 };

/// Packets in front of which memory is asked for: some 2 microseconds.
pub(crate) const PACKETS_AHEAD: usize = 16;

/// Bytes that come together.
const CACHE_LINE: usize = 64;

/// Asks for all of `value`, which is aligned to a cache line, and of which `part` is a part.
#[inline(always)]
pub(crate) fn whole<T, P>(value: &T, part: &P) {
    const { assert!(align_of::<T>() >= CACHE_LINE && CACHE_LINE.is_multiple_of(size_of::<P>())) };
    let before_part = from_ref(part).addr() - from_ref(value).addr();
    for offset in (0..size_of::<T>()).step_by(CACHE_LINE) {
        let parts = (offset as isize - before_part as isize) / size_of::<P>() as isize;
        prefetch_index(slice::from_ref(part), parts as usize);
    }
}

/// Asks for the first cache line of the element at `index`, if there is one.
#[inline(always)]
pub(crate) fn element<T>(elements: &[T], index: usize) {
    // To ask for what is not there costs a search through the page tables.
    if index < elements.len() {
        prefetch_index(elements, index);
    }
}
