//! The filters with wildcards.

use alloc::vec::Vec;

use super::levels::{Cut, Level};
use super::subscribers::Subscribers;
use crate::KeyedState;
use crate::num::to_usize;
use crate::store::{IdTable, NONE, Slab, Texts, tag};

/// A trie of levels. '+' and '#' are fields of a node, and so is an only child; where there are several, they are found in
/// one table for the whole trie, under the node and the level.
#[derive(Clone, Debug)]
pub(crate) struct Trie<K, V> {
    hash: KeyedState,
    nodes: Slab<Node>,
    edges: IdTable,
    /// Levels that are too long for a node, owned by their nodes.
    labels: Texts,
    sets: Slab<Option<Subscribers<K, V>>>,
    deepest: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The key of the level that leads here.
    label: u64,
    /// Where the text of this level is, for a long one; `PLUS` for '+'; otherwise `NONE`: the key says it all.
    text: u32,
    parent: u32,
    /// Those that are neither '+' nor '#'.
    pub(crate) children: Children,
    pub(crate) plus: u32,
    /// The subscribers of the filter that ends here.
    pub(crate) here: u32,
    /// The subscribers of the filter that goes on with '#'.
    pub(crate) below: u32,
}

/// The children of a node that are neither '+' nor '#': none, the id of the only one, or `MANY` and how many are found in
/// the table. Most nodes have one, which then costs neither a hash nor a slot, and tends to lie beside its parent. A node
/// that had several keeps them in the table, down to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Children(u32);

/// Above all ids.
const MANY: u32 = 1 << 31;

impl Children {
    const NO: Self = Self(NONE);

    #[inline]
    pub(crate) fn is_some(self) -> bool {
        self != Self::NO
    }

    /// The id of the only one.
    #[inline]
    fn only(self) -> Option<u32> {
        (self.0 < MANY).then_some(self.0)
    }

    fn are_many(self) -> bool {
        self.is_some() && self.0 >= MANY
    }

    /// One child less.
    fn without_one(self) -> Self {
        if self.are_many() && self.0 > MANY + 1 { Self(self.0 - 1) } else { Self::NO }
    }
}

/// No place of a text, as `NONE`.
const PLUS: u32 = NONE - 1;

pub(crate) const ROOT: u32 = 0;

const _: () = assert!(size_of::<Node>() == 32, "filters with wildcards have several nodes each");

impl Default for Node {
    fn default() -> Self {
        Self { label: 0, text: PLUS, parent: NONE, children: Children::NO, plus: NONE, here: NONE, below: NONE }
    }
}

impl Node {
    fn is_bare(&self) -> bool {
        !self.children.is_some() && self.plus == NONE && self.here == NONE && self.below == NONE
    }
}

/// Where a filter's subscribers are: the last node, and whether '#' follows.
#[derive(Clone, Copy)]
struct End {
    node: u32,
    below: bool,
}

impl<K: Copy + Ord, V: Copy> Trie<K, V> {
    pub(crate) fn new(hash: KeyedState) -> Self {
        Self {
            hash,
            nodes: Slab::default(),
            edges: IdTable::default(),
            labels: Texts::default(),
            sets: Slab::default(),
            deepest: 0,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() == 0
    }

    #[inline]
    pub(crate) fn hash(&self) -> &KeyedState {
        &self.hash
    }

    /// The most levels that any filter had since the trie was empty.
    #[inline]
    pub(crate) fn deepest(&self) -> usize {
        self.deepest
    }

    #[inline]
    pub(crate) fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.get(id)
    }

    #[inline]
    pub(crate) fn set(&self, id: u32) -> Option<&Subscribers<K, V>> {
        self.sets.get(id)?.as_ref()
    }

    /// The subscribers of all filters.
    pub(crate) fn sets_mut(&mut self) -> impl Iterator<Item = &mut Subscribers<K, V>> {
        self.sets.iter_mut().flatten()
    }

    /// The number of filters.
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// The subscribers of a filter.
    pub(crate) fn find(&self, filter: &[u8]) -> Option<&Subscribers<K, V>> {
        let end = self.end(filter)?;
        let node = self.node(end.node)?;
        self.set(if end.below { node.below } else { node.here })
    }

