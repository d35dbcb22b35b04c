use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use damselfly_broker::{ConnectionId, Intake};
use mio::event::Event;

use super::listener::Place;
use super::socket::Socket;
use crate::transport::{Arrived, Transport};

/// A frame from this size on is collected in a buffer of its own, so that its payload can be shared instead of copied.
pub(super) const LARGE_FRAME: usize = 32 * 1024;

/// The buffer of a large frame is at least this large and doubles as bytes arrive: a length announced and not sent costs
/// no more.
const FIRST_RESERVE: usize = 64 * 1024;

/// One Network Connection: the socket and what has arrived of a frame that is not whole yet.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the socket")]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) phase: Phase,
    /// Which listener it came from, by its number, and what it takes of the connections that one may have.
    pub(super) listener: u16,
    pub(super) place: Place,
    /// Waits in the driver's list of connections to be written at the end of the turn.
    pub(super) is_dirty: bool,
    /// The last write was short: an event says when the socket takes more.
    pub(super) is_blocked: bool,
    /// That event has come.
    is_unblocked: bool,
    /// There may be something to read. Events tell of changes only, so this is remembered.
    is_readable: bool,
    /// The peer has closed its side: reading goes on until the end is reached.
    is_half_closed: bool,
    transport: Transport<Socket>,
    /// What arrived and is not consumed; nothing on most connections.
    waiting: Option<Box<Waiting>>,
}

/// The beginning of a frame, or what came before a pause.
#[derive(Debug)]
struct Waiting {
    bytes: BytesMut,
    /// The length of the frame if it is a large one, otherwise 0.
    large: usize,
}

/// With debug assertions `mio` keeps more of a socket than its descriptor.
const LARGEST: usize = if cfg!(debug_assertions) { 64 } else { 48 };
const _: () = assert!(size_of::<Option<Connection>>() <= LARGEST, "every idle connection pays for it");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The core takes no more until it says so.
    Paused,
    /// The core is done with it: what it has left to say is written.
    Closing,
    /// All is written and our side is shut. Closing a socket with unread input would reset the connection and could take
    /// the last packet away from the peer, so its input is read and dropped until it closes too.
    Lingering,
}

pub(super) enum Received {
    /// Nothing has arrived.
    Nothing,
    /// The first bytes of the buffer, this many, are to be handled.
    Bytes(usize),
    /// This many bytes more of a large frame.
    Part(usize),
    /// A whole large frame.
    Frame(Bytes),
    /// The peer closed, or the connection failed.
    Ended,
    /// The peer broke the rules of what carries its packets. It may have been answered.
    Broken(io::Error),
}

impl Connection {
    pub(super) fn new(id: ConnectionId, transport: Transport<Socket>, listener: u16, place: Place) -> Self {
        Self {
            id,
            phase: Phase::Open,
            listener,
            place,
            is_dirty: false,
            is_blocked: false,
            is_unblocked: false,
            is_readable: false,
            is_half_closed: false,
            transport,
            waiting: None,
        }
    }

    /// Remembers what an event says.
    pub(super) fn note(&mut self, event: &Event) {
        self.is_half_closed |= event.is_read_closed() || event.is_error();
        self.is_readable |= event.is_readable() || self.is_half_closed;
        self.is_unblocked |= self.is_blocked && (event.is_writable() || event.is_error());
    }

    /// Whether the socket takes more after a short write: told once.
    pub(super) fn take_unblocked(&mut self) -> bool {
        let is_unblocked = mem::take(&mut self.is_unblocked);
        self.is_blocked &= !is_unblocked;
        is_unblocked
    }

    /// Whether a read may find something.
    pub(super) fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Whether the peer has closed its side and left nothing to read, which is looked for only where nobody reads.
    pub(super) fn has_ended(&self) -> bool {
        let is_read = self.waiting.is_none() && !self.transport.has_unread();
        self.is_half_closed && is_read && self.transport.stream().is_at_its_end()
    }

    /// The size its own buffer has to grow to before more of a large frame can be read.
    pub(super) fn wanted_capacity(&self) -> Option<usize> {
        let waiting = self.waiting.as_ref().filter(|waiting| waiting.large > 0)?;
        let len = waiting.bytes.len();
        (len == waiting.bytes.capacity()).then(|| len.saturating_mul(2).max(FIRST_RESERVE).min(waiting.large))
    }

