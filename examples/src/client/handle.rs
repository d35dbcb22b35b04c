//! What the application holds: the handle, the events, and the futures of its requests.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use damselfly_client::{
    AckToken, Client as Core, Config, ConnectParameters, Event, NeedTransport, Outcome, Output, Refused, Ticket,
    TransportLost, UsageError,
};
use damselfly_codec::{Properties, QoS, ReasonCode, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicError, TopicFilter, TopicName};
use futures::Stream;
use tokio::{sync::Notify, task::JoinHandle};

use super::driver;
use crate::Clock;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

impl Endpoint {
    /// A host and its port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Asked at each attempt to connect: where to, and as whom.
pub type Provider = Box<dyn FnMut(&NeedTransport) -> (Endpoint, ConnectParameters) + Send>;

/// What [`Client::connect`] needs to know.
pub struct Options {
    /// Of the core.
    pub config: Config,
    /// Where to connect to and with which parameters, asked anew at each attempt.
    pub provider: Provider,
    /// How many messages may wait for [`Events::next`] before reading from the socket is paused. Default: 1,024.
    pub max_waiting_messages: usize,
    /// The seed of the core's jitter and hashing. Default: taken from the process's random hasher keys.
    pub seed: u64,
}

impl Options {
    /// One endpoint, anonymous.
    pub fn new(endpoint: Endpoint, config: Config) -> Self {
        Self::with_parameters(endpoint, config, ConnectParameters::default())
    }

    /// One endpoint, the same parameters at each attempt.
    pub fn with_parameters(endpoint: Endpoint, config: Config, parameters: ConnectParameters) -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self {
            config,
            provider: Box::new(move |_| (endpoint.clone(), parameters.clone())),
            max_waiting_messages: 1_024,
            seed: RandomState::new().hash_one(0_u8),
        }
    }
}

