//! Requests that wait for a response: Response Topic, Correlation Data, deadline. [MQTT-4.10]

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    format,
    vec::Vec,
};

use damselfly_codec::{Properties, PropertiesBuf, Property, Publish, QoS, ReasonCode, SubscriptionOptions, Version};
use damselfly_session::{Deadlines, Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

use crate::{
    Client, DropReason, Event, InboundMessage, IndeterminateReason, Operation, Outcome, Refusal, Refused, Ticket,
    UnansweredReason, UsageError, requests::Ask, send::usage_error,
};

/// All requests without their outcome.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Makes Correlation Data that fits no request of another process.
    secret: u64,
    topic: ResponseTopic,
    /// Requests in the order they were made that wait for the Response Topic.
    waiting: VecDeque<(Ticket, Message)>,
    deadlines: Deadlines<Ticket>,
    /// Until when each request waits.
    pending: BTreeMap<Ticket, Timestamp>,
    /// The PUBLISH of a request has a ticket of its own, of which the application knows nothing.
    published: BTreeMap<Ticket, Ticket>,
}

#[derive(Debug)]
enum ResponseTopic {
    /// There is none yet.
    None,
    /// SUBSCRIBE is under way, with this ticket.
    Asked(Ticket, TopicNameBuf),
    /// The broker granted it.
    Granted(TopicNameBuf),
}

