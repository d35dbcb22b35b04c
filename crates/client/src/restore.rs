//! A client whose process ended goes on: what the store holds becomes a client again, and back.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use damselfly_codec::{PacketId, ReasonCode};
use damselfly_session::{Message, SendState, Timestamp};

use crate::{Client, Config, Operation, Ticket, outbox::Outbox, queue::cost};

/// Why what a store holds is not the state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The config has no [outbox](Config::outbox).
    #[error("a client without an outbox restores nothing")]
    NoOutbox,
    /// One operation does not go with those before it.
    #[error("operation {index} does not go with those before it: {why}")]
    Operation {
        /// Which one, from 0.
        index: usize,
        /// What does not go together.
        why: Misfit,
    },
    /// The state is that of another Client Identifier than the configured one.
    #[error("the stored state is that of another client identifier")]
    OtherClient,
    /// More than [`OutboxConfig::max_messages`](crate::OutboxConfig::max_messages).
    #[error("{stored} messages are stored, and max_messages is {maximum}")]
    TooManyMessages {
        /// So many are stored.
        stored: usize,
        /// So many may be.
        maximum: usize,
    },
    /// More than [`OutboxConfig::max_bytes`](crate::OutboxConfig::max_bytes).
    #[error("the stored messages take {stored} bytes, and max_bytes is {maximum}")]
    TooManyBytes {
        /// So many are stored.
        stored: usize,
        /// So many may be.
        maximum: usize,
    },
}

/// What does not go together in a stored state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// Tickets rise, and the last of them is far away.
    #[error("its ticket is not above those before, or above all")]
    TicketOrder,
    /// No message has this ticket.
    #[error("no message has its ticket")]
    UnknownTicket,
    /// The message is not where this can happen to it.
    #[error("its message is in another state")]
    State,
    /// QoS 0 is never stored.
    #[error("its message has QoS 0")]
    AtMostOnce,
    /// Another message under way has this Packet Identifier.
    #[error("its packet identifier is in use")]
    PacketIdInUse,
    /// The identifier was received before, or was not.
    #[error("its packet identifier was received before, or was not")]
    Received,
}

/// How many tickets one process may give out: the next one begins above them, so that no ticket is used twice even if what
/// it stands for was not stored. That it has begun has to be stored for that, which is the first group of a process: if it
/// ends before that is durable, the next process gives its tickets again, none of which stands for anything stored.
const TICKETS_PER_PROCESS: u64 = 1 << 40;

/// A state under reconstruction.
#[derive(Default)]
struct Image {
    /// `None`: nothing was stored before.
    last_ticket: Option<u64>,
    last_published: u64,
    last_sequence: u64,
    messages: BTreeMap<Ticket, Stored>,
    packet_ids: BTreeSet<PacketId>,
    received: BTreeSet<PacketId>,
    session: Option<(Box<str>, Option<Timestamp>)>,
}

struct Stored {
    wait_until: Option<Timestamp>,
    message: Option<Message>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Queued,
    Sent { packet_id: PacketId, sequence: u64 },
    Released { packet_id: PacketId, sequence: u64, reason_code: ReasonCode },
}

