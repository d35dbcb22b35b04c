//! One message to one receiver: now, later or not at all.

use damselfly_codec::{Delivery, Frame, Properties, Publish, PublishFrame, QoS, SubscriptionId};
use damselfly_session::{Message, SendState, Timestamp};
use damselfly_topic::TopicName;

use crate::{
    Broker, ConnectionId, DropReason, LocalDelivery, LocalId, Output, WhenFull,
    connections::Connection,
    messages::{MessageRef, Messages},
    sessions::{Entry, Inflight, NO_GROUP, Queued, SessionKey, Sink},
    write::writer,
};

/// Payloads from here on are shared with other receivers instead of copied for each.
pub(crate) const SHARE_FROM: usize = 4_096;

/// A message on its way through one call, with what was made of it so far.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the message")]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: TopicName<'a>,
    /// Without Topic Alias and Subscription Identifiers.
    pub(crate) properties: Properties<'a>,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    /// RETAIN as published.
    pub(crate) retain: bool,
    /// The seconds left until it expires.
    pub(crate) expiry: Option<u32>,
    /// It expired while it waited for a commit, an answer or room.
    pub(crate) is_expired: bool,
    pub(crate) source: Source<'a>,
    stored: Option<MessageRef>,
    /// Which templates of the scratch hold this message.
    pub(crate) filled: u8,
    /// Payload by reference, for all but the first receiver.
    pub(crate) shares_payload: bool,
    /// Nobody else gets it.
    pub(crate) is_single: bool,
    /// The packet it came in, and the generation of the protocol that it speaks.
    pub(crate) frame: Option<(usize, PublishFrame<'a>)>,
}

/// Where a message comes from, should it have to be stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Publish(&'a Publish<'a>),
    Frame(&'a Frame, &'a Publish<'a>),
    Message(&'a Message),
}

/// What became of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepted,
    /// A subscriber that is offline, at QoS 0.
    Away,
    /// No such subscriber, or not any more.
    Nobody,
    Dropped(DropReason),
}

impl<'a> Outgoing<'a> {
    pub(crate) fn of_publish(publish: &'a Publish<'a>, topic: TopicName<'a>, shared: Option<&'a Frame>) -> Self {
        Self {
            topic,
            properties: publish.properties,
            payload: publish.payload,
            qos: publish.delivery.qos(),
            retain: publish.retain,
            expiry: if publish.properties.is_empty() { None } else { publish.properties.message_expiry_interval() },
            is_expired: false,
            source: shared.map_or(Source::Publish(publish), |frame| Source::Frame(frame, publish)),
            stored: None,
            filled: 0,
            shares_payload: shared.is_some() && publish.payload.len() >= SHARE_FROM,
            is_single: false,
            frame: None,
        }
    }

    pub(crate) fn of_message(message: &'a Message, now: Timestamp) -> Self {
        Self {
            topic: message.topic(),
            properties: message.properties(),
            payload: message.payload(),
            qos: message.qos(),
            retain: message.retain(),
            expiry: message.remaining_expiry(now),
            is_expired: message.is_expired(now),
            source: Source::Message(message),
            stored: None,
            filled: 0,
            shares_payload: message.payload().len() >= SHARE_FROM,
            is_single: false,
            frame: None,
        }
    }

    /// The payload as memory of its own, where it is to be shared.
    pub(crate) fn shared_payload(&self) -> Option<bytes::Bytes> {
        match self.source {
            _ if !self.shares_payload => None,
            Source::Message(message) => Some(message.payload_bytes()),
            Source::Frame(frame, _) => Some(frame.slice_ref(self.payload)),
            Source::Publish(_) => None,
        }
    }

    /// The message as it is stored.
    pub(crate) fn message(&self, now: Timestamp) -> Message {
        match self.source {
            Source::Publish(publish) => Message::new(publish, self.topic, now),
            Source::Frame(frame, publish) => Message::shared(frame, publish, self.topic, now),
            Source::Message(message) => message.clone(),
        }
    }

    /// The message in the store, put there by the first who needs it.
    #[inline]
    fn store(&mut self, messages: &mut Messages, now: Timestamp) -> MessageRef {
        if let Some(stored) = &self.stored {
            return messages.share(stored);
        }
        let stored = match self.source {
            Source::Publish(publish) => messages.store_new(publish, self.topic, now),
            Source::Frame(..) | Source::Message(_) => messages.store(self.message(now)),
        };
        if self.is_single {
            return stored;
        }
        let shared = messages.share(&stored);
        self.stored = Some(stored);
        shared
    }

