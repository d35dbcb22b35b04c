//! Places that are reused.

use alloc::vec::Vec;

use super::{MAX_IDS, grow, heap_bytes};
use crate::num::{to_u32, to_usize};

/// Items with an id that stays while the item does; the place of a removed one is given to the next.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    /// Whether this many items more have an id.
    pub(crate) fn has_room(&self, items: usize) -> bool {
        self.len() + items <= MAX_IDS
    }

    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// The number of places, in use or free.
    pub(crate) fn places(&self) -> usize {
        self.items.len()
    }

    /// Whether most of the places are free, and enough of them to be worth moving the items.
    pub(crate) fn is_sparse(&self) -> bool {
        self.items.len() > 64 && self.len() < self.items.len() / 4
    }

    /// Keeps an item.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        if let Some(id) = self.free.pop() {
            if let Some(place) = self.get_mut(id) {
                *place = item;
            }
            return id;
        }
        grow(&mut self.items);
        self.items.push(item);
        to_u32(self.items.len() - 1)
    }

    /// Gives the item of an id back. The id must be in use.
    pub(crate) fn remove(&mut self, id: u32) -> T {
        let item = self.get_mut(id).map(core::mem::take).unwrap_or_default();
        grow(&mut self.free);
        self.free.push(id);
        if self.free.len() == self.items.len() {
            *self = Self::default();
        }
        item
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.items.get(to_usize(id))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.items.get_mut(to_usize(id))
    }

    /// All places, the free ones as defaults.
    pub(crate) fn iter(&self) -> core::slice::Iter<'_, T> {
        self.items.iter()
    }

    /// As [`iter`](Self::iter).
    pub(crate) fn iter_mut(&mut self) -> core::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    /// The bytes asked of the allocator, without what the items own.
    pub(crate) fn heap_bytes(&self) -> usize {
        heap_bytes(&self.items) + heap_bytes(&self.free)
    }
}
