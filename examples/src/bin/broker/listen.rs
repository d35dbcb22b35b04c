use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use damselfly_examples::broker::{ListenAddress, Listening, TransportKind, WEBSOCKET_PATH as PATH};

/// Why nobody can listen at what was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the port is missing. Give an address and a port, such as 127.0.0.1:1883 or ws://127.0.0.1:8083")]
    NoPort,
    #[error(
        "this broker does not speak that. Give ADDRESS:PORT or mqtt://ADDRESS:PORT for TCP, ws://ADDRESS:PORT for \
         WebSocket, mqtts:// and wss:// for the same within TLS, or unix:///PATH"
    )]
    Scheme,
    #[error("a path of the socket has to follow, such as unix:///run/broker.sock")]
    NoPath,
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

/// What is asked for by a listener's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) address: ListenAddress,
    pub(crate) kind: TransportKind,
    pub(crate) is_secure: bool,
}

/// The address to listen on and what clients speak there, if that may be.
pub(crate) fn address(text: &str, may_be_reached_by_all: bool) -> Result<Asked, ListenError> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(ListenError::NoPath);
        }
        let address = ListenAddress::Unix(PathBuf::from(path));
        return Ok(Asked { address, kind: TransportKind::Tcp, is_secure: false });
    }
    let (kind, is_secure, text) = match text.split_once("://") {
        None => (TransportKind::Tcp, false, text),
        Some(("mqtt", rest)) => (TransportKind::Tcp, false, rest),
        Some(("mqtts", rest)) => (TransportKind::Tcp, true, rest),
        Some(("ws", rest)) => (TransportKind::WebSocket, false, rest),
        Some(("wss", rest)) => (TransportKind::WebSocket, true, rest),
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
    if is_allowed {
        Ok(Asked { address: address.into(), kind, is_secure })
    } else {
        Err(ListenError::Anonymous(address))
    }
}

/// Where clients reach a listener that got this address.
pub(crate) fn url(listening: &Listening, address: &ListenAddress) -> String {
    let ListenAddress::Tcp(address) = address else { return format!("unix://{address}") };
    match (listening.kind, listening.tls.is_some()) {
        (TransportKind::Tcp, false) => format!("mqtt://{address}"),
        (TransportKind::Tcp, true) => format!("mqtts://{address}"),
        (TransportKind::WebSocket, false) => format!("ws://{address}{PATH}"),
        (TransportKind::WebSocket, true) => format!("wss://{address}{PATH}"),
    }
}

/// Why the system does not let us listen, and what to do.
pub(crate) fn explain(address: &ListenAddress, error: &io::Error) -> String {
    let address = match address {
        ListenAddress::Tcp(address) => address,
        ListenAddress::Unix(path) => return explain_unix(path, error),
    };
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

fn explain_unix(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program listens at {path} already. Stop it, or choose another path")
        }
        io::ErrorKind::NotFound => format!("{path}: its directory is not there. Make it, or choose another path"),
        io::ErrorKind::PermissionDenied => {
            format!("{path}: this user may not make a socket there. Choose another path")
        }
        _ => format!("{path}: {error}"),
    }
}
