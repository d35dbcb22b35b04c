//! DISCONNECT and AUTH: a Reason Code and Properties, both of which may be left out. [MQTT-3.14] [MQTT-3.15]

use alloc::vec::Vec;

use crate::encode::properties_len;
use crate::properties::{PropertySet, allowed, properties};
use crate::wire::{Parsed, broken, frame_len, put_fixed_header, whole};
use crate::{DecodeError, EncodeError, FixedHeader, Foreign, PacketType, Properties, ReasonCode, Rule, Version};

/// The last packet of a connection. [MQTT-3.14]
///
/// Before 5.0 only a client sends it, and it has no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Disconnect<'a> {
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

/// A step of enhanced authentication, 5.0 only. [MQTT-3.15]
///
/// It carries an Authentication Method unless it says success and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Auth<'a> {
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A Reason Code without properties.
    pub const fn with_reason(reason_code: ReasonCode) -> Self {
        Self { reason_code, properties: Properties::EMPTY }
    }

    /// Decodes the body of the DISCONNECT whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| {
            if !version.has_properties() {
                return Ok((body, Self::with_reason(ReasonCode::Success)));
            }
            let (rest, (reason_code, properties)) =
                reason_and_properties(body, PacketType::Disconnect, Rule::DisconnectReasonCode, allowed::DISCONNECT)?;
            Ok((rest, Self { reason_code, properties }))
        })
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(version, policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put(out, 0xE0, self.body_len(version, policy)?, self.reason_code, self.properties)
    }

    fn body_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        let packet_type = PacketType::Disconnect;
        let properties = properties_len(self.properties, version, policy, packet_type, allowed::DISCONNECT)?;
        if !version.has_properties() {
            policy.allow(self.reason_code != ReasonCode::Success, packet_type)?;
            return Ok(0);
        }
        body_len(packet_type, self.reason_code, self.properties, properties)
    }
}

impl<'a> Auth<'a> {
    /// Decodes the body of the AUTH whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        if !version.has_properties() {
            return Err(DecodeError::new(Rule::AuthNotInVersion, version, 0));
        }
        whole(version, header, body, |body| {
            let (rest, (reason_code, properties)) =
                reason_and_properties(body, PacketType::Auth, Rule::AuthReasonCode, allowed::AUTH)?;
            let auth = Self { reason_code, properties };
            if auth.is_method_missing() { broken(Rule::AuthenticationMethodMissing, body) } else { Ok((rest, auth)) }
        })
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, _policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(version)?)
    }

    /// Appends the packet to `out`; on an error nothing is written. Before 5.0 there is no AUTH, whatever the policy.
    pub fn encode(&self, version: Version, _policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put(out, 0xF0, self.body_len(version)?, self.reason_code, self.properties)
    }

    fn body_len(&self, version: Version) -> Result<usize, EncodeError> {
        let packet_type = PacketType::Auth;
        if !version.has_properties() {
            return Err(EncodeError::NotInVersion(packet_type));
        }
        if self.is_method_missing() {
            return Err(EncodeError::AuthenticationMethodMissing);
        }
        let properties = self.properties.encoded_len(allowed::AUTH, allowed::REPEATED)?;
        body_len(packet_type, self.reason_code, self.properties, properties)
    }

    /// The method is left out only with everything else. [MQTT-3.15.2.1] [MQTT-3.15.2.2.2]
    fn is_method_missing(&self) -> bool {
        let is_bare = self.reason_code == ReasonCode::Success && self.properties.is_empty();
        !is_bare && self.properties.authentication_method().is_none()
    }
}

/// Nothing is success; a Reason Code alone has no properties in a DISCONNECT, and in an AUTH a Property Length of 0 has
/// to say so. [MQTT-3.14.2.2.1] [MQTT-3.15.2.1] [MQTT-2.2.2-1]
fn reason_and_properties(
    body: &[u8],
    packet_type: PacketType,
    rule: Rule,
    allowed: PropertySet,
) -> Parsed<'_, (ReasonCode, Properties<'_>)> {
    let [code, rest @ ..] = body else { return Ok((body, (ReasonCode::Success, Properties::EMPTY))) };
    let reason_code = match ReasonCode::try_from(*code) {
        Ok(reason_code) if reason_code.is_allowed_in(packet_type) => reason_code,
        _ => return broken(rule, body),
    };
    if rest.is_empty() && packet_type == PacketType::Disconnect {
        return Ok((rest, (reason_code, Properties::EMPTY)));
    }
    let (rest, properties) = properties(rest, allowed, allowed::REPEATED)?;
    Ok((rest, (reason_code, properties)))
}

fn body_len(
    packet_type: PacketType,
    reason_code: ReasonCode,
    properties: Properties<'_>,
    properties_len: usize,
) -> Result<usize, EncodeError> {
    if !reason_code.is_allowed_in(packet_type) {
        return Err(EncodeError::ReasonCodeNotAllowed(reason_code));
    }
    Ok(match (reason_code, properties.is_empty()) {
        (ReasonCode::Success, true) => 0,
        // AUTH may leave out the properties only together with the Reason Code. [MQTT-3.15.2.1]
        (_, true) if packet_type == PacketType::Disconnect => 1,
        _ => 1 + properties_len,
    })
}

fn put(
    out: &mut Vec<u8>,
    first: u8,
    body: usize,
    reason_code: ReasonCode,
    properties: Properties<'_>,
) -> Result<(), EncodeError> {
    put_fixed_header(out, first, body)?;
    if body > 0 {
        out.push(reason_code.code());
    }
    if body > 1 {
        properties.put(out);
    }
    Ok(())
}
