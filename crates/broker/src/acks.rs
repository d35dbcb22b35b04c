//! Acknowledgements: those of clients for our deliveries, and ours once their gate is open. [MQTT-4.3]

use alloc::vec::Vec;

use damselfly_codec::{
    Ack, AckType, Foreign, PacketId, PacketType, Properties, PropertiesBuf, QoS, ReasonCode, Suback, Unsuback, Version,
};
use damselfly_session::{ReceiveAction, ReceiveInput, SendAction, SendInput, SendState, Timestamp};

use crate::{
    Broker, ConnectionId,
    broker::Fault,
    connections::{Connection, Gate, PendingAck},
    gate::Release,
    sessions::{Entry, Inflight, Outbound, SessionKey, Sink},
};

impl Outbound {
    /// The message in flight under an identifier. Identifiers are given out in order, so it is usually where its
    /// distance from the first says.
    #[inline]
    pub(crate) fn find(&self, id: PacketId) -> Option<usize> {
        let first = self.inflight.front()?.id;
        let guess = usize::from(id.get().wrapping_sub(first.get()));
        if self.inflight.get(guess).is_some_and(|inflight| inflight.id == id) {
            return Some(guess);
        }
        self.inflight.iter().position(|inflight| inflight.id == id)
    }

    /// An exchange is over: its identifier is free.
    #[inline]
    fn complete(&mut self, at: usize) -> Option<Inflight> {
        let sent_again = self.inflight.len() - self.to_resend.min(self.inflight.len());
        let done = if at == 0 { self.inflight.pop_front() } else { self.inflight.remove(at) }?;
        if at >= sent_again {
            self.to_resend -= 1;
        }
        self.ids.release(done.id);
        Some(done)
    }
}

/// The acknowledgements of one type and four bytes that stand in a row at the front of the input.
struct ShortAcks<'a> {
    ack_type: AckType,
    rest: &'a [u8],
}

impl Iterator for ShortAcks<'_> {
    type Item = PacketId;

    #[inline]
    fn next(&mut self) -> Option<PacketId> {
        let (_, packet_id, rest) = Ack::split_short(self.rest).filter(|(ack_type, ..)| *ack_type == self.ack_type)?;
        self.rest = rest;
        Some(packet_id)
    }
}

impl Broker {
    /// Handles the short acknowledgements at the front of `input` in one go: they come in rows, and one look at
    /// connection and session serves all. Answers with the bytes they take, 0 if something else has to look at them.
    pub(crate) fn handle_short_acks(&mut self, now: Timestamp, id: ConnectionId, input: &[u8]) -> usize {
        let Some((ack_type, ..)) = Ack::split_short(input) else { return 0 };
        let held_limit = self.held_limit();
        let Some(connection) = self.connections.get(id).filter(|connection| connection.is_open()) else { return 0 };
        // What they make wait here is looked at between two rows.
        let room = held_limit.saturating_sub(connection.acks.len()).min(ACKS_IN_A_ROW);
        let mut acks = ShortAcks { ack_type, rest: input };
        let packet_ids = acks.by_ref().take(room);
        let result = match ack_type {
            AckType::Pubrel => {
                self.handle_pubrels(now, id, packet_ids);
                Ok(())
            }
            AckType::Puback | AckType::Pubrec | AckType::Pubcomp => {
                let packet_ids = packet_ids.map(|packet_id| (packet_id, ReasonCode::Success));
                self.handle_acks(now, id, ack_type.packet_type(), packet_ids)
            }
        };
        if let Err(fault) = result {
            self.fail(now, id, fault);
        }
        input.len() - acks.rest.len()
    }

