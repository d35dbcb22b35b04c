//! What a password file keeps of a password, and whether a password is the one.

use std::fmt;
use std::io;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use crate::scram::random;

/// Memory one verification may take, in KiB: a line of the file must not be able to use up the machine's.
pub const MAX_ARGON2_MEMORY: u32 = 256 * 1024;
/// Passes over that memory.
pub const MAX_ARGON2_PASSES: u32 = 64;
/// Lanes, which are filled one after the other here.
pub const MAX_ARGON2_LANES: u32 = 16;
/// Iterations of PBKDF2.
pub const MAX_ITERATIONS: u32 = 10_000_000;
/// Bytes of a salt.
pub const MAX_SALT: usize = 64;
/// Bytes of a password: the longest that CONNECT can carry.
pub const MAX_PASSWORD: usize = 65_535;

/// SHA-512 makes so many bytes.
const SHA512_LEN: usize = 64;

/// A password as a file keeps it: its hash with the salt, and how the one was made of the other. `Debug` shows only that.
///
/// ```
/// use damselfly_examples::guard::PasswordHash;
///
/// let hash = PasswordHash::new(b"rose bud")?;
/// assert!(hash.to_string().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
/// assert!(hash.verify(b"rose bud"));
/// assert!(!hash.verify(b"rose-bud"));
/// assert_eq!(hash.to_string().parse::<PasswordHash>().as_ref(), Ok(&hash));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// RFC 9106: memory in KiB, passes, lanes.
    Argon2id { memory: u32, passes: u32, lanes: u32 },
    /// `$7$` of mosquitto: RFC 8018 with HMAC-SHA-512.
    Pbkdf2 { iterations: u32 },
    /// `$6$` of mosquitto: SHA-512 of the password and the salt behind it. Fast, and so only as good as the password.
    Sha512,
}

/// Why a text is no password hash. It says nothing of what the text contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// None of the three forms.
    #[error(
        "this is no hash of a password. It must begin with $argon2id$, $7$ or $6$; mqtt passwd FILE USER writes such a \
         line"
    )]
    Unknown,
    /// Another Argon2.
    #[error("of the kinds of Argon2 only $argon2id$ is accepted; mqtt passwd FILE USER writes such a line")]
    OtherArgon2,
    /// Too few parts or too many.
    #[error("the hash has not the parts it must have, which are {0}")]
    Parts(&'static str),
    /// A number is none or too large.
    #[error("the {name} of the hash must be a number from {least} to {most}")]
    Number {
        /// What it counts.
        name: &'static str,
        /// The least it may be.
        least: u32,
        /// The most it may be.
        most: u32,
    },
    /// Not Base64, or of another length.
    #[error("the {name} of the hash must be {least} to {most} bytes in Base64")]
    Bytes {
        /// Which part.
        name: &'static str,
        /// The fewest bytes.
        least: usize,
        /// The most bytes.
        most: usize,
    },
}

impl PasswordHash {
    /// Hashes a password anew: argon2id with 19 MiB, two passes, one lane and a salt of 16 bytes. An error means that the
    /// system has no randomness.
    pub fn new(password: &[u8]) -> io::Result<Self> {
        let scheme = Scheme::Argon2id {
            memory: Params::DEFAULT_M_COST,
            passes: Params::DEFAULT_T_COST,
            lanes: Params::DEFAULT_P_COST,
        };
        let salt: Box<[u8]> = random::<16>()?.into();
        let mut hash = vec![0; Params::DEFAULT_OUTPUT_LEN].into_boxed_slice();
        if compute(scheme, &salt, password, &mut hash, &mut Vec::new()) {
            Ok(Self { scheme, salt, hash })
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        }
    }

    /// Whether it was made of this password, which takes as long either way.
    pub fn verify(&self, password: &[u8]) -> bool {
        self.verify_in(password, &mut Vec::new())
    }

    /// The same with memory that is used again.
    pub(super) fn verify_in(&self, password: &[u8], memory: &mut Vec<Block>) -> bool {
        let mut hash = vec![0; self.hash.len()];
        let is_made = compute(self.scheme, &self.salt, password, &mut hash, memory);
        is_made && bool::from(hash.ct_eq(&self.hash))
    }
}

