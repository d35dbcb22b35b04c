//! Slow questions: they leave as an output with an id and return as an input with the answer.

use alloc::{boxed::Box, sync::Arc};

use damselfly_codec::{QoS, ReasonCode, Version};

use crate::{Access, ConnectionId, Peer};

/// What the core asks the embedding program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// May this client connect, and as whom? [MQTT-3.1.4-2]
    Connect {
        /// The connection.
        connection: ConnectionId,
        /// Where it comes from.
        peer: Peer,
        /// The protocol version.
        version: Version,
        /// The Client Identifier; empty if it leaves the choice to us.
        client_id: Box<str>,
        /// The User Name.
        user_name: Option<Box<str>>,
        /// The Password.
        password: Option<Secret>,
        /// Authentication Method and Authentication Data of enhanced authentication. [MQTT-4.12]
        authentication: Option<AuthenticationStep>,
    },
    /// The next step of enhanced authentication. [MQTT-4.12]
    Authenticate {
        /// The connection.
        connection: ConnectionId,
        /// Method and data.
        step: AuthenticationStep,
        /// A re-authentication of an accepted client. [MQTT-4.12.1]
        re_authentication: bool,
    },
    /// May this client publish to this topic?
    Publish {
        /// The Client Identifier.
        client_id: Box<str>,
        /// The Topic Name.
        topic: Box<str>,
        /// The QoS.
        qos: QoS,
        /// The RETAIN flag.
        retain: bool,
    },
    /// May this client subscribe to this filter?
    Subscribe {
        /// The Client Identifier.
        client_id: Box<str>,
        /// The Topic Filter, without `$share/{ShareName}/`.
        filter: Box<str>,
        /// The requested QoS.
        qos: QoS,
    },
}

/// Authentication Method and Authentication Data of a CONNECT or AUTH packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationStep {
    /// The Authentication Method.
    pub method: Box<str>,
    /// The Authentication Data.
    pub data: Option<Secret>,
}

/// Bytes that no log shows: `Debug` says that they are there and nothing else.
///
/// ```
/// use damselfly_broker::Secret;
///
/// let password = Secret::from(&b"rose bud"[..]);
/// assert_eq!(password.as_bytes(), b"rose bud");
/// assert_eq!(format!("{password:?}"), "Secret(hidden)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The bytes, to compare them with what is known of them, in constant time.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Yes, with what comes with it. For `Publish` and `Subscribe` the grant is not looked at.
    Allow(Grant),
    /// No. The code is sent to 5.0 clients if it fits the packet, and mapped for 3.1.1.
    Deny(ReasonCode),
    /// No, go there: CONNACK with [`ReasonCode::UseAnotherServer`] or [`ReasonCode::ServerMoved`] and a Server
    /// Reference; 3.1.1 clients get return code 3. For a re-authentication the same in DISCONNECT; no answer to `Publish`
    /// and `Subscribe`. Also a command: [`Broker::redirect`](crate::Broker::redirect). [MQTT-4.11]
    Redirect {
        /// Moved for good (`0x9D`) or for now (`0x9C`).
        permanent: bool,
        /// Where to.
        server_reference: Box<str>,
    },
    /// One more step of enhanced authentication: AUTH with this Authentication Data. [MQTT-4.12.0-2]
    Continue(Option<Box<[u8]>>),
}

impl Answer {
    /// Yes, as an anonymous client that may do everything.
    pub fn allow() -> Self {
        Self::Allow(Grant::default())
    }
}

/// What an accepted client is and may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Who it is. A session belongs to the principal that made it; `None` is the one anonymous principal.
    pub principal: Option<Arc<str>>,
    /// What it may publish and subscribe; `None` is everything. What a session had before and these rules do not permit
    /// ends: see [`Broker::set_access`](crate::Broker::set_access).
    pub access: Option<Arc<Access>>,
    /// Authentication Data for the CONNACK or AUTH that ends enhanced authentication.
    pub authentication_data: Option<Box<[u8]>>,
}