    /// A delivery of it as it is stored.
    #[inline]
    pub(crate) fn queued(&mut self, messages: &mut Messages, now: Timestamp, terms: Terms<'_>) -> Queued {
        let message = self.store(messages, now);
        let ids = messages.keep_ids(terms.ids);
        Queued { message, ids, group: terms.group, qos: terms.qos, retain: terms.retain }
    }

    /// Whether the only receiver gets nothing but topic and payload, in one piece.
    #[inline]
    pub(crate) fn is_plain_for(&self, connection: &Connection, class: usize, terms: Terms<'_>) -> bool {
        let has_properties =
            class != 0 && (!self.properties.is_empty() || !terms.ids.is_empty() || self.expiry.is_some());
        self.is_single && !self.shares_payload && !has_properties && connection.outbound_aliases.is_none()
    }

    /// The packet it came in, if a receiver may get that.
    #[inline]
    pub(crate) fn frame_for(
        &self,
        connection: &Connection,
        class: usize,
        qos: QoS,
        terms: Terms<'_>,
    ) -> Option<&PublishFrame<'a>> {
        let (of_class, frame) = self.frame.as_ref()?;
        // Data that only 5.0 has does not reach a 3.1.1 receiver.
        let is_bare = terms.ids.is_empty() || class == 0;
        let fits = *of_class == class && frame.qos() == qos && is_bare && connection.outbound_aliases.is_none();
        fits.then_some(frame)
    }
}

/// What one delivery adds to its message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) ids: &'a [SubscriptionId],
    /// The number of the share group that chose the receiver.
    pub(crate) group: u32,
}

impl Broker {
    /// Ends the way of a message through a call: gives back what it held.
    pub(crate) fn finish(&mut self, out: Outgoing<'_>) {
        if let Some(stored) = out.stored {
            self.messages.release(stored);
        }
    }

    /// Delivers to the session in a slot: at once if it is connected and nothing is before, else later.
    pub(crate) fn deliver(&mut self, now: Timestamp, out: &mut Outgoing<'_>, slot: u32, terms: Terms<'_>) -> Fate {
        let terms = Terms { qos: terms.qos.min(out.qos), ..terms };
        let Some(session) = self.sessions.at_mut(slot) else { return Fate::Nobody };
        let fate = match (session.sink, terms.qos) {
            // [MQTT-3.3.2-5]
            _ if out.is_expired => Fate::Dropped(DropReason::Expired),
            (Sink::Connection(_) | Sink::Local, QoS::AtMostOnce) if session.outbound.has_qos0_before() => {
                self.enqueue(now, out, slot, terms)
            }
            (Sink::Connection(connection), QoS::AtMostOnce) => self.send_qos0(out, connection, terms),
            (Sink::Connection(connection), _) => {
                let max_inflight_bytes = self.config.max_inflight_bytes;
                let may_send = |open: &&mut Connection| {
                    session.outbound.is_ready(max_inflight_bytes) && open.may_send(self.config.max_transmit_bytes)
                };
                match self.connections.get_mut(connection).filter(may_send) {
                    Some(open) => {
                        let queued = out.queued(&mut self.messages, now, terms);
                        let weight = self.messages.weight_in_flight(&queued, max_inflight_bytes);
                        let mut writer = writer!(self);
                        match writer.send(out, &mut session.outbound, (connection, open), queued, terms.ids) {
                            Ok(()) => {
                                session.outbound.inflight_bytes += weight;
                                Fate::Accepted
                            }
                            Err((reason, queued)) => {
                                self.discard(queued);
                                Fate::Dropped(reason)
                            }
                        }
                    }
                    None => self.enqueue(now, out, slot, terms),
                }
            }
            (Sink::Local, _) => self.deliver_locally(now, out, slot, terms),
            (Sink::Offline, _) if session.is_ended => Fate::Nobody,
            (Sink::Offline, QoS::AtMostOnce) => Fate::Away,
            (Sink::Offline, _) => self.enqueue(now, out, slot, terms),
        };
        if let Fate::Dropped(reason) = fate {
            self.note_drop(Some(slot), out.topic, reason);
        }
        fate
    }

