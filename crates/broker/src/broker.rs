//! The one value: inputs, outputs, time.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::fmt;

use damselfly_codec::{DecodeError, PublishTemplate, ReasonCode, Version};
use damselfly_session::{BufferPool, BufferPoolLimits, Deadlines, Message, PeerError, Timestamp};
use damselfly_topic::KeyedState;

use crate::{
    Answer, CommitId, Config, ConfigError, ConnectionId, Counters, Event, Memory, Output, Peer, ProblemInformation,
    QuestionId, Why,
    budget::{Arrivals, Standing},
    close::AfterCommit,
    connections::{Connection, Connections, Pause},
    gate::{CommitGate, Release},
    held::HeldBack,
    lookup::Lookups,
    messages::Messages,
    questions::Questions,
    retained::RetainedStore,
    route::{Index, PackedOptions, ReceiverKey, Route},
    sessions::{SessionKey, Sessions},
    shards::Shards,
    share::ShareGroups,
    slab::index,
};

/// A whole MQTT broker without sockets, threads, clock or randomness.
///
/// Bytes, time and answers go in by `handle_*`, everything else comes out by [`Broker::poll_output`], in order. Every
/// call is legal in every state, and any number of inputs may come before the next poll. A connection or question that
/// is gone is no error: what names it does nothing.
///
/// ```
/// use damselfly_broker::{Answer, Broker, Config, Output, Peer, Timestamp};
///
/// let mut broker = Broker::new(Config::default(), 42)?;
/// let now = Timestamp::from_secs(1);
/// let connection = broker.handle_connection(now, Peer::default())?;
/// // CONNECT of MQTT 3.1.1: clean session, keep alive 60 s, client id "a".
/// let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
/// let intake = broker.handle_input(now, connection, connect);
/// assert_eq!(intake.consumed, connect.len());
///
/// let mut sent = Vec::new();
/// while let Some(output) = broker.poll_output() {
///     match output {
///         Output::Ask { id, .. } => broker.handle_answer(now, id, Answer::allow()),
///         Output::Commit(id) => broker.handle_committed(now, id),
///         Output::Transmit(connection) => {
///             let mut chunks = [&[][..]; 8];
///             let count = broker.transmit(connection, &mut chunks);
///             sent.extend(chunks[..count].concat());
///             broker.handle_transmitted(now, connection, sent.len());
///         }
///         Output::Close(connection) => broker.handle_connection_lost(now, connection),
///         Output::Resume(_) | Output::Deliver { .. } | Output::Event(_) => {}
///         Output::Interest { .. } | Output::Forward { .. } => {}
///     }
/// }
/// assert_eq!(sent, b"\x20\x02\x00\x00", "CONNACK, accepted");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Broker {
    pub(crate) config: Config,
    pub(crate) connections: Connections,
    pub(crate) sessions: Sessions,
    pub(crate) index: Index,
    pub(crate) groups: ShareGroups,
    pub(crate) retained: RetainedStore,
    pub(crate) messages: Messages,
    pub(crate) shards: Shards,
    pub(crate) gate: CommitGate,
    pub(crate) questions: Questions,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) deadlines: Deadlines<Timer>,
    /// Sessions that may send more at once, but not within the call that found out.
    pub(crate) work: VecDeque<SessionKey>,
    /// Sessions that ended and still have subscriptions in the index.
    pub(crate) ended: VecDeque<SessionKey>,
    pub(crate) held_back: HeldBack,
    /// Sessions with held messages that may go on, but not within the call that found out.
    pub(crate) postponed: VecDeque<SessionKey>,
    /// Connections left unread until the next call.
    pub(crate) resting: VecDeque<ConnectionId>,
    pub(crate) lookups: Lookups,
    /// What the next call for what is left begins with.
    next_turn: Turn,
    /// Steps of this call so far, see [`Config::steps_per_call`].
    pub(crate) steps: usize,
    /// Bytes of messages that wait for an answer, a commit or room.
    pub(crate) held_bytes: usize,
    /// Connected sessions whose queue is full.
    pub(crate) full_sessions: usize,
    pub(crate) after_commit: AfterCommit,
    pub(crate) pool: BufferPool,
    /// Bytes in the transmit buffers of all connections.
    pub(crate) waiting_bytes: usize,
    /// Connections, sessions, wills, subscriptions and unfinished packets in the memory budget.
    pub(crate) standing: Standing,
    pub(crate) arrivals: Arrivals,
    pub(crate) keys: KeyedState,
    pub(crate) counters: Counters,
    pub(crate) scratch: Scratch,
    /// CONNECTs so far.
    pub(crate) attempts: u64,
    /// Client Identifiers assigned so far.
    pub(crate) assigned: u64,
    pub(crate) is_shutting_down: bool,
}

