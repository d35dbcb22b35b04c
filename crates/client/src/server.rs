//! What the broker of this connection allows: said by CONNACK, kept to before anything is sent. [MQTT-3.2.2.3]

use damselfly_codec::{Connack, Delivery, Foreign, QoS, SubscriptionOptions, Version};
use damselfly_session::{Accepts, Message, PeerError, SessionExpiry};
use damselfly_topic::TopicFilter;

use crate::UsageError;

/// What the broker of this connection allows, and what holds on it. [MQTT-3.2.2.3]
///
/// Before 5.0 a broker announces nothing, so everything is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// The protocol version of the connection.
    pub version: Version,
    /// The limits and features of the CONNACK.
    pub accepts: Accepts,
    /// The Keep Alive in force, in seconds; 0 is none. [MQTT-3.2.2-21]
    pub keep_alive: u16,
    /// The session expiry in force. [MQTT-3.2.2.3.2]
    pub session_expiry: SessionExpiry,
}

impl ServerLimits {
    /// Nothing is announced: as before CONNACK, and before 5.0.
    pub(crate) const fn unlimited(version: Version, keep_alive: u16, session_expiry: SessionExpiry) -> Self {
        Self { version, accepts: Accepts::ALL, keep_alive, session_expiry }
    }

    /// What CONNACK says; what it does not say is as asked for in CONNECT.
    pub(crate) fn from_connack(connack: &Connack<'_>, asked: Self) -> Self {
        let properties = connack.properties;
        let mut accepts = Accepts::ALL;
        accepts.receive_maximum = properties.receive_maximum().unwrap_or(accepts.receive_maximum);
        accepts.maximum_packet_size = properties.maximum_packet_size().unwrap_or(accepts.maximum_packet_size);
        accepts.topic_alias_maximum = properties.topic_alias_maximum().unwrap_or(accepts.topic_alias_maximum);
        accepts.maximum_qos = properties.maximum_qos().unwrap_or(accepts.maximum_qos);
        accepts.retain = properties.retain_available().unwrap_or(true);
        accepts.wildcard_subscriptions = properties.wildcard_subscription_available().unwrap_or(true);
        accepts.subscription_identifiers = properties.subscription_identifier_available().unwrap_or(true);
        accepts.shared_subscriptions = properties.shared_subscription_available().unwrap_or(true);
        Self {
            accepts,
            keep_alive: properties.server_keep_alive().unwrap_or(asked.keep_alive),
            session_expiry: match properties.session_expiry_interval() {
                Some(seconds) => SessionExpiry::from_wire(Some(seconds)),
                None => asked.session_expiry,
            },
            ..asked
        }
    }

    /// May this message be sent at all?
    pub(crate) fn check_message(&self, message: &Message) -> Result<(), UsageError> {
        if !self.version.has_properties() && !message.properties().is_empty() {
            return Err(UsageError::NeedsVersion5);
        }
        self.accepts.check_publish(message.qos(), message.retain()).map_err(|error| self.usage_error(error))
    }

    /// Would its PUBLISH be too large, without a Topic Alias that may make it smaller?
    pub(crate) fn check_size(&self, message: &Message) -> Result<(), UsageError> {
        let publish = message.to_publish(Delivery::AtMostOnce, message.retain());
        let size = publish.encoded_len(self.version, Foreign::Reject).map_err(crate::send::usage_error)?;
        let expiry = if self.version == Version::V5_0 && message.expires_at().is_some() { EXPIRY_LEN } else { 0 };
        let packet_id = if message.qos() == QoS::AtMostOnce { 0 } else { 2 };
        self.check_len(size + expiry + packet_id)
    }

    pub(crate) fn check_len(&self, size: usize) -> Result<(), UsageError> {
        if self.accepts.is_too_large(size) {
            return Err(UsageError::PacketTooLarge { size, maximum: self.accepts.maximum_packet_size.get() });
        }
        Ok(())
    }

    /// May this subscription be asked for?
    pub(crate) fn check_subscription(
        &self,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
        has_subscription_id: bool,
    ) -> Result<(), UsageError> {
        let is_shared = filter.shared().is_some();
        if is_shared && options.no_local {
            return Err(UsageError::NoLocalOnSharedSubscription);
        }
        if self.version != Version::V5_0 && options != (SubscriptionOptions { qos: options.qos, ..Default::default() })
        {
            return Err(UsageError::NeedsVersion5);
        }
        self.accepts
            .check_subscription(is_shared, filter.has_wildcards(), has_subscription_id)
            .map_err(|error| self.usage_error(error))
    }

    /// What would be the client's fault at the broker is the application's here.
    const fn usage_error(&self, error: PeerError) -> UsageError {
        match error {
            PeerError::QoSNotSupported => UsageError::QoSNotSupported { maximum: self.accepts.maximum_qos },
            PeerError::RetainNotSupported => UsageError::RetainNotSupported,
            PeerError::WildcardSubscriptionsNotSupported => UsageError::WildcardSubscriptionsNotSupported,
            PeerError::SharedSubscriptionsNotSupported => UsageError::SharedSubscriptionsNotSupported,
            PeerError::SubscriptionIdentifiersNotSupported => UsageError::SubscriptionIdentifiersNotSupported,
            _ => UsageError::NotEncodable,
        }
    }
}

/// What the Message Expiry Interval takes in a packet, at most one byte more for the Property Length included.
const EXPIRY_LEN: usize = 6;
