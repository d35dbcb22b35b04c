//! The fifteen MQTT Control Packets as borrowed views. [MQTT-3]

use alloc::vec::Vec;

use crate::ack::short_ack;
use crate::frame::split_exact;
use crate::wire::frame_len;
use crate::{
    Ack, AckType, Auth, Connack, ConnectView, DecodeError, Disconnect, EncodeError, FixedHeader, Foreign, OutOfRange,
    Publish, Rule, Suback, Subscribe, Unsuback, Unsubscribe, Version,
};

/// The type of an MQTT Control Packet: the upper four bits of its first byte. [MQTT-2.1.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the standard's table 2-1")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// All fifteen, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The number on the wire: 1 to 15.
    #[expect(clippy::as_conversions, reason = "the discriminants are the numbers on the wire")]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// A bit of its own in a set of packet types.
    pub(crate) const fn bit(self) -> u16 {
        1 << self.number()
    }

    /// As logs and the standard write it: `PUBLISH`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }
}

impl TryFrom<u8> for PacketType {
    type Error = OutOfRange;

    fn try_from(number: u8) -> Result<Self, OutOfRange> {
        let index = usize::from(number.checked_sub(1).ok_or(OutOfRange)?);
        Self::ALL.get(index).copied().ok_or(OutOfRange)
    }
}

