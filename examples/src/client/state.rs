//! What handle and task share: the core behind a lock, and its outputs on their way to the application and to the task.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use damselfly_client::{
    AckToken, DropReason, Event, InboundMessage, IndeterminateReason, NeedTransport, Outcome, Output, Ticket,
    TransportLost, UsageError,
};
use damselfly_codec::{Properties, ReasonCode};
use damselfly_sim::flight::RecordedClient;
use damselfly_topic::{KeyedState, TopicFilter, TopicFilterBuf};
use tokio::sync::Notify;

use super::{
    pending::Left,
    streams::{StreamId, Streams},
};
use crate::Clock;

/// How many events beside messages may wait: an application that never looks at them loses the oldest.
const MAX_NOTICES: usize = 1_024;

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn new(core: RecordedClient, seed: u64, max_waiting_messages: usize) -> Self {
        Self { state: Mutex::new(State::new(core, seed, max_waiting_messages)), wake: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes something that waits; if that ends a pause, the task has to know.
    pub(super) fn poll<T>(&self, take: impl FnOnce(&mut State) -> Poll<T>) -> Poll<T> {
        let mut state = self.lock();
        let was_paused = state.is_pause_told;
        let polled = take(&mut state);
        let resumes = was_paused && !state.is_pause_told;
        drop(state);
        if resumes {
            self.wake.notify_one();
        }
        polled
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a word of the core that the task looks up at its next turn")]
pub(super) struct State {
    pub(super) core: RecordedClient,
    pub(super) clock: Clock,
    pub(super) need: Option<NeedTransport>,
    /// The connection is to be closed once its bytes are written.
    pub(super) is_closing: bool,
    /// Input is not taken: leave the socket unread.
    pub(super) is_input_paused: bool,
    /// The core is closed: no event follows.
    pub(super) is_finished: bool,
    /// The task is over: no byte follows.
    pub(super) is_ended: bool,
    pub(super) last_error: Option<String>,
    /// What closing the client left without a known end.
    pub(super) left: Left,
    pub(super) streams: Streams,
    events: Events,
    /// The core was told to take no input.
    is_pause_told: bool,
    completions: HashMap<Ticket, Slot, KeyedState>,
    /// Who waits for room or for the end.
    waiters: BTreeMap<u64, Waker>,
    last_waiter: u64,
}

/// The default stream.
struct Events {
    /// `None` once nobody looks.
    waiting: Option<VecDeque<Event>>,
    messages: usize,
    max_messages: usize,
    is_full: bool,
    reader: Option<Waker>,
}

enum Slot {
    Pending(Option<Waker>),
    Done(Outcome),
}

impl State {
    fn new(core: RecordedClient, seed: u64, max_waiting_messages: usize) -> Self {
        let events = Events {
            waiting: Some(VecDeque::new()),
            messages: 0,
            max_messages: max_waiting_messages.max(1),
            is_full: false,
            reader: None,
        };
        let mut state = Self {
            core,
            clock: Clock::start(),
            need: None,
            is_closing: false,
            is_input_paused: false,
            is_finished: false,
            is_ended: false,
            last_error: None,
            left: Left::default(),
            streams: Streams::new(seed),
            events,
            is_pause_told: false,
            completions: HashMap::with_hasher(KeyedState::new(seed)),
            waiters: BTreeMap::new(),
            last_waiter: 0,
        };
        state.take_outputs();
        state
    }

    /// Performs what needs no socket and notes the rest for the task.
    pub(super) fn take_outputs(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::NeedTransport(need) => self.need = Some(need),
                // The task looks for bytes at each of its turns. There is no store: the outbox ends with the process.
                Output::Transmit | Output::Journal(_) => {}
                Output::Close => self.is_closing = true,
                Output::Resume => self.is_input_paused = false,
                Output::Commit(id) => self.core.handle_committed(self.clock.now(), id),
                Output::Event(event) => self.take_event(event),
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Completed { ticket, outcome } => self.complete(ticket, outcome),
            Event::Message(message) => {
                if let Some(message) = self.streams.deliver(message) {
                    self.take_default(message);
                }
                self.settle_messages();
            }
            Event::Closed => {
                self.is_finished = true;
                self.streams.end();
                self.wake_waiters();
                self.events.push_notice(event);
            }
            Event::QueueHasRoom => {
                self.wake_waiters();
                self.events.push_notice(event);
            }
            Event::SubscriptionLost { ref filter, .. } => {
                self.streams.lost(filter.as_filter());
                self.events.push_notice(event);
            }
            event => self.events.push_notice(event),
        }
    }

    /// A message that no stream takes.
    fn take_default(&mut self, message: InboundMessage) {
        let token = message.ack;
        if let (false, Some(token)) = (self.events.push_message(message), token) {
            self.refuse(token);
        }
    }

    /// Follows what messages that came or went mean for others: those that nobody will see are refused, and a full stream
    /// pauses the input.
    fn settle_messages(&mut self) {
        while let Some(token) = self.streams.pop_given_up() {
            self.refuse(token);
        }
        let is_full = self.events.is_full || self.streams.is_full();
        if is_full != self.is_pause_told {
            self.is_pause_told = is_full;
            let now = self.clock.now();
            if is_full {
                self.core.pause(now);
            } else {
                self.core.resume(now);
            }
        }
    }

    /// Says to the broker that nobody here will see a message. A stale token is as well: it will come again.
    fn refuse(&mut self, token: AckToken) {
        let _ = self.core.acknowledge(self.clock.now(), token, ReasonCode::QuotaExceeded);
    }

    /// The next event.
    pub(super) fn poll_event(&mut self, context: &Context<'_>) -> Poll<Option<Event>> {
        match self.events.pop() {
            Some(event) => {
                self.settle_messages();
                self.take_outputs();
                Poll::Ready(Some(event))
            }
            None if self.is_finished => Poll::Ready(None),
            None => {
                self.events.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next message of a stream.
    pub(super) fn poll_stream(&mut self, id: StreamId, context: &Context<'_>) -> Poll<Option<InboundMessage>> {
        let polled = self.streams.poll(id, context);
        if polled.is_ready() {
            self.settle_messages();
            self.take_outputs();
        }
        polled
    }

    /// Ends a stream; what waits in it is refused, and what nobody else wants is unsubscribed.
    pub(super) fn close_stream(&mut self, id: StreamId) {
        let (messages, filters) = self.streams.close(id);
        self.streams.discard(messages);
        self.settle_messages();
        let filters: Vec<TopicFilter<'_>> = filters.iter().map(TopicFilterBuf::as_filter).collect();
        if !filters.is_empty() {
            // Refused when the client is closed, where it ends with the session, or with too many requests: then its
            // messages come among the events.
            let _ = self.core.unsubscribe(self.clock.now(), &filters, Properties::EMPTY);
        }
        self.take_outputs();
    }

    /// Ends a stream; its messages come among the events.
    pub(super) fn detach_stream(&mut self, id: StreamId) {
        for message in self.streams.detach(id) {
            self.take_default(message);
        }
        self.settle_messages();
        self.take_outputs();
    }

    /// Nobody looks at events any more.
    pub(super) fn drop_events(&mut self) {
        for event in self.events.waiting.take().into_iter().flatten() {
            if let Event::Message(InboundMessage { ack: Some(token), .. }) = event {
                self.refuse(token);
            }
        }
        self.events.is_full = false;
        self.settle_messages();
        self.take_outputs();
    }

    /// Ends the client now, whatever is under way.
    pub(super) fn close_now(&mut self) {
        let now = self.clock.now();
        self.core.close(now, now);
        self.take_outputs();
    }

    pub(super) const fn has_events(&self) -> bool {
        self.events.waiting.is_some()
    }

    /// Keeps the outcome of a request for whoever holds its future.
    pub(super) fn expect(&mut self, ticket: Ticket) {
        self.completions.insert(ticket, Slot::Pending(None));
    }

    pub(super) fn poll_outcome(&mut self, ticket: Ticket, context: &Context<'_>) -> Poll<Outcome> {
        match self.completions.get_mut(&ticket) {
            Some(Slot::Done(outcome)) => Poll::Ready(outcome.clone()),
            Some(Slot::Pending(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            // The slot lives as long as the future.
            None => Poll::Pending,
        }
    }

    pub(super) fn forget_outcome(&mut self, ticket: Ticket) {
        self.completions.remove(&ticket);
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        self.streams.answered(ticket, &outcome);
        match &outcome {
            Outcome::Dropped(DropReason::Closed) => self.left.unsent += 1,
            Outcome::Indeterminate(IndeterminateReason::Closed) => self.left.indeterminate += 1,
            _ => {}
        }
        let slot = self.completions.get_mut(&ticket);
        if let Some(Slot::Pending(Some(waker))) = slot.map(|slot| std::mem::replace(slot, Slot::Done(outcome))) {
            waker.wake();
        }
    }

    /// Waits for room or for the end; the number is `waiter`'s from the first time on.
    pub(super) fn wait(&mut self, waiter: &mut Option<u64>, context: &Context<'_>) {
        let id = *waiter.get_or_insert_with(|| {
            self.last_waiter += 1;
            self.last_waiter
        });
        self.waiters.insert(id, context.waker().clone());
    }

    pub(super) fn wait_no_more(&mut self, waiter: Option<u64>) {
        if let Some(id) = waiter {
            self.waiters.remove(&id);
        }
    }

    fn wake_waiters(&mut self) {
        std::mem::take(&mut self.waiters).into_values().for_each(Waker::wake);
    }

    pub(super) fn transport_lost(&mut self, why: TransportLost, error: Option<&io::Error>) {
        if let Some(error) = error {
            self.last_error = Some(error.to_string());
        }
        let now = self.clock.now();
        self.is_closing = false;
        self.is_input_paused = false;
        self.core.handle_transport_lost(now, why);
        self.take_outputs();
    }

    /// The task is over; if the runtime ended it, the client ends with it.
    pub(super) fn end(&mut self) {
        if !self.is_finished {
            self.close_now();
        }
        self.is_ended = true;
        self.wake_waiters();
    }

    /// Ends the streams of filters that are unsubscribed from.
    pub(super) fn unsubscribe(
        &mut self,
        filters: &[TopicFilter<'_>],
        properties: Properties<'_>,
    ) -> Result<Ticket, UsageError> {
        let ticket = self.core.unsubscribe(self.clock.now(), filters, properties)?;
        for filter in filters {
            self.streams.lost(*filter);
        }
        Ok(ticket)
    }
}

impl Events {
    /// False if nobody looks.
    fn push_message(&mut self, message: InboundMessage) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        waiting.push_back(Event::Message(message));
        self.messages += 1;
        self.is_full |= self.messages >= self.max_messages;
        self.wake();
        true
    }

    fn push_notice(&mut self, event: Event) {
        let Some(waiting) = &mut self.waiting else { return };
        if waiting.len() - self.messages >= MAX_NOTICES {
            let oldest = waiting.iter().position(|event| !matches!(event, Event::Message(_)));
            oldest.and_then(|at| waiting.remove(at));
        }
        waiting.push_back(event);
        self.wake();
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.waiting.as_mut()?.pop_front()?;
        if matches!(event, Event::Message(_)) {
            self.messages -= 1;
            self.is_full &= self.messages > self.max_messages / 2;
        }
        Some(event)
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
