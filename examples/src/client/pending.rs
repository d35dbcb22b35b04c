//! The futures of requests. Each may be dropped at any time: what it tells about goes on.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use damselfly_client::{InboundMessage, Outcome, Refused, Ticket, UsageError};
use damselfly_session::Message;

use super::{handle::Client, state::Shared};

/// What becomes of one request: a future that may be dropped without effect.
#[must_use = "the request is under way already; await it to know what became of it"]
pub struct Completion {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Completion {
    pub(super) const fn new(shared: Arc<Shared>, ticket: Ticket) -> Self {
        Self { shared, ticket }
    }

    /// The request's name.
    pub const fn ticket(&self) -> Ticket {
        self.ticket
    }
}

/// May be polled again after its end: the outcome stays what it is.
impl Future for Completion {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.shared.lock().poll_outcome(self.ticket, context)
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.shared.lock().forget_outcome(self.ticket);
    }
}

/// The response to a [request](Client::request): a future that may be dropped without effect.
#[must_use = "the request is under way already; await it to have its response"]
pub struct Response(pub(super) Completion);

impl Response {
    /// The request's name.
    pub const fn ticket(&self) -> Ticket {
        self.0.ticket()
    }
}

/// The response, or what else became of the request.
impl Future for Response {
    type Output = Result<Box<InboundMessage>, Outcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| match outcome {
            Outcome::Response(message) => Ok(message),
            outcome => Err(outcome),
        })
    }
}

/// Hands a message in as soon as there is room for it. Dropped before that, the message is not sent.
#[must_use = "the message is handed in when this is awaited"]
pub struct Enqueue<'a> {
    client: &'a Client,
    message: Option<Message>,
    waiter: Option<u64>,
}

impl<'a> Enqueue<'a> {
    pub(super) const fn new(client: &'a Client, message: Message) -> Self {
        Self { client, message: Some(message), waiter: None }
    }
}

impl Future for Enqueue<'_> {
    type Output = Result<Completion, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Polled after its end: there is nothing more to come.
        let Some(message) = self.message.take() else { return Poll::Pending };
        match self.client.publish_or_wait(message, &mut self.waiter, context) {
            Err(refused) if is_lack_of_room(refused.why) => {
                self.message = Some(refused.message);
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }
}

impl Drop for Enqueue<'_> {
    fn drop(&mut self) {
        if self.waiter.is_some() {
            self.client.shared().lock().wait_no_more(self.waiter);
        }
    }
}

/// Whether a message was refused for the moment only.
pub(super) const fn is_lack_of_room(why: UsageError) -> bool {
    matches!(why, UsageError::QueueFull | UsageError::OutboxFull)
}

/// What [`Client::close`] left without a known end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Messages that were never sent.
    pub unsent: usize,
    /// Messages and requests that were sent, and nobody knows what became of them.
    pub indeterminate: usize,
}

impl Left {
    /// Has everything found its end?
    pub const fn is_nothing(self) -> bool {
        self.unsent == 0 && self.indeterminate == 0
    }
}

/// The end of a client that is being [closed](Client::close): a future that may be dropped without effect.
pub struct Closing {
    shared: Arc<Shared>,
    waiter: Option<u64>,
}

impl Closing {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiter: None }
    }
}

/// Ready when the last byte is written or given up.
impl Future for Closing {
    type Output = Left;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Left> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.is_ended {
            return Poll::Ready(state.left);
        }
        state.wait(&mut self.waiter, context);
        Poll::Pending
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.shared.lock().wait_no_more(self.waiter);
    }
}