    /// PUBACK, PUBREC or PUBCOMP for our deliveries.
    #[inline]
    pub(crate) fn handle_acks(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        packet_type: PacketType,
        acks: impl Iterator<Item = (PacketId, ReasonCode)>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let key = connection.session;
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        let outbound = &mut session.outbound;
        let max_inflight_bytes = self.config.max_inflight_bytes;
        let (mut is_any_done, mut is_any_unknown) = (false, false);
        for (packet_id, reason_code) in acks {
            let Some(input) = SendInput::from_ack(packet_type, reason_code) else { continue };
            let at = outbound.find(packet_id);
            let state = at.and_then(|at| outbound.inflight.get(at)).map(|inflight| inflight.state);
            let step = SendState::next(state, input);
            let taken_over = match step.action {
                SendAction::Done => {
                    let Some(done) = at.and_then(|at| outbound.complete(at)) else { continue };
                    is_any_done = true;
                    if done.has_slot {
                        connection.window.release();
                    }
                    done.queued
                }
                SendAction::SendPubrel => {
                    // "PUBREC received" is durable before PUBREL says so.
                    let gate = Gate::Commit(self.gate.record(Some(Release::Acks(id))));
                    connection.push_ack(PacketType::Pubrel, packet_id, gate, ReasonCode::Success);
                    let inflight = at.and_then(|at| outbound.inflight.get_mut(at));
                    inflight.and_then(|inflight| {
                        inflight.state = step.state.unwrap_or(inflight.state);
                        inflight.queued.take()
                    })
                }
                SendAction::SendPubrelNotFound => {
                    is_any_unknown = true;
                    let code = ReasonCode::PacketIdentifierNotFound;
                    connection.push_ack(PacketType::Pubrel, packet_id, Gate::Open, code);
                    None
                }
                SendAction::Close(error) => return Err(error.into()),
                SendAction::Ignore | SendAction::ResendPublish | SendAction::ResendPubrel => None,
            };
            if let Some(queued) = taken_over {
                if max_inflight_bytes != u64::MAX {
                    outbound.inflight_bytes -= self.messages.weight_in_flight(&queued, max_inflight_bytes);
                    is_any_done = true;
                }
                self.messages.discard(queued);
            }
        }
        let has_more = is_any_done && (outbound.has_more() || session.is_parked);
        if is_any_unknown {
            self.release_acks(now, id);
        }
        if has_more {
            self.pump(now, key);
        }
        Ok(())
    }

    /// PUBREL: the identifier is free for a new message once that is durable.
    #[inline]
    pub(crate) fn handle_pubrels(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        packet_ids: impl Iterator<Item = PacketId>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(session) = self.sessions.get_mut(connection.session) else { return };
        let mut is_any_open = false;
        for packet_id in packet_ids {
            let action = session.received.handle(connection.version, packet_id, ReceiveInput::Pubrel);
            let code = match action {
                Ok(ReceiveAction::Pubcomp(code)) => code,
                Ok(_) | Err(_) => ReasonCode::Success,
            };
            let gate = if code == ReasonCode::Success {
                Gate::Commit(self.gate.record(Some(Release::Acks(id))))
            } else {
                Gate::Open
            };
            connection.push_ack(PacketType::Pubcomp, packet_id, gate, code);
            is_any_open |= gate == Gate::Open;
        }
        if is_any_open {
            self.release_acks(now, id);
        }
    }

    /// Sends the acknowledgements of a connection whose gate is open: each type in the order of arrival.
    pub(crate) fn release_acks(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut has_more = false;
        if connection.is_open() {
            // Nearly always all of them, from the first on.
            while let Some(ack) = connection.acks.front() {
                has_more = ack.answer.is_some() || !self.gate.is_open(ack.gate);
                if has_more {
                    break;
                }
                put_short_ack(ack, connection.version, connection.transmit.tail(&mut self.pool));
                if ack.is_final() {
                    connection.inbound.answered();
                }
                connection.acks.pop_front();
            }
            if connection.transmit.len() > connection.waiting_bytes {
                Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
            }
        }
        if has_more {
            return self.release_more(now, id);
        }
        if connection.acks.is_empty() && connection.acks.capacity() > KEPT_ACKS {
            connection.acks.shrink_to(KEPT_ACKS);
        }
        if connection.pause.is_some() {
            let key = connection.session;
            self.resume_held(now, key);
        }
    }

