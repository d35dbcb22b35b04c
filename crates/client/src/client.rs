//! The client core: one session over many connections.

use alloc::{boxed::Box, collections::VecDeque};
use core::num::NonZeroU16;

use damselfly_codec::{Connect, Foreign, FrameLimits, PublishTemplate, ReasonCode, Version, Will as CodecWill};
use damselfly_session::{
    BufferPool, InboundAliases, MessagePool, PacketIds, PeerError, ReceiveWindow, Role, SessionExpiry, Timestamp,
};

use crate::{
    Acknowledgement, CleanStart, Config, ConnectParameters, ConnectionEnd, Event, InboundMessage, IndeterminateReason,
    NeedTransport, Operation, Outcome, Output, ServerLimits, Ticket, TransportLost, UsageError,
    backoff::Random,
    calls::Calls,
    closing::Closing,
    connect::connect_properties,
    connection::{Authentication, Connection, Phase},
    in_flight::InFlight,
    inbound::Inbound,
    outbox::Outbox,
    queue::Queue,
    requests::Requests,
};

/// What [`Client::handle_input`] did with the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what was not consumed has to be handed in again"]
pub struct Intake {
    /// Bytes consumed, whole packets only: the driver keeps the rest and hands it in again with what follows.
    pub consumed: usize,
    /// Length of the next packet in bytes, if it is known and not complete; otherwise 0.
    pub wanted: usize,
    /// Stop reading until [`Output::Resume`], then hand in the rest again.
    pub paused: bool,
}

/// One MQTT client: one session over many connections.
///
/// Bytes, time and requests go in by methods; what is to be done comes out of [`poll_output`](Self::poll_output).
/// Every method may be called at any time, any number of them before the next poll.
#[derive(Debug)]
pub struct Client {
    pub(crate) config: Config,
    pub(crate) frame_limits: FrameLimits,
    pub(crate) random: Random,
    outputs: VecDeque<Output>,
    pub(crate) pool: BufferPool,
    /// Where a PUBLISH is put together; it keeps its memory.
    pub(crate) template: PublishTemplate,
    pub(crate) messages: MessagePool,
    pub(crate) connection: Option<Box<Connection>>,
    /// Of the last attempt to connect; 1 is the first of all.
    attempt: u32,
    server_reference: Option<Box<str>>,
    pub(crate) closing: Option<Closing>,
    pub(crate) last_ticket: u64,
    pub(crate) queue: Queue,
    /// A publish was refused because the queue was full, and nobody was told since that there is room.
    pub(crate) is_room_awaited: bool,
    pub(crate) session: Session,
    pub(crate) pause: Pause,
    /// `None`: nothing outlives the process.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// `None` until the first request for a response.
    pub(crate) calls: Option<Box<Calls>>,
}

/// What outlives a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Box<str>,
    pub(crate) ids: PacketIds,
    pub(crate) in_flight: InFlight,
    pub(crate) requests: Requests,
    pub(crate) inbound: Inbound,
    /// The broker has it, or had it when the last connection ended, until then; `None` if there is none.
    pub(crate) exists_until: Option<Timestamp>,
}

/// Whether input is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    /// The application asked for it.
    by_application: bool,
    /// Received messages that wait in `outputs`, or for their commit to get there.
    waiting_messages: usize,
    /// The memory they hold.
    waiting_bytes: usize,
    /// The driver was told to stop reading.
    pub(crate) is_told: bool,
    /// The driver was told to go on; the timers were not, because nobody has said what time it is.
    is_resuming: bool,
}

impl Pause {
    pub(crate) fn add(&mut self, inbound: &InboundMessage) {
        self.waiting_messages += 1;
        self.waiting_bytes = self.waiting_bytes.saturating_add(inbound.heap_bytes());
    }

    fn remove(&mut self, inbound: &InboundMessage) {
        self.waiting_messages -= 1;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(inbound.heap_bytes());
    }
}

