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

#[cfg(test)]
mod tests {
    use super::*;

    fn slab(items: u32) -> Slab<u32> {
        let mut slab = Slab::default();
        for id in 0..items {
            assert_eq!(slab.insert(id + 1), id);
        }
        slab
    }

    #[test]
    fn a_free_place_is_taken_first_and_nothing_is_held_for_nothing() {
        let mut slab = slab(5);
        assert_eq!((slab.remove(1), slab.remove(3)), (2, 4));
        assert_eq!((slab.len(), slab.places(), slab.get(1), slab.get(5)), (3, 5, Some(&0), None));
        assert_eq!(slab.heap_bytes(), (8 + 4) * size_of::<u32>());
        assert_eq!((slab.insert(7), slab.insert(8), slab.insert(9)), (3, 1, 5));
        assert!(slab.iter().eq(&[1, 8, 3, 7, 5, 9]) && slab.iter_mut().eq(&[1, 8, 3, 7, 5, 9]));
        for id in 0..6 {
            assert!(slab.heap_bytes() > 0);
            slab.remove(id);
        }
        assert_eq!((slab.len(), slab.places(), slab.heap_bytes()), (0, 0, 0));
    }

    #[test]
    fn more_than_64_places_are_sparse_when_three_of_four_are_free() {
        for (places, kept) in [(64, None), (65, Some(15)), (68, Some(16)), (100, Some(24))] {
            let mut slab = slab(places);
            let mut sparse_from = None;
            for id in 0..places - 1 {
                slab.remove(id);
                sparse_from = sparse_from.or(slab.is_sparse().then(|| slab.len()));
            }
            assert_eq!(sparse_from, kept, "of {places}");
        }
    }

    #[test]
    fn there_is_room_for_as_many_items_as_there_are_ids() {
        let slab = slab(3);
        assert!(slab.has_room(MAX_IDS - 3));
        assert!(!slab.has_room(MAX_IDS - 2));
    }
}
