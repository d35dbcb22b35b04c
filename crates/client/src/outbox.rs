//! The commit gate of a client whose state outlives its process: what promises something leaves after it is stored.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use damselfly_codec::{AckType, Delivery, Foreign, PacketId, Properties, ReasonCode, SubscriptionOptions, Version};
use damselfly_session::{Message, SessionExpiry, Timestamp};
use damselfly_topic::TopicFilterBuf;

use crate::{
    Client, Event, Operation, OutboxConfig, Outcome, Output, Ticket, UsageError, inbound::Answer, queue::cost,
    send::usage_error,
};

/// A journal group: the operations since the one before. Once it is durable:
/// [`Client::handle_committed`](crate::Client::handle_committed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub(crate) u64);

impl CommitId {
    /// Of what is not stored: there is nothing to wait for.
    pub(crate) const NONE: Self = Self(0);
}

/// What is stored, and what waits until it is.
#[derive(Debug)]
pub(crate) struct Outbox {
    config: OutboxConfig,
    /// Of the group that is being said.
    next: CommitId,
    /// The group has an operation.
    is_open: bool,
    committed: CommitId,
    /// Messages that are stored, or will be with the next commit, and what each costs in bytes.
    tickets: BTreeMap<Ticket, usize>,
    bytes: usize,
    /// QoS 2 identifiers of the broker, likewise.
    received: BTreeSet<PacketId>,
    /// What was last said of the session.
    session: Option<(Box<str>, Option<Timestamp>)>,
    /// Acknowledgements in their order, one list for each type that may have to wait. They end with their connection.
    answers: [VecDeque<(CommitId, Answer)>; 3],
    /// What the application is told once it is true.
    events: VecDeque<(CommitId, Event)>,
    /// All bytes wait until it is stored that the session before is over.
    hold: CommitId,
}

impl Outbox {
    pub(crate) fn new(config: OutboxConfig) -> Self {
        Self {
            config,
            next: CommitId(1),
            is_open: false,
            committed: CommitId::NONE,
            tickets: BTreeMap::new(),
            bytes: 0,
            received: BTreeSet::new(),
            session: None,
            answers: [const { VecDeque::new() }; 3],
            events: VecDeque::new(),
            hold: CommitId::NONE,
        }
    }

    /// Ends the group, if there is anything in it.
    pub(crate) fn close_group(&mut self) -> Option<CommitId> {
        if !self.is_open {
            return None;
        }
        self.is_open = false;
        let id = self.next;
        self.next.0 += 1;
        Some(id)
    }

    /// The group of the last operation.
    fn latest(&self) -> CommitId {
        if self.is_open { self.next } else { CommitId(self.next.0 - 1) }
    }

