//! Tests of what cannot be seen from outside.

mod audit;
mod room;

use alloc::{vec, vec::Vec};

use damselfly_codec::{Connect, Foreign, Version};
use damselfly_session::Timestamp;

use crate::{Answer, Broker, Config, ConnectionId, Output, Peer};

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn broker(change: impl FnOnce(&mut Config)) -> Broker {
    let mut config = Config::default();
    change(&mut config);
    Broker::new(config, 7).unwrap()
}

/// Answers every question with yes and writes what there is to write; commits wait if they are to.
fn settle(broker: &mut Broker, holds_commits: bool) -> Vec<Output> {
    let mut waiting = vec![];
    while let Some(output) = broker.poll_output() {
        match output {
            Output::Ask { id, .. } => broker.handle_answer(NOW, id, Answer::allow()),
            Output::Commit(id) if !holds_commits => broker.handle_committed(NOW, id),
            output => waiting.push(output),
        }
    }
    waiting
}

/// Takes what waits for a client.
fn take(broker: &mut Broker, id: ConnectionId) -> usize {
    let len = broker.transmit_len(id);
    broker.handle_transmitted(NOW, id, len);
    len
}

/// A client of 3.1.1 whose session stays.
fn connect(broker: &mut Broker, client_id: &str) -> ConnectionId {
    let id = broker.handle_connection(NOW, Peer::default()).unwrap();
    let mut bytes = Vec::new();
    let connect = Connect { clean_start: false, ..Connect::new(Version::V3_1_1, client_id) };
    connect.encode(Foreign::Reject, &mut bytes).unwrap();
    send(broker, id, &bytes);
    assert_eq!(take(broker, id), 4, "CONNACK");
    id
}

fn send(broker: &mut Broker, id: ConnectionId, bytes: &[u8]) {
    let intake = broker.handle_input(NOW, id, bytes);
    assert_eq!(intake.consumed, bytes.len());
    settle(broker, false);
}

/// SUBSCRIBE to topic "a"; SUBACK is taken.
fn subscribe(broker: &mut Broker, id: ConnectionId, qos: u8) {
    send(broker, id, &[0x82, 6, 0, 9, 0, 1, b'a', qos]);
    take(broker, id);
}

/// PUBLISH to topic "a".
fn publish(broker: &mut Broker, id: ConnectionId, qos: u8, packet_id: u8) {
    match qos {
        0 => send(broker, id, &[0x30, 4, 0, 1, b'a', b'x']),
        _ => send(broker, id, &[0x30 | qos << 1, 6, 0, 1, b'a', 0, packet_id, b'x']),
    }
}
