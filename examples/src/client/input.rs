//! What has arrived and is not consumed: packets in one buffer, or a large packet in a buffer of its own.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use damselfly_client::{Intake, Timestamp};
use damselfly_codec::{Frame, FrameLimits};
use damselfly_sim::flight::RecordedClient;

use super::socket::Socket;
use crate::transport::Transport;

/// Room for one read: what comes of more would have left the processor's cache before the application looks at it.
const READ_SIZE: usize = 16 * 1_024;
/// A packet from this size on is collected in a buffer of its own, so that its payload is shared instead of copied.
const LARGE_PACKET: usize = 32 * 1_024;

#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: BytesMut,
    /// The length of the packet that is being collected if it is a large one, otherwise 0.
    large: usize,
    /// A large packet that is whole.
    frame: Option<Frame>,
    /// The core has looked at what is left of the bytes: to hand them in again would be a sign of life that nobody gave.
    is_seen: bool,
}

impl Input {
    /// Is there anything that the core may take: more than a part of a packet that it has seen?
    pub(super) fn is_ready(&self) -> bool {
        self.frame.is_some() || self.large == 0 && !self.is_seen && !self.bytes.is_empty()
    }

    /// One read: how many bytes it was, which may be none; `None` is the end. Of a large packet it takes nothing beyond
    /// its end.
    pub(super) fn read(&mut self, transport: &mut Transport<Socket>) -> io::Result<Option<usize>> {
        if self.large == 0 {
            self.bytes.reserve(READ_SIZE);
            return self.fill(transport, usize::MAX);
        }
        let missing = self.large.saturating_sub(self.bytes.len());
        if self.bytes.capacity() == self.bytes.len() {
            // Doubled as bytes arrive: a length that is announced and not sent costs no more.
            self.grow(self.bytes.len().saturating_mul(2));
        }
        let len = self.fill(transport, missing)?;
        if len == Some(missing) {
            self.large = 0;
            // It is whole: the core has looked at its length.
            let limits = FrameLimits { max_packet_size: u32::MAX };
            match Frame::new(self.bytes.split().freeze(), &limits) {
                Ok(frame) => self.frame = Some(frame),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(len)
    }

    /// Reads into the room there is, at most `limit` bytes.
    fn fill(&mut self, transport: &mut Transport<Socket>, limit: usize) -> io::Result<Option<usize>> {
        if let Transport::Plain(stream) = transport {
            let len = stream.try_read_buf(&mut (&mut self.bytes).limit(limit))?;
            self.is_seen &= len == 0;
            return Ok((len > 0).then_some(len));
        }
        let start = self.bytes.len();
        let room = (self.bytes.capacity() - start).min(limit).min(READ_SIZE);
        self.bytes.resize(start + room, 0);
        let result = transport.read(self.bytes.get_mut(start..).unwrap_or_default());
        let len = result.as_ref().ok().and_then(|arrived| *arrived).map_or(0, |arrived| arrived.len);
        self.bytes.truncate(start + len);
        self.is_seen &= len == 0;
        Ok(result?.map(|arrived| arrived.len))
    }

    /// Hands in what there is.
    pub(super) fn hand_in(&mut self, core: &mut RecordedClient, now: Timestamp) -> Intake {
        if let Some(frame) = self.frame.take() {
            let intake = core.handle_frame(now, &frame);
            if intake.consumed == 0 {
                self.frame = Some(frame);
            }
            return intake;
        }
        if self.large > 0 {
            core.handle_progress(now);
            return Intake::default();
        }
        let intake = core.handle_input(now, &self.bytes);
        self.bytes.advance(intake.consumed);
        self.is_seen = !intake.paused && intake.consumed == 0;
        if intake.wanted >= LARGE_PACKET && !intake.paused {
            self.large = intake.wanted;
            self.grow(self.bytes.len().saturating_mul(2).max(READ_SIZE));
        }
        intake
    }

    /// A buffer of the packet's own, which what it shares of it keeps alive.
    fn grow(&mut self, capacity: usize) {
        // Exactly this much, which growing in place would not promise.
        let mut grown = BytesMut::with_capacity(capacity.min(self.large));
        grown.extend_from_slice(&self.bytes);
        self.bytes = grown;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use damselfly_client::{Client, Config, ConnectParameters, Event, Output};
    use tokio::net::TcpStream;

    use super::*;

    /// CONNACK, a small message, one of a mebibyte, a small one; QoS 0, topic `a`.
    fn wire() -> Vec<u8> {
        let small = *b"\x30\x05\x00\x01a\x00x";
        let len: usize = 4 + 1_024 * 1_024;
        let mut bytes = b"\x20\x03\x00\x00\x00".to_vec();
        bytes.extend_from_slice(&small);
        bytes.push(0x30);
        let digit = |at: u32| u8::try_from(len >> (7 * at) & 0x7F).unwrap();
        bytes.extend_from_slice(&[digit(0) | 0x80, digit(1) | 0x80, digit(2)]);
        bytes.extend_from_slice(b"\x00\x01a\x00");
        bytes.resize(bytes.len() + 1_024 * 1_024, b'y');
        bytes.extend_from_slice(&small);
        bytes
    }

    fn payloads(core: &mut RecordedClient) -> Vec<bytes::Bytes> {
        let message = |output| match output {
            Output::Event(Event::Message(inbound)) => Some(inbound.message.payload_bytes()),
            _ => None,
        };
        std::iter::from_fn(|| core.poll_output()).filter_map(message).collect()
    }

    /// The large packet comes in pieces of a size that ends nowhere at its borders, and the application may pause.
    #[tokio::test]
    async fn large_packet_that_arrives_in_pieces_is_handed_in_whole_and_its_payload_is_not_copied() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut transport = Transport::Plain(Socket::Tcp(stream));
        let mut peer = listener.accept().unwrap().0;
        let mut core = RecordedClient::from(Client::new(Config::new("heron"), 7));
        let now = Timestamp::from_secs(1);
        core.handle_transport_up(now, &ConnectParameters::default());
        let mut input = Input::default();
        let mut arrived = Vec::new();
        let mut frames = 0;
        for piece in wire().chunks(10_007) {
            peer.write_all(piece).unwrap();
            let mut missing = piece.len();
            while missing > 0 {
                transport.stream().readable().await.unwrap();
                missing -= match input.read(&mut transport) {
                    Ok(len) => len.unwrap(),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        continue;
                    }
                };
                let whole = input.frame.as_ref().map(|frame| (frame.as_ptr(), frame.len()));
                if let Some((start, len)) = whole {
                    core.pause(now);
                    assert!(input.hand_in(&mut core, now).paused && input.is_ready(), "it stays");
                    core.resume(now);
                    assert_eq!(input.hand_in(&mut core, now).consumed, len);
                    frames += 1;
                    let payload = payloads(&mut core).pop().unwrap();
                    assert_eq!(payload.as_ptr(), start.wrapping_add(len - payload.len()), "a part of the frame");
                    arrived.push(payload);
                } else {
                    let _ = input.hand_in(&mut core, now);
                    arrived.extend(payloads(&mut core));
                }
            }
        }
        assert_eq!((frames, arrived.len()), (1, 3));
        assert_eq!([arrived[0].len(), arrived[1].len(), arrived[2].len()], [1, 1_024 * 1_024, 1]);
        assert!(arrived[1].iter().all(|byte| *byte == b'y'));
        assert!(!input.is_ready() && input.bytes.is_empty());
    }
}
