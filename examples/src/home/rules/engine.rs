//! Keeps to rules: hears what devices say, says what is to be done. No clock, no socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use damselfly_codec::QoS;
use damselfly_session::Timestamp;
use damselfly_topic::{TopicFilter, TopicName};

use super::super::value::Value;
use super::parse::{Action, Condition, Rule};

/// The most topics whose last value is remembered; what further topics say is not heard.
pub const MAX_TOPICS: usize = 4_096;
/// The most commands that wait to be taken back; beyond, none is given that would have to be.
pub const MAX_TIMERS: usize = 1_024;
/// The most firings of one rule within [`WINDOW`]: two rules that set each other off end there.
pub const MAX_FIRINGS: usize = 24;
/// See [`MAX_FIRINGS`].
pub const WINDOW: Duration = Duration::from_secs(10);

/// Something to be said to a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Where.
    pub topic: String,
    /// What.
    pub value: Value,
    /// How surely.
    pub qos: QoS,
}

/// That a rule did something, or would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Its name.
    pub rule: String,
    /// Why.
    pub cause: String,
    /// It fires too often, and did nothing.
    pub is_held_back: bool,
}

/// Rules, what they know and what they have to take back.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Live>,
    states: BTreeMap<String, State>,
    /// By the topic of the command.
    timers: BTreeMap<String, (Timestamp, Order)>,
    orders: VecDeque<Order>,
    firings: VecDeque<Firing>,
}

/// What a topic said last, and since when it says so.
#[derive(Clone, Debug)]
struct State {
    value: Value,
    since: Timestamp,
}

/// What the wildcards stand for.
type Binding = Vec<String>;

#[derive(Debug)]
struct Live {
    rule: Rule,
    /// For what it holds.
    holds: BTreeSet<Binding>,
    /// When something that has to last may have lasted.
    check_at: Option<Timestamp>,
    fired: u64,
    last: Option<(Timestamp, String)>,
    recent: VecDeque<Timestamp>,
}

/// What `house/rules` says of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// How often it fired.
    pub fired: u64,
    /// When it fired last, and why.
    pub last: Option<(Timestamp, &'a str)>,
}

impl Engine {
    /// Takes these rules in place of those before. What is known stays, and what has to be taken back; nothing fires that
    /// holds already.
    pub fn set_rules(&mut self, now: Timestamp, rules: Vec<Rule>) {
        let mut before = std::mem::take(&mut self.rules);
        for rule in rules {
            let known = before.iter().position(|live| live.rule == rule).map(|place| before.swap_remove(place));
            let mut live = known.unwrap_or_else(|| Live {
                rule,
                holds: BTreeSet::new(),
                check_at: None,
                fired: 0,
                last: None,
                recent: VecDeque::new(),
            });
            (live.holds, live.check_at) = evaluate(&self.states, &live.rule, now);
            self.rules.push(live);
        }
    }

