//! Keep Alive, seen from the broker and from the client. [MQTT-3.1.2.10]

use core::time::Duration;

use crate::{Timestamp, time::MICROS_PER_SECOND};

/// The broker's side: a client silent for one and a half Keep Alive periods is gone. [MQTT-3.1.2-22]
///
/// The time stands still while *we* do not read from the connection, because then the silence is ours.
///
/// ```
/// use damselfly_session::{KeepAlive, Timestamp};
///
/// let mut keep_alive = KeepAlive::new(5, Timestamp::from_secs(100));
/// assert_eq!(keep_alive.deadline(), Some(Timestamp::from_micros(107_500_000)));
/// keep_alive.received(Timestamp::from_secs(104));
/// assert!(!keep_alive.is_expired(Timestamp::from_micros(111_499_999)));
/// assert!(keep_alive.is_expired(Timestamp::from_micros(111_500_000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    idle: Idle,
    seconds: u16,
}

impl KeepAlive {
    /// Starts at the CONNECT. `seconds` is the Keep Alive of the CONNECT, or the Server Keep Alive that we send; zero
    /// turns it off. [MQTT-3.2.2-22]
    pub const fn new(seconds: u16, now: Timestamp) -> Self {
        Self { idle: Idle::since(now), seconds }
    }

    /// A whole packet came.
    pub const fn received(&mut self, now: Timestamp) {
        self.idle.restart(now);
    }

    /// When the connection is to be closed; `None` if never, or while reading is paused.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.seconds == 0 {
            return None;
        }
        // Three halves of a second are a whole number of microseconds, so nothing is rounded.
        self.idle.after(u64::from(self.seconds) * (MICROS_PER_SECOND * 3 / 2))
    }

    /// Is the client to be taken for gone?
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// We stop reading.
    pub const fn pause(&mut self, now: Timestamp) {
        self.idle.pause(now);
    }

    /// We read again: what was left of the period when we stopped begins to run.
    pub const fn resume(&mut self, now: Timestamp) {
        self.idle.resume(now);
    }

    /// The Keep Alive in seconds; zero is off.
    pub const fn seconds(&self) -> u16 {
        self.seconds
    }
}

/// The client's side: when PINGREQ is due, and when the server has been silent for too long after one.
///
/// The period runs from the last byte *written*, because a packet in our buffer keeps nothing alive. [MQTT-3.1.2-20]
/// Whatever comes in shows that the server lives, so it restarts a running wait for PINGRESP. While the application makes us
/// pause reading, that wait stands still: the PINGRESP may lie in the socket. PINGREQ is sent all the same.
///
/// ```
/// use core::time::Duration;
/// use damselfly_session::{PingTimer, Timestamp};
///
/// let at = Timestamp::from_secs;
/// let mut ping = PingTimer::new(60, Duration::from_secs(10), at(0));
/// ping.written(at(20));
/// assert_eq!(ping.pingreq_at(), Some(at(80)));
/// ping.pingreq_queued(at(80));
/// assert_eq!(ping.give_up_at(), Some(at(90)));
/// ping.pingresp();
/// assert_eq!(ping.give_up_at(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingTimer {
    written: Timestamp,
    /// Silence of the server since the PINGREQ that is not answered, or since the last byte that came after it.
    unanswered: Option<Idle>,
    paused: bool,
    patience: u64,
    seconds: u16,
}

impl PingTimer {
    /// Starts when the CONNACK came. `seconds` is the Server Keep Alive of the CONNACK, or else what we asked for; zero
    /// means that nothing is due ever. `patience` is how long to wait for PINGRESP. [MQTT-3.1.2-21] [MQTT-3.2.2-21]
    pub fn new(seconds: u16, patience: Duration, now: Timestamp) -> Self {
        let patience = u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
        Self { written: now, unanswered: None, paused: false, patience, seconds }
    }

    /// Bytes were handed to the network.
    pub const fn written(&mut self, now: Timestamp) {
        self.written = now;
    }

    /// Bytes came from the network, whatever they are.
    pub const fn received(&mut self, now: Timestamp) {
        if let Some(idle) = &mut self.unanswered {
            idle.restart(now);
        }
    }

    /// When PINGREQ is due if nothing else is written: one Keep Alive period after the last byte. `None` if Keep Alive
    /// is off.
    pub fn pingreq_at(&self) -> Option<Timestamp> {
        (self.seconds > 0).then(|| self.written.saturating_add_micros(u64::from(self.seconds) * MICROS_PER_SECOND))
    }

    /// A PINGREQ was appended to what is to be written. It counts as written, so that the next one is due a whole period
    /// later even if the network takes nothing; the wait for PINGRESP starts unless one is running.
    pub const fn pingreq_queued(&mut self, now: Timestamp) {
        self.written = now;
        if self.unanswered.is_none() {
            let mut idle = Idle::since(now);
            if self.paused {
                idle.pause(now);
            }
            self.unanswered = Some(idle);
        }
    }

    /// PINGRESP came.
    pub const fn pingresp(&mut self) {
        self.unanswered = None;
    }

    /// When to give the connection up; `None` while no PINGREQ waits for its answer, or while reading is paused.
    pub fn give_up_at(&self) -> Option<Timestamp> {
        self.unanswered?.after(self.patience)
    }

    /// The earlier of [`pingreq_at`](Self::pingreq_at) and [`give_up_at`](Self::give_up_at).
    pub fn deadline(&self) -> Option<Timestamp> {
        match (self.pingreq_at(), self.give_up_at()) {
            (Some(ping), Some(give_up)) => Some(ping.min(give_up)),
            (ping, give_up) => ping.or(give_up),
        }
    }

