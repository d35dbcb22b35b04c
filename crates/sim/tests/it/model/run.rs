//! Plays a history to the broker and to the reference at once, and compares them after each packet.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use damselfly_broker::{Answer as Permit, Broker, Config, ConnectionId, Output, Peer};
use damselfly_codec::{FrameLimits, SubscriptionId, split_frame};
use damselfly_session::Timestamp;
use damselfly_topic::TopicFilter;

use super::{
    client::{Client, decode, encode, encode_connect},
    observed::{Seen, Sent},
    reference::{Arrival, MAX_INFLIGHT, Model},
    script::{Action, Connect, Kind, Script, Step},
};

#[derive(Debug)]
struct Link {
    /// The reference's name for it.
    number: u32,
    client: String,
    is_v5: bool,
    inbox: Vec<u8>,
}

/// A broker, its clients, and the reference beside it.
struct Run {
    broker: Broker,
    model: Model,
    /// Milliseconds.
    now: u64,
    clients: BTreeMap<String, Client>,
    links: BTreeMap<ConnectionId, Link>,
    last_number: u32,
    /// What happened, where somebody has to understand a failure.
    trace: Option<Vec<String>>,
}

fn timestamp(millis: u64) -> Timestamp {
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
    let mut config = Config::default();
    config.max_inflight = MAX_INFLIGHT;
    let mut run = Run {
        broker: Broker::new(config, 0x00DA_35E1).unwrap(),
        model: Model::default(),
        now: 0,
        clients: BTreeMap::new(),
        links: BTreeMap::new(),
        last_number: 0,
        trace,
    };
    let result = script.0.iter().try_for_each(|step| run.step(step)).and_then(|()| run.finish());
    result
        .map(|()| run.model.features)
        .map_err(|error| format!("{}\n=> {error}", run.trace.unwrap_or_default().join("\n")))
}

