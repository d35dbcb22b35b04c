//! One connection of TLS over a stream that does not block.

mod client;
mod files;
mod name;
mod problem;
mod server;

use std::cell::Cell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Write};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::{Arrived, Layer, Stream};

pub use client::ClientTls;
pub use files::TlsError;
pub(crate) use problem::Problem;
pub use server::{ServerTls, ServerTlsFiles};

/// The payload of a record, at most.
const RECORD: usize = 16 * 1024;
/// What a record takes beside it, at most: header, content type, nonce and tag.
const OVERHEAD: usize = 64;
/// Plaintext that is encrypted for one write, in full records. So much may be left to one that was short.
const BATCH: usize = 2 * RECORD;
/// Ciphertext that one read takes from the stream.
const READ: usize = 64 * 1024;
/// A read with less room than this takes a whole record nevertheless.
const LEAST_READ: usize = 4 * 1024;
/// Ciphertext read in one call: a peer may send records without any payload for as long as it likes.
const READS_PER_CALL: usize = 4;
/// Ciphertext that is kept because it is not whole: of a record, or of a handshake message in several.
const LONGEST_PART: usize = 80 * 1024;
/// What an unfinished handshake takes within `rustls`, about.
const HANDSHAKE: usize = 8 * 1024;

/// Buffers that all connections of a thread share: an idle connection has none.
#[derive(Default)]
struct Scratch {
    incoming: Vec<u8>,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = const {
        Cell::new(Scratch { incoming: Vec::new(), plain: Vec::new(), outgoing: Vec::new() })
    };
}

/// Either side's state. `rustls` has an interface that owns no buffers: a connection that waits keeps none.
enum Session {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client(_) => "Client",
            Self::Server(_) => "Server",
        })
    }
}

/// The bytes of a stream within TLS.
#[derive(Debug)]
pub(crate) struct Tls<S> {
    stream: S,
    session: Session,
    /// Ciphertext that is not whole.
    incoming: Vec<u8>,
    /// What is decrypted and did not fit into the reader's buffer, and how much of it was read since.
    plain: Vec<u8>,
    read: usize,
    /// Ciphertext that the stream did not take, and how much of it it took since.
    outgoing: Vec<u8>,
    sent: usize,
    is_open: bool,
    /// The peer said that nothing more follows, or the stream ended.
    has_ended: bool,
    /// Nothing more may be written: the peer was told.
    is_over: bool,
    /// What is wrong, to be told when what came before it is read.
    problem: Option<Box<Problem>>,
}

/// What is to be done next.
enum Step {
    /// There is more to do with what is there.
    More,
    /// Nothing without more input.
    Wait,
    /// The peer has closed.
    Closed,
}

impl<S: Stream> Tls<S> {
    /// A broker's side of a connection.
    pub(crate) fn server(stream: S, session: UnbufferedServerConnection) -> Self {
        Self::new(stream, Session::Server(session))
    }

    /// A client's side, whose first message is sent by `flush`.
    pub(crate) fn client(stream: S, session: UnbufferedClientConnection) -> Self {
        Self::new(stream, Session::Client(session))
    }

