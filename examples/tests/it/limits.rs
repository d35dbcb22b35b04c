//! Limits and refusals of the broker's settings file as clients see them over sockets: at each limit and one past it, with
//! what `docs/limits.md` promises either version.

use damselfly_broker::{Broker, Config, Output, Peer, Timestamp};

use crate::support::{BrokerProcess, SettingsFile, Wire, publish_frame, string};

/// The levels of 3.1.1 and 5.0.
const VERSIONS: [u8; 2] = [4, 5];

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const QUOTA_EXCEEDED: u8 = 0x97;
const NOT_AUTHORIZED: u8 = 0x87;

/// A broker with these settings, for a client of 3.1.1 and one of 5.0.
fn serve(name: &str, settings: &str) -> (SettingsFile, BrokerProcess) {
    let file = SettingsFile::new(name, &format!("listen = ['127.0.0.1:0']\n{settings}"));
    let broker = file.serve(&[], 1);
    (file, broker)
}

/// What either version is told: a Reason Code where there is one.
const fn told(level: u8, reason_code: u8) -> u8 {
    if level == 5 { reason_code } else { 0 }
}

/// A client that is away and waits for QoS 1 messages to its own name.
fn absent(broker: &BrokerProcess, level: u8, name: &str) {
    let mut client = Wire::connect_lasting(broker.address(), level, name);
    client.subscribe(name, 1);
    client.disconnect();
}

/// Payloads of the QoS 1 messages that waited for a client. All of them are acknowledged.
fn waited(broker: &BrokerProcess, level: u8, name: &str, count: usize) -> Vec<Vec<u8>> {
    let mut client = Wire::connect_lasting(broker.address(), level, name);
    let payload = |_| {
        let (id, payload) = client.expect_publish_with_id(name);
        client.acknowledge(PUBACK, id);
        payload
    };
    let all = (0..count).map(payload).collect();
    client.ping();
    all
}

