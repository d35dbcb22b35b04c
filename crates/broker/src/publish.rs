//! PUBLISH from a client: checked, permitted, routed, acknowledged. [MQTT-3.3]

use alloc::string::String;

use damselfly_codec::{
    Delivery, FixedHeader, Frame, PacketId, PacketType, Properties, Publish, PublishFrame, QoS, ReasonCode, Version,
};
use damselfly_session::{Message, MessagePool, PeerError, ReceiveAction, ReceiveInput, Timestamp};
use damselfly_topic::TopicName;

use crate::{
    Broker, ConnectionId, DropReason, Question, QuestionId,
    access::Permission,
    broker::{Fault, owned, wire_class},
    connections::Gate,
    deliver::{Fate, Outgoing, PUBLISH_QOS0, SHARE_FROM, Terms},
    gate::Release,
    route::{GROUP, Route, RouteCache, RouteCacheLimits, hash_topic},
    sessions::{NO_GROUP, SessionKey, Wait},
    verbatim::Verbatim,
};

/// What routing a message came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Receivers that got it or will.
    pub(crate) accepted: u32,
    /// There is a subscriber who did not get it because it is offline.
    pub(crate) is_missed: bool,
    /// The worst reason why a receiver did not.
    pub(crate) dropped: Option<DropReason>,
}

impl Tally {
    #[inline]
    pub(crate) fn note(&mut self, fate: Fate) {
        match fate {
            Fate::Accepted => self.accepted += 1,
            Fate::Away => self.is_missed = true,
            Fate::Nobody => {}
            // Nobody is told success for what found no room, whatever became of the others.
            Fate::Dropped(_) if self.lacked_room() => {}
            Fate::Dropped(reason) => self.dropped = Some(reason),
        }
    }

    /// Whether a receiver had no room, or the retained messages: what a publisher is told.
    pub(crate) const fn lacked_room(self) -> bool {
        matches!(self.dropped, Some(DropReason::QueueFull | DropReason::Memory | DropReason::RetainedFull))
    }
}

/// Why a message is dropped, and what a 5.0 publisher is told.
pub(crate) type Refusal = (DropReason, ReasonCode);

/// Whether a message may be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Yes, or once a question is answered.
    Permitted(Permission),
    /// No.
    Refused(DropReason, ReasonCode),
}

/// Whether a name has more levels than that.
#[inline]
pub(crate) fn has_more_levels(topic: TopicName<'_>, limit: u16) -> bool {
    let (name, limit) = (topic.as_bytes(), usize::from(limit));
    // Most names are too short for that.
    name.len() >= limit && name.iter().map(|byte| usize::from(*byte == b'/')).sum::<usize>() >= limit
}

/// A PUBLISH with its topic resolved and its publisher known.
#[derive(Clone, Copy)]
pub(crate) struct Inbound<'a> {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionKey,
    pub(crate) publish: &'a Publish<'a>,
    pub(crate) topic: TopicName<'a>,
    /// The packet, if receivers may get it nearly as it came.
    pub(crate) frame: Option<(usize, PublishFrame<'a>)>,
    pub(crate) shared: Option<&'a Frame>,
    /// Its payload is none that the broker takes.
    refused: Option<Refusal>,
    /// The hash of its topic, if the cache of the connection was just seen not to know that.
    unknown: Option<u64>,
}

impl Inbound<'_> {
    /// The message as it is stored.
    pub(crate) fn message(&self, pool: &mut MessagePool, now: Timestamp) -> Message {
        match self.shared {
            Some(frame) => Message::shared(frame, self.publish, self.topic, now),
            None => Message::new_in(pool, self.publish, self.topic, now),
        }
    }
}

