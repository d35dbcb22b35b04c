use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use damselfly_broker::{Answer, AuthenticationStep, ConnectionId, Event, Grant, Question, QuestionId, Secret};
use damselfly_codec::ReasonCode;

use super::exchange::{Credentials, ScramError, ServerExchange};
use super::{METHOD, nonce, random};
use crate::broker;

/// Lets in who authenticates by SCRAM-SHA-256, as the principal of that name. Everything else is permitted to them.
pub struct Host {
    users: HashMap<String, Credentials>,
    /// Makes up credentials for users that do not exist, so that nobody learns who does.
    decoys: [u8; 32],
    /// One for each connection that has said one thing of two.
    exchanges: HashMap<ConnectionId, ServerExchange>,
}

impl Host {
    /// Nobody is known yet. An error means that the system has no randomness.
    pub fn new() -> io::Result<Self> {
        Ok(Self { users: HashMap::new(), decoys: random()?, exchanges: HashMap::new() })
    }

    /// Makes a user known, or gives it another password.
    pub fn set_user(&mut self, name: &str, credentials: Credentials) {
        self.users.insert(name.to_owned(), credentials);
    }

    /// Exchanges that wait for the client's last message.
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// What the broker answers to a step: the second of a connection ends its exchange, well or not.
    fn step(&mut self, connection: ConnectionId, step: &AuthenticationStep) -> Answer {
        if &*step.method != METHOD {
            return Answer::Deny(ReasonCode::BadAuthenticationMethod);
        }
        let data = step.data.as_ref().map_or(&[][..], Secret::as_bytes);
        let result = match self.exchanges.remove(&connection) {
            None => self.begin(connection, data),
            Some(exchange) => exchange.finish(data).map(|(user, last)| {
                let mut grant = Grant::default();
                grant.principal = Some(user.into());
                grant.authentication_data = Some(last.into_bytes().into());
                Answer::Allow(grant)
            }),
        };
        result.unwrap_or(Answer::Deny(ReasonCode::NotAuthorized))
    }

    fn begin(&mut self, connection: ConnectionId, data: &[u8]) -> Result<Answer, ScramError> {
        let nonce = nonce().map_err(|_| ScramError::Refused)?;
        let exchange = ServerExchange::new(data, &nonce, |name| {
            self.users.get(name).cloned().unwrap_or_else(|| Credentials::decoy(&self.decoys, name))
        })?;
        let first = exchange.first().as_bytes().into();
        self.exchanges.insert(connection, exchange);
        Ok(Answer::Continue(Some(first)))
    }
}

impl broker::Host for Host {
    fn answer(&mut self, _id: QuestionId, question: &Question) -> Option<Answer> {
        Some(match question {
            Question::Connect { connection, authentication: Some(step), .. }
            | Question::Authenticate { connection, step, .. } => self.step(*connection, step),
            // A password in the clear is none.
            Question::Connect { .. } => Answer::Deny(ReasonCode::NotAuthorized),
            _ => Answer::allow(),
        })
    }

    fn event(&mut self, event: &Event, _address: Option<SocketAddr>) {
        if let Event::Disconnected { connection, .. } = event {
            self.exchanges.remove(connection);
        }
    }
}
