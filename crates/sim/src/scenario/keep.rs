//! Retained messages: each client has a topic of its own per QoS, so that their order is known.

use std::collections::BTreeMap;

use damselfly_client::{InboundMessage, Outcome, Ticket};
use damselfly_codec::QoS;
use damselfly_topic::{TopicFilter, TopicName};

use crate::{Failure, Sim};

/// Publisher and QoS: one topic.
type Place = (usize, QoS);

/// What was retained, and who was given it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Whether each message of a topic was acknowledged, or stored.
    sent: BTreeMap<Place, Vec<bool>>,
    tickets: BTreeMap<(usize, Ticket), (QoS, usize)>,
    /// Retained messages that each client was given since the last look began.
    given: BTreeMap<(usize, Place), Vec<usize>>,
    /// Retained messages that clients were given in all.
    pub(super) count: u64,
}

impl Kept {
    pub(super) const FILTER: &'static str = "keep/#";

    pub(super) fn topic(client: usize, qos: QoS) -> String {
        format!("keep/{client}/{}", qos.level())
    }

    /// The payload of the next message, which no other one has.
    pub(super) fn payload(&self, client: usize, qos: QoS, len: usize) -> String {
        let number = self.sent.get(&(client, qos)).map_or(0, Vec::len);
        format!("{client}.{number} kept {}", ".".repeat(len))
    }

    pub(super) fn publish(&mut self, client: usize, ticket: Ticket, qos: QoS) {
        let all = self.sent.entry((client, qos)).or_default();
        self.tickets.insert((client, ticket), (qos, all.len()));
        all.push(false);
    }

    /// The ticket is one of something else.
    pub(super) fn forget(&mut self, client: usize, ticket: Ticket) {
        self.tickets.remove(&(client, ticket));
    }

    fn promise(&mut self, client: usize, ticket: Ticket) -> bool {
        let Some((qos, number)) = self.tickets.get(&(client, ticket)).copied() else { return false };
        if let Some(is_promised) = self.sent.get_mut(&(client, qos)).and_then(|all| all.get_mut(number)) {
            *is_promised = true;
        }
        true
    }

    pub(super) fn stored(&mut self, client: usize, ticket: Ticket) -> bool {
        self.promise(client, ticket)
    }

    /// False if it is the ticket of something else.
    pub(super) fn complete(&mut self, client: usize, ticket: Ticket, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Acknowledged { reason_code } if !reason_code.is_error() => self.promise(client, ticket),
            _ => self.tickets.contains_key(&(client, ticket)),
        }
    }

    /// `None` if it is another message than one of these.
    pub(super) fn receive(&mut self, client: usize, inbound: &InboundMessage) -> Option<Result<(), Failure>> {
        let message = &inbound.message;
        let place = message.topic().as_str().strip_prefix("keep/")?;
        // The end of a retained message.
        if message.payload().is_empty() {
            return Some(Ok(()));
        }
        let known = read(place, message.payload()).filter(|(place, number)| {
            place.1 >= message.qos() && self.sent.get(place).is_some_and(|all| *number < all.len())
        });
        let Some((place, number)) = known else {
            let payload = String::from_utf8_lossy(message.payload());
            return Some(Err(Failure(format!(
                "client {client} got {} {payload}: nobody published it",
                message.topic()
            ))));
        };
        if message.retain() {
            self.count += 1;
            self.given.entry((client, place)).or_default().push(number);
        }
        Some(Ok(()))
    }

    /// All clients subscribe from here on, and nothing goes wrong.
    pub(super) fn begin_last_look(&mut self) {
        self.given.clear();
    }

    /// Each client that looked has the one retained message of each topic, which is no older than what was promised.
    pub(super) fn check(&self, sim: &Sim, clients: usize) -> Result<(), Failure> {
        let mut places = 0;
        for (place, all) in &self.sent {
            let topic = Self::topic(place.0, place.1);
            let name = TopicName::new(&topic).map_err(|error| Failure(error.to_string()))?;
            let retained = sim.broker().retained_message(name).and_then(|message| {
                let place = message.topic().as_str().strip_prefix("keep/")?;
                read(place, message.payload()).map(|(_, number)| number)
            });
            places += usize::from(retained.is_some());
            let promised = all.iter().rposition(|is_promised| *is_promised);
            if promised > retained {
                return Err(Failure(format!("{topic} retains {retained:?}, and {promised:?} was promised")));
            }
            for client in 0..clients {
                let given = self.given.get(&(client, *place)).map_or(&[][..], |given| given);
                if given != retained.as_slice() {
                    return Err(Failure(format!(
                        "client {client} got {given:?} for {topic}, which retains {retained:?}"
                    )));
                }
            }
        }
        let all = TopicFilter::new(Self::FILTER).map_err(|error| Failure(error.to_string()))?;
        let len = sim.broker().retained(all, usize::MAX).len();
        if len == places { Ok(()) } else { Err(Failure(format!("{len} messages are retained, and {places} known"))) }
    }

    /// The topics to which something was published, whoever did.
    pub(super) fn topics(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.sent.keys().map(|(client, qos)| (*client, Self::topic(*client, *qos)))
    }
}

/// Publisher, QoS and number.
fn read(place: &str, payload: &[u8]) -> Option<(Place, usize)> {
    let (client, level) = place.split_once('/')?;
    let qos = match level {
        "0" => QoS::AtMostOnce,
        "1" => QoS::AtLeastOnce,
        "2" => QoS::ExactlyOnce,
        _ => return None,
    };
    let client = client.parse().ok()?;
    let (publisher, number) = super::ledger::read_key(payload)?;
    (publisher == client).then_some(((client, qos), number))
}
