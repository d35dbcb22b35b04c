//! The members of share groups, each group's in three rings: who had its turn last is at the end.
//!
//! A ring is what was found out about its members when they were looked at last. Those found without room or connection
//! are parked outside the first ring, until their session says that it is reachable again; so each of them is looked at
//! once for each time it comes and goes, however many there are.

use alloc::{collections::BTreeSet, vec::Vec};

use damselfly_topic::KeyedState;
use hashbrown::HashMap;

use crate::{route::PackedOptions, slab::Slab};

/// How soon a member gets a message. The sooner, the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readiness {
    Ready,
    Busy,
    Offline,
}

/// Some members of one group, in the order of their turns.
#[derive(Clone, Copy, Debug)]
struct Ring {
    first: u32,
    last: u32,
    len: usize,
}

const NONE: u32 = u32::MAX;

impl Ring {
    const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };
}

/// The rings of one group.
#[derive(Debug)]
pub(crate) struct Rings {
    ready: Ring,
    busy: Ring,
    offline: Ring,
}

impl Rings {
    pub(crate) const EMPTY: Self = Self { ready: Ring::EMPTY, busy: Ring::EMPTY, offline: Ring::EMPTY };

    pub(crate) const fn is_empty(&self) -> bool {
        self.ready.len + self.busy.len + self.offline.len == 0
    }

    pub(crate) const fn len(&self, of: Readiness) -> usize {
        self.ring(of).len
    }

    const fn ring(&self, of: Readiness) -> &Ring {
        match of {
            Readiness::Ready => &self.ready,
            Readiness::Busy => &self.busy,
            Readiness::Offline => &self.offline,
        }
    }

    const fn ring_mut(&mut self, of: Readiness) -> &mut Ring {
        match of {
            Readiness::Ready => &mut self.ready,
            Readiness::Busy => &mut self.busy,
            Readiness::Offline => &mut self.offline,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) group: u32,
    pub(crate) session: u32,
    pub(crate) options: PackedOptions,
    /// The ring it is in.
    readiness: Readiness,
    before: u32,
    behind: u32,
}

/// The members of all groups.
#[derive(Debug)]
pub(crate) struct Members {
    slots: Slab<Member>,
    /// By group and session.
    by_session: HashMap<(u32, u32), u32, KeyedState>,
    /// Sessions and their members that are in no first ring.
    parked: BTreeSet<(u32, u32)>,
}

impl Members {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: Slab::new(), by_session: HashMap::with_hasher(KeyedState::new(seed)), parked: BTreeSet::new() }
    }

    pub(crate) fn find(&self, group: u32, session: u32) -> Option<&Member> {
        self.slots.get(*self.by_session.get(&(group, session))?)
    }

    /// True if it is new; else its options are other ones now.
    pub(crate) fn join(&mut self, rings: &mut Rings, group: u32, session: u32, options: PackedOptions) -> bool {
        if let Some(slot) = self.by_session.get(&(group, session)) {
            if let Some(member) = self.slots.get_mut(*slot) {
                member.options = options;
            }
            return false;
        }
        let member = Member { group, session, options, readiness: Readiness::Ready, before: NONE, behind: NONE };
        let (slot, _) = self.slots.insert(member);
        self.by_session.insert((group, session), slot);
        self.append(rings, slot);
        true
    }

    /// True if it was a member.
    pub(crate) fn leave(&mut self, rings: &mut Rings, group: u32, session: u32) -> bool {
        let Some(slot) = self.by_session.remove(&(group, session)) else { return false };
        self.take_out(rings, slot);
        self.parked.remove(&(session, slot));
        self.slots.remove(slot);
        true
    }

    /// Whose turn it is in one of the rings of a group, `but` being left out: the slot of the member and the member.
    pub(crate) fn first(&self, rings: &Rings, of: Readiness, but: Option<u32>) -> Option<(u32, &Member)> {
        let slot = rings.ring(of).first;
        let member = self.slots.get(slot)?;
        if Some(member.session) != but {
            return Some((slot, member));
        }
        Some((member.behind, self.slots.get(member.behind)?))
    }

    /// Puts a member at the end of the ring where it belongs.
    pub(crate) fn requeue(&mut self, rings: &mut Rings, slot: u32, readiness: Readiness) {
        let is_alone =
            self.slots.get(slot).is_some_and(|member| member.readiness == readiness && member.behind == NONE);
        if is_alone {
            return;
        }
        self.take_out(rings, slot);
        let Some(member) = self.slots.get_mut(slot) else { return };
        member.readiness = readiness;
        let parked = (member.session, slot);
        if readiness == Readiness::Ready {
            self.parked.remove(&parked);
        } else {
            self.parked.insert(parked);
        }
        self.append(rings, slot);
    }

    /// The members of a session that are parked, with their groups.
    pub(crate) fn parked(&self, session: u32) -> Vec<(u32, u32)> {
        let slots = self.parked.range((session, 0)..=(session, NONE)).map(|(_, slot)| *slot);
        slots.filter_map(|slot| Some((slot, self.slots.get(slot)?.group))).collect()
    }

    /// Sessions with parked members.
    pub(crate) fn parked_sessions(&self) -> impl Iterator<Item = u32> {
        self.parked.iter().map(|(session, _)| *session)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.slots.heap_bytes() + self.by_session.allocation_size() + self.parked.len() * size_of::<(u32, u32)>()
    }

    fn take_out(&mut self, rings: &mut Rings, slot: u32) {
        let Some(member) = self.slots.get_mut(slot) else { return };
        let ring = rings.ring_mut(member.readiness);
        let (before, behind) = (member.before, member.behind);
        (member.before, member.behind) = (NONE, NONE);
        match self.slots.get_mut(before) {
            Some(member) => member.behind = behind,
            None => ring.first = behind,
        }
        match self.slots.get_mut(behind) {
            Some(member) => member.before = before,
            None => ring.last = before,
        }
        ring.len -= 1;
    }

    fn append(&mut self, rings: &mut Rings, slot: u32) {
        let Some(member) = self.slots.get_mut(slot) else { return };
        let ring = rings.ring_mut(member.readiness);
        member.before = ring.last;
        match self.slots.get_mut(ring.last) {
            Some(last) => last.behind = slot,
            None => ring.first = slot,
        }
        ring.last = slot;
        ring.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_their_places_and_two_numbers_more_while_they_are_parked() {
        const COUNT: usize = 100;
        let mut members = Members::new(1);
        let mut rings = Rings::EMPTY;
        assert_eq!(members.heap_bytes(), 0);
        for session in 0..u32::try_from(COUNT).unwrap() {
            assert!(members.join(&mut rings, 7, session, PackedOptions::default()));
        }
        let joined = members.heap_bytes();
        let least = COUNT * (size_of::<Member>() + size_of::<((u32, u32), u32)>());
        assert!((least..4 * least).contains(&joined), "{joined}, at least {least}");
        for parked in 1..=5 {
            let (slot, _) = members.first(&rings, Readiness::Ready, None).unwrap();
            members.requeue(&mut rings, slot, Readiness::Busy);
            assert_eq!(members.heap_bytes(), joined + parked * 8);
            let count = |of| rings.len(of);
            assert_eq!([count(Readiness::Ready), count(Readiness::Busy)], [COUNT - parked, parked]);
        }
        assert!(members.find(7, 0).is_some() && members.find(8, 0).is_none() && members.find(7, 100).is_none());
    }
}
