//! The broker core without sockets: publishers, subscribers, and what passes between them and one `Broker`.

use std::hint::black_box;

use damselfly_broker::{Answer, Broker, Config, ConnectionId, Output, Peer};
use damselfly_codec::QoS;
use damselfly_session::Timestamp;

use super::fleet::Fleet;
use crate::wire;

/// Messages of one publisher that arrive in one read.
const BATCH: usize = 32;
/// Topic Names have 16 bytes.
const TOPIC: usize = 16;
const PAYLOAD: usize = 64;
/// Subscriptions of others, which none of the messages matches.
const OTHERS: usize = 1000;

/// One broker core with its clients.
pub struct Exchange {
    broker: Broker,
    now: Timestamp,
    qos: QoS,
    /// Each with what it publishes in one turn.
    publishers: Vec<(ConnectionId, Vec<u8>)>,
    subscribers: Vec<ConnectionId>,
    written: Vec<u8>,
    answers: Vec<u8>,
    delivered: u64,
}

/// Who hears whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// This many publishers with a subscriber each.
    Pairs(usize),
    /// One publisher, this many subscribers.
    FanOut(usize),
    /// This many publishers, one subscriber.
    FanIn(usize),
}

impl Exchange {
    /// Connects and subscribes everybody. Without the route cache each message is routed anew.
    pub fn new(shape: Shape, qos: QoS, route_cache: bool) -> Result<Self, String> {
        let mut config = Config::default();
        if !route_cache {
            config.route_cache_entries = 0;
        }
        let broker = Broker::new(config, 0x5eed).map_err(|error| error.to_string())?;
        let mut exchange = Self {
            broker,
            now: Timestamp::from_secs(1),
            qos,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            written: Vec::new(),
            answers: Vec::new(),
            delivered: 0,
        };
        let other = exchange.connect("others")?;
        for filter in Fleet::new(OTHERS).filters() {
            exchange.subscribe(other, filter, QoS::AtMostOnce);
        }
        let (publishers, subscribers) = match shape {
            Shape::Pairs(count) => (count, count),
            Shape::FanOut(count) => (1, count),
            Shape::FanIn(count) => (count, 1),
        };
        for number in 0..subscribers {
            let subscriber = exchange.connect(&format!("subscriber-{number}"))?;
            let heard = match shape {
                Shape::Pairs(_) => topic(number),
                Shape::FanOut(_) => topic(0),
                Shape::FanIn(_) => "bench/#".to_owned(),
            };
            exchange.subscribe(subscriber, &heard, qos);
            exchange.subscribers.push(subscriber);
        }
        for number in 0..publishers {
            let publisher = exchange.connect(&format!("publisher-{number}"))?;
            exchange.publishers.push((publisher, batch(&topic(number), qos)));
        }
        Ok(exchange)
    }

    fn connect(&mut self, client_id: &str) -> Result<ConnectionId, String> {
        let id = self.broker.handle_connection(self.now, Peer::default()).map_err(|error| format!("{error:?}"))?;
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
        wire::prefixed(&mut body, client_id);
        let mut frame = Vec::new();
        wire::frame(&mut frame, 0x10, &body);
        let _ = self.broker.handle_input(self.now, id, &frame);
        self.pump();
        Ok(id)
    }

    fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: QoS) {
        let mut body = vec![0, 1];
        wire::prefixed(&mut body, filter);
        body.push(level(qos));
        let mut frame = Vec::new();
        wire::frame(&mut frame, 0x82, &body);
        let _ = self.broker.handle_input(self.now, id, &frame);
        self.pump();
    }

    /// One read of every publisher, and all that follows from it. Gives the deliveries.
    pub fn turn(&mut self) -> u64 {
        let before = self.delivered;
        let publishers = std::mem::take(&mut self.publishers);
        for (id, frames) in &publishers {
            let intake = self.broker.handle_input(self.now, *id, black_box(frames));
            debug_assert_eq!(intake.consumed, frames.len());
        }
        self.publishers = publishers;
        self.pump();
        self.delivered - before
    }

    fn pump(&mut self) {
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Transmit(id) => self.transmit(id),
                Output::Commit(id) => self.broker.handle_committed(self.now, id),
                Output::Ask { id, .. } => self.broker.handle_answer(self.now, id, Answer::allow()),
                Output::Close(_)
                | Output::Resume(_)
                | Output::Interest { .. }
                | Output::Forward { .. }
                | Output::Deliver { .. }
                | Output::Event(_) => {}
            }
        }
    }

    /// Takes all bytes of a connection, as a socket would, and answers what has to be answered.
    fn transmit(&mut self, id: ConnectionId) {
        self.written.clear();
        loop {
            let mut chunks: [&[u8]; 16] = [&[]; 16];
            let count = self.broker.transmit(id, &mut chunks);
            if count == 0 {
                break;
            }
            let mut taken = 0;
            for chunk in &chunks[..count] {
                taken += chunk.len();
                self.written.extend_from_slice(chunk);
            }
            self.broker.handle_transmitted(self.now, id, taken);
        }
        self.answer(id);
    }

    /// Frames here are small: one byte of Remaining Length, the topic always as long.
    fn answer(&mut self, id: ConnectionId) {
        self.answers.clear();
        let mut rest = &self.written[..];
        while let [first, remaining, body @ ..] = rest {
            rest = body.get(usize::from(*remaining)..).unwrap_or(&[]);
            let is_publish = first >> 4 == 3;
            self.delivered += u64::from(is_publish);
            if is_publish && first & 0b110 == 0 {
                continue;
            }
            let (answer, id_at) = match (first >> 4, first >> 1 & 0b11) {
                (3, 1) => (0x40, 2 + TOPIC),
                (3, _) => (0x50, 2 + TOPIC),
                (5, _) => (0x62, 0),
                (6, _) => (0x70, 0),
                _ => continue,
            };
            if let Some(packet_id) = body.get(id_at..id_at + 2) {
                self.answers.extend_from_slice(&[answer, 2, packet_id[0], packet_id[1]]);
            }
        }
        if !self.answers.is_empty() {
            let _ = self.broker.handle_input(self.now, id, &self.answers);
        }
    }

    /// Deliveries that one turn should bring.
    pub fn expected(&self) -> u64 {
        // Each with its own, or one side has one member.
        let copies = if self.publishers.len() == 1 { self.subscribers.len() } else { 1 };
        u64::try_from(self.publishers.len() * BATCH * copies).unwrap_or(u64::MAX)
    }

    /// The level of its messages.
    pub fn qos(&self) -> QoS {
        self.qos
    }
}

const fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn topic(number: usize) -> String {
    let topic = format!("bench/p/{number:08}");
    debug_assert_eq!(topic.len(), TOPIC);
    topic
}

fn batch(topic: &str, qos: QoS) -> Vec<u8> {
    let mut frames = Vec::new();
    for packet_id in 1_u16.. {
        if usize::from(packet_id) > BATCH {
            break;
        }
        let mut body = Vec::new();
        wire::prefixed(&mut body, topic);
        if qos != QoS::AtMostOnce {
            body.extend_from_slice(&packet_id.to_be_bytes());
        }
        body.resize(body.len() + PAYLOAD, b'7');
        wire::frame(&mut frames, 0x30 | level(qos) << 1, &body);
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_turn_is_delivered_in_that_turn() {
        let cases = [
            (Shape::Pairs(3), QoS::AtMostOnce),
            (Shape::FanOut(5), QoS::AtMostOnce),
            (Shape::Pairs(3), QoS::AtLeastOnce),
            (Shape::FanIn(3), QoS::AtLeastOnce),
            (Shape::Pairs(3), QoS::ExactlyOnce),
        ];
        for (shape, qos) in cases {
            for route_cache in [true, false] {
                let mut exchange =
                    Exchange::new(shape, qos, route_cache).unwrap_or_else(|error| unreachable!("{error}"));
                for _ in 0..5 {
                    assert_eq!(exchange.turn(), exchange.expected(), "{shape:?} {qos:?}");
                }
            }
        }
    }
}
