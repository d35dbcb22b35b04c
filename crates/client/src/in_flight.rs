//! QoS 1 and 2 messages that were sent and not finished, in the order they were first sent.

use alloc::collections::VecDeque;

use damselfly_codec::{PacketId, ReasonCode};
use damselfly_session::{Message, SendState};
use damselfly_topic::KeyedState;
use hashbrown::HashMap;

use crate::Ticket;

/// One message under way.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Grows with each first sending, and with nothing else: the order to resend in. [MQTT-4.6.0-1]
    pub(crate) sequence: u64,
    pub(crate) packet_id: PacketId,
    pub(crate) ticket: Ticket,
    pub(crate) state: SendState,
    /// QoS 2: what PUBREC said.
    pub(crate) reason_code: ReasonCode,
    /// Holds one slot of the window of the connection that is open now.
    pub(crate) holds_slot: bool,
    /// `None` once nobody will ask to send it again: after PUBREC. [MQTT-4.3.3-6]
    pub(crate) message: Option<Message>,
}

/// All messages under way: found by packet identifier, walked in the order of sending.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Sorted by sequence. Finished ones in the middle are gaps; they go when they are more than half.
    entries: VecDeque<Slot>,
    by_packet_id: HashMap<PacketId, u64, KeyedState>,
    last_sequence: u64,
}

#[derive(Debug)]
struct Slot {
    sequence: u64,
    sent: Option<Sent>,
}

impl InFlight {
    pub(crate) fn new(seed: u64) -> Self {
        Self { entries: VecDeque::new(), by_packet_id: HashMap::with_hasher(KeyedState::new(seed)), last_sequence: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_packet_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_packet_id.is_empty()
    }

    /// Adds a message at its first sending, after all others.
    pub(crate) fn push(&mut self, packet_id: PacketId, ticket: Ticket, state: SendState, message: Message) {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let sent = Sent {
            sequence,
            packet_id,
            ticket,
            state,
            reason_code: ReasonCode::Success,
            holds_slot: true,
            message: Some(message),
        };
        self.by_packet_id.insert(packet_id, sequence);
        self.entries.push_back(Slot { sequence, sent: Some(sent) });
    }

    pub(crate) fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Sent> {
        let index = self.index_of(packet_id)?;
        self.entries.get_mut(index)?.sent.as_mut()
    }

    pub(crate) fn remove(&mut self, packet_id: PacketId) -> Option<Sent> {
        let index = self.index_of(packet_id)?;
        let sent = self.entries.get_mut(index)?.sent.take();
        self.by_packet_id.remove(&packet_id);
        while self.entries.front().is_some_and(|slot| slot.sent.is_none()) {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.by_packet_id.len() + 16 {
            self.entries.retain(|slot| slot.sent.is_some());
        }
        sent
    }

    /// The first message with a sequence above `after`.
    pub(crate) fn next_after(&mut self, after: u64) -> Option<&mut Sent> {
        let start = self.entries.partition_point(|slot| slot.sequence <= after);
        self.entries.range_mut(start..).find_map(|slot| slot.sent.as_mut())
    }

    /// All messages in the order of sending; nothing is left.
    pub(crate) fn drain(&mut self) -> impl DoubleEndedIterator<Item = Sent> + '_ {
        self.by_packet_id.clear();
        self.entries.drain(..).filter_map(|slot| slot.sent)
    }

    /// The slots of a connection that ended are void.
    pub(crate) fn forget_slots(&mut self) {
        for sent in self.entries.iter_mut().filter_map(|slot| slot.sent.as_mut()) {
            sent.holds_slot = false;
        }
    }

    fn index_of(&self, packet_id: PacketId) -> Option<usize> {
        // Acknowledgements mostly come in the order of sending.
        let front = self.entries.front()?;
        if front.sent.as_ref().is_some_and(|sent| sent.packet_id == packet_id) {
            return Some(0);
        }
        let sequence = self.by_packet_id.get(&packet_id)?;
        self.entries.binary_search_by_key(sequence, |slot| slot.sequence).ok()
    }
}
