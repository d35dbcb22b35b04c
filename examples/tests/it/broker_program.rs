//! The `broker` program: how it starts, what it says, how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::support::{BrokerProcess, LIMIT, Wire};

/// Runs the program, which must end by itself.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("still running: {arguments:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "nothing but errors: {output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn signals_end_it_with_disconnect_and_status_0() {
    for signal in [Signal::INT, Signal::TERM] {
        let broker = BrokerProcess::start(&[]);
        let new = Wire::connect(broker.address(), 5, "new");
        let old = Wire::connect(broker.address(), 4, "old");
        let silent = Wire::open(broker.address());
        let asked = Instant::now();

        broker.signal(signal);

        // Server shutting down.
        new.expect_disconnect(0x8B);
        old.expect_disconnect(0x8B);
        silent.expect_end();
        let (status, log) = broker.wait();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    }
}

#[test]
fn clients_that_never_close_do_not_keep_it_from_ending() {
    let broker = BrokerProcess::start(&[]);
    let _clients: Vec<_> = (0..10).map(|n| Wire::connect(broker.address(), 5, &format!("client-{n}"))).collect();
    let asked = Instant::now();
    broker.signal(Signal::TERM);
    let (status, _) = broker.wait();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn it_serves_and_ends_although_nobody_reads_its_log() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().trim_start_matches("listening on mqtt://").parse().unwrap();

    Wire::connect(address, 5, "one").ping();
    Wire::connect(address, 4, "two").ping();
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();

    let deadline = Instant::now() + LIMIT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("still running");
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_client_that_never_reads_does_not_keep_it_from_ending() {
    let broker = BrokerProcess::start(&["--max-transmit-bytes", "64M"]);
    let mut stalled = Wire::connect(broker.address(), 5, "stalled");
    stalled.subscribe("data", 0);
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");
    // 20 MiB, more than the sockets between take: bytes wait in the broker.
    for _ in 0..1_280 {
        publisher.publish("data", &[0; 16 * 1024]);
    }
    publisher.ping();
    let asked = Instant::now();

    broker.signal(Signal::TERM);

    let (status, _) = broker.wait();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn every_listener_is_a_way_in() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    let broker = BrokerProcess::spawn(command, 3);
    let [one, two, three] = broker.addresses() else { panic!("three addresses") };
    assert!(one != two && two != three && one != three);
    let mut subscribers = [Wire::connect(*one, 5, "one"), Wire::connect(*two, 4, "two")];
    for subscriber in &mut subscribers {
        subscriber.subscribe("greeting", 0);
    }

    Wire::connect(*three, 4, "three").publish("greeting", b"hello");

    for subscriber in &mut subscribers {
        assert_eq!(subscriber.expect_publish("greeting"), b"hello");
    }
}

#[test]
fn a_busy_port_is_named_and_what_to_do() {
    let broker = BrokerProcess::start(&[]);
    let address = broker.address().to_string();
    let text = error(&run(&["--listen", &address]));
    assert!(text.contains(&address) && text.contains("another program") && text.contains(":0"), "{text}");
}

#[test]
fn anonymous_clients_from_beyond_the_machine_need_permission() {
    let text = error(&run(&["--listen", "0.0.0.0:0"]));
    assert!(text.contains("--allow-anonymous") && text.contains("0.0.0.0:0"), "{text}");
    let text = error(&run(&["--listen", "127.0.0.1:0", "--listen", "[::]:0"]));
    assert!(text.contains("--allow-anonymous") && text.contains("[::]:0"), "{text}");
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    for (arguments, expected) in [
        (&["--listn", "127.0.0.1:0"][..], "--listen"),
        (&["--listen", "nowhere"], "such as 127.0.0.1:1883"),
        (&["--max-packet-size", "lots"], "--max-packet-size"),
        (&["--max-packet-size", "1T"], "a whole number of bytes"),
        (&["--max-packet-size", "1"], "--max-packet-size must be at least"),
        (&["--receive-maximum", "0"], "--receive-maximum must not be 0"),
        (&["--connect-timeout", "0"], "--connect-timeout must not be 0"),
        (&["--log-level", "loud"], "possible values"),
        (&["surprise"], "unexpected argument"),
    ] {
        let text = error(&run(arguments));
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn help_explains_itself() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["Examples:", "mqtt sub", "127.0.0.1:1883", "--allow-anonymous", "--demo", "--max-queued-messages"]
    {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
}

#[test]
fn the_demo_shows_every_message_and_what_to_type() {
    let mut broker = BrokerProcess::start(&["--demo"]);
    let port = broker.address().port();
    broker.line(&format!("mqtt -- sub -p {port} -t 'demo/#' -v"));
    for part in ["demo/welcome", "demo/lamp/state", "demo/kitchen/temperature", "demo/freezer/status"] {
        broker.line(part);
    }

    let mut client = Wire::connect(broker.address(), 5, "visitor");
    client.publish("demo/lamp/set", b"on");

    assert!(broker.line("demo/lamp/set").contains("on"));
    assert!(broker.line("demo/lamp/state").contains("on"));
    client.publish("demo/terminal", b"\x1b[2J");
    assert!(!broker.line("demo/terminal").contains('\x1b'), "control characters are escaped");
}