impl Calls {
    fn new(secret: u64) -> Self {
        Self {
            secret,
            topic: ResponseTopic::None,
            waiting: VecDeque::new(),
            deadlines: Deadlines::new(),
            pending: BTreeMap::new(),
            published: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next()
    }

    /// Is this the ticket of a PUBLISH or SUBSCRIBE that only serves requests?
    fn knows(&self, ticket: Ticket) -> bool {
        self.published.contains_key(&ticket)
            || matches!(&self.topic, ResponseTopic::Asked(asked, _) if *asked == ticket)
    }

    /// The request is over.
    fn finish(&mut self, ticket: Ticket) -> bool {
        self.deadlines.disarm(ticket);
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.pending.remove(&ticket).is_some()
    }

    fn correlation_data(&self, ticket: Ticket) -> [u8; 16] {
        let mut data = [0; 16];
        let (number, secret) = data.split_at_mut(8);
        number.copy_from_slice(&ticket.0.to_be_bytes());
        secret.copy_from_slice(&(self.secret ^ ticket.0.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes());
        data
    }

    /// The request that this message answers.
    fn answered_by(&self, topic: TopicName<'_>, properties: Properties<'_>) -> Option<Ticket> {
        let ResponseTopic::Granted(ours) = &self.topic else { return None };
        let data = properties.correlation_data()?;
        let ticket = Ticket(u64::from_be_bytes(*data.first_chunk()?));
        let is_ours = ours.as_name() == topic && self.pending.contains_key(&ticket);
        (is_ours && data == self.correlation_data(ticket)).then_some(ticket)
    }
}

impl Client {
    /// Publishes a request and waits for its response, until `deadline`. The client adds a Response Topic and Correlation
    /// Data, and subscribes to the Response Topic at the first request: it is made of the broker's Response Information if
    /// CONNECT asked for that and CONNACK has some, else of [`Config::response_topic`](crate::Config::response_topic).
    ///
    /// The ticket gets exactly one outcome: [`Outcome::Response`] with the response, [`Outcome::Unanswered`], or why the
    /// request did not reach the broker. A response that comes later is a message like any other. Requests are not
    /// [stored](crate::OutboxConfig) as such: they end with the process. What the next process goes on with is the PUBLISH,
    /// if its QoS is 1 or 2: a message like any other, with a ticket of its own.
    ///
    /// # Errors
    ///
    /// As [`Client::publish`]; before 5.0 [`UsageError::NeedsVersion5`]; with more requests than
    /// [`Config::max_awaited_responses`](crate::Config::max_awaited_responses) [`UsageError::TooManyRequests`]; if the
    /// message has a Response Topic or Correlation Data of its own [`UsageError::HasResponseTopic`].
    pub fn request(&mut self, now: Timestamp, message: Message, deadline: Timestamp) -> Result<Ticket, Refused> {
        if let Err(why) = self.check_call(&message) {
            return Err(Refused { why, message });
        }
        let secret = match &self.calls {
            Some(calls) => calls.secret,
            None => self.random.next(),
        };
        let calls = self.calls.get_or_insert_with(|| Box::new(Calls::new(secret)));
        let is_granted = matches!(calls.topic, ResponseTopic::Granted(_));
        let ticket = self.next_ticket();
        // Before it is published: it may have its outcome at once.
        if let Some(calls) = &mut self.calls {
            calls.pending.insert(ticket, deadline);
            calls.deadlines.arm(ticket, deadline);
        }
        if is_granted {
            if let Err(why) = self.publish_call(now, ticket, &message, deadline) {
                if let Some(calls) = &mut self.calls {
                    calls.finish(ticket);
                }
                return Err(Refused { why, message });
            }
        } else if let Some(calls) = &mut self.calls {
            calls.waiting.push_back((ticket, message));
        }
        self.ask_for_response_topic(now);
        Ok(ticket)
    }

    fn check_call(&self, message: &Message) -> Result<(), UsageError> {
        if self.is_closed() {
            return Err(UsageError::Closed);
        }
        if self.config.version != Version::V5_0 {
            return Err(UsageError::NeedsVersion5);
        }
        if self.calls.as_ref().map_or(0, |calls| calls.len()) >= self.config.max_awaited_responses {
            return Err(UsageError::TooManyRequests);
        }
        let properties = message.properties();
        if properties.response_topic().is_some() || properties.correlation_data().is_some() {
            return Err(UsageError::HasResponseTopic);
        }
        self.check_queued(message)
    }

    fn publish_call(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        message: &Message,
        deadline: Timestamp,
    ) -> Result<(), UsageError> {
        let Some(calls) = &self.calls else { return Ok(()) };
        let ResponseTopic::Granted(topic) = &calls.topic else { return Ok(()) };
        let mut properties = PropertiesBuf::new();
        properties.push(Property::ResponseTopic(topic.as_name())).map_err(usage_error)?;
        properties.push(Property::CorrelationData(&calls.correlation_data(ticket))).map_err(usage_error)?;
        properties.extend(message.properties()).map_err(usage_error)?;
        let (qos, retain) = (message.qos(), message.retain());
        let properties = properties.as_properties();
        let call = Message::compose(message.topic(), message.payload(), qos, retain, properties, now);
        let call = if message.expires_at().is_some() { call.with_expiry(message.expires_at()) } else { call };
        // Known before it is taken: it may have its outcome at once.
        let published = self.peek_ticket();
        if let Some(calls) = &mut self.calls {
            calls.published.insert(published, ticket);
        }
        match self.publish_until(now, call, Some(deadline)) {
            Ok(_) => Ok(()),
            Err(refused) => {
                if let Some(calls) = &mut self.calls {
                    calls.published.remove(&published);
                }
                Err(refused.why)
            }
        }
    }

    /// Subscribes to the Response Topic, if requests wait for one.
    pub(crate) fn ask_for_response_topic(&mut self, now: Timestamp) {
        let is_wanted = |calls: &Calls| matches!(calls.topic, ResponseTopic::None) && !calls.waiting.is_empty();
        if !self.is_connected() || !self.calls.as_deref().is_some_and(is_wanted) {
            return;
        }
        let Some(topic) = self.response_topic() else {
            return self.refuse_calls(&Refusal::ByLimit(UsageError::NoResponseTopic));
        };
        // A Topic Name is a Topic Filter, unless it reads as that of a Shared Subscription.
        let Ok(filter) = TopicFilter::new(topic.as_str()) else {
            return self.refuse_calls(&Refusal::ByLimit(UsageError::NoResponseTopic));
        };
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        let asked = self.peek_ticket();
        if let Some(calls) = &mut self.calls {
            calls.topic = ResponseTopic::Asked(asked, topic.clone());
        }
        let ask = Ask::Subscribe([(filter.to_buf(), options)].into());
        if let Err(error) = self.ask(now, ask, Properties::EMPTY) {
            self.refuse_calls(&Refusal::ByLimit(error));
        }
    }

    /// From Response Information, or as configured, or from the Client Identifier.
    fn response_topic(&self) -> Option<TopicNameBuf> {
        let information = self.connection.as_ref().and_then(|connection| connection.response_information.as_deref());
        let made = information.map(|information| format!("{}/response", information.trim_end_matches('/')));
        let made = made.and_then(|text| TopicName::new(&text).ok().map(TopicName::to_buf));
        let named = || format!("response/{}", self.session.client_id);
        made.or_else(|| self.config.response_topic.clone())
            .or_else(|| TopicName::new(&named()).ok().map(TopicName::to_buf))
    }

    /// The connection is open: of earlier processes' Response Topics one is left at most, that of this process.
    pub(crate) fn end_old_response_topics(&mut self, is_present: bool) {
        if self.session.requests.response_topics().next().is_none() {
            return;
        }
        let ours = match self.calls.as_ref().map(|calls| &calls.topic) {
            Some(ResponseTopic::Granted(topic) | ResponseTopic::Asked(_, topic)) => Some(topic.clone()),
            Some(ResponseTopic::None) | None => self.response_topic(),
        };
        let is_old = |filter: &TopicFilterBuf| ours.as_ref().is_none_or(|ours| ours.as_str() != filter.as_str());
        let old: Vec<_> = self.session.requests.response_topics().filter(|filter| is_old(filter)).cloned().collect();
        if is_present {
            return self.session.requests.end_unasked(old);
        }
        for filter in &old {
            self.unregister(filter);
        }
    }

    /// The broker answered for the Response Topic.
    pub(crate) fn response_topic_answered(&mut self, now: Timestamp, result: Result<QoS, ReasonCode>) {
        let Some(calls) = &mut self.calls else { return };
        let ResponseTopic::Asked(_, topic) = core::mem::replace(&mut calls.topic, ResponseTopic::None) else { return };
        if let Err(reason_code) = result {
            return self.refuse_calls(&Refusal::ByServer { reason_code, reason_string: None });
        }
        if self.session.requests.mark_response_topic(topic.as_str()) && self.outbox.is_some() {
            if let Ok(filter) = TopicFilter::new(topic.as_str()) {
                self.record(Operation::ResponseTopic { filter: filter.to_buf() });
            }
        }
        if let Some(calls) = &mut self.calls {
            calls.topic = ResponseTopic::Granted(topic);
        }
        while let Some((ticket, message)) = self.calls.as_mut().and_then(|calls| calls.waiting.pop_front()) {
            let deadline = self.calls.as_ref().and_then(|calls| calls.pending.get(&ticket).copied());
            let Some(deadline) = deadline else { continue };
            if let Err(error) = self.publish_call(now, ticket, &message, deadline) {
                self.finish_call(ticket, Outcome::Refused(Refusal::ByLimit(error)));
            }
        }
    }

    /// The subscription to the Response Topic is gone: the next request asks again.
    pub(crate) fn response_topic_lost(&mut self, filter: &str) {
        if let Some(calls) = &mut self.calls {
            if matches!(&calls.topic, ResponseTopic::Granted(topic) if topic.as_str() == filter) {
                calls.topic = ResponseTopic::None;
            }
        }
    }

    fn refuse_calls(&mut self, refusal: &Refusal) {
        let Some(calls) = &mut self.calls else { return };
        calls.topic = ResponseTopic::None;
        for (ticket, _) in core::mem::take(&mut calls.waiting) {
            self.finish_call(ticket, Outcome::Refused(refusal.clone()));
        }
    }

    fn finish_call(&mut self, ticket: Ticket, outcome: Outcome) {
        if self.calls.as_mut().is_some_and(|calls| calls.finish(ticket)) {
            self.say_event(Event::Completed { ticket, outcome });
        }
    }

    /// Is this a ticket of which the application knows nothing?
    pub(crate) fn is_hidden(&self, ticket: Ticket) -> bool {
        self.calls.as_ref().is_some_and(|calls| calls.knows(ticket))
    }

    /// What became of a SUBSCRIBE that could not be sent, or of the PUBLISH of a request: most of the time the request
    /// goes on waiting.
    pub(crate) fn complete_hidden(&mut self, hidden: Ticket, outcome: Outcome) {
        let ticket = self.calls.as_mut().and_then(|calls| calls.published.remove(&hidden));
        let Some(ticket) = ticket else {
            if let Outcome::Refused(refusal) = outcome {
                self.refuse_calls(&refusal);
            }
            return;
        };
        match outcome {
            Outcome::Acknowledged { reason_code: ReasonCode::NoMatchingSubscribers } => {
                self.finish_call(ticket, Outcome::Unanswered(UnansweredReason::NoSubscribers));
            }
            Outcome::Refused(_) | Outcome::Expired | Outcome::Dropped(_) => self.finish_call(ticket, outcome),
            _ => {}
        }
    }

    /// The request that a message answers; it is over.
    pub(crate) fn take_answered(&mut self, publish: &Publish<'_>, message: &Message) -> Option<Ticket> {
        let calls = self.calls.as_mut()?;
        let ticket = calls.answered_by(message.topic(), publish.properties)?;
        calls.finish(ticket).then_some(ticket)
    }

    /// Deadlines passed.
    pub(crate) fn expire_calls(&mut self, now: Timestamp) {
        while let Some(ticket) = self.calls.as_mut().and_then(|calls| calls.deadlines.pop_due(now)) {
            self.finish_call(ticket, Outcome::Unanswered(UnansweredReason::Deadline));
        }
    }

    /// The client is closed.
    pub(crate) fn settle_calls(&mut self) {
        let Some(calls) = self.calls.take() else { return };
        let waiting: Vec<Ticket> = calls.waiting.iter().map(|(ticket, _)| *ticket).collect();
        for ticket in calls.pending.into_keys() {
            let outcome = if waiting.contains(&ticket) {
                Outcome::Dropped(DropReason::Closed)
            } else {
                Outcome::Indeterminate(IndeterminateReason::Closed)
            };
            self.say_event(Event::Completed { ticket, outcome });
        }
    }
}

impl InboundMessage {
    /// The message that answers this one: to its Response Topic, with its Correlation Data and its QoS, and these
    /// properties beside. For [`Client::publish`].
    ///
    /// ```
    /// use damselfly_client::{InboundMessage, Message, Properties, Timestamp, UsageError};
    ///
    /// fn answer(now: Timestamp, request: &InboundMessage) -> Result<Message, UsageError> {
    ///     request.reply(now, b"21.5", Properties::EMPTY)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`UsageError::NoResponseTopic`] if the message asks for no response, [`UsageError::NotEncodable`] if `properties`
    /// has what the answer has already.
    pub fn reply(&self, now: Timestamp, payload: &[u8], properties: Properties<'_>) -> Result<Message, UsageError> {
        let asked = self.message.properties();
        let topic = asked.response_topic().ok_or(UsageError::NoResponseTopic)?;
        let mut all = PropertiesBuf::new();
        if let Some(data) = asked.correlation_data() {
            all.push(Property::CorrelationData(data)).map_err(usage_error)?;
        }
        all.extend(properties).map_err(usage_error)?;
        Ok(Message::compose(topic, payload, self.message.qos(), false, all.as_properties(), now))
    }
}
