//! Who has subscribed to what: many filters, asked with a name.

mod cursor;
mod levels;
mod subscribers;
mod trie;
mod walk;

use alloc::vec::Vec;
use core::{cell::Cell, fmt, ops::ControlFlow};

pub use cursor::MatchCursor;
use subscribers::{Lists, Subscribers};
use trie::Trie;

use crate::store::Keyed;
use crate::{KeyedState, TopicFilter, TopicName};

/// The most levels that an index can be told to take.
pub const MAX_LEVELS: usize = 128;

/// Why a filter is not taken into an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The filter has more levels than the index takes.
    #[error("the topic filter has too many levels")]
    TooManyLevels,
    /// The filter is a Shared Subscription's. The group is the caller's affair; the index takes the filter inside.
    #[error("the topic filter of a shared subscription must be taken apart first")]
    Shared,
    /// About two thousand million filters, or 4 GiB of their texts.
    #[error("the index is full")]
    Full,
}

/// Finds the subscriptions that match a Topic Name.
///
/// A subscription is a filter, a key (who) and a value (how). A filter without wildcards costs one lookup of the whole name
/// however many there are; those with wildcards are kept in a trie, in which a name follows at most two branches per level.
///
/// ```
/// use damselfly_topic::{SubscriptionIndex, TopicFilter, TopicName};
///
/// let mut index = SubscriptionIndex::new(0x5eed);
/// index.insert(TopicFilter::new("home/+/lamp")?, 7_u32, 'a')?;
/// index.insert(TopicFilter::new("home/kitchen/lamp")?, 3, 'b')?;
///
/// let mut found = Vec::new();
/// index.matches(TopicName::new("home/kitchen/lamp")?, &mut found);
/// assert_eq!(found, [(3, 'b'), (7, 'a')]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Order
///
/// Matches come in an order that depends on the subscriptions alone, neither on the seed nor on history: first the filter
/// that is the name itself; then, from the first level on, '#' before the level itself before '+'; for one filter, by key.
///
/// # Keys and values
///
/// Both are `Copy`, because a match copies them into the caller's vector: a number that stands for a subscriber, not a `String`.
///
/// # Bounds
///
/// A match looks at no more than two branches per level, so at no more nodes than there are *prefixes of filters* that
/// match a prefix of the name: with filters of `n` levels, up to 2ⁿ⁺¹ - 1 if somebody has subscribed to all of them. The
/// number of levels is limited ([`with_max_levels`](Self::with_max_levels)), and so should be the number of filters of one
/// subscriber. Where one call must not take that long, [`matches_within`](Self::matches_within) gives up in time, and
/// [`query`](Self::query) goes on where it stopped. A match neither recurses nor allocates, except to grow the caller's vector.
///
/// # Memory
///
/// The places of removed subscriptions are used again, and given back once three of four are free. Tables grow by half and
/// vectors by a quarter; growing and giving back is paid for by the changes since the last time, but one call does it:
/// an insertion now and then moves all eight-byte slots of a table (up to some tens of milliseconds at a million filters), a removal now
/// and then the nodes that are left. Texts are moved in small steps.
#[derive(Clone)]
pub struct SubscriptionIndex<K, V> {
    exact: Keyed<Subscribers<K, V>>,
    wild: Trie<K, V>,
    lists: Lists<K, V>,
    max_levels: usize,
    len: usize,
    generation: u64,
}

