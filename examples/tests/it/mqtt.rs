//! The subcommands of `mqtt` against our broker, and against nobody.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;

use crate::support::{BrokerProcess, Running, eventually};

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

fn mqtt(line: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mqtt")).args(line).stdin(Stdio::null()).output().unwrap()
}

/// Publishes and expects success.
fn publish(broker: &BrokerProcess, line: &[&str]) {
    let output = mqtt(&with_address(broker, "pub", line).iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
}

fn with_address(broker: &BrokerProcess, command: &str, line: &[&str]) -> Vec<String> {
    let address = broker.address();
    let head = [command, "-h", &address.ip().to_string(), "-p", &address.port().to_string()].map(str::to_owned);
    head.into_iter().chain(line.iter().map(|word| (*word).to_owned())).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `mqtt` in the background, killed when dropped.
fn start(broker: &BrokerProcess, command: &str, line: &[&str]) -> Running {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    program.args(with_address(broker, command, line));
    Running::spawn(program)
}

/// `mqtt sub`, its SUBACK received: its log says so.
fn subscribed(broker: &BrokerProcess, line: &[&str]) -> Running {
    let mut running = start(broker, "sub", &[line, &["-d"]].concat());
    running.wait_for_log("Subscribed");
    running
}

#[test]
fn help_explains_the_commands_and_the_exit_status() {
    let output = mqtt(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    for word in ["pub", "sub", "rr", "bench", "conformance", "Exit status"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn before_a_subcommand_the_short_flag_asks_for_help() {
    let output = mqtt(&["-h"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Exit status"));
}

#[test]
fn wrong_flag_is_named_and_the_status_is_2() {
    let output = mqtt(&["pub", "-t", "a", "-m", "x", "--reatin"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--retain"), "{}", stderr(&output));
}

#[test]
fn refused_connection_says_where_and_what_to_check() {
    // A port that was free a moment ago, so that nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    for (command, is_quiet) in [(&["pub", "-m", "x"][..], false), (&["sub"], false), (&["sub", "--quiet"], true)] {
        let line = [command, &["-h", "127.0.0.1", "-p", &port, "-t", "a"]].concat();
        let output = mqtt(&line);
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        if is_quiet {
            assert_eq!(text, "");
        } else {
            assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("--port"), "{text}");
        }
    }
}

#[test]
fn missing_file_is_named_before_anything_is_connected() {
    let output = mqtt(&["pub", "-t", "a", "-f", "no/such/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no/such/file"));
}

#[test]
fn messages_arrive_at_each_qos_in_each_version() {
    let broker = BrokerProcess::start(&[]);
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let format = "%t %p q%q r%r l%l";
            let sub = subscribed(&broker, &["-V", version, "-q", qos, "-t", "a/+", "-F", format, "-C", "3"]);
            for payload in ["one", "two", "three"] {
                publish(&broker, &["-V", version, "-q", qos, "-t", "a/b", "-m", payload]);
            }
            for (payload, len) in [("one", 3), ("two", 3), ("three", 5)] {
                assert_eq!(sub.line(), format!("a/b {payload} q{qos} r0 l{len}"));
            }
            let (status, text) = sub.end();
            assert!(status.success(), "{text}");
        }
    }
    broker.end();
}

#[test]
fn retained_message_is_shown_and_deleted() {
    let broker = BrokerProcess::start(&[]);
    publish(&broker, &["-t", "r/1", "-m", "kept", "-r", "-q", "1"]);
    let sub = start(&broker, "sub", &["-t", "r/#", "-v", "-C", "1", "--remove-retained"]);
    assert_eq!(sub.line(), "r/1 kept");
    assert!(sub.end().0.success());
    publish(&broker, &["-t", "r/2", "-m", "last", "-r"]);
    let sub = start(&broker, "sub", &["-t", "r/#", "-v", "-C", "1"]);
    assert_eq!(sub.line(), "r/2 last", "r/1 is gone");
    broker.end();
}

#[test]
fn filtered_out_and_retained_messages_are_not_shown() {
    let broker = BrokerProcess::start(&[]);
    publish(&broker, &["-t", "a/old", "-m", "old", "-r"]);
    let sub = start(&broker, "sub", &["-t", "a/#", "-T", "a/x", "-F", "%p"]);
    assert_eq!(sub.line(), "old");
    publish(&broker, &["-t", "a/x", "-m", "hidden"]);
    publish(&broker, &["-t", "a/y", "-m", "shown"]);
    assert_eq!(sub.line(), "shown");
    drop(sub);
    let sub = subscribed(&broker, &["-t", "a/#", "-R", "-C", "1"]);
    publish(&broker, &["-t", "a/z", "-m", "new"]);
    assert_eq!(sub.line(), "new", "the retained one is older than the subscription");
    broker.end();
}

#[test]
fn each_line_of_stdin_is_a_message() {
    let broker = BrokerProcess::start(&[]);
    let sub = subscribed(&broker, &["-t", "lines", "-q", "1"]);
    let mut publisher = start(&broker, "pub", &["-t", "lines", "-l", "-q", "1"]);
    let mut stdin = publisher.stdin.take().unwrap();
    for number in 0..500 {
        writeln!(stdin, "line {number}").unwrap();
    }
    drop(stdin);
    for number in 0..500 {
        assert_eq!(sub.line(), format!("line {number}"));
    }
    let (status, text) = publisher.end();
    assert!(status.success(), "{text}");
    broker.end();
}

#[test]
fn file_and_stdin_are_messages_as_they_are() {
    let broker = BrokerProcess::start(&[]);
    let payload = "0123456789abcdef".repeat(16 * 1_024);
    let path = std::env::temp_dir().join(format!("damselfly-mqtt-{}", std::process::id()));
    std::fs::write(&path, &payload).unwrap();
    let sub = subscribed(&broker, &["-t", "file", "-q", "2", "-F", "%l %p"]);
    publish(&broker, &["-t", "file", "-f", path.to_str().unwrap(), "-q", "2"]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(sub.line(), format!("{} {payload}", payload.len()));

    let mut publisher = start(&broker, "pub", &["-t", "file", "-s"]);
    publisher.stdin.take().unwrap().write_all(b"a b").unwrap();
    assert_eq!(sub.line(), "3 a b");
    broker.end();
}

#[test]
fn properties_travel_in_5_0() {
    let broker = BrokerProcess::start(&[]);
    let id = ["-D", "subscribe", "subscription-identifier", "7"];
    let sub = subscribed(&broker, &[&["-t", "p", "-F", "%C|%R|%D|%P|%E"][..], &id].concat());
    let mut line = vec!["-t", "p", "-m", "x", "-D", "publish", "user-property", "k", "v"];
    for property in [["content-type", "text/plain"], ["response-topic", "re"], ["correlation-data", "42"]] {
        line.extend(["-D", "publish"]);
        line.extend(property);
    }
    publish(&broker, &line);
    assert_eq!(sub.line(), "text/plain|re|42|k:v|7");
    broker.end();
}

#[test]
fn will_of_a_killed_client_arrives_and_that_of_an_interrupted_one_does_not() {
    let broker = BrokerProcess::start(&[]);
    let watcher = subscribed(&broker, &["-t", "will/#", "-F", "%t %p"]);
    for (signal, name) in [(Signal::INT, "int"), (Signal::TERM, "term"), (Signal::KILL, "kill")] {
        let topic = format!("will/{name}");
        let client = subscribed(&broker, &["-t", "x", "--will-topic", &topic, "--will-payload", "died"]);
        client.signal(signal);
        let (status, text) = client.end();
        assert_eq!(status.success(), signal != Signal::KILL, "{name}: {text}");
    }
    assert_eq!(watcher.line(), "will/kill died");
    broker.end();
}

#[test]
fn refused_subscription_says_why_once_and_the_status_is_3() {
    let broker = BrokerProcess::start(&["--max-subscriptions", "0"]);
    let line = with_address(&broker, "sub", &["-t", "a"]);
    let output = mqtt(&line.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stderr(&output).matches("(0x97)").count(), 1, "{}", stderr(&output));
}

/// Where both came back they would take the session from each other for ever.
#[test]
fn client_whose_session_is_taken_over_ends() {
    let broker = BrokerProcess::start(&[]);
    let first = subscribed(&broker, &["-t", "a", "-i", "twin"]);
    let second = subscribed(&broker, &["-t", "a", "-i", "twin"]);
    assert_eq!(first.end().0.code(), Some(1));
    publish(&broker, &["-t", "a", "-m", "still here"]);
    assert_eq!(second.line(), "still here");
}

#[test]
fn session_keeps_messages_for_a_subscriber_that_is_away() {
    let broker = BrokerProcess::start(&[]);
    for version in VERSIONS {
        let id = format!("keeper-{version}");
        let session = ["-V", version, "-i", &id, "-c", "-q", "1", "-t", "s"];
        let first = start(&broker, "sub", &[&session[..], &["-E"]].concat());
        let (status, text) = first.end();
        assert!(status.success(), "{text}");
        for payload in ["1", "2", "3"] {
            publish(&broker, &["-V", version, "-t", "s", "-m", payload, "-q", "1"]);
        }
        let second = start(&broker, "sub", &[&session[..], &["-C", "3"]].concat());
        for payload in ["1", "2", "3"] {
            assert_eq!(second.line(), payload);
        }
        assert!(second.end().0.success());
        let third = start(&broker, "sub", &["-V", version, "-i", &id, "-c", "-U", "s"]);
        let (status, text) = third.end();
        assert!(status.success(), "{text}");
    }
    broker.end();
}

#[test]
fn timeout_has_a_status_of_its_own() {
    let broker = BrokerProcess::start(&[]);
    let (status, text) = start(&broker, "sub", &["-t", "nothing", "-W", "0.2"]).end();
    assert_eq!(status.code(), Some(27), "{text}");
    broker.end();
}

#[test]
fn closed_pipe_ends_quietly() {
    let broker = BrokerProcess::start(&[]);
    publish(&broker, &["-t", "ready/now", "-m", "ready", "-r"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_mqtt"))
        .args(with_address(&broker, "sub", &["-t", "ready/now", "-t", "more"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 6];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    publish(&broker, &["-t", "more", "-m", "unread"]);
    let mut status = None;
    eventually("mqtt ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(status.unwrap().success(), "{text}");
    assert_eq!(text, "");
    broker.end();
}

#[test]
fn mistakes_are_one_line_that_says_what_to_do() {
    for (line, expected) in [
        (&["pub", "-t", "a", "-m", "x", "--psk", "00"][..], "with certificates"),
        (&["sub", "-t", "a", "--tls-version=tlsv1.2"], "TLS 1.2 and 1.3"),
        (&["sub", "-t", "a", "-A", "127.0.0.1"], "leave it out"),
        (&["sub", "-t", "a", "-M", "5"], "receive-maximum"),
        (&["sub", "-t", "a", "-p", "0"], "--port"),
        (&["sub", "-t", "a", "--retained-onyl"], "'--retained-only'"),
        (&["-t", "a", "-m", "x"], "'mqtt pub'"),
        (&["publish"], "'pub'"),
        (&["pub", "-t", "a"], "--message <PAYLOAD>"),
    ] {
        let output = mqtt(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        let text = stderr(&output);
        assert!(text.contains(expected) && text.starts_with("mqtt: ") && text.lines().count() == 1, "{line:?}: {text}");
    }
}

#[test]
fn connecting_again_says_why() {
    let broker = BrokerProcess::start(&[]);
    publish(&broker, &["-t", "a", "-m", "ready", "-r"]);
    let mut sub = start(&broker, "sub", &["-t", "a"]);
    assert_eq!(sub.line(), "ready");
    broker.end();
    let mut said = BufReader::new(sub.stderr()).lines().map_while(Result::ok).take(5);
    assert!(said.any(|line| line.contains("refused (os error") && line.ends_with("; connecting again")));
}

#[test]
fn long_work_says_each_second_how_far_it_is() {
    let broker = BrokerProcess::start(&[]);
    let line = ["-t", "a", "-m", "x", "--repeat", "3", "--repeat-delay", "0.6", "--progress"];
    let (status, said) = start(&broker, "pub", &line).end();
    assert!(status.success(), "{said}");
    assert!(said.contains(" of 3 messages sent"), "{said}");
    // Nobody watches a pipe, so nothing is said into one.
    let (_, said) = start(&broker, "pub", &line[..8]).end();
    assert_eq!(said, "");
    broker.end();
}