impl Broker {
    #[inline]
    pub(crate) fn handle_publish(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        header: FixedHeader,
        frame: &[u8],
        shared: Option<&Frame>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        if !connection.is_open() {
            return Err(Self::too_early(connection, PacketType::Publish));
        }
        // One comparison for both limits: what may be beyond one of them takes another way.
        if frame.len() > crate::slab::index(self.config.max_property_bytes.min(self.config.max_payload_size)) {
            return self.handle_large_publish(now, id, header, frame, shared);
        }
        let body = frame.get(usize::from(header.header_len())..).unwrap_or(&[]);
        let (version, session) = (connection.version, connection.session);
        let publish = Publish::decode(version, header, body)?;
        self.counters.publishes_received += 1;
        match publish.topic {
            Some(topic) if publish.properties.is_empty() => {
                let mut unknown = None;
                if frame.first() == Some(&PUBLISH_QOS0) {
                    match self.publish_verbatim(now, id, topic, frame) {
                        Verbatim::Done => return Ok(()),
                        Verbatim::Unknown { hash } => unknown = Some(hash),
                        Verbatim::Unfit => {}
                    }
                }
                let came = PublishFrame::new(header, frame, &publish).map(|frame| (wire_class(version), frame));
                if let (Some((class, came)), Delivery::AtLeastOnce { id: packet_id, .. }) = (&came, publish.delivery) {
                    let outgoing = || Outgoing::of_publish(&publish, topic, None);
                    if let Some(done) = self.publish_verbatim_qos1(now, (id, packet_id), (*class, came), outgoing) {
                        return done;
                    }
                }
                let (publish, frame) = (&publish, came);
                let inbound =
                    Inbound { connection: id, session, publish, topic, frame, shared, refused: None, unknown };
                self.accept_publish(now, &inbound)
            }
            _ => self.publish_with_properties(now, id, session, &publish, shared),
        }
    }

    /// One whose properties or payload may be beyond the limits.
    #[cold]
    fn handle_large_publish(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        header: FixedHeader,
        frame: &[u8],
        shared: Option<&Frame>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let (version, session) = (connection.version, connection.session);
        let body = frame.get(usize::from(header.header_len())..).unwrap_or(&[]);
        self.check_property_bytes(version, header, body)?;
        let publish = Publish::decode(version, header, body)?;
        self.counters.publishes_received += 1;
        self.publish_with_properties(now, id, session, &publish, shared)
    }

    /// Topic Alias first: it is set even if the message is refused. [MQTT-3.3.2-12]
    fn publish_with_properties(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        session: SessionKey,
        publish: &Publish<'_>,
        shared: Option<&Frame>,
    ) -> Result<(), Fault> {
        if publish.properties.subscription_ids().next().is_some() {
            return Err(PeerError::SubscriptionIdFromClient.into());
        }
        let mut aliased = String::new();
        if let Some(alias) = publish.properties.topic_alias() {
            let table = self.connections.get_mut(connection).and_then(|c| c.inbound_aliases.as_mut());
            let table = table.ok_or(PeerError::TopicAliasInvalid)?;
            match publish.topic {
                Some(topic) => table.set(alias, topic)?,
                None => aliased.push_str(table.get(alias)?.as_str()),
            }
        }
        let topic = match publish.topic {
            Some(topic) => topic,
            // A stored alias is a Topic Name that was checked.
            None => TopicName::new(&aliased).map_err(|_| PeerError::TopicAliasUnknown)?,
        };
        let refused = self.check_payload(publish.payload, publish.properties);
        let inbound = Inbound { connection, session, publish, topic, frame: None, shared, refused, unknown: None };
        self.accept_publish(now, &inbound)
    }

    /// What the configuration says of a payload. [MQTT-3.3.2.3.2]
    pub(crate) fn check_payload(&self, payload: &[u8], properties: Properties<'_>) -> Option<Refusal> {
        if payload.len() > crate::slab::index(self.config.max_payload_size) {
            return Some((DropReason::PayloadTooLarge, ReasonCode::QuotaExceeded));
        }
        let is_text = self.config.check_payload_format && properties.payload_format_indicator() == Some(true);
        (is_text && core::str::from_utf8(payload).is_err())
            .then_some((DropReason::PayloadFormatInvalid, ReasonCode::PayloadFormatInvalid))
    }

