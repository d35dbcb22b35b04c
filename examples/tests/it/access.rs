//! Who may do what: the file of access rules, in both versions, and read anew while clients are there.

use std::net::SocketAddr;
use std::path::Path;

use damselfly_examples::guard::edit;
use rustix::process::Signal;

use crate::support::{BrokerProcess, Place, Wire};

const OLD: u8 = 4;
const NEW: u8 = 5;

/// Every user's password is the name backwards.
fn password(name: &str) -> String {
    name.chars().rev().collect()
}

/// A broker with these users and rules, where anonymous clients may connect.
fn ruled(place: &Place, users: &[&str], rules: &str) -> BrokerProcess {
    let passwords: Vec<_> = users.iter().map(|name| password(name)).collect();
    let users: Vec<_> = users.iter().copied().zip(passwords.iter().map(String::as_str)).collect();
    let (users, rules) = (place.users(&users), place.write("rules", rules));
    BrokerProcess::start(&["--password-file", &users, "--access-file", &rules, "--allow-anonymous"])
}

fn connect(address: SocketAddr, level: u8, client_id: &str, user: Option<&str>) -> Wire {
    let mut client = Wire::open(address);
    let password = user.map(password);
    assert_eq!(client.ask(level, client_id, user, password.as_deref()), 0, "{client_id} {user:?}");
    client
}

/// Whether a message of each QoS arrives at somebody who may receive everything.
fn arrives(publisher: &mut Wire, level: u8, topic: &str, receiver: &mut Wire) -> bool {
    publisher.publish(topic, b"0");
    publisher.publish_at(1, 1, topic, b"1");
    let of_puback = publisher.expect_acknowledged(0x40, 1);
    publisher.publish_at(2, 2, topic, b"2");
    let of_pubrec = publisher.expect_acknowledged(0x50, 2);
    if of_pubrec < 0x80 {
        publisher.acknowledge(0x62, 2);
        assert_eq!(publisher.expect_acknowledged(0x70, 2), 0);
    }
    receiver.publish("end", b"");
    let mut payloads = 0;
    loop {
        let (first, body) = receiver.receive();
        assert_eq!(first, 0x30);
        if body.starts_with(b"\0\x03end") {
            break;
        }
        payloads += 1;
    }
    let is_denied = level == NEW && of_puback == 0x87 && of_pubrec == 0x87;
    assert!(is_denied || (of_puback < 0x80 && of_pubrec < 0x80), "{topic}: {of_puback:02X} {of_pubrec:02X}");
    assert!(level != NEW || is_denied == (payloads == 0), "a 5.0 client is told: {topic}");
    assert!(payloads == 0 || payloads == 3, "{topic}: {payloads}");
    payloads == 3
}

/// [MQTT3-3.3.5-2] [MQTT-3.8.4-6] [MQTT-4.8.2]
#[test]
fn every_path_is_allowed_and_denied_in_both_versions() {
    let rules = "\
topic read open/#
user heron
topic write up
topic read down/+
topic readwrite both
topic both/deep/#
topic deny both/deep/secret
topic read $SYS/#
topic write $other/a
user sees
topic #
topic $other/#
pattern readwrite device/%c/#
pattern read mail/%u
";
    let place = Place::new("paths");
    let broker = ruled(&place, &["heron", "sees"], rules);
    let mut sees = connect(broker.address(), NEW, "sees", Some("sees"));
    for filter in ["#", "$other/#"] {
        sees.subscribe(filter, 0);
    }
    for level in [OLD, NEW] {
        let no = if level == NEW { 0x87 } else { 0x80 };
        for (user, may_publish, may_not_publish, may_subscribe, may_not_subscribe) in [
            (
                Some("heron"),
                &["up", "both", "both/deep", "both/deep/x", "$other/a", "device/c/x", "device/c"][..],
                &["down/a", "both/deep/secret", "open/a", "mail/heron", "device/d/x", "common/off", "$SYS/x", "else"][..],
                &["down/+", "down/a", "both", "both/deep/x", "mail/heron", "device/c/#", "$SYS/#", "$share/g/down/a"][..],
                &[
                    "up",
                    "#",
                    "+/a",
                    "both/deep/#",
                    "both/deep/secret",
                    "open/#",
                    "mail/sees",
                    "mail/+",
                    "device/#",
                    "$share/g/up",
                    "$share/g/#",
                    "$share/g/both/deep/#",
                    "$other/a",
                    "common/off",
                ][..],
            ),
            (
                None,
                &["device/c/x"],
                &["open/a", "up", "down/a", "mail/heron", "mail/", "common/off"],
                &["open/#", "open", "$share/g/open/a", "device/c/+"],
                &["#", "mail/+", "down/a", "$SYS/#", "$share/g/down/a"],
            ),
        ] {
            let mut client = connect(broker.address(), level, "c", user);
            for topic in may_publish {
                assert!(arrives(&mut client, level, topic, &mut sees), "{level} {user:?} publishes {topic}");
            }
            for topic in may_not_publish {
                assert!(!arrives(&mut client, level, topic, &mut sees), "{level} {user:?} publishes {topic}");
            }
            for filter in may_subscribe {
                assert_eq!(client.ask_for(filter, 1), 1, "{level} {user:?} subscribes {filter}");
            }
            for filter in may_not_subscribe {
                assert_eq!(client.ask_for(filter, 1), no, "{level} {user:?} subscribes {filter}");
            }
            client.disconnect();
        }
    }
}

