//! The order of topics, and what it says about a filter.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::relation::next_level;
use crate::store::{grow, heap_bytes, shrink};
use crate::text::common_prefix;

/// Compares two texts so that a topic comes directly before the topics below it: '/' is lower than all other characters.
#[inline]
pub(super) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let at = common_prefix(a, b);
    rank(a, at).cmp(&rank(b, at)).then(a.len().cmp(&b.len()))
}

/// No text contains U+0000, so its place is free.
#[inline]
fn rank(text: &[u8], at: usize) -> u8 {
    match text.get(at) {
        Some(b'/') | None => 0,
        Some(byte) => *byte,
    }
}

/// What a name says about the names behind it, for one filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'f> {
    /// The name matches.
    Match,
    /// It does not, but the next may.
    Next,
    /// The next that may match starts with so many bytes of this name, followed by at least this level.
    Seek(usize, &'f [u8]),
    /// The next that may match is behind all names below the one of so many bytes.
    SkipBelow(usize),
    /// None behind this name matches.
    End,
}

/// Compares a name with a filter, level by level.
pub(super) fn judge<'f>(filter: &'f [u8], name: &[u8]) -> Verdict<'f> {
    let mut levels = Some(filter);
    let mut start = 0;
    let mut last_plus = None;
    while let Some(expected) = next_level(&mut levels) {
        if expected == b"#" {
            return Verdict::Match;
        }
        let Some(rest) = name.get(start..) else { return Verdict::Next };
        let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        if expected == b"+" {
            last_plus = Some(start + len);
        } else {
            match compare(rest.get(..len).unwrap_or_default(), expected) {
                Ordering::Equal => {}
                Ordering::Less => return Verdict::Seek(start, expected),
                Ordering::Greater => return last_plus.map_or(Verdict::End, Verdict::SkipBelow),
            }
        }
        start += len + 1;
    }
    if start > name.len() { Verdict::Match } else { Verdict::SkipBelow(start - 1) }
}

/// Ids in the order of their texts, in blocks: one is put in or taken out without moving all the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    blocks: Vec<Vec<u32>>,
}

/// A place in the order. Valid until the next change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    block: usize,
    at: usize,
}

impl Place {
    /// The place behind.
    #[inline]
    pub(super) fn next(self) -> Self {
        Self { at: self.at + 1, ..self }
    }
}

/// The most ids of a block.
const BLOCK: usize = 256;

