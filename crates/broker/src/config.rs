//! What a broker allows: every limit has a name, a unit, a default and an answer at the limit.

use core::time::Duration;

use damselfly_codec::{PROTOCOL_MAXIMUM_PACKET_SIZE, QoS};

/// Limits and features of one [`Broker`](crate::Broker).
///
/// Each field's documentation says what a peer is told at the limit; `docs/limits.md` of the repository shows them as
/// one table with the test of each.
///
/// ```
/// use damselfly_broker::Config;
///
/// let mut config = Config::default();
/// config.max_packet_size = 64 * 1024;
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a feature of its own that CONNACK names")]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Config {
    /// Network Connections at once. One more is refused before a byte is read. Default 1,000,000.
    pub max_connections: u32,
    /// Sessions at once, of clients that are connected and of those that are not. A client without one is refused beyond
    /// (CONNACK `0x97`, 3.1.1: return code 3); [`Config::max_session_expiry`] makes room. Default 1,000,000.
    pub max_sessions: u32,
    /// How long a connection may take until its CONNECT is complete, and each next AUTH of enhanced authentication; then
    /// it is closed. Default 20 s.
    pub connect_timeout: Duration,
    /// Bytes of a CONNECT packet; a longer one ends the connection unread. Default 512 KiB.
    pub max_connect_packet_size: u32,
    /// Bytes of any later packet, fixed header included, told to 5.0 clients as Maximum Packet Size. A longer one ends
    /// the connection (5.0: DISCONNECT `0x95`). Default 16 MiB, at most 268,435,460. [MQTT-3.2.2.3.6]
    pub max_packet_size: u32,
    /// Bytes of the payload of a PUBLISH or will. A longer one is answered `0x97` and not delivered (QoS 0: dropped and
    /// counted; 3.1.1: acknowledged, dropped and counted, a will refused with return code 3). Default 268,435,460, which
    /// no payload exceeds.
    pub max_payload_size: u32,
    /// Bytes of any packet but CONNECT and PUBLISH. A longer one ends the connection unread (5.0: DISCONNECT `0x97`, as the
    /// size told to clients is [`Config::max_packet_size`]). It bounds the Topic Filters of a SUBSCRIBE and UNSUBSCRIBE.
    /// Default 256 KiB.
    pub max_other_packet_size: u32,
    /// Bytes of the properties of a PUBLISH or of a will: unlike a large payload, each receiver gets a copy. A message with
    /// more ends the connection (DISCONNECT or CONNACK `0x97`). Default 64 KiB.
    pub max_property_bytes: u32,
    /// QoS 1 and 2 messages of one client without our final acknowledgement, told to 5.0 clients as Receive Maximum.
    /// One more ends the connection (DISCONNECT `0x93`). A 3.1.1 client cannot know the limit and is held to the 65,535
    /// Packet Identifiers there are. Default 1,024, at least 1. [MQTT-3.2.2.3.3]
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages in flight to one client, whatever larger Receive Maximum it names; more wait in its queue.
    /// Default 1,024, at least 1.
    pub max_inflight: u16,
    /// Bytes of the QoS 1 and 2 messages in flight to one client until it has taken them over (PUBACK, PUBREC): while they
    /// are fewer, one more is sent, of whatever size; the rest waits in its queue. Default none, at least 1.
    pub max_inflight_bytes: u64,
    /// Topic Aliases a client may set. A higher one ends the connection (DISCONNECT `0x94`). Default 64; 0 is none.
    pub topic_alias_maximum: u16,
    /// Topic Aliases we set towards one client, whatever larger Topic Alias Maximum it names. Default 16; 0 is none.
    pub max_outbound_topic_aliases: u16,
    /// Bytes of the topics that the aliases of one connection stand for, each way; a client's with their table of a few
    /// bytes each. A client that sets more is disconnected (`0x97`), we set no more. Default 64 KiB.
    pub max_alias_bytes: u32,
    /// QoS 1 and 2 messages waiting for one client. One more is not stored: see [`Config::when_full`]. Default 10,000.
    pub max_queued_messages: u32,
    /// Bytes of the messages waiting for one client, lists of Subscription Identifiers among them; as
    /// `max_queued_messages`. Default 16 MiB.
    pub max_queued_bytes: u64,
    /// Bytes encoded for one connection and not yet taken by its transport. A QoS 0 message beyond is dropped for this
    /// client and counted, a QoS 1 or 2 message waits in the queue. A client whose answers (acknowledgements, PINGRESP)
    /// come to 64 KiB more is not read until it has taken some. Default 1 MiB.
    pub max_transmit_bytes: u32,
    /// What happens to a message for a client whose queue is full.
    pub when_full: WhenFull,
    /// Subscriptions of one client, those about which a question is open among them; Topic Filters of one SUBSCRIBE; and
    /// walks over the retained messages that are not at their end, of which a SUBSCRIBE to the same Topic Filter replaces
    /// the one before. One more is answered `0x97` (3.1.1: `0x80`). Default
    /// 100,000.
    pub max_subscriptions: u32,
    /// Bytes of the Topic Filters one client is subscribed to or waits to be; as `max_subscriptions`. Default 16 MiB.
    pub max_subscription_bytes: u32,
    /// Levels of a Topic Name or Topic Filter. A deeper filter is answered `0x8F` (3.1.1: `0x80`), a deeper name `0x90`
    /// (QoS 0: dropped and counted; 3.1.1: acknowledged, dropped and counted). Very many deep filters of wildcards make
    /// each lookup long, so raise it with care. Default 32, at most 128.
    pub max_topic_levels: u16,
    /// Retained messages. One more is delivered to subscribers but not retained; its publisher is told `0x97`, a QoS 0
    /// or 3.1.1 message is counted. Default 1,000,000.
    pub max_retained_messages: u32,
    /// Bytes of all retained messages; as `max_retained_messages`. Default 512 MiB.
    pub max_retained_bytes: u64,
    /// Bytes of the whole broker: messages stored or held, transmit buffers, caches, connections, what a client says
    /// before CONNACK with the question about it, sessions, wills, subscriptions
    /// ([`Memory::PER_CONNECTION`](crate::Memory::PER_CONNECTION) and its kin say what they count for) and what the
    /// adapter keeps of unfinished packets. Default 2 GiB.
    ///
    /// At the budget acknowledgements of QoS 1 and 2 are withheld for [`Config::pause_limit`], then say `0x97` (3.1.1:
    /// dropped and counted); QoS 0 is dropped for clients that are behind, and counted. A client of which 256 KiB are
    /// held is not read meanwhile. An eighth is kept for the rest, so that clients can come and take what waits for
    /// them: beyond both, a connection is closed unread, a CONNECT to be asked about, a session or larger will refused
    /// as at [`Config::max_sessions`], a subscription as at [`Config::max_subscriptions`]. A client with more than 1
    /// KiB of an unfinished packet is not read; after `pause_limit` without more of it, for whatever reason, its
    /// connection ends (DISCONNECT `0x97`).
    pub max_memory: u64,
    /// How long a publisher is left unread or its acknowledgement withheld for want of room, and an unfinished packet may
    /// stand still when there is no memory. Default 2 s.
    pub pause_limit: Duration,
    /// How long an [`Ask`](crate::Output::Ask) may stay unanswered; then the answer is no. Default 10 s.
    pub question_timeout: Duration,
    /// Ceiling of Session Expiry Intervals in seconds, told to 5.0 clients; `None` is no ceiling. Default `None`.
    pub max_session_expiry: Option<u32>,
    /// Ceiling of Keep Alive in seconds, 0 is none. 5.0 clients are told the Server Keep Alive; a 3.1.1 client that asks
    /// for more (or for none) is refused with return code `0x02`. Default 0. [MQTT-3.2.2.3.14]
    pub max_keep_alive: u16,
    /// Highest QoS of PUBLISH and wills. Above it: `0x9B`, SUBSCRIBE is granted at most this. Default 2.
    #[cfg_attr(feature = "serde", serde(with = "qos_number"))]
    pub maximum_qos: QoS,
    /// Whether the payload of a PUBLISH or will that says so (Payload Format Indicator 1) has to be UTF-8. If it is not:
    /// `0x99` (QoS 0: dropped and counted). Default false: what a payload is in truth is the receivers' business.
    /// [MQTT-3.3.2.3.2]
    pub check_payload_format: bool,
    /// Whether messages are retained. If not: `0x9A`. Default true.
    pub retain_available: bool,
    /// Whether filters may have wildcards. If not: `0xA2` (3.1.1: `0x80`). Default true.
    pub wildcard_subscription_available: bool,
    /// Whether filters may be shared. If not: `0x9E` (3.1.1: `0x80`). Default true.
    pub shared_subscription_available: bool,
    /// Whether subscriptions may carry Subscription Identifiers. If not: `0xA1`. Default true.
    pub subscription_ids_available: bool,
    /// Whether a client may leave the choice of its identifier to us. If not: `0x85` (3.1.1: `0x02`). Default true.
    pub allow_empty_client_id: bool,
    /// Topics with their receivers that one publishing connection remembers. Default 64; 0 is none.
    pub route_cache_entries: u16,
    /// Receivers in one remembered route; a wider one is looked up each time. Default 4,096.
    pub route_cache_receivers: u32,
    /// Steps after which a call leaves the rest to later ones, by [`Broker::poll_timeout`](crate::Broker::poll_timeout):
    /// each node of the index that a Topic Name passes, each receiver, and each entry of a queue or of the retained
    /// messages that is looked at is one; each Topic Filter of a SUBSCRIBE or UNSUBSCRIBE is 32 and one for every 16 bytes
    /// of it. What a call has begun it ends, so it takes some more. A client that has more to
    /// say is left unread until then. What is left has its turns by kind, so that none waits for the end of another.
    ///
    /// The lookup of one message may take a quarter of them. One that takes more goes on over later calls, in which the
    /// message waits and its publisher is left unread; so its messages keep their order. The index may change meanwhile: a
    /// subscription that is there throughout gets the message exactly once; one that comes or goes meanwhile gets it once
    /// or not at all, and a new one may also get it as retained message. Default 65,536, at least 1.
    pub steps_per_call: u32,
    /// Whether DISCONNECT and CONNACK tell a 5.0 client in a Reason String which rule it broke, where the client wants Problem
    /// Information and it fits. Nothing in it comes from the client. Default true. [MQTT-3.14.2.2.3]
    pub reason_strings: bool,
    /// Whether changes of the subscribed filters leave as [`Output::Interest`](crate::Output::Interest), for brokers
    /// joined to others. Default false.
    pub announce_interest: bool,
}

