//! The client driver: a TCP socket, with or without WebSocket, a clock and a handle around [`damselfly_client::Client`].
//!
//! [`Client::connect`] spawns a task that owns the socket; the handle and the task share the core behind a lock that is
//! never held across an await. Enqueueing is synchronous, so nothing here can wait for the application, and dropping a
//! future changes nothing: a [`Completion`] only tells what became of its ticket.
//!
//! ```no_run
//! use damselfly_client::{Config, QoS, SubscriptionOptions, TopicFilter};
//! use damselfly_codec::Properties;
//! use damselfly_examples::client::{Client, Drain, Endpoint, Inbox, Options};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options::new(Endpoint::new("localhost", 1883), Config::new("greenhouse-7"));
//! let (client, events) = Client::connect(options);
//! events.detach(); // connections come and go, and nobody here wants to know
//! let filter = (TopicFilter::new("greenhouse/7/window")?, SubscriptionOptions::default());
//! let mut window = client.subscribe(&[filter], Properties::EMPTY, Inbox::default())?;
//!
//! let message =
//!     client.message("greenhouse/7/temperature", b"21.5", QoS::AtLeastOnce, false, Properties::EMPTY)?;
//! let outcome = client.publish(message)?.await;
//! println!("{outcome}");
//! if let Some(inbound) = window.next().await {
//!     println!("{}", inbound.message.topic());
//! }
//! let left = client.close(Drain::within(std::time::Duration::from_secs(5))).await;
//! println!("{} messages were not sent", left.unsent);
//! # Ok(())
//! # }
//! ```

mod driver;
mod events;
mod handle;
mod input;
mod options;
mod pending;
mod socket;
mod state;
mod streams;
mod subscription;

pub use events::Events;
pub use handle::{Client, SubscribeError};
pub use options::{Asked, Drain, Endpoint, EndpointError, Inbox, Options, Overflow, Provider};
pub use pending::{Closing, Completion, Enqueue, Left, Response};
pub use subscription::Subscription;

pub use crate::transport::{ClientTls, TlsError};

/// A handle goes wherever the application does.
const _: () = {
    const fn is_shared<T: Clone + Send + Sync>() {}
    is_shared::<Client>();
};
