//! What clients send, and packets as lines to compare with.

use std::fmt::Write as _;

use damselfly_codec::{
    Ack, Connect, Delivery, Foreign, Packet, PacketId, Properties, PropertiesBuf, Property, QoS, ReasonCode, Version,
    Will,
};
use damselfly_topic::{TopicFilter, TopicName};

pub(crate) fn topic(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

pub(crate) fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

pub(crate) fn delivery(qos: u8, id: u16, dup: bool) -> Delivery {
    match qos {
        0 => Delivery::AtMostOnce,
        1 => Delivery::AtLeastOnce { id: packet_id(id), dup },
        _ => Delivery::ExactlyOnce { id: packet_id(id), dup },
    }
}

pub(crate) fn qos(level: u8) -> QoS {
    delivery(level, 1, false).qos()
}

pub(crate) fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).unwrap();
    }
    properties
}

/// How a client connects.
#[derive(Clone, Copy)]
pub(crate) struct As<'a> {
    pub(crate) version: Version,
    pub(crate) client_id: &'a str,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive: u16,
    pub(crate) expiry: Option<u32>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) properties: &'a [Property<'a>],
    pub(crate) user_name: Option<&'a str>,
    /// Topic, payload, QoS, retain, delay.
    pub(crate) will: Option<(&'a str, &'a str, u8, bool, u32)>,
}

pub(crate) fn v5(client_id: &str) -> As<'_> {
    As {
        version: Version::V5_0,
        client_id,
        clean_start: true,
        keep_alive: 0,
        expiry: None,
        receive_maximum: None,
        properties: &[],
        user_name: None,
        will: None,
    }
}

pub(crate) fn v3(client_id: &str) -> As<'_> {
    As { version: Version::V3_1_1, ..v5(client_id) }
}

impl<'a> As<'a> {
    /// A session that stays: 5.0 for `seconds`, 3.1.1 for ever.
    pub(crate) fn lasting(self, seconds: u32) -> Self {
        if self.version == Version::V5_0 {
            Self { clean_start: false, expiry: Some(seconds), ..self }
        } else {
            Self { clean_start: false, ..self }
        }
    }

    pub(crate) fn with(self, properties: &'a [Property<'a>]) -> Self {
        Self { properties, ..self }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut list = properties(self.properties);
        if let Some(expiry) = self.expiry {
            list.push(Property::SessionExpiryInterval(expiry)).unwrap();
        }
        if let Some(maximum) = self.receive_maximum {
            list.push(Property::ReceiveMaximum(maximum.try_into().unwrap())).unwrap();
        }
        let mut will_properties = PropertiesBuf::new();
        let will = self.will.map(|(name, payload, level, retain, delay)| {
            if delay > 0 {
                will_properties.push(Property::WillDelayInterval(delay)).unwrap();
            }
            (name, payload, level, retain)
        });
        let will = will.map(|(name, payload, level, retain)| Will {
            qos: qos(level),
            retain,
            topic: topic(name),
            payload: payload.as_bytes(),
            properties: will_properties.as_properties(),
        });
        let connect = Connect {
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            will,
            user_name: self.user_name,
            properties: list.as_properties(),
            ..Connect::new(self.version, self.client_id)
        };
        let mut frame = Vec::new();
        connect.encode(Foreign::Reject, &mut frame).unwrap();
        frame
    }
}

/// One packet as a line: type, then what matters, then properties in braces.
pub(crate) fn show(version: Version, packet: Packet<'_>) -> String {
    let ack = |name: &str, ack: Ack<'_>| {
        let mut line = format!("{name} #{}", ack.packet_id.get());
        if ack.reason_code != ReasonCode::Success {
            write!(line, " {:02X}", ack.reason_code.code()).unwrap();
        }
        line + &braces(ack.properties)
    };
    let codes =
        |codes: Vec<ReasonCode>| codes.iter().fold(String::new(), |line, code| format!("{line} {:02X}", code.code()));
    match packet {
        Packet::Connack(connack) => {
            let code = match version {
                Version::V5_0 => connack.reason_code.code(),
                _ => connack.reason_code.connack_return_code().unwrap(),
            };
            let present = if connack.session_present { " present" } else { "" };
            format!("CONNACK {code:02X}{present}{}", braces(connack.properties))
        }
        Packet::Publish(publish) => {
            let mut line = format!("PUBLISH q{}", publish.delivery.qos().level());
            if let Some(id) = publish.delivery.packet_id() {
                write!(line, " #{}", id.get()).unwrap();
            }
            if publish.delivery.is_dup() {
                line += " dup";
            }
            if publish.retain {
                line += " retain";
            }
            let payload = match publish.payload.len() {
                0..=40 => String::from_utf8_lossy(publish.payload).into_owned(),
                len => format!("<{len} bytes>"),
            };
            let name = publish.topic.map_or("", TopicName::as_str);
            write!(line, " {name}={payload}").unwrap();
            line + &braces(publish.properties)
        }
        Packet::Puback(packet) => ack("PUBACK", packet),
        Packet::Pubrec(packet) => ack("PUBREC", packet),
        Packet::Pubrel(packet) => ack("PUBREL", packet),
        Packet::Pubcomp(packet) => ack("PUBCOMP", packet),
        Packet::Suback(suback) => {
            let codes = codes(suback.reason_codes().collect());
            format!("SUBACK #{}{codes}{}", suback.packet_id.get(), braces(suback.properties))
        }
        Packet::Unsuback(unsuback) => {
            let codes = codes(unsuback.reason_codes().collect());
            format!("UNSUBACK #{}{codes}{}", unsuback.packet_id.get(), braces(unsuback.properties))
        }
        Packet::Pingresp => "PINGRESP".into(),
        Packet::Disconnect(disconnect) => {
            format!("DISCONNECT {:02X}{}", disconnect.reason_code.code(), braces(disconnect.properties))
        }
        Packet::Auth(auth) => format!("AUTH {:02X}{}", auth.reason_code.code(), braces(auth.properties)),
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => {
            panic!("a broker does not send this: {packet:?}")
        }
    }
}

fn braces(properties: Properties<'_>) -> String {
    if properties.is_empty() {
        return String::new();
    }
    let list: Vec<_> = properties.iter().map(|property| format!("{property:?}")).collect();
    format!(" {{{}}}", list.join(", "))
}
