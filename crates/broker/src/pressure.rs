//! Back-pressure: whether a publisher has to wait, and what it is told of a message that found no room.

use damselfly_codec::ReasonCode;
use damselfly_session::{PeerError, Timestamp};
use damselfly_topic::TopicName;

use crate::{Broker, ConnectionId, WhenFull, connections::Connection, publish::Tally, route::GROUP};

impl Broker {
    /// What a publisher is told of a message that was routed.
    #[inline]
    pub(crate) fn puback_code(&self, id: ConnectionId, tally: Tally) -> ReasonCode {
        match tally {
            tally if tally.lacked_room() => ReasonCode::QuotaExceeded,
            // Said only where nobody has subscribed: who is away or refuses the size is a subscriber. [MQTT-3.4.2.1]
            Tally { accepted: 0, is_missed: false, dropped: None }
                if self.connections.get(id).is_some_and(Connection::is_v5) =>
            {
                ReasonCode::NoMatchingSubscribers
            }
            Tally { .. } => ReasonCode::Success,
        }
    }

    /// What of it a publisher can be told. Before 5.0 that is success or the end of the connection, as configured.
    pub(crate) fn sayable(&self, id: ConnectionId, reason_code: ReasonCode) -> Result<ReasonCode, PeerError> {
        match reason_code {
            ReasonCode::Success => Ok(reason_code),
            _ if self.connections.get(id).is_some_and(Connection::is_v5) => Ok(reason_code),
            ReasonCode::QuotaExceeded if self.config.when_full == WhenFull::CloseLegacyPublisher => {
                Err(PeerError::QuotaExceeded)
            }
            _ => Ok(ReasonCode::Success),
        }
    }

    /// Whether a QoS 1 message should not be routed yet: the memory budget is used up, or a connected receiver's queue is
    /// full and has not been for long.
    #[inline]
    pub(crate) fn must_wait(&mut self, now: Timestamp, publisher: Option<u32>, topic: TopicName<'_>) -> bool {
        self.has_no_memory() || (self.full_sessions > 0 && self.waits_for_receiver(now, publisher, topic))
    }

    /// The same for a message that is held already, and so counted.
    pub(crate) fn finds_no_room(&mut self, now: Timestamp, publisher: Option<u32>, topic: TopicName<'_>) -> bool {
        self.has_no_memory_beside_held() || (self.full_sessions > 0 && self.waits_for_receiver(now, publisher, topic))
    }

    /// Whether anybody could find no room at all.
    pub(crate) fn may_lack_room(&self) -> bool {
        self.full_sessions > 0 || self.has_no_memory_beside_held()
    }

    fn waits_for_receiver(&mut self, now: Timestamp, publisher: Option<u32>, topic: TopicName<'_>) -> bool {
        let mut route = core::mem::take(&mut self.scratch.route);
        // What takes too many steps finds no receiver: its publisher is slowed by the lookup itself.
        self.look_up(topic, publisher, &mut route);
        let limit = self.config.pause_limit;
        let is_full = route.receivers.iter().filter(|receiver| receiver.key & GROUP == 0).any(|receiver| {
            let since = self.sessions.at(receiver.key).and_then(|session| session.full_since);
            since.is_some_and(|since| now < since.saturating_add(limit))
        });
        self.scratch.route = route;
        is_full
    }

    /// A code only 5.0 can be told; 3.1.1 has the positive acknowledgement or nothing. [MQTT3-3.3.5-2]
    pub(crate) fn refusal_code(&self, id: ConnectionId, reason_code: ReasonCode) -> ReasonCode {
        if self.connections.get(id).is_some_and(Connection::is_v5) { reason_code } else { ReasonCode::Success }
    }
}
