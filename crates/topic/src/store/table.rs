//! A hash table of ids: the keys stay where the ids lead to.

use alloc::vec;
use alloc::vec::Vec;

use super::grow;
use crate::num::{to_usize, upper};

/// Ids under the hashes of their keys. Open addressing with linear probing, eight bytes a slot.
///
/// A hash is cut to a *tag* of 31 bits. The slot a tag would like, its home, grows with the tag, and the slots are kept in
/// the order of their tags. So a search ends at the first tag that is not smaller, found or not; the keys behind the ids
/// are compared only where the whole tag agrees; and the table grows, by any factor, in one pass over both tables that
/// looks at no key.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdTable {
    /// The homes, and as many slots behind the last home as it has displaced.
    slots: Vec<Slot>,
    homes: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: u32,
    id: u32,
}

/// With something larger than every tag, so that a search ends here too.
const EMPTY: Slot = Slot { tag: u32::MAX, id: u32::MAX };

/// Slots behind the last home that a table starts with; more than it is likely to need.
const SLACK: usize = 32;

/// The part of a hash that a table remembers.
#[inline]
pub(crate) fn tag(hash: u64) -> u32 {
    upper(hash >> 1)
}

impl IdTable {
    /// What `look` gives for the id with this tag whose key is the right one.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call costs a third of a search; measured")]
    pub(crate) fn find<T>(&self, tag: u32, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let mut at = self.home(tag);
        loop {
            let slot = self.slots.get(at)?;
            if slot.tag >= tag {
                if slot.tag != tag {
                    return None;
                }
                let found = look(slot.id);
                if found.is_some() {
                    return found;
                }
            }
            at += 1;
        }
    }

    /// Adds an id; its key must not be there yet.
    pub(crate) fn insert(&mut self, tag: u32, id: u32) {
        if u64::from(self.len) * 8 >= u64::from(self.homes) * 7 {
            self.rebuild(self.homes.max(4) / 2 * 3);
        }
        let home = self.home(tag);
        let at = home + self.behind(home).iter().take_while(|slot| slot.tag < tag).count();
        let run = self.behind(at).iter().take_while(|slot| slot.tag != EMPTY.tag).count();
        if at + run == self.slots.len() {
            grow(&mut self.slots);
            self.slots.push(EMPTY);
        }
        self.slots.copy_within(at..at + run, at + 1);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { tag, id };
        }
        self.len += 1;
    }

    /// Takes an id out.
    pub(crate) fn remove(&mut self, tag: u32, id: u32) {
        let Some(at) = self.position(tag, id) else { return };
        let mut end = at + 1;
        while self.slots.get(end).is_some_and(|slot| slot.tag != EMPTY.tag && self.home(slot.tag) < end) {
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        if let Some(slot) = self.slots.get_mut(end - 1) {
            *slot = EMPTY;
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else if u64::from(self.len) * 4 < u64::from(self.homes) && self.homes > 32 {
            self.rebuild(self.len * 2);
        }
    }

    /// Puts another id in the place of one.
    pub(crate) fn replace(&mut self, tag: u32, id: u32, new: u32) {
        if let Some(slot) = self.position(tag, id).and_then(|at| self.slots.get_mut(at)) {
            slot.id = new;
        }
    }

    /// The bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        super::heap_bytes(&self.slots)
    }

    fn position(&self, tag: u32, id: u32) -> Option<usize> {
        let home = self.home(tag);
        let mut candidates = self.behind(home).iter().take_while(|slot| slot.tag <= tag);
        candidates.position(|slot| slot.tag == tag && slot.id == id).map(|skip| home + skip)
    }

    fn behind(&self, at: usize) -> &[Slot] {
        self.slots.get(at..).unwrap_or_default()
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        to_usize(upper((u64::from(tag) * u64::from(self.homes)) << 1))
    }

    fn rebuild(&mut self, homes: u32) {
        let slack = to_usize(homes).min(SLACK);
        let old = core::mem::replace(&mut self.slots, vec![EMPTY; to_usize(homes) + slack]);
        self.homes = homes;
        let mut next = 0;
        for slot in old.into_iter().filter(|slot| slot.tag != EMPTY.tag) {
            let at = self.home(slot.tag).max(next);
            if at >= self.slots.len() {
                grow(&mut self.slots);
                self.slots.push(EMPTY);
            }
            if let Some(place) = self.slots.get_mut(at) {
                *place = slot;
            }
            next = at + 1;
        }
    }

    #[cfg(test)]
    fn check(&self) {
        let used: Vec<(usize, &Slot)> =
            self.slots.iter().enumerate().filter(|(_, slot)| slot.tag != u32::MAX).collect();
        assert_eq!(used.len(), to_usize(self.len));
        assert!(used.is_sorted_by_key(|(_, slot)| slot.tag));
        for (at, slot) in used {
            let home = self.home(slot.tag);
            assert!((home..=at).all(|before| self.slots[before].tag != u32::MAX), "no gap from the home to the slot");
        }
    }
}

