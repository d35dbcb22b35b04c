//! The reference: a broker as plain maps and lists, written from the standards and from the project's design, without
//! packets' bytes and without a thought for speed.
//!
//! It is told what reaches the broker, and what the broker sends is held against it. Where the standard leaves a choice,
//! it keeps every choice open until the broker has made it: `routing.rs` says what is owed to whom, `room.rs` what a queue
//! takes, `held.rs` what waits for commits and answers, `observed.rs` what may be sent when, and what must have been sent
//! once nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    held::{AfterCommit, Held, Question, Waiting},
    script::{Limits, Options, Will},
};

/// In flight towards a client that names no Receive Maximum: a limit of the broker's config, not of the standard.
pub(crate) const MAX_INFLIGHT: u16 = 4;
/// Topic Aliases that clients may set: a limit of the broker's config too.
pub(crate) const ALIAS_MAXIMUM: u16 = 3;

/// An Application Message on its way through the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Seconds.
    pub(crate) expiry: Option<u32>,
    /// Whose connection brought it.
    pub(crate) from: String,
    /// When it came, in milliseconds.
    pub(crate) at: u64,
    /// Counts the messages.
    pub(crate) number: u64,
}

impl Message {
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        self.expiry.is_some_and(|seconds| now >= self.at + u64::from(seconds) * 1_000)
    }

    /// The Message Expiry Interval to send on. [MQTT-3.3.2-6]
    pub(crate) fn remaining(&self, now: u64) -> Option<u32> {
        let waited = u32::try_from((now - self.at) / 1_000).unwrap();
        self.expiry.map(|seconds| seconds.saturating_sub(waited))
    }
}

/// What one delivery adds to its message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Subscription Identifiers, sorted.
    pub(crate) ids: Vec<u32>,
}

/// Something a session has to get.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) message: Message,
    pub(crate) content: Content,
    /// What was owed earlier has a lower one; the retained messages for one SUBSCRIBE share it.
    pub(crate) batch: u64,
    /// A retained message, sent because of a SUBSCRIBE.
    pub(crate) is_replay: bool,
    /// The standard allows to forget it: QoS 0 across connections, buffered after an UNSUBSCRIBE, too large for the client.
    pub(crate) is_optional: bool,
    /// The queue may have had no room for it.
    pub(crate) is_doubtful: bool,
    /// It comes after this SUBACK.
    pub(crate) after_suback: Option<u16>,
    /// When that left: what was owed before then stands before it.
    pub(crate) began: u64,
}

impl Owed {
    pub(crate) const fn may_miss(&self) -> bool {
        self.is_optional || self.is_doubtful
    }

    /// Whether something of its topic and QoS that was owed later may come earlier.
    pub(crate) const fn lets_pass(&self, batch: u64) -> bool {
        self.after_suback.is_some() || batch <= self.began
    }
}

/// A QoS 1 or 2 message that was sent and is not done.
#[derive(Clone, Debug)]
pub(crate) struct Inflight {
    pub(crate) id: u16,
    pub(crate) message: Message,
    pub(crate) content: Content,
    /// PUBREC has come.
    pub(crate) is_released: bool,
    /// PUBLISH was sent on the present connection: then it counts against Receive Maximum.
    pub(crate) is_sent: bool,
    /// The Shared Subscription it was sent for.
    pub(crate) group: Option<String>,
}

pub(crate) type Holders = BTreeMap<String, Vec<Content>>;

