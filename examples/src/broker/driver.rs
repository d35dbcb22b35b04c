use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::mem;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use damselfly_broker::{Broker, ConnectionId, Event, Intake, Output, Peer};
use damselfly_codec::{Frame, FrameLimits};
use damselfly_session::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Sleep, sleep};

use super::connection::{Connection, Phase, Received};
use super::host::Host;
use super::listener::{Accepted, Listener};
use super::ready::{Ready, Source};
use crate::Clock;

/// Chunks handed to one vectored write.
const CHUNKS: usize = 32;
/// Writes to one connection in a row.
const WRITES: usize = 4;
/// Connections accepted per turn and listener.
const ACCEPTS: usize = 64;
/// Input handled before the outputs are looked at, even within a turn: bounds what a turn adds to the transmit buffers.
const INPUT_PER_FLUSH: usize = 256 * 1024;
/// Rounds of outputs and writes in a row: a receiver that takes whatever it is given must not keep the turn to itself.
const FLUSH_ROUNDS: usize = 8;

/// The timer fires this often with no deadline at all.
const IDLE: Duration = Duration::from_secs(3600);

/// How the driver treats sockets; what a peer may do is the core's `Config`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Bytes of the read buffer that all connections share: the most that one connection is read per turn.
    pub read_buffer: usize,
    /// How long a connection that the core closed may take to read what is left for it.
    pub close_limit: Duration,
    /// How long no connection is accepted after descriptors ran out.
    pub accept_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { read_buffer: 128 * 1024, close_limit: Duration::from_secs(2), accept_pause: Duration::from_millis(100) }
    }
}

/// One broker core and the sockets it speaks through. See the [module](super).
pub struct Driver<H> {
    broker: Broker,
    host: H,
    settings: Settings,
    clock: Clock,
    ready: Arc<Ready>,
    /// What this turn handles.
    batch: Vec<Source>,
    /// What the next turn handles without waiting: more may be in the socket than one read took.
    again: Vec<Source>,
    listeners: Vec<Listener>,
    accept_again_at: Option<Timestamp>,
    /// The last attempt to accept failed for want of descriptors or memory, and that was logged.
    is_exhausted: bool,
    /// By the index of the `ConnectionId`.
    connections: Vec<Option<Connection>>,
    open_connections: usize,
    /// Connections with bytes to write at the end of the turn.
    dirty: Vec<ConnectionId>,
    /// When to stop waiting for connections that the core closed, in order.
    closing: VecDeque<(Timestamp, ConnectionId)>,
    buffer: Vec<u8>,
    /// Input handled since the outputs were last looked at.
    unflushed: usize,
    /// The core has more to do at once.
    is_due: bool,
    /// When to stop waiting for connections to end.
    stop_at: Option<Timestamp>,
    /// Something may have become of the future that ends the driver.
    asks_stop: bool,
    timer: Pin<Box<Sleep>>,
    timer_waker: Waker,
    /// When the timer fires; `Timestamp::MAX` once it has.
    timer_at: Timestamp,
}

impl<H: Host> Driver<H> {
    /// Must be called within a tokio runtime with I/O and time.
    pub fn new(mut broker: Broker, mut host: H, settings: Settings) -> Self {
        let clock = Clock::start();
        let ready: Arc<Ready> = Arc::default();
        let timer_waker = ready.waker(Source::Timer);
        host.start(&mut broker, clock.now());
        Self {
            broker,
            host,
            clock,
            ready,
            batch: Vec::new(),
            again: Vec::new(),
            listeners: Vec::new(),
            accept_again_at: None,
            is_exhausted: false,
            connections: Vec::new(),
            open_connections: 0,
            dirty: Vec::new(),
            closing: VecDeque::new(),
            buffer: vec![0; settings.read_buffer],
            unflushed: 0,
            is_due: true,
            stop_at: None,
            asks_stop: true,
            timer: Box::pin(sleep(Duration::ZERO)),
            timer_waker,
            timer_at: Timestamp::MAX,
            settings,
        }
    }

    /// Accepts connections from `socket` once the driver runs.
    pub fn listen(&mut self, socket: TcpListener) {
        let index = self.listeners.len();
        self.listeners.push(Listener::new(socket, index, &self.ready));
        self.again.push(Source::Listener(index));
    }

