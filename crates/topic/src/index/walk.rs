//! The way of a name through the trie.

use core::ops::ControlFlow;

use super::MAX_LEVELS;
use super::levels::{Cut, Level};
use super::subscribers::{Lists, Pieces, Subscribers};
use super::trie::{ROOT, Trie};
use crate::num::to_usize;
use crate::store::NONE;

/// Levels that a walk keeps on its stack in the usual case.
const SHALLOW: usize = 16;

impl<K: Copy + Ord, V: Copy> Trie<K, V> {
    /// Calls `found` with the subscribers of each filter that matches a name, and `go` at the beginning of each way down
    /// with the most nodes it can have, until one of them breaks.
    #[inline]
    pub(crate) fn visit<B>(
        &self,
        name: &[u8],
        lists: &Lists<K, V>,
        go: &mut impl FnMut(usize) -> ControlFlow<B>,
        found: &mut impl FnMut(&[(K, V)]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if self.is_empty() {
            return ControlFlow::Continue(());
        }
        if self.deepest() <= SHALLOW {
            return self.walk::<SHALLOW, B>(name, lists, go, found);
        }
        self.walk::<MAX_LEVELS, B>(name, lists, go, found)
    }

    /// Depth first. Where both '+' and the level itself lead on, '+' waits on a stack: one place per level is enough.
    #[inline]
    fn walk<const LEVELS: usize, B>(
        &self,
        name: &[u8],
        lists: &Lists<K, V>,
        go: &mut impl FnMut(usize) -> ControlFlow<B>,
        found: &mut impl FnMut(&[(K, V)]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut cut = Cut::new(name);
        let mut levels = [Level::default(); LEVELS];
        let mut count = 0;
        for level in &mut levels {
            let Some(next) = cut.next(self.hash()) else { break };
            *level = next;
            count += 1;
        }
        let is_cut_short = cut.has_more();
        let mut waiting = [(NONE, 0_u32); LEVELS];
        let mut waits = 0_usize;
        let (mut id, mut depth) = (ROOT, 0_u32);
        go(to_usize(count) + 1)?;
        let mut next = self.node(id);
        // Past the wildcards of the root. [MQTT-4.7.2-1]
        if name.first() == Some(&b'$') {
            let Some((child, there)) =
                levels.first().zip(next).and_then(|(level, root)| self.child(id, root, *level, name))
            else {
                return ControlFlow::Continue(());
            };
            (id, depth, next) = (child, 1, Some(there));
        }
        while let Some(node) = next.take() {
            if node.below != NONE {
                self.emit(node.below, lists, found)?;
            }
            let mut plus = NONE;
            if depth < count {
                if node.children.is_some() {
                    let level = levels.get(to_usize(depth)).copied().unwrap_or_default();
                    if let Some((child, there)) = self.child(id, node, level, name) {
                        (id, next) = (child, Some(there));
                    }
                }
                depth += 1;
                plus = node.plus;
            } else if node.here != NONE && !is_cut_short {
                self.emit(node.here, lists, found)?;
            }
            if next.is_none() {
                if plus == NONE {
                    let Some(last) = waits.checked_sub(1) else { break };
                    waits = last;
                    (plus, depth) = waiting.get(last).copied().unwrap_or((NONE, 0));
                    go(to_usize(count - depth) + 1)?;
                }
                id = plus;
                next = self.node(id);
            } else if plus != NONE {
                if let Some(place) = waiting.get_mut(waits) {
                    *place = (plus, depth);
                    waits += 1;
                }
            }
        }
        ControlFlow::Continue(())
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "most filters have one subscriber; measured")]
    fn emit<B>(
        &self,
        set: u32,
        lists: &Lists<K, V>,
        found: &mut impl FnMut(&[(K, V)]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self.set(set) {
            Some(Subscribers::One(only)) => found(core::slice::from_ref(only)),
            Some(subscribers) => emit_all(lists.pieces(subscribers), found),
            None => ControlFlow::Continue(()),
        }
    }
}

#[inline(never)]
fn emit_all<K, V, B>(
    mut pieces: Pieces<'_, K, V>,
    found: &mut impl FnMut(&[(K, V)]) -> ControlFlow<B>,
) -> ControlFlow<B> {
    pieces.try_for_each(found)
}
