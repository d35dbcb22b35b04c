mod accepting;
mod outage;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::time::Duration;

use bytes::{Buf, Bytes};
use damselfly_broker::{Answer, ConnectionId, Event, Output, Question, QuestionId};
use damselfly_codec::{Frame, FrameLimits, ReasonCode};
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;
use mio::Token;

use super::connection::{Connection, LARGE_FRAME, Phase, Received};
use super::heard::Heard;
use super::host::{Entrance, Host};
use super::listener::{Listener, Place};
use super::observe;
use super::pace::Pace;
use super::poller::{Poller, Stop, Waker};
use super::refusals::Refusals;
use super::seldom::Seldom;
use super::settings::Settings;
use crate::Clock;

pub use outage::Network;

/// Chunks handed to one vectored write.
const CHUNKS: usize = 32;
/// Writes to one connection in a row.
const WRITES: usize = 4;
/// Input handled before the outputs are looked at, even within a turn: bounds what a turn adds to the transmit buffers.
const INPUT_PER_FLUSH: usize = 256 * 1024;
/// Bytes read from one connection at once while memory is used up.
const LITTLE: usize = 4 * 1024;
/// Rounds of outputs and writes in a row: a receiver that takes whatever it is given must not keep the turn to itself.
const FLUSH_ROUNDS: usize = 8;

/// Names the event of [`Stop`].
const STOP: Token = Token(usize::MAX - 1);
/// Names the first listener; the others follow downwards. Connections are named by their slots.
const LISTENERS: usize = usize::MAX - 2;

/// One broker core and the sockets it speaks through. See the [module](super).
pub struct Driver<H> {
    broker: RecordedBroker,
    host: H,
    settings: Settings,
    clock: Clock,
    poller: Poller,
    /// What this turn handles.
    batch: Vec<Source>,
    /// What the next turn handles without waiting: more may be in the socket than one read took.
    again: Vec<Source>,
    listeners: Vec<Listener>,
    accept_again_at: Option<Timestamp>,
    /// Says that connections cannot be accepted.
    exhausted: Seldom,
    refusals: Refusals,
    heard: Heard,
    pace: Pace,
    /// By the slot of the `ConnectionId`.
    connections: Vec<Option<Connection>>,
    open_connections: usize,
    /// Connections with bytes to write at the end of the turn.
    dirty: Vec<ConnectionId>,
    /// When to stop waiting for connections that the core closed, in order.
    closing: VecDeque<(Timestamp, ConnectionId)>,
    buffer: Vec<u8>,
    /// Input handled since the outputs were last looked at.
    unflushed: usize,
    /// When to stop waiting for connections to end.
    stop_at: Option<Timestamp>,
    stop: Stop,
    network: Network,
    /// When the network is back.
    network_back_at: Option<Timestamp>,
}

/// What a turn looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Listener(usize),
    Connection(ConnectionId),
}

impl<H: Host> Driver<H> {
    /// A driver without listeners, of a [`Broker`](damselfly_broker::Broker) or of one that is recorded.
    pub fn new(broker: impl Into<RecordedBroker>, mut host: H, settings: Settings) -> io::Result<Self> {
        let mut broker = broker.into();
        let clock = Clock::start();
        let poller = Poller::new()?;
        let stop = poller.stop(STOP)?;
        host.attach(stop.waker());
        host.start(&mut broker, clock.now());
        Ok(Self {
            network: Network::new(stop.waker()),
            network_back_at: None,
            stop,
            broker,
            host,
            clock,
            poller,
            batch: Vec::new(),
            again: Vec::new(),
            listeners: Vec::new(),
            accept_again_at: None,
            exhausted: Seldom::default(),
            refusals: Refusals::default(),
            heard: Heard::default(),
            pace: Pace::new(settings.read_buffer.max(2 * LARGE_FRAME)),
            connections: Vec::new(),
            open_connections: 0,
            dirty: Vec::new(),
            closing: VecDeque::new(),
            buffer: vec![0; settings.read_buffer.max(2 * LARGE_FRAME)],
            unflushed: 0,
            stop_at: None,
            settings,
        })
    }

    /// What ends the driver.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// What has the host [looked after](Host::woken) although nothing happens at the sockets.
    pub fn waker(&self) -> Waker {
        self.stop.waker()
    }

