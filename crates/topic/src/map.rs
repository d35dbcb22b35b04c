//! What was published to what: many names, asked with a filter.

mod order;

use alloc::vec::Vec;
use core::fmt;

use order::{Order, Verdict, judge};

use crate::relation::starts_with_wildcard;
use crate::store::Keyed;
use crate::{IndexError, KeyedState, TopicFilter, TopicName};

/// A map from Topic Names to values that can be asked with a Topic Filter, such as a store of retained messages.
///
/// ```
/// use damselfly_topic::{TopicCursor, TopicFilter, TopicMap, TopicName};
///
/// let mut map = TopicMap::new(0x5eed);
/// map.insert(TopicName::new("home/kitchen/lamp")?, "on")?;
/// map.insert(TopicName::new("home/cellar/lamp")?, "off")?;
///
/// let mut found = Vec::new();
/// let mut cursor = TopicCursor::new();
/// while !map.query(TopicFilter::new("home/+/lamp")?, &mut cursor, 100, |name, value| found.push((name.to_buf(), *value))) {
///     // Other work may be done here, and the map may change.
/// }
/// assert_eq!(found.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How it works
///
/// A table finds a name with one probe. Beside it the names are kept in an order in which a name comes directly before the
/// names below it. A filter with wildcards walks along this order, and whatever it sees that does not match tells how far it
/// can jump: `a/#` touches what it finds and nothing else, `+` costs one search per level that it stands for.
#[derive(Clone)]
pub struct TopicMap<V> {
    names: Keyed<V>,
    order: Order,
}

/// Says how many names are in it, not which.
impl<V> fmt::Debug for TopicMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicMap").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// How far a [`TopicMap::query`] has come.
///
/// It remembers a text, not a place in memory, so the map may change between two calls: a topic that is there throughout is
/// visited exactly once; one that is added or removed meanwhile is visited once or not at all; one that is removed and added
/// again is still visited at most once. Belongs to one filter and one map; with others it may skip topics.
///
/// A paused cursor owns one allocation of about the length of a topic.
#[derive(Clone, Debug, Default)]
pub struct TopicCursor {
    /// No topic below this one is left. Empty at the beginning.
    bound: Vec<u8>,
    is_done: bool,
}

impl TopicCursor {
    /// A cursor at the beginning.
    pub const fn new() -> Self {
        Self { bound: Vec::new(), is_done: false }
    }

    /// Whether the query has ended.
    pub const fn is_done(&self) -> bool {
        self.is_done
    }
}

impl<V> TopicMap<V> {
    /// An empty map. Peers choose the names: the seed should be secret.
    pub fn new(seed: u64) -> Self {
        Self { names: Keyed::new(KeyedState::new(seed)), order: Order::default() }
    }

    /// Sets the value of a name. `Some` is the value it had.
    ///
    /// # Errors
    ///
    /// [`IndexError::Full`] at about two thousand million names or 4 GiB of their texts; the map is then as it was.
    pub fn insert(&mut self, name: TopicName<'_>, value: V) -> Result<Option<V>, IndexError> {
        if let Some(old) = self.get_mut(name) {
            return Ok(Some(core::mem::replace(old, value)));
        }
        let place = self.order.lower_bound(name.as_bytes(), |id| self.names.text(id));
        let id = self.names.insert(name.as_bytes(), value).map_err(|_| IndexError::Full)?;
        self.order.insert(place, id);
        Ok(None)
    }

    /// Removes a name; its value, if there was one.
    pub fn remove(&mut self, name: TopicName<'_>) -> Option<V> {
        let id = self.names.find(name.as_bytes())?;
        let last = self.names.last()?;
        let mut place = self.order.lower_bound(name.as_bytes(), |id| self.names.text(id));
        self.order.get(&mut place)?;
        self.order.remove(place);
        if id != last {
            let mut place = self.order.lower_bound(self.names.text(last), |id| self.names.text(id));
            self.order.get(&mut place)?;
            self.order.replace(place, id);
        }
        self.names.remove(id)
    }

