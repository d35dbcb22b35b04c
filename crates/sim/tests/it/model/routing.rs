//! Who has to get what: subscriptions, retained messages, Shared Subscriptions.

use super::{
    reference::{Content, Holders, Message, Model, Owed, Session, Shared},
    script::Options,
};

/// What came of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Somebody has subscribed to it.
    pub(crate) is_subscribed: bool,
    /// Somebody gets it; `None`: perhaps.
    pub(crate) accepted: Option<bool>,
    pub(crate) dropped: Dropped,
}

/// Whether a full queue had no room for a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dropped {
    #[default]
    No,
    Perhaps,
    Yes,
}

/// `$share/{ShareName}/{filter}` without what stands before the filter.
pub(crate) fn plain(filter: &str) -> &str {
    if filter.starts_with("$share/") { filter.splitn(3, '/').nth(2).unwrap() } else { filter }
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether a filter matches a topic, level by level. [MQTT-4.7]
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([first, filter @ ..], [level, topic @ ..]) => (*first == "+" || first == level) && levels(filter, topic),
            _ => false,
        }
    }
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

fn content(message: &Message, options: &Options) -> Content {
    Content {
        qos: message.qos.min(options.qos),
        retain: message.retain && options.retain_as_published,
        ids: options.id.into_iter().collect(),
    }
}

/// Adds who may have a message now to those who may have had it before.
fn join(holders: &mut Holders, others: Holders) {
    for (client, contents) in others {
        holders.entry(client).or_default().extend(contents);
    }
}

impl Model {
    /// A message has its effect.
    pub(crate) fn publish(&mut self, message: &Message) -> Outcome {
        if message.retain {
            self.retain(message);
        }
        let is_subscribed = self.sessions.iter().any(|(client, session)| {
            let survives = |options: &Options| !(options.no_local && *client == message.from);
            session
                .subscriptions
                .iter()
                .any(|(filter, options)| matches(plain(filter), &message.topic) && survives(options))
        });
        if message.is_expired(self.now) {
            self.note("a message expires before it has an effect");
            return Outcome { is_subscribed, ..Outcome::default() };
        }
        let number = message.number;
        let clients: Vec<_> = self.sessions.keys().cloned().collect();
        let mut dropped = clients.iter().map(|client| self.owe(client, message)).max().unwrap_or_default();
        self.has_driven_out = false;
        let mut of_groups = Dropped::No;
        for group in self.groups(&message.topic) {
            of_groups = of_groups.max(self.share(group, message.clone(), None));
        }
        dropped = dropped.max(of_groups);
        if of_groups > Dropped::No || self.has_driven_out {
            self.doubt(number);
        }
        let accepted = self.accepted(number);
        Outcome { is_subscribed, accepted, dropped }
    }

    /// Whether somebody gets a message, if that is certain.
    fn accepted(&self, number: u64) -> Option<bool> {
        let of_clients = self.sessions.iter().flat_map(|(client, session)| {
            session.owed.iter().filter(|owed| owed.message.number == number).map(move |owed| {
                let is_too_large = session.is_open && self.is_too_large(client, &owed.message, &owed.content);
                owed.may_miss() || is_too_large
            })
        });
        let shared = self.shared.iter().filter(|shared| shared.message.number == number);
        let may_miss: Vec<bool> = of_clients.chain(shared.map(|shared| shared.is_optional)).collect();
        if may_miss.contains(&false) {
            Some(true)
        } else if may_miss.is_empty() {
            Some(false)
        } else {
            None
        }
    }

    /// A client that gets a message more than once has no room for all of them: which one goes is open.
    fn doubt(&mut self, number: u64) {
        let mut of_groups = Vec::new();
        for shared in self.shared.iter_mut().filter(|shared| shared.message.number == number) {
            shared.is_optional = true;
            of_groups.extend(shared.holders.keys().cloned());
        }
        for (_, session) in self.sessions.iter_mut().filter(|(client, _)| of_groups.contains(client)) {
            for owed in session.owed.iter_mut().filter(|owed| owed.message.number == number) {
                owed.is_doubtful = true;
            }
        }
    }

