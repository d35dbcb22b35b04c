use damselfly_session::Timestamp;

use super::poller::EVENTS;

/// Until when all that had arrived was read: who is silent can be judged up to then and no further.
///
/// A call for events takes a bounded number of them, in the order in which the sockets became ready. If it took fewer,
/// nothing was left that had arrived before it was made; if not, that holds after as many events as there are sockets.
#[derive(Debug, Default)]
pub(super) struct Heard {
    until: Timestamp,
    /// The time to be reached, and the events until it is.
    next: Option<(Timestamp, usize)>,
}

impl Heard {
    /// A call made at `asked_at` brought so many `events` about `sockets`, which are handled in this turn.
    pub(super) fn note(&mut self, asked_at: Timestamp, events: usize, sockets: usize) {
        if events < EVENTS {
            (self.until, self.next) = (asked_at, None);
            return;
        }
        let (at, left) = self.next.unwrap_or((asked_at, sockets));
        let left = left.saturating_sub(events);
        if left == 0 {
            self.until = at;
        }
        self.next = (left > 0).then_some((at, left));
    }

    pub(super) fn until(&self) -> Timestamp {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn a_call_that_took_all_there_was_is_heard_at_once() {
        let mut heard = Heard::default();
        heard.note(at(1), EVENTS - 1, 10_000);
        assert_eq!(heard.until(), at(1));
        heard.note(at(2), 0, 10_000);
        assert_eq!(heard.until(), at(2));
    }

    #[test]
    fn after_as_many_events_as_there_are_sockets_the_first_call_is_heard() {
        let mut heard = Heard::default();
        heard.note(at(1), 0, 2 * EVENTS + 1);
        for second in 2..=3 {
            heard.note(at(second), EVENTS, 2 * EVENTS + 1);
            assert_eq!(heard.until(), at(1));
        }
        heard.note(at(4), EVENTS, 2 * EVENTS + 1);
        assert_eq!(heard.until(), at(2));
        heard.note(at(5), EVENTS, EVENTS);
        assert_eq!(heard.until(), at(5), "and then from the beginning");
    }

    #[test]
    fn a_short_call_hears_all_the_same() {
        let mut heard = Heard::default();
        heard.note(at(1), EVENTS, 5 * EVENTS);
        heard.note(at(2), 3, 5 * EVENTS);
        assert_eq!(heard.until(), at(2));
        heard.note(at(3), EVENTS, EVENTS + 1);
        assert_eq!(heard.until(), at(2));
    }
}