impl Order {
    /// The place of the first id whose text is not below a bound.
    pub(super) fn lower_bound<'t>(&self, bound: &[u8], text: impl Fn(u32) -> &'t [u8]) -> Place {
        let is_below = |id: &u32| compare(text(*id), bound).is_lt();
        let block = self.blocks.partition_point(|block| block.first().is_some_and(is_below)).saturating_sub(1);
        let at = self.blocks.get(block).map_or(0, |ids| ids.partition_point(is_below));
        Place { block, at }
    }

    /// As [`lower_bound`](Self::lower_bound), for a bound that is probably close behind a place.
    pub(super) fn lower_bound_near<'t>(&self, place: Place, bound: &[u8], text: impl Fn(u32) -> &'t [u8]) -> Place {
        let is_below = |id: &u32| compare(text(*id), bound).is_lt();
        let ids = self.blocks.get(place.block).and_then(|ids| ids.get(place.at..)).unwrap_or_default();
        match ids.iter().take(NEAR).position(|id| !is_below(id)) {
            Some(skip) => Place { at: place.at + skip, ..place },
            None if ids.last().is_some_and(|last| !is_below(last)) => {
                Place { at: place.at + ids.partition_point(is_below), ..place }
            }
            None => self.lower_bound(bound, text),
        }
    }

    /// The id at a place or at the beginning of the next block.
    #[inline]
    pub(super) fn get(&self, place: &mut Place) -> Option<u32> {
        loop {
            let ids = self.blocks.get(place.block)?;
            if let Some(id) = ids.get(place.at) {
                return Some(*id);
            }
            *place = Place { block: place.block + 1, at: 0 };
        }
    }

    /// Puts an id at a place.
    pub(super) fn insert(&mut self, place: Place, id: u32) {
        let Some(ids) = self.blocks.get_mut(place.block) else {
            self.blocks.push(vec![id]);
            return;
        };
        if ids.len() < BLOCK {
            grow(ids);
            ids.insert(place.at, id);
            return;
        }
        // Ids that come in order leave full blocks behind.
        let half = if place.at == ids.len() { ids.len() } else { ids.len() / 2 };
        let mut rest = ids.split_off(half);
        if place.at > half || rest.is_empty() {
            grow(&mut rest);
            rest.insert(place.at - half, id);
        } else {
            ids.insert(place.at, id);
        }
        grow(&mut self.blocks);
        self.blocks.insert(place.block + 1, rest);
    }

    /// Takes the id at a place out.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(ids) = self.blocks.get_mut(place.block) else { return };
        if place.at < ids.len() {
            ids.remove(place.at);
        }
        let len = |block: usize| self.blocks.get(block).map_or(BLOCK, Vec::len);
        if len(place.block) == 0 {
            self.blocks.remove(place.block);
        } else if place.block > 0 && len(place.block - 1) + len(place.block) <= BLOCK / 2 {
            self.join(place.block - 1);
        } else if len(place.block) + len(place.block + 1) <= BLOCK / 2 {
            self.join(place.block);
        }
        shrink(&mut self.blocks);
    }

    /// Joins a block and the next one.
    fn join(&mut self, block: usize) {
        let mut next = self.blocks.remove(block + 1);
        if let Some(ids) = self.blocks.get_mut(block) {
            ids.append(&mut next);
            shrink(ids);
        }
    }

    /// Puts another id in the place of one.
    pub(super) fn replace(&mut self, place: Place, id: u32) {
        if let Some(old) = self.blocks.get_mut(place.block).and_then(|ids| ids.get_mut(place.at)) {
            *old = id;
        }
    }

    /// All ids.
    pub(super) fn iter(&self) -> core::iter::Flatten<core::slice::Iter<'_, Vec<u32>>> {
        self.blocks.iter().flatten()
    }

    /// The bytes asked of the allocator.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(&self.blocks) + self.blocks.iter().map(heap_bytes).sum::<usize>()
    }
}

