use std::time::Duration;

/// A turn that takes longer than this makes the others wait.
const SLOW: Duration = Duration::from_millis(100);
/// A turn that takes less than this leaves room for more.
const QUICK: Duration = Duration::from_millis(25);
/// Bytes that are read in any case.
const LEAST: usize = 1024;
/// Bytes that are read before it is known how long they take.
const START: usize = 20 * 1024;

/// How many bytes are read from one connection at once. Some packets cost far more than their length says, such as those
/// for very many subscribers or filters: so it begins with few, grows while it is used up and turns are quick, and shrinks
/// while they are not. Very many connections at once can make one turn slow before that is known from the one before: then
/// the rest of the turn reads the least.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    limit: usize,
    is_used_up: bool,
    is_late: bool,
}

impl Pace {
    pub(super) fn new(most: usize) -> Self {
        Self { most, limit: START.min(most), is_used_up: false, is_late: false }
    }

    /// A connection had more to read than this.
    pub(super) fn use_up(&mut self) {
        self.is_used_up = true;
    }

    /// A turn has taken this long and is not over.
    pub(super) fn note_so_far(&mut self, turn: Duration) {
        self.is_late |= turn > SLOW;
    }

    /// A turn took this long.
    pub(super) fn note(&mut self, turn: Duration) {
        self.is_late = false;
        let is_used_up = std::mem::take(&mut self.is_used_up);
        if turn > SLOW {
            self.limit = (self.limit / 2).max(LEAST);
        } else if turn < QUICK && is_used_up {
            self.limit = self.limit.saturating_mul(2).min(self.most);
        } else if turn < QUICK {
            self.limit = (self.limit / 2).max(START).min(self.most);
        }
    }

    pub(super) fn limit(&self) -> usize {
        if self.is_late { LEAST.min(self.limit) } else { self.limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(1);

    fn after(pace: &mut Pace, turn: Duration, is_used_up: bool) -> usize {
        if is_used_up {
            pace.use_up();
        }
        pace.note(turn);
        pace.limit()
    }

    #[test]
    fn it_grows_while_it_is_used_up_and_turns_are_quick() {
        let mut pace = Pace::new(50_000);
        assert_eq!(pace.limit(), START);
        assert_eq!(after(&mut pace, QUICK, true), START);
        assert_eq!(after(&mut pace, Duration::ZERO, true), 2 * START);
        assert_eq!(after(&mut pace, QUICK.saturating_sub(TICK), true), 50_000);
        assert_eq!(after(&mut pace, QUICK, false), 50_000);
        assert_eq!(after(&mut pace, QUICK.saturating_sub(TICK), false), 25_000);
        assert_eq!(after(&mut pace, Duration::ZERO, false), START);
    }

    #[test]
    fn the_rest_of_a_slow_turn_reads_the_least() {
        let mut pace = Pace::new(50_000);
        pace.note_so_far(SLOW);
        assert_eq!(pace.limit(), START, "not slow yet");
        pace.note_so_far(SLOW + TICK);
        assert_eq!(pace.limit(), LEAST);
        pace.note_so_far(SLOW + TICK);
        assert_eq!(pace.limit(), LEAST, "until the turn is over");
        assert_eq!(after(&mut pace, SLOW + TICK, true), START / 2);
    }

    #[test]
    fn it_shrinks_while_turns_are_slow() {
        let mut pace = Pace::new(50_000);
        assert_eq!(after(&mut pace, SLOW, true), START);
        assert_eq!(after(&mut pace, SLOW + TICK, true), START / 2);
        for limit in [5 * 1024, 2_560, 1_280, LEAST, LEAST] {
            assert_eq!(after(&mut pace, Duration::MAX, true), limit);
        }
        assert_eq!(after(&mut pace, Duration::ZERO, false), START);
    }
}
