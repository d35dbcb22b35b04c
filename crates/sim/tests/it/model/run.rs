//! Plays a history to the broker and to the reference at once, and compares them after each packet.
//!
//! Whatever happens to the broker happens to the reference first. Then all that the broker sends because of it is held
//! against the reference. What it asks and what it records is answered once there is nothing else left to do, or later.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use damselfly_broker::{
    Answer as Permit, Broker, CommitId, Config, ConnectionId, Grant, Output, Peer, QuestionId, ReasonCode,
    WhenFull as Policy,
};
use damselfly_codec::{FrameLimits, split_frame};
use damselfly_session::Timestamp;

use super::{
    client::Client,
    held::{QUESTION_TIMEOUT, access},
    observed::{Seen, Sent},
    reference::{ALIAS_MAXIMUM, Arrival, MAX_INFLIGHT, Model, Session, Stage},
    script::{Action, Connect, Kind, Late, Limits, Script, Step, WhenFull},
    wire::{Reader, encode, encode_connect},
};

/// Topic Aliases the broker sets towards one client.
const ALIASES_OUT: u16 = 2;

#[derive(Debug)]
struct Link {
    /// The reference's name for it.
    number: u32,
    client: String,
    reader: Reader,
    /// Maximum Packet Size.
    packet: Option<u32>,
    inbox: Vec<u8>,
}

/// A broker, its clients, and the reference beside it.
pub(super) struct Run {
    pub(super) broker: Broker,
    pub(super) model: Model,
    /// Milliseconds.
    pub(super) now: u64,
    clients: BTreeMap<String, Client>,
    links: BTreeMap<ConnectionId, Link>,
    /// Packets that arrived and that their clients have not looked at.
    arrived: VecDeque<(String, ConnectionId, Seen)>,
    /// Questions without an answer, those that are forgotten among them.
    asked: Vec<QuestionId>,
    /// Journal groups that are not durable, each with the call that made it.
    groups: VecDeque<(CommitId, u64)>,
    holds_questions: bool,
    holds_commits: bool,
    last_number: u32,
    /// What happened, where somebody has to understand a failure.
    trace: Option<Vec<String>>,
}

pub(super) fn timestamp(millis: u64) -> Timestamp {
    Timestamp::from_secs(1_000).saturating_add(Duration::from_millis(millis))
}

/// Plays a history; what happened in it, or where broker and reference disagree.
pub(crate) fn play(script: &Script) -> Result<BTreeSet<&'static str>, String> {
    play_with(script, None)
}

/// Plays a history, and says in a failure all that was sent.
pub(crate) fn play_aloud(script: &Script) -> Result<BTreeSet<&'static str>, String> {
    play_with(script, Some(Vec::new()))
}

fn play_with(script: &Script, trace: Option<Vec<String>>) -> Result<BTreeSet<&'static str>, String> {
    let limits = match script.0.first() {
        Some(Step::Limits(limits)) => limits.clone(),
        _ => Limits::default(),
    };
    let mut run = Run {
        broker: Broker::new(config(&limits), 0x00DA_35E1).unwrap(),
        model: Model { limits, ..Model::default() },
        now: 0,
        clients: BTreeMap::new(),
        links: BTreeMap::new(),
        arrived: VecDeque::new(),
        asked: Vec::new(),
        groups: VecDeque::new(),
        holds_questions: false,
        holds_commits: false,
        last_number: 0,
        trace,
    };
    let played = AssertUnwindSafe(|| {
        script.0.iter().try_for_each(|step| run.step(step))?;
        run.finish()
    });
    // What panics is cut down as any other failure.
    let result = std::panic::catch_unwind(played)
        .unwrap_or_else(|panic| Err(format!("a panic: {:?}", panic.downcast_ref::<String>())));
    result
        .map(|()| run.model.features)
        .map_err(|error| format!("{}\n=> {}", run.trace.unwrap_or_default().join("\n"), readable(&error)))
}

