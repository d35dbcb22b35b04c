//! What is recorded in simulated worlds plays again, and what is not to be seen is not there.

use core::time::Duration;

use damselfly_broker::{Answer, Config as BrokerConfig, Grant, Output as BrokerOutput, Peer, Question, Secret};
use damselfly_client::{Config, ConnectParameters, Event, OutboxConfig, Output, Will};
use damselfly_codec::{
    Connect, Foreign, Packet, Properties, PropertiesBuf, Property, QoS, ReasonCode, SubscriptionOptions, Version,
};
use damselfly_session::{Message, SessionExpiry, Timestamp};
use damselfly_sim::flight::{Ending, ReadError, RecordedBroker, RecordedClient, Recording, Tape};
use damselfly_sim::{End, Sim, World};
use damselfly_topic::{TopicFilter, TopicName, TopicNameBuf};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Plays it: there is something in it, and nothing differs.
fn replay(text: &str) -> damselfly_sim::flight::Replay {
    let recording: Recording = text.parse().unwrap();
    assert!(recording.len() > 10, "something happens:\n{text}");
    let replay = recording.replay().unwrap();
    assert!(replay.differences.is_empty(), "{}", replay.differences[0]);
    replay
}

/// Every kind of fault, with outboxes and without.
fn world(seed: u64) -> (Sim, Vec<String>) {
    let mut world = World::default();
    world.is_recorded = true;
    world.capacity = 300;
    world.broker.max_queued_messages = 7;
    let mut sim = Sim::new(world, seed).unwrap();
    let members = [("a", Version::V5_0), ("b", Version::V3_1_1), ("c", Version::V5_0)].map(|(name, version)| {
        let mut config = Config::new(name);
        config.version = version;
        config.session_expiry = SessionExpiry::Never;
        config.outbox = (name != "b").then(OutboxConfig::default);
        let mut parameters = ConnectParameters::default();
        parameters.will = Some(Will::new(TopicNameBuf::new("will").unwrap(), "gone"));
        sim.add_with(config, parameters)
    });
    for member in members {
        sim.subscribe(member, TopicFilter::new("t/#").unwrap(), QoS::ExactlyOnce).unwrap();
    }
    let mut recordings = Vec::new();
    for round in 0..50_u8 {
        let member = members[usize::from(round % 3)];
        match round % 7 {
            0 => sim.cut(member),
            1 => sim.half_open(member, End::Broker),
            2 => sim.stall(member, End::Client, Duration::from_secs(3)),
            3 => sim.partition(&members[1..]),
            4 => sim.heal(&members),
            5 => sim.connect_again(member),
            _ => {
                recordings.push(sim.client_recording(member));
                sim.crash(member, Duration::from_secs(1));
            }
        }
        if sim.is_up(member) {
            sim.publish(member, TopicName::new("t").unwrap(), &[round; 40], QoS::ExactlyOnce).unwrap();
        }
        sim.run_for(Duration::from_secs(2));
    }
    sim.run_for(Duration::from_secs(100));
    recordings.extend(members.map(|member| sim.client_recording(member)));
    (sim, recordings)
}

#[test]
fn recordings_of_a_simulated_broker_and_its_clients_play_to_the_same_outputs() {
    let (sim, recordings) = world(3);
    let replayed = replay(&sim.broker_recording());
    let broker = replayed.broker().unwrap();
    assert_eq!(broker.counters(), sim.broker().counters());
    assert_eq!(broker.sessions_len(), 3);
    assert_eq!(replayed.ending, Ending::Cut { line: sim.broker_recording().lines().count() }, "it is still running");
    assert!(recordings.len() > 6, "processes that crashed are among them");
    assert!(recordings.iter().any(|text| text.contains("\nstored ")), "some of them went on with what was stored");
    for text in &recordings {
        replay(text);
    }
    let mut quiet = Sim::new(World::default(), 3).unwrap();
    let member = quiet.add(Config::new("a"));
    assert_eq!((quiet.broker_recording(), quiet.client_recording(member)), (String::new(), String::new()));
}

