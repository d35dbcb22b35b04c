//! From the client to the broker: what may leave now, in which order, in which bytes.

use alloc::vec::Vec;

use damselfly_codec::{
    Ack, AckType, Addition, Auth, Delivery, Disconnect, EncodeError, Foreign, Packet, PacketId, Properties,
    PropertiesBuf, PropertyId, QoS, ReasonCode, Subscribe, Unsubscribe, Version,
};
use damselfly_session::{Message, OutboundAliases, SendAction, SendInput, SendState, Timestamp};
use damselfly_topic::TopicFilter;

use crate::{
    Client, ConnectionEnd, Event, IndeterminateReason, Operation, Outcome, Output, Refusal, Ticket, UsageError,
    inbound::Answer,
    requests::{Ask, Request},
};

/// Why the next message stays where it is.
pub(crate) enum Held {
    /// Nothing may leave now.
    Wait,
    /// It can never leave on this connection.
    Refused(UsageError),
}

impl Client {
    /// Sends all that may leave now: restored subscriptions and requests, what a resumed session has in flight, then
    /// the queue.
    #[inline]
    pub(crate) fn pump(&mut self, now: Timestamp) {
        if self.is_connected() && !self.has_nothing_to_send() {
            self.send_waiting(now);
        }
    }

    #[inline(never)]
    fn send_waiting(&mut self, now: Timestamp) {
        self.ask_for_response_topic(now);
        self.send_requests();
        self.replay_pubrels();
        self.replay_publishes(now);
        self.send_queue(now);
        self.tell_room();
    }

    #[inline]
    fn has_nothing_to_send(&self) -> bool {
        self.queue.is_empty()
            && !self.is_room_awaited
            && !self.session.requests.has_waiting()
            && self.calls.is_none()
            && self.connection.as_ref().is_some_and(|connection| connection.replay.is_done())
    }

