//! Values under texts.

use alloc::vec::Vec;

use super::{IdTable, MAX_IDS, Texts, grow, heap_bytes, shrink, tag};
use crate::KeyedState;
use crate::num::{to_u32, to_usize};

/// A map from texts to values: one hash and one probe for a lookup, three allocations in all and one more per 128 KiB.
///
/// The values have the ids 0 to `len - 1`. Removing one gives its id to the last.
#[derive(Clone, Debug)]
pub(crate) struct Keyed<T> {
    hash: KeyedState,
    table: IdTable,
    records: Vec<Record<T>>,
    texts: Texts,
}

#[derive(Clone, Debug)]
struct Record<T> {
    place: u32,
    value: T,
}

impl<T> Keyed<T> {
    pub(crate) fn new(hash: KeyedState) -> Self {
        Self { hash, table: IdTable::default(), records: Vec::new(), texts: Texts::default() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The id that takes the place of one to be removed.
    pub(crate) fn last(&self) -> Option<u32> {
        self.records.len().checked_sub(1).map(to_u32)
    }

    #[inline]
    pub(crate) fn find(&self, text: &[u8]) -> Option<u32> {
        self.table.find(self.tag(text), |id| (self.text(id) == text).then_some(id))
    }

    #[inline]
    pub(crate) fn text(&self, id: u32) -> &[u8] {
        self.records.get(to_usize(id)).map_or(&[], |record| self.texts.get(record.place))
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.records.get(to_usize(id)).map(|record| &record.value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.records.get_mut(to_usize(id)).map(|record| &mut record.value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.records.iter_mut().map(|record| &mut record.value)
    }

    /// Keeps a value under a text that is not there yet; its id is the length so far. `Err` if there is no room.
    pub(crate) fn insert(&mut self, text: &[u8], value: T) -> Result<u32, T> {
        let id = to_u32(self.records.len());
        if self.records.len() >= MAX_IDS {
            return Err(value);
        }
        let Some(place) = self.texts.insert(id, text) else { return Err(value) };
        self.table.insert(self.tag(text), id);
        grow(&mut self.records);
        self.records.push(Record { place, value });
        Ok(id)
    }

    /// Takes a value out. The last one has its id from now on.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let last = self.last()?;
        self.table.remove(self.tag(self.text(id)), id);
        if id != last {
            self.table.replace(self.tag(self.text(last)), last, id);
            if let Some(record) = self.records.last() {
                self.texts.set_owner(record.place, id);
            }
        }
        let record = self.records.swap_remove(to_usize(id));
        self.texts.remove(record.place, |owner, place| {
            if let Some(record) = self.records.get_mut(to_usize(owner)) {
                record.place = place;
            }
        });
        shrink(&mut self.records);
        Some(record.value)
    }

    /// The bytes asked of the allocator, without what the values own.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.heap_bytes() + heap_bytes(&self.records) + self.texts.heap_bytes()
    }

    #[inline]
    fn tag(&self, text: &[u8]) -> u32 {
        tag(self.hash.hash_bytes(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::format;

    /// Else a search would compare most of the texts.
    #[test]
    fn each_text_has_a_tag_of_its_own() {
        let keyed = Keyed::<()>::new(KeyedState::new(1));
        let tags: BTreeSet<u32> = (0..1_000).map(|number| keyed.tag(format!("text {number}").as_bytes())).collect();
        assert_eq!(tags.len(), 1_000);
    }
}
