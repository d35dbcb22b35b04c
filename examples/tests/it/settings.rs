//! The broker's settings file: what is wrong with one, and what clients see of what it says.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use crate::support::{BrokerProcess, SettingsFile, Wire, run_broker, string};

/// CONNACK of a 5.0 client: Reason Code and the value of each property that is a number.
fn connack(address: SocketAddr, client_id: &str) -> (u8, Vec<(u8, u32)>) {
    let mut client = Wire::open(address);
    client.send_connect(5, client_id);
    let (first, body) = client.receive();
    assert_eq!(first, 0x20);
    let mut rest = &body[3..];
    let mut properties = Vec::new();
    while let [id, after @ ..] = rest {
        let len = match id {
            0x11 | 0x27 => 4,
            0x13 | 0x21 | 0x22 => 2,
            0x24 | 0x25 | 0x28..=0x2A => 1,
            _ => break,
        };
        properties.push((*id, after[..len].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))));
        rest = &after[len..];
    }
    (body[1], properties)
}

/// The Return Code for a 3.1.1 client with this Keep Alive.
fn return_code(address: SocketAddr, client_id: &str, keep_alive: u8) -> u8 {
    let mut client = Wire::open(address);
    client.send_connect_with_keep_alive(4, client_id, keep_alive);
    client.receive().1[1]
}

#[test]
fn clients_are_told_what_the_file_says_and_flags_win() {
    let file = SettingsFile::new(
        "told",
        "\
listen = ['127.0.0.1:0']
max_packet_size = 1003
receive_maximum = 3
topic_alias_maximum = 5
max_keep_alive = '1m'
max_session_expiry = 77
maximum_qos = 1
retain_available = false
wildcard_subscription_available = false
shared_subscription_available = false
subscription_ids_available = false
allow_empty_client_id = false
",
    );
    let told = |flags: &[&str]| {
        let broker = file.serve(flags, 1);
        let address = broker.address();
        assert_eq!(connack(address, "").0, 0x85, "no empty Client Identifier");
        assert_eq!([return_code(address, "old", 60), return_code(address, "old", 61)], [0, 2]);
        let (reason_code, mut properties) = connack(address, "new");
        assert_eq!(reason_code, 0);
        properties.sort_unstable();
        properties
    };
    let off = [(0x24, 1), (0x25, 0)];
    let unavailable = [(0x28, 0), (0x29, 0), (0x2A, 0)];
    let of_file = [&[(0x13, 60), (0x21, 3), (0x22, 5)][..], &off, &[(0x27, 1003)], &unavailable].concat();
    assert_eq!(told(&[]), of_file);
    let of_flags = [&[(0x13, 60), (0x21, 7), (0x22, 5), (0x24, 1), (0x27, 2048)][..], &unavailable].concat();
    assert_eq!(told(&["--receive-maximum", "7", "--max-packet-size=2K", "--retain-available"]), of_flags);
}

#[test]
fn sessions_end_at_the_ceiling_of_the_file() {
    let file = SettingsFile::new("ceiling", "listen = ['127.0.0.1:0']\nmax_session_expiry = 77\n");
    let broker = file.serve(&[], 1);
    let mut client = Wire::open(broker.address());
    // Session Expiry Interval 0xFFFFFFFF: never.
    let mut connect = b"\x10\x17\0\x04MQTT\x05\x02\0\0\x05\x11\xFF\xFF\xFF\xFF".to_vec();
    connect.extend(string("asks"));
    connect[1] = u8::try_from(connect.len() - 2).unwrap();
    client.send(&connect);
    let (_, body) = client.receive();
    assert!(body.windows(5).any(|property| property == [0x11, 0, 0, 0, 77]), "{body:02X?}");
}

#[test]
fn mistakes_are_explained_by_check_and_before_anything_is_opened() {
    let file = SettingsFile::new("wrong", "listn = []\n\nmax_inflight = 0\nmax_packet_size = \"lots\"\n");
    for arguments in [&["check", file.path()][..], &["--config", file.path()], &["--config", file.path(), "--demo"]] {
        let output = run_broker(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "no listener is announced: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let [one, two, three] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let expected = [
            "1: listn: there is no such key; the nearest is listen",
            "3: max_inflight must not be 0",
            "4: max_packet_size = \"lots\": it must be a size",
        ];
        for (line, expected) in [one, two, three].iter().zip(expected) {
            assert!(line.starts_with(&format!("broker: {}:{expected}", file.path())), "{line}");
        }
    }
}