    /// Runs until `stop` is ready, then closes every connection as the standard wants, which takes at most
    /// [`Settings::close_limit`].
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> H {
        // The task is all that happens in this thread: tokio's budget per task would only make it pause for nobody.
        unconstrained(async move {
            let mut stop = pin!(stop);
            let stop_waker = self.ready.waker(Source::Stop);
            loop {
                poll_fn(|context| self.poll_work(context)).await;
                self.turn();
                let asks_stop = mem::take(&mut self.asks_stop);
                if asks_stop && stop.as_mut().poll(&mut Context::from_waker(&stop_waker)).is_ready() {
                    self.stop();
                }
                if self.has_stopped() {
                    return self.host;
                }
                if self.has_work() {
                    // Lets the runtime look at the sockets in between.
                    yield_now().await;
                }
            }
        })
        .await
    }

    fn poll_work(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.ready.take(&mut self.batch, context.waker());
        if self.has_work() || !self.batch.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether something is left to do that no socket and no timer will wake us for.
    fn has_work(&self) -> bool {
        !self.again.is_empty() || !self.dirty.is_empty() || self.is_due
    }

    fn stop(&mut self) {
        let now = self.clock.now();
        self.stop_at = Some(now.saturating_add(self.settings.close_limit));
        self.listeners.clear();
        self.accept_again_at = None;
        self.broker.shutdown(now);
        self.is_due = true;
    }

    fn has_stopped(&self) -> bool {
        self.stop_at.is_some_and(|at| self.open_connections == 0 || at <= self.clock.now())
    }

    /// Everything that is ready, then everything there is to write.
    fn turn(&mut self) {
        let now = self.clock.now();
        self.handle_time(now);
        self.batch.append(&mut self.again);
        let mut batch = mem::take(&mut self.batch);
        for source in batch.drain(..) {
            match source {
                Source::Listener(index) => self.accept(now, index),
                Source::Connection(id) => self.serve(now, id),
                // What is due is looked at in every turn.
                Source::Timer => self.timer_at = Timestamp::MAX,
                Source::Stop => self.asks_stop = true,
            }
            if self.unflushed >= INPUT_PER_FLUSH {
                self.flush(now);
            }
        }
        self.batch = batch;
        self.flush(now);
        self.set_timer(now);
    }

    fn handle_time(&mut self, now: Timestamp) {
        if self.broker.poll_timeout().is_some_and(|at| at <= now) {
            self.broker.handle_timeout(now);
        }
        if self.host.poll_timeout().is_some_and(|at| at <= now) {
            self.host.handle_timeout(&mut self.broker, now);
        }
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.batch.extend((0..self.listeners.len()).map(Source::Listener));
        }
        while let Some((at, id)) = self.closing.front().copied() {
            if at > now {
                break;
            }
            self.closing.pop_front();
            self.drop_connection(now, id);
        }
    }

    fn set_timer(&mut self, now: Timestamp) {
        let deadlines = [
            self.broker.poll_timeout(),
            self.host.poll_timeout(),
            self.accept_again_at,
            self.stop_at,
            self.closing.front().map(|(at, _)| *at),
        ];
        let idle = now.saturating_add(IDLE);
        let at = deadlines.into_iter().flatten().min().unwrap_or(idle).min(idle);
        self.is_due = at <= now;
        // A timer that fires too early costs one empty turn; moving it back each turn costs every turn.
        if self.is_due || at >= self.timer_at {
            return;
        }
        let Some(instant) = self.clock.instant(at) else { return };
        self.timer.as_mut().reset(instant.into());
        self.timer_at = at;
        if self.timer.as_mut().poll(&mut Context::from_waker(&self.timer_waker)).is_ready() {
            self.timer_at = Timestamp::MAX;
            self.is_due = true;
        }
    }

    fn accept(&mut self, now: Timestamp, index: usize) {
        if self.accept_again_at.is_some() {
            return;
        }
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(index) else { return };
            match listener.accept() {
                Accepted::Nothing => return,
                Accepted::Stream(stream, address) => {
                    self.is_exhausted = false;
                    self.open(now, stream, address);
                }
                Accepted::Failed(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
                Accepted::Exhausted(error) => {
                    if !mem::replace(&mut self.is_exhausted, true) {
                        let connections = self.open_connections;
                        tracing::warn!(%error, connections, "no connection can be accepted; trying again and again");
                    }
                    self.accept_again_at = Some(now.saturating_add(self.settings.accept_pause));
                    return;
                }
            }
        }
        self.again.push(Source::Listener(index));
    }

