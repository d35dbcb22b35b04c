//! Each kind of memory follows what it is about, and no other does.

use damselfly_broker::{Memory, Secret};
use damselfly_codec::AckType;

use crate::world::{Client, World, beside, v5};

const COUNT: u64 = 100;

fn kinds(memory: Memory) -> [u64; 6] {
    let Memory { messages, retained, subscriptions, sessions, connections, route_caches, .. } = memory;
    [messages, retained, subscriptions, sessions, connections, route_caches]
}

/// By how much each kind grows for each of `COUNT` things.
fn growth(world: &mut World, mut add: impl FnMut(&mut World, u64)) -> [u64; 6] {
    let before = kinds(world.broker.memory());
    (0..COUNT).for_each(|n| add(world, n));
    let after = kinds(world.broker.memory());
    core::array::from_fn(|kind| (after[kind] - before[kind]) / COUNT)
}

fn world_of(name_len: usize) -> (World, Vec<Client>, [u64; 6]) {
    let mut world = World::new();
    let mut clients = Vec::new();
    let grown = growth(&mut world, |world, n| clients.push(world.connect(v5(&format!("{n:0name_len$}")))));
    (world, clients, grown)
}

#[test]
fn a_broker_that_has_nothing_holds_nothing() {
    assert_eq!(kinds(World::new().broker.memory()), [0; 6]);
}

#[test]
fn a_client_takes_a_connection_and_a_session_with_its_name_twice() {
    let [short, long] = [10, 60].map(|len| world_of(len).2);
    assert_eq!(long[3] - short[3], 2 * 50);
    assert_eq!(long[4], short[4]);
    assert!((600..900).contains(&short[3]) && (300..400).contains(&short[4]), "{short:?}");
    assert_eq!([short[0], short[1], short[2], short[5]], [0; 4]);
}

#[test]
fn the_names_of_sessions_are_in_a_table_too() {
    let mut world = World::new();
    world.connect(v5("client 00"));
    let before = world.broker.memory().sessions;
    // Sessions come in blocks of 64: the others are in that of the first.
    for n in 1..64 {
        world.connect(v5(&format!("client {n:02}")));
    }
    let grown = world.broker.memory().sessions - before;
    assert!((63 * (2 * 9 + 16)..63 * (2 * 9 + 64)).contains(&grown), "{grown}");
}

#[test]
fn a_subscription_is_held_by_the_index_and_by_its_session() {
    let (mut world, clients, _) = world_of(10);
    let client = clients[0];
    let [.., subscriptions, sessions, connections, _] =
        growth(&mut world, |world, n| world.subscribe(client, &[(&format!("pond/{n:03}/depth"), 1)]));
    // The text, and the three words of its place.
    assert_eq!((sessions, connections), (14 + 24, 0));
    assert!((40..100).contains(&subscriptions), "{subscriptions}");
    let before = kinds(world.broker.memory());
    (0..COUNT).for_each(|n| world.unsubscribe(client, &[&format!("pond/{n:03}/depth")]));
    let after = kinds(world.broker.memory());
    assert_eq!((before[3] - after[3], after[2]), (COUNT * (14 + 24), 0));
}

#[test]
fn a_share_group_holds_its_filter_twice() {
    let of = |filter: &str| {
        let (mut world, clients, _) = world_of(10);
        let grown = growth(&mut world, |world, n| {
            let index = usize::try_from(n).unwrap();
            world.subscribe(clients[index], &[(&format!("$share/group-{n:03}/{filter}"), 1)]);
        });
        (grown[2], grown[3])
    };
    let (short, long) = (of("pond/depth"), of("pond/depth/and/forty/characters/behind/the/end"));
    let more = 36;
    assert_eq!(short.1, 17 + 10 + 24);
    assert_eq!(long.1 - short.1, more);
    assert!((2 * more..=2 * more + 2).contains(&(long.0 - short.0)), "{short:?} {long:?}");
    assert!((280..330).contains(&short.0), "{short:?}");
}

#[test]
fn a_retained_message_takes_its_content_once_and_its_name_three_times() {
    let of = |name: &str, payload: usize| {
        let (mut world, clients, _) = world_of(10);
        let payload = "x".repeat(payload);
        let [messages, retained, subscriptions, ..] =
            growth(&mut world, |world, n| world.retain(clients[0], &format!("{name}/{n:03}"), &payload));
        assert_eq!((messages, subscriptions), (0, 0));
        retained
    };
    let least = of("a", 10);
    // Memory of messages comes in steps of 16 bytes.
    assert_eq!(of("a", 10 + 96) - least, 96);
    let named = of("a/name/of/forty/and/one/characters/in/all", 10) - least;
    assert!((3 * 40..=4 * 40).contains(&named), "{named}");
    assert!((150..220).contains(&least), "{least}");
}