    pub(crate) fn find_mut(&mut self, filter: &[u8]) -> Option<&mut Subscribers<K, V>> {
        let end = self.end(filter)?;
        let node = self.node(end.node)?;
        let set = if end.below { node.below } else { node.here };
        self.sets.get_mut(set)?.as_mut()
    }

    fn end(&self, filter: &[u8]) -> Option<End> {
        let mut cut = Cut::new(filter);
        let mut node = ROOT;
        while let Some(level) = cut.next(&self.hash) {
            match level.text(filter) {
                b"#" => return Some(End { node, below: true }),
                b"+" => node = self.node(node)?.plus,
                _ => node = self.child(node, self.node(node)?, level, filter)?.0,
            }
        }
        Some(End { node, below: false })
    }

    /// The child of a node that a level leads to; `parent` is the id of `node`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the innermost step of a match; measured")]
    pub(crate) fn child(&self, parent: u32, node: &Node, level: Level, text: &[u8]) -> Option<(u32, &Node)> {
        if let Some(id) = node.children.only() {
            let child = self.nodes.get(id)?;
            let is_child = child.label == level.key && self.is_level(child, level, text);
            return is_child.then_some((id, child));
        }
        if !node.children.is_some() {
            return None;
        }
        self.edges.find(self.edge(parent, level.key), |id| {
            let child = self.nodes.get(id)?;
            let is_child = child.label == level.key && child.parent == parent && self.is_level(child, level, text);
            is_child.then_some((id, child))
        })
    }

    /// Whether a node whose label is the level's key stands for this level: the key of a long one is but a hash.
    #[inline]
    fn is_level(&self, node: &Node, level: Level, text: &[u8]) -> bool {
        if level.is_short() {
            return node.text == NONE;
        }
        self.labels.get(node.text) == level.text(text)
    }

    #[inline]
    fn edge(&self, parent: u32, key: u64) -> u32 {
        tag(self.hash.hash_pair(key, u64::from(parent)))
    }

    /// Adds a filter that is not there yet, of so many levels. `None` if there is no room.
    pub(crate) fn insert(&mut self, filter: &[u8], levels: usize, subscribers: Subscribers<K, V>) -> Option<()> {
        if !(self.nodes.has_room(levels) && self.sets.has_room(1)) {
            return None;
        }
        if self.is_empty() {
            self.nodes.insert(Node::default());
        }
        let mut cut = Cut::new(filter);
        let mut end = End { node: ROOT, below: false };
        while let Some(level) = cut.next(&self.hash) {
            let next = match level.text(filter) {
                b"#" => {
                    end.below = true;
                    break;
                }
                b"+" => Some(self.plus_or_new(end.node)),
                _ => match self.node(end.node).and_then(|node| self.child(end.node, node, level, filter)) {
                    Some((child, _)) => Some(child),
                    None => self.new_child(end.node, level, filter),
                },
            };
            let Some(next) = next else {
                self.prune(end.node);
                return None;
            };
            end.node = next;
        }
        let set = self.sets.insert(Some(subscribers));
        let node = self.nodes.get_mut(end.node)?;
        *(if end.below { &mut node.below } else { &mut node.here }) = set;
        self.deepest = self.deepest.max(levels);
        Some(())
    }

    fn plus_or_new(&mut self, parent: u32) -> u32 {
        if let Some(plus) = self.node(parent).map(|node| node.plus).filter(|plus| *plus != NONE) {
            return plus;
        }
        let id = self.nodes.insert(Node { parent, ..Node::default() });
        if let Some(node) = self.nodes.get_mut(parent) {
            node.plus = id;
        }
        id
    }

