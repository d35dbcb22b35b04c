//! A broker that does what a test says, and a client core driven by it.

use damselfly_client::{
    Client, CommitId, Config, ConnectParameters, Event, Intake, NeedTransport, Operation, Outcome, Output,
    RestoreError, TransportLost,
};
use damselfly_codec::{
    Ack, AckType, Connack, Delivery, Foreign, FrameLimits, Packet, PacketId, Properties, PropertiesBuf, Property,
    Publish, QoS, ReasonCode, Suback, SubscriptionOptions, Version, split_frame,
};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicName};

pub(crate) const EMPTY: Properties<'_> = Properties::EMPTY;

/// A client core, its outputs sorted, and the packets it sent in words.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) now: Timestamp,
    pub(crate) version: Version,
    pub(crate) events: Vec<Event>,
    /// What the client sent, one line per packet.
    pub(crate) sent: Vec<String>,
    /// Of the requests it sent.
    pub(crate) correlation_data: Vec<Vec<u8>>,
    pub(crate) needs: Vec<NeedTransport>,
    pub(crate) is_closed: bool,
    pub(crate) resumes: usize,
    /// Bytes are taken from the client as soon as it has some.
    pub(crate) is_flushing: bool,
    /// Groups are stored as soon as they are said.
    pub(crate) is_storing: bool,
    /// What survives the process.
    pub(crate) store: Vec<Operation>,
    /// Groups that were said and not stored.
    pub(crate) unstored: Vec<(CommitId, Vec<Operation>)>,
    group: Vec<Operation>,
    config: Config,
    unread: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(version: Version, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("heron");
        config.version = version;
        config.outbound_topic_aliases = 0;
        change(&mut config);
        Self::of(Client::new(config.clone(), 7), config, Timestamp::from_secs(1_000))
    }

    /// The process ends and another one goes on, with what was stored.
    pub(crate) fn restart(self) -> Self {
        let store = self.store.clone();
        self.restart_with(store).expect("what was stored can be restored")
    }

    pub(crate) fn restart_with(self, image: Vec<Operation>) -> Result<Self, RestoreError> {
        let client = Client::restore(self.config.clone(), 8, image.clone())?;
        let mut peer = Self::of(client, self.config, self.now);
        peer.store.splice(0..0, image);
        Ok(peer)
    }

    fn of(client: Client, config: Config, now: Timestamp) -> Self {
        let version = config.version;
        let mut peer = Self {
            client,
            now,
            version,
            events: Vec::new(),
            sent: Vec::new(),
            correlation_data: Vec::new(),
            needs: Vec::new(),
            is_closed: false,
            resumes: 0,
            is_flushing: true,
            is_storing: true,
            store: Vec::new(),
            unstored: Vec::new(),
            group: Vec::new(),
            config,
            unread: Vec::new(),
        };
        peer.poll();
        peer
    }

    /// Connected for the first time, to a broker without limits; what came with it is forgotten.
    pub(crate) fn connected(version: Version, change: impl FnOnce(&mut Config)) -> Self {
        Self::connected_to(version, &[], change)
    }

    /// Connected for the first time, to a broker that says this in its CONNACK.
    pub(crate) fn connected_to(version: Version, says: &[Property<'_>], change: impl FnOnce(&mut Config)) -> Self {
        let mut peer = Self::new(version, change);
        peer.connect(false, says);
        peer.forget();
        peer
    }

    /// The transport is up and CONNACK accepts.
    pub(crate) fn connect(&mut self, session_present: bool, says: &[Property<'_>]) {
        self.transport_up();
        let properties = properties(says);
        self.receive(&Packet::Connack(Connack {
            session_present,
            reason_code: ReasonCode::Success,
            properties: properties.as_properties(),
        }));
    }

    pub(crate) fn transport_up(&mut self) {
        self.transport_up_with(&ConnectParameters::default());
    }

    pub(crate) fn transport_up_with(&mut self, parameters: &ConnectParameters) {
        self.is_closed = false;
        self.client.handle_transport_up(self.now, parameters);
        self.poll();
    }

    pub(crate) fn lose(&mut self) {
        self.client.handle_transport_lost(self.now, TransportLost::Failed);
        self.unread.clear();
        self.poll();
    }

    pub(crate) fn reconnect(&mut self, session_present: bool) {
        self.lose();
        self.forget();
        self.connect(session_present, &[]);
    }

    /// The broker sends a packet.
    pub(crate) fn receive(&mut self, packet: &Packet<'_>) {
        let mut frame = Vec::new();
        packet.encode(self.version, Foreign::Reject, &mut frame).expect("tests send what can be encoded");
        let intake = self.receive_bytes(&frame);
        assert_eq!(intake.consumed, frame.len(), "{packet:?}");
    }

    pub(crate) fn receive_bytes(&mut self, bytes: &[u8]) -> Intake {
        let intake = self.client.handle_input(self.now, bytes);
        self.poll();
        intake
    }

    pub(crate) fn receive_publish(&mut self, qos: QoS, id: u16, topic: &str, payload: &str) {
        self.receive(&Packet::Publish(publish(qos, id, false, topic, payload, EMPTY)));
    }

    pub(crate) fn receive_ack(&mut self, ack_type: AckType, id: u16) {
        self.receive_refusal(ack_type, id, ReasonCode::Success);
    }

    pub(crate) fn receive_refusal(&mut self, ack_type: AckType, id: u16, reason_code: ReasonCode) {
        let ack = Ack::with_reason(packet_id(id), reason_code);
        self.receive(&match ack_type {
            AckType::Puback => Packet::Puback(ack),
            AckType::Pubrec => Packet::Pubrec(ack),
            AckType::Pubrel => Packet::Pubrel(ack),
            AckType::Pubcomp => Packet::Pubcomp(ack),
        });
    }

    pub(crate) fn receive_suback(&mut self, id: u16, codes: &[ReasonCode]) {
        self.receive(&Packet::Suback(Suback::new(packet_id(id), EMPTY, codes)));
    }

    /// The application publishes; the ticket's number is returned.
    pub(crate) fn publish(&mut self, qos: QoS, topic: &str, payload: &str) -> u64 {
        let ticket = self.client.publish(self.now, message(qos, topic, payload)).expect("it is taken");
        self.poll();
        ticket.get()
    }

    pub(crate) fn subscribe(&mut self, filters: &[(&str, QoS)]) -> u64 {
        let filters: Vec<_> = filters.iter().map(|(text, qos)| (filter(text), options(*qos))).collect();
        let ticket = self.client.subscribe(self.now, &filters, EMPTY).expect("it is taken");
        self.poll();
        ticket.get()
    }

    /// Seconds pass.
    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.saturating_add(core::time::Duration::from_secs(seconds));
        self.client.handle_timeout(self.now);
        self.poll();
    }

    pub(crate) fn poll(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::NeedTransport(need) => self.needs.push(need),
                Output::Transmit if self.is_flushing => self.flush(),
                Output::Transmit => {}
                Output::Close => {
                    self.flush();
                    self.is_closed = true;
                }
                Output::Resume => self.resumes += 1,
                // A store keeps bytes.
                Output::Journal(operation) => {
                    let mut bytes = Vec::new();
                    operation.encode(&mut bytes).expect("the client says what can be stored");
                    let read = Operation::decode(&bytes).expect("what was written can be read");
                    assert_eq!(read, operation);
                    self.group.push(read);
                }
                Output::Commit(id) => {
                    self.unstored.push((id, core::mem::take(&mut self.group)));
                    if self.is_storing {
                        self.commit();
                    }
                }
                Output::Event(event) => self.events.push(event),
            }
        }
        assert!(self.group.is_empty(), "a group without its commit");
    }

    /// The store has synced all there was.
    pub(crate) fn commit(&mut self) {
        let Some((last, _)) = self.unstored.last() else { return };
        let last = *last;
        self.store.extend(self.unstored.drain(..).flat_map(|(_, group)| group));
        self.client.handle_committed(self.now, last);
        self.poll();
    }

    /// The transport takes all bytes there are.
    pub(crate) fn flush(&mut self) {
        loop {
            let mut chunks = [&[][..]; 3];
            let count = self.client.transmit(&mut chunks);
            if count == 0 {
                break;
            }
            let bytes = chunks[..count].concat();
            self.unread.extend_from_slice(&bytes);
            self.client.handle_transmitted(self.now, bytes.len());
        }
        let unread = core::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        while let Some(frame) = split_frame(rest, &FrameLimits::default()).expect("the client sends packets") {
            rest = &rest[frame.len()..];
            let packet = Packet::decode(self.version, frame).expect("the client sends packets");
            if let Packet::Publish(publish) = packet {
                self.correlation_data.extend(publish.properties.correlation_data().map(Vec::from));
            }
            self.sent.push(in_words(&packet));
        }
        self.unread = rest.to_vec();
    }

    pub(crate) fn forget(&mut self) {
        self.events.clear();
        self.sent.clear();
        self.needs.clear();
    }

    /// What the client sent since the last call.
    pub(crate) fn take_sent(&mut self) -> Vec<String> {
        core::mem::take(&mut self.sent)
    }

    /// The outcomes since the last call, each with the number of its ticket.
    pub(crate) fn take_outcomes(&mut self) -> Vec<(u64, Outcome)> {
        let (outcomes, rest) = core::mem::take(&mut self.events)
            .into_iter()
            .partition::<Vec<_>, _>(|event| matches!(event, Event::Completed { .. }));
        self.events = rest;
        let outcome = |event| match event {
            Event::Completed { ticket, outcome } => Some((ticket.get(), outcome)),
            _ => None,
        };
        outcomes.into_iter().filter_map(outcome).collect()
    }

    /// Topic and payload of the messages since the last call.
    pub(crate) fn take_messages(&mut self) -> Vec<String> {
        let (messages, rest) = core::mem::take(&mut self.events)
            .into_iter()
            .partition::<Vec<_>, _>(|event| matches!(event, Event::Message(_)));
        self.events = rest;
        let in_words = |event| match event {
            Event::Message(inbound) => {
                let payload = String::from_utf8_lossy(inbound.message.payload()).into_owned();
                Some(format!("{} {payload}", inbound.message.topic()))
            }
            _ => None,
        };
        messages.into_iter().filter_map(in_words).collect()
    }
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("tests use no zero")
}

