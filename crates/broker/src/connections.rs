//! Network Connections: what ends with the transport, quotas and aliases among it.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use core::{num::NonZeroU16, time::Duration};

use damselfly_codec::{PacketId, PacketType, ReasonCode, Version};
use damselfly_session::{
    InboundAliases, KeepAlive, OutboundAliases, ReceiveWindow, SessionExpiry, StoredWill, Timestamp, TransmitBuffer,
    Window,
};

use crate::{
    CommitId, ConnectionId, Peer, ProblemInformation, QuestionId,
    route::RouteCache,
    sessions::{Replay, SessionKey},
    slab::Slab,
    waiting::WaitingFilters,
};

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) stage: Stage,
    pub(crate) version: Version,
    /// The session, once the stage is [`Stage::Open`].
    pub(crate) session: SessionKey,
    pub(crate) transmit: TransmitBuffer,
    /// How many bytes of it the broker's memory budget knows of.
    pub(crate) waiting_bytes: usize,
    /// [`Output::Transmit`](crate::Output::Transmit) was said and the buffer was not drained since.
    pub(crate) is_dirty: bool,
    /// Reading waits; see [`Pause`].
    pub(crate) pause: Option<Pause>,
    /// Our send quota. [MQTT-4.9]
    pub(crate) window: Window,
    /// The client's send quota towards us.
    pub(crate) inbound: ReceiveWindow,
    /// The client's Maximum Packet Size, from its CONNECT on.
    pub(crate) max_packet_size: u32,
    /// The largest packet of another client that it may get as it came: none where something is to be added, or where it
    /// would overtake another.
    pub(crate) largest_as_it_came: u32,
    /// Topic Filters about which questions are open, and what waits behind them.
    pub(crate) waiting: Option<Box<WaitingFilters>>,
    /// The answer to a SUBSCRIBE or UNSUBSCRIBE of which some Topic Filters were handled: the rest comes again.
    pub(crate) begun: Option<Box<LongAnswer>>,
    /// Bytes of an unfinished packet that the adapter keeps.
    pub(crate) arriving: usize,
    pub(crate) keep_alive: KeepAlive,
    /// Request Problem Information. [MQTT-3.1.2-29]
    pub(crate) wants_problem_information: bool,
    /// CONNECT asked for a session that ends with the connection: DISCONNECT may not make it last. [MQTT-3.14.2.2.2]
    pub(crate) asked_to_end: bool,
    /// The Authentication Method of CONNECT. [MQTT-4.12.0-5]
    pub(crate) authentication_method: Option<Box<str>>,
    pub(crate) inbound_aliases: Option<Box<InboundAliases>>,
    pub(crate) outbound_aliases: Option<Box<OutboundAliases>>,
    pub(crate) route_cache: Option<Box<RouteCache>>,
    /// Acknowledgements that wait for a commit or an answer, in the order of arrival.
    pub(crate) acks: VecDeque<PendingAck>,
    /// Counts the CONNECTs of this broker: the later of two wins.
    pub(crate) attempt: u64,
}

/// How far a connection came.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Nothing but CONNECT may come.
    AwaitConnect,
    /// The answer to a question about this CONNECT is awaited.
    Asking(Box<PendingConnect>, QuestionId),
    /// Enhanced authentication: AUTH or DISCONNECT may come.
    Authenticating(Box<PendingConnect>),
    /// Accepted; CONNACK waits for the commit of the session.
    Accepted(Box<PendingConnect>),
    /// CONNACK was sent.
    Open,
    /// A re-authentication goes on, and so does everything else. [MQTT-4.12.1]
    Reauthenticating(Reauthentication),
    /// Output::Close was said: nothing that comes is looked at.
    Closing,
}

/// How far a re-authentication came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reauthentication {
    /// The answer to a question is awaited.
    Asked(QuestionId),
    /// The client's next AUTH is awaited, until then.
    Awaited(Timestamp),
    /// So it is, but we do not read it: the time that is left.
    Unread(Duration),
}

