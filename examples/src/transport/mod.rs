//! What carries the bytes of MQTT between sockets and drivers: the bytes alone, or WebSocket, or either within TLS.
//!
//! A layer stands over any stream that reads and writes without blocking, so that one may stand over another. It buffers
//! nothing that arrives: all that a read brought is handed on, or the layer says that it has more, and a driver that waits
//! for readiness misses nothing.

mod frame;
mod handshake;
mod origin;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::io::{self, IoSlice, Read, Write};

pub(crate) use handshake::HandshakeError;
pub use handshake::PATH;
pub use origin::{Origin, OriginError, Origins};
pub use tls::{ClientTls, ServerTls, ServerTlsFiles, TlsError};
pub(crate) use tls::{Problem, Tls};
use websocket::WebSocket;

/// How a listener is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// MQTT over TCP and nothing between.
    #[default]
    Tcp,
    /// MQTT in the binary frames of WebSocket (RFC 6455), at the path `/mqtt`; section 6 of the standard.
    WebSocket,
}

/// A connection with its layers.
#[derive(Debug)]
pub(crate) enum Transport<S> {
    Plain(S),
    WebSocket(Box<WebSocket<S>>),
    Tls(Box<Tls<S>>),
    SecureWebSocket(Box<WebSocket<Tls<S>>>),
}

/// What a layer stands on: a socket, or another layer. Neither blocks.
pub(crate) trait Stream: Layer + Write {
    /// One read; `None` is the end. A layer may have read and bring nothing.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>>;
}

/// [`Stream::take`] of a socket.
pub(crate) fn take_from(socket: &mut impl Read, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
    match socket.read(buffer)? {
        0 => Ok(None),
        // A read that did not fill the buffer has emptied the socket: no second one to be told so.
        len => Ok(Some(Arrived { len, may_have_more: len == buffer.len() })),
    }
}

/// What may stand between a socket and the bytes of MQTT; a socket by itself has nothing to say.
pub(crate) trait Layer {
    /// Writes what is its own: true if what is below takes no more at the moment.
    fn flush_own(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether it has something to write that what is below did not take.
    fn has_unwritten(&self) -> bool {
        false
    }

    /// Whether it has something to be read that no readiness tells of.
    fn has_unread(&self) -> bool {
        false
    }

    /// Whether there is nothing to be said before what is written to it.
    fn is_open(&self) -> bool {
        true
    }

    /// What it keeps because it is not whole.
    fn kept_bytes(&self) -> usize {
        0
    }

    /// Says that nothing more follows, where there are words for it.
    fn finish(&mut self) {}
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// So many bytes stand at the front of the buffer. None may be: not all that arrives is MQTT.
    pub(crate) len: usize,
    /// The next read may find something. Otherwise readiness will tell.
    pub(crate) may_have_more: bool,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// So many bytes were taken.
    pub(crate) len: usize,
    /// The stream takes no more: readiness will tell when it does.
    pub(crate) is_blocked: bool,
}

impl<S: Stream> Transport<S> {
    /// A broker's side of a connection that was accepted.
    pub(crate) fn accepted(stream: S, kind: TransportKind, origins: &Origins) -> Self {
        match kind {
            TransportKind::Tcp => Self::Plain(stream),
            TransportKind::WebSocket => Self::WebSocket(Box::new(WebSocket::server(stream, origins))),
        }
    }

    /// The same within TLS.
    pub(crate) fn accepted_secure(stream: Tls<S>, kind: TransportKind, origins: &Origins) -> Self {
        match kind {
            TransportKind::Tcp => Self::Tls(Box::new(stream)),
            TransportKind::WebSocket => Self::SecureWebSocket(Box::new(WebSocket::server(stream, origins))),
        }
    }

