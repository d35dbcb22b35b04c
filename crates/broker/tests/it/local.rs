//! The embedding program as a client without a socket: the same deliveries, the same QoS.

use damselfly_codec::{Properties, ReasonCode, SubscriptionOptions};
use damselfly_session::Message;

use crate::world::{World, filter, qos, topic, v5};

fn options(level: u8) -> SubscriptionOptions {
    SubscriptionOptions { qos: qos(level), ..SubscriptionOptions::default() }
}

fn publish(world: &mut World, local: damselfly_broker::LocalId, name: &str, payload: &str, level: u8, retain: bool) {
    let message = Message::compose(topic(name), payload.as_bytes(), qos(level), retain, Properties::EMPTY, world.now);
    let published = world.broker.local_publish(world.now, local, message);
    assert!(!published.reason_code.is_error());
    world.settle();
}

fn payloads(world: &mut World) -> Vec<String> {
    let delivered = std::mem::take(&mut world.delivered);
    delivered.iter().map(|(_, d)| String::from_utf8_lossy(d.message.payload()).into_owned()).collect()
}

#[test]
fn a_local_participant_publishes_to_clients_and_hears_them() {
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "house", 5.try_into().unwrap()).unwrap();
    let bob = world.connect(v5("bob"));
    world.subscribe(bob, &[("down/#", 2)]);
    assert_eq!(
        world.broker.local_subscribe(world.now, local, filter("up/#"), options(1), None),
        ReasonCode::GrantedQoS1
    );
    for level in 0..3 {
        publish(&mut world, local, "down/x", &level.to_string(), level, false);
        world.publish(bob, "up/x", &level.to_string(), level, 1 + u16::from(level));
    }
    assert_eq!(world.work_off(bob).len(), 3);
    assert_eq!(payloads(&mut world), ["0", "1", "2"]);
}

#[test]
fn its_window_holds_until_it_acknowledges() {
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "house", 2.try_into().unwrap()).unwrap();
    let bob = world.connect(v5("bob"));
    world.broker.local_subscribe(world.now, local, filter("#"), options(2), None);
    for n in 1..=4 {
        world.publish(bob, "a", &n.to_string(), 2, n);
    }
    let mut tokens: Vec<_> = world.delivered.iter_mut().map(|(_, d)| d.token.take().unwrap()).collect();
    assert_eq!(payloads(&mut world), ["1", "2"]);
    world.broker.local_acknowledge(world.now, tokens.remove(1));
    world.settle();
    assert_eq!(payloads(&mut world), ["3"]);
    world.broker.local_acknowledge(world.now, tokens.remove(0));
    world.settle();
    assert_eq!(payloads(&mut world), ["4"]);
}

#[test]
fn a_token_belongs_to_the_participant_that_got_it() {
    let mut world = World::new();
    let open = |world: &mut World, name: &str| {
        let local = world.broker.open_local(world.now, name, 1.try_into().unwrap()).unwrap();
        world.broker.local_subscribe(world.now, local, filter("#"), options(1), None);
        local
    };
    let [house, garden] = ["house", "garden"].map(|name| open(&mut world, name));
    let bob = world.connect(v5("bob"));
    world.publish(bob, "a", "1", 1, 1);
    world.publish(bob, "a", "2", 1, 2);
    let token = |world: &mut World, wanted| {
        world.delivered.iter_mut().find(|(local, _)| *local == wanted).and_then(|(_, d)| d.token.take()).unwrap()
    };
    let (of_house, of_garden) = (token(&mut world, house), token(&mut world, garden));
    world.delivered.clear();
    world.broker.local_acknowledge(world.now, of_garden);
    world.settle();
    let got: Vec<_> = world.delivered.iter().map(|(local, _)| *local).collect();
    assert_eq!(got, [garden], "both tokens have the same Packet Identifier");

    world.broker.close_local(world.now, house);
    let house = open(&mut world, "house");
    world.publish(bob, "a", "3", 1, 3);
    world.publish(bob, "a", "4", 1, 4);
    world.delivered.clear();
    world.broker.local_acknowledge(world.now, of_house);
    world.settle();
    assert!(world.delivered.iter().all(|(local, _)| *local != house), "nor to the next of that name");
}

#[test]
fn it_gets_retained_messages_and_may_write_below_sys() {
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "house", 2.try_into().unwrap()).unwrap();
    publish(&mut world, local, "$SYS/uptime", "1", 0, true);
    publish(&mut world, local, "a", "x", 1, true);
    world.broker.local_subscribe(world.now, local, filter("#"), options(1), None);
    world.broker.local_subscribe(world.now, local, filter("$SYS/#"), options(0), None);
    world.settle();
    assert!(world.delivered.iter().all(|(_, delivery)| delivery.retain));
    assert_eq!(payloads(&mut world), ["x", "1"]);
    let bob = world.connect(v5("bob"));
    world.publish(bob, "$SYS/uptime", "forged", 1, 1);
    assert_eq!(world.received(bob), ["PUBACK #1 87"]);
    assert_eq!(world.broker.retained_message(topic("$SYS/uptime")).unwrap().payload(), b"1");
}

#[test]
fn nobody_else_gets_its_identifier_and_closing_frees_all() {
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "house", 2.try_into().unwrap()).unwrap();
    assert!(world.broker.open_local(world.now, "house", 2.try_into().unwrap()).is_err());
    let thief = world.begin(v5("house"));
    assert_eq!(world.received(thief), ["CONNACK 87"]);
    world.broker.local_subscribe(world.now, local, filter("#"), options(1), None);
    let bob = world.connect(v5("bob"));
    world.publish(bob, "a", "x", 1, 1);
    world.broker.local_unsubscribe(world.now, local, filter("#"));
    world.publish(bob, "a", "y", 1, 2);
    assert_eq!(payloads(&mut world), ["x"]);
    world.broker.close_local(world.now, local);
    world.broker.close_local(world.now, local);
    assert_eq!(
        world.broker.local_subscribe(world.now, local, filter("#"), options(1), None),
        ReasonCode::UnspecifiedError
    );
    world.cut(bob);
    world.assert_empty();
}

#[test]
fn it_is_told_that_nobody_subscribed_only_where_nobody_did() {
    let mut world = World::new();
    let local = world.broker.open_local(world.now, "house", 2.try_into().unwrap()).unwrap();
    let away = world.connect(v5("away").lasting(100));
    world.subscribe(away, &[("a", 1)]);
    world.cut(away);
    for (name, level, receivers, code) in [
        ("nobody", 0, 0, ReasonCode::NoMatchingSubscribers),
        ("nobody", 1, 0, ReasonCode::NoMatchingSubscribers),
        ("a", 0, 0, ReasonCode::Success),
        ("a", 1, 1, ReasonCode::Success),
    ] {
        let message = Message::compose(topic(name), b"x", qos(level), false, Properties::EMPTY, world.now);
        let published = world.broker.local_publish(world.now, local, message);
        assert_eq!((published.receivers, published.reason_code), (receivers, code), "{name} at QoS {level}");
    }
    world.broker.close_local(world.now, local);
    let message = Message::compose(topic("a"), b"x", qos(0), false, Properties::EMPTY, world.now);
    let published = world.broker.local_publish(world.now, local, message);
    assert_eq!((published.receivers, published.reason_code), (0, ReasonCode::UnspecifiedError));
}