/// A handle to one MQTT client: clones share it, from any thread.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Starts a client on the current tokio runtime. It connects, and connects again, until [`Client::close`] or until
    /// the [`Events`] are dropped.
    pub fn connect(options: Options) -> (Self, Events) {
        let Options { config, provider, max_waiting_messages, seed } = options;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(Core::new(config, seed), max_waiting_messages.max(1))),
            wake: Notify::new(),
        });
        let task = tokio::spawn(driver::run(Arc::clone(&shared), provider));
        (Self { shared: Arc::clone(&shared) }, Events { shared, task })
    }

    /// A message for [`Client::publish`], made now: a Message Expiry Interval among the properties begins to run.
    ///
    /// # Errors
    ///
    /// What is wrong with the topic.
    pub fn message(
        &self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: Properties<'_>,
    ) -> Result<Message, TopicError> {
        let topic = TopicName::new(topic)?;
        Ok(Message::compose(topic, payload, qos, retain, properties, self.shared.lock().clock.now()))
    }

    /// Takes a message for sending; the [`Completion`] says what became of it. Nothing is waited for: a full queue
    /// gives the message back.
    pub fn publish(&self, message: Message) -> Result<Completion, Refused> {
        self.request(|core, now| core.publish(now, message))
    }

    /// Subscribes; the outcome has one result per filter.
    pub fn subscribe(
        &self,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<Completion, UsageError> {
        self.request(|core, now| core.subscribe(now, filters, properties))
    }

    /// Unsubscribes; the outcome has one result per filter.
    pub fn unsubscribe(
        &self,
        filters: &[TopicFilter<'_>],
        properties: Properties<'_>,
    ) -> Result<Completion, UsageError> {
        self.request(|core, now| core.unsubscribe(now, filters, properties))
    }

    /// Acknowledges a received message, with [`Acknowledgement::Manual`](damselfly_client::Acknowledgement::Manual).
    pub fn acknowledge(&self, token: AckToken, reason_code: ReasonCode) -> Result<(), UsageError> {
        self.act(|core, now| core.acknowledge(now, token, reason_code))
    }

    /// Answers [`Event::AuthenticationStep`]; the properties hold the Authentication Data.
    pub fn authenticate(&self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.act(|core, _| core.authenticate(properties))
    }

    /// Authenticates anew on the open connection, by the method of the CONNECT, while messages go on.
    pub fn reauthenticate(&self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.act(|core, _| core.reauthenticate(properties))
    }

    /// Takes no more requests, waits up to `drain` for those under way, then says DISCONNECT. [`Event::Closed`] is the
    /// last event.
    pub fn close(&self, drain: Duration) {
        self.act(|core, now| core.close(now, now.saturating_add(drain)));
    }

    /// Why the last attempt to connect failed, as the system puts it.
    pub fn last_transport_error(&self) -> Option<String> {
        self.shared.lock().last_error.clone()
    }

    fn act<T>(&self, work: impl FnOnce(&mut Core, Timestamp) -> T) -> T {
        let mut state = self.shared.lock();
        let now = state.clock.now();
        let result = work(&mut state.core, now);
        state.take_outputs();
        drop(state);
        self.shared.wake.notify_one();
        result
    }

    fn request<E>(&self, work: impl FnOnce(&mut Core, Timestamp) -> Result<Ticket, E>) -> Result<Completion, E> {
        let mut state = self.shared.lock();
        let now = state.clock.now();
        let ticket = work(&mut state.core, now)?;
        state.completions.insert(ticket, Slot::Pending(None));
        state.take_outputs();
        drop(state);
        self.shared.wake.notify_one();
        Ok(Completion { shared: Arc::clone(&self.shared), ticket })
    }
}

/// What becomes of one request: a future that may be dropped without effect.
#[must_use = "the request is under way already; await it to know what became of it"]
pub struct Completion {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Completion {
    /// The request's name.
    pub const fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl Future for Completion {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.shared.lock();
        match state.completions.get_mut(&self.ticket) {
            Some(Slot::Done(outcome)) => Poll::Ready(outcome.clone()),
            Some(Slot::Pending(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            // The slot lives as long as this future.
            None => Poll::Pending,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.shared.lock().completions.remove(&self.ticket);
    }
}

/// What happens, in order: messages, connections and their ends. Outcomes of requests go to their [`Completion`].
pub struct Events {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Events {
    /// The next event, `None` after [`Event::Closed`]. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        futures::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// Passes over what is left and waits until the last byte is written or given up. Call [`Client::close`] before.
    pub async fn join(mut self) {
        while self.next().await.is_some() {}
        // An error says that the runtime is ending, and with it the task.
        let _ = (&mut self.task).await;
    }

    fn poll_event(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.shared.lock();
        let Some(event) = state.events.as_mut().and_then(VecDeque::pop_front) else {
            if state.is_finished {
                return Poll::Ready(None);
            }
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        if matches!(event, Event::Message(_)) && state.message_taken() {
            drop(state);
            self.shared.wake.notify_one();
        }
        Poll::Ready(Some(event))
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(context)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let now = state.clock.now();
        state.core.close(now, now);
        state.events = None;
        state.take_outputs();
        drop(state);
        self.shared.wake.notify_one();
    }
}

/// What handle and task share.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Behind the lock: the core, and its outputs on their way to the application and to the task.
pub(super) struct State {
    pub(super) core: Core,
    pub(super) clock: Clock,
    pub(super) need: Option<NeedTransport>,
    /// The connection is to be closed once its bytes are written.
    pub(super) is_closing: bool,
    /// Input is not taken: leave the socket unread.
    pub(super) is_input_paused: bool,
    pub(super) is_finished: bool,
    last_error: Option<String>,
    /// `None` once the application has dropped its [`Events`].
    events: Option<VecDeque<Event>>,
    waiting_messages: usize,
    max_waiting_messages: usize,
    reader: Option<Waker>,
    completions: HashMap<Ticket, Slot>,
}

enum Slot {
    Pending(Option<Waker>),
    Done(Outcome),
}

impl State {
    fn new(core: Core, max_waiting_messages: usize) -> Self {
        let mut state = Self {
            core,
            clock: Clock::start(),
            need: None,
            is_closing: false,
            is_input_paused: false,
            is_finished: false,
            last_error: None,
            events: Some(VecDeque::new()),
            waiting_messages: 0,
            max_waiting_messages,
            reader: None,
            completions: HashMap::new(),
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
            Event::Completed { ticket, outcome } => return self.complete(ticket, outcome),
            Event::Closed => self.is_finished = true,
            Event::Message(_) => {
                self.waiting_messages += 1;
                if self.waiting_messages == self.max_waiting_messages {
                    self.core.pause(self.clock.now());
                }
            }
            _ => {}
        }
        if let Some(events) = &mut self.events {
            events.push_back(event);
        }
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// A message was taken by the application: true if reading goes on.
    fn message_taken(&mut self) -> bool {
        self.waiting_messages -= 1;
        if self.waiting_messages != self.max_waiting_messages / 2 {
            return false;
        }
        self.core.resume(self.clock.now());
        self.take_outputs();
        true
    }

    fn complete(&mut self, ticket: Ticket, outcome: Outcome) {
        let slot = self.completions.get_mut(&ticket);
        if let Some(Slot::Pending(Some(waker))) = slot.map(|slot| std::mem::replace(slot, Slot::Done(outcome))) {
            waker.wake();
        }
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
}
