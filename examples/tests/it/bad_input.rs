//! Peers that misbehave: each loses its own connection and nothing else, and what it took is given back.

use std::thread;

use damselfly_examples::raise_descriptor_limit;
use rustix::process::Signal;

use crate::support::{BrokerProcess, Wire, eventually, publish_frame};

const MIB: u64 = 1024 * 1024;

/// What the broker holds before and must hold again afterwards.
struct Footprint {
    descriptors: usize,
    resident_bytes: u64,
}

impl Footprint {
    fn of(broker: &BrokerProcess) -> Self {
        Self { descriptors: broker.descriptors(), resident_bytes: broker.resident_bytes() }
    }

    /// Waits until the descriptors are back and no more memory than `slack` bytes stays behind.
    fn expect_back(&self, broker: &BrokerProcess, slack: u64) {
        eventually("the descriptors return", || broker.descriptors() <= self.descriptors);
        eventually("the memory returns", || broker.resident_bytes() <= self.resident_bytes + slack);
    }
}

/// A pair of well-behaved clients, to see that others are undisturbed.
struct Others {
    publisher: Wire,
    subscriber: Wire,
    exchanged: usize,
}

impl Others {
    fn connect(broker: &BrokerProcess) -> Self {
        let publisher = Wire::connect(broker.address(), 4, "other-publisher");
        let mut subscriber = Wire::connect(broker.address(), 5, "other-subscriber");
        subscriber.subscribe("others", 0);
        Self { publisher, subscriber, exchanged: 0 }
    }

    fn exchange(&mut self) {
        let payload = format!("message {}", self.exchanged).into_bytes();
        self.publisher.publish("others", &payload);
        assert_eq!(self.subscriber.expect_publish("others"), payload);
        self.exchanged += 1;
    }
}

#[test]
fn silent_connections_are_closed_at_the_limit() {
    raise_descriptor_limit();
    let broker = BrokerProcess::start(&["--connect-timeout", "1.5"]);
    let mut others = Others::connect(&broker);
    let before = Footprint::of(&broker);
    let mut wave = || {
        let silent: Vec<_> = (0..2_000).map(|_| Wire::open(broker.address())).collect();
        let mut half = Wire::open(broker.address());
        half.send(b"\x10\x20\0\x04MQ");
        others.exchange();
        silent.into_iter().for_each(Wire::expect_end);
        half.expect_end();
        others.exchange();
    };

    wave();
    before.expect_back(&broker, 4 * MIB);
    // An allocator keeps some of what is freed, so the proof that all was freed is that a second wave finds room in it.
    let once = Footprint::of(&broker);
    wave();

    // As much as may wait to be logged.
    once.expect_back(&broker, MIB);
    let log = broker.end();
    let about_timeouts = log.iter().filter(|line| line.contains("no complete CONNECT in time")).count();
    assert_eq!(about_timeouts, 4_002, "one line per connection");
}

#[test]
fn a_subscriber_that_never_reads_costs_the_others_nothing() {
    let broker = BrokerProcess::start(&["--max-transmit-bytes", "256K", "--max-queued-bytes", "256K"]);
    let mut others = Others::connect(&broker);
    let mut stalled = Wire::connect(broker.address(), 5, "stalled");
    stalled.subscribe("flood", 0);
    let mut stalled_once = Wire::connect(broker.address(), 4, "stalled-at-qos-1");
    stalled_once.subscribe("flood", 1);
    let mut reader = Wire::connect(broker.address(), 4, "reader");
    reader.subscribe("flood", 0);
    let before = Footprint::of(&broker);
    let payload = vec![b'x'; 16 * 1024];
    let round = publish_frame(4, "flood", &payload).repeat(8);

    // 64 MiB in all: far more than the sockets take.
    for _ in 0..512 {
        others.publisher.send(&round);
        for _ in 0..8 {
            assert_eq!(reader.expect_publish("flood").len(), payload.len());
        }
    }

    others.exchange();
    let grown = broker.resident_bytes().saturating_sub(before.resident_bytes);
    assert!(grown < 8 * MIB, "{grown} bytes more");
    drop(stalled);
    drop(stalled_once);
    eventually("the descriptors return", || broker.descriptors() == before.descriptors - 2);
    let log = broker.end();
    assert!(log.iter().any(|line| line.contains("stalled") && line.contains("reads too slowly")), "{log:#?}");
}