impl Client {
    /// The client that an earlier process was, from what it stored: its messages with their tickets and their order, its
    /// identifiers in both directions, its subscriptions. `image` is all operations that were committed, in their order;
    /// a store without any begins anew. A group that was not committed whole must be left out.
    ///
    /// The stored bytes are not trusted: whatever they hold, the answer is a client or an error. It takes time and memory
    /// in proportion to the image.
    ///
    /// ```
    /// use damselfly_client::{Client, Config, Message, OutboxConfig, Output, Properties, QoS, Timestamp, TopicName};
    ///
    /// let mut config = Config::new("greenhouse-7");
    /// config.outbox = Some(OutboxConfig::default());
    /// let mut client = Client::restore(config.clone(), 42, [])?;
    /// let now = Timestamp::from_secs(1_700_000_000);
    /// let topic = TopicName::new("greenhouse/7/door")?;
    /// let message = Message::compose(topic, b"open", QoS::AtLeastOnce, false, Properties::EMPTY, now);
    /// let ticket = client.publish(now, message)?;
    ///
    /// let mut store = Vec::new();
    /// while let Some(output) = client.poll_output() {
    ///     match output {
    ///         Output::Journal(operation) => store.push(operation),
    ///         Output::Commit(id) => client.handle_committed(now, id),
    ///         _ => {}
    ///     }
    /// }
    /// drop(client);
    ///
    /// let client = Client::restore(config, 43, store)?;
    /// assert!(client.stored_tickets().eq([ticket]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// That the operations do not go together, belong to another Client Identifier, or hold more than the config lets the
    /// outbox hold.
    pub fn restore(
        config: Config,
        seed: u64,
        image: impl IntoIterator<Item = Operation>,
    ) -> Result<Self, RestoreError> {
        let limits = config.outbox.ok_or(RestoreError::NoOutbox)?;
        let mut client = Self::without_journal(config, seed);
        let mut state = Image::default();
        for (index, operation) in image.into_iter().enumerate() {
            state.apply(&mut client, operation).map_err(|why| RestoreError::Operation { index, why })?;
        }
        if let Some((client_id, until)) = &state.session {
            if !client.config.client_id.is_empty() && client.config.client_id != *client_id {
                return Err(RestoreError::OtherClient);
            }
            client.session.client_id.clone_from(client_id);
            client.session.exists_until = *until;
        }
        let bytes = state.messages.values().filter_map(|stored| stored.message.as_ref()).map(cost);
        let (messages, bytes) = (state.messages.len(), bytes.fold(0, usize::saturating_add));
        if messages > limits.max_messages {
            return Err(RestoreError::TooManyMessages { stored: messages, maximum: limits.max_messages });
        }
        if bytes > limits.max_bytes {
            return Err(RestoreError::TooManyBytes { stored: bytes, maximum: limits.max_bytes });
        }
        // Above the last one that is known of, for the process before may have given out more.
        let above = |last: u64| last.checked_add(1)?.checked_next_multiple_of(TICKETS_PER_PROCESS);
        let last = state.last_ticket.map_or(Some(0), above);
        let last = last.filter(|last| last.checked_add(TICKETS_PER_PROCESS).is_some());
        let index = 0;
        let last = last.ok_or(RestoreError::Operation { index, why: Misfit::TicketOrder })?;
        state.move_into(&mut client);
        client.session.requests.restore(client.config.filters_per_subscribe.get().into());
        client.last_ticket = last;
        client.record(Operation::Tickets { last: Ticket(last) });
        Ok(client)
    }

    /// All that is to be stored at this point, as operations that make it from nothing: what a store may keep in place of
    /// every operation so far, in one group. Empty without an [outbox](Config::outbox).
    ///
    /// Ask for it at an [`Output::Commit`](crate::Output::Commit), to store it in place of that group and all before it,
    /// or when [`poll_output`](Self::poll_output) gives nothing: an operation that still waits for the poll is in it
    /// already, and stored once more behind it does not fit.
    pub fn snapshot(&self) -> Vec<Operation> {
        let Some(outbox) = &self.outbox else { return Vec::new() };
        // What comes before a new session is not granted in it.
        let mut all: Vec<_> = self.session.requests.registered(false).collect();
        if let Some((client_id, until)) = outbox.session() {
            let is_new = !all.is_empty();
            all.push(Operation::Session { client_id: client_id.clone(), until: *until, is_new });
        }
        all.extend(outbox.received().map(|packet_id| Operation::Receive { packet_id }));
        let mut steps = Vec::new();
        let mut messages = Vec::new();
        for sent in self.session.in_flight.iter().filter(|sent| outbox.holds(sent.ticket)) {
            let (ticket, packet_id) = (sent.ticket, sent.packet_id);
            match &sent.message {
                Some(message) => {
                    messages.push((ticket, None, message));
                    steps.push(Operation::Send { ticket, packet_id });
                }
                None => steps.push(Operation::Release { ticket, packet_id, reason_code: sent.reason_code }),
            }
        }
        messages.extend(self.queue.iter().filter(|(ticket, ..)| outbox.holds(*ticket)));
        messages.sort_by_key(|(ticket, ..)| *ticket);
        all.extend(messages.into_iter().map(|(ticket, wait_until, message)| Operation::Publish {
            ticket,
            wait_until,
            message: message.clone(),
        }));
        all.append(&mut steps);
        all.extend(self.session.requests.registered(true));
        let topics = self.session.requests.response_topics();
        all.extend(topics.map(|filter| Operation::ResponseTopic { filter: filter.clone() }));
        all.push(Operation::Tickets { last: Ticket(self.last_ticket) });
        all
    }
}

