//! A fresh core that is told what another one was told.

use std::collections::BTreeMap;

use bytes::Bytes;
use damselfly_broker::{
    AckToken as LocalToken, Broker, ClientIdInUse, CommitId as BrokerCommit, ConnectionId, LocalId,
    Output as BrokerOutput, Peer, QuestionId,
};
use damselfly_client::{AckToken, Client, CommitId, Output as ClientOutput};
use damselfly_codec::{Frame, FrameLimits, PROTOCOL_MAXIMUM_PACKET_SIZE};
use damselfly_session::Timestamp;
use damselfly_topic::{TopicFilter, TopicFilterBuf};

use super::broker_call::{self, Call as BrokerCall, flag, published};
use super::client::{done, request};
use super::client_call::{self, Call as ClientCall};
use super::recording::Core;
use super::said::{Said, inbound};
use super::stream::{Streams, first_bytes};

const LIMITS: FrameLimits = FrameLimits { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE };
/// Said of a call about something that this core has never named.
const NOT_THERE: &str = "it is not there";

#[derive(Debug)]
pub(super) enum Player {
    Broker(Box<BrokerPlayer>),
    Client(Box<ClientPlayer>),
}

impl Player {
    pub(super) fn new(core: Core) -> Self {
        match core {
            Core::Broker(core) => Self::Broker(Box::new(BrokerPlayer::new(core))),
            Core::Client(core) => Self::Client(Box::new(ClientPlayer::new(core))),
        }
    }

    pub(super) fn into_core(self) -> Core {
        match self {
            Self::Broker(player) => Core::Broker(player.core),
            Self::Client(player) => Core::Client(player.core),
        }
    }

    /// What the core has to say next.
    pub(super) fn poll(&mut self) -> Option<Said> {
        match self {
            Self::Broker(player) => player.poll(),
            Self::Client(player) => player.poll(),
        }
    }

    /// What the core answers to a call. `None`: it is for the other kind of core, or about something that was gone for the
    /// core that was recorded, where it did nothing.
    pub(super) fn play_broker(&mut self, now: Timestamp, call: &BrokerCall) -> Option<String> {
        match self {
            Self::Broker(_) if call.is_void() => None,
            Self::Broker(player) => Some(player.play(now, call).unwrap_or_else(|| NOT_THERE.to_owned())),
            Self::Client(_) => None,
        }
    }

    pub(super) fn play_client(&mut self, now: Timestamp, call: &ClientCall) -> Option<String> {
        match self {
            Self::Client(_) if call.is_void() => None,
            Self::Client(player) => Some(player.play(now, call).unwrap_or_else(|| NOT_THERE.to_owned())),
            Self::Broker(_) => None,
        }
    }
}

/// What has been named so far, counted from 1.
#[derive(Debug)]
struct Named<T>(Vec<T>);

impl<T: Copy> Named<T> {
    fn get(&self, number: u64) -> Option<T> {
        self.0.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
    }

    fn add(&mut self, name: T) -> String {
        self.0.push(name);
        self.0.len().to_string()
    }
}

/// The bytes of one connection, as a driver would have them.
#[derive(Debug, Default)]
struct Wire {
    left: Vec<u8>,
    streams: Streams,
}

impl Wire {
    /// What the core is handed: what is left of before, and more.
    fn input(&mut self, kept: usize, bytes: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.left);
        input.truncate(kept);
        input.extend_from_slice(bytes);
        input
    }

    fn keep(&mut self, input: &[u8], consumed: usize) {
        self.left = input.get(consumed..).unwrap_or_default().to_vec();
    }
}

#[derive(Debug)]
pub(super) struct BrokerPlayer {
    core: Box<Broker>,
    connections: Named<ConnectionId>,
    wires: BTreeMap<ConnectionId, Wire>,
    questions: Named<QuestionId>,
    commits: Named<BrokerCommit>,
    locals: Named<LocalId>,
    tokens: BTreeMap<u64, LocalToken>,
    last_token: u64,
}

impl BrokerPlayer {
    fn new(core: Box<Broker>) -> Self {
        Self {
            core,
            connections: Named(Vec::new()),
            wires: BTreeMap::new(),
            questions: Named(Vec::new()),
            commits: Named(Vec::new()),
            locals: Named(Vec::new()),
            tokens: BTreeMap::new(),
            last_token: 0,
        }
    }

    fn poll(&mut self) -> Option<Said> {
        let output = self.core.poll_output()?;
        let said = Said::by_broker(&output);
        match output {
            BrokerOutput::Ask { id, .. } => drop(self.questions.add(id)),
            BrokerOutput::Commit(id) => drop(self.commits.add(id)),
            BrokerOutput::Deliver { delivery, .. } => {
                if let Some(token) = delivery.token {
                    self.last_token += 1;
                    self.tokens.insert(self.last_token, token);
                }
            }
            BrokerOutput::Transmit(_)
            | BrokerOutput::Close(_)
            | BrokerOutput::Resume(_)
            | BrokerOutput::Interest { .. }
            | BrokerOutput::Forward { .. }
            | BrokerOutput::Event(_) => {}
        }
        Some(said)
    }

