//! What each connection attempt asks the application for.

use alloc::boxed::Box;
use core::fmt;
use core::num::NonZeroU32;

use bytes::Bytes;
use damselfly_codec::{EncodeError, PROTOCOL_MAXIMUM_PACKET_SIZE, PropertiesBuf, Property, QoS, Version};
use damselfly_session::SessionExpiry;
use damselfly_topic::TopicNameBuf;

use crate::Config;

/// What each connection attempt asks the application for, so that credentials can change. The default is anonymous and
/// without a will.
///
/// ```
/// use damselfly_client::ConnectParameters;
///
/// let mut parameters = ConnectParameters::default();
/// parameters.user_name = Some("alice".into());
/// parameters.password = Some("secret".into());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectParameters {
    /// The User Name. [MQTT-3.1.3.5]
    pub user_name: Option<Box<str>>,
    /// The Password: any bytes, at most 65,535. Before 5.0 it needs a User Name. [MQTT-3.1.3.6]
    pub password: Option<Bytes>,
    /// The message the broker publishes if this connection ends otherwise than by [`close`](crate::Client::close).
    pub will: Option<Will>,
    /// Properties of CONNECT beside those the client sets itself from its [`Config`], 5.0 only: User Properties,
    /// Authentication Method and Data, Request Response Information, Request Problem Information. [MQTT-3.1.2.11]
    pub properties: PropertiesBuf,
}

/// The password is not shown.
impl fmt::Debug for ConnectParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectParameters")
            .field("user_name", &self.user_name)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

/// The Will Message of one connection. [MQTT-3.1.2.5]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Will {
    /// The Will Topic.
    pub topic: TopicNameBuf,
    /// The Will Payload: at most 65,535 bytes.
    pub payload: Bytes,
    /// The Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// The Will Properties, 5.0 only, Will Delay Interval among them. [MQTT-3.1.3.2]
    pub properties: PropertiesBuf,
}

impl Will {
    /// A will with QoS 0, not retained, without properties.
    pub fn new(topic: TopicNameBuf, payload: impl Into<Bytes>) -> Self {
        Self { topic, payload: payload.into(), qos: QoS::AtMostOnce, retain: false, properties: PropertiesBuf::new() }
    }
}

/// All properties of CONNECT: the application's, and those that say how this client is configured.
pub(crate) fn connect_properties(
    config: &Config,
    parameters: &ConnectParameters,
) -> Result<PropertiesBuf, EncodeError> {
    let mut properties = parameters.properties.clone();
    if config.version != Version::V5_0 {
        return Ok(properties);
    }
    if config.session_expiry != SessionExpiry::OnClose {
        properties.push(Property::SessionExpiryInterval(config.session_expiry.to_wire()))?;
    }
    if config.receive_maximum.get() != u16::MAX {
        properties.push(Property::ReceiveMaximum(config.receive_maximum))?;
    }
    if config.maximum_packet_size < PROTOCOL_MAXIMUM_PACKET_SIZE {
        if let Some(size) = NonZeroU32::new(config.maximum_packet_size) {
            properties.push(Property::MaximumPacketSize(size))?;
        }
    }
    if config.topic_alias_maximum > 0 {
        properties.push(Property::TopicAliasMaximum(config.topic_alias_maximum))?;
    }
    Ok(properties)
}
