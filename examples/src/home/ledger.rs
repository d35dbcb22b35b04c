//! The ledger: what became of every message of QoS 1 and 2, by its publisher's numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use damselfly_codec::QoS;
use damselfly_session::Timestamp;
use damselfly_topic::{TopicFilterBuf, TopicName};
use serde_json::json;

/// A client of the house, by its place in [`devices`](super::devices).
pub type ClientIndex = usize;

/// Counts of QoS 1 and of QoS 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByQos {
    /// At QoS 1.
    pub one: u64,
    /// At QoS 2.
    pub two: u64,
}

impl ByQos {
    fn add(&mut self, qos: QoS) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.one += 1,
            QoS::ExactlyOnce => self.two += 1,
        }
    }

    fn to_json(self) -> serde_json::Value {
        json!({"1": self.one, "2": self.two})
    }
}

/// The sums of a [`Ledger`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that their publishers handed to their clients.
    pub published: ByQos,
    /// Of these, those that the broker has taken over.
    pub acknowledged: ByQos,
    /// First deliveries, by the QoS of the delivery; one message may have many.
    pub delivered: ByQos,
    /// Deliveries beyond the first. At QoS 1 they may be, at QoS 2 not.
    pub duplicate: ByQos,
    /// Messages that the broker has taken over and that somebody did not get who should have.
    pub lost: u64,
    /// Deliveries after those of messages that were published later, to one topic at one QoS.
    pub out_of_order: u64,
    /// Messages that the broker has taken over and that not everybody has yet.
    pub waiting: u64,
    /// Messages that the broker did not take: it said no, or nobody knows.
    pub given_up: u64,
}

impl Totals {
    /// As `house/ledger` says it.
    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "published": self.published.to_json(),
            "acknowledged": self.acknowledged.to_json(),
            "delivered": self.delivered.to_json(),
            "duplicate": self.duplicate.to_json(),
            "lost": self.lost,
            "out_of_order": self.out_of_order,
            "waiting": self.waiting,
            "given_up": self.given_up,
        })
    }

    /// Whether nothing was lost, disordered, or doubled where it must not be.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.out_of_order == 0 && self.duplicate.two == 0
    }
}

/// What becomes of messages that carry their publisher's number.
///
/// Entitled to a message is who has a subscription that matches its topic, at QoS 1 or more, granted before it was
/// published. Lost is what the broker has taken over and an entitled client does not have although it has been connected
/// for longer than the grace; or whose session is gone. What a client has not got because it sleeps or is cut off waits.
#[derive(Debug)]
pub struct Ledger {
    grace: Duration,
    receivers: Vec<Receiver>,
    open: BTreeMap<Id, Open>,
    /// The last number that each stream has brought.
    streams: BTreeMap<(ClientIndex, ClientIndex, QoS, String), u64>,
    lost: BTreeSet<(Id, ClientIndex)>,
    totals: Totals,
}

/// Publisher and number.
type Id = (ClientIndex, u64);

#[derive(Clone, Debug, Default)]
struct Receiver {
    filters: Vec<(TopicFilterBuf, QoS)>,
    connected_since: Option<Timestamp>,
    /// It does not read for the moment.
    is_slow: bool,
}

#[derive(Debug)]
struct Open {
    qos: QoS,
    acknowledged_at: Option<Timestamp>,
    /// Who does not have it yet.
    missing: BTreeSet<ClientIndex>,
}

impl Ledger {
    /// For so many clients. A client that has been connected for the grace has caught up with what was taken over before.
    pub fn new(clients: usize, grace: Duration) -> Self {
        Self {
            grace,
            receivers: vec![Receiver::default(); clients],
            open: BTreeMap::new(),
            streams: BTreeMap::new(),
            lost: BTreeSet::new(),
            totals: Totals::default(),
        }
    }

    /// The broker has granted these subscriptions: all that the client has.
    pub fn subscribed(&mut self, client: ClientIndex, filters: Vec<(TopicFilterBuf, QoS)>) {
        if let Some(receiver) = self.receivers.get_mut(client) {
            receiver.filters = filters;
        }
    }

