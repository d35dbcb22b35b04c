//! Packets from a buffer that grows.

use crate::{DecodeError, FrameLimits, Packet, PacketType, Rule, Version, peek};

/// Takes packets from the front of a buffer that grows as bytes arrive, however they are split.
///
/// The buffer stays with the caller: [`Decoder::decode`] is given what has not been consumed yet, and says how many bytes
/// the packet at its front takes. Cores that decode one type of packet at a time use [`peek`] themselves.
///
/// ```
/// use damselfly_codec::{Decoder, FrameLimits, Packet, Version};
///
/// let mut decoder = Decoder::new(Version::V5_0, FrameLimits::default());
/// let mut buffer = Vec::new();
/// let mut packets = 0;
/// for arrived in [&[0xD0][..], &[0x00, 0xD0], &[0x00]] {
///     buffer.extend_from_slice(arrived);
///     let mut consumed = 0;
///     while let Some((packet, len)) = decoder.decode(&buffer[consumed..])? {
///         assert_eq!(packet, Packet::Pingresp);
///         consumed += len;
///         packets += 1;
///     }
///     buffer.drain(..consumed);
/// }
/// assert_eq!(packets, 2);
/// # Ok::<(), damselfly_codec::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    version: Option<Version>,
    limits: FrameLimits,
}

impl Decoder {
    /// For a connection whose version is known: a client's.
    pub const fn new(version: Version, limits: FrameLimits) -> Self {
        Self { version: Some(version), limits }
    }

    /// For a connection that begins with a CONNECT, which says the version: a broker's. [MQTT-3.1.0-1]
    pub const fn before_connect(limits: FrameLimits) -> Self {
        Self { version: None, limits }
    }

    /// The version of the connection; `None` until a CONNECT was decoded.
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Decodes the packet at the front of `input`, and says how many bytes it takes; `None` until all of it is there.
    ///
    /// After an error the connection is to be closed; the same input gives the same error.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
        let version = self.version.unwrap_or(Version::V5_0);
        let Some(header) = peek(input, &self.limits).map_err(|error| error.for_version(version))? else {
            return Ok(None);
        };
        if self.version.is_none() && header.packet_type() != PacketType::Connect {
            return Err(DecodeError::new(Rule::ConnectExpected, version, 0));
        }
        let Some(body) = input.get(usize::from(header.header_len())..header.frame_len()) else { return Ok(None) };
        let packet = Packet::decode_body(version, header, body)?;
        if let Packet::Connect(connect) = packet {
            self.version = Some(connect.version());
        }
        Ok(Some((packet, header.frame_len())))
    }
}
