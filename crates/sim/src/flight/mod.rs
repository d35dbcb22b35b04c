//! A flight recorder: what a core was told, in a file that plays again.
//!
//! A core's outputs follow from its config, its seed and its inputs. [`RecordedBroker`] and [`RecordedClient`] stand in for
//! the cores in any driver and write all of these to a [`Tape`]; [`Recording`] reads them and plays them to a fresh core. So
//! the file that comes with a bug report is a unit test:
//!
//! ```
//! use damselfly_sim::flight::Recording;
//!
//! # let text = "damselfly flight recording 1\ncore broker\nconfig {}\nseed 42\nend\n";
//! let recording: Recording = text.parse()?; // include_str!("bug.flight")
//! let replay = recording.replay()?;
//! assert!(replay.differences.is_empty(), "{}", replay.differences[0]);
//! assert_eq!(replay.broker().map(|broker| broker.connections_len()), Some(0));
//! # Ok::<(), damselfly_sim::flight::ReadError>(())
//! ```
//!
//! # What is in it
//!
//! Everything that peers sent and the application asked for, payloads, topics, User Names and Client Identifiers among it,
//! and the seed that keyed the core's hashing. Passwords and Authentication Data are not: each byte of them is an `x`, in
//! recorded input as in what the application said, however many pieces they came in. A core does not look at them; what it
//! was answered about them is recorded. A CONNECT, CONNACK or AUTH that is broken is overwritten from there to its end. Where
//! a secret stands is told by the lengths and flags before it: one that these announce as something else, as a broken packet
//! may, is recorded as that.
//!
//! # Form
//!
//! A line each: the title with the number of the form, the kind of core, its config as JSON, its seed, then what happened.
//! A call begins with the microseconds since the call before, negative if time went back, and ends with what the core
//! answered. Bytes stand in quotes: printable ASCII as it is, the rest as `\` and two digits. What the core said is its name
//! and a number for all of it; of bytes it sent the number is that of `transmitted`.
//!
//! ```text
//! damselfly flight recording 1
//! core broker
//! config {"max_connections":1000000}
//! seed 42
//! 1763835600000000 connection 127.0.0.1:50100 = 1
//! 210 input 1 0 "\10\0d\00\04MQTT\04\02\00<\00\01a" = 15 0 1
//! said Ask a42e0b401fda0044
//! 0 answer 1 allow - - - - 0
//! said Transmit e217c48fdc24f8f1
//! said Event.Connected 9faf9898b0038ec8
//! said Resume c35a83d4f324c53c
//! quiet
//! 35 transmitted 1 4 = 3c7cff74cd46847f
//! end
//! ```
//!
//! The numbers are of this release's words for its outputs: a release that has other words for one plays the same inputs and
//! sees a difference there.

mod broker;
mod broker_call;
mod client;
mod client_call;
mod packets;
mod player;
mod recording;
mod redact;
mod replay;
mod rules;
mod said;
mod stream;
mod tape;
mod text;

pub use broker::RecordedBroker;
pub use client::RecordedClient;
pub use recording::{Ending, ReadError, Recording};
pub use replay::{Difference, Replay, Step};
pub use tape::{Memory, Tape};