/// The answer to a QoS 1 or 2 message that finds the queue of a subscribed client full.
///
/// A connected client's publishers are slowed first, for [`Config::pause_limit`]; those of a message whose receivers are
/// looked up over several calls ([`Config::steps_per_call`]) are slowed by that alone. Everybody else gets the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum WhenFull {
    /// The new message is dropped for that client and counted; a 5.0 publisher is told `0x97`.
    #[default]
    DropNewest,
    /// The oldest waiting message is dropped for that client and counted.
    DropOldest,
    /// As `DropNewest`, and a 3.1.1 publisher, which cannot be told, is disconnected.
    CloseLegacyPublisher,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 1_000_000,
            max_sessions: 1_000_000,
            connect_timeout: Duration::from_secs(20),
            max_connect_packet_size: 512 * 1024,
            max_packet_size: 16 * 1024 * 1024,
            max_payload_size: PROTOCOL_MAXIMUM_PACKET_SIZE,
            max_other_packet_size: 256 * 1024,
            max_property_bytes: 64 * 1024,
            receive_maximum: 1_024,
            max_inflight: 1_024,
            max_inflight_bytes: u64::MAX,
            topic_alias_maximum: 64,
            max_outbound_topic_aliases: 16,
            max_alias_bytes: 64 * 1024,
            max_queued_messages: 10_000,
            max_queued_bytes: 16 * 1024 * 1024,
            max_transmit_bytes: 1024 * 1024,
            when_full: WhenFull::default(),
            max_subscriptions: 100_000,
            max_subscription_bytes: 16 * 1024 * 1024,
            max_topic_levels: 32,
            max_retained_messages: 1_000_000,
            max_retained_bytes: 512 * 1024 * 1024,
            max_memory: 2 * 1024 * 1024 * 1024,
            pause_limit: Duration::from_secs(2),
            question_timeout: Duration::from_secs(10),
            max_session_expiry: None,
            max_keep_alive: 0,
            maximum_qos: QoS::ExactlyOnce,
            check_payload_format: false,
            retain_available: true,
            wildcard_subscription_available: true,
            shared_subscription_available: true,
            subscription_ids_available: true,
            allow_empty_client_id: true,
            route_cache_entries: 64,
            route_cache_receivers: 4_096,
            steps_per_call: 65_536,
            reason_strings: true,
            announce_interest: false,
        }
    }
}

