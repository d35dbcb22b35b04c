//! MQTT over WebSocket from our client and the program `mqtt`: to our broker, and to servers that know frames only.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::{thread, time::Duration};

use damselfly_client::{Config, ConnectionEnd, Event, Outcome, TransportLost};
use damselfly_codec::{QoS, Version};
use damselfly_examples::client::{Client, Drain, Endpoint, Events, Options};

use crate::support::websocket::{BINARY, CLOSE, Frames, PING, PONG, TEXT, accept_key, frame as unmasked, header};
use crate::support::{BrokerProcess, LIMIT, Running, message, publish_frame, run, subscribe};

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::over_websocket(address.ip().to_string(), address.port())
}

fn options(address: SocketAddr, version: Version, client_id: &str) -> Options {
    let mut config = Config::new(client_id);
    config.version = version;
    Options::new(endpoint(address), config)
}

/// The payload of the next message.
async fn next_message(events: &mut Events) -> Vec<u8> {
    loop {
        match events.next().await {
            Some(Event::Message(inbound)) => return inbound.message.payload().to_vec(),
            Some(_) => {}
            None => panic!("the client ended"),
        }
    }
}

/// Why the connection ended, or why there was none.
async fn next_end(events: &mut Events) -> ConnectionEnd {
    loop {
        match events.next().await {
            Some(Event::Disconnected(end)) => return end,
            Some(_) => {}
            None => panic!("the client ended"),
        }
    }
}

#[test]
fn messages_of_every_qos_and_size_pass_in_both_versions() {
    let broker = BrokerProcess::start_both(&["--max-transmit-bytes", "16M"]);
    run(async {
        for version in [Version::V3_1_1, Version::V5_0] {
            let (subscriber, mut events) = Client::connect(options(broker.websocket(), version, "subscriber"));
            subscribe(&subscriber, "t", QoS::ExactlyOnce).await;
            let (publisher, _events) = Client::connect(options(broker.websocket(), version, "publisher"));
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for size in [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024] {
                    let payload = "x".repeat(size);
                    let outcome = publisher.publish(message(&publisher, &payload, qos)).unwrap().await;
                    match qos {
                        QoS::AtMostOnce => assert_eq!(outcome, Outcome::Transmitted),
                        _ => assert!(matches!(outcome, Outcome::Acknowledged { .. }), "{outcome:?}"),
                    }
                    assert!(next_message(&mut events).await == payload.as_bytes(), "{size} bytes at {qos:?}");
                }
            }
            for client in [publisher, subscriber] {
                assert!(client.close(Drain::within(LIMIT)).await.is_nothing());
            }
        }
    });
    let log = broker.end();
    assert!(!log.iter().any(|line| line.contains("WARN") || line.contains("ERROR")), "{log:#?}");
}

/// More than sockets take at once, in both directions at the same time.
#[test]
fn many_messages_pass_in_order_through_full_sockets() {
    const MESSAGES: usize = 2_000;
    let broker = BrokerProcess::start_both(&[]);
    run(async {
        let (client, mut events) = Client::connect(options(broker.websocket(), Version::V5_0, "both"));
        subscribe(&client, "t", QoS::AtLeastOnce).await;
        let payload = |n: usize| format!("{n} {}", "x".repeat(8 * 1024));
        let completions: Vec<_> =
            (0..MESSAGES).map(|n| client.publish(message(&client, &payload(n), QoS::AtLeastOnce)).unwrap()).collect();
        for n in 0..MESSAGES {
            assert!(next_message(&mut events).await == payload(n).as_bytes(), "message {n}");
        }
        for completion in completions {
            assert!(matches!(completion.await, Outcome::Acknowledged { .. }));
        }
    });
    broker.end();
}

/// A server that takes the next client's handshake, with these headers in its answer.
fn accept(listener: &TcpListener, headers: &str) -> Frames {
    let (mut server, head) = Frames::accept(listener);
    let key = header(&head, "sec-websocket-key")[0];
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{headers}\r\n",
        accept_key(key)
    );
    // With the first frame, which is no part of it.
    server.send(&[answer.as_bytes(), &unmasked(PING, b"at once", false)].concat());
    server
}

/// The same, and it has the CONNECT and answers it.
fn serve(listener: &TcpListener) -> Frames {
    let mut server = accept(listener, "Sec-WebSocket-Protocol: mqtt\r\n");
    let (mut has_pong, mut has_connect) = (false, false);
    while !(has_pong && has_connect) {
        match server.receive() {
            (PONG, payload) => has_pong = payload == b"at once",
            (BINARY, packet) => has_connect = packet[0] == 0x10,
            other => panic!("{other:02X?}"),
        }
    }
    server.send_frame(BINARY, b"\x20\x03\0\0\0");
    server
}

