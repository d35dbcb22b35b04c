//! The smart home on real sockets, as a page sees it.

use std::{future::Future, net::SocketAddr, process::Command, time::Duration};

use damselfly_client::{Config, Event};
use damselfly_codec::{Properties, QoS};
use damselfly_examples::{
    broker::AllowAll,
    client::{Client, Events, Options},
    home::{Home, HouseBroker, Listen, Running, Settings},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Running as Program, endpoint, subscribe};

/// More than a hundred clients and their broker share the processor with all other tests.
const LONG: Duration = Duration::from_secs(120);

/// Runs on a runtime of its own, for a bounded time.
fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, work).await }).unwrap();
}

/// A client of the broker that sees all there is to see.
struct Page {
    client: Client,
    events: Events,
    seen: Vec<(String, Value)>,
}

impl Page {
    async fn open(broker: SocketAddr) -> Self {
        let mut config = Config::new("page-test");
        config.backoff.first = Duration::from_millis(50);
        let (client, events) = Client::connect(Options::new(endpoint(broker), config));
        for filter in ["home/#", "house/#"] {
            subscribe(&client, filter, QoS::AtLeastOnce).await;
        }
        Self { client, events, seen: Vec::new() }
    }

    /// Presses a button: what is answered.
    async fn press(&self, name: &str, payload: &str) -> (bool, String) {
        let topic = format!("house/break/{name}");
        let message = self.client.message(&topic, payload.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY);
        let response = self.client.request(message.unwrap(), Duration::from_secs(20)).unwrap().await.unwrap();
        let answer: Value = serde_json::from_slice(response.message.payload()).unwrap();
        (answer["ok"].as_bool().unwrap(), answer["text"].as_str().unwrap().to_owned())
    }

    /// Waits until something like this was seen since the place that was given: where.
    async fn see(&mut self, since: usize, what: &str, is_it: impl Fn(&str, &Value) -> bool) -> usize {
        // Shown if the test fails.
        eprintln!("waiting for {what}");
        let mut place = since;
        loop {
            while let Some((topic, payload)) = self.seen.get(place) {
                place += 1;
                if is_it(topic, payload) {
                    return place;
                }
            }
            match self.events.next().await {
                Some(Event::Message(inbound)) => {
                    let payload = serde_json::from_slice(inbound.message.payload()).unwrap_or_default();
                    self.seen.push((inbound.message.topic().to_string(), payload));
                }
                Some(_) => {}
                None => panic!("the page ended before {what}"),
            }
        }
    }

    async fn see_value(&mut self, since: usize, topic: &str, value: Value) -> usize {
        self.see(since, topic, |name, payload| name == topic && payload["value"] == value).await
    }

    async fn see_event(&mut self, since: usize, kind: &str, client: &str, part: &str) -> usize {
        let is_it = |topic: &str, event: &Value| {
            let text = event["text"].as_str().unwrap_or_default();
            topic == "house/events" && event["kind"] == kind && event["client"] == client && text.contains(part)
        };
        self.see(since, part, is_it).await
    }
}

fn settings() -> Settings {
    let mut settings = Settings::new(7);
    settings.keep_alive = 2;
    let times = &mut settings.times;
    (times.plug, times.lift, times.slow) = (Duration::from_secs(9), Duration::from_secs(4), Duration::from_secs(3));
    (times.wifi, times.sleeper, times.twins) = (Duration::from_secs(6), Duration::from_secs(4), Duration::from_secs(3));
    (times.password, times.network) = (Duration::from_secs(1), Duration::from_secs(1));
    settings
}

/// A house that begins, all of whose clients are connected or have slept.
async fn house() -> (HouseBroker, Running) {
    let broker = HouseBroker::start(7, Listen::default(), AllowAll).unwrap();
    let mut house = Running::start(settings(), &broker, None).await.unwrap();
    let published = u64::try_from(house.home.devices().len()).unwrap();
    house.run_until(|home| home.totals().acknowledged.one >= published && home.totals().acknowledged.two > 0).await;
    (broker, house)
}

fn has_settled(home: &Home) -> bool {
    home.is_quiet()
        && home.totals().waiting == 0
        && (home.totals().published == home.totals().acknowledged || home.totals().given_up > 0)
}