/// The most levels [`Config::max_topic_levels`] may allow.
pub const MAX_TOPIC_LEVELS: u16 = 128;

impl Config {
    /// Whether the values can work together.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.connect_timeout.is_zero() {
            return Err(ConfigError::Zero("connect_timeout"));
        }
        if self.receive_maximum == 0 {
            return Err(ConfigError::Zero("receive_maximum"));
        }
        if self.max_inflight == 0 {
            return Err(ConfigError::Zero("max_inflight"));
        }
        if self.steps_per_call == 0 {
            return Err(ConfigError::Zero("steps_per_call"));
        }
        if self.max_inflight_bytes == 0 {
            return Err(ConfigError::Zero("max_inflight_bytes"));
        }
        if self.max_topic_levels == 0 {
            return Err(ConfigError::Zero("max_topic_levels"));
        }
        if self.max_topic_levels > MAX_TOPIC_LEVELS {
            return Err(ConfigError::TooLarge { name: "max_topic_levels", limit: MAX_TOPIC_LEVELS.into() });
        }
        for (name, size) in [
            ("max_packet_size", self.max_packet_size),
            ("max_connect_packet_size", self.max_connect_packet_size),
            ("max_other_packet_size", self.max_other_packet_size),
        ] {
            if size < SMALLEST_PACKET_LIMIT {
                return Err(ConfigError::TooSmall { name, limit: SMALLEST_PACKET_LIMIT.into() });
            }
            if size > PROTOCOL_MAXIMUM_PACKET_SIZE {
                return Err(ConfigError::TooLarge { name, limit: PROTOCOL_MAXIMUM_PACKET_SIZE.into() });
            }
        }
        Ok(())
    }
}

