//! What the application asks for.

use damselfly_codec::{
    Delivery, PacketId, Properties, PropertiesBuf, Property, Publish, QoS, ReasonCode, SubscriptionOptions, Version,
};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicName};

use crate::{
    AckToken, Client, DropReason, Outcome, OverflowPolicy, Refused, Ticket, UsageError,
    connection::Authentication,
    outbox::check_stored,
    requests::Ask,
    send::{Held, usage_error},
};

impl Client {
    /// [`Message::compose`] in memory that an earlier message of about the same length had: sent and done with, or
    /// [given back](Self::give_back). A small message at QoS 0 is then published without any allocation.
    pub fn compose(
        &mut self,
        now: Timestamp,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: Properties<'_>,
    ) -> Message {
        let delivery = Delivery::first(qos, PacketId::MIN);
        let publish = Publish { delivery, retain, topic: Some(topic), properties, payload };
        Message::new_in(&mut self.messages, &publish, topic, now)
    }

    /// Takes the memory of a message that the application is done with, for [messages to come](Self::compose) in either
    /// direction. Nothing is wrong without it.
    pub fn give_back(&mut self, message: Message) {
        message.give_back(&mut self.messages);
    }

    /// Takes a message for sending. It leaves at once if the connection and the broker's Receive Maximum allow it,
    /// and waits in the queue otherwise, behind the messages taken before.
    ///
    /// The ticket gets exactly one [`Outcome`], in an [`Event::Completed`](crate::Event::Completed). With an
    /// [outbox](crate::OutboxConfig) a message of QoS 1 or 2 is stored before it leaves, and counts as taken from
    /// [`Event::Stored`](crate::Event::Stored) on.
    ///
    /// # Errors
    ///
    /// The message comes back if the queue or the outbox is full (and the policy is [`OverflowPolicy::Reject`]), if the broker of
    /// this connection does not allow it, or after [`Client::close`].
    pub fn publish(&mut self, now: Timestamp, message: Message) -> Result<Ticket, Refused> {
        if self.is_closed() {
            return Err(Refused { why: UsageError::Closed, message });
        }
        self.publish_until(now, message, None)
    }

    /// The same for a message that nobody wants to be sent later than at `until`, also while closing.
    pub(crate) fn publish_until(
        &mut self,
        now: Timestamp,
        message: Message,
        until: Option<Timestamp>,
    ) -> Result<Ticket, Refused> {
        let is_stored = self.outbox.is_some() && message.qos() != QoS::AtMostOnce;
        if !is_stored && self.is_turn_of_next() {
            let ticket = self.peek_ticket();
            match self.send_message(now, ticket, message) {
                Ok(()) => return Ok(self.next_ticket()),
                Err((Held::Refused(why), message)) => return Err(Refused { why, message }),
                Err((Held::Wait, message)) => return self.publish_later(now, message, until, is_stored),
            }
        }
        self.publish_later(now, message, until, is_stored)
    }

    /// The same for one whose turn it is not yet.
    fn publish_later(
        &mut self,
        now: Timestamp,
        message: Message,
        until: Option<Timestamp>,
        is_stored: bool,
    ) -> Result<Ticket, Refused> {
        let checked = self.check_queued(&message);
        match checked.and_then(|()| if is_stored { check_stored(&message) } else { Ok(()) }) {
            Ok(()) if is_stored => self.enqueue_stored(now, message, until),
            Ok(()) => self.enqueue(now, message, until),
            Err(why) => Err(Refused { why, message }),
        }
    }