#[test]
fn recording_that_is_changed_anywhere_is_noticed() {
    let (sim, _) = world(4);
    let text = sim.broker_recording();
    let lines: Vec<&str> = text.lines().take(60).collect();
    let mut noticed = 0;
    for at in 4..lines.len() {
        let mut without = lines.clone();
        without.remove(at);
        let Ok(recording) = format!("{}\n", without.join("\n")).parse::<Recording>() else { continue };
        noticed += usize::from(!recording.replay().unwrap().differences.is_empty());
    }
    assert!(noticed > 40, "a line that is missing makes others differ: {noticed} of {}", lines.len() - 4);

    let one = text.lines().position(|line| line.contains(" input ")).unwrap();
    let other = text.replacen("\\04MQTT", "\\04MQTX", 1);
    let difference = &other.parse::<Recording>().unwrap().replay().unwrap().differences[0];
    assert!(difference.line > one && difference.to_string().contains(": the recording says \""), "{difference}");

    let broken = |old: &str, new: &str| text.replacen(old, new, 1).parse::<Recording>().unwrap_err();
    assert_eq!(broken("\\04MQTT", "\\0gMQTT"), ReadError::Line(one + 1));
    assert_eq!(broken(" input ", " outpt "), ReadError::Line(one + 1));
    assert_eq!(broken("recording 1\n", "recording 2\n"), ReadError::UnknownForm(2));
    assert_eq!(broken("damselfly", "butterfly"), ReadError::NotARecording);
    assert!(matches!(broken("\"max_connections\"", "\"max_conections\""), ReadError::Config(_)));
    let words = ReadError::UnknownForm(2).to_string();
    assert!(words.contains("form 2") && words.contains("reads form 1"), "{words}");
}

#[test]
fn recording_that_is_cut_off_plays_as_far_as_it_goes_and_says_where_that_is() {
    let (sim, recordings) = world(5);
    for text in [sim.broker_recording(), recordings[0].clone()] {
        let header = text.match_indices('\n').nth(3).unwrap().0 + 1;
        for len in (0..text.len().min(20_000)).step_by(101) {
            match text[..len].parse::<Recording>() {
                Ok(recording) => {
                    assert!(len >= header);
                    let line = text[..len].matches('\n').count();
                    assert_eq!(recording.ending(), &Ending::Cut { line });
                    assert_eq!(recording.ending().to_string(), format!("the recording is cut off behind line {line}"));
                    assert!(recording.replay().unwrap().differences.is_empty());
                }
                Err(error) => {
                    assert!(len < header, "{error} at {len}");
                    assert!(matches!(error, ReadError::Short(_) | ReadError::NotARecording), "{error}");
                }
            }
        }
    }
}

#[test]
fn recording_keeps_to_its_limit_and_the_core_goes_on() {
    for limit in [300, 1_000, 5_000] {
        let (tape, memory) = Tape::in_memory();
        let mut client = RecordedClient::new(Config::new("a"), 1, tape.limit(limit));
        for number in 0..200_u64 {
            let message = Message::compose(
                TopicName::new("t").unwrap(),
                b"some payload",
                QoS::AtLeastOnce,
                false,
                Properties::EMPTY,
                NOW,
            );
            assert_eq!(client.publish(NOW, message).unwrap().get(), number + 1);
        }
        let text = memory.text();
        assert!(u64::try_from(text.len()).unwrap() <= limit, "{} of {limit}", text.len());
        assert!(text.ends_with("\nlimit\n") || text == "limit\n", "{text}");
        if limit == 5_000 {
            let recording: Recording = text.parse().unwrap();
            assert_eq!(recording.ending(), &Ending::Limit);
            assert!(recording.replay().unwrap().differences.is_empty());
        }
    }
}