    /// The same where one waits or is more than an acknowledgement.
    #[inline(never)]
    fn release_more(&mut self, now: Timestamp, id: ConnectionId) {
        let kept = self.release_behind(now, id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.acks.is_empty() && connection.acks.capacity() > kept {
            connection.acks.shrink_to(kept);
        }
        if connection.pause.is_some() {
            let key = connection.session;
            self.resume_held(now, key);
        }
    }

    /// Looks behind acknowledgements that wait or are more than an acknowledgement. Answers with the room to keep for
    /// later ones.
    fn release_behind(&mut self, now: Timestamp, id: ConnectionId) -> usize {
        let mut blocked = Blocked::default();
        let mut kept = KEPT_ACKS;
        let mut at = 0;
        while let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.is_open()) {
            let Some(ack) = connection.acks.get(at) else { break };
            if !self.gate.is_open(ack.gate) || blocked.has(ack.packet_type) {
                blocked.add(ack.packet_type);
                at += 1;
                continue;
            }
            let ack = if at == 0 { connection.acks.pop_front() } else { connection.acks.remove(at) };
            if let Some(ack) = ack {
                if matches!(ack.packet_type, PacketType::Suback | PacketType::Unsuback) {
                    // Most who subscribe acknowledge nothing more: an idle connection owns no buffer.
                    kept = 0;
                }
                self.send_ack(now, id, ack);
            }
        }
        kept
    }

    fn send_ack(&mut self, now: Timestamp, id: ConnectionId, ack: PendingAck) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let version = connection.version;
        let Some(properties) = ack_properties(&ack, connection) else {
            // It must not be sent, and the client cannot do without it. [MQTT-3.1.2-24]
            let key = connection.session;
            if let Some(answer) = ack.answer {
                self.forget_answer(key, *answer);
            }
            self.fail(now, id, Fault::Refuse(ReasonCode::PacketTooLarge));
            return;
        };
        put_ack(&ack, version, properties.as_properties(), connection.transmit.tail(&mut self.pool));
        if ack.is_final() {
            connection.inbound.answered();
        }
        Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
        if let Some(answer) = ack.answer {
            self.begin_replays(now, id, answer.replays);
        }
    }

    /// Sends what waits for a session, as far as its window and its connection have room.
    pub(crate) fn pump(&mut self, now: Timestamp, key: SessionKey) {
        for _ in 0..crate::broker::WORK_PER_CALL {
            self.steps += 1;
            match self.pump_one(now, key) {
                Pumped::Sent if self.is_tired() => break,
                Pumped::Sent => {}
                Pumped::Blocked => {
                    self.note_backlog(key);
                    return;
                }
            }
        }
        self.note_backlog(key);
        self.work.push_back(key);
    }

    /// Has QoS 0 messages go to the queue while they would overtake others there.
    fn note_backlog(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        let Sink::Connection(id) = session.sink else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        if session.outbound.has_qos0_before() {
            connection.take_nothing_as_it_came();
        } else {
            connection.take_as_it_came();
        }
    }

    fn pump_one(&mut self, now: Timestamp, key: SessionKey) -> Pumped {
        let Some(session) = self.sessions.get_mut(key) else { return Pumped::Blocked };
        let sink = session.sink;
        if session.outbound.to_resend > 0 {
            return match sink {
                Sink::Connection(connection) => self.resend_one(now, connection, key),
                Sink::Offline | Sink::Local => Pumped::Blocked,
            };
        }
        match session.outbound.queue.front() {
            None => {
                if session.outbound.queue.capacity() > KEPT_QUEUE {
                    session.outbound.queue.shrink_to(KEPT_QUEUE);
                }
                if session.is_parked {
                    self.unpark_if_ready(key);
                }
                return Pumped::Blocked;
            }
            Some(Entry::Replay(_)) => return self.pump_replay(now, key, sink),
            Some(Entry::Message(queued)) => {
                let is_qos0 = queued.qos == QoS::AtMostOnce;
                let has_room = if is_qos0 { self.sink_takes_qos0(sink) } else { self.sink_has_room(key, sink) };
                if !has_room {
                    return Pumped::Blocked;
                }
            }
        }
        let front = self.sessions.get_mut(key).and_then(|session| session.outbound.queue.pop_front());
        let Some(Entry::Message(queued)) = front else { return Pumped::Blocked };
        self.uncount(key.slot, &queued);
        self.send_stored(now, key, queued);
        Pumped::Sent
    }
}

/// Acknowledgements of a client handled in a row, before it is looked whether it may go on.
const ACKS_IN_A_ROW: usize = 64;
/// Acknowledgements a connection keeps room for when it has none.
const KEPT_ACKS: usize = 64;
/// Queue entries a session keeps room for when it has none.
const KEPT_QUEUE: usize = 16;

