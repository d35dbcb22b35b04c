//! Who may connect: password files, anonymous clients, and the patience for those who fail.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use base64::Engine as _;
use rustix::process::Signal;

use crate::support::{BrokerProcess, Place, Wire, eventually, frame, run_broker};

/// A broker with users that makes failed logins wait for as good as no time.
fn guarded(place: &Place, flags: &[&str]) -> BrokerProcess {
    let users = place.users(&[("heron", "rose bud"), ("anna", "p:w")]);
    BrokerProcess::start(&[&["--password-file", &users, "--max-failed-login-delay", "1ms"], flags].concat())
}

fn ask(address: SocketAddr, level: u8, user_name: Option<&str>, password: Option<&str>) -> u8 {
    Wire::open(address).ask(level, "client", user_name, password)
}

const OLD: u8 = 4;
const NEW: u8 = 5;

/// [MQTT-3.1.3-11] [MQTT-3.2.2-7] [MQTT3-3.2.2-5]
#[test]
fn right_and_wrong_credentials_are_answered_as_the_versions_say() {
    let place = Place::new("credentials");
    let broker = guarded(&place, &[]);
    let address = broker.address();
    for (user_name, password, of_old, of_new) in [
        (Some("heron"), Some("rose bud"), 0, 0),
        (Some("anna"), Some("p:w"), 0, 0),
        // The second time it is remembered that the password was right.
        (Some("heron"), Some("rose bud"), 0, 0),
        (Some("heron"), Some("p:w"), 4, 0x86),
        (Some("heron"), Some("rose bud "), 4, 0x86),
        (Some("heron"), Some(""), 4, 0x86),
        (Some("heron"), None, 4, 0x86),
        (Some("Heron"), Some("rose bud"), 4, 0x86),
        (Some(""), Some(""), 4, 0x86),
        (Some("nobody"), Some("rose bud"), 4, 0x86),
        (None, None, 5, 0x87),
    ] {
        assert_eq!(ask(address, OLD, user_name, password), of_old, "3.1.1: {user_name:?} {password:?}");
        assert_eq!(ask(address, NEW, user_name, password), of_new, "5.0: {user_name:?} {password:?}");
    }
    assert_eq!(ask(address, NEW, None, Some("rose bud")), 0x86, "a password without a name");
}

/// [MQTT-4.12.0-1]
#[test]
fn no_authentication_method_stands_in_for_a_password() {
    let place = Place::new("method");
    let broker = guarded(&place, &[]);
    let mut client = Wire::open(broker.address());
    // Authentication Method "X", User Name and Password of heron.
    let body = b"\0\x04MQTT\x05\xC2\0\0\x04\x15\0\x01X\0\x01c\0\x05heron\0\x08rose bud";
    client.send(&frame(0x10, body));
    assert_eq!(client.receive().1[1], 0x8C);
}

#[test]
fn who_says_no_name_is_let_in_only_where_that_is_allowed() {
    let place = Place::new("anonymous");
    for (flags, anonymous, wrong) in [
        (&[][..], [5, 0x87], [4, 0x86]),
        (&["--allow-anonymous"], [0, 0], [4, 0x86]),
        (&["--allow-anonymous=false"], [5, 0x87], [4, 0x86]),
    ] {
        let broker = guarded(&place, flags);
        let of = |user_name, password| [OLD, NEW].map(|level| ask(broker.address(), level, user_name, password));
        assert_eq!(of(None, None), anonymous, "{flags:?}");
        assert_eq!(of(Some("heron"), Some("wrong")), wrong, "{flags:?}");
        assert_eq!(of(Some("heron"), Some("rose bud")), [0, 0], "{flags:?}");
    }
    // Without users nobody is asked, and names mean nothing.
    let open = BrokerProcess::start(&[]);
    assert_eq!([OLD, NEW].map(|level| ask(open.address(), level, Some("heron"), Some("any"))), [0, 0]);
    let closed = BrokerProcess::start(&["--allow-anonymous=false"]);
    assert_eq!([OLD, NEW].map(|level| ask(closed.address(), level, Some("heron"), Some("any"))), [5, 0x87]);
}