/// Why a connection is left unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// A question about it is open, or its CONNACK waits.
    Question,
    /// Too many messages of its wait for answers, commits or room, or too many acknowledgements for what they say.
    Held,
    /// A message of its is looked up over several calls.
    Lookup,
    /// The call has taken its steps.
    Steps,
    /// It does not take what it is sent, so it is not asked for what needs an answer.
    Unread,
    /// There is no memory for more of its unfinished packet.
    Memory,
}

/// A CONNECT, owned, until it is accepted.
#[derive(Clone, Debug)]
pub(crate) struct PendingConnect {
    pub(crate) version: Version,
    pub(crate) clean_start: bool,
    pub(crate) client_id: Box<str>,
    pub(crate) is_assigned_id: bool,
    pub(crate) keep_alive: u16,
    pub(crate) session_expiry: SessionExpiry,
    pub(crate) receive_maximum: Option<NonZeroU16>,
    pub(crate) topic_alias_maximum: u16,
    pub(crate) authentication_method: Option<Box<str>>,
    pub(crate) will: Option<StoredWill>,
    /// Filled in at acceptance.
    pub(crate) session_present: bool,
    pub(crate) session: Option<SessionKey>,
    pub(crate) authentication_data: Option<Box<[u8]>>,
    pub(crate) information: ProblemInformation,
    /// Bytes of the open question about it, which the embedding program keeps until it answers.
    pub(crate) asked_bytes: usize,
}

/// One acknowledgement of ours that has not left yet.
#[derive(Debug)]
pub(crate) struct PendingAck {
    pub(crate) packet_type: PacketType,
    pub(crate) packet_id: PacketId,
    pub(crate) gate: Gate,
    pub(crate) reason_code: ReasonCode,
    /// What SUBACK and UNSUBACK have beyond it, and a PUBACK or PUBREC that says more than its code.
    pub(crate) answer: Option<Box<LongAnswer>>,
}

impl PendingAck {
    /// What it has beyond its code, if that is the answer of this number and waits for codes.
    pub(crate) fn answer_that_waits(&mut self, number: u64) -> Option<&mut LongAnswer> {
        self.answer.as_deref_mut().filter(|answer| answer.waits_as(number))
    }

    /// Whether it ends an exchange of the client's, whose place in its window is free then.
    #[inline]
    pub(crate) const fn is_final(&self) -> bool {
        match self.packet_type {
            PacketType::Puback => true,
            PacketType::Pubrec => self.reason_code.is_error(),
            PacketType::Pubcomp => !self.reason_code.is_error(),
            _ => false,
        }
    }
}

/// The Reason Codes of SUBACK and UNSUBACK, what begins once they are out, and what the embedding program says of it.
#[derive(Debug, Default)]
pub(crate) struct LongAnswer {
    /// Which of the connection's that wait.
    pub(crate) number: u64,
    pub(crate) reason_codes: Vec<ReasonCode>,
    /// Filters whose code is not known yet: they are among [`WaitingFilters`].
    pub(crate) waiting: usize,
    pub(crate) replays: Vec<Replay>,
    pub(crate) information: ProblemInformation,
}

impl LongAnswer {
    /// Whether it is the one of this number and waits for codes.
    pub(crate) const fn waits_as(&self, number: u64) -> bool {
        self.waiting > 0 && self.number == number
    }

    /// The code of one filter that waited.
    pub(crate) fn settle(&mut self, place: usize, code: ReasonCode, replays: Vec<Replay>) {
        if let Some(slot) = self.reason_codes.get_mut(place) {
            *slot = code;
        }
        self.replays.extend(replays);
        self.waiting -= 1;
    }
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// For its message to be decided.
    Decision,
    /// For the commit that makes it true.
    Commit(CommitId),
    /// For nothing but earlier ones of its type.
    Open,
}

