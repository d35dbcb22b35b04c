//! What was published, what became of it, and who got it.

use std::collections::BTreeMap;

use damselfly_broker::DropReason as BrokerDropReason;
use damselfly_client::{DropReason, Event, InboundMessage, Outcome, Ticket};
use damselfly_codec::QoS;
use damselfly_topic::{TopicFilter, TopicName};

use crate::{
    Failure, Feature, MemberId, Report, Sim,
    scenario::{FILTERS, TOPICS, order::Order},
};

#[derive(Debug)]
pub(super) struct Ledger {
    sent: Vec<Vec<Sent>>,
    tickets: BTreeMap<(usize, Ticket), usize>,
    order: Order,
    wills: BTreeMap<Vec<u8>, u64>,
    deliveries: u64,
    /// What offline queues dropped.
    drops: u64,
    /// Which clients have a short offline queue.
    may_drop: Vec<bool>,
    /// The highest QoS each client was granted for each of the topics.
    granted: Vec<[Option<QoS>; TOPICS.len()]>,
}

#[derive(Debug)]
struct Sent {
    topic: usize,
    qos: QoS,
    expires: bool,
    /// How often its publisher had crashed.
    crashes: u32,
    outcomes: u32,
    /// It was acknowledged, or stored.
    is_promised: bool,
    is_dropped: bool,
    /// How often each client got it.
    received: [u32; FILTERS.len()],
}

impl Ledger {
    pub(super) fn new(may_drop: Vec<bool>) -> Self {
        let clients = may_drop.len();
        Self {
            sent: (0..clients).map(|_| Vec::new()).collect(),
            tickets: BTreeMap::new(),
            order: Order::default(),
            wills: BTreeMap::new(),
            deliveries: 0,
            drops: 0,
            may_drop,
            granted: (0..clients).map(|client| TOPICS.map(|topic| granted(client, topic))).collect(),
        }
    }

    /// How many messages a client has published.
    pub(super) fn published(&self, client: usize) -> usize {
        self.sent.get(client).map_or(0, Vec::len)
    }

    #[expect(clippy::too_many_arguments, reason = "all that is to be known of a message")]
    pub(super) fn publish(
        &mut self,
        sim: &Sim,
        client: usize,
        member: MemberId,
        ticket: Ticket,
        topic: usize,
        qos: QoS,
        expires: bool,
    ) {
        let Some(sent) = self.sent.get_mut(client) else { return };
        self.tickets.insert((client, ticket), sent.len());
        let crashes = sim.crashes(member);
        sent.push(Sent {
            topic,
            qos,
            expires,
            crashes,
            outcomes: 0,
            is_promised: false,
            is_dropped: false,
            received: [0; FILTERS.len()],
        });
    }

