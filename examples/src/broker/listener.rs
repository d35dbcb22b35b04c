use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::net::{TcpListener, TcpStream};

use super::ready::{Ready, Source};

/// A listening socket and the waker that names it.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    waker: Waker,
}

pub(super) enum Accepted {
    Stream(TcpStream, SocketAddr),
    Nothing,
    /// Descriptors or memory ran out: trying again at once would spin.
    Exhausted(io::Error),
    /// This one connection failed, the next may not.
    Failed(io::Error),
}

impl Listener {
    pub(super) fn new(socket: TcpListener, index: usize, ready: &Arc<Ready>) -> Self {
        Self { socket, waker: ready.waker(Source::Listener(index)) }
    }

    pub(super) fn accept(&self) -> Accepted {
        match self.socket.poll_accept(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Accepted::Nothing,
            Poll::Ready(Ok((stream, address))) => Accepted::Stream(stream, address),
            Poll::Ready(Err(error)) if is_about_the_peer(&error) => Accepted::Failed(error),
            Poll::Ready(Err(error)) => Accepted::Exhausted(error),
        }
    }
}

/// `accept` reports an error of the connection that it was about to return. Everything else (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`)
/// is about this process.
fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown};
    use io::ErrorKind::{Interrupted, NetworkUnreachable, PermissionDenied};
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | Interrupted
            | PermissionDenied
    )
}
