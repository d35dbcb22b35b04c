//! One case in progress, sans-IO: bytes and the time go in, bytes and the outcome come out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use damselfly_codec::{PacketType, Version};
use damselfly_session::Timestamp;

use super::authentication::{Saying, fill};
use super::bytes::{bytes, hex};
use super::cleanup;
use super::connection::{Breach, Connection};
use super::expect::{Progress, expect, quiet, refused};
use super::names::{Features, Names, version_of};
use super::packet::{self, Written};
use super::script::{Action, Step};
use super::{Case, Failure, Outcome, Setup};

/// One connection of a run; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub usize);

/// What a [`Run`] wants done. Not `#[non_exhaustive]`: whoever performs it has to know all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a connection to the broker; what is to be sent may follow at once.
    Open(Link),
    /// Send these bytes.
    Send(Link, Vec<u8>),
    /// Close the connection, what was sent before still leaves.
    Close(Link),
}

/// One case in progress against a broker.
///
/// Drive it as the cores are driven: hand in what came with `handle_*`, perform every [`Run::poll_output`], and call
/// [`Run::handle_timeout`] when [`Run::poll_timeout`] is reached, until [`Run::is_over`].
#[derive(Debug)]
pub struct Run {
    version: Version,
    prefix: String,
    client_prefix: String,
    setup: Setup,
    statements: Vec<&'static str>,
    steps: VecDeque<Step>,
    /// When the first of `steps` became the one.
    step_since: Timestamp,
    began: Timestamp,
    is_cleaning: bool,
    connections: BTreeMap<String, Connection>,
    links: usize,
    packet_ids: BTreeMap<String, u16>,
    /// Exchanges of enhanced authentication that were begun, and which of them is that of a connection.
    exchanges: u32,
    exchange_of: BTreeMap<String, u32>,
    retained: BTreeSet<String>,
    sessions: BTreeSet<String>,
    transcript: Vec<String>,
    remarks: Vec<String>,
    outputs: VecDeque<Output>,
    outcome: Option<Outcome>,
    is_over: bool,
    features: Option<Features>,
}

impl Run {
    /// Begins a case for one version of the protocol. `number` is one that no other run with the same nonce has.
    ///
    /// A case that has no script for the version, needs what the broker does not have or is about brokers without what it
    /// has, is skipped: its outcome is there at once.
    pub fn new(now: Timestamp, case: &Case, version: Version, number: u32, setup: Setup) -> Self {
        let skipped = why_skipped(case, version, &setup);
        let steps = case.steps(version).filter(|_| skipped.is_none()).unwrap_or_default();
        let mut run = Self {
            version,
            prefix: format!("conformance/{}/{number}", setup.nonce),
            client_prefix: format!("c{}{number}", setup.nonce),
            setup,
            statements: case.statements(version).collect(),
            steps: steps.iter().cloned().collect(),
            step_since: now,
            began: now,
            is_cleaning: false,
            connections: BTreeMap::new(),
            links: 0,
            packet_ids: BTreeMap::new(),
            exchanges: 0,
            exchange_of: BTreeMap::new(),
            retained: BTreeSet::new(),
            sessions: BTreeSet::new(),
            transcript: Vec::new(),
            remarks: Vec::new(),
            outputs: VecDeque::new(),
            is_over: skipped.is_some(),
            outcome: skipped.map(Outcome::Skipped),
            features: None,
        };
        run.advance(now);
        run
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Run::handle_timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let step = self.steps.front().filter(|_| !self.is_over)?;
        let waits = match step.action {
            Action::Wait(time) | Action::Quiet(time) => time,
            _ => step.by.unwrap_or(self.setup.patience),
        };
        Some(self.step_since.saturating_add(waits))
    }

    /// How the case ended; there before [`Run::is_over`], which includes clearing up.
    pub const fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Whether nothing is left to do.
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// What the broker's last CONNACK of success said of itself.
    pub const fn features(&self) -> Option<Features> {
        self.features
    }

    /// Bytes came over a connection.
    pub fn handle_input(&mut self, now: Timestamp, link: Link, bytes: &[u8]) {
        let found = self.connections.iter_mut().find(|(_, connection)| connection.link == link);
        let Some((name, connection)) = found else { return };
        let name = name.clone();
        let (seen, result) = connection.receive(now, bytes);
        if connection.is_accepted && !self.is_cleaning {
            self.features = connection.features.or(self.features);
        }
        for packet in seen {
            self.note(now, &format!("{name} < {packet}"));
        }
        if let Some(breach) = result.err().filter(|_| !self.is_cleaning) {
            // What is no packet is not among the packets that came.
            if self.transcript.last().is_none_or(|last| !last.ends_with(&breach.came)) {
                self.note(now, &format!("{name} < {}", breach.came));
            }
            self.fail(now, breach);
        }
        self.advance(now);
    }

