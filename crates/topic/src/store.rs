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

/// The most ids of one kind.
pub(crate) const MAX_IDS: usize = 0x7fff_ffff;

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
