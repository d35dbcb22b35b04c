//! CONNACK. [MQTT-3.2]

use alloc::vec::Vec;

use crate::encode::properties_len;
use crate::properties::{allowed, properties};
use crate::wire::{Parsed, broken, byte, frame_len, put_fixed_header, whole};
use crate::{DecodeError, EncodeError, FixedHeader, Foreign, PacketType, Properties, ReasonCode, Rule, Version};

/// Answers CONNECT. [MQTT-3.2]
///
/// Before 5.0 the Reason Code travels as one of six return codes, see [`ReasonCode::connack_return_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Connack<'a> {
    pub session_present: bool,
    pub reason_code: ReasonCode,
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    /// Refuses a CONNECT, without properties.
    pub const fn refusal(reason_code: ReasonCode) -> Self {
        Self { session_present: false, reason_code, properties: Properties::EMPTY }
    }

    /// Decodes the body of the CONNACK whose fixed header `peek` has answered.
    pub fn decode(version: Version, header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.check_for(version)?;
        whole(version, header, body, |body| connack(body, version))
    }

    /// Bytes of the whole packet, or why it cannot be encoded for this version.
    pub fn encoded_len(&self, version: Version, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.checked(version, policy)?.1)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    ///
    /// [`EncodeError::NoReturnCode`] wants the connection closed without a CONNACK. [MQTT3-3.2.2-6]
    pub fn encode(&self, version: Version, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let (code, body) = self.checked(version, policy)?;
        put_fixed_header(out, 0x20, body)?;
        // 3.1 has no Session Present flag: the byte is reserved there.
        out.push(u8::from(self.session_present && version != Version::V3_1));
        out.push(code);
        if version.has_properties() {
            self.properties.put(out);
        }
        Ok(())
    }

    /// The code on the wire and the length of the body.
    fn checked(&self, version: Version, policy: Foreign) -> Result<(u8, usize), EncodeError> {
        let packet_type = PacketType::Connack;
        if self.session_present && self.reason_code != ReasonCode::Success {
            return Err(EncodeError::SessionPresentWithError);
        }
        if !self.reason_code.is_allowed_in(packet_type) {
            return Err(EncodeError::ReasonCodeNotAllowed(self.reason_code));
        }
        let properties = properties_len(self.properties, version, policy, packet_type, allowed::CONNACK)?;
        let code = if version.has_properties() {
            self.reason_code.code()
        } else {
            self.reason_code.connack_return_code().ok_or(EncodeError::NoReturnCode(self.reason_code))?
        };
        Ok((code, 2 + properties))
    }
}

/// Connect Acknowledge Flags, Reason Code, Properties. [MQTT-3.2.2]
fn connack(body: &[u8], version: Version) -> Parsed<'_, Connack<'_>> {
    let (rest, flags) = byte(body)?;
    let session_present = match flags {
        0 => false,
        1 if version != Version::V3_1 => true,
        _ => return broken(Rule::ConnackFlagsReserved, body),
    };
    let (behind, code) = byte(rest)?;
    let reason_code = if version.has_properties() {
        ReasonCode::try_from(code).ok().filter(|reason_code| reason_code.is_allowed_in(PacketType::Connack))
    } else {
        ReasonCode::from_connack_return_code(code)
    };
    let Some(reason_code) = reason_code else { return broken(Rule::ConnackReasonCode, rest) };
    if session_present && reason_code != ReasonCode::Success {
        return broken(Rule::SessionPresentWithError, body);
    }
    let (rest, properties) = if version.has_properties() {
        properties(behind, allowed::CONNACK, allowed::REPEATED)?
    } else {
        (behind, Properties::EMPTY)
    };
    Ok((rest, Connack { session_present, reason_code, properties }))
}
