//! What came over one connection of a case, and the rules that hold for it whatever the case is about.

use std::collections::{BTreeMap, BTreeSet};

use damselfly_codec::{FrameLimits, Packet, PacketType, PropertyId, Version, split_frame};
use damselfly_session::Timestamp;

use super::Link;
use super::bytes::hex;
use super::names::Features;
use super::seen::Seen;

/// A rule that the broker broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    /// Of the version; none where it is only the case's.
    pub(super) statement: Option<&'static str>,
    pub(super) expected: String,
    pub(super) came: String,
}

/// One connection of a case.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) link: Link,
    version: Version,
    inbox: Vec<u8>,
    /// Packets the case has not looked at yet.
    pub(super) waiting: Vec<(Timestamp, Seen)>,
    pub(super) ended: Option<Timestamp>,
    /// A DISCONNECT came.
    pub(super) is_told: bool,
    has_connack: bool,
    pub(super) is_accepted: bool,
    /// From the last CONNACK of success.
    pub(super) features: Option<Features>,
    /// What the case does not look at.
    pub(super) ignored: Option<PacketType>,
    /// Authentication Data of the last AUTH.
    pub(super) challenge: Vec<u8>,
    limits: Limits,
    aliases: BTreeMap<u64, String>,
    /// QoS 1 and 2 messages that we have not acknowledged to the end.
    unacknowledged: BTreeSet<u16>,
}

/// What our CONNECT said.
#[derive(Clone, Copy, Debug)]
struct Limits {
    maximum_packet_size: usize,
    topic_alias_maximum: u64,
    receive_maximum: usize,
    authenticates: bool,
}

impl Connection {
    pub(super) fn new(link: Link, version: Version) -> Self {
        Self {
            link,
            version,
            inbox: Vec::new(),
            waiting: Vec::new(),
            ended: None,
            is_told: false,
            has_connack: false,
            is_accepted: false,
            features: None,
            ignored: None,
            challenge: Vec::new(),
            limits: Limits {
                maximum_packet_size: usize::MAX,
                topic_alias_maximum: 0,
                receive_maximum: usize::from(u16::MAX),
                authenticates: false,
            },
            aliases: BTreeMap::new(),
            unacknowledged: BTreeSet::new(),
        }
    }

    /// Takes note of what is sent. What is no packet changes nothing.
    pub(super) fn note_sent(&mut self, frame: &[u8]) {
        match Packet::decode(self.version, frame) {
            Ok(Packet::Connect(view)) if !self.has_connack => {
                let properties = view.fields().properties;
                let size = properties.maximum_packet_size();
                self.limits = Limits {
                    maximum_packet_size: size.map_or(usize::MAX, |size| size.get().try_into().unwrap_or(usize::MAX)),
                    topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(0).into(),
                    receive_maximum: properties.receive_maximum().map_or(u16::MAX, core::num::NonZero::get).into(),
                    authenticates: properties.authentication_method().is_some(),
                };
            }
            Ok(Packet::Puback(ack) | Packet::Pubcomp(ack)) => {
                self.unacknowledged.remove(&ack.packet_id.get());
            }
            Ok(Packet::Pubrec(ack)) if ack.reason_code.is_error() => {
                self.unacknowledged.remove(&ack.packet_id.get());
            }
            _ => {}
        }
    }

