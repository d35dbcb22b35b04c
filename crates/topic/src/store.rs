//! What both indexes are made of: tables of ids, texts packed into chunks, reused places.

mod keyed;
mod slab;
mod table;
mod texts;

pub(crate) use keyed::Keyed;
pub(crate) use slab::Slab;
pub(crate) use table::{IdTable, tag};
pub(crate) use texts::Texts;

use alloc::vec::Vec;

/// The id of nothing.
pub(crate) const NONE: u32 = u32::MAX;

/// The most ids of one kind. Few in unit tests, which give out all of them.
pub(crate) const MAX_IDS: usize = if cfg!(test) { 10_000 } else { 0x7fff_ffff };

/// Makes room for one more item, a quarter more at a time: large tables hold little they do not use.
#[inline]
pub(crate) fn grow<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 4).max(4));
    }
}

/// Gives memory back when less than a quarter of it is used.
pub(crate) fn shrink<T>(items: &mut Vec<T>) {
    if items.is_empty() || items.len() < items.capacity() / 4 {
        items.shrink_to(items.len() + items.len() / 4);
    }
}

/// The bytes that a vector has asked the allocator for.
#[inline]
pub(crate) fn heap_bytes<T>(items: &Vec<T>) -> usize {
    items.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(len: usize, capacity: usize) -> Vec<u16> {
        let mut items = Vec::new();
        items.reserve_exact(capacity);
        items.resize(len, 7);
        items
    }

    #[test]
    fn a_full_vector_grows_by_a_quarter() {
        for (len, capacity, grown) in [(0, 0, 4), (4, 4, 8), (16, 16, 20), (100, 100, 125), (99, 100, 100)] {
            let mut items = of(len, capacity);
            grow(&mut items);
            assert_eq!((items.len(), items.capacity(), heap_bytes(&items)), (len, grown, 2 * grown));
        }
    }

    #[test]
    fn a_vector_that_uses_less_than_a_quarter_gives_back_all_but_a_quarter_more() {
        for (len, capacity, left) in [(25, 100, 100), (24, 100, 30), (1, 8, 1), (2, 8, 8), (0, 3, 0)] {
            let mut items = of(len, capacity);
            shrink(&mut items);
            assert_eq!((items.len(), items.capacity()), (len, left));
        }
    }
}