    /// The same for a message that is stored first. It has its identifier at once if it is its turn, so that one commit
    /// covers both.
    fn enqueue_stored(
        &mut self,
        now: Timestamp,
        message: Message,
        until: Option<Timestamp>,
    ) -> Result<Ticket, Refused> {
        while self.outbox.as_ref().is_some_and(|outbox| !outbox.has_room_for(&message)) {
            let could_hold = self.outbox.as_ref().is_some_and(|outbox| outbox.could_hold(&message))
                && self.queue.could_hold(&message);
            let makes_room = match self.config.queue.overflow {
                OverflowPolicy::Reject => {
                    self.is_room_awaited = true;
                    return Err(Refused { why: UsageError::OutboxFull, message });
                }
                OverflowPolicy::DropOldest => could_hold && self.drop_oldest(),
                OverflowPolicy::DropNewest => false,
            };
            if !makes_room {
                return Ok(self.drop_newest());
            }
        }
        let ticket = self.enqueue(now, message, until)?;
        self.pump(now);
        Ok(ticket)
    }

    /// May this message be sent, as far as that is known before it is its turn?
    pub(crate) fn check_queued(&self, message: &Message) -> Result<(), UsageError> {
        let server = self.server_limits().copied().unwrap_or_else(|| self.asked_limits());
        server.check_message(message)?;
        server.check_size(message)
    }

    fn enqueue(&mut self, now: Timestamp, message: Message, until: Option<Timestamp>) -> Result<Ticket, Refused> {
        if !self.queue.has_room_for(&message) {
            match self.config.queue.overflow {
                OverflowPolicy::Reject => {
                    self.is_room_awaited = true;
                    return Err(Refused { why: UsageError::QueueFull, message });
                }
                OverflowPolicy::DropNewest => return Ok(self.drop_newest()),
                OverflowPolicy::DropOldest if !self.queue.could_hold(&message) => return Ok(self.drop_newest()),
                OverflowPolicy::DropOldest => {
                    while !self.queue.has_room_for(&message) {
                        if !self.drop_oldest() {
                            break;
                        }
                    }
                }
            }
        }
        let ticket = self.next_ticket();
        let wait_until = self.queue.wait_until(now, &message);
        let wait_until = wait_until.into_iter().chain(until).min();
        if message.qos() != QoS::AtMostOnce {
            self.store(ticket, wait_until, &message);
        }
        self.queue.push_back(ticket, message, wait_until);
        Ok(ticket)
    }

    /// False if nothing is queued.
    fn drop_oldest(&mut self) -> bool {
        let Some((oldest, _)) = self.queue.pop_front() else { return false };
        self.complete(oldest, Outcome::Dropped(DropReason::Oldest));
        true
    }

    fn drop_newest(&mut self) -> Ticket {
        let ticket = self.next_ticket();
        self.complete(ticket, Outcome::Dropped(DropReason::Newest));
        ticket
    }