#[test]
fn an_empty_file_denies_all_and_a_denial_wins() {
    let place = Place::new("empty");
    let broker = ruled(&place, &["heron"], "# nobody\n");
    for (level, no) in [(OLD, 0x80), (NEW, 0x87)] {
        for user in [None, Some("heron")] {
            let mut client = connect(broker.address(), level, "c", user);
            assert_eq!([client.ask_for("a", 0), client.ask_for("#", 0), client.ask_for("$SYS/#", 0)], [no; 3]);
            client.disconnect();
        }
    }
}

#[test]
fn wills_and_retained_messages_go_where_they_may() {
    let place = Place::new("wills");
    let broker = ruled(
        &place,
        &["heron", "sees"],
        "user heron\ntopic write status/heron\ntopic read public/#\nuser sees\ntopic #\n",
    );
    let mut sees = connect(broker.address(), NEW, "sees", Some("sees"));
    sees.subscribe("status/#", 0);
    for level in [OLD, NEW] {
        for (topic, payload) in [("status/other", &b"denied"[..]), ("status/heron", b"allowed")] {
            let mut client = Wire::open(broker.address());
            assert_eq!(client.ask_with_will_of(level, "c", ("heron", "noreh"), topic, payload), 0);
            drop(client);
        }
        assert_eq!(sees.expect_publish("status/heron"), b"allowed", "and nothing before it");
    }
    for topic in ["public/a", "private/a"] {
        sees.publish_retained(topic, b"kept");
    }
    sees.ping();
    for (level, no) in [(OLD, 0x80), (NEW, 0x87)] {
        let mut client = connect(broker.address(), level, "c", Some("heron"));
        assert_eq!([client.ask_for("private/a", 0), client.ask_for("$share/g/private/#", 0)], [no; 2]);
        client.subscribe("public/#", 0);
        assert_eq!(client.expect_publish("public/a"), b"kept");
        client.ping();
        // A will of its own, retained where it may not: nothing is kept.
        client.disconnect();
    }
}

#[test]
fn a_client_that_calls_itself_a_wildcard_gets_nothing_by_a_pattern() {
    let place = Place::new("hostile");
    let rules = "user plus+\ntopic read open\npattern readwrite dev/%c/#\npattern read mail/%u/+\n";
    let broker = ruled(&place, &["plus+", "a/b", "good"], rules);
    for (level, no) in [(OLD, 0x80), (NEW, 0x87)] {
        for client_id in ["#", "+", "a/b", "a/#", "$share", "x+"] {
            let mut client = connect(broker.address(), level, client_id, Some("good"));
            for filter in ["dev/#", "dev/+/#", "dev/a/b/#", "dev/a/#", &format!("dev/{client_id}/x"), "#"] {
                let is_filter = !filter.contains("x+") && !filter.contains("#/");
                assert!(!is_filter || client.ask_for(filter, 0) == no, "{client_id}: {filter}");
            }
            assert_eq!(client.ask_for("mail/good/new", 0), 0, "its user name is well-behaved");
            client.disconnect();
        }
        for user in ["plus+", "a/b"] {
            let mut client = connect(broker.address(), level, "c", Some(user));
            let answers = ["mail/#", "mail/+/+", "mail/a/b", "mail/a/b/x"].map(|filter| client.ask_for(filter, 0));
            assert_eq!(answers, [no; 4], "{user}");
            assert_eq!(client.ask_for("dev/c/#", 0), 0, "{user}: its client identifier is well-behaved");
            client.disconnect();
        }
    }
}