    fn new_child(&mut self, parent: u32, level: Level, text: &[u8]) -> Option<u32> {
        let id = self.nodes.insert(Node { label: level.key, text: NONE, parent, ..Node::default() });
        if !level.is_short() {
            let Some(place) = self.labels.insert(id, level.text(text)) else {
                self.nodes.remove(id);
                return None;
            };
            self.nodes.get_mut(id)?.text = place;
        }
        let children = self.node(parent)?.children;
        let children = if let Some(first) = children.only() {
            let first_label = self.node(first)?.label;
            self.edges.insert(self.edge(parent, first_label), first);
            self.edges.insert(self.edge(parent, level.key), id);
            Children(MANY + 2)
        } else if children.is_some() {
            self.edges.insert(self.edge(parent, level.key), id);
            Children(children.0 + 1)
        } else {
            Children(id)
        };
        self.nodes.get_mut(parent)?.children = children;
        Some(id)
    }

    /// Takes a filter out.
    pub(crate) fn remove(&mut self, filter: &[u8]) -> Option<Subscribers<K, V>> {
        let end = self.end(filter)?;
        let node = self.nodes.get_mut(end.node)?;
        let set = core::mem::replace(if end.below { &mut node.below } else { &mut node.here }, NONE);
        if set == NONE {
            return None;
        }
        let subscribers = self.sets.remove(set);
        self.prune(end.node);
        if self.nodes.is_sparse() {
            self.compact();
        }
        subscribers
    }

    /// Gives all nodes and sets new places without gaps. As at least three of four nodes have been removed since the last
    /// time, each removal pays for a few.
    fn compact(&mut self) {
        let mut ids = Vec::new();
        ids.reserve_exact(self.nodes.places());
        let (mut nodes, mut sets) = (Slab::default(), Slab::default());
        for (id, node) in self.nodes.iter().enumerate() {
            let is_free = id != to_usize(ROOT) && node.parent == NONE;
            ids.push(if is_free { NONE } else { nodes.insert(node.clone()) });
        }
        let new = |id: u32| ids.get(to_usize(id)).copied().unwrap_or(NONE);
        let mut edges = IdTable::default();
        for (id, node) in (ROOT..).zip(nodes.iter_mut()) {
            let is_in_table =
                node.text != PLUS && self.node(node.parent).is_some_and(|above| above.children.are_many());
            (node.parent, node.plus) = (new(node.parent), new(node.plus));
            if let Some(only) = node.children.only() {
                node.children = Children(new(only));
            }
            for set in [&mut node.here, &mut node.below] {
                if let Some(subscribers) = self.set(*set) {
                    *set = sets.insert(Some(*subscribers));
                }
            }
            if is_in_table {
                edges.insert(self.edge(node.parent, node.label), id);
            }
            self.labels.set_owner(node.text, id);
        }
        (self.nodes, self.sets, self.edges) = (nodes, sets, edges);
    }

    fn lose_child(&mut self, parent: u32, label: u64, id: u32) {
        let edge = self.edge(parent, label);
        let Some(above) = self.nodes.get_mut(parent) else { return };
        if above.children.are_many() {
            self.edges.remove(edge, id);
        }
        above.children = above.children.without_one();
    }

    /// Removes a node that leads nowhere, and those above that only led to it.
    fn prune(&mut self, mut id: u32) {
        while let Some(node) = self.nodes.get(id).filter(|node| node.is_bare()) {
            let Node { label, text, parent, .. } = *node;
            if id == ROOT {
                *self = Self::new(self.hash.clone());
                return;
            }
            if text == PLUS {
                if let Some(above) = self.nodes.get_mut(parent) {
                    above.plus = NONE;
                }
            } else {
                self.lose_child(parent, label, id);
            }
            if text < PLUS {
                self.labels.remove(text, |owner, place| {
                    if let Some(node) = self.nodes.get_mut(owner) {
                        node.text = place;
                    }
                });
            }
            self.nodes.remove(id);
            id = parent;
        }
    }

    /// The bytes asked of the allocator.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.nodes.heap_bytes() + self.edges.heap_bytes() + self.labels.heap_bytes() + self.sets.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscribers::Lists;
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use core::ops::ControlFlow;

    fn trie() -> Trie<u32, ()> {
        Trie::new(KeyedState::new(1))
    }