    /// `None` if it is about something that is not there.
    fn play(&mut self, now: Timestamp, call: &BrokerCall) -> Option<String> {
        let core = &mut self.core;
        let connection = |number: u64| self.connections.get(number);
        let nothing = Some(String::new());
        match call {
            BrokerCall::Connection(address) => {
                match core.handle_connection(now, address.map_or(Peer::default(), Peer::at)) {
                    Ok(id) => {
                        self.wires.insert(id, Wire::default());
                        Some(self.connections.add(id))
                    }
                    Err(_) => Some("refused".to_owned()),
                }
            }
            BrokerCall::Lost(number) => {
                let id = connection(*number)?;
                self.wires.remove(&id);
                core.handle_connection_lost(now, id);
                nothing
            }
            BrokerCall::Input { connection: number, kept, bytes } => {
                self.hand_in(now, *number, *kept, bytes, |core, id, input| Some(core.handle_input(now, id, &input)))
            }
            BrokerCall::Frame { connection: number, kept, bytes } => {
                self.hand_in(now, *number, *kept, bytes, |core, id, input| {
                    Some(core.handle_frame(now, id, &Frame::new(Bytes::from(input), &LIMITS).ok()?))
                })
            }
            BrokerCall::Progress { connection: number, kept } => {
                Some(flag(core.handle_progress(now, connection(*number)?, *kept)))
            }
            BrokerCall::Transmitted { connection: number, len } => self.transmitted(now, *number, *len),
            BrokerCall::Timeout => {
                core.handle_timeout(now);
                nothing
            }
            BrokerCall::Committed(number) => {
                core.handle_committed(now, self.commits.get(*number)?);
                nothing
            }
            BrokerCall::Answer { question, answer, information } => {
                let id = self.questions.get(*question)?;
                core.handle_answer_with(now, id, answer.clone(), information.clone());
                nothing
            }
            BrokerCall::Shutdown => {
                core.shutdown(now);
                nothing
            }
            BrokerCall::Disconnect { connection: number, reason_code, information } => {
                core.disconnect_with(now, connection(*number)?, *reason_code, information);
                nothing
            }
            BrokerCall::Redirect { connection: number, permanent, server_reference, information } => {
                core.redirect(now, connection(*number)?, *permanent, server_reference, information);
                nothing
            }
            BrokerCall::RemoveSession(client_id) => Some(flag(core.remove_session(now, client_id))),
            BrokerCall::SetAccess { client_id, access } => Some(flag(core.set_access(now, client_id, access.clone()))),
            BrokerCall::OpenLocal { .. }
            | BrokerCall::CloseLocal(_)
            | BrokerCall::LocalPublish { .. }
            | BrokerCall::LocalSubscribe { .. }
            | BrokerCall::LocalUnsubscribe { .. }
            | BrokerCall::LocalAcknowledge(_) => self.play_local(now, call),
        }
    }

    fn play_local(&mut self, now: Timestamp, call: &BrokerCall) -> Option<String> {
        let core = &mut self.core;
        match call {
            BrokerCall::OpenLocal { client_id, receive_maximum } => {
                match core.open_local(now, client_id, *receive_maximum) {
                    Ok(id) => Some(self.locals.add(id)),
                    Err(ClientIdInUse) => Some("in-use".to_owned()),
                }
            }
            BrokerCall::CloseLocal(number) => {
                core.close_local(now, self.locals.get(*number)?);
                Some(String::new())
            }
            BrokerCall::LocalPublish { local, message } => {
                Some(published(core.local_publish(now, self.locals.get(*local)?, message.clone())))
            }
            BrokerCall::LocalSubscribe { local, filter, options, id } => {
                let answer = core.local_subscribe(now, self.locals.get(*local)?, filter.as_filter(), *options, *id);
                Some(answer.code().to_string())
            }
            BrokerCall::LocalUnsubscribe { local, filter } => {
                let answer = core.local_unsubscribe(now, self.locals.get(*local)?, filter.as_filter());
                Some(answer.code().to_string())
            }
            BrokerCall::LocalAcknowledge(number) => {
                core.local_acknowledge(now, self.tokens.remove(number)?);
                Some(String::new())
            }
            _ => None,
        }
    }