    /// Has the transport taken enough of what it was given?
    fn has_transmit_room(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.is_open() && connection.waiting_bytes() < self.config.max_transmit_bytes.max(1)
        })
    }

    fn send_requests(&mut self) {
        while self.session.requests.has_waiting() && self.has_transmit_room() {
            let Some(packet_id) = self.session.ids.allocate() else { return };
            let Some(request) = self.session.requests.next_to_send() else { return };
            match self.send_request(packet_id, &request) {
                Ok(()) => self.session.requests.mark_sent(packet_id, request),
                Err(error) => {
                    self.session.ids.release(packet_id);
                    self.refuse_request(&request, error);
                }
            }
        }
    }

    fn send_request(&mut self, packet_id: PacketId, request: &Request) -> Result<(), UsageError> {
        self.check_request(&request.ask, request.properties.as_properties())?;
        let properties = request.properties.as_properties();
        match &request.ask {
            Ask::Subscribe(filters) => {
                let filters: Vec<_> = filters.iter().map(|(filter, options)| (filter.as_filter(), *options)).collect();
                self.append(|version, out| {
                    Subscribe::new(packet_id, properties, &filters).encode(version, Foreign::Reject, out)
                })
            }
            Ask::Unsubscribe(filters) => {
                let filters: Vec<TopicFilter<'_>> = filters.iter().map(|filter| filter.as_filter()).collect();
                self.append(|version, out| {
                    Unsubscribe::new(packet_id, properties, &filters).encode(version, Foreign::Reject, out)
                })
            }
        }
    }

    fn refuse_request(&mut self, request: &Request, error: UsageError) {
        if let Some(ticket) = request.ticket {
            return self.complete(ticket, Outcome::Refused(Refusal::ByLimit(error)));
        }
        let Ask::Subscribe(filters) = &request.ask else { return };
        for (filter, _) in filters {
            self.unregister(filter);
            let reason_code = reason_code_of(error);
            self.say_event(Event::SubscriptionLost { filter: filter.clone(), reason_code });
        }
    }

    /// PUBREL takes no slot of the window, so it never waits behind a PUBLISH. [MQTT-3.3.4-8] [MQTT-4.6.0-4]
    fn replay_pubrels(&mut self) {
        while let Some(after) = self.connection.as_ref().and_then(|connection| connection.replay.pubrels_after) {
            if !self.has_transmit_room() {
                return;
            }
            let next = self.session.in_flight.next_after(after);
            let next = next.map(|sent| (sent.sequence, sent.packet_id, sent.state, sent.gate));
            // An uncommitted one holds up those behind it; a PUBLISH before its commit is no PUBREL.
            if next.is_some_and(|(_, _, state, gate)| state == SendState::AwaitPubcomp && !self.is_committed(gate)) {
                return;
            }
            let Some(connection) = &mut self.connection else { return };
            connection.replay.pubrels_after = next.map(|(sequence, ..)| sequence);
            if let Some((_, packet_id, state, _)) = next {
                if SendState::next(Some(state), SendInput::Reconnect).action == SendAction::ResendPubrel {
                    self.send_ack(AckType::Pubrel, packet_id, ReasonCode::Success);
                }
            }
        }
    }

    /// Resends in the order of the first sending, within the window; then sends what waited for its commit.
    /// [MQTT-4.4.0-1] [MQTT-4.6.0-1]
    fn replay_publishes(&mut self, now: Timestamp) {
        while let Some(after) = self.connection.as_ref().and_then(|connection| connection.replay.publishes_after) {
            if !self.has_transmit_room() {
                return;
            }
            let next = self.session.in_flight.next_after(after);
            let Some(connection) = &mut self.connection else { return };
            let outbox = &self.outbox;
            let Some(sent) = next else {
                connection.replay.publishes_after = None;
                return;
            };
            let sequence = sent.sequence;
            if SendState::next(Some(sent.state), SendInput::Reconnect).action == SendAction::ResendPublish {
                if outbox.as_ref().is_some_and(|outbox| !outbox.is_committed(sent.gate)) {
                    return;
                }
                // Only what was sent does not expire. [MQTT-4.3.3-7]
                if !sent.may_have_left && sent.message.as_ref().is_some_and(|message| message.is_expired(now)) {
                    let packet_id = sent.packet_id;
                    self.finish_exchange(packet_id, Outcome::Expired);
                    continue;
                }
                if !sent.holds_slot && !connection.window.take() {
                    return;
                }
                sent.holds_slot = true;
                let dup = core::mem::replace(&mut sent.may_have_left, true);
                let (packet_id, message) = (sent.packet_id, sent.message.clone());
                if let Some(message) = message {
                    self.resend(now, packet_id, &message, dup);
                }
            }
            if let Some(connection) = &mut self.connection {
                connection.replay.publishes_after = Some(sequence);
            }
        }
    }

    fn resend(&mut self, now: Timestamp, packet_id: PacketId, message: &Message, dup: bool) {
        let delivery = match message.qos() {
            QoS::ExactlyOnce => Delivery::ExactlyOnce { id: packet_id, dup },
            QoS::AtMostOnce | QoS::AtLeastOnce => Delivery::AtLeastOnce { id: packet_id, dup },
        };
        let sent = self.check_message(message).and_then(|()| self.append_message(now, message, delivery));
        if let Err(error) = sent {
            if dup && message.qos() == QoS::ExactlyOnce {
                return self.release_unsent(packet_id, error);
            }
            // The broker keeps nothing of an exchange of QoS 1, so its identifier is free. [MQTT-4.3.2-5]
            let outcome = if dup {
                Outcome::Indeterminate(IndeterminateReason::NotAllowedAgain)
            } else {
                Outcome::Refused(Refusal::ByLimit(error))
            };
            self.finish_exchange(packet_id, outcome);
        }
    }

    /// A QoS 2 message that may have left on an earlier connection must not leave on this one. Its identifier stays in use:
    /// the broker may know it, and would take another message under it for a repeat. PUBREL ends the exchange whether the
    /// broker has the message or not, and PUBCOMP tells which. [MQTT-2.2.1-3]
    fn release_unsent(&mut self, packet_id: PacketId, error: UsageError) {
        if let (Some(sent), Some(connection)) = (self.session.in_flight.get_mut(packet_id), &mut self.connection) {
            sent.holds_slot = false;
            connection.window.release();
        }
        self.release_exchange(packet_id, reason_code_of(error));
    }

    fn send_queue(&mut self, now: Timestamp) {
        while !self.queue.is_empty() && self.has_transmit_room() {
            let Some((ticket, message)) = self.queue.front() else { return };
            let is_stored = self.outbox.as_ref().is_some_and(|outbox| outbox.holds(ticket));
            let is_its_turn = self.connection.as_mut().is_some_and(|connection| {
                connection.replay.is_done() || is_stored && connection.replay.is_at_gate(&mut self.session.in_flight)
            });
            if !is_its_turn {
                return;
            }
            if message.is_expired(now) {
                self.queue.pop_front();
                self.complete(ticket, Outcome::Expired);
                continue;
            }
            let message = message.clone();
            let sent = if is_stored {
                self.prepare_message(ticket, &message)
            } else {
                self.send_message(now, ticket, message.clone()).map_err(|(held, _)| held)
            };
            match sent {
                Ok(()) => {
                    self.queue.pop_front();
                    message.give_back(&mut self.messages);
                }
                Err(Held::Wait) => return,
                Err(Held::Refused(error)) => {
                    self.queue.pop_front();
                    self.complete(ticket, Outcome::Refused(Refusal::ByLimit(error)));
                }
            }
        }
    }

    /// May the next message leave before all that waits, because nothing waits?
    pub(crate) fn is_turn_of_next(&self) -> bool {
        self.queue.is_empty()
            && self.connection.as_ref().is_some_and(|connection| connection.replay.is_done())
            && self.has_transmit_room()
    }

    /// Sends a message for the first time; what is not sent comes back.
    pub(crate) fn send_message(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        message: Message,
    ) -> Result<(), (Held, Message)> {
        let Some(state) = SendState::after_publish(message.qos()) else {
            let sent = self.check_message(&message);
            if let Err(error) = sent.and_then(|()| self.append_message(now, &message, Delivery::AtMostOnce)) {
                return Err((Held::Refused(error), message));
            }
            if let Some(connection) = &mut self.connection {
                connection.mark(ticket);
            }
            message.give_back(&mut self.messages);
            return Ok(());
        };
        match self.begin_exchange(now, &message) {
            Ok(packet_id) => {
                self.session.in_flight.push(packet_id, ticket, state, message);
                Ok(())
            }
            Err(held) => Err((held, message)),
        }
    }

    /// Sends PUBLISH at QoS 1 or 2 under an identifier and in a slot of its own.
    #[inline]
    fn begin_exchange(&mut self, now: Timestamp, message: &Message) -> Result<PacketId, Held> {
        self.check_message(message).map_err(Held::Refused)?;
        let Some(connection) = &mut self.connection else { return Err(Held::Wait) };
        if !connection.window.take() {
            return Err(Held::Wait);
        }
        let Some(packet_id) = self.session.ids.allocate() else {
            connection.window.release();
            return Err(Held::Wait);
        };
        if let Err(error) = self.append_message(now, message, Delivery::first(message.qos(), packet_id)) {
            self.session.ids.release(packet_id);
            if let Some(connection) = &mut self.connection {
                connection.window.release();
            }
            return Err(Held::Refused(error));
        }
        Ok(packet_id)
    }

    /// Gives a stored message its identifier and its slot; PUBLISH leaves once both are stored.
    fn prepare_message(&mut self, ticket: Ticket, message: &Message) -> Result<(), Held> {
        self.check_message(message).map_err(Held::Refused)?;
        let Some(state) = SendState::after_publish(message.qos()) else { return Err(Held::Wait) };
        let Some(connection) = &mut self.connection else { return Err(Held::Wait) };
        connection.server.check_size(message).map_err(Held::Refused)?;
        if connection.window.is_full() {
            return Err(Held::Wait);
        }
        let Some(packet_id) = self.session.ids.allocate() else { return Err(Held::Wait) };
        let has_slot = connection.window.take();
        debug_assert!(has_slot, "the window is not full");
        let gate = self.record(Operation::Send { ticket, packet_id });
        let sequence = self.session.in_flight.push_gated(packet_id, ticket, state, message.clone(), gate);
        if let Some(connection) = &mut self.connection {
            connection.replay.publishes_after.get_or_insert(sequence - 1);
        }
        Ok(())
    }

    /// The exchange is over: its identifier and its slot are free, its ticket has this outcome.
    pub(crate) fn finish_exchange(&mut self, packet_id: PacketId, outcome: Outcome) {
        let Some(sent) = self.session.in_flight.remove(packet_id) else { return };
        self.session.ids.release(packet_id);
        if let Some(connection) = self.connection.as_mut().filter(|_| sent.holds_slot) {
            connection.window.release();
        }
        if let Some(message) = sent.message {
            message.give_back(&mut self.messages);
        }
        self.complete(sent.ticket, outcome);
    }

    fn check_message(&self, message: &Message) -> Result<(), UsageError> {
        self.server_limits().map_or(Ok(()), |server| server.check_message(message))
    }

    /// Writes PUBLISH, with a Topic Alias if there is one: here and nowhere earlier, because an alias means something on
    /// this connection only and at this moment.
    fn append_message(&mut self, now: Timestamp, message: &Message, delivery: Delivery) -> Result<(), UsageError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let has_aliases = connection.outbound_aliases.maximum() > 0;
        let mut publish = message.to_publish(delivery, message.retain());
        let is_plain = message.expires_at().is_none() && (!has_aliases || publish.properties.is_empty());
        if !is_plain || publish.payload.len() >= SHARE_FROM {
            return self.append_message_in_parts(now, message, delivery);
        }
        let server = connection.server;
        let size = publish.encoded_len(server.version, Foreign::Reject).map_err(usage_error)?;
        server.check_len(size)?;
        let mut alias_property = [PropertyId::TopicAlias.number(), 0, 0];
        if has_aliases && server.check_len(size + OutboundAliases::ALIAS_LEN).is_ok() {
            if let Some(assigned) = connection.outbound_aliases.assign(message.topic()) {
                let [high, low] = assigned.alias.get().to_be_bytes();
                alias_property[1..].copy_from_slice(&[high, low]);
                publish.properties = Properties::from_checked_bytes(&alias_property);
                publish.topic = publish.topic.filter(|_| assigned.send_topic);
            }
        }
        let out = connection.transmit_mut().tail(&mut self.pool);
        let before = out.len();
        publish.encode(server.version, Foreign::Reject, out).map_err(usage_error)?;
        let size = out.len() - before;
        if connection.appended(size) {
            self.say(Output::Transmit);
        }
        Ok(())
    }

    /// The same for a message with more to it: the Message Expiry Interval that is left is put among its properties, and
    /// a large payload is shared.
    fn append_message_in_parts(
        &mut self,
        now: Timestamp,
        message: &Message,
        delivery: Delivery,
    ) -> Result<(), UsageError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let server = connection.server;
        let (topic, payload) = (message.topic(), message.payload());
        self.template
            .reset_head(server.version, message.qos(), message.retain(), topic, message.properties(), payload.len())
            .map_err(usage_error)?;
        let mut addition = Addition {
            packet_id: delivery.packet_id(),
            dup: delivery.is_dup(),
            // A resent message may have expired: it is sent all the same, with the shortest interval. [MQTT-4.3.3-7]
            message_expiry_interval: message.expires_at().map(|_| message.remaining_expiry(now).unwrap_or(1)),
            ..Addition::default()
        };
        let size = self.template.encoded_len(&addition).map_err(usage_error)?;
        server.check_len(size)?;
        // Setting an alias costs a few bytes, and the table must not say that it was sent when it was not.
        if server.check_len(size + OutboundAliases::ALIAS_LEN).is_ok() {
            let assigned = connection.outbound_aliases.assign(topic);
            addition.topic_alias = assigned.map(|assigned| (assigned.alias, assigned.send_topic));
        }
        let size = self.template.encoded_len(&addition).map_err(usage_error)?;
        let out = connection.transmit_mut().tail(&mut self.pool);
        self.template.write_head(&addition, out).map_err(usage_error)?;
        if payload.len() < SHARE_FROM {
            out.extend_from_slice(payload);
        } else {
            connection.transmit_mut().push_shared(message.payload_bytes(), &mut self.pool);
        }
        if connection.appended(size) {
            self.say(Output::Transmit);
        }
        Ok(())
    }

    fn send_ack(&mut self, ack_type: AckType, packet_id: PacketId, reason_code: ReasonCode) {
        let ack = Ack::with_reason(packet_id, reason_code);
        // A Reason Code alone is below every limit that a broker can announce and still work.
        let _ = self.append(|version, out| ack.encode(ack_type, version, Foreign::Strip, out));
    }

    /// Sends the acknowledgements whose turn it is.
    pub(crate) fn send_answers(&mut self) {
        while self.connection.as_ref().is_some_and(|connection| connection.is_open()) {
            let Some(answer) = self.session.inbound.next_answer(self.config.version) else { return };
            self.send_answer(answer);
        }
    }

    /// Sends PUBACK with success, which waits for nothing.
    #[inline]
    pub(crate) fn send_puback(&mut self, packet_id: PacketId) {
        let connection = self.connection.as_mut().filter(|connection| !connection.is_closing());
        let Some(connection) = connection.filter(|connection| connection.server.check_len(SHORT_ACK_LEN).is_ok())
        else {
            return self.send_answer(Answer { ack_type: AckType::Puback, packet_id, reason_code: ReasonCode::Success });
        };
        let out = connection.transmit_mut().tail(&mut self.pool);
        let version = self.config.version;
        let written = Ack::success(packet_id).encode(AckType::Puback, version, Foreign::Strip, out);
        debug_assert!(written.is_ok(), "success can be said in every version");
        let is_first = connection.appended_short_answer(SHORT_ACK_LEN);
        connection.receive_window.answered();
        if is_first {
            self.say(Output::Transmit);
        }
        self.end_if_not_read();
    }

    /// Sends an acknowledgement, once it is true.
    pub(crate) fn send_answer(&mut self, answer: Answer) {
        if !self.keep_answer(answer) {
            self.write_answer(answer);
        }
        self.end_if_not_read();
    }

    /// Ends a connection whose broker sends and does not read.
    #[inline]
    fn end_if_not_read(&mut self) {
        let owed = self.connection.as_ref().map_or(0, |connection| connection.owed_bytes());
        let kept = self.outbox.as_ref().map_or(0, |outbox| outbox.kept_answers() * SHORT_ACK_LEN);
        if owed + kept > self.config.max_owed_bytes {
            self.end(ConnectionEnd::NotRead);
        }
    }

    pub(crate) fn write_answer(&mut self, answer: Answer) {
        let before = self.connection.as_ref().map_or(0, |connection| connection.waiting_bytes());
        self.send_ack(answer.ack_type, answer.packet_id, answer.reason_code);
        if let Some(connection) = &mut self.connection {
            connection.appended_answer(before);
            if answer.ends_exchange() {
                connection.receive_window.answered();
            }
        }
    }

    pub(crate) fn send_pingreq(&mut self, now: Timestamp) {
        let _ = self.append(|version, out| Packet::Pingreq.encode(version, Foreign::Reject, out));
        if let Some(connection) = &mut self.connection {
            connection.ping.pingreq_queued(now);
        }
    }

    pub(crate) fn send_auth(&mut self, reason_code: ReasonCode, properties: &PropertiesBuf) -> Result<(), UsageError> {
        let auth = Auth { reason_code, properties: properties.as_properties() };
        self.append(|version, out| auth.encode(version, Foreign::Reject, out))
    }

    /// Before 5.0 DISCONNECT can only say that all is well, so otherwise the connection is just closed.
    pub(crate) fn send_disconnect(&mut self, reason_code: ReasonCode) {
        let may_say = reason_code == ReasonCode::Success || self.config.version == Version::V5_0;
        let is_accepted = self.connection.as_ref().is_some_and(|connection| connection.is_open());
        let is_waiting = self.connection.as_ref().is_some_and(|connection| !connection.is_closing());
        if is_accepted && may_say || is_waiting && self.config.version == Version::V5_0 {
            let disconnect = Disconnect::with_reason(reason_code);
            let _ = self.append(|version, out| disconnect.encode(version, Foreign::Reject, out));
        }
    }

    /// Appends one packet to what is to be written, unless the broker says that it is too large.
    pub(crate) fn append(
        &mut self,
        encode: impl FnOnce(Version, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), UsageError> {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_closing()) else {
            return Ok(());
        };
        let server = connection.server;
        let out = connection.transmit_mut().tail(&mut self.pool);
        let before = out.len();
        let result = encode(server.version, out).map_err(usage_error);
        let size = out.len() - before;
        let result = result.and_then(|()| server.check_len(size));
        if result.is_err() {
            out.truncate(before);
            return result;
        }
        if connection.appended(size) {
            self.say(Output::Transmit);
        }
        Ok(())
    }
}