/// What one step of pumping came to.
pub(crate) enum Pumped {
    Sent,
    Blocked,
}

/// Types of acknowledgements of which one still waits.
#[derive(Default)]
struct Blocked(u16);

impl Blocked {
    const fn bit(packet_type: PacketType) -> u16 {
        match packet_type {
            PacketType::Puback => 1,
            PacketType::Pubrec => 2,
            PacketType::Pubrel => 4,
            PacketType::Pubcomp => 8,
            PacketType::Suback => 16,
            PacketType::Unsuback => 32,
            PacketType::Connect
            | PacketType::Connack
            | PacketType::Publish
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::Pingreq
            | PacketType::Pingresp
            | PacketType::Disconnect
            | PacketType::Auth => 64,
        }
    }

    const fn has(&self, packet_type: PacketType) -> bool {
        self.0 & Self::bit(packet_type) != 0
    }

    const fn add(&mut self, packet_type: PacketType) {
        self.0 |= Self::bit(packet_type);
    }
}

/// What the embedding program has to say in an acknowledgement, as far as it fits. `None`: SUBACK or UNSUBACK is beyond
/// the client's Maximum Packet Size whatever is left out. The others never are: what is too small for five bytes was too
/// small for CONNACK.
fn ack_properties(ack: &PendingAck, connection: &Connection) -> Option<PropertiesBuf> {
    let Some(answer) = &ack.answer else { return Some(PropertiesBuf::new()) };
    let (version, codes) = (connection.version, &answer.reason_codes);
    connection.answer_properties(PropertiesBuf::new(), &answer.information, |properties| {
        let plain = |ack_type| {
            let ack = Ack { properties, ..Ack::with_reason(ack.packet_id, ack.reason_code) };
            ack.encoded_len(ack_type, version, Foreign::Strip)
        };
        match ack.packet_type {
            PacketType::Puback => plain(AckType::Puback),
            PacketType::Pubrec => plain(AckType::Pubrec),
            PacketType::Unsuback => {
                Unsuback::new(ack.packet_id, properties, codes).encoded_len(version, Foreign::Strip)
            }
            _ => Suback::new(ack.packet_id, properties, codes).encoded_len(version, Foreign::Strip),
        }
    })
}

/// Appends an acknowledgement that says nothing but its code. One that has more is [`put_ack`]'s.
fn put_short_ack(ack: &PendingAck, version: Version, out: &mut Vec<u8>) {
    put_ack(ack, version, Properties::EMPTY, out);
}

/// Appends an acknowledgement. Built by us from codes that fit the packet: encoding has nothing to refuse.
#[inline(always)]
#[expect(clippy::inline_always, reason = "one of two callers has nothing but a code to say, which leaves little of it")]
fn put_ack(ack: &PendingAck, version: Version, properties: Properties<'_>, out: &mut Vec<u8>) {
    let codes = || ack.answer.as_ref().map_or(&[][..], |answer| &answer.reason_codes);
    let put = |ack_type, out: &mut Vec<u8>| {
        let ack = Ack { properties, ..Ack::with_reason(ack.packet_id, ack.reason_code) };
        ack.encode(ack_type, version, Foreign::Strip, out)
    };
    let written = match ack.packet_type {
        PacketType::Puback => put(AckType::Puback, out),
        PacketType::Pubrec => put(AckType::Pubrec, out),
        PacketType::Pubrel => put(AckType::Pubrel, out),
        PacketType::Pubcomp => put(AckType::Pubcomp, out),
        PacketType::Suback => Suback::new(ack.packet_id, properties, codes()).encode(version, Foreign::Strip, out),
        PacketType::Unsuback => Unsuback::new(ack.packet_id, properties, codes()).encode(version, Foreign::Strip, out),
        PacketType::Connect
        | PacketType::Connack
        | PacketType::Publish
        | PacketType::Subscribe
        | PacketType::Unsubscribe
        | PacketType::Pingreq
        | PacketType::Pingresp
        | PacketType::Disconnect
        | PacketType::Auth => Ok(()),
    };
    debug_assert!(written.is_ok(), "an acknowledgement of ours could not be encoded");
}
