use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};

use super::poller::Poller;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener(TcpListener);

pub(super) enum Accepted {
    Stream(TcpStream, SocketAddr),
    Nothing,
    /// Descriptors or memory ran out: trying again at once would spin.
    Exhausted(io::Error),
    /// This one connection failed, the next may not.
    Failed(io::Error),
}

impl Listener {
    pub(super) fn bind(address: SocketAddr, token: Token, poller: &Poller) -> io::Result<Self> {
        let mut socket = TcpListener::bind(address)?;
        poller.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self(socket))
    }

    /// Where it listens: with port 0 asked for, the port it got.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(super) fn accept(&self) -> Accepted {
        match self.0.accept() {
            Ok((stream, address)) => Accepted::Stream(stream, address),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nothing,
            Err(error) if is_about_the_peer(&error) => Accepted::Failed(error),
            Err(error) => Accepted::Exhausted(error),
        }
    }
}

/// `accept` reports an error of the connection that it was about to return. Everything else (`EMFILE`, `ENFILE`,
/// `ENOBUFS`, `ENOMEM`) is about this process.
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
