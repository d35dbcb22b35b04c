use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::transport::{Origins, ServerTls, TransportKind};

/// A listener that a [`Driver`](super::Driver) is asked for: where, and how it treats who comes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listening {
    /// Where to listen.
    pub address: ListenAddress,
    /// What clients speak there. Default: MQTT over TCP.
    pub kind: TransportKind,
    /// Whether they speak it within TLS, and how. Default: no.
    pub tls: Option<ServerTls>,
    /// Connections at once. The next 16 get CONNACK with [`ReasonCode::QuotaExceeded`](damselfly_codec::ReasonCode) (3.1.1:
    /// return code 3) when they have sent their CONNECT; those beyond are closed unread. Default: `None`, which leaves it to
    /// the core's `Config::max_connections`, which counts those of all listeners.
    pub max_connections: Option<u32>,
    /// Which pages may connect over WebSocket. Default: those that come from the listener's own host and port, over `https` or
    /// by its address.
    pub origins: Origins,
}

impl Listening {
    /// MQTT and nothing between at this address.
    pub fn at(address: impl Into<ListenAddress>) -> Self {
        Self {
            address: address.into(),
            kind: TransportKind::default(),
            tls: None,
            max_connections: None,
            origins: Origins::default(),
        }
    }
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket at this path. What a process that is gone left there is replaced, and it is removed at the end. Who may
    /// connect is decided by the permissions of the directory and by the umask of the process: with the usual one, 022,
    /// only processes of the same user.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The address and port, if it has them.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}
