//! When to try again: exponential backoff with full jitter.

use core::time::Duration;

use damselfly_session::Timestamp;

/// How long to wait between attempts to connect: a random time between zero and a ceiling that doubles with each
/// attempt. The jitter is *full* so that a thousand clients cut off at once do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Backoff {
    /// The ceiling of the first wait. Default: 1 s.
    pub first: Duration,
    /// The ceiling of all waits. Default: 60 s.
    pub longest: Duration,
    /// A connection that lasted this long sets the count of attempts back. Default: 10 s.
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), stable_after: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// The longest wait before attempt number `attempt`; the first attempt of all is number 1 and waits for nothing.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(2) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// When attempt number `attempt` may start.
    pub(crate) fn not_before(&self, attempt: u32, now: Timestamp, random: &mut Random) -> Timestamp {
        let ceiling = u64::try_from(self.ceiling(attempt).as_micros()).unwrap_or(u64::MAX);
        now.saturating_add(Duration::from_micros(random.up_to(ceiling)))
    }
}

/// A small generator of well-spread numbers (SplitMix64). All its randomness is the seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `limit`, both included.
    fn up_to(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * (u128::from(limit) + 1);
        u64::try_from(product >> 64).unwrap_or(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_doubles_from_the_second_attempt_up_to_the_longest_wait() {
        let backoff = Backoff { first: Duration::from_secs(3), longest: Duration::from_secs(20), ..Backoff::default() };
        let ceilings: alloc::vec::Vec<u64> = (0..7).map(|attempt| backoff.ceiling(attempt).as_secs()).collect();
        assert_eq!(ceilings, [0, 0, 3, 6, 12, 20, 20]);
        assert_eq!(backoff.ceiling(u32::MAX), Duration::from_secs(20));
    }

    #[test]
    fn waits_fill_the_whole_range_below_the_ceiling() {
        let backoff = Backoff { first: Duration::from_micros(3), ..Backoff::default() };
        let mut random = Random::new(7);
        let mut seen = [0_u32; 4];
        for _ in 0..400 {
            let wait =
                backoff.not_before(2, Timestamp::from_secs(5), &mut random).saturating_since(Timestamp::from_secs(5));
            seen[usize::try_from(wait.as_micros()).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
    }

    #[test]
    fn same_seed_gives_the_same_waits() {
        let waits = |seed| {
            let mut random = Random::new(seed);
            [(); 3].map(|()| Backoff::default().not_before(9, Timestamp::ZERO, &mut random))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
