//! Who has subscribed to one filter.

use alloc::vec;
use alloc::vec::Vec;
use core::slice;

use crate::store::{Slab, grow, heap_bytes, shrink};

/// The subscribers of one filter: at least one. The first is kept in place, a list begins with the second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subscribers<K, V> {
    One((K, V)),
    Many(u32),
}

/// The lists of all filters with more than one subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Lists<K, V>(Slab<List<K, V>>);

/// A list in the order of its keys.
///
/// A few entries need no allocation of their own. A long list is cut into pieces, so that a key is put in or taken out
/// without moving all the others.
#[derive(Clone, Debug)]
enum List<K, V> {
    /// So many entries; the other places hold copies.
    Few(u8, [(K, V); FEW]),
    Short(Vec<(K, V)>),
    Long(Vec<Vec<(K, V)>>),
}

const FEW: usize = 4;

/// The most entries of a piece.
const PIECE: usize = 512;

impl<K, V> Default for List<K, V> {
    fn default() -> Self {
        Self::Short(Vec::new())
    }
}

impl<K, V> Default for Lists<K, V> {
    fn default() -> Self {
        Self(Slab::default())
    }
}

impl<K: Copy + Ord, V: Copy> Lists<K, V> {
    /// Puts a key in; the value it had before.
    pub(crate) fn insert(&mut self, subscribers: &mut Subscribers<K, V>, key: K, value: V) -> Option<V> {
        match subscribers {
            Subscribers::One((only, old)) if *only == key => Some(core::mem::replace(old, value)),
            Subscribers::One(only) => {
                let (low, high) = if only.0 < key { (*only, (key, value)) } else { ((key, value), *only) };
                *subscribers = Subscribers::Many(self.0.insert(List::Few(2, [low, high, high, high])));
                None
            }
            Subscribers::Many(id) => self.0.get_mut(*id)?.insert(key, value),
        }
    }

    /// Takes a key out of a list, whose last two entries become one in place. A single subscriber stays where it is: the
    /// caller looks at it first.
    pub(crate) fn remove(&mut self, subscribers: &mut Subscribers<K, V>, key: K) -> Option<V> {
        let Subscribers::Many(id) = *subscribers else { return None };
        let list = self.0.get_mut(id)?;
        let value = list.remove(key)?;
        if let Some(&[only]) = list.entries() {
            *subscribers = Subscribers::One(only);
            self.0.remove(id);
        }
        Some(value)
    }

    pub(crate) fn get(&self, subscribers: &Subscribers<K, V>, key: K) -> Option<V> {
        self.pieces(subscribers).find_map(|piece| {
            let at = piece.binary_search_by_key(&key, |entry| entry.0).ok()?;
            piece.get(at).map(|entry| entry.1)
        })
    }

    /// All subscribers in the order of their keys, in pieces that can be copied as a whole.
    #[inline]
    pub(crate) fn pieces<'a>(&'a self, subscribers: &'a Subscribers<K, V>) -> Pieces<'a, K, V> {
        match subscribers {
            Subscribers::One(only) => Pieces { first: slice::from_ref(only), more: [].iter() },
            Subscribers::Many(id) => match self.0.get(*id) {
                Some(List::Long(pieces)) => Pieces { first: &[], more: pieces.iter() },
                Some(list) => Pieces { first: list.entries().unwrap_or_default(), more: [].iter() },
                None => Pieces { first: &[], more: [].iter() },
            },
        }
    }

    /// Whether it is worth asking so many filters to give the lists of a few of them new places.
    pub(crate) fn is_sparse(&self, filters: usize) -> bool {
        self.0.is_sparse() && filters / 8 <= self.0.places()
    }

    /// Gives all lists new places without gaps.
    pub(crate) fn compact<'a>(&mut self, all: impl Iterator<Item = &'a mut Subscribers<K, V>>)
    where
        Subscribers<K, V>: 'a,
    {
        let mut lists = Slab::default();
        for subscribers in all {
            if let Subscribers::Many(id) = subscribers {
                *id = lists.insert(self.0.remove(*id));
            }
        }
        self.0 = lists;
    }

    pub(crate) fn has_room(&self) -> bool {
        self.0.has_room(1)
    }

    /// The bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes() + self.0.iter().map(List::heap_bytes).sum::<usize>()
    }
}

