//! Every call of a broker core and a client core is recorded with all that it says.

use std::sync::Arc;

use damselfly_broker::{
    Access, Action, Answer, Config as BrokerConfig, ConnectionId, Grant, Output as BrokerOutput, Peer, Permission,
    ProblemInformation, Question, ShardId,
};
use damselfly_client::{Acknowledgement, Config, ConnectParameters, Event, Output, TransportLost};
use damselfly_codec::{
    Connect, Delivery, Foreign, Frame, FrameLimits, Packet, PacketId, Properties, PropertiesBuf, Property, Publish,
    QoS, ReasonCode, Subscribe, SubscriptionId, SubscriptionOptions, Version,
};
use damselfly_session::{Message, Timestamp};
use damselfly_sim::flight::{Ending, RecordedBroker, RecordedClient, Recording, Tape};
use damselfly_topic::{TopicFilter, TopicName};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn message(topic: &str, qos: QoS) -> Message {
    Message::compose(TopicName::new(topic).unwrap(), b"payload", qos, true, Properties::EMPTY, NOW)
}

fn bytes(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V5_0, Foreign::Reject, &mut bytes).unwrap();
    bytes
}

fn large_publish() -> Frame {
    let payload = vec![7; 40_000];
    let publish = Publish {
        delivery: Delivery::first(QoS::AtLeastOnce, PacketId::MIN),
        retain: false,
        topic: Some(TopicName::new("a/large").unwrap()),
        properties: Properties::EMPTY,
        payload: &payload,
    };
    Frame::new(bytes(&Packet::Publish(publish)).into(), &FrameLimits::default()).unwrap()
}

/// Connects, subscribes to a filter that is asked about, and publishes a large frame.
fn come(broker: &mut RecordedBroker, name: &str) -> ConnectionId {
    let connection = broker.handle_connection(NOW, Peer::at("[::1]:50000".parse().unwrap())).unwrap();
    let mut input = Vec::new();
    let mut properties = PropertiesBuf::new();
    properties.push(Property::SessionExpiryInterval(60)).unwrap();
    let connect = Connect { properties: properties.as_properties(), ..Connect::new(Version::V5_0, name) };
    connect.encode(Foreign::Reject, &mut input).unwrap();
    let _ = broker.handle_input(NOW, connection, &input);
    settle(broker);
    let filter = [(TopicFilter::new("asked").unwrap(), SubscriptionOptions::default())];
    let subscribe = Subscribe::new(PacketId::MIN, Properties::EMPTY, &filter);
    let _ = broker.handle_input(NOW, connection, &bytes(&Packet::Subscribe(subscribe)));
    settle(broker);
    assert!(!broker.handle_progress(NOW, connection, 65_536));
    let _ = broker.handle_frame(NOW, connection, &large_publish());
    settle(broker);
    connection
}