/// A message for one member of a Shared Subscription, sent to none yet.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) group: String,
    pub(crate) message: Message,
    /// Who may have it in the queue, and how it would get it: as it was subscribed when it came to it.
    pub(crate) holders: Holders,
    /// As of [`Owed`].
    pub(crate) batch: u64,
    /// It may have changed hands: then its place in the order is open.
    pub(crate) is_moved: bool,
    pub(crate) is_optional: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// No other has it.
    pub(crate) number: u64,
    /// Seconds; `None` for ever.
    pub(crate) expiry: Option<u32>,
    pub(crate) ends_at: Option<u64>,
    /// Whose CONNECT was accepted last.
    pub(crate) connection: Option<u32>,
    /// The same, after it ended too.
    pub(crate) last: u32,
    /// CONNACK has left: the client is there.
    pub(crate) is_open: bool,
    /// The version of the connection before.
    pub(crate) version: Option<bool>,
    /// In which call it did.
    pub(crate) opened_in: u64,
    /// What the broker says waits in the queue, as of the beginning of the call: messages and bytes.
    pub(crate) queued: (u32, u64),
    pub(crate) will: Option<Will>,
    pub(crate) will_at: Option<u64>,
    pub(crate) subscriptions: BTreeMap<String, Options>,
    pub(crate) owed: Vec<Owed>,
    /// By Topic Filter, the batch of the retained messages that its last SUBSCRIBE asked for.
    pub(crate) replays: BTreeMap<String, u64>,
    /// A SUBSCRIBE's look at the retained messages may still stand behind what waits for the window.
    pub(crate) is_replay_behind: bool,
    pub(crate) inflight: Vec<Inflight>,
    /// Packet Identifiers of QoS 2 messages that wait for PUBREL.
    pub(crate) received: BTreeSet<u16>,
    /// What the client published that has no effect yet.
    pub(crate) held: Vec<Held>,
}

impl Session {
    /// Something looks like what is owed at a place, the first that does. If that may be forgotten, it can as well be what
    /// looks the same further on, and that one need not come then: unless it had overtaken what must come before it.
    pub(crate) fn leave_open_which(&mut self, at: usize, is_it: impl Fn(&Owed) -> bool) {
        let (topic, qos) = (self.owed[at].message.topic.clone(), self.owed[at].content.qos);
        let must_come = |owed: &&mut Owed| !owed.may_miss() && owed.message.topic == topic && owed.content.qos == qos;
        if let Some(twin) = self.owed[at..].iter_mut().find(must_come).filter(|next| is_it(next)) {
            twin.is_optional = true;
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: String,
    pub(crate) is_v5: bool,
    pub(crate) stage: Stage,
    pub(crate) window: usize,
    /// Maximum Packet Size.
    pub(crate) packet: Option<u32>,
    /// Topic Aliases the client has set.
    pub(crate) aliases: BTreeMap<u16, String>,
    /// Answers that are due. Those of one type come in this order.
    pub(crate) answers: Vec<Due>,
    /// Topic Filters about which questions are open, and what came behind them.
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) is_closed: bool,
    /// Closed because a queue was full, by a call that may have sent it something first.
    pub(crate) closed_for_queue_in: Option<u64>,
}

/// How far a connection came.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Whether it may connect is asked.
    Asked(Box<Arrival>),
    /// It may, and CONNACK waits for its commit.
    Accepted,
    Open,
}

/// What an answer, or a message, waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// For nothing.
    Open,
    /// For what this call recorded to be durable.
    Commit(u64),
    /// For what it answers to have its effect.
    Undecided,
}

/// An answer that is due.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// What it may be; undecided, one of its type.
    pub(crate) allowed: Vec<Answer>,
    pub(crate) gate: Gate,
    /// The message it answers, where a queue may have had no room for it.
    pub(crate) doubtful: Option<u64>,
}

impl Due {
    pub(crate) fn new(answer: Answer, gate: Gate) -> Self {
        Self { allowed: vec![answer], gate, doubtful: None }
    }
}

/// What the broker sends, apart from PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Connack { present: bool, code: u8 },
    Puback { id: u16, code: u8 },
    Pubrec { id: u16, code: u8 },
    Pubrel { id: u16, code: u8 },
    Pubcomp { id: u16, code: u8 },
    Suback { id: u16, codes: Vec<u8> },
    Unsuback { id: u16, codes: Vec<u8> },
    Disconnect { code: u8 },
}

/// How a client connects.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) client: String,
    pub(crate) is_v5: bool,
    pub(crate) clean: bool,
    pub(crate) expiry: Option<u32>,
    pub(crate) receive: Option<u16>,
    pub(crate) packet: Option<u32>,
    pub(crate) will: Option<Will>,
}

