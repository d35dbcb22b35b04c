//! The broker core in a program of one's own, over `std::net`: no async, no threads, no other crate.
//!
//! ```text
//! cargo run --bin embed_broker -- 127.0.0.1:1883
//! ```
//!
//! It shows all that a driver has to do. The driver of this crate does the same for many connections at once and never
//! looks at a socket in vain; this one polls every socket a thousand times a second, which is fine for a few.

use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, UNIX_EPOCH};
use std::{env, thread};

use damselfly_broker::{Answer, Broker, Config, ConnectionId, Output, Peer, Timestamp};

struct Connection {
    stream: TcpStream,
    /// What the core has not consumed: part of a packet, or all that comes during a pause.
    input: Vec<u8>,
    is_paused: bool,
    /// Set once the core is done with the connection: until then it may read what is left for it.
    close_at: Option<Timestamp>,
}

struct Embedded {
    broker: Broker,
    listener: TcpListener,
    connections: BTreeMap<ConnectionId, Connection>,
    /// What is read goes through here.
    buffer: Vec<u8>,
    /// The wall clock at the start, and the monotonic clock since.
    origin: Timestamp,
    start: Instant,
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".to_owned());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    println!("listening on mqtt://{}", listener.local_addr()?);
    let mut config = Config::default();
    config.max_connections = 100;
    let since_epoch = UNIX_EPOCH.elapsed()?;
    let mut embedded = Embedded {
        // A seed that peers cannot guess: the standard library has no other source of one.
        broker: Broker::new(config, RandomState::new().hash_one(0_u8))?,
        listener,
        connections: BTreeMap::new(),
        buffer: vec![0; 16 * 1024],
        origin: Timestamp::ZERO.saturating_add(since_epoch),
        start: Instant::now(),
    };
    loop {
        if !embedded.turn() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Embedded {
    /// Looks at everything once. Whether anything happened.
    fn turn(&mut self) -> bool {
        let now = self.origin.saturating_add(self.start.elapsed());
        let mut is_busy = self.accept(now);
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in &ids {
            is_busy |= self.receive(now, *id);
        }
        if self.broker.poll_timeout().is_some_and(|at| at <= now) {
            self.broker.handle_timeout(now);
            is_busy = true;
        }
        while let Some(output) = self.broker.poll_output() {
            self.perform(now, output);
        }
        for id in ids {
            is_busy |= self.transmit(now, id);
        }
        is_busy
    }

    fn accept(&mut self, now: Timestamp) -> bool {
        // An error here is about a connection that is gone already, or about descriptors: the next turn tries again.
        let Ok((stream, address)) = self.listener.accept() else { return false };
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        // Refused: the stream is closed by being dropped.
        if let Ok(id) = self.broker.handle_connection(now, Peer::at(address)) {
            let connection = Connection { stream, input: Vec::new(), is_paused: false, close_at: None };
            self.connections.insert(id, connection);
        }
        true
    }

    fn receive(&mut self, now: Timestamp, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        if connection.is_paused || connection.close_at.is_some() {
            return false;
        }
        match connection.stream.read(&mut self.buffer) {
            Ok(0) => self.lose(now, id),
            Ok(len) => {
                connection.input.extend(self.buffer.iter().take(len));
                self.hand_in(now, id);
            }
            Err(error) if is_only_not_ready(&error) => return false,
            Err(_) => self.lose(now, id),
        }
        true
    }

    fn hand_in(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let intake = self.broker.handle_input(now, id, &connection.input);
        connection.input.drain(..intake.consumed);
        connection.is_paused = intake.paused;
    }

    fn perform(&mut self, now: Timestamp, output: Output) {
        match output {
            Output::Close(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.close_at = Some(now.saturating_add(Duration::from_secs(2)));
                }
            }
            Output::Resume(id) => self.hand_in(now, id),
            // Here a program decides who may connect, and what may be published and subscribed.
            Output::Ask { id, .. } => self.broker.handle_answer(now, id, Answer::allow()),
            // Nothing is stored, so nothing has to be waited for.
            Output::Commit(id) => self.broker.handle_committed(now, id),
            Output::Event(event) => println!("{event:?}"),
            // Every turn looks at every connection anyway; the others come only with local participants or more brokers.
            Output::Transmit(_) | Output::Deliver { .. } | Output::Interest { .. } | Output::Forward { .. } => {}
        }
    }

    /// Writes what the socket takes.
    fn transmit(&mut self, now: Timestamp, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let mut chunk = [&[][..]];
        if self.broker.transmit(id, &mut chunk) == 0 {
            if connection.close_at.is_some() {
                self.lose(now, id);
            }
            return false;
        }
        match connection.stream.write(chunk[0]) {
            Ok(written) => self.broker.handle_transmitted(now, id, written),
            Err(error) if is_only_not_ready(&error) => {
                if connection.close_at.is_some_and(|at| at <= now) {
                    self.lose(now, id);
                }
                return false;
            }
            Err(_) => self.lose(now, id),
        }
        true
    }

    fn lose(&mut self, now: Timestamp, id: ConnectionId) {
        self.connections.remove(&id);
        self.broker.handle_connection_lost(now, id);
    }
}

fn is_only_not_ready(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
