//! MQTT over WebSocket at the broker, from clients that know frames only.

use std::process::Command;
use std::thread;

use crate::support::websocket::{
    BINARY, CLOSE, Frames, PING, PONG, TEXT, frame as masked_or_not, good_request, header, request,
};
use crate::support::{BrokerProcess, Wire, eventually, frame, publish_frame, string};

const MIB: u64 = 1024 * 1024;
/// Versions 3.1.1 and 5.0.
const LEVELS: [u8; 2] = [4, 5];

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    masked_or_not(first, payload, true)
}

fn no_properties(level: u8) -> &'static [u8] {
    if level == 5 { &[0] } else { &[] }
}

fn connect(level: u8, client_id: &str) -> Vec<u8> {
    let body = [&b"\0\x04MQTT"[..], &[level, 2, 0, 0], no_properties(level), &string(client_id)].concat();
    frame(0x10, &body)
}

/// A SUBSCRIBE of one filter at QoS 0.
fn subscribe(level: u8, filter: &str) -> Vec<u8> {
    frame(0x82, &[&[0, 9], no_properties(level), &string(filter), &[0]].concat())
}

/// A client that was accepted, and that takes whatever CONNACK says.
fn connected(broker: &BrokerProcess, level: u8, client_id: &str) -> Frames {
    let mut client = Frames::connect(broker.websocket());
    client.send_frame(BINARY, &connect(level, client_id));
    let head = client.read(2);
    client.read(usize::from(head[1]));
    client
}

/// A client that has PINGRESP has been answered to all it sent before.
fn ping(client: &mut Frames) {
    client.send_frame(BINARY, b"\xC0\0");
    client.expect(b"\xD0\0");
}

/// A conversation of one client with itself, and what the broker answers behind CONNACK.
fn conversation(level: u8) -> (Vec<u8>, Vec<u8>) {
    let publish = publish_frame(level, "echo", b"payload");
    let sent = [connect(level, "split"), subscribe(level, "echo"), publish.clone(), b"\xC0\0".to_vec()].concat();
    let suback = frame(0x90, &[&[0, 9], no_properties(level), &[0]].concat());
    (sent, [suback, publish, b"\xD0\0".to_vec()].concat())
}

/// The packets in some bytes, none of them long. Which answer comes first depends on what arrives together.
fn packets(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while let [_, len, ..] = bytes {
        let (packet, rest) = bytes.split_at(2 + usize::from(*len));
        packets.push(packet);
        bytes = rest;
    }
    packets.sort_unstable();
    packets
}

/// Expects what the conversation is answered with.
fn expect_answers(client: &mut Frames, level: u8) {
    let head = client.read(2);
    assert_eq!(head[0], 0x20, "CONNACK");
    client.read(usize::from(head[1]));
    let (_, answers) = conversation(level);
    assert_eq!(packets(&client.read(answers.len())), packets(&answers));
}

/// Sends these frames and expects what the conversation is answered with.
fn converse(broker: &BrokerProcess, level: u8, frames: &[u8]) {
    let mut client = Frames::connect(broker.websocket());
    client.send(frames);
    expect_answers(&mut client, level);
    client.send_frame(CLOSE, b"");
    client.expect_close(1000);
}

/// [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
#[test]
fn packets_are_read_wherever_frames_begin_and_end() {
    let broker = BrokerProcess::start_both(&[]);
    for level in LEVELS {
        let (sent, _) = conversation(level);
        converse(&broker, level, &masked(BINARY, &sent));
        for at in 1..sent.len() {
            let (first, second) = sent.split_at(at);
            converse(&broker, level, &[masked(BINARY, first), masked(BINARY, second)].concat());
        }
        let each = sent.chunks(1).flat_map(|byte| masked(BINARY, byte));
        converse(&broker, level, &each.collect::<Vec<_>>());
    }
}

/// One message in parts, some of them empty, with a ping among them. [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
#[test]
fn packets_are_read_from_the_parts_of_a_message() {
    let broker = BrokerProcess::start_both(&[]);
    for level in LEVELS {
        let (sent, _) = conversation(level);
        for part in 1..sent.len() {
            let mut bytes = masked(BINARY & 0x7F, b"");
            for part in sent.chunks(part) {
                bytes.extend(masked(0, part));
                bytes.extend(masked(PONG, b"nobody asked"));
                bytes.extend(masked(0, b""));
            }
            bytes.extend(masked(0x80, b""));
            converse(&broker, level, &bytes);
        }
        let mut client = Frames::connect(broker.websocket());
        client.send(&[masked(BINARY & 0x7F, &sent[..1]), masked(PING, b"within"), masked(0x80, &sent[1..])].concat());
        assert_eq!(client.receive(), (PONG, b"within".to_vec()));
        expect_answers(&mut client, level);
    }
}

