//! Topic matchers: many filters, asked with a topic.

use damselfly_topic::{SubscriptionIndex, TopicFilter, TopicName};

/// A matcher with its filters; filter n belongs to subscriber n.
pub trait Matcher {
    /// Appends the subscribers of this topic; what it takes to check and split the topic is part of it.
    fn matches(&mut self, topic: &str, subscribers: &mut Vec<u32>);

    /// Removes one filter.
    fn remove(&mut self, filter: &str, subscriber: u32);
}

/// Makes a matcher with these filters.
pub type Build = fn(&[String]) -> Result<Box<dyn Matcher>, String>;

/// One way to make a matcher.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Crate name.
    pub name: &'static str,
    /// Its constructor.
    pub build: Build,
    /// More filters than this take it too long to measure.
    pub most_filters: usize,
}

/// Ours, the linear scan, and with the feature `rivals` the others.
pub fn all() -> Vec<Kind> {
    #[cfg_attr(not(feature = "rivals"), expect(unused_mut, reason = "rivals are added to it"))]
    let mut list = vec![
        Kind { name: "damselfly", build: |filters| Ok(Box::new(Ours::new(filters)?)), most_filters: usize::MAX },
        Kind { name: "linear scan", build: |filters| Ok(Box::new(Linear::new(filters)?)), most_filters: 10_000 },
    ];
    #[cfg(feature = "rivals")]
    list.extend(super::rival_matchers::ALL);
    list
}

/// Key and value are as wide as the broker's: a session number, and options of eight bytes.
pub struct Ours {
    index: SubscriptionIndex<u32, u64>,
    found: Vec<(u32, u64)>,
}

impl Ours {
    /// With these filters.
    pub fn new(filters: &[String]) -> Result<Self, String> {
        let mut index = SubscriptionIndex::new(0x5eed);
        for (subscriber, filter) in (0..).zip(filters) {
            let filter = TopicFilter::new(filter).map_err(|error| error.to_string())?;
            index.insert(filter, subscriber, 1).map_err(|error| error.to_string())?;
        }
        Ok(Self { index, found: Vec::new() })
    }

    /// What the index itself says it holds.
    pub fn heap_bytes(&self) -> usize {
        self.index.heap_bytes()
    }
}

impl Matcher for Ours {
    fn matches(&mut self, topic: &str, subscribers: &mut Vec<u32>) {
        let Ok(name) = TopicName::new(topic) else { return };
        self.found.clear();
        self.index.matches(name, &mut self.found);
        subscribers.extend(self.found.iter().map(|&(subscriber, _)| subscriber));
    }

    fn remove(&mut self, filter: &str, subscriber: u32) {
        if let Ok(filter) = TopicFilter::new(filter) {
            self.index.remove(filter, subscriber);
        }
    }
}

/// Every filter asked in turn.
struct Linear(Vec<(String, u32)>);

impl Linear {
    fn new(filters: &[String]) -> Result<Self, String> {
        for filter in filters {
            TopicFilter::new(filter).map_err(|error| error.to_string())?;
        }
        Ok(Self(filters.iter().cloned().zip(0..).collect()))
    }
}

/// Level by level, without a check: the filters were checked when they came.
fn level_by_level(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

impl Matcher for Linear {
    fn matches(&mut self, topic: &str, subscribers: &mut Vec<u32>) {
        let found = self.0.iter().filter(|(filter, _)| level_by_level(filter, topic));
        subscribers.extend(found.map(|&(_, subscriber)| subscriber));
    }

    fn remove(&mut self, filter: &str, subscriber: u32) {
        self.0.retain(|(held, holder)| *holder != subscriber || held != filter);
    }
}