/// Whether the hash could be computed.
fn compute(scheme: Scheme, salt: &[u8], password: &[u8], hash: &mut [u8], memory: &mut Vec<Block>) -> bool {
    match scheme {
        Scheme::Argon2id { memory: kib, passes, lanes } => {
            let Ok(params) = Params::new(kib, passes, lanes, Some(hash.len())) else { return false };
            if memory.len() < params.block_count() {
                memory.resize(params.block_count(), Block::default());
            }
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into_with_memory(password, salt, hash, memory).is_ok()
        }
        Scheme::Pbkdf2 { iterations } => {
            pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, hash);
            true
        }
        Scheme::Sha512 => {
            let digest = Sha512::new().chain_update(password).chain_update(salt).finalize();
            hash.copy_from_slice(&digest);
            true
        }
    }
}

impl std::str::FromStr for PasswordHash {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Self, PasswordError> {
        let rest = text.strip_prefix('$').ok_or(PasswordError::Unknown)?;
        let (name, rest) = rest.split_once('$').ok_or(PasswordError::Unknown)?;
        match name {
            "argon2id" => argon2id(rest),
            "argon2i" | "argon2d" => Err(PasswordError::OtherArgon2),
            "7" => {
                let [iterations, salt, hash] = parts(rest, "$7$ITERATIONS$SALT$HASH")?;
                let iterations = number("iterations", iterations, 1, MAX_ITERATIONS)?;
                Self::of_sha512(Scheme::Pbkdf2 { iterations }, salt, hash)
            }
            "6" => {
                let [salt, hash] = parts(rest, "$6$SALT$HASH")?;
                Self::of_sha512(Scheme::Sha512, salt, hash)
            }
            _ => Err(PasswordError::Unknown),
        }
    }
}

impl PasswordHash {
    fn of_sha512(scheme: Scheme, salt: &str, hash: &str) -> Result<Self, PasswordError> {
        let salt = bytes("salt", STANDARD.decode(salt).ok(), 1, MAX_SALT)?;
        let hash = bytes("end", STANDARD.decode(hash).ok(), SHA512_LEN, SHA512_LEN)?;
        Ok(Self { scheme, salt, hash })
    }
}

/// The PHC string behind `$argon2id$`.
fn argon2id(rest: &str) -> Result<PasswordHash, PasswordError> {
    const PARTS: &str = "$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH";
    let [version, costs, salt, hash] = parts(rest, PARTS)?;
    if version != "v=19" {
        return Err(PasswordError::Parts(PARTS));
    }
    let costs: Vec<&str> = costs.split(',').collect();
    let [memory, passes, lanes] = costs[..] else { return Err(PasswordError::Parts(PARTS)) };
    let cost = |text: &str, key, name, least, most| {
        number(name, text.strip_prefix(key).ok_or(PasswordError::Parts(PARTS))?, least, most)
    };
    let lanes = cost(lanes, "p=", "lanes (p)", 1, MAX_ARGON2_LANES)?;
    let scheme = Scheme::Argon2id {
        memory: cost(memory, "m=", "memory in KiB (m)", 8 * lanes, MAX_ARGON2_MEMORY)?,
        passes: cost(passes, "t=", "passes (t)", 1, MAX_ARGON2_PASSES)?,
        lanes,
    };
    let salt = bytes("salt", STANDARD_NO_PAD.decode(salt).ok(), argon2::MIN_SALT_LEN, MAX_SALT)?;
    let hash = bytes("end", STANDARD_NO_PAD.decode(hash).ok(), 16, 64)?;
    Ok(PasswordHash { scheme, salt, hash })
}

fn parts<'a, const N: usize>(rest: &'a str, form: &'static str) -> Result<[&'a str; N], PasswordError> {
    rest.split('$').collect::<Vec<_>>().try_into().map_err(|_| PasswordError::Parts(form))
}

fn number(name: &'static str, text: &str, least: u32, most: u32) -> Result<u32, PasswordError> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok()).filter(|number| (least..=most).contains(number));
    number.ok_or(PasswordError::Number { name, least, most })
}

fn bytes(name: &'static str, decoded: Option<Vec<u8>>, least: usize, most: usize) -> Result<Box<[u8]>, PasswordError> {
    let bytes = decoded.filter(|bytes| (least..=most).contains(&bytes.len()));
    bytes.map(Into::into).ok_or(PasswordError::Bytes { name, least, most })
}

