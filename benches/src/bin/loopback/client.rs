//! A blocking client for everything that is not timed: connecting, subscribing, filling a broker with state.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use damselfly_codec::Version;

use crate::frame::{self, Outcome};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client {
    stream: TcpStream,
    version: Version,
    input: Vec<u8>,
    out: Vec<u8>,
    next_id: u16,
    /// Bytes read at once: few while a client only connects, many where it receives a flood.
    room: usize,
}

impl Client {
    /// Connects and waits for a CONNACK with success.
    pub fn connect(address: SocketAddr, version: Version, client_id: &str, clean: bool) -> Outcome<Self> {
        let mut client = Self::begin(address, version, client_id, clean)?;
        client.finish_connecting()?;
        Ok(client)
    }

    /// Opens the connection and sends CONNECT.
    pub fn begin(address: SocketAddr, version: Version, client_id: &str, clean: bool) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // An end without TIME_WAIT, so that thousands of connections do not use up the ports.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        let mut client = Self { stream, version, input: Vec::new(), out: Vec::new(), next_id: 1, room: 512 };
        frame::connect(version, client_id, clean, &mut client.out);
        client.send()?;
        Ok(client)
    }

    /// Waits for a CONNACK with success.
    pub fn finish_connecting(&mut self) -> Outcome<()> {
        match self.wait_for(frame::CONNACK, |body| body.get(1).copied())? {
            Some(0) => Ok(()),
            code => Err(format!("CONNACK with {code:?}").into()),
        }
    }

    /// Subscribes and waits for the SUBACK; retained messages that come before it are skipped.
    pub fn subscribe(&mut self, filters: &[String], qos: u8) -> Outcome<()> {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        frame::subscribe(self.version, id, filters, qos, &mut self.out);
        self.send()?;
        let skip = if self.version == Version::V5_0 { 3 } else { 2 };
        let refused = self.wait_for(frame::SUBACK, |body| body.iter().skip(skip).any(|&code| code >= 0x80))?;
        if refused { Err("a subscription was refused".into()) } else { Ok(()) }
    }

    /// Sends a SUBSCRIBE and leaves its answer to the caller.
    pub fn subscribe_unseen(&mut self, filters: &[String], qos: u8) -> Outcome<()> {
        frame::subscribe(self.version, 1, filters, qos, &mut self.out);
        self.send()
    }

    /// The buffer of frames for the next `send`.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub fn send(&mut self) -> Outcome<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Reads until `count` frames of this type have come.
    pub fn wait_for_count(&mut self, packet_type: u8, count: usize) -> Outcome<()> {
        for _ in 0..count {
            self.wait_for(packet_type, |_| ())?;
        }
        Ok(())
    }

    fn wait_for<T>(&mut self, packet_type: u8, read: impl Fn(&[u8]) -> T) -> Outcome<T> {
        let mut consumed = 0;
        let answer = loop {
            if let Some(found) = frame::split(&self.input[consumed..])? {
                consumed += found.len;
                if found.first >> 4 == packet_type {
                    break read(found.body);
                }
            } else {
                self.input.drain(..consumed);
                consumed = 0;
                self.fill()?;
            }
        };
        self.input.drain(..consumed);
        Ok(answer)
    }

    /// Reads PUBLISH frames until `stop` says so, acknowledging QoS 1 ones; `visit` sees each first byte and payload.
    pub fn receive(&mut self, mut visit: impl FnMut(u8, &[u8]) -> bool) -> Outcome<()> {
        self.room = 256 * 1024;
        loop {
            let mut consumed = 0;
            let mut more = true;
            while let Some(found) = frame::split(&self.input[consumed..])? {
                consumed += found.len;
                if found.first >> 4 != frame::PUBLISH {
                    continue;
                }
                let publish = frame::read_publish(self.version, found.first, found.body).ok_or("a short PUBLISH")?;
                if publish.qos == 1 {
                    frame::acknowledge(frame::PUBACK, publish.packet_id, &mut self.out);
                }
                more = visit(found.first, publish.payload);
                if !more {
                    break;
                }
            }
            self.input.drain(..consumed);
            if !self.out.is_empty() {
                self.send()?;
            }
            if !more {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Outcome<()> {
        let held = self.input.len();
        self.input.resize(held + self.room, 0);
        let count = self.stream.read(&mut self.input[held..])?;
        self.input.truncate(held + count);
        self.input.shrink_to(self.room);
        if count == 0 { Err("the broker closed the connection".into()) } else { Ok(()) }
    }

    pub fn disconnect(mut self) -> Outcome<()> {
        frame::disconnect(&mut self.out);
        self.send()?;
        // The broker closes after a DISCONNECT; waiting for that keeps the reset behind it.
        let mut rest = [0; 4096];
        while self.stream.read(&mut rest).is_ok_and(|count| count > 0) {}
        Ok(())
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}
