//! From the broker to the client: every packet by name.

use alloc::{boxed::Box, string::String, vec::Vec};

use damselfly_codec::{
    Ack, AckType, Auth, Connack, DecodeError, Delivery, Disconnect, FixedHeader, Frame, Packet, PacketId, PacketType,
    Properties, Publish, QoS, ReasonCode, Suback, Unsuback, Version, peek,
};
use damselfly_session::{
    Message, OutboundAliases, PeerError, Phase as Direction, PingTimer, Role, SendAction, SendInput, SendState,
    Timestamp, Window,
};

use crate::{
    AckToken, Client, Connected, ConnectionEnd, Event, InboundMessage, IndeterminateReason, Intake, LostSession,
    Operation, Outcome, Refusal, ServerLimits, SessionStatus,
    connection::{Authentication, Phase, Replay},
    inbound::{Answer, Arrival},
    requests::{Ask, Request},
    send::{SHARE_FROM, SHORT_ACK_LEN},
};

impl Client {
    /// Bytes came from the broker, as many as there are: whole packets are consumed, the rest is to be handed in again
    /// with what follows.
    pub fn handle_input(&mut self, now: Timestamp, input: &[u8]) -> Intake {
        self.note_resumed(now);
        if let Some(connection) = self.connection.as_mut().filter(|_| !input.is_empty()) {
            connection.ping.received(now);
        }
        let mut rest = input;
        let mut intake = Intake::default();
        while !rest.is_empty() {
            if self.connection.as_ref().is_none_or(|connection| connection.is_closing()) {
                // Nothing is expected any more; what comes is void.
                rest = &[];
                break;
            }
            if self.is_input_paused() {
                intake.paused = true;
                self.pause_input(now);
                break;
            }
            match self.handle_frame_at_front(now, rest, None) {
                Ok(Taken::Frame(len)) => rest = rest.get(len..).unwrap_or_default(),
                Ok(Taken::NotYet { wanted }) => {
                    intake.wanted = wanted;
                    break;
                }
                Err(error) => self.end_for_bytes(error),
            }
        }
        intake.consumed = input.len() - rest.len();
        self.pump(now);
        self.go_on_closing(now);
        intake
    }

    /// One whole packet that the driver received in a buffer of its own, as large as
    /// [`Intake::wanted`](crate::Intake::wanted) said: its payload is then shared, not copied, if that is several KiB
    /// and at least half of the packet. Consumes all of it or, paused, nothing.
    pub fn handle_frame(&mut self, now: Timestamp, frame: &Frame) -> Intake {
        self.handle_progress(now);
        let mut intake = Intake { consumed: frame.len(), wanted: 0, paused: false };
        if self.connection.as_ref().is_some_and(|connection| !connection.is_closing()) {
            if self.is_input_paused() {
                self.pause_input(now);
                return Intake { consumed: 0, wanted: 0, paused: true };
            }
            match self.handle_frame_at_front(now, frame, Some(frame)) {
                Ok(Taken::Frame(_)) => {}
                // A frame is whole.
                Ok(Taken::NotYet { .. }) => intake.consumed = 0,
                Err(error) => self.end_for_bytes(error),
            }
        }
        self.pump(now);
        self.go_on_closing(now);
        intake
    }

    /// More of a packet arrived in a buffer of the driver's own, for [`Client::handle_frame`]: the broker is alive.
    pub fn handle_progress(&mut self, now: Timestamp) {
        self.note_resumed(now);
        if let Some(connection) = &mut self.connection {
            connection.ping.received(now);
        }
    }

    fn pause_input(&mut self, now: Timestamp) {
        self.pause.is_told = true;
        if let Some(connection) = &mut self.connection {
            connection.ping.pause(now);
        }
    }