    /// Takes bytes that came; the packets in them are returned as well as kept.
    pub(super) fn receive(&mut self, now: Timestamp, bytes: &[u8]) -> (Vec<Seen>, Result<(), Breach>) {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = &inbox[..];
        let mut all = Vec::new();
        loop {
            let frame = match split_frame(rest, &FrameLimits::default()) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return (all, Err(malformed(error.for_version(self.version), rest))),
            };
            let (_, tail) = rest.split_at_checked(frame.len()).unwrap_or((rest, &[]));
            rest = tail;
            let seen = match self.decode(frame) {
                Ok(seen) => seen,
                Err(breach) => return (all, Err(breach)),
            };
            if self.ignored != Some(seen.packet_type) {
                all.push(seen.clone());
            }
            match self.take(seen) {
                Ok(seen) if self.ignored == Some(seen.packet_type) => {}
                Ok(seen) => self.waiting.push((now, seen)),
                Err(breach) => return (all, Err(breach)),
            }
        }
        self.inbox = rest.to_vec();
        (all, Ok(()))
    }

    fn decode(&mut self, frame: &[u8]) -> Result<Seen, Breach> {
        match Packet::decode(self.version, frame) {
            Ok(packet) => {
                if let Packet::Connack(connack) = &packet {
                    self.features = Some(Features::announced(connack.properties));
                }
                Ok(Seen::of(self.version, &packet, frame.len()))
            }
            Err(error) => {
                // Whoever does not speak the version asked for may answer in the words of another.
                let other = if self.version == Version::V5_0 { Version::V3_1_1 } else { Version::V5_0 };
                match Packet::decode(other, frame) {
                    Ok(packet @ Packet::Connack(_)) if !self.has_connack => Ok(Seen::of(other, &packet, frame.len())),
                    _ => Err(malformed(error, frame)),
                }
            }
        }
    }

    /// The rules of every connection.
    fn take(&mut self, mut seen: Seen) -> Result<Seen, Breach> {
        use PacketType as P;
        let is_5 = self.version == Version::V5_0;
        let id = |of_5: &'static str, of_3: &'static str| Some(if is_5 { of_5 } else { of_3 });
        let breach = |statement, expected: &str, seen: &Seen| {
            Err(Breach { statement, expected: expected.to_owned(), came: seen.to_string() })
        };
        if self.is_told {
            return breach(Some("MQTT-3.14.4-1"), "nothing after DISCONNECT", &seen);
        }
        match seen.packet_type {
            P::Connack if self.has_connack => {
                return breach(id("MQTT-3.2.0-2", "MQTT3-3.2.0-1"), "no second CONNACK", &seen);
            }
            P::Connack => {
                self.has_connack = true;
                self.is_accepted = seen.codes == [0];
                let is_present = seen.session_present && !self.is_accepted;
                if is_present {
                    let statement = id("MQTT-3.2.2-6", "MQTT3-3.2.2-4");
                    return breach(statement, "Session Present is 0 where the code is not", &seen);
                }
            }
            P::Auth if self.limits.authenticates => {
                self.challenge = seen.binary(PropertyId::AuthenticationData).unwrap_or_default().to_vec();
            }
            P::Auth => {
                return breach(Some("MQTT-4.12.0-6"), "no AUTH for who named no Authentication Method", &seen);
            }
            P::Disconnect if !self.is_accepted => {
                return breach(Some("MQTT-3.14.0-1"), "no DISCONNECT before a CONNACK of success", &seen);
            }
            P::Disconnect => self.is_told = true,
            P::Connect | P::Subscribe | P::Unsubscribe | P::Pingreq => {
                return breach(None, "a packet that a Server may send", &seen);
            }
            _ if !self.is_accepted => {
                return breach(id("MQTT-3.2.0-1", "MQTT3-3.2.0-1"), "CONNACK before all others", &seen);
            }
            P::Publish => self.take_publish(&mut seen)?,
            _ => {}
        }
        if seen.len > self.limits.maximum_packet_size {
            let expected = format!("no packet above {} bytes", self.limits.maximum_packet_size);
            return breach(Some("MQTT-3.1.2-24"), &expected, &seen);
        }
        Ok(seen)
    }

    fn take_publish(&mut self, seen: &mut Seen) -> Result<(), Breach> {
        let breach = |statement, expected: String, seen: &Seen| {
            Err(Breach { statement: Some(statement), expected, came: seen.to_string() })
        };
        if let Some(alias) = seen.number(PropertyId::TopicAlias) {
            let maximum = self.limits.topic_alias_maximum;
            if alias > maximum {
                return breach("MQTT-3.1.2-26", format!("no Topic Alias above {maximum}"), seen);
            }
            if seen.topic.is_empty() {
                let Some(topic) = self.aliases.get(&alias) else {
                    return breach("MQTT-3.3.2-7", "no Topic Alias that stands for nothing".to_owned(), seen);
                };
                seen.topic.clone_from(topic);
            } else {
                self.aliases.insert(alias, seen.topic.clone());
            }
        }
        if let Some(id) = seen.packet_id {
            self.unacknowledged.insert(id);
            let maximum = self.limits.receive_maximum;
            if self.unacknowledged.len() > maximum {
                return breach("MQTT-3.3.4-9", format!("no more than {maximum} unacknowledged messages"), seen);
            }
        }
        Ok(())
    }
}

fn malformed(error: damselfly_codec::DecodeError, frame: &[u8]) -> Breach {
    Breach {
        statement: Some(error.statement()),
        expected: "a well-formed packet".to_owned(),
        came: format!("{error}:{}", hex(frame)),
    }
}
