//! A packet that came, as a case looks at it.

use std::fmt;

use damselfly_codec::{Ack, Packet, PacketType, Properties, PropertyId, ReasonCode, Version};

use super::property::{self, Value};

/// A packet that came, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) packet_type: PacketType,
    pub(super) packet_id: Option<u16>,
    pub(super) qos: u8,
    pub(super) dup: bool,
    pub(super) retain: bool,
    pub(super) session_present: bool,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Reason Codes; return codes of 3.1.1 as they are there.
    pub(super) codes: Vec<u8>,
    pub(super) properties: Vec<(PropertyId, Value)>,
    /// Bytes of the whole packet.
    pub(super) len: usize,
}

impl Seen {
    fn new(packet_type: PacketType, len: usize) -> Self {
        Self {
            packet_type,
            packet_id: None,
            qos: 0,
            dup: false,
            retain: false,
            session_present: false,
            topic: String::new(),
            payload: Vec::new(),
            codes: Vec::new(),
            properties: Vec::new(),
            len,
        }
    }

    /// Looks at a packet. What only clients send has no details.
    pub(super) fn of(version: Version, packet: &Packet<'_>, len: usize) -> Self {
        let mut seen = Self::new(packet.packet_type(), len);
        let properties = match packet {
            Packet::Connack(connack) => {
                seen.session_present = connack.session_present;
                let code = connack.reason_code;
                let is_legacy = version != Version::V5_0;
                seen.codes.push(is_legacy.then(|| code.connack_return_code()).flatten().unwrap_or(code.code()));
                connack.properties
            }
            Packet::Publish(publish) => {
                seen.qos = publish.delivery.qos().level();
                seen.packet_id = publish.delivery.packet_id().map(damselfly_codec::PacketId::get);
                seen.dup = publish.delivery.is_dup();
                seen.retain = publish.retain;
                seen.topic = publish.topic.map_or_else(String::new, |topic| topic.as_str().to_owned());
                seen.payload = publish.payload.to_vec();
                publish.properties
            }
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => seen.ack(ack),
            Packet::Suback(suback) => {
                seen.packet_id = Some(suback.packet_id.get());
                seen.codes.extend(suback.reason_codes().map(ReasonCode::code));
                suback.properties
            }
            Packet::Unsuback(unsuback) => {
                seen.packet_id = Some(unsuback.packet_id.get());
                seen.codes.extend(unsuback.reason_codes().map(ReasonCode::code));
                unsuback.properties
            }
            Packet::Disconnect(disconnect) => {
                seen.codes.push(disconnect.reason_code.code());
                disconnect.properties
            }
            Packet::Auth(auth) => {
                seen.codes.push(auth.reason_code.code());
                auth.properties
            }
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq | Packet::Pingresp => {
                Properties::EMPTY
            }
        };
        seen.properties = property::received(properties);
        seen
    }

    fn ack<'a>(&mut self, ack: &Ack<'a>) -> Properties<'a> {
        self.packet_id = Some(ack.packet_id.get());
        self.codes.push(ack.reason_code.code());
        ack.properties
    }

    /// The number in a property.
    pub(super) fn number(&self, id: PropertyId) -> Option<u64> {
        self.properties.iter().find_map(|(other, value)| match value {
            Value::Number(number) if *other == id => Some(*number),
            _ => None,
        })
    }

    /// The bytes in a property.
    pub(super) fn binary(&self, id: PropertyId) -> Option<&[u8]> {
        self.properties.iter().find_map(|(other, value)| match value {
            Value::Binary(data) if *other == id => Some(&data[..]),
            _ => None,
        })
    }
}

/// As a script would write it.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.packet_type)?;
        if self.packet_type == PacketType::Publish {
            write!(f, " q{}", self.qos)?;
        }
        if let Some(id) = self.packet_id {
            write!(f, " #{id}")?;
        }
        let flags = [(self.dup, "dup"), (self.retain, "retain"), (self.session_present, "present")];
        flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, word)| write!(f, " {word}"))?;
        if self.packet_type == PacketType::Publish {
            let topic = if self.topic.is_empty() { "-" } else { &self.topic };
            write!(f, " {topic} {}", shown(&self.payload))?;
        }
        self.codes.iter().try_for_each(|code| write!(f, " {code:02X}"))?;
        if self.properties.is_empty() {
            return Ok(());
        }
        let list: Vec<_> =
            self.properties.iter().map(|(id, value)| format!("{}={value}", property::name(*id))).collect();
        write!(f, " {{{}}}", list.join(" "))
    }
}

/// A payload in a report: whole if it is short.
pub(super) fn shown(payload: &[u8]) -> String {
    const LONG: usize = 60;
    if payload.len() > LONG {
        return format!("<{} bytes>", payload.len());
    }
    format!("{:?}", String::from_utf8_lossy(payload))
}