/// Has the files read anew, and waits until they hold for everybody.
fn reload(broker: &BrokerProcess) {
    broker.signal(Signal::HUP);
    broker.log_line("new users and rules hold for everybody");
}

#[test]
fn a_permission_that_is_withdrawn_ends_deliveries_at_once_and_nobody_is_dropped() {
    let place = Place::new("withdrawn");
    let rules = |of_heron: &str| format!("user heron\n{of_heron}\nuser sees\ntopic #\n");
    let broker = ruled(&place, &["heron", "sees"], &rules("topic a/#\ntopic b"));
    let mut sees = connect(broker.address(), NEW, "sees", Some("sees"));
    let mut clients = [OLD, NEW].map(|level| {
        let mut client = connect(broker.address(), level, &format!("c{level}"), Some("heron"));
        client.subscribe("a/#", 0);
        client.subscribe("b", 0);
        client
    });
    // One who is away, with a message that waits for him.
    let mut away = Wire::open(broker.address());
    assert_eq!(away.ask_lasting(NEW, "away", ("heron", "noreh")), (0, 0));
    away.subscribe("a/#", 1);
    away.subscribe("b", 1);
    away.disconnect();
    for topic in ["a/1", "b"] {
        sees.publish_at(1, 1, topic, b"1");
        sees.expect_acknowledged(0x40, 1);
    }
    for client in &mut clients {
        assert_eq!((client.expect_publish("a/1"), client.expect_publish("b")), (b"1".to_vec(), b"1".to_vec()));
    }
    place.write("rules", &rules("topic b"));
    reload(&broker);
    for topic in ["a/1", "b"] {
        sees.publish_at(1, 1, topic, b"2");
        sees.expect_acknowledged(0x40, 1);
    }
    for (client, no) in clients.iter_mut().zip([0x80, 0x87]) {
        assert_eq!(client.expect_publish("b"), b"2", "nothing of what is denied came before it");
        assert_eq!(client.ask_for("a/#", 0), no);
    }
    let mut back = Wire::open(broker.address());
    assert_eq!(back.ask_lasting(NEW, "away", ("heron", "noreh")), (1, 0));
    let received = [back.expect_publish_with_id("b"), back.expect_publish_with_id("b")].map(|(_, payload)| payload);
    assert_eq!(received, [b"1", b"2"]);
    // What is given again can be had again.
    place.write("rules", &rules("topic a/#"));
    reload(&broker);
    for client in &mut clients {
        client.subscribe("a/#", 0);
        client.ping();
    }
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    let place = Place::new("mistake");
    let broker = ruled(&place, &["heron"], "user heron\ntopic a\n");
    let mut client = connect(broker.address(), NEW, "c", Some("heron"));
    client.subscribe("a", 0);
    for (file, text, part) in [
        ("rules", "user heron\ntopic b\ntopic reads a\n", "rules:3: reads is none of read, write"),
        ("users", "heron\n", "users:1: there is no ':'"),
    ] {
        let before = place.read(file);
        place.write(file, text);
        broker.signal(Signal::HUP);
        broker.log_line(part);
        broker.log_line("nothing was changed, and the old users and rules go on");
        client.publish("a", b"still");
        assert_eq!(client.expect_publish("a"), b"still");
        assert_eq!(client.ask_for("b", 0), 0x87);
        connect(broker.address(), NEW, "d", Some("heron")).disconnect();
        place.write(file, &before);
    }
    place.write("rules", "user heron\ntopic b\n");
    reload(&broker);
    client.subscribe("b", 0);
}

