//! Framing: where a packet begins and ends, decided on at most five bytes. [MQTT-2.1]

use core::fmt;
use core::ops::Deref;

use bytes::Bytes;

use crate::wire::{MAX_VARIABLE_INTEGER, index, to_usize};
use crate::{AckType, DecodeError, Packet, PacketType, Rule, Version};

/// The largest packet the protocol allows: five bytes of fixed header and 268,435,455 behind them. [MQTT-2.1.4]
pub const PROTOCOL_MAXIMUM_PACKET_SIZE: u32 = MAX_VARIABLE_INTEGER + 5;

/// What framing refuses before anything is buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct FrameLimits {
    /// The largest accepted packet in bytes, fixed header included; the protocol's maximum, 268,435,460, by default.
    ///
    /// This is the Maximum Packet Size one tells a 5.0 peer. [MQTT-3.1.2.11.4]
    pub max_packet_size: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE }
    }
}

/// The fixed header of a packet: type, flags and Remaining Length, checked. [MQTT-2.1.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    first: u8,
    header_len: u8,
    is_minimal: bool,
    remaining_length: u32,
}

impl FixedHeader {
    /// The packet type. AUTH (15) passes here and is refused by the decoder of a 3.1.1 connection.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self.first >> 4 {
            1 => PacketType::Connect,
            2 => PacketType::Connack,
            3 => PacketType::Publish,
            4 => PacketType::Puback,
            5 => PacketType::Pubrec,
            6 => PacketType::Pubrel,
            7 => PacketType::Pubcomp,
            8 => PacketType::Subscribe,
            9 => PacketType::Suback,
            10 => PacketType::Unsubscribe,
            11 => PacketType::Unsuback,
            12 => PacketType::Pingreq,
            13 => PacketType::Pingresp,
            14 => PacketType::Disconnect,
            // Type 0 does not leave `peek`.
            _ => PacketType::Auth,
        }
    }

    #[inline]
    pub(crate) const fn is_publish(self) -> bool {
        self.first >> 4 == PacketType::Publish.number()
    }

    /// Which acknowledgement of PUBLISH it is, if it is one.
    #[inline]
    pub(crate) const fn ack_type(self) -> Option<AckType> {
        match self.first >> 4 {
            4 => Some(AckType::Puback),
            5 => Some(AckType::Pubrec),
            6 => Some(AckType::Pubrel),
            7 => Some(AckType::Pubcomp),
            _ => None,
        }
    }

    /// The length is encoded in as few bytes as possible.
    #[inline]
    pub(crate) const fn is_minimal(self) -> bool {
        self.is_minimal
    }

    /// The lower four bits of the first byte: DUP, QoS and RETAIN of a PUBLISH, otherwise fixed. [MQTT-2.1.3]
    #[inline]
    pub const fn flags(self) -> u8 {
        self.first & 0x0F
    }

    /// Bytes of the fixed header: 2 to 5.
    #[inline]
    pub const fn header_len(self) -> u8 {
        self.header_len
    }

    /// Bytes behind the fixed header: 0 to 268,435,455. [MQTT-2.1.4]
    #[inline]
    pub const fn remaining_length(self) -> u32 {
        self.remaining_length
    }

    /// Bytes of the whole packet: 2 to 268,435,460.
    #[inline]
    pub fn frame_len(self) -> usize {
        usize::from(self.header_len) + to_usize(self.remaining_length)
    }

    /// 5.0 wants the length in as few bytes as possible, 3.1.1 does not say so. [MQTT-1.5.5-1]
    #[inline]
    pub(crate) fn check_for(self, version: Version) -> Result<(), DecodeError> {
        if self.is_minimal || !version.has_properties() {
            Ok(())
        } else {
            Err(DecodeError::new(Rule::VariableIntegerNotMinimal, version, 1))
        }
    }
}

/// Reads the fixed header at the front of `input`, looking at five bytes at most.
///
/// `Ok(None)` is "not yet": the fixed header is not complete. A wrong packet type, wrong flags, a length of more than
/// four bytes and a packet above the limit are errors as soon as the byte that shows them is there, so that nothing is
/// buffered for such a packet. The statement of an error is that of 5.0; see [`DecodeError::for_version`].
///
/// ```
/// use damselfly_codec::{FrameLimits, PacketType, peek};
///
/// let limits = FrameLimits::default();
/// assert_eq!(peek(&[0x30], &limits), Ok(None));
///
/// let header = peek(&[0x30, 0xC8, 0x01], &limits).unwrap().unwrap();
/// assert_eq!(header.packet_type(), PacketType::Publish);
/// assert_eq!(header.frame_len(), 3 + 200);
/// ```
#[inline]
pub fn peek(input: &[u8], limits: &FrameLimits) -> Result<Option<FixedHeader>, DecodeError> {
    // Most packets are shorter than 128 bytes. This way out of their own spares them to be joined with the others.
    if let [first, length @ 0..0x80, ..] = *input {
        let remaining_length = u32::from(length);
        if IS_FIRST_BYTE[usize::from(first)] && remaining_length + 2 <= limits.max_packet_size {
            return Ok(Some(FixedHeader { first, header_len: 2, is_minimal: true, remaining_length }));
        }
    }
    peek_any(input, *limits)
}

#[inline(never)]
fn peek_any(input: &[u8], limits: FrameLimits) -> Result<Option<FixedHeader>, DecodeError> {
    let Some(&first) = input.first() else { return Ok(None) };
    if !IS_FIRST_BYTE[usize::from(first)] {
        return Err(refused_first_byte(first));
    }
    let Some(header) = peek_length(first, input)? else { return Ok(None) };
    if u32::from(header.header_len) + header.remaining_length > limits.max_packet_size {
        return Err(DecodeError::new(Rule::PacketTooLarge, Version::V5_0, 1));
    }
    Ok(Some(header))
}

