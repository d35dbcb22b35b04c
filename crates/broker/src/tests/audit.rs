//! The audit finds what it is for: each number that the broker keeps, made wrong.

use alloc::string::ToString;

use damselfly_codec::SubscriptionId;

use crate::{
    Broker, Drift,
    connections::Connection,
    sessions::{Entry, Session},
    tests::{broker, connect, send, take},
};

/// A retained message is in flight to bob, others wait for its place, the walk over the rest of them behind these, and a
/// QoS 0 message behind that.
fn world() -> Broker {
    let mut broker = broker(|config| {
        config.max_inflight = 1;
        config.max_inflight_bytes = 1_000;
    });
    let [alice, bob] = ["alice", "bob"].map(|name| connect(&mut broker, name));
    for name in b' '..=b'z' {
        if !b"#+/".contains(&name) {
            send(&mut broker, alice, &[0x33, 6, 0, 1, name, 0, 1, b'x']);
        }
    }
    send(&mut broker, bob, &[0x82, 6, 0, 9, 0, 1, b'#', 1]);
    send(&mut broker, alice, &[0x30, 4, 0, 1, b'a', b'x']);
    for client in [alice, bob] {
        take(&mut broker, client);
    }
    broker.audit().unwrap();
    let queue = &bob_session(&mut broker).outbound.queue;
    assert!(matches!(queue.iter().rev().nth(1), Some(Entry::Replay(_))) && queue.len() > 50);
    broker
}

type Spoil = fn(&mut Broker);

fn bob_session(broker: &mut Broker) -> &mut Session {
    let key = broker.sessions.find("bob").unwrap();
    broker.sessions.get_mut(key).unwrap()
}

fn bob_connection(broker: &mut Broker) -> &mut Connection {
    let id = bob_session(broker).owner.unwrap();
    broker.connections.get_mut(id).unwrap()
}

fn overtakes(broker: &mut Broker) {
    bob_connection(broker).take_as_it_came();
}

#[test]
fn a_number_that_does_not_agree_is_named() {
    let spoilt: [(&str, Spoil); 17] = [
        ("full sessions", |broker| broker.full_sessions += 1),
        ("held bytes", |broker| broker.held_bytes += 1),
        ("waiting bytes", |broker| broker.waiting_bytes += 1),
        ("what stands", |broker| broker.standing.add(1)),
        ("route caches", |broker| broker.counters.route_cache_bytes += 1),
        ("references", |broker| {
            let key = broker.sessions.find("bob").unwrap();
            let inflight = broker.sessions.get(key).unwrap().outbound.inflight.front().unwrap();
            let _kept = broker.messages.share(&inflight.queued.as_ref().unwrap().message);
        }),
        ("lists of identifiers", |broker| {
            let _kept = broker.messages.keep_ids(&[SubscriptionId::new(1).unwrap(), SubscriptionId::new(2).unwrap()]);
        }),
        ("queued messages", |broker| bob_session(broker).outbound.messages += 1),
        ("queued messages of QoS 0", |broker| bob_session(broker).outbound.at_most_once += 1),
        ("queued bytes", |broker| bob_session(broker).outbound.bytes += 1),
        ("bytes in flight", |broker| bob_session(broker).outbound.inflight_bytes += 1),
        ("replays", |broker| bob_session(broker).outbound.replays += 1),
        ("bytes of filters", |broker| bob_session(broker).subscription_bytes += 1),
        ("held bytes of a session", |broker| {
            bob_session(broker).held_bytes += 1;
            broker.held_bytes += 1;
        }),
        ("QoS 0 that overtakes", overtakes),
        ("QoS 0 that overtakes", |broker| {
            let Some(Entry::Message(queued)) = bob_session(broker).outbound.queue.pop_back() else { return };
            let slot = broker.sessions.find("bob").unwrap().slot;
            broker.uncount(slot, &queued);
            broker.discard(queued);
            broker.audit().unwrap();
            overtakes(broker);
        }),
        ("QoS 0 that overtakes", |broker| {
            let outbound = &mut bob_session(broker).outbound;
            outbound.queue.retain(|entry| matches!(entry, Entry::Message(_)));
            outbound.replays -= 1;
            broker.audit().unwrap();
            overtakes(broker);
        }),
    ];
    for (counter, spoil) in spoilt {
        let mut broker = world();
        spoil(&mut broker);
        let drift = broker.audit().unwrap_err();
        assert_eq!(drift.counter, counter);
        assert_eq!(drift.kept.abs_diff(drift.counted), 1, "{drift}");
    }
    let drift = Drift { counter: "route caches", kept: 7, counted: 6 };
    assert_eq!(drift.to_string(), "route caches: kept as 7, counted 6");
}
