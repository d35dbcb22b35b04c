//! What clients send, and whether what the broker sends them is what it has to.

use super::{
    reference::{ALIAS_MAXIMUM, Answer, Content, Due, Gate, Inflight, Message, Model, Owed, Shared, Stage},
    script::{Options, Publish},
};

/// A packet of a client, after CONNECT.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Publish {
        id: u16,
        dup: bool,
        publish: Publish,
        alias: Option<u16>,
        /// With its topic; else the alias alone says it.
        is_named: bool,
    },
    /// PUBACK and PUBREC that say no are `is_refusal`.
    Puback {
        id: u16,
        is_refusal: bool,
    },
    Pubrec {
        id: u16,
        is_refusal: bool,
    },
    Pubrel {
        id: u16,
    },
    Pubcomp {
        id: u16,
    },
    Subscribe {
        id: u16,
        filter: String,
        options: Options,
    },
    Unsubscribe {
        id: u16,
        filter: String,
    },
    Disconnect {
        with_will: bool,
        expiry: Option<u32>,
    },
}

/// A packet of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Publish { id: u16, dup: bool, content: Content, topic: String, payload: String, expiry: Option<u32> },
    Answer(Answer),
}

impl Model {
    /// A packet arrives at the broker.
    pub(crate) fn receive(&mut self, number: u32, packet: Sent) {
        let Some(connection) = self.connections.get(&number).filter(|connection| !connection.is_closed) else { return };
        let (client, is_v5) = (connection.client.clone(), connection.is_v5);
        match packet {
            Sent::Publish { id, dup, publish, alias, is_named } => {
                match self.resolve(number, &publish.topic, alias, is_named) {
                    Ok(topic) => self.receive_publish(number, &client, id, dup, &Publish { topic, ..publish }),
                    Err(code) => self.fail(number, code),
                }
            }
            Sent::Puback { id, is_refusal } => self.finish(&client, id, is_refusal, "PUBACK refuses"),
            Sent::Pubrec { id, is_refusal: true } => self.finish(&client, id, true, "PUBREC refuses"),
            Sent::Pubrec { id, .. } => {
                let session = self.sessions.get_mut(&client).unwrap();
                let known = session.inflight.iter_mut().find(|sent| sent.id == id);
                known.unwrap().is_released = true;
                self.promise(number, Answer::Pubrel { id, code: 0 });
            }
            Sent::Pubcomp { id } => self.finish(&client, id, false, ""),
            Sent::Pubrel { id } => {
                let known = self.sessions.get_mut(&client).unwrap().received.remove(&id);
                self.note_if(!known, "PUBREL comes again");
                let code = if known || !is_v5 { 0 } else { 0x92 };
                // Only what it changes has to be durable.
                let gate = if known { Gate::Commit(self.call) } else { Gate::Open };
                let due = Due::new(Answer::Pubcomp { id, code }, gate);
                self.connections.get_mut(&number).unwrap().answers.push(due);
            }
            Sent::Subscribe { id, filter, options } => self.subscribe(number, id, &filter, &options),
            Sent::Unsubscribe { id, filter } => self.unsubscribe(number, id, &filter),
            Sent::Disconnect { with_will, expiry } => self.disconnect(number, with_will, expiry),
        }
    }

    /// The topic that a PUBLISH means, or the code of the DISCONNECT. [MQTT-3.3.2-7] to [MQTT-3.3.2-12]
    fn resolve(&mut self, number: u32, topic: &str, alias: Option<u16>, is_named: bool) -> Result<String, u8> {
        let Some(alias) = alias else { return Ok(topic.into()) };
        let connection = self.connections.get_mut(&number).unwrap();
        if !(1..=ALIAS_MAXIMUM).contains(&alias) {
            self.note("a client uses an alias above the maximum");
            return Err(0x94);
        }
        if is_named {
            let old = connection.aliases.insert(alias, topic.into());
            self.note_if(old.is_some_and(|old| old != topic), "a client's alias comes to stand for another topic");
            return Ok(topic.into());
        }
        let known = connection.aliases.get(&alias).cloned();
        self.note(if known.is_some() {
            "a client's alias stands for its topic"
        } else {
            "a client uses an alias it never set"
        });
        known.ok_or(0x82)
    }

