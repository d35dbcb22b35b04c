//! SUBACK and UNSUBACK. [MQTT-3.9] [MQTT-3.11]

use core::fmt;

use alloc::vec::Vec;

use crate::encode::properties_len;
use crate::properties::{allowed, properties};
use crate::wire::{broken, frame_len, packet_id, put_fixed_header, whole};
use crate::{
    DecodeError, EncodeError, FixedHeader, Foreign, PacketId, PacketType, Properties, ReasonCode, Rule, Version,
};

/// Reason Codes, from the wire or from a caller.
#[derive(Clone, Copy)]
enum Codes<'a> {
    Wire(&'a [u8]),
    Built(&'a [ReasonCode]),
}

impl<'a> Codes<'a> {
    fn iter(self) -> impl Iterator<Item = ReasonCode> + Clone + 'a {
        let (wire, built): (&[u8], &[ReasonCode]) = match self {
            Codes::Wire(wire) => (wire, &[]),
            Codes::Built(built) => (&[], built),
        };
        // Checked when they were decoded, so none is left out.
        wire.iter().filter_map(|code| ReasonCode::try_from(*code).ok()).chain(built.iter().copied())
    }

    fn len(self) -> usize {
        match self {
            Codes::Wire(wire) => wire.len(),
            Codes::Built(built) => built.len(),
        }
    }
}

/// Answers SUBSCRIBE, one Reason Code per Topic Filter in the same order. [MQTT-3.9]
///
/// Before 5.0 every error travels as 0x80, see [`ReasonCode::suback_return_code`].
#[derive(Clone, Copy)]
pub struct Suback<'a> {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    reason_codes: Codes<'a>,
}

impl<'a> Suback<'a> {
    /// A packet to encode.
    pub const fn new(packet_id: PacketId, properties: Properties<'a>, reason_codes: &'a [ReasonCode]) -> Self {
        Self { packet_id, properties, reason_codes: Codes::Built(reason_codes) }
    }

    /// One Reason Code per Topic Filter of the SUBSCRIBE.
    pub fn reason_codes(&self) -> impl Iterator<Item = ReasonCode> + Clone + 'a {
        self.reason_codes.iter()
    }

    /// Decodes the body of the SUBACK whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| {
            let (rest, packet_id) = packet_id(body)?;
            let (codes, properties) = if version.has_properties() {
                properties(rest, allowed::ACKNOWLEDGEMENT, allowed::REPEATED)?
            } else {
                (rest, Properties::EMPTY)
            };
            let is_code = |code: &u8| {
                if version.has_properties() {
                    ReasonCode::try_from(*code).is_ok_and(|code| code.is_allowed_in(PacketType::Suback))
                } else {
                    ReasonCode::from_suback_return_code(*code).is_some()
                }
            };
            if codes.is_empty() {
                return broken(Rule::SubackEmpty, codes);
            }
            match codes.iter().position(|code| !is_code(code)) {
                Some(index) => broken(Rule::SubackReasonCode, codes.get(index..).unwrap_or_default()),
                None => Ok((&[], Self { packet_id, properties, reason_codes: Codes::Wire(codes) })),
            }
        })
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(version, policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_fixed_header(out, 0x90, self.body_len(version, policy)?)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if version.has_properties() {
            self.properties.put(out);
        }
        out.extend(self.reason_codes().map(|code| {
            if version.has_properties() { code.code() } else { code.suback_return_code().unwrap_or(0x80) }
        }));
        Ok(())
    }

    fn body_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let packet_type = PacketType::Suback;
        let properties = properties_len(self.properties, version, policy, packet_type, allowed::ACKNOWLEDGEMENT)?;
        codes_len(self.reason_codes, packet_type).map(|codes| 2 + properties + codes)
    }
}

fn codes_len(codes: Codes<'_>, packet_type: PacketType) -> Result<usize, EncodeError> {
    match codes.iter().find(|code| !code.is_allowed_in(packet_type)) {
        Some(code) => Err(EncodeError::ReasonCodeNotAllowed(code)),
        None if codes.len() == 0 => Err(EncodeError::Empty),
        None => Ok(codes.len()),
    }
}

/// Answers UNSUBSCRIBE, one Reason Code per Topic Filter in the same order. [MQTT-3.11]
///
/// Before 5.0 it has none.
#[derive(Clone, Copy)]
pub struct Unsuback<'a> {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Empty on a 3.1.1 connection.
    pub properties: Properties<'a>,
    reason_codes: Codes<'a>,
}

impl<'a> Unsuback<'a> {
    /// A packet to encode. Before 5.0 the Reason Codes are 5.0 data.
    pub const fn new(packet_id: PacketId, properties: Properties<'a>, reason_codes: &'a [ReasonCode]) -> Self {
        Self { packet_id, properties, reason_codes: Codes::Built(reason_codes) }
    }

    /// One Reason Code per Topic Filter of the UNSUBSCRIBE; none before 5.0.
    pub fn reason_codes(&self) -> impl Iterator<Item = ReasonCode> + Clone + 'a {
        self.reason_codes.iter()
    }

    /// Decodes the body of the UNSUBACK whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| {
            let (rest, packet_id) = packet_id(body)?;
            if !version.has_properties() {
                return Ok((rest, Self::new(packet_id, Properties::EMPTY, &[])));
            }
            let (codes, properties) = properties(rest, allowed::ACKNOWLEDGEMENT, allowed::REPEATED)?;
            let is_code =
                |code: &u8| ReasonCode::try_from(*code).is_ok_and(|code| code.is_allowed_in(PacketType::Unsuback));
            if codes.is_empty() {
                return broken(Rule::UnsubackEmpty, codes);
            }
            match codes.iter().position(|code| !is_code(code)) {
                Some(index) => broken(Rule::UnsubackReasonCode, codes.get(index..).unwrap_or_default()),
                None => Ok((&[], Self { packet_id, properties, reason_codes: Codes::Wire(codes) })),
            }
        })
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(version, policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_fixed_header(out, 0xB0, self.body_len(version, policy)?)?;
        out.extend_from_slice(&self.packet_id.get().to_be_bytes());
        if version.has_properties() {
            self.properties.put(out);
            out.extend(self.reason_codes().map(ReasonCode::code));
        }
        Ok(())
    }

    fn body_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let packet_type = PacketType::Unsuback;
        let properties = properties_len(self.properties, version, policy, packet_type, allowed::ACKNOWLEDGEMENT)?;
        if !version.has_properties() {
            policy.allow(self.reason_codes.len() > 0, packet_type)?;
            return Ok(2);
        }
        codes_len(self.reason_codes, packet_type).map(|codes| 2 + properties + codes)
    }
}

/// Equality and debug output by content, wherever the Reason Codes are.
macro_rules! by_content {
    ($($name:ident)+) => {$(
        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.packet_id == other.packet_id
                    && self.properties == other.properties
                    && self.reason_codes().eq(other.reason_codes())
            }
        }

        impl Eq for $name<'_> {}

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("packet_id", &self.packet_id)
                    .field("properties", &self.properties)
                    .field("reason_codes", &self.reason_codes().collect::<Vec<_>>())
                    .finish()
            }
        }
    )+};
}

by_content!(Suback Unsuback);
