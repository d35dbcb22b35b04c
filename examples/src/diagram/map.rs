//! A topology as a picture: clients on the left, filters in the middle, the tree of topics on the right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use damselfly_topic::TopicFilter;

use super::svg::{Canvas, Class};
use super::topology::{ClientNode, Shown, Topology};

const ROW: u32 = 24;
const TOP: u32 = 56;
const CLIENT_X: u32 = 20;
const BOX_WIDTH: u32 = 250;
const FILTER_X: u32 = 400;
const TOPIC_X: u32 = 780;
const WIDTH: u32 = 1_120;
const INDENT: u32 = 22;

/// What is drawn, rows of three columns.
struct Plan<'a> {
    clients: Vec<&'a ClientNode>,
    hidden_clients: usize,
    /// In their order, each once.
    filters: Vec<&'a str>,
    topics: Vec<Row<'a>>,
    hidden_topics: usize,
}

/// A level of the tree: the path up to it.
struct Row<'a> {
    path: &'a str,
    depth: usize,
    /// A message is published under the path itself.
    is_topic: bool,
}

impl<'a> Plan<'a> {
    fn new(topology: &'a Topology, shown: Shown) -> Self {
        let all: Vec<_> = topology.groups().into_iter().flat_map(|group| group.clients).collect();
        let clients: Vec<_> = all.iter().copied().take(shown.max_clients).collect();
        let filters: BTreeSet<_> = clients.iter().flat_map(|client| &client.subscriptions).collect();
        let mut filters: Vec<_> = filters.into_iter().map(|(filter, _)| filter.as_str()).collect();
        filters.dedup();
        let mut rows = BTreeMap::new();
        for topic in &topology.topics {
            let ends = topic.match_indices('/').map(|(at, _)| at).chain([topic.len()]);
            for (depth, end) in ends.enumerate() {
                let path = topic.get(..end).unwrap_or_default();
                // Levels sort as a tree does if the separator comes before every other character.
                let key: Vec<_> = path.split('/').collect();
                let row = rows.entry(key).or_insert(Row { path, depth, is_topic: false });
                row.is_topic |= end == topic.len();
            }
        }
        let (count, hidden_clients) = (rows.len(), all.len() - clients.len());
        let topics: Vec<_> = rows.into_values().take(shown.max_topics).collect();
        let hidden_topics = count - topics.len();
        Self { clients, hidden_clients, filters, topics, hidden_topics }
    }

    /// The row where a filter is at home: the level that all it matches stand under, or one above if that has no message.
    fn home(&self, filter: &str) -> Option<usize> {
        let parsed = TopicFilter::new(filter).ok()?;
        let inner = parsed.shared().map_or(filter, |shared| shared.filter().as_str());
        let literal = inner.split_once(['+', '#']).map_or(inner, |(start, _)| start.trim_end_matches('/'));
        if literal.is_empty() {
            return (!self.topics.is_empty()).then_some(0);
        }
        let above = literal.rsplit_once('/').map(|(above, _)| above);
        let at = |path: &str| self.topics.iter().position(|row| row.path == path);
        at(literal).or_else(|| at(above?))
    }
}