impl Image {
    fn apply(&mut self, client: &mut Client, operation: Operation) -> Result<(), Misfit> {
        match operation {
            Operation::Tickets { last } => {
                if last.0 < self.last_ticket.unwrap_or(0) {
                    return Err(Misfit::TicketOrder);
                }
                self.last_ticket = Some(last.0);
            }
            Operation::Session { client_id, until, is_new } => {
                if is_new {
                    self.received.clear();
                    client.session.requests.session_lost();
                }
                self.session = Some((client_id, until));
            }
            Operation::Publish { ticket, wait_until, message } => {
                if ticket.0 <= self.last_published {
                    return Err(Misfit::TicketOrder);
                }
                if SendState::after_publish(message.qos()).is_none() {
                    return Err(Misfit::AtMostOnce);
                }
                self.last_published = ticket.0;
                self.note_ticket(ticket);
                let stored = Stored { wait_until, message: Some(message), step: Step::Queued };
                if self.messages.insert(ticket, stored).is_some() {
                    return Err(Misfit::TicketOrder);
                }
            }
            Operation::Send { ticket, packet_id } => self.send(ticket, packet_id)?,
            Operation::Release { ticket, packet_id, reason_code } => self.release(ticket, packet_id, reason_code)?,
            Operation::Requeue { ticket, wait_until } => {
                let stored = self.messages.get_mut(&ticket).ok_or(Misfit::UnknownTicket)?;
                let Step::Sent { packet_id, .. } = stored.step else { return Err(Misfit::State) };
                (stored.step, stored.wait_until) = (Step::Queued, wait_until);
                self.packet_ids.remove(&packet_id);
            }
            Operation::Finish { ticket } => match self.messages.remove(&ticket).ok_or(Misfit::UnknownTicket)?.step {
                Step::Queued => {}
                Step::Sent { packet_id, .. } | Step::Released { packet_id, .. } => {
                    self.packet_ids.remove(&packet_id);
                }
            },
            Operation::Receive { packet_id } => {
                if !self.received.insert(packet_id) {
                    return Err(Misfit::Received);
                }
            }
            Operation::Forget { packet_id } => {
                if !self.received.remove(&packet_id) {
                    return Err(Misfit::Received);
                }
            }
            Operation::Subscribe { filter, options, properties } => {
                client.session.requests.register(filter, options, properties.as_properties());
            }
            Operation::Unsubscribe { filter } => {
                client.session.requests.unregister(&filter);
            }
            Operation::ResponseTopic { filter } => {
                client.session.requests.mark_response_topic(&filter);
            }
        }
        Ok(())
    }

    fn note_ticket(&mut self, ticket: Ticket) {
        self.last_ticket = self.last_ticket.max(Some(ticket.0));
    }

    fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    fn send(&mut self, ticket: Ticket, packet_id: PacketId) -> Result<(), Misfit> {
        let sequence = self.next_sequence();
        let stored = self.messages.get_mut(&ticket).ok_or(Misfit::UnknownTicket)?;
        let Step::Queued = stored.step else { return Err(Misfit::State) };
        if !self.packet_ids.insert(packet_id) {
            return Err(Misfit::PacketIdInUse);
        }
        stored.step = Step::Sent { packet_id, sequence };
        Ok(())
    }

    fn release(&mut self, ticket: Ticket, packet_id: PacketId, reason_code: ReasonCode) -> Result<(), Misfit> {
        let sequence = self.next_sequence();
        let step = Step::Released { packet_id, sequence, reason_code };
        match self.messages.get_mut(&ticket) {
            None if self.packet_ids.insert(packet_id) => {
                self.note_ticket(ticket);
                self.messages.insert(ticket, Stored { wait_until: None, message: None, step });
                Ok(())
            }
            None => Err(Misfit::PacketIdInUse),
            Some(stored) => match stored.step {
                Step::Sent { packet_id: sent, .. } if sent == packet_id => {
                    (stored.message, stored.step) = (None, step);
                    Ok(())
                }
                _ => Err(Misfit::State),
            },
        }
    }

    /// Fills a client that has nothing yet.
    fn move_into(self, client: &mut Client) {
        let mut under_way = BTreeMap::new();
        let mut outbox = self.outbox_of(client);
        for (ticket, stored) in self.messages {
            outbox.add(ticket, stored.message.as_ref().map_or(0, cost));
            match (stored.step, stored.message) {
                (Step::Queued, Some(message)) => client.queue.push_back(ticket, message, stored.wait_until),
                (Step::Queued, None) => {}
                (Step::Sent { packet_id, sequence }, message) => {
                    let state = message.as_ref().and_then(|message| SendState::after_publish(message.qos()));
                    under_way.insert(sequence, (ticket, packet_id, state, ReasonCode::Success, message));
                }
                (Step::Released { packet_id, sequence, reason_code }, _) => {
                    let state = Some(SendState::AwaitPubcomp);
                    under_way.insert(sequence, (ticket, packet_id, state, reason_code, None));
                }
            }
        }
        for (ticket, packet_id, state, reason_code, message) in under_way.into_values() {
            let Some(state) = state else { continue };
            // No two have one: that was looked at.
            let _ = client.session.ids.reserve(packet_id);
            client.session.in_flight.restore(packet_id, ticket, state, reason_code, message);
        }
        for packet_id in outbox.received() {
            client.session.inbound.restore(packet_id);
        }
        client.outbox = Some(Box::new(outbox));
    }

    fn outbox_of(&self, client: &Client) -> Outbox {
        let mut outbox = Outbox::new(client.config.outbox.unwrap_or_default());
        outbox.restore_received(self.received.clone());
        outbox.restore_session(self.session.clone());
        outbox
    }
}
