//! What one end of a connection announces to the other: a limit or a missing feature. [MQTT-3.1.2.11] [MQTT-3.2.2.3]

use core::num::{NonZeroU16, NonZeroU32};

use damselfly_codec::{
    EncodeError, PROTOCOL_MAXIMUM_PACKET_SIZE, Properties, PropertiesBuf, Property, QoS, TopicAlias,
};

use crate::PeerError;

/// What one end accepts, as it said in its CONNECT or CONNACK; the default is what holds if nothing is said, and so what
/// holds before 5.0.
///
/// One type for both directions: what the other side announced binds us, what we announced binds the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of CONNACK, and they are independent")]
pub struct Accepts {
    /// Receive Maximum: QoS 1 and 2 messages under way. Default 65,535. [MQTT-3.1.2.11.3]
    pub receive_maximum: NonZeroU16,
    /// Maximum Packet Size in bytes, fixed header included. Default: what the protocol can say, 268,435,460.
    /// [MQTT-3.1.2.11.4]
    pub maximum_packet_size: NonZeroU32,
    /// Topic Alias Maximum. Default 0: none. [MQTT-3.1.2.11.5]
    pub topic_alias_maximum: u16,
    /// Maximum QoS of a PUBLISH; said by servers only. Default 2. [MQTT-3.2.2.3.4]
    pub maximum_qos: QoS,
    /// Retain Available; said by servers only. Default true. [MQTT-3.2.2.3.5]
    pub retain: bool,
    /// Wildcard Subscription Available; said by servers only. Default true. [MQTT-3.2.2.3.11]
    pub wildcard_subscriptions: bool,
    /// Subscription Identifiers Available; said by servers only. Default true. [MQTT-3.2.2.3.12]
    pub subscription_identifiers: bool,
    /// Shared Subscription Available; said by servers only. Default true. [MQTT-3.2.2.3.13]
    pub shared_subscriptions: bool,
}

impl Accepts {
    /// Nothing was announced.
    pub const ALL: Self = Self {
        receive_maximum: NonZeroU16::MAX,
        maximum_packet_size: match NonZeroU32::new(PROTOCOL_MAXIMUM_PACKET_SIZE) {
            Some(size) => size,
            None => NonZeroU32::MAX,
        },
        topic_alias_maximum: 0,
        maximum_qos: QoS::ExactlyOnce,
        retain: true,
        wildcard_subscriptions: true,
        subscription_identifiers: true,
        shared_subscriptions: true,
    };

    /// What a CONNECT or CONNACK with these properties announces; no properties, as always before 5.0, announce nothing.
    pub fn from_properties(properties: Properties<'_>) -> Self {
        if properties.is_empty() {
            return Self::ALL;
        }
        let all = Self::ALL;
        Self {
            receive_maximum: properties.receive_maximum().unwrap_or(all.receive_maximum),
            maximum_packet_size: properties.maximum_packet_size().unwrap_or(all.maximum_packet_size),
            topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(all.topic_alias_maximum),
            maximum_qos: properties.maximum_qos().unwrap_or(all.maximum_qos),
            retain: properties.retain_available().unwrap_or(all.retain),
            wildcard_subscriptions: properties.wildcard_subscription_available().unwrap_or(all.wildcard_subscriptions),
            subscription_identifiers: properties
                .subscription_identifier_available()
                .unwrap_or(all.subscription_identifiers),
            shared_subscriptions: properties.shared_subscription_available().unwrap_or(all.shared_subscriptions),
        }
    }

    /// Announces it: appends what differs from [`Accepts::ALL`]. Only a CONNACK may say that a feature is missing.
    ///
    /// # Errors
    ///
    /// A property that is in `properties` already.
    pub fn announce(&self, properties: &mut PropertiesBuf) -> Result<(), EncodeError> {
        let all = Self::ALL;
        let differing = [
            (self.receive_maximum != all.receive_maximum).then_some(Property::ReceiveMaximum(self.receive_maximum)),
            (self.maximum_packet_size != all.maximum_packet_size)
                .then_some(Property::MaximumPacketSize(self.maximum_packet_size)),
            (self.topic_alias_maximum != all.topic_alias_maximum)
                .then_some(Property::TopicAliasMaximum(self.topic_alias_maximum)),
            (self.maximum_qos != all.maximum_qos).then_some(Property::MaximumQoS(self.maximum_qos)),
            (!self.retain).then_some(Property::RetainAvailable(false)),
            (!self.wildcard_subscriptions).then_some(Property::WildcardSubscriptionAvailable(false)),
            (!self.subscription_identifiers).then_some(Property::SubscriptionIdentifierAvailable(false)),
            (!self.shared_subscriptions).then_some(Property::SharedSubscriptionAvailable(false)),
        ];
        differing.into_iter().flatten().try_for_each(|property| properties.push(property))
    }

    /// May a PUBLISH with this QoS and RETAIN be sent to this end?
    ///
    /// # Errors
    ///
    /// What the sender would do wrong: [`PeerError::QoSNotSupported`] [MQTT-3.2.2-11],
    /// [`PeerError::RetainNotSupported`] [MQTT-3.2.2-14].
    pub fn check_publish(&self, qos: QoS, retain: bool) -> Result<(), PeerError> {
        if qos > self.maximum_qos {
            Err(PeerError::QoSNotSupported)
        } else if retain && !self.retain {
            Err(PeerError::RetainNotSupported)
        } else {
            Ok(())
        }
    }

    /// May this Topic Alias be sent to this end?
    ///
    /// # Errors
    ///
    /// [`PeerError::TopicAliasInvalid`] above the maximum. [MQTT-3.3.2-9] [MQTT-3.3.2-11]
    pub fn check_alias(&self, alias: TopicAlias) -> Result<(), PeerError> {
        if alias.get() <= self.topic_alias_maximum { Ok(()) } else { Err(PeerError::TopicAliasInvalid) }
    }

    /// May a subscription of this kind be asked of this end? Shared and wildcard are properties of its Topic Filter, the
    /// identifier one of the SUBSCRIBE.
    ///
    /// # Errors
    ///
    /// The first of the three features that is missing.
    pub const fn check_subscription(&self, shared: bool, wildcard: bool, identifier: bool) -> Result<(), PeerError> {
        if shared && !self.shared_subscriptions {
            Err(PeerError::SharedSubscriptionsNotSupported)
        } else if wildcard && !self.wildcard_subscriptions {
            Err(PeerError::WildcardSubscriptionsNotSupported)
        } else if identifier && !self.subscription_identifiers {
            Err(PeerError::SubscriptionIdentifiersNotSupported)
        } else {
            Ok(())
        }
    }

    /// Does a packet of this size, fixed header included, exceed the Maximum Packet Size? [MQTT-3.1.2-24] [MQTT-3.2.2-15]
    pub fn is_too_large(&self, packet_len: usize) -> bool {
        u32::try_from(packet_len).map_or(true, |len| len > self.maximum_packet_size.get())
    }
}

impl Default for Accepts {
    fn default() -> Self {
        Self::ALL
    }
}
