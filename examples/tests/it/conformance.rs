//! `mqtt conformance` against our broker, and against one that answers nothing but CONNECT.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use damselfly_broker::{Answer, Broker, Config, Event, Question, QuestionId};
use damselfly_examples::broker::{Driver, Host, Settings};
use damselfly_examples::scram;
use serde_json::Value;

use super::support::BrokerProcess;

fn conformance(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    command.args(["conformance", "--address", &address.to_string()]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs the cases, none of which may fail: the report, and why cases were skipped.
fn passed(address: SocketAddr, arguments: &[&str]) -> (String, Vec<String>) {
    let output = conformance(address, arguments);
    let report = text(&output.stdout).to_owned();
    assert_eq!(output.status.code(), Some(0), "{report}{}", text(&output.stderr));
    assert!(report.contains(" 0 failed, "), "{report}");
    let reasons = report.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(" skipped: "));
    let reasons = reasons.map(|(count, why)| (count.parse::<u32>().unwrap(), why.to_owned()));
    let reasons = reasons.inspect(|(count, _)| assert!(*count > 0, "{report}")).map(|(_, why)| why).collect();
    (report, reasons)
}

#[test]
fn our_broker_passes_every_case_over_loopback() {
    let broker = BrokerProcess::start(&[]);
    let (report, reasons) = passed(broker.address(), &[]);
    // It has everything; how the program authenticates is shown below.
    let others = ["qos1", "qos2", "retain", "wildcards", "shared", "subscription_ids", "alias", "session_expiry"];
    for why in &reasons {
        let is_about = why.strip_prefix("is about a broker without ").is_some_and(|word| others.contains(&word));
        assert!(is_about || why == "needs authentication" || why == "needs short_keep_alive", "{report}");
    }
    assert_eq!(reasons.len(), others.len() + 2, "{report}");
    broker.end();
}

#[test]
fn a_broker_that_lacks_everything_refuses_what_it_should_over_loopback() {
    let lacks_most = [
        "--maximum-qos=0",
        "--retain-available=false",
        "--wildcard-subscription-available=false",
        "--shared-subscription-available=false",
        "--subscription-ids-available=false",
        "--allow-empty-client-id=false",
        "--topic-alias-maximum=0",
        "--max-session-expiry=1800",
        "--max-packet-size=20000",
        "--max-keep-alive=40",
    ];
    let broker = BrokerProcess::start(&lacks_most);
    let (report, reasons) = passed(broker.address(), &[]);
    for why in &reasons {
        assert!(!why.starts_with("is about a broker without "), "{report}");
    }
    assert!(reasons.contains(&"needs retain".to_owned()), "{report}");
    broker.end();

    // What goes together with a feature that is there, and cases that no impatient broker passes.
    let broker =
        BrokerProcess::start(&["--maximum-qos=1", "--wildcard-subscription-available=false", "--max-keep-alive=2"]);
    let (report, reasons) = passed(broker.address(), &["--only", "limited/"]);
    assert!(!reasons.iter().any(|why| why == "needs short_keep_alive" || why.ends_with("qos2")), "{report}");
    broker.end();
}

/// Knows a user by SCRAM-SHA-256, and lets in everybody who names no method.
struct Knows(scram::Host);

impl Host for Knows {
    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        match question {
            Question::Connect { authentication: None, .. } => Some(Answer::allow()),
            question => self.0.answer(id, question),
        }
    }

    fn event(&mut self, event: &Event, address: Option<SocketAddr>) {
        self.0.event(event, address);
    }
}

#[test]
fn cases_of_enhanced_authentication_pass_with_scram_over_loopback() {
    let mut host = scram::Host::new().unwrap();
    host.set_user("user", scram::Credentials::new("pencil", b"a salt", scram::LEAST_ITERATIONS).unwrap());
    let broker = Broker::new(Config::default(), 42).unwrap();
    let mut driver = Driver::new(broker, Knows(host), Settings::default()).unwrap();
    let address = driver.listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let stop = driver.stop();
    let broker = thread::spawn(move || driver.run().map(drop));

    let credentials = ["--scram", "--user", "user", "--password", "pencil", "--only", "auth"];
    let (report, reasons) = passed(address, &credentials);
    assert!(!reasons.contains(&"needs authentication".to_owned()), "{report}");
    // Whoever knows another password fails the first case that wants to be let in.
    let wrong = ["--scram", "--user", "user", "--password", "crayon", "--only", "auth/several-steps"];
    let output = conformance(address, &wrong);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("came: CONNACK 87"), "{}", text(&output.stdout));

    stop.stop().unwrap();
    broker.join().unwrap().unwrap();
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
