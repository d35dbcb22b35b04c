use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use damselfly_codec::{EncodeError, Properties, PropertiesBuf, Property};

use super::exchange::{ClientExchange, ScramError, Verifier};
use super::{METHOD, nonce};

/// The client's side of one user, over as many connections and re-authentications as there are.
///
/// A client asks for its connect parameters at each attempt, and each needs an exchange of its own: share a `Login`
/// between the [provider](crate::client::Provider), which [begins](Login::begin), and whoever hears the client's events.
pub struct Login {
    user: String,
    password: String,
    state: Mutex<State>,
}

enum State {
    Idle,
    Begun(ClientExchange),
    Answered(Verifier),
}

/// Why there are no properties to send.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The other side, or the user name.
    #[error(transparent)]
    Scram(#[from] ScramError),
    /// The system has no randomness.
    #[error(transparent)]
    Nonce(#[from] io::Error),
    /// Longer than a property may be.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Login {
    /// A user that has said nothing yet.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned(), state: Mutex::new(State::Idle) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an exchange, whatever became of the last: the properties of CONNECT.
    pub fn begin(&self) -> Result<PropertiesBuf, LoginError> {
        let mut properties = PropertiesBuf::new();
        properties.push(Property::AuthenticationMethod(METHOD))?;
        properties.extend(self.begin_again()?.as_properties())?;
        Ok(properties)
    }

    /// Begins a re-authentication: the properties that the client sends beside the method it knows.
    pub fn begin_again(&self) -> Result<PropertiesBuf, LoginError> {
        let (exchange, first) = ClientExchange::new(&self.user, &nonce()?)?;
        *self.state() = State::Begun(exchange);
        data(&first)
    }

    /// Answers the server's step. Slow: this is where a password is stretched.
    pub fn answer(&self, step: Properties<'_>) -> Result<PropertiesBuf, LoginError> {
        let State::Begun(exchange) = std::mem::replace(&mut *self.state(), State::Idle) else {
            return Err(ScramError::Malformed.into());
        };
        let (verifier, last) = exchange.respond(&self.password, step.authentication_data().unwrap_or_default())?;
        *self.state() = State::Answered(verifier);
        data(&last)
    }

    /// Checks that the server, which says that all is well, knows the user too.
    pub fn verify(&self, last: Properties<'_>) -> Result<(), LoginError> {
        let State::Answered(verifier) = std::mem::replace(&mut *self.state(), State::Idle) else {
            return Err(ScramError::WrongServer.into());
        };
        Ok(verifier.verify(last.authentication_data().unwrap_or_default())?)
    }
}

fn data(message: &str) -> Result<PropertiesBuf, LoginError> {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationData(message.as_bytes()))?;
    Ok(properties)
}
