use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};

use super::listening::Listening;
use super::poller::Poller;
use crate::transport::{Origins, ServerTls, Tls, Transport, TransportKind};

/// Connections beyond its limit that a listener keeps for as long as it takes to tell them so.
const SURPLUS: u32 = 16;

/// A listening socket, and how many connections it has.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    number: u16,
    kind: TransportKind,
    tls: Option<ServerTls>,
    origins: Origins,
    max_connections: Option<u32>,
    ordinary: u32,
    surplus: u32,
}

/// What a connection counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Ordinary,
    /// One too many: its CONNECT is refused.
    Surplus,
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
    /// `number` is how many there were before it.
    pub(super) fn bind(asked: &Listening, token: Token, poller: &Poller, number: u16) -> io::Result<Self> {
        let mut socket = TcpListener::bind(asked.address)?;
        poller.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self {
            socket,
            number,
            kind: asked.kind,
            tls: asked.tls.clone(),
            origins: asked.origins.clone(),
            max_connections: asked.max_connections,
            ordinary: 0,
            surplus: 0,
        })
    }

    /// Where it listens: with port 0 asked for, the port it got.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// A connection of it, with the layers that its clients speak through.
    pub(super) fn accepted(&self, stream: TcpStream) -> Result<Transport<TcpStream>, rustls::Error> {
        let Some(tls) = &self.tls else { return Ok(Transport::accepted(stream, self.kind, &self.origins)) };
        let stream = Tls::server(stream, tls.accept(self.kind)?);
        Ok(Transport::accepted_secure(stream, self.kind, &self.origins))
    }

    /// What one more connection would count as; `None` if it is not to be served at all.
    pub(super) fn place(&self) -> Option<Place> {
        if self.max_connections.is_none_or(|most| self.ordinary < most) {
            Some(Place::Ordinary)
        } else {
            (self.surplus < SURPLUS).then_some(Place::Surplus)
        }
    }

    /// A connection opens.
    pub(super) fn take(&mut self, place: Place) {
        *self.count(place) += 1;
    }

    /// A connection has ended.
    pub(super) fn give_back(&mut self, place: Place) {
        *self.count(place) -= 1;
    }

    fn count(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Ordinary => &mut self.ordinary,
            Place::Surplus => &mut self.surplus,
        }
    }

    pub(super) fn accept(&self) -> Accepted {
        match self.socket.accept() {
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
