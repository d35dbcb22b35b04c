//! One connection of WebSocket over a stream that does not block.

use std::io::{self, ErrorKind, IoSlice};
use std::mem;

use rustix::rand::{GetRandomFlags, getrandom};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frame::{self, End, Incoming};
use super::handshake::{Handshake, HandshakeError, Shaken};
use super::{Arrived, Layer, Origins, Stream, Written};

/// The most payload of one frame of a client: it is masked in a copy, which is as large.
const CLIENT_FRAME: usize = 64 * 1024;
/// Slices that one write takes, with one for what is our own.
const SLICES: usize = 33;
/// A reader with less room than this is read for beyond it, as far as that is known to be no payload.
const LITTLE: usize = 128;
/// A connection that has written everything keeps at most so many bytes of buffer.
const KEPT: usize = 64;

/// The bytes of MQTT within the binary frames of one connection.
///
/// What arrives is taken out of its frames as it comes, in the reader's own buffer: neither a message nor a frame is
/// collected, so that their lengths cost nothing and need no limit. What a server sends is written from where it is,
/// behind the header of its frame; a client has to mask it, and does so in a copy of at most 64 KiB.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    stream: S,
    is_client: bool,
    /// Until it is done.
    handshake: Option<Box<Handshake>>,
    incoming: Incoming,
    /// Bytes of our own that go first: handshakes, headers and whole control frames; of a client its payload too.
    front: Vec<u8>,
    /// How many of them are written.
    sent: usize,
    /// Payload that is announced by a header and still to come from the caller, and may have nothing in between.
    left: usize,
    /// Nothing more may be written: the close frame, or a refusal, was the last.
    is_over: bool,
}

const _: () = assert!(size_of::<WebSocket<[u8; 16]>>() <= 216, "every idle connection over WebSocket pays for it");

impl<S: Stream> WebSocket<S> {
    /// A server's side, on which nothing has arrived, for pages of these origins.
    pub(super) fn server(stream: S, origins: &Origins) -> Self {
        Self::new(stream, Handshake::expect(origins.clone()), Incoming::of_client(true))
    }

    fn new(stream: S, handshake: Handshake, incoming: Incoming) -> Self {
        Self {
            stream,
            is_client: false,
            handshake: Some(Box::new(handshake)),
            incoming,
            front: Vec::new(),
            sent: 0,
            left: 0,
            is_over: false,
        }
    }

