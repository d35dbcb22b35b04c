//! What carries topics and properties is written as an MQTT 5.0 packet, which is read back with every check there is.

use damselfly_client::{ConnectParameters, Will};
use damselfly_codec::{
    Auth, Connect, Delivery, Foreign, Packet, PacketId, Properties, PropertiesBuf, Property, PropertyId, Publish,
    ReasonCode, Subscribe, SubscriptionOptions, Unsubscribe, Version, Will as CodecWill,
};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicFilterBuf};

use super::redact::{mask, redacted};

/// In place of an identifier that means nothing.
const NO_ID: PacketId = PacketId::MIN;

/// Filters with their options, and the properties of the request.
pub(super) type Subscriptions = (Vec<(TopicFilterBuf, SubscriptionOptions)>, PropertiesBuf);

pub(super) fn of_message(message: &Message) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let publish = message.to_publish(Delivery::first(message.qos(), NO_ID), message.retain());
    publish.encode_checked(Version::V5_0, Foreign::Reject, &mut out).ok()?;
    Some(out)
}

pub(super) fn to_message(bytes: &[u8], expires_at: Option<u64>) -> Option<Message> {
    let Ok(Packet::Publish(publish @ Publish { topic: Some(topic), .. })) = Packet::decode(Version::V5_0, bytes) else {
        return None;
    };
    let expires_at = expires_at.map(Timestamp::from_micros);
    Some(Message::new(&publish, topic, Timestamp::ZERO).with_expiry(expires_at))
}

/// Without the password and the Authentication Data.
pub(super) fn of_parameters(parameters: &ConnectParameters) -> Option<Vec<u8>> {
    let properties = redacted(parameters.properties.as_properties());
    let password = parameters.password.as_deref().map(mask);
    let will = parameters.will.as_ref().map(|will| CodecWill {
        qos: will.qos,
        retain: will.retain,
        topic: will.topic.as_name(),
        payload: &will.payload,
        properties: will.properties.as_properties(),
    });
    let connect = Connect {
        will,
        user_name: parameters.user_name.as_deref(),
        password: password.as_deref(),
        properties: properties.as_properties(),
        ..Connect::new(Version::V5_0, "")
    };
    let mut out = Vec::new();
    connect.encode(Foreign::Reject, &mut out).ok()?;
    // What an application may say and no CONNECT can is refused by the reader, so it must not be written.
    to_parameters(&out)?;
    Some(out)
}

pub(super) fn to_parameters(bytes: &[u8]) -> Option<ConnectParameters> {
    let Ok(Packet::Connect(connect)) = Packet::decode(Version::V5_0, bytes) else { return None };
    let connect = connect.fields();
    let mut parameters = ConnectParameters::default();
    parameters.user_name = connect.user_name.map(Into::into);
    parameters.password = connect.password.map(|password| password.to_vec().into());
    parameters.properties = connect.properties.into();
    parameters.will = connect.will.map(|will| {
        let mut copy = Will::new(will.topic.to_buf(), will.payload.to_vec());
        copy.qos = will.qos;
        copy.retain = will.retain;
        copy.properties = will.properties.into();
        copy
    });
    Some(parameters)
}

pub(super) fn of_subscribe(
    filters: &[(TopicFilter<'_>, SubscriptionOptions)],
    properties: Properties<'_>,
) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    Subscribe::new(NO_ID, properties, filters).encode(Version::V5_0, Foreign::Reject, &mut out).ok()?;
    to_subscribe(&out)?;
    Some(out)
}

pub(super) fn to_subscribe(bytes: &[u8]) -> Option<Subscriptions> {
    let Ok(Packet::Subscribe(subscribe)) = Packet::decode(Version::V5_0, bytes) else { return None };
    let filters = subscribe.filters().map(|(filter, options)| (filter.to_buf(), options)).collect();
    Some((filters, subscribe.properties.into()))
}

pub(super) fn of_unsubscribe(filters: &[TopicFilter<'_>], properties: Properties<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    Unsubscribe::new(NO_ID, properties, filters).encode(Version::V5_0, Foreign::Reject, &mut out).ok()?;
    to_unsubscribe(&out)?;
    Some(out)
}

pub(super) fn to_unsubscribe(bytes: &[u8]) -> Option<(Vec<TopicFilterBuf>, PropertiesBuf)> {
    let Ok(Packet::Unsubscribe(unsubscribe)) = Packet::decode(Version::V5_0, bytes) else { return None };
    Some((unsubscribe.filters().map(TopicFilter::to_buf).collect(), unsubscribe.properties.into()))
}

/// An AUTH has a method. One that is only there for that says so by the Reason Code.
pub(super) fn of_properties(properties: Properties<'_>) -> Option<Vec<u8>> {
    let mut all = PropertiesBuf::new();
    let reason_code = if properties.authentication_method().is_some() {
        ReasonCode::ReAuthenticate
    } else {
        all.push(Property::AuthenticationMethod("-")).ok()?;
        ReasonCode::ContinueAuthentication
    };
    all.extend(redacted(properties).as_properties()).ok()?;
    let mut out = Vec::new();
    let auth = Auth { reason_code, properties: all.as_properties() };
    auth.encode(Version::V5_0, Foreign::Reject, &mut out).ok()?;
    Some(out)
}

pub(super) fn to_properties(bytes: &[u8]) -> Option<PropertiesBuf> {
    let Ok(Packet::Auth(auth)) = Packet::decode(Version::V5_0, bytes) else { return None };
    if auth.reason_code == ReasonCode::ReAuthenticate {
        return Some(auth.properties.into());
    }
    let mut properties = PropertiesBuf::new();
    for property in auth.properties.iter().filter(|property| property.id() != PropertyId::AuthenticationMethod) {
        properties.push(property).ok()?;
    }
    Some(properties)
}