impl Connection {
    pub(crate) fn new(peer: Peer, now: Timestamp) -> Self {
        Self {
            peer,
            stage: Stage::AwaitConnect,
            version: Version::V3_1_1,
            session: SessionKey { slot: u32::MAX, generation: 0 },
            transmit: TransmitBuffer::new(),
            waiting_bytes: 0,
            is_dirty: false,
            pause: None,
            window: Window::new(NonZeroU16::MAX),
            inbound: ReceiveWindow::new(NonZeroU16::MAX),
            max_packet_size: u32::MAX,
            largest_as_it_came: 0,
            waiting: None,
            begun: None,
            arriving: 0,
            keep_alive: KeepAlive::new(0, now),
            wants_problem_information: true,
            asked_to_end: true,
            authentication_method: None,
            inbound_aliases: None,
            outbound_aliases: None,
            route_cache: None,
            acks: VecDeque::new(),
            attempt: 0,
        }
    }

    /// The answers to SUBSCRIBE and UNSUBSCRIBE that have not left yet.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &LongAnswer> {
        self.acks.iter().filter_map(|ack| ack.answer.as_deref()).chain(self.begun.as_deref())
    }

    pub(crate) fn answers_mut(&mut self) -> impl Iterator<Item = &mut LongAnswer> {
        self.acks.iter_mut().filter_map(|ack| ack.answer.as_deref_mut()).chain(self.begun.as_deref_mut())
    }

    /// SUBSCRIBE filters that wait for a decision, and their bytes.
    pub(crate) fn waiting_subscribes(&self) -> (usize, usize) {
        self.waiting.as_ref().map_or((0, 0), |waiting| (waiting.subscribes(), waiting.bytes()))
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Reauthenticating(_))
    }

    pub(crate) fn take_as_it_came(&mut self) {
        self.largest_as_it_came = if self.outbound_aliases.is_none() { self.max_packet_size } else { 0 };
    }

    pub(crate) const fn take_nothing_as_it_came(&mut self) {
        self.largest_as_it_came = 0;
    }

    /// When an open connection ends without another packet.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        let next_auth = match self.stage {
            Stage::Reauthenticating(Reauthentication::Awaited(until)) => Some(until),
            _ => None,
        };
        [self.keep_alive.deadline(), next_auth].into_iter().flatten().min()
    }

    /// We stop reading: the silence is ours.
    pub(crate) fn stop_clocks(&mut self, now: Timestamp) {
        self.keep_alive.pause(now);
        if let Stage::Reauthenticating(Reauthentication::Awaited(until)) = self.stage {
            self.stage = Stage::Reauthenticating(Reauthentication::Unread(until.saturating_since(now)));
        }
    }

    /// We read again.
    pub(crate) fn start_clocks(&mut self, now: Timestamp) {
        self.keep_alive.resume(now);
        if let Stage::Reauthenticating(Reauthentication::Unread(left)) = self.stage {
            self.stage = Stage::Reauthenticating(Reauthentication::Awaited(now.saturating_add(left)));
        }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5_0
    }

    /// Whether the window and the transmit buffer have room for a QoS 1 or 2 message.
    #[inline]
    pub(crate) fn may_send(&self, max_transmit_bytes: u32) -> bool {
        !self.window.is_full() && self.waiting_bytes < crate::slab::index(max_transmit_bytes)
    }

    /// An acknowledgement of a message joins those that wait.
    #[inline]
    pub(crate) fn push_ack(
        &mut self,
        packet_type: PacketType,
        packet_id: PacketId,
        gate: Gate,
        reason_code: ReasonCode,
    ) {
        self.acks.push_back(PendingAck { packet_type, packet_id, gate, reason_code, answer: None });
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Connections(Slab<Connection>);

impl Connections {
    pub(crate) const fn new() -> Self {
        Self(Slab::new())
    }

    pub(crate) fn insert(&mut self, connection: Connection) -> ConnectionId {
        let (slot, generation) = self.0.insert(connection);
        ConnectionId { slot, generation }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        self.0.remove(id.slot)
    }

    #[inline]
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.0.get_checked(id.slot, id.generation)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.0.get_checked_mut(id.slot, id.generation)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.0.iter().filter_map(|(slot, connection)| {
            Some((ConnectionId { slot, generation: self.0.generation(slot)? }, connection))
        })
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}