    fn receive_publish(&mut self, number: u32, client: &str, id: u16, dup: bool, publish: &Publish) {
        self.note(["a QoS 0 message", "a QoS 1 message", "a QoS 2 message"][usize::from(publish.qos)]);
        self.note_if(publish.expiry.is_some(), "a message that expires");
        self.note_if(dup, "a publisher repeats a message");
        self.take_publish(number, client, id, publish);
    }

    fn finish(&mut self, client: &str, id: u16, is_refusal: bool, feature: &'static str) {
        self.note_if(is_refusal, feature);
        self.sessions.get_mut(client).unwrap().inflight.retain(|sent| sent.id != id);
    }

    /// A packet leaves the broker.
    pub(crate) fn observe(&mut self, number: u32, packet: &Seen) -> Result<(), String> {
        let Some(connection) = self.connections.get(&number) else { return Err("nobody is there".into()) };
        let is_first = matches!(connection.stage, Stage::Asked(_) | Stage::Accepted)
            || connection.answers.first().is_some_and(|due| matches!(due.allowed[..], [Answer::Connack { .. }]));
        let answer = match packet {
            _ if is_first && !matches!(packet, Seen::Answer(Answer::Connack { .. })) => {
                return Err("CONNACK comes first".into());
            }
            Seen::Publish { .. } => return self.observe_publish(number, packet),
            Seen::Answer(answer) => answer,
        };
        let same_type = |due: &Due| core::mem::discriminant(&due.allowed[0]) == core::mem::discriminant(answer);
        let Some(at) = connection.answers.iter().position(same_type) else {
            return Err("nothing of this kind is due".into());
        };
        let gate = connection.answers[at].gate;
        if !self.is_free(gate) {
            return Err(format!("it promises what waits: {gate:?}"));
        }
        let connection = self.connections.get_mut(&number).unwrap();
        let due = connection.answers.remove(at);
        if !due.allowed.contains(answer) {
            return Err(format!("due is {:?}", due.allowed));
        }
        let client = connection.client.clone();
        self.note_if(self.committed + 1 < self.call, "an answer leaves while later commits are held");
        if let Answer::Suback { id, .. } = answer {
            let (session, count) = (self.sessions.get_mut(&client).unwrap(), self.count);
            for owed in session.owed.iter_mut().filter(|owed| owed.after_suback == Some(*id)) {
                owed.after_suback = None;
                owed.began = count;
            }
        }
        if let Some(message) = due.doubtful {
            self.learn(&client, message, answer);
        }
        Ok(())
    }

    /// A publisher is told whether every queue had room for its message.
    fn learn(&mut self, client: &str, message: u64, answer: &Answer) {
        match answer {
            Answer::Pubrec { id, code: 0x80.. } => {
                self.sessions.get_mut(client).unwrap().received.remove(id);
            }
            Answer::Puback { code: 0x10, .. }
            | Answer::Puback { code: 0, .. }
            | Answer::Pubrec { code: 0 | 0x10, .. }
                if self.sessions[client].is_open =>
            {
                // Nobody is told success for what is dropped.
                for owed in self.sessions.values_mut().flat_map(|session| &mut session.owed) {
                    owed.is_doubtful &= owed.message.number != message;
                }
            }
            _ => {}
        }
    }

    fn observe_publish(&mut self, number: u32, packet: &Seen) -> Result<(), String> {
        let Seen::Publish { id, dup, content, .. } = packet else { return Ok(()) };
        let connection = &self.connections[&number];
        let is_last_word = connection.closed_for_queue_in == Some(self.call);
        if connection.is_closed && !is_last_word {
            return Err("the connection is closed".into());
        }
        if !self.sessions.contains_key(&connection.client) {
            return Ok(());
        }
        let (client, window) = (connection.client.clone(), connection.window);
        self.drop_large_in_flight(&client);
        let session = self.sessions.get_mut(&client).unwrap();
        let in_use = session.inflight.iter().filter(|sent| sent.is_sent).count();
        if self.is_held(packet) {
            return Err("a message published at QoS 2 before its commit, or before a question was answered".into());
        }
        let session = self.sessions.get_mut(&client).unwrap();
        if content.qos > 0 && in_use >= window {
            return Err(format!("{window} are in flight, which is the Receive Maximum")); // [MQTT-3.3.4-9]
        }
        if let Some(at) = session.inflight.iter().position(|sent| content.qos > 0 && sent.id == *id) {
            return self.observe_again(number, at, packet);
        }
        if *dup {
            return Err("DUP on what was never sent".into()); // [MQTT-3.3.1-1]
        }
        // As it is owed: before 5.0 the identifiers are not seen.
        let (message, content, group) = if let Some((message, content)) = self.take_owed(&client, number, packet)? {
            (message, content, None)
        } else {
            let (message, group) = self.take_shared(&client, number, packet)?;
            (message, content.clone(), Some(group))
        };
        self.note_delivery(&message, &content);
        if content.qos > 0 {
            let sent = Inflight { id: *id, message, content, is_released: false, is_sent: !is_last_word, group };
            self.sessions.get_mut(&client).unwrap().inflight.push(sent);
        }
        Ok(())
    }