    pub(super) fn note(&mut self, sim: &Sim, client: usize, member: MemberId, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Message(inbound) => self.receive(sim, client, member, inbound),
            Event::Completed { ticket, outcome } => self.complete(client, *ticket, outcome),
            Event::Stored { ticket } => {
                if let Some(sent) = self.find(client, *ticket) {
                    sent.is_promised = true;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A ticket that is not one of a message. A process that ended before its first group was stored may have given out
    /// the same one.
    pub(super) fn request(&mut self, client: usize, ticket: Ticket) {
        self.tickets.remove(&(client, ticket));
    }

    fn find(&mut self, client: usize, ticket: Ticket) -> Option<&mut Sent> {
        let number = *self.tickets.get(&(client, ticket))?;
        self.sent.get_mut(client)?.get_mut(number)
    }

    fn complete(&mut self, client: usize, ticket: Ticket, outcome: &Outcome) -> Result<(), Failure> {
        // Else it is that of a request to subscribe.
        let may_drop = self.may_drop.get(client).is_some_and(|may_drop| *may_drop);
        let number = self.tickets.get(&(client, ticket)).copied();
        let sent = number.and_then(|number| self.sent.get_mut(client)?.get_mut(number));
        let Some(sent) = sent else { return Ok(()) };
        sent.outcomes += 1;
        let is_right = match outcome {
            Outcome::Transmitted | Outcome::Indeterminate(_) => sent.qos == QoS::AtMostOnce,
            Outcome::Acknowledged { reason_code } => {
                sent.is_promised = true;
                sent.qos != QoS::AtMostOnce && !reason_code.is_error()
            }
            Outcome::Expired => sent.expires,
            // Sent never, so received by nobody.
            Outcome::Dropped(DropReason::Oldest) => {
                sent.is_dropped = true;
                self.drops += 1;
                may_drop && sent.received.iter().all(|count| *count == 0)
            }
            _ => false,
        };
        if sent.outcomes > 1 || !is_right {
            let (count, qos) = (sent.outcomes, sent.qos);
            return Err(Failure(format!("client {client}: outcome {count} of a message of QoS {qos}: {outcome}")));
        }
        Ok(())
    }

    fn receive(&mut self, sim: &Sim, client: usize, member: MemberId, inbound: &InboundMessage) -> Result<(), Failure> {
        self.deliveries += 1;
        let message = &inbound.message;
        let (name, payload) = (message.topic().as_str(), message.payload());
        let fail = |what: &str| {
            let payload = String::from_utf8_lossy(payload);
            Err(Failure(format!("client {client} got {name} {payload}: {what}")))
        };
        let topic = TOPICS.iter().position(|topic| *topic == name);
        let granted = match topic.and_then(|topic| self.granted.get(client)?.get(topic)) {
            Some(granted) => *granted,
            None => granted(client, name),
        };
        let Some(granted) = granted else { return fail("it has no such subscription") };
        if name.starts_with("will/") {
            if client == 0 {
                *self.wills.entry(message.payload().to_vec()).or_default() += 1;
            }
            return Ok(());
        }
        let Some((publisher, number)) = read_key(payload) else { return fail("nobody published it") };
        let sent = self.sent.get_mut(publisher).and_then(|all| all.get_mut(number));
        let Some(sent) = sent else { return fail("nobody published it") };
        if sent.is_dropped {
            return fail("it was dropped before it was sent");
        }
        if Some(sent.topic) != topic {
            return fail("it was published with another topic");
        }
        let qos = sent.qos.min(granted);
        if message.qos() != qos {
            return fail("with another QoS than the highest that was granted");
        }
        let Some(count) = sent.received.get_mut(client) else { return fail("nobody knows it") };
        *count += 1;
        if *count > 1 {
            // The publisher may have sent it again, or the broker.
            let may_repeat = qos == QoS::AtLeastOnce || sent.qos == QoS::AtLeastOnce;
            return if may_repeat { Ok(()) } else { fail("once more") };
        }
        let row = (client, publisher, sent.topic, sent.qos);
        let taken = if sent.qos == QoS::AtLeastOnce { sim.taken_at(payload) } else { &[] };
        let dropped = || (qos != QoS::AtMostOnce).then(|| sim.dropped_for(member));
        if self.order.is_kept(row, number, taken, dropped) { Ok(()) } else { fail("after a later one") }
    }

    /// Nothing is under way any more.
    pub(super) fn check_end(&self, sim: &Sim, members: &[MemberId]) -> Result<(), Failure> {
        // What full queues of the broker dropped is missing somewhere.
        let mut dropped = sim.broker().counters().dropped(BrokerDropReason::QueueFull);
        for (client, member) in members.iter().enumerate() {
            let unfinished = sim.client(*member).unfinished();
            if unfinished.queued + unfinished.in_flight + unfinished.requests > 0 {
                return Err(Failure(format!("client {client} is not done: {unfinished:?}")));
            }
            self.check_outcomes(sim, client, *member)?;
            self.check_arrivals(sim, client, *member, &mut dropped)?;
        }
        let due: BTreeMap<_, _> = sim.due_wills().map(|payload| (payload.to_vec(), 1)).collect();
        if due != self.wills {
            let text = |wills: &BTreeMap<Vec<u8>, u64>| {
                wills.iter().map(|(payload, count)| format!("{} x{count}", String::from_utf8_lossy(payload))).collect()
            };
            let [due, got]: [Vec<String>; 2] = [text(&due), text(&self.wills)];
            return Err(Failure(format!("wills are due {due:?}, and were published {got:?}")));
        }
        Ok(())
    }

    fn check_outcomes(&self, sim: &Sim, client: usize, member: MemberId) -> Result<(), Failure> {
        let crashes = sim.crashes(member);
        for (number, sent) in self.sent.get(client).into_iter().flatten().enumerate() {
            // After a crash the outcome may have been stored and told to nobody.
            if sent.outcomes == 0 && sent.crashes == crashes {
                return Err(Failure(format!("message {client}.{number} of QoS {} has no outcome", sent.qos)));
            }
        }
        Ok(())
    }

    /// Everything that was promised to this receiver.
    fn check_arrivals(&self, sim: &Sim, receiver: usize, member: MemberId, dropped: &mut u64) -> Result<(), Failure> {
        let mut untold = sim.untold_messages(member);
        for (publisher, all) in self.sent.iter().enumerate() {
            for (number, sent) in all.iter().enumerate() {
                let granted = self.granted.get(receiver).and_then(|granted| *granted.get(sent.topic)?);
                let qos = granted.map(|granted| granted.min(sent.qos));
                let is_promised = sent.is_promised && !sent.expires;
                if !is_promised || sent.received.get(receiver).is_some_and(|count| *count > 0) {
                    continue;
                }
                match qos {
                    None | Some(QoS::AtMostOnce) => {}
                    Some(QoS::ExactlyOnce) if untold > 0 => untold -= 1,
                    Some(_) if *dropped > 0 => *dropped -= 1,
                    Some(qos) => {
                        let what = format!("message {publisher}.{number} of QoS {qos}");
                        return Err(Failure(format!("client {receiver} did not get {what}")));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn report(&self, report: &mut Report) {
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        report.messages = self.sent.iter().map(|sent| count(sent.len())).sum();
        report.deliveries = self.deliveries;
        report.wills = count(self.wills.len());
        if self.drops > 0 {
            report.features.insert(Feature::DroppedByClient, self.drops);
        }
    }
}

/// Publisher and number, as they stand at the front of the payload.
pub(super) fn read_key(payload: &[u8]) -> Option<(usize, usize)> {
    let head = payload.split(|byte| *byte == b' ').next()?;
    let (publisher, number) = core::str::from_utf8(head).ok()?.split_once('.')?;
    Some((publisher.parse().ok()?, number.parse().ok()?))
}

/// The highest QoS of the filters of a client that match: what begins with `$` only by filters that do.
fn granted(client: usize, name: &str) -> Option<QoS> {
    let topic = TopicName::new(name).ok()?;
    let is_apart = name.starts_with('$');
    let filters = FILTERS.get(client).copied().unwrap_or_default().iter();
    let matching = filters.filter(|(filter, _)| {
        filter.starts_with('$') == is_apart && TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic))
    });
    matching.map(|(_, qos)| *qos).max()
}
