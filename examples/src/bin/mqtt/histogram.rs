//! How long things took, in a fixed amount of memory.

use std::time::Duration;

/// How many buckets each power of two has: what is read back is at most 1/32 too large.
const FINE_BITS: u32 = 5;
const FINE: u64 = 1 << FINE_BITS;
/// Up to this power of two microseconds, which is about 19 hours.
const POWERS: u32 = 36;

/// Counts durations in buckets that grow with what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    longest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        let len = FINE * u64::from(POWERS - FINE_BITS + 1);
        Self { buckets: vec![0; usize::try_from(len).unwrap_or(usize::MAX)], count: 0, longest: 0 }
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let last = self.buckets.len() - 1;
        let at = usize::try_from(bucket(micros)).unwrap_or(last).min(last);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.count += 1;
        self.longest = self.longest.max(micros);
    }

    /// The duration that so many of a thousand do not exceed; zero if there is none.
    pub(crate) fn per_mille(&self, part: u64) -> Duration {
        let wanted = (self.count * part).div_ceil(1_000);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let micros = u64::try_from(at).map_or(u64::MAX, largest_of).min(self.longest);
                return Duration::from_micros(micros);
            }
        }
        Duration::ZERO
    }

    pub(crate) const fn longest(&self) -> Duration {
        Duration::from_micros(self.longest)
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
        self.longest = 0;
    }
}

/// Values below `FINE` have a bucket each; above, the bits after the highest one choose among `FINE`.
fn bucket(micros: u64) -> u64 {
    if micros < FINE {
        return micros;
    }
    let shift = micros.ilog2() - FINE_BITS;
    FINE * u64::from(shift) + (micros >> shift)
}

/// The largest value of a bucket.
fn largest_of(bucket: u64) -> u64 {
    if bucket < 2 * FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    let fine = bucket % FINE + FINE;
    ((fine + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_whose_largest_is_at_most_a_thirty_second_above() {
        for micros in (0..10_000).chain((14..36).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1])) {
            let largest = largest_of(bucket(micros));
            assert!((micros..=micros + micros / FINE).contains(&largest), "{micros}: {largest}");
            assert_eq!(bucket(largest), bucket(micros));
            assert_eq!(bucket(largest + 1), bucket(micros) + 1);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.per_mille(500), Duration::ZERO);
        let micros: Vec<u64> = (1..=1_000).map(|n| n * n).collect();
        for value in &micros {
            histogram.record(Duration::from_micros(*value));
        }
        for (part, at) in [(1, 0), (500, 499), (990, 989), (999, 998), (1_000, 999)] {
            let (exact, told) = (micros[at], u64::try_from(histogram.per_mille(part).as_micros()).unwrap());
            assert!((exact..=exact + exact / FINE).contains(&told), "{part}: {exact} {told}");
        }
        assert_eq!(histogram.longest(), Duration::from_secs(1));
        histogram.record(Duration::MAX);
        assert_eq!(histogram.longest(), Duration::from_micros(u64::MAX));
        histogram.clear();
        assert_eq!(histogram.per_mille(1_000), Duration::ZERO);
    }
}
