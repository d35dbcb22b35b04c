//! Acknowledgements: those of clients for our deliveries, and ours once their gate is open. [MQTT-4.3]

use alloc::vec::Vec;

use damselfly_codec::{Ack, AckType, Foreign, PacketId, PacketType, Properties, ReasonCode, Suback, Unsuback, Version};
use damselfly_session::{ReceiveAction, ReceiveInput, SendAction, SendInput, SendState, Timestamp};

use crate::{
    Broker, ConnectionId,
    broker::Fault,
    connections::{Gate, PendingAck},
    gate::Release,
    sessions::{Entry, Outbound, SessionKey, Sink},
};

impl Outbound {
    /// The message in flight under an identifier. Identifiers are given out in order, so it is usually where its
    /// distance from the first says.
    pub(crate) fn find(&self, id: PacketId) -> Option<usize> {
        let first = self.inflight.front()?.id;
        let guess = usize::from(id.get().wrapping_sub(first.get()));
        if self.inflight.get(guess).is_some_and(|inflight| inflight.id == id) {
            return Some(guess);
        }
        self.inflight.iter().position(|inflight| inflight.id == id)
    }
}

impl Broker {
    /// PUBACK, PUBREC or PUBCOMP for one of our deliveries.
    pub(crate) fn handle_ack(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        packet_type: PacketType,
        ack: &Ack<'_>,
    ) -> Result<(), Fault> {
        let Some(key) = self.connections.get(id).map(|connection| connection.session) else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        let Some(input) = SendInput::from_ack(packet_type, ack.reason_code) else { return Ok(()) };
        let at = session.outbound.find(ack.packet_id);
        let state = at.and_then(|at| session.outbound.inflight.get(at)).map(|inflight| inflight.state);
        let step = SendState::next(state, input);
        match step.action {
            SendAction::Done => {
                if let Some(at) = at {
                    self.delivered(now, id, key, at);
                }
            }
            SendAction::SendPubrel => {
                let inflight = at.and_then(|at| session.outbound.inflight.get_mut(at));
                let taken_over = inflight.and_then(|inflight| {
                    inflight.state = step.state.unwrap_or(inflight.state);
                    inflight.queued.take()
                });
                if let Some(queued) = taken_over {
                    self.discard(queued);
                }
                // "PUBREC received" is durable before PUBREL says so.
                let commit = self.gate.record(Some(Release::Acks(id)));
                self.push_ack(id, PacketType::Pubrel, ack.packet_id, Gate::Commit(commit));
            }
            SendAction::SendPubrelNotFound => {
                let code = ReasonCode::PacketIdentifierNotFound;
                self.push_decided(id, PacketType::Pubrel, ack.packet_id, Gate::Open, code);
                self.release_acks(now, id);
            }
            SendAction::Close(error) => return Err(error.into()),
            SendAction::Ignore | SendAction::ResendPublish | SendAction::ResendPubrel => {}
        }
        Ok(())
    }

    /// An exchange is over: its identifier and its place in the window are free.
    fn delivered(&mut self, now: Timestamp, id: ConnectionId, key: SessionKey, at: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let outbound = &mut session.outbound;
        let sent_again = outbound.inflight.len() - outbound.to_resend.min(outbound.inflight.len());
        let done = if at == 0 { outbound.inflight.pop_front() } else { outbound.inflight.remove(at) };
        let Some(done) = done else { return };
        if at >= sent_again {
            outbound.to_resend -= 1;
        }
        outbound.ids.release(done.id);
        let has_more = outbound.has_more();
        if let Some(queued) = done.queued {
            self.discard(queued);
        }
        if let Some(connection) = self.connections.get_mut(id).filter(|_| done.has_slot) {
            connection.window.release();
        }
        if has_more {
            self.pump(now, key);
        }
    }

    /// PUBREL: the identifier is free for a new message once that is durable.
    pub(crate) fn handle_pubrel(&mut self, now: Timestamp, id: ConnectionId, ack: &Ack<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (key, version) = (connection.session, connection.version);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let action = session.received.handle(version, ack.packet_id, ReceiveInput::Pubrel);
        let code = match action {
            Ok(ReceiveAction::Pubcomp(code)) => code,
            Ok(_) | Err(_) => ReasonCode::Success,
        };
        let gate = if code == ReasonCode::Success {
            Gate::Commit(self.gate.record(Some(Release::Acks(id))))
        } else {
            Gate::Open
        };
        self.push_decided(id, PacketType::Pubcomp, ack.packet_id, gate, code);
        if gate == Gate::Open {
            self.release_acks(now, id);
        }
    }

