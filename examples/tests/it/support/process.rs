use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a test waits for anything before it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A broker in a process of its own, killed when dropped.
pub(crate) struct BrokerProcess {
    child: Child,
    addresses: Vec<SocketAddr>,
    output: Receiver<String>,
    log: Receiver<String>,
}

impl BrokerProcess {
    /// The `broker` program on a free port of the loopback address, with more `arguments`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command, 1)
    }

    /// The same with a second listener, over WebSocket.
    pub(crate) fn start_both(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.args(["--listen", "127.0.0.1:0", "--listen", "ws://127.0.0.1:0"]).args(arguments);
        Self::spawn(command, 2)
    }

    /// The same with at most `descriptors` file descriptors.
    pub(crate) fn start_with_descriptors(descriptors: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_broker")]);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command, 1)
    }

    /// The `broker` program with these arguments and no others, which name so many listeners.
    pub(crate) fn start_as(arguments: &[&str], listeners: usize) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.args(arguments);
        Self::spawn(command, listeners)
    }

    /// Any program that says `listening on mqtt://ADDRESS` or `ws://ADDRESS/mqtt`, once for each of its `listeners`.
    pub(crate) fn spawn(mut command: Command, listeners: usize) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        let mut broker = Self { child, addresses: Vec::new(), output, log };
        for _ in 0..listeners {
            let line = broker.line("listening on ");
            let (_, address) = line.split_once("://").unwrap();
            // A Unix socket has none.
            broker.addresses.extend(address.strip_suffix("/mqtt").unwrap_or(address).parse::<SocketAddr>());
        }
        broker
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where the listener over WebSocket is, if it was [started](Self::start_both).
    pub(crate) fn websocket(&self) -> SocketAddr {
        self.addresses[1]
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The next line on standard output with this text in it.
    pub(crate) fn line(&mut self, part: &str) -> String {
        let (line, seen) = next_line(&self.output, part);
        line.unwrap_or_else(|| {
            let log: Vec<_> = self.log.try_iter().collect();
            panic!("no line with {part:?} on standard output; there was {seen:#?}, and the log says {log:#?}")
        })
    }

    /// The next line of the log with this text in it; it and those before are not told at the [end](Self::end).
    pub(crate) fn log_line(&self, part: &str) -> String {
        let (line, seen) = next_line(&self.log, part);
        line.unwrap_or_else(|| panic!("no line with {part:?} in the log; there was {seen:#?}"))
    }

    /// The same if the line is there already.
    pub(crate) fn log_line_now(&self, part: &str) -> Option<String> {
        self.log.try_iter().find(|line| line.contains(part))
    }

    /// Asks the process to end.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until the process has ended; what it logged comes with its status.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let mut status = None;
        eventually("the broker ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), self.log.iter().collect())
    }

    /// Ends the process and returns what it logged.
    pub(crate) fn end(self) -> Vec<String> {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}: {log:#?}");
        log
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Fails if the process has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next line with this text in it, if one comes in time, and those before it.
fn next_line(lines: &Receiver<String>, part: &str) -> (Option<String>, Vec<String>) {
    let deadline = Instant::now() + LIMIT;
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if line.contains(part) {
            return (Some(line), seen);
        }
        seen.push(line);
    }
    (None, seen)
}

/// Runs the `broker` program, which must end by itself.
pub(crate) fn run_broker(arguments: &[&str]) -> Output {
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

/// Waits until `condition` holds, at most [`LIMIT`].
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads lines in a thread, so that a test can wait for one with a limit and the process never blocks on a full pipe.
fn lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
