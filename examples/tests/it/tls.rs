//! TLS at the broker: which certificates it shows and takes, and what it says of what is wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use damselfly_client::{Config, Event};
use damselfly_codec::QoS;
use damselfly_examples::client::{Client, ClientTls, Endpoint, Events, Options};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{
    Authority, BrokerProcess, Issued, LIMIT, Place, Terms, eventually, message, next_payload, outcome_of_subscribing,
    run, run_broker, subscribe,
};

/// What most tests need: a CA, files, and a broker with a certificate of it.
struct Home {
    ca: Authority,
    place: Place,
    /// The CA's certificate.
    root: String,
}

impl Home {
    fn new(name: &str) -> Self {
        let (ca, place) = (Authority::new("home"), Place::new(&format!("tls-{name}")));
        let root = place.write("ca.pem", &ca.root);
        ca.server().write(&place, "server");
        Self { ca, place, root }
    }

    /// A broker with listeners at these addresses, and more arguments.
    fn serve(&self, listeners: &[&str], more: &[&str]) -> BrokerProcess {
        let (certificate, key) = (self.place.path("server.pem"), self.place.path("server.key"));
        let mut arguments: Vec<&str> = listeners.iter().flat_map(|listener| ["--listen", listener]).collect();
        arguments.extend(["--certificate", &certificate, "--key", &key, "--log-level", "debug"]);
        arguments.extend(more);
        BrokerProcess::start_as(&arguments, listeners.len())
    }

    fn serve_mutual(&self, more: &[&str]) -> BrokerProcess {
        self.serve(&["mqtts://127.0.0.1:0"], &[&["--client-ca", &self.root], more].concat())
    }

    fn trusting(&self) -> ClientTls {
        ClientTls::trusting(&self.root)
    }

    /// The same with a certificate of the client's own.
    fn showing(&self, issued: &Issued, name: &str) -> ClientTls {
        let [certificate, key] = issued.write(&self.place, name);
        let mut tls = self.trusting();
        tls.certificate = Some((certificate.into(), key.into()));
        tls
    }
}

fn secure(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.ip().to_string(), address.port()).secure()
}

fn options(endpoint: Endpoint, client_id: &str, tls: ClientTls) -> Options {
    let mut options = Options::new(endpoint, Config::new(client_id));
    options.tls = tls;
    options
}

/// Connects: the client, or what is wrong.
async fn connect(endpoint: Endpoint, client_id: &str, tls: ClientTls) -> Result<(Client, Events), String> {
    let (client, mut events) = Client::connect(options(endpoint, client_id, tls));
    match events.next().await {
        Some(Event::Connected(_)) => Ok((client, events)),
        Some(Event::Disconnected(end)) => Err(format!("{end}: {:?}", client.last_transport_error())),
        other => panic!("{other:?}"),
    }
}

/// Connects and sends itself a message of this length.
async fn converse(endpoint: Endpoint, client_id: &str, tls: ClientTls, len: usize) {
    let (client, mut events) = connect(endpoint, client_id, tls).await.unwrap();
    subscribe(&client, "t", QoS::AtLeastOnce).await;
    let payload = "x".repeat(len);
    let _ = client.publish(message(&client, &payload, QoS::AtLeastOnce)).unwrap().await;
    assert!(next_payload(&mut events).await == payload, "{len} bytes come back");
}

/// The log has a warning of a handshake refused with this in it.
fn expect_warning(broker: &BrokerProcess, why: &str) {
    let line = broker.log_line("refused: no handshake of TLS");
    assert!(line.contains("WARN") && line.contains(why), "{why}: {line}");
}

/// A client of TLS that is not ours, so that it can be stopped anywhere.
fn foreign(home: &Home, address: SocketAddr, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&home.root).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream)
}

const CONNECT: &[u8] = b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01f";
const CONNACK: &[u8] = b"\x20\x02\0\0";