/// [MQTT-6.0.0-3] [MQTT3-6.0.0-3]
#[test]
fn the_client_offers_the_subprotocol_mqtt() {
    for version in [Version::V3_1_1, Version::V5_0] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || Frames::accept(&listener).1);
        run(async {
            let (_client, mut events) = Client::connect(options(address, version, "offers"));
            assert_eq!(next_end(&mut events).await, ConnectionEnd::Transport(TransportLost::NotOpened));
        });
        let head = server.join().unwrap();
        assert!(head.starts_with("GET /mqtt HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "sec-websocket-protocol"), ["mqtt"]);
        assert_eq!(header(&head, "sec-websocket-version"), ["13"]);
        assert_eq!(header(&head, "host"), [address.to_string()]);
        assert_eq!(header(&head, "upgrade"), ["websocket"]);
        assert_eq!(header(&head, "connection"), ["Upgrade"]);
        assert_eq!(header(&head, "sec-websocket-key")[0].len(), 24);
    }
}

#[test]
fn a_server_that_does_not_choose_mqtt_is_refused() {
    let refusals = [
        ("HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n", "choose"),
        (
            "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\
             Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n",
            "did not choose the subprotocol mqtt",
        ),
        (
            "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n",
            "a header of the handshake",
        ),
        (
            "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            "a header of the handshake",
        ),
        (
            "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: KEY\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            "a header of the handshake",
        ),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"),
        (
            "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\
             Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
            "an extension",
        ),
        ("\x20\x02\0\0", "no handshake of HTTP"),
        ("HTTP/1.1 101 OK\r\n", "closed within the handshake"),
    ];
    for (answer, why) in refusals {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut server, head) = Frames::accept(&listener);
            let key = accept_key(header(&head, "sec-websocket-key")[0]);
            server.send(answer.replace("KEY", &key).as_bytes());
            // Of another than the first it is the end that tells the client.
            server.end_sending();
            server.expect_end();
        });
        run(async {
            let (client, mut events) = Client::connect(options(address, Version::V5_0, "refuses"));
            assert_eq!(next_end(&mut events).await, ConnectionEnd::Transport(TransportLost::NotOpened), "{why}");
            let error = client.last_transport_error().unwrap();
            assert!(error.contains(why), "{why}: {error}");
        });
        server.join().unwrap();
    }
}

/// [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
#[test]
fn the_client_reads_packets_wherever_frames_begin_and_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let publish = publish_frame(5, "t", b"payload");
    let count = 2 * publish.len() + 1;
    let server = thread::spawn(move || {
        let mut server = serve(&listener);
        for at in 1..publish.len() {
            let (first, second) = publish.split_at(at);
            server.send_frame(BINARY, first);
            server.send_frame(BINARY, second);
        }
        for (n, byte) in publish.chunks(1).enumerate() {
            let is_last = if n + 1 == publish.len() { 0x80 } else { 0 };
            server.send_frame(if n == 0 { BINARY & 0x7F } else { is_last }, byte);
            server.send_frame(PONG, b"nobody asked");
        }
        server.send_frame(BINARY, &publish.repeat(publish.len() + 1));
        while server.receive() != (BINARY, b"\xE0\0".to_vec()) {}
        server.expect_close(1000);
    });
    run(async {
        let (client, mut events) = Client::connect(options(address, Version::V5_0, "reads"));
        for _ in 0..count {
            assert_eq!(next_message(&mut events).await, b"payload");
        }
        client.close(Drain::at_once()).await;
    });
    server.join().unwrap();
}

/// In the length of one frame whatever the packet's; each masked, as the server looks for. [MQTT-6.0.0-1]
#[test]
fn a_large_packet_comes_in_frames_of_any_size_and_leaves_in_binary_ones() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let payload: Vec<u8> = (b'a'..=b'z').cycle().take(1024 * 1024).collect();
    let packet = publish_frame(5, "t", &payload);
    let echoed = thread::spawn(move || {
        let mut server = serve(&listener);
        server.send_frame(BINARY, &packet);
        for part in packet.chunks(10_007) {
            server.send_frame(BINARY, part);
            server.send_frame(PING, b"between");
        }
        // The client sends it back, and its pongs between frames. Topic aliases make no difference to one message.
        let mut came = Vec::new();
        while came.len() < packet.len() {
            match server.receive() {
                (BINARY, part) => came.extend(part),
                other => assert_eq!(other, (PONG, b"between".to_vec())),
            }
        }
        assert!(came == packet);
    });
    run(async {
        let (client, mut events) = Client::connect(options(address, Version::V5_0, "large"));
        for _ in 0..2 {
            assert!(next_message(&mut events).await == payload);
        }
        let text = String::from_utf8(payload).unwrap();
        assert_eq!(client.publish(message(&client, &text, QoS::AtMostOnce)).unwrap().await, Outcome::Transmitted);
    });
    echoed.join().unwrap();
}

