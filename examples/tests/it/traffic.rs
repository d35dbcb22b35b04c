//! Messages through the driver: in order, whole, and never stuck.

use crate::support::{BrokerProcess, Wire, publish_frame};

#[test]
fn a_subscriber_that_pauses_gets_everything_once_it_reads() {
    // [MQTT-4.2-1] [MQTT3-7.1.1-1]
    let broker = BrokerProcess::start(&["--max-transmit-bytes", "64M"]);
    let mut subscriber = Wire::connect(broker.address(), 5, "subscriber");
    subscriber.subscribe("data", 0);
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");

    // Far more than the sockets between take: the broker is left with a short write and has to go on by itself.
    for number in 0..20_000_u32 {
        let payload = number.to_be_bytes().repeat(256);
        publisher.publish("data", &payload);
    }
    publisher.ping();

    for number in 0..20_000_u32 {
        assert!(subscriber.expect_publish("data") == number.to_be_bytes().repeat(256), "message {number}");
    }
    subscriber.ping();
}

#[test]
fn packets_may_arrive_in_any_pieces() {
    // [MQTT-4.2-1] [MQTT3-7.1.1-1]
    let broker = BrokerProcess::start(&[]);
    let mut subscriber = Wire::connect(broker.address(), 4, "subscriber");
    subscriber.subscribe("pieces", 0);
    let mut publisher = Wire::connect(broker.address(), 5, "publisher");
    let payloads = [vec![b'a'; 150], vec![b'b'; 40_000], b"c".to_vec()];
    let bytes: Vec<u8> = payloads.iter().flat_map(|payload| publish_frame(5, "pieces", payload)).collect();

    for size in [3, 7, 100, 1_000, 32_768, 40_000] {
        for piece in bytes.chunks(size) {
            publisher.send(piece);
        }
        for payload in &payloads {
            assert!(subscriber.expect_publish("pieces") == *payload, "pieces of {size}");
        }
    }
}

#[test]
fn the_will_of_a_lost_connection_is_published_and_that_of_a_closed_one_is_not() {
    let broker = BrokerProcess::start(&[]);
    let mut subscriber = Wire::connect(broker.address(), 5, "subscriber");
    subscriber.subscribe("will/+", 0);
    let with_will = |client_id: u8| {
        let mut client = Wire::open(broker.address());
        let mut connect = b"\x10\x1b\0\x04MQTT\x04\x06\0\0\0\x01".to_vec();
        connect.push(client_id);
        connect.extend(b"\0\x06will/");
        connect.push(client_id);
        connect.extend(b"\0\x04gone");
        client.send(&connect);
        client.expect_connack();
        client
    };

    with_will(b'a').send(b"\xE0\0");
    drop(with_will(b'b'));

    assert_eq!(subscriber.expect_publish("will/b"), b"gone");
    subscriber.ping();
}