impl core::fmt::Display for PacketType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// One MQTT Control Packet, borrowed from its frame. A packet is also what one builds to encode.
///
/// ```
/// use damselfly_codec::{Foreign, Packet, Version};
///
/// let mut out = Vec::new();
/// Packet::Pingreq.encode(Version::V5_0, Foreign::Reject, &mut out)?;
/// assert_eq!(Packet::decode(Version::V5_0, &out), Ok(Packet::Pingreq));
/// # Ok::<(), damselfly_codec::EncodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant carries the struct of its name")]
pub enum Packet<'a> {
    Connect(ConnectView<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

const _: () = assert!(size_of::<Packet<'_>>() <= 64, "a decoder returns it by value");

impl<'a> Packet<'a> {
    /// Decodes exactly one whole packet, checking everything the standard says about its bytes.
    ///
    /// `version` is that of the connection; a CONNECT says its own, so any may be given for it. The sizes of the packet
    /// and of its frame agree, or it is an error; cut frames with [`split_frame`](crate::split_frame), which knows limits.
    #[inline]
    pub fn decode(version: Version, frame: &'a [u8]) -> Result<Self, DecodeError> {
        match split_exact(frame) {
            Ok((header, body)) => Self::decode_body(version, header, body),
            Err(error) => Err(error.for_version(version)),
        }
    }

    /// Decodes the body of the packet whose fixed header `peek` has answered.
    ///
    /// PUBLISH and the usual acknowledgements, nearly all of what a connection carries, are decoded in place.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "a call returns the packet through memory: 30 to 60 instructions each")]
    pub fn decode_body(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        if header.is_publish() {
            return match Publish::decode(version, header, body) {
                Ok(publish) => Ok(Self::Publish(publish)),
                Err(error) => Err(error),
            };
        }
        if let (Some(ack_type), Some(id)) = (header.ack_type(), short_ack(header, body)) {
            let ack = Ack::success(id);
            return Ok(match ack_type {
                AckType::Puback => Self::Puback(ack),
                AckType::Pubrec => Self::Pubrec(ack),
                AckType::Pubrel => Self::Pubrel(ack),
                AckType::Pubcomp => Self::Pubcomp(ack),
            });
        }
        Self::decode_any(version, header, body)
    }

    #[inline(never)]
    fn decode_any(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        match header.packet_type() {
            PacketType::Connect => ConnectView::decode(header, body).map(Self::Connect),
            PacketType::Connack => Connack::decode(version, header, body).map(Self::Connack),
            PacketType::Publish => Publish::decode(version, header, body).map(Self::Publish),
            PacketType::Puback => Ack::decode(version, header, body).map(Self::Puback),
            PacketType::Pubrec => Ack::decode(version, header, body).map(Self::Pubrec),
            PacketType::Pubrel => Ack::decode(version, header, body).map(Self::Pubrel),
            PacketType::Pubcomp => Ack::decode(version, header, body).map(Self::Pubcomp),
            PacketType::Subscribe => Subscribe::decode(version, header, body).map(Self::Subscribe),
            PacketType::Suback => Suback::decode(version, header, body).map(Self::Suback),
            PacketType::Unsubscribe => Unsubscribe::decode(version, header, body).map(Self::Unsubscribe),
            PacketType::Unsuback => Unsuback::decode(version, header, body).map(Self::Unsuback),
            PacketType::Pingreq => without_body(version, header, body).map(|()| Self::Pingreq),
            PacketType::Pingresp => without_body(version, header, body).map(|()| Self::Pingresp),
            PacketType::Disconnect => Disconnect::decode(version, header, body).map(Self::Disconnect),
            PacketType::Auth => Auth::decode(version, header, body).map(Self::Auth),
        }
    }

    /// Its type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version. A CONNECT has its own version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        match self {
            Self::Connect(view) => view.fields().encoded_len(policy),
            Self::Connack(connack) => connack.encoded_len(version, policy),
            Self::Publish(publish) => publish.encoded_len(version, policy),
            Self::Puback(ack) => ack.encoded_len(AckType::Puback, version, policy),
            Self::Pubrec(ack) => ack.encoded_len(AckType::Pubrec, version, policy),
            Self::Pubrel(ack) => ack.encoded_len(AckType::Pubrel, version, policy),
            Self::Pubcomp(ack) => ack.encoded_len(AckType::Pubcomp, version, policy),
            Self::Subscribe(subscribe) => subscribe.encoded_len(version, policy),
            Self::Suback(suback) => suback.encoded_len(version, policy),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encoded_len(version, policy),
            Self::Unsuback(unsuback) => unsuback.encoded_len(version, policy),
            Self::Pingreq | Self::Pingresp => frame_len(0),
            Self::Disconnect(disconnect) => disconnect.encoded_len(version, policy),
            Self::Auth(auth) => auth.encoded_len(version, policy),
        }
    }

    /// Appends the packet to `out`; on an error nothing is written. A CONNECT has its own version.
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Connect(view) => view.fields().encode(policy, out),
            Self::Connack(connack) => connack.encode(version, policy, out),
            Self::Publish(publish) => publish.encode(version, policy, out),
            Self::Puback(ack) => ack.encode(AckType::Puback, version, policy, out),
            Self::Pubrec(ack) => ack.encode(AckType::Pubrec, version, policy, out),
            Self::Pubrel(ack) => ack.encode(AckType::Pubrel, version, policy, out),
            Self::Pubcomp(ack) => ack.encode(AckType::Pubcomp, version, policy, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, policy, out),
            Self::Suback(suback) => suback.encode(version, policy, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, policy, out),
            Self::Unsuback(unsuback) => unsuback.encode(version, policy, out),
            Self::Pingreq => {
                out.extend_from_slice(&[0xC0, 0]);
                Ok(())
            }
            Self::Pingresp => {
                out.extend_from_slice(&[0xD0, 0]);
                Ok(())
            }
            Self::Disconnect(disconnect) => disconnect.encode(version, policy, out),
            Self::Auth(auth) => auth.encode(version, policy, out),
        }
    }
}

/// PINGREQ and PINGRESP end with their fixed header. [MQTT-3.12] [MQTT-3.13]
#[inline]
fn without_body(version: Version, header: FixedHeader, body: &[u8]) -> Result<(), DecodeError> {
    header.check_for(version)?;
    if body.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::new(Rule::TrailingBytes, version, usize::from(header.header_len())))
    }
}
