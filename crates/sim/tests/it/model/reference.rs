//! The reference: a broker as plain maps and lists, written from the standards and from the project's design, without
//! packets' bytes and without a thought for speed.
//!
//! It is told what reaches the broker, and what the broker sends is held against it. Where the standard leaves a choice,
//! it keeps every choice open until the broker has made it: `routing.rs` says what is owed to whom, `observed.rs` what may
//! be sent when, and what must have been sent once nothing is left to do.

use std::collections::{BTreeMap, BTreeSet};

use super::script::{Options, Will};

/// In flight towards a client that names no Receive Maximum: a limit of the broker's config, not of the standard.
pub(crate) const MAX_INFLIGHT: u16 = 4;

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
    /// The standard allows to forget it: QoS 0 across connections, buffered after an UNSUBSCRIBE.
    pub(crate) is_optional: bool,
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
    /// It may have changed hands: then its place in the order is open.
    pub(crate) is_moved: bool,
    pub(crate) is_optional: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// Seconds; `None` for ever.
    pub(crate) expiry: Option<u32>,
    pub(crate) ends_at: Option<u64>,
    pub(crate) connection: Option<u32>,
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
}

impl Session {
    /// Something looks like what is owed at a place, the first that does. If that may be forgotten, it can as well be what
    /// looks the same further on, and that one need not come then: unless it had overtaken what must come before it.
    pub(crate) fn leave_open_which(&mut self, at: usize, is_it: impl Fn(&Owed) -> bool) {
        let (topic, qos) = (self.owed[at].message.topic.clone(), self.owed[at].content.qos);
        let must_come = |owed: &&mut Owed| !owed.is_optional && owed.message.topic == topic && owed.content.qos == qos;
        if let Some(twin) = self.owed[at..].iter_mut().find(must_come).filter(|next| is_it(next)) {
            twin.is_optional = true;
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) client: String,
    pub(crate) is_v5: bool,
    pub(crate) window: usize,
    /// Answers that are due, each with what it may be. Those of one type come in this order.
    pub(crate) answers: Vec<Vec<Answer>>,
    pub(crate) is_closed: bool,
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
    pub(crate) count: u64,
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

    /// The next time at which something happens without anybody's doing.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.sessions.values().flat_map(|session| [session.will_at, session.ends_at]).flatten().min()
    }

    /// Time goes by: delayed wills are published, sessions end.
    pub(crate) fn advance(&mut self, to: u64) {
        while let Some(at) = self.next_deadline().filter(|at| *at <= to) {
            self.now = at;
            let due = |deadline: Option<u64>| deadline == Some(at);
            let found = self.sessions.iter().find(|(_, session)| due(session.will_at) || due(session.ends_at));
            let (client, is_will) = found.map(|(client, session)| (client.clone(), due(session.will_at))).unwrap();
            if is_will {
                self.note("a delayed will is published before its session ends");
                self.publish_will(&client);
            } else {
                self.note("a session expires");
                self.end_session(&client);
            }
        }
        self.now = to;
    }

    /// CONNECT arrives on a new connection.
    pub(crate) fn connect(&mut self, number: u32, arrival: Arrival) {
        let Arrival { client, is_v5, clean, expiry, receive, will } = arrival;
        let old = self.sessions.get(&client).and_then(|session| session.connection);
        if let Some(old) = old {
            // [MQTT-3.1.4-3]; before 5.0 there is no such packet. [MQTT3-3.1.4-2]
            self.note("a takeover");
            self.close(old, Some(0x8E));
            self.note_if(self.sessions[&client].will.is_some(), "a takeover finds a will");
            self.returning = (!clean).then(|| client.clone());
            self.end_connection(old, true);
            self.returning = None;
        }
        if clean && self.sessions.contains_key(&client) {
            self.note("clean start ends a session");
            self.end_session(&client);
        }
        let present = self.sessions.contains_key(&client);
        let session = self.sessions.entry(client.clone()).or_default();
        let has_cancelled_a_will = session.will_at.take().is_some();
        session.connection = Some(number);
        session.ends_at = None;
        session.will = will;
        session.expiry = match (is_v5, expiry) {
            (true, Some(u32::MAX)) => None,
            (true, expiry) => Some(expiry.unwrap_or(0)),
            (false, _) if clean => Some(0),
            (false, _) => None,
        };
        let released: Vec<_> = session.inflight.iter().filter(|sent| sent.is_released).map(|sent| sent.id).collect();
        let has_unacknowledged = released.len() < session.inflight.len();
        self.note(if is_v5 { "a 5.0 client" } else { "a 3.1.1 client" });
        self.note_if(present, "a session is resumed");
        self.note_if(has_cancelled_a_will, "a delayed will is cancelled by a new connection");
        self.note_if(!released.is_empty(), "a session is resumed between PUBREC and PUBCOMP");
        self.note_if(has_unacknowledged, "a session is resumed between PUBLISH and its acknowledgement");
        let mut answers = vec![vec![Answer::Connack { present, code: 0 }]];
        answers.extend(released.into_iter().map(|id| vec![Answer::Pubrel { id, code: 0 }]));
        let window = receive.filter(|_| is_v5).unwrap_or(u16::MAX).min(MAX_INFLIGHT).into();
        self.connections
            .insert(number, Connection { client: client.clone(), is_v5, window, answers, is_closed: false });
    }

    /// A connection ends without DISCONNECT.
    pub(crate) fn lose(&mut self, number: u32) {
        if self.connections.get(&number).is_some_and(|connection| !connection.is_closed) {
            self.end_connection(number, true);
        }
        self.connections.remove(&number);
    }

    /// The broker closes a connection, with a code for those that understand it.
    pub(crate) fn close(&mut self, number: u32, code: Option<u8>) {
        let connection = self.connections.get_mut(&number).unwrap();
        connection.is_closed = true;
        connection.answers.extend(code.filter(|_| connection.is_v5).map(|code| vec![Answer::Disconnect { code }]));
    }

    /// DISCONNECT arrives.
    pub(crate) fn disconnect(&mut self, number: u32, with_will: bool, expiry: Option<u32>) {
        let session = self.sessions.get_mut(&self.connections[&number].client).unwrap();
        // Zero at CONNECT stays zero. [MQTT-3.14.2-2]
        if session.expiry == Some(0) && expiry.is_some_and(|seconds| seconds > 0) {
            self.note("DISCONNECT would raise a session expiry of zero");
            self.close(number, Some(0x82));
            return self.end_connection(number, true);
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
        let session = self.sessions.get_mut(&client).unwrap();
        session.connection = None;
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
        self.inherit(client, session);
    }

    fn publish_will(&mut self, client: &str) {
        let session = self.sessions.get_mut(client).unwrap();
        session.will_at = None;
        let will = session.will.take().unwrap();
        self.note_if(will.publish.retain, "a retained will");
        self.publish(client, &will.publish);
    }
}
