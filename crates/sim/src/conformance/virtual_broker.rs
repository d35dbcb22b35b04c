//! Our own broker core under the cases, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use damselfly_broker::{
    Answer, AuthenticationStep, Broker, Config, ConfigError, ConnectionId, Event, Output as BrokerOutput, Peer,
    Question, Secret, ShardId,
};
use damselfly_codec::{FrameLimits, Packet, ReasonCode, Version, split_frame};
use damselfly_session::Timestamp;

use super::authentication::Countersign;
use super::{Case, Features, Link, Outcome, Output, Run, Setup, probe};

/// A broker core or two that are joined, a clock that stands still until something waits for it, and the connections of
/// runs.
#[derive(Debug)]
pub struct VirtualBroker {
    /// The number of each is its place.
    brokers: Vec<Broker>,
    placement: u32,
    /// Where clients are, by their identifiers: wherever they come back, their sessions are.
    places: BTreeMap<String, usize>,
    now: Timestamp,
    connections: BTreeMap<At, Carried>,
    /// Opened by a run that has not said yet who it is.
    opened: BTreeSet<(usize, Link)>,
    /// How many clients each run has had.
    clients: BTreeMap<usize, u32>,
    runs_made: u32,
    features: Option<Features>,
}

/// A broker and one of its connections.
type At = (usize, ConnectionId);

/// One connection of a run.
#[derive(Debug)]
struct Carried {
    run: usize,
    link: Link,
    /// What the run has sent that the core has not taken.
    unread: Vec<u8>,
}