/// A broker.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Milliseconds.
    pub(crate) now: u64,
    pub(crate) sessions: BTreeMap<String, Session>,
    pub(crate) connections: BTreeMap<u32, Connection>,
    pub(crate) retained: BTreeMap<String, Message>,
    pub(crate) shared: Vec<Shared>,
    pub(crate) limits: Limits,
    pub(crate) questions: Vec<Question>,
    /// Messages that wait for a commit without their publisher.
    pub(crate) after_commit: Vec<AfterCommit>,
    /// Counts what happens to the broker: a journal group holds what one of them recorded.
    pub(crate) call: u64,
    /// Up to where all is durable.
    pub(crate) committed: u64,
    pub(crate) count: u64,
    /// Its value when the call began.
    pub(crate) count_before: u64,
    /// A message for a share has driven another out of a queue.
    pub(crate) has_driven_out: bool,
    /// What came of a queue's bytes cannot be told from outside, and everything else depends on it: the history ends here.
    pub(crate) is_undecided: bool,
    /// Its new connection takes the place of the old one: what is routed meanwhile may find it there or away.
    pub(crate) returning: Option<String>,
    /// What happened in this history.
    pub(crate) features: BTreeSet<&'static str>,
}

impl Model {
    pub(crate) fn note(&mut self, feature: &'static str) {
        self.features.insert(feature);
    }

