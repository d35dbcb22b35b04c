//! Streams of packets, as a broker receives them.

use damselfly_codec::Version;

use super::{fleet, random::Random};
use crate::wire;

/// Many frames one behind the other.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What it is called in every table.
    pub name: &'static str,
    /// The version all of it is written in.
    pub version: Version,
    /// The frames.
    pub bytes: Vec<u8>,
    /// How many.
    pub packets: usize,
}

/// Builds one frame of a stream.
struct Writer {
    version: Version,
    out: Vec<u8>,
}

impl Writer {
    fn v5(&self) -> bool {
        self.version == Version::V5_0
    }

    /// Properties of a 5.0 packet; nothing in 3.1.1.
    fn properties(&self, body: &mut Vec<u8>, properties: &[u8]) {
        if self.v5() {
            wire::variable(body, properties.len());
            body.extend_from_slice(properties);
        }
    }

    fn publish(&mut self, topic: &str, qos: u8, packet_id: u16, properties: &[u8], payload: usize) {
        let mut body = Vec::with_capacity(payload + 128);
        wire::prefixed(&mut body, topic);
        if qos > 0 {
            body.extend_from_slice(&packet_id.to_be_bytes());
        }
        self.properties(&mut body, properties);
        body.resize(body.len() + payload, b'7');
        wire::frame(&mut self.out, 0x30 | (qos << 1), &body);
    }

    fn acknowledge(&mut self, first: u8, packet_id: u16) {
        wire::frame(&mut self.out, first, &packet_id.to_be_bytes());
    }

    fn subscribe(&mut self, packet_id: u16, filters: usize) {
        let mut body = packet_id.to_be_bytes().to_vec();
        self.properties(&mut body, &[]);
        for index in 0..filters {
            wire::prefixed(&mut body, filter(index));
            body.push(1);
        }
        wire::frame(&mut self.out, 0x82, &body);
    }

    fn unsubscribe(&mut self, packet_id: u16, filters: usize) {
        let mut body = packet_id.to_be_bytes().to_vec();
        self.properties(&mut body, &[]);
        for index in 0..filters {
            wire::prefixed(&mut body, filter(index));
        }
        wire::frame(&mut self.out, 0xa2, &body);
    }

    /// A CONNECT with will, user name and password.
    fn connect(&mut self, client: usize) {
        let mut body = Vec::new();
        wire::prefixed(&mut body, "MQTT");
        body.push(if self.v5() { 5 } else { 4 });
        // Username, Password, Will QoS 1, Will Flag, Clean Start.
        body.extend_from_slice(&[0b1100_1110, 0, 60]);
        // Session Expiry Interval 3600, Receive Maximum 100.
        self.properties(&mut body, &[0x11, 0, 0, 0x0e, 0x10, 0x21, 0, 100]);
        wire::prefixed(&mut body, format!("device-{client:08}"));
        // Will Delay Interval 30.
        self.properties(&mut body, &[0x18, 0, 0, 0, 30]);
        wire::prefixed(&mut body, format!("site/{client}/status"));
        wire::prefixed(&mut body, "offline");
        wire::prefixed(&mut body, "fleet");
        wire::prefixed(&mut body, "a password of ordinary length");
        wire::frame(&mut self.out, 0x10, &body);
    }
}

fn filter(index: usize) -> String {
    match index % 5 {
        0 => format!("site/{index}/line/+/dev/7/temperature"),
        1 => format!("site/{index}/#"),
        _ => fleet::topic(index * 1_231),
    }
}

/// Payload Format Indicator, Message Expiry Interval, Content Type and two User Properties.
fn five_properties() -> Vec<u8> {
    let mut properties = vec![0x01, 1, 0x02, 0, 0, 0x0e, 0x10, 0x03];
    wire::prefixed(&mut properties, "application/json");
    for (name, value) in [("unit", "celsius"), ("trace", "4bf92f3577b34da6")] {
        properties.push(0x26);
        wire::prefixed(&mut properties, name);
        wire::prefixed(&mut properties, value);
    }
    properties
}

/// 80 % PUBLISH (half of them QoS 0, a sixteenth with 1 KiB, in 5.0 a quarter with properties), 14 % acknowledgements,
/// the rest PINGREQ, SUBSCRIBE, UNSUBSCRIBE and CONNECT.
fn mix(writer: &mut Writer, packets: usize) {
    let mut random = Random::new(0x5eed);
    let properties = five_properties();
    for index in 0..packets {
        let packet_id = u16::try_from(1 + index % 60_000).unwrap_or(1);
        match random.below(100) {
            0..80 => {
                let topic = fleet::topic(random.below(100_000));
                let qos = [0, 0, 0, 0, 1, 1, 1, 2][random.below(8)];
                let payload = if random.below(16) == 0 { 1024 } else { 16 + random.below(100) };
                let with: &[u8] = if random.below(4) == 0 { &properties } else { &[] };
                writer.publish(&topic, qos, packet_id, with, payload);
            }
            80..90 => writer.acknowledge(0x40, packet_id),
            90..92 => writer.acknowledge(0x50, packet_id),
            92 => writer.acknowledge(0x62, packet_id),
            93 => writer.acknowledge(0x70, packet_id),
            94..97 => wire::frame(&mut writer.out, 0xc0, &[]),
            97 => writer.subscribe(packet_id, 3),
            98 => writer.unsubscribe(packet_id, 2),
            _ => writer.connect(index),
        }
    }
}

/// What there is in every version; `publish-5-properties` is there in 5.0 alone.
const NAMES: [&str; 8] = [
    "mix",
    "publish-64",
    "publish-64-qos1",
    "publish-5-properties",
    "publish-16k",
    "puback",
    "connect-full",
    "subscribe-10",
];

/// The names of all streams in this version.
pub fn names(version: Version) -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().filter(move |&name| version == Version::V5_0 || name != "publish-5-properties")
}

/// The stream of this name, if there is one in this version.
pub fn named(version: Version, name: &str) -> Option<Stream> {
    let name = names(version).find(|&known| known == name)?;
    let packets = if name == "publish-16k" { 64 } else { 1000 };
    let mut writer = Writer { version, out: Vec::new() };
    if name == "mix" {
        mix(&mut writer, packets);
        return Some(Stream { name, version, bytes: writer.out, packets });
    }
    let topic = fleet::topic(12_345);
    let properties = five_properties();
    for _ in 0..packets {
        match name {
            "publish-64" => writer.publish(&topic, 0, 1, &[], 64),
            "publish-64-qos1" => writer.publish(&topic, 1, 7, &[], 64),
            "publish-5-properties" => writer.publish(&topic, 0, 1, &properties, 64),
            "publish-16k" => writer.publish(&topic, 0, 1, &[], 16 * 1024),
            "puback" => writer.acknowledge(0x40, 7),
            "connect-full" => writer.connect(42),
            _ => writer.subscribe(7, 10),
        }
    }
    Some(Stream { name, version, bytes: writer.out, packets })
}
