//! Reuses the memory of a list for the next batch.

/// Reuses the memory of a list for another list whose elements differ only in lifetimes. Allocating large blocks
/// for each batch would fragment the heap.
pub(crate) fn recycle<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    // `collect` reuses the allocation in place.
    list.into_iter().map(|_| unreachable!("it is empty")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::outcome::Outcome;

    #[test]
    fn an_emptied_list_keeps_its_memory() {
        let list: Vec<Outcome<'_>> = Vec::with_capacity(100);
        let at = list.as_ptr().addr();
        let list: Vec<Outcome<'static>> = recycle(list);
        assert_eq!((list.as_ptr().addr(), list.capacity(), list.len()), (at, 100, 0));
    }
}
