use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use damselfly_examples::broker::{TransportKind, WEBSOCKET_PATH as PATH};

/// Why nobody can listen at what was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the port is missing. Give an address and a port, such as 127.0.0.1:1883 or ws://127.0.0.1:8083")]
    NoPort,
    #[error(
        "this broker does not speak that. Give ADDRESS:PORT or mqtt://ADDRESS:PORT for TCP, or ws://ADDRESS:PORT for \
         WebSocket"
    )]
    Scheme,
    #[error("MQTT over WebSocket is served at the path /mqtt and no other, and MQTT over TCP has none")]
    Path,
    #[error("{0}. Give an address of this machine and a port from 0 to 65535, such as 127.0.0.1:1883 or [::1]:1883")]
    Address(#[from] io::Error),
    #[error(
        "whoever reaches {0} could connect without a password. Name users with --password-file (in a file: \
         password_file), of which mqtt passwd FILE USER makes one; add --allow-anonymous (allow_anonymous = true) if that \
         is what you want; or listen on 127.0.0.1"
    )]
    Anonymous(SocketAddr),
}

/// The address to listen on and what clients speak there, if that may be.
pub(crate) fn address(text: &str, may_be_reached_by_all: bool) -> Result<(SocketAddr, TransportKind), ListenError> {
    let (kind, text) = match text.split_once("://") {
        None => (TransportKind::Tcp, text),
        Some(("mqtt", rest)) => (TransportKind::Tcp, rest),
        Some(("ws", rest)) => (TransportKind::WebSocket, rest),
        Some(_) => return Err(ListenError::Scheme),
    };
    let (text, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    match (kind, path) {
        (_, "") | (TransportKind::WebSocket, PATH) => {}
        _ => return Err(ListenError::Path),
    }
    if !text.contains(':') || text.ends_with(']') {
        return Err(ListenError::NoPort);
    }
    let address = text.to_socket_addrs()?.next().ok_or(io::Error::from(io::ErrorKind::NotFound))?;
    let is_allowed = address.ip().is_loopback() || may_be_reached_by_all;
    if is_allowed { Ok((address, kind)) } else { Err(ListenError::Anonymous(address)) }
}

/// Where clients reach a listener.
pub(crate) fn url(address: SocketAddr, kind: TransportKind) -> String {
    match kind {
        TransportKind::Tcp => format!("mqtt://{address}"),
        TransportKind::WebSocket => format!("ws://{address}{PATH}"),
    }
}

/// Why the system does not let us listen, and what to do.
pub(crate) fn explain(address: SocketAddr, error: &io::Error) -> String {
    let ip = address.ip();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program listens at {address} already. Stop it, or choose another port: {ip}:0 takes a free one"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "a port below 1024, as in {address}, needs permission. Choose one from 1024 on, such as {ip}:1883, or give \
             this program the capability CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address {ip}. Choose one it has, such as 127.0.0.1")
        }
        _ => format!("{address}: {error}"),
    }
}
