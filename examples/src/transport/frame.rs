//! The frames of WebSocket (RFC 6455, section 5): what arrives is taken out of them piece by piece, in the buffer it was
//! read into, so that a frame of any length needs no memory of its own.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header: two bytes, eight of length, four of mask.
const HEADER: usize = 14;
/// The longest payload of a ping, pong or close frame.
const CONTROL: u64 = 125;

/// A closed connection, in a close frame without anything wrong.
pub(super) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;

/// What a peer may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a text frame, and MQTT is sent in binary ones")]
    Text,
    #[error("an opcode that is not known")]
    Opcode,
    #[error("a reserved bit without an extension")]
    ReservedBit,
    #[error("a frame that is not masked, from a client")]
    NotMasked,
    #[error("a masked frame, from a server")]
    Masked,
    #[error("a length above 2^63")]
    Length,
    #[error("a control frame in parts, or with more than 125 bytes")]
    LongControl,
    #[error("a part of a message that was not begun, or a message within another")]
    Order,
    #[error("a close frame without a code that may be sent")]
    CloseCode,
}

impl FrameError {
    fn close_code(self) -> u16 {
        match self {
            Self::Text => UNSUPPORTED_DATA,
            _ => PROTOCOL_ERROR,
        }
    }
}

/// Why nothing more is taken out of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closes, with this code.
    Closed(u16),
    /// The peer sent what it may not.
    Broken(FrameError),
}

impl End {
    /// What our close frame says.
    pub(super) fn close_code(self) -> u16 {
        match self {
            Self::Closed(code) => code,
            Self::Broken(error) => error.close_code(),
        }
    }
}

/// What the frame that arrives is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

/// The frames of a peer.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Clients mask what they send, servers do not.
    is_masked: bool,
    /// The beginning of a header, and how much there is of it.
    header: [u8; HEADER],
    header_len: usize,
    kind: Kind,
    /// Payload bytes of the frame that have not arrived.
    left: u64,
    /// The mask for the next of them.
    mask: [u8; 4],
    /// The message goes on in another frame.
    is_unfinished: bool,
    /// The payload of a control frame, at most 125 bytes.
    control: Vec<u8>,
    /// The payload of the last ping without an answer: of several only the last needs one.
    ping: Option<Vec<u8>>,
    end: Option<End>,
}

impl Incoming {
    /// Of a client, or of a server.
    pub(super) fn of_client(is_client: bool) -> Self {
        Self {
            is_masked: is_client,
            header: [0; HEADER],
            header_len: 0,
            kind: Kind::Data,
            left: 0,
            mask: [0; 4],
            is_unfinished: false,
            control: Vec::new(),
            ping: None,
            end: None,
        }
    }

    /// Why nothing more comes.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// The payload of a ping that is to be answered.
    pub(super) fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// So many of the next bytes at least are no payload of MQTT: what is left of a header and of a control frame, and
    /// the shortest header behind that.
    pub(super) fn overhead(&self) -> usize {
        let mask = if self.is_masked { 4 } else { 0 };
        let shortest = 2 + mask;
        match (self.header_len, usize::try_from(self.left)) {
            (0, Ok(0)) => shortest,
            (0, Ok(left)) if self.kind != Kind::Data => left + shortest,
            (0, _) => 0,
            (len, _) => {
                let more = match self.header.get(1).map(|byte| byte & 0x7F) {
                    Some(126) if len > 1 => 2,
                    Some(127) if len > 1 => 8,
                    _ => 0,
                };
                (shortest + more).saturating_sub(len)
            }
        }
    }

