//! Leaves a broker as it was found: no will, session or retained message of a case stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::connection::Connection;
use super::pattern::Pattern;
use super::script::{Action, Step};
use super::token::Token;

/// How long each step of clearing up may take.
const LIMIT: Duration = Duration::from_secs(1);

/// The steps after a case: connections say DISCONNECT, so that no will comes late; sessions are replaced by ones that
/// end with their connection; retained messages are replaced by nothing.
pub(super) fn steps(
    connections: &BTreeMap<String, Connection>,
    sessions: &BTreeSet<String>,
    retained: &BTreeSet<String>,
) -> Vec<Step> {
    let mut all = Vec::new();
    for (name, connection) in connections {
        if connection.ended.is_none() {
            if connection.is_accepted {
                all.push(step(name, send(vec![word("DISCONNECT")])));
                all.push(step(name, expect(Pattern::Closed(Vec::new()))));
            }
            all.push(step(name, Action::Cut));
        }
    }
    for id in sessions {
        let id = Token::Assign("id".to_owned(), Box::new(Token::Text(id.clone())));
        all.extend(visit(vec![word("CONNECT"), id], Vec::new()));
    }
    if !retained.is_empty() {
        let nothing = |topic: &String| send(vec![word("PUBLISH"), word("retain"), word(topic)]);
        all.extend(visit(vec![word("CONNECT")], retained.iter().map(nothing).collect()));
    }
    all
}

/// Connects, does something, and goes.
fn visit(connect: Vec<Token>, work: Vec<Action>) -> Vec<Step> {
    const NAME: &str = "Z";
    let connack = [word("CONNACK"), word("00")];
    // A pattern of constant words is one; without it the end would come a little early.
    let accepted = Pattern::parse(&connack, damselfly_codec::Version::V5_0).unwrap_or(Pattern::Closed(Vec::new()));
    let mut all = vec![step(NAME, send(connect)), step(NAME, expect(accepted))];
    all.extend(work.into_iter().map(|action| step(NAME, action)));
    all.push(step(NAME, send(vec![word("DISCONNECT")])));
    all.push(step(NAME, expect(Pattern::Closed(Vec::new()))));
    all.push(step(NAME, Action::Cut));
    all
}

fn step(connection: &str, action: Action) -> Step {
    let text = "clearing up".to_owned();
    Step { text, connection: connection.to_owned(), action, after: Duration::ZERO, by: Some(LIMIT) }
}

const fn send(packet: Vec<Token>) -> Action {
    Action::Send { packet, times: None }
}

fn expect(pattern: Pattern) -> Action {
    Action::Expect { patterns: vec![pattern], in_any_order: false }
}

fn word(text: &str) -> Token {
    Token::Word(text.to_owned())
}
