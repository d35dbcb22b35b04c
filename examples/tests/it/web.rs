//! The web server, from its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use damselfly_examples::web::{File, Limits, Server, Site};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

const FILES: &[File] = &[
    File { path: "/index.html", media_type: "text/html; charset=utf-8", body: "<!DOCTYPE html><title>a page</title>" },
    File { path: "/app.js", media_type: "text/javascript; charset=utf-8", body: "'use strict';" },
];
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs as long as this lives.
struct Web {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Web {
    fn start(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let server = runtime.block_on(async { Server::bind(0, limits) }).unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let site = Site::new(FILES, "ws://127.0.0.1:8083/mqtt").unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = server.serve(site) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What comes back until the server closes.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address))
    }
}

fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8(bytes).unwrap()
}

/// One whole answer of a connection that stays open.
fn answer(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end.as_bytes()) {
        stream.read_exact(&mut byte).unwrap();
        bytes.extend(byte);
    }
    String::from_utf8(bytes).unwrap()
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

#[test]
fn files_come_with_their_type_and_a_policy_that_lets_nothing_else_in() {
    let web = Web::start(|_| {});
    for (path, media_type, body) in [
        ("/", "text/html; charset=utf-8", "<title>a page</title>"),
        ("/app.js", "text/javascript; charset=utf-8", "'use strict';"),
        ("/config.json", "application/json", r#"{"websocket":"ws://127.0.0.1:8083/mqtt"}"#),
    ] {
        let answer = web.get(path);
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains(&format!("content-type: {media_type}\r\n")), "{answer}");
        assert!(answer.ends_with(body), "{answer}");
        for header in [
            "cache-control: no-store\r\n",
            "x-content-type-options: nosniff\r\n",
            "content-security-policy: default-src 'none'; script-src 'self';",
            "connect-src 'self' ws://127.0.0.1:8083;",
        ] {
            assert!(answer.contains(header), "{header} in {answer}");
        }
    }
}

#[test]
fn only_get_and_head_of_known_files_are_answered() {
    let web = Web::start(|_| {});
    let host = web.address;
    let head = web.ask(&format!("HEAD /app.js HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert!(head.contains("content-length: 13\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = web.ask(&format!("{method} / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(status(&answer), "405", "{answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    for path in ["/app", "/app.js/", "//app.js", "/../app.js", "/%61pp.js", "/etc/passwd"] {
        assert_eq!(status(&web.get(path)), "404", "{path}");
    }
}

#[test]
fn only_a_name_of_this_machine_is_answered() {
    let web = Web::start(|_| {});
    let with = |hosts: &str| web.ask(&format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n"));
    for host in ["127.0.0.1", "127.0.0.1:80", "localhost", "LocalHost:8080", "[::1]", "[::1]:8080"] {
        assert_eq!(status(&with(&format!("Host: {host}\r\n"))), "200", "{host}");
    }
    for hosts in [
        "",
        "Host: \r\n",
        "Host: evil.example\r\n",
        "Host: evil.example:8080\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: localhost@evil.example\r\n",
        "Host: 127.0.0.1:x\r\n",
        "Host: localhost:\r\n",
        "Host: 127.0.0.1\r\nHost: evil.example\r\n",
    ] {
        assert_eq!(status(&with(hosts)), "403", "{hosts:?}");
    }
    let absolute = web.ask("GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&absolute), "403", "{absolute}");
}

#[test]
fn whoever_does_not_finish_a_head_is_left() {
    let web = Web::start(|limits| limits.head_time = Duration::from_millis(200));
    let mut silent = web.connect();
    let mut slow = web.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: 127").unwrap();
    let mut idle = web.connect();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let first = answer(&mut idle, "</title>");
    let since = Instant::now();
    let (silent, slow, idle) = (rest(&mut silent), rest(&mut slow), rest(&mut idle));
    assert!(since.elapsed() < PATIENCE);
    assert_eq!(status(&first), "200");
    assert!(!silent.contains("200 OK") && !slow.contains("200 OK") && idle.is_empty(), "{silent}{slow}{idle}");
}

#[test]
fn a_head_beyond_its_limits_is_refused() {
    let web = Web::start(|limits| {
        limits.head_bytes = 8192;
        limits.headers = 5;
    });
    let with = |more: &str| web.ask(&format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{more}\r\n"));
    assert_eq!(status(&with("A: 1\r\nB: 1\r\nC: 1\r\n")), "200");
    assert_eq!(status(&with("A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n")), "431");
    assert_eq!(status(&with(&format!("A: {}\r\n", "a".repeat(7000)))), "200");
    let long = with(&format!("A: {}\r\n", "a".repeat(20_000)));
    assert!(["431", "none"].contains(&status(&long)), "{long}");
}

#[test]
fn one_connection_more_waits_until_another_ends() {
    let web = Web::start(|limits| limits.connections = 2);
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held: Vec<_> = (0..2).map(|_| web.connect()).collect();
    for stream in &mut held {
        stream.write_all(request).unwrap();
        assert_eq!(status(&answer(stream, "</title>")), "200");
    }
    let mut third = web.connect();
    third.write_all(request).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let refused = third.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    held.pop();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(status(&answer(&mut third, "</title>")), "200");
}

#[test]
fn a_connection_ends_however_busy_it_is() {
    let web = Web::start(|limits| limits.life = Duration::from_millis(300));
    let mut stream = web.connect();
    let since = Instant::now();
    while stream.write_all(b"GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok() {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(_) => assert!(since.elapsed() < PATIENCE, "it goes on for ever"),
        }
    }
    assert!(since.elapsed() >= Duration::from_millis(300));
}

#[test]
fn an_address_cannot_widen_the_policy() {
    assert!(Site::new(FILES, "ws://127.0.0.1:1/mqtt").is_some());
    for address in ["ws://x; script-src *", "ws://x *", "ws://x'", "ws://x\r\nA: 1"] {
        assert!(Site::new(FILES, address).is_none(), "{address}");
    }
}
