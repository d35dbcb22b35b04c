//! The client driver against whole brokers: ours, and with `--ignored`, which `.ci/run interop` runs, Debian's mosquitto and
//! rumqttd.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use damselfly_client::{Config, ConnectParameters, Event, Outcome, SessionExpiry, Timestamp, Will};
use damselfly_codec::{Properties, PropertiesBuf, Property, QoS, SubscriptionId, SubscriptionOptions, Version};
use damselfly_examples::client::{Client, Drain, Endpoint, Events, Inbox, Left, Options, Overflow, Subscription};
use damselfly_topic::{TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

use crate::support::{BrokerProcess, Mosquitto, Proxy, Rumqttd, endpoint, payload_of, run};

const VERSIONS: [Version; 2] = [Version::V3_1_1, Version::V5_0];
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Which one a case is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broker {
    Ours,
    Mosquitto,
    Rumqttd,
}

/// A broker that runs.
#[derive(Clone, Copy, Debug)]
struct Target {
    broker: Broker,
    /// Where it listens for 3.1.1 and for 5.0.
    addresses: [SocketAddr; 2],
    is_websocket: bool,
}

impl Target {
    fn at(self, version: Version) -> SocketAddr {
        self.addresses[usize::from(version == Version::V5_0)]
    }

    /// The broker itself, or a proxy in front of it.
    fn endpoint(self, address: SocketAddr) -> Endpoint {
        if self.is_websocket {
            Endpoint { websocket: Some("/mqtt".into()), ..endpoint(address) }
        } else {
            endpoint(address)
        }
    }

    fn connect(self, address: SocketAddr, config: Config) -> (Client, Events) {
        Client::connect(Options::new(self.endpoint(address), config))
    }
}

/// Each case once for our broker and once for mosquitto.
macro_rules! against_both {
    ($($case:ident($ours:expr, $theirs:expr);)*) => {
        mod ours {
            $(#[test] fn $case() {
                let broker = super::BrokerProcess::start($ours);
                super::$case(super::Target { broker: super::Broker::Ours, addresses: [broker.address(); 2], is_websocket: false });
                broker.end();
            })*
        }
        mod mosquitto {
            $(#[test] #[ignore = "needs Debian's mosquitto: .ci/run interop"] fn $case() {
                let broker = super::Mosquitto::start(stringify!($case), $theirs);
                super::$case(super::Target { broker: super::Broker::Mosquitto, addresses: [broker.address(); 2], is_websocket: false });
            })*
        }
    };
}

against_both! {
    messages_arrive_at_each_qos_in_each_version(&[], "");
    session_outlives_connections_that_are_cut_at_random_bytes(&[], "max_inflight_messages 0\nmax_queued_messages 0");
    publisher_that_is_cut_learns_what_became_of_each_message(&[], "max_inflight_messages 0\nmax_queued_messages 0");
    will_is_published_when_the_connection_is_cut_and_not_when_it_is_closed(&[], "");
    properties_of_5_0_arrive_as_they_were_sent(&[], "");
    thousand_subscriptions_have_a_message_each(&[], "");
    ten_thousand_messages_pass_a_receive_maximum_of_20(
        &["--receive-maximum", "20", "--max-inflight", "20", "--max-queued-messages", "20000"],
        "max_inflight_messages 20\nmax_queued_messages 0"
    );
}

/// Over WebSocket, where a cut may be within a frame's header.
mod over_websocket {
    use super::{Broker, BrokerProcess, Mosquitto, Target};

    fn ask(case: fn(Target)) {
        let broker = BrokerProcess::start_both(&[]);
        case(Target { broker: Broker::Ours, addresses: [broker.websocket(); 2], is_websocket: true });
        broker.end();
    }

    #[test]
    fn messages_arrive_at_each_qos_in_each_version() {
        ask(super::messages_arrive_at_each_qos_in_each_version);
    }

    #[test]
    fn session_outlives_connections_that_are_cut_at_random_bytes() {
        ask(super::session_outlives_connections_that_are_cut_at_random_bytes);
    }

    #[test]
    #[ignore = "needs Debian's mosquitto: .ci/run interop"]
    fn messages_arrive_at_each_qos_in_each_version_of_mosquitto() {
        let (_broker, address) = Mosquitto::start_both("websocket");
        let target = Target { broker: Broker::Mosquitto, addresses: [address; 2], is_websocket: true };
        super::messages_arrive_at_each_qos_in_each_version(target);
    }
}

