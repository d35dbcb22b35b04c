//! TLS of the client's driver and of `mqtt`: whom they trust, and what they say of what is wrong.

use std::process::Command;

use crate::support::{Authority, BrokerProcess, Place, Terms};

/// A broker with this certificate, and what `mqtt pub` says with these flags: whether it went well, and standard error.
struct Server {
    place: Place,
    broker: BrokerProcess,
}

impl Server {
    fn start(name: &str, ca: &Authority, terms: &Terms<'_>) -> Self {
        let place = Place::new(&format!("tls-client-{name}"));
        place.write("ca.pem", &ca.root);
        let [certificate, key] = ca.issue(terms).write(&place, "server");
        let listeners = ["--listen", "mqtts://127.0.0.1:0", "--listen", "wss://127.0.0.1:0"];
        let broker =
            BrokerProcess::start_as(&[&listeners[..], &["--certificate", &certificate, "--key", &key]].concat(), 2);
        Self { place, broker }
    }

    fn publish(&self, flags: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
        let port = self.broker.address().port().to_string();
        command.args(["pub", "-h", "127.0.0.1", "-p", &port, "-t", "t", "-m", "m"]).args(flags);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    fn ca(&self) -> String {
        self.place.path("ca.pem")
    }
}

const GOOD: Terms<'_> =
    Terms { is_client: false, common_name: None, names: &["127.0.0.1", "broker.example"], years: None, serial: 1 };

#[test]
fn the_flags_of_mosquitto_pub_work() {
    let server = Server::start("flags", &Authority::new("home"), &GOOD);
    let ca = server.ca();
    let directory = server.place.path("");
    for flags in [
        &["--cafile", &ca][..],
        &["--cafile", &ca, "--tls-name", "broker.example"],
        &["--cafile", &ca, "--tls-alpn", "mqtt"],
        &["--capath", &directory],
    ] {
        assert_eq!(server.publish(flags), (true, String::new()), "{flags:?}");
    }
    for (scheme, address, path) in
        [("mqtts", server.broker.address(), "t"), ("wss", server.broker.addresses()[1], "mqtt")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
        let url = format!("{scheme}://{address}/{path}");
        let output = command.args(["pub", "-L", &url, "-t", "t", "-m", "m", "--cafile", &ca]).output().unwrap();
        assert!(output.status.success(), "{url}: {output:?}");
    }
}

#[test]
fn what_is_wrong_with_a_broker_s_certificate_is_told() {
    let home = Authority::new("home");
    let cases = [
        (Terms { years: Some((2001, 2002)), ..GOOD }, "the certificate expired on 2002-01-01"),
        (Terms { years: Some((2090, 2091)), ..GOOD }, "not valid before 2090-01-01"),
        (
            Terms { names: &["broker.example", "10.0.0.1"], ..GOOD },
            "not valid for 127.0.0.1: it is valid for broker.example, 10.0.0.1",
        ),
        (Terms { is_client: true, ..GOOD }, "may not be used for this side"),
    ];
    for (n, (terms, why)) in cases.iter().enumerate() {
        let server = Server::start(&format!("wrong-{n}"), &home, terms);
        let (is_done, error) = server.publish(&["--cafile", &server.ca()]);
        assert!(!is_done && error.contains(why) && error.contains("--cafile"), "{why}: {error}");
        // It is the name alone that need not be looked at.
        let (is_done, error) = server.publish(&["--cafile", &server.ca(), "--insecure"]);
        assert_eq!(is_done, why.contains("not valid for"), "{why}: {error}");
    }
}

#[test]
fn a_broker_of_another_ca_is_refused() {
    let server = Server::start("other", &Authority::new("home"), &GOOD);
    let other = server.place.write("other.pem", &Authority::new("other").root);
    for flags in [&["--cafile", &other][..], &["--cafile", &other, "--insecure"]] {
        let (is_done, error) = server.publish(flags);
        assert!(!is_done && error.contains("signed by no CA that is trusted here"), "{flags:?}: {error}");
    }
    let log = server.broker.end();
    let told: Vec<_> = log.iter().filter(|line| line.contains("does not trust the CA")).collect();
    assert_eq!(told.len(), 1, "once a minute: {log:#?}");
}

#[test]
fn files_that_are_wrong_are_told_with_what_would_be_right() {
    let server = Server::start("files", &Authority::new("home"), &GOOD);
    let (nothing, ca) = (server.place.write("nothing.pem", "nothing"), server.ca());
    let [certificate, key] = Authority::new("home").client("c", 2).write(&server.place, "c");
    let other = server.place.path("server.key");
    for (flags, why) in [
        (&["--cafile", "/not/there.pem"][..], "/not/there.pem: it cannot be read"),
        (&["--cafile", &nothing], "there is no certificate (-----BEGIN CERTIFICATE-----) in it"),
        (&["--cafile", &ca, "--cert", &certificate, "--key", &nothing], "there is no private key"),
        (&["--cafile", &ca, "--cert", &certificate, "--key", &other], "this is not the key of the certificate"),
        (&["--cafile", &ca, "--cert", &key, "--key", &key], "there is no certificate"),
        (&["--cafile", &ca, "--cert", &certificate], "--key"),
    ] {
        let (is_done, error) = server.publish(flags);
        assert!(!is_done && error.contains(why), "{flags:?}: {error}");
    }
}