/// Says how much is in it, not what: there may be millions of filters.
impl<K, V> fmt::Debug for SubscriptionIndex<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionIndex")
            .field("len", &self.len)
            .field("max_levels", &self.max_levels)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl<K: Copy + Eq + Ord, V: Copy> SubscriptionIndex<K, V> {
    /// An empty index, whose filters may have up to 128 levels. Peers choose the filters: the seed should be secret.
    pub fn new(seed: u64) -> Self {
        let hash = KeyedState::new(seed);
        Self {
            exact: Keyed::new(hash.clone()),
            wild: Trie::new(hash),
            lists: Lists::default(),
            max_levels: MAX_LEVELS,
            len: 0,
            generation: 0,
        }
    }

    /// Limits the number of levels of filters to be inserted, at least one and at most [`MAX_LEVELS`].
    #[must_use = "this is the index with the limit"]
    pub fn with_max_levels(mut self, levels: usize) -> Self {
        self.max_levels = levels.clamp(1, MAX_LEVELS);
        self
    }

    /// Adds a subscription, or replaces its value. `Some` is the value it had.
    ///
    /// # Errors
    ///
    /// [`IndexError`]; the index is then as it was.
    pub fn insert(&mut self, filter: TopicFilter<'_>, key: K, value: V) -> Result<Option<V>, IndexError> {
        if filter.shared().is_some() {
            return Err(IndexError::Shared);
        }
        let levels = filter.level_count();
        if levels > self.max_levels {
            return Err(IndexError::TooManyLevels);
        }
        let old = if let Some(subscribers) = find_mut(&mut self.exact, &mut self.wild, filter) {
            if !self.lists.has_room() {
                return Err(IndexError::Full);
            }
            self.lists.insert(subscribers, key, value)
        } else {
            let first = Subscribers::One((key, value));
            if filter.has_wildcards() {
                self.wild.insert(filter.as_bytes(), levels, first).ok_or(IndexError::Full)?;
            } else {
                self.exact.insert(filter.as_bytes(), first).map_err(|_| IndexError::Full)?;
            }
            None
        };
        self.len += usize::from(old.is_none());
        self.generation = self.generation.wrapping_add(1);
        Ok(old)
    }

    /// Removes a subscription; its value, if there was one.
    pub fn remove(&mut self, filter: TopicFilter<'_>, key: K) -> Option<V> {
        let subscribers = find_mut(&mut self.exact, &mut self.wild, filter)?;
        let value = match *subscribers {
            Subscribers::One((only, value)) => {
                if only != key {
                    return None;
                }
                self.remove_filter(filter);
                value
            }
            Subscribers::Many(_) => self.lists.remove(subscribers, key)?,
        };
        if self.lists.is_sparse(self.exact.len() + self.wild.len()) {
            self.lists.compact(self.exact.values_mut().chain(self.wild.sets_mut()));
        }
        self.len -= 1;
        self.generation = self.generation.wrapping_add(1);
        Some(value)
    }

    fn remove_filter(&mut self, filter: TopicFilter<'_>) {
        if filter.has_wildcards() {
            self.wild.remove(filter.as_bytes());
        } else if let Some(id) = self.exact.find(filter.as_bytes()) {
            self.exact.remove(id);
        }
    }

    /// The value of a subscription.
    pub fn get(&self, filter: TopicFilter<'_>, key: K) -> Option<V> {
        let subscribers = if filter.has_wildcards() {
            self.wild.find(filter.as_bytes())?
        } else {
            self.exact.get(self.exact.find(filter.as_bytes())?)?
        };
        self.lists.get(subscribers, key)
    }

    /// Appends the subscriptions that match a name; a key with several such filters comes several times.
    ///
    /// See the type's description for the order.
    #[inline]
    pub fn matches(&self, name: TopicName<'_>, out: &mut Vec<(K, V)>) {
        let _: ControlFlow<()> = self.visit(name, |piece| {
            if let [one] = piece {
                out.push(*one);
            } else {
                out.extend_from_slice(piece);
            }
            ControlFlow::Continue(())
        });
    }

    /// Calls `found` with each subscription that matches a name, in the order of [`matches`](Self::matches).
    #[inline]
    pub fn for_each_match(&self, name: TopicName<'_>, mut found: impl FnMut(K, V)) {
        let _: ControlFlow<()> = self.visit(name, |piece| {
            for &(key, value) in piece {
                found(key, value);
            }
            ControlFlow::Continue(())
        });
    }

    /// Whether any subscription matches a name. Stops at the first.
    pub fn contains_match(&self, name: TopicName<'_>) -> bool {
        self.visit(name, |_| ControlFlow::Break(())).is_break()
    }

    /// As [`matches`](Self::matches), unless that may take more than `budget` steps: a node is one, and each subscriber of
    /// a filter that has several. Nodes are counted ahead, as many as there are levels left. `Some` says how many steps were
    /// left; with `None` only a part was appended, and [`query`](Self::query) is the way to all.
    ///
    /// ```
    /// use damselfly_topic::{SubscriptionIndex, TopicFilter, TopicName};
    ///
    /// let mut index = SubscriptionIndex::new(0x5eed);
    /// index.insert(TopicFilter::new("a/+/#")?, 7_u32, ())?;
    ///
    /// let mut found = Vec::new();
    /// // The root, and as many nodes as the name has levels.
    /// assert_eq!(index.matches_within(TopicName::new("a/b/c")?, 5, &mut found), Some(1));
    /// assert_eq!(found, [(7, ())]);
    /// assert_eq!(index.matches_within(TopicName::new("a/b/c")?, 3, &mut found), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn matches_within(&self, name: TopicName<'_>, budget: usize, out: &mut Vec<(K, V)>) -> Option<usize> {
        let left = Cell::new(budget);
        let spend = |steps: usize| match left.get().checked_sub(steps) {
            Some(rest) => {
                left.set(rest);
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        };
        let found = |piece: &[(K, V)]| {
            if let [one] = piece {
                out.push(*one);
                return ControlFlow::Continue(());
            }
            spend(piece.len())?;
            out.extend_from_slice(piece);
            ControlFlow::Continue(())
        };
        self.walk(name, spend, found).is_continue().then(|| left.get())
    }

    #[inline]
    fn visit<B>(&self, name: TopicName<'_>, found: impl FnMut(&[(K, V)]) -> ControlFlow<B>) -> ControlFlow<B> {
        self.walk(name, |_| ControlFlow::Continue(()), found)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "so that the steps are counted in a register; measured")]
    fn walk<B>(
        &self,
        name: TopicName<'_>,
        mut go: impl FnMut(usize) -> ControlFlow<B>,
        mut found: impl FnMut(&[(K, V)]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if let Some(subscribers) = self.exact.find(name.as_bytes()).and_then(|id| self.exact.get(id)) {
            self.lists.pieces(subscribers).try_for_each(&mut found)?;
        }
        self.wild.visit(name.as_bytes(), &self.lists, &mut go, &mut found)
    }

    /// The number of subscriptions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves with every subscription that is added, replaced or removed: what was found at a generation holds as long as
    /// the generation does.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The bytes of memory that the index has asked of the allocator. Takes time in proportion to the filters with several
    /// subscribers.
    pub fn heap_bytes(&self) -> usize {
        self.exact.heap_bytes() + self.wild.heap_bytes() + self.lists.heap_bytes()
    }
}

fn find_mut<'a, K: Copy + Ord, V: Copy>(
    exact: &'a mut Keyed<Subscribers<K, V>>,
    wild: &'a mut Trie<K, V>,
    filter: TopicFilter<'_>,
) -> Option<&'a mut Subscribers<K, V>> {
    if filter.has_wildcards() {
        return wild.find_mut(filter.as_bytes());
    }
    let id = exact.find(filter.as_bytes())?;
    exact.get_mut(id)
}