#[test]
fn a_message_is_held_once_however_many_sessions_wait_for_it() {
    let of = |receivers: usize, payload: usize| {
        let (mut world, clients, _) = world_of(10);
        for client in &clients[..receivers] {
            world.subscribe(*client, &[("pond", 1)]);
        }
        let payload = "x".repeat(payload);
        let publisher = clients[99];
        let grown = growth(&mut world, |world, n| {
            world.publish(publisher, "pond", &payload, 1, u16::try_from(n + 1).unwrap());
        });
        grown[0]
    };
    assert_eq!(of(0, 100), 0, "nobody waits");
    let one = of(1, 100);
    assert_eq!(of(1, 100 + 320) - one, 320);
    let each = (of(50, 100) - one) / 49;
    assert!((30..40).contains(&each), "{each} bytes for a reference");
}

#[test]
fn memory_is_used_up_while_the_budget_is_full_and_only_then() {
    let mut world = World::with(|config| config.max_memory = beside(1, 20_000));
    assert!(!world.broker.is_out_of_memory());
    let alice = world.connect(v5("alice"));
    let names: Vec<String> = (0..40).map(|n| format!("r/{n}")).collect();
    for name in &names {
        world.retain(alice, name, &"x".repeat(1_000));
    }
    let kept = world.broker.retained_len();
    assert!((10..30).contains(&kept), "{kept}");
    assert!(world.broker.is_out_of_memory());
    world.retain(alice, &names[0], "");
    assert!(!world.broker.is_out_of_memory(), "there is room for one more");
}

#[test]
fn debug_says_how_much_there_is_and_no_secret() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    world.connect(v5("bob"));
    world.subscribe(alice, &[("pond", 1), ("lake", 1), ("$share/g/pond", 1)]);
    world.retain(alice, "sea", "x");
    let shown = format!("{:?}", world.broker);
    let expected = "Broker { connections: 2, sessions: 2, subscriptions: 3, retained: 1, messages: 0, config: ";
    assert!(shown.starts_with(expected), "{shown}");
    for text in ["alice", "pond", "sea"] {
        assert!(!shown.contains(text), "{text} in {shown}");
    }
    assert_eq!(format!("{:?}", Secret::from(&b"s3cret"[..])), "Secret(hidden)");
}

#[test]
fn a_queue_that_was_long_gives_its_memory_back() {
    let mut world = World::with(|config| config.max_inflight = 3);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    world.subscribe(bob, &[("pond", 1)]);
    let before = world.broker.memory().sessions;
    for n in 1..=500 {
        world.publish(alice, "pond", "x", 1, n);
    }
    let long = world.broker.memory().sessions - before;
    assert!(long > 500 * 12, "{long} bytes of places in the queue");
    assert_eq!(world.work_off(bob).len(), 500);
    let left = world.broker.memory().sessions - before;
    assert!(left < 2_000, "{left} bytes are kept");
}

/// Those of two blocks of 128 have their place in the session.
#[test]
fn packet_identifiers_that_are_far_apart_take_memory_until_they_are_free() {
    let mut world = World::with(|config| config.max_inflight = 300);
    let [alice, bob] = [world.connect(v5("alice")), world.connect(v5("bob"))];
    let sessions = |world: &World| world.broker.memory().sessions;
    for id in [1, 1_000] {
        world.publish(alice, "nobody", "x", 2, id);
    }
    let near = sessions(&world);
    world.publish(alice, "nobody", "x", 2, 20_000);
    assert!((16..200).contains(&(sessions(&world) - near)), "one block more for what a client sent");
    world.ack(alice, AckType::Pubrel, 20_000);
    assert_eq!(sessions(&world), near);

    world.subscribe(bob, &[("pond", 1)]);
    for id in 2..=301 {
        world.publish(alice, "pond", "x", 1, id);
    }
    let far = sessions(&world);
    assert_eq!(world.session("bob").unwrap().in_flight, 300);
    for id in 256..=300 {
        world.ack(bob, AckType::Puback, id);
    }
    assert!((16..200).contains(&(far - sessions(&world))), "one block less for what was sent to a client");
}

#[test]
fn a_member_that_waits_for_its_session_takes_a_place_more() {
    let mut world = World::new();
    let alice = world.connect(v5("alice"));
    for n in 0..COUNT {
        let member = world.connect(v5(&format!("member{n}")).lasting(100));
        world.subscribe(member, &[("$share/g/a", 1)]);
        world.cut(member);
    }
    let before = world.broker.memory().subscriptions;
    // The first message finds that nobody is there.
    world.publish(alice, "a", "x", 1, 1);
    assert_eq!(world.broker.memory().subscriptions - before, COUNT * 8, "the numbers of session and member");
}