    fn handle_frame_at_front(
        &mut self,
        now: Timestamp,
        input: &[u8],
        frame: Option<&Frame>,
    ) -> Result<Taken, DecodeError> {
        let is_open = self.connection.as_ref().is_some_and(|connection| connection.is_open());
        // Nearly all acknowledgements say success in four bytes, which is never too much: CONNACK was no shorter.
        if let Some((ack_type, packet_id, _)) = Ack::split_short(input).filter(|_| is_open) {
            if let Err(error) = self.handle_short_ack(ack_type, packet_id) {
                self.end_for(error);
            }
            return Ok(Taken::Frame(SHORT_ACK_LEN));
        }
        let version = self.config.version;
        let Some(header) = peek(input, &self.frame_limits).map_err(|error| error.for_version(version))? else {
            return Ok(Taken::NotYet { wanted: 0 });
        };
        let len = header.frame_len();
        let Some(body) = input.get(usize::from(header.header_len())..len) else {
            return Ok(Taken::NotYet { wanted: len });
        };
        let result = if is_open && header.packet_type() == PacketType::Publish {
            // By a shorter way than the others: it is most of what comes.
            let publish = Publish::decode(version, header, body)?;
            self.handle_publish(now, &publish, frame)
        } else {
            self.handle_other(now, version, header, body)?
        };
        if let Err(error) = result {
            self.end_for(error);
        }
        // At once: the acknowledgements of both kinds then leave in the order of arrival, however the input was split.
        self.send_answers();
        Ok(Taken::Frame(len))
    }

    /// Any packet but PUBLISH on an open connection.
    #[inline(never)]
    fn handle_other(
        &mut self,
        now: Timestamp,
        version: Version,
        header: FixedHeader,
        body: &[u8],
    ) -> Result<Result<(), PeerError>, DecodeError> {
        if let Err(error) = self.direction().check(version, Role::Broker, header.packet_type()) {
            return Ok(Err(error));
        }
        let packet = Packet::decode_body(version, header, body)?;
        Ok(self.handle_packet(now, &packet))
    }

    #[inline]
    fn handle_short_ack(&mut self, ack_type: AckType, packet_id: PacketId) -> Result<(), PeerError> {
        let ack = Ack::success(packet_id);
        if ack_type == AckType::Pubrel {
            self.handle_pubrel(&ack);
            return Ok(());
        }
        self.handle_ack(ack_type.packet_type(), &ack)
    }

    fn direction(&self) -> Direction {
        let Some(connection) = &self.connection else { return Direction::Opened };
        match &connection.phase {
            Phase::AwaitConnack { .. } if connection.authentication_method.is_some() => Direction::Authenticating,
            Phase::AwaitConnack { .. } => Direction::Connecting,
            Phase::Open => Direction::Open,
            Phase::Closing(_) => Direction::Disconnected,
        }
    }