    /// [MQTT-3.3.1-5] to [MQTT-3.3.1-7]
    fn retain(&mut self, message: &Message) {
        let old = if message.payload.is_empty() {
            self.retained.remove(&message.topic)
        } else {
            self.note("a message is retained");
            self.retained.insert(message.topic.clone(), message.clone())
        };
        self.note_if(old.is_some() && message.payload.is_empty(), "a retained message is removed");
        self.note_if(old.is_some() && !message.payload.is_empty(), "a retained message is replaced");
    }

    /// The subscriptions of one session that are not shared make one delivery. [MQTT-3.3.4-2] to [MQTT-3.3.4-5]
    fn owe(&mut self, client: &str, message: &Message) -> Dropped {
        let (batch, session) = (self.next(), self.sessions.get_mut(client).unwrap());
        let all = session.subscriptions.iter();
        let found: Vec<_> = all.filter(|(filter, _)| !is_shared(filter) && matches(filter, &message.topic)).collect();
        let survives = |options: &Options| !(options.no_local && client == message.from);
        let deliveries: Vec<_> = found
            .iter()
            .filter(|(_, options)| survives(options))
            .map(|(_, options)| content(message, options))
            .collect();
        self.features.extend((deliveries.len() < found.len()).then_some("no local keeps a message back"));
        let Some(qos) = deliveries.iter().map(|delivery| delivery.qos).max() else { return Dropped::No };
        let mut ids: Vec<_> = deliveries.iter().flat_map(|delivery| delivery.ids.clone()).collect();
        ids.sort_unstable();
        let content = Content { qos, retain: deliveries.iter().any(|delivery| delivery.retain), ids };
        self.features.extend((deliveries.len() > 1).then_some("overlapping subscriptions make one delivery"));
        let is_away = !session.is_open;
        if is_away && qos == 0 && self.returning.as_deref() != Some(client) {
            // The design keeps no QoS 0 message for a client that is away.
            self.note("a QoS 0 message finds its client away");
            return Dropped::No;
        }
        let dropped = self.meet_queue(client, message, &content);
        if dropped == Dropped::Yes {
            return dropped;
        }
        self.note_if(is_away, "a message waits for a client that is away");
        let (is_optional, is_doubtful) = (qos == 0 && is_away, dropped == Dropped::Perhaps);
        let message = message.clone();
        let owed =
            Owed { message, content, batch, is_replay: false, is_optional, is_doubtful, after_suback: None, began: 0 };
        self.sessions.get_mut(client).unwrap().owed.push(owed);
        dropped
    }

    /// The Shared Subscriptions that match a topic.
    fn groups(&self, topic: &str) -> Vec<String> {
        let filters = self.sessions.values().flat_map(|session| session.subscriptions.keys());
        let mut groups: Vec<_> =
            filters.filter(|filter| is_shared(filter) && matches(plain(filter), topic)).cloned().collect();
        groups.sort();
        groups.dedup();
        groups
    }

    /// The members that may get a message of a group: those with a connection if there are any.
    fn eligible(&self, group: &str, message: &Message, but: Option<&str>) -> Holders {
        let members = |is_connected: bool| {
            let sessions = self
                .sessions
                .iter()
                .filter(move |(client, session)| Some(client.as_str()) != but && session.is_open == is_connected);
            sessions.filter_map(|(client, session)| {
                Some((client.clone(), vec![content(message, session.subscriptions.get(group)?)]))
            })
        };
        let connected: Holders = members(true).collect();
        if connected.is_empty() { members(false).collect() } else { connected }
    }