#[test]
fn a_session_belongs_to_the_user_who_made_it() {
    let place = Place::new("principal");
    let broker = guarded(&place, &["--allow-anonymous"]);
    let mut heron = Wire::open(broker.address());
    assert_eq!(heron.ask(NEW, "shared id", Some("heron"), Some("rose bud")), 0);
    for (user_name, password) in [(Some("anna"), Some("p:w")), (None, None)] {
        let mut other = Wire::open(broker.address());
        assert_eq!(other.ask(NEW, "shared id", user_name, password), 0x87, "{user_name:?}");
    }
    heron.ping();
}

#[test]
fn a_broker_without_passwords_is_for_this_machine_until_it_has_users() {
    let place = Place::new("beyond");
    let refused = run_broker(&["--listen", "0.0.0.0:0"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && text.contains("--password-file"), "{text}");
    let users = place.users(&[("heron", "rose bud")]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "0.0.0.0:0", "--password-file", &users]);
    let broker = BrokerProcess::spawn(command, 1);
    let port = broker.address().port();
    assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port)), NEW, None, None), 0x87);
}

#[test]
fn a_password_file_that_is_wrong_keeps_the_broker_from_starting() {
    let place = Place::new("wrong-users");
    let path = place.write("users", "heron:rosebud\nanna\n");
    let output = run_broker(&["--listen", "127.0.0.1:0", "--password-file", &path]);
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true));
    let text = String::from_utf8(output.stderr).unwrap();
    let [one, two] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(one.contains("users:1: user heron: this is no hash") && two.contains("users:2: there is no ':'"), "{text}");
    assert!(!text.contains("rosebud"), "{text}");
}

/// A client from another address, whom nothing of what happens at 127.0.0.1 concerns.
fn ask_from_elsewhere(address: SocketAddr, level: u8, user_name: &str, password: &str) -> u8 {
    Wire::open_from(Ipv4Addr::new(127, 0, 0, 2), address).ask(level, "elsewhere", Some(user_name), Some(password))
}

/// A broker that lets failed logins wait for as good as for ever.
fn patient(place: &Place, flags: &[&str]) -> BrokerProcess {
    let users = place.users(&[("heron", "rose bud")]);
    let slow = ["--failed-login-delay", "1h", "--max-failed-login-delay", "1h", "--question-timeout", "1d"];
    BrokerProcess::start(&[&["--password-file", &users], &slow[..], flags].concat())
}

#[test]
fn failed_logins_wait_longer_and_longer_and_only_those_of_that_address() {
    let place = Place::new("patience");
    let broker = patient(&place, &[]);
    let mut failed = [OLD, NEW].map(|level| {
        let mut client = Wire::open(broker.address());
        client.send_credentials(level, "guesses", Some("heron"), Some("wrong"));
        client
    });
    let lines = [(); 2].map(|()| broker.log_line("a login failed"));
    assert!(lines[0].contains("failures=1 delay=3600s") && lines[0].contains("user=heron"), "{lines:?}");
    assert!(lines[1].contains("failures=2 delay=3600s"), "{lines:?}");
    for level in [OLD, NEW] {
        assert_eq!(ask_from_elsewhere(broker.address(), level, "heron", "rose bud"), 0);
        assert_eq!(ask(broker.address(), level, Some("heron"), Some("rose bud")), 0, "who knows the password comes in");
    }
    assert!(failed.iter_mut().all(|client| client.is_silent()), "still no answer");
}

#[test]
fn logins_of_one_address_have_a_limit_and_others_do_not_notice() {
    let place = Place::new("per-address");
    let broker = patient(&place, &["--max-logins-per-address", "3", "--max-logins-after-failure", "2"]);
    let fail = || {
        let mut client = Wire::open(broker.address());
        client.send_credentials(NEW, "guesses", Some("heron"), Some("wrong"));
        broker.log_line("a login failed");
        client
    };
    let one = fail();
    assert_eq!(ask(broker.address(), NEW, Some("heron"), Some("rose bud")), 0, "at the limit");
    let two = fail();
    assert!(one.is_silent() && two.is_silent());
    for (level, busy) in [(OLD, 3), (NEW, 0x89)] {
        assert_eq!(ask(broker.address(), level, Some("heron"), Some("rose bud")), busy, "one past it");
        assert_eq!(ask_from_elsewhere(broker.address(), level, "heron", "rose bud"), 0);
    }
    // Who does not wait for the answer is not forgotten sooner.
    drop((one, two));
    for _ in 0..3 {
        assert_eq!(ask(broker.address(), NEW, Some("heron"), Some("rose bud")), 0x89);
    }
}