    fn accept_publish(&mut self, now: Timestamp, inbound: &Inbound<'_>) -> Result<(), Fault> {
        if inbound.publish.retain && !self.config.retain_available {
            return Err(PeerError::RetainNotSupported.into());
        }
        let delivery = inbound.publish.delivery;
        if delivery.qos() > self.config.maximum_qos {
            return Err(PeerError::QoSNotSupported.into());
        }
        match delivery {
            Delivery::AtMostOnce => {
                self.publish_now(now, inbound);
                Ok(())
            }
            Delivery::AtLeastOnce { id, .. } => self.publish_qos1(now, inbound, id),
            Delivery::ExactlyOnce { id, .. } => self.publish_qos2(now, inbound, id),
        }
    }

    fn publish_qos1(&mut self, now: Timestamp, inbound: &Inbound<'_>, id: PacketId) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(inbound.connection) else { return Ok(()) };
        connection.inbound.received()?;
        let version = connection.version;
        if let Some(session) = self.sessions.get_mut(inbound.session).filter(|s| !s.received.is_empty()) {
            // The identifier still belongs to a QoS 2 exchange: the client lost its session.
            let action = session.received.handle(version, id, ReceiveInput::PublishQos1);
            if let Ok(ReceiveAction::RefuseWithPuback(code)) = action {
                let commit = self.gate.record(Some(Release::Acks(inbound.connection)));
                self.push_decided(inbound.connection, PacketType::Puback, id, Gate::Commit(commit), code);
                return Ok(());
            }
        }
        // What is refused or asked about does not wait for room.
        if self.must_wait(now, Some(inbound.session.slot), inbound.topic)
            && self.verdict(inbound) == Verdict::Permitted(Permission::Allow)
        {
            self.push_ack(inbound.connection, PacketType::Puback, id, Gate::Decision);
            self.hold(now, inbound, Some(id), Wait::Room);
            return Ok(());
        }
        match self.publish_now(now, inbound) {
            Some(reason_code) => {
                let reason_code = self.sayable(inbound.connection, reason_code)?;
                let commit = self.gate.record(Some(Release::Acks(inbound.connection)));
                self.push_decided(inbound.connection, PacketType::Puback, id, Gate::Commit(commit), reason_code);
            }
            None => self.push_ack(inbound.connection, PacketType::Puback, id, Gate::Decision),
        }
        Ok(())
    }

    /// Method A of the standard's figure: the identifier and the message are recorded together, nothing is seen of the
    /// message before that is durable.
    fn publish_qos2(&mut self, now: Timestamp, inbound: &Inbound<'_>, id: PacketId) -> Result<(), Fault> {
        let Some(session) = self.sessions.get_mut(inbound.session) else { return Ok(()) };
        let Some(connection) = self.connections.get_mut(inbound.connection) else { return Ok(()) };
        match session.received.handle(connection.version, id, ReceiveInput::PublishQos2) {
            Ok(ReceiveAction::PubrecOnly) => {
                self.answer_again(inbound, id);
                return Ok(());
            }
            Ok(_) => connection.inbound.received()?,
            // As many as our Receive Maximum miss their PUBREL.
            Err(_) => return Err(PeerError::ReceiveMaximumExceeded.into()),
        }
        let permission = match self.verdict(inbound) {
            Verdict::Permitted(permission) => permission,
            Verdict::Refused(reason, reason_code) => {
                self.drop_inbound(inbound, reason);
                let reason_code = self.refusal_code(inbound.connection, reason_code);
                // 3.1.1 cannot be told: the identifier stays until PUBREL.
                if reason_code.is_error() {
                    self.forget_received(inbound.session, id);
                }
                let commit = self.gate.record(Some(Release::Acks(inbound.connection)));
                self.push_decided(inbound.connection, PacketType::Pubrec, id, Gate::Commit(commit), reason_code);
                return Ok(());
            }
        };
        let wait = if permission == Permission::Ask {
            Wait::Answer(self.ask_publish(now, inbound))
        } else {
            // Room is asked for once that is durable.
            let commit = self.gate.record(Some(Release::Held(inbound.session)));
            self.gate.record(Some(Release::Acks(inbound.connection)));
            Wait::Commit(commit)
        };
        self.hold(now, inbound, Some(id), wait);
        self.push_ack(inbound.connection, PacketType::Pubrec, id, Gate::Decision);
        Ok(())
    }