    /// As `eligible` without those that are away and would get it at QoS 0, and whether there were any of them.
    fn holders(&self, group: &str, message: &Message, but: Option<&str>) -> (Holders, bool) {
        let mut holders = self.eligible(group, message, but);
        let is_there = |client: &String| self.sessions[client].is_open;
        let returning = self.returning.as_ref().filter(|client| Some(client.as_str()) != but);
        if let Some((client, options)) =
            returning.and_then(|client| Some((client, self.sessions.get(client)?.subscriptions.get(group)?)))
        {
            holders.insert(client.clone(), vec![content(message, options)]);
        }
        let is_optional = !holders.keys().any(is_there) && holders.values().any(|contents| contents[0].qos == 0);
        holders.retain(|client, contents| contents[0].qos > 0 || is_there(client) || Some(client) == returning);
        (holders, is_optional)
    }

    /// One member of a group has to get a message.
    fn share(&mut self, group: String, message: Message, left: Option<&str>) -> Dropped {
        let (holders, is_away) = self.holders(&group, &message, left);
        let (is_too_large, is_full) = self.may_miss_shared(&message, &holders);
        let count = holders.len();
        self.note_if(count > 1, "a share group has a choice");
        self.note_if(count > 0 && left.is_some(), "a shared message that was sent moves to another member");
        if !holders.is_empty() {
            let (batch, is_optional) = (self.next(), is_away || is_too_large || is_full);
            self.shared.push(Shared { group, message, holders, batch, is_moved: left.is_some(), is_optional });
        }
        if is_full { Dropped::Perhaps } else { Dropped::No }
    }

    /// A client is gone, or has left a group: what it was never sent moves to another member.
    pub(crate) fn move_shared(&mut self, client: &str, left: Option<&str>, may_keep: bool) {
        let (before, mut is_any_full) = (self.count, false);
        self.has_driven_out = false;
        for at in 0..self.shared.len() {
            let Shared { group, message, holders, .. } = &self.shared[at];
            if !holders.contains_key(client) || left.is_some_and(|left| left != group) {
                continue;
            }
            let message = message.clone();
            let (others, _) = self.holders(group, &message, Some(client));
            let is_anybody_there = others.keys().any(|other| self.sessions[other].is_open);
            let (is_too_large, is_full) =
                if is_anybody_there { self.may_miss_shared(&message, &others) } else { (false, false) };
            is_any_full |= is_full;
            let batch = self.next();
            let shared = &mut self.shared[at];
            shared.is_optional |= is_too_large;
            shared.batch = batch;
            if is_anybody_there {
                if !may_keep {
                    shared.holders.remove(client);
                }
                join(&mut shared.holders, others);
                shared.is_moved = true;
                self.features.insert("a shared message that was not sent moves to another member");
            } else if left.is_some() {
                shared.is_optional = true;
            } else {
                shared.is_optional |= shared.holders[client].iter().any(|content| content.qos == 0);
            }
        }
        is_any_full |= self.has_driven_out;
        for shared in self.shared.iter_mut().filter(|shared| is_any_full && shared.batch > before) {
            shared.is_optional = true;
        }
    }

    /// A group without members is no more: one of the same name that comes later inherits nothing.
    fn end_groups(&mut self) {
        let subscriptions = self.sessions.values().flat_map(|session| session.subscriptions.keys());
        let groups: Vec<_> = subscriptions.filter(|filter| is_shared(filter)).cloned().collect();
        for sent in self.sessions.values_mut().flat_map(|session| &mut session.inflight) {
            sent.group.take_if(|group| !groups.contains(group));
        }
        for shared in self.shared.iter_mut().filter(|shared| !groups.contains(&shared.group)) {
            shared.group = "of a share that ended".into();
        }
    }

