//! What a broker says of its clients to whoever asks.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use damselfly_broker::{Broker, Config};
use damselfly_examples::broker::{AllowAll, Driver, Settings, Stop};
use damselfly_examples::inspect::Inspector;
use serde_json::{Value, json};

use crate::support::{Wire, frame, string};

/// A broker into which one can look.
struct Inspected {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Inspected {
    fn start() -> Self {
        let (tell, told) = channel();
        let thread = thread::spawn(move || {
            let broker = Broker::new(Config::default(), 42).unwrap();
            let mut driver = Driver::new(broker, Inspector::new(AllowAll, "house"), Settings::default()).unwrap();
            let address = driver.listen("127.0.0.1:0".parse().unwrap()).unwrap();
            tell.send((driver.stop(), address)).unwrap();
            driver.run().unwrap();
        });
        let (stop, address) = told.recv().unwrap();
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Inspected {
    fn drop(&mut self) {
        self.stop.stop().unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// One that asks, with its answers.
struct Asker {
    wire: Wire,
    asked: u8,
}

impl Asker {
    fn connect(address: SocketAddr) -> Self {
        let mut wire = Wire::connect(address, 5, "page-1");
        wire.subscribe("response/page-1", 0);
        Self { wire, asked: 0 }
    }

    fn send(&mut self, topic: &str, response_topic: &str, payload: &[u8]) {
        self.asked += 1;
        let mut properties = vec![0x08];
        properties.extend(string(response_topic));
        properties.extend([0x09, 0, 1, self.asked]);
        let mut body = string(topic);
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend(properties);
        body.extend(payload);
        self.wire.send(&frame(0x30, &body));
    }

    /// The answer, which carries the Correlation Data of this question and no other.
    fn receive(&mut self) -> Value {
        let (first, body) = self.wire.receive();
        assert_eq!(first, 0x30, "PUBLISH at QoS 0");
        let start = string("response/page-1").len();
        assert_eq!(body[start..start + 5], [4, 9, 0, 1, self.asked]);
        serde_json::from_slice(&body[start + 5..]).unwrap()
    }

    fn ask(&mut self, payload: &[u8]) -> Value {
        self.send("house/inspect", "response/page-1", payload);
        self.receive()
    }

    fn of(&mut self, client_id: &str) -> Value {
        self.ask(json!({ "client": client_id }).to_string().as_bytes())
    }
}

fn texts(answer: &Value) -> Vec<String> {
    let packets = answer["packets"].as_array().unwrap();
    packets.iter().map(|line| format!("{} {}", line["way"].as_str().unwrap(), line["text"].as_str().unwrap())).collect()
}

#[test]
fn a_client_is_described_with_its_last_packets_and_no_secret() {
    let broker = Inspected::start();
    let mut asker = Asker::connect(broker.address);
    let mut alice = Wire::open(broker.address);
    // Receive Maximum 3, a session of an hour, a user name and a password.
    let mut connect = b"\0\x04MQTT\x05\xC2\0\0\x08\x11\0\0\x0E\x10\x21\0\x03".to_vec();
    connect.extend([string("alice"), string("user"), string("password")].concat());
    alice.send(&frame(0x10, &connect));
    assert_eq!(alice.receive().0, 0x20);
    let mut subscribe = b"\0\x07\0".to_vec();
    subscribe.extend(string("home/+/lamp"));
    subscribe.push(1);
    alice.send(&frame(0x82, &subscribe));
    assert_eq!(alice.receive().0, 0x90);
    let mut picture = string("home/hall/lamp");
    picture.push(0);
    picture.extend(b"picture".repeat(20_000));
    alice.send(&frame(0x30, &picture));
    assert_eq!(alice.receive().1.len(), picture.len(), "and comes back, in many writes");

    let answer = asker.of("alice");
    assert_eq!(answer["connected"], json!(true));
    assert_eq!(answer["version"], json!("5.0"));
    assert!(answer["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(answer["session"]["expiry_s"], json!(3600));
    assert_eq!(answer["window"], json!({ "in_flight": 0, "receive_maximum": 3 }));
    assert_eq!(answer["subscriptions"], json!([{ "filter": "home/+/lamp", "qos": 1 }]));
    let lines = [
        "in CONNECT 5.0 as alice, Clean Start, a User Name, keep alive 0 s",
        "out CONNACK Success (0x00)",
        "in SUBSCRIBE home/+/lamp QoS 1 id 7",
        "out SUBACK id 7: Granted QoS 1 (0x01)",
        "in PUBLISH home/hall/lamp QoS 0, 140000 bytes",
        "out PUBLISH home/hall/lamp QoS 0, 140000 bytes",
    ];
    assert_eq!(texts(&answer), lines);
    assert!(!answer.to_string().contains("password") && !answer.to_string().contains("picture"), "{answer}");
}

#[test]
fn of_many_packets_the_last_sixteen_are_told() {
    let broker = Inspected::start();
    let mut asker = Asker::connect(broker.address);
    let mut bob = Wire::connect(broker.address, 4, "bob");
    for id in 1..=20 {
        bob.publish_at(1, id, "t", b"");
        bob.receive();
    }
    let lines = texts(&asker.of("bob"));
    assert_eq!(lines.len(), 16);
    assert_eq!((lines[0].as_str(), lines[15].as_str()), ("in PUBLISH t QoS 1 id 13, 0 bytes", "out PUBACK id 20"));
}

#[test]
fn what_waits_for_a_sleeper_is_told() {
    let broker = Inspected::start();
    let mut asker = Asker::connect(broker.address);
    let mut sleeper = Wire::connect_lasting(broker.address, 4, "sleeper");
    sleeper.subscribe("wake/up", 1);
    sleeper.disconnect();
    for _ in 0..3 {
        let mut body = string("wake/up");
        body.extend(b"\0\x05\0now");
        asker.wire.send(&frame(0x32, &body));
        assert_eq!(asker.wire.receive().0, 0x40);
    }
    let answer = asker.of("sleeper");
    assert_eq!(answer["connected"], json!(false));
    assert_eq!((&answer["version"], &answer["address"]), (&json!("3.1.1"), &Value::Null));
    assert_eq!(answer["session"]["expiry_s"], Value::Null, "never");
    assert_eq!(answer["queue"]["messages"], json!(3));
    assert_eq!(answer["window"], json!({ "in_flight": 0, "receive_maximum": null }));
    assert_eq!(texts(&answer).last().unwrap(), "in DISCONNECT Success (0x00)");
}

#[test]
fn all_clients_and_topics_are_told() {
    let broker = Inspected::start();
    let mut asker = Asker::connect(broker.address);
    let mut lamp = Wire::connect(broker.address, 4, "lamp");
    lamp.subscribe("home/hall/lamp/set", 1);
    let mut retained = string("home/hall/lamp");
    retained.extend(b"on");
    lamp.send(&frame(0x31, &retained));
    lamp.ping();
    asker.send("house/topology", "response/page-1", b"{}");
    let answer = asker.receive();
    let clients = answer["clients"].as_array().unwrap();
    let of_lamp = clients.iter().find(|client| client["client"] == "lamp").unwrap();
    let filters = json!([{ "filter": "home/hall/lamp/set", "qos": 1 }]);
    assert_eq!((&of_lamp["version"], &of_lamp["connected"]), (&json!("3.1.1"), &json!(true)));
    assert_eq!(of_lamp["subscriptions"], filters);
    assert_eq!(clients.len(), 3, "with the one that answers: {answer}");
    assert_eq!(answer["topics"], json!(["home/hall/lamp"]));
}

#[test]
fn a_bad_question_is_an_error_and_nobody_chooses_where_the_answer_goes() {
    let broker = Inspected::start();
    let mut asker = Asker::connect(broker.address);
    let long = format!("{{\"client\": \"{}\"}}", "a".repeat(1011));
    assert_eq!(long.len(), 1025);
    for question in ["", "[]", "{}", "{\"client\": 7}", "{\"client\": \"nobody\"}"] {
        assert!(asker.ask(question.as_bytes())["error"].is_string(), "{question}");
    }
    assert!(asker.ask(long.as_bytes())["error"].as_str().unwrap().contains("1,024"));
    assert!(asker.ask(long.replacen('a', "", 1).as_bytes())["error"].as_str().unwrap().contains("no session"));
    let mut lock = Wire::connect(broker.address, 5, "lock");
    lock.subscribe("home/hall/lock/set", 0);
    asker.send("house/inspect", "home/hall/lock/set", b"{\"client\": \"page-1\"}");
    // Answered after that one.
    asker.of("page-1");
    lock.ping();
}
