//! SCRAM-SHA-256 over AUTH: the broker core with its host, bytes in and bytes out, and the program over sockets.

use std::process::Command;

use damselfly_broker::{Broker, Config, ConnectionId, Output, Peer, Timestamp};
use damselfly_codec::{
    Auth, Connect, Delivery, Foreign, FrameLimits, Packet, PacketId, Properties, PropertiesBuf, Property, Publish,
    ReasonCode, Version, split_frame,
};
use damselfly_examples::broker::Host as _;
use damselfly_examples::scram::{ClientExchange, Credentials, Host, METHOD, Verifier};
use damselfly_topic::TopicName;

const NOW: Timestamp = Timestamp::from_secs(1);
const PASSWORD: &str = "pencil";

/// A broker that knows "user" and "other", who have the same password.
struct World {
    broker: Broker,
    host: Host,
    /// What was sent to whom and not looked at.
    sent: Vec<(ConnectionId, Vec<u8>)>,
}

fn properties(method: &str, data: Option<&str>) -> PropertiesBuf {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationMethod(method)).unwrap();
    if let Some(data) = data {
        properties.push(Property::AuthenticationData(data.as_bytes())).unwrap();
    }
    properties
}

impl World {
    fn new() -> Self {
        let mut host = Host::new().unwrap();
        for (name, salt) in [("user", b"salt of user"), ("other", b"another salt")] {
            host.set_user(name, Credentials::new(PASSWORD, salt, 4_096).unwrap());
        }
        Self { broker: Broker::new(Config::default(), 42).unwrap(), host, sent: Vec::new() }
    }

    fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Ask { id, question } => {
                    let answer = self.host.answer(id, &question).unwrap();
                    self.broker.handle_answer(NOW, id, answer);
                }
                Output::Commit(id) => self.broker.handle_committed(NOW, id),
                Output::Transmit(id) => {
                    let mut chunks = [&[][..]; 8];
                    let count = self.broker.transmit(id, &mut chunks);
                    let bytes = chunks[..count].concat();
                    self.broker.handle_transmitted(NOW, id, bytes.len());
                    self.sent.push((id, bytes));
                }
                Output::Close(id) => self.broker.handle_connection_lost(NOW, id),
                Output::Event(event) => self.host.event(&event, None),
                _ => {}
            }
        }
    }

    fn send(&mut self, id: ConnectionId, packet: Packet<'_>) {
        let mut frame = Vec::new();
        packet.encode(Version::V5_0, Foreign::Reject, &mut frame).unwrap();
        let _intake = self.broker.handle_input(NOW, id, &frame);
        self.settle();
    }

    /// Opens a connection and says CONNECT with a method and the first of its data.
    fn begin(&mut self, method: &str, data: &str) -> ConnectionId {
        let list = properties(method, Some(data));
        let connect = Connect { properties: list.as_properties(), ..Connect::new(Version::V5_0, "bob") };
        self.begin_with(&connect)
    }

    fn begin_with(&mut self, connect: &Connect<'_>) -> ConnectionId {
        let id = self.broker.handle_connection(NOW, Peer::default()).unwrap();
        let mut frame = Vec::new();
        connect.encode(Foreign::Reject, &mut frame).unwrap();
        let _intake = self.broker.handle_input(NOW, id, &frame);
        self.settle();
        id
    }

    fn auth(&mut self, id: ConnectionId, reason_code: ReasonCode, method: &str, data: &str) {
        let list = properties(method, Some(data));
        self.send(id, Packet::Auth(Auth { reason_code, properties: list.as_properties() }));
    }

    /// What a connection was sent: type and Reason Code, and the Authentication Data of the last packet.
    fn received(&mut self, id: ConnectionId) -> (Vec<String>, Vec<u8>) {
        let (of_it, others) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == id);
        self.sent = others;
        let of_it: Vec<(ConnectionId, Vec<u8>)> = of_it;
        let bytes = of_it.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<u8>>();
        let (mut rest, mut seen, mut data) = (&bytes[..], Vec::new(), Vec::new());
        while let Some(frame) = split_frame(rest, &FrameLimits::default()).unwrap() {
            rest = &rest[frame.len()..];
            let (name, code, properties) = match Packet::decode(Version::V5_0, frame).unwrap() {
                Packet::Connack(packet) => ("CONNACK", packet.reason_code, packet.properties),
                Packet::Auth(packet) => ("AUTH", packet.reason_code, packet.properties),
                Packet::Disconnect(packet) => ("DISCONNECT", packet.reason_code, packet.properties),
                Packet::Puback(packet) => ("PUBACK", packet.reason_code, packet.properties),
                packet => panic!("{packet:?}"),
            };
            seen.push(format!("{name} {:02X}", code.code()));
            data = properties.authentication_data().unwrap_or_default().to_vec();
        }
        (seen, data)
    }

    /// Goes through an exchange that begins with CONNECT. The client's two messages, and what has to verify the end.
    fn connect(&mut self, user: &str, password: &str) -> (ConnectionId, [String; 2], Verifier) {
        let (client, first) = ClientExchange::new(user, "client-nonce").unwrap();
        let id = self.begin(METHOD, &first);
        let (seen, data) = self.received(id);
        assert_eq!(seen, ["AUTH 18"], "whoever it is");
        let (verifier, last) = client.respond(password, &data).unwrap();
        self.auth(id, ReasonCode::ContinueAuthentication, METHOD, &last);
        (id, [first, last], verifier)
    }

    fn accepted(&mut self) -> ConnectionId {
        let (id, _, verifier) = self.connect("user", PASSWORD);
        let (seen, data) = self.received(id);
        assert_eq!(seen, ["CONNACK 00"]);
        assert_eq!(verifier.verify(&data), Ok(()), "the broker knows the user too");
        id
    }

    fn publish(&mut self, id: ConnectionId, number: u16) {
        let publish = Publish {
            delivery: Delivery::AtLeastOnce { id: PacketId::new(number).unwrap(), dup: false },
            retain: false,
            topic: Some(TopicName::new("a").unwrap()),
            properties: Properties::EMPTY,
            payload: b"x",
        };
        self.send(id, Packet::Publish(publish));
    }
}

