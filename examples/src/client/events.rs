//! What happens to a client, in order, and the messages that no subscription's stream takes.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use damselfly_client::Event;
use futures::Stream;

use super::{handle::Handle, pending::Closing};

/// What happens, in order: connections and their ends, and the messages that no [`Subscription`](super::Subscription)
/// takes. Outcomes of requests go to their [`Completion`](super::Completion).
///
/// Whoever does not look loses nothing but the oldest of more than 1,024 events that are no messages; messages wait, and
/// too many of them pause reading.
pub struct Events {
    handle: Arc<Handle>,
    is_detached: bool,
}

impl Events {
    pub(super) const fn new(handle: Arc<Handle>) -> Self {
        Self { handle, is_detached: false }
    }

    /// The next event, `None` after [`Event::Closed`]. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// Passes over what is left and waits until the last byte is written or given up. Call
    /// [`Client::close`](super::Client::close) before. Dropping the future drops the events, which ends the client at once.
    pub async fn join(mut self) {
        while self.next().await.is_some() {}
        let _ = Closing::new(Arc::clone(&self.handle.shared)).await;
    }

    /// Lets the client run without anybody who looks at its events. A message that no subscription's stream takes is
    /// dropped, and refused with Reason Code `0x97` if the application would have to acknowledge it.
    pub fn detach(mut self) {
        self.is_detached = true;
        self.handle.act(super::state::State::drop_events);
    }

    fn poll_event(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        self.handle.shared.poll(|state| state.poll_event(context))
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
        if !self.is_detached {
            self.handle.act(|state| {
                state.close_now();
                state.drop_events();
            });
        }
    }
}