    /// We stop reading.
    pub const fn pause(&mut self, now: Timestamp) {
        self.paused = true;
        if let Some(idle) = &mut self.unanswered {
            idle.pause(now);
        }
    }

    /// We read again.
    pub const fn resume(&mut self, now: Timestamp) {
        self.paused = false;
        if let Some(idle) = &mut self.unanswered {
            idle.resume(now);
        }
    }
}

/// How long nothing has come, with the time standing still while paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Since(Timestamp),
    /// Microseconds without anything when the pause began.
    Paused(u64),
}

impl Idle {
    const fn since(now: Timestamp) -> Self {
        Self::Since(now)
    }

    /// Something came. What comes during a pause was read before it.
    const fn restart(&mut self, now: Timestamp) {
        *self = match self {
            Self::Since(_) => Self::Since(now),
            Self::Paused(_) => Self::Paused(0),
        };
    }

    const fn pause(&mut self, now: Timestamp) {
        if let Self::Since(since) = *self {
            *self = Self::Paused(now.saturating_micros_since(since));
        }
    }

    const fn resume(&mut self, now: Timestamp) {
        if let Self::Paused(idle) = *self {
            *self = Self::Since(Timestamp::from_micros(now.as_micros().saturating_sub(idle)));
        }
    }

    const fn after(self, micros: u64) -> Option<Timestamp> {
        match self {
            Self::Since(since) => Some(since.saturating_add_micros(micros)),
            Self::Paused(_) => None,
        }
    }
}

const _: () = assert!(size_of::<KeepAlive>() <= 24, "each connection has one");

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// [MQTT-3.1.2-22] [MQTT3-3.1.2-24]
    #[test]
    fn silence_of_exactly_one_and_a_half_periods_expires() {
        for (seconds, micros) in [(1, 1_500_000), (3, 4_500_000), (65_535, 98_302_500_000)] {
            let keep_alive = KeepAlive::new(seconds, Timestamp::ZERO);
            assert_eq!(keep_alive.deadline(), Some(Timestamp::from_micros(micros)));
            assert!(!keep_alive.is_expired(Timestamp::from_micros(micros - 1)));
            assert!(keep_alive.is_expired(Timestamp::from_micros(micros)));
        }
    }

    #[test]
    fn keep_alive_of_zero_never_expires() {
        let keep_alive = KeepAlive::new(0, Timestamp::ZERO);
        assert_eq!(keep_alive.deadline(), None);
        assert!(!keep_alive.is_expired(Timestamp::MAX));
    }

    #[test]
    fn time_stands_still_while_we_do_not_read() {
        let mut keep_alive = KeepAlive::new(10, at(0));
        keep_alive.pause(at(14));
        assert_eq!(keep_alive.deadline(), None);
        keep_alive.pause(at(500));
        keep_alive.resume(at(1_000));
        assert_eq!(keep_alive.deadline(), Some(at(1_001)), "one second was left");
        keep_alive.resume(at(2_000));
        assert_eq!(keep_alive.deadline(), Some(at(1_001)));
    }

    #[test]
    fn packet_handled_during_a_pause_leaves_a_whole_period() {
        let mut keep_alive = KeepAlive::new(10, at(0));
        keep_alive.pause(at(14));
        keep_alive.received(at(15));
        keep_alive.resume(at(20));
        assert_eq!(keep_alive.deadline(), Some(at(35)));
    }

    fn timer() -> PingTimer {
        PingTimer::new(60, Duration::from_secs(10), at(0))
    }

    /// [MQTT-3.1.2-20] [MQTT3-3.1.2-23]
    #[test]
    fn pingreq_is_due_one_period_after_the_last_byte_written() {
        let mut ping = timer();
        assert_eq!(ping.pingreq_at(), Some(at(60)));
        ping.received(at(50));
        assert_eq!(ping.pingreq_at(), Some(at(60)), "what comes in keeps nothing alive for the server");
        ping.written(at(30));
        assert_eq!(ping.pingreq_at(), Some(at(90)));
        ping.pingreq_queued(at(90));
        assert_eq!(ping.pingreq_at(), Some(at(150)));
        assert_eq!(PingTimer::new(0, Duration::from_secs(10), at(0)).deadline(), None);
    }

    #[test]
    fn server_is_given_up_when_nothing_comes_after_pingreq() {
        let mut ping = timer();
        assert_eq!(ping.give_up_at(), None);
        ping.pingreq_queued(at(60));
        assert_eq!(ping.give_up_at(), Some(at(70)));
        assert_eq!(ping.deadline(), Some(at(70)));
        ping.received(at(65));
        assert_eq!(ping.give_up_at(), Some(at(75)), "any byte shows life");
        ping.pingreq_queued(at(71));
        assert_eq!(ping.give_up_at(), Some(at(75)), "a second PINGREQ gives no more time");
        ping.pingresp();
        assert_eq!(ping.give_up_at(), None);
        assert_eq!(ping.deadline(), Some(at(131)));
    }

    #[test]
    fn wait_for_pingresp_stands_still_while_paused_and_pingreq_does_not() {
        let mut ping = timer();
        ping.pingreq_queued(at(60));
        ping.pause(at(64));
        assert_eq!(ping.give_up_at(), None);
        assert_eq!(ping.pingreq_at(), Some(at(120)));
        ping.resume(at(200));
        assert_eq!(ping.give_up_at(), Some(at(206)));

        let mut ping = timer();
        ping.pause(at(10));
        ping.pingreq_queued(at(60));
        assert_eq!(ping.give_up_at(), None, "asked during the pause");
        ping.resume(at(100));
        assert_eq!(ping.give_up_at(), Some(at(110)));
    }
}