/// Says how much is in it, not what: clients' data belong in no log.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("connections", &self.connections.len())
            .field("sessions", &self.sessions.len())
            .field("subscriptions", &self.index.len())
            .field("retained", &self.retained.len())
            .field("messages", &self.messages.len())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What each message needs for a moment, kept so that it is not allocated again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) matches: Vec<(ReceiverKey, PackedOptions)>,
    pub(crate) route: Route,
    /// By wire class and QoS.
    pub(crate) templates: [PublishTemplate; 6],
    pub(crate) replayed: Vec<Message>,
}

/// What a deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Time to CONNECT, keep alive, pause.
    Connection(ConnectionId),
    /// A will with a delay, the end of an offline session.
    Session(SessionKey),
    /// A question without an answer.
    Question(QuestionId),
    /// The retained message that expires first.
    Retained,
    /// Whatever waits for room.
    Room,
}

/// Kinds of work that [`Broker::handle_timeout`] does, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    #[default]
    Lookups,
    Postponed,
    AfterCommit,
    Work,
    Timers,
}

impl Turn {
    const ALL: [Self; 5] = [Self::Lookups, Self::Postponed, Self::AfterCommit, Self::Work, Self::Timers];

    const fn next(self) -> Self {
        match self {
            Self::Lookups => Self::Postponed,
            Self::Postponed => Self::AfterCommit,
            Self::AfterCommit => Self::Work,
            Self::Work => Self::Timers,
            Self::Timers => Self::Lookups,
        }
    }
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Malformed(DecodeError),
    Peer(PeerError),
    /// Answered with this code, ours to choose.
    Refuse(ReasonCode),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

impl From<PeerError> for Fault {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

/// The connection limit is reached, memory is used up, or the broker is shutting down: close the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no more connections: {limit} are open, the memory budget is used up, or the broker is shutting down")]
pub struct Refused {
    /// The limit.
    pub limit: u32,
}

/// Retained messages, queue entries and cleanups done in one go before others get a turn.
pub(crate) const WORK_PER_CALL: usize = 4_096;

impl Broker {
    /// A broker without connections. Equal seeds and equal inputs give equal outputs; a seed that nobody can guess keeps
    /// peers from choosing colliding names.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let levels = usize::from(config.max_topic_levels);
        Ok(Self {
            connections: Connections::new(),
            sessions: Sessions::new(seed),
            index: Index::new(seed).with_max_levels(levels),
            groups: ShareGroups::new(seed),
            retained: RetainedStore::new(seed),
            messages: Messages::new(),
            shards: Shards::new(seed, levels),
            gate: CommitGate::new(),
            questions: Questions::new(),
            outputs: VecDeque::new(),
            deadlines: Deadlines::new(),
            work: VecDeque::new(),
            ended: VecDeque::new(),
            held_back: HeldBack::default(),
            postponed: VecDeque::new(),
            resting: VecDeque::new(),
            lookups: Lookups::default(),
            next_turn: Turn::default(),
            steps: 0,
            held_bytes: 0,
            full_sessions: 0,
            after_commit: AfterCommit::default(),
            pool: BufferPool::new(BufferPoolLimits::default()),
            waiting_bytes: 0,
            standing: Standing::new(config.max_memory),
            arrivals: Arrivals::default(),
            keys: KeyedState::new(seed.rotate_left(32)),
            counters: Counters::default(),
            scratch: Scratch::default(),
            attempts: 0,
            assigned: 0,
            is_shutting_down: false,
            config,
        })
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// A Network Connection was established. [MQTT-4.2]
    pub fn handle_connection(&mut self, now: Timestamp, peer: Peer) -> Result<ConnectionId, Refused> {
        let limit = self.config.max_connections;
        if self.is_shutting_down || u32::try_from(self.connections.len()).is_ok_and(|open| open >= limit) {
            self.counters.connections_refused += 1;
            return Err(Refused { limit });
        }
        if !self.may_stand(Memory::PER_CONNECTION) {
            self.counters.connections_refused += 1;
            self.look_for_room_soon(now);
            return Err(Refused { limit });
        }
        self.standing.add(Memory::PER_CONNECTION);
        let id = self.connections.insert(Connection::new(peer, now));
        self.deadlines.arm(Timer::Connection(id), now.saturating_add(self.config.connect_timeout));
        Ok(id)
    }