    fn new(stream: S, session: Session) -> Self {
        Self {
            stream,
            session,
            incoming: Vec::new(),
            plain: Vec::new(),
            read: 0,
            outgoing: Vec::new(),
            sent: 0,
            is_open: false,
            has_ended: false,
            is_over: false,
            problem: None,
        }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    #[cfg(test)]
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The name in the certificate that the peer showed, which was checked: see [`name`].
    pub(crate) fn peer_name(&self) -> Option<String> {
        let Session::Server(session) = &self.session else { return None };
        name::of_certificate(session.peer_certificates()?.first()?)
    }

    /// Gives the reader what is decrypted: how many bytes.
    fn give(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.plain.get(self.read..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.read += len;
        if self.read == self.plain.len() {
            (self.plain, self.read) = (Vec::new(), 0);
        }
        len
    }

    /// Reads from the stream and decrypts into `buffer`: how many bytes, and whether there may be more.
    fn read_with(&mut self, incoming: &mut Vec<u8>, buffer: &mut [u8]) -> io::Result<Arrived> {
        let mut len = 0;
        for _ in 0..READS_PER_CALL {
            let kept = self.incoming.len();
            let room = (buffer.len() - len + OVERHEAD).clamp(LEAST_READ, READ);
            if incoming.len() < kept + READ {
                incoming.resize(kept + READ, 0);
            }
            let (front, rest) = incoming.split_at_mut(kept);
            front.copy_from_slice(&self.incoming);
            let below = match self.stream.take(rest.get_mut(..room).unwrap_or_default()) {
                Ok(Some(arrived)) => arrived,
                Ok(None) => {
                    self.has_ended = true;
                    return Ok(Arrived { len, may_have_more: true });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Arrived { len, may_have_more: false });
                }
                Err(error) if len == 0 => return Err(error),
                Err(_) => return Ok(Arrived { len, may_have_more: true }),
            };
            let came = below.len;
            let input = incoming.get_mut(..kept + came).unwrap_or_default();
            len += self.decrypt(input, buffer.get_mut(len..).unwrap_or_default());
            if self.has_ended || self.problem.is_some() || !self.plain.is_empty() || len == buffer.len() {
                return Ok(Arrived { len, may_have_more: true });
            }
            if !below.may_have_more {
                return Ok(Arrived { len, may_have_more: false });
            }
        }
        Ok(Arrived { len, may_have_more: true })
    }

    /// Takes all whole records out of `input`, keeps the rest, and writes what there is to answer: how many bytes of
    /// payload were put into `buffer`. What has no room there is kept.
    fn decrypt(&mut self, input: &mut [u8], buffer: &mut [u8]) -> usize {
        let first = input.first().copied();
        let mut to = Sink { buffer, len: 0, beyond: &mut self.plain, outgoing: &mut self.outgoing };
        let mut from = 0;
        loop {
            let rest = input.get_mut(from..).unwrap_or_default();
            let (used, step) = self.session.step(rest, &mut to);
            from += used;
            match step {
                Ok(Step::More) => {}
                Ok(Step::Wait) => break,
                Ok(Step::Closed) => {
                    // What follows that is not looked at.
                    self.has_ended = true;
                    from = input.len();
                    break;
                }
                Err(error) => {
                    // What the peer is to be told of it.
                    let rest = input.get_mut(from..).unwrap_or_default();
                    let _ = self.session.step(rest, &mut to);
                    self.problem = Some(Box::new(Problem::new(error, first.filter(|_| !self.is_open))));
                    self.is_over = true;
                    break;
                }
            }
        }
        let len = to.len;
        let rest = input.get(from..).unwrap_or_default();
        if rest.len() > LONGEST_PART {
            self.problem = Some(Box::new(Problem::TooLong));
            self.is_over = true;
        }
        self.keep(rest);
        self.is_open = self.is_open || !self.session.is_handshaking() && self.problem.is_none();
        // Should that fail, there may still be something to read before the end.
        let _ = self.write_own();
        len
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() || self.is_over {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
    }

    /// Writes ciphertext that is left: true if the stream takes no more.
    fn write_own(&mut self) -> io::Result<bool> {
        while let Some(own) = self.outgoing.get(self.sent..).filter(|own| !own.is_empty()) {
            match write_some(&mut self.stream, own)? {
                0 => return Ok(true),
                len => self.sent += len,
            }
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Ok(false)
    }

    /// Encrypts and writes: how many bytes were taken.
    fn write_with(&mut self, scratch: &mut Scratch, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut slices = slices.iter().map(|slice| &**slice);
        let mut rest: &[u8] = slices.next().unwrap_or_default();
        let mut taken = 0;
        loop {
            scratch.plain.clear();
            // From where it is if it is long; what is short is collected, so that records are full.
            while rest.len() < BATCH {
                let Some(next) = slices.next() else { break };
                let room = BATCH - scratch.plain.len();
                if rest.len() >= room {
                    break;
                }
                scratch.plain.extend_from_slice(rest);
                rest = next;
            }
            let part = if scratch.plain.is_empty() {
                let (part, after) = rest.split_at(rest.len().min(BATCH));
                rest = after;
                part
            } else {
                let (part, after) = rest.split_at(rest.len().min(BATCH - scratch.plain.len()));
                scratch.plain.extend_from_slice(part);
                rest = after;
                &scratch.plain
            };
            if part.is_empty() {
                return Ok(taken);
            }
            let len = self.session.encrypt(part, &mut self.incoming, &mut scratch.outgoing)?;
            taken += part.len();
            let ciphertext = scratch.outgoing.get(..len).unwrap_or_default();
            let mut sent = 0;
            while let Some(own) = ciphertext.get(sent..).filter(|own| !own.is_empty()) {
                match write_some(&mut self.stream, own)? {
                    0 => {
                        self.outgoing.extend_from_slice(own);
                        return Ok(taken);
                    }
                    len => sent += len,
                }
            }
        }
    }
}

/// How much was written: nothing if the stream takes no more.
fn write_some(stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

impl<S: Stream> Stream for Tls<S> {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        let len = self.give(buffer);
        if len > 0 {
            return Ok(Some(Arrived { len, may_have_more: true }));
        }
        if let Some(problem) = self.problem.take() {
            return Err(io::Error::new(ErrorKind::InvalidData, *problem));
        }
        if self.is_over {
            // Whatever else comes is read so that the peer gets what it was told.
            let arrived = self.stream.take(buffer)?;
            return Ok(arrived.map(|arrived| Arrived { len: 0, ..arrived }));
        }
        if self.has_ended {
            return Ok(None);
        }
        let mut scratch = SCRATCH.take();
        let arrived = self.read_with(&mut scratch.incoming, buffer);
        SCRATCH.set(scratch);
        arrived.map(Some)
    }
}

impl<S: Stream> Layer for Tls<S> {
    fn flush_own(&mut self) -> io::Result<bool> {
        // What has come of a record waits for its rest, and must not be taken for done.
        if !self.is_open && !self.is_over && self.outgoing.is_empty() && self.incoming.is_empty() {
            // A client speaks first.
            self.decrypt(&mut [], &mut []);
        }
        self.write_own()
    }

    fn has_unwritten(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    fn has_unread(&self) -> bool {
        !self.plain.is_empty() || self.problem.is_some()
    }

    fn is_open(&self) -> bool {
        self.is_open
    }

    fn kept_bytes(&self) -> usize {
        let handshake = if self.is_open { 0 } else { HANDSHAKE };
        handshake + self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    fn finish(&mut self) {
        if self.is_over || !self.is_open {
            return;
        }
        self.is_over = true;
        if self.session.close(&mut self.incoming, &mut self.outgoing).is_ok() {
            // Who cannot be told is gone, or will be.
            let _ = self.write_own();
        }
    }
}

impl<S: Stream> Write for Tls<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_over {
            return Err(ErrorKind::NotConnected.into());
        }
        if !self.is_open || self.write_own()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut scratch = SCRATCH.take();
        let written = self.write_with(&mut scratch, slices);
        SCRATCH.set(scratch);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.flush_own()? { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

/// Where what a session has to say goes to.
struct Sink<'a> {
    buffer: &'a mut [u8],
    len: usize,
    beyond: &'a mut Vec<u8>,
    outgoing: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn put(&mut self, payload: &[u8]) {
        let room = self.buffer.get_mut(self.len..).unwrap_or_default();
        let len = room.len().min(payload.len());
        let (now, later) = payload.split_at(len);
        room.get_mut(..len).unwrap_or_default().copy_from_slice(now);
        self.len += len;
        self.beyond.extend_from_slice(later);
    }
}

impl Session {
    fn is_handshaking(&self) -> bool {
        match self {
            Self::Client(session) => session.is_handshaking(),
            Self::Server(session) => session.is_handshaking(),
        }
    }

    /// One step with what is there: how many bytes of it are done with.
    fn step(&mut self, input: &mut [u8], to: &mut Sink<'_>) -> (usize, Result<Step, rustls::Error>) {
        match self {
            Self::Client(session) => step(session.process_tls_records(input), to),
            Self::Server(session) => step(session.process_tls_records(input), to),
        }
    }

    /// Encrypts into `out`: how many bytes that takes. `incoming` is what is there of the next record.
    fn encrypt(&mut self, plain: &[u8], incoming: &mut [u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let records = plain.len().div_ceil(RECORD);
        let room = plain.len() + (records + 1) * OVERHEAD;
        if out.len() < room {
            out.resize(room, 0);
        }
        let mut own = Vec::new();
        let written = self.write_traffic(incoming, &mut own, |traffic| match traffic {
            Traffic::Client(mut traffic) => traffic.encrypt(plain, out),
            Traffic::Server(mut traffic) => traffic.encrypt(plain, out),
        })?;
        if own.is_empty() {
            return Ok(written);
        }
        // What the session says by itself, such as that its key changes, comes first.
        let after = own.len();
        own.extend_from_slice(out.get(..written).unwrap_or_default());
        *out = own;
        Ok(after + written)
    }

    /// Says that nothing more follows.
    fn close(&mut self, incoming: &mut [u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut last = [0; OVERHEAD];
        let written = self.write_traffic(incoming, out, |traffic| match traffic {
            Traffic::Client(mut traffic) => traffic.queue_close_notify(&mut last),
            Traffic::Server(mut traffic) => traffic.queue_close_notify(&mut last),
        })?;
        out.extend_from_slice(last.get(..written).unwrap_or_default());
        Ok(())
    }

    /// Does something when the session can write; what it says before that goes to `own`.
    fn write_traffic(
        &mut self,
        incoming: &mut [u8],
        own: &mut Vec<u8>,
        act: impl FnOnce(Traffic<'_>) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        // At most what it says by itself, the end of the peer, and then it can.
        for _ in 0..8 {
            let state = match self {
                Self::Client(session) => match session.process_tls_records(incoming).state.map_err(io::Error::other)? {
                    ConnectionState::WriteTraffic(traffic) => {
                        return act(Traffic::Client(traffic)).map_err(io::Error::other);
                    }
                    state => prepare(state, own),
                },
                Self::Server(session) => match session.process_tls_records(incoming).state.map_err(io::Error::other)? {
                    ConnectionState::WriteTraffic(traffic) => {
                        return act(Traffic::Server(traffic)).map_err(io::Error::other);
                    }
                    state => prepare(state, own),
                },
            };
            if !state {
                break;
            }
        }
        Err(ErrorKind::NotConnected.into())
    }
}

/// The session of either side when it can write.
enum Traffic<'a> {
    Client(rustls::unbuffered::WriteTraffic<'a, rustls::client::ClientConnectionData>),
    Server(rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>),
}

/// What comes before a session can write: false if it never can.
fn prepare<D>(state: ConnectionState<'_, '_, D>, own: &mut Vec<u8>) -> bool {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            encode(own, |out| data.encode(out));
            true
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            true
        }
        ConnectionState::PeerClosed => true,
        _ => false,
    }
}

/// Handles what a session says.
fn step<D>(status: UnbufferedStatus<'_, '_, D>, to: &mut Sink<'_>) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => return (discard, Err(error)),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        to.put(record.payload);
                    }
                    Err(error) => return (discard, Err(error)),
                }
            }
            Step::More
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(to.outgoing, |out| data.encode(out));
            Step::More
        }
        // It is kept until the stream takes it.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::More
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Step::Closed,
        Ok(_) => Step::Wait,
    };
    (discard, Ok(step))
}

/// Puts what `encode` writes behind `out`.
fn encode(out: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(needed)) = encode(&mut []) else { return };
    out.resize(start + needed.required_size, 0);
    let written = encode(out.get_mut(start..).unwrap_or_default()).unwrap_or(0);
    out.truncate(start + written);
}
