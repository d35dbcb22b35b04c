use std::net::SocketAddr;

use crate::transport::{Origins, ServerTls, TransportKind};

/// A listener that a [`Driver`](super::Driver) is asked for: where, and how it treats who comes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listening {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// What clients speak there. Default: MQTT over TCP.
    pub kind: TransportKind,
    /// Whether they speak it within TLS, and how. Default: no.
    pub tls: Option<ServerTls>,
    /// Connections at once. The next 16 get CONNACK with [`ReasonCode::QuotaExceeded`](damselfly_codec::ReasonCode) (3.1.1:
    /// return code 3) when they have sent their CONNECT; those beyond are closed unread. Default: `None`, which leaves it to
    /// the core's `Config::max_connections`, which counts those of all listeners.
    pub max_connections: Option<u32>,
    /// Which pages may connect over WebSocket. Default: those that come from the listener's own host and port.
    pub origins: Origins,
}

impl Listening {
    /// MQTT over TCP at this address.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, kind: TransportKind::default(), tls: None, max_connections: None, origins: Origins::default() }
    }
}
