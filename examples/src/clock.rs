use std::time::{Duration, Instant, UNIX_EPOCH};

use damselfly_session::Timestamp;

/// Time for a core: the wall clock when the program started plus the monotonic time since, so that it never steps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    start: Instant,
}

impl Clock {
    /// Reads the wall clock, for the only time.
    pub fn start() -> Self {
        let since_epoch = UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { origin: Timestamp::ZERO.saturating_add(since_epoch), start: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.origin.saturating_add(self.start.elapsed())
    }

    /// How long until `at`; zero if it has passed.
    pub fn until(&self, at: Timestamp) -> Duration {
        at.saturating_since(self.now())
    }

    /// The moment `at`, for a timer; `None` if it is out of the timer's reach.
    pub fn instant(&self, at: Timestamp) -> Option<Instant> {
        self.start.checked_add(at.saturating_since(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_maps_to_the_moment_that_far_ahead() {
        let clock = Clock::start();
        let before = Instant::now();
        let at = clock.now().saturating_add(Duration::from_secs(5));
        let instant = clock.instant(at).unwrap();
        assert!(instant + Duration::from_micros(1) >= before + Duration::from_secs(5));
        assert!(clock.until(at) <= Duration::from_secs(5));
        assert_eq!(clock.until(Timestamp::ZERO), Duration::ZERO);
    }
}