/// What rumqttd 0.20 can be asked: `interop/README.md` says what it does not keep of the rest.
mod rumqttd {
    use std::panic::{catch_unwind, resume_unwind};

    use super::{Broker, Rumqttd, Target};

    /// Three times if need be: of its connections that end some make a thread of rumqttd panic, and with it the rest.
    fn ask(name: &str, case: fn(Target)) {
        for last in [false, false, true] {
            let broker = Rumqttd::start(name);
            let target = Target { broker: Broker::Rumqttd, addresses: broker.addresses(), is_websocket: false };
            let Err(failure) = catch_unwind(|| case(target)) else { return };
            if last || !broker.has_panicked() {
                resume_unwind(failure);
            }
        }
    }

    #[test]
    #[ignore = "needs rumqttd: .ci/run interop"]
    fn will_is_published_when_the_connection_is_cut_and_not_when_it_is_closed() {
        ask("will", super::will_is_published_when_the_connection_is_cut_and_not_when_it_is_closed);
    }

    #[test]
    #[ignore = "needs rumqttd: .ci/run interop"]
    fn messages_arrive_at_each_qos_in_each_version() {
        ask("levels", super::messages_arrive_at_each_qos_in_each_version);
    }

    #[test]
    #[ignore = "needs rumqttd: .ci/run interop"]
    fn publisher_that_is_cut_learns_what_became_of_each_message() {
        ask("cut", super::publisher_that_is_cut_learns_what_became_of_each_message);
    }

    #[test]
    #[ignore = "needs rumqttd: .ci/run interop"]
    fn ten_thousand_messages_pass_a_receive_maximum_of_20() {
        ask("narrow", super::ten_thousand_messages_pass_a_receive_maximum_of_20);
    }

    #[test]
    #[ignore = "needs rumqttd: .ci/run interop"]
    fn thousand_subscriptions_have_a_message_each() {
        ask("thousand", super::thousand_subscriptions_have_a_message_each);
    }

    #[test]
    #[ignore = "needs rumqttd: .ci/run interop"]
    fn properties_of_5_0_arrive_as_they_were_sent() {
        ask("properties", super::properties_of_5_0_arrive_as_they_were_sent);
    }
}

fn config(client_id: &str, version: Version) -> Config {
    let mut config = Config::new(client_id);
    config.version = version;
    config.backoff.first = Duration::from_millis(1);
    config.backoff.longest = Duration::from_millis(10);
    config
}

async fn stream(client: &Client, filter: &str, qos: QoS) -> Subscription {
    let filter = (TopicFilter::new(filter).unwrap(), SubscriptionOptions { qos, ..SubscriptionOptions::default() });
    let mut stream = client.subscribe(&[filter], Properties::EMPTY, Inbox::default()).unwrap();
    assert_eq!(stream.granted().await, Outcome::Subscribed(vec![Ok(qos)]));
    stream
}

/// Ends a client that has nothing left to do.
async fn close(client: &Client) {
    assert_eq!(client.close(Drain::within(Duration::from_secs(20))).await, Left::default());
}

fn messages_arrive_at_each_qos_in_each_version(target: Target) {
    run(async {
        for version in VERSIONS {
            let (client, events) = target.connect(target.at(version), config("levels", version));
            events.detach();
            let mut stream = stream(&client, "levels", QoS::ExactlyOnce).await;
            for (number, qos) in LEVELS.into_iter().cycle().take(30).enumerate() {
                let payload = number.to_string();
                let message = client.message("levels", payload.as_bytes(), qos, false, Properties::EMPTY).unwrap();
                let outcome = client.publish(message).unwrap().await;
                assert!(matches!(outcome, Outcome::Transmitted | Outcome::Acknowledged { .. }), "{outcome:?}");
                let inbound = stream.next().await.unwrap();
                // What was published at QoS 0 comes from rumqttd at QoS 2. [MQTT-3.8.4-8]
                let is_raised = target.broker == Broker::Rumqttd && inbound.message.qos() == QoS::ExactlyOnce;
                assert!(payload_of(&inbound) == payload && (is_raised || inbound.message.qos() == qos), "{inbound:?}");
            }
            close(&client).await;
        }
    });
}