/// However the bytes of frames are read from the socket: each is sent by itself.
#[test]
fn frames_are_read_however_their_bytes_arrive() {
    let broker = BrokerProcess::start_both(&[]);
    let (sent, answered) = conversation(4);
    let mut client = Frames::open(broker.websocket());
    for byte in good_request().as_bytes().chunks(1) {
        client.send(byte);
    }
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let large = publish_frame(4, "elsewhere", &vec![7; 70_000]);
    for bytes in [masked(BINARY, &sent[..20]), masked(PING, b""), masked(BINARY, &sent[20..])] {
        for byte in bytes.chunks(1) {
            client.send(byte);
        }
    }
    // The longest header, byte after byte, then its frame.
    let bytes = masked(BINARY, &large);
    for byte in bytes[..14].chunks(1) {
        client.send(byte);
    }
    client.send(&bytes[14..]);
    client.send_frame(BINARY, b"\xC0\0");
    let mut came = Vec::new();
    while came.len() < 4 + answered.len() + 2 {
        match client.receive() {
            (BINARY, payload) => came.extend(payload),
            other => assert_eq!(other, (PONG, Vec::new())),
        }
    }
    assert_eq!(packets(&came), packets(&[&b"\x20\x02\0\0"[..], &answered, b"\xD0\0"].concat()));
}

/// With the will of the client, and a close code that says why. [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
#[test]
fn a_text_frame_ends_the_connection() {
    let broker = BrokerProcess::start_both(&[]);
    for level in LEVELS {
        let mut witness = Wire::connect(broker.address(), 4, "witness");
        witness.subscribe("wills", 0);
        let mut client = Frames::connect(broker.websocket());
        let will = [no_properties(level), &string("wills"), &string("text")].concat();
        let body = [&b"\0\x04MQTT"[..], &[level, 0b110, 0, 0], no_properties(level), &string("t"), &will].concat();
        client.send_frame(BINARY, &frame(0x10, &body));
        let head = client.read(2);
        client.read(usize::from(head[1]));

        // What comes before it counts, what comes with it does not.
        let before = publish_frame(level, "wills", b"before");
        let within = publish_frame(level, "wills", b"within");
        client.send(&[masked(BINARY, &before), masked(TEXT, &within)].concat());

        client.expect_close(1003);
        assert_eq!(witness.expect_publish("wills"), b"before");
        assert_eq!(witness.expect_publish("wills"), b"text");
        witness.disconnect();
    }
    let mut first = Frames::connect(broker.websocket());
    first.send_frame(TEXT, &connect(4, "text"));
    first.expect_close(1003);
    let log = broker.end();
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:#?}");
}

