//! Stored messages on their way out: for the first time, or again. [MQTT-4.4]

use alloc::vec::Vec;

use damselfly_codec::{Delivery, PacketType, QoS, SubscriptionId};
use damselfly_session::{SendAction, SendInput, SendState, Timestamp};

use crate::{
    Broker, ConnectionId, DropReason, LocalId,
    acks::Pumped,
    connections::Gate,
    deliver::{Fate, Outgoing, Terms},
    sessions::{Queued, SessionKey, Sink},
    write::delivery,
};

impl Broker {
    /// Whether the sink of a session takes a QoS 1 or 2 message that was not sent yet. Exchanges of earlier connections
    /// that miss their PUBCOMP have no place in the window, but an identifier each: without a free one a message waits.
    pub(crate) fn sink_has_room(&self, key: SessionKey, sink: Sink) -> bool {
        let Some(session) = self.sessions.get(key).filter(|session| !session.outbound.ids.is_exhausted()) else {
            return false;
        };
        match sink {
            Sink::Offline => false,
            Sink::Connection(connection) => {
                session.outbound.inflight_bytes < self.config.max_inflight_bytes && self.may_send(connection)
            }
            Sink::Local => session.local_window.as_ref().is_some_and(|window| !window.is_full()),
        }
    }

    /// Whether the sink of a session takes a QoS 0 message that waits in its queue.
    pub(crate) fn sink_takes_qos0(&self, sink: Sink) -> bool {
        match sink {
            Sink::Offline => false,
            Sink::Connection(id) => {
                let limit = crate::slab::index(self.config.max_transmit_bytes);
                self.connections.get(id).is_some_and(|connection| connection.waiting_bytes < limit)
            }
            Sink::Local => true,
        }
    }

    /// Sends a message from the queue for the first time. One that expired meanwhile is dropped. [MQTT-3.3.2-5]
    pub(crate) fn send_stored(&mut self, now: Timestamp, key: SessionKey, queued: Queued) {
        let Some(message) = self.messages.get(&queued.message).cloned() else { return };
        if message.is_expired(now) {
            self.discard(queued);
            self.note_drop(Some(key.slot), message.topic(), DropReason::Expired);
            return;
        }
        let mut single: Option<SubscriptionId> = None;
        let ids: Vec<SubscriptionId> = self.messages.ids(&queued.ids, &mut single).into();
        let mut out = Outgoing::of_message(&message, now);
        out.is_single = true;
        let terms = Terms { qos: queued.qos, retain: queued.retain, ids: &ids, group: queued.group };
        let fate = match self.sessions.get(key).map(|session| session.sink) {
            Some(Sink::Connection(connection)) if queued.qos == QoS::AtMostOnce => {
                self.discard(queued);
                match self.write(&mut out, connection, Delivery::AtMostOnce, terms) {
                    Ok(()) => Fate::Accepted,
                    Err(reason) => Fate::Dropped(reason),
                }
            }
            Some(Sink::Local) if queued.qos == QoS::AtMostOnce => {
                self.discard(queued);
                self.hand_over(LocalId(key), message.clone(), terms, None);
                Fate::Accepted
            }
            Some(Sink::Connection(connection)) => self.send_queued(&mut out, key.slot, connection, queued, &ids),
            Some(Sink::Local) => self.send_locally(key, queued, message.clone(), terms),
            Some(Sink::Offline) | None => {
                self.discard(queued);
                Fate::Nobody
            }
        };
        self.finish(out);
        if let Fate::Dropped(reason) = fate {
            self.note_drop(Some(key.slot), message.topic(), reason);
        }
    }

    /// Every PUBREL without its PUBCOMP goes out again: it needs no place in the window, so no PUBLISH that waits for one
    /// holds it up. [MQTT-4.4.0-1] [MQTT-3.3.4-10]
    pub(crate) fn resend_pubrels(&mut self, now: Timestamp, id: ConnectionId, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        let is_released = |state| SendState::next(Some(state), SendInput::Reconnect).action == SendAction::ResendPubrel;
        let inflight = session.outbound.inflight.iter();
        let released: Vec<_> = inflight.filter(|sent| is_released(sent.state)).map(|sent| sent.id).collect();
        for packet_id in released {
            self.push_ack(id, PacketType::Pubrel, packet_id, Gate::Open);
        }
        self.release_acks(now, id);
    }

    /// A PUBLISH that was sent on an earlier connection and is not done goes out again, in its order and within the window.
    /// [MQTT-4.4.0-1] [MQTT-3.3.4-9]
    pub(crate) fn resend_one(&mut self, now: Timestamp, id: ConnectionId, key: SessionKey) -> Pumped {
        let has_room = self.may_send(id);
        let Some(session) = self.sessions.get_mut(key) else { return Pumped::Blocked };
        let outbound = &mut session.outbound;
        let at = outbound.inflight.len() - outbound.to_resend.min(outbound.inflight.len());
        let Some(inflight) = outbound.inflight.get(at) else {
            outbound.to_resend = 0;
            return Pumped::Sent;
        };
        match SendState::next(Some(inflight.state), SendInput::Reconnect).action {
            SendAction::ResendPublish if !has_room => return Pumped::Blocked,
            SendAction::ResendPublish => self.resend_publish(now, id, key, at),
            // Sent before all this: see `resend_pubrels`.
            SendAction::ResendPubrel
            | SendAction::Done
            | SendAction::SendPubrel
            | SendAction::SendPubrelNotFound
            | SendAction::Ignore
            | SendAction::Close(_) => outbound.to_resend -= 1,
        }
        Pumped::Sent
    }

    /// Sends a message in flight again, with DUP and its identifier. [MQTT-3.3.1-1]
    fn resend_publish(&mut self, now: Timestamp, id: ConnectionId, key: SessionKey, at: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.outbound.to_resend -= 1;
        let Some(inflight) = session.outbound.inflight.get_mut(at) else { return };
        inflight.has_slot = true;
        let Some(queued) = &inflight.queued else { return };
        let Some(message) = self.messages.get(&queued.message).cloned() else { return };
        let (packet_id, qos, retain, group) = (inflight.id, queued.qos, queued.retain, queued.group);
        let mut single: Option<SubscriptionId> = None;
        let ids: Vec<SubscriptionId> = self.messages.ids(&queued.ids, &mut single).into();
        let mut out = Outgoing::of_message(&message, now);
        out.is_single = true;
        // What was sent does not expire any more: the other side may have it. The least that is not "expired". [MQTT-4.3.3-7]
        if message.expires_at().is_some() && out.expiry.is_none() {
            out.expiry = Some(1);
        }
        let terms = Terms { qos, retain, ids: &ids, group };
        let written = self.write(&mut out, id, delivery(qos, packet_id, true), terms);
        self.finish(out);
        match written {
            Ok(()) => {
                if let Some(connection) = self.connections.get_mut(id) {
                    let _has_slot = connection.window.take();
                }
            }
            Err(reason) => {
                // The limit of this connection is lower than the last one's: it counts as delivered. [MQTT-3.1.2-25]
                self.note_drop(Some(key.slot), message.topic(), reason);
                let Some(session) = self.sessions.get_mut(key) else { return };
                session.outbound.ids.release(packet_id);
                if let Some(queued) = session.outbound.inflight.remove(at).and_then(|gone| gone.queued) {
                    let max_inflight_bytes = self.config.max_inflight_bytes;
                    session.outbound.inflight_bytes -= self.messages.weight_in_flight(&queued, max_inflight_bytes);
                    self.discard(queued);
                }
            }
        }
    }
}
