//! What carries the bytes of MQTT between sockets and drivers: the bytes alone, or WebSocket.
//!
//! A layer stands over any stream that reads and writes without blocking, so that one may stand over another. It buffers
//! nothing that arrives: all that a read brought is handed on, and a driver that waits for readiness misses nothing.
//!
//! What a layer asks of the stream below: a read that does not fill the buffer has taken all there was. A socket keeps to
//! that; a stream that decrypts has to read on until its buffer is full or its socket is empty.

mod frame;
mod handshake;
mod origin;
#[cfg(test)]
mod tests;
mod websocket;

use std::io::{self, IoSlice, Read, Write};

pub(crate) use handshake::HandshakeError;
pub use handshake::PATH;
pub use origin::{Origin, OriginError, Origins};
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

impl<S: Read + Write> Transport<S> {
    /// A broker's side of a connection that was accepted.
    pub(crate) fn accepted(stream: S, kind: TransportKind, origins: &Origins) -> Self {
        match kind {
            TransportKind::Tcp => Self::Plain(stream),
            TransportKind::WebSocket => Self::WebSocket(Box::new(WebSocket::server(stream, origins))),
        }
    }

    /// A client's side with WebSocket: the request is sent by [`flush`](Self::flush), and [`is_open`](Self::is_open)
    /// says when the answer has been read.
    pub(crate) fn websocket(stream: S, uri: &str) -> Result<Self, HandshakeError> {
        Ok(Self::WebSocket(Box::new(WebSocket::client(stream, uri)?)))
    }

    /// What is below all layers.
    pub(crate) fn stream(&self) -> &S {
        match self {
            Self::Plain(stream) => stream,
            Self::WebSocket(websocket) => websocket.stream(),
        }
    }

    /// Whether there is nothing to be said before the bytes of MQTT.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::WebSocket(websocket) => websocket.is_open(),
        }
    }

    /// So many bytes are kept of what is not whole.
    pub(crate) fn kept_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::WebSocket(websocket) => websocket.kept_bytes(),
        }
    }

    /// One read; `None` is the end. An error of the kind `InvalidData` says what the peer did wrong.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        match self {
            Self::Plain(stream) => match stream.read(buffer)? {
                0 => Ok(None),
                // A read that did not fill the buffer has emptied the socket: no second one to be told so.
                len => Ok(Some(Arrived { len, may_have_more: len == buffer.len() })),
            },
            Self::WebSocket(websocket) => websocket.read(buffer),
        }
    }

    /// One write.
    pub(crate) fn write(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<Written> {
        match self {
            Self::Plain(stream) => {
                let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
                let written = match chunks {
                    // The usual case, and the cheaper system call.
                    [chunk] => stream.write(chunk),
                    chunks => stream.write_vectored(chunks),
                };
                match written {
                    Ok(len) => Ok(Written { len, is_blocked: len < total }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Written { len: 0, is_blocked: true }),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                        Ok(Written { len: 0, is_blocked: false })
                    }
                    Err(error) => Err(error),
                }
            }
            Self::WebSocket(websocket) => websocket.write(chunks),
        }
    }

    /// Writes what the layers have to say by themselves: true if the stream takes no more at the moment.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(false),
            Self::WebSocket(websocket) => websocket.flush(),
        }
    }

    /// Whether the layers have something to say that the stream did not take.
    pub(crate) fn has_unwritten(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::WebSocket(websocket) => websocket.has_unwritten(),
        }
    }

    /// Says that nothing more follows, where a layer has words for it.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::WebSocket(websocket) => websocket.finish(),
        }
    }
}