/// The Remaining Length. [MQTT-1.5.5]
#[inline]
fn peek_length(first: u8, input: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
    let mut remaining_length = 0;
    for (header_len, shift) in [(2, 0), (3, 7), (4, 14), (5, 21)] {
        let Some(&byte) = input.get(usize::from(header_len) - 1) else { return Ok(None) };
        remaining_length |= u32::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            let is_minimal = byte != 0 || shift == 0;
            return Ok(Some(FixedHeader { first, header_len, is_minimal, remaining_length }));
        }
    }
    Err(DecodeError::new(Rule::VariableIntegerTooLong, Version::V5_0, 1))
}

/// Cuts the packet at the front of `input`, or says "not yet" with `Ok(None)`.
///
/// What follows the packet stays with the caller: `&input[frame.len()..]`.
///
/// ```
/// use damselfly_codec::{FrameLimits, split_frame};
///
/// let received = [0xC0, 0x00, 0xD0];
/// let frame = split_frame(&received, &FrameLimits::default()).unwrap();
/// assert_eq!(frame, Some(&received[..2]));
/// assert_eq!(split_frame(&received[2..], &FrameLimits::default()), Ok(None));
/// ```
#[inline]
pub fn split_frame<'a>(input: &'a [u8], limits: &FrameLimits) -> Result<Option<&'a [u8]>, DecodeError> {
    Ok(peek(input, limits)?.and_then(|header| input.get(..header.frame_len())))
}

/// The fixed header and the body of exactly one packet.
#[inline]
pub(crate) fn split_exact(frame: &[u8]) -> Result<(FixedHeader, &[u8]), DecodeError> {
    let limits = FrameLimits { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE };
    if let Some(header) = peek(frame, &limits)? {
        if let Some(body) = frame.get(usize::from(header.header_len)..) {
            if body.len() == to_usize(header.remaining_length) {
                return Ok((header, body));
            }
            if body.len() > to_usize(header.remaining_length) {
                return Err(DecodeError::new(Rule::TrailingBytes, Version::V5_0, header.frame_len()));
            }
        }
    }
    Err(DecodeError::new(Rule::FrameIncomplete, Version::V5_0, frame.len()))
}

/// Which first bytes a packet can begin with. [MQTT-2.1.2] [MQTT-2.1.3-1]
static IS_FIRST_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut first: u8 = 0;
    loop {
        table[index(first)] = broken_by_first_byte(first).is_none();
        if first == u8::MAX {
            break;
        }
        first += 1;
    }
    table
};

#[cold]
fn refused_first_byte(first: u8) -> DecodeError {
    DecodeError::new(broken_by_first_byte(first).unwrap_or(Rule::FlagsReserved), Version::V5_0, 0)
}

const fn broken_by_first_byte(first: u8) -> Option<Rule> {
    match (first >> 4, first & 0x0F) {
        (0, _) => Some(Rule::PacketTypeReserved),
        (3, 0b0110 | 0b0111 | 0b1110 | 0b1111) => Some(Rule::QoSInvalid),
        (3, 0b1000 | 0b1001) => Some(Rule::DupAtMostOnce),
        (3, _) | (6 | 8 | 10, 0b0010) => None,
        (6, _) => Some(Rule::PubrelFlags),
        (8, _) => Some(Rule::SubscribeFlags),
        (10, _) => Some(Rule::UnsubscribeFlags),
        (_, 0) => None,
        (14, _) => Some(Rule::DisconnectFlags),
        (15, _) => Some(Rule::AuthFlags),
        _ => Some(Rule::FlagsReserved),
    }
}

/// One whole packet, owned: the bytes as they were or will be on the wire, cheap to clone, send and store.
///
/// ```
/// use bytes::Bytes;
/// use damselfly_codec::{Frame, FrameLimits, Packet, Version};
///
/// let received = Bytes::from_static(b"\x30\x06\x00\x01tabc");
/// let frame = Frame::new(received, &FrameLimits::default()).unwrap();
///
/// let Ok(Packet::Publish(publish)) = frame.packet(Version::V3_1_1) else { panic!("a PUBLISH") };
/// let payload: Bytes = frame.slice_ref(publish.payload);   // shares the memory of the frame
/// assert_eq!(payload, "abc");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Frame(Bytes);

impl Frame {
    /// Checks that `bytes` is exactly one packet within the limits; the body is checked by [`Frame::packet`].
    pub fn new(bytes: Bytes, limits: &FrameLimits) -> Result<Self, DecodeError> {
        peek(&bytes, limits)?;
        split_exact(&bytes)?;
        Ok(Self(bytes))
    }

    /// Decodes the packet, checking all of it each time.
    pub fn packet(&self, version: Version) -> Result<Packet<'_>, DecodeError> {
        Packet::decode(version, &self.0)
    }

    /// A part of this frame, sharing its memory. A slice from elsewhere is copied.
    pub fn slice_ref(&self, part: &[u8]) -> Bytes {
        let (whole, inner) = (self.0.as_ptr_range(), part.as_ptr_range());
        if whole.start <= inner.start && inner.end <= whole.end {
            self.0.slice_ref(part)
        } else {
            Bytes::copy_from_slice(part)
        }
    }

    /// The bytes of the whole packet.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes of the whole packet, given away.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Frame> for Bytes {
    fn from(frame: Frame) -> Self {
        frame.0
    }
}

/// Type and length; the content may be secret.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet_type = split_exact(&self.0).ok().map(|(header, _)| header.packet_type());
        f.debug_struct("Frame").field("packet_type", &packet_type).field("len", &self.0.len()).finish()
    }
}