#[test]
fn packets_of_any_length_pass_with_and_without_websocket_by_either_version_of_ip() {
    let home = Home::new("pass");
    let listeners = ["mqtts://127.0.0.1:0", "wss://127.0.0.1:0", "mqtts://[::1]:0", "wss://[::1]:0"];
    let broker = home.serve(&listeners, &[]);
    run(async {
        for (n, address) in broker.addresses().iter().enumerate() {
            let mut endpoint = secure(*address);
            endpoint.websocket = (n % 2 == 1).then(|| "/mqtt".to_owned());
            for len in [0, 1, 16_300, 16_384, 32_768, 100_000, 3_000_000] {
                converse(endpoint.clone(), "any", home.trusting(), len).await;
            }
        }
    });
    broker.end();
}

#[test]
fn a_chain_leads_to_the_ca_over_an_intermediate() {
    let home = Home::new("chain");
    let below = home.ca.intermediate("below");
    below.server().write(&home.place, "server");
    let broker = home.serve_mutual(&[]);
    run(async {
        let tls = home.showing(&below.client("lamp", 2), "lamp");
        converse(secure(broker.address()), "lamp", tls, 1).await;
    });
    broker.end();
}

#[test]
fn a_key_of_another_certificate_is_told() {
    let home = Home::new("key");
    home.place.write("server.key", &home.ca.server().key);
    let (certificate, key) = (home.place.path("server.pem"), home.place.path("server.key"));
    let output = run_broker(&["--listen", "mqtts://127.0.0.1:0", "--certificate", &certificate, "--key", &key]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("server.key: this is not the key of the certificate in"), "{error}");
}

#[test]
fn clients_are_refused_for_what_is_wrong_with_their_certificates() {
    let home = Home::new("refused");
    let crl = home.place.write("crl.pem", &home.ca.revoke(&[66]));
    let other = Authority::new("other");
    let client = |years, serial| Terms { is_client: true, common_name: Some("c"), years, serial, ..Terms::default() };
    let cases = [
        (Some(home.ca.issue(&client(Some((2001, 2002)), 2))), "expired on 2002-01-01"),
        (Some(home.ca.issue(&client(Some((2090, 2091)), 3))), "not valid before 2090-01-01"),
        (Some(home.ca.client("gone", 66)), "revoked"),
        (Some(other.client("stranger", 4)), "signed by no CA that is trusted"),
        (Some(home.ca.server()), "may not be used for this side"),
        (None, "no certificate was shown"),
    ];
    for (issued, why) in &cases {
        // One each, because a warning is given once a minute.
        let broker = home.serve_mutual(&["--crl", &crl]);
        let tls = issued.as_ref().map_or_else(|| home.trusting(), |issued| home.showing(issued, "client"));
        run(async {
            let error = connect(secure(broker.address()), "c", tls).await.map(|_| ()).unwrap_err();
            assert!(error.contains("the other side"), "{why}: {error}");
        });
        expect_warning(&broker, why);
        run(async {
            converse(secure(broker.address()), "good", home.showing(&home.ca.client("good", 5), "good"), 1).await;
        });
        broker.end();
    }
}

#[test]
fn a_certificate_may_be_optional_and_may_say_who_a_client_is() {
    let home = Home::new("names");
    let rules = home.place.write("access", "user lamp\ntopic readwrite t\n");
    let users = home.place.users(&[("someone", "secret")]);
    let flags = ["--require-client-certificate=false", "--certificate-as-user-name", "--access-file", &rules];
    let broker = home.serve_mutual(&[&flags[..], &["--password-file", &users]].concat());
    run(async {
        let lamp = home.showing(&home.ca.client("lamp", 2), "lamp");
        converse(secure(broker.address()), "one", lamp, 1).await;
        let by_dns = home.ca.issue(&Terms { is_client: true, names: &["lamp"], serial: 3, ..Terms::default() });
        converse(secure(broker.address()), "two", home.showing(&by_dns, "dns"), 1).await;
        let plug = home.showing(&home.ca.client("plug", 4), "plug");
        let (client, _events) = connect(secure(broker.address()), "three", plug).await.unwrap();
        let outcome = outcome_of_subscribing(&client, "t", QoS::AtMostOnce).await;
        assert!(format!("{outcome:?}").contains("NotAuthorized"), "{outcome:?}");
        // Without one a password is asked for.
        let error = connect(secure(broker.address()), "four", home.trusting()).await.map(|_| ()).unwrap_err();
        assert!(error.contains("0x87") || error.to_lowercase().contains("not authorized"), "{error}");
    });
    broker.end();
}