#[test]
fn call_that_did_not_come_back_is_the_last_of_its_recording() {
    let (tape, memory) = Tape::in_memory();
    drop(RecordedBroker::new(BrokerConfig::default(), 1, tape).unwrap());
    let text = memory.text().replace("end\n", "5 connection - = 1\n7 input 1 0 \"\\10\" panic\n");
    let recording: Recording = text.parse().unwrap();
    assert_eq!(recording.ending(), &Ending::Panic);
    let replay = recording.replay().unwrap();
    assert!(replay.differences.is_empty(), "that it comes back here is no difference");
}

/// A writer with no room.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn core_goes_on_when_its_recording_cannot_be_written() {
    let mut broker = RecordedBroker::new(BrokerConfig::default(), 1, Tape::new(Full)).unwrap();
    broker.handle_connection(NOW, Peer::default()).unwrap();
    assert_eq!(broker.connections_len(), 1);
}

const SECRETS: [&[u8]; 4] = [b"rose bud", b"first-data", b"second-data", b"third-data"];

fn assert_no_secret(text: &str) {
    // What came in many pieces as one.
    let joined: String = text.lines().filter_map(|line| Some(line.split_once('"')?.1.split_once('"')?.0)).collect();
    for secret in SECRETS {
        let secret = String::from_utf8_lossy(secret).replace(' ', "\\20");
        assert!(!text.contains(&secret), "{secret} is in\n{text}");
        assert!(!joined.contains(&secret[..3]), "the beginning of {secret} is in\n{text}");
    }
}

/// CONNECT with all that may stand in front of a password.
fn connect(version: Version) -> Vec<u8> {
    let mut properties = PropertiesBuf::new();
    if version == Version::V5_0 {
        properties.push(Property::SessionExpiryInterval(20)).unwrap();
        properties.push(Property::UserProperty("a", "b")).unwrap();
        properties.push(Property::AuthenticationMethod("m")).unwrap();
        properties.push(Property::AuthenticationData(b"first-data")).unwrap();
        properties.push(Property::RequestProblemInformation(true)).unwrap();
    }
    let will = damselfly_codec::Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: TopicName::new("w").unwrap(),
        payload: b"gone",
        properties: Properties::EMPTY,
    };
    let connect = Connect {
        will: Some(will),
        user_name: Some("heron"),
        password: Some(b"rose bud"),
        properties: properties.as_properties(),
        ..Connect::new(version, "a")
    };
    let mut bytes = Vec::new();
    connect.encode(Foreign::Reject, &mut bytes).unwrap();
    bytes
}

fn auth(reason_code: ReasonCode, data: &[u8]) -> Vec<u8> {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationMethod("m")).unwrap();
    properties.push(Property::AuthenticationData(data)).unwrap();
    let mut bytes = Vec::new();
    Packet::Auth(damselfly_codec::Auth { reason_code, properties: properties.as_properties() })
        .encode(Version::V5_0, Foreign::Reject, &mut bytes)
        .unwrap();
    bytes
}

/// Looks at the secrets, so that redaction would show if it got to the core.
fn answer(question: &Question) -> Answer {
    let check = |data: Option<&Secret>, wanted: &[u8]| assert_eq!(data.unwrap().as_bytes(), wanted);
    match question {
        Question::Connect { password, authentication, .. } => {
            check(password.as_ref(), b"rose bud");
            match authentication {
                Some(step) => {
                    check(step.data.as_ref(), b"first-data");
                    Answer::Continue(Some(b"second-data"[..].into()))
                }
                None => Answer::allow(),
            }
        }
        Question::Authenticate { step, .. } => {
            check(step.data.as_ref(), b"third-data");
            let mut grant = Grant::default();
            grant.principal = Some("heron".into());
            grant.authentication_data = Some(b"second-data"[..].into());
            Answer::Allow(grant)
        }
        _ => Answer::allow(),
    }
}

