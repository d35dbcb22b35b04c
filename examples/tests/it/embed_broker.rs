//! `embed_broker`: the core over `std::net` speaks MQTT too.

use std::process::Command;

use crate::support::{BrokerProcess, Wire};

#[test]
fn clients_of_both_versions_exchange_messages() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed_broker"));
    command.arg("127.0.0.1:0");
    let mut broker = BrokerProcess::spawn(command, 1);
    let mut subscriber = Wire::connect(broker.address(), 5, "subscriber");
    subscriber.subscribe("greetings/#", 0);
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");
    let large: Vec<u8> = (0..251).cycle().take(100_000).collect();

    publisher.publish("greetings/one", b"hello");
    publisher.publish("greetings/two", &large);

    assert_eq!(subscriber.expect_publish("greetings/one"), b"hello");
    assert!(subscriber.expect_publish("greetings/two") == large);
    subscriber.ping();
    broker.line("Subscribed");
}

#[test]
fn a_malformed_packet_ends_its_connection_only() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed_broker"));
    command.arg("127.0.0.1:0");
    let broker = BrokerProcess::spawn(command, 1);
    let mut other = Wire::connect(broker.address(), 4, "other");
    let mut client = Wire::connect(broker.address(), 5, "client");

    client.send(b"\x80\x02\0\x01");

    client.expect_disconnect(0x81);
    other.ping();
}