impl Run {
    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.tell(|| step.to_string());
        // Two steps never fall on one point in time, so that no two deadlines do.
        self.pass(1)?;
        match step {
            Step::Wait(seconds) => self.pass(seconds * 1_000)?,
            Step::Client { name, action, cut } => self.act(name, action, *cut)?,
        }
        self.compare()
    }

    fn act(&mut self, name: &str, action: &Action, cut: Option<usize>) -> Result<(), String> {
        let client = self.clients.entry(name.into()).or_default();
        if let Action::Connect(connect) = action {
            return self.connect(name, connect, cut);
        }
        let Some(connection) = client.connection else { return Ok(()) };
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
                self.input(connection, &bytes[..at % bytes.len()]);
                self.settle()?;
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
            let _ = self.broker.handle_input(timestamp(self.now), connection, &bytes[..at % bytes.len()]);
            self.broker.handle_connection_lost(timestamp(self.now), connection);
            return self.settle();
        }
        self.last_number += 1;
        let number = self.last_number;
        self.links.insert(connection, Link { number, client: name.into(), is_v5: connect.is_v5, inbox: Vec::new() });
        let mut will = connect.will.clone();
        if let Some(will) = will.as_mut().filter(|_| !connect.is_v5) {
            will.delay = 0;
            will.publish.expiry = None;
        }
        let (is_v5, clean, receive) = (connect.is_v5, connect.clean, connect.receive);
        let arrival = Arrival { client: name.into(), is_v5, clean, expiry: connect.expiry, receive, will };
        self.model.connect(number, arrival);
        self.clients.get_mut(name).unwrap().connect(connection, connect);
        self.input(connection, &bytes);
        self.work()
    }

    /// A client sends a packet, and all that follows from it happens.
    fn send(&mut self, name: &str, packet: Sent) -> Result<(), String> {
        self.hand_over(name, packet);
        self.work()
    }

    fn hand_over(&mut self, name: &str, packet: Sent) {
        let client = &self.clients[name];
        let Some(connection) = client.connection else { return };
        let bytes = encode(client.is_v5, &packet);
        self.tell(|| format!("    {name} sends {packet:?}"));
        self.model.receive(self.links[&connection].number, packet);
        self.input(connection, &bytes);
    }

    fn input(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let _ = self.broker.handle_input(timestamp(self.now), connection, bytes);
    }

    /// The connection breaks, and the broker learns of it.
    fn cut(&mut self, connection: ConnectionId) -> Result<(), String> {
        let Some(link) = self.links.remove(&connection) else { return Ok(()) };
        self.note_phases(&link.client);
        self.model.lose(link.number);
        self.clients.get_mut(&link.client).unwrap().connection = None;
        self.broker.handle_connection_lost(timestamp(self.now), connection);
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

    /// Lets everything happen that follows, until nothing does.
    fn work(&mut self) -> Result<(), String> {
        loop {
            let arrived = self.settle_with_packets()?;
            let mut is_done = true;
            for (name, connection, packet) in arrived {
                let client = self.clients.get_mut(&name).unwrap();
                if client.is_deaf || client.connection != Some(connection) {
                    continue;
                }
                for answer in client.see(&packet) {
                    is_done = false;
                    self.hand_over(&name, answer);
                }
            }
            if is_done {
                return Ok(());
            }
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        self.settle_with_packets().map(|_| ())
    }

    /// Performs what the broker wants, holds what it sends against the reference, and returns it.
    fn settle_with_packets(&mut self) -> Result<Vec<(String, ConnectionId, Seen)>, String> {
        let mut arrived = Vec::new();
        let now = timestamp(self.now);
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Transmit(connection) => self.take(connection, &mut arrived)?,
                Output::Close(connection) => {
                    self.take(connection, &mut arrived)?;
                    self.broker.handle_connection_lost(now, connection);
                    self.closed(connection)?;
                }
                Output::Ask { id, .. } => self.broker.handle_answer(now, id, Permit::allow()),
                Output::Commit(id) => self.broker.handle_committed(now, id),
                Output::Resume(_) | Output::Event(_) => {}
                output => return Err(format!("unexpected: {output:?}")),
            }
        }
        let numbers: Vec<_> = self.links.values().map(|link| link.number).collect();
        numbers.into_iter().try_for_each(|number| self.model.check_settled(number))?;
        self.model.check_shared()?;
        let open =
            |link: &Link| self.model.connections.get(&link.number).is_some_and(|connection| !connection.is_closed);
        match self.links.values().find(|link| !open(link)) {
            Some(link) => Err(format!("the connection of {} is still open", link.client)),
            None => Ok(arrived),
        }
    }

    fn take(&mut self, connection: ConnectionId, to: &mut Vec<(String, ConnectionId, Seen)>) -> Result<(), String> {
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
            let packet = decode(link.is_v5, frame)?;
            if let Some(trace) = &mut self.trace {
                trace.push(format!("        {} gets {packet:?}", link.client));
            }
            self.model.observe(link.number, &packet).map_err(|error| format!("{}: {error}", link.client))?;
            to.push((link.client.clone(), connection, packet));
            rest = &rest[frame.len()..];
        }
        link.inbox = rest.to_vec();
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
        self.model.advance(self.now);
        self.broker.handle_timeout(timestamp(self.now));
        self.work()
    }

    /// The same sessions, subscriptions and retained messages.
    fn compare(&self) -> Result<(), String> {
        self.broker.audit().map_err(|drift| drift.to_string())?;
        let mut found: Vec<_> = self.broker.sessions().map(|view| view.client_id).collect();
        found.sort_unstable();
        if !found.iter().eq(self.model.sessions.keys()) {
            return Err(format!("sessions of {found:?}, not of {:?}", self.model.sessions.keys()));
        }
        for (client, due) in &self.model.sessions {
            let Some(view) = self.broker.session(client) else { return Err(format!("{client} has no session")) };
            let found = (view.connection.is_some(), view.ends_at, view.in_flight);
            let due = (due.connection.is_some(), due.ends_at.map(timestamp), due.inflight.len());
            if found != due {
                return Err(format!("{client} has (connection, end, in flight) {found:?}, not {due:?}"));
            }
            self.compare_subscriptions(client)?;
        }
        self.compare_retained()
    }

    fn compare_subscriptions(&self, client: &str) -> Result<(), String> {
        let found: Vec<_> = self
            .broker
            .subscriptions(client)
            .map(|view| {
                let id = view.id.map(SubscriptionId::get);
                (view.filter, view.qos.level(), view.no_local, view.retain_as_published, id)
            })
            .collect();
        let due: Vec<_> = self.model.sessions[client]
            .subscriptions
            .iter()
            .map(|(filter, due)| (filter.as_str(), due.qos, due.no_local, due.retain_as_published, due.id))
            .collect();
        if found == due { Ok(()) } else { Err(format!("{client} is subscribed to {found:?}, not {due:?}")) }
    }

    /// What has expired may stay a while: nobody gets it.
    fn compare_retained(&self) -> Result<(), String> {
        let all = ["#", "$s/#"].map(|filter| self.broker.retained(TopicFilter::new(filter).unwrap(), usize::MAX));
        let now = timestamp(self.now);
        let mut found: Vec<_> = all
            .iter()
            .flatten()
            .filter(|message| !message.is_expired(now))
            .map(|message| (message.topic().as_str(), message.payload()))
            .collect();
        found.sort_unstable();
        let due = self.model.retained.values().filter(|message| !message.is_expired(self.now));
        let due: Vec<_> = due.map(|message| (message.topic.as_str(), message.payload.as_bytes())).collect();
        if found == due { Ok(()) } else { Err(format!("retained is {found:?}, not {due:?}")) }
    }

    /// Every client comes back and acknowledges everything: what was kept for it arrives.
    fn finish(&mut self) -> Result<(), String> {
        let names: Vec<_> = self.model.sessions.keys().cloned().collect();
        for name in names {
            let is_v5 = self.clients[&name].is_v5;
            let connect = Connect { is_v5, expiry: Some(u32::MAX), ..Connect::default() };
            self.step(&Step::Client { name, action: Action::Connect(connect), cut: None })?;
        }
        let waits =
            self.model.sessions.values().any(|session| !session.owed.is_empty() || !session.inflight.is_empty());
        if waits || !self.model.shared.is_empty() || self.broker.messages_len() > 0 {
            return Err("with every client there, messages still wait".into());
        }
        Ok(())
    }
}
