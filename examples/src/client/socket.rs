//! A socket of the runtime as a stream that does not block.

use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::net::TcpStream;

use crate::transport::{Arrived, Layer, Stream, take_from};

/// Reads and writes what can be at once; its readiness is awaited at the socket itself.
#[derive(Debug)]
pub(super) struct Socket(pub(super) TcpStream);

impl Socket {
    /// Connects to a host and port.
    pub(super) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port)).await?;
        // Packets are small and written together already: waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        Ok(Self(stream))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    pub(super) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(context)
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(context)
    }

    /// Reads behind what is there.
    pub(super) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        self.0.try_read_buf(buffer)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
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
