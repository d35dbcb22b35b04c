//! The offline queue: messages that have a ticket and no packet identifier yet.

use alloc::collections::VecDeque;
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

    /// Appends, whether there is room or not; the ticket is the highest so far.
    pub(crate) fn push_back(&mut self, now: Timestamp, ticket: Ticket, message: Message) {
        self.admit(now, ticket, &message);
        self.entries.push_back(Entry { ticket, message: Some(message) });
    }

    /// Puts a message before all others; its ticket is lower than theirs.
    pub(crate) fn push_front(&mut self, now: Timestamp, ticket: Ticket, message: Message) {
        self.admit(now, ticket, &message);
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

    fn admit(&mut self, now: Timestamp, ticket: Ticket, message: &Message) {
        let wait_ends = self.config.max_wait.map(|wait| now.saturating_add(wait));
        let deadline = match (wait_ends, message.expires_at()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if let Some(at) = deadline {
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
fn cost(message: &Message) -> usize {
    size_of::<Entry>().saturating_add(message.heap_bytes())
}