    /// The broker closed a connection, or it could not be opened.
    pub fn handle_end(&mut self, now: Timestamp, link: Link) {
        let found = self.connections.iter_mut().find(|(_, connection)| connection.link == link);
        let Some((name, connection)) = found.filter(|(_, connection)| connection.ended.is_none()) else { return };
        connection.ended = Some(now);
        let text = format!("{name} is closed");
        self.note(now, &text);
        self.advance(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
    }

    fn note(&mut self, now: Timestamp, text: &str) {
        if !self.is_cleaning {
            let millis = now.saturating_since(self.began).as_millis();
            self.transcript.push(format!("{}.{:03} {text}", millis / 1_000, millis % 1_000));
        }
    }

    /// Performs steps until one has to wait.
    fn advance(&mut self, now: Timestamp) {
        while !self.is_over {
            let Some(step) = self.steps.front().cloned() else {
                self.end_part(now);
                continue;
            };
            match self.perform(now, &step) {
                Progress::Pending => return,
                Progress::Done { remark } => {
                    self.remarks
                        .extend(remark.filter(|_| !self.is_cleaning).map(|what| format!("{}: {what}", step.text)));
                    self.steps.pop_front();
                    self.step_since = now;
                }
                Progress::Over { came } if !self.is_cleaning => {
                    self.outcome = Some(Outcome::Skipped(format!("the broker may say {came}")));
                    self.steps.clear();
                }
                Progress::Over { came } | Progress::Failed { came } => {
                    self.fail(now, Breach { statement: None, expected: step.text, came });
                }
            }
        }
    }

    /// The last step of the case is done, or of clearing up after it.
    fn end_part(&mut self, now: Timestamp) {
        if self.is_cleaning {
            self.is_over = true;
            for connection in self.connections.values() {
                self.outputs.push_back(Output::Close(connection.link));
            }
            return;
        }
        if self.outcome.is_none() {
            self.outcome = Some(Outcome::Passed { remarks: std::mem::take(&mut self.remarks) });
        }
        self.is_cleaning = true;
        self.step_since = now;
        self.steps = cleanup::steps(&self.connections, &self.sessions, &self.retained).into();
    }

    fn fail(&mut self, now: Timestamp, breach: Breach) {
        self.step_since = now;
        if self.is_cleaning {
            // Clearing up goes on with what is left, at most so often.
            self.steps.pop_front();
            return;
        }
        let statements = breach.statement.map_or_else(|| self.statements.clone(), |statement| vec![statement]);
        self.outcome = Some(Outcome::Failed(Failure {
            statements,
            transcript: std::mem::take(&mut self.transcript),
            expected: breach.expected.replace('~', &self.prefix),
            came: breach.came,
        }));
        self.steps.clear();
    }

    fn perform(&mut self, now: Timestamp, step: &Step) -> Progress {
        let waited = now.saturating_since(self.step_since);
        let is_late = waited >= step.by.unwrap_or(self.setup.patience);
        match &step.action {
            Action::Wait(time) if waited < *time => Progress::Pending,
            Action::Wait(_) => Progress::DONE,
            Action::Send { packet, times } => self.send(now, &step.connection, packet, times.as_deref()),
            Action::SendBytes(text) => {
                let written = bytes(text, &self.names(&step.connection, 0));
                let written = written.map(|bytes| Written { bytes, ..Written::default() });
                self.send_written(now, &step.connection, written, text)
            }
            Action::Ignore(packet_type) => {
                if let Some(connection) = self.connections.get_mut(&step.connection) {
                    connection.ignored = Some(*packet_type);
                }
                Progress::DONE
            }
            Action::Cut => {
                if let Some(connection) = self.connections.remove(&step.connection) {
                    self.outputs.push_back(Output::Close(connection.link));
                    let text = format!("{} is cut", step.connection);
                    self.note(now, &text);
                }
                Progress::DONE
            }
            Action::Expect { .. } | Action::Refused(_) | Action::Quiet(_) => {
                let since = self.step_since;
                let Some(mut connection) = self.connections.remove(&step.connection) else {
                    return Progress::Failed { came: "the case has no such connection".to_owned() };
                };
                let names = self.names(&step.connection, 0);
                let (progress, bound) = match &step.action {
                    Action::Expect { patterns, in_any_order } => {
                        expect(&mut connection, patterns, *in_any_order, &names, (since, step.after), is_late)
                    }
                    Action::Refused(codes) => (refused(&mut connection, codes, &names, is_late), None),
                    Action::Quiet(time) => (quiet(&connection, waited >= *time), None),
                    _ => (Progress::DONE, None),
                };
                self.packet_ids.extend(bound);
                self.connections.insert(step.connection.clone(), connection);
                progress
            }
        }
    }

    fn names<'a>(&'a self, connection: &'a str, round: u16) -> Names<'a> {
        Names {
            version: version_of(connection, self.version),
            prefix: &self.prefix,
            client_prefix: &self.client_prefix,
            connection,
            features: self.setup.features,
            user_name: self.setup.user_name.as_deref(),
            password: self.setup.password.as_deref(),
            method: self.setup.authentication.as_ref().map_or("", |exchange| exchange.method()),
            packet_ids: &self.packet_ids,
            round,
        }
    }

    fn send(
        &mut self,
        now: Timestamp,
        connection: &str,
        packet: &[super::token::Token],
        times: Option<&str>,
    ) -> Progress {
        let times = times.map_or(Ok(1), |times| self.names(connection, 0).number(times));
        let times = u16::try_from(times.unwrap_or(1)).unwrap_or(u16::MAX);
        let is_connect = packet.first().and_then(super::token::Token::word) == Some(PacketType::Connect.name());
        if is_connect && self.connections.get(connection).is_some_and(|connection| connection.ended.is_some()) {
            self.connections.remove(connection);
        }
        let packet = match fill(packet, |saying| self.say(connection, saying)) {
            Ok(packet) => packet,
            Err(came) => return Progress::Failed { came },
        };
        for round in 1..=times {
            let written = packet::write(&packet, &self.names(connection, round));
            let text = self.steps.front().map(|step| step.text.replace('~', &self.prefix)).unwrap_or_default();
            let text = if round == 1 { text.trim_start_matches(connection) } else { AGAIN };
            let progress = self.send_written(now, connection, written, text);
            if progress != Progress::DONE {
                return progress;
            }
        }
        Progress::DONE
    }

    /// The next Authentication Data of a connection's client.
    fn say(&mut self, connection: &str, saying: Saying) -> Result<Vec<u8>, String> {
        if saying == Saying::First {
            self.exchanges += 1;
            self.exchange_of.insert(connection.to_owned(), self.exchanges);
        }
        let exchange = self.setup.authentication.as_ref().ok_or("the case needs authentication")?;
        let number = self.exchange_of.get(connection).ok_or("no exchange has begun")?;
        let nonce = format!("{}x{number}", self.client_prefix);
        let challenge = self.connections.get(connection).map_or(&[][..], |connection| &connection.challenge);
        match saying {
            Saying::First => exchange.first(&nonce),
            Saying::Answer => exchange.answer(&nonce, challenge, true),
            Saying::Wrong => exchange.answer(&nonce, challenge, false),
        }
    }

    fn send_written(&mut self, now: Timestamp, name: &str, written: Result<Written, String>, text: &str) -> Progress {
        let written = match written {
            Ok(written) => written,
            Err(what) => return Progress::Failed { came: format!("the script cannot be followed: {what}") },
        };
        if !self.connections.contains_key(name) {
            let link = Link(self.links);
            self.links += 1;
            self.outputs.push_back(Output::Open(link));
            self.connections.insert(name.to_owned(), Connection::new(link, version_of(name, self.version)));
        }
        self.retained.extend(written.retained);
        self.sessions.extend(written.session);
        let text = text.trim().trim_start_matches(['>', ' ']);
        if text != AGAIN {
            self.note(now, &format!("{name} > {text}:{}", hex(&written.bytes)));
        }
        if let Some(connection) = self.connections.get_mut(name) {
            connection.note_sent(&written.bytes);
            self.outputs.push_back(Output::Send(connection.link, written.bytes));
        }
        Progress::DONE
    }
}

/// Why a case says nothing about the broker.
fn why_skipped(case: &Case, version: Version, setup: &Setup) -> Option<String> {
    if case.steps(version).is_none() {
        return Some("is about another version".to_owned());
    }
    if let Some(need) = case.needs.iter().find(|need| !need.is_met_by(setup)) {
        return Some(format!("needs {}", need.word()));
    }
    let had = case.lacks.iter().find(|need| need.is_met_by(setup))?;
    Some(format!("is about a broker without {}", had.word()))
}

/// Stands for the packets of a repeated line behind the first one, which the transcript leaves out.
const AGAIN: &str = "";

/// How long a case waits for anything that has no time of its own.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
