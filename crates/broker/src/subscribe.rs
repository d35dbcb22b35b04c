//! SUBSCRIBE and UNSUBSCRIBE. [MQTT-3.8] [MQTT-3.10]

use alloc::{boxed::Box, vec::Vec};

use damselfly_codec::{
    PacketId, PacketType, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionId, SubscriptionOptions, Unsubscribe,
    Version,
};
use damselfly_session::Timestamp;
use damselfly_topic::{TopicCursor, TopicFilter};

use crate::{
    Broker, ConnectionId, Event, ProblemInformation, Question, QuestionId,
    access::Permission,
    broker::owned,
    budget::subscription_weight,
    connections::{Gate, LongAnswer, PendingAck},
    gate::Release,
    questions::Asked,
    route::{GROUP, PackedOptions},
    sessions::{Replay, SessionKey},
    slab::index,
    waiting::{Decision, Request, Waiting},
};

impl Broker {
    pub(crate) fn handle_subscribe(&mut self, now: Timestamp, id: ConnectionId, subscribe: &Subscribe<'_>) {
        let Some((key, mut answer)) = self.take_answer(id) else { return };
        let subscription_id = subscribe.properties.subscription_ids().next();
        for (place, (filter, options)) in subscribe.filters().enumerate().skip(answer.reason_codes.len()) {
            if self.is_tired() {
                self.keep_answer(id, answer);
                return;
            }
            self.steps += filter_steps(filter);
            let code = match self.check_subscription(id, key, (place, filter), subscription_id) {
                Ok(Permission::Deny) => ReasonCode::NotAuthorized,
                Ok(Permission::Allow) if self.last_waiting(id, filter).is_none() => {
                    self.subscribe(key, filter, options, subscription_id, &mut answer.replays)
                }
                Ok(permission) => {
                    let decision = match permission {
                        Permission::Ask => Decision::Asked(self.ask_subscribe(now, id, key, filter, options)),
                        Permission::Allow | Permission::Deny => Decision::Yes,
                    };
                    let request = Request::Subscribe { options, id: subscription_id, decision };
                    self.wait(id, filter, &mut answer, (place, request))
                }
                Err(code) => code,
            };
            answer.reason_codes.push(code);
        }
        self.push_answer(id, PacketType::Suback, subscribe.packet_id, answer);
    }

    /// The answer to the packet at hand: a new one, or the one that an earlier call has begun.
    fn take_answer(&mut self, id: ConnectionId) -> Option<(SessionKey, LongAnswer)> {
        let connection = self.connections.get_mut(id)?;
        let answer = match connection.begun.take() {
            Some(begun) => *begun,
            None => LongAnswer::default(),
        };
        Some((connection.session, answer))
    }

