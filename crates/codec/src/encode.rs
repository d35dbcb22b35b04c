//! What the encoders of all packets share.

use crate::properties::{PropertySet, allowed};
use crate::{EncodeError, PacketType, Properties, Version};

/// What becomes of 5.0 data on a 3.1 or 3.1.1 connection.
///
/// It concerns Properties, the Reason Codes of acknowledgements, Subscription Options other than QoS, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Foreign {
    /// Encoding is refused with [`EncodeError::NotInVersion`]: for a client, whose application should know.
    Reject,
    /// The data is left out: for a broker that forwards to subscribers of both versions.
    Strip,
}

impl Foreign {
    /// Answers for data that `version` has no place for.
    #[inline]
    pub(crate) fn allow(self, is_foreign: bool, packet_type: PacketType) -> Result<(), EncodeError> {
        if is_foreign && self == Self::Reject { Err(EncodeError::NotInVersion(packet_type)) } else { Ok(()) }
    }
}

/// Bytes that the Properties take on the wire, Property Length included; none before 5.0.
#[inline]
pub(crate) fn properties_len(
    properties: Properties<'_>,
    version: Version,
    policy: Foreign,
    packet_type: PacketType,
    allowed: PropertySet,
) -> Result<usize, EncodeError> {
    if version.has_properties() {
        properties.encoded_len(allowed, allowed::REPEATED)
    } else {
        policy.allow(!properties.is_empty(), packet_type)?;
        Ok(0)
    }
}