    /// Lets that buffer grow.
    pub(super) fn grow(&mut self, capacity: usize) {
        if let Some(waiting) = self.waiting.as_mut() {
            // Exactly this much, which growing in place would not promise.
            let mut grown = BytesMut::with_capacity(capacity);
            grown.extend_from_slice(&waiting.bytes);
            waiting.bytes = grown;
        }
    }

    /// What is kept of a frame, or of a handshake, takes so many bytes.
    pub(super) fn capacity(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes.capacity()) + self.transport.kept_bytes()
    }

    /// Whether what carries the packets keeps something that is not whole.
    pub(super) fn is_amid(&self) -> bool {
        self.transport.kept_bytes() > 0
    }

    /// Reads once, at most `limit` bytes. What was left of the last read comes first in `buffer`, followed by what has
    /// arrived.
    pub(super) fn receive(&mut self, buffer: &mut [u8], limit: usize) -> Received {
        let waiting = match self.waiting.take() {
            Some(waiting) if waiting.large > 0 => return self.receive_large(waiting, buffer, limit),
            waiting => waiting,
        };
        let kept = waiting.as_ref().map_or(&[][..], |waiting| &waiting.bytes);
        let Some((front, rest)) = buffer.split_at_mut_checked(kept.len()).filter(|(_, rest)| !rest.is_empty()) else {
            // The core neither consumes it nor pauses nor wants more: nothing can come of this connection.
            return Received::Ended;
        };
        front.copy_from_slice(kept);
        let room = rest.len().min(limit);
        match self.read(rest.get_mut(..room).unwrap_or_default()) {
            Ok(None) => Received::Ended,
            Ok(Some(0)) => {
                self.waiting = waiting;
                Received::Nothing
            }
            Ok(Some(len)) => Received::Bytes(kept.len() + len),
            Err(error) => {
                self.waiting = waiting;
                nothing_or_ended(error)
            }
        }
    }

    /// Reads on into the frame's own buffer, which has room, and nothing beyond the frame.
    fn receive_large(&mut self, mut waiting: Box<Waiting>, buffer: &mut [u8], limit: usize) -> Received {
        let missing = waiting.large.saturating_sub(waiting.bytes.len());
        let spare = waiting.bytes.capacity() - waiting.bytes.len();
        let room = missing.min(spare).min(buffer.len()).min(limit);
        let part = buffer.get_mut(..room).unwrap_or_default();
        let len = match self.read(part) {
            Ok(None) => return Received::Ended,
            // None of it is MQTT: no progress of this packet, and no sign of life to the core.
            Ok(Some(0)) => {
                self.waiting = Some(waiting);
                return Received::Nothing;
            }
            Ok(Some(len)) => len,
            Err(error) => {
                self.waiting = Some(waiting);
                return nothing_or_ended(error);
            }
        };
        waiting.bytes.extend_from_slice(part.get(..len).unwrap_or_default());
        if len < missing {
            self.waiting = Some(waiting);
            return Received::Part(len);
        }
        Received::Frame(waiting.bytes.freeze())
    }

    /// How many bytes were read, which may be none; `None` at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let result = self.transport.read(buffer);
        self.is_readable = match &result {
            Ok(Some(arrived)) => arrived.may_have_more || self.is_half_closed,
            Ok(None) => false,
            // Whoever is refused may have said more, and nothing tells again of what is there.
            Err(error) => matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::InvalidData),
        };
        self.is_blocked |= self.transport.has_unwritten();
        Ok(result?.map(|Arrived { len, .. }| len))
    }

    /// Does what the core wants after it was given `input`.
    pub(super) fn keep_rest(&mut self, intake: Intake, input: &[u8]) {
        if intake.paused {
            self.phase = Phase::Paused;
        }
        self.keep(input.get(intake.consumed..).unwrap_or_default(), intake.wanted);
    }

    /// Keeps what the core did not consume. `wanted` is the length of the frame it begins, 0 if that cannot be known
    /// yet.
    fn keep(&mut self, rest: &[u8], wanted: usize) {
        if !rest.is_empty() {
            self.put_back(BytesMut::from(rest), wanted);
        }
    }

    /// Takes what was kept, to hand it in again after a pause.
    pub(super) fn take_kept(&mut self) -> BytesMut {
        self.waiting.take().map_or_else(BytesMut::new, |waiting| waiting.bytes)
    }

    /// What is left of [`take_kept`](Self::take_kept).
    pub(super) fn put_back(&mut self, rest: BytesMut, wanted: usize) {
        if !rest.is_empty() {
            let large = if wanted >= LARGE_FRAME { wanted } else { 0 };
            self.waiting = Some(Box::new(Waiting { bytes: rest, large }));
        }
    }

    /// Reads once and drops it.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> Received {
        self.take_kept();
        self.receive(buffer, usize::MAX)
    }

    /// One write; how many bytes the socket took. Fewer than there are: an event tells when it takes more.
    pub(super) fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.transport.write(chunks)?;
        self.is_blocked = written.is_blocked;
        Ok(written.len)
    }

    /// Writes what is to be said before the next packet, such as the answer to a handshake.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.is_blocked = self.transport.flush()?;
        Ok(())
    }

    /// Whether packets may come and go: not within a handshake, nor after it was refused.
    pub(super) fn is_open(&self) -> bool {
        self.transport.is_open()
    }

    /// Says goodbye as far as the socket takes it, where there are words for it below MQTT.
    pub(super) fn finish(&mut self) {
        self.transport.finish();
    }

    /// Shuts our side of the connection: the peer sees the end after the last packet.
    pub(super) fn shut(&mut self) -> io::Result<()> {
        self.finish();
        self.transport.stream().shutdown()
    }

    /// The name in the certificate that the peer showed.
    pub(super) fn peer_name(&self) -> Option<String> {
        self.transport.peer_name()
    }

    /// Where the peer is, while the connection stands.
    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.transport.stream().peer_address()
    }
}