    /// Subscribes to these Topic Filters, all in one SUBSCRIBE. The properties may hold a Subscription Identifier and
    /// User Properties (5.0). What the broker grants is registered and restored whenever a new session begins.
    ///
    /// # Errors
    ///
    /// What the broker of this connection does not allow, or the standard does not; nothing was sent.
    pub fn subscribe(
        &mut self,
        now: Timestamp,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<Ticket, UsageError> {
        if self.is_closed() {
            return Err(UsageError::Closed);
        }
        let ask = Ask::Subscribe(filters.iter().map(|(filter, options)| (filter.to_buf(), *options)).collect());
        self.ask(now, ask, properties)
    }

    /// Unsubscribes from these Topic Filters, all in one UNSUBSCRIBE. They are not restored any more.
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe`].
    pub fn unsubscribe(
        &mut self,
        now: Timestamp,
        filters: &[TopicFilter<'_>],
        properties: Properties<'_>,
    ) -> Result<Ticket, UsageError> {
        if self.is_closed() {
            return Err(UsageError::Closed);
        }
        let ask = Ask::Unsubscribe(filters.iter().map(|filter| filter.to_buf()).collect());
        let ticket = self.ask(now, ask, properties)?;
        for filter in filters {
            self.unregister(&filter.to_buf());
        }
        Ok(ticket)
    }

    /// The same for what requests need, also while closing.
    pub(crate) fn ask(&mut self, now: Timestamp, ask: Ask, properties: Properties<'_>) -> Result<Ticket, UsageError> {
        if self.session.requests.len() >= self.config.max_requests {
            return Err(UsageError::TooManyRequests);
        }
        self.check_request(&ask, properties)?;
        let ticket = self.next_ticket();
        self.session.requests.push(ticket, ask, properties.into());
        self.pump(now);
        Ok(ticket)
    }

    /// May this be asked for: by the standard, by the version, and by the broker if there is one?
    pub(crate) fn check_request(&self, ask: &Ask, properties: Properties<'_>) -> Result<(), UsageError> {
        if self.config.version != Version::V5_0 && !properties.is_empty() {
            return Err(UsageError::NeedsVersion5);
        }
        let server = self.server_limits().copied().unwrap_or_else(|| self.asked_limits());
        match ask {
            Ask::Subscribe(filters) if filters.is_empty() => Err(UsageError::NoFilters),
            Ask::Unsubscribe(filters) if filters.is_empty() => Err(UsageError::NoFilters),
            Ask::Unsubscribe(_) => Ok(()),
            Ask::Subscribe(filters) => {
                let has_id = properties.subscription_ids().next().is_some();
                filters
                    .iter()
                    .try_for_each(|(filter, options)| server.check_subscription(filter.as_filter(), *options, has_id))
            }
        }
    }

    /// Acknowledges a received message, in any order; PUBACK and PUBREC leave in the order in which the messages came.
    /// [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    ///
    /// A Reason Code of 0x80 or above refuses the message: the broker does not send it again. Before 5.0 there is no
    /// such answer, so every acknowledgement says success.
    ///
    /// # Errors
    ///
    /// [`UsageError::StaleAcknowledgement`] if the token was used, or its QoS 1 message came on an earlier connection
    /// (the broker sends that message again), or its session is gone.
    pub fn acknowledge(&mut self, now: Timestamp, token: AckToken, reason_code: ReasonCode) -> Result<(), UsageError> {
        let reason_code = match self.config.version {
            Version::V5_0 => reason_code,
            Version::V3_1 | Version::V3_1_1 => ReasonCode::Success,
        };
        self.session.inbound.acknowledge(token, reason_code)?;
        self.send_answers();
        self.pump(now);
        Ok(())
    }

    /// Answers [`Event::AuthenticationStep`](crate::Event::AuthenticationStep). The client adds the Authentication
    /// Method; the properties hold Authentication Data. [MQTT-4.12.0-3]
    ///
    /// # Errors
    ///
    /// [`UsageError::NoAuthentication`] if the broker asked for nothing.
    pub fn authenticate(&mut self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.authentication_step(Authentication::AwaitApplication, ReasonCode::ContinueAuthentication, properties)
    }

    /// Starts a re-authentication with the Authentication Method of the CONNECT. [MQTT-4.12.1-1]
    ///
    /// # Errors
    ///
    /// [`UsageError::NoAuthentication`] if the CONNECT named no Authentication Method, the connection is not open, or
    /// an authentication is under way.
    pub fn reauthenticate(&mut self, properties: Properties<'_>) -> Result<(), UsageError> {
        if !self.is_connected() {
            return Err(UsageError::NoAuthentication);
        }
        self.authentication_step(Authentication::Idle, ReasonCode::ReAuthenticate, properties)
    }

    fn authentication_step(
        &mut self,
        expected: Authentication,
        reason_code: ReasonCode,
        properties: Properties<'_>,
    ) -> Result<(), UsageError> {
        let connection = self.connection.as_ref().filter(|connection| connection.authentication == expected);
        let method = connection.and_then(|connection| connection.authentication_method.as_deref());
        let mut all = PropertiesBuf::new();
        all.push(Property::AuthenticationMethod(method.ok_or(UsageError::NoAuthentication)?)).map_err(usage_error)?;
        all.extend(properties).map_err(usage_error)?;
        self.send_auth(reason_code, &all)?;
        if let Some(connection) = &mut self.connection {
            connection.authentication = Authentication::AwaitServer;
        }
        Ok(())
    }
}
