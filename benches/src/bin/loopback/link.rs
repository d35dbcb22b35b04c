//! One non-blocking connection of the load, and the poller over all of them.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
};

use crate::frame::Outcome;

/// Which connections are ready, level-triggered.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub fn new(capacity: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(capacity.max(1)) })
    }

    /// Waits at most `timeout` and puts the ready connections into `ready` as (index, readable, writable).
    pub fn wait(&mut self, timeout: Timespec, ready: &mut Vec<(usize, bool, bool)>) -> Outcome<()> {
        ready.clear();
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (data, flags) = (event.data, event.flags);
            let writable = flags.contains(EventFlags::OUT);
            let readable = flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR);
            ready.push((usize::try_from(data.u64())?, readable, writable));
        }
        Ok(())
    }

    pub fn add(&self, index: usize, stream: &TcpStream) -> Outcome<()> {
        let data = EventData::new_u64(u64::try_from(index)?);
        Ok(epoll::add(&self.epoll, stream, data, EventFlags::IN)?)
    }

    pub fn add_listener(&self, index: usize, listener: &TcpListener) -> Outcome<()> {
        let data = EventData::new_u64(u64::try_from(index)?);
        Ok(epoll::add(&self.epoll, listener, data, EventFlags::IN)?)
    }

    pub fn remove(&self, stream: &TcpStream) -> Outcome<()> {
        Ok(epoll::delete(&self.epoll, stream)?)
    }

    fn watch_writes(&self, index: usize, stream: &TcpStream, wanted: bool) -> Outcome<()> {
        let data = EventData::new_u64(u64::try_from(index)?);
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, stream, data, flags)?)
    }
}

/// A connection with what still has to be written and the beginning of a frame not yet whole.
pub struct Link {
    stream: TcpStream,
    pub out: Vec<u8>,
    written: usize,
    tail: Vec<u8>,
    watching_writes: bool,
    /// In the list of connections to flush at the end of the turn.
    pub dirty: bool,
}

impl Link {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, out: Vec::new(), written: 0, tail: Vec::new(), watching_writes: false, dirty: false })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// One read behind the kept tail; the number of bytes now in `buffer`, 0 when there was nothing.
    pub fn read(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let kept = self.tail.len();
        buffer[..kept].copy_from_slice(&self.tail);
        match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => Err("the broker closed a connection".into()),
            Ok(count) => {
                self.tail.clear();
                Ok(kept + count)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    pub fn keep(&mut self, rest: &[u8]) {
        self.tail.extend_from_slice(rest);
    }

    /// Writes what the socket takes; asks for write readiness only when it did not take everything.
    pub fn flush(&mut self, index: usize, poller: &Poller) -> Outcome<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let rest = self.written < self.out.len();
        if !rest {
            self.out.clear();
            self.written = 0;
        }
        if rest != self.watching_writes {
            poller.watch_writes(index, &self.stream, rest)?;
            self.watching_writes = rest;
        }
        Ok(())
    }
}
