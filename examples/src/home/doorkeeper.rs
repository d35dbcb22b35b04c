//! Who may connect to the broker of the house.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use damselfly_broker::{Answer, ConnectionId, Event, Grant, LocalDelivery, LocalId, Question, QuestionId};
use damselfly_codec::ReasonCode;
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;
use subtle::ConstantTimeEq;

use super::house::devices;
use super::member::password;
use crate::broker::{AllowAll, Entrance, Host, Waker};

/// Knows the users of the house: each device is one, by its Client Identifier, with a password of its own. Others may come
/// without a name, such as the page, but not as one of the devices. All else it leaves to the host inside.
#[derive(Debug)]
pub struct Doorkeeper<H = AllowAll> {
    passwords: BTreeMap<String, String>,
    inner: H,
}

impl<H> Doorkeeper<H> {
    /// For the house with this [secret](super::Settings::secret).
    pub fn new(secret: u64, inner: H) -> Self {
        let passwords = devices().into_iter().map(|device| (device.id.clone(), password(secret, &device.id))).collect();
        Self { passwords, inner }
    }

    fn is_welcome(&self, client_id: &str, user_name: Option<&str>, secret: Option<&[u8]>) -> bool {
        match user_name {
            None => !self.passwords.contains_key(client_id),
            Some(name) => {
                let known = self.passwords.get(name).map_or("", String::as_str);
                let is_right: bool = known.as_bytes().ct_eq(secret.unwrap_or_default()).into();
                is_right && !known.is_empty()
            }
        }
    }
}

impl<H: Host> Host for Doorkeeper<H> {
    fn attach(&mut self, waker: Waker) {
        self.inner.attach(waker);
    }

    fn start(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.inner.start(broker, now);
    }

    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        self.inner.answer(id, question)
    }

    fn admit(&mut self, id: QuestionId, question: &Question, entrance: &Entrance) -> Option<Answer> {
        let Question::Connect { client_id, user_name, password, authentication: None, .. } = question else {
            return self.inner.admit(id, question, entrance);
        };
        let secret = password.as_ref().map(damselfly_broker::Secret::as_bytes);
        if !self.is_welcome(client_id, user_name.as_deref(), secret) {
            return Some(Answer::Deny(ReasonCode::BadUserNameOrPassword));
        }
        let mut grant = Grant::default();
        grant.principal = user_name.as_deref().map(Into::into);
        Some(Answer::Allow(grant))
    }

    fn event(&mut self, event: &Event, address: Option<SocketAddr>) {
        self.inner.event(event, address);
    }

    fn deliver(&mut self, broker: &mut RecordedBroker, now: Timestamp, local: LocalId, delivery: LocalDelivery) {
        self.inner.deliver(broker, now, local, delivery);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        self.inner.poll_timeout()
    }

    fn handle_timeout(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.inner.handle_timeout(broker, now);
    }

    fn woken(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.inner.woken(broker, now);
    }

    fn observes(&self) -> bool {
        self.inner.observes()
    }

    fn heard(&mut self, now: Timestamp, connection: ConnectionId, packets: &[u8]) {
        self.inner.heard(now, connection, packets);
    }

    fn said(&mut self, now: Timestamp, connection: ConnectionId, bytes: &[u8]) {
        self.inner.said(now, connection, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_need_their_own_password_and_guests_must_not_be_devices() {
        let keeper = Doorkeeper::new(7, AllowAll);
        let secret = password(7, "hall-lock");
        let other = password(7, "phone");
        for (client_id, user_name, secret, is_welcome) in [
            ("hall-lock", Some("hall-lock"), Some(secret.as_str()), true),
            ("hall-lock", Some("hall-lock"), Some("let me in"), false),
            ("hall-lock", Some("hall-lock"), Some(other.as_str()), false),
            ("hall-lock", Some("hall-lock"), Some(""), false),
            ("hall-lock", Some("hall-lock"), None, false),
            ("hall-lock", Some("nobody"), Some(""), false),
            ("hall-lock", None, None, false),
            ("page-7", None, None, true),
        ] {
            assert_eq!(keeper.is_welcome(client_id, user_name, secret.map(str::as_bytes)), is_welcome, "{client_id}");
        }
        assert_ne!(secret, password(8, "hall-lock"), "another secret, another house");
    }
}