    /// Takes the payload out of `bytes` and puts it to their front: its length. What follows an [`end`](Self::end) is
    /// dropped.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> usize {
        let (mut from, mut to) = (0_usize, 0);
        while self.end.is_none() {
            if self.left > 0 {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let until = bytes.len().min(from.saturating_add(left));
                if from == until {
                    break;
                }
                to += self.take_payload(bytes, from, until, to);
                from = until;
            } else {
                let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) else { break };
                match self.take_header(rest) {
                    Ok(len) => from += len,
                    Err(error) => self.end = Some(End::Broken(error)),
                }
            }
        }
        to
    }

    /// Takes the payload that stands between `from` and `until`: how many bytes were put to `to`.
    fn take_payload(&mut self, bytes: &mut [u8], from: usize, until: usize, to: usize) -> usize {
        let len = until - from;
        if from != to {
            bytes.copy_within(from..until, to);
        }
        let payload = bytes.get_mut(to..to + len).unwrap_or_default();
        if self.is_masked {
            mask(payload, self.mask);
            self.mask.rotate_left(len % 4);
        }
        self.left -= u64::try_from(len).unwrap_or(self.left);
        if self.kind == Kind::Data {
            return len;
        }
        self.control.extend_from_slice(payload);
        if self.left == 0 {
            self.handle_control();
        }
        0
    }

    /// Takes as much of `bytes` as belongs to the header: how many bytes.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let before = self.header_len;
        let room = self.header.get_mut(before..).unwrap_or_default();
        let len = room.len().min(bytes.len());
        room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let known = self.header.get(..before + len).unwrap_or_default();
        let mut cursor = Cursor::new(known);
        // The only other errors are those of reading, which memory has not.
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::Opcode)? else {
            self.header_len = before + len;
            return Ok(len);
        };
        let header_len = usize::try_from(cursor.position()).unwrap_or(before + len);
        self.header_len = 0;
        self.begin(&header, length)?;
        Ok(header_len.saturating_sub(before))
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<(), FrameError> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FrameError::ReservedBit);
        }
        match (self.is_masked, header.mask) {
            (true, None) => return Err(FrameError::NotMasked),
            (false, Some(_)) => return Err(FrameError::Masked),
            (_, mask) => self.mask = mask.unwrap_or_default(),
        }
        if i64::try_from(length).is_err() {
            return Err(FrameError::Length);
        }
        self.kind = match header.opcode {
            OpCode::Data(Data::Text) => return Err(FrameError::Text),
            OpCode::Data(data @ (Data::Binary | Data::Continue)) => {
                if self.is_unfinished != (data == Data::Continue) {
                    return Err(FrameError::Order);
                }
                self.is_unfinished = !header.is_final;
                Kind::Data
            }
            OpCode::Control(Control::Ping) => Kind::Ping,
            OpCode::Control(Control::Pong) => Kind::Pong,
            OpCode::Control(Control::Close) => Kind::Close,
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => return Err(FrameError::Opcode),
        };
        if self.kind != Kind::Data && (length > CONTROL || !header.is_final) {
            return Err(FrameError::LongControl);
        }
        self.left = length;
        if self.kind != Kind::Data && length == 0 {
            self.handle_control();
        }
        Ok(())
    }

    fn handle_control(&mut self) {
        let payload = std::mem::take(&mut self.control);
        match self.kind {
            Kind::Ping => self.ping = Some(payload),
            Kind::Close => {
                self.end = Some(match payload[..] {
                    [] => End::Closed(NORMAL),
                    [_] => End::Broken(FrameError::CloseCode),
                    [high, low, ..] => match u16::from_be_bytes([high, low]) {
                        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => End::Closed(code),
                        _ => End::Broken(FrameError::CloseCode),
                    },
                });
            }
            // Nobody asked.
            Kind::Pong | Kind::Data => {}
        }
    }
}

/// Puts the header of a frame behind `out`.
pub(super) fn put_header(out: &mut Vec<u8>, opcode: OpCode, len: usize, mask: Option<[u8; 4]>) {
    let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
    // Memory takes whatever is written.
    let _ = header.format(u64::try_from(len).unwrap_or_default(), out);
}

/// Puts a mask on or takes it off.
pub(super) fn mask(payload: &mut [u8], mask: [u8; 4]) {
    // Eight bytes at a time: the compiler makes wide instructions of it.
    let [a, b, c, d] = mask;
    let wide = [a, b, c, d, a, b, c, d];
    let mut parts = payload.chunks_exact_mut(8);
    for part in &mut parts {
        part.iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
    }
    parts.into_remainder().iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
}