/// Performs all outputs, sending at most `most` bytes at a time.
fn settle(broker: &mut RecordedBroker, most: usize) {
    while let Some(output) = broker.poll_output() {
        match output {
            BrokerOutput::Ask { id, question } => broker.handle_answer(NOW, id, answer(&question)),
            BrokerOutput::Commit(id) => broker.handle_committed(NOW, id),
            BrokerOutput::Transmit(connection) => {
                while broker.transmit_len(connection) > 0 {
                    broker.handle_transmitted(NOW, connection, broker.transmit_len(connection).min(most));
                }
            }
            _ => {}
        }
    }
}

#[test]
fn secrets_of_a_broker_are_not_recorded_wherever_its_input_and_output_are_cut() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5_0] {
        let mut stream = connect(version);
        let rounds = [ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate];
        if version == Version::V5_0 {
            stream.extend(rounds.into_iter().flat_map(|code| auth(code, b"third-data")));
        }
        for step in 1..=stream.len() {
            let (tape, memory) = Tape::in_memory();
            let mut broker = RecordedBroker::new(BrokerConfig::default(), 1, tape).unwrap();
            let connection = broker.handle_connection(NOW, Peer::default()).unwrap();
            let mut left = Vec::new();
            for piece in stream.chunks(step).chain([&[][..], &[], &[], &[]]) {
                left.extend_from_slice(piece);
                let intake = broker.handle_input(NOW, connection, &left);
                left.drain(..intake.consumed);
                settle(&mut broker, step);
            }
            assert_eq!(broker.sessions_len(), 1, "{version:?} in pieces of {step}");
            drop(broker);
            let text = memory.text();
            assert_no_secret(&text);
            assert!(text.contains("heron") || step < stream.len(), "the user name is there");
            assert_eq!(replay(&text).ending, Ending::Complete);
        }
    }
}

#[test]
fn secrets_of_a_broken_connect_are_not_recorded_either() {
    let mut refused = 0;
    for version in [Version::V3_1, Version::V3_1_1, Version::V5_0] {
        let whole = connect(version);
        for at in 0..whole.len() {
            for value in [0x00, 0x7F, 0xFF, whole[at].wrapping_add(1)] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                refused += usize::from(is_refused_and_hidden(&bytes, &format!("{version:?}, byte {at} is {value}")));
            }
        }
        // A protocol name may reach as far as the password, or behind it.
        for value in 0..=255 {
            let mut bytes = whole.clone();
            bytes[3] = value;
            let case = format!("{version:?}, a name of {value} bytes");
            assert_eq!(is_refused_and_hidden(&bytes, &case), value != whole[3], "{case}");
        }
    }
    assert!(refused > 300, "the test is about those: {refused}");
}

/// Whether a broker refused this CONNECT; then the password is not in the recording, which plays again in any case.
fn is_refused_and_hidden(connect: &[u8], case: &str) -> bool {
    let (tape, memory) = Tape::in_memory();
    let mut broker = RecordedBroker::new(BrokerConfig::default(), 1, tape).unwrap();
    let connection = broker.handle_connection(NOW, Peer::default()).unwrap();
    let _ = broker.handle_input(NOW, connection, connect);
    let outputs: Vec<_> = core::iter::from_fn(|| broker.poll_output()).collect();
    let is_accepted = outputs.iter().any(|output| matches!(output, BrokerOutput::Ask { .. }));
    drop((broker, outputs));
    let text = memory.text();
    let replay = text.parse::<Recording>().unwrap().replay().unwrap();
    assert!(replay.differences.is_empty(), "{case}: {}", replay.differences[0]);
    // One that is accepted may say that what stands there is something else.
    assert!(is_accepted || !text.contains("bud"), "{case}: {text}");
    !is_accepted
}