fn nothing_or_ended(error: io::Error) -> Received {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Received::Nothing,
        ErrorKind::InvalidData => Received::Broken(error),
        _ => Received::Ended,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as Peer};

    use damselfly_broker::{Broker, Config};
    use damselfly_session::Timestamp;

    use super::*;
    use crate::transport::{Origins, TransportKind};

    /// A ping of 125 bytes, masked with zeros.
    fn ping(byte: u8) -> Vec<u8> {
        [&[0x89, 0xFD, 0, 0, 0, 0][..], &[byte; 125]].concat()
    }

    /// A connection over WebSocket whose handshake is done, and its peer.
    fn open() -> (Connection, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let mut broker = Broker::new(Config::default(), 7).unwrap();
        let id = broker.handle_connection(Timestamp::from_secs(1), damselfly_broker::Peer::default()).unwrap();
        let stream = Socket::Tcp(mio::net::TcpStream::from_std(stream));
        let transport = Transport::accepted(stream, TransportKind::WebSocket, &Origins::default());
        let mut connection = Connection::new(id, transport, 0, Place::Ordinary);
        let request = "GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        peer.write_all(request.as_bytes()).unwrap();
        while !connection.is_open() {
            assert!(matches!(receive(&mut connection, &mut [0; 1024]), Received::Nothing));
        }
        let mut byte = [0];
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            peer.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        (connection, peer)
    }

    fn receive(connection: &mut Connection, buffer: &mut [u8]) -> Received {
        connection.receive(buffer, usize::MAX)
    }

    /// Reads until bytes of MQTT have come: how many stand in the buffer.
    fn receive_bytes(connection: &mut Connection, buffer: &mut [u8]) -> usize {
        loop {
            match receive(connection, buffer) {
                Received::Bytes(len) => return len,
                received => assert!(matches!(received, Received::Nothing)),
            }
        }
    }

    #[test]
    fn what_waits_of_a_packet_stays_when_a_read_brings_none_of_it() {
        let (mut connection, mut peer) = open();
        connection.keep(b"\xC0", 0);
        peer.write_all(&ping(1)).unwrap();
        let mut buffer = [0; 1024];
        let mut pong = [0; 127];
        // The answer shows that the ping was read by itself.
        peer.set_nonblocking(true).unwrap();
        while peer.read(&mut pong).is_err() {
            assert!(matches!(receive(&mut connection, &mut buffer), Received::Nothing));
        }
        peer.set_nonblocking(false).unwrap();
        peer.write_all(&[0x82, 0x81, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(receive_bytes(&mut connection, &mut buffer), 2);
        assert_eq!(buffer[..2], [0xC0, 0]);
    }
}
