//! Messages from clients that may not have their effect yet: they wait for an answer, a commit or room, each topic in
//! order.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
};

use damselfly_codec::{PacketId, PacketType, QoS, ReasonCode};
use damselfly_session::{Message, Timestamp};

use crate::{
    Broker, ConnectionId, DropReason, ProblemInformation, QuestionId,
    access::Permission,
    connections::{Gate, LongAnswer, Pause, PendingAck},
    gate::Release,
    lookup::{LookupId, Origin},
    publish::{Inbound, Tally},
    questions::sayable_refusal,
    route::hash_topic,
    sessions::{Held, SessionKey, Wait},
};

/// Publishers with messages that found no room, each once.
pub(crate) type HeldBack = VecDeque<SessionKey>;

/// What a held message counts for against the memory budget.
pub(crate) fn held_weight(message: &Message) -> usize {
    size_of::<Held>() + message.heap_bytes()
}

impl Broker {
    /// Messages of one client that may be held, and answers that may wait for them or for commits, before it is left
    /// unread.
    #[inline]
    pub(crate) fn held_limit(&self) -> usize {
        usize::from(self.config.receive_maximum) + HELD_SLACK
    }

    /// Sets a message aside. Too many of them, and the client is not read until some are gone.
    pub(crate) fn hold(&mut self, now: Timestamp, inbound: &Inbound<'_>, packet_id: Option<PacketId>, wait: Wait) {
        let message = inbound.message(&mut self.messages.pool, now);
        let held = Held { message, packet_id, wait, since: now };
        self.hold_at(inbound.session, usize::MAX, held);
        if wait == Wait::Room {
            self.hold_back(now, inbound.session);
        }
        if self.holds_too_much(inbound.session) {
            self.pause(now, inbound.connection, Pause::Held);
        }
    }

    /// A session has a message that waits for room.
    fn hold_back(&mut self, now: Timestamp, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !core::mem::replace(&mut session.is_held_back, true) {
            self.look_for_room_soon(now);
            self.held_back.push_back(key);
        }
    }

    /// Sets a message aside whose lookup takes more than one call. Its client is left unread until it has ended.
    #[cold]
    pub(crate) fn hold_for_lookup(&mut self, now: Timestamp, inbound: &Inbound<'_>) {
        let packet_id = inbound.publish.delivery.packet_id();
        if packet_id.is_none() && self.has_no_memory() {
            self.note_drop(Some(inbound.session.slot), inbound.topic, DropReason::Memory);
            return;
        }
        let message = inbound.message(&mut self.messages.pool, now);
        let held = Held { message, packet_id, wait: Wait::Nothing, since: now };
        self.hold_lookup(now, inbound.session, usize::MAX, held);
    }

    /// Begins the lookup of a message that stays among the held ones until that has ended.
    fn hold_lookup(&mut self, now: Timestamp, key: SessionKey, at: usize, held: Held) {
        let is_durable = held.is_durable();
        let id = self.begin_lookup(held.message.clone(), Some(key), Origin::Here);
        self.hold_at(key, at, Held { wait: Wait::Lookup { id, is_durable }, ..held });
        let Some(connection) = self.connection_of(key) else { return };
        if self.connections.get(connection).is_some_and(|open| open.pause.is_none()) {
            self.pause(now, connection, Pause::Lookup);
        }
    }

    /// Routes what a session publishes of its own, or has it wait behind what it published to the topic before.
    pub(crate) fn route_behind_held(&mut self, now: Timestamp, key: SessionKey, message: Message) -> Option<Tally> {
        let waits = self.waits_behind(key, message.topic());
        if !waits {
            let tally = self.route_at_once(now, &message, Some(key.slot));
            if tally.is_some() {
                return tally;
            }
        }
        let held = Held { message, packet_id: None, wait: Wait::Nothing, since: now };
        if waits {
            self.hold_at(key, usize::MAX, held);
        } else {
            self.hold_lookup(now, key, usize::MAX, held);
        }
        None
    }