    /// Whether a message may be routed at all, before anything else is found out about it.
    fn verdict(&self, inbound: &Inbound<'_>) -> Verdict {
        if has_more_levels(inbound.topic, self.config.max_topic_levels) {
            return Verdict::Refused(DropReason::TooManyLevels, ReasonCode::TopicNameInvalid);
        }
        match self.permission(inbound.session, inbound.topic) {
            Permission::Deny => Verdict::Refused(DropReason::NotAuthorized, ReasonCode::NotAuthorized),
            permission => {
                inbound.refused.map_or(Verdict::Permitted(permission), |(reason, code)| Verdict::Refused(reason, code))
            }
        }
    }

    /// A repeat is answered again and delivered once. [MQTT-4.3.3-10]
    fn answer_again(&mut self, inbound: &Inbound<'_>, id: PacketId) {
        let Some(connection) = self.connections.get(inbound.connection) else { return };
        // The first answer has not left yet: it answers this one too.
        if connection.acks.iter().any(|ack| ack.packet_type == PacketType::Pubrec && ack.packet_id == id) {
            return;
        }
        let is_held = self.sessions.get(inbound.session).is_some_and(|session| {
            session.held.iter().any(|held| held.packet_id == Some(id) && held.message.qos() == QoS::ExactlyOnce)
        });
        if is_held {
            // Repeated on a new connection while the message waits: what decides it answers.
            self.push_ack(inbound.connection, PacketType::Pubrec, id, Gate::Decision);
            return;
        }
        let commit = self.gate.record(Some(Release::Acks(inbound.connection)));
        self.push_ack(inbound.connection, PacketType::Pubrec, id, Gate::Commit(commit));
    }

    /// Routes a QoS 0 or 1 message, unless it has to wait: then `None`.
    #[inline]
    fn publish_now(&mut self, now: Timestamp, inbound: &Inbound<'_>) -> Option<ReasonCode> {
        let generation = self.index.generation();
        if let Some(hash) = inbound.unknown {
            return self.publish_cold(now, inbound, hash, generation);
        }
        let connection = self.connections.get_mut(inbound.connection)?;
        let hash = hash_topic(&self.keys, inbound.topic);
        if let Some(cache) = connection.route_cache.take() {
            if let Some(cached) = cache.find(hash, inbound.topic, generation) {
                let is_free = inbound.refused.is_none() && !self.has_held(inbound.session);
                if cached.permission == Permission::Allow && is_free {
                    let tally = self.route_inbound(now, inbound, &cached.route);
                    self.put_cache_back(inbound.connection, cache);
                    return Some(self.puback_code(inbound.connection, tally));
                }
            }
            self.put_cache_back(inbound.connection, cache);
        }
        self.publish_cold(now, inbound, hash, generation)
    }

    /// As [`Broker::publish_now`] for a topic whose receivers are not known yet.
    fn publish_cold(
        &mut self,
        now: Timestamp,
        inbound: &Inbound<'_>,
        hash: u64,
        generation: u64,
    ) -> Option<ReasonCode> {
        let packet_id = inbound.publish.delivery.packet_id();
        let permission = match self.verdict(inbound) {
            Verdict::Permitted(permission) => permission,
            Verdict::Refused(reason, reason_code) => {
                self.drop_inbound(inbound, reason);
                return Some(self.refusal_code(inbound.connection, reason_code));
            }
        };
        if permission == Permission::Ask {
            let question = self.ask_publish(now, inbound);
            self.hold(now, inbound, packet_id, Wait::Answer(question));
            return None;
        }
        if self.waits_behind(inbound.session, inbound.topic) {
            self.hold(now, inbound, packet_id, Wait::Nothing);
            return None;
        }
        let known = (hash, inbound.topic, generation);
        let Some(route) = self.find_route(inbound.connection, inbound.session, known, permission) else {
            self.hold_for_lookup(now, inbound);
            return None;
        };
        let tally = self.route_inbound(now, inbound, &route);
        self.scratch.route = route;
        Some(self.puback_code(inbound.connection, tally))
    }