/// [MQTT-6.0.0-4] [MQTT3-6.0.0-4]
#[test]
fn the_broker_chooses_the_subprotocol_mqtt_among_those_offered() {
    let broker = BrokerProcess::start_both(&[]);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for offer in [
        "Sec-WebSocket-Protocol: mqtt\r\n",
        "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n",
        "sec-websocket-protocol: chat\r\nSEC-WEBSOCKET-PROTOCOL: superchat,mqtt\r\n",
    ] {
        for path in ["/mqtt", "/mqtt?token=x"] {
            let mut client = Frames::open(broker.websocket());
            client.send(request(path, &format!("{key}{offer}")).as_bytes());
            let head = client.head();
            assert!(head.starts_with("HTTP/1.1 101 "), "{offer}: {head}");
            assert_eq!(header(&head, "sec-websocket-protocol"), ["mqtt"], "{offer}");
            assert_eq!(header(&head, "sec-websocket-accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
            assert_eq!(header(&head, "sec-websocket-extensions"), [""; 0]);
            client.send_frame(BINARY, &connect(4, "chosen"));
            client.expect(b"\x20\x02\0\0");
        }
    }
}

#[test]
fn a_bad_handshake_is_refused_with_an_answer_of_http() {
    let broker = BrokerProcess::start_both(&["--log-level", "debug"]);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let offer = "Sec-WebSocket-Protocol: mqtt\r\n";
    let all = format!("{key}{offer}");
    let cases = [
        (request("/mqtt", key), "400", "the subprotocol mqtt is not offered"),
        (request("/mqtt", &format!("{key}Sec-WebSocket-Protocol: MQTT, mqttv3.1\r\n")), "400", "is not offered"),
        (request("/", &all), "404", "the path is not /mqtt"),
        (request("/mqtt/", &all), "404", "the path is not /mqtt"),
        (request("/mqtt", offer), "400", "a header of the handshake"),
        (request("/mqtt", &format!("Sec-WebSocket-Key: short\r\n{offer}")), "400", "a header of the handshake"),
        (good_request().replace("Upgrade: websocket", "Upgrade: h2c"), "400", "a header of the handshake"),
        (good_request().replace("Version: 13", "Version: 8"), "426", "the version of WebSocket is not 13"),
        (good_request().replace("GET", "POST"), "405", "the method is not GET"),
        (good_request().replace("HTTP/1.1", "HTTP/1.0"), "400", "no handshake of HTTP"),
        (good_request().replace("Host: ", "Host "), "400", "no handshake of HTTP"),
        // MQTT and TLS without WebSocket, which never come to the end of a request.
        ("\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01w".to_owned(), "400", "no handshake of HTTP"),
        ("\x16\x03\x01".to_owned(), "400", "no handshake of HTTP"),
        (request("/mqtt", &format!("{all}X: {}\r\n", "x".repeat(8 * 1024))), "431", "more than 8 KiB of headers"),
        (request("/mqtt", &format!("{all}X: {}", "x".repeat(9 * 1024))), "431", "more than 8 KiB of headers"),
    ];
    for (request, status, why) in &cases {
        let mut client = Frames::open(broker.websocket());
        client.send(request.as_bytes());
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{why}: {head}");
        assert_eq!(header(&head, "connection"), ["close"], "{why}");
        // What a client goes on with is not looked at, and does not keep it from reading the answer.
        client.try_send(&masked(BINARY, &connect(4, "stubborn")));
        client.expect_text(&head, why);
    }
    let log = broker.end();
    for (_, _, why) in &cases {
        let is_told = |line: &&String| line.contains("refused: no handshake of WebSocket") && line.contains(why);
        assert!(log.iter().any(|line| is_told(&line)), "{why}: {log:#?}");
    }
    assert_eq!(warnings(&log, "no handshake of WebSocket"), 1, "one a minute: {log:#?}");
    assert!(!log.iter().any(|line| line.contains("stubborn")), "{log:#?}");
}

/// How often an operator was warned.
fn warnings(log: &[String], of: &str) -> usize {
    log.iter().filter(|line| line.contains("WARN") && line.contains(of)).count()
}

#[test]
fn a_page_connects_from_its_own_host_or_from_where_it_is_allowed() {
    let broker = BrokerProcess::start_both(&["--allow-origins", "https://home.example", "--log-level", "debug"]);
    let with = |headers: &str| good_request().replace("Host: broker\r\n", headers);
    for (headers, status) in [
        ("Host: 127.0.0.1:8083\r\nOrigin: http://127.0.0.1:8083\r\n", "101"),
        ("Host: broker:8083\r\nOrigin: https://broker:8083\r\n", "101"),
        ("Host: broker:8083\r\nOrigin: http://broker:8083\r\n", "403"),
        ("Host: broker\r\nOrigin: https://home.example\r\n", "101"),
        ("Host: broker:8083\r\nOrigin: http://broker:8080\r\n", "403"),
        ("Host: broker\r\nOrigin: null\r\n", "403"),
        ("Host: broker\r\nOrigin: http://broker\r\nOrigin: http://evil.example\r\n", "403"),
        ("Host: broker\r\nOrigin: http://evil.example\r\n", "403"),
    ] {
        let mut client = Frames::open(broker.websocket());
        client.send(with(headers).as_bytes());
        let head = client.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {head}");
    }
    let log = broker.end();
    assert!(log.iter().any(|line| line.contains("a page of http://evil.example may not connect")), "{log:#?}");
    assert_eq!(warnings(&log, "no handshake of WebSocket"), 1, "one a minute: {log:#?}");

    let open = BrokerProcess::start_both(&["--allow-origins", "*"]);
    let mut client = Frames::open(open.websocket());
    client.send(with("Host: broker\r\nOrigin: http://evil.example\r\n").as_bytes());
    assert!(client.head().starts_with("HTTP/1.1 101 "));
}

#[test]
fn unfinished_handshakes_count_in_the_memory_budget() {
    let broker =
        BrokerProcess::start_both(&["--max-memory", "256K", "--pause-limit", "50ms", "--connect-timeout", "1h"]);
    let begin = format!("GET /mqtt HTTP/1.1\r\nX: {}", "x".repeat(7 * 1024));
    let mut clients: Vec<_> = (0..64).map(|_| Frames::open(broker.websocket())).collect();
    for client in &mut clients {
        client.try_send(begin.as_bytes());
    }
    eventually("some make room for others", || clients.iter_mut().any(Frames::has_ended));
}

#[test]
fn what_is_no_frame_of_a_client_ends_the_connection() {
    let broker = BrokerProcess::start_both(&["--log-level", "debug"]);
    let cases: [(&str, Vec<u8>); 13] = [
        ("is not masked", masked_or_not(BINARY, &connect(4, "open"), false)),
        ("reserved bit", masked(BINARY | 0x40, b"")),
        ("reserved bit", masked(PING | 0x10, b"")),
        ("opcode", masked(0x83, b"")),
        ("opcode", masked(0x8B, b"")),
        ("was not begun", masked(0x80, b"")),
        ("within another", [masked(BINARY & 0x7F, b""), masked(BINARY, b"")].concat()),
        ("control frame", masked(PING, &[0; 126])),
        ("control frame", masked(PING & 0x7F, b"")),
        ("close frame", masked(CLOSE, b"x")),
        ("close frame", masked(CLOSE, &1005_u16.to_be_bytes())),
        ("close frame", masked(CLOSE, &999_u16.to_be_bytes())),
        ("length", [&[BINARY, 0xFF], &[0xFF; 8][..], &[0; 4]].concat()),
    ];
    for (_, bytes) in &cases {
        let mut client = Frames::connect(broker.websocket());
        client.send(bytes);
        // A frame that has its end in the first bytes may leave others unread, and the answer with them.
        if bytes.len() <= 14 {
            client.expect_close(1002);
        } else {
            client.expect_close_or_end();
        }
    }
    let log = broker.end();
    for (why, _) in &cases {
        let is_told = |line: &&String| line.contains("closed: this is not MQTT over") && line.contains(why);
        assert!(log.iter().any(|line| is_told(&line)), "{why}: {log:#?}");
    }
    assert_eq!(warnings(&log, "this is not MQTT over"), 1, "one a minute: {log:#?}");
}

#[test]
fn pings_are_answered_and_keep_nobody_from_his_messages() {
    let broker = BrokerProcess::start_both(&[]);
    let mut client = connected(&broker, 5, "pings");
    for payload in [&b""[..], b"x", &[0xA5; 125]] {
        client.send_frame(PING, payload);
        assert_eq!(client.receive(), (PONG, payload.to_vec()));
    }
    // Of many at once the last is answered, whichever were before it.
    let flood = masked(PING, b"again").repeat(10_000);
    client.send(&[flood, masked(PING, b"last"), masked(BINARY, b"\xC0\0")].concat());
    let mut answers = 0;
    loop {
        match client.receive() {
            (PONG, payload) if payload == b"last" => break,
            (PONG, payload) => assert_eq!(payload, b"again"),
            other => panic!("{other:02X?}"),
        }
        answers += 1;
    }
    assert!(answers < 10_000, "{answers} answers");
    client.expect(b"\xD0\0");
}

#[test]
fn a_close_frame_is_answered_in_both_directions() {
    let broker = BrokerProcess::start_both(&[]);
    for (payload, code) in [(&b""[..], 1000), (b"\x03\xE9going away", 1001)] {
        let mut client = connected(&broker, 5, "closes");
        // What comes before it counts: DISCONNECT, and its answer is the end.
        client.send_frame(CLOSE, payload);
        client.expect_close(code);
    }
    let mut client = connected(&broker, 4, "leaves");
    client.send_frame(BINARY, b"\xE0\0");
    client.expect_close(1000);

    let mut client = connected(&broker, 5, "stays");
    broker.signal(rustix::process::Signal::TERM);
    // Server shutting down.
    assert_eq!(client.read(2)[0], 0xE0);
    assert_eq!(client.read(1), [0x8B]);
    client.expect_close(1000);
    let (status, log) = broker.wait();
    assert!(status.success(), "{log:#?}");
}

/// It is a frame like another: what it carries is read as it comes.
#[test]
fn a_frame_of_any_length_costs_no_memory() {
    let broker = BrokerProcess::start_both(&[]);
    let mut others = Wire::connect(broker.address(), 4, "others");
    let before = broker.resident_bytes();
    let endless = |n: usize| {
        let mut client = Frames::connect(broker.websocket());
        // 2^62 bytes, with a mask of zeros.
        client.send(b"\x82\xFF\x40\0\0\0\0\0\0\0\0\0\0\0");
        client.send(&connect(4, &format!("endless-{n}")));
        client.expect(b"\x20\x02\0\0");
        client
    };
    let mut clients: Vec<_> = (0..50).map(endless).collect();
    for client in &mut clients {
        for _ in 0..10 {
            client.send(b"\xC0\0");
            client.expect(b"\xD0\0");
        }
    }
    others.ping();
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 4 * MIB, "{grown} bytes more");
}

/// What a frame may be long, a packet in it may not.
#[test]
fn a_packet_beyond_the_limit_is_refused_in_a_frame_too() {
    let broker = BrokerProcess::start_both(&["--max-packet-size", "1K"]);
    let mut client = connected(&broker, 5, "large");
    // 100 MB of frame; a PUBLISH of 256 MiB.
    client.send(b"\x82\xFF\0\0\0\0\x05\xF5\xE1\0\0\0\0\0\x30\xFF\xFF\xFF\x7F");
    let head = client.read(3);
    assert_eq!([head[0], head[2]], [0xE0, 0x95], "Packet too large");
    client.expect_close_or_end();
}

#[test]
fn a_slow_handshake_ends_at_the_time_to_connect() {
    let broker = BrokerProcess::start_both(&["--connect-timeout", "1.5"]);
    let silent = Frames::open(broker.websocket());
    let mut half = Frames::open(broker.websocket());
    half.send(&good_request().as_bytes()[..40]);
    let mut without_connect = Frames::connect(broker.websocket());
    without_connect.send_frame(PING, b"alive");
    assert_eq!(without_connect.receive(), (PONG, b"alive".to_vec()));
    silent.expect_end();
    half.expect_end();
    without_connect.expect_close(1000);
    let log = broker.end();
    let about_timeouts = log.iter().filter(|line| line.contains("no complete CONNECT in time")).count();
    assert_eq!(about_timeouts, 3, "{log:#?}");
}

/// What keeps a session alive are packets, whatever else comes between their bytes.
#[test]
fn frames_without_mqtt_are_no_life_of_a_client() {
    let broker = BrokerProcess::start_both(&[]);
    let large = publish_frame(5, "t", &vec![b'x'; 100_000]);
    let begun = [&b""[..], &large[..1], &large[..1_000], &large[..99_999]];
    let connect = |(n, begun): (usize, &&[u8])| {
        let mut packet = connect(5, &format!("silent-{n}"));
        // Keep Alive of a second.
        packet[11] = 1;
        let mut client = Frames::connect(broker.websocket());
        client.send(&[masked(BINARY, &packet), masked(BINARY, begun)].concat());
        assert_eq!(client.read(2)[0], 0x20, "CONNACK");
        client
    };
    let mut clients: Vec<_> = begun.iter().enumerate().map(connect).collect();
    eventually("all are ended", || {
        clients.retain_mut(|client| {
            client.send(&[masked(BINARY, b""), masked(PONG, b""), masked(PING, b"?")].concat());
            let (first, payload) = client.receive();
            if first == BINARY && payload[0] == 0xE0 {
                // Keep Alive timeout.
                assert_eq!(payload[2], 0x8D);
                return false;
            }
            true
        });
        clients.is_empty()
    });
}

#[test]
fn a_listener_over_websocket_has_its_limit_too() {
    let broker = BrokerProcess::start_both(&["--max-listener-connections", "1"]);
    let first = connected(&broker, 4, "first");
    let mut second = Frames::connect(broker.websocket());
    second.send_frame(BINARY, &connect(4, "second"));
    // Server unavailable.
    second.expect(b"\x20\x02\0\x03");
    second.expect_close(1000);

    // Those who wait with their handshake take the places of those that are told.
    let waiting: Vec<_> = (0..16).map(|_| Frames::open(broker.websocket())).collect();
    eventually("one more is closed unread", || {
        let mut next = Frames::open(broker.websocket());
        next.try_send(good_request().as_bytes());
        next.is_at_its_end()
    });
    drop(waiting);
    drop(first);
    eventually("places are given back", || {
        let mut next = Frames::open(broker.websocket());
        next.try_send(&[good_request().as_bytes(), &masked(BINARY, &connect(4, "next"))].concat());
        next.is_accepted()
    });
}

/// What waits stays within its limits; pings are answered between frames and nowhere else.
#[test]
fn a_slow_reader_gets_whole_frames_in_order() {
    const MESSAGES: u32 = 800;
    let broker = BrokerProcess::start_both(&["--max-transmit-bytes", "64M"]);
    let mut slow = connected(&broker, 4, "slow");
    slow.send_frame(BINARY, &subscribe(4, "data"));
    slow.expect(b"\x90\x03\0\x09\0");
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");
    // 25 MiB, more than the sockets between take.
    let payload = |n: u32| n.to_be_bytes().repeat(8 * 1024);
    for n in 0..MESSAGES {
        publisher.publish("data", &payload(n));
    }
    publisher.ping();
    for _ in 0..100 {
        slow.send_frame(PING, b"still there?");
    }
    let mut packets = Vec::new();
    let (mut next, mut pongs) = (0, 0);
    while next < MESSAGES || pongs == 0 {
        match slow.receive() {
            (BINARY, part) => packets.extend(part),
            other => {
                assert_eq!(other, (PONG, b"still there?".to_vec()));
                pongs += 1;
            }
        }
        let expected = publish_frame(4, "data", &payload(next));
        while packets.len() >= expected.len() && next < MESSAGES {
            assert!(packets.drain(..expected.len()).eq(publish_frame(4, "data", &payload(next))), "message {next}");
            next += 1;
        }
    }
    assert!(slow.received() < 800, "many packets share a frame: {} frames", slow.received());
    ping(&mut slow);
}

#[test]
fn large_payloads_pass_both_ways_between_websocket_and_tcp() {
    let broker = BrokerProcess::start_both(&["--max-transmit-bytes", "16M"]);
    let mut framed = connected(&broker, 5, "framed");
    framed.send_frame(BINARY, &subscribe(5, "to/framed"));
    framed.expect(b"\x90\x04\0\x09\0\0");
    let mut plain = Wire::connect(broker.address(), 5, "plain");
    plain.subscribe("to/plain", 0);
    for size in [32 * 1024 - 1, 64 * 1024, 1024 * 1024, 3_000_000, 10] {
        let payload: Vec<u8> = (0..251).cycle().take(size).collect();
        let packet = publish_frame(5, "to/plain", &payload);
        // In one frame, and in several that end nowhere in particular.
        framed.send_frame(BINARY, &packet);
        for part in packet.chunks(10_007) {
            framed.send_frame(BINARY, part);
        }
        for _ in 0..2 {
            assert!(plain.expect_publish("to/plain") == payload, "{size} bytes");
        }
        plain.publish("to/framed", &payload);
        let expected = publish_frame(5, "to/framed", &payload);
        assert!(framed.read(expected.len()) == expected, "{size} bytes");
    }
}

/// Nobody else waits for one that floods.
#[test]
fn a_flood_of_empty_frames_costs_the_others_nothing() {
    let broker = BrokerProcess::start_both(&[]);
    let mut others = Wire::connect(broker.address(), 4, "others");
    let before = broker.resident_bytes();
    let mut loud = connected(&broker, 4, "loud");
    let flood = [masked(BINARY & 0x7F, b""), masked(0, b""), masked(PING, b"x"), masked(0x80, b"")].concat();
    let flood = flood.repeat(20_000);
    let flooding = thread::spawn(move || {
        for _ in 0..10 {
            loud.send(&flood);
        }
        loud
    });
    for _ in 0..100 {
        others.ping();
    }
    let mut loud = flooding.join().unwrap();
    loud.send_frame(BINARY, b"\xC0\0");
    while loud.receive() != (BINARY, b"\xD0\0".to_vec()) {}
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 4 * MIB, "{grown} bytes more");
}

#[test]
fn the_broker_listens_on_an_address_of_version_6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "ws://[::1]:0"]);
    let broker = BrokerProcess::spawn(command, 1);
    let mut client = Frames::connect(broker.address());
    client.send_frame(BINARY, &connect(4, "six"));
    client.expect(b"\x20\x02\0\0");
    let url = format!("ws://{}", broker.address());
    let output = Command::new(env!("CARGO_BIN_EXE_mqtt")).args(["pub", "-L", &url, "-t", "a", "-m", "b"]).output();
    assert!(output.unwrap().status.success());
}
