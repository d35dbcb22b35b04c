//! The stream of one subscription.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use damselfly_client::{InboundMessage, Outcome};
use futures::Stream;

use super::{handle::Handle, pending::Completion, streams::StreamId};

/// The messages of one [`subscribe`](super::Client::subscribe), as far as they fit into its [`Inbox`](super::Inbox).
///
/// It ends when none of its filters is left, because the broker refused them or they were unsubscribed, and when the
/// client is closed. Dropping it unsubscribes from those filters that nobody else of this client wants; what waits in it
/// is dropped, and refused with Reason Code `0x97` if the application would have to acknowledge it.
pub struct Subscription {
    handle: Arc<Handle>,
    id: StreamId,
    granted: Completion,
}

impl Subscription {
    pub(super) const fn new(handle: Arc<Handle>, id: StreamId, granted: Completion) -> Self {
        Self { handle, id, granted }
    }

    /// What the broker answered: [`Outcome::Subscribed`] with one result per filter, or why it was not asked. Cancel-safe,
    /// and may be asked again.
    pub async fn granted(&mut self) -> Outcome {
        (&mut self.granted).await
    }

    /// The next message, `None` at the end. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<InboundMessage> {
        poll_fn(|context| self.poll_message(context)).await
    }

    /// How many messages were dropped because the inbox was full.
    pub fn dropped(&self) -> u64 {
        self.handle.shared.lock().streams.dropped(self.id)
    }

    /// Ends the stream and stays subscribed: its messages, those that wait too, come among the
    /// [`Events`](super::Events). For a session that is to go on collecting when this process has ended.
    pub fn detach(self) {
        self.handle.act(|state| state.detach_stream(self.id));
    }

    fn poll_message(&self, context: &Context<'_>) -> Poll<Option<InboundMessage>> {
        self.handle.shared.poll(|state| state.poll_stream(self.id, context))
    }
}

impl Stream for Subscription {
    type Item = InboundMessage;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<InboundMessage>> {
        self.poll_message(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.act(|state| state.close_stream(self.id));
    }
}