    /// Whether a message waits at the broker for what has to come before it.
    fn is_held(&self, packet: &Seen) -> bool {
        let Seen::Publish { payload, .. } = packet else { return false };
        let mut held = self.sessions.values().flat_map(|session| &session.held).map(|held| &held.message);
        held.any(|held| held.payload == *payload && !held.payload.is_empty())
            && !self.sessions.values().flat_map(|session| &session.owed).any(|owed| owed.message.payload == *payload)
            && !self.sessions.values().flat_map(|s| &s.inflight).any(|sent| sent.message.payload == *payload)
            && !self.shared.iter().any(|shared| shared.message.payload == *payload)
    }

    fn note_delivery(&mut self, message: &Message, content: &Content) {
        self.note(["a QoS 0 delivery", "a QoS 1 delivery", "a QoS 2 delivery"][usize::from(content.qos)]);
        self.note_if(!content.ids.is_empty(), "a subscription identifier is delivered");
        self.note_if(content.ids.len() > 1, "two subscription identifiers are delivered");
        self.note_if(message.remaining(self.now) < message.expiry, "an expiry is decremented");
        self.note_if(content.qos < message.qos, "a delivery at less than the QoS of the message");
    }

    /// PUBLISH with the Packet Identifier of an exchange that is not done. [MQTT-4.4.0-1] [MQTT-4.4.0-2]
    fn observe_again(&mut self, number: u32, at: usize, packet: &Seen) -> Result<(), String> {
        let connection = &self.connections[&number];
        let (now, is_v5) = (self.now, connection.is_v5);
        let session = self.sessions.get_mut(&connection.client).unwrap();
        let sent = &session.inflight[at];
        if sent.is_released || sent.is_sent {
            return Err("this Packet Identifier is in use".into()); // [MQTT-2.2.1-4]
        }
        if matches!(packet, Seen::Publish { dup: false, .. }) {
            return Err("sent again without DUP".into()); // [MQTT-3.3.1-1]
        }
        if !agrees(&sent.message, &sent.content, packet, now, is_v5) {
            return Err(format!("sent again it is another message than {:?} {:?}", sent.message, sent.content));
        }
        // [MQTT-4.6.0-1]
        if let Some(earlier) = session.inflight[..at].iter().find(|sent| !sent.is_released && !sent.is_sent) {
            return Err(format!("{} was sent earlier and is not sent again", earlier.message.payload));
        }
        session.inflight[at].is_sent = true;
        self.note("a message is sent again with DUP");
        Ok(())
    }