    fn open(&mut self, now: Timestamp, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "the connection was gone before it was opened");
            return;
        }
        let id = match self.broker.handle_connection(now, Peer::at(address)) {
            Ok(id) => id,
            Err(_refused) => {
                tracing::debug!(%address, "refused: too many connections");
                return;
            }
        };
        let source = Source::Connection(id);
        let connection = Connection::new(id, stream, self.ready.waker(source));
        if self.connections.len() <= index(id) {
            self.connections.resize_with(index(id) + 1, || None);
        }
        if let Some(slot) = self.connections.get_mut(index(id)) {
            *slot = Some(connection);
            self.open_connections += 1;
        }
        self.serve(now, id);
    }

    /// The socket is ready for something.
    fn serve(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if connection.is_blocked && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(id);
        }
        match connection.phase {
            Phase::Open => self.receive(now, id),
            Phase::Paused | Phase::Closing => {}
            Phase::Lingering => self.discard(now, id),
        }
    }

    fn receive(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        match connection.receive(&mut self.buffer) {
            Received::Nothing => {}
            Received::Ended => self.drop_connection(now, id),
            Received::Bytes { len, more } => {
                if more {
                    self.again.push(Source::Connection(id));
                }
                self.unflushed += len;
                let Some(input) = self.buffer.get(..len) else { return };
                let intake = self.broker.handle_input(now, id, input);
                keep(connection, intake, input);
            }
            Received::Part { len, more } => {
                if more {
                    self.again.push(Source::Connection(id));
                }
                self.unflushed += len;
                self.broker.handle_progress(now, id);
            }
            Received::Frame { frame } => {
                self.again.push(Source::Connection(id));
                self.unflushed += frame.len();
                self.handle_frame(now, id, &frame);
            }
        }
    }

    fn handle_frame(&mut self, now: Timestamp, id: ConnectionId, bytes: &Bytes) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        let intake = match Frame::new(bytes.clone(), &FrameLimits::default()) {
            Ok(frame) => self.broker.handle_frame(now, id, &frame),
            // The core named the length from the same bytes; should they not be one frame after all, it says what is wrong with them.
            Err(_) => self.broker.handle_input(now, id, bytes),
        };
        keep(connection, intake, bytes);
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
            if intake.paused {
                connection.phase = Phase::Paused;
            }
            kept.advance(intake.consumed.min(kept.len()));
            connection.put_back(kept, intake.wanted);
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
                if let Some(answer) = self.host.answer(&question) {
                    self.broker.handle_answer(now, id, answer);
                }
            }
            Output::Deliver { local, delivery } => self.host.deliver(&mut self.broker, now, local, &delivery),
            Output::Event(event) => self.report(&event),
            // One broker alone has nobody to tell.
            Output::Interest { .. } | Output::Forward { .. } => {}
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
            if written == 0 {
                return;
            }
            self.broker.handle_transmitted(now, id, written);
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
        let Some(connection) = connection(&mut self.connections, id) else { return };
        if self.broker.transmit_len(id) == 0 && self.stop_at.is_none() {
            return self.drop_connection(now, id);
        }
        connection.phase = Phase::Closing;
        connection.take_kept();
        self.closing.push_back((now.saturating_add(self.settings.close_limit), id));
        self.mark_dirty(id);
    }

    fn linger(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        connection.phase = Phase::Lingering;
        if connection.shut().is_err() {
            return self.drop_connection(now, id);
        }
        self.discard(now, id);
    }

    fn discard(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        match connection.discard(&mut self.buffer) {
            Received::Bytes { more: true, .. } => self.again.push(Source::Connection(id)),
            Received::Bytes { .. } | Received::Nothing => {}
            Received::Ended | Received::Part { .. } | Received::Frame { .. } => self.drop_connection(now, id),
        }
    }

    fn drop_connection(&mut self, now: Timestamp, id: ConnectionId) {
        if connection(&mut self.connections, id).is_none() {
            return;
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

fn keep(connection: &mut Connection, intake: Intake, input: &[u8]) {
    if intake.paused {
        connection.phase = Phase::Paused;
    }
    connection.keep(input.get(intake.consumed..).unwrap_or_default(), intake.wanted);
}