pub(crate) fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).expect("tests use filters")
}

pub(crate) fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

pub(crate) fn properties(list: &[Property<'_>]) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    for property in list {
        properties.push(*property).expect("tests use properties that can be");
    }
    properties
}

pub(crate) fn publish<'a>(
    qos: QoS,
    id: u16,
    dup: bool,
    topic: &'a str,
    payload: &'a str,
    properties: Properties<'a>,
) -> Publish<'a> {
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id: packet_id(id), dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id: packet_id(id), dup },
    };
    let topic = (!topic.is_empty()).then(|| TopicName::new(topic).expect("tests use names"));
    Publish { delivery, retain: false, topic, properties, payload: payload.as_bytes() }
}

pub(crate) fn message(qos: QoS, topic: &str, payload: &str) -> Message {
    message_with(qos, topic, payload, &[], Timestamp::from_secs(1_000))
}

pub(crate) fn message_with(qos: QoS, topic: &str, payload: &str, says: &[Property<'_>], now: Timestamp) -> Message {
    let properties = properties(says);
    let publish = publish(qos, 1, false, topic, payload, properties.as_properties());
    Message::new(&publish, TopicName::new(topic).expect("tests use names"), now)
}

/// One line per packet: type, identifier, and what else matters.
fn in_words(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(connect) => {
            let connect = connect.fields();
            let kind = if connect.clean_start { "clean" } else { "resume" };
            format!("CONNECT {} {kind} {}", connect.client_id, connect.keep_alive)
        }
        Packet::Publish(publish) => {
            let id = publish.delivery.packet_id().map(|id| format!(" #{id}")).unwrap_or_default();
            let dup = if publish.delivery.is_dup() { " dup" } else { "" };
            let retain = if publish.retain { " retain" } else { "" };
            let topic = publish.topic.map_or("", |topic| topic.as_str());
            let alias = publish.properties.topic_alias().map(|alias| format!(" alias {alias}")).unwrap_or_default();
            let expiry = publish.properties.message_expiry_interval();
            let expiry = expiry.map(|seconds| format!(" expiry {seconds}")).unwrap_or_default();
            let response = publish.properties.response_topic();
            let response = response.map(|topic| format!(" answer to {topic}")).unwrap_or_default();
            let payload = String::from_utf8_lossy(publish.payload);
            let qos = publish.delivery.qos();
            format!("PUBLISH q{qos}{id}{dup}{retain} {topic} {payload}{alias}{expiry}{response}")
        }
        Packet::Puback(ack) => ack_in_words("PUBACK", ack),
        Packet::Pubrec(ack) => ack_in_words("PUBREC", ack),
        Packet::Pubrel(ack) => ack_in_words("PUBREL", ack),
        Packet::Pubcomp(ack) => ack_in_words("PUBCOMP", ack),
        Packet::Subscribe(subscribe) => {
            let filters: Vec<_> =
                subscribe.filters().map(|(filter, options)| format!("{filter}:{}", options.qos)).collect();
            let id = subscribe.properties.subscription_ids().next().map(|id| format!(" id {id}")).unwrap_or_default();
            format!("SUBSCRIBE #{} {}{id}", subscribe.packet_id, filters.join(" "))
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters().map(|filter| filter.to_string()).collect();
            format!("UNSUBSCRIBE #{} {}", unsubscribe.packet_id, filters.join(" "))
        }
        Packet::Pingreq => "PINGREQ".into(),
        Packet::Disconnect(disconnect) => format!("DISCONNECT 0x{:02X}", disconnect.reason_code.code()),
        Packet::Auth(auth) => {
            let data = String::from_utf8_lossy(auth.properties.authentication_data().unwrap_or_default()).into_owned();
            let method = auth.properties.authentication_method().unwrap_or_default();
            format!("AUTH 0x{:02X} {method} {data}", auth.reason_code.code())
        }
        Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
            panic!("a client must not send {packet:?}")
        }
    }
}

fn ack_in_words(name: &str, ack: &Ack<'_>) -> String {
    match ack.reason_code {
        ReasonCode::Success => format!("{name} #{}", ack.packet_id),
        reason_code => format!("{name} #{} 0x{:02X}", ack.packet_id, reason_code.code()),
    }
}