    pub(crate) fn note_if(&mut self, is_so: bool, feature: &'static str) {
        if is_so {
            self.note(feature);
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Something happens to the broker.
    pub(crate) fn begin_call(&mut self) {
        self.call += 1;
        self.count_before = self.count;
    }

    pub(crate) fn is_free(&self, gate: Gate) -> bool {
        match gate {
            Gate::Open => true,
            Gate::Commit(call) => call <= self.committed,
            Gate::Undecided => false,
        }
    }

    /// An answer is due once this call is durable.
    pub(crate) fn promise(&mut self, number: u32, answer: Answer) {
        let due = Due::new(answer, Gate::Commit(self.call));
        self.connections.get_mut(&number).unwrap().answers.push(due);
    }

    /// The next time at which something happens without anybody's doing.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let of_sessions = self.sessions.values().flat_map(|session| [session.will_at, session.ends_at]).flatten();
        of_sessions.chain(self.questions.iter().map(|question| question.until)).min()
    }

    /// Time goes by: delayed wills are published, sessions end, questions are answered with no.
    pub(crate) fn advance(&mut self, to: u64) {
        while let Some(at) = self.next_deadline().filter(|at| *at <= to) {
            self.now = at;
            let due = |deadline: Option<u64>| deadline == Some(at);
            let found = self.sessions.iter().find(|(_, session)| due(session.will_at) || due(session.ends_at));
            match found.map(|(client, session)| (client.clone(), due(session.will_at))) {
                Some((client, true)) => {
                    self.note("a delayed will is published before its session ends");
                    self.publish_will(&client);
                }
                Some((client, false)) => {
                    self.note("a session expires");
                    self.end_session(&client);
                }
                None => {
                    self.note("a question is not answered in time");
                    let question = self.questions.iter().position(|question| question.until == at).unwrap();
                    let question = self.questions.remove(question);
                    self.decide_question(question.about, false);
                }
            }
        }
        self.now = to;
    }

    /// CONNECT arrives on a new connection: whether it may is asked.
    pub(crate) fn connect(&mut self, number: u32, arrival: Arrival) {
        self.ask(super::held::About::Connect(number));
        let (client, is_v5, packet) = (arrival.client.clone(), arrival.is_v5, arrival.packet);
        let window = arrival.receive.filter(|_| is_v5).unwrap_or(u16::MAX).min(MAX_INFLIGHT).into();
        let connection = Connection {
            client,
            is_v5,
            stage: Stage::Asked(Box::new(arrival)),
            window,
            packet: packet.filter(|_| is_v5),
            aliases: BTreeMap::new(),
            answers: Vec::new(),
            waiting: Vec::new(),
            is_closed: false,
            closed_for_queue_in: None,
        };
        self.connections.insert(number, connection);
    }

    /// A client may connect: the session is its own from here on.
    pub(crate) fn accept(&mut self, number: u32) {
        let connection = self.connections.get_mut(&number).unwrap();
        let Stage::Asked(arrival) = core::mem::replace(&mut connection.stage, Stage::Accepted) else {
            unreachable!("asked once")
        };
        let Arrival { client, is_v5, clean, expiry, will, .. } = *arrival;
        let old = self.sessions.get(&client).and_then(|session| session.connection);
        if self.sessions.get(&client).is_some_and(|session| session.last > number) {
            // Of two the later wins. CONNACK has no code for that.
            self.note("of two CONNECTs the later one was accepted first");
            return self.close(number, None);
        }
        if let Some(old) = old {
            // [MQTT-3.1.4-3]; before 5.0 there is no such packet. [MQTT3-3.1.4-2]
            self.note("a takeover");
            self.take_over(old);
            self.note_if(
                self.sessions.get(&client).is_some_and(|session| session.will.is_some()),
                "a takeover finds a will",
            );
            self.returning = (!clean).then(|| client.clone());
            self.end_connection(old, true);
            self.returning = None;
        }
        let ends = clean && self.sessions.contains_key(&client);
        if ends {
            self.note("clean start ends a session");
            self.end_session(&client);
        }
        let present = self.sessions.contains_key(&client);
        let session_number = self.next();
        let session = self.sessions.entry(client).or_insert(Session { number: session_number, ..Session::default() });
        let has_cancelled_a_will = session.will_at.take().is_some();
        session.connection = Some(number);
        session.last = number;
        session.ends_at = None;
        session.will = will;
        session.expiry = match (is_v5, expiry) {
            (true, Some(u32::MAX)) => None,
            (true, expiry) => Some(expiry.unwrap_or(0)),
            (false, _) if clean => Some(0),
            (false, _) => None,
        };
        let is_recorded = ends || session.expiry != Some(0);
        self.note(if is_v5 { "a 5.0 client" } else { "a 3.1.1 client" });
        self.note_if(present, "a session is resumed");
        self.note_if(has_cancelled_a_will, "a delayed will is cancelled by a new connection");
        let gate = if is_recorded { Gate::Commit(self.call) } else { Gate::Open };
        let connack = Due::new(Answer::Connack { present, code: 0 }, gate);
        self.connections.get_mut(&number).unwrap().answers.push(connack);
        if !is_recorded {
            self.open(number);
        }
    }

    fn take_over(&mut self, old: u32) {
        self.note_if(!matches!(self.connections[&old].stage, Stage::Open), "a client is taken over before its CONNACK");
        let is_open = matches!(self.connections[&old].stage, Stage::Open);
        self.close(old, Some(0x8E).filter(|_| is_open));
    }

    /// CONNACK leaves.
    pub(crate) fn open(&mut self, number: u32) {
        let call = self.call;
        let connection = self.connections.get_mut(&number).unwrap();
        connection.stage = Stage::Open;
        let session = self.sessions.get_mut(&connection.client).unwrap();
        session.is_open = true;
        session.opened_in = call;
        let is_other_version = session.version.replace(connection.is_v5).is_some_and(|old| old != connection.is_v5);
        let released: Vec<_> = session.inflight.iter().filter(|sent| sent.is_released).map(|sent| sent.id).collect();
        let has_unacknowledged = released.len() < session.inflight.len();
        let pubrels = released.iter().map(|id| Due::new(Answer::Pubrel { id: *id, code: 0 }, Gate::Open));
        connection.answers.extend(pubrels);
        self.note_if(is_other_version, "a session is resumed with another version");
        self.note_if(!released.is_empty(), "a session is resumed between PUBREC and PUBCOMP");
        self.note_if(has_unacknowledged, "a session is resumed between PUBLISH and its acknowledgement");
    }

    /// A connection ends without DISCONNECT.
    pub(crate) fn lose(&mut self, number: u32) {
        let Some(connection) = self.connections.get(&number) else { return };
        match connection.stage {
            _ if connection.is_closed => {}
            Stage::Asked(_) => self.forget_questions(number),
            Stage::Accepted | Stage::Open => self.end_connection(number, true),
        }
        self.connections.remove(&number);
    }

    /// The broker closes a connection, with a code for those that understand it. What was to be said is not.
    pub(crate) fn close(&mut self, number: u32, code: Option<u8>) {
        self.forget_questions(number);
        let connection = self.connections.get_mut(&number).unwrap();
        connection.is_closed = true;
        connection.answers.clear();
        let code = code.filter(|_| connection.is_v5);
        connection.answers.extend(code.map(|code| Due::new(Answer::Disconnect { code }, Gate::Open)));
    }

    /// A client breaks a rule.
    pub(crate) fn fail(&mut self, number: u32, code: u8) {
        self.close(number, Some(code));
        self.end_connection(number, true);
    }

    /// DISCONNECT arrives.
    pub(crate) fn disconnect(&mut self, number: u32, with_will: bool, expiry: Option<u32>) {
        let session = self.sessions.get_mut(&self.connections[&number].client).unwrap();
        // Zero at CONNECT stays zero. [MQTT-3.14.2-2]
        if session.expiry == Some(0) && expiry.is_some_and(|seconds| seconds > 0) {
            self.note("DISCONNECT would raise a session expiry of zero");
            return self.fail(number, 0x82);
        }
        if let Some(seconds) = expiry {
            session.expiry = (seconds != u32::MAX).then_some(seconds);
            self.note("DISCONNECT changes the session expiry");
        }
        self.close(number, None);
        self.end_connection(number, with_will);
    }

    /// `with_will`: not by a DISCONNECT that deletes it.
    pub(crate) fn end_connection(&mut self, number: u32, with_will: bool) {
        let (client, now) = (self.connections[&number].client.clone(), self.now);
        self.forget_questions(number);
        let session = self.sessions.get_mut(&client).unwrap();
        session.connection = None;
        session.is_open = false;
        session.owed.retain(|owed| owed.after_suback.is_none());
        session.ends_at = session.expiry.map(|seconds| now + u64::from(seconds) * 1_000);
        if session.will.take_if(|_| !with_will).is_some() {
            self.features.insert("DISCONNECT deletes a will");
        }
        let immediate = session.will.as_ref().is_some_and(|will| will.delay == 0);
        session.will_at = session.will.as_ref().map(|will| now + u64::from(will.delay) * 1_000);
        for sent in &mut session.inflight {
            sent.is_sent = false;
        }
        for owed in &mut session.owed {
            owed.is_optional |= owed.content.qos == 0;
        }
        let ends = session.expiry == Some(0);
        self.cancel_held(&client);
        if immediate {
            self.note("a will without delay is published");
            self.publish_will(&client);
        }
        if ends {
            self.end_session(&client);
        } else {
            self.move_shared(&client, None, self.returning.is_some());
        }
    }

    pub(crate) fn end_session(&mut self, client: &str) {
        if self.sessions.get(client).is_some_and(|session| session.will_at.is_some()) {
            self.note("a delayed will is published when its session ends");
            self.publish_will(client);
        }
        let Some(session) = self.sessions.remove(client) else { return };
        self.note_if(!session.owed.is_empty(), "a session ends with messages that wait");
        let held = session.held.clone();
        self.inherit(client, session);
        self.orphan(held);
    }

    fn publish_will(&mut self, client: &str) {
        let session = self.sessions.get_mut(client).unwrap();
        session.will_at = None;
        let will = session.will.take().unwrap();
        let number = session.number;
        let is_asked = super::held::asks_to_publish(&will.publish.topic);
        self.note_if(is_asked, "a will that would have to be asked about is not published");
        if is_asked {
            return;
        }
        self.note_if(will.publish.retain, "a retained will");
        let message = self.message(client, &will.publish);
        if message.qos == 2 {
            // Nothing is seen of it before it is durable.
            let call = self.call;
            self.after_commit.push(AfterCommit { call, of: Some((client.into(), number)), message });
        } else {
            self.publish_behind(Some((client.into(), number)), message);
        }
    }

    pub(crate) fn message(&mut self, from: &str, publish: &super::script::Publish) -> Message {
        let super::script::Publish { qos, retain, expiry, topic, payload, .. } = publish.padded();
        let (at, number) = (self.now, self.next());
        Message { topic, payload, qos, retain, expiry, from: from.into(), at, number }
    }
}
