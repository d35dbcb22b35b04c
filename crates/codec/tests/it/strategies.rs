//! Packets for property tests and fuzz targets.

use damselfly_codec::{PacketType, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::reference::{ConnectModel, Model, PropertyModel, Value, WillModel, allowed_properties, encode};

/// A version, a packet for it, and its bytes.
pub(crate) fn frame() -> impl Strategy<Value = (Version, Model, Vec<u8>)> {
    select(&[Version::V3_1, Version::V3_1_1, Version::V5_0][..]).prop_flat_map(|version| {
        model(version).prop_map(move |model| {
            let bytes = encode(&model, version);
            (version, model, bytes)
        })
    })
}

/// Any packet that a connection of this version may carry.
pub(crate) fn model(version: Version) -> BoxedStrategy<Model> {
    let five = version == Version::V5_0;
    let mut choices = vec![
        connect(five).boxed(),
        connack(version).boxed(),
        publish(five).boxed(),
        publish(five).boxed(),
        subscribe(five).boxed(),
        (id(), properties("UNSUBSCRIBE", five), vec(filter(five), 1..4))
            .prop_map(|(id, properties, filters)| Model::Unsubscribe { id, properties, filters })
            .boxed(),
        (id(), properties("SUBACK", five), vec(select(suback_codes(five)), 1..5))
            .prop_map(|(id, properties, codes)| Model::Suback { id, properties, codes })
            .boxed(),
        (id(), properties("UNSUBACK", five), vec(select(UNSUBACK_CODES), 1..5))
            .prop_map(move |(id, properties, codes)| Model::Unsuback {
                id,
                properties,
                codes: if five { codes } else { Vec::new() },
            })
            .boxed(),
        Just(Model::Pingreq).boxed(),
        Just(Model::Pingresp).boxed(),
        (select(if five { DISCONNECT_CODES } else { &[0x00] }), properties("DISCONNECT", five))
            .prop_map(|(code, properties)| Model::Disconnect { code, properties })
            .boxed(),
    ];
    for (packet_type, carrier, codes) in ACKNOWLEDGEMENTS {
        choices.push(acknowledgement(packet_type, carrier, if five { codes } else { &[0x00] }, five).boxed());
    }
    if five {
        choices.push(auth().boxed());
    }
    proptest::strategy::Union::new(choices).boxed()
}

const ACKNOWLEDGEMENTS: [(PacketType, &str, &[u8]); 4] = [
    (PacketType::Puback, "PUBACK", &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (PacketType::Pubrec, "PUBREC", &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (PacketType::Pubrel, "PUBREL", &[0x00, 0x92]),
    (PacketType::Pubcomp, "PUBCOMP", &[0x00, 0x92]),
];
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
const DISCONNECT_CODES: &[u8] = &[0x00, 0x04, 0x80, 0x81, 0x82, 0x8B, 0x8E, 0x93, 0x9C, 0x9D, 0xA2];

fn suback_codes(five: bool) -> &'static [u8] {
    if five { &[0x00, 0x01, 0x02, 0x80, 0x87, 0x8F, 0x9E, 0xA1, 0xA2] } else { &[0x00, 0x01, 0x02, 0x80] }
}

fn connect(five: bool) -> impl Strategy<Value = Model> {
    let will = (qos(), any::<bool>(), topic_name(), payload(), properties("WILL", five))
        .prop_map(|(qos, retain, topic, payload, properties)| WillModel { qos, retain, topic, payload, properties });
    let fields = (
        any::<bool>(),
        any::<u16>(),
        text(),
        proptest::option::of(will),
        proptest::option::of(text()),
        proptest::option::of(payload()),
        properties("CONNECT", five),
    );
    fields.prop_map(move |(clean_start, keep_alive, client_id, will, user_name, password, properties)| {
        // Only 5.0 knows a password without a user name. [MQTT3-3.1.2-22]
        let password = if five || user_name.is_some() { password } else { None };
        Model::Connect(ConnectModel { clean_start, keep_alive, client_id, will, user_name, password, properties })
    })
}

fn connack(version: Version) -> impl Strategy<Value = Model> {
    let five = version == Version::V5_0;
    let codes: &[u8] =
        if five { &[0x00, 0x80, 0x81, 0x87, 0x8A, 0x9D, 0x9F] } else { &[0x00, 0x84, 0x85, 0x86, 0x87, 0x88] };
    (any::<bool>(), select(codes), properties("CONNACK", five)).prop_map(move |(session_present, code, properties)| {
        // 3.1 has no Session Present, and it never stands beside an error. [MQTT-3.2.2-6]
        let session_present = session_present && code == 0 && version != Version::V3_1;
        Model::Connack { session_present, code, properties }
    })
}

fn publish(five: bool) -> impl Strategy<Value = Model> {
    let fields = (
        qos(),
        id(),
        any::<bool>(),
        any::<bool>(),
        topic_name(),
        any::<bool>(),
        properties("PUBLISH", five),
        payload(),
    );
    fields.prop_map(|(qos, id, dup, retain, topic, hide_topic, properties, payload)| {
        let has_alias = properties.iter().any(|property| property.id == TOPIC_ALIAS);
        let topic = if hide_topic && has_alias { String::new() } else { topic };
        Model::Publish { qos, id, dup: dup && qos > 0, retain, topic, properties, payload }
    })
}

fn acknowledgement(
    packet_type: PacketType,
    carrier: &'static str,
    codes: &'static [u8],
    five: bool,
) -> impl Strategy<Value = Model> {
    (id(), select(codes), properties(carrier, five)).prop_map(move |(id, code, properties)| Model::Ack {
        packet_type,
        id,
        code,
        properties,
    })
}

fn subscribe(five: bool) -> impl Strategy<Value = Model> {
    let options = (0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8);
    let entry = (filter(five), options).prop_map(move |(filter, (qos, no_local, retain_as_published, handling))| {
        // No Local is not for Shared Subscriptions. [MQTT-3.8.3-4]
        let no_local = no_local && !filter.starts_with("$share/");
        let more = u8::from(no_local) << 2 | u8::from(retain_as_published) << 3 | handling << 4;
        (filter, if five { qos | more } else { qos })
    });
    (id(), properties("SUBSCRIBE", five), vec(entry, 1..4)).prop_map(|(id, properties, filters)| Model::Subscribe {
        id,
        properties,
        filters,
    })
}

fn auth() -> impl Strategy<Value = Model> {
    (select(&[0x00, 0x18, 0x19][..]), properties("AUTH", true), text()).prop_map(|(code, mut properties, method)| {
        if !properties.is_empty() || code != 0 {
            put_missing_method(&mut properties, method);
        }
        Model::Auth { code, properties }
    })
}

const RESPONSE_TOPIC: u8 = 0x08;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const TOPIC_ALIAS: u8 = 0x23;

/// Properties that the carrier may have, each once unless it may be repeated, in any order.
fn properties(carrier: &'static str, five: bool) -> impl Strategy<Value = Vec<PropertyModel>> {
    let allowed = allowed_properties(carrier);
    let raw = (any::<Index>(), any::<u32>(), text(), topic_name(), vec(any::<u8>(), 0..9));
    vec(raw, 0..if five { 7 } else { 1 }).prop_map(move |raws| {
        let mut properties: Vec<PropertyModel> = Vec::new();
        for (index, number, text, topic, data) in raws {
            let (id, repeats) = allowed[index.index(allowed.len())];
            if repeats || !properties.iter().any(|property| property.id == id) {
                properties.push(PropertyModel { id, value: value_of(id, number, text, topic, data) });
            }
        }
        if properties.iter().any(|property| property.id == AUTHENTICATION_DATA) {
            put_missing_method(&mut properties, "m".to_owned());
        }
        properties
    })
}

/// Authentication Data and AUTH need an Authentication Method. [MQTT-3.15.2.2.2]
fn put_missing_method(properties: &mut Vec<PropertyModel>, method: String) {
    if !properties.iter().any(|property| property.id == AUTHENTICATION_METHOD) {
        properties.push(PropertyModel { id: AUTHENTICATION_METHOD, value: Value::Text(method) });
    }
}

/// A value the property may have, of the type that table 2-4 gives it.
fn value_of(id: u8, number: u32, text: String, topic: String, data: Vec<u8>) -> Value {
    let low = u16::try_from(number % 0x1_0000).unwrap_or_default();
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(u8::from(number % 2 == 1)),
        0x21 | TOPIC_ALIAS => Value::TwoBytes(low.max(1)),
        0x13 | 0x22 => Value::TwoBytes(low),
        0x27 => Value::FourBytes(number.max(1)),
        0x02 | 0x11 | 0x18 => Value::FourBytes(number),
        // Few bits are as likely as many.
        SUBSCRIPTION_IDENTIFIER => Value::VariableInteger(((number & 0x0FFF_FFFF) >> (number >> 28 << 1)).max(1)),
        RESPONSE_TOPIC => Value::Text(topic),
        0x03 | 0x12 | AUTHENTICATION_METHOD | 0x1A | 0x1C | 0x1F => Value::Text(text),
        0x09 | AUTHENTICATION_DATA => Value::Binary(data),
        0x26 => Value::Pair(text, topic),
        other => panic!("no property has the identifier {other:02X}"),
    }
}

fn qos() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn id() -> impl Strategy<Value = u16> {
    prop_oneof![1..=u16::MAX, 1..4_u16]
}

/// Mostly short, sometimes around the sizes at which a Remaining Length grows.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..20),
        1 => (100..140_usize).prop_map(|len| vec![0x5A; len]),
        1 => (16_360..16_400_usize).prop_map(|len| vec![0x5A; len]),
    ]
}

