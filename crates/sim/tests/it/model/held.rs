//! What takes time: questions that are open, journal groups that are not durable yet, and what waits for them.

use damselfly_broker::{Access, Action, Permission, Question as Asked, QuestionId};

use super::{
    reference::{Answer, Due, Gate, Message, Model, Stage},
    routing::{Dropped, Outcome},
    script::{Options, Publish},
};

/// How long a question may stay open, in milliseconds.
pub(crate) const QUESTION_TIMEOUT: u64 = 5_000;

/// What every client is told it may: all, but some of it is asked each time.
pub(crate) fn access() -> Access {
    Access::new(Permission::Allow)
        .rule(Action::Publish, "a/q", Permission::Ask)
        .and_then(|access| access.rule(Action::Subscribe, "a/#", Permission::Allow))
        .and_then(|access| access.rule(Action::Subscribe, "$s/#", Permission::Allow))
        .and_then(|access| access.rule(Action::Subscribe, "#", Permission::Ask))
        .unwrap()
}

pub(crate) fn asks_to_publish(topic: &str) -> bool {
    topic == "a/q"
}

fn asks_to_subscribe(filter: &str) -> bool {
    let plain = super::routing::plain(filter);
    !(plain.starts_with("a/") || plain.starts_with("$s/") || plain == "a")
}

/// A question that is open.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The broker's name for it, once it has asked.
    pub(crate) id: Option<QuestionId>,
    pub(crate) about: About,
    pub(crate) until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The CONNECT of a connection.
    Connect(u32),
    /// A message of a client, by its number.
    Publish(String, u64),
    /// The SUBSCRIBE of a connection with this Packet Identifier.
    Subscribe(u32, u16),
}

/// A message that has no effect yet. Those of its topic that come later wait behind it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    /// 0: nothing is answered.
    pub(crate) id: u16,
    /// `Undecided`: a question is open.
    pub(crate) gate: Gate,
}

/// A message that waits for its commit without its publisher.
#[derive(Clone, Debug)]
pub(crate) struct AfterCommit {
    pub(crate) call: u64,
    /// The client and the number of its session.
    pub(crate) of: Option<(String, u64)>,
    pub(crate) message: Message,
}

/// A SUBSCRIBE about which a question is open, or what came for the same Topic Filter behind one.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) filter: String,
    pub(crate) id: u16,
    /// `None`: UNSUBSCRIBE.
    pub(crate) options: Option<Options>,
    /// The answer.
    pub(crate) decision: Option<bool>,
}

impl Model {
    pub(crate) fn ask(&mut self, about: About) {
        self.questions.push(Question { id: None, about, until: self.now + QUESTION_TIMEOUT });
    }

    /// The broker asks: it is to be the next question that is due.
    pub(crate) fn observe_question(&mut self, id: QuestionId, asked: &Asked) -> Result<(), String> {
        let Some(due) = self.questions.iter_mut().find(|question| question.id.is_none()) else {
            return Err(format!("nothing is to be asked, but {asked:?}"));
        };
        let is_it = match (&due.about, asked) {
            (About::Connect(number), Asked::Connect { client_id, .. }) => {
                self.connections[number].client == **client_id
            }
            (About::Publish(client, number), Asked::Publish { client_id, topic, qos, retain }) => {
                let held = &self.sessions[client].held;
                held.iter().any(|held| {
                    let due = (held.message.number, &*held.message.topic, held.message.qos, held.message.retain);
                    *client == **client_id && due == (*number, &**topic, qos.level(), *retain)
                })
            }
            (About::Subscribe(number, id), Asked::Subscribe { client_id, filter, qos }) => {
                let connection = &self.connections[number];
                connection.client == **client_id
                    && connection.waiting.iter().any(|waiting| {
                        let level = waiting.options.as_ref().map(|options| options.qos);
                        let plain = super::routing::plain(&waiting.filter);
                        waiting.id == *id && plain == &**filter && level == Some(qos.level())
                    })
            }
            _ => false,
        };
        due.id = Some(id);
        if is_it { Ok(()) } else { Err(format!("asked is {asked:?}, not about {:?}", due.about)) }
    }

    /// An answer comes in.
    pub(crate) fn answer(&mut self, id: QuestionId, yes: bool) {
        let Some(at) = self.questions.iter().position(|question| question.id == Some(id)) else {
            return self.note("an answer comes too late");
        };
        let question = self.questions.remove(at);
        self.note_if(at > 0, "questions are answered in another order");
        self.decide_question(question.about, yes);
    }

