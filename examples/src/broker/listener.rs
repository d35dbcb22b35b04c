use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Token};

use super::listening::{ListenAddress, Listening};
use super::poller::Poller;
use super::socket::Socket;
use crate::transport::{Origins, ServerTls, Tls, Transport, TransportKind};

/// Connections beyond its limit that a listener keeps for as long as it takes to tell them so.
const SURPLUS: u32 = 16;

/// A listening socket, and how many connections it has.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None` while there is no network.
    socket: Option<Listens>,
    address: ListenAddress,
    number: u16,
    kind: TransportKind,
    tls: Option<ServerTls>,
    origins: Origins,
    max_connections: Option<u32>,
    ordinary: u32,
    surplus: u32,
}

#[derive(Debug)]
enum Listens {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listens {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Whoever removed it before is right too.
            let _ = fs::remove_file(path);
        }
    }
}

/// What a connection counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Ordinary,
    /// One too many: its CONNECT is refused.
    Surplus,
}

pub(super) enum Accepted {
    Stream(Socket, Option<SocketAddr>),
    Nothing,
    /// Descriptors or memory ran out: trying again at once would spin.
    Exhausted(io::Error),
    /// This one connection failed, the next may not.
    Failed(io::Error),
}

impl Listener {
    /// `number` is how many there were before it.
    pub(super) fn bind(asked: &Listening, token: Token, poller: &Poller, number: u16) -> io::Result<Self> {
        let (socket, address) = listen(&asked.address, token, poller)?;
        Ok(Self {
            socket: Some(socket),
            address,
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
    pub(super) fn address(&self) -> ListenAddress {
        self.address.clone()
    }

    /// Listens no more; its connections are another matter.
    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    /// Listens again where it did, if it does not.
    pub(super) fn open(&mut self, token: Token, poller: &Poller) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(listen(&self.address, token, poller)?.0);
        }
        Ok(())
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// A connection of it, with the layers that its clients speak through.
    pub(super) fn accepted(&self, stream: Socket) -> Result<Transport<Socket>, rustls::Error> {
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
        let accepted = match &self.socket {
            None => return Accepted::Nothing,
            Some(Listens::Tcp(socket)) => socket.accept().map(|(stream, address)| (Socket::Tcp(stream), Some(address))),
            Some(Listens::Unix(socket, _)) => socket.accept().map(|(stream, _)| (Socket::Unix(stream), None)),
        };
        match accepted {
            Ok((stream, address)) => Accepted::Stream(stream, address),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nothing,
            Err(error) if is_about_the_peer(&error) => Accepted::Failed(error),
            Err(error) => Accepted::Exhausted(error),
        }
    }
}

/// Removes the socket of a process that is gone; nobody answers there.
fn remove_left(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        },
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, and it is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The socket, and where it is: with port 0 asked for, the port it got.
fn listen(address: &ListenAddress, token: Token, poller: &Poller) -> io::Result<(Listens, ListenAddress)> {
    match address {
        ListenAddress::Tcp(address) => {
            let mut socket = TcpListener::bind(*address)?;
            poller.register(&mut socket, token, Interest::READABLE)?;
            let address = socket.local_addr().map(ListenAddress::Tcp)?;
            Ok((Listens::Tcp(socket), address))
        }
        ListenAddress::Unix(path) => {
            remove_left(path)?;
            let mut socket = UnixListener::bind(path)?;
            poller.register(&mut socket, token, Interest::READABLE)?;
            Ok((Listens::Unix(socket, path.clone()), address.clone()))
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