fn settle(broker: &mut RecordedBroker) {
    let access = Access::new(Permission::Ask).rule(Action::Any, "a/#", Permission::Allow).unwrap();
    let told = ProblemInformation::new().reason_string("a b").unwrap().user_property("c", "d \"e\"").unwrap();
    while let Some(output) = broker.poll_output() {
        match output {
            BrokerOutput::Ask { id, question } => match *question {
                Question::Connect { client_id, .. } if &*client_id == "elsewhere" => {
                    let answer = Answer::Redirect { permanent: true, server_reference: "there:1883".into() };
                    broker.handle_answer_with(NOW, id, answer, told.clone());
                }
                Question::Connect { .. } => {
                    let mut grant = Grant::default();
                    grant.principal = Some("someone".into());
                    grant.access = Some(Arc::new(access.clone()));
                    broker.handle_answer_with(NOW, id, Answer::Allow(grant), told.clone());
                }
                _ => broker.handle_answer_with(NOW, id, Answer::Deny(ReasonCode::QuotaExceeded), told.clone()),
            },
            BrokerOutput::Commit(id) => broker.handle_committed(NOW, id),
            BrokerOutput::Transmit(id) => broker.handle_transmitted(NOW, id, broker.transmit_len(id)),
            BrokerOutput::Close(id) => broker.handle_connection_lost(NOW, id),
            BrokerOutput::Deliver { delivery, .. } => {
                if let Some(token) = delivery.token {
                    broker.local_acknowledge(NOW, token);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_call_of_a_broker_is_recorded_with_all_that_it_says() {
    let (tape, memory) = Tape::in_memory();
    let mut broker = RecordedBroker::new(BrokerConfig::default(), 1, tape).unwrap();
    let local = broker.open_local(NOW, "local one", 2.try_into().unwrap()).unwrap();
    broker.open_local(NOW, "local one", 2.try_into().unwrap()).unwrap_err();
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, no_local: true, ..SubscriptionOptions::default() };
    let filter = TopicFilter::new("a/#").unwrap();
    broker.local_subscribe(NOW, local, filter, options, SubscriptionId::new(9));
    let other = broker.open_local(NOW, "other", 2.try_into().unwrap()).unwrap();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let _ = broker.local_publish(NOW, other, message("a/b", qos));
        settle(&mut broker);
    }
    let first = come(&mut broker, "first");
    come(&mut broker, "elsewhere");
    let second = come(&mut broker, "second");
    let third = come(&mut broker, "third");
    settle(&mut broker);
    let access = Access::new(Permission::Deny);
    assert!(broker.set_access(NOW, "first", Some(Arc::new(access))));
    assert!(!broker.set_access(NOW, "nobody", None));
    let told = ProblemInformation::new().reason_string("bye").unwrap();
    broker.disconnect_with(NOW, first, ReasonCode::AdministrativeAction, &told);
    broker.redirect(NOW, second, false, "there too", &told);
    broker.disconnect(NOW, third, ReasonCode::AdministrativeAction);
    settle(&mut broker);
    // They are gone, so these do nothing.
    broker.disconnect(NOW, first, ReasonCode::AdministrativeAction);
    let _ = broker.handle_input(NOW, first, b"\xC0\x00");
    broker.handle_connection_lost(NOW, first);
    assert!(broker.remove_session(NOW, "first") && !broker.remove_session(NOW, "first"));
    broker.local_unsubscribe(NOW, local, filter);
    broker.close_local(NOW, other);
    broker.handle_timeout(NOW.saturating_sub(core::time::Duration::from_secs(5)));
    broker.handle_timeout(NOW.saturating_add(core::time::Duration::from_secs(70)));
    settle(&mut broker);
    broker.shutdown(NOW.saturating_add(core::time::Duration::from_secs(71)));
    broker.handle_connection(NOW, Peer::default()).unwrap_err();
    settle(&mut broker);
    let counters = broker.counters().clone();
    drop(broker);

    let text = memory.text();
    for verb in [
        "connection",
        "lost",
        "input",
        "frame",
        "progress",
        "transmitted",
        "timeout",
        "committed",
        "answer",
        "shutdown",
        "disconnect",
        "redirect",
        "remove-session",
        "set-access",
        "open-local",
        "close-local",
        "local-publish",
        "local-subscribe",
        "local-unsubscribe",
        "local-acknowledge",
    ] {
        let is_call = |line: &str| line.split(' ').nth(1) == Some(verb);
        assert!(text.lines().any(is_call), "{verb} is not in\n{text}");
    }
    let replay = text.parse::<Recording>().unwrap().replay().unwrap();
    assert!(replay.differences.is_empty(), "{}\n{text}", replay.differences[0]);
    assert_eq!((replay.ending.clone(), replay.broker().unwrap().counters()), (Ending::Complete, &counters));
}

#[test]
fn recording_ends_with_its_reason_where_brokers_are_joined() {
    let (tape, memory) = Tape::in_memory();
    let mut config = BrokerConfig::default();
    config.announce_interest = true;
    let mut broker = RecordedBroker::new(config, 1, tape).unwrap();
    broker.handle_shard_joined(NOW, ShardId(1));
    broker.handle_connection(NOW, Peer::default()).unwrap();
    let recording: Recording = memory.text().parse().unwrap();
    let why = "brokers that are joined are not recorded".to_owned();
    assert_eq!(recording.ending().to_string(), format!("the recording ends early: {why}"));
    assert_eq!(recording.ending(), &Ending::Stopped { why });
    assert!(recording.is_empty());
}

#[test]
fn every_call_of_a_client_is_recorded_with_all_that_it_says() {
    let (tape, memory) = Tape::in_memory();
    let mut config = Config::new("a");
    config.acknowledgement = Acknowledgement::Manual;
    let mut client = RecordedClient::new(config, 1, tape);
    client.handle_transport_lost(NOW, TransportLost::NotOpened);
    client.handle_transport_up(NOW, &ConnectParameters::default());
    let _ = client.handle_input(NOW, b"\x20\x03\x00\x00\x00");
    let composed = client.compose(NOW, TopicName::new("t").unwrap(), b"", QoS::AtMostOnce, false, Properties::EMPTY);
    client.publish(NOW, composed).unwrap();
    let later = NOW.saturating_add(core::time::Duration::from_secs(5));
    client.request(NOW, message("ask", QoS::AtLeastOnce), later).unwrap();
    client
        .subscribe(NOW, &[(TopicFilter::new("a/#").unwrap(), SubscriptionOptions::default())], Properties::EMPTY)
        .unwrap();
    client.unsubscribe(NOW, &[TopicFilter::new("a/#").unwrap()], Properties::EMPTY).unwrap();
    client.authenticate(Properties::EMPTY).unwrap_err();
    client.reauthenticate(Properties::EMPTY).unwrap_err();
    client.pause(NOW);
    client.resume(NOW);
    client.handle_progress(NOW);
    let _ = client.handle_frame(NOW, &large_publish());
    let mut tokens = Vec::new();
    while let Some(output) = client.poll_output() {
        if let Output::Event(Event::Message(inbound)) = output {
            tokens.extend(inbound.ack);
            client.give_back(inbound.message);
        }
    }
    client.acknowledge(NOW, tokens[0], ReasonCode::Success).unwrap();
    client.acknowledge(NOW, tokens[0], ReasonCode::Success).unwrap_err();
    let mut chunks = [&[][..]; 8];
    let count = client.transmit(&mut chunks);
    let len = chunks[..count].concat().len();
    client.handle_transmitted(NOW, len);
    client.handle_timeout(later);
    client.disconnect(later);
    client.close(later, later);
    while client.poll_output().is_some() {}
    drop(client);

    let text = memory.text();
    for verb in [
        "up",
        "down",
        "input",
        "frame",
        "progress",
        "transmitted",
        "timeout",
        "pause",
        "resume",
        "disconnect",
        "close",
        "publish",
        "request",
        "subscribe",
        "unsubscribe",
        "acknowledge",
        "authenticate",
        "reauthenticate",
    ] {
        let is_call = |line: &str| line.split(' ').nth(1) == Some(verb);
        assert!(text.lines().any(is_call), "{verb} is not in\n{text}");
    }
    let replay = text.parse::<Recording>().unwrap().replay().unwrap();
    assert!(replay.differences.is_empty(), "{}\n{text}", replay.differences[0]);
    assert_eq!(replay.ending, Ending::Complete);
}
