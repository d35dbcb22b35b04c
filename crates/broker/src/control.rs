//! All packets but PUBLISH, each by its name. [MQTT-3]

use core::iter::once;

use damselfly_codec::{Auth, FixedHeader, Foreign, Packet, PacketType, PropertiesBuf, Property, ReasonCode, Version};
use damselfly_session::{PeerError, Phase, Role, Timestamp};

use crate::{
    Answer, AuthenticationStep, Broker, ConnectionId, ProblemInformation, Question, QuestionId,
    broker::{Fault, owned},
    budget::question_weight,
    connections::{Connection, Pause, Reauthentication, Stage},
    questions::{Asked, sayable_refusal},
};

impl Broker {
    pub(crate) fn handle_control(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        header: FixedHeader,
        frame: &[u8],
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        phase(connection).check(connection.version, Role::Client, header.packet_type())?;
        if header.packet_type() == PacketType::Connect {
            // What cannot be read may still say which version its answer has to speak.
            connection.version = claimed_version(frame);
        }
        let version = connection.version;
        match Packet::decode(version, frame)? {
            Packet::Connect(connect) => self.handle_connect(now, id, &connect.fields()),
            Packet::Publish(_) => self.handle_publish(now, id, header, frame, None),
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack) => {
                self.handle_acks(now, id, header.packet_type(), once((ack.packet_id, ack.reason_code)))
            }
            Packet::Pubrel(ack) => {
                self.handle_pubrels(now, id, once(ack.packet_id));
                Ok(())
            }
            Packet::Subscribe(subscribe) => {
                self.handle_subscribe(now, id, &subscribe);
                Ok(())
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.handle_unsubscribe(now, id, &unsubscribe);
                Ok(())
            }
            Packet::Pingreq => {
                self.handle_pingreq(id);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(now, id, &disconnect),
            Packet::Auth(auth) => self.handle_auth(now, id, &auth),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(PeerError::NotFromClient(header.packet_type()).into())
            }
        }
    }

    /// A PUBLISH that comes where nothing but CONNECT or AUTH may.
    #[cold]
    pub(crate) fn too_early(connection: &Connection, packet_type: PacketType) -> Fault {
        match phase(connection).check(connection.version, Role::Client, packet_type) {
            Err(error) => error.into(),
            Ok(()) => PeerError::ConnectExpected(packet_type).into(),
        }
    }

    /// [MQTT-3.12.4-1] A client that has only this to say frees what sped up its messages.
    fn handle_pingreq(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let cache = connection.route_cache.take();
        self.counters.route_cache_bytes -= cache.map_or(0, |cache| cache.heap_bytes());
        connection.transmit.tail(&mut self.pool).extend_from_slice(&[0xD0, 0x00]);
        Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
    }

    /// A step of enhanced authentication, or the beginning of another. [MQTT-4.12]
    fn handle_auth(&mut self, now: Timestamp, id: ConnectionId, auth: &Auth<'_>) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let (is_new, agreed) = match &connection.stage {
            Stage::Authenticating(pending) => (false, pending.authentication_method.as_deref()),
            // The latter continues a re-authentication whose question was answered with one more step.
            Stage::Open | Stage::Reauthenticating(_) => (true, connection.authentication_method.as_deref()),
            Stage::AwaitConnect | Stage::Asking(..) | Stage::Accepted(_) | Stage::Closing => (false, None),
        };
        // [MQTT-4.12.0-7] [MQTT-4.12.1-1]
        let Some(agreed) = agreed else { return Err(PeerError::UnexpectedAuth.into()) };
        let method = auth.properties.authentication_method().unwrap_or("");
        if method != agreed {
            return Err(PeerError::AuthenticationMethodChanged.into());
        }
        // Each side says one thing in turn.
        let expected = match &connection.stage {
            Stage::Authenticating(_) | Stage::Reauthenticating(Reauthentication::Awaited(_)) => {
                Some(ReasonCode::ContinueAuthentication)
            }
            Stage::Open => Some(ReasonCode::ReAuthenticate),
            _ => None,
        };
        let fits = expected == Some(auth.reason_code);
        if !fits {
            return Err(PeerError::UnexpectedAuth.into());
        }
        let step =
            AuthenticationStep { method: owned(method), data: auth.properties.authentication_data().map(Into::into) };
        let question = Question::Authenticate { connection: id, step, re_authentication: is_new };
        let asked_bytes = question_weight(&question);
        if !is_new {
            self.count_handshake(now, id, asked_bytes)?;
        }
        let asked = if is_new { Asked::Reauthenticate(id) } else { Asked::Connect(id) };
        let question = self.ask(now, asked, question);
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let asked = Stage::Reauthenticating(Reauthentication::Asked(question));
        match core::mem::replace(&mut connection.stage, asked) {
            Stage::Authenticating(mut pending) => {
                pending.asked_bytes = asked_bytes;
                connection.stage = Stage::Asking(pending, question);
                self.pause(now, id, Pause::Question);
            }
            Stage::Reauthenticating(_)
            | Stage::Open
            | Stage::AwaitConnect
            | Stage::Asking(..)
            | Stage::Accepted(_)
            | Stage::Closing => {}
        }
        Ok(())
    }

    /// A re-authentication that fails ends the connection. [MQTT-4.12.1-2]
    pub(crate) fn answer_reauthentication(
        &mut self,
        now: Timestamp,
        (id, question): (ConnectionId, QuestionId),
        answer: Answer,
        information: &ProblemInformation,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Stage::Reauthenticating(Reauthentication::Asked(asked)) = connection.stage else { return };
        if asked != question {
            return;
        }
        let key = connection.session;
        let method = connection.authentication_method.clone().unwrap_or_default();
        match answer {
            Answer::Continue(data) => {
                let patience = self.config.connect_timeout;
                let next_auth = match connection.pause {
                    Some(_) => Reauthentication::Unread(patience),
                    None => Reauthentication::Awaited(now.saturating_add(patience)),
                };
                connection.stage = Stage::Reauthenticating(next_auth);
                self.check_connection(now, id);
                let step = (ReasonCode::ContinueAuthentication, &*method, data.as_deref());
                self.send_auth(now, id, step, information);
            }
            Answer::Allow(grant) => {
                connection.stage = Stage::Open;
                let is_same = self.sessions.get(key).is_some_and(|session| session.principal == grant.principal);
                if !is_same {
                    self.fail(now, id, Fault::Refuse(ReasonCode::NotAuthorized));
                    return;
                }
                self.change_access(now, key, grant.access);
                let step = (ReasonCode::Success, &*method, grant.authentication_data.as_deref());
                self.send_auth(now, id, step, information);
            }
            Answer::Deny(reason_code) => {
                let reason_code = sayable_refusal(PacketType::Disconnect, reason_code);
                self.fail_with(now, id, Fault::Refuse(reason_code), information);
            }
            Answer::Redirect { permanent, server_reference } => {
                self.send_elsewhere(now, id, (permanent, &server_reference), information);
            }
        }
    }

    /// Without AUTH the client would wait for ever: one that it cannot take ends the connection. [MQTT-3.1.2-24]
    pub(crate) fn send_auth(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        (reason_code, method, data): (ReasonCode, &str, Option<&[u8]>),
        information: &ProblemInformation,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut needed = PropertiesBuf::new();
        let pushed = needed.push(Property::AuthenticationMethod(method)).is_ok()
            && data.is_none_or(|data| needed.push(Property::AuthenticationData(data)).is_ok());
        let properties = connection.answer_properties(needed, information, |properties| {
            Auth { reason_code, properties }.encoded_len(Version::V5_0, Foreign::Reject)
        });
        let encoded = properties.filter(|_| pushed).is_some_and(|properties| {
            let auth = Auth { reason_code, properties: properties.as_properties() };
            auth.encode(Version::V5_0, Foreign::Reject, connection.transmit.tail(&mut self.pool)).is_ok()
        });
        if encoded {
            Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
        } else {
            self.fail(now, id, Fault::Refuse(ReasonCode::PacketTooLarge));
        }
    }
}

/// Where a connection stands, in the words both sides share.
fn phase(connection: &Connection) -> Phase {
    match &connection.stage {
        Stage::AwaitConnect => Phase::Opened,
        Stage::Authenticating(_) => Phase::Authenticating,
        Stage::Asking(..) | Stage::Accepted(_) => Phase::Connecting,
        Stage::Open | Stage::Reauthenticating(_) => Phase::Open,
        Stage::Closing => Phase::Disconnected,
    }
}

/// The version a CONNECT names, as far as it can be read: what a refusal has to speak. [MQTT-3.1.2-2]
fn claimed_version(frame: &[u8]) -> Version {
    let header_len = 2 + frame.iter().skip(1).take(3).take_while(|byte| **byte >= 0x80).count();
    let body = frame.get(header_len..).unwrap_or(&[]);
    let name_len = match body {
        [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => return Version::V3_1_1,
    };
    match body.get(2 + name_len) {
        Some(level) if *level >= 5 => Version::V5_0,
        _ => Version::V3_1_1,
    }
}
