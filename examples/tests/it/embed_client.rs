//! `embed_client`: the client core over `std::net`.

use std::process::Command;

use crate::support::{BrokerProcess, Running, Wire};

#[test]
fn message_is_acknowledged_and_messages_are_printed_until_there_are_enough() {
    let broker = BrokerProcess::start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed_client"));
    command.args([&broker.address().to_string(), "greetings/#", "greetings/own", "hello", "3"]);
    let client = Running::spawn(command);
    // The broker may answer all of this in any order.
    let mut lines = [client.line(), client.line(), client.line()];
    lines.sort();
    assert_eq!(lines, ["1 of 1 subscriptions granted", "acknowledged: Success (0x00)", "greetings/own hello"]);

    let mut publisher = Wire::connect(broker.address(), 5, "publisher");
    let large = "x".repeat(100_000);
    publisher.publish("greetings/large", large.as_bytes());
    publisher.publish("greetings/end", b"");

    assert!(client.line() == format!("greetings/large {large}"));
    assert_eq!(client.line(), "greetings/end ");
    let (status, errors) = client.end();
    assert!(status.success(), "{errors}");
    broker.end();
}

#[test]
fn client_connects_again_when_its_connection_ends() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed_client"));
    command.args([&listener.local_addr().unwrap().to_string(), "t", "t", "hello", "1"]);
    let client = Running::spawn(command);
    let mut first = Wire::accept(&listener);
    first.grant(1);
    let (_, payload) = first.expect_publish_with_id("t");
    assert_eq!(payload, b"hello");
    drop(first);

    // The session is gone with the connection: the message has its outcome, the subscription is restored.
    let mut second = Wire::accept(&listener);
    second.grant(1);
    second.publish("t", b"welcome back");

    assert_eq!(client.line(), "1 of 1 subscriptions granted");
    assert_eq!(client.line(), "nobody knows whether it arrived: the broker forgot the session");
    assert_eq!(client.line(), "t welcome back");
    assert_eq!(second.receive().0, 0xE0, "DISCONNECT");
    let (status, errors) = client.end();
    assert!(status.success(), "{errors}");
}

#[test]
fn wrong_command_line_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_embed_client")).arg("127.0.0.1:1883").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("FILTER TOPIC PAYLOAD"));
}
