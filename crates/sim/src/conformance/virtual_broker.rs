//! Our own broker core under the cases, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;

use damselfly_broker::{
    Answer, AuthenticationStep, Broker, Config, ConfigError, ConnectionId, Output as BrokerOutput, Peer, Question,
    Secret,
};
use damselfly_codec::{ReasonCode, Version};
use damselfly_session::Timestamp;

use super::authentication::Countersign;
use super::{Case, Features, Link, Outcome, Output, Run, Setup, probe};

/// A broker core, a clock that stands still until something waits for it, and the connections of runs.
#[derive(Debug)]
pub struct VirtualBroker {
    broker: Broker,
    now: Timestamp,
    /// Which run a connection belongs to, and what it has sent that the core has not taken.
    connections: BTreeMap<ConnectionId, (usize, Link, Vec<u8>)>,
    runs_made: u32,
    features: Option<Features>,
}

impl VirtualBroker {
    /// A broker that lets everybody do everything, and knows one Authentication Method.
    ///
    /// # Errors
    ///
    /// What the broker says about its config.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            broker: Broker::new(config, 0x00C0_4F02)?,
            now: Timestamp::from_secs(1_000),
            connections: BTreeMap::new(),
            runs_made: 0,
            features: None,
        })
    }

    /// The broker.
    pub const fn broker(&self) -> &Broker {
        &self.broker
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
        loop {
            self.settle(runs);
            let next = runs.iter().filter_map(Run::poll_timeout).min();
            let Some(run_next) = next else { return };
            let next = self.broker.poll_timeout().map_or(run_next, |at| at.min(run_next));
            self.now = self.now.max(next);
            if self.broker.poll_timeout().is_some_and(|at| at <= self.now) {
                self.broker.handle_timeout(self.now);
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
            while let Some(output) = self.broker.poll_output() {
                is_quiet = false;
                self.perform_broker(output, runs);
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

    fn perform_run(&mut self, index: usize, output: Output, runs: &mut [Run]) {
        match output {
            Output::Open(link) => match self.broker.handle_connection(self.now, Peer::default()) {
                Ok(connection) => {
                    self.connections.insert(connection, (index, link, Vec::new()));
                }
                Err(_) => self.tell_end(index, link, runs),
            },
            Output::Send(link, bytes) => {
                if let Some(connection) = self.connection(index, link) {
                    if let Some((_, _, unread)) = self.connections.get_mut(&connection) {
                        unread.extend(bytes);
                    }
                    self.hand_in(connection);
                }
            }
            Output::Close(link) => {
                if let Some(connection) = self.connection(index, link) {
                    self.connections.remove(&connection);
                    self.broker.handle_connection_lost(self.now, connection);
                }
            }
        }
    }

    fn perform_broker(&mut self, output: BrokerOutput, runs: &mut [Run]) {
        match output {
            BrokerOutput::Transmit(connection) => self.take(connection, runs),
            BrokerOutput::Close(connection) => {
                self.take(connection, runs);
                self.broker.handle_connection_lost(self.now, connection);
                if let Some((index, link, _)) = self.connections.remove(&connection) {
                    self.tell_end(index, link, runs);
                }
            }
            BrokerOutput::Resume(connection) => self.hand_in(connection),
            BrokerOutput::Ask { id, question } => self.broker.handle_answer(self.now, id, answer(&question)),
            BrokerOutput::Commit(id) => self.broker.handle_committed(self.now, id),
            // One broker has nobody to talk to, and no participants of its own.
            BrokerOutput::Interest { .. }
            | BrokerOutput::Forward { .. }
            | BrokerOutput::Deliver { .. }
            | BrokerOutput::Event(_) => {}
        }
    }

    fn take(&mut self, connection: ConnectionId, runs: &mut [Run]) {
        loop {
            let mut chunks = [&[][..]; 16];
            let count = self.broker.transmit(connection, &mut chunks);
            let bytes = chunks.get(..count).unwrap_or_default().concat();
            if bytes.is_empty() {
                return;
            }
            self.broker.handle_transmitted(self.now, connection, bytes.len());
            if let Some((index, link, _)) = self.connections.get(&connection) {
                if let Some(run) = runs.get_mut(*index) {
                    run.handle_input(self.now, *link, &bytes);
                }
            }
        }
    }

    fn hand_in(&mut self, connection: ConnectionId) {
        let Some((_, _, unread)) = self.connections.get_mut(&connection) else { return };
        let intake = self.broker.handle_input(self.now, connection, unread);
        unread.drain(..intake.consumed.min(unread.len()));
    }

    fn connection(&self, index: usize, link: Link) -> Option<ConnectionId> {
        let is_it = |(run, its, _): &(usize, Link, Vec<u8>)| (*run, *its) == (index, link);
        self.connections.iter().find(|(_, entry)| is_it(entry)).map(|(connection, _)| *connection)
    }

    fn tell_end(&self, index: usize, link: Link, runs: &mut [Run]) {
        if let Some(run) = runs.get_mut(index) {
            run.handle_end(self.now, link);
        }
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
