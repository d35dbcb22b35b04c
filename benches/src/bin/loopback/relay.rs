//! A relay that forwards frames unchanged: what is left of a broker without matching, sessions and encoding.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, TcpListener, TcpStream},
    rc::Rc,
};

use rustix::event::Timespec;

use crate::{
    frame::{self, Outcome, Split},
    link::{Link, Poller},
};

/// The poller's index of the listener; connections count from 1.
const LISTENER: usize = 0;
const INPUT: usize = 512 * 1024;

struct Peer {
    link: Link,
    /// Receivers of what this connection publishes, found at its first PUBLISH.
    route: Option<Rc<[usize]>>,
}

struct Relay {
    poller: Poller,
    peers: HashMap<usize, Peer>,
    /// Topic, or what stands before a `+` at the end, to the subscribers.
    subscriptions: HashMap<Vec<u8>, Vec<usize>>,
    dirty: Vec<usize>,
    next: usize,
}

/// Serves until it is ended from outside.
pub fn run(port: u16) -> Outcome<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let poller = Poller::new(4096)?;
    poller.add_listener(LISTENER, &listener)?;
    let mut relay =
        Relay { poller, peers: HashMap::new(), subscriptions: HashMap::new(), dirty: Vec::new(), next: LISTENER + 1 };
    let mut ready = Vec::new();
    let mut input = vec![0; INPUT];
    loop {
        relay.poller.wait(Timespec { tv_sec: 1, tv_nsec: 0 }, &mut ready)?;
        for &(index, readable, writable) in &ready {
            if index == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    relay.admit(stream)?;
                }
                continue;
            }
            if readable && relay.read(index, &mut input).is_err() {
                relay.forget(index);
            }
            if writable {
                relay.mark(index);
            }
        }
        for index in std::mem::take(&mut relay.dirty) {
            let Some(peer) = relay.peers.get_mut(&index) else { continue };
            peer.link.dirty = false;
            if peer.link.flush(index, &relay.poller).is_err() {
                relay.forget(index);
            }
        }
    }
}

impl Relay {
    fn admit(&mut self, stream: TcpStream) -> Outcome<()> {
        stream.set_nodelay(true)?;
        let link = Link::new(stream)?;
        self.poller.add(self.next, link.stream())?;
        self.peers.insert(self.next, Peer { link, route: None });
        self.next += 1;
        Ok(())
    }

    fn forget(&mut self, index: usize) {
        if let Some(peer) = self.peers.remove(&index) {
            // The descriptor is closed right after; an error changes nothing.
            let _ = self.poller.remove(peer.link.stream());
        }
        for receivers in self.subscriptions.values_mut() {
            receivers.retain(|&receiver| receiver != index);
        }
    }

    fn mark(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(&index) {
            if !peer.link.dirty {
                peer.link.dirty = true;
                self.dirty.push(index);
            }
        }
    }

    fn read(&mut self, index: usize, input: &mut [u8]) -> Outcome<()> {
        let Some(peer) = self.peers.get_mut(&index) else { return Ok(()) };
        let filled = peer.link.read(input)?;
        let mut at = 0;
        while let Some(found) = frame::split(&input[at..filled])? {
            let whole = &input[at..at + found.len];
            at += found.len;
            self.handle(index, &found, whole)?;
        }
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.link.keep(&input[at..filled]);
        }
        Ok(())
    }

    fn handle(&mut self, index: usize, found: &Split<'_>, whole: &[u8]) -> Outcome<()> {
        let mut answer = Vec::new();
        match found.first >> 4 {
            1 => answer.extend_from_slice(&[0x20, 2, 0, 0]),
            8 => self.subscribe(index, found.body, &mut answer)?,
            frame::PUBLISH => return self.forward(index, found, whole),
            14 => return Err("a DISCONNECT".into()),
            _ => return Ok(()),
        }
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.link.out.extend_from_slice(&answer);
        }
        self.mark(index);
        Ok(())
    }

    fn subscribe(&mut self, index: usize, body: &[u8], answer: &mut Vec<u8>) -> Outcome<()> {
        let length = usize::from(frame::read_packet_id(body.get(2..).unwrap_or_default()));
        let filter = body.get(4..4 + length).ok_or("a short SUBSCRIBE")?;
        let key = filter.strip_suffix(b"+").unwrap_or(filter).to_vec();
        self.subscriptions.entry(key).or_default().push(index);
        answer.extend_from_slice(&[0x90, 3, body[0], body[1], 0]);
        Ok(())
    }

    fn forward(&mut self, index: usize, found: &Split<'_>, whole: &[u8]) -> Outcome<()> {
        let Some(peer) = self.peers.get_mut(&index) else { return Ok(()) };
        let length = usize::from(frame::read_packet_id(found.body));
        let topic = found.body.get(2..2 + length).ok_or("a short PUBLISH")?;
        if found.first & 0x06 != 0 {
            let packet_id = frame::read_packet_id(found.body.get(2 + length..).unwrap_or_default());
            frame::acknowledge(frame::PUBACK, packet_id, &mut peer.link.out);
        }
        let route = if let Some(route) = &peer.route {
            Rc::clone(route)
        } else {
            let level = topic.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            let receivers = self.subscriptions.get(topic).or_else(|| self.subscriptions.get(&topic[..level]));
            let route: Rc<[usize]> = receivers.map_or(&[][..], Vec::as_slice).into();
            peer.route = Some(Rc::clone(&route));
            route
        };
        if found.first & 0x06 != 0 {
            self.mark(index);
        }
        for &receiver in &*route {
            if let Some(peer) = self.peers.get_mut(&receiver) {
                peer.link.out.extend_from_slice(whole);
            }
            self.mark(receiver);
        }
        Ok(())
    }
}
