//! QoS 1 and 2 messages that were sent and not finished, in the order they were first sent.

use alloc::collections::VecDeque;

use damselfly_codec::{PacketId, ReasonCode};
use damselfly_session::{Message, SendState};
use damselfly_topic::KeyedState;
use hashbrown::HashMap;

use crate::{Ticket, outbox::CommitId};

/// One message under way.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Grows with each first sending, and with each first PUBREC: the order to resend in. [MQTT-4.6.0-1] [MQTT-4.6.0-4]
    pub(crate) sequence: u64,
    pub(crate) packet_id: PacketId,
    pub(crate) ticket: Ticket,
    pub(crate) state: SendState,
    /// QoS 2: what PUBREC said; 0x80 or above if there was none, and then why the message must not be sent again.
    pub(crate) reason_code: ReasonCode,
    /// Holds one slot of the window of the connection that is open now.
    pub(crate) holds_slot: bool,
    /// Its PUBLISH may have been sent, in this process or an earlier one.
    pub(crate) may_have_left: bool,
    /// What it waits for leaves after this commit.
    pub(crate) gate: CommitId,
    /// `None` once nobody will ask to send it again: after PUBREC. [MQTT-4.3.3-6]
    pub(crate) message: Option<Message>,
}

impl Sent {
    /// A message that leaves at once, not added yet.
    const fn begun(packet_id: PacketId, ticket: Ticket, state: SendState, message: Message) -> Self {
        Self {
            sequence: 0,
            packet_id,
            ticket,
            state,
            reason_code: ReasonCode::Success,
            holds_slot: true,
            may_have_left: true,
            gate: CommitId::NONE,
            message: Some(message),
        }
    }
}

/// All messages under way: found by packet identifier, walked in the order of sending.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Sorted by sequence. Finished and moved ones in the middle are gaps; they go when they are more than half.
    entries: VecDeque<Slot>,
    /// Those that are no gaps.
    len: usize,
    /// The sequence of each, once there were more than a few.
    by_packet_id: HashMap<PacketId, u64, KeyedState>,
    is_indexed: bool,
    last_sequence: u64,
}

/// So many entries are looked through faster than an index is kept.
const FEW: usize = 32;

#[derive(Debug)]
struct Slot {
    sequence: u64,
    sent: Option<Sent>,
}

impl InFlight {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            len: 0,
            by_packet_id: HashMap::with_hasher(KeyedState::new(seed)),
            is_indexed: false,
            last_sequence: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a message at its first sending, after all others.
    pub(crate) fn push(&mut self, packet_id: PacketId, ticket: Ticket, state: SendState, message: Message) {
        self.add(Sent::begun(packet_id, ticket, state, message));
    }

    /// Adds a message that is to be sent after this commit: its sequence.
    pub(crate) fn push_gated(
        &mut self,
        packet_id: PacketId,
        ticket: Ticket,
        state: SendState,
        message: Message,
        gate: CommitId,
    ) -> u64 {
        self.add(Sent { may_have_left: false, gate, ..Sent::begun(packet_id, ticket, state, message) })
    }

    /// Adds what an earlier process had under way, after all others.
    pub(crate) fn restore(
        &mut self,
        packet_id: PacketId,
        ticket: Ticket,
        state: SendState,
        reason_code: ReasonCode,
        message: Option<Message>,
    ) {
        let (holds_slot, may_have_left, gate) = (false, true, CommitId::NONE);
        self.add(Sent { sequence: 0, packet_id, ticket, state, reason_code, holds_slot, may_have_left, gate, message });
    }

    fn add(&mut self, mut sent: Sent) -> u64 {
        self.last_sequence += 1;
        sent.sequence = self.last_sequence;
        self.len += 1;
        if self.is_indexed {
            self.by_packet_id.insert(sent.packet_id, sent.sequence);
        }
        self.entries.push_back(Slot { sequence: sent.sequence, sent: Some(sent) });
        if !self.is_indexed && self.entries.len() > FEW {
            self.is_indexed = true;
            let known = self.entries.iter().filter_map(|slot| slot.sent.as_ref());
            self.by_packet_id.extend(known.map(|sent| (sent.packet_id, sent.sequence)));
        }
        self.last_sequence
    }

