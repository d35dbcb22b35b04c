//! Joined brokers that hear of each other late: whatever crosses on the way, a message comes once to each client that was
//! subscribed, and to one member of a group.

use std::collections::{BTreeMap, BTreeSet};

use damselfly_codec::{AckType, Packet, Properties, Subscribe, SubscriptionOptions};
use proptest::prelude::*;

use crate::world::{AnyWorld, Client, delivery, filter, packet_id, qos, v5};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Publish {
        who: usize,
        topic: usize,
        retain: bool,
    },
    Subscribe {
        who: usize,
        topic: usize,
    },
    Unsubscribe {
        who: usize,
        topic: usize,
    },
    Cut(usize),
    Return(usize),
    /// What one of the brokers said first reaches the other.
    Carry(usize),
}

const CLIENTS: [&str; 4] = ["ann", "ben", "cleo", "dan"];
const TOPICS: [&str; 2] = ["a", "shared"];
/// How clients subscribe to these.
const FILTERS: [&str; 2] = ["a", "$share/g/shared"];
const SHARED: usize = 1;

fn step() -> impl Strategy<Value = Step> {
    let who = 0..CLIENTS.len();
    let topic = 0..TOPICS.len();
    prop_oneof![
        6 => (who.clone(), topic.clone(), any::<bool>())
            .prop_map(|(who, topic, retain)| Step::Publish { who, topic, retain }),
        4 => (who.clone(), topic.clone()).prop_map(|(who, topic)| Step::Subscribe { who, topic }),
        1 => (who.clone(), topic).prop_map(|(who, topic)| Step::Unsubscribe { who, topic }),
        1 => who.clone().prop_map(Step::Cut),
        2 => who.prop_map(Step::Return),
        8 => (0..2_usize).prop_map(Step::Carry),
    ]
}

/// What a client knows of its subscription. It subscribes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Asked,
    Granted,
    Ended,
}

/// A message that has to come: to a client, or to one of the group.
type Owed = (Option<usize>, usize, String);

struct Players {
    world: AnyWorld<true>,
    links: [Option<Client>; CLIENTS.len()],
    /// Whose CONNACK has come.
    accepted: BTreeSet<usize>,
    known: BTreeMap<(usize, usize), Known>,
    owed: Vec<Owed>,
    got: BTreeMap<Owed, usize>,
}

impl Players {
    fn new() -> Self {
        let mut world = AnyWorld::new();
        world.put(0, &CLIENTS[..2]);
        world.put(1, &CLIENTS[2..]);
        let links = CLIENTS.map(|name| Some(world.connect(v5(name).lasting(1_000))));
        world.holds_forwards = true;
        let accepted = (0..CLIENTS.len()).collect();
        Self { world, links, accepted, known: BTreeMap::new(), owed: Vec::new(), got: BTreeMap::new() }
    }

    fn accepted(&self, who: usize) -> Option<Client> {
        self.links[who].filter(|_| self.accepted.contains(&who))
    }

    /// Who has been told that it is subscribed.
    fn granted(&self, topic: usize) -> Vec<usize> {
        (0..CLIENTS.len()).filter(|who| self.known.get(&(*who, topic)) == Some(&Known::Granted)).collect()
    }

    fn play(&mut self, step: &Step, number: u16) {
        match *step {
            Step::Publish { who, topic, retain } => {
                let Some(link) = self.accepted(who) else { return };
                let payload = number.to_string();
                let granted = self.granted(topic);
                if topic == SHARED {
                    self.owed.extend((!granted.is_empty()).then(|| (None, topic, payload.clone())));
                } else {
                    self.owed.extend(granted.into_iter().map(|who| (Some(who), topic, payload.clone())));
                }
                self.world.publish_with(link, TOPICS[topic], &payload, delivery(1, number, false), retain, &[]);
            }
            Step::Subscribe { who, topic } => {
                let Some(link) = self.accepted(who).filter(|_| !self.known.contains_key(&(who, topic))) else { return };
                self.known.insert((who, topic), Known::Asked);
                let options = SubscriptionOptions { qos: qos(1), ..SubscriptionOptions::default() };
                let id = packet_id(u16::try_from(topic).unwrap() + 1);
                let filters = [(filter(FILTERS[topic]), options)];
                self.world.send(link, Packet::Subscribe(Subscribe::new(id, Properties::EMPTY, &filters)));
            }
            Step::Unsubscribe { who, topic } => {
                let is_granted = self.known.get(&(who, topic)) == Some(&Known::Granted);
                let Some(link) = self.accepted(who).filter(|_| is_granted) else { return };
                self.known.insert((who, topic), Known::Ended);
                // What is on the way finds the subscription gone, or the whole group.
                let is_last = self.granted(topic).is_empty();
                self.owed.retain(|(to, of, _)| *of != topic || *to != Some(who) && (to.is_some() || !is_last));
                self.world.unsubscribe(link, &[FILTERS[topic]]);
            }
            Step::Cut(who) => {
                self.accepted.remove(&who);
                if let Some(link) = self.links[who].take() {
                    self.world.cut(link);
                }
            }
            Step::Return(who) => self.come_back(who),
            Step::Carry(from) => {
                self.world.hand_over(from);
                self.world.settle();
            }
        }
        self.listen();
    }

    fn come_back(&mut self, who: usize) {
        if self.links[who].is_none() {
            self.links[who] = Some(self.world.begin(v5(CLIENTS[who]).lasting(1_000)));
        }
    }

    /// Takes all that came, and acknowledges it.
    fn listen(&mut self) {
        for who in 0..CLIENTS.len() {
            let Some(link) = self.links[who] else { continue };
            for line in self.world.received(link) {
                let mut words = line.split(' ');
                let id = words.find_map(|word| word.strip_prefix('#')).and_then(|id| id.parse::<u16>().ok());
                match (&line[..line.len().min(7)], id) {
                    ("CONNACK", _) => {
                        self.accepted.insert(who);
                    }
                    ("SUBACK ", Some(id)) => {
                        self.known.insert((who, usize::from(id) - 1), Known::Granted);
                    }
                    ("PUBLISH", Some(id)) => {
                        self.world.ack(link, AckType::Puback, id);
                        let (name, payload) = words.next_back().and_then(|word| word.split_once('=')).unwrap();
                        let topic = TOPICS.iter().position(|topic| *topic == name).unwrap();
                        let to = (topic != SHARED).then_some(who);
                        *self.got.entry((to, topic, payload.to_owned())).or_default() += 1;
                    }
                    _ => {}
                }
            }
        }
    }

    /// All come back and hear everything.
    fn end(&mut self) {
        for who in 0..CLIENTS.len() {
            self.come_back(who);
        }
        self.world.carry_all();
        // What was sent as acknowledgements came in makes room for more.
        for _ in 0..3 {
            self.listen();
            self.world.carry_all();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_message_comes_once_to_each_who_was_told_to_be_subscribed(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut players = Players::new();
        for (number, step) in (1..).zip(&steps) {
            players.play(step, number);
        }
        players.end();
        for owed in &players.owed {
            prop_assert_eq!(players.got.get(owed), Some(&1), "{:?}", owed);
        }
        for (message, times) in &players.got {
            prop_assert_eq!(*times, 1, "{:?}", message);
        }
        players.world.audit();
    }
}