#[test]
fn logins_beyond_the_queue_are_told_that_the_server_is_busy() {
    let place = Place::new("queue");
    // Ten million rounds take longer than this test.
    let slow = format!("slow:$7$10000000$c2FsdA==${}\n", base64::engine::general_purpose::STANDARD.encode([7; 64]));
    let users = place.users(&[("heron", "rose bud")]);
    place.write("users", &(place.read("users") + "\n" + &slow));
    let flags =
        ["--login-threads", "1", "--max-queued-logins", "1", "--question-timeout", "1d", "--log-level", "debug"];
    let broker = BrokerProcess::start(&[&["--password-file", &users], &flags[..]].concat());
    let mut occupies = Wire::open(broker.address());
    occupies.send_credentials(NEW, "slow", Some("slow"), Some("any"));
    let waits = one_that_waits(broker.address());
    for (level, busy) in [(OLD, 3), (NEW, 0x89)] {
        assert_eq!(ask(broker.address(), level, Some("heron"), Some("rose bud")), busy, "one past the limit");
    }
    assert!(occupies.is_silent() && waits.is_silent());
    // Who goes away makes room.
    drop(waits);
    assert!(one_that_waits(broker.address()).is_silent());
}

/// A login that waits in the queue, as one can tell when a later one was refused.
fn one_that_waits(address: SocketAddr) -> Wire {
    let mut clients: Vec<Wire> = Vec::new();
    let mut waits = None;
    eventually("one waits and another is refused", || {
        let mut client = Wire::open(address);
        client.send_credentials(NEW, &format!("client {}", clients.len()), Some("heron"), Some("rose bud"));
        clients.push(client);
        let silent = clients.iter().position(Wire::is_silent);
        let refused = clients.iter().rposition(|client| !client.is_silent());
        waits = silent.filter(|silent| refused.is_some_and(|refused| refused > *silent));
        waits.is_some()
    });
    clients.remove(waits.unwrap())
}

#[test]
fn nothing_secret_is_logged_or_recorded() {
    let place = Place::new("secrets");
    let recording = place.path("recording");
    let access = place.write("access", "user heron\ntopic a\n");
    let users = place.users(&[("heron", "rose bud")]);
    let hash = place.read("users").split('$').next_back().unwrap().to_owned();
    let broker = BrokerProcess::start(&[
        "--password-file",
        &users,
        "--access-file",
        &access,
        "--record",
        &recording,
        "--log-level",
        "trace",
        "--max-failed-login-delay",
        "1ms",
    ]);
    for level in [OLD, NEW] {
        assert_eq!(ask(broker.address(), level, Some("heron"), Some("rose bud")), 0);
        assert_ne!(ask(broker.address(), level, Some("heron"), Some("rosy-bud")), 0);
        // A password where the name belongs.
        assert_ne!(ask(broker.address(), level, Some("rose-bush"), None), 0);
    }
    place.write("users", "heron:rose-hip\n");
    broker.signal(Signal::HUP);
    let mut log = vec![broker.log_line("users:1: user heron: this is no hash")];
    log.extend(broker.end());
    let recorded = String::from_utf8_lossy(&fs::read(&recording).unwrap()).into_owned();
    let in_hexadecimal = |text: &str| text.bytes().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    for secret in ["rose bud", "rosy-bud", "rose-hip", &hash] {
        for secret in [secret.to_owned(), in_hexadecimal(secret)] {
            assert!(!log.iter().any(|line| line.contains(&secret)), "{secret}: {log:#?}");
            assert!(!recorded.to_lowercase().contains(&secret), "{secret}");
        }
    }
    assert!(!log.iter().any(|line| line.contains("rose-bush")), "{log:#?}");
    assert!(recorded.contains(&in_hexadecimal("heron")) || recorded.contains("heron"), "the names are there");
}