/// Of mosquitto 2.0.11 less is asked, because it keeps less of the standard: `docs/testing.md` says what, and how that was
/// seen.
fn session_outlives_connections_that_are_cut_at_random_bytes(target: Target) {
    const MESSAGES: usize = 400;
    const CUTS: usize = 20;
    for (seed, version) in (1..).zip(VERSIONS) {
        let to_publisher = Proxy::start(target.at(version), seed, CUTS, 3_000);
        let to_subscriber = Proxy::start(target.at(version), seed + 100, CUTS, 3_000);
        run(async {
            let lasting = |client_id: &str| {
                let mut config = config(client_id, version);
                config.session_expiry = SessionExpiry::from_wire(Some(3_600));
                if target.broker == Broker::Ours {
                    config.receive_maximum = 20.try_into().unwrap();
                }
                config
            };
            let (subscriber, events) = target.connect(to_subscriber.address(), lasting(&format!("reader-{seed}")));
            events.detach();
            let mut once = stream(&subscriber, "cut/2", QoS::ExactlyOnce).await;
            let mut at_least = stream(&subscriber, "cut/1", QoS::AtLeastOnce).await;
            let (publisher, events) = target.connect(to_publisher.address(), lasting(&format!("writer-{seed}")));
            events.detach();

            let publish = async {
                let mut sent = Vec::new();
                for number in 0..MESSAGES {
                    for (topic, qos) in [("cut/1", QoS::AtLeastOnce), ("cut/2", QoS::ExactlyOnce)] {
                        let payload = number.to_string();
                        let message =
                            publisher.message(topic, payload.as_bytes(), qos, false, Properties::EMPTY).unwrap();
                        sent.push(publisher.publish(message).unwrap());
                    }
                }
                for completion in sent {
                    let outcome = completion.await;
                    assert!(matches!(outcome, Outcome::Acknowledged { .. }), "{outcome:?}");
                }
            };
            let receive_once = async {
                let mut seen = BTreeSet::new();
                while seen.len() < MESSAGES {
                    let number: usize = payload_of(&once.next().await.unwrap()).parse().unwrap();
                    assert!(
                        target.broker != Broker::Ours || number == seen.len(),
                        "{number} came before {}",
                        seen.len()
                    );
                    assert!(seen.insert(number), "{number} came twice");
                }
            };
            let receive = async {
                let mut seen = BTreeSet::new();
                while seen.len() < MESSAGES {
                    let number: usize = payload_of(&at_least.next().await.unwrap()).parse().unwrap();
                    assert!(
                        target.broker != Broker::Ours || number <= seen.len(),
                        "{number} came before {}",
                        seen.len()
                    );
                    seen.insert(number);
                }
            };
            tokio::join!(publish, receive_once, receive);
            close(&publisher).await;
            close(&subscriber).await;
        });
        assert!(to_publisher.connections() > CUTS / 2, "{} connections", to_publisher.connections());
        assert!(to_subscriber.connections() > CUTS / 2, "{} connections", to_subscriber.connections());
    }
}

/// A session that ends with its connection, as each one does at rumqttd: what was under way then has no known end, and
/// whatever has one arrived.
fn publisher_that_is_cut_learns_what_became_of_each_message(target: Target) {
    const UNDER_WAY: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
    const MESSAGES: usize = 400;
    const CUTS: usize = 20;
    for (seed, version) in (1..).zip(VERSIONS) {
        let proxy = Proxy::start(target.at(version), seed, CUTS, 1_000);
        run(async {
            let (subscriber, events) = target.connect(target.at(version), config("witness", version));
            events.detach();
            let mut stream = stream(&subscriber, "cut", QoS::ExactlyOnce).await;
            let (publisher, events) = target.connect(proxy.address(), config("unsteady", version));
            events.detach();
            let mut missing = BTreeSet::new();
            // Ten of each level under way at once: a cut leaves no more without an end.
            for start in (0..MESSAGES).step_by(10) {
                let mut sent = Vec::new();
                for (number, qos) in (start..start + 10).flat_map(|number| UNDER_WAY.map(|qos| (number, qos))) {
                    let payload = format!("{number} {qos}");
                    let message = publisher.message("cut", payload.as_bytes(), qos, false, Properties::EMPTY).unwrap();
                    sent.push((payload, publisher.publish(message).unwrap()));
                }
                for (payload, completion) in sent {
                    match completion.await {
                        Outcome::Acknowledged { .. } => assert!(missing.insert(payload)),
                        outcome => assert!(matches!(outcome, Outcome::Indeterminate(_)), "{outcome:?}"),
                    }
                }
            }
            assert!(
                missing.len() >= 2 * (MESSAGES - 10 * CUTS),
                "{} of {} were acknowledged",
                missing.len(),
                2 * MESSAGES
            );
            while !missing.is_empty() {
                missing.remove(&payload_of(&stream.next().await.unwrap()));
            }
            close(&publisher).await;
            close(&subscriber).await;
        });
        assert!(proxy.connections() > CUTS / 2, "{} connections", proxy.connections());
    }
}