#[test]
fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let home = Home::new("sni");
    let [one, one_key] =
        home.ca.issue(&Terms { names: &["one.example"], serial: 2, ..Terms::default() }).write(&home.place, "one");
    let [two, two_key] =
        home.ca.issue(&Terms { names: &["*.two.example"], serial: 3, ..Terms::default() }).write(&home.place, "two");
    let broker = home.serve(
        &["mqtts://127.0.0.1:0"],
        &["--certificate", &one, "--key", &one_key, "--certificate", &two, "--key", &two_key],
    );
    run(async {
        for name in ["localhost", "one.example", "a.two.example", "A.Two.Example"] {
            let mut tls = home.trusting();
            tls.name = Some(name.to_owned());
            converse(secure(broker.address()), "sni", tls, 1).await;
        }
    });
    broker.end();
}

#[test]
fn certificates_are_read_again_without_dropping_anybody() {
    let home = Home::new("reload");
    let broker = home.serve(&["mqtts://127.0.0.1:0"], &[]);
    let address = broker.address();
    run(async {
        let (standing, mut events) = connect(secure(address), "standing", home.trusting()).await.unwrap();
        subscribe(&standing, "t", QoS::AtLeastOnce).await;
        let before = foreign_certificate(&home, address);

        home.place.write("server.key", "no key");
        broker.signal(Signal::HUP);
        assert!(broker.log_line("the old certificates go on").contains("server.key"));
        assert_eq!(foreign_certificate(&home, address), before);

        home.ca
            .issue(&Terms { names: &["localhost", "127.0.0.1"], serial: 9, ..Terms::default() })
            .write(&home.place, "server");
        broker.signal(Signal::HUP);
        broker.log_line("certificates were read");
        assert_ne!(foreign_certificate(&home, address), before);
        let _ = standing.publish(message(&standing, "still here", QoS::AtLeastOnce)).unwrap().await;
        assert_eq!(next_payload(&mut events).await, "still here");
    });
    broker.end();
}

/// The certificate that the broker shows.
fn foreign_certificate(home: &Home, address: SocketAddr) -> Vec<u8> {
    let mut client = foreign(home, address, "localhost");
    client.write_all(CONNECT).unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    client.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_handshake_that_stalls_ends_at_the_time_to_connect() {
    let home = Home::new("stalled");
    let broker = home.serve(&["mqtts://127.0.0.1:0", "wss://127.0.0.1:0"], &["--connect-timeout", "300ms"]);
    for address in broker.addresses() {
        let mut silent = TcpStream::connect(address).unwrap();
        let mut half = TcpStream::connect(address).unwrap();
        half.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
        let mut open = foreign(&home, *address, "localhost");
        open.conn.complete_io(&mut open.sock).unwrap();
        for stream in [&mut silent, &mut half, &mut open.sock] {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut rest = Vec::new();
            assert!(stream.read_to_end(&mut rest).is_ok(), "the broker closes it");
        }
    }
    broker.end();
}

#[test]
fn unfinished_handshakes_count_in_the_memory_budget() {
    let home = Home::new("budget");
    let more = ["--max-memory", "256K", "--pause-limit", "50ms", "--connect-timeout", "1h"];
    let broker = home.serve(&["mqtts://127.0.0.1:0"], &more);
    let mut clients: Vec<_> = (0..64).map(|_| TcpStream::connect(broker.address()).unwrap()).collect();
    for client in &mut clients {
        let _ = client.write_all(b"\x16\x03\x01\x02\x00\x01\x00");
        client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    }
    eventually("some make room for others", || clients.iter_mut().any(|client| matches!(client.read(&mut [0]), Ok(0))));
}

#[test]
fn what_is_no_tls_is_told_by_what_it_looks_like() {
    let home = Home::new("garbage");
    for (bytes, why) in [
        (CONNECT, "this is MQTT without TLS"),
        (b"GET /mqtt HTTP/1.1\r\nHost: a\r\n\r\n", "this is HTTP without TLS"),
        (&[0xFF; 100], "what came is no TLS"),
    ] {
        for listener in ["mqtts://127.0.0.1:0", "wss://127.0.0.1:0"] {
            let broker = home.serve(&[listener], &[]);
            let mut client = TcpStream::connect(broker.address()).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.write_all(bytes).unwrap();
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest);
            assert_eq!(rest.first(), Some(&21), "an alert");
            expect_warning(&broker, why);
            broker.end();
        }
    }
}