    /// All messages in the order of sending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sent> + '_ {
        self.entries.iter().filter_map(|slot| slot.sent.as_ref())
    }

    pub(crate) fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Sent> {
        let index = self.index_of(packet_id)?;
        self.entries.get_mut(index)?.sent.as_mut()
    }

    pub(crate) fn remove(&mut self, packet_id: PacketId) -> Option<Sent> {
        let index = self.index_of(packet_id)?;
        let sent = match index {
            0 => self.entries.pop_front()?.sent,
            _ => self.entries.get_mut(index)?.sent.take(),
        };
        self.len -= 1;
        if self.is_indexed {
            self.by_packet_id.remove(&packet_id);
            self.is_indexed = self.len > 0;
        }
        while self.entries.front().is_some_and(|slot| slot.sent.is_none()) {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.len + 16 {
            self.entries.retain(|slot| slot.sent.is_some());
        }
        sent
    }

    /// PUBREC took a message: what is sent again from here on is its PUBREL, behind those of earlier PUBRECs. `false` if
    /// an earlier PUBREC took it already, or nothing waits for one.
    pub(crate) fn received(&mut self, packet_id: PacketId, reason_code: ReasonCode) -> bool {
        if self.get_mut(packet_id).is_none_or(|sent| sent.state != SendState::AwaitPubrec) {
            return false;
        }
        let Some(sent) = self.remove(packet_id) else { return false };
        self.add(Sent { state: SendState::AwaitPubcomp, reason_code, message: None, ..sent });
        true
    }

    /// The first message with a sequence above `after`.
    pub(crate) fn next_after(&mut self, after: u64) -> Option<&mut Sent> {
        let start = self.entries.partition_point(|slot| slot.sequence <= after);
        self.entries.range_mut(start..).find_map(|slot| slot.sent.as_mut())
    }

    /// All messages in the order of sending; nothing is left.
    pub(crate) fn drain(&mut self) -> impl DoubleEndedIterator<Item = Sent> + '_ {
        self.by_packet_id.clear();
        (self.len, self.is_indexed) = (0, false);
        self.entries.drain(..).filter_map(|slot| slot.sent)
    }

    /// The slots of a connection that ended are void.
    pub(crate) fn forget_slots(&mut self) {
        for sent in self.entries.iter_mut().filter_map(|slot| slot.sent.as_mut()) {
            sent.holds_slot = false;
        }
    }

    #[inline]
    fn index_of(&self, packet_id: PacketId) -> Option<usize> {
        // Acknowledgements mostly come in the order of sending.
        let front = self.entries.front()?;
        if front.sent.as_ref().is_some_and(|sent| sent.packet_id == packet_id) {
            return Some(0);
        }
        self.search(packet_id)
    }

    #[inline(never)]
    fn search(&self, packet_id: PacketId) -> Option<usize> {
        if !self.is_indexed {
            let is_it = |slot: &Slot| slot.sent.as_ref().is_some_and(|sent| sent.packet_id == packet_id);
            return self.entries.iter().position(is_it);
        }
        let sequence = self.by_packet_id.get(&packet_id)?;
        self.entries.binary_search_by_key(sequence, |slot| slot.sequence).ok()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use damselfly_codec::{Delivery, Properties, Publish};
    use damselfly_session::Timestamp;
    use damselfly_topic::TopicName;
    use proptest::prelude::*;

    use super::*;

    fn message() -> Message {
        let topic = TopicName::new("a").unwrap();
        let publish = Publish {
            delivery: Delivery::first(damselfly_codec::QoS::AtLeastOnce, PacketId::MIN),
            retain: false,
            topic: Some(topic),
            properties: Properties::EMPTY,
            payload: b"",
        };
        Message::new(&publish, topic, Timestamp::ZERO)
    }

    fn walk(in_flight: &mut InFlight) -> Vec<u16> {
        let mut ids = Vec::new();
        let mut after = 0;
        while let Some(sent) = in_flight.next_after(after) {
            after = sent.sequence;
            ids.push(sent.packet_id.get());
        }
        ids
    }

    #[test]
    fn gaps_in_the_middle_do_not_pile_up_behind_a_message_that_stays() {
        let mut in_flight = InFlight::new(7);
        in_flight.push(PacketId::MIN, Ticket(1), SendState::AwaitPuback, message());
        for ticket in 2..10_000 {
            let id = PacketId::new(2).unwrap();
            in_flight.push(id, Ticket(ticket), SendState::AwaitPuback, message());
            assert_eq!(in_flight.remove(id).map(|sent| sent.ticket), Some(Ticket(ticket)));
            assert!(in_flight.entries.len() < 20);
        }
        assert_eq!(walk(&mut in_flight), [1]);
    }

    #[test]
    fn a_first_pubrec_moves_its_message_behind_all_others() {
        let mut in_flight = InFlight::new(7);
        let [one, two, three] = [1, 2, 3].map(|id| PacketId::new(id).unwrap());
        for (id, state) in
            [(one, SendState::AwaitPubrec), (two, SendState::AwaitPuback), (three, SendState::AwaitPubrec)]
        {
            in_flight.push(id, Ticket(u64::from(id.get())), state, message());
        }

        assert!(in_flight.received(one, ReasonCode::NoMatchingSubscribers));
        assert_eq!(walk(&mut in_flight), [2, 3, 1]);
        assert!(in_flight.received(three, ReasonCode::Success));
        assert!(!in_flight.received(one, ReasonCode::Success), "a second PUBREC moves nothing");
        assert!(!in_flight.received(two, ReasonCode::Success), "nor one for QoS 1");
        assert_eq!(walk(&mut in_flight), [2, 1, 3]);

        let done = in_flight.remove(one).unwrap();
        assert_eq!(
            (done.ticket, done.state, done.reason_code),
            (Ticket(1), SendState::AwaitPubcomp, ReasonCode::NoMatchingSubscribers)
        );
        assert!(done.message.is_none());
        assert_eq!(in_flight.len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is added and finished, the walk is in the order of sending and each identifier finds its message.
        #[test]
        fn any_history_agrees_with_a_list(steps in proptest::collection::vec((any::<bool>(), 1..40_u16), 1..300)) {
            let mut in_flight = InFlight::new(7);
            let mut model: Vec<(u16, Ticket)> = Vec::new();
            for (number, (is_new, id)) in (1..).zip(steps) {
                let packet_id = PacketId::new(id).unwrap();
                let place = model.iter().position(|(known, _)| *known == id);
                match (is_new, place) {
                    (true, None) => {
                        in_flight.push(packet_id, Ticket(number), SendState::AwaitPuback, message());
                        model.push((id, Ticket(number)));
                    }
                    (false, place) => {
                        let expected = place.map(|place| model.remove(place).1);
                        prop_assert_eq!(in_flight.remove(packet_id).map(|sent| sent.ticket), expected);
                    }
                    (true, Some(place)) => {
                        let ticket = in_flight.get_mut(packet_id).map(|sent| sent.ticket);
                        prop_assert_eq!(ticket, Some(model[place].1));
                    }
                }
                prop_assert_eq!(in_flight.len(), model.len());
                prop_assert_eq!(walk(&mut in_flight), model.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            }
        }
    }
}