/// So many ids are looked at one by one before a search begins.
const NEAR: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::to_usize;
    use alloc::{format, string::String};
    use proptest::prelude::*;

    #[test]
    fn a_topic_comes_directly_before_the_topics_below_it() {
        let order =
            ["", "/", "/a", "a", "a/", "a/b", "a/b/c", "a/b!", "a!", "a-b", "a-b/c", "b", "long text/a", "long text!"];
        for (at, a) in order.iter().enumerate() {
            for (other, b) in order.iter().enumerate() {
                assert_eq!(compare(a.as_bytes(), b.as_bytes()), at.cmp(&other), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_verdict_leads_to_the_next_name_that_can_match() {
        for (filter, name, verdict) in [
            ("a/#", "a", Verdict::Match),
            ("a/#", "a/b/c", Verdict::Match),
            ("a/#", "b", Verdict::End),
            ("a/+", "a", Verdict::Next),
            ("a/+", "a/b/c", Verdict::SkipBelow(3)),
            ("+/c", "a/b", Verdict::Seek(2, b"c")),
            ("+/c", "a/d", Verdict::SkipBelow(1)),
            ("+/c/+", "a/d", Verdict::SkipBelow(1)),
            ("+/c/d", "a/c", Verdict::Next),
            ("a/+/c", "a/x/b", Verdict::Seek(4, b"c")),
            ("b/+", "a", Verdict::Seek(0, b"b")),
        ] {
            assert_eq!(judge(filter.as_bytes(), name.as_bytes()), verdict, "{filter} {name}");
        }
    }

    const TEXTS: u32 = 2_000;

    /// Rising keys fill their blocks, and what becomes small joins a neighbour.
    #[test]
    fn blocks_are_filled_in_turn_and_joined_when_they_are_small() {
        let texts: Vec<String> = (0..TEXTS).map(|id| format!("{id:05}")).collect();
        let text = |id: u32| texts[to_usize(id)].as_bytes();
        // 1,003 and 2,000 have no common factor: every id once.
        let orders: [fn(u32) -> u32; 3] = [|step| step * 1_003 % TEXTS, |step| step, |step| TEXTS - 1 - step];
        for key in orders {
            let mut order = Order::default();
            for id in 0..TEXTS {
                order.insert(order.lower_bound(text(id), text), id);
            }
            assert!(order.blocks.iter().rev().skip(1).all(|block| block.len() == BLOCK));
            for step in 0..TEXTS {
                let mut place = order.lower_bound(text(key(step)), text);
                assert_eq!(order.get(&mut place), Some(key(step)));
                order.remove(place);
                assert!(order.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
                for pair in order.blocks.windows(2) {
                    assert!(pair[0].len() + pair[1].len() > BLOCK / 2, "{step} of {TEXTS} are gone");
                }
            }
            assert_eq!(order.heap_bytes(), 0);
        }
    }

    /// Wherever a search begins, and however near the bound is.
    #[test]
    fn a_search_from_a_place_finds_what_a_search_from_the_beginning_finds() {
        let texts: Vec<String> = (0..600).map(|id| format!("{id:05}")).collect();
        let text = |id: u32| texts[to_usize(id)].as_bytes();
        let mut order = Order::default();
        (0..600).for_each(|id| order.insert(order.lower_bound(text(id), text), id));
        for from in (0..600).step_by(7) {
            let place = order.lower_bound(text(from), text);
            for bound in from..600 {
                let mut found = order.lower_bound_near(place, text(bound), text);
                assert_eq!(order.get(&mut found), Some(bound), "from {from}");
            }
            assert_eq!(order.get(&mut order.lower_bound_near(place, b"1", text)), None);
        }
    }

    #[test]
    fn a_last_block_that_becomes_small_joins_the_one_before() {
        let texts: Vec<String> = (0..300).map(|id| format!("{id:05}")).collect();
        let text = |id: u32| texts[to_usize(id)].as_bytes();
        let mut order = Order::default();
        (0..300).for_each(|id| order.insert(order.lower_bound(text(id), text), id));
        let lens = |order: &Order| order.blocks.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(&order), [256, 44]);
        let remove = |order: &mut Order, id: u32| {
            let mut place = order.lower_bound(text(id), text);
            assert_eq!(order.get(&mut place), Some(id));
            order.remove(place);
        };
        (0..156).chain(256..271).for_each(|id| remove(&mut order, id));
        assert_eq!(lens(&order), [100, 29]);
        remove(&mut order, 299);
        assert_eq!(lens(&order), [128]);
        assert!(order.iter().copied().eq((156..256).chain(271..299)));
    }

    #[test]
    fn nothing_is_taken_out_behind_the_last() {
        let text = |id: u32| if id == 0 { &b"a"[..] } else { b"b" };
        let mut order = Order::default();
        (0..2).for_each(|id| order.insert(order.lower_bound(text(id), text), id));
        order.remove(order.lower_bound(b"c", text));
        assert!(order.iter().eq(&[0, 1]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        /// Keys in rising order split blocks elsewhere than scattered ones.
        #[test]
        fn an_order_stays_sorted(
            steps in prop::collection::vec((prop::bool::weighted(0.7), 0..TEXTS), 0..2_000),
            rising in any::<bool>(),
        ) {
            let texts: Vec<String> = (0..TEXTS).map(|id| format!("{id:05}")).collect();
            let text = |id: u32| texts[to_usize(id)].as_bytes();
            let mut order = Order::default();
            for (step, (insert, key)) in (0..).zip(steps) {
                let id = if rising { step } else { key };
                let mut place = order.lower_bound(text(id), text);
                let is_there = order.get(&mut place.clone()) == Some(id);
                if insert && !is_there {
                    order.insert(place, id);
                } else if is_there {
                    order.get(&mut place);
                    order.remove(place);
                }
                prop_assert!(order.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
            }
            prop_assert!(order.iter().is_sorted_by(|a, b| compare(text(**a), text(**b)).is_lt()));
        }
    }
}
