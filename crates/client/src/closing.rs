//! The end: what is waited for, and what is told about the rest.

use alloc::vec::Vec;

use damselfly_session::Timestamp;

use crate::{Client, ConnectionEnd, DropReason, Event, IndeterminateReason, Outcome};

/// [`Client::close`] was called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) deadline: Timestamp,
    pub(crate) is_done: bool,
}

impl Client {
    /// Takes no more requests, waits for those under way at most until `deadline`, then says DISCONNECT.
    /// [`Event::Closed`] is the last output, and by then each ticket has its outcome, except those of
    /// [stored messages](Client::stored_tickets): those go on in the next process. With an [outbox](crate::OutboxConfig)
    /// operations to store and their commit may follow, and if the deadline came before a commit, after that commit the
    /// outcomes and messages that waited for it. [MQTT-3.14]
    pub fn close(&mut self, now: Timestamp, deadline: Timestamp) {
        let deadline = self.closing.map_or(deadline, |closing| closing.deadline.min(deadline));
        let is_done = self.closing.is_some_and(|closing| closing.is_done);
        self.closing = Some(Closing { deadline, is_done });
        self.go_on_closing(now);
    }

    /// Says DISCONNECT on an open connection, without waiting for what is under way: queue, messages in flight and the
    /// session stay, and no will is published. [`Output::NeedTransport`](crate::Output::NeedTransport) follows when the
    /// connection is gone, without a wait of its own. A device that sleeps answers it when it wakes. Nothing happens
    /// without an open connection. [MQTT-3.14]
    pub fn disconnect(&mut self, now: Timestamp) {
        self.note_resumed(now);
        if self.is_connected() {
            self.end(ConnectionEnd::Requested);
        }
    }

    /// Goes as far towards the end as is possible now.
    #[inline]
    pub(crate) fn go_on_closing(&mut self, now: Timestamp) {
        if self.closing.is_some() {
            self.close_if_drained(now);
        }
    }

    fn close_if_drained(&mut self, now: Timestamp) {
        let Some(closing) = self.closing.filter(|closing| !closing.is_done) else { return };
        let is_drained = self.queue.is_empty()
            && self.session.in_flight.is_empty()
            && self.session.requests.len() == 0
            && self.calls.as_ref().is_none_or(|calls| calls.len() == 0)
            && !self.connection.as_ref().is_some_and(|connection| connection.has_marks())
            && !self.outbox.as_ref().is_some_and(|outbox| outbox.is_telling());
        if !is_drained && now < closing.deadline {
            return;
        }
        if self.connection.as_ref().is_some_and(|connection| !connection.is_closing()) {
            self.end(ConnectionEnd::Requested);
        }
        self.closing = Some(Closing { is_done: true, ..closing });
        self.settle_everything();
        self.say_event(Event::Closed);
    }

    /// What is stored goes on in the next process, so it has no outcome in this one.
    fn settle_everything(&mut self) {
        let mut settled = Vec::new();
        let mut tell = |ticket, outcome| settled.push((ticket, outcome));
        if self.outbox.is_none() {
            for sent in self.session.in_flight.drain() {
                tell(sent.ticket, Outcome::Indeterminate(IndeterminateReason::Closed));
            }
            self.session.ids.clear();
        }
        if let Some(connection) = &mut self.connection {
            while let Some(ticket) = connection.next_lost() {
                tell(ticket, Outcome::Indeterminate(IndeterminateReason::Closed));
            }
        }
        self.session.requests.drain_tickets(|ticket| tell(ticket, Outcome::Indeterminate(IndeterminateReason::Closed)));
        let outbox = &self.outbox;
        let is_kept = |ticket| outbox.as_ref().is_some_and(|outbox| outbox.holds(ticket));
        for ticket in self.queue.take_unless(is_kept) {
            tell(ticket, Outcome::Dropped(DropReason::Closed));
        }
        for (ticket, outcome) in settled {
            if !self.is_hidden(ticket) {
                self.say_event(Event::Completed { ticket, outcome });
            }
        }
        self.settle_calls();
    }
}
