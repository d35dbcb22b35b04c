//! `mqtt rr` and `mqtt bench` against our broker.

use std::{net::SocketAddr, process::Command};

use damselfly_client::Event;
use damselfly_codec::{Properties, QoS};
use damselfly_examples::client::{Client, Inbox};
use serde_json::Value;

use crate::support::{BrokerProcess, Running, options, payload_of, run, stream};

fn start(address: SocketAddr, command: &str, line: &[&str]) -> Running {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    program.args([command, "-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(line);
    Running::spawn(program)
}

#[test]
fn request_finds_its_response_among_others() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "answers"));
        let mut requests = stream(&client, &["ask"], Inbox::default()).await;
        let line = ["-t", "ask", "-m", "how warm?", "-e", "answer/me", "-q", "1", "-v", "-W", "25"];
        let asking = start(broker.address(), "rr", &line);

        let request = requests.next().await.unwrap();
        assert_eq!(payload_of(&request), "how warm?");
        let topic = request.message.properties().response_topic().unwrap();
        assert_eq!(topic.as_str(), "answer/me");
        let stray = client.message(topic.as_str(), b"cold", QoS::AtLeastOnce, false, Properties::EMPTY).unwrap();
        client.publish(stray).unwrap().await;
        client.reply(&request, b"21.5", Properties::EMPTY).unwrap().await;

        assert_eq!(asking.line(), "answer/me 21.5");
        let (status, said) = asking.end();
        assert!(status.success(), "{said}");
    });
    broker.end();
}

#[test]
fn request_before_5_0_takes_the_first_message_to_the_response_topic() {
    let broker = BrokerProcess::start(&[]);
    run(async {
        let (client, _events) = Client::connect(options(&broker, "answers"));
        let stale = client.message("answer", b"stale", QoS::AtLeastOnce, true, Properties::EMPTY).unwrap();
        client.publish(stale).unwrap().await;
        let mut requests = stream(&client, &["ask"], Inbox::default()).await;
        let asking = start(broker.address(), "rr", &["-V", "311", "-t", "ask", "-n", "-e", "answer", "-R", "-W", "25"]);
        assert_eq!(payload_of(&requests.next().await.unwrap()), "");
        let answer = client.message("answer", b"fresh", QoS::AtLeastOnce, false, Properties::EMPTY).unwrap();
        client.publish(answer).unwrap().await;
        assert_eq!(asking.line(), "fresh");
        assert!(asking.end().0.success());
    });
    broker.end();
}

#[test]
fn request_without_a_response_says_what_to_do() {
    let broker = BrokerProcess::start(&[]);
    for (line, code, hint) in [
        (&["-t", "ask", "-m", "x", "-q", "1"][..], 3, "nobody subscribes"),
        (&["-t", "ask", "-m", "x", "-V", "311"], 2, "--response-topic"),
        (&["-t", "ask", "-m", "x", "-D", "publish", "correlation-data", "mine"], 2, "leave them out"),
        (&["-t", "ask", "-f", "/no/such/file"], 2, "/no/such/file"),
    ] {
        let (status, said) = start(broker.address(), "rr", line).end();
        assert_eq!(status.code(), Some(code), "{line:?}: {said}");
        assert!(said.contains(hint), "{line:?}: {said}");
    }
    run(async {
        let (client, mut events) = Client::connect(options(&broker, "silent"));
        let _silent = stream(&client, &["ask"], Inbox::default()).await;
        assert!(matches!(events.next().await, Some(Event::Connected(_))));
        for version in ["5", "311"] {
            let line = ["-t", "ask", "-m", "x", "-e", "answer", "-W", "0.3", "-V", version];
            let (status, said) = start(broker.address(), "rr", &line).end();
            assert_eq!(status.code(), Some(27), "{said}");
        }
    });
    broker.end();
}

#[test]
fn bench_counts_what_it_sends_and_what_arrives() {
    let broker = BrokerProcess::start(&[]);
    for qos in ["0", "1", "2"] {
        let line = ["--publishers", "2", "--subscribers", "3", "--count", "50", "-q", qos, "--size", "100", "--json"];
        let bench = start(broker.address(), "bench", &line);
        let result: Value = serde_json::from_str(&bench.line()).unwrap();
        let (status, said) = bench.end();
        assert!(status.success(), "{said}");
        for (key, value) in [("sent", 100), ("received", 300), ("missing", 0), ("failed", 0), ("size", 100)] {
            assert_eq!(result[key], value, "{key}: {result}");
        }
        let latency = &result["latency_us"];
        let [p50, p99, longest] = ["p50", "p99", "longest"].map(|key| latency[key].as_u64().unwrap());
        assert!(0 < p50 && p50 <= p99 && p99 <= longest, "{latency}");
        assert!(said.contains("sent 100 "), "{said}");
    }
    broker.end();
}

#[test]
fn bench_keeps_to_its_rate_and_says_each_second_how_it_goes() {
    let broker = BrokerProcess::start(&[]);
    let line = ["--rate", "100", "--publishers", "2", "--duration", "1.5", "--json"];
    let bench = start(broker.address(), "bench", &line);
    let result: Value = serde_json::from_str(&bench.line()).unwrap();
    let (status, said) = bench.end();
    assert!(status.success(), "{said}");
    // 75 are due to each publisher; one that is late sends them nevertheless, but none before its time.
    let sent = result["sent"].as_u64().unwrap();
    assert!((2..=152).contains(&sent), "{result}");
    assert!(said.contains("1 s  sent "), "{said}");
    broker.end();
}

#[test]
fn bench_ends_when_the_broker_refuses() {
    let broker = BrokerProcess::start(&["--refused-filters", "bench/#"]);
    let (status, said) = start(broker.address(), "bench", &[]).end();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("bench/+"), "{said}");
    broker.end();
}