    /// Runs in this thread until it is [stopped](Stop::stop), then closes every connection as the standard wants, which
    /// takes at most [`Settings::close_limit`]. An error means that readiness cannot be learned any more.
    pub fn run(mut self) -> io::Result<H> {
        self.flush(self.clock.now());
        loop {
            let limit = self.time_to_wait();
            let asked_at = self.clock.now();
            self.poller.wait(limit)?;
            let now = self.clock.now();
            self.turn(asked_at, now);
            self.pace.note(self.clock.now().saturating_since(now));
            self.follow_network(now);
            if self.stop_at.is_none() && self.stop.is_asked() {
                self.begin_to_stop();
            }
            if self.has_stopped() {
                return Ok(self.host);
            }
        }
    }

    /// How long nothing happens unless a socket becomes ready; `None` is for ever.
    fn time_to_wait(&self) -> Option<Duration> {
        if !self.again.is_empty() || !self.dirty.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.broker.poll_timeout(),
            self.host.poll_timeout(),
            self.accept_again_at,
            self.network_back_at,
            self.stop_at,
            self.closing.front().map(|(at, _)| *at),
        ];
        deadlines.into_iter().flatten().min().map(|at| self.clock.until(at))
    }

    fn begin_to_stop(&mut self) {
        let now = self.clock.now();
        self.stop_at = Some(now.saturating_add(self.settings.close_limit));
        self.listeners.clear();
        self.accept_again_at = None;
        self.broker.shutdown(now);
        self.flush(now);
    }

    fn has_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.open_connections == 0 || at <= self.clock.now())
    }

    /// Everything that is ready, then everything there is to write.
    fn turn(&mut self, asked_at: Timestamp, now: Timestamp) {
        let mut batch = mem::take(&mut self.batch);
        batch.append(&mut self.again);
        let ready = batch.len();
        self.note_events(&mut batch);
        let sockets = self.open_connections + self.listeners.len() + 1;
        self.heard.note(asked_at, batch.len() - ready, sockets);
        for source in batch.drain(..) {
            match source {
                Source::Listener(index) => self.accept(now, index),
                Source::Connection(id) => self.serve(now, id),
            }
            if self.unflushed >= INPUT_PER_FLUSH {
                self.flush(now);
                self.pace.note_so_far(self.clock.now().saturating_since(now));
            }
        }
        self.batch = batch;
        self.handle_time(now);
        self.flush(now);
    }

    fn note_events(&mut self, batch: &mut Vec<Source>) {
        for event in self.poller.events() {
            let Token(token) = event.token();
            if let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) {
                connection.note(event);
                batch.push(Source::Connection(connection.id));
            } else {
                // Or a connection that is gone, or `STOP`: no listener is found under what that gives.
                batch.push(Source::Listener(LISTENERS.wrapping_sub(token)));
            }
        }
    }

    fn handle_time(&mut self, now: Timestamp) {
        if self.stop.take_woken() {
            self.host.woken(&mut self.broker, now);
        }
        // What a client sent in time keeps it alive, although this process was not running or had too much to do.
        let heard_until = self.heard.until();
        if self.broker.poll_timeout().is_some_and(|at| at <= heard_until) {
            self.broker.handle_timeout(heard_until);
        }
        if self.host.poll_timeout().is_some_and(|at| at <= now) {
            self.host.handle_timeout(&mut self.broker, now);
        }
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.again.extend((0..self.listeners.len()).map(Source::Listener));
        }
        while let Some((at, id)) = self.closing.front().copied() {
            if at > now {
                break;
            }
            self.closing.pop_front();
            self.drop_connection(now, id);
        }
    }

    /// The socket is ready for something.
    fn serve(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        let (phase, is_readable) = (connection.phase, connection.is_readable());
        // Who is gone need not be told what the pause is for.
        if phase == Phase::Paused && connection.has_ended() {
            return self.drop_connection(now, id);
        }
        if connection.take_unblocked() {
            self.mark_dirty(id);
        }
        match phase {
            Phase::Open if is_readable => self.receive(now, id),
            Phase::Lingering if is_readable => self.discard(now, id),
            Phase::Open | Phase::Lingering | Phase::Paused | Phase::Closing => {}
        }
    }

    fn receive(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if let Some(capacity) = connection.wanted_capacity() {
            if self.broker.handle_progress(now, id, capacity) {
                connection.phase = Phase::Paused;
                return;
            }
            connection.grow(capacity);
        }
        let pace = self.pace.limit();
        let limit = if self.broker.is_out_of_memory() { LITTLE.min(pace) } else { pace };
        match connection.receive(&mut self.buffer, limit) {
            Received::Nothing => self.count_kept(now, id),
            Received::Ended => return self.drop_connection(now, id),
            Received::Broken(error) => return self.give_up(now, id, &error),
            Received::Bytes(len) => {
                self.unflushed += len;
                let Some(input) = self.buffer.get(..len) else { return };
                let intake = self.broker.handle_input(now, id, input);
                observe::heard(&mut self.host, now, id, intake, input);
                connection.keep_rest(intake, input);
                self.count_kept(now, id);
            }
            Received::Part(len) => {
                self.unflushed += len;
                if self.broker.handle_progress(now, id, connection.capacity()) {
                    connection.phase = Phase::Paused;
                }
            }
            Received::Frame(frame) => {
                self.unflushed += frame.len();
                self.handle_frame(now, id, &frame);
            }
        }
        self.read_again(id);
    }

    /// What is kept of a handshake, or of a record of TLS, counts like a packet that is not whole.
    fn count_kept(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if connection.is_amid() && self.broker.handle_progress(now, id, connection.capacity()) {
            connection.phase = Phase::Paused;
        }
    }

    /// Puts the connection into the next turn if more may be waiting in the socket.
    fn read_again(&mut self, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if connection.is_readable() && connection.phase != Phase::Paused {
            self.pace.use_up();
            self.again.push(Source::Connection(id));
        }
    }

    fn handle_frame(&mut self, now: Timestamp, id: ConnectionId, bytes: &Bytes) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        let intake = match Frame::new(bytes.clone(), &FrameLimits::default()) {
            Ok(frame) => self.broker.handle_frame(now, id, &frame),
            // The core named the length from the same bytes; should they not be one frame after all, it says why.
            Err(_) => self.broker.handle_input(now, id, bytes),
        };
        observe::heard(&mut self.host, now, id, intake, bytes);
        connection.keep_rest(intake, bytes);
    }

    fn resume(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if connection.phase != Phase::Paused {
            return;
        }
        connection.phase = Phase::Open;
        self.again.push(Source::Connection(id));
        let mut kept = connection.take_kept();
        if !kept.is_empty() {
            let intake = self.broker.handle_input(now, id, &kept);
            observe::heard(&mut self.host, now, id, intake, &kept);
            kept.advance(intake.consumed.min(kept.len()));
            connection.put_back(kept, intake.wanted);
            // The buffer may have room to spare, which counts.
            if intake.paused || self.broker.handle_progress(now, id, connection.capacity()) {
                connection.phase = Phase::Paused;
            }
        }
    }

    /// Performs all outputs and writes, until there is nothing more or the turn has had its share.
    fn flush(&mut self, now: Timestamp) {
        self.unflushed = 0;
        for _ in 0..FLUSH_ROUNDS {
            self.perform_all(now);
            if self.dirty.is_empty() {
                return;
            }
            let mut dirty = mem::take(&mut self.dirty);
            for id in dirty.drain(..) {
                self.transmit(now, id);
            }
            // Keeps the larger memory, and what became dirty in the meantime.
            dirty.append(&mut self.dirty);
            self.dirty = dirty;
        }
        self.perform_all(now);
    }

    fn perform_all(&mut self, now: Timestamp) {
        while let Some(output) = self.broker.poll_output() {
            self.perform(now, output);
        }
    }

    fn perform(&mut self, now: Timestamp, output: Output) {
        match output {
            Output::Transmit(id) => self.mark_dirty(id),
            Output::Commit(id) => self.broker.handle_committed(now, id),
            Output::Close(id) => self.close(now, id),
            Output::Resume(id) => self.resume(now, id),
            Output::Ask { id, question } => {
                if let Some(answer) = self.answer(id, &question) {
                    self.broker.handle_answer(now, id, answer);
                }
            }
            Output::Deliver { local, delivery } => self.host.deliver(&mut self.broker, now, local, *delivery),
            Output::Event(event) => self.report(&event),
            // One broker alone has nobody to tell.
            Output::Interest { .. } | Output::Forward { .. } => {}
        }
    }

    /// What the host says, unless the connection is there only to be told that there is no room.
    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        let Question::Connect { connection: asking, .. } = question else { return self.host.answer(id, question) };
        let Some(connection) = connection(&mut self.connections, *asking) else {
            // One that the host has opened by itself.
            return self.host.answer(id, question);
        };
        match connection.place {
            Place::Surplus => Some(Answer::Deny(ReasonCode::QuotaExceeded)),
            Place::Ordinary => {
                let certificate_name = connection.peer_name();
                self.host.admit(id, question, &Entrance { listener: connection.listener, certificate_name })
            }
        }
    }

    fn report(&mut self, event: &Event) {
        let address = match event {
            Event::Connected { connection: id, .. } | Event::Disconnected { connection: id, .. } => {
                connection(&mut self.connections, *id).and_then(|connection| connection.peer_address())
            }
            _ => None,
        };
        self.host.event(event, address);
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Writes what the core has for the connection, as far as the socket takes it.
    fn transmit(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        connection.is_dirty = false;
        if connection.is_blocked {
            return;
        }
        if connection.flush().is_err() {
            return self.drop_connection(now, id);
        }
        if connection.is_blocked {
            return;
        }
        for _ in 0..WRITES {
            let mut chunks: [&[u8]; CHUNKS] = [&[]; CHUNKS];
            let count = self.broker.transmit(id, &mut chunks);
            if count == 0 {
                break;
            }
            let total: usize = chunks.iter().map(|chunk| chunk.len()).sum();
            let slices = chunks.map(IoSlice::new);
            let Ok(written) = connection.write(slices.get(..count).unwrap_or(&slices)) else {
                return self.drop_connection(now, id);
            };
            if written > 0 {
                observe::said(&mut self.host, now, id, &chunks, written);
                self.broker.handle_transmitted(now, id, written);
            }
            if connection.is_blocked {
                return;
            }
            if written == total && count < CHUNKS {
                // What the core adds now it announces by another `Transmit`.
                break;
            }
        }
        if self.broker.transmit_len(id) > 0 {
            self.mark_dirty(id);
        } else if connection.phase == Phase::Closing {
            self.linger(now, id);
        }
    }

    /// The core is done with the connection; what it has left to say is written with everything else.
    fn close(&mut self, now: Timestamp, id: ConnectionId) {
        if self.broker.transmit_len(id) == 0 && self.stop_at.is_none() {
            return self.drop_connection(now, id);
        }
        self.close_when_written(now, id);
    }

    fn close_when_written(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        connection.phase = Phase::Closing;
        connection.take_kept();
        self.closing.push_back((now.saturating_add(self.settings.close_limit), id));
        self.mark_dirty(id);
    }

    fn linger(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        connection.phase = Phase::Lingering;
        if connection.shut().is_err() {
            self.drop_connection(now, id);
        } else if connection.is_readable() {
            self.discard(now, id);
        }
    }

    fn discard(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        match connection.discard(&mut self.buffer) {
            Received::Bytes(_) | Received::Nothing => self.read_again(id),
            Received::Ended | Received::Part(_) | Received::Frame(_) | Received::Broken(_) => {
                self.drop_connection(now, id);
            }
        }
    }

    fn drop_connection(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        connection.finish();
        if let Some(listener) = self.listeners.get_mut(usize::from(connection.listener)) {
            listener.give_back(connection.place);
        }
        if let Some(slot) = self.connections.get_mut(index(id)) {
            *slot = None;
            self.open_connections -= 1;
        }
        self.broker.handle_connection_lost(now, id);
        self.forget_free_slots();
    }

    /// Gives memory back after many connections are gone.
    fn forget_free_slots(&mut self) {
        while self.connections.last().is_some_and(Option::is_none) {
            self.connections.pop();
        }
        if self.connections.capacity() > 64 && self.connections.capacity() / 4 > self.connections.len() {
            self.connections.shrink_to(self.connections.len() * 2);
        }
    }
}

/// The connection with this very id: its slot may be another's by now.
fn connection(connections: &mut [Option<Connection>], id: ConnectionId) -> Option<&mut Connection> {
    connections.get_mut(index(id))?.as_mut().filter(|connection| connection.id == id)
}

fn index(id: ConnectionId) -> usize {
    usize::try_from(id.slot()).unwrap_or(usize::MAX)
}
