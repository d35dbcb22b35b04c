//! The topic matchers of others.

use mqtt_topic_engine::{CacheStrategy, QoS, TopicPath, TopicPatternPath, TopicRouter};
use quill::{Pattern, Registry, Topic};

use super::matcher::{Kind, Matcher};

/// All of them.
pub const ALL: [Kind; 2] = [
    Kind { name: "quill-pubsub", build: |filters| Ok(Box::new(Quill::new(filters)?)), most_filters: usize::MAX },
    Kind { name: "mqtt-topic-engine", build: |filters| Ok(Box::new(Engine::new(filters)?)), most_filters: usize::MAX },
];

struct Quill(Registry<u32>);

impl Quill {
    fn new(filters: &[String]) -> Result<Self, String> {
        let registry = Registry::new();
        for (subscriber, filter) in (0..).zip(filters) {
            registry.subscribe(Pattern::parse(filter).map_err(|error| error.to_string())?, subscriber);
        }
        Ok(Self(registry))
    }
}

impl Matcher for Quill {
    fn matches(&mut self, topic: &str, subscribers: &mut Vec<u32>) {
        if let Ok(topic) = Topic::parse(topic) {
            subscribers.extend(self.0.matching(&topic));
        }
    }

    fn remove(&mut self, filter: &str, subscriber: u32) {
        if let Ok(pattern) = Pattern::parse(filter) {
            self.0.unsubscribe(&pattern, &subscriber);
        }
    }
}

struct Engine {
    router: TopicRouter<u32>,
    ids: Vec<mqtt_topic_engine::SubscriptionId>,
}

impl Engine {
    fn new(filters: &[String]) -> Result<Self, String> {
        let mut router = TopicRouter::new();
        let mut ids = Vec::with_capacity(filters.len());
        for (subscriber, filter) in (0..).zip(filters) {
            let pattern = TopicPatternPath::new_from_string(filter.as_str(), CacheStrategy::NoCache)
                .map_err(|error| error.to_string())?;
            ids.push(router.add_subscription(pattern, QoS::AtMostOnce, subscriber).1);
        }
        Ok(Self { router, ids })
    }
}

impl Matcher for Engine {
    fn matches(&mut self, topic: &str, subscribers: &mut Vec<u32>) {
        if let Ok(path) = TopicPath::new(topic) {
            subscribers.extend(self.router.get_subscribers(&path).into_iter().map(|(_, _, &subscriber)| subscriber));
        }
    }

    fn remove(&mut self, _filter: &str, subscriber: u32) {
        if let Some(id) = usize::try_from(subscriber).ok().and_then(|at| self.ids.get(at)) {
            // An error means that it was removed before.
            let _ = self.router.unsubscribe(id);
        }
    }
}