    /// Finds the packet among what is owed to a session, and looks whether it is its turn.
    fn take_owed(&mut self, client: &str, number: u32, packet: &Seen) -> Result<Option<(Message, Content)>, String> {
        self.forget_dead(client);
        let (now, is_v5) = (self.now, self.connections[&number].is_v5);
        let session = self.sessions.get_mut(client).unwrap();
        let is_it = |owed: &Owed| agrees(&owed.message, &owed.content, packet, now, is_v5);
        let may_come = |owed: &Owed| is_it(owed) && owed.after_suback.is_none();
        let found = session.owed.iter().position(may_come).or_else(|| session.owed.iter().position(is_it));
        let Some(at) = found else { return Ok(None) };
        session.leave_open_which(at, is_it);
        let Owed { message, content, is_replay, after_suback, batch, .. } = session.owed.remove(at);
        if after_suback.is_some() {
            return Err("a retained message before the SUBACK".into());
        }
        let same = |other: &Message, of: &Content| other.topic == message.topic && of.qos == content.qos;
        // [MQTT-4.6.0-5] [MQTT-4.6.0-6]: what is allowed to be forgotten is forgotten, if something newer is sent.
        if let Some(owed) = session.owed[..at]
            .iter()
            .find(|owed| same(&owed.message, &owed.content) && !owed.may_miss() && !owed.lets_pass(batch))
        {
            return Err(format!("it overtakes {}", owed.message.payload));
        }
        let mut index = 0;
        session.owed.retain(|owed| {
            index += 1;
            index > at || is_it(owed) || !same(&owed.message, &owed.content) || owed.lets_pass(batch)
        });
        let waits = |sent: &&Inflight| same(&sent.message, &sent.content) && !sent.is_sent && !sent.is_released;
        let is_open = !self.connections[&number].is_closed;
        if let Some(sent) = session.inflight.iter().find(waits).filter(|_| is_open) {
            return Err(format!("it overtakes {}, which is to be sent again", sent.message.payload));
        }
        self.note_if(is_replay, "a retained message for a SUBSCRIBE");
        self.note_if(content.retain && !is_replay, "retain as published");
        Ok(Some((message, content)))
    }

    /// Finds the packet among what a Shared Subscription owes to one of its members.
    fn take_shared(&mut self, client: &str, number: u32, packet: &Seen) -> Result<(Message, String), String> {
        let (now, is_v5) = (self.now, self.connections[&number].is_v5);
        self.forget_large_shared();
        let is_mine = |shared: &Shared| {
            shared.holders.get(client).is_some_and(|contents| {
                contents.iter().any(|content| agrees(&shared.message, content, packet, now, is_v5))
            })
        };
        let Some(at) = self.shared.iter().position(is_mine) else {
            let owed: Vec<_> = self.sessions[client].owed.iter().map(|owed| (&owed.message, &owed.content)).collect();
            return Err(format!("not owed to it; owed is {owed:?}"));
        };
        let taken = self.shared.remove(at);
        if taken.is_optional {
            // It can as well be what looks the same further on.
            let is_twin =
                |other: &&mut Shared| other.group == taken.group && other.message.payload == taken.message.payload;
            self.shared[at..].iter_mut().filter(is_twin).for_each(|twin| twin.is_optional = true);
        }
        let Seen::Publish { content: Content { qos, .. }, .. } = packet else {
            unreachable!("agrees with a PUBLISH only")
        };
        // What certainly waits at this member goes first, as every session has one order.
        let earlier = self.shared[..at].iter().find(|shared| {
            let contents = shared.holders.get(client).filter(|_| shared.holders.len() == 1);
            shared.group == taken.group
                && shared.message.topic == taken.message.topic
                && contents.is_some_and(|contents| contents.iter().all(|content| content.qos == *qos))
                && !(shared.is_moved || shared.is_optional || taken.is_moved || shared.message.is_expired(now))
        });
        if let Some(earlier) = earlier {
            return Err(format!("it overtakes {} of the same share", earlier.message.payload));
        }
        self.note("a shared delivery");
        Ok((taken.message, taken.group))
    }

    /// What no longer has to be sent: expired [MQTT-3.3.2-5], or a retained message that is no longer the one.
    fn forget_dead(&mut self, client: &str) {
        let (now, retained) = (self.now, &self.retained);
        let session = self.sessions.get_mut(client).unwrap();
        let count = session.owed.len();
        session.owed.retain(|owed| !owed.message.is_expired(now));
        self.features.extend((session.owed.len() < count).then_some("a message expires while it waits"));
        let is_current = |message: &Message| retained.get(&message.topic).map(|now| now.number) == Some(message.number);
        // What needs the window may have been taken up before it was replaced.
        let is_skipped = |owed: &Owed| owed.is_replay && !is_current(&owed.message);
        session.owed.retain(|owed| !is_skipped(owed) || owed.content.qos > 0);
        for owed in &mut session.owed {
            owed.is_optional |= is_skipped(owed);
        }
        // What the client does not take is dropped when its turn comes; nothing says when that was.
        let too_large: Vec<_> = self.sessions[client]
            .owed
            .iter()
            .map(|owed| self.sessions[client].is_open && self.is_too_large(client, &owed.message, &owed.content))
            .collect();
        self.note_if(too_large.contains(&true), "a message is too large for its client");
        let session = self.sessions.get_mut(client).unwrap();
        for (owed, is_too_large) in session.owed.iter_mut().zip(too_large) {
            owed.is_optional |= is_too_large;
        }
    }

