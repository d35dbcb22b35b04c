//! The client core in a program of one's own, over `std::net`: no async, no threads, no other crate.
//!
//! ```text
//! cargo run --bin embed_client -- 127.0.0.1:1883 greetings/# greetings/one hello
//! ```
//!
//! Subscribes, publishes one message and says what became of it, then prints what arrives: for ever, or as many messages
//! as a last argument says. It connects again whenever the connection ends.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, UNIX_EPOCH};
use std::{env, io, thread};

use damselfly_client::{
    Client, Config, ConnectParameters, Event, Message, NeedTransport, Output, Properties, QoS, SubscriptionOptions,
    Timestamp, TopicFilter, TopicName, TransportLost,
};

struct Embedded {
    client: Client,
    address: SocketAddr,
    stream: Option<TcpStream>,
    /// What the core has not consumed: part of a packet, or what came before a pause.
    input: Vec<u8>,
    is_paused: bool,
    need: Option<NeedTransport>,
    is_closing: bool,
    is_closed: bool,
    /// How many messages are still to be printed.
    left: u64,
    /// The wall clock at the start, and the monotonic clock since.
    clock: (Timestamp, Instant),
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "give ADDRESS:PORT FILTER TOPIC PAYLOAD, and how many messages to print if not all";
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, filter, topic, payload, count @ ..] = words.as_slice() else { return Err(usage.into()) };
    let mut embedded = Embedded {
        client: Client::new(Config::new("embedded"), RandomState::new().hash_one(0_u8)),
        address: address.parse()?,
        stream: None,
        input: Vec::new(),
        is_paused: false,
        need: None,
        is_closing: false,
        is_closed: false,
        left: count.first().map_or(Ok(u64::MAX), |text| text.parse())?,
        clock: (Timestamp::ZERO.saturating_add(UNIX_EPOCH.elapsed()?), Instant::now()),
    };
    // Both are taken before there is a connection; the core keeps them and their order.
    let (now, filter) = (embedded.now(), (TopicFilter::new(filter)?, SubscriptionOptions::default()));
    embedded.client.subscribe(now, &[filter], Properties::EMPTY)?;
    let (topic, payload) = (TopicName::new(topic)?, payload.as_bytes());
    let message = Message::compose(topic, payload, QoS::AtLeastOnce, false, Properties::EMPTY, now);
    embedded.client.publish(now, message)?;
    while !(embedded.is_closed && embedded.stream.is_none()) {
        embedded.turn();
    }
    Ok(())
}

impl Embedded {
    fn now(&self) -> Timestamp {
        self.clock.0.saturating_add(self.clock.1.elapsed())
    }

    /// Looks at everything once, and rests if nothing moved.
    fn turn(&mut self) {
        let now = self.now();
        if self.need.take_if(|need| need.not_before <= now).is_some() {
            self.connect();
        }
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        while let Some(output) = self.client.poll_output() {
            self.perform(output);
        }
        match self.exchange() {
            Ok(true) => {}
            Ok(false) => thread::sleep(Duration::from_millis(1)),
            Err(_) => self.lose(TransportLost::Failed),
        }
    }

    fn connect(&mut self) {
        self.stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(20)).ok();
        match self.stream.as_ref().map(|stream| stream.set_nonblocking(true)) {
            Some(Ok(())) => self.client.handle_transport_up(self.now(), &ConnectParameters::default()),
            _ => self.lose(TransportLost::NotOpened),
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::NeedTransport(need) => self.need = Some(need),
            Output::Close => self.is_closing = true,
            Output::Event(Event::Message(inbound)) if self.left > 0 => {
                println!("{} {}", inbound.message.topic(), String::from_utf8_lossy(inbound.message.payload()));
                self.left -= 1;
                if self.left == 0 {
                    self.client.close(self.now(), self.now().saturating_add(Duration::from_secs(5)));
                }
            }
            Output::Event(Event::Completed { outcome, .. }) => println!("{outcome}"),
            Output::Event(Event::Closed) => self.is_closed = true,
            Output::Resume => self.is_paused = false,
            // Every turn looks at the socket anyway, and nothing is stored.
            Output::Event(_) | Output::Transmit | Output::Journal(_) | Output::Commit(_) => {}
        }
    }

    /// Reads and writes what the socket has and takes. Whether anything moved.
    fn exchange(&mut self) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let (mut chunk, mut buffer) = ([&[][..]], [0; 16 * 1024]);
        let has_output = self.client.transmit(&mut chunk) > 0;
        let written = if has_output { ready(stream.write(chunk[0]))? } else { None };
        let read = if self.is_paused { None } else { ready(stream.read(&mut buffer))? };
        let now = self.now();
        self.client.handle_transmitted(now, written.unwrap_or(0));
        if read == Some(0) || self.is_closing && !has_output {
            self.lose(TransportLost::Closed);
            return Ok(true);
        }
        self.input.extend(buffer.iter().take(read.unwrap_or(0)));
        let intake = self.client.handle_input(now, &self.input);
        self.is_paused = intake.paused;
        self.input.drain(..intake.consumed);
        Ok(written.or(read).is_some())
    }

    fn lose(&mut self, why: TransportLost) {
        self.stream = None;
        self.input.clear();
        (self.is_closing, self.is_paused) = (false, false);
        self.client.handle_transport_lost(self.now(), why);
    }
}

/// `None` if the socket is not ready.
fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    let is_not_yet = |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
    if result.as_ref().is_err_and(is_not_yet) { Ok(None) } else { result.map(Some) }
}
