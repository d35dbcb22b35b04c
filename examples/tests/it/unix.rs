//! Unix sockets, at the broker and with `mqtt`.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::{BrokerProcess, Place, Running, run_broker};

fn mqtt(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    command.args(arguments);
    command
}

#[test]
fn clients_come_over_a_unix_socket_which_is_removed_at_the_end() {
    let place = Place::new("unix");
    let path = place.path("broker.sock");
    let url = format!("unix://{path}");
    let broker = BrokerProcess::start_as(&["--listen", &url, "--listen", "127.0.0.1:0", "--log-level", "debug"], 2);
    let subscriber = Running::spawn(mqtt(&["sub", "--unix", &path, "-t", "t", "-q", "1", "-C", "1"]));
    broker.log_line("subscribed");
    assert!(mqtt(&["pub", "-L", &url, "-t", "t", "-m", "hello", "-q", "1"]).status().unwrap().success());
    assert_eq!(subscriber.line(), "hello");
    broker.end();
    assert!(!Path::new(&path).exists());
}

#[test]
fn the_socket_of_a_dead_broker_is_replaced_and_that_of_a_living_one_is_not() {
    let place = Place::new("unix-left");
    let path = place.path("broker.sock");
    let url = format!("unix:{path}");
    let dead = BrokerProcess::start_as(&["--listen", &url], 1);
    dead.signal(Signal::KILL);
    dead.wait();
    assert!(Path::new(&path).exists());
    let living = BrokerProcess::start_as(&["--listen", &url], 1);
    let refused = run_broker(&["--listen", &url]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("another program listens at") && error.contains(&path), "{error}");
    assert!(mqtt(&["pub", "-L", &url, "-t", "t", "-m", "m", "-q", "1"]).status().unwrap().success());
    living.end();

    let file = place.write("file", "precious");
    let refused = run_broker(&["--listen", &format!("unix:{file}")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is no socket"), "{refused:?}");
    assert_eq!(place.read("file"), "precious");
    // Somebody else's that is alive.
    let other = place.path("other.sock");
    let _other = UnixListener::bind(&other).unwrap();
    let refused = run_broker(&["--listen", &format!("unix:{other}")]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another program listens"), "{refused:?}");
}

#[test]
#[ignore = "needs Debian's mosquitto-clients: .ci/run interop"]
fn mosquitto_pub_comes_over_a_unix_socket() {
    let place = Place::new("unix-mosquitto");
    let path = place.path("broker.sock");
    let broker = BrokerProcess::start_as(&["--listen", &format!("unix:{path}")], 1);
    let mut command = Command::new("mosquitto_pub");
    assert!(command.args(["--unix", &path, "-t", "t", "-m", "m", "-q", "2"]).status().unwrap().success());
    broker.end();
}