#[test]
fn a_file_without_mistakes_is_checked_with_status_0_and_what_it_changes() {
    let file = SettingsFile::new("right", "max_inflight = 3\nlog_level = 'debug'\nmax_sessions = 1000000\n");
    let output = run_broker(&["check", file.path()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("no mistakes. Other than the defaults: log_level, max_inflight\n"), "{text}");
}

#[test]
fn what_is_no_file_or_no_text_is_told() {
    let output = run_broker(&["check", "/nowhere/broker.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("broker: /nowhere/broker.toml: the file cannot be read: "), "{text}");

    let file = SettingsFile::new("latin", "");
    fs::write(file.path(), b"# caf\xC3\xA9\n# caf\xE9\n").unwrap();
    let text = String::from_utf8(run_broker(&["--config", file.path()]).stderr).unwrap();
    assert!(text.contains(".toml:2: this line is not UTF-8"), "{text}");
}

#[test]
fn the_sample_is_printed_and_served() {
    let output = run_broker(&["sample"]);
    assert!(output.status.success());
    let file = SettingsFile::new("sample", &String::from_utf8(output.stdout).unwrap());
    assert_eq!(run_broker(&["check", file.path()]).status.code(), Some(0));
    let broker = file.serve(&["--listen", "127.0.0.1:0"], 1);
    Wire::connect(broker.address(), 5, "one").ping();
}

#[test]
fn an_address_in_the_file_that_cannot_be_had_is_told_with_its_line() {
    let busy = BrokerProcess::start(&[]);
    let file = SettingsFile::new("busy", &format!("\nlisten = ['{}']\n", busy.address()));
    assert_eq!(run_broker(&["check", file.path()]).status.code(), Some(0), "nothing is opened");
    let output = run_broker(&["--config", file.path()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(".toml:2: listen: another program"), "{text}");
}

#[test]
fn a_listener_refuses_connections_beyond_its_limit_and_the_others_do_not() {
    let listen = "[[listen]]\naddress = '127.0.0.1:0'\n";
    let file = SettingsFile::new("listeners", &format!("{listen}max_listener_connections = 3\n{listen}"));
    let broker = file.serve(&[], 2);
    let [few, many] = *broker.addresses() else { panic!("two addresses") };
    let mut open: Vec<_> = (0..3).map(|n| Wire::connect(few, 5, &format!("few-{n}"))).collect();

    // Those that say nothing are kept up to a number, and told if they ask; one more is not even heard.
    let mut silent: Vec<_> = (0..16).map(|_| Wire::open(few)).collect();
    Wire::open(few).expect_end();
    let mut last = silent.remove(15);
    last.send_connect(5, "last");
    // Quota exceeded.
    assert_eq!(last.receive().1.get(..2), Some(&[0, 0x97][..]));
    let _others: Vec<_> = (0..5).map(|n| Wire::connect(many, 4, &format!("many-{n}"))).collect();
    open[0].ping();
    let mut last = silent.remove(14);
    last.send_connect(4, "last");
    // Server unavailable.
    assert_eq!(last.receive(), (0x20, vec![0, 3]));

    drop((silent, last));
    open[0].ping();
    open.remove(0).send(&[0xE0, 0]);
    crate::support::eventually("there is room again", || connack(few, "next").0 == 0);
}

#[test]
fn the_flag_limits_each_listener() {
    let arguments = ["--listen", "127.0.0.1:0", "--max-listener-connections", "1"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    let broker = BrokerProcess::spawn(command, 2);
    for address in broker.addresses() {
        let _one = Wire::connect(*address, 5, &format!("{address}"));
        assert_eq!(connack(*address, "two").0, 0x97);
    }
}

#[test]
fn topics_and_filters_of_the_file_are_refused_in_both_versions() {
    let file = SettingsFile::new(
        "refused",
        "listen = ['127.0.0.1:0']\nrefused_topics = ['plant/+/set']\nrefused_filters = ['secret/#', 'plant/1']\n",
    );
    let broker = file.serve(&[], 1);
    let mut watch = Wire::connect(broker.address(), 4, "watch");
    watch.subscribe("plant/+/set", 0);
    watch.subscribe("plant/2", 0);

    let (mut new, mut old) = (Wire::connect(broker.address(), 5, "new"), Wire::connect(broker.address(), 4, "old"));
    let publish = |topic: &str, properties: &[u8]| {
        let mut packet = vec![0x32, 0];
        packet.extend(string(topic));
        packet.extend([0, 1]);
        packet.extend(properties);
        packet[1] = u8::try_from(packet.len() - 2).unwrap();
        packet
    };
    new.send(&publish("plant/1/set", &[0]));
    // Not authorized.
    assert_eq!(new.receive().1.get(..3), Some(&[0, 1, 0x87][..]));
    old.send(&publish("plant/1/set", &[]));
    assert_eq!(old.receive(), (0x40, vec![0, 1]), "3.1.1 has no word for it");
    new.publish("plant/1/set", b"unheard");
    new.publish("plant/2", b"heard");
    assert_eq!(watch.expect_publish("plant/2"), b"heard", "and nothing before");

    for (filter, is_refused) in
        [("secret/a", true), ("#", true), ("$share/g/plant/1", true), ("plant/#", true), ("plant/3", false)]
    {
        for (client, refusal) in [(&mut new, 0x87), (&mut old, 0x80)] {
            assert_eq!(client.ask_for(filter, 0), if is_refused { refusal } else { 0 }, "{filter}");
        }
    }
    let log = broker.end();
    assert!(log.iter().any(|line| line.contains("plant/1/set") && line.contains("dropped")), "{log:#?}");
}
