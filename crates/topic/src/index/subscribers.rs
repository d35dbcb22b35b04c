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
/// A long one is cut into pieces, so that a key is put in or taken out without moving all the others.
#[derive(Clone, Debug)]
enum List<K, V> {
    Short(Vec<(K, V)>),
    Long(Vec<Vec<(K, V)>>),
}

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
                let list = if only.0 < key { vec![*only, (key, value)] } else { vec![(key, value), *only] };
                *subscribers = Subscribers::Many(self.0.insert(List::Short(list)));
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
        if let List::Short(entries) = list {
            if let [only] = entries[..] {
                *subscribers = Subscribers::One(only);
                self.0.remove(id);
            }
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
                Some(List::Short(entries)) => Pieces { first: entries, more: [].iter() },
                Some(List::Long(pieces)) => Pieces { first: &[], more: pieces.iter() },
                None => Pieces { first: &[], more: [].iter() },
            },
        }
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

impl<K: Copy + Ord, V: Copy> List<K, V> {
    fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = match self {
            Self::Short(entries) => insert(entries, key, value),
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
        };
        if let Self::Short(entries) = self {
            if entries.len() > PIECE {
                let rest = entries.split_off(PIECE / 2);
                *self = Self::Long(vec![core::mem::take(entries), rest]);
            }
        }
        old
    }

    fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::Short(entries) => {
                let at = entries.binary_search_by_key(&key, |entry| entry.0).ok()?;
                let (_, value) = entries.remove(at);
                shrink(entries);
                Some(value)
            }
            Self::Long(pieces) => {
                let at = piece_of(pieces, key);
                let piece = pieces.get_mut(at)?;
                let found = piece.binary_search_by_key(&key, |entry| entry.0).ok()?;
                let (_, value) = piece.remove(found);
                merge(pieces, at);
                shrink(pieces);
                if let [_] = pieces[..] {
                    *self = Self::Short(pieces.pop().unwrap_or_default());
                }
                Some(value)
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Short(entries) => heap_bytes(entries),
            Self::Long(pieces) => heap_bytes(pieces) + pieces.iter().map(heap_bytes).sum::<usize>(),
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
