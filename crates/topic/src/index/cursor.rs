//! Matching in small parts.

use alloc::vec::Vec;

use super::levels::{Cut, Level};
use super::subscribers::{Lists, Subscribers};
use super::trie::{ROOT, Trie};
use super::{MAX_LEVELS, SubscriptionIndex};
use crate::TopicName;
use crate::store::NONE;

/// How far a [`SubscriptionIndex::query`] has come.
///
/// It remembers the way through the levels, not places in memory, so the index may change between two calls: a matching
/// subscription that is there throughout is found exactly once; one that is added or removed meanwhile is found once or not
/// at all. Belongs to one name and one index; with others it may skip subscriptions. Owns no memory.
#[derive(Clone, Debug)]
pub struct MatchCursor<K> {
    /// Of each level passed, whether '+' was taken.
    path: u128,
    /// The number of levels passed.
    depth: usize,
    stage: Stage,
    /// The last key found in the list that is being copied.
    after: Option<K>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The filter that is the name itself.
    Exact,
    /// Enter the root of the trie.
    Root,
    /// The filter that ends with '#' below the node at the path.
    Below,
    /// The filter that ends at this node.
    Here,
    Done,
}

const _: () = assert!(MAX_LEVELS <= 128, "one bit of the path per level");

impl<K> MatchCursor<K> {
    /// A cursor at the beginning.
    pub const fn new() -> Self {
        Self { path: 0, depth: 0, stage: Stage::Exact, after: None }
    }

    /// Whether the query has ended.
    pub const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }
}

impl<K> Default for MatchCursor<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Ord, V: Copy> SubscriptionIndex<K, V> {
    /// Appends the subscriptions that match a name from where the cursor stands; `true` at the end.
    ///
    /// For names that match more than one call should handle. The budget is spent by subscriptions found and by nodes
    /// entered, one each; at least one. The order is that of [`matches`](Self::matches), which is quicker.
    ///
    /// ```
    /// use damselfly_topic::{MatchCursor, SubscriptionIndex, TopicFilter, TopicName};
    ///
    /// let mut index = SubscriptionIndex::new(0x5eed);
    /// for key in 0..1_000_u32 {
    ///     index.insert(TopicFilter::new("news/#")?, key, ())?;
    /// }
    /// let (mut cursor, mut found) = (MatchCursor::new(), Vec::new());
    /// while !index.query(TopicName::new("news/local")?, &mut cursor, 64, &mut found) {
    ///     found.drain(..).for_each(|(_key, ())| { /* deliver */ });
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn query(
        &self,
        name: TopicName<'_>,
        cursor: &mut MatchCursor<K>,
        budget: usize,
        out: &mut Vec<(K, V)>,
    ) -> bool {
        let mut budget = budget.max(1);
        if cursor.stage == Stage::Exact {
            let exact = self.exact.find(name.as_bytes()).and_then(|id| self.exact.get(id));
            if !copy(exact, &self.lists, cursor, &mut budget, out) {
                return false;
            }
            cursor.stage = Stage::Root;
        }
        if cursor.stage != Stage::Done {
            Walk::new(&self.wild, name.as_bytes()).resume(&self.lists, cursor, budget, out);
        }
        cursor.is_done()
    }
}

/// The way from the root to the cursor's node.
struct Walk<'a, K, V> {
    trie: &'a Trie<K, V>,
    name: &'a [u8],
    levels: [Level; MAX_LEVELS],
    count: usize,
    has_more_levels: bool,
    /// The node at each depth.
    nodes: [u32; MAX_LEVELS + 1],
}

impl<'a, K: Copy + Ord, V: Copy> Walk<'a, K, V> {
    fn new(trie: &'a Trie<K, V>, name: &'a [u8]) -> Self {
        let mut cut = Cut::new(name);
        let mut levels = [Level::default(); MAX_LEVELS];
        let mut count = 0;
        for level in &mut levels {
            let Some(next) = cut.next(trie.hash()) else { break };
            *level = next;
            count += 1;
        }
        Self { trie, name, levels, count, has_more_levels: cut.has_more(), nodes: [NONE; MAX_LEVELS + 1] }
    }