    /// A client's side, which has a request to send.
    pub(super) fn client(stream: S, uri: &str) -> Result<Self, HandshakeError> {
        let (handshake, request) = Handshake::request(uri)?;
        let incoming = Incoming::of_client(false);
        Ok(Self { is_client: true, front: request, ..Self::new(stream, handshake, incoming) })
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    #[cfg(test)]
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// One read: the payload in it is put to the front of `buffer`, and may be nothing. `None` is the end. Pings and
    /// handshakes are answered, as far as the stream takes it at once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        match self.incoming.end() {
            Some(End::Closed(_)) => return Ok(None),
            Some(End::Broken(error)) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            None => {}
        }
        if self.is_open() && buffer.len() < LITTLE {
            return self.read_beyond(buffer);
        }
        self.read_into(buffer)
    }

    /// Reads as much more than fits into `buffer` as surely is no payload. Who waits for the last byte of a packet
    /// would else read one byte at a time of whatever comes before it, for as long as the peer likes.
    fn read_beyond(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        // The most that is no payload is a whole control frame, and a header.
        let mut bytes = [0; 2 * LITTLE + 16];
        let room = bytes.len().min(buffer.len() + self.incoming.overhead());
        let Some(arrived) = self.read_into(bytes.get_mut(..room).unwrap_or_default())? else { return Ok(None) };
        buffer.iter_mut().zip(bytes).take(arrived.len).for_each(|(to, byte)| *to = byte);
        Ok(Some(arrived))
    }

    fn read_into(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        let Some(Arrived { len: read, may_have_more }) = self.stream.take(buffer)? else { return Ok(None) };
        let nothing = Ok(Some(Arrived { len: 0, may_have_more }));
        if read == 0 {
            return nothing;
        }
        let mut from = 0;
        if let Some(mut handshake) = self.handshake.take() {
            if self.is_over {
                // Refused: whatever else comes is read so that the answer arrives.
                self.handshake = Some(handshake);
                return nothing;
            }
            match handshake.handle(buffer.get(..read).unwrap_or_default()) {
                Ok(Shaken::NotYet) => {
                    self.handshake = Some(handshake);
                    return nothing;
                }
                Ok(Shaken::Done { answer, rest }) => {
                    self.front.extend_from_slice(&answer);
                    from = read - rest.min(read);
                }
                Err(error) => {
                    self.handshake = Some(Box::default());
                    return Err(self.refuse(error));
                }
            }
        }
        if from > 0 {
            buffer.copy_within(from..read, 0);
        }
        let len = self.incoming.decode(buffer.get_mut(..read - from).unwrap_or_default());
        // Should that fail, there may still be something to read before the end.
        let _ = self.flush_own();
        // An end is told by the next read, after what came before it.
        let may_have_more = may_have_more || self.incoming.end().is_some();
        Ok(Some(Arrived { len, may_have_more }))
    }

    /// Says what is wrong with a handshake, to a client at least.
    fn refuse(&mut self, error: HandshakeError) -> io::Error {
        if !self.is_client {
            self.front.extend_from_slice(&error.answer());
        }
        self.is_over = true;
        // What the stream does not take at once is written when it does.
        let _ = self.flush_own();
        io::Error::new(ErrorKind::InvalidData, error)
    }

    /// One write of payload, in a frame of its own if it is not the rest of one.
    pub(super) fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<Written> {
        if self.is_over || !self.is_open() {
            return Err(ErrorKind::NotConnected.into());
        }
        if self.is_client { self.write_masked(chunks) } else { self.write_through(chunks) }
    }

    /// Of a server: the header and then what there is, without a copy.
    fn write_through(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<Written> {
        if self.left == 0 {
            self.put_pong();
            let total = chunks.iter().map(|chunk| chunk.len()).sum();
            frame::put_header(&mut self.front, OpCode::Data(Data::Binary), total, None);
            self.left = total;
        }
        let own = self.front.get(self.sent..).unwrap_or_default();
        let mut slices = [IoSlice::new(own); SLICES];
        let (mut count, mut room) = (1, self.left);
        for (slice, chunk) in slices.iter_mut().skip(1).zip(chunks) {
            *slice = IoSlice::new(chunk.get(..room.min(chunk.len())).unwrap_or_default());
            room -= slice.len();
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let own = own.len();
        let written = write_with(|| self.stream.write_vectored(slices))?;
        self.advance(written.min(own));
        let len = written.saturating_sub(own);
        self.left -= len;
        // A ping may have come within the frame.
        let is_blocked = written < total || self.stream.has_unwritten() || self.left == 0 && self.flush_own()?;
        Ok(Written { len, is_blocked })
    }

    /// Of a client: a masked copy, as soon as the last one is written.
    fn write_masked(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<Written> {
        let mut len = 0;
        if !self.flush_own()? {
            let total = chunks.iter().map(|chunk| chunk.len()).sum::<usize>().min(CLIENT_FRAME);
            let mask = random_mask()?;
            frame::put_header(&mut self.front, OpCode::Data(Data::Binary), total, Some(mask));
            let start = self.front.len();
            for chunk in chunks {
                self.front.extend_from_slice(chunk.get(..chunk.len().min(total - len)).unwrap_or_default());
                len = self.front.len() - start;
            }
            frame::mask(self.front.get_mut(start..).unwrap_or_default(), mask);
        }
        Ok(Written { len, is_blocked: self.flush_own()? })
    }

    /// Answers the last ping, if nothing waits: however many come, one answer at most does.
    fn put_pong(&mut self) {
        if self.left > 0 || !self.front.is_empty() || self.is_over {
            return;
        }
        if let Some(payload) = self.incoming.take_ping() {
            self.put_control(Control::Pong, payload);
        }
    }

    fn put_control(&mut self, control: Control, mut payload: Vec<u8>) {
        let mask = self.is_client.then(random_mask).transpose();
        // Without a mask a client may say nothing.
        let Ok(mask) = mask else { return };
        frame::put_header(&mut self.front, OpCode::Control(control), payload.len(), mask);
        frame::mask(&mut payload, mask.unwrap_or_default());
        self.front.extend_from_slice(&payload);
    }

    fn advance(&mut self, written: usize) {
        self.sent += written;
        if self.sent >= self.front.len() {
            self.sent = 0;
            if self.front.capacity() > KEPT { drop(mem::take(&mut self.front)) } else { self.front.clear() }
        }
    }
}

impl<S: Stream> Layer for WebSocket<S> {
    fn flush_own(&mut self) -> io::Result<bool> {
        if self.stream.flush_own()? {
            return Ok(true);
        }
        if !self.stream.is_open() {
            // What is our own has to wait, and not for room.
            return Ok(false);
        }
        loop {
            self.put_pong();
            let own = self.front.get(self.sent..).unwrap_or_default();
            if own.is_empty() {
                return Ok(self.stream.has_unwritten());
            }
            match write_with(|| self.stream.write(own))? {
                0 => return Ok(true),
                len => self.advance(len),
            }
        }
    }

    fn has_unwritten(&self) -> bool {
        self.stream.has_unwritten() || self.stream.is_open() && self.sent < self.front.len()
    }

    fn has_unread(&self) -> bool {
        self.stream.has_unread()
    }

    fn is_open(&self) -> bool {
        self.handshake.is_none()
    }

    fn kept_bytes(&self) -> usize {
        self.stream.kept_bytes() + self.handshake.as_ref().map_or(0, |handshake| handshake.kept_bytes())
    }

    /// As far as the stream takes it at once. A frame that is not whole leaves no room for it.
    fn finish(&mut self) {
        if !self.is_over && self.is_open() && self.left == 0 {
            let code = self.incoming.end().map_or(frame::NORMAL, End::close_code);
            self.put_control(Control::Close, code.to_be_bytes().to_vec());
            self.is_over = true;
            // Who cannot be told is gone, or will be.
            let _ = self.flush_own();
        }
        self.stream.finish();
    }
}

/// How much was written: nothing if the stream takes no more.
fn write_with(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match write() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

/// As nobody can guess it: what an application sends must not be able to look like something else to a proxy.
fn random_mask() -> io::Result<[u8; 4]> {
    let mut mask = [0; 4];
    getrandom(&mut mask, GetRandomFlags::empty())?;
    Ok(mask)
}