    /// A session is gone. Sent or not, its share of groups goes to others; a QoS 2 message that was sent does not.
    /// [MQTT-4.8.2-5]
    pub(crate) fn inherit(&mut self, client: &str, session: Session) {
        let (before, mut is_any_full) = (self.count, false);
        self.has_driven_out = false;
        for at in 0..self.shared.len() {
            if self.shared[at].holders.remove(client).is_some() {
                let message = self.shared[at].message.clone();
                let (others, is_away) = self.holders(&self.shared[at].group, &message, Some(client));
                let (is_too_large, is_full) = self.may_miss_shared(&message, &others);
                is_any_full |= is_full;
                let batch = self.next();
                let shared = &mut self.shared[at];
                shared.batch = batch;
                join(&mut shared.holders, others);
                shared.is_moved = true;
                shared.is_optional |= is_away || is_too_large || is_full;
            }
        }
        self.shared.retain(|shared| !shared.holders.is_empty());
        for sent in session.inflight {
            match sent.group {
                Some(group) if sent.content.qos == 1 => {
                    is_any_full |= self.share(group, sent.message, Some(client)) > Dropped::No;
                }
                Some(_) => self.note("a shared QoS 2 message that was sent ends with its session"),
                None => {}
            }
        }
        // Not all of them find room: which do is open.
        is_any_full |= self.has_driven_out;
        for shared in self.shared.iter_mut().filter(|shared| is_any_full && shared.batch > before) {
            shared.is_optional = true;
        }
        self.end_groups();
    }

    /// Makes or replaces a subscription; the code of the SUBACK. What it asks for of the retained messages follows that.
    pub(crate) fn make_subscription(&mut self, number: u32, id: u16, filter: &str, options: &Options) -> u8 {
        let (batch, now) = (self.next(), self.now);
        let client = self.connections[&number].client.clone();
        let session = self.sessions.get_mut(&client).unwrap();
        let is_new = session.subscriptions.insert(filter.into(), options.clone()).is_none();
        let is_sent = match options.retain_handling {
            0 => true,
            1 => is_new,
            _ => false,
        };
        let found: Vec<_> = self.retained.values().filter(|message| matches(filter, &message.topic)).cloned().collect();
        let has_some = !found.is_empty();
        let feature = match (options.retain_handling, is_new) {
            (0, _) => "retained messages for any SUBSCRIBE",
            (1, true) => "retained messages for a new subscription only: new",
            (1, false) => "retained messages for a new subscription only: not new",
            _ => "retained messages not wanted",
        };
        self.note_if(has_some, feature);
        self.note_if(!is_new, "a subscription is replaced");
        // [MQTT-4.8.2]: a Shared Subscription gets none.
        if !is_sent || is_shared(filter) {
            return options.qos;
        }
        let session = self.sessions.get_mut(&client).unwrap();
        session.is_replay_behind = true;
        // What an earlier SUBSCRIBE to the same filter has not been sent yet is sent for this one, all of it.
        let before = session.replays.insert(filter.into(), batch);
        for owed in session.owed.iter_mut().filter(|owed| owed.is_replay && Some(owed.batch) == before) {
            owed.is_optional = true;
        }
        for message in found {
            // A retained message is the state of its topic and no longer has a publisher: No Local is about live ones.
            if message.is_expired(now) {
                continue;
            }
            let content = Content { retain: true, ..content(&message, options) };
            let (is_optional, is_doubtful, after_suback) = (false, false, Some(id));
            let owed =
                Owed { message, content, batch, is_replay: true, is_optional, is_doubtful, after_suback, began: 0 };
            session.owed.push(owed);
        }
        options.qos
    }

    /// Ends a subscription; the codes of the UNSUBACK. [MQTT-3.11.3-1] [MQTT-3.11.3-2]; before 5.0 there are none.
    pub(crate) fn end_subscription(&mut self, number: u32, filter: &str) -> Vec<u8> {
        let connection = &self.connections[&number];
        let (client, is_v5) = (connection.client.clone(), connection.is_v5);
        let session = self.sessions.get_mut(&client).unwrap();
        let was = session.subscriptions.remove(filter).is_some();
        if was {
            // [MQTT-3.10.4-3] lets what is buffered be delivered or not.
            for owed in session.owed.iter_mut().filter(|owed| matches(filter, &owed.message.topic)) {
                owed.is_optional = true;
            }
            self.note("a subscription ends");
            self.move_shared(&client, Some(filter), true);
            self.end_groups();
        }
        match (is_v5, was) {
            (false, _) => vec![],
            (true, true) => vec![0],
            (true, false) => vec![0x11],
        }
    }
}