    fn resume(&mut self, lists: &Lists<K, V>, cursor: &mut MatchCursor<K>, mut budget: usize, out: &mut Vec<(K, V)>) {
        if cursor.stage == Stage::Root {
            cursor.stage = Stage::Below;
            if self.trie.is_empty() {
                cursor.stage = Stage::Done;
                return;
            }
        }
        if !self.find_again(cursor) {
            self.leave(cursor);
        }
        while let Some(node) = self.trie.node(self.node(cursor.depth)).filter(|_| cursor.stage != Stage::Done) {
            if cursor.stage == Stage::Below {
                let below = self.trie.set(node.below).filter(|_| self.wildcards_match(cursor.depth));
                if !copy(below, lists, cursor, &mut budget, out) {
                    return;
                }
                cursor.stage = Stage::Here;
            }
            let is_end = cursor.depth == self.count && !self.has_more_levels;
            let here = self.trie.set(node.here).filter(|_| is_end);
            if !copy(here, lists, cursor, &mut budget, out) {
                return;
            }
            if !(self.enter(cursor, false) || self.enter(cursor, true)) {
                self.leave(cursor);
            }
            if budget == 0 {
                return;
            }
            budget -= 1;
        }
        cursor.stage = Stage::Done;
    }

    /// Goes down the cursor's path; `false` if it has been removed, with the cursor where the path ends.
    fn find_again(&mut self, cursor: &mut MatchCursor<K>) -> bool {
        let (path, depth, stage) = (cursor.path, cursor.depth, cursor.stage);
        self.nodes = [NONE; MAX_LEVELS + 1];
        if let Some(root) = self.nodes.first_mut() {
            *root = ROOT;
        }
        for passed in 0..depth {
            cursor.depth = passed;
            if !self.enter(cursor, path & (1 << passed) != 0) {
                // The subtree that held the cursor is gone: what follows is behind it.
                cursor.path = path;
                cursor.depth = passed + 1;
                cursor.after = None;
                return false;
            }
        }
        cursor.path = path;
        cursor.stage = stage;
        true
    }

    fn node(&self, depth: usize) -> u32 {
        self.nodes.get(depth).copied().unwrap_or(NONE)
    }

    /// [MQTT-4.7.2-1]
    fn wildcards_match(&self, depth: usize) -> bool {
        depth > 0 || self.name.first() != Some(&b'$')
    }

    /// Goes down by '+' or by the level itself, if there is such a child.
    fn enter(&mut self, cursor: &mut MatchCursor<K>, plus: bool) -> bool {
        let depth = cursor.depth;
        let parent = self.node(depth);
        let Some(level) = self.levels.get(depth).filter(|_| depth < self.count) else { return false };
        let child = if plus {
            self.trie.node(parent).map(|node| node.plus).filter(|plus| *plus != NONE && self.wildcards_match(depth))
        } else {
            let children = self.trie.node(parent).and_then(|node| self.trie.child(parent, node, *level, self.name));
            children.map(|(child, _)| child)
        };
        let (Some(child), Some(place)) = (child, self.nodes.get_mut(depth + 1)) else { return false };
        *place = child;
        let bit = 1 << depth;
        cursor.path = if plus { cursor.path | bit } else { cursor.path & !bit };
        cursor.depth = depth + 1;
        cursor.stage = Stage::Below;
        true
    }

    /// Goes up to the next '+' that was not taken yet, and down there.
    fn leave(&mut self, cursor: &mut MatchCursor<K>) {
        while cursor.depth > 0 {
            cursor.depth -= 1;
            let took_plus = cursor.path & (1 << cursor.depth) != 0;
            if !took_plus && self.enter(cursor, true) {
                return;
            }
        }
        cursor.stage = Stage::Done;
    }
}

/// Copies subscribers as far as the budget goes; `true` if all have been copied.
fn copy<K: Copy + Ord, V: Copy>(
    subscribers: Option<&Subscribers<K, V>>,
    lists: &Lists<K, V>,
    cursor: &mut MatchCursor<K>,
    budget: &mut usize,
    out: &mut Vec<(K, V)>,
) -> bool {
    for piece in subscribers.into_iter().flat_map(|subscribers| lists.pieces(subscribers)) {
        let start = cursor.after.map_or(0, |after| piece.partition_point(|entry| entry.0 <= after));
        let rest = piece.get(start..).unwrap_or_default();
        let part = rest.get(..*budget).unwrap_or(rest);
        out.extend_from_slice(part);
        *budget -= part.len();
        if let Some(last) = part.last() {
            cursor.after = Some(last.0);
        }
        if part.len() < rest.len() {
            return false;
        }
    }
    cursor.after = None;
    true
}