#[test]
fn a_packet_announced_and_not_sent_costs_nothing() {
    let broker = BrokerProcess::start(&["--max-packet-size", "268435460"]);
    let mut others = Others::connect(&broker);
    let before = Footprint::of(&broker);

    let mut liars: Vec<_> = (0..50).map(|n| Wire::connect(broker.address(), 4, &format!("liar-{n}"))).collect();
    for liar in &mut liars {
        liar.send(b"\x30\xFF\xFF\xFF\x7F\0\x05topic and a little payload");
    }
    others.exchange();

    let grown = broker.resident_bytes().saturating_sub(before.resident_bytes);
    assert!(grown < 6 * MIB, "{grown} bytes more");
    drop(liars);
    before.expect_back(&broker, 6 * MIB);
    others.exchange();
}

/// Clients that send all but the end of a large packet.
struct Unfinished {
    clients: Vec<Option<Wire>>,
    /// Bytes sent in all.
    sent: usize,
}

impl Unfinished {
    fn connect(broker: &BrokerProcess, count: usize) -> Self {
        let connect = |n: usize| {
            let mut client = Wire::connect(broker.address(), 5, &format!("unfinished-{n}"));
            // A PUBLISH of 16,000,000 bytes.
            client.send(b"\x30\x80\xC8\xD0\x07\0\x05topic\0");
            Some(client)
        };
        Self { clients: (0..count).map(connect).collect(), sent: 0 }
    }

    /// Each sends as much as its socket takes. Those who are told something or closed are gone.
    fn send(&mut self) {
        let part = vec![b'x'; 64 * 1024];
        for client in &mut self.clients {
            match client.as_mut().map(|wire| wire.send_some(&part)) {
                Some(Some(len)) => self.sent += len,
                Some(None) => *client = None,
                None => {}
            }
        }
    }
}

#[test]
fn many_unfinished_packets_stay_within_the_memory_budget() {
    let broker = BrokerProcess::start(&["--max-memory", "32M", "--pause-limit", "0.5"]);
    let mut others = Others::connect(&broker);
    let before = Footprint::of(&broker);
    // The allocator keeps what is freed: that a second wave finds room in it shows that it was.
    for wave in ["first", "second"] {
        let mut unfinished = Unfinished::connect(&broker, 30);
        let mut most = 0;
        eventually("those who find no room are closed, and others send more than there is room for", || {
            unfinished.send();
            others.exchange();
            most = most.max(broker.resident_bytes());
            unfinished.clients.iter().any(Option::is_none) && unfinished.sent > 64 * 1024 * 1024
        });
        let grown = most.saturating_sub(before.resident_bytes);
        assert!(grown < 64 * MIB, "{grown} bytes more in the {wave} wave");
        drop(unfinished);
        eventually("the descriptors return", || broker.descriptors() <= before.descriptors);
        others.exchange();
    }
    let log = broker.end();
    assert!(log.iter().any(|line| line.contains("unfinished-") && line.contains("Quota exceeded")), "{log:#?}");
}

#[test]
fn a_packet_beyond_the_limit_is_refused_by_its_first_bytes() {
    let broker = BrokerProcess::start(&["--max-packet-size", "1K"]);
    let mut others = Others::connect(&broker);
    for level in [4, 5] {
        let mut client = Wire::connect(broker.address(), level, "large");
        client.send(b"\x30\xFF\xFF\xFF\x7F");
        // Packet too large.
        client.expect_disconnect(0x95);
    }
    others.exchange();
}