pub(super) fn svg(topology: &Topology, shown: Shown) -> String {
    let plan = Plan::new(topology, shown);
    let rows = (plan.clients.len() + 1).max(plan.filters.len()).max(plan.topics.len() + 1);
    let height = TOP + u32::try_from(rows).unwrap_or(u32::MAX / 2 / ROW) * ROW + ROW;
    let mut canvas = Canvas::new(WIDTH, height, "Clients, the filters they subscribe to, and the topics of the broker");
    let y = |row: usize| TOP + u32::try_from(row).unwrap_or(0) * ROW;
    for (x, title) in [(CLIENT_X, "Clients"), (FILTER_X, "Subscriptions"), (TOPIC_X, "Topics")] {
        canvas.text_from((x, 28), title, Class::Title);
    }
    for (row, client) in plan.clients.iter().enumerate() {
        for (filter, qos) in &client.subscriptions {
            let Some(at) = plan.filters.iter().position(|known| known == filter) else { continue };
            canvas.curve((CLIENT_X + BOX_WIDTH, y(row) + 6), (FILTER_X, y(at) + 6), Class::of_qos(*qos));
        }
    }
    for (row, filter) in plan.filters.iter().enumerate() {
        if let Some(home) = plan.home(filter) {
            let depth = plan.topics.get(home).map_or(0, |row| u32::try_from(row.depth).unwrap_or(0));
            let end = (TOPIC_X + depth * INDENT - 4, y(home) + 6);
            canvas.curve((FILTER_X + BOX_WIDTH, y(row) + 6), end, Class::Faint);
        }
    }
    for (row, client) in plan.clients.iter().enumerate() {
        canvas.boxed((CLIENT_X, y(row) - 4), (BOX_WIDTH, 20), Class::Box);
        canvas.text_from((CLIENT_X + 8, y(row) + 10), &label(client), Class::Label);
    }
    for (row, filter) in plan.filters.iter().enumerate() {
        canvas.boxed((FILTER_X, y(row) - 4), (BOX_WIDTH, 20), Class::Note);
        canvas.text_from((FILTER_X + 8, y(row) + 10), &cut(filter), Class::Label);
    }
    for (number, row) in plan.topics.iter().enumerate() {
        let level = row.path.rsplit('/').next().unwrap_or_default();
        let x = TOPIC_X + u32::try_from(row.depth).unwrap_or(0) * INDENT;
        let mark = if row.is_topic { "•" } else { "▸" };
        canvas.text_from((x, y(number) + 10), &format!("{mark} {}", cut(level)), Class::Label);
    }
    if plan.hidden_clients > 0 {
        let text = format!("and {} more clients", plan.hidden_clients);
        canvas.text_from((CLIENT_X + 8, y(plan.clients.len()) + 10), &text, Class::Small);
    }
    if plan.hidden_topics > 0 {
        let text = format!("and {} more levels", plan.hidden_topics);
        canvas.text_from((TOPIC_X, y(plan.topics.len()) + 10), &text, Class::Small);
    }
    canvas.finish()
}

fn label(client: &ClientNode) -> String {
    let version = client.version.as_deref().map(|version| format!(" ({version})")).unwrap_or_default();
    let absent = if client.is_connected { "" } else { ", away" };
    format!("{}{version}{absent}", cut(&client.id))
}

/// As much as fits into a box.
fn cut(text: &str) -> String {
    const MOST: usize = 30;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}

/// Clients that subscribe to the same stand in one node, since Mermaid draws few nodes well.
pub(super) fn mermaid(topology: &Topology, shown: Shown) -> String {
    let mut text = String::from("flowchart LR\n");
    let mut filters = BTreeMap::new();
    let mut clients_left = shown.max_clients;
    for (number, group) in topology.groups().iter().enumerate() {
        let most = clients_left.min(4);
        let names: Vec<_> = group.clients.iter().take(most).map(|client| quoted(&label(client))).collect();
        let more = group.clients.len() - names.len();
        let more = if more > 0 { format!("<br/>and {more} more") } else { String::new() };
        if names.is_empty() {
            break;
        }
        clients_left -= names.len();
        // A String takes everything, here and below.
        let _ = writeln!(text, "    c{number}[\"{}{more}\"]", names.join("<br/>"));
        for (filter, qos) in group.subscriptions {
            let known = filters.len();
            let at = *filters.entry(filter.as_str()).or_insert(known);
            let _ = writeln!(text, "    c{number} -->|QoS {qos}| f{at}");
        }
    }
    let plan = Plan::new(topology, shown);
    for (filter, at) in &filters {
        let _ = writeln!(text, "    f{at}([\"{}\"])", quoted(filter));
        if let Some(row) = plan.home(filter).and_then(|home| plan.topics.get(home)) {
            let _ = writeln!(text, "    f{at} -.-> t{}[/\"{}\"/]", plan.home(filter).unwrap_or(0), quoted(row.path));
        }
    }
    text
}

/// Text that a peer may have chosen, between the quotes of Mermaid.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars().filter(|char| !char.is_control()) {
        match char {
            '"' | '#' | '<' | '>' | '&' | '`' => {
                let _ = write!(out, "#{};", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out
}
