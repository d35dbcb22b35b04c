//! SCRAM-SHA-256 over MQTT's enhanced authentication: RFC 5802 and RFC 7677 in AUTH packets.
//!
//! ```text
//! client                                                     broker
//!   | CONNECT  n,,n=user,r=<nonce>                             |  Question::Connect
//!   |--------------------------------------------------------->|
//!   |       AUTH 0x18  r=<both nonces>,s=<salt>,i=<iterations> |  Answer::Continue
//!   |<---------------------------------------------------------|
//!   | AUTH 0x18  c=biws,r=<both nonces>,p=<proof>              |  Question::Authenticate
//!   |--------------------------------------------------------->|
//!   |                              CONNACK  v=<signature>      |  Answer::Allow
//!   |<---------------------------------------------------------|
//! ```
//!
//! The client shows that it knows the password, the broker that it knows what was made of the password, and neither says
//! it. The broker stores no passwords, does no slow hashing, and answers for users that do not exist as for others. The
//! same four steps in AUTH packets authenticate an accepted client anew.
//!
//! [`Host`] answers a broker's questions with it, [`Login`] is the client's side; both speak in bytes and know nothing of
//! each other. User names and passwords are printable ASCII here, which SASLprep leaves as it is.

mod exchange;
mod host;
mod login;

pub use exchange::{ClientExchange, Credentials, LEAST_ITERATIONS, ScramError, ServerExchange, Verifier};
pub use host::Host;
pub use login::{Login, LoginError};

/// The Authentication Method.
pub const METHOD: &str = "SCRAM-SHA-256";

/// A number that was never used before and that nobody can foresee, as text.
pub fn nonce() -> std::io::Result<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    Ok(STANDARD.encode(random::<18>()?))
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // So few bytes come whole or not at all.
    let len = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if len == N { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