    /// A client's side with WebSocket: the request is sent by [`flush`](Self::flush), and [`is_open`](Self::is_open)
    /// says when the answer has been read.
    pub(crate) fn websocket(stream: S, uri: &str) -> Result<Self, HandshakeError> {
        Ok(Self::WebSocket(Box::new(WebSocket::client(stream, uri)?)))
    }

    /// The same within TLS.
    pub(crate) fn secure_websocket(stream: Tls<S>, uri: &str) -> Result<Self, HandshakeError> {
        Ok(Self::SecureWebSocket(Box::new(WebSocket::client(stream, uri)?)))
    }

    /// What is below all layers.
    pub(crate) fn stream(&self) -> &S {
        match self {
            Self::Plain(stream) => stream,
            Self::WebSocket(websocket) => websocket.stream(),
            Self::Tls(tls) => tls.stream(),
            Self::SecureWebSocket(websocket) => websocket.stream().stream(),
        }
    }

    /// The layer that is on top, if there is any.
    fn top(&self) -> Option<&dyn Layer> {
        match self {
            Self::Plain(_) => None,
            Self::WebSocket(websocket) => Some(&**websocket),
            Self::Tls(tls) => Some(&**tls),
            Self::SecureWebSocket(websocket) => Some(&**websocket),
        }
    }

    /// Whether there is nothing to be said before the bytes of MQTT.
    pub(crate) fn is_open(&self) -> bool {
        self.top().is_none_or(Layer::is_open)
    }

    /// So many bytes are kept of what is not whole.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.top().map_or(0, Layer::kept_bytes)
    }

    /// Whether there is something to be read that no readiness of the stream tells of.
    pub(crate) fn has_unread(&self) -> bool {
        self.top().is_some_and(Layer::has_unread)
    }

    /// The name in the certificate of a client that showed one.
    pub(crate) fn peer_name(&self) -> Option<String> {
        match self {
            Self::Plain(_) | Self::WebSocket(_) => None,
            Self::Tls(tls) => tls.peer_name(),
            Self::SecureWebSocket(websocket) => websocket.stream().peer_name(),
        }
    }

    /// One read; `None` is the end. An error of the kind `InvalidData` says what the peer did wrong.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        match self {
            Self::Plain(stream) => stream.take(buffer),
            Self::WebSocket(websocket) => websocket.read(buffer),
            Self::Tls(tls) => tls.take(buffer),
            Self::SecureWebSocket(websocket) => websocket.read(buffer),
        }
    }

    /// One write.
    pub(crate) fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<Written> {
        match self {
            Self::Plain(stream) => write_to(stream, chunks),
            Self::WebSocket(websocket) => websocket.write(chunks),
            Self::Tls(tls) => write_to(&mut **tls, chunks),
            Self::SecureWebSocket(websocket) => websocket.write(chunks),
        }
    }

    /// Writes what the layers have to say by themselves: true if the stream takes no more at the moment.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(false),
            Self::WebSocket(websocket) => websocket.flush_own(),
            Self::Tls(tls) => tls.flush_own(),
            Self::SecureWebSocket(websocket) => websocket.flush_own(),
        }
    }

    /// Whether the layers have something to say that the stream did not take.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.top().is_some_and(Layer::has_unwritten)
    }

    /// Says that nothing more follows, where a layer has words for it.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::WebSocket(websocket) => websocket.finish(),
            Self::Tls(tls) => tls.finish(),
            Self::SecureWebSocket(websocket) => websocket.finish(),
        }
    }
}

fn write_to(stream: &mut impl Stream, chunks: &[IoSlice<'_>]) -> io::Result<Written> {
    let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let written = match chunks {
        // The usual case, and the cheaper system call.
        [chunk] => stream.write(chunk),
        chunks => stream.write_vectored(chunks),
    };
    match written {
        Ok(len) => Ok(Written { len, is_blocked: len < total || stream.has_unwritten() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Written { len: 0, is_blocked: true }),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Written { len: 0, is_blocked: false }),
        Err(error) => Err(error),
    }
}