impl Client {
    /// A client that wants to connect. The seed drives the jitter of its waits and keys its hashing: make it random.
    ///
    /// With an [outbox](Config::outbox) it begins with an empty store; [`Client::restore`] goes on with one that may hold
    /// something.
    pub fn new(config: Config, seed: u64) -> Self {
        let outbox = config.outbox.map(|limits| Box::new(Outbox::new(limits)));
        let mut client = Self::without_journal(config, seed);
        if outbox.is_some() {
            client.outbox = outbox;
            client.record(Operation::Tickets { last: Ticket(0) });
        }
        client
    }

    pub(crate) fn without_journal(config: Config, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let session = Session {
            client_id: config.client_id.clone(),
            ids: PacketIds::new(),
            in_flight: InFlight::new(random.next()),
            requests: Requests::default(),
            inbound: Inbound::new(match config.version {
                Version::V5_0 => config.receive_maximum,
                Version::V3_1 | Version::V3_1_1 => NonZeroU16::MAX,
            }),
            exists_until: config.adopt_session.then_some(Timestamp::MAX),
        };
        let first = NeedTransport { attempt: 1, not_before: Timestamp::ZERO, server_reference: None };
        Self {
            frame_limits: FrameLimits { max_packet_size: config.maximum_packet_size },
            random,
            outputs: VecDeque::from([Output::NeedTransport(first)]),
            pool: BufferPool::default(),
            template: PublishTemplate::default(),
            messages: MessagePool::default(),
            connection: None,
            attempt: 1,
            server_reference: None,
            closing: None,
            last_ticket: 0,
            queue: Queue::new(config.queue),
            is_room_awaited: false,
            session,
            pause: Pause::default(),
            outbox: None,
            calls: None,
            config,
        }
    }

