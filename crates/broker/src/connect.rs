//! CONNECT: checked, asked about, accepted, answered. [MQTT-3.1] [MQTT-3.2]

use alloc::{boxed::Box, format, sync::Arc};
use core::num::NonZeroU16;

use damselfly_codec::{
    Connack, Connect, Foreign, PROTOCOL_MAXIMUM_PACKET_SIZE, PacketType, PropertiesBuf, Property, QoS, ReasonCode,
    Version,
};
use damselfly_session::{
    InboundAliases, KeepAlive, OutboundAliases, ReceiveWindow, SessionExpiry, StoredWill, Timestamp, Window,
};

use crate::{
    Answer, AuthenticationStep, Broker, ConnectionId, Event, Grant, ProblemInformation, Question, QuestionId, Why,
    broker::{Fault, Timer, owned},
    budget::question_weight,
    connections::{Pause, PendingConnect, Stage},
    gate::Release,
    questions::{Asked, sayable_refusal},
    sessions::{Session, SessionKey, Sink},
    slab::index,
};

impl Broker {
    pub(crate) fn handle_connect(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        connect: &Connect<'_>,
    ) -> Result<(), Fault> {
        self.attempts += 1;
        let attempt = self.attempts;
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        connection.version = connect.version;
        connection.attempt = attempt;
        connection.keep_alive = KeepAlive::new(0, now);
        connection.max_packet_size =
            connect.properties.maximum_packet_size().map_or(PROTOCOL_MAXIMUM_PACKET_SIZE, Into::into);
        connection.wants_problem_information = connect.properties.request_problem_information().unwrap_or(true);
        let peer = connection.peer;
        self.check_connect(connect)?;
        let mut pending = Box::new(self.pending_connect(connect));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.asked_to_end = !pending.session_expiry.outlives_connection();
        }
        let authentication = pending.authentication_method.as_ref().map(|method| AuthenticationStep {
            method: method.clone(),
            data: connect.properties.authentication_data().map(Into::into),
        });
        let question = Question::Connect {
            connection: id,
            peer,
            version: connect.version,
            client_id: owned(connect.client_id),
            user_name: connect.user_name.map(owned),
            password: connect.password.map(Into::into),
            authentication,
        };
        pending.asked_bytes = question_weight(&question);
        self.count_handshake(now, id, pending.weight())?;
        let question = self.ask(now, Asked::Connect(id), question);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.stage = Stage::Asking(pending, question);
            connection.pause = Some(Pause::Question);
        }
        Ok(())
    }

    /// What the standard or our configuration refuses whoever it is.
    fn check_connect(&self, connect: &Connect<'_>) -> Result<(), Fault> {
        let is_v5 = connect.version == Version::V5_0;
        if connect.client_id.is_empty() {
            // 3.1 knows no empty identifier, 3.1.1 only beside Clean Session. [MQTT3-3.1.3-8]
            let may_be_empty = match connect.version {
                Version::V3_1 => false,
                Version::V3_1_1 => connect.clean_start,
                Version::V5_0 => true,
            };
            if !may_be_empty || !self.config.allow_empty_client_id {
                return Err(Fault::Refuse(ReasonCode::ClientIdentifierNotValid));
            }
        }
        let limit = self.config.max_keep_alive;
        if !is_v5 && limit != 0 && (connect.keep_alive == 0 || connect.keep_alive > limit) {
            return Err(Fault::Refuse(ReasonCode::ClientIdentifierNotValid));
        }
        if let Some(will) = &connect.will {
            // [MQTT-3.2.2-12] [MQTT-3.2.2-13]
            if will.qos > self.config.maximum_qos {
                return Err(Fault::Refuse(ReasonCode::QoSNotSupported));
            }
            if will.retain && !self.config.retain_available {
                return Err(Fault::Refuse(ReasonCode::RetainNotSupported));
            }
            if let Some((_, reason_code)) = self.check_payload(will.payload, will.properties) {
                return Err(Fault::Refuse(reason_code));
            }
            if will.properties.as_bytes().len() > index(self.config.max_property_bytes) {
                return Err(Fault::Refuse(ReasonCode::QuotaExceeded));
            }
        }
        if self.is_shutting_down {
            return Err(Fault::Refuse(ReasonCode::ServerUnavailable));
        }
        Ok(())
    }

    fn pending_connect(&mut self, connect: &Connect<'_>) -> PendingConnect {
        let properties = connect.properties;
        let is_assigned_id = connect.client_id.is_empty();
        let expiry =
            SessionExpiry::from_connect(connect.version, connect.clean_start, properties.session_expiry_interval());
        PendingConnect {
            version: connect.version,
            clean_start: connect.clean_start,
            client_id: if is_assigned_id { self.assign_client_id() } else { owned(connect.client_id) },
            is_assigned_id,
            keep_alive: connect.keep_alive,
            session_expiry: expiry,
            receive_maximum: properties.receive_maximum(),
            topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(0),
            authentication_method: properties.authentication_method().map(owned),
            will: connect.will.as_ref().map(StoredWill::new),
            session_present: false,
            session: None,
            authentication_data: None,
            information: ProblemInformation::new(),
            asked_bytes: 0,
        }
    }

    /// An identifier that no session has. [MQTT-3.2.2-16]
    fn assign_client_id(&mut self) -> Box<str> {
        loop {
            self.assigned += 1;
            let number = core::hash::BuildHasher::hash_one(&self.keys, self.assigned);
            let client_id = format!("auto-{number:016x}").into_boxed_str();
            if self.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    pub(crate) fn answer_connect(
        &mut self,
        now: Timestamp,
        (id, question): (ConnectionId, QuestionId),
        answer: Answer,
        information: ProblemInformation,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let stage = core::mem::replace(&mut connection.stage, Stage::AwaitConnect);
        let mut pending = match stage {
            Stage::Asking(pending, asked) if asked == question => pending,
            other => {
                connection.stage = other;
                return;
            }
        };
        self.standing.remove(core::mem::take(&mut pending.asked_bytes));
        match answer {
            Answer::Allow(grant) => {
                pending.information = information;
                connection.stage = Stage::Authenticating(pending.clone());
                // The session counts in its place.
                let weight = pending.weight();
                self.standing.remove(weight);
                if let Err(fault) = self.accept(now, id, *pending, grant) {
                    self.standing.add(weight);
                    self.fail(now, id, fault);
                }
            }
            Answer::Deny(reason_code) => {
                connection.stage = Stage::Authenticating(pending);
                let reason_code = sayable_refusal(PacketType::Connack, reason_code);
                self.fail_with(now, id, Fault::Refuse(reason_code), &information);
            }
            Answer::Redirect { permanent, server_reference } => {
                connection.stage = Stage::Authenticating(pending);
                self.send_elsewhere(now, id, (permanent, &server_reference), &information);
            }
            Answer::Continue(data) => {
                let method = pending.authentication_method.clone();
                connection.stage = Stage::Authenticating(pending);
                match method {
                    // [MQTT-4.12.0-2] [MQTT-4.12.0-6]
                    Some(method) => {
                        // The time the embedding program took is not the client's.
                        self.deadlines.arm(Timer::Connection(id), now.saturating_add(self.config.connect_timeout));
                        self.resume(now, id);
                        let step = (ReasonCode::ContinueAuthentication, &*method, data.as_deref());
                        self.send_auth(now, id, step, &information);
                    }
                    None => self.fail(now, id, Fault::Refuse(ReasonCode::BadAuthenticationMethod)),
                }
            }
        }
    }

    /// The positive answer: whose session it is is decided here. [MQTT-3.1.4]
    fn accept(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        mut pending: PendingConnect,
        grant: Grant,
    ) -> Result<(), Fault> {
        let attempt = self.connections.get(id).map_or(0, |connection| connection.attempt);
        let existing = self.sessions.find(&pending.client_id);
        let has_room = self.has_room_for_session(existing, &pending.client_id, pending.will.as_ref());
        if !has_room {
            self.look_for_room_soon(now);
        }
        if let Some(existing) = existing.and_then(|key| self.sessions.get(key)) {
            if existing.principal != grant.principal || existing.sink == Sink::Local {
                return Err(Fault::Refuse(ReasonCode::NotAuthorized));
            }
            if existing.attempt > attempt {
                return Err(Fault::Refuse(ReasonCode::SessionTakenOver));
            }
            if !has_room {
                return Err(Fault::Refuse(ReasonCode::QuotaExceeded));
            }
            if let Some(owner) = existing.owner {
                self.fail(now, owner, Fault::Refuse(ReasonCode::SessionTakenOver));
            }
        } else if !has_room || self.sessions.len() >= index(self.config.max_sessions) {
            return Err(Fault::Refuse(ReasonCode::QuotaExceeded));
        }
        let existing = self.sessions.find(&pending.client_id);
        let (key, session_present, has_ended) = self.claim_session(now, &pending, existing, grant.principal);
        self.change_access(now, key, grant.access);
        let expiry = self.capped(pending.session_expiry);
        let Some(session) = self.sessions.get_mut(key) else { return Ok(()) };
        session.owner = Some(id);
        session.attempt = attempt;
        session.expiry = expiry;
        session.ends_at = None;
        session.will_at = None;
        self.set_will(key, pending.will.take());
        self.deadlines.disarm(Timer::Session(key));
        pending.session_present = session_present;
        pending.session = Some(key);
        pending.authentication_data = grant.authentication_data;
        if let Some(connection) = self.connections.get_mut(id) {
            self.standing.add(pending.weight());
            connection.session = key;
            connection.pause = Some(Pause::Question);
            connection.stage = Stage::Accepted(Box::new(pending));
        }
        if expiry.outlives_connection() || has_ended {
            self.gate.record(Some(Release::Connack(id)));
        } else {
            self.open_connection(now, id);
        }
        Ok(())
    }

    /// Resumes the session of a client or begins a new one: its key, whether it was there, and whether one ended.
    fn claim_session(
        &mut self,
        now: Timestamp,
        pending: &PendingConnect,
        existing: Option<SessionKey>,
        principal: Option<Arc<str>>,
    ) -> (SessionKey, bool, bool) {
        match existing {
            // [MQTT-3.1.2-5] [MQTT-3.2.2-3]
            Some(key) if !pending.clean_start => (key, true, false),
            // [MQTT-3.1.2-4] [MQTT-3.2.2-2]
            Some(key) => {
                self.end_session(now, key);
                (self.new_session(pending, principal), false, true)
            }
            // [MQTT-3.1.2-6]
            None => (self.new_session(pending, principal), false, false),
        }
    }

    fn new_session(&mut self, pending: &PendingConnect, principal: Option<Arc<str>>) -> SessionKey {
        let limit = self.received_limit(pending.version);
        self.insert_session(Session::new(pending.client_id.clone(), principal, pending.session_expiry, limit))
    }

    pub(crate) fn capped(&self, expiry: SessionExpiry) -> SessionExpiry {
        let ceiling = self.config.max_session_expiry;
        expiry.min(ceiling.map_or(SessionExpiry::Never, |seconds| SessionExpiry::from_wire(Some(seconds))))
    }

    /// CONNACK leaves: from here on the connection carries everything. [MQTT-3.2.0-1]
    pub(crate) fn open_connection(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let pending = match core::mem::replace(&mut connection.stage, Stage::Open) {
            Stage::Accepted(pending) => pending,
            other => {
                connection.stage = other;
                return;
            }
        };
        self.standing.remove(pending.weight());
        let Some(key) = pending.session else { return };
        let expiry = self.sessions.get(key).map_or(SessionExpiry::OnClose, |session| session.expiry);
        let keep_alive = self.server_keep_alive(&pending).unwrap_or(pending.keep_alive);
        self.prepare(now, id, &pending, keep_alive);
        let properties = self.connack_properties(&pending, expiry);
        let connack = Connack {
            session_present: pending.session_present,
            reason_code: ReasonCode::Success,
            properties: properties.as_properties(),
        };
        if !self.send_connack(id, &connack, &pending.information) {
            // The client takes no CONNACK of this size: there is nothing to say to it.
            self.close(now, id, Why::Refused(ReasonCode::PacketTooLarge));
            return;
        }
        self.counters.connects_accepted += 1;
        self.event(Event::Connected {
            connection: id,
            client_id: pending.client_id.clone(),
            version: pending.version,
            session_present: pending.session_present,
        });
        let limit = self.received_limit(pending.version);
        self.set_sink(key, Sink::Connection(id));
        if let Some(session) = self.sessions.get_mut(key) {
            // The session may come from a connection of another version.
            session.received.set_limit(limit);
            session.outbound.to_resend = session.outbound.inflight.len();
            let is_parked = session.is_parked;
            for inflight in &mut session.outbound.inflight {
                inflight.has_slot = false;
            }
            if is_parked {
                self.unpark(key);
            }
        }
        if let Some(connection) = self.connections.get_mut(id).filter(|_| pending.session_present) {
            connection.inbound.resumed();
        }
        self.resume(now, id);
        self.check_connection(now, id);
        self.resend_pubrels(now, id, key);
        self.pump(now, key);
    }

    /// What the CONNECT fixed for the time of the connection.
    fn prepare(&mut self, now: Timestamp, id: ConnectionId, pending: &PendingConnect, keep_alive: u16) {
        let receive_maximum = self.received_limit(pending.version);
        let max_inflight = NonZeroU16::new(self.config.max_inflight).unwrap_or(NonZeroU16::MAX);
        let aliases_in = if pending.version == Version::V5_0 { self.config.topic_alias_maximum } else { 0 };
        let aliases_out = pending.topic_alias_maximum.min(self.config.max_outbound_topic_aliases);
        let alias_bytes = index(self.config.max_alias_bytes);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.window = Window::new(pending.receive_maximum.map_or(max_inflight, |peer| peer.min(max_inflight)));
        connection.inbound = ReceiveWindow::new(receive_maximum);
        connection.keep_alive = KeepAlive::new(keep_alive, now);
        connection.authentication_method.clone_from(&pending.authentication_method);
        connection.inbound_aliases = (aliases_in > 0).then(|| Box::new(InboundAliases::new(aliases_in, alias_bytes)));
        connection.outbound_aliases =
            (aliases_out > 0).then(|| Box::new(OutboundAliases::new(aliases_out, alias_bytes)));
    }

    /// [MQTT-3.1.2-21] [MQTT-3.2.2-21]
    fn server_keep_alive(&self, pending: &PendingConnect) -> Option<u16> {
        let limit = self.config.max_keep_alive;
        let is_over = limit != 0 && (pending.keep_alive == 0 || pending.keep_alive > limit);
        (is_over && pending.version == Version::V5_0).then_some(limit)
    }

    /// Only what differs from what the absence of a property says. [MQTT-3.2.2.3]
    fn connack_properties(&self, pending: &PendingConnect, expiry: SessionExpiry) -> PropertiesBuf {
        let mut properties = PropertiesBuf::new();
        if pending.version != Version::V5_0 {
            return properties;
        }
        let config = &self.config;
        let mut push = |property: Property<'_>| {
            // Each kind is pushed once.
            let pushed = properties.push(property);
            debug_assert!(pushed.is_ok(), "a property of CONNACK twice");
        };
        if expiry != pending.session_expiry {
            push(Property::SessionExpiryInterval(expiry.to_wire()));
        }
        if let Some(maximum) = NonZeroU16::new(config.receive_maximum).filter(|maximum| *maximum != NonZeroU16::MAX) {
            push(Property::ReceiveMaximum(maximum));
        }
        if config.maximum_qos != QoS::ExactlyOnce {
            push(Property::MaximumQoS(config.maximum_qos));
        }
        if !config.retain_available {
            push(Property::RetainAvailable(false));
        }
        if config.max_packet_size < PROTOCOL_MAXIMUM_PACKET_SIZE {
            if let Some(size) = core::num::NonZeroU32::new(config.max_packet_size) {
                push(Property::MaximumPacketSize(size));
            }
        }
        if pending.is_assigned_id {
            push(Property::AssignedClientIdentifier(&pending.client_id));
        }
        if config.topic_alias_maximum > 0 {
            push(Property::TopicAliasMaximum(config.topic_alias_maximum));
        }
        if !config.wildcard_subscription_available {
            push(Property::WildcardSubscriptionAvailable(false));
        }
        if !config.subscription_ids_available {
            push(Property::SubscriptionIdentifierAvailable(false));
        }
        if !config.shared_subscription_available {
            push(Property::SharedSubscriptionAvailable(false));
        }
        if let Some(seconds) = self.server_keep_alive(pending) {
            push(Property::ServerKeepAlive(seconds));
        }
        if let Some(method) = &pending.authentication_method {
            push(Property::AuthenticationMethod(method));
            if let Some(data) = &pending.authentication_data {
                push(Property::AuthenticationData(data));
            }
        }
        properties
    }

    /// False if it does not fit the client's Maximum Packet Size or has no form in its version.
    pub(crate) fn send_connack(
        &mut self,
        id: ConnectionId,
        connack: &Connack<'_>,
        information: &ProblemInformation,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        let version = connection.version;
        let mut needed = PropertiesBuf::new();
        if needed.extend(connack.properties).is_err() {
            return false;
        }
        let properties = connection.answer_properties(needed, information, |properties| {
            Connack { properties, ..*connack }.encoded_len(version, Foreign::Strip)
        });
        let Some(properties) = properties else { return false };
        let connack = Connack { properties: properties.as_properties(), ..*connack };
        let sent = connack.encode(version, Foreign::Strip, connection.transmit.tail(&mut self.pool)).is_ok();
        if sent {
            Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
        }
        sent
    }

    /// Our Receive Maximum, which also bounds the QoS 2 identifiers that wait for PUBREL. Before 5.0 a client cannot
    /// know it.
    pub(crate) fn received_limit(&self, version: Version) -> NonZeroU16 {
        let limit = if version == Version::V5_0 { self.config.receive_maximum } else { u16::MAX };
        NonZeroU16::new(limit).unwrap_or(NonZeroU16::MAX)
    }
}