    /// The value of a name.
    pub fn get(&self, name: TopicName<'_>) -> Option<&V> {
        self.names.get(self.names.find(name.as_bytes())?)
    }

    /// The value of a name, to be changed.
    pub fn get_mut(&mut self, name: TopicName<'_>) -> Option<&mut V> {
        let id = self.names.find(name.as_bytes())?;
        self.names.get_mut(id)
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All names with their values, each name directly before the names below it.
    pub fn iter(&self) -> impl Iterator<Item = (TopicName<'_>, &V)> {
        self.order.iter().filter_map(|&id| {
            let name = TopicName::from_checked_bytes(self.names.text(id));
            self.names.get(id).map(|value| (name, value))
        })
    }

    /// Visits the names that a filter matches, from where the cursor stands; `true` at the end.
    ///
    /// Looks at no more than `budget` names (at least one), whether they match or not; each costs at most one search, in
    /// time logarithmic in the size of the map. Names come in the order of [`iter`](Self::iter). [MQTT-4.7.2-1] holds; of a
    /// Shared Subscription the filter inside is asked.
    pub fn query(
        &self,
        filter: TopicFilter<'_>,
        cursor: &mut TopicCursor,
        budget: usize,
        mut visit: impl FnMut(TopicName<'_>, &V),
    ) -> bool {
        if cursor.is_done {
            return true;
        }
        let filter = filter.unshared();
        if filter.has_wildcards() {
            cursor.is_done = self.walk(filter.as_bytes(), &mut cursor.bound, budget.max(1), visit);
        } else {
            let name = TopicName::from_checked_bytes(filter.as_bytes());
            if let Some(value) = self.get(name) {
                visit(name, value);
            }
            cursor.is_done = true;
        }
        if cursor.is_done {
            cursor.bound = Vec::new();
        }
        cursor.is_done
    }

    fn walk(
        &self,
        filter: &[u8],
        bound: &mut Vec<u8>,
        mut budget: usize,
        mut visit: impl FnMut(TopicName<'_>, &V),
    ) -> bool {
        let text = |id| self.names.text(id);
        if bound.is_empty() {
            bound.extend_from_slice(literal_prefix(filter));
        }
        let spares_dollar = starts_with_wildcard(filter);
        let mut place = self.order.lower_bound(bound, text);
        while let Some(id) = self.order.get(&mut place) {
            let name = text(id);
            if budget == 0 {
                bound.clear();
                bound.extend_from_slice(name);
                return false;
            }
            budget -= 1;
            let (len, level): (usize, &[u8]) = match judge(filter, name) {
                // [MQTT-4.7.2-1] The names behind all that start with '$' start with '%' or more.
                _ if spares_dollar && name.first() == Some(&b'$') => (0, b"%"),
                Verdict::Match => {
                    if let Some(value) = self.names.get(id) {
                        visit(TopicName::from_checked_bytes(name), value);
                    }
                    place = place.next();
                    continue;
                }
                Verdict::Next => {
                    place = place.next();
                    continue;
                }
                Verdict::Seek(len, level) => (len, level),
                // Behind '/' comes U+0001.
                Verdict::SkipBelow(len) => (len, &[1]),
                Verdict::End => return true,
            };
            bound.clear();
            bound.extend_from_slice(name.get(..len).unwrap_or_default());
            bound.extend_from_slice(level);
            place = self.order.lower_bound_near(place.next(), bound, text);
        }
        true
    }

    /// The bytes of memory that the map has asked of the allocator, without what the values own.
    pub fn heap_bytes(&self) -> usize {
        self.names.heap_bytes() + self.order.heap_bytes()
    }
}

/// The levels before the first wildcard: no name below this one matches.
fn literal_prefix(filter: &[u8]) -> &[u8] {
    let wildcard = filter.iter().position(|byte| matches!(byte, b'+' | b'#')).unwrap_or(filter.len());
    // Without the separator, as "a/#" matches "a" too.
    filter.get(..wildcard.saturating_sub(1)).unwrap_or_default()
}
