use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use damselfly_broker::ConnectionId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A frame from this size on is received into a buffer of its own, so that its payload can be shared instead of copied.
pub(super) const LARGE_FRAME: usize = 32 * 1024;

/// The buffer of a large frame starts at this size and doubles as bytes arrive: a length announced and not sent costs no more.
const FIRST_RESERVE: usize = 64 * 1024;

/// One Network Connection: the socket and what has arrived of a frame that is not whole yet.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) phase: Phase,
    /// Waits in the driver's list of connections to be written at the end of the turn.
    pub(super) is_dirty: bool,
    /// The last write was short: the socket says when it takes more.
    pub(super) is_blocked: bool,
    stream: TcpStream,
    waker: Waker,
    /// Unconsumed bytes; owns no memory while there are none.
    tail: BytesMut,
    /// The length of the frame that `tail` is the beginning of, where it is a large one; otherwise 0.
    large: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The core takes no more until it says so.
    Paused,
    /// The core is done with it: what it has left to say is written.
    Closing,
    /// All is written and our side is shut. Closing a socket with unread input would reset the connection and could take the last
    /// packet away from the peer, so its input is read and dropped until it closes too.
    Lingering,
}

pub(super) enum Received {
    /// Nothing has arrived.
    Nothing,
    /// The first `len` bytes of the buffer are to be handled; `more` may wait in the socket.
    Bytes { len: usize, more: bool },
    /// `len` bytes more of a large frame.
    Part { len: usize, more: bool },
    /// A whole large frame.
    Frame { frame: Bytes },
    /// The peer closed, or the connection failed.
    Ended,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, stream: TcpStream, waker: Waker) -> Self {
        Self {
            id,
            phase: Phase::Open,
            is_dirty: false,
            is_blocked: false,
            stream,
            waker,
            tail: BytesMut::new(),
            large: 0,
        }
    }

    /// Reads once. What was left of the last read comes first in `buffer`, followed by what has arrived.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        if self.large > 0 {
            return self.receive_large();
        }
        let tail = self.tail.len();
        if tail >= buffer.len() {
            // The core neither consumes it nor pauses nor wants more: nothing can come of this connection.
            return Received::Ended;
        }
        let mut into = ReadBuf::new(buffer);
        into.put_slice(&self.tail);
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut into) {
            Poll::Pending => Received::Nothing,
            Poll::Ready(Ok(())) if into.filled().len() > tail => {
                let (len, is_full) = (into.filled().len(), into.remaining() == 0);
                self.tail = BytesMut::new();
                // A read that did not fill the buffer has emptied the socket: no second one to be told so.
                let more = is_full || self.is_readable();
                Received::Bytes { len, more }
            }
            Poll::Ready(_) => Received::Ended,
        }
    }

    /// Reads on into the frame's own buffer, and nothing beyond the frame.
    fn receive_large(&mut self) -> Received {
        let missing = self.large.saturating_sub(self.tail.len());
        if self.tail.len() == self.tail.capacity() {
            self.tail.reserve(missing.min(self.tail.len().max(FIRST_RESERVE)));
        }
        let room = missing.min(self.tail.capacity() - self.tail.len());
        let mut into = (&mut self.tail).limit(room);
        let mut context = Context::from_waker(&self.waker);
        match pin!(self.stream.read_buf(&mut into)).poll(&mut context) {
            Poll::Pending => Received::Nothing,
            Poll::Ready(Ok(0) | Err(_)) => Received::Ended,
            Poll::Ready(Ok(len)) if len < missing => {
                let more = len == room || self.is_readable();
                Received::Part { len, more }
            }
            Poll::Ready(Ok(_)) => {
                self.large = 0;
                Received::Frame { frame: mem::take(&mut self.tail).freeze() }
            }
        }
    }

    /// Keeps what the core did not consume. `wanted` is the length of the frame it begins, 0 if that cannot be known yet.
    pub(super) fn keep(&mut self, rest: &[u8], wanted: usize) {
        if !rest.is_empty() {
            self.put_back(BytesMut::from(rest), wanted);
        }
    }

    /// Takes what was kept, to hand it in again after a pause.
    pub(super) fn take_kept(&mut self) -> BytesMut {
        self.large = 0;
        mem::take(&mut self.tail)
    }

    /// What is left of [`take_kept`](Self::take_kept).
    pub(super) fn put_back(&mut self, rest: BytesMut, wanted: usize) {
        self.large = if wanted >= LARGE_FRAME { wanted } else { 0 };
        self.tail = if rest.is_empty() { BytesMut::new() } else { rest };
    }

    /// Reads once and drops it.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> Received {
        self.tail = BytesMut::new();
        self.large = 0;
        self.receive(buffer)
    }

    /// One vectored write. A short one asks the socket to say when it takes more.
    pub(super) fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut context = Context::from_waker(&self.waker);
        let stream = Pin::new(&mut self.stream);
        let result = match chunks {
            // The usual case, and the cheaper system call.
            [chunk] => stream.poll_write(&mut context, chunk),
            chunks => stream.poll_write_vectored(&mut context, chunks),
        };
        match result {
            Poll::Pending => {
                self.is_blocked = true;
                Ok(0)
            }
            Poll::Ready(result) => {
                self.is_blocked = false;
                result
            }
        }
    }

    /// Shuts our side of the connection: the peer sees the end after the last packet.
    pub(super) fn shut(&mut self) -> io::Result<()> {
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_shutdown(&mut context) {
            Poll::Pending => Ok(()),
            Poll::Ready(result) => result,
        }
    }

    /// Where the peer is, while the connection stands.
    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    /// Whether the socket is known to have more; if not, the waker is told when it has.
    fn is_readable(&self) -> bool {
        self.stream.poll_read_ready(&mut Context::from_waker(&self.waker)).is_ready()
    }
}
