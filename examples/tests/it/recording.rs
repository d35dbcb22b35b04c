//! The flight recorder in the programs: what was recorded over sockets plays to the same outputs.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use damselfly_sim::flight::{Ending, Recording};

use crate::support::{BrokerProcess, Running, Wire, run_broker};

/// A place for a recording, removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("damselfly-{}-{name}.flight", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Plays it: nothing differs.
    fn replay(&self) -> (String, damselfly_sim::flight::Replay) {
        let text = fs::read_to_string(&self.0).unwrap();
        let replay = text.parse::<Recording>().unwrap().replay().unwrap();
        assert!(replay.differences.is_empty(), "{}\n{text}", replay.differences[0]);
        (text, replay)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may not be there.
        let _ = fs::remove_file(&self.0);
    }
}

fn mqtt(broker: &BrokerProcess, command: &str, line: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    let address = broker.address();
    program.args([command, "-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(line);
    program
}

fn publish(broker: &BrokerProcess, line: &[&str]) -> Output {
    mqtt(broker, "pub", line).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn recordings_of_broker_and_clients_over_sockets_play_to_the_same_outputs_without_their_passwords() {
    let places = ["broker", "sub", "pub"].map(Place::new);
    let [of_broker, of_reader, of_writer] = &places;
    let broker = BrokerProcess::start(&["--record", of_broker.path(), "--refused-topics", "no/#"]);
    let mut subscriber = Running::spawn(mqtt(
        &broker,
        "sub",
        &["-t", "large/#", "-q", "2", "-C", "6", "-u", "heron", "-P", "rose-bud", "--record", of_reader.path(), "-d"],
    ));
    subscriber.wait_for_log("Subscribed");
    // Large enough for a buffer of its own, in the broker and in several reads of the client.
    let payload = "x".repeat(100_000);
    for qos in ["0", "1", "2"] {
        let output = publish(
            &broker,
            &[
                "-t",
                "large/one",
                "-m",
                &payload,
                "-q",
                qos,
                "-u",
                "heron",
                "-P",
                "rose-bud",
                "--record",
                of_writer.path(),
            ],
        );
        assert!(output.status.success(), "{output:?}");
    }
    let refused = publish(&broker, &["-t", "no/one", "-m", "x", "-q", "1"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let lines = publish(&broker, &["-t", "large/two", "-m", "y", "--repeat", "3", "-q", "1", "-V", "mqttv311"]);
    assert!(lines.status.success(), "{lines:?}");
    for expected in [&payload[..], &payload, &payload, "y", "y", "y"] {
        assert_eq!(subscriber.line(), expected);
    }
    let (status, _) = subscriber.end();
    assert!(status.success());
    Wire::connect(broker.address(), 4, "raw").ping();
    broker.end();

    for (place, core) in places.iter().zip(["broker", "client", "client"]) {
        let (text, replay) = place.replay();
        assert!(text.contains(&format!("\ncore {core}\n")) && text.contains("heron"), "{text}");
        assert!(!text.contains("rose"), "{text}");
        assert_eq!(replay.ending, Ending::Complete, "{core}");
        assert_eq!((replay.broker().is_some(), replay.client().is_some()), (core == "broker", core == "client"));
    }
    let (text, replay) = of_broker.replay();
    assert_eq!(text.matches("said Event.Connected").count(), 7);
    assert_eq!(replay.broker().unwrap().connections_len(), 0);
    assert!(text.contains(" frame "), "large frames are among it");
}

#[test]
fn recording_of_a_broker_that_is_killed_plays_as_far_as_it_goes() {
    let place = Place::new("killed");
    let broker = BrokerProcess::start(&["--record", place.path(), "--demo"]);
    let wire = Wire::connect(broker.address(), 5, "raw");
    // Dropped, it is killed.
    drop(broker);
    drop(wire);
    let (text, replay) = place.replay();
    assert!(text.contains("said Event.Connected") && text.contains(" open-local "), "{text}");
    assert!(matches!(replay.ending, Ending::Cut { .. }), "{:?}", replay.ending);
    assert_eq!(replay.broker().unwrap().connections_len(), 1);
}

#[test]
fn place_where_nothing_can_be_recorded_is_named() {
    let output = run_broker(&["--listen", "127.0.0.1:0", "--record", "/nowhere/a.flight"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("broker: --record /nowhere/a.flight: ") && text.lines().count() == 1, "{text}");

    let broker = BrokerProcess::start(&[]);
    let output = publish(&broker, &["-t", "t", "-n", "--record", "/nowhere/a.flight"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("mqtt: --record /nowhere/a.flight: "), "{output:?}");
    let output = mqtt(&broker, "bench", &["--record", "/nowhere/a.flight"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--record is for one client"), "{output:?}");
}
