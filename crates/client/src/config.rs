//! What an application decides once, for all connections of its session.

use alloc::boxed::Box;
use core::{num::NonZeroU16, time::Duration};

use damselfly_codec::Version;
use damselfly_session::SessionExpiry;
use damselfly_topic::TopicNameBuf;

use crate::Backoff;

/// What an application decides once, for all connections of its session.
///
/// ```
/// use damselfly_client::{Config, Version};
///
/// let mut config = Config::new("greenhouse-7");
/// config.version = Version::V3_1_1;
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct Config {
    /// The protocol version to speak. Default: 5.0.
    pub version: Version,
    /// The Client Identifier, the name of the session. Empty asks the broker for one, which the client then keeps;
    /// before 5.0 the broker does not say which, so the session ends with the connection. [MQTT-3.1.3.1]
    pub client_id: Box<str>,
    /// Whether to begin with a new session. Default: [`CleanStart::First`].
    pub clean_start: CleanStart,
    /// How long the broker keeps the session while we are away. Before 5.0 anything but
    /// [`SessionExpiry::OnClose`] means for ever. Default: `OnClose`.
    pub session_expiry: SessionExpiry,
    /// The application vouches that a session which the broker remembers from before this value was made is ours and
    /// that nothing of it is in flight. Without it, such a session ends the connection [MQTT-3.2.2-4]. Default: false.
    pub adopt_session: bool,
    /// What becomes of messages in flight when the broker lost the session. Default: [`LostSession::Report`].
    pub lost_session: LostSession,
    /// The Keep Alive in seconds; 0 is none. The broker's answer wins. Default: 60. [MQTT-3.1.2.10]
    pub keep_alive: u16,
    /// How long a PINGRESP, or any other sign of life, may take. Default: 10 s.
    pub ping_timeout: Duration,
    /// How long CONNACK may take after the transport is up. Default: 20 s.
    pub connect_timeout: Duration,
    /// The waits between attempts to connect.
    pub backoff: Backoff,
    /// How many QoS 1 and 2 messages the broker may send before we acknowledged one. 5.0 only. Default: 65,535.
    pub receive_maximum: NonZeroU16,
    /// The largest packet we take, in bytes, its fixed header included. Default: 268,435,460, which is what the
    /// protocol can say. In 5.0 the broker is told. [MQTT-3.1.2.11.4]
    pub maximum_packet_size: u32,
    /// How many Topic Aliases the broker may use. 5.0 only. Default: 0. [MQTT-3.1.2.11.5]
    pub topic_alias_maximum: u16,
    /// How many Topic Aliases we use, as far as the broker allows them. 5.0 only. Default: 64. [MQTT-3.3.2.3.4]
    pub outbound_topic_aliases: u16,
    /// How much memory the Topic Aliases of each direction may take, in bytes. Default: 64 KiB.
    pub max_alias_bytes: usize,
    /// Who acknowledges received messages. Default: [`Acknowledgement::Automatic`].
    pub acknowledgement: Acknowledgement,
    /// How many received messages may wait for [`poll_output`](crate::Client::poll_output) before input is paused.
    /// Default: 1,024.
    pub max_waiting_messages: usize,
    /// How many bytes of memory they may hold before input is paused; the last one may go beyond. Default: 16 MiB.
    pub max_waiting_bytes: usize,
    /// What the offline queue holds, and what happens at its end.
    pub queue: QueueConfig,
    /// Keeps messages, identifiers and subscriptions on disk, by a journal that the driver stores. Default: `None`, all
    /// of it ends with the process.
    pub outbox: Option<OutboxConfig>,
    /// How many bytes may wait for the transport before further messages stay in the queue. Default: 256 KiB.
    pub max_transmit_bytes: usize,
    /// How many bytes of acknowledgements may wait for the transport or for their commit, when the broker sends and does
    /// not read: one more ends the connection. 655,350 is the most that a broker can be owed that uses no Packet
    /// Identifier twice. Default: 1 MiB.
    pub max_owed_bytes: usize,
    /// How many subscribe and unsubscribe requests may wait for their answer. Default: 4,096.
    pub max_requests: usize,
    /// How many requests may wait for their response. Default: 4,096.
    pub max_awaited_responses: usize,
    /// The Response Topic of requests, unless the broker has Response Information. It must be this client's alone.
    /// Default: `None`, that is `response/` and the Client Identifier. 5.0 only. [MQTT-3.3.2.3.5]
    pub response_topic: Option<TopicNameBuf>,
    /// How many Topic Filters one SUBSCRIBE carries when subscriptions are restored; some brokers take few.
    /// Default: 8.
    pub filters_per_subscribe: NonZeroU16,
}