/// As it stands in a file.
impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match self.scheme {
            Scheme::Argon2id { memory, passes, lanes } => {
                write!(f, "$argon2id$v=19$m={memory},t={passes},p={lanes}$")?;
                STANDARD_NO_PAD
            }
            Scheme::Pbkdf2 { iterations } => {
                write!(f, "$7${iterations}$")?;
                STANDARD
            }
            Scheme::Sha512 => {
                f.write_str("$6$")?;
                STANDARD
            }
        };
        write!(f, "{}${}", engine.encode(&self.salt), engine.encode(&self.hash))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({:?}, hidden)", self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "c29tZXNhbHQ";

    fn error(text: &str) -> String {
        text.parse::<PasswordHash>().unwrap_err().to_string()
    }

    /// Of the reference implementation's tests: "password" and "somesalt".
    #[test]
    fn argon2id_is_as_the_reference_has_it() {
        let text = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        let hash: PasswordHash = text.parse().unwrap();
        assert!(hash.verify(b"password"));
        assert!(!hash.verify(b"Password") && !hash.verify(b""));
        assert_eq!(hash.to_string(), text);
        // Memory that served a larger one before changes nothing.
        let mut memory = vec![Block::default(); 1024];
        assert!(hash.verify_in(b"password", &mut memory) && hash.verify_in(b"password", &mut memory));
    }

    #[test]
    fn a_hash_that_is_made_has_a_salt_of_its_own_and_shows_nothing() {
        let [one, other] = [(); 2].map(|()| PasswordHash::new(b"rose bud").unwrap());
        assert_ne!(one, other);
        assert!(one.verify(b"rose bud") && other.verify(b"rose bud"));
        let shown = format!("{one:?}");
        assert_eq!(shown, "PasswordHash(Argon2id { memory: 19456, passes: 2, lanes: 1 }, hidden)");
    }

    #[test]
    fn what_is_no_hash_says_what_would_be_right_and_nothing_of_what_it_is() {
        let hash = STANDARD_NO_PAD.encode([7; 32]);
        let long = STANDARD.encode([7; 64]);
        let argon2 = |costs: &str| format!("$argon2id$v=19${costs}${SALT}${hash}");
        for (text, expected) in [
            ("hidden".to_owned(), "must begin with $argon2id$, $7$ or $6$"),
            (String::new(), "must begin with"),
            ("$5$hidden$hidden".to_owned(), "must begin with"),
            (format!("$argon2i$v=19$m=256,t=2,p=1${SALT}${hash}"), "only $argon2id$"),
            (format!("$argon2id$m=256,t=2,p=1${SALT}${hash}"), "$argon2id$v=19$m=KIB"),
            (format!("$argon2id$v=16$m=256,t=2,p=1${SALT}${hash}"), "$argon2id$v=19$m=KIB"),
            (argon2("t=2,m=256,p=1"), "$argon2id$v=19$m=KIB"),
            (argon2("m=256,t=2"), "$argon2id$v=19$m=KIB"),
            (argon2("m=7,t=2,p=1"), "memory in KiB (m) of the hash must be a number from 8 to 262144"),
            (argon2("m=262145,t=2,p=1"), "from 8 to 262144"),
            (argon2("m=256,t=0,p=1"), "passes (t) of the hash must be a number from 1 to 64"),
            (argon2("m=256,t=65,p=1"), "from 1 to 64"),
            (argon2("m=256,t=+2,p=1"), "from 1 to 64"),
            (argon2("m=256,t=2,p=17"), "lanes (p) of the hash must be a number from 1 to 16"),
            (argon2("m=127,t=2,p=16"), "from 128 to"),
            (format!("$argon2id$v=19$m=256,t=2,p=1$hidden$${hash}"), "$argon2id$v=19$m=KIB"),
            (format!("$argon2id$v=19$m=256,t=2,p=1$c2hvcnQ${hash}"), "salt of the hash must be 8 to 64 bytes"),
            (format!("$argon2id$v=19$m=256,t=2,p=1${SALT}$hidden!"), "end of the hash must be 16 to 64 bytes"),
            (format!("$7$0${SALT}=${long}"), "iterations of the hash must be a number from 1 to 10000000"),
            (format!("$7$10000001${SALT}=${long}"), "from 1 to 10000000"),
            (format!("$7${SALT}=${long}"), "$7$ITERATIONS$SALT$HASH"),
            (format!("$6$$${long}"), "$6$SALT$HASH"),
            (format!("$6$${long}"), "salt of the hash must be 1 to 64 bytes"),
            (format!("$6${SALT}=${hash}"), "end of the hash must be 64 to 64 bytes"),
        ] {
            let error = error(&text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hidden") && !error.contains(SALT), "{error}");
        }
        for text in [argon2("m=8,t=1,p=1"), argon2("m=262144,t=64,p=16"), format!("$7$10000000${SALT}=${long}")] {
            assert_eq!(text.parse::<PasswordHash>().map(|hash| hash.to_string()), Ok(text));
        }
    }
}
