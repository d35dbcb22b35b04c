//! SUBSCRIBE and UNSUBSCRIBE. [MQTT-3.8] [MQTT-3.10]

use alloc::{boxed::Box, vec::Vec};

use damselfly_codec::{
    PacketId, PacketType, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionId, SubscriptionOptions, Unsubscribe,
    Version,
};
use damselfly_session::Timestamp;
use damselfly_topic::{TopicCursor, TopicFilter};

use crate::{
    Broker, ConnectionId, Event, Question, QuestionId,
    access::{Permission, plain},
    broker::owned,
    connections::{Gate, PendingAck, PendingSubscription, SubscribeAnswer},
    gate::Release,
    questions::Asked,
    route::{GROUP, PackedOptions},
    sessions::{Replay, SessionKey},
    slab::index,
};

impl Broker {
    pub(crate) fn handle_subscribe(&mut self, now: Timestamp, id: ConnectionId, subscribe: &Subscribe<'_>) {
        let Some(key) = self.connections.get(id).map(|connection| connection.session) else { return };
        let subscription_id = subscribe.properties.subscription_ids().next();
        let mut answer = SubscribeAnswer { reason_codes: Vec::new(), asked: Vec::new(), replays: Vec::new() };
        for (place, (filter, options)) in subscribe.filters().enumerate() {
            let code = match self.check_subscription(id, key, (place, filter), subscription_id) {
                Ok(Permission::Allow) => self.subscribe(key, filter, options, subscription_id, &mut answer.replays),
                Ok(Permission::Ask) => {
                    let question = self.ask_subscribe(now, id, key, filter, options);
                    let pending = PendingSubscription { filter: owned(filter.as_str()), options, id: subscription_id };
                    answer.asked.push((question, place, pending));
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.asked += 1;
                    }
                    ReasonCode::NotAuthorized
                }
                Ok(Permission::Deny) => ReasonCode::NotAuthorized,
                Err(code) => code,
            };
            answer.reason_codes.push(code);
        }
        let gate = if answer.asked.is_empty() {
            Gate::Commit(self.gate.record(Some(Release::Acks(id))))
        } else {
            Gate::Decision
        };
        self.push_answer(id, PacketType::Suback, subscribe.packet_id, gate, answer);
    }

    fn push_answer(
        &mut self,
        id: ConnectionId,
        packet_type: PacketType,
        packet_id: PacketId,
        gate: Gate,
        answer: SubscribeAnswer,
    ) {
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
        let question = Question::Subscribe { client_id, filter: owned(plain(filter).as_str()), qos: options.qos };
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
        if plain(filter).has_wildcards() && !config.wildcard_subscription_available {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        if subscription_id.is_some() && is_v5 && !config.subscription_ids_available {
            return Err(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        if plain(filter).levels().nth(usize::from(config.max_topic_levels)).is_some() {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let Some(session) = self.sessions.get(key) else { return Err(ReasonCode::UnspecifiedError) };
        let bytes = session.subscription_bytes.saturating_add(filter_bytes(filter));
        let limit = index(config.max_subscriptions);
        let is_full = session.subscriptions.len() + connection.asked >= limit || bytes > config.max_subscription_bytes;
        if is_full && !session.subscriptions.contains(filter.as_str()) {
            return Err(ReasonCode::QuotaExceeded);
        }
        // One filter repeated costs as much as many.
        if place >= limit || connection.asked >= limit || session.outbound.replays >= limit {
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
            session.subscription_bytes = session.subscription_bytes.saturating_add(filter_bytes(filter));
        }
        let client_id = session.client_id.clone();
        self.event(Event::Subscribed { client_id, filter: owned(filter.as_str()), qos: options.qos });
        if is_new {
            self.interest_changed(filter, true);
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
            if let Some(session) = self.sessions.get_mut(key) {
                session.outbound.replays += 1;
            }
            replays.push(Replay {
                filter: owned(filter.as_str()),
                cursor: TopicCursor::default(),
                qos: options.qos,
                ids: self.messages.keep_ids(id.as_slice()),
                before: self.retained.next_number(),
            });
        }
        granted(options.qos)
    }

    /// An answer about one filter came in; with the last one SUBACK may leave.
    pub(crate) fn answer_subscribe(&mut self, id: ConnectionId, question: QuestionId, refusal: Option<ReasonCode>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let key = connection.session;
        connection.asked = connection.asked.saturating_sub(1);
        let mut waiting =
            connection.acks.iter_mut().enumerate().filter_map(|(at, ack)| Some((at, ack.answer.as_mut()?)));
        let found = waiting.find_map(|(at, answer)| {
            let asked = answer.asked.iter().position(|(open, ..)| *open == question)?;
            Some((at, answer.asked.remove(asked)))
        });
        let Some((at, (_, place, pending))) = found else { return };
        let mut replays = Vec::new();
        let code = match (refusal, TopicFilter::new(&pending.filter)) {
            // Others of the client's filters may have come in between.
            (None, Ok(filter)) => match self.check_subscription(id, key, (0, filter), pending.id) {
                Ok(_) => self.subscribe(key, filter, pending.options, pending.id, &mut replays),
                Err(code) => code,
            },
            (Some(code), _) if code.is_allowed_in(PacketType::Suback) => code,
            (Some(_), _) | (None, Err(_)) => ReasonCode::NotAuthorized,
        };
        let Some(ack) = self.connections.get_mut(id).and_then(|connection| connection.acks.get_mut(at)) else { return };
        let Some(answer) = ack.answer.as_mut() else { return };
        if let Some(slot) = answer.reason_codes.get_mut(place) {
            *slot = code;
        }
        answer.replays.extend(replays);
        if answer.asked.is_empty() {
            ack.gate = Gate::Commit(self.gate.record(Some(Release::Acks(id))));
        }
    }

    pub(crate) fn handle_unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe<'_>) {
        let Some(key) = self.connections.get(id).map(|connection| connection.session) else { return };
        let mut reason_codes = Vec::new();
        for filter in unsubscribe.filters() {
            reason_codes.push(self.unsubscribe(key, filter));
        }
        let answer = SubscribeAnswer { reason_codes, asked: Vec::new(), replays: Vec::new() };
        let gate = Gate::Commit(self.gate.record(Some(Release::Acks(id))));
        self.push_answer(id, PacketType::Unsuback, unsubscribe.packet_id, gate, answer);
    }

    /// Ends a subscription. What was queued for it is still delivered. [MQTT-3.10.4-1] [MQTT-3.10.4-3]
    pub(crate) fn unsubscribe(&mut self, key: SessionKey, filter: TopicFilter<'_>) -> ReasonCode {
        let Some(session) = self.sessions.get_mut(key) else { return ReasonCode::NoSubscriptionExisted };
        if !session.subscriptions.remove(filter.as_str()) {
            return ReasonCode::NoSubscriptionExisted;
        }
        session.subscription_bytes = session.subscription_bytes.saturating_sub(filter_bytes(filter));
        let client_id = session.client_id.clone();
        self.remove_subscription(key, filter);
        self.event(Event::Unsubscribed { client_id, filter: owned(filter.as_str()) });
        ReasonCode::Success
    }
}

/// A Topic Filter has at most 65,535 bytes. [MQTT-4.7.3-3]
fn filter_bytes(filter: TopicFilter<'_>) -> u32 {
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
