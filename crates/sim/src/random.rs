//! All chance of a simulated world, from one seed.

use core::time::Duration;

use damselfly_topic::KeyedState;

/// Numbers that look random and are a function of the seed and of how many were asked for.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: KeyedState,
    count: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: KeyedState::new(seed), count: 0 }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.state.hash_word(self.count)
    }

    /// From `low` to `high`, both included; `low` if that is above.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high.saturating_sub(low)) + 1;
        let offset = (u128::from(self.next()) * span) >> 64;
        low + u64::try_from(offset).unwrap_or(0)
    }

    pub(crate) fn duration(&mut self, shortest: Duration, longest: Duration) -> Duration {
        Duration::from_micros(self.between(micros(shortest), micros(longest)))
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_range_are_drawn_and_nothing_beyond() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..200 {
            seen[usize::try_from(random.between(3, 6)).unwrap()] += 1;
        }
        assert!(seen[3..7].iter().all(|count| *count > 20), "{seen:?}");
        assert_eq!(seen.iter().sum::<u32>(), 200);
        assert_eq!(random.between(9, 9), 9);
        assert_eq!(random.between(9, 1), 9);
    }
}
