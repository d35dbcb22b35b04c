//! What clients send, and whether what the broker sends them is what it has to.

use super::{
    reference::{Answer, Content, Inflight, Message, Model, Owed},
    script::{Options, Publish},
};

/// A packet of a client, after CONNECT.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Publish {
        id: u16,
        dup: bool,
        publish: Publish,
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
            Sent::Publish { id, dup, publish } => self.receive_publish(number, &client, id, dup, &publish),
            Sent::Puback { id, is_refusal } => self.finish(&client, id, is_refusal, "PUBACK refuses"),
            Sent::Pubrec { id, is_refusal: true } => self.finish(&client, id, true, "PUBREC refuses"),
            Sent::Pubrec { id, .. } => {
                let session = self.sessions.get_mut(&client).unwrap();
                let known = session.inflight.iter_mut().find(|sent| sent.id == id);
                known.unwrap().is_released = true;
                self.answer(number, vec![Answer::Pubrel { id, code: 0 }]);
            }
            Sent::Pubcomp { id } => self.finish(&client, id, false, ""),
            Sent::Pubrel { id } => {
                let known = self.sessions.get_mut(&client).unwrap().received.remove(&id);
                self.note_if(!known, "PUBREL comes again");
                let code = if known || !is_v5 { 0 } else { 0x92 };
                self.answer(number, vec![Answer::Pubcomp { id, code }]);
            }
            Sent::Subscribe { id, filter, options } => self.subscribe(number, id, &filter, &options),
            Sent::Unsubscribe { id, filter } => self.unsubscribe(number, id, &filter),
            Sent::Disconnect { with_will, expiry } => self.disconnect(number, with_will, expiry),
        }
    }

    fn answer(&mut self, number: u32, allowed: Vec<Answer>) {
        self.connections.get_mut(&number).unwrap().answers.push(allowed);
    }

    fn receive_publish(&mut self, number: u32, client: &str, id: u16, dup: bool, publish: &Publish) {
        self.note(["a QoS 0 message", "a QoS 1 message", "a QoS 2 message"][usize::from(publish.qos)]);
        self.note_if(publish.expiry.is_some(), "a message that expires");
        self.note_if(dup, "a publisher repeats a message");
        let session = self.sessions.get_mut(client).unwrap();
        // [MQTT-4.3.3-10]: once for one Packet Identifier, until PUBREL.
        let is_known = publish.qos == 2 && !session.received.insert(id);
        self.note_if(is_known, "a publisher repeats a QoS 2 message that is known");
        let is_subscribed = is_known || self.publish(client, publish);
        let is_v5 = self.connections[&number].is_v5;
        // No matching subscribers may be said where there are none. [MQTT-3.4.2.1]
        let codes = if is_v5 && (is_known || !is_subscribed) { vec![0, 0x10] } else { vec![0] };
        let answer = |code| if publish.qos == 1 { Answer::Puback { id, code } } else { Answer::Pubrec { id, code } };
        if publish.qos > 0 {
            self.answer(number, codes.into_iter().map(answer).collect());
        }
    }

    fn finish(&mut self, client: &str, id: u16, is_refusal: bool, feature: &'static str) {
        self.note_if(is_refusal, feature);
        self.sessions.get_mut(client).unwrap().inflight.retain(|sent| sent.id != id);
    }

    /// A packet leaves the broker.
    pub(crate) fn observe(&mut self, number: u32, packet: &Seen) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&number) else { return Err("nobody is there".into()) };
        let is_first = matches!(connection.answers.first().map(Vec::as_slice), Some([Answer::Connack { .. }]));
        let answer = match packet {
            _ if is_first && !matches!(packet, Seen::Answer(Answer::Connack { .. })) => {
                return Err("CONNACK comes first".into());
            }
            Seen::Publish { .. } => return self.observe_publish(number, packet),
            Seen::Answer(answer) => answer,
        };
        let same_type = |due: &Vec<Answer>| core::mem::discriminant(&due[0]) == core::mem::discriminant(answer);
        match connection.answers.iter().position(same_type) {
            Some(at) if connection.answers[at].contains(answer) => {
                connection.answers.remove(at);
                Ok(())
            }
            Some(at) => Err(format!("due is {:?}", connection.answers[at])),
            None => Err("nothing of this kind is due".into()),
        }
    }

    fn observe_publish(&mut self, number: u32, packet: &Seen) -> Result<(), String> {
        let Seen::Publish { id, dup, content, .. } = packet else { return Ok(()) };
        let connection = &self.connections[&number];
        if connection.is_closed {
            return Err("the connection is closed".into());
        }
        let (client, window) = (connection.client.clone(), connection.window);
        let session = self.sessions.get_mut(&client).unwrap();
        let in_use = session.inflight.iter().filter(|sent| sent.is_sent).count();
        if content.qos > 0 && in_use >= window {
            return Err(format!("{window} are in flight, which is the Receive Maximum")); // [MQTT-3.3.4-9]
        }
        if let Some(at) = session.inflight.iter().position(|sent| content.qos > 0 && sent.id == *id) {
            return self.observe_again(number, at, packet);
        }
        if *dup {
            return Err("DUP on what was never sent".into()); // [MQTT-3.3.1-1]
        }
        let (message, group) = match self.take_owed(&client, number, packet)? {
            Some(message) => (message, None),
            None => self.take_shared(&client, number, packet).map(|(message, group)| (message, Some(group)))?,
        };
        self.note_delivery(&message, content);
        if content.qos > 0 {
            let content = content.clone();
            let sent = Inflight { id: *id, message, content, is_released: false, is_sent: true, group };
            self.sessions.get_mut(&client).unwrap().inflight.push(sent);
        }
        Ok(())
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
    fn take_owed(&mut self, client: &str, number: u32, packet: &Seen) -> Result<Option<Message>, String> {
        self.forget_dead(client);
        let (now, is_v5) = (self.now, self.connections[&number].is_v5);
        let session = self.sessions.get_mut(client).unwrap();
        let is_it = |owed: &Owed| agrees(&owed.message, &owed.content, packet, now, is_v5);
        let Some(at) = session.owed.iter().position(is_it) else { return Ok(None) };
        session.leave_open_which(at, is_it);
        let Owed { message, content, is_replay, .. } = session.owed.remove(at);
        let same = |other: &Message, of: &Content| other.topic == message.topic && of.qos == content.qos;
        // [MQTT-4.6.0-5] [MQTT-4.6.0-6]: what is allowed to be forgotten is forgotten, if something newer is sent.
        if let Some(owed) = session.owed[..at].iter().find(|owed| {
            same(&owed.message, &owed.content) && !owed.is_optional && !(owed.is_replay && content.qos == 0)
        }) {
            return Err(format!("it overtakes {}", owed.message.payload));
        }
        let mut index = 0;
        session.owed.retain(|owed| {
            index += 1;
            index > at || is_it(owed) || !same(&owed.message, &owed.content) || (owed.is_replay && content.qos == 0)
        });
        let waits = |sent: &&Inflight| same(&sent.message, &sent.content) && !sent.is_sent && !sent.is_released;
        if let Some(sent) = session.inflight.iter().find(waits) {
            return Err(format!("it overtakes {}, which is to be sent again", sent.message.payload));
        }
        self.note_if(is_replay, "a retained message for a SUBSCRIBE");
        self.note_if(content.retain && !is_replay, "retain as published");
        Ok(Some(message))
    }

    /// Finds the packet among what a Shared Subscription owes to one of its members.
    fn take_shared(&mut self, client: &str, number: u32, packet: &Seen) -> Result<(Message, String), String> {
        let (now, is_v5) = (self.now, self.connections[&number].is_v5);
        let is_mine = |shared: &super::reference::Shared| {
            shared.holders.get(client).is_some_and(|contents| {
                contents.iter().any(|content| agrees(&shared.message, content, packet, now, is_v5))
            })
        };
        let Some(at) = self.shared.iter().position(is_mine) else {
            let owed: Vec<_> = self.sessions[client].owed.iter().map(|owed| (&owed.message, &owed.content)).collect();
            return Err(format!("not owed to it; owed is {owed:?}"));
        };
        let taken = self.shared.remove(at);
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
        // It may have been taken up before it was replaced: at QoS 2 that is when the commit is done, not when PUBLISH comes.
        for owed in &mut session.owed {
            owed.is_optional |= owed.is_replay && !is_current(&owed.message);
        }
    }

    /// Nothing is left to do: whatever could be sent was sent.
    pub(crate) fn check_settled(&mut self, number: u32) -> Result<(), String> {
        let connection = &self.connections[&number];
        let (client, window) = (connection.client.clone(), connection.window);
        if let Some(due) = connection.answers.first() {
            return Err(format!("{client} was not sent {:?}", due[0]));
        }
        if connection.is_closed {
            return Ok(());
        }
        self.forget_dead(&client);
        let session = self.sessions.get_mut(&client).unwrap();
        let is_full = session.inflight.iter().filter(|sent| sent.is_sent).count() >= window;
        if is_full {
            self.features.insert("a window is full");
            // Retained messages wait for the window whatever their QoS, found or not yet looked for, and what comes behind
            // a message that waits waits with it: every session has one order.
            let is_blocked = |owed: &&Owed| owed.content.qos > 0 || owed.is_replay;
            let blocked = session.owed.iter().filter(is_blocked).map(|owed| owed.batch).min();
            let free =
                |owed: &&Owed| !is_blocked(owed) && !owed.is_optional && blocked.is_none_or(|batch| owed.batch < batch);
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
        session.is_replay_behind = false;
        if let Some(sent) = session.inflight.iter().find(|sent| !sent.is_released && !sent.is_sent) {
            return Err(format!("{client} was not sent {} again", sent.message.payload));
        }
        session.owed.retain(|owed| !owed.is_optional);
        session.owed.first().map_or(Ok(()), |owed| Err(format!("{client} was not sent {}", owed.message.payload)))
    }

    /// Of members that could have been sent a message of their share, none has it.
    pub(crate) fn check_shared(&mut self) -> Result<(), String> {
        let (now, sessions, connections) = (self.now, &self.sessions, &self.connections);
        let mut lost = None;
        self.shared.retain_mut(|shared| {
            shared.holders.retain(|client, _| {
                let Some(session) = sessions.get(client) else { return false };
                let Some(number) = session.connection else { return true };
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