/// Long payloads are long for their size, not for what is in them.
fn readable(line: &str) -> String {
    line.replace(&".".repeat(32), "")
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::default();
    config.max_inflight = MAX_INFLIGHT;
    config.topic_alias_maximum = ALIAS_MAXIMUM;
    config.max_outbound_topic_aliases = ALIASES_OUT;
    config.question_timeout = Duration::from_millis(QUESTION_TIMEOUT);
    // A publisher is told at once that a queue is full.
    config.pause_limit = Duration::ZERO;
    config.max_queued_messages = limits.queue.unwrap_or(config.max_queued_messages);
    config.max_queued_bytes = limits.bytes.unwrap_or(config.max_queued_bytes);
    config.when_full = match limits.when_full {
        WhenFull::DropNewest => Policy::DropNewest,
        WhenFull::DropOldest => Policy::DropOldest,
        WhenFull::CloseLegacyPublisher => Policy::CloseLegacyPublisher,
    };
    config
}

impl Run {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(readable(&line()));
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if self.model.is_undecided {
            return Ok(());
        }
        self.tell(|| step.to_string());
        // Two steps never fall on one point in time, so that no two deadlines do.
        self.pass(1)?;
        match step {
            Step::Wait(seconds) => self.pass(seconds * 1_000)?,
            Step::Hold(Late::Commits) => self.holds_commits = true,
            Step::Hold(Late::Questions) => self.holds_questions = true,
            Step::Commit(None) => {
                self.holds_commits = false;
                self.work()?;
            }
            Step::Commit(Some(count)) => {
                for _ in 0..*count {
                    self.commit()?;
                }
                self.work()?;
            }
            Step::Answer(None) => {
                self.holds_questions = false;
                self.work()?;
            }
            Step::Answer(Some((yes, at))) if !self.asked.is_empty() => {
                self.answer(at % self.asked.len(), *yes)?;
                self.work()?;
            }
            Step::Client { name, action, cut } => self.act(name, action, *cut)?,
            Step::Limits(_) | Step::Answer(Some(_)) => {}
        }
        if self.model.is_undecided {
            self.model.features.insert(UNDECIDED);
            return Ok(());
        }
        self.compare()
    }

    fn act(&mut self, name: &str, action: &Action, cut: Option<usize>) -> Result<(), String> {
        let client = self.clients.entry(name.into()).or_default();
        if let Action::Connect(connect) = action {
            return self.connect(name, connect, cut);
        }
        let Some(connection) = client.connection else { return Ok(()) };
        let is_open = matches!(self.model.connections[&self.links[&connection].number].stage, Stage::Open);
        if !is_open && *action != Action::Cut {
            return Ok(());
        }
        let packets = match action {
            Action::Connect(_) => Vec::new(),
            Action::Subscribe { filter, options } => vec![client.subscribe(filter, options)],
            Action::Unsubscribe { filter } => vec![client.unsubscribe(filter)],
            Action::Publish(publish) => vec![client.publish(publish)],
            Action::Ack { kind, count } => client.answer(*kind, *count),
            Action::Refuse => client.refuse().into_iter().collect(),
            Action::Disconnect { with_will, expiry } => {
                let (with_will, expiry) = (*with_will && client.is_v5, expiry.filter(|_| client.is_v5));
                vec![Sent::Disconnect { with_will, expiry }]
            }
            Action::Deaf => {
                client.is_deaf = true;
                return Ok(());
            }
            Action::Cut => return self.cut(connection),
        };
        let is_disconnect = matches!(action, Action::Disconnect { .. });
        if let Some(at) = cut.filter(|_| !is_disconnect) {
            let bytes: Vec<_> = packets.iter().take(1).flat_map(|packet| encode(client.is_v5, packet)).collect();
            if !bytes.is_empty() {
                self.note_cut(packets.first());
                self.input(connection, &bytes[..at % bytes.len()])?;
            }
            return self.cut(connection);
        }
        packets.into_iter().try_for_each(|packet| self.send(name, packet))?;
        if is_disconnect && self.links.contains_key(&connection) {
            Err("not closed after DISCONNECT".into())
        } else {
            Ok(())
        }
    }

    fn note_cut(&mut self, packet: Option<&Sent>) {
        self.model.features.insert(match packet {
            Some(Sent::Publish { publish, .. }) if publish.qos > 0 => "a connection is cut inside PUBLISH",
            Some(Sent::Pubrec { .. }) => "a connection is cut inside PUBREC",
            Some(Sent::Pubrel { .. }) => "a connection is cut inside PUBREL",
            Some(Sent::Pubcomp { .. }) => "a connection is cut inside PUBCOMP",
            Some(Sent::Puback { .. }) => "a connection is cut inside PUBACK",
            Some(Sent::Subscribe { .. }) => "a connection is cut inside SUBSCRIBE",
            _ => "a connection is cut inside another packet",
        });
    }

    fn connect(&mut self, name: &str, connect: &Connect, cut: Option<usize>) -> Result<(), String> {
        let connection =
            self.broker.handle_connection(timestamp(self.now), Peer::default()).map_err(|_| "not let in")?;
        let bytes = encode_connect(name, connect);
        if let Some(at) = cut {
            self.model.features.insert("a connection is cut inside CONNECT");
            self.input(connection, &bytes[..at % bytes.len()])?;
            self.begin_call();
            self.broker.handle_connection_lost(timestamp(self.now), connection);
            return self.drain();
        }
        self.last_number += 1;
        let number = self.last_number;
        let is_v5 = connect.is_v5;
        let reader = Reader::new(is_v5, connect.aliases.filter(|_| is_v5).unwrap_or(0));
        let packet = connect.packet.filter(|_| is_v5);
        self.links.insert(connection, Link { number, client: name.into(), reader, packet, inbox: Vec::new() });
        let mut will = connect.will.clone();
        if let Some(will) = will.as_mut().filter(|_| !connect.is_v5) {
            will.delay = 0;
            will.publish.expiry = None;
        }
        let (clean, expiry, receive) = (connect.clean, connect.expiry, connect.receive);
        let arrival = Arrival { client: name.into(), is_v5, clean, expiry, receive, packet, will };
        self.begin_call();
        self.model.connect(number, arrival);
        self.clients.get_mut(name).unwrap().connect(connection, connect);
        self.feed(connection, &bytes)?;
        self.work()
    }

    /// A client sends a packet, and all that follows from it happens.
    fn send(&mut self, name: &str, packet: Sent) -> Result<(), String> {
        self.hand_over(name, packet)?;
        self.work()
    }

    fn hand_over(&mut self, name: &str, packet: Sent) -> Result<(), String> {
        let client = &self.clients[name];
        let Some(connection) = client.connection else { return Ok(()) };
        let bytes = encode(client.is_v5, &packet);
        self.tell(|| format!("    {name} sends {packet:?}"));
        self.begin_call();
        self.model.receive(self.links[&connection].number, packet);
        self.feed(connection, &bytes)
    }

    /// Bytes without a meaning of their own.
    fn input(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<(), String> {
        self.begin_call();
        self.feed(connection, bytes)
    }

    fn feed(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<(), String> {
        let _ = self.broker.handle_input(timestamp(self.now), connection, bytes);
        self.drain()
    }

    fn begin_call(&mut self) {
        self.model.begin_call();
        for view in self.broker.sessions() {
            self.model.count_queue(view.client_id, (view.queued, view.queued_bytes));
        }
    }

    /// The connection breaks, and the broker learns of it.
    fn cut(&mut self, connection: ConnectionId) -> Result<(), String> {
        let Some(link) = self.links.remove(&connection) else { return Ok(()) };
        self.note_phases(&link.client);
        self.begin_call();
        self.model.lose(link.number);
        self.clients.get_mut(&link.client).unwrap().connection = None;
        self.broker.handle_connection_lost(timestamp(self.now), connection);
        self.drain()?;
        self.work()
    }

    /// In which phases of a handshake a connection is cut.
    fn note_phases(&mut self, name: &str) {
        let client = &self.clients[name];
        let features = client.due.iter().map(|(kind, _)| match kind {
            Kind::Puback => "cut before PUBACK to the broker",
            Kind::Pubrec => "cut before PUBREC to the broker",
            Kind::Pubrel => "cut before PUBREL to the broker",
            Kind::Pubcomp => "cut before PUBCOMP to the broker",
        });
        self.model.features.extend(features);
    }

    /// Lets everything happen that follows, until nothing does but what is held.
    fn work(&mut self) -> Result<(), String> {
        while !self.model.is_undecided {
            if let Some((name, connection, packet)) = self.arrived.pop_front() {
                let client = self.clients.get_mut(&name).unwrap();
                if client.is_deaf || client.connection != Some(connection) {
                    continue;
                }
                for answer in client.see(&packet) {
                    self.hand_over(&name, answer)?;
                }
            } else if !self.holds_questions && !self.asked.is_empty() {
                self.answer(0, true)?;
            } else if !self.holds_commits && !self.groups.is_empty() {
                self.commit()?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The oldest journal group becomes durable.
    fn commit(&mut self) -> Result<(), String> {
        let Some((id, call)) = self.groups.pop_front() else { return Ok(()) };
        if self.holds_commits {
            self.tell(|| format!("    what call {call} recorded is durable"));
            self.model.features.insert("a commit comes late");
        }
        self.begin_call();
        self.model.commit(call);
        self.broker.handle_committed(timestamp(self.now), id);
        self.drain()
    }

    fn answer(&mut self, at: usize, yes: bool) -> Result<(), String> {
        let id = self.asked.remove(at);
        if self.holds_questions {
            self.tell(|| format!("    {id:?} is answered"));
            self.model.features.insert("a question is answered late");
        }
        let mut grant = Grant::default();
        grant.access = Some(Arc::new(access()));
        let permit = if yes { Permit::Allow(grant) } else { Permit::Deny(ReasonCode::NotAuthorized) };
        self.begin_call();
        self.model.answer(id, yes);
        self.broker.handle_answer(timestamp(self.now), id, permit);
        self.drain()
    }

    /// Performs what the broker wants, and holds what it sends against the reference.
    fn drain(&mut self) -> Result<(), String> {
        if self.model.is_undecided {
            return Ok(());
        }
        let now = timestamp(self.now);
        let call = self.model.call;
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Transmit(connection) => self.take(connection)?,
                Output::Close(connection) => {
                    self.take(connection)?;
                    self.broker.handle_connection_lost(now, connection);
                    self.closed(connection)?;
                }
                Output::Ask { id, question } => {
                    self.model.observe_question(id, &question)?;
                    self.asked.push(id);
                }
                Output::Commit(id) => self.groups.push_back((id, call)),
                Output::Resume(_) | Output::Event(_) => {}
                output => return Err(format!("unexpected: {output:?}")),
            }
        }
        if self.broker.poll_timeout().is_some_and(|at| at <= now) {
            // An earlier call left something for a later one.
            self.broker.handle_timeout(now);
            return self.drain();
        }
        if self.model.is_undecided {
            return Ok(());
        }
        if let Some(question) = self.model.questions.iter().find(|question| question.id.is_none()) {
            return Err(format!("not asked: {:?}", question.about));
        }
        let numbers: Vec<_> = self.links.values().map(|link| link.number).collect();
        numbers.into_iter().try_for_each(|number| self.model.check_settled(number))?;
        self.model.check_shared()?;
        let open =
            |link: &Link| self.model.connections.get(&link.number).is_some_and(|connection| !connection.is_closed);
        match self.links.values().find(|link| !open(link)) {
            Some(link) => Err(format!("the connection of {} is still open", link.client)),
            None => Ok(()),
        }
    }

    fn take(&mut self, connection: ConnectionId) -> Result<(), String> {
        loop {
            let mut chunks = [&[][..]; 4];
            let count = self.broker.transmit(connection, &mut chunks);
            let bytes = chunks[..count].concat();
            if bytes.is_empty() {
                break;
            }
            if let Some(link) = self.links.get_mut(&connection) {
                link.inbox.extend_from_slice(&bytes);
            }
            self.broker.handle_transmitted(timestamp(self.now), connection, bytes.len());
        }
        let Some(link) = self.links.get_mut(&connection) else { return Ok(()) };
        let inbox = core::mem::take(&mut link.inbox);
        let mut rest = &inbox[..];
        while let Some(frame) = split_frame(rest, &FrameLimits::default()).map_err(|error| format!("{error:?}"))? {
            let packet = link.reader.decode(frame)?;
            if let Some(trace) = &mut self.trace {
                trace.push(readable(&format!("        {} gets {packet:?}", link.client)));
            }
            if link.packet.is_some_and(|limit| frame.len() > usize::try_from(limit).unwrap()) {
                return Err(format!("{}: larger than its Maximum Packet Size", link.client)); // [MQTT-3.1.2-24]
            }
            self.model.observe(link.number, &packet).map_err(|error| format!("{}: {error}", link.client))?;
            self.arrived.push_back((link.client.clone(), connection, packet));
            rest = &rest[frame.len()..];
        }
        link.inbox = rest.to_vec();
        self.model.note_if(link.reader.has_read_alias, "an alias of the broker stands for its topic");
        self.model.note_if(link.reader.has_replaced_alias, "an alias of the broker comes to stand for another topic");
        Ok(())
    }

    /// The broker has closed a connection.
    fn closed(&mut self, connection: ConnectionId) -> Result<(), String> {
        let Some(link) = self.links.remove(&connection) else { return Ok(()) };
        let client = self.clients.get_mut(&link.client).unwrap();
        client.connection.take_if(|current| *current == connection);
        let due = self.model.connections.get(&link.number).filter(|due| due.is_closed);
        let Some(due) = due else { return Err(format!("{} is closed without a reason", link.client)) };
        if !due.answers.is_empty() {
            return Err(format!("{} was not sent {:?}", link.client, due.answers));
        }
        self.model.lose(link.number);
        Ok(())
    }

    /// Time goes by, with every deadline on the way.
    fn pass(&mut self, millis: u64) -> Result<(), String> {
        let until = self.now + millis;
        loop {
            let of_broker = self.broker.poll_timeout();
            let of_model = self.model.next_deadline();
            let due = [of_broker, of_model.map(timestamp)].into_iter().flatten().min();
            let Some(at) = due.filter(|at| *at <= timestamp(until)) else { break };
            let micros = at.saturating_micros_since(timestamp(self.now));
            self.now += micros.div_ceil(1_000);
            self.expire()?;
        }
        self.now = until;
        self.expire()
    }

    fn expire(&mut self) -> Result<(), String> {
        self.begin_call();
        self.model.advance(self.now);
        self.broker.handle_timeout(timestamp(self.now));
        self.drain()?;
        self.work()
    }

    /// Every client comes back and acknowledges everything: what was kept for it arrives.
    fn finish(&mut self) -> Result<(), String> {
        if self.model.is_undecided {
            return Ok(());
        }
        self.step(&Step::Answer(None))?;
        self.step(&Step::Commit(None))?;
        // One whose message found no room comes again when there is some.
        for _ in 0..3 {
            for name in self.model.sessions.keys().cloned().collect::<Vec<_>>() {
                let is_v5 = self.clients[&name].is_v5;
                let connect = Connect { is_v5, expiry: Some(u32::MAX), ..Connect::default() };
                self.step(&Step::Client { name, action: Action::Connect(connect), cut: None })?;
            }
            if self.model.is_undecided || !self.waits() {
                return Ok(());
            }
        }
        // One that is closed for what it repeats never gets to acknowledge what fills its queue.
        if self.model.limits.when_full == WhenFull::CloseLegacyPublisher {
            return Ok(());
        }
        Err("with every client there, messages still wait".into())
    }

    fn waits(&self) -> bool {
        let is_waiting = |session: &Session| {
            !session.owed.is_empty() || !session.inflight.is_empty() || !session.is_open || !session.held.is_empty()
        };
        self.model.sessions.values().any(is_waiting)
            || !self.model.shared.is_empty()
            || !self.model.after_commit.is_empty()
            || self.broker.messages_len() > 0
    }
}

/// Not a feature: how many histories end early.
pub(crate) const UNDECIDED: &str = "what a full queue dropped cannot be told, and the history ends there";
