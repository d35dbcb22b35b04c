//! What the application holds.

use std::{sync::Arc, task::Context, time::Duration};

use damselfly_client::{AckToken, Client as Core, InboundMessage, Refused, Ticket, UsageError};
use damselfly_codec::{Properties, QoS, ReasonCode, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_sim::flight::RecordedClient;
use damselfly_topic::{IndexError, TopicError, TopicFilter, TopicFilterBuf, TopicName};

use super::{
    driver,
    events::Events,
    options::{Drain, Inbox, Options},
    pending::{Closing, Completion, Enqueue, Response, is_lack_of_room},
    state::{Shared, State},
    subscription::Subscription,
};

/// A handle to one MQTT client: clones share it, from any thread.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Ends the client with the last one, unless its [`Events`] decide that.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if !state.has_events() {
            state.close_now();
        }
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl Handle {
    /// Does something to the client, and lets the task see what it means for the socket.
    pub(super) fn act<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.lock();
        let result = work(&mut state);
        state.take_outputs();
        drop(state);
        self.shared.wake.notify_one();
        result
    }
}

/// Why a [`Subscription`] was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The client does not take the request.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// Messages cannot be told by this Topic Filter: it has more than 128 levels.
    #[error(transparent)]
    Filter(#[from] IndexError),
}

impl Client {
    /// Starts a client on the current tokio runtime. It connects, and connects again, until [`Client::close`], until the
    /// [`Events`] are dropped or, if these are [detached](Events::detach), until all handles and subscriptions are.
    pub fn connect(options: Options) -> (Self, Events) {
        let Options { config, provider, tls, max_waiting_messages, seed, tape } = options;
        let core = match tape {
            Some(tape) => RecordedClient::new(config, seed, tape),
            None => Core::new(config, seed).into(),
        };
        let shared = Arc::new(Shared::new(core, seed, max_waiting_messages));
        drop(tokio::spawn(driver::run(Arc::clone(&shared), provider, tls)));
        let handle = Arc::new(Handle { shared });
        (Self { handle: Arc::clone(&handle) }, Events::new(handle))
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
        let mut state = self.shared().lock();
        let now = state.clock.now();
        Ok(state.core.compose(now, topic, payload, qos, retain, properties))
    }

    /// Takes a message for sending; the [`Completion`] says what became of it. Nothing is waited for: a full queue
    /// gives the message back.
    pub fn publish(&self, message: Message) -> Result<Completion, Refused> {
        self.ask(|state, now| state.core.publish(now, message))
    }