impl Config {
    /// The defaults, and this Client Identifier.
    pub fn new(client_id: &str) -> Self {
        Self { client_id: client_id.into(), ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        const EIGHT: NonZeroU16 = NonZeroU16::MIN.saturating_add(7);
        Self {
            version: Version::V5_0,
            client_id: Box::default(),
            clean_start: CleanStart::default(),
            session_expiry: SessionExpiry::OnClose,
            adopt_session: false,
            lost_session: LostSession::default(),
            keep_alive: 60,
            ping_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(20),
            backoff: Backoff::default(),
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: 268_435_460,
            topic_alias_maximum: 0,
            outbound_topic_aliases: 64,
            max_alias_bytes: 64 * 1_024,
            acknowledgement: Acknowledgement::default(),
            max_waiting_messages: 1_024,
            max_waiting_bytes: 16 * 1_024 * 1_024,
            queue: QueueConfig::default(),
            outbox: None,
            max_transmit_bytes: 256 * 1_024,
            max_owed_bytes: 1_024 * 1_024,
            max_requests: 4_096,
            max_awaited_responses: 4_096,
            response_topic: None,
            filters_per_subscribe: EIGHT,
        }
    }
}

/// When CONNECT asks for a new session. [MQTT-3.1.2.4]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CleanStart {
    /// When there is no session of ours to go on with: at the first connection, and after a session ended.
    #[default]
    First,
    /// Never: also the first connection goes on with what the broker has.
    Never,
    /// At each connection.
    Always,
}

/// What becomes of messages in flight when the broker lost the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LostSession {
    /// Each ticket becomes [`Outcome::Indeterminate`](crate::Outcome::Indeterminate).
    #[default]
    Report,
    /// QoS 1 messages are published anew, in their order, before what waits in the queue: they may arrive twice, which
    /// QoS 1 allows. QoS 2 messages, which must not, are reported.
    RepublishAtLeastOnce,
}

/// Who acknowledges received messages of QoS 1 and 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Acknowledgement {
    /// The client, when the message arrives. With an [outbox](OutboxConfig) a QoS 2 message is told at most once, after its
    /// identifier is stored: one that [`poll_output`](crate::Client::poll_output) has not given by the end of the process is
    /// lost.
    #[default]
    Automatic,
    /// The application, with the [`AckToken`](crate::AckToken) of the message, in any order. What it did not acknowledge
    /// by the end of the process comes again.
    Manual,
}

/// The offline queue: messages that wait for a connection, for the broker's Receive Maximum, or for the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct QueueConfig {
    /// How many messages. Default: 10,000.
    pub max_messages: usize,
    /// How many bytes of memory they hold. Default: 64 MiB.
    pub max_bytes: usize,
    /// What happens when it is full.
    pub overflow: OverflowPolicy,
    /// How long a message may wait here, beside its Message Expiry Interval; `None` is without end. Default: `None`.
    pub max_wait: Option<Duration>,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_messages: 10_000,
            max_bytes: 64 * 1_024 * 1_024,
            overflow: OverflowPolicy::default(),
            max_wait: None,
        }
    }
}

/// The outbox: QoS 1 and 2 messages from [`publish`](crate::Client::publish) to their outcome, on disk.
///
/// With it the client says [`Output::Journal`](crate::Output::Journal) and [`Output::Commit`](crate::Output::Commit), and
/// what promises something leaves after [`Client::handle_committed`](crate::Client::handle_committed): PUBLISH, PUBREL,
/// PUBREC and PUBCOMP, the event that a message is stored, outcomes, and received QoS 2 messages that the client
/// acknowledges itself. [`Client::restore`](crate::Client::restore) goes on in the next process. QoS 0 messages and
/// requests to subscribe are not stored. Give the session an expiry too, or it ends with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
#[non_exhaustive]
pub struct OutboxConfig {
    /// How many messages, waiting or under way. Default: 100,000.
    pub max_messages: usize,
    /// How many bytes of memory they hold. Default: 64 MiB.
    pub max_bytes: usize,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { max_messages: 100_000, max_bytes: 64 * 1_024 * 1_024 }
    }
}

/// What happens to a message that meets a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OverflowPolicy {
    /// It is given back: [`UsageError::QueueFull`](crate::UsageError::QueueFull). An application that wants to wait
    /// tries again at [`Event::QueueHasRoom`](crate::Event::QueueHasRoom).
    #[default]
    Reject,
    /// It is taken, and the oldest ones are dropped until it fits.
    DropOldest,
    /// It gets a ticket whose outcome is that it was dropped.
    DropNewest,
}
