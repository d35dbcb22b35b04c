//! A client as the standard wants it, which is told when to do what: it keeps what is unacknowledged over connections,
//! sends it again when its session is resumed, and answers at once or when told to.

use std::collections::BTreeMap;

use damselfly_broker::ConnectionId;

use super::{
    observed::{Seen, Sent},
    reference::Answer,
    script::{Connect, Kind, Options, Publish},
};

/// A QoS 1 or 2 message of the client that is not acknowledged.
#[derive(Clone, Debug)]
struct Unacknowledged {
    id: u16,
    publish: Publish,
    /// PUBREC came.
    is_released: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) is_v5: bool,
    is_manual: bool,
    pub(crate) is_deaf: bool,
    last_id: u16,
    /// What the aliases of this connection stand for.
    aliases: BTreeMap<u16, String>,
    unacknowledged: Vec<Unacknowledged>,
    /// Answers that are due.
    pub(crate) due: Vec<(Kind, u16)>,
}

impl Client {
    pub(crate) fn connect(&mut self, connection: ConnectionId, connect: &Connect) {
        self.connection = Some(connection);
        self.is_v5 = connect.is_v5;
        self.is_manual = connect.manual;
        self.is_deaf = false;
        self.due.clear();
        self.aliases.clear();
    }

    /// A Packet Identifier that is not in use. [MQTT-2.2.1-3]
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % 100 + 1;
            if self.unacknowledged.iter().all(|sent| sent.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    pub(crate) fn publish(&mut self, publish: &Publish) -> Sent {
        let publish = publish.padded();
        let (expiry, alias) = (publish.expiry.filter(|_| self.is_v5), publish.alias.filter(|_| self.is_v5));
        let known = alias.and_then(|alias| self.aliases.get(&alias)).cloned();
        let is_blind = publish.is_blind && alias.is_some();
        let is_named = !is_blind && known.as_ref() != Some(&publish.topic);
        // One that nobody can understand is against the rules, and forgotten.
        let is_kept = publish.qos > 0 && (!is_blind || known.is_some());
        let topic = if is_blind { known.unwrap_or_else(|| publish.topic.clone()) } else { publish.topic.clone() };
        let publish = Publish { expiry, alias: None, is_blind: false, topic, ..publish };
        if let Some(alias) = alias.filter(|_| is_named) {
            self.aliases.insert(alias, publish.topic.clone());
        }
        let id = if publish.qos > 0 { self.next_id() } else { 0 };
        if is_kept {
            self.unacknowledged.push(Unacknowledged { id, publish: publish.clone(), is_released: false });
        }
        Sent::Publish { id, dup: false, publish, alias, is_named }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, options: &Options) -> Sent {
        let options = if self.is_v5 {
            let is_shared = filter.starts_with("$share/");
            Options { no_local: options.no_local && !is_shared, ..options.clone() }
        } else {
            Options { qos: options.qos, ..Options::default() }
        };
        Sent::Subscribe { id: self.next_id(), filter: filter.into(), options }
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Sent {
        Sent::Unsubscribe { id: self.next_id(), filter: filter.into() }
    }

    /// A packet of the broker arrives; what is sent at once because of it.
    pub(crate) fn see(&mut self, packet: &Seen) -> Vec<Sent> {
        match packet {
            Seen::Publish { id, content, .. } if content.qos > 0 => {
                self.due.push((if content.qos == 1 { Kind::Puback } else { Kind::Pubrec }, *id));
            }
            Seen::Answer(Answer::Connack { present, code: 0 }) => {
                if !present {
                    self.unacknowledged.clear();
                }
                // [MQTT-4.4.0-1]
                return self.unacknowledged.iter().map(|sent| sent.again(self.is_v5)).collect();
            }
            Seen::Answer(Answer::Pubrel { id, .. }) => self.due.push((Kind::Pubcomp, *id)),
            // What was refused is done.
            Seen::Answer(Answer::Pubrec { id, code: 0x80.. }) => self.unacknowledged.retain(|sent| sent.id != *id),
            Seen::Answer(Answer::Pubrec { id, .. }) => {
                if let Some(sent) = self.unacknowledged.iter_mut().find(|sent| sent.id == *id) {
                    sent.is_released = true;
                }
                self.due.push((Kind::Pubrel, *id));
            }
            Seen::Answer(Answer::Puback { id, .. } | Answer::Pubcomp { id, .. }) => {
                self.unacknowledged.retain(|sent| sent.id != *id);
            }
            _ => {}
        }
        if self.is_manual { Vec::new() } else { self.answer(None, usize::MAX) }
    }

    /// The oldest answers that are due, of one kind or of any.
    pub(crate) fn answer(&mut self, kind: Option<Kind>, count: usize) -> Vec<Sent> {
        let mut answers = Vec::new();
        self.due.retain(|(due, id)| {
            let is_it = answers.len() < count && kind.is_none_or(|kind| kind == *due);
            if is_it {
                answers.push(match due {
                    Kind::Puback => Sent::Puback { id: *id, is_refusal: false },
                    Kind::Pubrec => Sent::Pubrec { id: *id, is_refusal: false },
                    Kind::Pubrel => Sent::Pubrel { id: *id },
                    Kind::Pubcomp => Sent::Pubcomp { id: *id },
                });
            }
            !is_it
        });
        answers
    }

    /// The oldest PUBLISH without an answer gets no.
    pub(crate) fn refuse(&mut self) -> Option<Sent> {
        let is_of_publish = |kind: Kind| matches!(kind, Kind::Puback | Kind::Pubrec);
        let at = self.due.iter().position(|(kind, _)| self.is_v5 && is_of_publish(*kind))?;
        let (kind, id) = self.due.remove(at);
        Some(match kind {
            Kind::Puback => Sent::Puback { id, is_refusal: true },
            _ => Sent::Pubrec { id, is_refusal: true },
        })
    }
}

impl Unacknowledged {
    fn again(&self, is_v5: bool) -> Sent {
        if self.is_released {
            Sent::Pubrel { id: self.id }
        } else {
            let publish = Publish { expiry: self.publish.expiry.filter(|_| is_v5), ..self.publish.clone() };
            Sent::Publish { id: self.id, dup: true, publish, alias: None, is_named: true }
        }
    }
}