    fn ids(trie: &Trie<u32, ()>, name: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let _: ControlFlow<()> =
            trie.visit(name.as_bytes(), &Lists::default(), &mut |_| ControlFlow::Continue(()), &mut |piece| {
                ids.extend(piece.iter().map(|entry| entry.0));
                ControlFlow::Continue(())
            });
        ids
    }

    #[test]
    fn a_filter_that_does_not_fit_leaves_nothing_behind() {
        let mut trie = trie();
        trie.insert(b"a/+", 2, Subscribers::One((1, ()))).unwrap();
        let mut added = Vec::new();
        for id in 0.. {
            let filter = format!("+/{}{id:03}/#", "long".repeat(10_000));
            let nodes = trie.nodes.len();
            if trie.insert(filter.as_bytes(), 3, Subscribers::One((id, ()))).is_none() {
                assert_eq!(trie.nodes.len(), nodes);
                break;
            }
            added.push(filter);
        }
        assert!(added.len() > 2);

        for filter in added {
            assert!(trie.remove(filter.as_bytes()).is_some());
        }
        assert_eq!(ids(&trie, "a/b"), [1]);
        assert_eq!(trie.nodes.len(), 3);
        assert_eq!(trie.sets.len(), 1);
    }

    /// An only child has no slot; several have one each, and so has the last of them until it goes.
    #[test]
    fn children_are_found_however_many_there_are_or_were() {
        let mut trie = trie();
        let filters: Vec<String> = (0..5).map(|id| format!("a/a rather long level {id}/+")).collect();
        let insert = |trie: &mut Trie<u32, ()>, id: u32| {
            trie.insert(filters[to_usize(id)].as_bytes(), 3, Subscribers::One((id, ()))).unwrap();
        };
        for round in 1..=5 {
            for id in 0..round {
                insert(&mut trie, id);
                for other in 0..5 {
                    let expected: &[u32] = if other <= id { &[other] } else { &[] };
                    assert_eq!(ids(&trie, &format!("a/a rather long level {other}/b")), expected);
                }
            }
            assert_eq!(trie.edges.heap_bytes() > 0, round > 1);
            for id in 0..round {
                assert!(trie.remove(filters[to_usize(id)].as_bytes()).is_some());
                for other in 0..5 {
                    let expected: &[u32] = if other > id && other < round { &[other] } else { &[] };
                    assert_eq!(ids(&trie, &format!("a/a rather long level {other}/b")), expected);
                }
            }
            assert_eq!(trie.heap_bytes(), 0);
        }

        // One that was left of two is joined by another.
        for id in [0, 1] {
            insert(&mut trie, id);
        }
        trie.remove(filters[0].as_bytes());
        insert(&mut trie, 2);
        assert_eq!([1, 2].map(|id| ids(&trie, &format!("a/a rather long level {id}/b"))), [[1], [2]]);
    }

    /// Else a search among the children of many nodes would look at most of them.
    #[test]
    fn each_child_of_each_node_has_a_tag_of_its_own() {
        let trie = trie();
        let edges = (0..50).flat_map(|parent| (0..50).map(move |key| (parent, key)));
        let tags: BTreeSet<u32> = edges.map(|(parent, key)| trie.edge(parent, key)).collect();
        assert_eq!(tags.len(), 50 * 50);
    }

    /// The tags of a table have 31 bits: two levels below one node that have the same are not hard to find.
    #[test]
    fn children_with_one_tag_are_told_apart() {
        let mut trie = trie();
        let mut seen = BTreeMap::new();
        let [a, b] = (0_u32..)
            .find_map(|number| {
                let text = format!("{number:x}");
                let level = Cut::new(text.as_bytes()).next(&trie.hash)?;
                Some([seen.insert(trie.edge(ROOT, level.key), text.clone())?, text])
            })
            .unwrap();
        for (id, level) in (1..).zip([&a, &b, &"other".to_owned()]) {
            trie.insert(format!("{level}/+").as_bytes(), 2, Subscribers::One((id, ()))).unwrap();
        }
        assert_eq!([&a, &b].map(|level| ids(&trie, &format!("{level}/x"))), [[1], [2]]);

        trie.remove(format!("{b}/+").as_bytes()).unwrap();
        assert_eq!(ids(&trie, &format!("{a}/x")), [1]);
        assert_eq!(ids(&trie, &format!("{b}/x")), []);
    }