/// Gives its stream one byte at a time.
struct Slow(TcpStream);

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..1])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_are_read_however_their_bytes_arrive_and_an_end_without_a_word_is_an_end() {
    let home = Home::new("bytes");
    let broker = home.serve(&["mqtts://127.0.0.1:0"], &[]);
    let client = foreign(&home, broker.address(), "localhost");
    let mut client = StreamOwned::new(client.conn, Slow(client.sock));
    client.write_all(CONNECT).unwrap();
    let mut connack = [0; 4];
    client.read_exact(&mut connack).unwrap();
    assert_eq!(connack, CONNACK);
    // Half of a record, and the end without close_notify.
    client.conn.writer().write_all(b"\xC0\0").unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    client.sock.0.write_all(&record[..record.len() - 1]).unwrap();
    client.sock.0.shutdown(Shutdown::Write).unwrap();
    assert!(broker.log_line("disconnected").contains("\"f\""));
    broker.end();
}

#[test]
fn a_record_that_was_changed_ends_the_connection_with_an_alert() {
    let home = Home::new("changed");
    let broker = home.serve(&["mqtts://127.0.0.1:0"], &[]);
    let mut client = foreign(&home, broker.address(), "localhost");
    client.write_all(CONNECT).unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    client.conn.writer().write_all(b"\xC0\0").unwrap();
    let mut record = Vec::new();
    client.conn.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    client.sock.write_all(&record).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert!(broker.log_line("closed: this is not TLS").contains("WARN"));
    broker.end();
}

/// Runs a foreign program: whether it went well, and what it said.
fn foreign_program(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
#[ignore = "needs Debian's mosquitto-clients and openssl: .ci/run interop"]
fn mosquitto_pub_publishes_with_and_without_a_certificate_of_its_own() {
    let home = Home::new("mosquitto");
    let [certificate, key] = home.ca.client("lamp", 2).write(&home.place, "lamp");
    let (open, mutual) = (home.serve(&["mqtts://127.0.0.1:0"], &[]), home.serve_mutual(&[]));
    for version in ["mqttv311", "mqttv5"] {
        for (broker, own, is_let_in) in
            [(&open, &[][..], true), (&mutual, &["--cert", &certificate, "--key", &key], true), (&mutual, &[], false)]
        {
            let port = broker.address().port().to_string();
            let to = [
                "-h",
                "localhost",
                "-p",
                &port,
                "--cafile",
                &home.root,
                "-V",
                version,
                "-t",
                "t",
                "-q",
                "2",
                "-m",
                "m",
            ];
            let (is_done, said) = foreign_program("mosquitto_pub", &[&to, own].concat());
            assert_eq!(is_done, is_let_in, "{version} {own:?}: {said}");
        }
    }
    let at = open.address().to_string();
    for (version, shown) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let flags =
            ["s_client", "-connect", &at, "-CAfile", &home.root, "-verify_return_error", "-alpn", "mqtt", version];
        let (is_done, said) = foreign_program("openssl", &flags);
        assert!(is_done && said.contains(shown) && said.contains("ALPN protocol: mqtt"), "{version}: {said}");
    }
    open.end();
    mutual.end();
}
