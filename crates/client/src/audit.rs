//! Whether the Packet Identifiers that the client has in use are those of what it has under way.

use damselfly_codec::PacketId;

use crate::Client;

/// A Packet Identifier that is in use without anything under way, or free while something is: a defect of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Drift {
    /// The identifier of a message or request that is under way is free: the next one may get it.
    #[error("the identifier {0} is free, and something is under way with it")]
    Free(PacketId),
    /// More identifiers are in use than there are messages and requests under way.
    #[error("{used} identifiers are in use, and {under_way} messages and requests are under way")]
    Lost {
        /// Identifiers in use.
        used: usize,
        /// Messages and requests that have one.
        under_way: usize,
    },
}

impl Client {
    /// Compares the Packet Identifiers in use with the messages and requests under way. For tests and fuzzers: it walks
    /// over all of them. [MQTT-2.2.1-3]
    ///
    /// ```
    /// use damselfly_client::{Client, Config};
    ///
    /// assert!(Client::new(Config::new("greenhouse-7"), 1).audit().is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// The first thing that does not agree.
    pub fn audit(&self) -> Result<(), Drift> {
        let session = &self.session;
        let messages = session.in_flight.iter().map(|sent| sent.packet_id);
        let mut under_way = 0;
        for packet_id in messages.chain(session.requests.sent_ids()) {
            if !session.ids.contains(packet_id) {
                return Err(Drift::Free(packet_id));
            }
            under_way += 1;
        }
        let used = usize::from(session.ids.len());
        if used == under_way { Ok(()) } else { Err(Drift::Lost { used, under_way }) }
    }
}

#[cfg(test)]
mod tests {
    use damselfly_codec::{Properties, QoS};
    use damselfly_session::{Message, SendState, Timestamp};
    use damselfly_topic::TopicName;

    use super::*;
    use crate::{Config, Ticket};

    #[test]
    fn an_identifier_that_is_freed_early_or_never_is_found() {
        let mut client = Client::new(Config::new("c"), 1);
        let packet_id = client.session.ids.allocate().unwrap();
        assert_eq!(client.audit(), Err(Drift::Lost { used: 1, under_way: 0 }));

        let topic = TopicName::new("t").unwrap();
        let now = Timestamp::from_secs(1);
        let message = Message::compose(topic, b"", QoS::ExactlyOnce, false, Properties::EMPTY, now);
        client.session.in_flight.push(packet_id, Ticket(1), SendState::AwaitPubrec, message);
        assert_eq!(client.audit(), Ok(()));

        client.session.ids.release(packet_id);
        assert_eq!(client.audit(), Err(Drift::Free(packet_id)));
    }
}