/// A client with a password that authenticates in steps, and again; its recording.
fn client_recording(most: usize) -> String {
    let (tape, memory) = Tape::in_memory();
    let mut client = RecordedClient::new(Config::new("a"), 1, tape);
    let mut parameters = ConnectParameters::default();
    parameters.user_name = Some("heron".into());
    parameters.password = Some(b"rose bud"[..].into());
    parameters.properties.push(Property::AuthenticationMethod("m")).unwrap();
    parameters.properties.push(Property::AuthenticationData(b"first-data")).unwrap();
    client.handle_transport_up(NOW, &parameters);
    let mut connack = PropertiesBuf::new();
    connack.push(Property::AuthenticationMethod("m")).unwrap();
    connack.push(Property::AuthenticationData(b"second-data")).unwrap();
    let mut accepted = Vec::new();
    let connack = damselfly_codec::Connack {
        session_present: false,
        reason_code: ReasonCode::Success,
        properties: connack.as_properties(),
    };
    Packet::Connack(connack).encode(Version::V5_0, Foreign::Reject, &mut accepted).unwrap();
    let continues = auth(ReasonCode::ContinueAuthentication, b"second-data");
    let again = auth(ReasonCode::Success, b"second-data");
    let mut left = Vec::new();
    for piece in [&continues, &accepted, &continues, &again].into_iter().flat_map(|packet| packet.chunks(most)) {
        left.extend_from_slice(piece);
        let intake = client.handle_input(NOW, &left);
        left.drain(..intake.consumed);
        let mut steps = 0;
        while let Some(output) = client.poll_output() {
            match output {
                Output::Event(Event::AuthenticationStep { properties }) => {
                    assert_eq!(properties.as_properties().authentication_data(), Some(&b"second-data"[..]));
                    steps += 1;
                }
                Output::Event(Event::Connected(_)) => {
                    let mut data = PropertiesBuf::new();
                    data.push(Property::AuthenticationData(b"third-data")).unwrap();
                    client.reauthenticate(data.as_properties()).unwrap();
                }
                _ => {}
            }
        }
        for _ in 0..steps {
            let mut data = PropertiesBuf::new();
            data.push(Property::AuthenticationData(b"third-data")).unwrap();
            client.authenticate(data.as_properties()).unwrap();
        }
        let mut chunks = [&[][..]; 8];
        while client.transmit(&mut chunks) > 0 {
            let len = chunks[0].len().min(most);
            client.handle_transmitted(NOW, len);
            chunks = [&[][..]; 8];
        }
    }
    assert!(client.is_connected());
    drop(client);
    memory.text()
}

#[test]
fn secrets_of_a_client_are_not_recorded_wherever_its_input_and_output_are_cut() {
    for most in 1..90 {
        let text = client_recording(most);
        assert_no_secret(&text);
        assert!(text.contains("heron"), "the user name is there");
        assert_eq!(replay(&text).ending, Ending::Complete);
    }
}

#[test]
fn options_of_a_subscription_and_the_time_of_a_message_come_back() {
    let (tape, memory) = Tape::in_memory();
    let mut client = RecordedClient::new(Config::new("a"), 1, tape);
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MessageExpiryInterval(7)).unwrap();
    let topic = TopicName::new("t").unwrap();
    let message = Message::compose(topic, b"x", QoS::AtLeastOnce, true, properties.as_properties(), NOW);
    client.publish(NOW, message).unwrap();
    let options = SubscriptionOptions { no_local: true, retain_as_published: true, ..SubscriptionOptions::default() };
    client.subscribe(NOW, &[(TopicFilter::new("a/+").unwrap(), options)], Properties::EMPTY).unwrap();
    // Refused, and nothing that could be written.
    client.subscribe(NOW, &[], Properties::EMPTY).unwrap_err();
    client.handle_timeout(NOW.saturating_add(Duration::from_secs(8)));
    while client.poll_output().is_some() {}
    let left = client.unfinished();
    drop(client);
    let replay = memory.text().parse::<Recording>().unwrap().replay().unwrap();
    assert!(replay.differences.is_empty(), "{}", replay.differences[0]);
    assert_eq!((left.queued, replay.client().unwrap().unfinished()), (0, left), "the message has expired in both");
}