fn will_is_published_when_the_connection_is_cut_and_not_when_it_is_closed(target: Target) {
    run(async {
        for version in VERSIONS {
            let (watcher, events) = target.connect(target.at(version), config("watcher", version));
            events.detach();
            let mut seen = stream(&watcher, "last/#", QoS::AtLeastOnce).await;
            for is_cut in [false, true] {
                let proxy = Proxy::start(target.at(version), 1, 0, 1);
                let mut parameters = ConnectParameters::default();
                let topic = TopicNameBuf::new(format!("last/{is_cut}")).unwrap();
                let mut will = Will::new(topic, "gone");
                will.qos = QoS::AtLeastOnce;
                parameters.will = Some(will);
                // Not the same client twice: a DISCONNECT on its way may be slower than the next connection.
                let config = config(&format!("mortal-{is_cut}"), version);
                let reached = if is_cut { proxy.address() } else { target.at(version) };
                let options = Options::with_parameters(target.endpoint(reached), config, parameters);
                let (mortal, mut events) = Client::connect(options);
                while !matches!(events.next().await, Some(Event::Connected(_))) {}
                if is_cut {
                    proxy.cut();
                    while !matches!(events.next().await, Some(Event::Connected(_))) {}
                }
                close(&mortal).await;
            }
            assert_eq!(seen.next().await.unwrap().message.topic().as_str(), "last/true");
            close(&watcher).await;
        }
    });
}

fn properties_of_5_0_arrive_as_they_were_sent(target: Target) {
    run(async {
        let (client, events) = target.connect(target.at(Version::V5_0), config("properties", Version::V5_0));
        events.detach();
        let mut of_subscription = PropertiesBuf::new();
        of_subscription.push(Property::SubscriptionIdentifier(SubscriptionId::new(7).unwrap())).unwrap();
        let filter = (TopicFilter::new("properties/#").unwrap(), SubscriptionOptions::default());
        let mut stream = client.subscribe(&[filter], of_subscription.as_properties(), Inbox::default()).unwrap();
        assert_eq!(stream.granted().await, Outcome::Subscribed(vec![Ok(QoS::AtMostOnce)]));
        let mut properties = PropertiesBuf::new();
        for property in [
            Property::PayloadFormatIndicator(true),
            Property::MessageExpiryInterval(600),
            Property::ContentType("text/plain"),
            Property::ResponseTopic(TopicName::new("re/ply").unwrap()),
            Property::CorrelationData(b"\0\xFF"),
            Property::UserProperty("key", "one"),
            Property::UserProperty("key", "two"),
        ] {
            properties.push(property).unwrap();
        }
        // Often enough that a Topic Alias is used where the broker allows it.
        for number in 0..5 {
            let topic = "properties/of/a/message";
            let payload = number.to_string();
            let message =
                client.message(topic, payload.as_bytes(), QoS::AtMostOnce, false, properties.as_properties()).unwrap();
            client.publish(message).unwrap().await;
            let inbound = stream.next().await.unwrap();
            let message = &inbound.message;
            assert_eq!((message.topic().as_str(), payload_of(&inbound)), (topic, payload));
            let arrived = message.properties();
            assert_eq!(arrived.payload_format_indicator(), Some(true));
            let now = Timestamp::ZERO.saturating_add(UNIX_EPOCH.elapsed().unwrap());
            assert!(message.remaining_expiry(now).is_some_and(|seconds| (570..=600).contains(&seconds)));
            assert_eq!(arrived.content_type(), Some("text/plain"));
            assert_eq!(arrived.response_topic().map(TopicName::as_str), Some("re/ply"));
            assert_eq!(arrived.correlation_data(), Some(&b"\0\xFF"[..]));
            assert_eq!(arrived.user_properties().collect::<Vec<_>>(), [("key", "one"), ("key", "two")]);
            assert_eq!(inbound.subscription_ids, [SubscriptionId::new(7).unwrap()]);
        }
        close(&client).await;
    });
}

