//! The four messages, without the network.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The least iterations a client accepts and a user gets: RFC 7677, section 4.
pub const LEAST_ITERATIONS: u32 = 4_096;
/// The most iterations a client lets a server ask of it.
const MOST_ITERATIONS: u32 = 600_000;
/// Bytes of one message: a client that is not authenticated yet makes the server keep two.
const MAX_MESSAGE: usize = 1_024;
/// What a client without channel binding begins with, and what it says of it later.
const NO_BINDING: &str = "n,,";

type Key = [u8; 32];

/// Why an exchange cannot go on. Nothing in it comes from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not a message that may come here.
    #[error("not the SCRAM message expected")]
    Malformed,
    /// A user name or password with other characters than printable ASCII, or none.
    #[error("user names and passwords are printable ASCII here")]
    NotAscii,
    /// The nonce is not the one of this exchange: a message of another is repeated.
    #[error("a nonce of another exchange")]
    Nonce,
    /// Fewer iterations than are safe, or more than are bearable.
    #[error("iterations out of range")]
    Iterations,
    /// Wrong password or no such user: nobody is told which.
    #[error("not authenticated")]
    Refused,
    /// The server does not know what it must know about the password.
    #[error("the server is not the one that knows this user")]
    WrongServer,
}

/// What a server stores of a password: enough to check who knows it, too little to log in with elsewhere.
#[derive(Clone)]
pub struct Credentials {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

impl Credentials {
    /// Made once, when the password is set; slow on purpose. `salt` is random and the user's own.
    pub fn new(password: &str, salt: &[u8], iterations: u32) -> Result<Self, ScramError> {
        check_text(password)?;
        if iterations < LEAST_ITERATIONS {
            return Err(ScramError::Iterations);
        }
        let keys = Keys::new(password, salt, iterations);
        let stored_key = Sha256::digest(keys.client).into();
        Ok(Self { salt: salt.into(), iterations, stored_key, server_key: keys.server })
    }

    /// What stands in for a user that does not exist: the same for the same name, known to nobody.
    pub(super) fn decoy(secret: &Key, user: &str) -> Self {
        let key = |purpose: &str| hmac(&hmac(secret, user.as_bytes()), purpose.as_bytes());
        let salt = key("salt").iter().take(16).copied().collect();
        Self { salt, iterations: LEAST_ITERATIONS, stored_key: key("stored"), server_key: key("server") }
    }
}

struct Keys {
    client: Key,
    server: Key,
}

impl Keys {
    fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted: Key = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations);
        Self { client: hmac(&salted, b"Client Key"), server: hmac(&salted, b"Server Key") }
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn hmac(key: &[u8], text: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn xor(one: &Key, other: &Key) -> Key {
    let mut both = *one;
    both.iter_mut().zip(other).for_each(|(byte, other)| *byte ^= other);
    both
}

fn check_text(text: &str) -> Result<(), ScramError> {
    let is_printable = !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_printable { Ok(()) } else { Err(ScramError::NotAscii) }
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b',')
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MAX_MESSAGE {
        return Err(ScramError::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed)
}

fn decode(encoded: &str) -> Result<Vec<u8>, ScramError> {
    STANDARD.decode(encoded).map_err(|_| ScramError::Malformed)
}

/// The server between its first message and the client's last.
pub struct ServerExchange {
    user: String,
    credentials: Credentials,
    nonce: String,
    /// The client's first message without its head, and ours.
    so_far: String,
    first: String,
}

impl ServerExchange {
    /// Begins with the client's first message. `find` has the credentials of a user, or what stands in for them; `nonce`
    /// was never used before.
    pub fn new(client_first: &[u8], nonce: &str, find: impl FnOnce(&str) -> Credentials) -> Result<Self, ScramError> {
        let bare = text(client_first)?.strip_prefix(NO_BINDING).ok_or(ScramError::Malformed)?;
        let (name, client_nonce) = bare.split_once(",r=").ok_or(ScramError::Malformed)?;
        let user = unescape(name.strip_prefix("n=").ok_or(ScramError::Malformed)?)?;
        if !is_nonce(client_nonce) {
            return Err(ScramError::Malformed);
        }
        let credentials = find(&user);
        let nonce = format!("{client_nonce}{nonce}");
        let first = format!("r={nonce},s={},i={}", STANDARD.encode(&credentials.salt), credentials.iterations);
        Ok(Self { user, nonce, so_far: format!("{bare},{first}"), first, credentials })
    }

    /// The server's first message.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Checks the client's last message: who it is, and the server's last message.
    pub fn finish(self, client_final: &[u8]) -> Result<(String, String), ScramError> {
        let (without_proof, proof) = text(client_final)?.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let binding = format!("c={},r=", STANDARD.encode(NO_BINDING));
        let nonce = without_proof.strip_prefix(&binding).ok_or(ScramError::Malformed)?;
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }
        let proof: Key = decode(proof)?.try_into().map_err(|_| ScramError::Malformed)?;
        let signed = format!("{},{without_proof}", self.so_far);
        let client_key = xor(&proof, &hmac(&self.credentials.stored_key, signed.as_bytes()));
        let stored_key: Key = Sha256::digest(client_key).into();
        if !bool::from(stored_key.ct_eq(&self.credentials.stored_key)) {
            return Err(ScramError::Refused);
        }
        let signature = hmac(&self.credentials.server_key, signed.as_bytes());
        Ok((self.user, format!("v={}", STANDARD.encode(signature))))
    }
}

/// The client before the server's first message.
pub struct ClientExchange {
    bare: String,
    nonce: String,
}

/// The client before the server's last message.
pub struct Verifier {
    signature: Key,
}

impl ClientExchange {
    /// Begins an exchange; `nonce` was never used before. With it the client's first message.
    pub fn new(user: &str, nonce: &str) -> Result<(Self, String), ScramError> {
        check_text(user)?;
        if !is_nonce(nonce) {
            return Err(ScramError::Malformed);
        }
        let bare = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        let first = format!("{NO_BINDING}{bare}");
        Ok((Self { bare, nonce: nonce.into() }, first))
    }