    /// Whether the window and the transmit buffer of a connection have room for a QoS 1 or 2 message.
    #[inline]
    pub(crate) fn may_send(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.may_send(self.config.max_transmit_bytes))
    }

    #[inline]
    fn send_qos0(&mut self, out: &mut Outgoing<'_>, id: ConnectionId, terms: Terms<'_>) -> Fate {
        let limit = crate::slab::index(self.config.max_transmit_bytes);
        let has_no_memory = self.has_no_memory();
        let Some(connection) = self.connections.get(id) else { return Fate::Nobody };
        // A client that keeps up is served whatever the others hold.
        let waiting = connection.transmit.len();
        if waiting > 0 && waiting + out.payload.len() > limit {
            return Fate::Dropped(DropReason::SlowReader);
        }
        if waiting > 0 && has_no_memory {
            return Fate::Dropped(DropReason::Memory);
        }
        match self.write(out, id, Delivery::AtMostOnce, terms) {
            Ok(()) => Fate::Accepted,
            Err(reason) => Fate::Dropped(reason),
        }
    }

    /// Sends a message from the queue for the first time. The caller saw that there is room.
    pub(crate) fn send_queued(
        &mut self,
        out: &mut Outgoing<'_>,
        slot: u32,
        id: ConnectionId,
        queued: Queued,
        ids: &[SubscriptionId],
    ) -> Fate {
        let (Some(session), Some(connection)) = (self.sessions.at_mut(slot), self.connections.get_mut(id)) else {
            self.discard(queued);
            return Fate::Nobody;
        };
        let weight = self.messages.weight_in_flight(&queued, self.config.max_inflight_bytes);
        match writer!(self).send(out, &mut session.outbound, (id, connection), queued, ids) {
            Ok(()) => {
                session.outbound.inflight_bytes += weight;
                Fate::Accepted
            }
            Err((reason, queued)) => {
                self.discard(queued);
                Fate::Dropped(reason)
            }
        }
    }

    /// Encodes a PUBLISH for a connection.
    #[inline]
    pub(crate) fn write(
        &mut self,
        out: &mut Outgoing<'_>,
        id: ConnectionId,
        delivery: Delivery,
        terms: Terms<'_>,
    ) -> Result<(), DropReason> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        writer!(self).write(out, (id, connection), delivery, terms)
    }

    /// Puts a message behind what waits for a session already.
    pub(crate) fn enqueue(&mut self, now: Timestamp, out: &mut Outgoing<'_>, slot: u32, terms: Terms<'_>) -> Fate {
        if self.memory_used() >= self.config.max_memory {
            return Fate::Dropped(DropReason::Memory);
        }
        let message = out.store(&mut self.messages, now);
        let weight = self.messages.weight_with(&message, terms.ids);
        let (max_messages, max_bytes) = (self.config.max_queued_messages, self.config.max_queued_bytes);
        while let Some(session) = self.sessions.at_mut(slot) {
            let outbound = &mut session.outbound;
            if outbound.messages < max_messages && outbound.bytes + weight <= max_bytes {
                let ids = self.messages.keep_ids(terms.ids);
                let queued = Queued { message, ids, group: terms.group, qos: terms.qos, retain: terms.retain };
                outbound.count(&queued, weight);
                outbound.queue.push_back(Entry::Message(queued));
                let is_full = outbound.messages >= max_messages || outbound.bytes >= max_bytes;
                if is_full && session.full_since.is_none() && session.sink != Sink::Offline {
                    session.full_since = Some(now);
                    self.full_sessions += 1;
                }
                if let (QoS::AtMostOnce, Sink::Connection(id)) = (terms.qos, session.sink) {
                    self.connections.get_mut(id).into_iter().for_each(Connection::take_nothing_as_it_came);
                }
                return Fate::Accepted;
            }
            // For one that an empty queue would not take nothing else has to go.
            let may_push_out = self.config.when_full == WhenFull::DropOldest && weight <= max_bytes;
            if !may_push_out || terms.qos == QoS::AtMostOnce || !self.drop_oldest(slot) {
                break;
            }
        }
        self.messages.release(message);
        Fate::Dropped(DropReason::QueueFull)
    }

    /// Puts a message at a place of the queue, for a walk that bounds itself.
    pub(crate) fn enqueue_at(
        &mut self,
        now: Timestamp,
        out: &mut Outgoing<'_>,
        slot: u32,
        terms: Terms<'_>,
        at: usize,
    ) {
        let queued = out.queued(&mut self.messages, now, terms);
        let weight = self.messages.weight(&queued);
        let Some(session) = self.sessions.at_mut(slot) else {
            self.discard(queued);
            return;
        };
        session.outbound.count(&queued, weight);
        session.outbound.queue.insert(at.min(session.outbound.queue.len()), Entry::Message(queued));
    }

    /// Drops the message that waits longest, if there is one.
    fn drop_oldest(&mut self, slot: u32) -> bool {
        let Some(session) = self.sessions.at_mut(slot) else { return false };
        let oldest = session.outbound.queue.iter().position(|entry| matches!(entry, Entry::Message(_)));
        let Some(Entry::Message(queued)) = oldest.and_then(|at| session.outbound.queue.remove(at)) else {
            return false;
        };
        self.uncount(slot, &queued);
        let message = self.messages.get(&queued.message).cloned();
        self.discard(queued);
        if let Some(message) = message {
            self.note_drop(Some(slot), message.topic(), DropReason::QueueFull);
        }
        true
    }

    /// A message leaves the queue of a session.
    #[inline]
    pub(crate) fn uncount(&mut self, slot: u32, queued: &Queued) {
        let weight = self.messages.weight(queued);
        if let Some(session) = self.sessions.at_mut(slot) {
            session.outbound.uncount(queued, weight);
            if session.full_since.take().is_some() {
                self.full_sessions -= 1;
            }
        }
    }

    /// Gives back what a queue entry holds.
    pub(crate) fn discard(&mut self, queued: Queued) {
        self.messages.discard(queued);
    }

    fn deliver_locally(&mut self, now: Timestamp, out: &mut Outgoing<'_>, slot: u32, terms: Terms<'_>) -> Fate {
        let Some(key) = self.sessions.key(slot) else { return Fate::Nobody };
        if terms.qos == QoS::AtMostOnce {
            self.hand_over(LocalId(key), out.message(now), terms, None);
            return Fate::Accepted;
        }
        let may_send = self.sessions.at(slot).is_some_and(|session| {
            session.outbound.queue.is_empty() && session.local_window.as_ref().is_some_and(|window| !window.is_full())
        });
        if !may_send {
            return self.enqueue(now, out, slot, terms);
        }
        let queued = out.queued(&mut self.messages, now, terms);
        self.send_locally(key, queued, out.message(now), terms)
    }

    /// Gives a message to a local participant and waits for its acknowledgement.
    pub(crate) fn send_locally(&mut self, key: SessionKey, queued: Queued, message: Message, terms: Terms<'_>) -> Fate {
        let Some(session) = self.sessions.get_mut(key) else { return Fate::Nobody };
        let Some(id) = session.outbound.ids.allocate() else {
            self.discard(queued);
            return Fate::Dropped(DropReason::QueueFull);
        };
        if let Some(window) = session.local_window.as_mut() {
            let _has_slot = window.take();
        }
        // One call acknowledges at either QoS: there is no network to repeat anything on.
        let state = SendState::AwaitPuback;
        session.outbound.inflight.push_back(Inflight { id, state, queued: Some(queued), has_slot: true });
        self.hand_over(LocalId(key), message, terms, Some(id));
        Fate::Accepted
    }

    pub(crate) fn hand_over(
        &mut self,
        local: LocalId,
        message: Message,
        terms: Terms<'_>,
        id: Option<damselfly_codec::PacketId>,
    ) {
        let delivery = LocalDelivery {
            message,
            qos: terms.qos,
            retain: terms.retain,
            subscription_ids: terms.ids.into(),
            token: id.map(|id| crate::AckToken { session: local.0, id }),
        };
        self.outputs.push_back(Output::Deliver { local, delivery: alloc::boxed::Box::new(delivery) });
    }
}

/// First byte of a PUBLISH at QoS 0 without RETAIN.
pub(crate) const PUBLISH_QOS0: u8 = 0x30;

/// Terms of a delivery that no share group chose.
pub(crate) const fn plain_terms(qos: QoS, retain: bool, ids: &[SubscriptionId]) -> Terms<'_> {
    Terms { qos, retain, ids, group: NO_GROUP }
}
