//! A second, naive encoder: owned packets, written field by field as the standard lists them. The codec is held against it.

use std::sync::LazyLock;

use damselfly_codec::{PacketType, Version};

use crate::notation::put_variable_integer;
use crate::vectors;

/// One packet with everything owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    Connect(ConnectModel),
    Connack {
        session_present: bool,
        code: u8,
        properties: Vec<PropertyModel>,
    },
    Publish {
        qos: u8,
        id: u16,
        dup: bool,
        retain: bool,
        topic: String,
        properties: Vec<PropertyModel>,
        payload: Vec<u8>,
    },
    Ack {
        packet_type: PacketType,
        id: u16,
        code: u8,
        properties: Vec<PropertyModel>,
    },
    Subscribe {
        id: u16,
        properties: Vec<PropertyModel>,
        filters: Vec<(String, u8)>,
    },
    Suback {
        id: u16,
        properties: Vec<PropertyModel>,
        codes: Vec<u8>,
    },
    Unsubscribe {
        id: u16,
        properties: Vec<PropertyModel>,
        filters: Vec<String>,
    },
    Unsuback {
        id: u16,
        properties: Vec<PropertyModel>,
        codes: Vec<u8>,
    },
    Pingreq,
    Pingresp,
    Disconnect {
        code: u8,
        properties: Vec<PropertyModel>,
    },
    Auth {
        code: u8,
        properties: Vec<PropertyModel>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectModel {
    pub(crate) clean_start: bool,
    pub(crate) keep_alive: u16,
    pub(crate) client_id: String,
    pub(crate) will: Option<WillModel>,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) properties: Vec<PropertyModel>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WillModel {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) properties: Vec<PropertyModel>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PropertyModel {
    pub(crate) id: u8,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    VariableInteger(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// Which properties a carrier may have, and whether they may be repeated: `testdata/properties.tsv`.
pub(crate) fn allowed_properties(carrier: &str) -> Vec<(u8, bool)> {
    static ALLOWED: LazyLock<Vec<(String, u8, bool)>> = LazyLock::new(|| {
        let mut allowed = Vec::new();
        for row in vectors::rows(include_str!("../../testdata/properties.tsv")) {
            let id = vectors::hex(&row[1][..2]);
            for carrier in row[3].split(' ') {
                allowed.push((carrier.trim_end_matches('*').to_owned(), id, carrier.ends_with('*')));
            }
        }
        allowed
    });
    ALLOWED.iter().filter(|(name, ..)| name == carrier).map(|(_, id, repeats)| (*id, *repeats)).collect()
}

/// The bytes of the packet on a connection of this version, in the shortest form the standard offers.
pub(crate) fn encode(model: &Model, version: Version) -> Vec<u8> {
    let has_properties = version == Version::V5_0;
    let mut body = Vec::new();
    let first = match model {
        Model::Connect(connect) => {
            put_connect(connect, version, &mut body);
            0x10
        }
        Model::Connack { session_present, code, properties } => {
            body.push(u8::from(*session_present));
            body.push(if has_properties { *code } else { return_code(*code) });
            put_properties(properties, has_properties, &mut body);
            0x20
        }
        Model::Publish { qos, id, dup, retain, topic, properties, payload } => {
            put_field(topic.as_bytes(), &mut body);
            if *qos > 0 {
                body.extend(id.to_be_bytes());
            }
            put_properties(properties, has_properties, &mut body);
            body.extend(payload);
            0x30 | u8::from(*dup) << 3 | qos << 1 | u8::from(*retain)
        }
        Model::Ack { packet_type, id, code, properties } => {
            body.extend(id.to_be_bytes());
            put_reason(*code, properties, &mut body);
            match packet_type {
                PacketType::Puback => 0x40,
                PacketType::Pubrec => 0x50,
                PacketType::Pubrel => 0x62,
                PacketType::Pubcomp => 0x70,
                other => panic!("{other:?} is no acknowledgement"),
            }
        }
        Model::Subscribe { id, properties, filters } => {
            body.extend(id.to_be_bytes());
            put_properties(properties, has_properties, &mut body);
            for (filter, options) in filters {
                put_field(filter.as_bytes(), &mut body);
                body.push(*options);
            }
            0x82
        }
        Model::Suback { id, properties, codes } => put_answer(0x90, *id, properties, codes, has_properties, &mut body),
        Model::Unsubscribe { id, properties, filters } => {
            body.extend(id.to_be_bytes());
            put_properties(properties, has_properties, &mut body);
            for filter in filters {
                put_field(filter.as_bytes(), &mut body);
            }
            0xA2
        }
        Model::Unsuback { id, properties, codes } => {
            put_answer(0xB0, *id, properties, codes, has_properties, &mut body)
        }
        Model::Pingreq => 0xC0,
        Model::Pingresp => 0xD0,
        Model::Disconnect { code, properties } => {
            put_reason(*code, properties, &mut body);
            0xE0
        }
        Model::Auth { code, properties } => {
            if *code != 0 || !properties.is_empty() {
                body.push(*code);
                put_properties(properties, true, &mut body);
            }
            0xF0
        }
    };
    let mut frame = vec![first];
    put_variable_integer(body.len(), &mut frame);
    frame.extend(body);
    frame
}

fn put_connect(connect: &ConnectModel, version: Version, body: &mut Vec<u8>) {
    let (name, level): (&[u8], u8) = match version {
        Version::V3_1 => (b"MQIsdp", 3),
        Version::V3_1_1 => (b"MQTT", 4),
        Version::V5_0 => (b"MQTT", 5),
    };
    put_field(name, body);
    body.push(level);
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6 | u8::from(connect.user_name.is_some()) << 7;
    body.push(flags);
    body.extend(connect.keep_alive.to_be_bytes());
    put_properties(&connect.properties, level == 5, body);
    put_field(connect.client_id.as_bytes(), body);
    if let Some(will) = &connect.will {
        put_properties(&will.properties, level == 5, body);
        put_field(will.topic.as_bytes(), body);
        put_field(&will.payload, body);
    }
    if let Some(user_name) = &connect.user_name {
        put_field(user_name.as_bytes(), body);
    }
    if let Some(password) = &connect.password {
        put_field(password, body);
    }
}

/// A Reason Code and Properties that may be left out from the end. [MQTT-3.4.2.1] [MQTT-3.14.2.1]
fn put_reason(code: u8, properties: &[PropertyModel], body: &mut Vec<u8>) {
    if code != 0 || !properties.is_empty() {
        body.push(code);
    }
    if !properties.is_empty() {
        put_properties(properties, true, body);
    }
}

fn put_answer(
    first: u8,
    id: u16,
    properties: &[PropertyModel],
    codes: &[u8],
    has_properties: bool,
    body: &mut Vec<u8>,
) -> u8 {
    body.extend(id.to_be_bytes());
    put_properties(properties, has_properties, body);
    body.extend(codes);
    first
}

fn put_properties(properties: &[PropertyModel], has_properties: bool, body: &mut Vec<u8>) {
    if !has_properties {
        return;
    }
    let mut inner = Vec::new();
    for property in properties {
        inner.push(property.id);
        match &property.value {
            Value::Byte(value) => inner.push(*value),
            Value::TwoBytes(value) => inner.extend(value.to_be_bytes()),
            Value::FourBytes(value) => inner.extend(value.to_be_bytes()),
            Value::VariableInteger(value) => {
                put_variable_integer(usize::try_from(*value).unwrap_or(usize::MAX), &mut inner);
            }
            Value::Text(text) => put_field(text.as_bytes(), &mut inner),
            Value::Binary(data) => put_field(data, &mut inner),
            Value::Pair(name, value) => {
                put_field(name.as_bytes(), &mut inner);
                put_field(value.as_bytes(), &mut inner);
            }
        }
    }
    put_variable_integer(inner.len(), body);
    body.extend(inner);
}

fn put_field(field: &[u8], body: &mut Vec<u8>) {
    let len = u16::try_from(field.len()).unwrap_or_else(|_| panic!("a field of {} bytes", field.len()));
    body.extend(len.to_be_bytes());
    body.extend(field);
}

/// Table 3.1 of 3.1.1, from the Reason Codes that mean the same.
fn return_code(code: u8) -> u8 {
    match code {
        0x00 => 0,
        0x84 => 1,
        0x85 => 2,
        0x88 => 3,
        0x86 => 4,
        0x87 => 5,
        other => panic!("3.1.1 has no return code for {other:02X}"),
    }
}
