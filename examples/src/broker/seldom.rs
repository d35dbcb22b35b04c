use std::time::Duration;

use damselfly_session::Timestamp;

/// How long nothing is said after something was said.
const SILENCE: Duration = Duration::from_secs(60);

/// Says something that may happen very often once in a while.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    said_at: Option<Timestamp>,
    kept_silent: u64,
}

impl Seldom {
    /// It happened. If it is time to say so: how often it happened since it was last said.
    pub(super) fn is_time(&mut self, now: Timestamp) -> Option<u64> {
        if self.said_at.is_some_and(|at| now < at.saturating_add(SILENCE)) {
            self.kept_silent += 1;
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.kept_silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute_with_the_number() {
        let mut seldom = Seldom::default();
        let at = Timestamp::from_secs;
        assert_eq!(seldom.is_time(at(1_000)), Some(0));
        assert_eq!(seldom.is_time(at(1_001)), None);
        assert_eq!(seldom.is_time(at(1_059)), None);
        assert_eq!(seldom.is_time(at(1_060)), Some(2));
        assert_eq!(seldom.is_time(at(1_061)), None);
    }
}