/// What a QoS 1 message with an empty payload to `topic` counts for in a queue.
fn weight(topic: &str) -> u64 {
    const NOW: Timestamp = Timestamp::from_secs(1);
    let mut broker = Broker::new(Config::default(), 1).unwrap();
    let mut connect = |packets: &[&[u8]]| {
        let id = broker.handle_connection(NOW, Peer::default()).unwrap();
        for packet in packets {
            let _intake = broker.handle_input(NOW, id, packet);
            while let Some(output) = broker.poll_output() {
                match output {
                    Output::Ask { id, .. } => broker.handle_answer(NOW, id, damselfly_broker::Answer::allow()),
                    Output::Commit(id) => broker.handle_committed(NOW, id),
                    _ => {}
                }
            }
        }
        broker.handle_connection_lost(NOW, id);
    };
    let filter = [&[0x82, 5 + u8::try_from(topic.len()).unwrap(), 0, 1][..], &string(topic), &[1]].concat();
    connect(&[b"\x10\x0D\0\x04MQTT\x04\0\0\0\0\x01s", &filter]);
    let message = [&[0x32, 4 + u8::try_from(topic.len()).unwrap()][..], &string(topic), &[0, 1]].concat();
    connect(&[b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01p", &message]);
    broker.sessions().map(|session| session.queued_bytes).sum()
}

#[test]
fn messages_for_an_absent_client_are_as_many_as_the_file_allows() {
    let (_file, broker) = serve("queued-messages", "max_queued_messages = 3\n");
    for publisher in VERSIONS {
        for subscriber in VERSIONS {
            let name = format!("for-{subscriber}-from-{publisher}");
            absent(&broker, subscriber, &name);
            let mut client = Wire::connect(broker.address(), publisher, "publisher");
            for (id, expected) in [(1, 0), (2, 0), (3, 0), (4, told(publisher, QUOTA_EXCEEDED))] {
                client.publish_at(1, id, &name, &[u8::try_from(id).unwrap()]);
                assert_eq!(client.expect_acknowledged(PUBACK, id), expected, "{name}: message {id}");
            }
            client.ping();
            assert_eq!(waited(&broker, subscriber, &name, 3), [[1], [2], [3]], "{name}");
            client.publish_at(1, 5, &name, &[5]);
            assert_eq!(client.expect_acknowledged(PUBACK, 5), 0, "{name}: there is room again");
        }
    }
}

#[test]
fn a_full_queue_closes_a_publisher_of_3_1_1_or_gives_up_its_oldest_message_if_the_file_says_so() {
    let (_file, broker) = serve("queued-close", "max_queued_messages = 3\nwhen_full = 'close-legacy-publisher'\n");
    for publisher in VERSIONS {
        let name = format!("from-{publisher}");
        absent(&broker, 5, &name);
        let mut client = Wire::connect(broker.address(), publisher, "publisher");
        for id in 1..=3 {
            client.publish_at(1, id, &name, b"");
            assert_eq!(client.expect_acknowledged(PUBACK, id), 0);
        }
        client.publish_at(1, 4, &name, b"");
        if publisher == 5 {
            assert_eq!(client.expect_acknowledged(PUBACK, 4), QUOTA_EXCEEDED);
            client.ping();
        } else {
            client.expect_end();
        }
    }

    let (_file, broker) = serve("queued-oldest", "max_queued_messages = 3\nwhen_full = 'drop-oldest'\n");
    absent(&broker, 4, "absent");
    let mut client = Wire::connect(broker.address(), 5, "publisher");
    for id in 1..=4 {
        client.publish_at(1, id, "absent", &[u8::try_from(id).unwrap()]);
        assert_eq!(client.expect_acknowledged(PUBACK, id), 0);
    }
    assert_eq!(waited(&broker, 4, "absent", 3), [[2], [3], [4]]);
}

#[test]
fn messages_for_an_absent_client_are_as_large_as_the_file_allows() {
    let room = 3 * weight("absent");
    for (bytes, fits) in [(room, 3), (room - 1, 2)] {
        for publisher in VERSIONS {
            let (_file, broker) =
                serve(&format!("queued-bytes-{fits}-{publisher}"), &format!("max_queued_bytes = {bytes}\n"));
            absent(&broker, 5, "absent");
            let mut client = Wire::connect(broker.address(), publisher, "publisher");
            for id in 1..=4 {
                client.publish_at(1, id, "absent", b"");
                let expected = if id <= fits { 0 } else { told(publisher, QUOTA_EXCEEDED) };
                assert_eq!(client.expect_acknowledged(PUBACK, id), expected, "{bytes} bytes, message {id}");
            }
            assert_eq!(waited(&broker, 5, "absent", fits.into()).len(), usize::from(fits));
        }
    }
}

/// How many of five QoS 1 messages a subscriber of a version gets before it acknowledges one, and that each
/// acknowledgement brings one more.
fn at_once(broker: &BrokerProcess, level: u8) -> usize {
    let mut subscriber = Wire::connect(broker.address(), level, "subscriber");
    subscriber.subscribe("topic", 1);
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");
    for id in 1..=5 {
        publisher.publish_at(1, id, "topic", b"");
        publisher.expect_acknowledged(PUBACK, id);
    }
    // What is not there before PINGRESP waits.
    subscriber.send(&[0xC0, 0]);
    let mut ids = Vec::new();
    loop {
        let (first, body) = subscriber.receive();
        if first == 0xD0 {
            break;
        }
        assert_eq!((first, body.get(..7)), (0x32, Some(&b"\0\x05topic"[..])));
        ids.push(u16::from_be_bytes([body[7], body[8]]));
    }
    let count = ids.len();
    for _ in count..5 {
        subscriber.acknowledge(PUBACK, ids.remove(0));
        ids.push(subscriber.expect_publish_with_id("topic").0);
        subscriber.ping();
    }
    count
}

#[test]
fn messages_in_flight_are_as_many_as_the_file_allows() {
    let (_file, broker) = serve("inflight", "max_inflight = 3\n");
    for level in VERSIONS {
        assert_eq!(at_once(&broker, level), 3);
    }
}

#[test]
fn messages_in_flight_are_as_large_as_the_file_allows() {
    let one = weight("topic");
    for (name, bytes, expected) in [("at", 2 * one, 2), ("past", 2 * one + 1, 3)] {
        let (_file, broker) = serve(&format!("inflight-bytes-{name}"), &format!("max_inflight_bytes = {bytes}\n"));
        for level in VERSIONS {
            assert_eq!(at_once(&broker, level), expected, "{bytes} bytes");
        }
    }
}

#[test]
fn payloads_are_as_large_as_the_file_allows() {
    let (_file, broker) = serve("payload", "max_payload_size = 101\n");
    let (fits, too_large) = ([7; 101], [7; 102]);
    let mut watch = Wire::connect(broker.address(), 5, "watch");
    watch.subscribe("topic", 0);
    for level in VERSIONS {
        let mut client = Wire::connect(broker.address(), level, "publisher");
        client.publish("topic", &too_large);
        client.publish_at(1, 1, "topic", &too_large);
        assert_eq!(client.expect_acknowledged(PUBACK, 1), told(level, QUOTA_EXCEEDED));
        client.publish_at(2, 2, "topic", &too_large);
        assert_eq!(client.expect_acknowledged(PUBREC, 2), told(level, QUOTA_EXCEEDED));
        if level == 4 {
            // It was told success, and goes on.
            client.acknowledge(PUBREL, 2);
            assert_eq!(client.expect_acknowledged(PUBCOMP, 2), 0);
        }
        client.publish_at(1, 3, "topic", &fits);
        assert_eq!(client.expect_acknowledged(PUBACK, 3), 0);
        assert_eq!(watch.expect_publish("topic"), fits, "and nothing before it");

        let refusal = if level == 5 { QUOTA_EXCEEDED } else { 3 };
        assert_eq!(Wire::open(broker.address()).ask_with_will(level, "will", "topic", &too_large), refusal);
        assert_eq!(Wire::open(broker.address()).ask_with_will(level, "will", "elsewhere", &fits), 0);
    }
    watch.ping();
}

#[test]
fn packets_are_as_large_as_the_file_allows() {
    let (_file, broker) = serve("packet", "max_packet_size = 101\n");
    for level in VERSIONS {
        let mut client = Wire::connect(broker.address(), level, "client");
        client.subscribe("topic", 0);
        let head = publish_frame(level, "topic", b"").len();
        client.publish("topic", &vec![7; 101 - head]);
        assert_eq!(client.expect_publish("topic").len(), 101 - head);
        client.publish("topic", &vec![7; 102 - head]);
        client.expect_disconnect(0x95);
    }
}

#[test]
fn unfinished_messages_of_a_client_are_as_many_as_the_file_allows() {
    let (_file, broker) = serve("receive-maximum", "receive_maximum = 3\n");
    for level in VERSIONS {
        let mut client = Wire::connect(broker.address(), level, "client");
        for id in 1..=3 {
            client.publish_at(2, id, "topic", b"");
            client.expect_acknowledged(PUBREC, id);
        }
        client.acknowledge(PUBREL, 2);
        assert_eq!(client.expect_acknowledged(PUBCOMP, 2), 0);
        client.publish_at(2, 4, "topic", b"");
        client.expect_acknowledged(PUBREC, 4);
        client.publish_at(2, 5, "topic", b"");
        if level == 5 {
            client.expect_disconnect(0x93);
        } else {
            // Nobody told it a number.
            client.expect_acknowledged(PUBREC, 5);
        }
    }
}

const REFUSED: &str = "refused_topics = ['secret/#']\n";

#[test]
fn a_will_to_a_refused_topic_is_taken_and_never_published() {
    let (_file, broker) = serve("refused-will", REFUSED);
    let mut watch = Wire::connect(broker.address(), 5, "watch");
    watch.subscribe("secret/#", 0);
    watch.subscribe("open", 0);
    for level in VERSIONS {
        for topic in ["secret/a", "secret", "open"] {
            let mut client = Wire::open(broker.address());
            assert_eq!(client.ask_with_will(level, "client", topic, topic.as_bytes()), 0);
            // Not for a client: the connection ends, and its will is due.
            client.send(&[0xD0, 0]);
            client.expect_disconnect(0x82);
        }
        assert_eq!(watch.expect_publish("open"), b"open", "and nothing before it");
    }
    watch.ping();
    let log = broker.end();
    for topic in ["secret/a", "secret"] {
        let is_it = |line: &&String| line.contains("dropped") && line.contains(&format!("{topic:?}"));
        assert_eq!(log.iter().filter(is_it).count(), 2, "{topic}: {log:#?}");
    }
}

#[test]
fn a_qos_2_message_to_a_refused_topic_is_refused_or_goes_nowhere() {
    let (_file, broker) = serve("refused-qos-2", REFUSED);
    let mut watch = Wire::connect(broker.address(), 4, "watch");
    watch.subscribe("secret/#", 2);
    watch.subscribe("open", 0);
    let mut new = Wire::connect(broker.address(), 5, "new");
    for _ in 0..2 {
        // The exchange is over, and its Packet Identifier free.
        new.publish_at(2, 7, "secret/a", b"unheard");
        assert_eq!(new.expect_acknowledged(PUBREC, 7), NOT_AUTHORIZED);
    }
    new.acknowledge(PUBREL, 7);
    // Packet Identifier not found.
    assert_eq!(new.expect_acknowledged(PUBCOMP, 7), 0x92);

    let mut old = Wire::connect(broker.address(), 4, "old");
    old.publish_at(2, 7, "secret/a", b"unheard");
    assert_eq!(old.expect_acknowledged(PUBREC, 7), 0);
    old.acknowledge(PUBREL, 7);
    assert_eq!(old.expect_acknowledged(PUBCOMP, 7), 0);
    for client in [&mut new, &mut old] {
        client.publish_at(2, 8, "open", b"heard");
        assert_eq!(client.expect_acknowledged(PUBREC, 8), 0);
        client.acknowledge(PUBREL, 8);
        assert_eq!(client.expect_acknowledged(PUBCOMP, 8), 0);
        assert_eq!(watch.expect_publish("open"), b"heard", "and nothing before it");
    }
    watch.ping();
}