    /// Nothing is left to do: whatever could be sent was sent.
    pub(crate) fn check_settled(&mut self, number: u32) -> Result<(), String> {
        let connection = &self.connections[&number];
        let (client, window) = (connection.client.clone(), connection.window);
        let mut seen = Vec::new();
        for due in &connection.answers {
            let kind = core::mem::discriminant(&due.allowed[0]);
            if !seen.contains(&kind) && self.is_free(due.gate) {
                return Err(format!("{client} was not sent {:?}", due.allowed[0]));
            }
            seen.push(kind);
        }
        if connection.is_closed || !matches!(connection.stage, Stage::Open) {
            return Ok(());
        }
        let awaits_suback = connection.answers.iter().any(|due| matches!(due.allowed[0], Answer::Suback { .. }));
        self.forget_dead(&client);
        self.drop_large_in_flight(&client);
        let session = self.sessions.get_mut(&client).unwrap();
        let is_full = session.inflight.iter().filter(|sent| sent.is_sent).count() >= window;
        if is_full {
            self.features.insert("a window is full");
            // Retained messages wait for the window whatever their QoS, found or not yet looked for, and what comes behind
            // a message that waits waits with it: every session has one order.
            let is_blocked = |owed: &&Owed| owed.after_suback.is_none() && (owed.content.qos > 0 || owed.is_replay);
            let blocked = session.owed.iter().filter(is_blocked).map(|owed| owed.batch).min();
            let free = |owed: &&Owed| {
                let is_before = blocked.is_none_or(|batch| owed.batch < batch);
                !is_blocked(owed) && !owed.may_miss() && owed.after_suback.is_none() && is_before
            };
            let late = session
                .owed
                .iter()
                .find(free)
                .filter(|_| !session.is_replay_behind)
                .map(|owed| owed.message.payload.clone());
            self.features.extend(blocked.map(|_| "messages wait for a window"));
            return late
                .map_or(Ok(()), |payload| Err(format!("{client} was not sent {payload}, which needs no window")));
        }
        session.is_replay_behind = awaits_suback;
        if let Some(sent) = session.inflight.iter().find(|sent| !sent.is_released && !sent.is_sent) {
            return Err(format!("{client} was not sent {} again", sent.message.payload));
        }
        session.owed.retain(|owed| !owed.may_miss() || owed.after_suback.is_some());
        let late = session.owed.iter().find(|owed| owed.after_suback.is_none());
        late.map_or(Ok(()), |owed| Err(format!("{client} was not sent {}", owed.message.payload)))
    }

    /// Of members that could have been sent a message of their share, none has it.
    pub(crate) fn check_shared(&mut self) -> Result<(), String> {
        self.forget_large_shared();
        let (now, sessions, connections) = (self.now, &self.sessions, &self.connections);
        let mut lost = None;
        self.shared.retain_mut(|shared| {
            shared.holders.retain(|client, _| {
                let Some(session) = sessions.get(client) else { return false };
                let Some(number) = session.connection.filter(|_| session.is_open) else { return true };
                session.inflight.iter().filter(|sent| sent.is_sent).count() >= connections[&number].window
            });
            let is_gone = shared.holders.is_empty() || shared.message.is_expired(now);
            if shared.holders.is_empty() && !shared.is_optional && !shared.message.is_expired(now) {
                lost = Some(format!("no member of {} was sent {}", shared.group, shared.message.payload));
            }
            !is_gone
        });
        lost.map_or(Ok(()), Err)
    }
}

/// Whether a PUBLISH is this message delivered so. Identifiers and expiry are not seen before 5.0.
fn agrees(message: &Message, due: &Content, packet: &Seen, now: u64, is_v5: bool) -> bool {
    let Seen::Publish { content, topic, payload, expiry, .. } = packet else { return false };
    // What was sent before it expired is sent again to the end: then with the least that is not expired.
    let remaining = message.remaining(now).map(|seconds| seconds.max(1));
    let v5 = if is_v5 { (due.ids.clone(), remaining) } else { (vec![], None) };
    *topic == message.topic
        && *payload == message.payload
        && content.qos == due.qos
        && content.retain == due.retain
        && (content.ids.clone(), *expiry) == v5
}