    /// Leaves the Topic Filters behind those that were answered for a later call, in which the packet comes again.
    fn keep_answer(&mut self, id: ConnectionId, answer: LongAnswer) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.begun = Some(Box::new(answer));
        }
    }

    /// Whether a packet was handled in part.
    pub(crate) fn has_begun(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.begun.is_some())
    }

    /// What came last for a filter about which a question is open.
    fn last_waiting(&self, id: ConnectionId, filter: TopicFilter<'_>) -> Option<&Request> {
        self.connections.get(id)?.waiting.as_ref()?.last(filter)
    }

    /// Has one filter wait for its turn; a code for its place until then.
    fn wait(
        &mut self,
        id: ConnectionId,
        filter: TopicFilter<'_>,
        answer: &mut LongAnswer,
        (place, request): (usize, Request),
    ) -> ReasonCode {
        if let Some(connection) = self.connections.get_mut(id) {
            let waiting = connection.waiting.get_or_insert_default();
            if answer.waiting == 0 {
                answer.number = waiting.next_answer();
            }
            waiting.push(filter, Waiting { answer: answer.number, place, request });
            answer.waiting += 1;
        }
        ReasonCode::UnspecifiedError
    }

    fn push_answer(&mut self, id: ConnectionId, packet_type: PacketType, packet_id: PacketId, answer: LongAnswer) {
        let gate =
            if answer.waiting == 0 { Gate::Commit(self.gate.record(Some(Release::Acks(id)))) } else { Gate::Decision };
        if let Some(connection) = self.connections.get_mut(id) {
            let reason_code = ReasonCode::Success;
            let answer = Some(Box::new(answer));
            connection.acks.push_back(PendingAck { packet_type, packet_id, gate, reason_code, answer });
        }
    }

    fn ask_subscribe(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        key: SessionKey,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
    ) -> QuestionId {
        let client_id = self.sessions.get(key).map_or_else(Default::default, |session| session.client_id.clone());
        let question = Question::Subscribe { client_id, filter: owned(filter.unshared().as_str()), qos: options.qos };
        self.ask(now, Asked::Subscribe(id), question)
    }

    /// What the configuration and the client's permissions say of one filter.
    fn check_subscription(
        &self,
        id: ConnectionId,
        key: SessionKey,
        (place, filter): (usize, TopicFilter<'_>),
        subscription_id: Option<SubscriptionId>,
    ) -> Result<Permission, ReasonCode> {
        let config = &self.config;
        let Some(connection) = self.connections.get(id) else { return Err(ReasonCode::UnspecifiedError) };
        let is_v5 = connection.version == Version::V5_0;
        if filter.shared().is_some() && !config.shared_subscription_available {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if filter.unshared().has_wildcards() && !config.wildcard_subscription_available {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        if subscription_id.is_some() && is_v5 && !config.subscription_ids_available {
            return Err(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        if filter.unshared().levels().nth(usize::from(config.max_topic_levels)).is_some() {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let Some(session) = self.sessions.get(key) else { return Err(ReasonCode::UnspecifiedError) };
        let (waiting, waiting_bytes) = connection.waiting_subscribes();
        let bytes = index(session.subscription_bytes.saturating_add(filter_bytes(filter))) + waiting_bytes;
        let limit = index(config.max_subscriptions);
        let is_full = session.subscriptions.len() + waiting >= limit
            || bytes > index(config.max_subscription_bytes)
            || !self.may_stand(subscription_weight(filter.as_str()));
        if is_full && !session.subscriptions.contains(filter.as_str()) {
            return Err(ReasonCode::QuotaExceeded);
        }
        // One filter repeated costs as much as many.
        if place >= limit || waiting >= limit || session.outbound.replays >= limit {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(session.access.as_ref().map_or(Permission::Allow, |access| access.subscribe(filter)))
    }

    /// Makes or replaces a subscription; the code of the SUBACK. [MQTT-3.8.4-3]
    pub(crate) fn subscribe(
        &mut self,
        key: SessionKey,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
        id: Option<SubscriptionId>,
        replays: &mut Vec<Replay>,
    ) -> ReasonCode {
        let options = SubscriptionOptions { qos: options.qos.min(self.config.maximum_qos), ..options };
        let packed = PackedOptions::new(options, id);
        let is_new = match filter.shared() {
            None => match self.index.insert(filter, key.slot, packed) {
                Ok(old) => old.is_none(),
                Err(_) => return ReasonCode::TopicFilterInvalid,
            },
            Some(shared) => {
                let joined = self.groups.join(filter, key.slot, packed);
                if joined.is_new_group
                    && self.index.insert(shared.filter(), GROUP | joined.group, PackedOptions::default()).is_err()
                {
                    self.groups.leave(filter.as_str(), key.slot);
                    return ReasonCode::TopicFilterInvalid;
                }
                joined.is_new_member
            }
        };
        let Some(session) = self.sessions.get_mut(key) else { return ReasonCode::UnspecifiedError };
        if is_new {
            session.subscriptions.insert(owned(filter.as_str()));
            self.standing.add(subscription_weight(filter.as_str()));
            session.subscription_bytes = session.subscription_bytes.saturating_add(filter_bytes(filter));
        }
        let client_id = session.client_id.clone();
        self.event(Event::Subscribed { client_id, filter: owned(filter.as_str()), qos: options.qos });
        if is_new {
            self.interest_changed(key, filter, true);
        }
        // A shared subscription gets no retained messages. [MQTT-4.8.2]
        let has_retained = self.retained.len() > 0;
        let wants_replay = has_retained
            && filter.shared().is_none()
            && match options.retain_handling {
                RetainHandling::SendAtSubscribe => true,
                RetainHandling::SendIfNew => is_new,
                RetainHandling::DoNotSend => false,
            };
        if wants_replay {
            let number = self.retained.next_walk();
            if let Some(session) = self.sessions.get_mut(key) {
                session.outbound.replays += 1;
                // All are sent again: what an earlier walk has not sent yet comes with them. [MQTT-3.8.4-3]
                session.outbound.walks.get_or_insert_default().insert(owned(filter.as_str()), number);
            }
            replays.push(Replay {
                number,
                filter: owned(filter.as_str()),
                cursor: TopicCursor::default(),
                qos: options.qos,
                ids: self.messages.keep_ids(id.as_slice()),
                before: self.retained.next_number(),
            });
        }
        granted(options.qos)
    }

    /// An answer about one filter came in: it goes on, and what waited behind it.
    pub(crate) fn answer_subscribe(
        &mut self,
        now: Timestamp,
        (id, question): (ConnectionId, QuestionId),
        refusal: Option<ReasonCode>,
        information: ProblemInformation,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let decided = connection.waiting.as_mut().and_then(|waiting| waiting.decide(question, refusal));
        let Some((text, number)) = decided else { return };
        if let Some(answer) = connection.answers_mut().find(|answer| answer.waits_as(number)) {
            answer.information.add(information);
        }
        let Ok(filter) = TopicFilter::new(&text) else { return };
        while let Some(connection) = self.connections.get_mut(id) {
            let key = connection.session;
            let Some(waiting) = connection.waiting.as_mut() else { return };
            let Some(first) = waiting.pop_decided(&text) else {
                if waiting.is_empty() {
                    connection.waiting = None;
                }
                return;
            };
            let mut replays = Vec::new();
            let code = match first.request {
                Request::Subscribe { decision: Decision::No(code), .. } if code.is_allowed_in(PacketType::Suback) => {
                    code
                }
                Request::Subscribe { decision: Decision::No(_) | Decision::Asked(_), .. } => ReasonCode::NotAuthorized,
                Request::Subscribe { options, id: subscription_id, decision: Decision::Yes } => {
                    // Others of the client's filters may have come in between, or other rules.
                    match self.check_subscription(id, key, (0, filter), subscription_id) {
                        Ok(Permission::Deny) => ReasonCode::NotAuthorized,
                        Ok(_) => self.subscribe(key, filter, options, subscription_id, &mut replays),
                        Err(code) => code,
                    }
                }
                Request::Unsubscribe => {
                    let code = self.unsubscribe(key, filter);
                    self.drop_ended_replays(now, key);
                    code
                }
            };
            self.settle_filter(id, (first.answer, first.place), code, replays);
        }
    }

    /// The code of one filter is known; with the last one SUBACK or UNSUBACK may leave.
    fn settle_filter(
        &mut self,
        id: ConnectionId,
        (number, place): (u64, usize),
        code: ReasonCode,
        replays: Vec<Replay>,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(answer) = connection.begun.as_mut().filter(|begun| begun.waits_as(number)) {
            answer.settle(place, code, replays);
            return;
        }
        for ack in &mut connection.acks {
            let Some(answer) = ack.answer_that_waits(number) else { continue };
            answer.settle(place, code, replays);
            if answer.waiting == 0 {
                ack.gate = Gate::Commit(self.gate.record(Some(Release::Acks(id))));
            }
            return;
        }
    }

    pub(crate) fn handle_unsubscribe(&mut self, now: Timestamp, id: ConnectionId, unsubscribe: &Unsubscribe<'_>) {
        let Some((key, mut answer)) = self.take_answer(id) else { return };
        for (place, filter) in unsubscribe.filters().enumerate().skip(answer.reason_codes.len()) {
            if self.is_tired() {
                self.keep_answer(id, answer);
                return;
            }
            self.steps += filter_steps(filter);
            let code = match self.last_waiting(id, filter) {
                None => self.unsubscribe(key, filter),
                Some(Request::Unsubscribe) => ReasonCode::NoSubscriptionExisted,
                Some(Request::Subscribe { .. }) => self.wait(id, filter, &mut answer, (place, Request::Unsubscribe)),
            };
            answer.reason_codes.push(code);
        }
        self.drop_ended_replays(now, key);
        self.push_answer(id, PacketType::Unsuback, unsubscribe.packet_id, answer);
    }

    /// Ends a subscription and its replay. What was queued for it is still delivered; what its replay stood before goes
    /// on with [`Broker::drop_ended_replays`]. [MQTT-3.10.4-1] [MQTT-3.10.4-3]
    pub(crate) fn unsubscribe(&mut self, key: SessionKey, filter: TopicFilter<'_>) -> ReasonCode {
        let Some(session) = self.sessions.get_mut(key) else { return ReasonCode::NoSubscriptionExisted };
        if !session.subscriptions.remove(filter.as_str()) {
            return ReasonCode::NoSubscriptionExisted;
        }
        self.standing.remove(subscription_weight(filter.as_str()));
        session.subscription_bytes = session.subscription_bytes.saturating_sub(filter_bytes(filter));
        // Nothing new is added for what is gone. [MQTT-3.10.4-2]
        session.outbound.end_walk(filter.as_str());
        let client_id = session.client_id.clone();
        self.remove_subscription(key, filter);
        self.event(Event::Unsubscribed { client_id, filter: owned(filter.as_str()) });
        ReasonCode::Success
    }
}

/// What one Topic Filter of a SUBSCRIBE or UNSUBSCRIBE counts for: a way of its own through the index, some memory.
fn filter_steps(filter: TopicFilter<'_>) -> usize {
    FILTER_STEPS + filter.as_str().len() / 16
}

const FILTER_STEPS: usize = 32;

/// A Topic Filter has at most 65,535 bytes. [MQTT-4.7.3-3]
pub(crate) fn filter_bytes(filter: TopicFilter<'_>) -> u32 {
    u32::try_from(filter.as_str().len()).unwrap_or(u32::MAX)
}

/// The code that grants a QoS.
const fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
