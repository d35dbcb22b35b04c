//! All chance in the house, from its seed.

use std::time::Duration;

use damselfly_topic::KeyedState;

/// Numbers that look random and follow from the seed.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    state: KeyedState,
    count: u64,
}

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: KeyedState::new(seed), count: 0 }
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.state.hash_word(self.count)
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high.saturating_sub(low)) + 1;
        low.saturating_add(u32::try_from((self.next() >> 33) % span).unwrap_or(0))
    }

    /// Milliseconds from `low` to `high`.
    pub(super) fn millis(&mut self, low: u32, high: u32) -> Duration {
        Duration::from_millis(self.between(low, high).into())
    }

    /// True once in so many times.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.between(1, times) == 1
    }

    /// From -1 to 1.
    pub(super) fn around_zero(&mut self) -> f64 {
        f64::from(self.between(0, 2_000)) / 1_000.0 - 1.0
    }

    /// One of so many, from 0 on.
    pub(super) fn index(&mut self, len: usize) -> usize {
        let last = u32::try_from(len).unwrap_or(u32::MAX).saturating_sub(1);
        usize::try_from(self.between(0, last)).unwrap_or(0)
    }
}