    pub(crate) fn decide_question(&mut self, about: About, yes: bool) {
        match about {
            About::Connect(number) if yes => self.accept(number),
            About::Connect(number) => {
                self.note("a CONNECT is refused");
                let code = if self.connections[&number].is_v5 { 0x87 } else { 5 };
                self.close(number, None);
                let connack = Due::new(Answer::Connack { present: false, code }, Gate::Open);
                self.connections.get_mut(&number).unwrap().answers.push(connack);
            }
            About::Publish(client, message) => self.decide_publish(&client, message, yes),
            About::Subscribe(number, id) => self.decide_subscribe(number, id, yes),
        }
    }

    /// A connection takes its questions along.
    pub(crate) fn forget_questions(&mut self, number: u32) {
        let of_connection =
            |about: &About| matches!(about, About::Connect(of) | About::Subscribe(of, _) if *of == number);
        let before = self.questions.len();
        self.questions.retain(|question| !of_connection(&question.about));
        self.note_if(self.questions.len() < before, "a connection ends with a question that is open");
    }

    /// Everything that a call recorded is durable.
    pub(crate) fn commit(&mut self, call: u64) {
        self.committed = call;
        let is_due = |held: &Held| held.gate == Gate::Commit(call);
        let clients: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.held.iter().any(is_due))
            .map(|(client, _)| client.clone())
            .collect();
        for client in clients {
            self.release_held(&client);
        }
        while self.after_commit.first().is_some_and(|first| first.call <= call) {
            let AfterCommit { of, message, .. } = self.after_commit.remove(0);
            self.publish_behind(of, message);
        }
        let accepted = self.connections.iter().filter(|(_, connection)| {
            let is_free = connection.answers.first().is_some_and(|connack| self.is_free(connack.gate));
            matches!(connection.stage, Stage::Accepted) && !connection.is_closed && is_free
        });
        let numbers: Vec<_> = accepted.map(|(number, _)| *number).collect();
        for number in numbers {
            self.open(number);
        }
    }

    /// PUBLISH of a client, its topic known.
    pub(crate) fn take_publish(&mut self, number: u32, client: &str, id: u16, publish: &Publish) {
        let message = self.message(client, publish);
        let session = self.sessions.get_mut(client).unwrap();
        // [MQTT-4.3.3-10]: once for one Packet Identifier, until PUBREL.
        if publish.qos == 2 && !session.received.insert(id) {
            self.note("a publisher repeats a QoS 2 message that is known");
            return self.answer_again(number, client, id);
        }
        let is_asked = asks_to_publish(&message.topic);
        let is_behind = session.held.iter().any(|held| held.message.topic == message.topic);
        if !is_asked && !is_behind && publish.qos < 2 {
            let (qos, message_number) = (message.qos, message.number);
            let outcome = self.publish(&message);
            let is_v5 = self.connections[&number].is_v5;
            if qos == 1 && self.may_say(number, outcome) {
                let allowed = answers(1, id, is_v5, outcome);
                let doubtful = (is_v5 && outcome.dropped == Dropped::Perhaps).then_some(message_number);
                let due = Due { allowed, gate: Gate::Commit(self.call), doubtful };
                self.connections.get_mut(&number).unwrap().answers.push(due);
            }
            return;
        }
        let gate = match publish.qos {
            _ if is_asked => Gate::Undecided,
            2 => Gate::Commit(self.call),
            _ => Gate::Open,
        };
        self.note_if(is_asked, "whether a client may publish is asked");
        self.note_if(!is_asked && publish.qos < 2, "a message waits behind one of its topic that is not durable");
        if is_asked {
            self.ask(About::Publish(client.into(), message.number));
        }
        self.sessions.get_mut(client).unwrap().held.push(Held { message, id, gate });
        if publish.qos > 0 {
            let answer = answers(publish.qos, id, false, Outcome::default()).remove(0);
            let due = Due::new(answer, Gate::Undecided);
            self.connections.get_mut(&number).unwrap().answers.push(due);
        }
    }

    /// A repeat is answered, and what it repeats delivered once: if that still waits, with it.
    fn answer_again(&mut self, number: u32, client: &str, id: u16) {
        let is_held = self.sessions[client].held.iter().any(|held| held.id == id && held.message.qos == 2);
        self.note_if(is_held, "a publisher repeats a QoS 2 message that is not durable");
        if is_held {
            let due = Due::new(Answer::Pubrec { id, code: 0 }, Gate::Undecided);
            self.connections.get_mut(&number).unwrap().answers.push(due);
        } else {
            self.promise(number, Answer::Pubrec { id, code: 0 });
        }
    }

    /// Whether a publisher may be, or may not, have a message published.
    fn decide_publish(&mut self, client: &str, number: u64, yes: bool) {
        let call = self.call;
        let session = self.sessions.get_mut(client).unwrap();
        let at = session.held.iter().position(|held| held.message.number == number).unwrap();
        if yes {
            let held = &mut session.held[at];
            held.gate = if held.message.qos == 2 { Gate::Commit(call) } else { Gate::Open };
        } else {
            let held = session.held.remove(at);
            self.note("a PUBLISH is refused");
            let connection = self.sessions[client].connection.unwrap();
            let is_v5 = self.connections[&connection].is_v5;
            // 3.1.1 cannot be told. [MQTT3-3.3.5-2]
            let code = if is_v5 { 0x87 } else { 0 };
            if is_v5 && held.message.qos == 2 {
                self.sessions.get_mut(client).unwrap().received.remove(&held.id);
            }
            let answer = if held.message.qos == 1 {
                Answer::Puback { id: held.id, code }
            } else {
                Answer::Pubrec { id: held.id, code }
            };
            self.settle(connection, held.id, vec![answer], Gate::Commit(call), None);
        }
        self.release_held(client);
    }

    /// The answer to what waited is known.
    fn settle(&mut self, number: u32, id: u16, allowed: Vec<Answer>, gate: Gate, doubtful: Option<u64>) {
        let is_it = |due: &&mut Due| {
            let answer = &due.allowed[0];
            due.gate == Gate::Undecided
                && matches!(answer, Answer::Puback { id: of, .. } | Answer::Pubrec { id: of, .. } if *of == id)
        };
        let connection = self.connections.get_mut(&number).unwrap();
        if let Some(due) = connection.answers.iter_mut().find(is_it) {
            *due = Due { allowed, gate, doubtful };
        }
    }

    /// What a client published has its effect, as far as nothing is before it.
    pub(crate) fn release_held(&mut self, client: &str) {
        let mut blocked: Vec<String> = Vec::new();
        let mut at = 0;
        while let Some(held) = self.sessions.get(client).and_then(|session| session.held.get(at)).cloned() {
            if blocked.contains(&held.message.topic) || !self.is_free(held.gate) {
                blocked.push(held.message.topic);
                at += 1;
                continue;
            }
            self.sessions.get_mut(client).unwrap().held.remove(at);
            let outcome = self.publish(&held.message);
            self.decide(client, &held, outcome);
        }
    }

    /// A message that waited had its effect.
    fn decide(&mut self, client: &str, held: &Held, outcome: Outcome) {
        if held.id == 0 {
            return;
        }
        let session = self.sessions.get_mut(client).unwrap();
        let Some(number) = session.connection.filter(|_| session.is_open) else {
            // Its client was told nothing: what nobody got it publishes again, as a new one. [MQTT-4.3.3-10]
            match (outcome.dropped, outcome.accepted) {
                (Dropped::No, _) | (_, Some(true)) => {}
                (Dropped::Yes, Some(false)) => self.forget_received(client, held),
                (Dropped::Perhaps, _) | (Dropped::Yes, None) => self.is_undecided |= held.message.qos == 2,
            }
            return;
        };
        let is_v5 = self.connections[&number].is_v5;
        if !self.may_say(number, outcome) {
            return;
        }
        if is_v5 && outcome.dropped == Dropped::Yes {
            self.forget_received(client, held);
        }
        let gate = if held.message.qos == 2 { Gate::Open } else { Gate::Commit(self.call) };
        let doubtful = (is_v5 && outcome.dropped == Dropped::Perhaps).then_some(held.message.number);
        self.settle(number, held.id, answers(held.message.qos, held.id, is_v5, outcome), gate, doubtful);
    }

    fn forget_received(&mut self, client: &str, held: &Held) {
        if held.message.qos == 2 {
            self.sessions.get_mut(client).unwrap().received.remove(&held.id);
        }
    }

    /// What waits goes with its connection, unless it was recorded or nobody would send it again.
    pub(crate) fn cancel_held(&mut self, client: &str) {
        let session = self.sessions.get_mut(client).unwrap();
        let is_kept = |held: &Held| match held.gate {
            Gate::Commit(_) => true,
            Gate::Open => held.id == 0,
            Gate::Undecided => false,
        };
        let (kept, cancelled): (Vec<_>, Vec<_>) = core::mem::take(&mut session.held).into_iter().partition(is_kept);
        session.held = kept;
        for held in &cancelled {
            self.forget_received(client, held);
            let about = About::Publish(client.into(), held.message.number);
            self.questions.retain(|question| question.about != about);
        }
        let is_kept = !self.sessions[client].held.is_empty();
        self.note_if(is_kept, "a connection ends before its message is durable");
        self.note_if(!cancelled.is_empty(), "a connection ends before its message may be published");
        self.release_held(client);
    }

    /// A session is gone; what it had recorded is not.
    pub(crate) fn orphan(&mut self, held: Vec<Held>) {
        for Held { message, gate, .. } in held {
            match gate {
                Gate::Commit(call) => self.after_commit.push(AfterCommit { call, of: None, message }),
                Gate::Open | Gate::Undecided => self.publish_behind(None, message),
            }
        }
    }

    /// A message of a session that is there or not goes behind what the session holds of its topic.
    pub(crate) fn publish_behind(&mut self, of: Option<(String, u64)>, message: Message) {
        let session =
            of.and_then(|(client, number)| self.sessions.get_mut(&client).filter(|session| session.number == number));
        match session {
            Some(session) if session.held.iter().any(|held| held.message.topic == message.topic) => {
                session.held.push(Held { message, id: 0, gate: Gate::Open });
            }
            Some(_) => {
                self.publish(&message);
            }
            None => {
                self.publish(&Message { from: String::new(), ..message });
            }
        }
    }

    pub(crate) fn subscribe(&mut self, number: u32, id: u16, filter: &str, options: &Options) {
        let is_asked = asks_to_subscribe(filter);
        let connection = self.connections.get_mut(&number).unwrap();
        if !is_asked {
            let code = self.make_subscription(number, id, filter, options);
            return self.promise(number, Answer::Suback { id, codes: vec![code] });
        }
        connection.answers.push(Due::new(Answer::Suback { id, codes: vec![] }, Gate::Undecided));
        let options = Some(options.clone());
        connection.waiting.push(Waiting { filter: filter.into(), id, options, decision: None });
        self.ask(About::Subscribe(number, id));
        self.note("whether a client may subscribe is asked");
    }

    pub(crate) fn unsubscribe(&mut self, number: u32, id: u16, filter: &str) {
        let connection = self.connections.get_mut(&number).unwrap();
        match connection.waiting.iter().rfind(|waiting| waiting.filter == filter) {
            None => {
                let codes = self.end_subscription(number, filter);
                self.promise(number, Answer::Unsuback { id, codes });
            }
            // Behind another UNSUBSCRIBE there is nothing to find.
            Some(Waiting { options: None, .. }) => {
                let codes = if connection.is_v5 { vec![0x11] } else { vec![] };
                self.promise(number, Answer::Unsuback { id, codes });
            }
            Some(_) => {
                connection.answers.push(Due::new(Answer::Unsuback { id, codes: vec![] }, Gate::Undecided));
                connection.waiting.push(Waiting { filter: filter.into(), id, options: None, decision: None });
                self.note("UNSUBSCRIBE waits behind a question");
            }
        }
    }

    /// A Topic Filter goes on, and what came behind it: in the order of arrival. [MQTT-3.8.4-5]
    fn decide_subscribe(&mut self, number: u32, id: u16, yes: bool) {
        self.note_if(!yes, "a SUBSCRIBE is refused");
        let connection = self.connections.get_mut(&number).unwrap();
        let decided = connection.waiting.iter_mut().find(|waiting| waiting.id == id).unwrap();
        decided.decision = Some(yes);
        let filter = decided.filter.clone();
        loop {
            let connection = self.connections.get_mut(&number).unwrap();
            let Some(at) = connection.waiting.iter().position(|waiting| waiting.filter == filter) else { return };
            let first = &connection.waiting[at];
            if first.options.is_some() && first.decision.is_none() {
                return;
            }
            let Waiting { filter, id, options, decision } = connection.waiting.remove(at);
            let refusal = if connection.is_v5 { 0x87 } else { 0x80 };
            let answer = match (options, decision) {
                (None, _) => Answer::Unsuback { id, codes: self.end_subscription(number, &filter) },
                (Some(options), Some(true)) => {
                    Answer::Suback { id, codes: vec![self.make_subscription(number, id, &filter, &options)] }
                }
                (Some(_), _) => Answer::Suback { id, codes: vec![refusal] },
            };
            let gate = Gate::Commit(self.call);
            let connection = self.connections.get_mut(&number).unwrap();
            let is_it = |due: &&mut Due| match &due.allowed[0] {
                Answer::Suback { id: of, .. } | Answer::Unsuback { id: of, .. } => {
                    *of == id && due.gate == Gate::Undecided
                }
                _ => false,
            };
            *connection.answers.iter_mut().find(is_it).unwrap() = Due::new(answer, gate);
        }
    }
}

/// What a publisher may be told. No matching subscribers may be said where there are none. [MQTT-3.4.2.1]
fn answers(qos: u8, id: u16, is_v5: bool, outcome: Outcome) -> Vec<Answer> {
    let success = if is_v5 && !outcome.is_subscribed { &[0, 0x10][..] } else { &[0] };
    let codes = match outcome.dropped {
        Dropped::Yes if is_v5 => vec![0x97],
        Dropped::Perhaps if is_v5 => [success, &[0x97]].concat(),
        _ => success.to_vec(),
    };
    let answer = |code| if qos == 1 { Answer::Puback { id, code } } else { Answer::Pubrec { id, code } };
    codes.into_iter().map(answer).collect()
}
