//! Hand-made MQTT frames: only what the load needs, so that no codec under test decides how fast the load is.

use damselfly_benches::wire;
use damselfly_codec::Version;

pub use damselfly_benches::process::Outcome;

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;

/// Bytes at the front of each payload that say who sent it (4), the how manieth it is (8) and when (8).
pub const STAMP: usize = 20;

/// What a payload says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub publisher: u32,
    pub sequence: u64,
    /// Nanoseconds since the run began.
    pub sent_at: u64,
}

impl Stamp {
    pub fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        payload[12..STAMP].copy_from_slice(&self.sent_at.to_be_bytes());
    }

    pub fn read(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent_at, _) = rest.split_first_chunk()?;
        Some(Self {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u64::from_be_bytes(*sequence),
            sent_at: u64::from_be_bytes(*sent_at),
        })
    }
}

/// One frame at the front of a read buffer.
pub struct Split<'a> {
    pub first: u8,
    pub body: &'a [u8],
    pub len: usize,
}

/// The frame at the front of `input`; `None` while it is incomplete.
pub fn split(input: &[u8]) -> Outcome<Option<Split<'_>>> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let mut remaining = 0_usize;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let start = 2 + index;
            let len = start + remaining;
            let body = input.get(start..len);
            return Ok(body.map(|body| Split { first, body, len }));
        }
    }
    if rest.len() >= 4 {
        return Err("a Remaining Length of more than four bytes".into());
    }
    Ok(None)
}

/// A PUBLISH as a receiver needs it.
pub struct Received<'a> {
    pub qos: u8,
    pub packet_id: u16,
    pub payload: &'a [u8],
}

pub fn read_publish(version: Version, first: u8, body: &[u8]) -> Option<Received<'_>> {
    let qos = (first >> 1) & 3;
    let (topic_len, rest) = body.split_first_chunk()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
    let mut packet_id = 0;
    if qos > 0 {
        let (id, after) = rest.split_first_chunk()?;
        packet_id = u16::from_be_bytes(*id);
        rest = after;
    }
    if version == Version::V5_0 {
        let (length, used) = read_varint(rest)?;
        rest = rest.get(used + length..)?;
    }
    Some(Received { qos, packet_id, payload: rest })
}

fn read_varint(input: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

/// The packet id at the front of a body, 0 when it is missing.
pub fn read_packet_id(body: &[u8]) -> u16 {
    body.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

/// A CONNECT without keep alive; an unclean one asks for a session that does not expire.
pub fn connect(version: Version, client_id: &str, clean: bool, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    wire::prefixed(&mut body, "MQTT");
    body.push(if version == Version::V5_0 { 5 } else { 4 });
    body.push(if clean { 2 } else { 0 });
    body.extend_from_slice(&[0, 0]);
    if version == Version::V5_0 {
        if clean {
            body.push(0);
        } else {
            body.extend_from_slice(&[5, 0x11, 0xff, 0xff, 0xff, 0xff]);
        }
    }
    wire::prefixed(&mut body, client_id);
    wire::frame(out, 0x10, &body);
}

pub fn subscribe(version: Version, packet_id: u16, filters: &[String], qos: u8, out: &mut Vec<u8>) {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5_0 {
        body.push(0);
    }
    for filter in filters {
        wire::prefixed(&mut body, filter);
        body.push(qos);
    }
    wire::frame(out, 0x82, &body);
}

pub fn disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xe0, 0]);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with success.
pub fn acknowledge(packet_type: u8, packet_id: u16, out: &mut Vec<u8>) {
    let first = (packet_type << 4) | if packet_type == PUBREL { 2 } else { 0 };
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// A PUBLISH of which only packet id and stamp change from one message to the next.
pub struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl Template {
    pub fn new(version: Version, topic: &str, qos: u8, retain: bool, payload_len: usize) -> Self {
        let mut body = Vec::new();
        wire::prefixed(&mut body, topic);
        let id_in_body = body.len();
        if qos > 0 {
            body.extend_from_slice(&[0, 1]);
        }
        if version == Version::V5_0 {
            body.push(0);
        }
        let payload_in_body = body.len();
        body.resize(payload_in_body + payload_len.max(STAMP), 0xa5);
        let mut bytes = Vec::new();
        wire::frame(&mut bytes, 0x30 | (qos << 1) | u8::from(retain), &body);
        let head = bytes.len() - body.len();
        Self { bytes, packet_id_at: (qos > 0).then_some(head + id_in_body), payload_at: head + payload_in_body }
    }

    pub fn write(&mut self, packet_id: u16, stamp: Stamp, out: &mut Vec<u8>) {
        if let Some(at) = self.packet_id_at {
            self.bytes[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        stamp.write(&mut self.bytes[self.payload_at..]);
        out.extend_from_slice(&self.bytes);
    }
}