/// Keeps the number of slots within a `u32`.
const _: () = assert!(super::MAX_IDS < 1 << 31);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn find(table: &IdTable, tag: u32, id: u32) -> Option<u32> {
        table.find(tag, |found| (found == id).then_some(found))
    }

    #[test]
    fn equal_tags_are_told_apart_by_their_keys() {
        let mut table = IdTable::default();
        for id in 0..20 {
            table.insert(7, id);
        }

        assert_eq!(find(&table, 7, 13), Some(13));
        assert_eq!(table.find(7, |_| None::<u32>), None);
        assert_eq!(table.find(8, Some), None);
        table.remove(7, 13);
        assert_eq!(find(&table, 7, 13), None);
        table.check();
    }

    #[test]
    fn as_many_slots_as_needed_follow_the_last_home() {
        let mut table = IdTable::default();
        for id in 0..200 {
            table.insert(tag(u64::MAX), id);
            table.check();
        }
        for id in 0..200 {
            assert_eq!(find(&table, tag(u64::MAX), id), Some(id));
        }
    }

    /// What a search costs: the ids it passes before it finds the right one, or that there is none.
    #[test]
    fn ids_lie_close_behind_their_homes_in_a_table_as_full_as_it_gets() {
        let mut table = IdTable::default();
        let spread = |id: u32| id.wrapping_mul(0x9e37_79b1) >> 1;
        for (id, held) in (0..3_000).zip(1..) {
            table.insert(spread(id), id);
            let homes = to_usize(table.homes);
            assert!(held * 8 <= homes * 7 + 8, "{held} of {homes}");
            assert!(homes <= 8 || homes * 7 <= held * 13, "{held} of {homes}");
            assert!(table.slots.len() <= homes + SLACK);
        }
        let far = |(at, slot): (usize, &Slot)| if slot.tag == EMPTY.tag { 0 } else { at - table.home(slot.tag) };
        let total: usize = table.slots.iter().enumerate().map(far).sum();
        assert!(total <= 3_000 * 4, "{total}");
    }

    #[test]
    fn memory_follows_the_number_of_ids_down() {
        let mut table = IdTable::default();
        for id in 0..1_000_u32 {
            table.insert(id * 2_000_037, id);
        }
        assert!(table.heap_bytes() <= 1_000 * 14 + SLACK * 8, "{}", table.heap_bytes());
        for id in 0..990_u32 {
            table.remove(id * 2_000_037, id);
        }
        assert!(table.heap_bytes() <= 100 * 8, "{}", table.heap_bytes());
        for id in 990..1_000_u32 {
            table.remove(id * 2_000_037, id);
        }
        assert_eq!(table.heap_bytes(), 0);
    }

    #[test]
    fn a_table_of_more_than_32_homes_is_halved_when_three_of_four_are_free() {
        // Homes and ids at first; ids left when it is made smaller, to two homes for each.
        for (homes, ids, left) in [(32, 9, None), (33, 9, Some(8)), (36, 10, Some(8)), (100, 60, Some(24))] {
            let mut table = IdTable::default();
            table.rebuild(homes);
            (0..ids).for_each(|id| table.insert(id * 2_000_037, id));
            let mut changed = None;
            for id in 0..ids - 1 {
                let before = table.homes;
                table.remove(id * 2_000_037, id);
                if table.homes != before && changed.is_none() {
                    assert_eq!(table.homes, 2 * table.len);
                    changed = Some(table.len);
                }
                table.check();
            }
            assert_eq!(changed, left, "of {homes} homes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn a_table_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), 0_u32..300), 0..600), spread in 0_u32..3) {
            let key_tag = |key: u32| match spread {
                0 => key % 3,
                1 => key * 7_000_000,
                _ => u32::MAX / 2 - key % 5,
            };
            let mut table = IdTable::default();
            let mut model = BTreeSet::new();
            for (insert, key) in steps {
                let tag = key_tag(key);
                if insert && !model.contains(&key) {
                    table.insert(tag, key);
                    model.insert(key);
                } else if model.remove(&key) {
                    table.remove(tag, key);
                }
                table.check();
            }
            for key in 0..300 {
                prop_assert_eq!(find(&table, key_tag(key), key).is_some(), model.contains(&key));
            }
        }
    }
}