/// Of an acknowledgement that says success, in bytes.
pub(crate) const SHORT_ACK_LEN: usize = 4;

/// From this length on, in bytes, a payload is not copied: neither into the transmit buffer nor out of a frame of its own.
pub(crate) const SHARE_FROM: usize = 4_096;

/// An encoder's refusal is the caller's mistake.
pub(crate) fn usage_error(error: EncodeError) -> UsageError {
    match error {
        EncodeError::NotInVersion(_) => UsageError::NeedsVersion5,
        EncodeError::NoLocalOnShared => UsageError::NoLocalOnSharedSubscription,
        EncodeError::Empty => UsageError::NoFilters,
        _ => UsageError::NotEncodable,
    }
}

/// What a broker would have answered.
fn reason_code_of(error: UsageError) -> ReasonCode {
    match error {
        UsageError::QoSNotSupported { .. } => ReasonCode::QoSNotSupported,
        UsageError::RetainNotSupported => ReasonCode::RetainNotSupported,
        UsageError::WildcardSubscriptionsNotSupported => ReasonCode::WildcardSubscriptionsNotSupported,
        UsageError::SharedSubscriptionsNotSupported => ReasonCode::SharedSubscriptionsNotSupported,
        UsageError::SubscriptionIdentifiersNotSupported => ReasonCode::SubscriptionIdentifiersNotSupported,
        UsageError::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
        _ => ReasonCode::UnspecifiedError,
    }
}