#[test]
fn large_packets_pass_whole_and_in_order() {
    let broker = BrokerProcess::start(&["--max-transmit-bytes", "16M"]);
    let mut subscriber = Wire::connect(broker.address(), 5, "subscriber");
    subscriber.subscribe("large", 0);
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");
    for size in [32 * 1024 - 1, 32 * 1024, 64 * 1024, 64 * 1024 + 1, 300_000, 3_000_000, 10] {
        let payload: Vec<u8> = (0..251).cycle().take(size).collect();
        publisher.publish("large", &payload);
        publisher.publish("large", b"small");
        assert!(subscriber.expect_publish("large") == payload, "{size} bytes");
        assert_eq!(subscriber.expect_publish("large"), b"small");
    }
}

#[test]
fn pubrel_never_sent_ends_at_receive_maximum() {
    let broker = BrokerProcess::start(&["--receive-maximum", "3"]);
    let mut others = Others::connect(&broker);
    let before = Footprint::of(&broker);
    let mut client = Wire::connect(broker.address(), 5, "never-releases");
    for packet_id in 1..=3 {
        client.send(&[0x34, 8, 0, 3, b'a', b'/', b'b', 0, packet_id, 0]);
        let (first, body) = client.receive();
        assert_eq!((first, &body[..2]), (0x50, &[0, packet_id][..]), "PUBREC");
    }

    client.send(&[0x34, 8, 0, 3, b'a', b'/', b'b', 0, 4, 0]);

    // Receive Maximum exceeded.
    client.expect_disconnect(0x93);
    others.exchange();
    before.expect_back(&broker, MIB);
}

#[test]
fn malformed_packets_are_answered_and_logged_once() {
    let broker = BrokerProcess::start(&[]);
    let mut others = Others::connect(&broker);
    for level in [4, 5] {
        let mut client = Wire::connect(broker.address(), level, &format!("garbage-{level}"));
        // SUBSCRIBE with reserved flags, then more of the same that nobody must look at.
        client.send(&b"\x80\x02\0\x01".repeat(100));
        client.expect_disconnect(0x81);
    }
    others.exchange();
    let log = broker.end();
    for client_id in ["garbage-4", "garbage-5"] {
        let lines = log.iter().filter(|line| line.contains(client_id) && line.contains("WARN")).count();
        assert_eq!(lines, 1, "{log:#?}");
    }
}