    /// The transport ended, or was closed by the adapter. May be said twice.
    pub fn handle_connection_lost(&mut self, now: Timestamp, connection: ConnectionId) {
        self.end_connection(now, connection, Why::ConnectionLost);
        if let Some(mut gone) = self.connections.remove(connection) {
            self.waiting_bytes -= gone.waiting_bytes;
            gone.transmit.clear(&mut self.pool);
            self.standing.remove(Memory::PER_CONNECTION);
        }
        self.deadlines.disarm(Timer::Connection(connection));
        self.close_group();
    }

    /// Everything up to `commit` is durable.
    pub fn handle_committed(&mut self, now: Timestamp, commit: CommitId) {
        while let Some(mut releases) = self.gate.commit(commit) {
            for release in releases.drain(..) {
                match release {
                    Release::Connack(connection) => self.open_connection(now, connection),
                    Release::Acks(connection) => self.release_acks(now, connection),
                    Release::Held(session) => self.release_held(now, session),
                    Release::AfterCommit => self.release_after_commit(now),
                }
            }
            self.gate.recycle(releases);
        }
        self.close_group();
    }

    /// When [`Broker::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.has_work() { Some(Timestamp::ZERO) } else { self.deadlines.next() }
    }

    /// Whether an earlier call left something for a later one.
    fn has_work(&self) -> bool {
        !(self.work.is_empty()
            && self.ended.is_empty()
            && self.resting.is_empty()
            && self.postponed.is_empty()
            && self.lookups.is_empty())
            || self.has_committed()
    }