/// Below this no useful CONNECT fits.
const SMALLEST_PACKET_LIMIT: u32 = 64;

/// Why a [`Config`] cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Zero, with which nothing would work.
    #[error("{0} must not be 0")]
    Zero(&'static str),
    /// Below what can work.
    #[error("{name} must be at least {limit}")]
    TooSmall {
        /// The field.
        name: &'static str,
        /// The smallest value.
        limit: u64,
    },
    /// Above what the protocol or the implementation can do.
    #[error("{name} must be at most {limit}")]
    TooLarge {
        /// The field.
        name: &'static str,
        /// The largest value.
        limit: u64,
    },
}

#[cfg(feature = "serde")]
mod qos_number {
    use damselfly_codec::QoS;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
    pub(super) fn serialize<S: Serializer>(qos: &QoS, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QoS, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(D::Error::custom("maximum_qos must be 0, 1 or 2")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work_and_each_bound_is_checked_at_it_and_one_past_it() {
        assert_eq!(Config::default().check(), Ok(()));
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(with(|c| c.connect_timeout = Duration::ZERO), Err(ConfigError::Zero("connect_timeout")));
        assert_eq!(with(|c| c.connect_timeout = Duration::from_micros(1)), Ok(()));
        assert_eq!(with(|c| c.receive_maximum = 0), Err(ConfigError::Zero("receive_maximum")));
        assert_eq!(with(|c| c.receive_maximum = 1), Ok(()));
        assert_eq!(with(|c| c.steps_per_call = 0), Err(ConfigError::Zero("steps_per_call")));
        assert_eq!(with(|c| c.steps_per_call = 1), Ok(()));
        assert_eq!(with(|c| c.max_inflight = 0), Err(ConfigError::Zero("max_inflight")));
        assert_eq!(with(|c| c.max_inflight_bytes = 0), Err(ConfigError::Zero("max_inflight_bytes")));
        assert_eq!(with(|c| c.max_inflight_bytes = 1), Ok(()));
        assert_eq!(with(|c| c.max_topic_levels = 128), Ok(()));
        assert_eq!(
            with(|c| c.max_topic_levels = 129),
            Err(ConfigError::TooLarge { name: "max_topic_levels", limit: 128 })
        );
        assert_eq!(with(|c| c.max_packet_size = 64), Ok(()));
        assert_eq!(with(|c| c.max_packet_size = 63), Err(ConfigError::TooSmall { name: "max_packet_size", limit: 64 }));
        assert_eq!(with(|c| c.max_connect_packet_size = 268_435_460), Ok(()));
        assert_eq!(with(|c| c.max_other_packet_size = 64), Ok(()));
        assert!(with(|c| c.max_other_packet_size = 63).is_err());
        assert!(with(|c| c.max_connect_packet_size = 268_435_461).is_err());
    }
}
