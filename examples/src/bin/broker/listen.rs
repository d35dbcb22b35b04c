use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("--listen {text}: the port is missing. Give an address and a port, such as 127.0.0.1:1883")]
    NoPort { text: String },
    #[error(
        "--listen {text}: {error}. Give an address of this machine and a port from 0 to 65535, such as 127.0.0.1:1883 \
         or [::1]:1883"
    )]
    Address { text: String, error: io::Error },
    #[error(
        "--listen {text}: whoever reaches {address} could connect without a password. \
         Add --allow-anonymous if that is what you want, or listen on 127.0.0.1"
    )]
    Anonymous { text: String, address: SocketAddr },
    #[error(
        "--listen {address}: another program listens there already. \
         Stop it, or choose another port: --listen {ip}:0 takes a free one", ip = address.ip()
    )]
    Busy { address: SocketAddr },
    #[error(
        "--listen {address}: a port below 1024 needs permission. Choose one from 1024 on, such as {ip}:1883, or give \
         this program the capability CAP_NET_BIND_SERVICE", ip = address.ip()
    )]
    Privileged { address: SocketAddr },
    #[error("--listen {address}: this machine does not have the address {ip}. Choose one it has, such as 127.0.0.1", ip = address.ip())]
    Foreign { address: SocketAddr },
    #[error("--listen {address}: {error}")]
    Bind { address: SocketAddr, error: io::Error },
}

impl ListenError {
    pub(crate) fn from_bind(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Busy { address },
            io::ErrorKind::PermissionDenied => Self::Privileged { address },
            io::ErrorKind::AddrNotAvailable => Self::Foreign { address },
            _ => Self::Bind { address, error },
        }
    }

    /// Wrong wherever it is tried.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::NoPort { .. } | Self::Address { .. } | Self::Anonymous { .. } => true,
            Self::Busy { .. } | Self::Privileged { .. } | Self::Foreign { .. } | Self::Bind { .. } => false,
        }
    }
}

/// The addresses to listen on, if all of them may be.
pub(crate) fn addresses(texts: &[String], allow_anonymous: bool) -> Result<Vec<SocketAddr>, ListenError> {
    texts.iter().map(|text| allowed(text, allow_anonymous)).collect()
}

fn allowed(text: &str, allow_anonymous: bool) -> Result<SocketAddr, ListenError> {
    if !text.contains(':') || text.ends_with(']') {
        return Err(ListenError::NoPort { text: text.to_owned() });
    }
    let fail = |error| ListenError::Address { text: text.to_owned(), error };
    let address = text.to_socket_addrs().map_err(fail)?.next().ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
    if address.ip().is_loopback() || allow_anonymous {
        Ok(address)
    } else {
        Err(ListenError::Anonymous { text: text.to_owned(), address })
    }
}
