//! PUBACK, PUBREC, PUBREL and PUBCOMP: one body, four packet types. [MQTT-3.4] to [MQTT-3.7]

use alloc::vec::Vec;

use crate::encode::properties_len;
use crate::properties::{allowed, properties};
use crate::wire::{Parsed, broken, frame_len, put_fixed_header, whole};
use crate::{
    DecodeError, EncodeError, FixedHeader, Foreign, PacketId, PacketType, Properties, ReasonCode, Rule, Version,
};

/// Which of the four acknowledgements of PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum AckType {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl AckType {
    /// As the type of a packet.
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::Puback => PacketType::Puback,
            Self::Pubrec => PacketType::Pubrec,
            Self::Pubrel => PacketType::Pubrel,
            Self::Pubcomp => PacketType::Pubcomp,
        }
    }

    /// The first byte of the packet; PUBREL has flags of its own. [MQTT-3.6.1-1]
    const fn first_byte(self) -> u8 {
        match self {
            Self::Puback => 0x40,
            Self::Pubrec => 0x50,
            Self::Pubrel => 0x62,
            Self::Pubcomp => 0x70,
        }
    }

    const fn from_first_byte(first: u8) -> Option<Self> {
        match first {
            0x40 => Some(Self::Puback),
            0x50 => Some(Self::Pubrec),
            0x62 => Some(Self::Pubrel),
            0x70 => Some(Self::Pubcomp),
            _ => None,
        }
    }
}

/// The body of PUBACK, PUBREC, PUBREL and PUBCOMP. [MQTT-3.4] to [MQTT-3.7]
///
/// Before 5.0 there is the Packet Identifier only, which means success.
///
/// ```
/// use damselfly_codec::{Ack, AckType, Foreign, PacketId, Version};
///
/// let mut out = Vec::new();
/// Ack::success(PacketId::new(7).unwrap()).encode(AckType::Puback, Version::V5_0, Foreign::Reject, &mut out)?;
/// assert_eq!(out, [0x40, 0x02, 0x00, 0x07]);
/// # Ok::<(), damselfly_codec::EncodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// Success without properties.
    #[inline]
    pub const fn success(packet_id: PacketId) -> Self {
        Self::with_reason(packet_id, ReasonCode::Success)
    }

    /// A Reason Code without properties.
    #[inline]
    pub const fn with_reason(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self { packet_id, reason_code, properties: Properties::EMPTY }
    }

    /// Decodes the body of the acknowledgement whose fixed header `peek` has answered.
    #[inline]
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        match short_ack(header, body) {
            Some(packet_id) => Ok(Self::success(packet_id)),
            None => Self::decode_long(version, header, body),
        }
    }

    /// Splits the acknowledgement in front off `input` if it is one of four bytes, as nearly all are: it says success, and
    /// the same in every version. `None` says nothing about `input`: [`peek`](crate::peek) and [`Ack::decode`] do.
    ///
    /// ```
    /// use damselfly_codec::{Ack, AckType, PacketId};
    ///
    /// let (ack_type, packet_id, rest) = Ack::split_short(&[0x40, 2, 0, 7, 0x40]).expect("a whole PUBACK");
    /// assert_eq!((ack_type, packet_id.get(), rest), (AckType::Puback, 7, &[0x40][..]));
    /// assert_eq!(Ack::split_short(rest), None);
    /// ```
    #[inline]
    pub fn split_short(input: &[u8]) -> Option<(AckType, PacketId, &[u8])> {
        let ([first, 2, high, low], rest) = input.split_first_chunk()? else { return None };
        Some((AckType::from_first_byte(*first)?, PacketId::new(u16::from_be_bytes([*high, *low]))?, rest))
    }

    #[inline(never)]
    fn decode_long(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| ack(body, version, header.packet_type()))
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, ack_type: AckType, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(ack_type, version, policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    #[inline]
    pub fn encode(
        &self,
        ack_type: AckType,
        version: Version,
        policy: Foreign,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let [high, low] = self.packet_id.get().to_be_bytes();
        if self.reason_code == ReasonCode::Success && self.properties.is_empty() {
            out.extend_from_slice(&[ack_type.first_byte(), 2, high, low]);
            return Ok(());
        }
        self.encode_long(ack_type, version, policy, out)
    }

    #[inline(never)]
    fn encode_long(
        &self,
        ack_type: AckType,
        version: Version,
        policy: Foreign,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let body = self.body_len(ack_type, version, policy)?;
        put_fixed_header(out, ack_type.first_byte(), body)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if body > 2 {
            out.push(self.reason_code.code());
        }
        if body > 3 {
            self.properties.put(out);
        }
        Ok(())
    }

    fn body_len(&self, ack_type: AckType, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let packet_type = ack_type.packet_type();
        let properties = properties_len(self.properties, version, policy, packet_type, allowed::ACKNOWLEDGEMENT)?;
        if !version.has_properties() {
            policy.allow(self.reason_code != ReasonCode::Success, packet_type)?;
            return Ok(2);
        }
        if !self.reason_code.is_allowed_in(packet_type) {
            return Err(EncodeError::ReasonCodeNotAllowed(self.reason_code));
        }
        Ok(match (self.reason_code, self.properties.is_empty()) {
            (ReasonCode::Success, true) => 2,
            (_, true) => 3,
            (_, false) => 3 + properties,
        })
    }
}

/// The Packet Identifier that is all there is of a body: nearly all acknowledgements say success like this, in both
/// versions. [MQTT-3.4.2.1]
#[inline(always)]
#[expect(clippy::inline_always, reason = "a handful of instructions for each message at QoS 1 and 2")]
pub(crate) fn short_ack(header: FixedHeader, body: &[u8]) -> Option<PacketId> {
    let [high, low] = *body else { return None };
    if header.is_minimal() { PacketId::new(u16::from_be_bytes([high, low])) } else { None }
}

/// Packet Identifier, and in 5.0 perhaps Reason Code and Properties. [MQTT-3.4.2]
fn ack(body: &[u8], version: Version, packet_type: PacketType) -> Parsed<'_, Ack<'_>> {
    let (rest, packet_id) = crate::wire::packet_id(body)?;
    let (reason_code, behind) = match rest {
        [code, behind @ ..] if version.has_properties() => match ReasonCode::try_from(*code) {
            Ok(reason_code) if reason_code.is_allowed_in(packet_type) => (reason_code, behind),
            _ => return broken(reason_code_rule(packet_type), rest),
        },
        // The end of the packet, or bytes that have no place in 3.1.1.
        _ => return Ok((rest, Ack::success(packet_id))),
    };
    if behind.is_empty() {
        return Ok((behind, Ack::with_reason(packet_id, reason_code)));
    }
    let (rest, properties) = properties(behind, allowed::ACKNOWLEDGEMENT, allowed::REPEATED)?;
    Ok((rest, Ack { packet_id, reason_code, properties }))
}

const fn reason_code_rule(packet_type: PacketType) -> Rule {
    match packet_type {
        PacketType::Pubrec => Rule::PubrecReasonCode,
        PacketType::Pubrel => Rule::PubrelReasonCode,
        PacketType::Pubcomp => Rule::PubcompReasonCode,
        _ => Rule::PubackReasonCode,
    }
}