    fn hold_at(&mut self, key: SessionKey, at: usize, held: Held) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let weight = held_weight(&held.message);
        session.held.insert(at.min(session.held.len()), held);
        session.held_bytes += weight;
        self.held_bytes += weight;
    }

    /// The message of a lookup has gone to all its receivers.
    pub(crate) fn lookup_ended(&mut self, now: Timestamp, key: SessionKey, id: LookupId, tally: Tally) {
        let is_it = |held: &Held| matches!(held.wait, Wait::Lookup { id: of, .. } if of == id);
        let Some(at) = self.sessions.get(key).and_then(|session| session.held.iter().position(is_it)) else { return };
        let Some(held) = self.unhold(key, at) else { return };
        let mut ack_at = 0;
        self.decide(now, key, &held, tally, &mut ack_at);
        if let Some(connection) = self.connection_of(key).filter(|_| ack_at > 0) {
            self.release_acks(now, connection);
        }
        self.release_held(now, key);
    }

    fn holds_too_much(&self, key: SessionKey) -> bool {
        let limit = self.held_limit();
        let Some(session) = self.sessions.get(key) else { return false };
        let answers = session.owner.and_then(|id| self.connections.get(id)).map_or(0, |open| open.acks.len());
        session.held.len() >= limit || answers >= limit || (session.held_bytes >= HELD_BYTES && self.has_no_memory())
    }

    /// Takes one out of the held messages of a session.
    fn unhold(&mut self, key: SessionKey, at: usize) -> Option<Held> {
        let session = self.sessions.get_mut(key)?;
        let held = session.held.remove(at)?;
        let weight = held_weight(&held.message);
        session.held_bytes -= weight;
        self.held_bytes -= weight;
        Some(held)
    }

    /// Goes on with what a session's client published, as far as nothing is before it.
    pub(crate) fn release_held(&mut self, now: Timestamp, key: SessionKey) {
        // Topics of messages that stay. Two with the same hash only wait for each other.
        let mut blocked = BTreeSet::new();
        let mut asked_for_room = 0;
        let mut at = 0;
        // Messages and their acknowledgements came in the same order.
        let mut ack_at = 0;
        while let Some(held) = self.sessions.get(key).and_then(|session| session.held.get(at)) {
            let wait = held.wait;
            let topic = hash_topic(&self.keys, held.message.topic());
            let is_free =
                !blocked.contains(&topic) && self.is_free(wait) && !self.lacks_room(now, key, at, &mut asked_for_room);
            if !is_free {
                blocked.insert(topic);
                at += 1;
                continue;
            }
            if self.is_tired() {
                self.postpone(key);
                break;
            }
            let Some(held) = self.unhold(key, at) else { break };
            if let Some(tally) = self.route_held(now, &held.message, key, topic) {
                self.decide(now, key, &held, tally, &mut ack_at);
            } else {
                // The next round finds it waiting.
                self.hold_lookup(now, key, at, held);
            }
        }
        if let Some(connection) = self.connection_of(key).filter(|_| ack_at > 0) {
            self.release_acks(now, connection);
        }
        self.resume_held(now, key);
    }

    /// Whether the message at a place finds no room, where it has to ask for that. `asked` counts those that found none.
    fn lacks_room(&mut self, now: Timestamp, key: SessionKey, at: usize, asked: &mut usize) -> bool {
        if !self.may_lack_room() {
            return false;
        }
        let Some(held) = self.sessions.get(key).and_then(|session| session.held.get(at)) else { return false };
        let must_wait = match held.wait {
            Wait::Nothing | Wait::Answer(_) | Wait::Lookup { .. } => return false,
            Wait::Room | Wait::Commit(_) if *asked >= ROOM_QUESTIONS => true,
            Wait::Room | Wait::Commit(_) => {
                let message = held.message.clone();
                let must_wait = self.finds_no_room(now, Some(key.slot), message.topic());
                *asked += usize::from(must_wait);
                must_wait
            }
        };
        if must_wait {
            if let Some(held) = self.sessions.get_mut(key).and_then(|session| session.held.get_mut(at)) {
                held.wait = Wait::Room;
            }
            self.hold_back(now, key);
        }
        must_wait
    }

    /// Has [`Broker::release_held`] go on in a later call.
    fn postpone(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !core::mem::replace(&mut session.is_postponed, true) {
            self.postponed.push_back(key);
        }
    }

    /// Goes on with what earlier calls had no steps left for.
    pub(crate) fn serve_postponed(&mut self, now: Timestamp) {
        for _ in 0..self.postponed.len() {
            if self.is_tired() {
                return;
            }
            let Some(key) = self.postponed.pop_front() else { return };
            if let Some(session) = self.sessions.get_mut(key) {
                session.is_postponed = false;
                self.release_held(now, key);
            }
        }
    }

    /// Whether nothing is awaited but room.
    fn is_free(&self, wait: Wait) -> bool {
        match wait {
            Wait::Nothing | Wait::Room => true,
            Wait::Commit(commit) => self.gate.is_committed(commit),
            Wait::Answer(_) | Wait::Lookup { .. } => false,
        }
    }

    /// A held message had its effect: its acknowledgement may leave, once that is durable.
    fn decide(&mut self, now: Timestamp, key: SessionKey, held: &Held, tally: Tally, ack_at: &mut usize) {
        let Some(packet_id) = held.packet_id else { return };
        let Some(connection) = self.connection_of(key) else {
            // Who got it must not get it again. [MQTT-4.3.3-10]
            if tally.accepted == 0 && tally.lacked_room() {
                self.forget_untold(key, held);
            }
            return;
        };
        let reason_code = match self.sayable(connection, self.puback_code(connection, tally)) {
            Ok(reason_code) => reason_code,
            Err(error) => {
                self.fail(now, connection, error.into());
                return;
            }
        };
        // The identifier and the message of a QoS 2 exchange were one record.
        let gate = if held.is_durable() { Gate::Open } else { self.after_this_call(connection) };
        *ack_at = self.decide_ack(key, (connection, packet_id), (gate, reason_code), *ack_at);
    }

    /// A message is dropped of which its client was told nothing: it will publish it again, as a new one. [MQTT-4.4.0-1]
    fn forget_untold(&mut self, key: SessionKey, held: &Held) {
        if let (Some(packet_id), QoS::ExactlyOnce) = (held.packet_id, held.message.qos()) {
            self.forget_received(key, packet_id);
        }
    }

    /// What an acknowledgement waits for that this call makes true.
    fn after_this_call(&mut self, connection: ConnectionId) -> Gate {
        Gate::Commit(self.gate.record(Some(Release::Acks(connection))))
    }

    /// Decides the acknowledgement of a held message, which is likely to be at the place `from` or not far behind.
    /// Answers with the place behind it; the caller has acknowledgements released that wait for nothing.
    fn decide_ack(
        &mut self,
        key: SessionKey,
        (connection, packet_id): (ConnectionId, PacketId),
        (gate, reason_code): (Gate, ReasonCode),
        from: usize,
    ) -> usize {
        let Some(open) = self.connections.get_mut(connection) else { return from };
        let is_it = |ack: &PendingAck| awaits_decision(ack, packet_id);
        let from = from.min(open.acks.len());
        let behind = open.acks.range(from..).position(is_it).map(|at| from + at);
        let Some(at) = behind.or_else(|| open.acks.range(..from).position(is_it)) else { return from };
        let Some(ack) = open.acks.get_mut(at) else { return from };
        ack.gate = gate;
        ack.reason_code = reason_code;
        if ack.packet_type == PacketType::Pubrec && reason_code.is_error() {
            self.forget_received(key, packet_id);
        }
        at + 1
    }

    /// What the embedding program has to say goes with the acknowledgement of the message it was asked about.
    fn say_more(&mut self, id: ConnectionId, packet_id: Option<PacketId>, information: ProblemInformation) {
        let (Some(packet_id), Some(connection)) = (packet_id, self.connections.get_mut(id)) else { return };
        if let Some(ack) = connection.acks.iter_mut().find(|ack| awaits_decision(ack, packet_id)) {
            ack.answer = Some(Box::new(LongAnswer { information, ..LongAnswer::default() }));
        }
    }

    pub(crate) fn resume_held(&mut self, now: Timestamp, key: SessionKey) {
        let Some(connection) = self.connection_of(key) else { return };
        let waits = match self.connections.get(connection).and_then(|open| open.pause) {
            Some(Pause::Held) => self.holds_too_much(key),
            Some(Pause::Lookup) => self
                .sessions
                .get(key)
                .is_some_and(|session| session.held.iter().any(|held| matches!(held.wait, Wait::Lookup { .. }))),
            Some(Pause::Question | Pause::Unread | Pause::Steps | Pause::Memory) | None => return,
        };
        if !waits {
            self.resume(now, connection);
        }
    }

    /// An answer about one held message came in.
    pub(crate) fn answer_publish(
        &mut self,
        now: Timestamp,
        (key, question): (SessionKey, QuestionId),
        refusal: Option<ReasonCode>,
        information: ProblemInformation,
    ) {
        let connection = self.connection_of(key);
        let Some(session) = self.sessions.get(key) else { return };
        let Some(at) = session.held.iter().position(|held| held.wait == Wait::Answer(question)) else { return };
        if let (Some(connection), false) = (connection, information.is_empty()) {
            let packet_id = session.held.get(at).and_then(|held| held.packet_id);
            self.say_more(connection, packet_id, information);
        }
        let Some(session) = self.sessions.get(key) else { return };
        // The rules may be others than when it was asked.
        let topic = session.held.get(at).map(|held| held.message.topic());
        let is_denied = topic.is_some_and(|topic| self.permission(key, topic) == Permission::Deny);
        let refusal = refusal.or(is_denied.then_some(ReasonCode::NotAuthorized));
        let Some(reason_code) = refusal else {
            let held = self.sessions.get_mut(key).and_then(|session| session.held.get_mut(at));
            let Some(held) = held else { return };
            held.wait = match held.message.qos() {
                QoS::ExactlyOnce => Wait::Commit(self.gate.record(Some(Release::Held(key)))),
                _ => Wait::Nothing,
            };
            self.release_held(now, key);
            return;
        };
        let Some(held) = self.unhold(key, at) else { return };
        self.note_drop(Some(key.slot), held.message.topic(), DropReason::NotAuthorized);
        if let (Some(packet_id), Some(connection)) = (held.packet_id, connection) {
            // PUBACK and PUBREC know the same codes.
            let reason_code = self.refusal_code(connection, sayable_refusal(PacketType::Puback, reason_code));
            // 3.1.1 cannot be told: the identifier stays until PUBREL.
            let gate = self.after_this_call(connection);
            self.decide_ack(key, (connection, packet_id), (gate, reason_code), 0);
        }
        self.release_held(now, key);
    }

    /// Publishers that found no room: they go on, or their time is up and they are told.
    pub(crate) fn retry_held_back(&mut self, now: Timestamp) {
        for _ in 0..self.held_back.len().min(RETRIES) {
            if self.is_tired() {
                break;
            }
            let Some(key) = self.held_back.pop_front() else { break };
            self.release_held(now, key);
            self.give_up(now, key);
            let Some(session) = self.sessions.get_mut(key) else { continue };
            session.is_held_back = session.held.iter().any(|held| held.wait == Wait::Room);
            if session.is_held_back {
                self.held_back.push_back(key);
            }
        }
    }

    /// The messages of a session that have waited for room long enough: without memory they are refused, else everybody
    /// who has room gets them.
    fn give_up(&mut self, now: Timestamp, key: SessionKey) {
        let limit = self.config.pause_limit;
        let has_no_memory = self.has_no_memory_beside_held();
        let mut at = 0;
        let mut is_changed = false;
        while let Some(held) = self.sessions.get_mut(key).and_then(|session| session.held.get_mut(at)) {
            if held.wait != Wait::Room {
                at += 1;
                continue;
            }
            // Those behind it came later.
            if now < held.since.saturating_add(limit) {
                break;
            }
            is_changed = true;
            if !has_no_memory {
                held.wait = Wait::Nothing;
                continue;
            }
            let Some(held) = self.unhold(key, at) else { break };
            self.note_drop(Some(key.slot), held.message.topic(), DropReason::Memory);
            let told = match (held.packet_id, self.connection_of(key)) {
                (Some(packet_id), Some(connection)) => {
                    let reason_code = self.refusal_code(connection, ReasonCode::QuotaExceeded);
                    let gate = self.after_this_call(connection);
                    self.decide_ack(key, (connection, packet_id), (gate, reason_code), 0)
                }
                _ => 0,
            };
            if told == 0 {
                self.forget_untold(key, &held);
            }
        }
        if is_changed {
            self.release_held(now, key);
        }
    }
}

/// Whether it acknowledges a message that is not decided. A SUBSCRIBE under the same identifier, against the rules, is
/// decided by other answers.
fn awaits_decision(ack: &PendingAck, packet_id: PacketId) -> bool {
    ack.packet_id == packet_id
        && ack.gate == Gate::Decision
        && !matches!(ack.packet_type, PacketType::Suback | PacketType::Unsuback)
}

/// Held messages beyond the Receive Maximum before a client is left unread: QoS 0 messages count too.
const HELD_SLACK: usize = 64;

/// Bytes of held messages of one client before it is left unread, once the memory budget is used up.
const HELD_BYTES: usize = 256 * 1024;

/// Messages of one publisher that are found to have no room before the rest is taken to have none either, until the next
/// look: each takes a look at all receivers.
const ROOM_QUESTIONS: usize = 16;

/// Publishers looked after in one go.
const RETRIES: usize = 256;
