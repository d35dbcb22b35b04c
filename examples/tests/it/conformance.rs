//! `mqtt conformance` against our broker, and against one that answers nothing but CONNECT.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

use super::support::BrokerProcess;

fn conformance(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    command.args(["conformance", "--address", &address.to_string()]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn our_broker_passes_every_case_over_loopback() {
    let broker = BrokerProcess::start(&[]);
    let output = conformance(broker.address(), &[]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
    assert!(report.contains(" 0 failed, 0 skipped"), "{report}");
    broker.end();
}

/// Accepts every client of 5.0, without retained messages, and says nothing more.
fn careless_broker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(1..) = stream.read(&mut buffer) {
                    match buffer.first() {
                        Some(0x10) => stream.write_all(&[0x20, 5, 0, 0, 2, 0x25, 0]).unwrap(),
                        Some(0xE0) => return,
                        _ => {}
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_failed_case_is_reported_with_its_statement_and_what_came() {
    let address = careless_broker();
    let file = std::env::temp_dir().join(format!("conformance-{}.json", std::process::id()));
    let arguments = ["--only", "malformed/pingreq", "--version", "5.0", "--patience", "0.2", "--json"];
    let output = conformance(address, &[&arguments[..], &[file.to_str().unwrap()]].concat());
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{report}");
    assert!(report.contains("FAILED malformed/pingreq-with-body (5.0) [MQTT-3.12.2 MQTT-4.13.1-1]"), "{report}");
    assert!(report.contains("A PINGREQ has no body.") && report.contains(": C0 01 00"), "{report}");
    assert!(report.contains("expected: a closed 81\n  came: nothing"), "{report}");
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    let first = json.pointer("/runs/0").unwrap();
    assert_eq!(first.get("case"), Some(&"malformed/pingreq-with-body".into()));
    assert_eq!(first.get("outcome"), Some(&"failed".into()));
}

#[test]
fn what_a_broker_announces_not_to_have_is_skipped() {
    let output = conformance(careless_broker(), &["--only", "retained/handling", "--version", "5.0"]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
    assert!(report.contains("skipped retained/handling-2 (5.0): needs retain"), "{report}");

    let output = conformance(careless_broker(), &["--only", "takeover/by-the-other", "--version", "5.0"]);
    let report = text(&output.stdout);
    assert!(report.contains("skipped takeover/by-the-other-version (5.0): needs both_versions"), "{report}");
}

#[test]
fn without_a_broker_nothing_is_run() {
    // Nobody listens at an address that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = conformance(address, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("cannot connect") || text(&output.stderr).contains("refused"));
    assert_eq!(conformance(address, &["--only", "no such case"]).status.code(), Some(2));
    let listed = conformance(address, &["--list", "--only", "MQTT-3.8.3-4"]);
    assert_eq!(listed.status.code(), Some(0));
    let listed = text(&listed.stdout);
    assert!(listed.starts_with("shared/no-local (5.0)") && listed.contains("MQTT-3.8.3-4"), "{listed}");
}
