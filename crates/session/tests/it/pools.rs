//! Messages in memory that is used again.

use damselfly_codec::{Delivery, PacketId, Properties, PropertiesBuf, Property, Publish};
use damselfly_session::{Message, MessagePool, Timestamp};
use damselfly_topic::TopicName;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn publish<'a>(topic: &'a str, properties: Properties<'a>, payload: &'a [u8]) -> Publish<'a> {
    let topic = Some(TopicName::new(topic).expect("a name"));
    let id = PacketId::new(7).expect("not zero");
    Publish { delivery: Delivery::ExactlyOnce { id, dup: true }, retain: true, topic, properties, payload }
}

fn pooled(pool: &mut MessagePool, publish: &Publish<'_>) -> Message {
    Message::new_in(pool, publish, publish.topic.expect("it has one"), NOW)
}

fn plain(publish: &Publish<'_>) -> Message {
    Message::new(publish, publish.topic.expect("it has one"), NOW)
}

/// The bytes of a message beside topic and payload; a record takes 16 of them.
const OVERHEAD: usize = 32;

#[test]
fn a_message_in_used_memory_is_what_it_would_be_in_its_own() {
    let mut pool = MessagePool::default();
    let payload: Vec<u8> = (0..=255).cycle().take(520).collect();
    for topic in ["a", "pond/7/depth"] {
        for len in (0..payload.len()).chain((0..payload.len()).rev()) {
            let publish = publish(topic, Properties::EMPTY, &payload[..len]);
            let (message, expected) = (pooled(&mut pool, &publish), plain(&publish));
            assert_eq!(message, expected);
            assert_eq!(message.payload(), &payload[..len]);
            assert_eq!(message.payload_bytes(), &payload[..len]);
            let waste = message.heap_bytes() - expected.heap_bytes();
            assert!(waste < 16 || topic.len() + len < 8, "{waste} bytes too many for {len}");
            message.give_back(&mut pool);
        }
    }
    assert!(pool.spare_bytes() > 0);
}

#[test]
fn memory_is_used_again_for_a_message_of_about_the_length() {
    let mut pool = MessagePool::default();
    let of = |payload| publish("seven/b", Properties::EMPTY, payload);
    pooled(&mut pool, &of(b"123")).give_back(&mut pool);
    assert_eq!(pool.spare_bytes(), 40);
    for payload in [&b"12"[..], b"12345678901234567"] {
        let message = pooled(&mut pool, &of(payload));
        assert_eq!(pool.spare_bytes(), 0, "25 to 40 bytes share a length");
        message.give_back(&mut pool);
        assert_eq!(pool.spare_bytes(), 40);
    }
    let longer = pooled(&mut pool, &of(b"123456789012345678"));
    assert_eq!((pool.spare_bytes(), longer.heap_bytes()), (40, 16 + 56), "41 have the next");
}

#[test]
fn messages_with_properties_and_large_ones_go_their_own_way() {
    let mut pool = MessagePool::default();
    let mut properties = PropertiesBuf::new();
    properties.push(Property::MessageExpiryInterval(60)).expect("valid");
    let with = publish("a", properties.as_properties(), b"payload");
    let message = pooled(&mut pool, &with);
    assert_eq!((&message, message.remaining_expiry(NOW)), (&plain(&with), Some(60)));

    let payload = [7; 504];
    let (largest, too_large) =
        (publish("a", Properties::EMPTY, &payload[1..]), publish("a", Properties::EMPTY, &payload));
    for (publish, kept) in [(largest, 520), (too_large, 0)] {
        let mut pool = MessagePool::default();
        let message = pooled(&mut pool, &publish);
        assert_eq!(message, plain(&publish));
        message.give_back(&mut pool);
        assert_eq!(pool.spare_bytes(), kept);
    }
}

#[test]
fn a_message_that_somebody_holds_is_not_overwritten() {
    let mut pool = MessagePool::default();
    let message = pooled(&mut pool, &publish("a", Properties::EMPTY, b"first"));
    let held = message.clone();
    message.give_back(&mut pool);
    assert_eq!(pool.spare_bytes(), 0);
    let second = pooled(&mut pool, &publish("a", Properties::EMPTY, b"other"));
    assert_eq!((held.payload(), second.payload()), (&b"first"[..], &b"other"[..]));
}

#[test]
fn a_mebibyte_is_kept_and_not_a_byte_more() {
    const MEBIBYTE: usize = 1024 * 1024;
    let mut pool = MessagePool::default();
    let payload = [7; 503];
    let mut of_len = |record: usize| pooled(&mut pool, &publish("a", Properties::EMPTY, &payload[..record - 17]));
    let mut messages: Vec<_> = (0..2_016).map(|_| of_len(520)).collect();
    messages.extend([of_len(24), of_len(232)]);
    let one_more = of_len(24);
    for message in messages {
        message.give_back(&mut pool);
    }
    assert_eq!(pool.spare_bytes(), MEBIBYTE);
    one_more.give_back(&mut pool);
    assert_eq!(pool.spare_bytes(), MEBIBYTE);
    // Each record has two counts, and each list a pointer of two words for every place.
    let counts = 2_018 * 16;
    let least = MEBIBYTE + counts + 2_018 * 16;
    assert!((least..least + 100 * 16).contains(&pool.heap_bytes()), "{} for {least}", pool.heap_bytes());
}

#[test]
fn an_empty_pool_holds_nothing() {
    assert_eq!((MessagePool::default().heap_bytes(), MessagePool::default().spare_bytes()), (0, 0));
    assert_eq!(plain(&publish("a", Properties::EMPTY, b"")).heap_bytes(), OVERHEAD + 1);
}