    /// Sends the acknowledgements of a connection whose gate is open: each type in the order of arrival.
    pub(crate) fn release_acks(&mut self, now: Timestamp, id: ConnectionId) {
        let mut blocked = Blocked::default();
        let mut kept = KEPT_ACKS;
        let mut at = 0;
        while let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.is_open()) {
            let Some(ack) = connection.acks.get(at) else { break };
            let is_open = match ack.gate {
                Gate::Open => true,
                Gate::Commit(commit) => self.gate.is_committed(commit),
                Gate::Decision => false,
            };
            if !is_open || blocked.has(ack.packet_type) {
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
        if let Some(connection) = self.connections.get_mut(id) {
            if connection.acks.is_empty() && connection.acks.capacity() > kept {
                connection.acks.shrink_to(kept);
            }
        }
        if let Some(key) = self.connections.get(id).filter(|open| open.pause.is_some()).map(|open| open.session) {
            self.resume_held(now, key);
        }
    }

    fn send_ack(&mut self, now: Timestamp, id: ConnectionId, ack: PendingAck) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (version, packet_id) = (connection.version, ack.packet_id);
        if !fits(&ack, version, connection.max_packet_size) {
            // It must not be sent, and the client cannot do without it. [MQTT-3.1.2-24]
            let key = connection.session;
            if let Some(answer) = ack.answer {
                self.forget_answer(key, *answer);
            }
            self.fail(now, id, Fault::Refuse(ReasonCode::PacketTooLarge));
            return;
        }
        let out = connection.transmit.tail(&mut self.pool);
        // Built by us from codes that fit the packet: encoding has nothing to refuse.
        let written = match ack.packet_type {
            PacketType::Puback => put_ack(AckType::Puback, packet_id, ack.reason_code, version, out),
            PacketType::Pubrec => put_ack(AckType::Pubrec, packet_id, ack.reason_code, version, out),
            PacketType::Pubrel => put_ack(AckType::Pubrel, packet_id, ack.reason_code, version, out),
            PacketType::Pubcomp => put_ack(AckType::Pubcomp, packet_id, ack.reason_code, version, out),
            PacketType::Suback => {
                let codes = ack.answer.as_ref().map_or(&[][..], |answer| &answer.reason_codes);
                Suback::new(packet_id, Properties::EMPTY, codes).encode(version, Foreign::Strip, out).is_ok()
            }
            PacketType::Unsuback => {
                let codes = ack.answer.as_ref().map_or(&[][..], |answer| &answer.reason_codes);
                Unsuback::new(packet_id, Properties::EMPTY, codes).encode(version, Foreign::Strip, out).is_ok()
            }
            PacketType::Connect
            | PacketType::Connack
            | PacketType::Publish
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::Pingreq
            | PacketType::Pingresp
            | PacketType::Disconnect
            | PacketType::Auth => false,
        };
        debug_assert!(written, "an acknowledgement of ours could not be encoded");
        let is_final = match ack.packet_type {
            PacketType::Puback => true,
            PacketType::Pubrec => ack.reason_code.is_error(),
            PacketType::Pubcomp => !ack.reason_code.is_error(),
            _ => false,
        };
        if is_final {
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
            match self.pump_one(now, key) {
                Pumped::Sent => {}
                Pumped::Blocked => return,
            }
        }
        self.work.push_back(key);
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
                return Pumped::Blocked;
            }
            Some(Entry::Replay(_)) => return self.pump_replay(now, key, sink),
            Some(Entry::Message(_)) => {}
        }
        if !self.sink_has_room(key, sink) {
            return Pumped::Blocked;
        }
        let front = self.sessions.get_mut(key).and_then(|session| session.outbound.queue.pop_front());
        let Some(Entry::Message(queued)) = front else { return Pumped::Blocked };
        self.uncount(key.slot, &queued);
        self.send_stored(now, key, queued);
        Pumped::Sent
    }
}

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

/// Whether SUBACK or UNSUBACK is within the client's Maximum Packet Size. The others always are: what is too small for
/// five bytes was too small for CONNACK.
fn fits(ack: &PendingAck, version: Version, limit: u32) -> bool {
    let Some(answer) = &ack.answer else { return true };
    let len = match ack.packet_type {
        PacketType::Unsuback => {
            Unsuback::new(ack.packet_id, Properties::EMPTY, &answer.reason_codes).encoded_len(version, Foreign::Strip)
        }
        _ => Suback::new(ack.packet_id, Properties::EMPTY, &answer.reason_codes).encoded_len(version, Foreign::Strip),
    };
    len.is_ok_and(|len| len <= crate::slab::index(limit))
}

fn put_ack(
    ack_type: AckType,
    packet_id: PacketId,
    reason_code: ReasonCode,
    version: Version,
    out: &mut Vec<u8>,
) -> bool {
    Ack::with_reason(packet_id, reason_code).encode(ack_type, version, Foreign::Strip, out).is_ok()
}
