//! Repeatable randomness: the same load in every run and on every machine.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that belongs to this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 of them.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform below `bound`; 0 for a bound of 0.
    #[expect(clippy::as_conversions, reason = "the high half of a 128-bit product of a usize is below that usize")]
    #[expect(clippy::cast_possible_truncation, reason = "as above")]
    pub fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.bits()) * bound as u128;
        (product >> 64) as usize
    }

    /// Uniform in [0, 1).
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 9_007_199_254_740_992.0
    }
}

/// Ranks from 0 with probability proportional to 1 / (rank + 1)^skew, by the rejection-free approximation that load
/// generators commonly use.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: usize,
    skew: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Ranks below `count`, which is at least 2; `skew` lies in (0, 1).
    pub fn new(count: usize, skew: f64) -> Self {
        let zeta_two = 1.0 + 0.5_f64.powf(skew);
        let zeta = (1..=count).map(|rank| float(rank).powf(-skew)).sum::<f64>();
        let eta = (1.0 - (2.0 / float(count)).powf(1.0 - skew)) / (1.0 - zeta_two / zeta);
        Self { count, skew, zeta, eta }
    }

    /// One rank.
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    pub fn rank(&self, random: &mut Random) -> usize {
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.skew) {
            return 1;
        }
        let power = 1.0 / (1.0 - self.skew);
        let rank = float(self.count) * (self.eta * unit - self.eta + 1.0).powf(power);
        (rank as usize).min(self.count - 1)
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_ranks_are_drawn_most_and_none_lies_outside() {
        let zipf = Zipf::new(1000, 0.99);
        let mut random = Random::new(7);
        let mut drawn = vec![0_u32; 1000];

        for _ in 0..20_000 {
            drawn[zipf.rank(&mut random)] += 1;
        }

        assert!(drawn[0] > drawn[9] && drawn[9] > drawn[499]);
    }
}
