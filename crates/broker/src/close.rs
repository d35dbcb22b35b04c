//! How connections and sessions end, and what becomes of wills. [MQTT-3.14] [MQTT-4.1] [MQTT-4.13]

use alloc::{boxed::Box, vec::Vec};

use damselfly_codec::{Connack, Disconnect, Foreign, PropertiesBuf, Property, QoS, ReasonCode, Rule, Version};
use damselfly_session::{Message, PeerError, SessionExpiry, StoredWill, Timestamp};
use damselfly_topic::TopicFilter;

use crate::{
    Broker, CommitId, ConnectionId, DropReason, Event, Output, ProblemInformation, Why,
    access::Permission,
    broker::{Fault, Timer, WORK_PER_CALL, owned},
    budget::{session_weight, subscription_weight},
    connections::{Connection, LongAnswer, Reauthentication, Stage},
    gate::Release,
    held::held_weight,
    lookup::Origin,
    publish::has_more_levels,
    route::GROUP,
    sessions::{Entry, Held, SessionKey, Sink, Wait},
};

/// Messages that are routed once a commit is durable, whatever became of their publisher meanwhile.
pub(crate) type AfterCommit = alloc::collections::VecDeque<(CommitId, Option<SessionKey>, Message)>;

impl Broker {
    /// Answers a fault as the version and the stage allow, and ends the connection.
    pub(crate) fn fail(&mut self, now: Timestamp, id: ConnectionId, fault: Fault) {
        let says_why = self.config.reason_strings;
        let information = if says_why { ProblemInformation::of_fault(fault) } else { ProblemInformation::new() };
        self.fail_with(now, id, fault, &information);
    }

    /// The same in other words.
    pub(crate) fn fail_with(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        fault: Fault,
        information: &ProblemInformation,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let (reason_code, why) = match fault {
            Fault::Malformed(error) => (error.reason_code(), Why::Malformed(error)),
            Fault::Peer(error) => (error.reason_code(), Why::PeerError(error)),
            Fault::Refuse(code) if connection.is_open() => (code, Why::ByBroker(code)),
            Fault::Refuse(code) => (code, Why::Refused(code)),
        };
        match &connection.stage {
            Stage::Closing => return,
            Stage::Open | Stage::Reauthenticating(_) => {
                self.send_disconnect(id, reason_code, PropertiesBuf::new(), information);
            }
            Stage::AwaitConnect => self.answer_bad_connect(id, fault, reason_code, information),
            Stage::Asking(..) | Stage::Authenticating(_) | Stage::Accepted(_) => {
                let reason_code = match reason_code {
                    ReasonCode::ServerShuttingDown => ReasonCode::ServerUnavailable,
                    reason_code => reason_code,
                };
                self.send_connack(id, &Connack::refusal(reason_code), information);
            }
        }
        self.close(now, id, why);
    }

    /// Before CONNECT is accepted there is CONNACK or nothing. [MQTT-3.14.0-1] [MQTT3-3.1.4-1]
    fn answer_bad_connect(
        &mut self,
        id: ConnectionId,
        fault: Fault,
        reason_code: ReasonCode,
        information: &ProblemInformation,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let is_known_v5 = connection.version == Version::V5_0;
        let may_answer = match fault {
            // Without a CONNECT there is nothing to answer. [MQTT-3.2.0-1]
            Fault::Refuse(_) => connection.attempt > 0,
            Fault::Malformed(error) => error.rule() == Rule::ProtocolVersionUnsupported || is_known_v5,
            Fault::Peer(_) => false,
        };
        if may_answer {
            self.send_connack(id, &Connack::refusal(reason_code), information);
        }
    }