    /// The rules, in their order.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.rules.iter().map(|live| RuleView {
            name: &live.rule.name,
            text: &live.rule.text,
            fired: live.fired,
            last: live.last.as_ref().map(|(at, cause)| (*at, cause.as_str())),
        })
    }

    /// A topic says something. What was retained before we asked is `old`: it is known from then on, and sets nothing off.
    pub fn handle_message(&mut self, now: Timestamp, topic: TopicName<'_>, value: &Value, is_old: bool) {
        let text = topic.as_str();
        let is_full = self.states.len() >= MAX_TOPICS;
        match self.states.get_mut(text) {
            Some(state) if state.value == *value => {}
            Some(state) => *state = State { value: value.clone(), since: now },
            None if is_full => return,
            None => {
                self.states.insert(text.to_owned(), State { value: value.clone(), since: now });
            }
        }
        for index in 0..self.rules.len() {
            let hears = |live: &Live| live.rule.conditions.iter().any(|condition| hears(condition, topic));
            if self.rules.get(index).is_some_and(hears) {
                self.evaluate(now, index, &format!("{text} is {value}"), is_old, Some(topic));
            }
        }
    }

    /// The time asked for has come.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for index in 0..self.rules.len() {
            if self.rules.get(index).and_then(|live| live.check_at).is_some_and(|at| at <= now) {
                self.evaluate(now, index, "it has been so for long enough", false, None);
            }
        }
        let due: Vec<String> =
            self.timers.iter().filter(|(_, (at, _))| *at <= now).map(|(topic, _)| topic.clone()).collect();
        for topic in due {
            if let Some((_, order)) = self.timers.remove(&topic) {
                self.orders.push_back(order);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let checks = self.rules.iter().filter_map(|live| live.check_at);
        checks.chain(self.timers.values().map(|(at, _)| *at)).min()
    }

    /// What is to be said, in order.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// What fired, in order.
    pub fn poll_firing(&mut self) -> Option<Firing> {
        self.firings.pop_front()
    }

    fn evaluate(&mut self, now: Timestamp, index: usize, cause: &str, is_old: bool, said: Option<TopicName<'_>>) {
        let Some(live) = self.rules.get_mut(index) else { return };
        let (holds, check_at) = evaluate(&self.states, &live.rule, now);
        live.check_at = check_at;
        let before = std::mem::replace(&mut live.holds, holds.clone());
        if is_old {
            return;
        }
        for binding in holds {
            if before.contains(&binding) {
                if said.is_some_and(|topic| begins(&self.rules, index, &binding, topic)) {
                    self.extend(now, index, &binding);
                }
            } else {
                self.fire(now, index, &binding, cause);
            }
        }
    }

    /// What a rule began with is said again: what it did lasts on.
    fn extend(&mut self, now: Timestamp, index: usize, binding: &[String]) {
        let Some(live) = self.rules.get(index) else { return };
        for action in &live.rule.actions {
            let Some(lasting) = action.taken_back else { continue };
            for topic in topics(&self.states, action, binding) {
                if let Some((at, _)) = self.timers.get_mut(&topic) {
                    *at = (*at).max(now.saturating_add(lasting));
                }
            }
        }
    }

    fn fire(&mut self, now: Timestamp, index: usize, binding: &[String], cause: &str) {
        let Some(live) = self.rules.get_mut(index) else { return };
        while live.recent.front().is_some_and(|at| now.saturating_since(*at) >= WINDOW) {
            live.recent.pop_front();
        }
        let is_held_back = live.recent.len() >= MAX_FIRINGS;
        let rule = live.rule.name.clone();
        self.firings.push_back(Firing { rule, cause: cause.to_owned(), is_held_back });
        if is_held_back {
            return;
        }
        live.recent.push_back(now);
        live.fired += 1;
        live.last = Some((now, cause.to_owned()));
        for action in live.rule.actions.clone() {
            for topic in topics(&self.states, &action, binding) {
                self.order(now, &action, topic, binding);
            }
        }
    }

    fn order(&mut self, now: Timestamp, action: &Action, topic: String, binding: &[String]) {
        let value = match &action.value {
            Value::Text(text) => Value::Text(fill(text, binding)),
            value => value.clone(),
        };
        let state = topic.strip_suffix("/set").and_then(|topic| self.states.get(topic));
        let is_so_already = state.is_some_and(|state| state.value == value);
        match (action.taken_back, &value) {
            (Some(lasting), Value::Bool(is_on)) => {
                // What somebody switched on by hand stays on.
                if is_so_already && !self.timers.contains_key(&topic) {
                    return;
                }
                if self.timers.len() >= MAX_TIMERS && !self.timers.contains_key(&topic) {
                    return;
                }
                let back = Order { topic: topic.clone(), value: Value::Bool(!is_on), qos: action.qos };
                self.timers.insert(topic.clone(), (now.saturating_add(lasting), back));
            }
            _ => {
                self.timers.remove(&topic);
            }
        }
        if !is_so_already {
            self.orders.push_back(Order { topic, value, qos: action.qos });
        }
    }
}

fn hears(condition: &Condition, topic: TopicName<'_>) -> bool {
    let text = condition.filter.as_str();
    if text.contains('{') {
        let any: Vec<&str> = text.split('/').map(|level| if level.contains('{') { "+" } else { level }).collect();
        return TopicFilter::new(&any.join("/")).is_ok_and(|filter| filter.matches(topic));
    }
    condition.filter.as_filter().matches(topic)
}

/// The condition whose wildcards are bound, if there is one.
fn binder(rule: &Rule) -> Option<&Condition> {
    rule.conditions.iter().find(|condition| !condition.is_about_all)
}

