//! Time as the cores see it: a number that only an adapter can make. No clock is read here.

use core::{fmt, time::Duration};

/// A point in time: microseconds since the Unix epoch, as far as the program's start knew it.
///
/// An adapter reads the wall clock *once*, when the program starts, and adds the monotonic time passed since. So a
/// `Timestamp` never steps while the program runs, whatever is done to the wall clock, and a stored deadline still
/// means something after a restart. A restore starts no earlier than its image, or a session could be revived.
///
/// All arithmetic saturates: [`Timestamp::MAX`] is year 586,524 and stands for "later than any deadline".
///
/// ```
/// use core::time::Duration;
/// use damselfly_session::Timestamp;
///
/// let start = Timestamp::from_secs(1_700_000_000);
/// let later = start.saturating_add(Duration::from_millis(1_500));
/// assert_eq!(later.saturating_since(start), Duration::from_micros(1_500_000));
/// assert_eq!(start.saturating_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch; the start of every simulated world.
    pub const ZERO: Self = Self(0);
    /// Later than any deadline.
    pub const MAX: Self = Self(u64::MAX);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the epoch, saturating.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / MICROS_PER_SECOND
    }

    /// Later by `duration`, at most [`Timestamp::MAX`]. Parts of a microsecond are dropped.
    #[must_use = "a timestamp is a value: the sum is returned"]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.saturating_add_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    /// Earlier by `duration`, at least [`Timestamp::ZERO`]. Parts of a microsecond are dropped.
    #[must_use = "a timestamp is a value: the difference is returned"]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`; zero if that is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// [`Timestamp::saturating_add`] for the paths that run once a packet: no [`Duration`] is built.
    #[must_use = "a timestamp is a value: the sum is returned"]
    pub const fn saturating_add_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// [`Timestamp::saturating_since`] in microseconds.
    pub const fn saturating_micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Seconds and six digits: `1700000000.000250`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.as_secs(), self.0 % MICROS_PER_SECOND)
    }
}

pub(crate) const MICROS_PER_SECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_micros(1)), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.saturating_sub(Duration::MAX), Timestamp::ZERO);
        assert_eq!(Timestamp::from_secs(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::ZERO.saturating_since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MAX.saturating_since(Timestamp::ZERO), Duration::from_micros(u64::MAX));
    }

    #[test]
    fn seconds_round_down_and_display_shows_microseconds() {
        let at = Timestamp::from_micros(12_000_250);
        assert_eq!(at.as_secs(), 12);
        assert_eq!(at.to_string(), "12.000250");
    }
}