/// See [`Lists::pieces`].
pub(crate) struct Pieces<'a, K, V> {
    first: &'a [(K, V)],
    more: slice::Iter<'a, Vec<(K, V)>>,
}

impl<'a, K, V> Iterator for Pieces<'a, K, V> {
    type Item = &'a [(K, V)];

    #[inline]
    fn next(&mut self) -> Option<&'a [(K, V)]> {
        if !self.first.is_empty() {
            return Some(core::mem::take(&mut self.first));
        }
        self.more.next().map(Vec::as_slice)
    }
}

impl<K, V> List<K, V> {
    /// All entries, unless the list is a long one.
    #[inline]
    fn entries(&self) -> Option<&[(K, V)]> {
        match self {
            Self::Few(len, entries) => entries.get(..usize::from(*len)),
            Self::Short(entries) => Some(entries),
            Self::Long(_) => None,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(..) => 0,
            Self::Short(entries) => heap_bytes(entries),
            Self::Long(pieces) => heap_bytes(pieces) + pieces.iter().map(heap_bytes).sum::<usize>(),
        }
    }
}

impl<K: Copy + Ord, V: Copy> List<K, V> {
    fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Few(len, entries) => {
                let used = usize::from(*len);
                match entries.get(..used)?.binary_search_by_key(&key, |entry| entry.0) {
                    Ok(at) => return entries.get_mut(at).map(|entry| core::mem::replace(&mut entry.1, value)),
                    Err(at) if used < FEW => {
                        entries.copy_within(at..used, at + 1);
                        *entries.get_mut(at)? = (key, value);
                        *len += 1;
                    }
                    Err(_) => {
                        let mut more = entries.to_vec();
                        insert(&mut more, key, value);
                        *self = Self::Short(more);
                    }
                }
                None
            }
            Self::Short(entries) => {
                let old = insert(entries, key, value);
                if entries.len() > PIECE {
                    let rest = entries.split_off(PIECE / 2);
                    *self = Self::Long(vec![core::mem::take(entries), rest]);
                }
                old
            }
            Self::Long(pieces) => {
                let at = piece_of(pieces, key);
                let piece = pieces.get_mut(at)?;
                let old = insert(piece, key, value);
                if piece.len() > PIECE {
                    // A new highest key starts a piece of its own, so that rising keys fill their pieces.
                    let keep = if piece.last().is_some_and(|last| last.0 == key) { PIECE } else { PIECE / 2 };
                    let rest = piece.split_off(keep);
                    grow(pieces);
                    pieces.insert(at + 1, rest);
                }
                old
            }
        }
    }

    fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::Few(len, entries) => {
                let used = usize::from(*len);
                let at = entries.get(..used)?.binary_search_by_key(&key, |entry| entry.0).ok()?;
                let value = entries.get(at)?.1;
                entries.copy_within(at + 1..used, at);
                *len -= 1;
                Some(value)
            }
            Self::Short(entries) => {
                let at = entries.binary_search_by_key(&key, |entry| entry.0).ok()?;
                let (_, value) = entries.remove(at);
                match entries[..] {
                    // Not at once, so that one that comes and goes does not allocate each time.
                    [a, b] => *self = Self::Few(2, [a, b, b, b]),
                    _ => shrink(entries),
                }
                Some(value)
            }
            Self::Long(pieces) => {
                let at = piece_of(pieces, key);
                let piece = pieces.get_mut(at)?;
                let found = piece.binary_search_by_key(&key, |entry| entry.0).ok()?;
                let (_, value) = piece.remove(found);
                if piece.is_empty() {
                    // Large neighbours do not join it, and a search by first keys has to find one in each piece.
                    pieces.remove(at);
                } else {
                    merge(pieces, at);
                }
                shrink(pieces);
                if let [_] = pieces[..] {
                    *self = Self::Short(pieces.pop().unwrap_or_default());
                }
                Some(value)
            }
        }
    }
}