impl VirtualBroker {
    /// A broker that lets everybody do everything, and knows one Authentication Method.
    ///
    /// # Errors
    ///
    /// What the broker says about its config.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self::of(vec![Broker::new(config, SEED)?], 0))
    }

    /// Two such brokers that are joined: what one says to the other is carried at once. The clients of a run stand at the
    /// first or the second as the bits of `placement` say, the lowest for the client that came first.
    ///
    /// # Errors
    ///
    /// What the brokers say about their config.
    pub fn joined(config: Config, placement: u32) -> Result<Self, ConfigError> {
        let mut config = config;
        config.announce_interest = true;
        // Seeds differ: identifiers that the brokers assign come from them.
        let mut brokers = vec![Broker::new(config.clone(), SEED)?, Broker::new(config, SEED + 1)?];
        for (broker, other) in brokers.iter_mut().zip([1, 0]) {
            broker.handle_shard_joined(BEGIN, ShardId(other));
        }
        Ok(Self::of(brokers, placement))
    }

    fn of(brokers: Vec<Broker>, placement: u32) -> Self {
        Self {
            brokers,
            placement,
            places: BTreeMap::new(),
            now: BEGIN,
            connections: BTreeMap::new(),
            opened: BTreeSet::new(),
            clients: BTreeMap::new(),
            runs_made: 0,
            features: None,
        }
    }

    /// The broker, or the two.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The most clients that one of the runs driven last had, those that cleared up after it not counted.
    pub fn most_clients(&self) -> u32 {
        self.clients.values().copied().max().unwrap_or_default()
    }

    /// Runs one case.
    pub fn run(&mut self, case: &Case, version: Version) -> Outcome {
        let outcome = self.run_together(&[(case, version)]).pop();
        outcome.unwrap_or_else(|| Outcome::Skipped("nothing was run".to_owned()))
    }

    /// Runs cases at the same time, and returns their outcomes in the same order.
    pub fn run_together(&mut self, cases: &[(&Case, Version)]) -> Vec<Outcome> {
        let features = self.features();
        let mut runs: Vec<_> = cases.iter().map(|(case, version)| self.begin(case, *version, features)).collect();
        self.drive(&mut runs);
        let outcome = |run: &Run| run.outcome().cloned().unwrap_or_else(|| Outcome::Skipped("not over".to_owned()));
        runs.iter().map(outcome).collect()
    }

    /// What the broker says of itself, asked once.
    fn features(&mut self) -> Features {
        if let Some(features) = self.features {
            return features;
        }
        let Ok(probe) = probe() else { return Features::default() };
        let mut runs = [self.begin(&probe, Version::V5_0, Features::default())];
        self.drive(&mut runs);
        let features = runs.iter().find_map(Run::features).unwrap_or_default();
        self.features = Some(features);
        features
    }

    fn begin(&mut self, case: &Case, version: Version, features: Features) -> Run {
        self.runs_made += 1;
        let setup = Setup { features, authentication: Some(Arc::new(Countersign)), ..Setup::new("v") };
        Run::new(self.now, case, version, self.runs_made, setup)
    }

    /// Lets everything happen that does, and then the time that comes next.
    fn drive(&mut self, runs: &mut [Run]) {
        self.clients.clear();
        loop {
            self.settle(runs);
            let next = runs.iter().filter_map(Run::poll_timeout).min();
            let Some(run_next) = next else { return };
            let due = self.brokers.iter().filter_map(Broker::poll_timeout).min();
            self.now = self.now.max(due.map_or(run_next, |at| at.min(run_next)));
            for place in 0..self.brokers.len() {
                let now = self.now;
                if let Some(broker) = self.brokers.get_mut(place) {
                    if broker.poll_timeout().is_some_and(|at| at <= now) {
                        broker.handle_timeout(now);
                    }
                }
                self.settle(runs);
            }
            for run in runs.iter_mut() {
                if run.poll_timeout().is_some_and(|at| at <= self.now) {
                    run.handle_timeout(self.now);
                }
            }
        }
    }

    fn settle(&mut self, runs: &mut [Run]) {
        loop {
            let mut is_quiet = true;
            for place in 0..self.brokers.len() {
                while let Some(output) = self.brokers.get_mut(place).and_then(Broker::poll_output) {
                    is_quiet = false;
                    self.perform_broker(place, output, runs);
                }
            }
            for index in 0..runs.len() {
                while let Some(output) = runs.get_mut(index).and_then(Run::poll_output) {
                    is_quiet = false;
                    self.perform_run(index, output, runs);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn perform_run(&mut self, run: usize, output: Output, runs: &mut [Run]) {
        match output {
            Output::Open(link) => {
                self.opened.insert((run, link));
            }
            Output::Send(link, bytes) => {
                if self.opened.remove(&(run, link)) {
                    self.open(run, link, &bytes, runs);
                }
                if let Some(at) = self.connection(run, link) {
                    if let Some(carried) = self.connections.get_mut(&at) {
                        carried.unread.extend(bytes);
                    }
                    self.hand_in(at);
                }
            }
            Output::Close(link) => {
                if let Some(at) = self.connection(run, link) {
                    self.connections.remove(&at);
                    self.lose(at);
                }
            }
        }
    }

    /// Opens a connection at the broker where the client belongs that sends these bytes first.
    fn open(&mut self, run: usize, link: Link, bytes: &[u8], runs: &mut [Run]) {
        let client_id = client_id(bytes);
        let known = client_id.as_ref().and_then(|id| self.places.get(id).copied());
        let place = known.unwrap_or_else(|| {
            let is_clearing_up = runs.get(run).is_none_or(|run| run.outcome().is_some());
            let clients = self.clients.entry(run).or_default();
            let bit = self.placement.checked_shr(*clients).unwrap_or_default() & 1;
            *clients += u32::from(!is_clearing_up);
            usize::from(bit != 0)
        });
        if let Some(client_id) = client_id {
            self.places.insert(client_id, place);
        }
        let now = self.now;
        match self.brokers.get_mut(place).map(|broker| broker.handle_connection(now, Peer::default())) {
            Some(Ok(connection)) => {
                self.connections.insert((place, connection), Carried { run, link, unread: Vec::new() });
            }
            Some(Err(_)) | None => self.tell_end(run, link, runs),
        }
    }

    fn perform_broker(&mut self, place: usize, output: BrokerOutput, runs: &mut [Run]) {
        let now = self.now;
        let from = ShardId(u16::try_from(place).unwrap_or(u16::MAX));
        match output {
            BrokerOutput::Transmit(connection) => self.take((place, connection), runs),
            BrokerOutput::Close(connection) => {
                let at = (place, connection);
                self.take(at, runs);
                self.lose(at);
                if let Some(Carried { run, link, .. }) = self.connections.remove(&at) {
                    self.tell_end(run, link, runs);
                }
            }
            BrokerOutput::Resume(connection) => self.hand_in((place, connection)),
            BrokerOutput::Ask { id, question } => {
                if let Some(broker) = self.brokers.get_mut(place) {
                    broker.handle_answer(now, id, answer(&question));
                }
            }
            // What came before it was carried: whoever gets an acknowledgement may rely on the other broker too.
            BrokerOutput::Commit(id) => {
                if let Some(broker) = self.brokers.get_mut(place) {
                    broker.handle_committed(now, id);
                }
            }
            BrokerOutput::Interest { to, interest } => {
                for (other, broker) in (0..).map(ShardId).zip(&mut self.brokers) {
                    if other != from && to.is_none_or(|to| to == other) {
                        broker.handle_interest(now, from, &interest);
                    }
                }
            }
            BrokerOutput::Forward { to, forward } => {
                if let Some(broker) = self.brokers.get_mut(usize::from(to.0)) {
                    broker.handle_forward(now, &forward);
                }
            }
            // An identifier that was assigned may be used to come back.
            BrokerOutput::Event(Event::Connected { client_id, .. }) => {
                self.places.insert(client_id.into_string(), place);
            }
            BrokerOutput::Deliver { .. } | BrokerOutput::Event(_) => {}
        }
    }

    fn take(&mut self, at: At, runs: &mut [Run]) {
        let Some(broker) = self.brokers.get_mut(at.0) else { return };
        loop {
            let mut chunks = [&[][..]; 16];
            let count = broker.transmit(at.1, &mut chunks);
            let bytes = chunks.get(..count).unwrap_or_default().concat();
            if bytes.is_empty() {
                return;
            }
            broker.handle_transmitted(self.now, at.1, bytes.len());
            if let Some(Carried { run, link, .. }) = self.connections.get(&at) {
                if let Some(run) = runs.get_mut(*run) {
                    run.handle_input(self.now, *link, &bytes);
                }
            }
        }
    }

    fn hand_in(&mut self, at: At) {
        let Some(Carried { unread, .. }) = self.connections.get_mut(&at) else { return };
        let Some(broker) = self.brokers.get_mut(at.0) else { return };
        let intake = broker.handle_input(self.now, at.1, unread);
        unread.drain(..intake.consumed.min(unread.len()));
    }

    fn lose(&mut self, at: At) {
        if let Some(broker) = self.brokers.get_mut(at.0) {
            broker.handle_connection_lost(self.now, at.1);
        }
    }

    fn connection(&self, run: usize, link: Link) -> Option<At> {
        let is_it = |carried: &Carried| (carried.run, carried.link) == (run, link);
        self.connections.iter().find(|(_, carried)| is_it(carried)).map(|(at, _)| *at)
    }

    fn tell_end(&self, run: usize, link: Link, runs: &mut [Run]) {
        if let Some(run) = runs.get_mut(run) {
            run.handle_end(self.now, link);
        }
    }
}

const SEED: u64 = 0x00C0_4F02;
const BEGIN: Timestamp = Timestamp::from_secs(1_000);

/// Who sends this, if it begins with a CONNECT that says so.
fn client_id(bytes: &[u8]) -> Option<String> {
    let frame = split_frame(bytes, &FrameLimits::default()).ok()??;
    match Packet::decode(Version::V5_0, frame) {
        Ok(Packet::Connect(connect)) => Some(connect.fields().client_id.to_owned()).filter(|id| !id.is_empty()),
        _ => None,
    }
}

fn answer(question: &Question) -> Answer {
    match question {
        Question::Connect { authentication: Some(step), .. } | Question::Authenticate { step, .. } => countersign(step),
        _ => Answer::allow(),
    }
}

/// The broker's side of [`Countersign`], which needs no memory.
fn countersign(step: &AuthenticationStep) -> Answer {
    if &*step.method != Countersign::METHOD {
        return Answer::Deny(ReasonCode::BadAuthenticationMethod);
    }
    match step.data.as_ref().map(Secret::as_bytes) {
        Some(Countersign::FIRST) => Answer::Continue(Some(Countersign::CHALLENGE.into())),
        Some(Countersign::RIGHT) => Answer::allow(),
        _ => Answer::Deny(ReasonCode::NotAuthorized),
    }
}