    /// A client has a connection.
    pub fn connected(&mut self, now: Timestamp, client: ClientIndex) {
        if let Some(receiver) = self.receivers.get_mut(client) {
            receiver.connected_since = Some(now);
        }
    }

    /// It has none any more, and its session goes on.
    pub fn disconnected(&mut self, client: ClientIndex) {
        if let Some(receiver) = self.receivers.get_mut(client) {
            receiver.connected_since = None;
        }
    }

    /// The client reads nothing for a while, or again since now: it cannot have caught up.
    pub fn slow(&mut self, now: Timestamp, client: ClientIndex, is_slow: bool) {
        if let Some(receiver) = self.receivers.get_mut(client) {
            receiver.is_slow = is_slow;
            receiver.connected_since = receiver.connected_since.map(|_| now);
        }
    }

    /// The broker has forgotten the client's session: what waited there will not come.
    pub fn session_lost(&mut self, client: ClientIndex) {
        let ids: Vec<Id> =
            self.open.iter().filter(|(_, open)| open.missing.contains(&client)).map(|(id, _)| *id).collect();
        for id in ids {
            self.miss(id, client);
        }
    }

    /// A message was handed to its publisher's client.
    pub fn published(&mut self, from: ClientIndex, number: u64, topic: TopicName<'_>, qos: QoS) {
        if qos == QoS::AtMostOnce {
            return;
        }
        self.totals.published.add(qos);
        let is_entitled = |receiver: &Receiver| {
            receiver.filters.iter().any(|(filter, qos)| *qos != QoS::AtMostOnce && filter.as_filter().matches(topic))
        };
        let entitled = self.receivers.iter().enumerate().filter(|(_, receiver)| is_entitled(receiver));
        let missing = entitled.map(|(client, _)| client).collect();
        self.open.insert((from, number), Open { qos, acknowledged_at: None, missing });
    }

    /// The broker has taken it over.
    pub fn acknowledged(&mut self, now: Timestamp, from: ClientIndex, number: u64) {
        let Some(open) = self.open.get_mut(&(from, number)) else { return };
        if open.acknowledged_at.replace(now).is_none() {
            self.totals.acknowledged.add(open.qos);
        }
        self.forget_if_done((from, number));
    }

    /// The broker has not taken it over, or nobody knows.
    pub fn given_up(&mut self, from: ClientIndex, number: u64) {
        if self.open.remove(&(from, number)).is_some() {
            self.totals.given_up += 1;
        }
    }

    /// A client was given a message, at this QoS. Not for retained messages that answer a subscription.
    pub fn delivered(&mut self, to: ClientIndex, from: ClientIndex, number: u64, topic: TopicName<'_>, qos: QoS) {
        if qos == QoS::AtMostOnce {
            return;
        }
        let id = (from, number);
        let was_missing = self.open.get_mut(&id).is_some_and(|open| open.missing.remove(&to));
        let was_lost = self.lost.remove(&(id, to));
        let last = self.streams.entry((to, from, qos, topic.as_str().to_owned())).or_default();
        if number > *last {
            *last = number;
            self.totals.delivered.add(qos);
        } else if was_missing || was_lost {
            self.totals.delivered.add(qos);
            self.totals.out_of_order += 1;
        } else {
            self.totals.duplicate.add(qos);
        }
        if was_lost {
            // It was late.
            self.totals.lost -= 1;
        }
        self.forget_if_done(id);
    }

    /// Looks for messages that should have come by now.
    pub fn sweep(&mut self, now: Timestamp) {
        let mut missed = Vec::new();
        for (id, open) in &self.open {
            let Some(acknowledged_at) = open.acknowledged_at else { continue };
            for client in &open.missing {
                let receiver = self.receivers.get(*client).filter(|receiver| !receiver.is_slow);
                let Some(since) = receiver.and_then(|receiver| receiver.connected_since) else { continue };
                if now.saturating_since(acknowledged_at.max(since)) > self.grace {
                    missed.push((*id, *client));
                }
            }
        }
        for (id, client) in missed {
            self.miss(id, client);
        }
    }