fn insert<K: Copy + Ord, V: Copy>(entries: &mut Vec<(K, V)>, key: K, value: V) -> Option<V> {
    match entries.binary_search_by_key(&key, |entry| entry.0) {
        Ok(at) => entries.get_mut(at).map(|entry| core::mem::replace(&mut entry.1, value)),
        Err(at) => {
            if entries.len() == entries.capacity() {
                entries.reserve_exact((entries.len() / 2).max(2));
            }
            entries.insert(at, (key, value));
            None
        }
    }
}

/// The piece that has a key or would have it.
fn piece_of<K: Copy + Ord, V>(pieces: &[Vec<(K, V)>], key: K) -> usize {
    pieces.partition_point(|piece| piece.first().is_some_and(|first| first.0 <= key)).saturating_sub(1)
}

/// Joins a piece that has become small with its neighbour.
fn merge<K, V>(pieces: &mut Vec<Vec<(K, V)>>, at: usize) {
    let len = |at: usize| pieces.get(at).map_or(PIECE, Vec::len);
    let left = if at > 0 && len(at - 1) + len(at) <= PIECE / 2 {
        at - 1
    } else if len(at) + len(at + 1) <= PIECE / 2 {
        at
    } else {
        return;
    };
    let mut right = pieces.remove(left + 1);
    if let Some(piece) = pieces.get_mut(left) {
        piece.append(&mut right);
        shrink(piece);
    }
}

const _: () = assert!(size_of::<Subscribers<u32, [u32; 2]>>() <= 16, "every filter has one");

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(list: &List<u32, ()>) -> &[Vec<(u32, ())>] {
        if let List::Long(pieces) = list { pieces } else { &[] }
    }

    /// Scattered, from the front and from the back.
    #[test]
    fn pieces_that_become_small_join_a_neighbour() {
        const KEYS: u32 = 5_000;
        let orders: [fn(u32) -> u32; 3] = [|step| step * 2_003 % KEYS, |step| step, |step| KEYS - 1 - step];
        for key in orders {
            let mut list = List::default();
            for step in 0..KEYS {
                assert_eq!(list.insert(step, ()), None);
            }
            let between = pieces(&list).iter().skip(1).rev().skip(1);
            assert_eq!(between.filter(|piece| piece.len() == PIECE).count(), 9, "rising keys fill them");
            for step in 0..KEYS {
                assert_eq!(list.remove(key(step)), Some(()));
                assert!(pieces(&list).iter().all(|piece| (1..=PIECE).contains(&piece.len())));
                for pair in pieces(&list).windows(2) {
                    assert!(pair[0].len() + pair[1].len() > PIECE / 2, "{step} of {KEYS} are gone");
                }
            }
        }
    }

    #[test]
    fn a_full_piece_is_cut_in_half_unless_its_last_key_is_new() {
        let mut list = List::default();
        for key in 0..1_024 {
            list.insert(2 * key, ());
        }
        let lens = |list: &List<u32, ()>| pieces(list).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(&list), [256, 512, 256], "the first was cut when it was all of the list");
        list.insert(513, ());
        assert_eq!(lens(&list), [256, 256, 257, 256]);
    }

    /// Four need no memory of their own, and once there were more, two.
    #[test]
    fn a_list_of_few_gives_its_memory_back() {
        let mut list = List::default();
        let mut held = Vec::new();
        for key in 0..6_u32 {
            list.insert(key, ());
            held.push(list.heap_bytes() > 0);
        }
        for key in 0..5 {
            list.remove(key);
            held.push(list.heap_bytes() > 0);
        }
        let up = [true, true, true, true, true, true];
        assert_eq!(held, [&up[..], &[true, true, true, false, false]].concat());
        assert_eq!(list.entries(), Some(&[(5, ())][..]));
    }
}
