use std::net::SocketAddr;

use damselfly_broker::{Answer, Event, Question, QuestionId, Why};
use damselfly_examples::broker::Host;

use crate::rules::Rules;

/// Logs what happens: who came, who was sent away and why, what was dropped. No payload, no password.
#[derive(Clone, Debug)]
pub(crate) struct Log(Rules);

impl Log {
    pub(crate) fn new(rules: Rules) -> Self {
        Self(rules)
    }
}

impl Host for Log {
    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        self.0.answer(id, question)
    }

    fn event(&mut self, event: &Event, address: Option<SocketAddr>) {
        record(event, address);
    }
}

/// Text that a client chose is logged as a Rust literal, so that it cannot forge a line.
pub(crate) fn record(event: &Event, address: Option<SocketAddr>) {
    let address = address.map(tracing::field::display);
    match event {
        Event::Connected { client_id, version, session_present, .. } => {
            tracing::info!(?client_id, address, %version, session_present, "connected");
        }
        Event::Disconnected { client_id, why, .. } => {
            let client_id = client_id.as_ref().map(tracing::field::debug);
            match why {
                Why::Malformed(_) | Why::PeerError(_) | Why::Refused(_) | Why::ConnectTimeout => {
                    tracing::warn!(client_id, address, %why, "connection closed");
                }
                _ => tracing::info!(client_id, address, %why, "disconnected"),
            }
        }
        Event::Dropped { client_id, topic, reason, count } => {
            tracing::warn!(?client_id, ?topic, %reason, count, "messages dropped");
        }
        Event::SessionEnded { client_id, discarded } => tracing::debug!(?client_id, discarded, "session ended"),
        Event::Subscribed { client_id, filter, qos } => tracing::debug!(?client_id, ?filter, ?qos, "subscribed"),
        Event::Unsubscribed { client_id, filter } => tracing::debug!(?client_id, ?filter, "unsubscribed"),
        Event::WillPublished { client_id, topic } => tracing::info!(?client_id, ?topic, "will published"),
        other => tracing::debug!(event = ?other),
    }
}
