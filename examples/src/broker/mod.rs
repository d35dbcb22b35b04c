//! A broker core over TCP or Unix sockets, with or without TLS and WebSocket: one thread, one core, all its connections.
//!
//! ```text
//!        readiness                   bytes                  outputs
//! epoll -----------> connections ------------> Broker ------------------> dirty connections ---> one write each
//!                     turn: everything that is ready                     end of the turn
//! ```
//!
//! A *turn* handles whatever is ready, then writes. What makes it fast is that nothing is done per message: a read takes
//! what has arrived (one call per readiness event, into a buffer that all connections share, at most as much as turns
//! take lightly), the core handles every whole frame in it, and what it has to say to a connection leaves in one call at the end. What makes it small is that
//! a connection owns a buffer only while half a frame waits in it.
//!
//! The sockets are registered with an epoll instance of the driver's own and not with an asynchronous runtime: the
//! speed is the same, but a runtime keeps some 370 bytes for each socket, as much as everything else a connection costs
//! here. Whatever is slow and rare (signals, a question to a user database) belongs into a runtime in another thread.

mod connection;
mod driver;
mod heard;
mod host;
mod listener;
mod listening;
mod observe;
mod pace;
mod poller;
mod refusals;
mod seldom;
mod settings;
mod socket;

pub use driver::{Driver, Network};
pub use host::{AllowAll, Entrance, Host};
pub use listening::{ListenAddress, Listening};
pub use poller::{Stop, Waker};
pub use settings::Settings;

pub use crate::transport::{
    Origin, OriginError, Origins, PATH as WEBSOCKET_PATH, ServerTls, ServerTlsFiles, TlsError, TransportKind,
};