    /// The sums.
    pub fn totals(&self) -> Totals {
        let waits = |open: &&Open| open.acknowledged_at.is_some() && !open.missing.is_empty();
        let waiting = self.open.values().filter(waits).count();
        Totals { waiting: u64::try_from(waiting).unwrap_or(u64::MAX), ..self.totals }
    }

    /// What is not done, for people: who waits for which message.
    pub fn open(&self) -> impl Iterator<Item = (ClientIndex, u64, Vec<ClientIndex>)> + '_ {
        self.open.iter().map(|((from, number), open)| (*from, *number, open.missing.iter().copied().collect()))
    }

    /// What was lost: publisher, number, and who did not get it.
    pub fn lost(&self) -> impl Iterator<Item = (ClientIndex, u64, ClientIndex)> + '_ {
        self.lost.iter().map(|((from, number), to)| (*from, *number, *to))
    }

    fn miss(&mut self, id: Id, client: ClientIndex) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.missing.remove(&client) {
            self.totals.lost += 1;
            self.lost.insert((id, client));
        }
        self.forget_if_done(id);
    }

    fn forget_if_done(&mut self, id: Id) {
        if self.open.get(&id).is_some_and(|open| open.acknowledged_at.is_some() && open.missing.is_empty()) {
            self.open.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use damselfly_topic::TopicFilter;

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);
    const LAMP: ClientIndex = 0;
    const PAGE: ClientIndex = 1;
    const ONE: QoS = QoS::AtLeastOnce;
    const TWO: QoS = QoS::ExactlyOnce;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(100 + seconds)
    }

    fn topic() -> TopicName<'static> {
        TopicName::new("home/living/lamp").unwrap()
    }

    fn ledger(qos: QoS) -> Ledger {
        let mut ledger = Ledger::new(2, GRACE);
        ledger.subscribed(PAGE, vec![(TopicFilter::new("home/+/lamp").unwrap().to_buf(), qos)]);
        ledger.connected(at(0), PAGE);
        ledger
    }

    /// The lamp publishes these numbers and is told that the broker has them.
    fn publish(ledger: &mut Ledger, numbers: &[u64], qos: QoS) {
        for number in numbers {
            ledger.published(LAMP, *number, topic(), qos);
            ledger.acknowledged(at(1), LAMP, *number);
        }
    }

    fn deliver(ledger: &mut Ledger, numbers: &[u64], qos: QoS) {
        for number in numbers {
            ledger.delivered(PAGE, LAMP, *number, topic(), qos);
        }
    }

    #[test]
    fn what_arrives_once_and_in_order_is_clean() {
        for qos in [ONE, TWO] {
            let mut ledger = ledger(qos);
            publish(&mut ledger, &[1, 2, 3], qos);
            assert_eq!(ledger.totals().waiting, 3);
            deliver(&mut ledger, &[1, 2, 3], qos);
            ledger.sweep(at(1_000));
            let totals = ledger.totals();
            assert!(totals.is_clean(), "{totals:?}");
            assert_eq!((totals.waiting, totals.given_up, ledger.open().count()), (0, 0, 0));
            let three = if qos == ONE { ByQos { one: 3, two: 0 } } else { ByQos { one: 0, two: 3 } };
            assert_eq!([totals.published, totals.acknowledged, totals.delivered], [three; 3]);
        }
    }

    #[test]
    fn message_that_does_not_arrive_is_lost_after_the_grace_and_not_before() {
        let mut ledger = ledger(ONE);
        publish(&mut ledger, &[1, 2, 3], ONE);
        deliver(&mut ledger, &[1, 3], ONE);
        ledger.sweep(at(11));
        assert_eq!((ledger.totals().lost, ledger.totals().waiting), (0, 1), "at the grace it may be under way");
        ledger.sweep(at(12));
        assert_eq!((ledger.totals().lost, ledger.totals().waiting), (1, 0));
        assert_eq!(ledger.lost().collect::<Vec<_>>(), [(LAMP, 2, PAGE)]);
        assert!(!ledger.totals().is_clean());
    }

    #[test]
    fn late_message_is_not_lost_but_out_of_order() {
        let mut ledger = ledger(ONE);
        publish(&mut ledger, &[1, 2], ONE);
        deliver(&mut ledger, &[2], ONE);
        ledger.sweep(at(100));
        assert_eq!(ledger.totals().lost, 1);
        deliver(&mut ledger, &[1], ONE);
        let totals = ledger.totals();
        assert_eq!((totals.lost, totals.out_of_order, totals.delivered.one), (0, 1, 2));
    }

    #[test]
    fn message_that_comes_after_a_later_one_is_out_of_order() {
        let mut ledger = ledger(TWO);
        publish(&mut ledger, &[1, 2, 3], TWO);
        deliver(&mut ledger, &[1, 3, 2], TWO);
        let totals = ledger.totals();
        assert_eq!((totals.out_of_order, totals.duplicate.two, totals.delivered.two), (1, 0, 3));
        assert!(!totals.is_clean());
    }

    #[test]
    fn order_is_that_of_one_topic_at_one_qos() {
        let mut ledger = ledger(TWO);
        ledger.published(LAMP, 1, topic(), ONE);
        ledger.published(LAMP, 2, topic(), TWO);
        deliver(&mut ledger, &[2], TWO);
        deliver(&mut ledger, &[1], ONE);
        assert_eq!(ledger.totals().out_of_order, 0);
    }

    #[test]
    fn second_copy_is_a_duplicate_of_its_qos() {
        let mut ledger = ledger(TWO);
        publish(&mut ledger, &[1], ONE);
        deliver(&mut ledger, &[1, 1], ONE);
        assert!(ledger.totals().is_clean(), "at QoS 1 it may be");
        publish(&mut ledger, &[2], TWO);
        deliver(&mut ledger, &[2, 2, 2], TWO);
        let totals = ledger.totals();
        assert_eq!(totals.duplicate, ByQos { one: 1, two: 2 });
        assert!(!totals.is_clean(), "at QoS 2 it may not");
    }

    #[test]
    fn what_nobody_acknowledged_is_not_lost() {
        let mut ledger = ledger(ONE);
        ledger.published(LAMP, 1, topic(), ONE);
        ledger.published(LAMP, 2, topic(), ONE);
        ledger.given_up(LAMP, 2);
        ledger.sweep(at(1_000));
        let totals = ledger.totals();
        assert_eq!((totals.lost, totals.waiting, totals.given_up), (0, 0, 1));
    }

    #[test]
    fn who_sleeps_or_does_not_read_waits_and_has_the_grace_afterwards() {
        let mut ledger = ledger(ONE);
        ledger.disconnected(PAGE);
        publish(&mut ledger, &[1], ONE);
        ledger.sweep(at(1_000));
        assert_eq!((ledger.totals().lost, ledger.totals().waiting), (0, 1));
        ledger.connected(at(1_000), PAGE);
        ledger.slow(at(1_001), PAGE, true);
        ledger.sweep(at(2_000));
        assert_eq!((ledger.totals().lost, ledger.totals().waiting), (0, 1));
        ledger.slow(at(2_000), PAGE, false);
        ledger.sweep(at(2_010));
        assert_eq!(ledger.totals().lost, 0);
        ledger.sweep(at(2_011));
        assert_eq!(ledger.totals().lost, 1);
    }

    #[test]
    fn what_waits_in_a_session_that_is_forgotten_is_lost() {
        let mut ledger = ledger(ONE);
        publish(&mut ledger, &[1, 2], ONE);
        deliver(&mut ledger, &[1], ONE);
        ledger.session_lost(PAGE);
        assert_eq!(ledger.totals().lost, 1);
    }

    #[test]
    fn nobody_is_entitled_without_a_subscription_at_qos_1_or_more() {
        let mut ledger = ledger(QoS::AtMostOnce);
        publish(&mut ledger, &[1], ONE);
        ledger.sweep(at(1_000));
        let totals = ledger.totals();
        assert_eq!((totals.acknowledged.one, totals.waiting, totals.lost), (1, 0, 0));
        deliver(&mut ledger, &[1], QoS::AtMostOnce);
        assert_eq!(ledger.totals().delivered, ByQos::default());
    }
}