    fn hand_in(
        &mut self,
        _now: Timestamp,
        number: u64,
        kept: usize,
        bytes: &[u8],
        take: impl FnOnce(&mut Broker, ConnectionId, Vec<u8>) -> Option<damselfly_broker::Intake>,
    ) -> Option<String> {
        let id = self.connections.get(number)?;
        let wire = self.wires.get_mut(&id)?;
        let input = wire.input(kept, bytes);
        let intake = take(&mut self.core, id, input.clone())?;
        wire.keep(&input, intake.consumed);
        Some(broker_call::intake(intake))
    }

    fn transmitted(&mut self, now: Timestamp, number: u64, len: usize) -> Option<String> {
        let id = self.connections.get(number)?;
        let bytes = first_bytes(len, |chunks| self.core.transmit(id, chunks));
        self.core.handle_transmitted(now, id, bytes.len());
        Some(self.wires.get_mut(&id)?.streams.sent(&bytes))
    }
}

#[derive(Debug)]
pub(super) struct ClientPlayer {
    core: Box<Client>,
    wire: Wire,
    commits: Named<CommitId>,
    tokens: Named<AckToken>,
}

impl ClientPlayer {
    fn new(core: Box<Client>) -> Self {
        Self { core, wire: Wire::default(), commits: Named(Vec::new()), tokens: Named(Vec::new()) }
    }

    fn poll(&mut self) -> Option<Said> {
        let output = self.core.poll_output()?;
        match &output {
            ClientOutput::Commit(id) => drop(self.commits.add(*id)),
            ClientOutput::Event(event) => {
                if let Some(token) = inbound(event).and_then(|inbound| inbound.ack) {
                    self.tokens.add(token);
                }
            }
            ClientOutput::NeedTransport(_)
            | ClientOutput::Transmit
            | ClientOutput::Close
            | ClientOutput::Resume
            | ClientOutput::Journal(_) => {}
        }
        Some(Said::by_client(&output))
    }

    /// `None` if it is about something that is not there.
    fn play(&mut self, now: Timestamp, call: &ClientCall) -> Option<String> {
        let core = &mut self.core;
        match call {
            ClientCall::Up(parameters) => {
                self.wire = Wire::default();
                core.handle_transport_up(now, parameters);
            }
            ClientCall::Down(why) => core.handle_transport_lost(now, *why),
            ClientCall::Input { kept, bytes } => {
                let input = self.wire.input(*kept, bytes);
                let intake = core.handle_input(now, &input);
                self.wire.keep(&input, intake.consumed);
                return Some(client_call::intake(intake));
            }
            ClientCall::Frame { kept, bytes } => {
                let input = self.wire.input(*kept, bytes);
                let intake = core.handle_frame(now, &Frame::new(Bytes::from(input.clone()), &LIMITS).ok()?);
                self.wire.keep(&input, intake.consumed);
                return Some(client_call::intake(intake));
            }
            ClientCall::Progress => core.handle_progress(now),
            ClientCall::Transmitted(len) => {
                let bytes = first_bytes(*len, |chunks| core.transmit(chunks));
                core.handle_transmitted(now, bytes.len());
                return Some(self.wire.streams.sent(&bytes));
            }
            ClientCall::Timeout => core.handle_timeout(now),
            ClientCall::Committed(number) => core.handle_committed(now, self.commits.get(*number)?),
            ClientCall::Pause => core.pause(now),
            ClientCall::Resume => core.resume(now),
            ClientCall::Close(deadline) => core.close(now, *deadline),
            ClientCall::Disconnect => core.disconnect(now),
            ClientCall::Publish(message) => {
                let result = core.publish(now, message.clone());
                return Some(request(result.as_ref().map_err(|refused| &refused.why)));
            }
            ClientCall::Request { message, deadline } => {
                let result = core.request(now, message.clone(), *deadline);
                return Some(request(result.as_ref().map_err(|refused| &refused.why)));
            }
            ClientCall::Subscribe((filters, properties)) => {
                let filters: Vec<_> = filters.iter().map(|(filter, options)| (filter.as_filter(), *options)).collect();
                return Some(request(core.subscribe(now, &filters, properties.as_properties()).as_ref()));
            }
            ClientCall::Unsubscribe(filters, properties) => {
                let filters: Vec<TopicFilter<'_>> = filters.iter().map(TopicFilterBuf::as_filter).collect();
                return Some(request(core.unsubscribe(now, &filters, properties.as_properties()).as_ref()));
            }
            ClientCall::Acknowledge { token, reason_code } => {
                return Some(done(core.acknowledge(now, self.tokens.get(*token)?, *reason_code)));
            }
            ClientCall::Authenticate(properties) => return Some(done(core.authenticate(properties.as_properties()))),
            ClientCall::Reauthenticate(properties) => {
                return Some(done(core.reauthenticate(properties.as_properties())));
            }
        }
        Some(String::new())
    }
}
