//! The short form of a scenario that fails.

use crate::Scenario;

/// Scenarios tried, at most: enough for a few hundred steps.
const TRIALS: usize = 1_500;

impl Scenario {
    /// A scenario that fails too, with as few steps as could be found; itself if it does not fail.
    #[must_use]
    pub fn shrink(&self) -> Self {
        self.shrink_while(|scenario| scenario.run().is_err())
    }

    /// A scenario of which the same is true, with as few steps as could be found in a bounded number of trials; itself if
    /// it is not true of it.
    ///
    /// ```
    /// use damselfly_sim::Scenario;
    ///
    /// let crashes = Scenario::from_seed(7).shrink_while(|scenario| scenario.to_string().contains("publish 1"));
    /// assert_eq!(crashes.to_string().matches("publish").count(), 1);
    /// ```
    #[must_use]
    pub fn shrink_while(&self, mut is_so: impl FnMut(&Self) -> bool) -> Self {
        let mut best = self.clone();
        if !is_so(&best) {
            return best;
        }
        let mut trials = TRIALS;
        let mut len = best.steps.len().div_ceil(2);
        while len > 0 && trials > 0 {
            let mut at = 0;
            let mut is_shorter = false;
            while at < best.steps.len() && trials > 0 {
                trials -= 1;
                let mut shorter = best.clone();
                shorter.steps.drain(at..(at + len).min(best.steps.len()));
                if is_so(&shorter) {
                    best = shorter;
                    is_shorter = true;
                } else {
                    at += len;
                }
            }
            len = if len == 1 && is_shorter { 1 } else { len / 2 };
        }
        best
    }
}
