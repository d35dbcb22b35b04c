//! Pictures show what the cores do, and those in the documentation are of today's cores.

use std::path::Path;
use std::process::Command;

use damselfly_broker::{Answer, Config, Output, Peer, Timestamp};
use damselfly_examples::diagram::{Exchange, Format, Shown, Topology, documentation};
use damselfly_sim::flight::{RecordedBroker, Tape};

fn packets(exchange: Exchange) -> Vec<String> {
    let sequence = exchange.play().unwrap();
    sequence.packets_in_words().map(|(from, to, words)| format!("{from} > {to}: {words}")).collect()
}

/// [MQTT-4.3.3-2] to [MQTT-4.3.3-12]: each of the two exchanges has its four packets in their order.
#[test]
fn the_exchange_of_qos_2_is_drawn_as_the_cores_have_it() {
    let packets = packets(Exchange::QoS2);
    let of = |one: &str, other: &str| -> Vec<_> {
        let is_between = |packet: &&String| packet.contains(&format!("{one} > {other}"));
        packets.iter().filter(is_between).map(|packet| packet.split(' ').nth(3).unwrap()).collect()
    };
    assert_eq!(of("sensor", "broker"), ["PUBLISH", "PUBREL"]);
    assert_eq!(of("broker", "sensor"), ["PUBREC", "PUBCOMP"]);
    assert_eq!(of("broker", "phone"), ["PUBLISH", "PUBREL"]);
    assert_eq!(of("phone", "broker"), ["PUBREC", "PUBCOMP"]);
}

#[test]
fn a_takeover_shows_who_is_sent_away_and_what_comes_again() {
    let packets = packets(Exchange::Takeover);
    let has = |words: &str| packets.iter().any(|packet| packet.contains(words));
    assert!(has("broker > phone, in the lift: DISCONNECT Session taken over (0x8E) (lost)"), "{packets:#?}");
    assert!(has("broker > phone, in the street: CONNACK Success (0x00), Session Present"), "{packets:#?}");
    assert!(has("broker > phone, in the street: PUBLISH home/hall/door QoS 1 id 1, DUP, 4 bytes"), "{packets:#?}");
}

#[test]
fn the_pictures_of_the_documentation_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
    for (name, text) in documentation().unwrap() {
        let kept = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(kept == text, "{name} is out of date: cargo run --bin diagram -- docs docs/pictures");
    }
}

/// What was recorded of a broker with one subscriber and one retained message, both named by whoever chose them.
fn recording() -> String {
    let (tape, memory) = Tape::in_memory();
    let mut broker = RecordedBroker::new(Config::default(), 7, tape).unwrap();
    let now = Timestamp::from_secs(1);
    let connection = broker.handle_connection(now, Peer::default()).unwrap();
    let input = [
        &b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03<a>"[..],
        b"\x82\x0a\x00\x01\x00\x05a/+/c\x02",
        b"\x31\x0b\x00\x07a/&\"b/cx!",
    ];
    for bytes in input {
        let mut consumed = 0;
        while consumed < bytes.len() {
            consumed += broker.handle_input(now, connection, &bytes[consumed..]).consumed;
            while let Some(output) = broker.poll_output() {
                match output {
                    Output::Ask { id, .. } => broker.handle_answer(now, id, Answer::allow()),
                    Output::Commit(id) => broker.handle_committed(now, id),
                    _ => {}
                }
            }
        }
    }
    drop(broker);
    memory.text()
}

#[test]
fn a_topology_is_read_from_a_recording_and_what_peers_chose_stays_text() {
    let topology = Topology::of_recording(&recording()).unwrap();
    let svg = topology.draw(Format::Svg, Shown::default());
    assert!(svg.contains("&lt;a&gt; (3.1.1)") && svg.contains(">a/+/c<") && svg.contains("&amp;&quot;b"), "{svg}");
    assert!(!svg.contains("<a>"), "{svg}");
    let mermaid = topology.draw(Format::Mermaid, Shown::default());
    assert!(mermaid.contains("#60;a#62;") && mermaid.contains("|QoS 2|"), "{mermaid}");
}

#[test]
fn a_picture_shows_as_many_as_asked_for_and_says_how_many_are_left_out() {
    let client = |id: usize| format!(r#"{{"client": "client {id}", "connected": true}}"#);
    let clients: Vec<_> = (0..5).map(client).collect();
    let text = format!(r#"{{"clients": [{}], "topics": ["a/b", "a/c"]}}"#, clients.join(","));
    let topology = Topology::from_json(&text).unwrap();
    let svg = |max_clients, max_topics| topology.draw(Format::Svg, Shown { max_clients, max_topics });
    let whole = svg(5, 3);
    assert!(whole.contains("client 4") && !whole.contains("more"), "{whole}");
    let cut = svg(4, 2);
    assert!(
        cut.contains("and 1 more clients") && cut.contains("and 1 more levels") && !cut.contains("client 4"),
        "{cut}"
    );
}

#[test]
fn the_program_says_what_is_wrong_and_what_would_be_right() {
    for (arguments, expected) in [
        (&["exchange", "qos3"][..], "it must be one of qos1, qos2, takeover, will"),
        (&["topology", "--json", "/nowhere/at.all"], "/nowhere/at.all: "),
        (&["topology", "--broker", "127.0.0.1:1"], "Is a broker listening there?"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_diagram")).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{arguments:?}: {text}");
    }
}