    /// What the driver has to do next; `None` when there is nothing until the next input or deadline.
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        let Some(output) = self.outputs.pop_front() else { return self.poll_commit() };
        match &output {
            Output::Event(Event::Message(inbound)) => self.note_taken(inbound),
            Output::Event(Event::Completed { outcome: Outcome::Response(inbound), .. }) => self.note_taken(inbound),
            _ => {}
        }
        Some(output)
    }

    /// Here and not after each call: all that was asked for since the last time shares one commit.
    fn poll_commit(&mut self) -> Option<Output> {
        self.outbox.as_mut()?.close_group().map(Output::Commit)
    }

    fn note_taken(&mut self, inbound: &InboundMessage) {
        self.pause.remove(inbound);
        self.resume_if_possible();
    }

    /// When [`Client::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let connection = self.connection.as_ref().and_then(|connection| match connection.phase {
            Phase::AwaitConnack { deadline } => Some(deadline),
            Phase::Open => connection.ping.deadline(),
            Phase::Closing(_) => None,
        });
        let (closing, queue) = match self.closing {
            Some(Closing { is_done: true, .. }) => (None, None),
            closing => (closing.map(|closing| closing.deadline), self.queue.next_deadline()),
        };
        let calls = self.calls.as_ref().and_then(|calls| calls.next_deadline());
        earlier(earlier(connection, closing), earlier(queue, calls))
    }

    /// A deadline passed. Early or late calls are harmless.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.note_resumed(now);
        self.expire(now);
        let Some(connection) = &mut self.connection else { return self.go_on_closing(now) };
        match connection.phase {
            Phase::AwaitConnack { deadline } if deadline <= now => self.end(ConnectionEnd::ConnectTimeout),
            Phase::Open if connection.ping.give_up_at().is_some_and(|at| at <= now) => {
                self.end(ConnectionEnd::PingTimeout);
            }
            Phase::Open if connection.ping.pingreq_at().is_some_and(|at| at <= now) => self.send_pingreq(now),
            Phase::AwaitConnack { .. } | Phase::Open | Phase::Closing(_) => {}
        }
        self.go_on_closing(now);
    }

    /// The transport is up, as [`Output::NeedTransport`] asked: CONNECT is sent with these parameters. A connection
    /// that was not reported as lost counts as lost now.
    pub fn handle_transport_up(&mut self, now: Timestamp, parameters: &ConnectParameters) {
        if self.connection.is_some() {
            self.forget_connection(now);
        }
        if self.closing.is_some_and(|closing| closing.is_done) {
            return self.say(Output::Close);
        }
        let clean_start = self.clean_start(now);
        if clean_start {
            self.end_stored_session(now);
        }
        let config = &self.config;
        let mut server = self.asked_limits();
        server.session_expiry =
            SessionExpiry::from_connect(config.version, clean_start, Some(server.session_expiry.to_wire()));
        // Before 5.0 nothing is announced, so nothing binds the broker.
        let receive_maximum = if config.version == Version::V5_0 { config.receive_maximum } else { NonZeroU16::MAX };
        let alias_maximum = if config.version == Version::V5_0 { config.topic_alias_maximum } else { 0 };
        let mut connection = Box::new(Connection::new(
            now,
            Phase::AwaitConnack { deadline: now.saturating_add(config.connect_timeout) },
            clean_start,
            server,
            ReceiveWindow::new(receive_maximum),
            InboundAliases::new(alias_maximum, config.max_alias_bytes),
        ));
        if let Some(method) = parameters.properties.as_properties().authentication_method() {
            connection.authentication_method = Some(method.into());
            connection.authentication = Authentication::AwaitServer;
        }
        self.connection = Some(connection);
        if let Err(error) = self.send_connect(clean_start, parameters) {
            self.end(ConnectionEnd::BadParameters(error));
        }
    }

    /// The transport is gone, or could not be opened. After [`Output::Close`] `why` does not matter: the core knows why.
    pub fn handle_transport_lost(&mut self, now: Timestamp, why: TransportLost) {
        let end = match self.connection.as_deref() {
            Some(Connection { phase: Phase::Closing(end), .. }) => end.clone(),
            _ => why.into(),
        };
        let was_stable = self.connection.as_deref().is_some_and(|connection| {
            let since = connection.open_since();
            since.is_some_and(|since| now.saturating_since(since) >= self.config.backoff.stable_after)
        });
        self.forget_connection(now);
        if self.closing.is_some_and(|closing| closing.is_done) {
            return;
        }
        let was_requested = end == ConnectionEnd::Requested;
        self.say_event(Event::Disconnected(end));
        self.expire(now);
        if self.closing.is_some() {
            self.go_on_closing(now);
            if self.closing.is_some_and(|closing| closing.is_done) {
                return;
            }
        }
        self.attempt = match (was_requested, was_stable) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => self.attempt.saturating_add(1),
        };
        let not_before = self.config.backoff.not_before(self.attempt, now, &mut self.random);
        let server_reference = self.server_reference.take();
        self.say(Output::NeedTransport(NeedTransport { attempt: self.attempt, not_before, server_reference }));
    }

    /// The bytes that are ready to be written, in order: fills `out` and tells how many slices that is.
    pub fn transmit<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        if self.is_held() {
            return 0;
        }
        self.connection.as_ref().map_or(0, |connection| connection.chunks(out))
    }

    /// The transport took `bytes` of [`Client::transmit`].
    pub fn handle_transmitted(&mut self, now: Timestamp, bytes: usize) {
        let Some(connection) = &mut self.connection else { return };
        connection.advance(now, bytes, &mut self.pool);
        while let Some(ticket) = self.connection.as_mut().and_then(|connection| connection.next_flushed()) {
            self.complete(ticket, Outcome::Transmitted);
        }
        self.pump(now);
        self.go_on_closing(now);
    }

    /// Takes no more input until [`Client::resume`]: for an application that cannot follow. PINGREQ is still sent, and
    /// the wait for its answer stands still.
    pub fn pause(&mut self, now: Timestamp) {
        self.pause.by_application = true;
        if let Some(connection) = &mut self.connection {
            connection.ping.pause(now);
        }
    }

    /// Takes input again.
    pub fn resume(&mut self, now: Timestamp) {
        self.pause.by_application = false;
        self.resume_if_possible();
        self.note_resumed(now);
    }

    /// Is the connection open: accepted by CONNACK, and not closing?
    pub fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_open())
    }

    /// What the broker of the open connection allows.
    pub fn server_limits(&self) -> Option<&ServerLimits> {
        self.connection.as_ref().filter(|connection| connection.is_open()).map(|connection| &connection.server)
    }

    /// Requests and messages that have no outcome yet.
    pub fn unfinished(&self) -> Unfinished {
        Unfinished {
            queued: self.queue.len(),
            queued_bytes: self.queue.bytes(),
            in_flight: self.session.in_flight.len(),
            requests: self.session.requests.len(),
        }
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closing.is_some()
    }

    pub(crate) fn say(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn say_event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// The ticket that [`Client::next_ticket`] gives.
    pub(crate) const fn peek_ticket(&self) -> Ticket {
        Ticket(self.last_ticket + 1)
    }

    pub(crate) const fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Whether no more is taken. What comes up to CONNACK is no message, and left unread it would end the attempt.
    pub(crate) fn is_input_paused(&self) -> bool {
        let is_wanted = self.pause.by_application
            || self.pause.waiting_messages >= self.config.max_waiting_messages.max(1)
            || self.pause.waiting_bytes >= self.config.max_waiting_bytes.max(1);
        is_wanted && self.is_connected()
    }

    pub(crate) const fn acknowledges(&self) -> bool {
        matches!(self.config.acknowledgement, Acknowledgement::Automatic)
    }

    /// Tells the driver to go on, not at the first free place but at half of them.
    fn resume_if_possible(&mut self) {
        let is_low = self.pause.waiting_messages <= self.config.max_waiting_messages / 2
            && self.pause.waiting_bytes <= self.config.max_waiting_bytes / 2;
        if self.pause.by_application || !is_low {
            return;
        }
        self.pause.is_resuming = true;
        if core::mem::take(&mut self.pause.is_told) {
            self.say(Output::Resume);
        }
    }

    /// Lets the timers run again.
    pub(crate) fn note_resumed(&mut self, now: Timestamp) {
        if core::mem::take(&mut self.pause.is_resuming) {
            if let Some(connection) = &mut self.connection {
                connection.ping.resume(now);
            }
        }
    }

    /// Says DISCONNECT with a Reason Code if there is one to say, and asks the driver to close.
    pub(crate) fn end(&mut self, end: ConnectionEnd) {
        let reason_code = match &end {
            ConnectionEnd::Requested => Some(ReasonCode::Success),
            ConnectionEnd::PeerError { reason_code, .. } => Some(*reason_code),
            ConnectionEnd::NotRead => Some(ReasonCode::QuotaExceeded),
            ConnectionEnd::Transport(_)
            | ConnectionEnd::PingTimeout
            | ConnectionEnd::Refused { .. }
            | ConnectionEnd::ByServer { .. }
            | ConnectionEnd::ConnectTimeout
            | ConnectionEnd::BadParameters(_) => None,
        };
        if let ConnectionEnd::Refused { server_reference, .. } | ConnectionEnd::ByServer { server_reference, .. } = &end
        {
            self.server_reference.clone_from(server_reference);
        }
        if let Some(reason_code) = reason_code {
            self.send_disconnect(reason_code);
        }
        let Some(connection) = &mut self.connection else { return };
        if !connection.is_closing() {
            connection.close(end);
            self.say(Output::Close);
        }
    }

    /// The broker broke a rule.
    pub(crate) fn end_for(&mut self, error: PeerError) {
        let statement = error.statement(self.config.version, Role::Broker);
        self.end(ConnectionEnd::PeerError { reason_code: error.reason_code(), statement });
    }

    /// Has the broker a session of ours, as far as we know?
    pub(crate) fn session_exists(&self, now: Timestamp) -> bool {
        self.session.exists_until.is_some_and(|until| now <= until)
    }

    /// What holds until CONNACK says otherwise.
    pub(crate) fn asked_limits(&self) -> ServerLimits {
        let session_expiry =
            if self.can_be_found_again() { self.config.session_expiry } else { SessionExpiry::OnClose };
        ServerLimits::unlimited(self.config.version, self.config.keep_alive, session_expiry)
    }

    /// Before 5.0 a broker that makes up the Client Identifier does not say which, so that session cannot last.
    fn can_be_found_again(&self) -> bool {
        self.config.version == Version::V5_0 || !self.session.client_id.is_empty()
    }

    fn clean_start(&self, now: Timestamp) -> bool {
        // [MQTT3-3.1.3-7]
        let is_persistent = self.config.session_expiry.outlives_connection() && self.can_be_found_again();
        match (self.config.version, self.config.clean_start) {
            (_, CleanStart::Always) => true,
            // Clean Session also ends the session with the connection, so it can only be asked for where that is meant.
            (Version::V3_1 | Version::V3_1_1, _) => !is_persistent,
            (Version::V5_0, CleanStart::Never) => false,
            (Version::V5_0, CleanStart::First) => !self.session_exists(now),
        }
    }

    fn send_connect(&mut self, clean_start: bool, parameters: &ConnectParameters) -> Result<(), UsageError> {
        let properties = connect_properties(&self.config, parameters).map_err(|_| UsageError::NotEncodable)?;
        let version = self.config.version;
        let will = parameters.will.as_ref().map(|will| CodecWill {
            qos: will.qos,
            retain: will.retain,
            topic: will.topic.as_name(),
            payload: &will.payload,
            properties: will.properties.as_properties(),
        });
        let client_id = self.session.client_id.clone();
        let connect = Connect {
            version,
            clean_start,
            keep_alive: self.config.keep_alive,
            client_id: &client_id,
            will,
            user_name: parameters.user_name.as_deref(),
            password: parameters.password.as_deref(),
            properties: properties.as_properties(),
        };
        self.append(|_, out| connect.encode(Foreign::Reject, out))
    }

    /// Everything of the connection is void; what is left of the session stays.
    fn forget_connection(&mut self, now: Timestamp) {
        let Some(mut connection) = self.connection.take() else { return };
        while let Some(ticket) = connection.next_lost() {
            self.complete(ticket, Outcome::Indeterminate(IndeterminateReason::ConnectionLost));
        }
        connection.free(&mut self.pool);
        self.session.in_flight.forget_slots();
        self.session.inbound.connection_lost();
        if let Some(outbox) = &mut self.outbox {
            outbox.connection_lost();
        }
        let ids = &mut self.session.ids;
        self.session.requests.connection_lost(|packet_id| {
            ids.release(packet_id);
        });
        if connection.open_since().is_some() {
            let until = match connection.server.session_expiry {
                SessionExpiry::OnClose => None,
                expiry => Some(expiry.deadline(now).unwrap_or(Timestamp::MAX)),
            };
            self.session.exists_until = until;
            self.record_session_until(false, until);
        }
        self.pause.is_told = false;
    }

    fn expire(&mut self, now: Timestamp) {
        if self.closing.is_some_and(|closing| closing.is_done) {
            return;
        }
        while let Some(ticket) = self.queue.pop_expired(now) {
            self.complete(ticket, Outcome::Expired);
        }
        self.expire_calls(now);
        self.tell_room();
    }

    /// Tells who was refused that there is room.
    pub(crate) fn tell_room(&mut self) {
        let has_room = self.queue.has_room() && self.outbox.as_ref().is_none_or(|outbox| outbox.has_room());
        if self.is_room_awaited && has_room {
            self.is_room_awaited = false;
            self.say_event(Event::QueueHasRoom);
        }
    }
}

/// Requests and messages that have no outcome yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Messages in the offline queue.
    pub queued: usize,
    /// What they hold, in bytes.
    pub queued_bytes: usize,
    /// QoS 1 and 2 messages that were sent and not finished.
    pub in_flight: usize,
    /// Subscribe and unsubscribe requests without their answer.
    pub requests: usize,
}

/// The earlier of two points in time, either of which may not be.
fn earlier(first: Option<Timestamp>, second: Option<Timestamp>) -> Option<Timestamp> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (first, second) => first.or(second),
    }
}
