//! Time for a core: the wall clock once, then what has passed since.

use std::time::{Duration, Instant, UNIX_EPOCH};

use damselfly_session::Timestamp;

/// A clock that never steps: the wall clock when it was made, plus the monotonic time since.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    origin: Timestamp,
}

impl Clock {
    /// Reads the wall clock, for the only time.
    pub fn start() -> Self {
        let since_epoch = UNIX_EPOCH.elapsed().unwrap_or_default();
        Self { start: Instant::now(), origin: Timestamp::ZERO.saturating_add(since_epoch) }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.origin.saturating_add(self.start.elapsed())
    }

    /// How long until `at`; zero if it has passed.
    pub fn until(&self, at: Timestamp) -> Duration {
        at.saturating_since(self.now())
    }
}
