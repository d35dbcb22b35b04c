//! The client driver: a TCP socket, a clock and a handle around [`damselfly_client::Client`].
//!
//! [`Client::connect`] spawns a task that owns the socket; the handle and the task share the core behind a lock that is
//! never held across an await. Enqueueing is synchronous, so nothing here can wait for the application, and dropping a
//! future changes nothing: a [`Completion`] only tells what became of its ticket.
//!
//! ```no_run
//! use damselfly_client::{Config, Event};
//! use damselfly_codec::{Properties, QoS};
//! use damselfly_examples::client::{Client, Endpoint, Options};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new(Endpoint::new("localhost", 1883), Config::new("greenhouse-7"));
//! let (client, mut events) = Client::connect(options);
//! let message =
//!     client.message("greenhouse/7/temperature", b"21.5", QoS::AtLeastOnce, false, Properties::EMPTY)?;
//! let outcome = client.publish(message)?.await;
//! println!("{outcome:?}");
//! while let Some(event) = events.next().await {
//!     if let Event::Message(inbound) = event {
//!         println!("{}", inbound.message.topic());
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod driver;
mod handle;

pub use handle::{Client, Completion, Endpoint, Events, Options, Provider};