#[test]
fn users_come_go_and_change_while_others_stay() {
    let place = Place::new("users-change");
    let broker = ruled(&place, &["heron", "anna", "sees"], "user sees\ntopic #\npattern #\n");
    let mut sees = connect(broker.address(), NEW, "sees", Some("sees"));
    sees.subscribe("status/#", 0);
    let lasting = |level, client_id: &str, user: &str| {
        let mut client = Wire::open(broker.address());
        let answer = client.ask_lasting(level, client_id, (user, &password(user)));
        (client, answer)
    };
    let gone: Vec<_> = [OLD, NEW].map(|level| lasting(level, &format!("anna{level}"), "anna").0).into();
    let mut will = Wire::open(broker.address());
    assert_eq!(will.ask_with_will_of(NEW, "will", ("anna", "anna"), "status/anna", b"gone"), 0);
    let rekeyed: Vec<_> = [OLD, NEW].map(|level| lasting(level, &format!("heron{level}"), "heron").0).into();
    let set = |user, password: Option<&str>| {
        edit(Path::new(&place.path("users")), user, password.map(str::as_bytes), false).unwrap();
    };
    set("anna", None);
    set("heron", Some("another"));
    set("dora", Some("arod"));
    reload(&broker);
    for client in gone.into_iter().chain(rekeyed).chain([will]) {
        client.expect_disconnect(0x87);
    }
    sees.publish("status/end", b"");
    assert_eq!(sees.expect_publish("status/end"), b"", "the will of a user who is not there is not published");
    for (user, password, code) in
        [("anna", "anna", 0x86), ("heron", "noreh", 0x86), ("heron", "another", 0), ("dora", "arod", 0)]
    {
        let mut client = Wire::open(broker.address());
        assert_eq!(client.ask(NEW, "someone", Some(user), Some(password)), code, "{user} {password}");
        if code == 0 {
            client.disconnect();
        }
    }
    // Who has another password finds his session, who came back does not.
    set("anna", Some("anna"));
    reload(&broker);
    let mut client = Wire::open(broker.address());
    assert_eq!(client.ask_lasting(NEW, "heron5", ("heron", "another")), (1, 0));
    assert_eq!(lasting(NEW, "anna5", "anna").1, (0, 0));
    sees.ping();
}

/// How long clients waited at once is printed with `--nocapture`, and recorded in `docs/performance.md`.
#[test]
fn ten_thousand_lines_are_read_anew_while_messages_flow() {
    let place = Place::new("large");
    // Nobody shares a rule: each of a hundred sessions has ten thousand of its own.
    let rules = |first: usize| {
        let topics = (first..first + 9_998).map(|n| format!("topic read far/away/{n}"));
        topics.chain(["pattern readwrite own/%c/#".into(), "topic read end".into()]).collect::<Vec<_>>().join("\n")
    };
    let access = place.write("rules", &rules(0));
    let broker = BrokerProcess::start(&["--access-file", &access]);
    let mut clients: Vec<_> = (0..100).map(|n| Wire::connect(broker.address(), NEW, &format!("c{n}"))).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("own/c{n}/#"), 0);
        client.subscribe("far/away/0", 0);
    }
    place.write("rules", &rules(1));
    broker.signal(Signal::HUP);
    let [talker, others @ ..] = &mut clients[..] else { panic!() };
    let (mut rounds, mut longest) = (0, std::time::Duration::ZERO);
    let mut line = None;
    while line.is_none() {
        let begun = std::time::Instant::now();
        talker.publish("own/c0/now", b"");
        assert_eq!(talker.expect_publish("own/c0/now"), b"");
        (rounds, longest) = (rounds + 1, longest.max(begun.elapsed()));
        line = broker.log_line_now("new users and rules hold for everybody");
    }
    println!("{rounds} round trips, the longest {longest:?}; {}", line.unwrap());
    assert!(rounds >= 10, "{rounds}");
    for client in others {
        assert_eq!(client.ask_for("far/away/0", 0), 0x87);
        assert_eq!(client.ask_for("far/away/9998", 0), 0);
    }
}