    /// The same for who wants to wait until there is room.
    pub const fn publish_when_room(&self, message: Message) -> Enqueue<'_> {
        Enqueue::new(self, message)
    }

    /// As [`Client::publish`]; who finds no room is woken when there may be some.
    pub(super) fn publish_or_wait(
        &self,
        message: Message,
        waiter: &mut Option<u64>,
        context: &Context<'_>,
    ) -> Result<Completion, Refused> {
        self.ask(|state, now| {
            state.core.publish(now, message).inspect_err(|refused| {
                // The lock is held since the message was refused, so that no word of room can come in between.
                if is_lack_of_room(refused.why) {
                    state.wait(waiter, context);
                }
            })
        })
    }

    /// Publishes a request and waits for its response for so long; see [`request`](damselfly_client::Client::request) of
    /// the core. 5.0 only.
    pub fn request(&self, message: Message, deadline: Duration) -> Result<Response, Refused> {
        self.ask(|state, now| state.core.request(now, message, now.saturating_add(deadline))).map(Response)
    }

    /// Answers a request: see [`InboundMessage::reply`].
    pub fn reply(
        &self,
        request: &InboundMessage,
        payload: &[u8],
        properties: Properties<'_>,
    ) -> Result<Completion, UsageError> {
        self.ask(|state, now| {
            let message = request.reply(now, payload, properties)?;
            state.core.publish(now, message).map_err(|refused| refused.why)
        })
    }

    /// Subscribes, all filters in one SUBSCRIBE, to a stream of its own: it has each message whose topic matches one of
    /// the filters, once, whatever other streams have it too. What the broker makes of it says [`Subscription::granted`].
    ///
    /// A broker that sends a copy for each of several subscriptions that overlap sends each stream as many.
    /// [MQTT-3.3.4-2]
    pub fn subscribe(
        &self,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
        inbox: Inbox,
    ) -> Result<Subscription, SubscribeError> {
        let owned = owned(filters.iter().map(|(filter, _)| filter));
        let (id, granted) = self.handle.act(|state| {
            let id = state.streams.open(&owned, inbox)?;
            let now = state.clock.now();
            match state.core.subscribe(now, filters, properties) {
                Ok(ticket) => {
                    state.streams.asked(ticket, Some(id), owned);
                    Ok((id, self.expect(state, ticket)))
                }
                Err(error) => {
                    // Nothing was asked for, so nothing is unsubscribed.
                    drop(state.streams.close(id));
                    Err(SubscribeError::from(error))
                }
            }
        })?;
        Ok(Subscription::new(Arc::clone(&self.handle), id, granted))
    }

    /// Subscribes without a stream: messages come among the [`Events`]. The outcome has one result per filter.
    pub fn subscribe_to_events(
        &self,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<Completion, UsageError> {
        let owned = owned(filters.iter().map(|(filter, _)| filter));
        self.ask(|state, now| {
            let ticket = state.core.subscribe(now, filters, properties)?;
            state.streams.asked(ticket, None, owned);
            Ok(ticket)
        })
    }

    /// Unsubscribes; the outcome has one result per filter. A [`Subscription`] none of whose filters is left ends.
    pub fn unsubscribe(
        &self,
        filters: &[TopicFilter<'_>],
        properties: Properties<'_>,
    ) -> Result<Completion, UsageError> {
        self.ask(|state, _| state.unsubscribe(filters, properties))
    }

    /// Acknowledges a received message, with [`Acknowledgement::Manual`](damselfly_client::Acknowledgement::Manual). If
    /// several streams have it, the first acknowledgement counts.
    pub fn acknowledge(&self, token: AckToken, reason_code: ReasonCode) -> Result<(), UsageError> {
        self.handle.act(|state| state.core.acknowledge(state.clock.now(), token, reason_code))
    }

    /// Answers [`Event::AuthenticationStep`](damselfly_client::Event::AuthenticationStep); the properties hold the
    /// Authentication Data.
    pub fn authenticate(&self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.handle.act(|state| state.core.authenticate(properties))
    }

    /// Authenticates anew on the open connection, by the method of the CONNECT, while messages go on.
    pub fn reauthenticate(&self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.handle.act(|state| state.core.reauthenticate(properties))
    }

    /// Takes no more requests, waits as long as `drain` says for those under way, then says DISCONNECT. That begins with
    /// this call; the future tells what is left. Each request has its outcome then.
    pub fn close(&self, drain: Drain) -> Closing {
        self.handle.act(|state| {
            let now = state.clock.now();
            state.core.close(now, now.saturating_add(drain.deadline));
        });
        Closing::new(Arc::clone(self.shared()))
    }

    /// Says DISCONNECT and stays a client: the session and all that waits go on with the next connection, which begins as
    /// soon as the [`Provider`](super::Provider) answers. A device that sleeps lets it wait until it wakes.
    pub fn disconnect(&self) {
        self.handle.act(|state| state.core.disconnect(state.clock.now()));
    }

    /// Why the last attempt to connect failed, as the system puts it.
    pub fn last_transport_error(&self) -> Option<String> {
        self.shared().lock().last_error.clone()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn ask<E>(&self, work: impl FnOnce(&mut State, Timestamp) -> Result<Ticket, E>) -> Result<Completion, E> {
        self.handle.act(|state| {
            let now = state.clock.now();
            work(state, now).map(|ticket| self.expect(state, ticket))
        })
    }

    /// Has to come before the outputs are taken: the outcome may be among them.
    fn expect(&self, state: &mut State, ticket: Ticket) -> Completion {
        state.expect(ticket);
        Completion::new(Arc::clone(self.shared()), ticket)
    }
}

fn owned<'a>(filters: impl Iterator<Item = &'a TopicFilter<'a>>) -> Vec<TopicFilterBuf> {
    filters.map(|filter| filter.to_buf()).collect()
}
