//! The commit gate: what promises something leaves after the journal group that makes it true is durable.

use alloc::{collections::VecDeque, vec::Vec};

use crate::{CommitId, ConnectionId, connections::Gate, sessions::SessionKey};

/// What a commit sets free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The CONNACK of a session that outlives its connection.
    Connack(ConnectionId),
    /// Acknowledgements of a connection.
    Acks(ConnectionId),
    /// Messages published at QoS 2 by a session.
    Held(SessionKey),
    /// Messages whose publisher is gone.
    AfterCommit,
}

#[derive(Debug)]
struct Group {
    id: CommitId,
    releases: Vec<Release>,
}

/// One group is built per call into the core; groups commit in their order.
#[derive(Debug)]
pub(crate) struct CommitGate {
    next: u64,
    committed: u64,
    building: Vec<Release>,
    is_building: bool,
    waiting: VecDeque<Group>,
    spare: Vec<Vec<Release>>,
}

/// Emptied lists kept for later groups.
const SPARE: usize = 4;

impl CommitGate {
    pub(crate) const fn new() -> Self {
        Self {
            next: 1,
            committed: 0,
            building: Vec::new(),
            is_building: false,
            waiting: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// The group of this call; what it records commits with everything else this call records.
    pub(crate) fn record(&mut self, release: Option<Release>) -> CommitId {
        self.is_building = true;
        if let Some(release) = release {
            // A client's messages and their acknowledgements are recorded in turn.
            if self.building.iter().rev().take(2).all(|recorded| *recorded != release) {
                self.building.push(release);
            }
        }
        CommitId(self.next)
    }

    /// Ends the group of this call, if it recorded anything.
    pub(crate) fn close(&mut self) -> Option<CommitId> {
        if !self.is_building {
            return None;
        }
        self.is_building = false;
        let id = CommitId(self.next);
        self.next += 1;
        let releases = core::mem::replace(&mut self.building, self.spare.pop().unwrap_or_default());
        self.waiting.push_back(Group { id, releases });
        Some(id)
    }

    /// Has this call recorded anything?
    #[inline]
    pub(crate) const fn is_building(&self) -> bool {
        self.is_building
    }

    pub(crate) const fn is_committed(&self, id: CommitId) -> bool {
        id.0 <= self.committed
    }

    /// Whether what waits for `gate` may go on, as far as commits decide it.
    #[inline]
    pub(crate) fn is_open(&self, gate: Gate) -> bool {
        match gate {
            Gate::Open => true,
            Gate::Commit(commit) => self.is_committed(commit),
            Gate::Decision => false,
        }
    }

    /// The releases of the next group up to `id`. Numbers that were never given out commit nothing.
    pub(crate) fn commit(&mut self, id: CommitId) -> Option<Vec<Release>> {
        if self.waiting.front()?.id > id {
            return None;
        }
        let group = self.waiting.pop_front()?;
        self.committed = group.id.0;
        Some(group.releases)
    }

    /// Gives an emptied list back.
    pub(crate) fn recycle(&mut self, mut releases: Vec<Release>) {
        if self.spare.len() < SPARE {
            releases.clear();
            self.spare.push(releases);
        }
    }

    /// Groups not durable yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(slot: u32) -> Release {
        Release::Acks(ConnectionId { slot, generation: 1 })
    }

    #[test]
    fn a_call_that_records_nothing_makes_no_group() {
        assert_eq!(CommitGate::new().close(), None);
    }

    #[test]
    fn groups_commit_in_order_and_a_commit_takes_the_earlier_ones_along() {
        let mut gate = CommitGate::new();
        let first = gate.record(Some(acks(1)));
        assert_eq!(gate.record(Some(acks(1))), first, "one group per call, one release per connection");
        assert_eq!(gate.close(), Some(first));
        let second = gate.record(Some(acks(2)));
        assert_eq!(gate.waiting(), 1, "a group that is not closed waits for nothing");
        assert_eq!(gate.close(), Some(second));
        assert_eq!((gate.commit(CommitId(0)), gate.waiting()), (None, 2));
        assert_eq!(gate.commit(second), Some(alloc::vec![acks(1)]));
        assert!(gate.is_committed(first) && !gate.is_committed(second));
        assert_eq!(gate.commit(second), Some(alloc::vec![acks(2)]));
        assert_eq!((gate.commit(second), gate.waiting()), (None, 0));
    }

    #[test]
    fn a_few_emptied_lists_are_used_again() {
        let mut gate = CommitGate::new();
        for slot in 0..=4 {
            gate.recycle(alloc::vec![acks(slot); 10]);
        }
        assert_eq!(gate.spare.len(), SPARE);
        gate.record(Some(acks(9)));
        gate.close();
        assert!(
            gate.building.is_empty() && gate.building.capacity() >= 10,
            "the next group has the memory of an old one"
        );
        assert_eq!(gate.spare.len(), SPARE - 1);
    }

    #[test]
    fn an_id_that_was_never_given_out_commits_only_what_there_is() {
        let mut gate = CommitGate::new();
        let id = gate.record(None);
        assert!(!gate.is_committed(id));
        gate.close();
        assert!(gate.commit(CommitId(99)).is_some());
        assert_eq!(gate.commit(CommitId(99)), None);
        let next = gate.record(None);
        assert!(!gate.is_committed(next));
    }
}
