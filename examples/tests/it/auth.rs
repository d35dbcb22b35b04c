//! Who may connect: password files, anonymous clients, and the patience for those who fail.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::{BrokerProcess, Place, Wire, frame, run_broker};

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
