//! A socket of the runtime as a stream that does not block.

use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::net::{TcpStream, UnixStream};

use super::options::Endpoint;
use crate::transport::{Arrived, Layer, Stream, take_from};

/// Reads and writes what can be at once; its readiness is awaited.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same of either socket.
macro_rules! either {
    ($socket:expr, $stream:ident => $act:expr) => {
        match $socket {
            Socket::Tcp($stream) => $act,
            Socket::Unix($stream) => $act,
        }
    };
}

impl Socket {
    /// Connects to a host and port, or to a Unix socket.
    pub(super) async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        if let Some(path) = &endpoint.unix {
            return Ok(Self::Unix(UnixStream::connect(path).await?));
        }
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        // Packets are small and written together already: waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        Ok(Self::Tcp(stream))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        either!(self, stream => stream.readable().await)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        either!(self, stream => stream.writable().await)
    }

    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read_ready(context))
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_write_ready(context))
    }

    /// Reads behind what is there.
    pub(super) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        either!(self, stream => stream.try_read_buf(buffer))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Layer for Socket {}

impl Stream for Socket {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        take_from(self, buffer)
    }
}