/// [MQTT-6.0.0-1] [MQTT3-6.0.0-1]
#[test]
fn a_server_that_sends_text_or_what_is_no_frame_of_a_server_is_left() {
    let broken = [
        (unmasked(TEXT, &publish_frame(5, "t", b"text"), false), 1003, "text"),
        (unmasked(BINARY, &publish_frame(5, "t", b"masked"), true), 1002, "a masked frame, from a server"),
        (unmasked(0x80, b"", false), 1002, "was not begun"),
        (b"\x82\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF".to_vec(), 1002, "a length above"),
    ];
    for (bytes, code, why) in broken {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let mut server = serve(&listener);
            // What comes before it counts, also with the same read.
            server.send(&[unmasked(BINARY, &publish_frame(5, "t", b"before"), false), bytes].concat());
            server.expect_close(code);
        });
        run(async {
            let (client, mut events) = Client::connect(options(address, Version::V5_0, "leaves"));
            assert_eq!(next_message(&mut events).await, b"before");
            assert_eq!(next_end(&mut events).await, ConnectionEnd::Transport(TransportLost::Failed), "{why}");
            let error = client.last_transport_error().unwrap();
            assert!(error.contains(why), "{why}: {error}");
        });
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_closes_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut server = serve(&listener);
        // DISCONNECT: Server shutting down.
        server.send(&[unmasked(BINARY, b"\xE0\x01\x8B", false), unmasked(CLOSE, b"\x03\xE9", false)].concat());
        server.expect_close_or_end();
        let mut server = serve(&listener);
        server.send_frame(CLOSE, b"\x03\xE9");
        server.expect_close(1001);
    });
    run(async {
        let mut options = options(address, Version::V5_0, "told");
        options.config.backoff.first = Duration::from_millis(1);
        let (_client, mut events) = Client::connect(options);
        assert!(matches!(next_end(&mut events).await, ConnectionEnd::ByServer { .. }));
        assert_eq!(next_end(&mut events).await, ConnectionEnd::Transport(TransportLost::Closed));
    });
    server.join().unwrap();
}

/// PINGRESP is awaited, whatever the server's WebSocket has to say.
#[test]
fn pings_are_no_life_of_a_server() {
    // Of a packet that is collected in a buffer of its own, and of one that is not.
    for len in [100_000, 1_000] {
        pings_within_a_packet_are_no_life(len);
    }
}

fn pings_within_a_packet_are_no_life(len: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut server = serve(&listener);
        server.send_frame(BINARY, &publish_frame(5, "t", &vec![b'x'; len])[..len / 2]);
        loop {
            match server.receive() {
                (CLOSE, _) => return,
                (BINARY, packet) if packet == b"\xC0\0" => server.send_frame(PING, b"alive"),
                (PONG, _) => server.send_frame(PING, b"alive"),
                other => panic!("{other:02X?}"),
            }
        }
    });
    run(async {
        let mut options = options(address, Version::V5_0, "waits");
        options.config.keep_alive = 1;
        options.config.ping_timeout = Duration::from_millis(500);
        let (_client, mut events) = Client::connect(options);
        assert_eq!(next_end(&mut events).await, ConnectionEnd::PingTimeout);
    });
    server.join().unwrap();
}

#[test]
fn every_subcommand_takes_the_url_of_a_websocket() {
    let broker = BrokerProcess::start_both(&[]);
    let url = format!("ws://{}/mqtt", broker.websocket());
    let mqtt = |line: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
        command.args([&line[..1], &["-L", &url], &line[1..]].concat());
        command
    };
    for version in ["mqttv311", "mqttv5"] {
        let mut sub = Running::spawn(mqtt(&["sub", "-V", version, "-t", "a/#", "-C", "3", "-v", "-d"]));
        sub.wait_for_log("Subscribed");
        for qos in ["0", "1", "2"] {
            let line = ["pub", "-V", version, "-q", qos, "-t", "a/b", "-m", qos];
            assert!(mqtt(&line).status().unwrap().success());
            assert_eq!(sub.line(), format!("a/b {qos}"));
        }
        assert!(sub.end().0.success());
    }
    let bench = mqtt(&["bench", "--count", "100", "--publishers", "1", "--subscribers", "1"]).output().unwrap();
    assert!(bench.status.success(), "{bench:?}");

    let elsewhere = Command::new(env!("CARGO_BIN_EXE_mqtt"))
        .args(["pub", "-L", &url.replace("/mqtt", "/other"), "-t", "a", "-m", "b"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(elsewhere.status.code(), Some(1));
    let text = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(text.contains("/other: the server does not serve MQTT over WebSocket there: 404 Not Found"), "{text}");
    assert!(text.contains("that the URL names its port and path"), "{text}");
}

#[test]
fn the_program_says_what_the_server_did_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut server = accept(&listener, "Sec-WebSocket-Protocol: mqtt\r\n");
        server.send_frame(TEXT, b"hello");
        while server.receive().0 != CLOSE {}
    });
    let output = Command::new(env!("CARGO_BIN_EXE_mqtt")).args(["pub", "-L", &url, "-t", "a", "-m", "b"]).output();
    let text = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(text.contains("a text frame, and MQTT is sent in binary ones"), "{text}");
    server.join().unwrap();
}
