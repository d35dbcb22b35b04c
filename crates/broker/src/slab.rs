//! Values in numbered slots that never move: blocks are added, so that growing copies nothing and wastes at most one
//! block.

use alloc::vec::Vec;

const BLOCK: usize = 64;
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    /// Odd while the slot is taken; moves at each insert and remove.
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

/// At most `u32::MAX / 2` values, found again by slot and generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    blocks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

/// A slot as an index.
#[expect(clippy::as_conversions, reason = "u32 fits usize on every target with an allocator of use here")]
pub(crate) const fn index(slot: u32) -> usize {
    slot as usize
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { blocks: Vec::new(), free: NONE, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Takes a slot: the one freed last, so that memory stays dense.
    pub(crate) fn insert(&mut self, value: T) -> (u32, u32) {
        self.len += 1;
        if self.free != NONE {
            let slot = self.free;
            if let Some(free) = self.slot_mut(slot) {
                free.generation = free.generation.wrapping_add(1);
                free.value = Some(value);
                let (next, generation) = (free.next_free, free.generation);
                self.free = next;
                return (slot, generation);
            }
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let full_blocks = self.blocks.len() - 1;
        let mut slot = NONE;
        if let Some(block) = self.blocks.last_mut() {
            slot = u32::try_from(full_blocks * BLOCK + block.len()).unwrap_or(NONE);
            block.push(Slot { generation: 1, next_free: NONE, value: Some(value) });
        }
        (slot, 1)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let taken = self.slot_mut(slot)?;
        let value = taken.value.take()?;
        taken.generation = taken.generation.wrapping_add(1);
        taken.next_free = free;
        self.free = slot;
        self.len -= 1;
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.blocks.get(index(slot) / BLOCK)?.get(index(slot) % BLOCK)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slot_mut(slot)?.value.as_mut()
    }

    #[inline]
    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.blocks.get_mut(index(slot) / BLOCK)?.get_mut(index(slot) % BLOCK)
    }

    /// The generation of a taken slot.
    pub(crate) fn generation(&self, slot: u32) -> Option<u32> {
        let slot = self.blocks.get(index(slot) / BLOCK)?.get(index(slot) % BLOCK)?;
        slot.value.is_some().then_some(slot.generation)
    }

    #[inline]
    pub(crate) fn get_checked(&self, slot: u32, generation: u32) -> Option<&T> {
        let slot = self.blocks.get(index(slot) / BLOCK)?.get(index(slot) % BLOCK)?;
        if slot.generation == generation { slot.value.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_checked_mut(&mut self, slot: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slot_mut(slot)?;
        if slot.generation == generation { slot.value.as_mut() } else { None }
    }

    /// In the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.blocks.iter().flatten();
        (0..).zip(slots).filter_map(|(slot, s): (u32, &Slot<T>)| Some((slot, s.value.as_ref()?)))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Vec<Slot<T>>>() + self.blocks.len() * BLOCK * size_of::<Slot<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_reused_under_a_new_generation() {
        let mut slab = Slab::new();
        let (slot, generation) = slab.insert("a");
        assert_eq!(slab.remove(slot), Some("a"));
        assert_eq!(slab.remove(slot), None);
        let (again, other) = slab.insert("b");
        assert_eq!(again, slot);
        assert_ne!(other, generation);
        assert_eq!(slab.get_checked(slot, generation), None);
        assert_eq!(slab.get_checked(slot, other), Some(&"b"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn memory_comes_in_blocks_of_64_and_stays() {
        let mut slab = Slab::new();
        assert_eq!(slab.heap_bytes(), 0);
        let block = 64 * size_of::<Slot<u64>>();
        // Four places for blocks at first, then twice as many.
        let blocks = |count: usize| count.next_power_of_two().max(4) * size_of::<Vec<Slot<u64>>>() + count * block;
        for n in 0..300_u32 {
            slab.insert(u64::from(n));
            assert_eq!(slab.heap_bytes(), blocks(index(n) / 64 + 1), "{n}");
        }
        for n in 0..300 {
            assert_eq!(slab.remove(n), Some(u64::from(n)));
        }
        assert_eq!((slab.len(), slab.heap_bytes()), (0, blocks(5)));
        assert_eq!((slab.insert(7).0, slab.insert(8).0), (299, 298), "the one freed last");
    }

    #[test]
    fn a_generation_is_that_of_a_taken_slot() {
        let mut slab = Slab::new();
        for n in 0..70_u32 {
            assert_eq!(slab.insert(n), (n, 1));
        }
        assert_eq!((slab.generation(69), slab.generation(70), slab.generation(128)), (Some(1), None, None));
        assert_eq!((slab.get(69), slab.get(70), slab.get_checked(70, 1)), (Some(&69), None, None));
        assert!(slab.remove(69).is_some());
        assert_eq!((slab.generation(69), slab.get(69)), (None, None));
        assert_eq!(slab.get_mut(69), None);
        assert_eq!(slab.insert(7), (69, 3));
        assert_eq!(slab.generation(69), Some(3));
        assert_eq!(slab.get_checked_mut(69, 3).map(core::mem::take), Some(7));
        assert_eq!(slab.get_checked_mut(69, 1), None);
        assert_eq!(slab.get_mut(69), Some(&mut 0));
    }

    #[test]
    fn values_stay_in_order_of_their_slots_over_block_borders() {
        let mut slab = Slab::new();
        for n in 0..130_u32 {
            assert_eq!(slab.insert(n).0, n);
        }
        assert!(slab.remove(64).is_some());
        assert!(slab.iter().map(|(slot, value)| (slot, *value)).eq((0..130).filter(|n| *n != 64).map(|n| (n, n))));
        assert_eq!(slab.insert(7).0, 64);
    }
}