fn thousand_subscriptions_have_a_message_each(target: Target) {
    run(async {
        for version in VERSIONS {
            let (client, mut events) = target.connect(target.at(version), config("thousand", version));
            let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
            let filters: Vec<_> =
                (0..1_000).map(|number| TopicFilterBuf::new(format!("thousand/{number}/+")).unwrap()).collect();
            let mut streams = Vec::new();
            // One SUBSCRIBE each, and all of them under way at once.
            for filter in &filters {
                let filter = (filter.as_filter(), options);
                streams.push(client.subscribe(&[filter], Properties::EMPTY, Inbox::new(1, Overflow::Pause)).unwrap());
            }
            for stream in &mut streams {
                assert_eq!(stream.granted().await, Outcome::Subscribed(vec![Ok(QoS::AtLeastOnce)]));
            }
            // Fifty under way at once: rumqttd leaves Nagle's algorithm on and takes 45 ms for each round trip.
            for (start, streams) in (0..).step_by(50).zip(streams.chunks_mut(50)) {
                let topics: Vec<_> =
                    (start..).map(|number| format!("thousand/{number}/x")).take(streams.len()).collect();
                for topic in &topics {
                    let message =
                        client.message(topic, topic.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY).unwrap();
                    drop(client.publish(message).unwrap());
                }
                for (topic, stream) in topics.iter().zip(streams) {
                    assert_eq!(payload_of(&stream.next().await.unwrap()), *topic);
                }
            }
            // All in one UNSUBSCRIBE; rumqttd answers each filter of one with an UNSUBACK of its own. [MQTT-3.11.3-1]
            let filters: Vec<_> = filters.iter().map(TopicFilterBuf::as_filter).collect();
            let at_once = if target.broker == Broker::Rumqttd { 1 } else { 1_000 };
            let asked = filters.chunks(at_once).map(|filters| client.unsubscribe(filters, Properties::EMPTY).unwrap());
            for outcome in asked.collect::<Vec<_>>() {
                assert_eq!(outcome.await, Outcome::Unsubscribed(vec![Ok(()); at_once]));
            }
            close(&client).await;
            while let Some(event) = events.next().await {
                assert!(!matches!(event, Event::Message(_)), "each message went to its stream");
            }
        }
    });
}

fn ten_thousand_messages_pass_a_receive_maximum_of_20(target: Target) {
    const MESSAGES: usize = 10_000;
    run(async {
        let mut narrow = config("narrow", Version::V5_0);
        // rumqttd neither reads the client's nor announces one of its own.
        let has_window = target.broker != Broker::Rumqttd;
        if has_window {
            narrow.receive_maximum = 20.try_into().unwrap();
        }
        let (subscriber, events) = target.connect(target.at(Version::V5_0), narrow);
        events.detach();
        let mut stream = stream(&subscriber, "narrow", QoS::AtLeastOnce).await;
        let (publisher, mut events) = target.connect(target.at(Version::V5_0), config("wide", Version::V5_0));
        // All are queued before there is a connection, and before the Receive Maximum of the broker is known.
        let sent: Vec<_> = (0..MESSAGES)
            .map(|number| {
                let payload = number.to_string();
                let message =
                    publisher.message("narrow", payload.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY);
                publisher.publish(message.unwrap()).unwrap()
            })
            .collect();
        let Some(Event::Connected(connected)) = events.next().await else { panic!("no connection") };
        let receive_maximum = connected.properties.as_properties().receive_maximum().map(u16::from);
        assert_eq!(receive_maximum, has_window.then_some(20));
        for number in 0..MESSAGES {
            assert_eq!(payload_of(&stream.next().await.unwrap()), number.to_string());
        }
        for completion in sent {
            assert!(matches!(completion.await, Outcome::Acknowledged { .. }));
        }
        close(&publisher).await;
        close(&subscriber).await;
    });
}