    pub(crate) fn is_committed(&self, id: CommitId) -> bool {
        id <= self.committed
    }

    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.tickets.contains_key(&ticket)
    }

    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.tickets.keys().copied()
    }

    pub(crate) fn received(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.received.iter().copied()
    }

    pub(crate) fn session(&self) -> Option<&(Box<str>, Option<Timestamp>)> {
        self.session.as_ref()
    }

    /// Is there room for this message?
    pub(crate) fn has_room_for(&self, message: &Message) -> bool {
        self.tickets.len() < self.config.max_messages
            && cost(message) <= self.config.max_bytes.saturating_sub(self.bytes)
    }

    /// Is there room for some message?
    pub(crate) fn has_room(&self) -> bool {
        self.tickets.len() < self.config.max_messages && self.bytes < self.config.max_bytes
    }

    /// Would this message fit if nothing else were there?
    pub(crate) fn could_hold(&self, message: &Message) -> bool {
        self.config.max_messages > 0 && cost(message) <= self.config.max_bytes
    }

    /// Counts a message, whether there is room or not.
    pub(crate) fn add(&mut self, ticket: Ticket, bytes: usize) {
        self.tickets.insert(ticket, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Takes up what an earlier process stored of the broker's QoS 2 messages.
    pub(crate) fn restore_received(&mut self, received: BTreeSet<PacketId>) {
        self.received = received;
    }

    pub(crate) fn restore_session(&mut self, session: Option<(Box<str>, Option<Timestamp>)>) {
        self.session = session;
    }

    fn remove(&mut self, ticket: Ticket) -> bool {
        let Some(bytes) = self.tickets.remove(&ticket) else { return false };
        self.bytes -= bytes;
        true
    }

    /// How many acknowledgements wait for their commit.
    pub(crate) fn kept_answers(&self) -> usize {
        self.answers.iter().map(VecDeque::len).sum()
    }

    /// Acknowledgements end with their connection; what they would have said is said again on the next one.
    pub(crate) fn connection_lost(&mut self) {
        for answers in &mut self.answers {
            answers.clear();
        }
    }

    /// Nobody is told any more.
    pub(crate) fn is_telling(&self) -> bool {
        !self.events.is_empty()
    }

    fn next_answer(&mut self) -> Option<Answer> {
        let committed = self.committed;
        let ready = self.answers.iter_mut().find(|list| list.front().is_some_and(|(gate, _)| *gate <= committed))?;
        ready.pop_front().map(|(_, answer)| answer)
    }

    fn next_event(&mut self) -> Option<Event> {
        let (gate, _) = self.events.front()?;
        if *gate > self.committed {
            return None;
        }
        self.events.pop_front().map(|(_, event)| event)
    }
}

impl Client {
    /// Everything up to this group is durable: what waited for it leaves. Only a client with an
    /// [outbox](crate::OutboxConfig) says groups.
    pub fn handle_committed(&mut self, now: Timestamp, commit: CommitId) {
        let Some(outbox) = &mut self.outbox else { return };
        // Numbers that were never given out commit what there is.
        outbox.committed = outbox.committed.max(commit.min(CommitId(outbox.next.0 - 1)));
        if outbox.hold != CommitId::NONE && outbox.is_committed(outbox.hold) {
            outbox.hold = CommitId::NONE;
            self.say(Output::Transmit);
        }
        while let Some(event) = self.outbox.as_mut().and_then(|outbox| outbox.next_event()) {
            self.say_event(event);
        }
        self.send_stored_answers();
        self.pump(now);
        self.go_on_closing(now);
    }

    /// The messages with a ticket and without an outcome that are stored, or will be with the next commit, by ticket.
    /// After [`Client::restore`] these are the tickets of earlier processes whose outcome is still to come; a ticket of a
    /// stored message that is not among them has had its outcome.
    pub fn stored_tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.outbox.iter().flat_map(|outbox| outbox.tickets()).filter(|ticket| !self.is_hidden(*ticket))
    }

    /// Says that this is to be stored: the group it is in.
    pub(crate) fn record(&mut self, operation: Operation) -> CommitId {
        let Some(outbox) = &mut self.outbox else { return CommitId::NONE };
        outbox.is_open = true;
        let id = outbox.next;
        self.say(Output::Journal(operation));
        id
    }

    /// Tells the application once all that was said up to here is stored; at once if there is nothing to wait for.
    pub(crate) fn say_stored(&mut self, event: Event) {
        let Some(outbox) = &mut self.outbox else { return self.say_event(event) };
        let gate = outbox.latest();
        if outbox.is_committed(gate) && outbox.events.is_empty() {
            return self.say_event(event);
        }
        outbox.events.push_back((gate, event));
    }

    pub(crate) fn is_committed(&self, id: CommitId) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.is_committed(id))
    }

    /// Is this a message that is stored?
    pub(crate) fn is_stored(&self, ticket: Ticket) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.holds(ticket))
    }

    /// May nothing leave yet?
    pub(crate) fn is_held(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| !outbox.is_committed(outbox.hold))
    }

    /// Takes a message into the store, if it is one that is stored.
    pub(crate) fn store(&mut self, ticket: Ticket, wait_until: Option<Timestamp>, message: &Message) {
        let Some(outbox) = &mut self.outbox else { return };
        outbox.add(ticket, cost(message));
        self.record(Operation::Publish { ticket, wait_until, message: message.clone() });
        if self.is_hidden(ticket) {
            return;
        }
        self.say_stored(Event::Stored { ticket });
    }

    /// Tells the outcome of a request; that of a stored message once it is stored that nothing of it is left.
    pub(crate) fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        let is_stored = self.outbox.as_mut().is_some_and(|outbox| outbox.remove(ticket));
        if is_stored {
            self.record(Operation::Finish { ticket });
        }
        if self.is_hidden(ticket) {
            return self.complete_hidden(ticket, outcome);
        }
        let event = Event::Completed { ticket, outcome };
        if is_stored { self.say_stored(event) } else { self.say_event(event) }
    }

    /// Keeps back an acknowledgement until what it says is stored: false if it need not wait for anything.
    pub(crate) fn keep_answer(&mut self, answer: Answer) -> bool {
        let Some(outbox) = &mut self.outbox else { return false };
        let packet_id = answer.packet_id;
        let list = match answer.ack_type {
            AckType::Puback => return false,
            AckType::Pubrec => {
                if !answer.reason_code.is_error() {
                    self.record_received(packet_id);
                }
                0
            }
            AckType::Pubrel => 1,
            AckType::Pubcomp => {
                if outbox.received.remove(&packet_id) {
                    self.record(Operation::Forget { packet_id });
                }
                2
            }
        };
        let Some(outbox) = &mut self.outbox else { return false };
        let gate = outbox.latest();
        if let Some(list) = outbox.answers.get_mut(list) {
            list.push_back((gate, answer));
        }
        self.send_stored_answers();
        true
    }

    fn send_stored_answers(&mut self) {
        while self.is_connected() {
            let Some(answer) = self.outbox.as_mut().and_then(|outbox| outbox.next_answer()) else { return };
            self.write_answer(answer);
        }
    }

    /// A QoS 2 message of the broker is taken, once.
    pub(crate) fn record_received(&mut self, packet_id: PacketId) {
        if self.outbox.as_mut().is_some_and(|outbox| outbox.received.insert(packet_id)) {
            self.record(Operation::Receive { packet_id });
        }
    }

    /// The broker used this identifier for something else, so it means nothing any more. Before 5.0.
    pub(crate) fn record_forgotten(&mut self, packet_id: PacketId) {
        if self.outbox.as_mut().is_some_and(|outbox| outbox.received.remove(&packet_id)) {
            self.record(Operation::Forget { packet_id });
        }
    }

    /// PUBREC took a message: the group after which PUBREL may leave.
    pub(crate) fn record_released(&mut self, ticket: Ticket, packet_id: PacketId, reason_code: ReasonCode) -> CommitId {
        if self.is_stored(ticket) {
            self.record(Operation::Release { ticket, packet_id, reason_code })
        } else {
            CommitId::NONE
        }
    }

    /// CONNACK said what the session is. If identifiers were received in the one before, that has to be stored first: once
    /// there is a subscription the broker may use them for other messages, and a restart in between would take those for
    /// repeats.
    pub(crate) fn record_session(&mut self, is_new: bool, expiry: SessionExpiry) {
        let until = (expiry != SessionExpiry::OnClose).then_some(Timestamp::MAX);
        let ends_state = is_new && self.has_received();
        self.record_session_until(is_new, until);
        if ends_state {
            self.hold();
        }
    }

    fn has_received(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| !outbox.received.is_empty())
    }

    /// Nothing leaves until all that was said up to here is stored.
    fn hold(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.hold = outbox.latest();
        }
    }

    pub(crate) fn record_session_until(&mut self, is_new: bool, until: Option<Timestamp>) {
        let Some(outbox) = &mut self.outbox else { return };
        let session = Some((self.session.client_id.clone(), until));
        if is_new {
            outbox.received.clear();
            self.session.requests.session_lost();
        }
        if is_new || outbox.session != session {
            outbox.session = session;
            self.record(Operation::Session { client_id: self.session.client_id.clone(), until, is_new });
        }
    }

    /// CONNECT is about to end the session there is: that has to be stored first, or a restart in between would take
    /// the new session for the old one.
    pub(crate) fn end_stored_session(&mut self, now: Timestamp) {
        if self.outbox.is_none() || (!self.has_received() && self.session.in_flight.is_empty()) {
            return;
        }
        self.settle_session(now);
        self.session.exists_until = None;
        self.record_session_until(true, None);
        self.hold();
    }

    /// The broker granted a subscription.
    pub(crate) fn register(
        &mut self,
        filter: TopicFilterBuf,
        options: SubscriptionOptions,
        properties: Properties<'_>,
    ) {
        if self.outbox.is_some() && !self.session.requests.is_registered(&filter, options, properties) {
            self.record(Operation::Subscribe { filter: filter.clone(), options, properties: properties.into() });
        }
        self.session.requests.register(filter, options, properties);
    }

    /// A subscription is not restored any more.
    pub(crate) fn unregister(&mut self, filter: &TopicFilterBuf) {
        self.response_topic_lost(filter);
        if self.session.requests.unregister(filter) && self.outbox.is_some() {
            self.record(Operation::Unsubscribe { filter: filter.clone() });
        }
    }
}

/// May this message be stored?
pub(crate) fn check_stored(message: &Message) -> Result<(), UsageError> {
    let publish = message.to_publish(Delivery::first(message.qos(), PacketId::MIN), message.retain());
    publish.encoded_len(Version::V5_0, Foreign::Reject).map(drop).map_err(usage_error)
}