    fn handle_packet(&mut self, now: Timestamp, packet: &Packet<'_>) -> Result<(), PeerError> {
        match packet {
            Packet::Connack(connack) => self.handle_connack(now, connack),
            Packet::Publish(publish) => self.handle_publish(now, publish, None),
            Packet::Puback(ack) => self.handle_ack(PacketType::Puback, ack),
            Packet::Pubrec(ack) => self.handle_ack(PacketType::Pubrec, ack),
            Packet::Pubcomp(ack) => self.handle_ack(PacketType::Pubcomp, ack),
            Packet::Pubrel(ack) => {
                self.handle_pubrel(ack);
                Ok(())
            }
            Packet::Suback(suback) => self.handle_suback(now, suback),
            Packet::Unsuback(unsuback) => self.handle_unsuback(unsuback),
            Packet::Pingresp => {
                if let Some(connection) = &mut self.connection {
                    connection.ping.pingresp();
                }
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(disconnect),
            Packet::Auth(auth) => self.handle_auth(now, auth),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => {
                Err(PeerError::NotFromServer(packet.packet_type()))
            }
        }
    }

    fn handle_connack(&mut self, now: Timestamp, connack: &Connack<'_>) -> Result<(), PeerError> {
        let properties = connack.properties;
        if connack.reason_code.is_error() {
            let end = ConnectionEnd::Refused {
                reason_code: connack.reason_code,
                reason_string: properties.reason_string().map(String::from),
                server_reference: properties.server_reference().map(Box::from),
            };
            self.end(end);
            return Ok(());
        }
        let session_exists = self.session_exists(now);
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.authentication_method.as_deref() != properties.authentication_method() {
            return Err(PeerError::AuthenticationMethodChanged);
        }
        // 3.1 has no Session Present: a session that should be there is taken to be there.
        let is_present = match self.config.version {
            Version::V3_1 => session_exists && !connection.clean_start,
            Version::V3_1_1 | Version::V5_0 => connack.session_present,
        };
        // Before 5.0 there is no rule that a Client must have the session it is told about.
        let may_be_present = session_exists || self.config.version != Version::V5_0;
        if is_present && (connection.clean_start || !may_be_present) {
            return Err(PeerError::UnexpectedSessionPresent);
        }
        let server = ServerLimits::from_connack(connack, connection.server);
        connection.open(now);
        connection.authentication = Authentication::Idle;
        connection.server = server;
        connection.window = Window::new(server.accepts.receive_maximum);
        connection.ping = PingTimer::new(server.keep_alive, self.config.ping_timeout, now);
        let aliases = server.accepts.topic_alias_maximum.min(self.config.outbound_topic_aliases);
        connection.outbound_aliases = OutboundAliases::new(aliases, self.config.max_alias_bytes);
        connection.response_information = properties.response_information().map(Box::from);
        if is_present {
            connection.replay = Replay::from_start();
            connection.receive_window.resumed();
        }
        if let Some(client_id) = properties.assigned_client_identifier() {
            self.session.client_id = client_id.into();
        }
        let session = match (is_present, session_exists) {
            (true, _) => SessionStatus::Resumed,
            (false, true) => SessionStatus::Lost,
            (false, false) => SessionStatus::New,
        };
        self.say_event(Event::Connected(Connected {
            session,
            client_id: self.session.client_id.clone(),
            server,
            properties: properties.into(),
        }));
        self.record_session(!is_present, server.session_expiry);
        self.end_old_response_topics(is_present);
        if !is_present {
            self.settle_session(now);
            self.session.requests.session_lost();
            self.session.requests.restore(self.config.filters_per_subscribe.get().into());
        }
        Ok(())
    }

    /// What was under way in a session that the broker has not is settled. [MQTT-3.2.2-5]
    pub(crate) fn settle_session(&mut self, now: Timestamp) {
        let mut again = Vec::new();
        let mut lost = Vec::new();
        let republish = self.config.lost_session == LostSession::RepublishAtLeastOnce;
        for sent in self.session.in_flight.drain() {
            self.session.ids.release(sent.packet_id);
            match sent.message {
                Some(message) if !sent.may_have_left || republish && message.qos() == QoS::AtLeastOnce => {
                    again.push((sent.ticket, message));
                }
                _ => lost.push(sent.ticket),
            }
        }
        for ticket in lost {
            self.complete(ticket, Outcome::Indeterminate(IndeterminateReason::SessionLost));
        }
        for (ticket, message) in again.into_iter().rev() {
            let wait_until = self.queue.wait_until(now, &message);
            if self.is_stored(ticket) {
                self.record(Operation::Requeue { ticket, wait_until });
            }
            self.queue.push_front(ticket, message, wait_until);
        }
        self.session.inbound.session_lost();
    }

    fn handle_publish(
        &mut self,
        now: Timestamp,
        publish: &Publish<'_>,
        frame: Option<&Frame>,
    ) -> Result<(), PeerError> {
        let version = self.config.version;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        // The alias is set even if the message is then refused: the broker goes on using it.
        let topic = connection.inbound_aliases.resolve(publish.topic, publish.properties.topic_alias())?;
        let message = match frame {
            // All of the frame stays with a shared payload, so that has to be most of it.
            Some(frame) if publish.payload.len() >= SHARE_FROM.max(frame.len() / 2) => {
                Message::shared(frame, publish, topic, now)
            }
            _ => Message::new_in(&mut self.messages, publish, topic, now),
        };
        let arrival = match publish.delivery {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce { id, .. } if self.session.inbound.answers_at_once(self.config.acknowledgement) => {
                connection.receive_window.received()?;
                self.record_forgotten(id);
                self.deliver(publish, message, None);
                self.send_puback(id);
                return Ok(());
            }
            Delivery::AtLeastOnce { id, .. } => {
                connection.receive_window.received()?;
                let arrival = self.session.inbound.at_least_once(version, id);
                if !self.session.inbound.awaits_pubrel(id) {
                    self.record_forgotten(id);
                }
                Some(arrival)
            }
            Delivery::ExactlyOnce { id, .. } => {
                connection.receive_window.received()?;
                let arrival = self.session.inbound.exactly_once(version, id);
                Some(arrival.ok_or(PeerError::ReceiveMaximumExceeded)?)
            }
        };
        let token = match arrival {
            Some(Arrival::Repeat) => return Ok(()),
            Some(Arrival::Deliver(token)) => Some(token),
            None => None,
        };
        self.deliver(publish, message, token);
        Ok(())
    }

    fn deliver(&mut self, publish: &Publish<'_>, message: Message, token: Option<AckToken>) {
        let ack = match token {
            Some(token) if self.acknowledges() => {
                // It was made this moment, so it cannot be stale.
                let _ = self.session.inbound.acknowledge(token, ReasonCode::Success);
                None
            }
            token => token,
        };
        let answered = self.take_answered(publish, &message);
        let inbound = InboundMessage {
            message,
            dup: publish.delivery.is_dup(),
            subscription_ids: publish.properties.subscription_ids().collect(),
            ack,
        };
        self.pause.add(&inbound);
        let event = match answered {
            Some(ticket) => Event::Completed { ticket, outcome: Outcome::Response(Box::new(inbound)) },
            None => Event::Message(inbound),
        };
        match publish.delivery {
            // What counts as received without a word of the application must be delivered at most once, so it is stored
            // first: a process that ends in between gets the message again.
            Delivery::ExactlyOnce { id, .. } if self.acknowledges() => {
                self.record_received(id);
                self.say_stored(event);
            }
            _ => self.say_event(event),
        }
    }

    fn handle_pubrel(&mut self, ack: &Ack<'_>) {
        let reason_code = self.session.inbound.pubrel(self.config.version, ack.packet_id);
        self.send_answer(Answer { ack_type: AckType::Pubcomp, packet_id: ack.packet_id, reason_code });
    }

    fn handle_ack(&mut self, packet_type: PacketType, ack: &Ack<'_>) -> Result<(), PeerError> {
        let Some(input) = SendInput::from_ack(packet_type, ack.reason_code) else { return Ok(()) };
        let packet_id = ack.packet_id;
        let sent = self.session.in_flight.get_mut(packet_id);
        let step = SendState::next(sent.as_ref().map(|sent| sent.state), input);
        match step.action {
            SendAction::Done => {
                let outcome = match (input, sent) {
                    (SendInput::Pubcomp, Some(sent)) => outcome_of_pubcomp(ack.reason_code, sent.reason_code),
                    _ => outcome_of(ack),
                };
                self.finish_exchange(packet_id, outcome);
            }
            SendAction::SendPubrel => self.release_exchange(packet_id, ack.reason_code),
            SendAction::SendPubrelNotFound => {
                self.send_pubrel(packet_id, ReasonCode::PacketIdentifierNotFound);
            }
            SendAction::Close(error) => return Err(error),
            SendAction::Ignore | SendAction::ResendPublish | SendAction::ResendPubrel => {}
        }
        Ok(())
    }

    /// PUBREC took a message; or the message must not be sent again, with the Reason Code why.
    pub(crate) fn release_exchange(&mut self, packet_id: PacketId, reason_code: ReasonCode) {
        let sent = self.session.in_flight.get_mut(packet_id);
        let (ticket, message) = sent.map(|sent| (sent.ticket, sent.message.take())).unzip();
        if let Some(message) = message.flatten() {
            message.give_back(&mut self.messages);
        }
        let is_last = self.session.in_flight.received(packet_id, reason_code);
        if let Some(ticket) = ticket.filter(|_| is_last && self.outbox.is_some()) {
            let gate = self.record_released(ticket, packet_id, reason_code);
            if let Some(sent) = self.session.in_flight.get_mut(packet_id) {
                sent.gate = gate;
            }
        }
        let is_replaying = self.connection.as_ref().is_some_and(|open| open.replay.pubrels_after.is_some());
        // Its PUBREL is the last that the replay comes to, behind those of earlier PUBRECs.
        if !(is_last && is_replaying) {
            self.send_pubrel(packet_id, ReasonCode::Success);
        }
    }

    fn send_pubrel(&mut self, packet_id: PacketId, reason_code: ReasonCode) {
        self.send_answer(Answer { ack_type: AckType::Pubrel, packet_id, reason_code });
    }

    fn handle_suback(&mut self, now: Timestamp, suback: &Suback<'_>) -> Result<(), PeerError> {
        let unexpected = PeerError::UnexpectedAck(PacketType::Suback);
        let request = self.session.requests.take_subscribe(suback.packet_id).ok_or(unexpected)?;
        let Request { ticket, ask: Ask::Subscribe(filters), properties, .. } = request else { return Err(unexpected) };
        self.session.ids.release(suback.packet_id);
        let results: Vec<_> = suback.reason_codes().map(granted).collect();
        if results.len() != filters.len() {
            // The ticket gets its answer when the request is sent again.
            self.session.requests.put_back(Request { ticket, ask: Ask::Subscribe(filters), properties, order: 0 });
            return Err(PeerError::ReasonCodeCount);
        }
        for ((filter, options), result) in filters.into_iter().zip(&results) {
            match result {
                Ok(_) => self.register(filter, options, properties.as_properties()),
                Err(reason_code) => {
                    let reason_code = *reason_code;
                    match ticket {
                        None => {
                            self.unregister(&filter);
                            self.say_event(Event::SubscriptionLost { filter, reason_code });
                        }
                        Some(ticket) if self.is_hidden(ticket) => {}
                        Some(ticket) => self.say_event(Event::SubscriptionRefused { ticket, filter, reason_code }),
                    }
                }
            }
        }
        match ticket {
            Some(ticket) if self.is_hidden(ticket) => {
                let result = results.first().copied().unwrap_or(Err(ReasonCode::UnspecifiedError));
                self.response_topic_answered(now, result);
            }
            Some(ticket) => self.say_stored(Event::Completed { ticket, outcome: Outcome::Subscribed(results) }),
            None => {}
        }
        Ok(())
    }

    fn handle_unsuback(&mut self, unsuback: &Unsuback<'_>) -> Result<(), PeerError> {
        let unexpected = PeerError::UnexpectedAck(PacketType::Unsuback);
        let request = self.session.requests.take_unsubscribe(unsuback.packet_id).ok_or(unexpected)?;
        let Request { ticket, ask: Ask::Unsubscribe(filters), properties, .. } = request else {
            return Err(unexpected);
        };
        self.session.ids.release(unsuback.packet_id);
        // Before 5.0 UNSUBACK carries no Reason Codes: it says that all went well.
        let results: Vec<_> = match self.config.version {
            Version::V5_0 => unsuback.reason_codes().map(removed).collect(),
            Version::V3_1 | Version::V3_1_1 => filters.iter().map(|_| Ok(())).collect(),
        };
        if results.len() != filters.len() {
            self.session.requests.put_back(Request { ticket, ask: Ask::Unsubscribe(filters), properties, order: 0 });
            return Err(PeerError::ReasonCodeCount);
        }
        for filter in &filters {
            self.unregister(filter);
        }
        if let Some(ticket) = ticket {
            self.say_stored(Event::Completed { ticket, outcome: Outcome::Unsubscribed(results) });
        }
        Ok(())
    }

    fn handle_disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<(), PeerError> {
        let properties = disconnect.properties;
        if properties.session_expiry_interval().is_some() {
            return Err(PeerError::SessionExpiryFromServer);
        }
        let end = ConnectionEnd::ByServer {
            reason_code: disconnect.reason_code,
            reason_string: properties.reason_string().map(String::from),
            server_reference: properties.server_reference().map(Box::from),
        };
        self.end(end);
        Ok(())
    }

    fn handle_auth(&mut self, now: Timestamp, auth: &Auth<'_>) -> Result<(), PeerError> {
        let connect_timeout = self.config.connect_timeout;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.authentication != Authentication::AwaitServer {
            return Err(PeerError::UnexpectedAuth);
        }
        if connection.authentication_method.as_deref() != auth.properties.authentication_method() {
            return Err(PeerError::AuthenticationMethodChanged);
        }
        match (auth.reason_code, &mut connection.phase) {
            (ReasonCode::ContinueAuthentication, phase) => {
                if let Phase::AwaitConnack { deadline } = phase {
                    *deadline = now.saturating_add(connect_timeout);
                }
                connection.authentication = Authentication::AwaitApplication;
                self.say_event(Event::AuthenticationStep { properties: auth.properties.into() });
                Ok(())
            }
            (ReasonCode::Success, Phase::Open) => {
                connection.authentication = Authentication::Idle;
                self.say_event(Event::Reauthenticated { properties: auth.properties.into() });
                Ok(())
            }
            _ => Err(PeerError::UnexpectedAuth),
        }
    }

    fn end_for_bytes(&mut self, error: DecodeError) {
        let end = ConnectionEnd::PeerError { reason_code: error.reason_code(), statement: error.statement() };
        self.end(end);
    }
}

/// What was at the front of the input.
enum Taken {
    /// A whole packet of this length.
    Frame(usize),
    /// The beginning of one.
    NotYet {
        /// Its length, if that is known, otherwise 0.
        wanted: usize,
    },
}

fn outcome_of(ack: &Ack<'_>) -> Outcome {
    if ack.reason_code.is_error() {
        let reason_string = reason_string(ack.properties);
        Outcome::Refused(Refusal::ByServer { reason_code: ack.reason_code, reason_string })
    } else {
        Outcome::Acknowledged { reason_code: ack.reason_code }
    }
}

/// Whatever PUBCOMP says, PUBREC took the message. If the message must not be sent again, there was no PUBREC, and a broker
/// that does not know the identifier has not the message.
const fn outcome_of_pubcomp(pubcomp: ReasonCode, released: ReasonCode) -> Outcome {
    match (pubcomp, released) {
        (_, reason_code) if !reason_code.is_error() => Outcome::Acknowledged { reason_code },
        (ReasonCode::PacketIdentifierNotFound, reason_code) => {
            Outcome::Refused(Refusal::ByServer { reason_code, reason_string: None })
        }
        _ => Outcome::Indeterminate(IndeterminateReason::NotAllowedAgain),
    }
}

fn reason_string(properties: Properties<'_>) -> Option<String> {
    properties.reason_string().map(String::from)
}

const fn granted(reason_code: ReasonCode) -> Result<QoS, ReasonCode> {
    match reason_code {
        ReasonCode::Success => Ok(QoS::AtMostOnce),
        ReasonCode::GrantedQoS1 => Ok(QoS::AtLeastOnce),
        ReasonCode::GrantedQoS2 => Ok(QoS::ExactlyOnce),
        refused => Err(refused),
    }
}

fn removed(reason_code: ReasonCode) -> Result<(), ReasonCode> {
    if reason_code.is_error() { Err(reason_code) } else { Ok(()) }
}
