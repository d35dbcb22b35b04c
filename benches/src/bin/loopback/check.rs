//! What arrived against what was sent: lost, twice, out of order, in the wrong place.

use serde_json::{Value, json};

/// How far ahead of the oldest missing message of a publisher one may arrive and still be told from a duplicate.
const HORIZON: u64 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// For somebody else, or not one of ours.
    pub misplaced: u64,
}

impl Faults {
    pub fn none(self) -> bool {
        self == Self::default()
    }

    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.misplaced += other.misplaced;
    }

    pub fn json(self) -> Value {
        json!({"lost": self.lost, "duplicated": self.duplicated, "reordered": self.reordered, "misplaced": self.misplaced})
    }
}

/// Messages of one publisher as one receiver, or one share group, has seen them.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// All sequences below were seen or given up.
    base: u64,
    /// Bit n: `base + n` was seen.
    ahead: u64,
}

impl Seen {
    /// True the first time.
    fn mark(&mut self, sequence: u64) -> bool {
        if sequence < self.base {
            return false;
        }
        if sequence == self.base && self.ahead == 0 {
            self.base += 1;
            return true;
        }
        while sequence - self.base >= HORIZON {
            self.base += 1;
            self.ahead >>= 1;
        }
        let bit = 1 << (sequence - self.base);
        let first = self.ahead & bit == 0;
        self.ahead |= bit;
        let whole = self.ahead.trailing_ones();
        self.base += u64::from(whole);
        self.ahead = self.ahead.checked_shr(whole).unwrap_or(0);
        first
    }
}

/// The book of one run.
pub struct Check {
    publishers: usize,
    /// One group for all receivers (shared subscription) or one each.
    grouped: bool,
    seen: Vec<Seen>,
    /// The next sequence that would be in order, per receiver and publisher.
    next: Vec<u64>,
    unique: u64,
    faults: Faults,
}

impl Check {
    pub fn new(publishers: usize, receivers: usize, grouped: bool) -> Self {
        let groups = if grouped { 1 } else { receivers };
        Self {
            publishers,
            grouped,
            seen: vec![Seen::default(); groups * publishers],
            next: vec![0; receivers * publishers],
            unique: 0,
            faults: Faults::default(),
        }
    }

    /// True when this is the first copy for its receiver or group.
    pub fn record(&mut self, receiver: usize, publisher: usize, sequence: u64) -> bool {
        let group = if self.grouped { 0 } else { receiver };
        let next = &mut self.next[receiver * self.publishers + publisher];
        let in_order = sequence >= *next;
        *next = (*next).max(sequence + 1);
        if !self.seen[group * self.publishers + publisher].mark(sequence) {
            self.faults.duplicated += 1;
            return false;
        }
        if !in_order {
            self.faults.reordered += 1;
        }
        self.unique += 1;
        true
    }

    pub fn misplaced(&mut self) {
        self.faults.misplaced += 1;
    }

    /// The verdict, when this many should have arrived.
    pub fn faults(&self, expected: u64) -> Faults {
        Faults { lost: expected.saturating_sub(self.unique), ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let mut check = Check::new(1, 1, false);
        for sequence in [0, 1, 3, 2, 3, 5] {
            check.record(0, 0, sequence);
        }

        let faults = check.faults(6);

        assert_eq!(faults, Faults { lost: 1, duplicated: 1, reordered: 1, misplaced: 0 });
    }

    #[test]
    fn a_share_group_counts_a_copy_at_another_member_as_a_duplicate() {
        let mut check = Check::new(1, 2, true);
        for (receiver, sequence) in [(0, 0), (1, 1), (1, 0)] {
            check.record(receiver, 0, sequence);
        }

        assert_eq!(check.faults(2), Faults { duplicated: 1, ..Faults::default() });
    }

    #[test]
    fn a_gap_wider_than_the_horizon_does_not_hide_what_follows() {
        let mut check = Check::new(1, 1, false);
        for sequence in [0, 1000, 1001] {
            assert!(check.record(0, 0, sequence));
        }

        assert_eq!(check.faults(1002).lost, 999);
    }
}