    /// False if a 5.0 client does not take it, or takes none of this size.
    fn send_disconnect(
        &mut self,
        id: ConnectionId,
        reason_code: ReasonCode,
        needed: PropertiesBuf,
        information: &ProblemInformation,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.is_v5()) else {
            return false;
        };
        // A code that DISCONNECT does not have ends the connection without words.
        let properties = connection.answer_properties(needed, information, |properties| {
            Disconnect { reason_code, properties }.encoded_len(Version::V5_0, Foreign::Reject)
        });
        let Some(properties) = properties else { return false };
        let disconnect = Disconnect { reason_code, properties: properties.as_properties() };
        let sent = disconnect.encode(Version::V5_0, Foreign::Reject, connection.transmit.tail(&mut self.pool)).is_ok();
        if sent {
            Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
        }
        sent
    }

    /// Sends a client elsewhere, in the packet that its stage allows. [MQTT-4.13.2-1]
    pub(crate) fn send_elsewhere(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        (permanent, server_reference): (bool, &str),
        information: &ProblemInformation,
    ) {
        let code = if permanent { ReasonCode::ServerMoved } else { ReasonCode::UseAnotherServer };
        let Some(connection) = self.connections.get(id) else { return };
        let (is_v5, is_open) = (connection.is_v5(), connection.is_open());
        if matches!(connection.stage, Stage::AwaitConnect | Stage::Closing) {
            self.fail(now, id, Fault::Refuse(code));
            return;
        }
        let mut needed = PropertiesBuf::new();
        let has_reference = needed.push(Property::ServerReference(server_reference)).is_ok();
        let sent = if is_open {
            self.send_disconnect(id, code, needed, information)
        } else if is_v5 {
            let connack = Connack { properties: needed.as_properties(), ..Connack::refusal(code) };
            self.send_connack(id, &connack, information)
        } else {
            // Before 5.0 there is no word for elsewhere.
            self.send_connack(id, &Connack::refusal(ReasonCode::ServerUnavailable), information)
        };
        if !sent && has_reference {
            // The code at least.
            self.fail_with(now, id, Fault::Refuse(code), information);
            return;
        }
        self.close(now, id, if is_open { Why::ByBroker(code) } else { Why::Refused(code) });
    }

    /// Ends a connection and has the adapter close it.
    pub(crate) fn close(&mut self, now: Timestamp, id: ConnectionId, why: Why) {
        if self.connections.get(id).is_none_or(|connection| matches!(connection.stage, Stage::Closing)) {
            return;
        }
        self.end_connection(now, id, why);
        self.outputs.push_back(Output::Close(id));
    }

    /// Takes a connection out of everything. What it was owed is forgotten, what it caused stays.
    pub(crate) fn end_connection(&mut self, now: Timestamp, id: ConnectionId, why: Why) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let stage = core::mem::replace(&mut connection.stage, Stage::Closing);
        if matches!(stage, Stage::Closing) {
            return;
        }
        self.standing.remove(stage.weight());
        let key = connection.session;
        let acks = core::mem::take(&mut connection.acks);
        let waiting = connection.waiting.take();
        let begun = connection.begun.take();
        let cache = connection.route_cache.take();
        connection.pause = None;
        connection.inbound_aliases = None;
        connection.outbound_aliases = None;
        self.counters.route_cache_bytes -= cache.map_or(0, |cache| cache.heap_bytes());
        self.forget_arriving(id);
        self.deadlines.disarm(Timer::Connection(id));
        for answer in acks.into_iter().filter_map(|ack| ack.answer).chain(begun) {
            self.forget_answer(key, *answer);
        }
        for question in waiting.iter().flat_map(|waiting| waiting.questions()) {
            self.cancel_question(question);
        }
        if let Stage::Asking(_, question) | Stage::Reauthenticating(Reauthentication::Asked(question)) = stage {
            self.cancel_question(question);
        }
        let owned_session = self.sessions.get(key).filter(|session| session.owner == Some(id));
        let client_id = owned_session.map(|session| session.client_id.clone());
        self.event(Event::Disconnected { connection: id, client_id: client_id.clone(), why });
        if client_id.is_some() {
            let keeps_will = why != Why::ByClient(ReasonCode::Success);
            self.detach(now, key, keeps_will);
        }
    }

    /// The connection of a session is gone. [MQTT-3.1.2-8] [MQTT-3.1.2-23]
    fn detach(&mut self, now: Timestamp, key: SessionKey, keeps_will: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.owner = None;
        if session.full_since.take().is_some() {
            self.full_sessions -= 1;
        }
        let expiry = session.expiry;
        self.set_sink(key, Sink::Offline);
        if !keeps_will {
            self.set_will(key, None);
        }
        let delay = self.sessions.get(key).and_then(|session| session.will.as_ref()).map(StoredWill::delay);
        self.cancel_held(now, key);
        if expiry == SessionExpiry::OnClose {
            self.end_session(now, key);
            return;
        }
        self.rebalance(now, key, false);
        match delay {
            Some(0) => self.publish_will(now, key),
            Some(seconds) => {
                let at = now.saturating_add(core::time::Duration::from_secs(seconds.into()));
                if let Some(session) = self.sessions.get_mut(key) {
                    session.will_at = Some(at);
                }
            }
            None => {}
        }
        if let Some(session) = self.sessions.get_mut(key) {
            session.ends_at = expiry.deadline(now);
        }
        self.arm_session(key);
    }

    /// Where the deliveries of a session go from here on.
    pub(crate) fn set_sink(&mut self, key: SessionKey, sink: Sink) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let before = core::mem::replace(&mut session.sink, sink);
        let (was_there, is_there) = (before != Sink::Offline, sink != Sink::Offline);
        if was_there != is_there {
            self.presence_changed(key, is_there);
        }
    }

    fn arm_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        match [session.will_at, session.ends_at].into_iter().flatten().min() {
            Some(at) => self.deadlines.arm(Timer::Session(key), at),
            None => {
                self.deadlines.disarm(Timer::Session(key));
            }
        }
    }

    /// A will or the end of a session is due.
    pub(crate) fn check_session(&mut self, now: Timestamp, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        if session.owner.is_some() {
            return;
        }
        if session.ends_at.is_some_and(|at| at <= now) {
            // A will that waits longer is published now. [MQTT-3.1.2-8]
            self.end_session(now, key);
            return;
        }
        if session.will_at.is_some_and(|at| at <= now) {
            self.publish_will(now, key);
        }
        self.arm_session(key);
    }

    /// Publishes the will of a session and forgets it. [MQTT-3.1.2-10]
    fn publish_will(&mut self, now: Timestamp, key: SessionKey) {
        let will = self.take_will(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.will_at = None;
        let Some(will) = will else { return };
        let client_id = session.client_id.clone();
        let topic = will.topic();
        let permission = session.access.as_ref().map_or(Permission::Allow, |access| access.publish(topic));
        // Nobody is there any more to wait for an answer: what would have to be asked is not published.
        if permission != Permission::Allow || topic.as_str().starts_with("$SYS/") {
            self.note_drop(Some(key.slot), topic, DropReason::NotAuthorized);
            return;
        }
        if has_more_levels(topic, self.config.max_topic_levels) {
            self.note_drop(Some(key.slot), topic, DropReason::TooManyLevels);
            return;
        }
        let event = Event::WillPublished { client_id, topic: owned(topic.as_str()) };
        let message = will.publish(now);
        if message.qos() == QoS::ExactlyOnce {
            let commit = self.gate.record(Some(Release::AfterCommit));
            self.route_after(commit, Some(key), message);
        } else {
            self.gate.record(None);
            self.route_in_order(now, message, Some(key));
        }
        self.event(event);
    }

    /// A session ends: its will is published, everything else is gone. [MQTT-4.1.0-2]
    pub(crate) fn end_session(&mut self, now: Timestamp, key: SessionKey) {
        self.publish_will(now, key);
        self.rebalance(now, key, true);
        self.deadlines.disarm(Timer::Session(key));
        self.set_sink(key, Sink::Offline);
        if !self.remove_subscriptions(key, WORK_PER_CALL) {
            self.ended.push_back(key);
        }
        let Some(session) = self.sessions.end(key) else { return };
        self.standing.remove(session_weight(&session));
        self.full_sessions -= usize::from(session.full_since.is_some());
        self.held_bytes -= session.held_bytes;
        if session.expiry.outlives_connection() {
            self.gate.record(None);
        }
        let mut discarded = 0;
        let queued = session.outbound.queue.into_iter().filter_map(|entry| match entry {
            Entry::Message(queued) => Some(queued),
            Entry::Replay(replay) => {
                self.messages.release_ids(replay.ids);
                None
            }
        });
        let queued: Vec<_> = queued.collect();
        for queued in queued.into_iter().chain(session.outbound.inflight.into_iter().filter_map(|i| i.queued)) {
            discarded += 1;
            self.discard(queued);
        }
        for held in session.held {
            match held.wait {
                Wait::Commit(commit) => {
                    self.gate.record(Some(Release::AfterCommit));
                    self.route_after(commit, None, held.message);
                }
                Wait::Lookup { id, .. } => self.orphan_lookup(id),
                // What was neither committed nor sent without an identifier went with the connection.
                Wait::Nothing | Wait::Room => {
                    self.route_orphan(now, held.message, Origin::Here);
                }
                Wait::Answer(_) => {}
            }
        }
        self.event(Event::SessionEnded { client_id: session.client_id, discarded });
    }

    /// Takes some subscriptions of a session out of the index. True if none is left.
    fn remove_subscriptions(&mut self, key: SessionKey, limit: usize) -> bool {
        for _ in 0..limit {
            let filter = self.sessions.get_mut(key).and_then(|session| session.subscriptions.pop_first());
            let Some(filter) = filter else { return true };
            self.standing.remove(subscription_weight(&filter));
            if let Ok(filter) = TopicFilter::new(&filter) {
                self.remove_subscription(key, filter);
            }
        }
        self.sessions.get(key).is_none_or(|session| session.subscriptions.is_empty())
    }

    /// Goes on with the subscriptions of sessions that ended with very many.
    pub(crate) fn bury(&mut self) {
        let Some(key) = self.ended.pop_front() else { return };
        if self.remove_subscriptions(key, WORK_PER_CALL) {
            self.sessions.bury(key);
        } else {
            self.ended.push_back(key);
        }
    }

    /// Has a message routed once a commit is durable.
    pub(crate) fn route_after(&mut self, commit: CommitId, publisher: Option<SessionKey>, message: Message) {
        self.held_bytes += held_weight(&message);
        self.after_commit.push_back((commit, publisher, message));
    }

    /// Routes what waited for a commit without its publisher.
    pub(crate) fn release_after_commit(&mut self, now: Timestamp) {
        while self.has_committed() && !self.is_tired() {
            if let Some((_, publisher, message)) = self.after_commit.pop_front() {
                self.held_bytes -= held_weight(&message);
                self.route_in_order(now, message, publisher);
            }
        }
    }

    /// Whether a message waits that waits for no commit.
    pub(crate) fn has_committed(&self) -> bool {
        self.after_commit.front().is_some_and(|(commit, ..)| self.gate.is_committed(*commit))
    }

    /// SUBACK or UNSUBACK will not be sent: what was to follow it does not either.
    pub(crate) fn forget_answer(&mut self, key: SessionKey, answer: LongAnswer) {
        for replay in answer.replays {
            self.end_replay(key, replay);
        }
    }

    /// What waits for an answer or for room goes with its connection, unless it was committed: the client, never told
    /// anything, sends it again.
    fn cancel_held(&mut self, now: Timestamp, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        for held in &mut session.held {
            // It is on its way; nobody is told, so the client sends it again. [MQTT-4.4.0-1]
            if matches!(held.wait, Wait::Lookup { .. }) && held.message.qos() == QoS::AtLeastOnce {
                held.packet_id = None;
            }
        }
        let (kept, cancelled): (Vec<Held>, Vec<Held>) =
            core::mem::take(&mut session.held).into_iter().partition(|held| match held.wait {
                Wait::Commit(_) | Wait::Lookup { .. } => true,
                // Sent once and owed no acknowledgement: it only waits behind another.
                Wait::Nothing => held.packet_id.is_none(),
                Wait::Room => held.is_durable(),
                Wait::Answer(_) => false,
            });
        session.held = kept.into();
        let weight = cancelled.iter().map(|held| held_weight(&held.message)).sum::<usize>();
        session.held_bytes -= weight;
        self.held_bytes -= weight;
        for held in cancelled {
            if let Wait::Answer(question) = held.wait {
                self.cancel_question(question);
            }
            if let (Some(packet_id), QoS::ExactlyOnce) = (held.packet_id, held.message.qos()) {
                self.forget_received(key, packet_id);
            }
        }
        // What stays may have waited behind what is gone.
        self.release_held(now, key);
    }

    /// DISCONNECT by the client. [MQTT-3.14.4]
    pub(crate) fn handle_disconnect(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let key = connection.session;
        if let Some(interval) = disconnect.properties.session_expiry_interval() {
            // A value that our ceiling cut to zero was no zero of the client's. [MQTT-3.14.2.2.2]
            let asked = if connection.asked_to_end { SessionExpiry::OnClose } else { SessionExpiry::Never };
            let expiry = asked.after_disconnect(Some(interval))?;
            let expiry = self.capped(expiry);
            if let Some(session) = self.sessions.get_mut(key) {
                session.expiry = expiry;
                self.gate.record(None);
            }
        }
        self.close(now, id, Why::ByClient(disconnect.reason_code));
        Ok(())
    }

    /// Time to CONNECT, for the next AUTH, and keep alive. [MQTT-3.1.2-22]
    pub(crate) fn check_connection(&mut self, now: Timestamp, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match &connection.stage {
            Stage::AwaitConnect => self.close(now, id, Why::ConnectTimeout),
            Stage::Asking(..) | Stage::Accepted(_) | Stage::Closing => {}
            Stage::Authenticating(_) => self.fail(now, id, Fault::Refuse(ReasonCode::NotAuthorized)),
            Stage::Open | Stage::Reauthenticating(_) => match connection.deadline() {
                Some(_) if connection.keep_alive.is_expired(now) => {
                    self.fail(now, id, Fault::Peer(PeerError::KeepAliveTimeout));
                }
                // The next AUTH of a re-authentication did not come. [MQTT-4.12.1-2]
                Some(deadline) if deadline <= now => self.fail(now, id, Fault::Refuse(ReasonCode::NotAuthorized)),
                Some(deadline) => self.deadlines.arm(Timer::Connection(id), deadline),
                None => {
                    self.deadlines.disarm(Timer::Connection(id));
                }
            },
        }
    }

    /// The connection of a session, as long as it is open.
    pub(crate) fn connection_of(&self, key: SessionKey) -> Option<ConnectionId> {
        let Sink::Connection(connection) = self.sessions.get(key)?.sink else { return None };
        self.connections.get(connection).is_some_and(Connection::is_open).then_some(connection)
    }

    /// Counts a dropped message and reports it when the count is a power of two.
    pub(crate) fn note_drop(&mut self, slot: Option<u32>, topic: damselfly_topic::TopicName<'_>, reason: DropReason) {
        self.counters.note_drop(reason);
        let (client_id, count) = match slot.and_then(|slot| self.sessions.at_mut(slot)) {
            Some(session) => {
                session.drops += 1;
                (Some(&session.client_id), session.drops)
            }
            None => (None, self.counters.dropped(reason)),
        };
        if count.is_power_of_two() {
            let client_id: Option<Box<str>> = client_id.cloned();
            self.event(Event::Dropped { client_id, topic: owned(topic.as_str()), reason, count });
        }
    }

    /// Removes one subscription from the index or its share group.
    pub(crate) fn remove_subscription(&mut self, key: SessionKey, filter: TopicFilter<'_>) -> bool {
        let removed = match filter.shared() {
            None => self.index.remove(filter, key.slot).is_some(),
            Some(shared) => {
                let left = self.groups.leave(filter.as_str(), key.slot);
                if let Some(group) = left.emptied {
                    self.index.remove(shared.filter(), GROUP | group);
                }
                left.was_member
            }
        };
        if removed {
            self.interest_changed(key, filter, false);
        }
        removed
    }
}