/// A character that a UTF-8 Encoded String may have, of each encoded length.
fn character() -> impl Strategy<Value = char> {
    use proptest::char::range;
    prop_oneof![
        6 => range(' ', '~'),
        1 => range('\u{1}', '\u{7FF}'),
        1 => range('\u{800}', '\u{D7FF}'),
        1 => range('\u{E000}', '\u{10FFFF}'),
    ]
}

fn text() -> impl Strategy<Value = String> {
    vec(character(), 0..12).prop_map(|characters| characters.into_iter().collect())
}

/// One level of a Topic Name or Topic Filter, possibly empty.
fn level() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['/', '+', '#'], "-"))
}

/// A Topic Name of one character and more.
pub(crate) fn topic_name() -> impl Strategy<Value = String> {
    vec(level(), 1..5).prop_map(|levels| {
        let name = levels.join("/");
        if name.is_empty() { "/".to_owned() } else { name }
    })
}

/// A Topic Filter, for 5.0 also one of a Shared Subscription.
pub(crate) fn filter(five: bool) -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
    (vec(level, 1..5), any::<bool>(), any::<bool>()).prop_map(move |(mut levels, has_hash, is_shared)| {
        if has_hash {
            levels.push("#".to_owned());
        }
        let filter = levels.join("/");
        match (filter.as_str(), is_shared && five) {
            ("", _) => "/".to_owned(),
            ("$share", _) => "$share-".to_owned(),
            (_, true) => format!("$share/group/{filter}"),
            _ => filter,
        }
    })
}