fn begins(rules: &[Live], index: usize, binding: &[String], topic: TopicName<'_>) -> bool {
    let condition = rules.get(index).and_then(|live| binder(&live.rule));
    condition.and_then(|condition| bind(condition, topic)).is_some_and(|bound| bound == binding)
}

/// What the wildcards of a condition stand for in a topic.
fn bind(condition: &Condition, topic: TopicName<'_>) -> Option<Binding> {
    if !condition.filter.as_filter().matches(topic) {
        return None;
    }
    let levels = condition.filter.as_str().split('/').zip(topic.as_str().split('/'));
    Some(levels.filter(|(wild, _)| *wild == "+").map(|(_, level)| level.to_owned()).collect())
}

/// For what a rule holds, and when that may change by time alone.
fn evaluate(states: &BTreeMap<String, State>, rule: &Rule, now: Timestamp) -> (BTreeSet<Binding>, Option<Timestamp>) {
    let mut check_at: Option<Timestamp> = None;
    let mut bindings = BTreeSet::new();
    match binder(rule) {
        None => {
            bindings.insert(Vec::new());
        }
        Some(condition) => {
            let names = states.keys().filter_map(|text| TopicName::new(text).ok());
            bindings.extend(names.filter_map(|name| bind(condition, name)));
        }
    }
    bindings.retain(|binding| {
        let mut holds = true;
        for condition in &rule.conditions {
            let (is_so, at) = check(states, condition, binding, now);
            holds &= is_so;
            check_at = [check_at, at].into_iter().flatten().min();
        }
        holds
    });
    (bindings, check_at)
}

/// Whether a condition holds, and when it may if nothing changes.
fn check(
    states: &BTreeMap<String, State>,
    condition: &Condition,
    binding: &[String],
    now: Timestamp,
) -> (bool, Option<Timestamp>) {
    let is_binder = !condition.is_about_all && condition.filter.as_str().contains('+') && !binding.is_empty();
    let text = fill(condition.filter.as_str(), binding);
    let text = if is_binder { put_in(&text, binding) } else { text };
    let Ok(filter) = TopicFilter::new(&text) else { return (false, None) };
    let matches = |name: &str| TopicName::new(name).is_ok_and(|name| filter.matches(name));
    let exact = if filter.has_wildcards() { None } else { Some(states.get(&text)) };
    let all: Vec<&State> = match exact {
        Some(state) => state.into_iter().collect(),
        None => states.iter().filter(|(name, _)| matches(name)).map(|(_, state)| state).collect(),
    };
    let mut check_at: Option<Timestamp> = None;
    let mut is_so = |state: &&&State| {
        if !condition.test.holds(&state.value, &condition.value) {
            return false;
        }
        let at = state.since.saturating_add(condition.lasting);
        if at > now {
            check_at = Some(check_at.map_or(at, |before| before.min(at)));
        }
        at <= now
    };
    let count = all.iter().filter(|state| is_so(state)).count();
    let holds = if condition.is_about_all { count == all.len() && count > 0 } else { count > 0 };
    (holds, check_at)
}

/// Puts what is bound in place of `{1}` and so on.
fn fill(text: &str, binding: &[String]) -> String {
    let mut filled = text.to_owned();
    for (index, level) in binding.iter().enumerate() {
        filled = filled.replace(&format!("{{{}}}", index + 1), level);
    }
    filled
}

/// Puts what is bound in place of the wildcards.
fn put_in(filter: &str, binding: &[String]) -> String {
    let mut bound = binding.iter();
    let levels = filter.split('/').map(|level| match level {
        "+" => bound.next().map_or("+", String::as_str),
        level => level,
    });
    levels.collect::<Vec<_>>().join("/")
}

/// The topics of an action: a `+` stands for each device that there is.
fn topics(states: &BTreeMap<String, State>, action: &Action, binding: &[String]) -> Vec<String> {
    let topic = fill(&action.topic, binding);
    let Some(pattern) = topic.strip_suffix("/set").filter(|pattern| pattern.contains('+')) else { return vec![topic] };
    let Ok(filter) = TopicFilter::new(pattern) else { return Vec::new() };
    let is_meant = |name: &&String| TopicName::new(name).is_ok_and(|name| filter.matches(name));
    states.keys().filter(is_meant).map(|name| format!("{name}/set")).collect()
}
