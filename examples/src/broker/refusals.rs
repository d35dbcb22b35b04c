use std::fmt::Display;
use std::io;
use std::net::SocketAddr;

use damselfly_session::Timestamp;

use super::seldom::Seldom;
use crate::transport::Problem;

/// Says whose connection was ended for what came over it. Whoever wants to can have that happen all the time: each kind is
/// said once in a while.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    certificates: Seldom,
    tls: Seldom,
    websocket: Seldom,
    broken: Seldom,
}

impl Refusals {
    /// A handshake did not come about.
    pub(super) fn handshake(&mut self, now: Timestamp, address: Option<SocketAddr>, error: &io::Error) {
        match problem(error) {
            Some(problem) if problem.is_of_certificate() => {
                return tell(&mut self.certificates, now, address, error, "refused: no handshake of TLS");
            }
            Some(_) => return tell(&mut self.tls, now, address, error, "refused: no handshake of TLS"),
            None => {}
        }
        tell(&mut self.websocket, now, address, error, "refused: no handshake of WebSocket");
    }

    /// What came behind the handshake was wrong.
    pub(super) fn broken(&mut self, now: Timestamp, address: Option<SocketAddr>, error: &io::Error) {
        if problem(error).is_some() {
            return tell(&mut self.tls, now, address, error, "closed: this is not TLS as it should be");
        }
        tell(&mut self.broken, now, address, error, "closed: this is not MQTT over WebSocket");
    }
}

/// What is wrong with TLS, if it is that.
fn problem(error: &io::Error) -> Option<&Problem> {
    error.get_ref()?.downcast_ref()
}

fn tell(seldom: &mut Seldom, now: Timestamp, address: Option<SocketAddr>, error: &dyn Display, what: &str) {
    let address = address.map(tracing::field::display);
    match seldom.is_time(now) {
        Some(0) => tracing::warn!(address, %error, "{what}"),
        Some(before) => tracing::warn!(address, %error, before, "{what}"),
        None => tracing::debug!(address, %error, "{what}"),
    }
}