    /// Answers the server's first message with the client's last. Slow: as many iterations as the server says.
    pub fn respond(self, password: &str, server_first: &[u8]) -> Result<(Verifier, String), ScramError> {
        check_text(password)?;
        let first = text(server_first)?;
        let mut fields = first.split(',');
        let mut field = |name| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(ScramError::Malformed);
        let (nonce, salt, iterations) = (field("r=")?, decode(field("s=")?)?, field("i=")?);
        if !is_nonce(nonce) || nonce == self.nonce || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err(ScramError::Iterations);
        }
        let keys = Keys::new(password, &salt, iterations);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(NO_BINDING));
        let signed = format!("{},{first},{without_proof}", self.bare);
        let stored_key: Key = Sha256::digest(keys.client).into();
        let proof = xor(&keys.client, &hmac(&stored_key, signed.as_bytes()));
        let signature = hmac(&keys.server, signed.as_bytes());
        Ok((Verifier { signature }, format!("{without_proof},p={}", STANDARD.encode(proof))))
    }
}

impl Verifier {
    /// Checks the server's last message.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        let signature = decode(text(server_final)?.strip_prefix("v=").ok_or(ScramError::WrongServer)?)?;
        if bool::from(signature.ct_eq(&self.signature)) { Ok(()) } else { Err(ScramError::WrongServer) }
    }
}

