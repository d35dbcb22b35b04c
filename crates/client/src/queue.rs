//! The offline queue: messages that have a ticket and no packet identifier yet.

use alloc::{collections::VecDeque, vec::Vec};
use core::mem::size_of;

use damselfly_session::{Deadlines, Message, Timestamp};

use crate::{QueueConfig, Ticket};

/// Messages in the order of their tickets, bounded in number and bytes; those with a deadline are found by it.
#[derive(Debug)]
pub(crate) struct Queue {
    config: QueueConfig,
    /// Sorted by ticket; the front is no gap. An entry that expired in the middle is one until the front reaches it.
    entries: VecDeque<Entry>,
    deadlines: Deadlines<Ticket>,
    len: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    message: Option<Message>,
}

impl Queue {
    pub(crate) fn new(config: QueueConfig) -> Self {
        Self { config, entries: VecDeque::new(), deadlines: Deadlines::new(), len: 0, bytes: 0 }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Is there room for some message?
    pub(crate) fn has_room(&self) -> bool {
        self.len < self.config.max_messages && self.bytes < self.config.max_bytes
    }

    /// Is there room for this message?
    pub(crate) fn has_room_for(&self, message: &Message) -> bool {
        self.len < self.config.max_messages && cost(message) <= self.config.max_bytes.saturating_sub(self.bytes)
    }

    /// Would this message fit into an empty queue?
    pub(crate) fn could_hold(&self, message: &Message) -> bool {
        self.config.max_messages > 0 && cost(message) <= self.config.max_bytes
    }

    /// Until when a message that begins to wait now may wait.
    pub(crate) fn wait_until(&self, now: Timestamp, message: &Message) -> Option<Timestamp> {
        let wait_ends = self.config.max_wait.map(|wait| now.saturating_add(wait));
        match (wait_ends, message.expires_at()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Appends, whether there is room or not; the ticket is the highest so far.
    pub(crate) fn push_back(&mut self, ticket: Ticket, message: Message, wait_until: Option<Timestamp>) {
        self.admit(ticket, &message, wait_until);
        self.entries.push_back(Entry { ticket, message: Some(message) });
    }

    /// Puts a message before all others; its ticket is lower than theirs.
    pub(crate) fn push_front(&mut self, ticket: Ticket, message: Message, wait_until: Option<Timestamp>) {
        self.admit(ticket, &message, wait_until);
        self.entries.push_front(Entry { ticket, message: Some(message) });
    }

    /// The message that leaves next.
    pub(crate) fn front(&self) -> Option<(Ticket, &Message)> {
        let Entry { ticket, message } = self.entries.front()?;
        message.as_ref().map(|message| (*ticket, message))
    }

    /// Takes the message that leaves next.
    pub(crate) fn pop_front(&mut self) -> Option<(Ticket, Message)> {
        let Entry { ticket, message } = self.entries.pop_front()?;
        let message = message?;
        self.release(ticket, &message);
        Some((ticket, message))
    }

    /// All messages in their order, and until when each may wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ticket, Option<Timestamp>, &Message)> + '_ {
        self.entries.iter().filter_map(|Entry { ticket, message }| {
            message.as_ref().map(|message| (*ticket, self.deadlines.deadline(*ticket), message))
        })
    }

    /// Takes out what is not to be kept, in order.
    pub(crate) fn take_unless(&mut self, mut keep: impl FnMut(Ticket) -> bool) -> Vec<Ticket> {
        let mut taken = Vec::new();
        let mut entries = core::mem::take(&mut self.entries);
        for entry in &mut entries {
            if let Some(message) = entry.message.take_if(|_| !keep(entry.ticket)) {
                self.release(entry.ticket, &message);
                taken.push(entry.ticket);
            }
        }
        self.entries = entries;
        self.drop_gaps();
        taken
    }

    /// No later than when the next message expires.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next()
    }

    /// Takes out one message whose time has passed.
    pub(crate) fn pop_expired(&mut self, now: Timestamp) -> Option<Ticket> {
        let ticket = self.deadlines.pop_due(now)?;
        let index = self.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
        let message = self.entries.get_mut(index).and_then(|entry| entry.message.take())?;
        self.release(ticket, &message);
        Some(ticket)
    }

    fn admit(&mut self, ticket: Ticket, message: &Message, wait_until: Option<Timestamp>) {
        if let Some(at) = wait_until {
            self.deadlines.arm(ticket, at);
        }
        self.len += 1;
        self.bytes = self.bytes.saturating_add(cost(message));
    }

    fn release(&mut self, ticket: Ticket, message: &Message) {
        self.deadlines.disarm(ticket);
        self.len -= 1;
        self.bytes = self.bytes.saturating_sub(cost(message));
        self.drop_gaps();
    }

    fn drop_gaps(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.message.is_none()) {
            self.entries.pop_front();
        }
    }
}

