use std::fmt;
use std::net::SocketAddr;

use damselfly_broker::{Answer, Event, Question, QuestionId, Why};
use damselfly_examples::broker::{Entrance, Host, Waker};
use damselfly_examples::guard::Guard;
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;

/// Logs what happens: who came, who was sent away and why, what was dropped. No payload, no password.
#[derive(Debug)]
pub(crate) struct Log(Guard);

impl Log {
    pub(crate) fn new(guard: Guard) -> Self {
        Self(guard)
    }
}

impl Host for Log {
    fn attach(&mut self, waker: Waker) {
        self.0.attach(waker);
    }

    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        self.0.answer(id, question)
    }

    fn admit(&mut self, id: QuestionId, question: &Question, entrance: &Entrance) -> Option<Answer> {
        self.0.admit(id, question, entrance)
    }

    fn event(&mut self, event: &Event, address: Option<SocketAddr>) {
        self.0.event(event, address);
        record(event, address);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.0.poll_timeout()
    }

    fn handle_timeout(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.0.handle_timeout(broker, now);
    }

    fn woken(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.0.woken(broker, now);
    }
}

/// Text that a client chose, as a Rust literal, so that it cannot forge a line, and cut short, so that it cannot fill a disk.
struct Chosen<'a>(&'a str);

/// The most bytes of a client's text in a line.
const SHOWN: usize = 128;

impl fmt::Debug for Chosen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= SHOWN {
            return write!(f, "{:?}", self.0);
        }
        let end = (0..=SHOWN).rev().find(|&at| self.0.is_char_boundary(at)).unwrap_or(0);
        write!(f, "{:?}... ({} bytes)", &self.0[..end], self.0.len())
    }
}

pub(crate) fn record(event: &Event, address: Option<SocketAddr>) {
    let address = address.map(tracing::field::display);
    match event {
        Event::Connected { client_id, version, session_present, .. } => {
            tracing::info!(client_id = ?Chosen(client_id), address, %version, session_present, "connected");
        }
        Event::Disconnected { client_id, why, .. } => {
            let client_id = client_id.as_deref().map(|text| tracing::field::debug(Chosen(text)));
            match why {
                Why::Malformed(_) | Why::PeerError(_) | Why::Refused(_) | Why::ConnectTimeout => {
                    tracing::warn!(client_id, address, %why, "connection closed");
                }
                _ => tracing::info!(client_id, address, %why, "disconnected"),
            }
        }
        Event::Dropped { client_id, topic, reason, count } => {
            let client_id = client_id.as_deref().map(|text| tracing::field::debug(Chosen(text)));
            tracing::warn!(client_id, topic = ?Chosen(topic), %reason, count, "messages dropped");
        }
        Event::SessionEnded { client_id, discarded } => {
            tracing::debug!(client_id = ?Chosen(client_id), discarded, "session ended");
        }
        Event::Subscribed { client_id, filter, qos } => {
            tracing::debug!(client_id = ?Chosen(client_id), filter = ?Chosen(filter), ?qos, "subscribed");
        }
        Event::Unsubscribed { client_id, filter } => {
            tracing::debug!(client_id = ?Chosen(client_id), filter = ?Chosen(filter), "unsubscribed");
        }
        Event::WillPublished { client_id, topic } => {
            tracing::info!(client_id = ?Chosen(client_id), topic = ?Chosen(topic), "will published");
        }
        other => tracing::debug!(event = ?other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_chose_is_escaped_and_cut_short_between_characters() {
        assert_eq!(format!("{:?}", Chosen("a\nb")), r#""a\nb""#);
        let at_the_limit = "x".repeat(SHOWN);
        assert_eq!(format!("{:?}", Chosen(&at_the_limit)), format!("{at_the_limit:?}"));
        // The last character that would fit starts inside the limit and ends behind it.
        let beyond = format!("{}\u{e9}", "x".repeat(SHOWN - 1));
        assert_eq!(format!("{:?}", Chosen(&beyond)), format!("\"{}\"... (129 bytes)", "x".repeat(SHOWN - 1)));
    }
}