/// A user name without its escapes.
fn unescape(name: &str) -> Result<String, ScramError> {
    let mut parts = name.split('=');
    let mut user = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(ScramError::Malformed),
        };
        user.push(sign);
        user.push_str(rest);
    }
    if name.contains(',') {
        return Err(ScramError::Malformed);
    }
    check_text(&user)?;
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn credentials(password: &str) -> Credentials {
        Credentials::new(password, &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(), 4_096).unwrap()
    }

    fn server(client_first: &str) -> Result<ServerExchange, ScramError> {
        ServerExchange::new(client_first.as_bytes(), SERVER_NONCE, |_| credentials("pencil"))
    }

    #[test]
    fn both_sides_say_what_rfc_7677_says() {
        let (client, first) = ClientExchange::new("user", CLIENT_NONCE).unwrap();
        assert_eq!(first, CLIENT_FIRST);
        let server = server(&first).unwrap();
        assert_eq!(server.first(), SERVER_FIRST);
        let (verifier, last) = client.respond("pencil", server.first().as_bytes()).unwrap();
        assert_eq!(last, CLIENT_FINAL);
        let (user, last) = server.finish(last.as_bytes()).unwrap();
        assert_eq!((&*user, &*last), ("user", SERVER_FINAL));
        assert_eq!(verifier.verify(last.as_bytes()), Ok(()));
    }

    #[test]
    fn a_password_a_proof_or_a_nonce_that_is_another_is_refused() {
        let finish = |last: &str| server(CLIENT_FIRST).unwrap().finish(last.as_bytes()).map(|_| ());
        let other = ServerExchange::new(CLIENT_FIRST.as_bytes(), SERVER_NONCE, |_| credentials("pencil2")).unwrap();
        assert_eq!(other.finish(CLIENT_FINAL.as_bytes()), Err(ScramError::Refused));
        assert_eq!(finish(&CLIENT_FINAL.replace("p=d", "p=e")), Err(ScramError::Refused));
        assert_eq!(finish(&CLIENT_FINAL.replace("NlF$k0", "NlF$k1")), Err(ScramError::Nonce));
        for last in [
            "",
            "c=biws",
            &CLIENT_FINAL.replace("biws", "eSws"),
            &CLIENT_FINAL.replace("VQ=", "VQ"),
            "c=biws,r=,p=AA==",
        ] {
            assert!(matches!(finish(last), Err(ScramError::Malformed | ScramError::Nonce)), "{last}");
        }
    }

    #[test]
    fn a_client_trusts_no_server_that_does_not_know_the_user_or_asks_too_little_or_too_much() {
        let respond = |first: &str| {
            let (client, _) = ClientExchange::new("user", CLIENT_NONCE).unwrap();
            client.respond("pencil", first.as_bytes()).map(|_| ())
        };
        assert_eq!(respond(&SERVER_FIRST.replace("r=rO", "r=rP")), Err(ScramError::Nonce));
        assert_eq!(respond(&format!("r={CLIENT_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")), Err(ScramError::Nonce));
        assert_eq!(respond(&SERVER_FIRST.replace("4096", "4095")), Err(ScramError::Iterations));
        assert_eq!(respond(&SERVER_FIRST.replace("4096", "600001")), Err(ScramError::Iterations));
        assert_eq!(respond(&SERVER_FIRST.replace("4096", "many")), Err(ScramError::Malformed));
        let (client, _) = ClientExchange::new("user", CLIENT_NONCE).unwrap();
        let (verifier, _) = client.respond("pencil", SERVER_FIRST.as_bytes()).unwrap();
        let forged = SERVER_FINAL.replace("6rri", "7rri");
        assert_eq!(verifier.verify(forged.as_bytes()), Err(ScramError::WrongServer));
    }

    #[test]
    fn names_are_escaped_and_checked() {
        let (_, first) = ClientExchange::new("a=b,c", CLIENT_NONCE).unwrap();
        assert_eq!(first, format!("n,,n=a=3Db=2Cc,r={CLIENT_NONCE}"));
        assert_eq!(server(&first).unwrap().user, "a=b,c");
        for name in ["n=a=b", "n=", "n=gr\u{fc}n", "m=x,n=a", "a", "n=a,b"] {
            assert!(server(&format!("n,,{name},r=nonce")).is_err(), "{name}");
        }
        for first in
            ["y,,n=a,r=n", "p=tls-unique,,n=a,r=n", "n,a=other,n=a,r=n", "n,,n=a,r=", "n,,n=a,r=b,c=d", "n,,n=a"]
        {
            assert!(server(first).is_err(), "{first}");
        }
        assert!(ClientExchange::new("", CLIENT_NONCE).is_err() && ClientExchange::new("a", "b,c").is_err());
        assert!(Credentials::new("\u{7f}", b"salt", 4_096).is_err() && Credentials::new("a", b"salt", 4_095).is_err());
    }

    #[test]
    fn a_message_has_1_024_bytes_at_most() {
        let first = |len: usize| format!("n,,n=user,r={}", "x".repeat(len - 12));
        assert!(server(&first(1_024)).is_ok());
        assert_eq!(server(&first(1_025)).map(|_| ()), Err(ScramError::Malformed));
    }

    #[test]
    fn who_does_not_exist_has_a_salt_of_his_own_that_does_not_change() {
        let salt = |name| Credentials::decoy(&[7; 32], name).salt;
        assert_eq!(salt("alice"), salt("alice"));
        assert_ne!(salt("alice"), salt("bob"));
        assert_eq!(salt("alice").len(), 16);
    }
}