/// Everything that a button breaks at once, and what a page sees of it.
async fn press_all(page: &mut Page) {
    let start = page.seen.len();
    for (name, payload) in [
        ("plug", ""),
        ("lift", ""),
        ("slow", "{}"),
        ("sleeper", "{\"client\":\"office-temperature\"}"),
        ("twins", ""),
        ("password", ""),
    ] {
        let (is_ok, text) = page.press(name, payload).await;
        assert!(is_ok && !text.is_empty(), "{name}: {text}");
    }
    assert!(page.press("plug", "").await.1.contains("already"));
    assert!(page.press("plug", "{\"client\":\"phone\"}").await.0, "it is there already, whoever is named");
    assert!(!page.press("nonsense", "").await.0);

    page.see_event(start, "error", "hall-lock", "0x86").await;
    page.see_event(start, "disconnected", "guest-lamp", "0x8E").await;
    page.see(start, "a command that waits", |topic, ledger| topic == "house/ledger" && ledger["waiting"] != 0).await;
    page.see_value(start, "home/living/lamp/status", "offline".into()).await;
    let gone = page.see_event(start, "will", "living-lamp", "gone").await;
    page.see_event(start, "rule", "rules", "unplugged").await;
    page.see_value(gone, "home/living/lamp/status", "online".into()).await;

    let wifi = page.seen.len();
    assert!(page.press("wifi", "").await.0);
    // Pictures are larger than what passes before a cut.
    page.see_event(wifi, "disconnected", "hall-display", "").await;
}

#[test]
fn whatever_button_is_pressed_nothing_is_lost_disordered_or_doubled() {
    run(async {
        let (broker, mut house) = house().await;
        let mut page = house.run(Page::open(broker.devices)).await;
        house.run(press_all(&mut page)).await;
        eprintln!("waiting for the ledger to settle");
        house.run_until(|home| has_settled(home)).await;
        let totals = house.home.totals();
        assert!(
            totals.is_clean() && totals.given_up == 0,
            "{totals:?} {:?}",
            house.home.ledger().lost().collect::<Vec<_>>()
        );
        assert!(house.home.fault_counts().all(|(name, count)| count == u64::from(name.word() != "network")));

        // The page is cut off itself, and what is told meanwhile is not told again.
        assert!(house.run(page.press("network", "")).await.0);
        let plug = house.home.find("kitchen-plug").unwrap();
        house.run_until(|home| !home.is_connected(plug)).await;
        house.run_until(|home| has_settled(home) && home.is_connected(plug)).await;
        let totals = house.home.totals();
        assert!(totals.is_clean() && totals.given_up == 0, "{totals:?}");
        house.stop().await;
        broker.stop().unwrap();
    });
}

#[test]
fn page_that_comes_late_is_told_what_there_is() {
    run(async {
        let (broker, mut house) = house().await;
        let mut page = house.run(Page::open(broker.devices)).await;
        let look = async {
            for topic in ["house/clients", "house/ledger", "house/rules", "house/faults"] {
                page.see(0, topic, |name, _| name == topic).await;
            }
            let (_, clients) = page.seen.iter().find(|(topic, _)| topic == "house/clients").unwrap();
            let clients = clients["clients"].as_array().unwrap();
            assert!(clients.iter().all(|client| client["id"].is_string() && client["version"].is_string()));
            assert!(clients.len() >= 120);
            page.see(0, "a picture", |topic, _| topic == "home/garden/camera/snapshot").await;
            page.see(0, "traffic", |topic, traffic| topic == "house/traffic" && traffic["per_second"]["up"] != 0).await;
            page.see(0, "power", |topic, _| topic == "home/energy/power").await;
        };
        house.run(look).await;
        house.stop().await;
        broker.stop().unwrap();
    });
}

fn program(args: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smart-home"));
    command.args(args);
    Program::spawn(command)
}

#[test]
fn program_says_where_the_house_is_and_ends_at_ctrl_c() {
    let program = program(&["--port", "0"]);
    let line = program.line();
    assert!(line.starts_with("the house is at http://127.0.0.1:"), "{line}");
    program.signal(Signal::INT);
    let (status, errors) = program.end();
    assert!(status.success(), "{status} {errors}");
}

#[test]
fn program_simulates_and_prints_the_ledger_and_a_hash() {
    let program = program(&["--simulate", "5s", "--seed", "3"]);
    assert!(program.line().starts_with("seed 3: 0 min"));
    let lines: Vec<String> = (0..9).map(|_| program.line()).collect();
    assert!(lines.iter().any(|line| line == "lost 0, out of order 0, waiting 0"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("hash ") && line.len() == 21), "{lines:?}");
    assert!(program.end().0.success());
}
