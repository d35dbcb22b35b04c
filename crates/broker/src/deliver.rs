//! One message to one receiver: now, later or not at all.

use damselfly_codec::{Addition, Delivery, Frame, Packet, Properties, Publish, QoS, SubscriptionId, Version};
use damselfly_session::{Message, OutboundAliases, SendState, Timestamp};
use damselfly_topic::TopicName;

use crate::{
    Broker, ConnectionId, DropReason, LocalDelivery, LocalId, Output, WhenFull,
    broker::wire_class,
    messages::MessageRef,
    route::Route,
    sessions::{Entry, Inflight, NO_GROUP, Queued, SessionKey, Sink},
};

/// Payloads from here on are shared with other receivers instead of copied for each.
pub(crate) const SHARE_FROM: usize = 4_096;

/// A message on its way through one call, with what was made of it so far.
#[derive(Debug)]
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
    filled: u8,
    /// Payload by reference, for all but the first receiver.
    pub(crate) shares_payload: bool,
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
        }
    }

    /// The payload as memory of its own, where it is to be shared.
    fn shared_payload(&self) -> Option<bytes::Bytes> {
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

    /// The message in the store, put there by the first who needs it.
    pub(crate) fn store(&mut self, now: Timestamp, out: &mut Outgoing<'_>) -> MessageRef {
        if let Some(stored) = &out.stored {
            return self.messages.share(stored);
        }
        let stored = self.messages.store(out.message(now));
        let shared = self.messages.share(&stored);
        out.stored = Some(stored);
        shared
    }

    /// Delivers to the session in a slot: at once if it is connected and nothing is before, else later.
    pub(crate) fn deliver(&mut self, now: Timestamp, out: &mut Outgoing<'_>, slot: u32, terms: Terms<'_>) -> Fate {
        let terms = Terms { qos: terms.qos.min(out.qos), ..terms };
        let Some(session) = self.sessions.at_mut(slot) else { return Fate::Nobody };
        let fate = match (session.sink, terms.qos) {
            // [MQTT-3.3.2-5]
            _ if out.is_expired => Fate::Dropped(DropReason::Expired),
            (Sink::Connection(connection), QoS::AtMostOnce) => self.send_qos0(out, connection, terms),
            (Sink::Connection(connection), _) => {
                let outbound = &session.outbound;
                let is_first = outbound.queue.is_empty() && outbound.to_resend == 0 && !outbound.ids.is_exhausted();
                let may_send = is_first && self.may_send(connection);
                if may_send {
                    self.send(now, out, slot, connection, terms)
                } else {
                    self.enqueue(now, out, slot, terms)
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
        let limit = crate::slab::index(self.config.max_transmit_bytes);
        self.connections.get(id).is_some_and(|c| !c.window.is_full() && c.transmit.len() < limit)
    }

    /// Copies a QoS 0 frame to every receiver of a plain route. False, and nothing done, if one of them needs another.
    #[inline]
    pub(crate) fn copy_to_all(
        &mut self,
        now: Timestamp,
        route: &Route,
        topic: TopicName<'_>,
        frame: &[u8],
        class: usize,
    ) -> bool {
        if (frame.len() >= SHARE_FROM && route.receivers.len() > 1) || self.has_no_memory() {
            return false;
        }
        let mut copies = 0;
        for receiver in &route.receivers {
            let Some(session) = self.sessions.at(receiver.key) else { continue };
            let Sink::Connection(id) = session.sink else {
                if session.sink == Sink::Local {
                    self.copy_slowly(now, receiver.key, topic, frame, class);
                }
                continue;
            };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let is_simple = wire_class(connection.version) == class
                && connection.outbound_aliases.is_none()
                && connection.waiting_bytes + frame.len() <= crate::slab::index(self.config.max_transmit_bytes)
                && frame.len() <= crate::slab::index(connection.max_packet_size);
            if !is_simple {
                self.copy_slowly(now, receiver.key, topic, frame, class);
                continue;
            }
            connection.transmit.tail(&mut self.pool).extend_from_slice(frame);
            connection.waiting_bytes += frame.len();
            copies += 1;
            if !connection.is_dirty {
                Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
            }
        }
        self.waiting_bytes += copies * frame.len();
        self.counters.deliveries += u64::try_from(copies).unwrap_or(u64::MAX);
        true
    }

    /// One receiver for whom the frame is not fit as it is.
    #[cold]
    fn copy_slowly(&mut self, now: Timestamp, slot: u32, topic: TopicName<'_>, frame: &[u8], class: usize) {
        let version = if class == 0 { Version::V3_1_1 } else { Version::V5_0 };
        let Ok(Packet::Publish(publish)) = Packet::decode(version, frame) else { return };
        let mut out = Outgoing::of_publish(&publish, topic, None);
        let fate = self.deliver(now, &mut out, slot, plain_terms(QoS::AtMostOnce, false, &[]));
        self.counters.deliveries += u64::from(fate == Fate::Accepted);
        self.finish(out);
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

    /// Sends at QoS 1 or 2. The caller saw that there is room.
    fn send(
        &mut self,
        now: Timestamp,
        out: &mut Outgoing<'_>,
        slot: u32,
        connection: ConnectionId,
        terms: Terms<'_>,
    ) -> Fate {
        let message = self.store(now, out);
        let ids = self.messages.keep_ids(terms.ids);
        let queued = Queued { message, ids, group: terms.group, qos: terms.qos, retain: terms.retain };
        self.send_queued(out, slot, connection, queued, terms.ids)
    }

    /// Gives a message its Packet Identifier and a place in the window, and sends it for the first time.
    pub(crate) fn send_queued(
        &mut self,
        out: &mut Outgoing<'_>,
        slot: u32,
        connection: ConnectionId,
        queued: Queued,
        ids: &[SubscriptionId],
    ) -> Fate {
        let Some(id) = self.sessions.at_mut(slot).and_then(|session| session.outbound.ids.allocate()) else {
            self.discard(queued);
            return Fate::Dropped(DropReason::QueueFull);
        };
        let terms = Terms { qos: queued.qos, retain: queued.retain, ids, group: queued.group };
        let delivery = delivery(queued.qos, id, false);
        // What is too large for the receiver counts as sent. [MQTT-3.1.2-25]
        let written = self.write(out, connection, delivery, terms);
        let Some(session) = self.sessions.at_mut(slot) else { return Fate::Nobody };
        if let Err(reason) = written {
            session.outbound.ids.release(id);
            self.discard(queued);
            return Fate::Dropped(reason);
        }
        if let Some(connection) = self.connections.get_mut(connection) {
            let _has_slot = connection.window.take();
        }
        let state = send_state(queued.qos);
        session.outbound.inflight.push_back(Inflight { id, state, queued: Some(queued), has_slot: true });
        Fate::Accepted
    }

    /// Encodes a PUBLISH for a connection.
    pub(crate) fn write(
        &mut self,
        out: &mut Outgoing<'_>,
        id: ConnectionId,
        delivery: Delivery,
        terms: Terms<'_>,
    ) -> Result<(), DropReason> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let class = wire_class(connection.version);
        let place = class * 3 + usize::from(delivery.qos().level());
        let Some(template) = self.scratch.templates.get_mut(place) else { return Ok(()) };
        if out.filled & (1 << place) == 0 {
            // Data that only 5.0 has does not reach a 3.1.1 receiver.
            let properties = if class == 0 { Properties::EMPTY } else { out.properties };
            let (version, qos) = (connection.version, delivery.qos());
            let filled = if out.shares_payload {
                template.reset_head(version, qos, false, out.topic, properties, out.payload.len())
            } else {
                template.reset(version, qos, false, out.topic, properties, out.payload)
            };
            filled.map_err(|_| DropReason::PacketTooLarge)?;
            out.filled |= 1 << place;
        }
        let mut addition = Addition {
            packet_id: delivery.packet_id(),
            dup: delivery.is_dup(),
            retain: terms.retain,
            subscription_ids: if class == 0 { &[] } else { terms.ids },
            topic_alias: None,
            message_expiry_interval: if class == 0 { None } else { out.expiry },
        };
        let limit = crate::slab::index(connection.max_packet_size);
        let len = template.encoded_len(&addition).map_err(|_| DropReason::PacketTooLarge)?;
        if len > limit {
            return Err(DropReason::PacketTooLarge);
        }
        // An alias is set only by a packet that surely leaves.
        if let Some(aliases) =
            connection.outbound_aliases.as_mut().filter(|_| len + OutboundAliases::ALIAS_LEN <= limit)
        {
            addition.topic_alias = aliases.assign(out.topic).map(|assigned| (assigned.alias, assigned.send_topic));
        }
        let tail = connection.transmit.tail(&mut self.pool);
        let written = if let Some(payload) = out.shared_payload() {
            let written = template.write_head(&addition, tail);
            connection.transmit.push_shared(payload, &mut self.pool);
            written
        } else {
            template.write(&addition, tail)
        };
        debug_assert!(written.is_ok(), "a length that was computed could not be written");
        Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
        Ok(())
    }

    /// Puts a message behind what waits for a session already.
    pub(crate) fn enqueue(&mut self, now: Timestamp, out: &mut Outgoing<'_>, slot: u32, terms: Terms<'_>) -> Fate {
        if self.memory_used() >= self.config.max_memory {
            return Fate::Dropped(DropReason::Memory);
        }
        let message = self.store(now, out);
        let weight = self.messages.weight(&message);
        let (max_messages, max_bytes) = (self.config.max_queued_messages, self.config.max_queued_bytes);
        while let Some(session) = self.sessions.at_mut(slot) {
            let outbound = &mut session.outbound;
            if outbound.messages < max_messages && outbound.bytes + weight <= max_bytes {
                let ids = self.messages.keep_ids(terms.ids);
                let queued = Queued { message, ids, group: terms.group, qos: terms.qos, retain: terms.retain };
                outbound.messages += 1;
                outbound.bytes += weight;
                outbound.queue.push_back(Entry::Message(queued));
                let is_full = outbound.messages >= max_messages || outbound.bytes >= max_bytes;
                if is_full && session.full_since.is_none() && session.sink != Sink::Offline {
                    session.full_since = Some(now);
                    self.full_sessions += 1;
                }
                return Fate::Accepted;
            }
            if self.config.when_full != WhenFull::DropOldest || !self.drop_oldest(slot) {
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
        let message = self.store(now, out);
        let weight = self.messages.weight(&message);
        let ids = self.messages.keep_ids(terms.ids);
        let queued = Queued { message, ids, group: terms.group, qos: terms.qos, retain: terms.retain };
        let Some(session) = self.sessions.at_mut(slot) else {
            self.discard(queued);
            return;
        };
        session.outbound.messages += 1;
        session.outbound.bytes += weight;
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
    pub(crate) fn uncount(&mut self, slot: u32, queued: &Queued) {
        let weight = self.messages.weight(&queued.message);
        if let Some(session) = self.sessions.at_mut(slot) {
            session.outbound.messages -= 1;
            session.outbound.bytes -= weight;
            if session.full_since.take().is_some() {
                self.full_sessions -= 1;
            }
        }
    }

    /// Gives back what a queue entry holds.
    pub(crate) fn discard(&mut self, queued: Queued) {
        self.messages.release(queued.message);
        self.messages.release_ids(queued.ids);
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
        let message = self.store(now, out);
        let ids = self.messages.keep_ids(terms.ids);
        let queued = Queued { message, ids, group: terms.group, qos: terms.qos, retain: terms.retain };
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

/// QoS and Packet Identifier together.
pub(crate) const fn delivery(qos: QoS, id: damselfly_codec::PacketId, dup: bool) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    }
}

/// What a first PUBLISH waits for.
const fn send_state(qos: QoS) -> SendState {
    match qos {
        QoS::AtMostOnce | QoS::AtLeastOnce => SendState::AwaitPuback,
        QoS::ExactlyOnce => SendState::AwaitPubrec,
    }
}

/// Terms of a delivery that no share group chose.
pub(crate) const fn plain_terms(qos: QoS, retain: bool, ids: &[SubscriptionId]) -> Terms<'_> {
    Terms { qos, retain, ids, group: NO_GROUP }
}
