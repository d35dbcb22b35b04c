//! Who is there, what each subscribes to, and which topics there are.

use std::collections::{BTreeMap, BTreeSet};

use damselfly_broker::Broker;
use damselfly_sim::flight::Recording;
use damselfly_topic::TopicFilter;
use serde_json::Value;

use super::{DiagramError, Format, map};

/// The most topics that are read: those beyond are not in the picture.
const MAX_TOPICS: usize = 10_000;

/// The clients of a broker, their subscriptions, and the topics of its retained messages.
///
/// ```
/// use damselfly_examples::diagram::{Format, Shown, Topology};
///
/// let text = r#"{"clients": [{"client": "phone", "connected": true, "version": "5.0",
///     "subscriptions": [{"filter": "home/+/smoke", "qos": 2}]}], "topics": ["home/attic/smoke"]}"#;
/// let picture = Topology::from_json(text)?.draw(Format::Mermaid, Shown::default());
/// assert!(picture.contains("phone") && picture.contains("home/+/smoke"));
/// # Ok::<(), damselfly_examples::diagram::DiagramError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    pub(super) clients: Vec<ClientNode>,
    pub(super) topics: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientNode {
    pub(super) id: String,
    pub(super) is_connected: bool,
    /// Known while it is connected.
    pub(super) version: Option<String>,
    /// Filters, each with the granted QoS.
    pub(super) subscriptions: Vec<(String, u8)>,
}

/// How much of a topology a picture shows; it says what is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Clients. Default: 40.
    pub max_clients: usize,
    /// Topics and levels of topics. Default: 80.
    pub max_topics: usize,
}

impl Default for Shown {
    fn default() -> Self {
        Self { max_clients: 40, max_topics: 80 }
    }
}

impl Topology {
    /// Of a broker core as it is.
    pub fn of_broker(broker: &Broker) -> Result<Self, DiagramError> {
        let clients = broker.sessions().map(|session| ClientNode {
            id: session.client_id.to_owned(),
            is_connected: session.connection.is_some() || session.is_local,
            version: session.version.map(|version| version.to_string()),
            subscriptions: broker
                .subscriptions(session.client_id)
                .map(|subscription| (subscription.filter.to_owned(), subscription.qos.level()))
                .collect(),
        });
        let retained = broker.retained(TopicFilter::new("#")?, MAX_TOPICS);
        let topics = retained.iter().map(|message| message.topic().as_str().to_owned()).collect();
        let mut topology = Self { clients: clients.collect(), topics };
        topology.sort();
        Ok(topology)
    }

    /// Of a broker as it was at the end of what was [recorded](crate::tape) of it.
    pub fn of_recording(text: &str) -> Result<Self, DiagramError> {
        let replay = text.parse::<Recording>()?.replay()?;
        Self::of_broker(replay.broker().ok_or(DiagramError::NoBroker)?)
    }

    /// Of what a broker says of itself. Unknown keys are ignored, and what is missing counts as empty.
    pub fn from_json(text: &str) -> Result<Self, DiagramError> {
        let value: Value = serde_json::from_str(text)?;
        let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let subscription = |value: &Value| {
            let qos = value.get("qos").and_then(Value::as_u64).and_then(|qos| u8::try_from(qos).ok());
            Some((word(value, "filter")?, qos.unwrap_or_default().min(2)))
        };
        let client = |value: &Value| {
            Some(ClientNode {
                id: word(value, "client")?,
                is_connected: value.get("connected").and_then(Value::as_bool).unwrap_or_default(),
                version: word(value, "version"),
                subscriptions: list(value, "subscriptions").iter().filter_map(subscription).collect(),
            })
        };
        let topics = list(&value, "topics");
        let topics = topics.iter().filter_map(Value::as_str).take(MAX_TOPICS).map(str::to_owned);
        let clients = list(&value, "clients").iter().filter_map(client).collect();
        let mut topology = Self { clients, topics: topics.collect() };
        topology.sort();
        Ok(topology)
    }

    /// The picture: clients, the filters they subscribe to, the tree of topics.
    pub fn draw(&self, format: Format, shown: Shown) -> String {
        match format {
            Format::Svg => map::svg(self, shown),
            Format::Mermaid => map::mermaid(self, shown),
        }
    }

    /// A picture must not depend on the order in which clients came.
    fn sort(&mut self) {
        self.clients.sort_by(|one, other| one.id.cmp(&other.id));
        for client in &mut self.clients {
            client.subscriptions.sort();
        }
    }

    /// Clients with the same subscriptions stand together: a house has many that ask for nothing, or for one command.
    /// Who asks for many topics at once comes first, who asks for nothing last.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: BTreeMap<&[(String, u8)], Group<'_>> = BTreeMap::new();
        for client in &self.clients {
            let group = groups.entry(&client.subscriptions).or_insert_with(|| Group::of(&client.subscriptions));
            group.clients.push(client);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        let has_wildcard =
            |group: &Group<'_>| group.subscriptions.iter().any(|(filter, _)| filter.contains(['+', '#']));
        let name = |group: &Group<'_>| group.clients.first().map(|client| client.id.clone());
        groups.sort_by_cached_key(|group| (group.subscriptions.is_empty(), !has_wildcard(group), name(group)));
        groups
    }
}

/// Clients that subscribe to the same.
pub(super) struct Group<'a> {
    pub(super) clients: Vec<&'a ClientNode>,
    pub(super) subscriptions: &'a [(String, u8)],
}

impl<'a> Group<'a> {
    const fn of(subscriptions: &'a [(String, u8)]) -> Self {
        Self { clients: Vec::new(), subscriptions }
    }
}
