//! The `broker` program: how it starts, what it says, how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use damselfly_examples::raise_descriptor_limit;
use rustix::process::{Pid, Signal};

use crate::support::{BrokerProcess, LIMIT, Wire, eventually, run_broker};

/// The one line with which the program ends: with status 2 if the command line is wrong, with 1 if what it asks for cannot
/// be done.
fn error(status: i32, arguments: &[&str]) -> String {
    let output = run_broker(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty(), "nothing but errors: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("broker: ") && text.lines().count() == 1, "{arguments:?}: {text}");
    text
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
    let text = error(1, &["--listen", &address]);
    assert!(text.contains(&address) && text.contains("another program") && text.contains(":0"), "{text}");
}

#[test]
fn anonymous_clients_from_beyond_the_machine_need_permission() {
    let text = error(2, &["--listen", "0.0.0.0:0"]);
    assert!(text.contains("--allow-anonymous") && text.contains("0.0.0.0:0"), "{text}");
    let text = error(2, &["--listen", "127.0.0.1:0", "--listen", "[::]:0"]);
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
        (&["--max-transmit-bytes", "4G"], "less than 4G"),
        (&["--max-topic-levels", "129"], "--max-topic-levels must be at most 128"),
        (&["--connect-timeout", "soon"], "a number of seconds"),
        (&["--listen", "[::1]"], "the port is missing"),
        (&["--listen", "nohost.invalid:1883"], "an address of this machine"),
        (&["--listen", "127.0.0.1:99999"], "a port from 0 to 65535"),
        (&["-p", "1883"], "--listen 127.0.0.1:PORT"),
        (&["-c", "mosquitto.conf"], "--config FILE"),
        (&["--log-level", "loud"], "one of off, error, warn"),
        (&["surprise"], "unrecognized subcommand"),
        (&["--retain-available=maybe"], "true or false"),
        (&["--refused-filters", "a/#/b"], "must be Topic Filters"),
        (&["check"], "FILE"),
    ] {
        let text = error(2, arguments);
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn an_address_of_another_machine_is_explained() {
    // TEST-NET-1: nobody has it.
    let text = error(1, &["--listen", "192.0.2.1:1883", "--allow-anonymous"]);
    assert!(text.contains("does not have the address 192.0.2.1"), "{text}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let broker = BrokerProcess::start(&[]);
    let client = Wire::connect(broker.address(), 5, "stays");
    let _stays_too = Wire::connect(broker.address(), 5, "never-closes");
    broker.signal(Signal::INT);
    client.expect_shutdown();
    broker.signal(Signal::INT);
    let (status, _) = broker.wait();
    assert_eq!(status.code(), Some(130), "it did not wait for its clients");
}

#[test]
fn thousands_of_clients_that_never_read_do_not_keep_it_from_ending() {
    raise_descriptor_limit();
    let broker = BrokerProcess::start(&["--log-level", "warn"]);
    let clients: Vec<_> = (0..3_000)
        .map(|n| {
            let mut client = Wire::connect(broker.address(), 5, &format!("client-{n}"));
            client.subscribe("data", 0);
            client
        })
        .collect();
    let mut publisher = Wire::connect(broker.address(), 4, "publisher");
    for _ in 0..50 {
        publisher.publish("data", &[0; 4 * 1024]);
    }
    publisher.ping();
    let asked = Instant::now();
    broker.signal(Signal::TERM);
    let (status, _) = broker.wait();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    drop(clients);
}

#[test]
fn a_log_that_is_not_read_does_not_hold_up_the_broker() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.args(["--listen", "127.0.0.1:0", "--demo", "--log-level", "debug"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().trim_start_matches("listening on mqtt://").parse().unwrap();
    let mut client = Wire::connect(address, 5, "chatty");
    // Each filter is logged, and each message is printed: more than the pipes and the room for lines take.
    for n in 0..200 {
        client.subscribe(&format!("{n}/{}", "x".repeat(20_000)), 0);
    }
    for _ in 0..30_000 {
        client.publish("console", &[b'x'; 90]);
    }
    client.ping();

    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    client.expect_shutdown();
    let mut status = None;
    eventually("the broker ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn help_explains_itself() {
    let output = run_broker(&["--help"]);
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