#[test]
fn an_authentication_method_that_nobody_knows_is_refused() {
    // [MQTT-4.12.0-1]
    let broker = BrokerProcess::start(&[]);
    let mut client = Wire::open(broker.address());
    client.send(b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01M\x00\x01c");
    assert_eq!(client.receive(), (0x20, b"\x00\x8c\x00".to_vec()));
    client.expect_end();
}

#[test]
fn when_descriptors_run_out_accepting_pauses_and_recovers() {
    let broker = BrokerProcess::start_with_descriptors(40, &[]);
    let mut others = Others::connect(&broker);
    let before = broker.descriptors();
    let free = 40 - before;
    let mut clients: Vec<_> = (0..free).map(|n| Wire::connect(broker.address(), 4, &format!("client-{n}"))).collect();

    // These complete the handshake of TCP and wait.
    let mut waiting: Vec<_> = (0..10).map(|_| Wire::open(broker.address())).collect();
    for (n, wire) in waiting.iter_mut().enumerate() {
        wire.send_connect(5, &format!("waiting-{n}"));
    }
    others.exchange();
    for client in &mut clients {
        client.ping();
    }
    eventually("the descriptors run out", || broker.descriptors() >= 40);
    drop(clients.drain(..10));

    for wire in &mut waiting {
        wire.expect_connack();
        wire.ping();
    }
    others.exchange();
    drop((clients, waiting));
    eventually("the descriptors return", || broker.descriptors() == before);
    let log = broker.end();
    assert!(log.iter().any(|line| line.contains("no connection can be accepted")), "{log:#?}");
}

#[test]
fn connections_beyond_the_limit_are_refused_and_places_are_given_back() {
    let broker = BrokerProcess::start(&["--max-connections", "3"]);
    let mut others = Others::connect(&broker);
    let third = Wire::connect(broker.address(), 4, "third");

    Wire::open(broker.address()).expect_end();

    others.exchange();
    let before = broker.descriptors();
    drop(third);
    eventually("a place is given back", || broker.descriptors() < before);
    Wire::connect(broker.address(), 5, "fourth").ping();
    others.exchange();
}

#[test]
fn one_that_publishes_without_pause_leaves_room_for_the_others() {
    let broker = BrokerProcess::start(&[]);
    let mut others = Others::connect(&broker);
    let mut loud = Wire::connect(broker.address(), 4, "loud");
    let mut echo = Wire::connect(broker.address(), 5, "echo");
    echo.subscribe("loud/end", 0);
    let flood = publish_frame(4, "loud", &[b'x'; 64]).repeat(10_000);
    let flooding = thread::spawn(move || {
        for _ in 0..20 {
            loud.send(&flood);
        }
        loud.publish("loud/end", b"");
    });

    for _ in 0..100 {
        others.exchange();
    }

    flooding.join().unwrap();
    echo.expect_publish("loud/end");
}

#[test]
fn a_client_that_sends_nothing_within_its_keep_alive_is_closed() {
    let broker = BrokerProcess::start(&[]);
    let mut others = Others::connect(&broker);
    let mut client = Wire::open(broker.address());
    client.send_connect_with_keep_alive(5, "sleepy", 1);
    client.expect_connack();

    // Keep Alive timeout.
    client.expect_disconnect(0x8D);

    others.exchange();
}

/// Many more than the broker is told of at once.
#[test]
fn all_clients_that_ping_while_the_broker_is_stopped_stay_connected() {
    raise_descriptor_limit();
    let broker = BrokerProcess::start(&["--log-level", "error"]);
    let clock = BrokerProcess::start(&[]);
    let mut clients: Vec<_> = (0..3_000)
        .map(|n| {
            let mut client = Wire::open(broker.address());
            client.send_connect_with_keep_alive(5, &format!("patient-{n}"), 4);
            client.expect_connack();
            client
        })
        .collect();
    // The last ones are told of last, and were heard of last.
    for client in clients.iter_mut().rev() {
        client.ping();
    }

    broker.signal(Signal::STOP);
    for client in &mut clients {
        client.send(&[0xC0, 0]);
    }
    let mut later = Wire::open(clock.address());
    later.send_connect_with_keep_alive(5, "later", 5);
    later.expect_connack();
    later.expect_disconnect(0x8D);
    broker.signal(Signal::CONT);

    for client in &mut clients {
        assert_eq!(client.receive(), (0xD0, Vec::new()), "PINGRESP");
    }
}

/// What arrived in time counts, whenever the broker comes to read it.
#[test]
fn a_client_that_pings_while_the_broker_is_stopped_stays_connected() {
    let broker = BrokerProcess::start(&[]);
    let clock = BrokerProcess::start(&[]);
    let mut client = Wire::open(broker.address());
    client.send_connect_with_keep_alive(5, "patient", 1);
    client.expect_connack();

    broker.signal(Signal::STOP);
    client.send(&[0xC0, 0]);
    // The time of this one, at a broker that runs, is up later.
    let mut later = Wire::open(clock.address());
    later.send_connect_with_keep_alive(5, "later", 1);
    later.expect_connack();
    later.expect_disconnect(0x8D);
    broker.signal(Signal::CONT);

    assert_eq!(client.receive(), (0xD0, Vec::new()), "PINGRESP");
}
