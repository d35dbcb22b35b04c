use std::net::SocketAddr;

use damselfly_broker::{Answer, ConnectionId, Event, LocalDelivery, LocalId, Question, QuestionId};
use damselfly_codec::ReasonCode;
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;

use super::Waker;

/// The program around a broker core: answers its questions and hears what it reports.
///
/// Every method has a default, so that a program writes only what it cares about.
pub trait Host {
    /// Called once, before [`start`](Host::start): with it another thread has [`woken`](Host::woken) called.
    fn attach(&mut self, _waker: Waker) {}

    /// Called once, before the first connection: the place to open local participants.
    fn start(&mut self, _broker: &mut RecordedBroker, _now: Timestamp) {}

    /// Who is this, may it? By default everything is allowed, but no Authentication Method is known. `None` leaves the
    /// question open: another method may answer it later by [`RecordedBroker::handle_answer`]; until the core's deadline, which
    /// means no.
    fn answer(&mut self, _id: QuestionId, question: &Question) -> Option<Answer> {
        match question {
            // Success would say that the client was authenticated by it. [MQTT-4.12.0-1]
            Question::Connect { authentication: Some(_), .. } | Question::Authenticate { .. } => {
                Some(Answer::Deny(ReasonCode::BadAuthenticationMethod))
            }
            _ => Some(Answer::allow()),
        }
    }

    /// The same for the question of a CONNECT, [`Question::Connect`], with where it came in. By default
    /// [`answer`](Host::answer) is asked.
    fn admit(&mut self, id: QuestionId, question: &Question, _entrance: &Entrance) -> Option<Answer> {
        self.answer(id, question)
    }

    /// Something happened that an operator may want to know. With the peer's address where the event is about a connection that
    /// still stands.
    fn event(&mut self, _event: &Event, _address: Option<SocketAddr>) {}

    /// A message for a local participant.
    fn deliver(&mut self, _broker: &mut RecordedBroker, _now: Timestamp, _local: LocalId, _delivery: LocalDelivery) {}

    /// When the host wants [`handle_timeout`](Host::handle_timeout).
    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// The time asked for has come.
    fn handle_timeout(&mut self, _broker: &mut RecordedBroker, _now: Timestamp) {}

    /// Another thread used the [`Waker`]: what it has for the broker, such as the answer to a question, can be told to it.
    fn woken(&mut self, _broker: &mut RecordedBroker, _now: Timestamp) {}

    /// Whether [`heard`](Host::heard) and [`said`](Host::said) are to be called: always the same answer, so that a host which
    /// says no, as by default, costs nothing.
    fn observes(&self) -> bool {
        false
    }

    /// What the core took from a connection: whole packets, one after the other. A password may be among it.
    fn heard(&mut self, _now: Timestamp, _connection: ConnectionId, _packets: &[u8]) {}

    /// What was written to a connection: packets one after the other, cut anywhere.
    fn said(&mut self, _now: Timestamp, _connection: ConnectionId, _bytes: &[u8]) {}
}

/// Where a connection came in, and who it is by the way in which it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entrance {
    /// Which listener, counted from 0 in the order in which the driver was told to listen.
    pub listener: u16,
    /// The name in the certificate that the client showed, which is valid and of a CA of the listener's clients: the Common
    /// Name, or the first DNS name if there is none. `None` without a certificate, or without TLS.
    pub certificate_name: Option<String>,
}

/// A host that lets everybody do everything, without enhanced authentication, and ignores events.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Host for AllowAll {}