    /// Of a long level the key is a hash, which another long one may have too, or a short one as its bytes.
    #[test]
    fn levels_with_one_key_are_told_apart() {
        let mut trie = Trie::<u32, ()>::new(KeyedState::new(1));
        let [a, b] = trie.hash.twins();
        let key = trie.hash.hash_bytes(&a);
        assert_eq!(key, trie.hash.hash_bytes(&b));
        let short = key.to_le_bytes();
        let levels = [&a[..], &b, &short];
        assert!(levels.iter().all(|level| !level.contains(&b'/')));
        for first in 0..3 {
            let filter = |at: usize| [levels[(first + at) % 3], b"/+"].concat();
            for id in 0..3_u8 {
                assert!((usize::from(id)..3).all(|at| trie.find(&filter(at)).is_none()), "{first} {id}");
                trie.insert(&filter(id.into()), 2, Subscribers::One((id.into(), ()))).unwrap();
            }
            for id in 0..3_u8 {
                let found = trie.remove(&filter(id.into()));
                assert!(matches!(found, Some(Subscribers::One((only, ()))) if only == u32::from(id)), "{first} {id}");
            }
        }
    }

    /// Neither an only child nor a '+' costs a slot of the table, before and after the nodes have got new places.
    #[test]
    fn only_those_of_several_children_have_slots_after_compaction() {
        let mut trie = trie();
        let long = format!("{}+", "a/b/+/".repeat(40));
        for (id, filter) in (0..).zip(["a/+/+", "a/b/+", &long]) {
            trie.insert(filter.as_bytes(), filter.split('/').count(), Subscribers::One((id, ()))).unwrap();
        }
        assert_eq!((trie.nodes.places(), trie.edges.heap_bytes()), (124, 0));
        trie.remove(long.as_bytes()).unwrap();
        assert_eq!((trie.nodes.places(), trie.edges.heap_bytes()), (6, 0));
        assert_eq!(ids(&trie, "a/b/c"), [1, 0]);

        let siblings = ["a/c/+", "a/d/+"];
        for (id, filter) in (3..).zip([siblings[0], siblings[1], &long]) {
            trie.insert(filter.as_bytes(), 3, Subscribers::One((id, ()))).unwrap();
        }
        trie.remove(long.as_bytes()).unwrap();
        let mut fresh = IdTable::default();
        (0..3).for_each(|id| fresh.insert(id, id));
        assert_eq!((trie.nodes.places(), trie.edges.heap_bytes()), (10, fresh.heap_bytes()));
        assert_eq!(["b", "c", "d"].map(|level| ids(&trie, &format!("a/{level}/x"))), [[1, 0], [3, 0], [4, 0]]);
    }

    #[test]
    fn a_trie_that_has_lost_most_filters_is_compacted() {
        let mut trie = trie();
        for id in 0..2_000 {
            let filter = format!("a/a rather long level {id}/+/{}/#", id % 10);
            trie.insert(filter.as_bytes(), 5, Subscribers::One((id, ()))).unwrap();
        }
        let full = trie.heap_bytes();

        for id in (0..2_000).filter(|id| id % 50 != 7) {
            let filter = format!("a/a rather long level {id}/+/{}/#", id % 10);
            assert!(trie.remove(filter.as_bytes()).is_some());
        }

        assert!(trie.heap_bytes() * 8 < full, "{} of {full}", trie.heap_bytes());
        for id in 0..2_000 {
            let expected: &[u32] = if id % 50 == 7 { &[id] } else { &[] };
            assert_eq!(ids(&trie, &format!("a/a rather long level {id}/b/{}/c", id % 10)), expected);
        }
        for id in (0..2_000).filter(|id| id % 50 == 7) {
            let filter = format!("a/a rather long level {id}/+/{}/#", id % 10);
            assert!(trie.remove(filter.as_bytes()).is_some());
        }
        assert_eq!(trie.heap_bytes(), 0);
    }
}
