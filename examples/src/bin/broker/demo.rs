use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use damselfly_broker::{
    Answer, ClientIdInUse, ConnectionId, Event, LocalDelivery, LocalId, Message, Peer, Question, QuestionId,
};
use damselfly_codec::{Connect, Delivery, Foreign, Properties, Publish, QoS, SubscriptionOptions, Version, Will};
use damselfly_examples::broker::{Entrance, Host, Waker};
use damselfly_examples::guard::Guard;
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;
use damselfly_topic::{TopicError, TopicFilter, TopicName};

use crate::{log, sink::Sink};

const TICK: Duration = Duration::from_secs(1);
/// Ticks from one breakdown of the freezer to the next.
const FREEZER_PERIOD: u64 = 15;
const FREEZER_STATUS: &str = "demo/freezer/status";

/// A handful of devices inside the broker, and a console that prints every message.
///
/// Thermometer, door and lamp are local participants: sessions without a connection. The freezer has a connection, of
/// which this program plays the other end, because only a connection can be lost.
#[derive(Debug)]
pub(crate) struct Demo {
    console: Sink,
    guard: Guard,
    next_tick: Timestamp,
    ticks: u64,
    participants: Option<Participants>,
    freezer: Option<ConnectionId>,
}

#[derive(Clone, Copy, Debug)]
struct Participants {
    console: LocalId,
    thermometer: LocalId,
    door: LocalId,
    lamp: LocalId,
}

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    ClientId(#[from] ClientIdInUse),
    #[error(transparent)]
    Encode(#[from] damselfly_codec::EncodeError),
}

/// What to try, once the listeners are named; `address` is the flag that says where.
pub(crate) fn invite(out: &mut impl Write, address: &str) -> io::Result<()> {
    writeln!(
        out,
        "
Demo: a thermometer, a door, a lamp, and a freezer whose will is published whenever its connection is lost.
Every message is printed here. To see them in a second terminal:

  cargo run --release --bin mqtt -- sub {address} -t 'demo/#' -v

To switch the lamp on:

  cargo run --release --bin mqtt -- pub {address} -t demo/lamp/set -m on
"
    )
}

impl Host for Demo {
    fn attach(&mut self, waker: Waker) {
        self.guard.attach(waker);
    }

    fn start(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.next_tick = now.saturating_add(TICK);
        match Participants::open(broker, now) {
            Ok(participants) => self.participants = Some(participants),
            Err(error) => tracing::error!(%error, "the demo cannot start"),
        }
    }

    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        match question {
            // The freezer is ours.
            Question::Connect { connection, .. } if Some(*connection) == self.freezer => Some(Answer::allow()),
            _ => self.guard.answer(id, question),
        }
    }

    fn admit(&mut self, id: QuestionId, question: &Question, entrance: &Entrance) -> Option<Answer> {
        self.guard.admit(id, question, entrance)
    }

    fn event(&mut self, event: &Event, address: Option<SocketAddr>) {
        self.guard.event(event, address);
        log::record(event, address);
    }

    fn deliver(&mut self, broker: &mut RecordedBroker, now: Timestamp, local: LocalId, delivery: LocalDelivery) {
        let Some(participants) = self.participants else { return };
        if local == participants.console {
            print(&self.console, &delivery);
        } else if local == participants.lamp {
            let state = String::from_utf8_lossy(delivery.message.payload());
            report(publish(broker, now, local, "demo/lamp/state", &state, true));
        }
        if let Some(token) = delivery.token {
            broker.local_acknowledge(now, token);
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.guard.poll_timeout().into_iter().chain([self.next_tick]).min()
    }

    fn handle_timeout(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.guard.handle_timeout(broker, now);
        if self.next_tick > now {
            return;
        }
        self.next_tick = self.next_tick.max(now.saturating_sub(TICK)).saturating_add(TICK);
        report(self.tick(broker, now));
        self.ticks += 1;
    }

    fn woken(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.guard.woken(broker, now);
    }
}

impl Demo {
    /// Prints to `console`.
    pub(crate) fn new(console: Sink, guard: Guard) -> Self {
        Self { console, guard, next_tick: Timestamp::ZERO, ticks: 0, participants: None, freezer: None }
    }

    fn tick(&mut self, broker: &mut RecordedBroker, now: Timestamp) -> Result<(), DemoError> {
        let Some(participants) = self.participants else { return Ok(()) };
        if self.ticks % 2 == 0 {
            let tenths = 200 + self.ticks * 7 % 23;
            let text = format!("{}.{} C", tenths / 10, tenths % 10);
            publish(broker, now, participants.thermometer, "demo/kitchen/temperature", &text, false)?;
        }
        if self.ticks % 5 == 0 {
            let text = if self.ticks % 10 == 0 { "open" } else { "closed" };
            publish(broker, now, participants.door, "demo/hall/door", text, true)?;
        }
        match self.ticks % FREEZER_PERIOD {
            1 => self.freezer = connect_freezer(broker, now)?,
            2 => {
                if let Some(connection) = self.freezer {
                    announce_freezer(broker, now, connection)?;
                }
            }
            // The cable is pulled: no DISCONNECT, so the will is published.
            11 => {
                if let Some(connection) = self.freezer.take() {
                    broker.handle_connection_lost(now, connection);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Participants {
    fn open(broker: &mut RecordedBroker, now: Timestamp) -> Result<Self, DemoError> {
        let window = NonZeroU16::MIN.saturating_add(15);
        let participants = Self {
            console: broker.open_local(now, "demo-console", window)?,
            thermometer: broker.open_local(now, "demo-thermometer", window)?,
            door: broker.open_local(now, "demo-door", window)?,
            lamp: broker.open_local(now, "demo-lamp", window)?,
        };
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        broker.local_subscribe(now, participants.console, TopicFilter::new("#")?, options, None);
        broker.local_subscribe(now, participants.lamp, TopicFilter::new("demo/lamp/set")?, options, None);
        let welcome = "retained: whoever subscribes later sees it too";
        publish(broker, now, participants.console, "demo/welcome", welcome, true)?;
        publish(broker, now, participants.lamp, "demo/lamp/state", "off", true)?;
        Ok(participants)
    }
}

/// Connects the freezer with a will.
fn connect_freezer(broker: &mut RecordedBroker, now: Timestamp) -> Result<Option<ConnectionId>, DemoError> {
    let Ok(connection) = broker.handle_connection(now, Peer::default()) else { return Ok(None) };
    let mut connect = Connect::new(Version::V5_0, "demo-freezer");
    connect.will = Some(Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: TopicName::new(FREEZER_STATUS)?,
        payload: b"offline: the connection was lost, and this is the will",
        properties: Properties::EMPTY,
    });
    let mut packet = Vec::new();
    connect.encode(Foreign::Reject, &mut packet)?;
    let intake = broker.handle_input(now, connection, &packet);
    tracing::trace!(consumed = intake.consumed, "the freezer connects");
    Ok(Some(connection))
}

/// The freezer says that it is there.
fn announce_freezer(broker: &mut RecordedBroker, now: Timestamp, connection: ConnectionId) -> Result<(), DemoError> {
    let mut packet = Vec::new();
    let publish = Publish {
        delivery: Delivery::AtMostOnce,
        retain: true,
        topic: Some(TopicName::new(FREEZER_STATUS)?),
        properties: Properties::EMPTY,
        payload: b"online",
    };
    publish.encode(Version::V5_0, Foreign::Reject, &mut packet)?;
    let intake = broker.handle_input(now, connection, &packet);
    tracing::trace!(consumed = intake.consumed, "the freezer is connected");
    Ok(())
}

fn publish(
    broker: &mut RecordedBroker,
    now: Timestamp,
    local: LocalId,
    topic: &str,
    text: &str,
    retain: bool,
) -> Result<(), DemoError> {
    let topic = TopicName::new(topic)?;
    let message = Message::compose(topic, text.as_bytes(), QoS::AtMostOnce, retain, Properties::EMPTY, now);
    let published = broker.local_publish(now, local, message);
    tracing::trace!(?topic, receivers = published.receivers, "published");
    Ok(())
}

fn report(result: Result<(), DemoError>) {
    if let Err(error) = result {
        tracing::error!(%error, "a device of the demo failed");
    }
}

/// One line per message. Control characters are escaped: a message must not be able to steer the terminal.
fn print(console: &Sink, delivery: &LocalDelivery) {
    let message = &delivery.message;
    let topic = message.topic().as_str().escape_debug().to_string();
    let payload = String::from_utf8_lossy(message.payload());
    let shown: String = payload.chars().take(100).flat_map(char::escape_debug).collect();
    let more = if payload.chars().nth(100).is_some() { "..." } else { "" };
    let retain = if message.retain() { ", retained" } else { "" };
    let qos = match message.qos() {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    };
    console.line(format!("{topic:<28} {shown}{more} (QoS {qos}{retain})\n").into_bytes());
}
