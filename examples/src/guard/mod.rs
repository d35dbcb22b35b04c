//! Who may come in, and what they may do: a password file, a file of access rules, and the patience for failed logins.
//!
//! [`Guard`] answers a broker's questions by them. Passwords are slow to verify on purpose, so threads of its own do it;
//! the broker's thread only hands out and collects. Many failed logins from one address wait longer and longer for their
//! answers and are limited in number, while everybody else is served as ever. [`Reloader`] reads the files anew while
//! clients stay.
//!
//! ```no_run
//! use damselfly_broker::{Broker, Config};
//! use damselfly_examples::broker::{Driver, Settings};
//! use damselfly_examples::guard::{Guard, Limits, Policy, Sources};
//!
//! let mut sources = Sources::default();
//! sources.password_file = Some("users".into());
//! sources.access_file = Some("rules".into());
//! match Policy::load(&sources) {
//!     Ok(policy) => {
//!         let guard = Guard::new(policy, Limits::default())?;
//!         let driver = Driver::new(Broker::new(Config::default(), 42)?, guard, Settings::default())?;
//!         driver.run()?;
//!     }
//!     Err(mistakes) => mistakes.iter().for_each(|mistake| eprintln!("{mistake}")),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod attempts;
mod file;
mod gate;
mod mistake;
mod password;
mod policy;
mod reload;
mod users;
mod worker;

use std::time::Duration;

pub use access::{AccessRules, Refused};
pub use attempts::{MEMORY, Origin};
pub use file::{EditError, edit};
pub use gate::Guard;
pub use mistake::{MAX_FILE_BYTES, WrongFile, WrongLine};
pub use password::{
    MAX_ARGON2_LANES, MAX_ARGON2_MEMORY, MAX_ARGON2_PASSES, MAX_ITERATIONS, MAX_PASSWORD, MAX_SALT, PasswordError,
    PasswordHash,
};
pub use policy::{Policy, Sources};
pub use reload::Reloader;
pub use users::{NameError, User, Users, check_name};
pub use worker::{MAX_VERIFIED, VERIFIED_FOR};

/// What logins may cost, and how long failed ones wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Threads that verify passwords, at least one. Each may need [`MAX_ARGON2_MEMORY`], and 19 MiB for the hashes that
    /// `mqtt passwd` makes.
    pub login_threads: u32,
    /// Logins that wait for a thread, of all addresses together. One more is told to come back later: Reason Code 0x89
    /// (3.1.1: return code 3).
    pub max_queued_logins: u32,
    /// The same of one address, those under way and those that wait for the answer that they failed among them.
    pub max_logins_per_address: u32,
    /// The same of an address where a login has failed within [`MEMORY`].
    pub max_logins_after_failure: u32,
    /// How long the answer to the first failed login of an address waits; each further one waits twice as long.
    pub failed_login_delay: Duration,
    /// The most that it waits. The core's `question_timeout` must be longer: it says no in its own words.
    pub max_failed_login_delay: Duration,
    /// Addresses whose failed logins are remembered; beyond, the one that failed longest ago is forgotten.
    pub max_failing_addresses: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_threads: 2,
            max_queued_logins: 1_024,
            max_logins_per_address: 64,
            max_logins_after_failure: 16,
            failed_login_delay: Duration::from_millis(250),
            max_failed_login_delay: Duration::from_secs(5),
            max_failing_addresses: 65_536,
        }
    }
}
