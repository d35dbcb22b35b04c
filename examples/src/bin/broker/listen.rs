use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("--listen {text}: {error}. Give an address and a port, such as 127.0.0.1:1883 or [::1]:1883")]
    Address { text: String, error: io::Error },
    #[error(
        "--listen {text}: whoever reaches {address} could connect without a password. \
         Add --allow-anonymous if that is what you want, or listen on 127.0.0.1"
    )]
    Anonymous { text: String, address: SocketAddr },
    #[error(
        "--listen {text}: another program listens on {address} already. \
         Stop it, or choose another port: --listen {ip}:0 takes a free one", ip = address.ip()
    )]
    Busy { text: String, address: SocketAddr },
    #[error("--listen {text}: cannot listen on {address}: {error}")]
    Bind { text: String, address: SocketAddr, error: io::Error },
}

/// One socket for each text, all of them or none.
pub(crate) async fn bind(texts: &[String], allow_anonymous: bool) -> Result<Vec<TcpListener>, ListenError> {
    let mut sockets = Vec::with_capacity(texts.len());
    for text in texts {
        let address = resolve(text).await?;
        if !address.ip().is_loopback() && !allow_anonymous {
            return Err(ListenError::Anonymous { text: text.clone(), address });
        }
        let socket = TcpListener::bind(address).await.map_err(|error| {
            let text = text.clone();
            match error.kind() {
                io::ErrorKind::AddrInUse => ListenError::Busy { text, address },
                _ => ListenError::Bind { text, address, error },
            }
        })?;
        sockets.push(socket);
    }
    Ok(sockets)
}

async fn resolve(text: &str) -> Result<SocketAddr, ListenError> {
    let fail = |error| ListenError::Address { text: text.to_owned(), error };
    let mut addresses = lookup_host(text).await.map_err(fail)?;
    addresses.next().ok_or_else(|| fail(io::ErrorKind::NotFound.into()))
}
