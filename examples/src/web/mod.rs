//! A small web server for pages that a program carries in itself: loopback only, a table of files, nothing from the disk.
//!
//! It serves one page to whoever sits at this machine, and takes care of who else could ask: a page of somebody else whose
//! name points to 127.0.0.1 is told by the header `Host`; whoever sends or reads slowly is left after [`Limits`].

mod site;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time;

pub use site::{File, Site};

/// What one machine's browsers need, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; the next ones wait until one of them ends.
    pub connections: usize,
    /// Bytes of the head of a request, 8192 at least; a longer one is answered with 431.
    pub head_bytes: usize,
    /// Header lines of a request; more are answered with 431.
    pub headers: usize,
    /// From the beginning of a connection, or from the end of an answer, to the end of the next head.
    pub head_time: Duration,
    /// The whole life of a connection, however slowly its peer reads.
    pub life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 16 * 1024,
            headers: 64,
            head_time: Duration::from_secs(5),
            life: Duration::from_secs(60),
        }
    }
}

/// After a failed accept, for example because descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A web server that is bound to its port. It needs a tokio runtime with I/O and time.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
}

impl Server {
    /// Binds to `port` of 127.0.0.1, 0 for a free one. Inside of the runtime that will serve.
    pub fn bind(port: u16, limits: Limits) -> io::Result<Self> {
        Self::new(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?, limits)
    }

    /// With a listener that is bound already. Inside of the runtime that will serve.
    pub fn new(listener: std::net::TcpListener, limits: Limits) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, limits })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future is dropped, which closes all connections.
    pub async fn serve(self, site: Site) {
        let site = Arc::new(site);
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        loop {
            // It is never closed.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (site, limits) = (Arc::clone(&site), self.limits);
                    connections.spawn(async move {
                        serve_one(stream, &site, limits).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the web server cannot accept; it tries again");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn serve_one(stream: TcpStream, site: &Site, limits: Limits) {
    let service = service_fn(|request| async move { Ok::<_, Infallible>(site.answer(&request)) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        // hyper takes no smaller one.
        .max_buf_size(limits.head_bytes.max(8192))
        .max_headers(limits.headers)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(limits.life, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection of the web server failed"),
        Err(_) => tracing::debug!("a connection of the web server was open for too long"),
    }
}
