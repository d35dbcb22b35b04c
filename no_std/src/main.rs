//! A broker and a client that talk to each other, linked without std.
//!
//! ```console
//! $ cargo run --manifest-path no_std/Cargo.toml
//! ```
//!
//! It brings a panic handler of its own, so a core that needs std, even only through a dependency or a feature, fails to
//! build with "duplicate lang item". Linux or another system with a C library is needed, for `write` and `abort`.
#![no_std]
#![no_main]

extern crate alloc;

mod heap;

use core::ffi::c_int;
use core::panic::PanicInfo;

use damselfly_broker::{Answer, Broker, Config as BrokerConfig, ConnectionId, Output as FromBroker, Peer};
use damselfly_client::{Client, Config as ClientConfig, ConnectParameters, Event, Output as FromClient};
use damselfly_codec::{Delivery, Packet, PacketId, Properties, Publish, QoS, SubscriptionOptions, Version};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{SubscriptionIndex, TopicFilter, TopicName};

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

#[link(name = "c")]
unsafe extern "C" {
    fn write(file: c_int, bytes: *const u8, len: usize) -> isize;
    fn abort() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    print("panicked\n");
    // SAFETY: `abort` takes nothing and does not return.
    unsafe { abort() }
}

/// The precompiled `alloc` refers to it, though nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: `abort` takes nothing and does not return.
    unsafe { abort() }
}

fn print(text: &str) {
    // SAFETY: pointer and length are those of `text`.
    unsafe { write(1, text.as_ptr(), text.len()) };
}

/// A part of the cores at work; `None` if it went wrong.
type Step = fn() -> Option<()>;

/// The entry point of C.
#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const u8) -> c_int {
    let steps: [(&str, Step); 3] =
        [("topic\n", use_topic), ("codec\n", use_codec), ("broker, client and session\n", exchange_a_message)];
    for (name, step) in steps {
        if step().is_none() {
            print("failed: ");
            print(name);
            return 1;
        }
        print("ok: ");
        print(name);
    }
    c_int::from(HEAP.used() == 0)
}

fn use_topic() -> Option<()> {
    let mut index = SubscriptionIndex::<u32, u8>::new(42);
    index.insert(TopicFilter::new("pond/+/depth").ok()?, 1, 2).ok()?;
    index.contains_match(TopicName::new("pond/7/depth").ok()?).then_some(())
}

fn use_codec() -> Option<()> {
    let frame = [0x32, 0x07, 0x00, 0x01, b'a', 0x00, 0x0A, b'h', b'i'];
    let Packet::Publish(publish) = Packet::decode(Version::V3_1_1, &frame).ok()? else { return None };
    let mut again = alloc::vec::Vec::new();
    publish.encode(Version::V3_1_1, damselfly_codec::Foreign::Reject, &mut again).ok()?;
    (again == frame && publish.delivery.packet_id() == PacketId::new(10)).then_some(())
}

const NOW: Timestamp = Timestamp::from_secs(1);
const TOPIC: &str = "pond/7/depth";

/// A client subscribes, publishes at QoS 1, and gets its own message.
fn exchange_a_message() -> Option<()> {
    let mut broker = Broker::new(BrokerConfig::default(), 42).ok()?;
    let mut client = Client::new(ClientConfig::new("heron"), 43);
    let filter = TopicFilter::new("pond/#").ok()?;
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    client.subscribe(NOW, &[(filter, options)], Properties::EMPTY).ok()?;
    let mut connection = None;
    let mut is_published = false;
    // Each turn moves something, or the exchange is over.
    for _ in 0..100 {
        while let Some(output) = client.poll_output() {
            match output {
                FromClient::NeedTransport(_) => {
                    connection = Some(broker.handle_connection(NOW, Peer::default()).ok()?);
                    client.handle_transport_up(NOW, &ConnectParameters::default());
                }
                FromClient::Transmit => {}
                FromClient::Event(Event::Completed { .. }) if !is_published => {
                    is_published = true;
                    publish(&mut client)?;
                }
                FromClient::Event(Event::Message(inbound)) => {
                    let is_ours = inbound.message.topic().as_str() == TOPIC && inbound.message.payload() == b"21";
                    return is_ours.then_some(());
                }
                FromClient::Event(_) | FromClient::Resume | FromClient::Journal(_) | FromClient::Commit(_) => {}
                FromClient::Close => return None,
            }
        }
        carry(&mut client, &mut broker, connection?);
        while let Some(output) = broker.poll_output() {
            match output {
                FromBroker::Ask { id, .. } => broker.handle_answer(NOW, id, Answer::allow()),
                FromBroker::Commit(id) => broker.handle_committed(NOW, id),
                FromBroker::Close(_) => return None,
                _ => {}
            }
        }
        carry_back(&mut broker, &mut client, connection?);
    }
    None
}

fn publish(client: &mut Client) -> Option<()> {
    let topic = TopicName::new(TOPIC).ok()?;
    let publish = Publish {
        delivery: Delivery::first(QoS::AtLeastOnce, PacketId::new(1)?),
        retain: false,
        topic: Some(topic),
        properties: Properties::EMPTY,
        payload: b"21",
    };
    client.publish(NOW, Message::new(&publish, topic, NOW)).ok().map(|_| ())
}

/// What the client has written so far arrives at the broker, as far as it is taken.
fn carry(client: &mut Client, broker: &mut Broker, connection: ConnectionId) {
    let mut chunks = [&[][..]; 8];
    let count = client.transmit(&mut chunks);
    let bytes = chunks[..count].concat();
    let taken = broker.handle_input(NOW, connection, &bytes).consumed;
    client.handle_transmitted(NOW, taken);
}

fn carry_back(broker: &mut Broker, client: &mut Client, connection: ConnectionId) {
    let mut chunks = [&[][..]; 8];
    let count = broker.transmit(connection, &mut chunks);
    let bytes = chunks[..count].concat();
    let taken = client.handle_input(NOW, &bytes).consumed;
    broker.handle_transmitted(NOW, connection, taken);
}