/// What a waiting message costs, in bytes.
pub(crate) fn cost(message: &Message) -> usize {
    size_of::<Entry>().saturating_add(message.heap_bytes())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use damselfly_codec::{Delivery, Properties, Publish};
    use damselfly_topic::TopicName;
    use proptest::prelude::*;

    use super::*;

    fn message(payload: &[u8]) -> Message {
        let topic = TopicName::new("a").unwrap();
        let publish = Publish {
            delivery: Delivery::AtMostOnce,
            retain: false,
            topic: Some(topic),
            properties: Properties::EMPTY,
            payload,
        };
        Message::new(&publish, topic, Timestamp::ZERO)
    }

    fn queue(max_messages: usize, max_bytes: usize, max_wait: Option<Duration>) -> Queue {
        Queue::new(QueueConfig { max_messages, max_bytes, max_wait, ..QueueConfig::default() })
    }

    #[test]
    fn room_ends_at_the_number_and_at_the_bytes() {
        let mut queue = queue(3, usize::MAX, None);
        for ticket in 1..=3 {
            assert!(queue.has_room_for(&message(b"")));
            queue.push_back(Ticket(ticket), message(b""), None);
        }
        assert!(!queue.has_room_for(&message(b"")));

        let one = cost(&message(b"0123456789"));
        let mut queue = self::queue(9, 2 * one, None);
        queue.push_back(Ticket(1), message(b"0123456789"), None);
        assert!(queue.has_room_for(&message(b"0123456789")));
        assert!(!queue.has_room_for(&message(b"0123456789a")));
        assert!(!queue.could_hold(&message(&[0; 1_000])));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any history leaves what a plain list of messages with deadlines leaves.
        #[test]
        fn any_history_agrees_with_a_list(steps in proptest::collection::vec((0..5_u8, 0..20_u64), 1..200)) {
            let mut queue = queue(usize::MAX, usize::MAX, Some(Duration::from_secs(9)));
            let mut model: Vec<(Ticket, Timestamp)> = Vec::new();
            let (mut now, mut highest, mut lowest) = (Timestamp::from_secs(100), 1_000, 1_000);
            for (step, seconds) in steps {
                let deadline = now.saturating_add(Duration::from_secs(9));
                match step {
                    0 | 1 => {
                        highest += 1;
                        queue.push_back(Ticket(highest), message(b"x"), queue.wait_until(now, &message(b"x")));
                        model.push((Ticket(highest), deadline));
                    }
                    2 => {
                        lowest -= 1;
                        queue.push_front(Ticket(lowest), message(b"x"), queue.wait_until(now, &message(b"x")));
                        model.insert(0, (Ticket(lowest), deadline));
                    }
                    3 => {
                        let expected = (!model.is_empty()).then(|| model.remove(0).0);
                        prop_assert_eq!(queue.pop_front().map(|(ticket, _)| ticket), expected);
                    }
                    _ => {
                        now = now.saturating_add(Duration::from_secs(seconds));
                        let mut expired: Vec<Ticket> = core::iter::from_fn(|| queue.pop_expired(now)).collect();
                        expired.sort();
                        let (gone, left) = model.iter().partition::<Vec<_>, _>(|(_, at)| *at <= now);
                        prop_assert_eq!(expired, gone.into_iter().map(|(ticket, _)| ticket).collect::<Vec<_>>());
                        model = left;
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(queue.front().map(|(ticket, _)| ticket), model.first().map(|(ticket, _)| *ticket));
                prop_assert_eq!(queue.bytes(), model.len() * cost(&message(b"x")));
            }
        }
    }
}