#[test]
fn who_knows_the_password_is_accepted_as_the_principal_of_that_name() {
    let mut world = World::new();
    world.accepted();
    let principals: Vec<_> = world.broker.sessions().map(|session| session.principal).collect();
    assert_eq!(principals, [Some("user")]);
    assert_eq!(world.host.exchanges(), 0);
}

#[test]
fn a_wrong_password_and_a_user_that_is_none_are_refused_alike() {
    let mut world = World::new();
    for (user, password) in [("user", "pencil2"), ("nobody", PASSWORD)] {
        let (id, ..) = world.connect(user, password);
        let (seen, data) = world.received(id);
        assert_eq!((seen, data), (vec!["CONNACK 87".to_owned()], Vec::new()), "{user}");
    }
    assert_eq!((world.broker.sessions_len(), world.host.exchanges()), (0, 0));
}

#[test]
fn another_method_or_none_is_refused() {
    let mut world = World::new();
    let id = world.begin("SCRAM-SHA-1", "n,,n=user,r=nonce");
    assert_eq!(world.received(id).0, ["CONNACK 8C"]);
    let id = world.begin_with(&Connect::new(Version::V5_0, "bob"));
    assert_eq!(world.received(id).0, ["CONNACK 87"]);
    let id = world.begin_with(&Connect::new(Version::V3_1_1, "bob"));
    assert_eq!(world.sent, [(id, b"\x20\x02\x00\x05".to_vec())], "not authorized");
    world.sent.clear();
    // The method of CONNECT is that of all its AUTH packets.
    let (_, first) = ClientExchange::new("user", "client-nonce").unwrap();
    let id = world.begin(METHOD, &first);
    world.auth(id, ReasonCode::ContinueAuthentication, "SCRAM-SHA-1", "c=biws");
    assert_eq!(world.received(id).0, ["AUTH 18", "CONNACK 82"]);
    assert_eq!(world.host.exchanges(), 0, "nothing is kept of a connection that ended");
    let id = world.accepted();
    world.auth(id, ReasonCode::ReAuthenticate, "SCRAM-SHA-1", "n,,n=user,r=nonce");
    assert_eq!(world.received(id).0, ["DISCONNECT 82"]);
}

#[test]
fn what_was_overheard_lets_nobody_in() {
    let mut world = World::new();
    let (id, [first, last], _) = world.connect("user", PASSWORD);
    assert_eq!(world.received(id).0, ["CONNACK 00"]);
    let thief = world.begin(METHOD, &first);
    world.auth(thief, ReasonCode::ContinueAuthentication, METHOD, &last);
    assert_eq!(world.received(thief).0, ["AUTH 18", "CONNACK 87"], "a nonce of another exchange");
    let thief = world.begin(METHOD, &last);
    assert_eq!(world.received(thief).0, ["CONNACK 87"], "out of turn");
}

#[test]
fn a_client_authenticates_anew_while_messages_flow() {
    let mut world = World::new();
    let id = world.accepted();
    for round in 0..3 {
        world.publish(id, 1);
        let (client, first) = ClientExchange::new("user", "another-nonce").unwrap();
        world.auth(id, ReasonCode::ReAuthenticate, METHOD, &first);
        let (seen, data) = world.received(id);
        assert_eq!(seen, ["PUBACK 10", "AUTH 18"], "round {round}");
        world.publish(id, 2);
        let (verifier, last) = client.respond(PASSWORD, &data).unwrap();
        world.auth(id, ReasonCode::ContinueAuthentication, METHOD, &last);
        let (seen, data) = world.received(id);
        assert_eq!(seen, ["PUBACK 10", "AUTH 00"]);
        assert_eq!(verifier.verify(&data), Ok(()));
        world.publish(id, 3);
        assert_eq!(world.received(id).0, ["PUBACK 10"]);
    }
}

#[test]
fn a_re_authentication_with_a_wrong_password_or_as_another_ends_the_connection() {
    for (user, password) in [("user", "pencil2"), ("other", PASSWORD), ("nobody", PASSWORD)] {
        let mut world = World::new();
        let id = world.accepted();
        let (client, first) = ClientExchange::new(user, "another-nonce").unwrap();
        world.auth(id, ReasonCode::ReAuthenticate, METHOD, &first);
        let (_, last) = client.respond(password, &world.received(id).1).unwrap();
        world.auth(id, ReasonCode::ContinueAuthentication, METHOD, &last);
        assert_eq!(world.received(id).0, ["DISCONNECT 87"], "{user}");
        assert_eq!((world.broker.connections_len(), world.host.exchanges()), (0, 0));
    }
}

#[test]
fn the_program_shows_it_over_sockets() {
    let output = Command::new(env!("CARGO_BIN_EXE_scram")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "greenhouse is connected: each side knows who the other is",
        "greenhouse authenticated anew while 100 messages were acknowledged",
        "greenhouse with another password is refused: the broker refused the connection: Not authorized (0x87)",
        "shed with another password is refused: the broker refused the connection: Not authorized (0x87)",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
}