    /// Looks the receivers up for a topic that `id` published to, and remembers them if it did so before. The memory of
    /// the route belongs to the scratch. `None` if it takes too many steps.
    fn find_route(
        &mut self,
        id: ConnectionId,
        publisher: SessionKey,
        (hash, topic, generation): (u64, TopicName<'_>, u64),
        permission: Permission,
    ) -> Option<Route> {
        let mut route = core::mem::take(&mut self.scratch.route);
        if !self.look_up(topic, Some(publisher.slot), &mut route) {
            self.scratch.route = route;
            return None;
        }
        let limits = self.route_cache_limits();
        let has_room = !self.has_no_memory();
        if let Some(connection) = self.connections.get_mut(id).filter(|_| has_room) {
            let cache = connection.route_cache.get_or_insert_with(|| alloc::boxed::Box::new(RouteCache::new()));
            if cache.is_seen_again(hash) {
                let before = cache.heap_bytes();
                cache.keep((hash, topic, generation), permission, &route, limits);
                self.counters.route_cache_bytes += cache.heap_bytes();
                self.counters.route_cache_bytes -= before;
            }
        }
        Some(route)
    }

    /// Routes a message that was held, whose topic its publisher's connection may know.
    /// `None`, with nothing done, if looking its receivers up takes too many steps.
    pub(crate) fn route_held(
        &mut self,
        now: Timestamp,
        message: &Message,
        publisher: SessionKey,
        hash: u64,
    ) -> Option<Tally> {
        let topic = message.topic();
        let Some(id) = self.connection_of(publisher) else {
            return self.route_at_once(now, message, Some(publisher.slot));
        };
        let generation = self.index.generation();
        if let Some(cache) = self.connections.get_mut(id).and_then(|connection| connection.route_cache.take()) {
            let known = cache.find(hash, topic, generation);
            let tally = known.map(|known| self.route_message(now, message, &known.route));
            self.put_cache_back(id, cache);
            if tally.is_some() {
                return tally;
            }
        }
        let permission = self.permission(publisher, topic);
        let route = self.find_route(id, publisher, (hash, topic, generation), permission)?;
        let tally = self.route_message(now, message, &route);
        self.scratch.route = route;
        Some(tally)
    }

    #[inline]
    pub(crate) fn put_cache_back(&mut self, id: ConnectionId, cache: alloc::boxed::Box<RouteCache>) {
        // It is there: the adapter alone takes connections out, between calls.
        if let Some(connection) = self.connections.get_mut(id) {
            connection.route_cache = Some(cache);
        }
    }

    fn route_cache_limits(&self) -> RouteCacheLimits {
        RouteCacheLimits {
            entries: usize::from(self.config.route_cache_entries),
            receivers: crate::slab::index(self.config.route_cache_receivers),
        }
    }

    #[inline]
    fn route_inbound(&mut self, now: Timestamp, inbound: &Inbound<'_>, route: &Route) -> Tally {
        let publish = inbound.publish;
        let is_large = publish.payload.len() >= SHARE_FROM;
        let is_shared = route.receivers.len() > 1 || publish.delivery.qos() != QoS::AtMostOnce;
        let needs_message = publish.retain || (is_large && is_shared && inbound.shared.is_none());
        if !needs_message {
            let mut out = Outgoing::of_publish(publish, inbound.topic, inbound.shared);
            out.frame = inbound.frame.filter(|_| !out.shares_payload);
            let tally = self.route(now, &mut out, route);
            self.finish(out);
            return tally;
        }
        let message = inbound.message(&mut self.messages.pool, now);
        self.route_message(now, &message, route)
    }

    /// Routes a message that is stored or about to be, and retains it if it asks for that.
    pub(crate) fn route_message(&mut self, now: Timestamp, message: &Message, route: &Route) -> Tally {
        let kept = if message.retain() { self.retain(message) } else { Ok(()) };
        let mut out = Outgoing::of_message(message, now);
        let mut tally = self.route(now, &mut out, route);
        self.finish(out);
        if let Err(reason) = kept {
            tally.dropped = Some(reason);
        }
        tally
    }

    #[inline]
    fn route(&mut self, now: Timestamp, out: &mut Outgoing<'_>, route: &Route) -> Tally {
        let mut tally = Tally::default();
        self.steps += route.receivers.len();
        self.deliver_route(now, out, route, &mut tally);
        if !self.shards.is_empty() {
            tally.accepted += self.forward(now, out);
        }
        self.counters.deliveries += u64::from(tally.accepted);
        tally
    }

    /// Delivers to the receivers here.
    #[inline]
    pub(crate) fn deliver_route(&mut self, now: Timestamp, out: &mut Outgoing<'_>, route: &Route, tally: &mut Tally) {
        out.is_single = route.receivers.len() == 1;
        for receiver in &route.receivers {
            let retain = receiver.retain_as_published && out.retain;
            let fate = if receiver.key & GROUP == 0 {
                let terms = Terms { qos: receiver.qos, retain, ids: route.ids(receiver), group: NO_GROUP };
                self.deliver(now, out, receiver.key, terms)
            } else {
                self.deliver_to_group(now, out, receiver.key & !GROUP)
            };
            tally.note(fate);
        }
    }

    pub(crate) fn permission(&self, session: SessionKey, topic: TopicName<'_>) -> Permission {
        if topic.as_bytes().starts_with(b"$SYS/") {
            return Permission::Deny;
        }
        let access = self.sessions.get(session).and_then(|session| session.access.as_ref());
        access.map_or(Permission::Allow, |access| access.publish(topic))
    }

    fn ask_publish(&mut self, now: Timestamp, inbound: &Inbound<'_>) -> QuestionId {
        let client_id = self.sessions.get(inbound.session).map_or_else(Default::default, |s| s.client_id.clone());
        let question = Question::Publish {
            client_id,
            topic: owned(inbound.topic.as_str()),
            qos: inbound.publish.delivery.qos(),
            retain: inbound.publish.retain,
        };
        self.ask(now, crate::questions::Asked::Publish(inbound.session), question)
    }

    fn drop_inbound(&mut self, inbound: &Inbound<'_>, reason: DropReason) {
        self.note_drop(Some(inbound.session.slot), inbound.topic, reason);
    }

    #[inline]
    pub(crate) fn has_held(&self, session: SessionKey) -> bool {
        self.sessions.get(session).is_some_and(|session| !session.held.is_empty())
    }

    pub(crate) fn waits_behind(&self, session: SessionKey, topic: TopicName<'_>) -> bool {
        self.sessions.get(session).is_some_and(|s| s.held.iter().any(|held| held.message.topic() == topic))
    }

    pub(crate) fn push_ack(&mut self, id: ConnectionId, packet_type: PacketType, packet_id: PacketId, gate: Gate) {
        self.push_decided(id, packet_type, packet_id, gate, ReasonCode::Success);
    }

    pub(crate) fn push_decided(
        &mut self,
        id: ConnectionId,
        packet_type: PacketType,
        packet_id: PacketId,
        gate: Gate,
        reason_code: ReasonCode,
    ) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.push_ack(packet_type, packet_id, gate, reason_code);
        }
    }

    pub(crate) fn forget_received(&mut self, session: SessionKey, id: PacketId) {
        if let Some(session) = self.sessions.get_mut(session) {
            // The transition is the same for every version.
            let forgotten = session.received.handle(Version::V5_0, id, ReceiveInput::Refuse);
            debug_assert!(forgotten.is_ok(), "forgetting an identifier needs no room");
        }
    }
}