    /// Does what is due, and some of what earlier calls left.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for _ in 0..self.resting.len().min(WORK_PER_CALL) {
            let Some(id) = self.resting.pop_front() else { break };
            if self.connections.get(id).is_some_and(|connection| connection.pause == Some(Pause::Steps)) {
                self.resume(now, id);
            }
        }
        self.bury();
        self.serve_in_turn(now);
        self.close_group();
    }

    /// Each kind of work, until this call has taken its steps. The next call then begins behind the kind that took the
    /// last of them: none is put off without end by more and more of another.
    fn serve_in_turn(&mut self, now: Timestamp) {
        let begin = core::mem::take(&mut self.next_turn);
        let after = Turn::ALL.into_iter().filter(|turn| *turn >= begin);
        let before = Turn::ALL.into_iter().filter(|turn| *turn < begin);
        for turn in after.chain(before) {
            match turn {
                Turn::Lookups => self.serve_lookups(now),
                Turn::Postponed => self.serve_postponed(now),
                Turn::AfterCommit => self.release_after_commit(now),
                Turn::Work => self.serve_work(now),
                Turn::Timers => self.serve_timers(now),
            }
            if self.is_tired() {
                self.next_turn = turn.next();
                return;
            }
        }
    }

    fn serve_work(&mut self, now: Timestamp) {
        for _ in 0..self.work.len().min(WORK_PER_CALL) {
            if self.is_tired() {
                break;
            }
            if let Some(session) = self.work.pop_front() {
                self.pump(now, session);
            }
        }
    }

    fn serve_timers(&mut self, now: Timestamp) {
        for _ in 0..WORK_PER_CALL {
            if self.is_tired() {
                break;
            }
            let Some(timer) = self.deadlines.pop_due(now) else { break };
            match timer {
                Timer::Connection(connection) => self.check_connection(now, connection),
                Timer::Session(session) => self.check_session(now, session),
                Timer::Question(question) => {
                    self.answer(now, question, Answer::Deny(ReasonCode::NotAuthorized), ProblemInformation::new());
                }
                Timer::Retained => self.expire_retained(now),
                Timer::Room => self.look_for_room(now),
            }
        }
    }

    /// What happened since the last call, one at a time, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Fills `chunks` with the bytes that wait for a connection, in order; how many chunks were filled.
    pub fn transmit<'a>(&'a self, connection: ConnectionId, chunks: &mut [&'a [u8]]) -> usize {
        self.connections.get(connection).map_or(0, |connection| connection.transmit.chunks(chunks))
    }

    /// Bytes that wait for a connection.
    pub fn transmit_len(&self, connection: ConnectionId) -> usize {
        self.connections.get(connection).map_or(0, |connection| connection.transmit.len())
    }

    /// The transport took `n` bytes of [`Broker::transmit`].
    pub fn handle_transmitted(&mut self, now: Timestamp, id: ConnectionId, n: usize) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.transmit.advance(n, &mut self.pool);
        let waiting = connection.transmit.len();
        self.waiting_bytes -= connection.waiting_bytes - waiting;
        connection.waiting_bytes = waiting;
        if connection.transmit.is_empty() {
            connection.is_dirty = false;
        }
        let (session, is_open) = (connection.session, connection.is_open());
        if connection.pause == Some(Pause::Unread) {
            connection.keep_alive.received(now);
            if waiting <= index(self.config.max_transmit_bytes) {
                self.resume(now, id);
            }
        }
        if is_open && self.sessions.get(session).is_some_and(|s| s.outbound.has_more() || s.is_parked) {
            self.pump(now, session);
            self.count_steps();
        }
    }

    /// The end of a call.
    #[inline]
    pub(crate) fn close_group(&mut self) {
        self.count_steps();
        if self.gate.is_building() {
            self.commit_group();
        }
    }

    #[inline(never)]
    fn commit_group(&mut self) {
        if let Some(commit) = self.gate.close() {
            self.outputs.push_back(Output::Commit(commit));
        }
    }

    #[inline]
    fn count_steps(&mut self) {
        self.counters.most_steps = self.counters.most_steps.max(self.steps);
        self.steps = 0;
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Counts the bytes a connection has got and says once that it has some.
    #[inline]
    pub(crate) fn mark_dirty(
        outputs: &mut VecDeque<Output>,
        waiting_bytes: &mut usize,
        id: ConnectionId,
        connection: &mut Connection,
    ) {
        let waiting = connection.transmit.len();
        *waiting_bytes += waiting - connection.waiting_bytes;
        connection.waiting_bytes = waiting;
        if !connection.is_dirty {
            connection.is_dirty = true;
            outputs.push_back(Output::Transmit(id));
        }
    }

    /// Leaves a client unread. Keep alive stands still meanwhile, because the silence is ours.
    pub(crate) fn pause(&mut self, now: Timestamp, id: ConnectionId, pause: Pause) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.pause = Some(pause);
            connection.stop_clocks(now);
        }
    }

    /// Reads a client again. It may have had no deadline meanwhile.
    pub(crate) fn resume(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.pause.take().is_none() {
            return;
        }
        connection.start_clocks(now);
        self.outputs.push_back(Output::Resume(id));
        if let Some(deadline) = connection.deadline().filter(|_| connection.is_open()) {
            self.deadlines.arm(Timer::Connection(id), deadline);
        }
    }
}

const _: () = {
    const fn assert_send<T: Send>() {}
    assert_send::<Broker>();
};

/// The generation of the protocol as an index of what differs by it.
#[inline]
pub(crate) const fn wire_class(version: Version) -> usize {
    match version {
        Version::V3_1 | Version::V3_1_1 => 0,
        Version::V5_0 => 1,
    }
}

/// A text with an owner.
pub(crate) fn owned(text: &str) -> Box<str> {
    text.into()
}
