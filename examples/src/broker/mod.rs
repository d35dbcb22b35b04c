//! A broker core over TCP: one thread, one core, one task that owns every connection.
//!
//! ```text
//!            readiness                 bytes                    outputs
//! sockets ------------> [Ready] ----> Broker::handle_input ----> dirty connections ---> one vectored write each
//!                         turn: everything that is ready now                  end of the turn
//! ```
//!
//! A *turn* handles whatever is ready, then writes. What makes it fast is that nothing is done per message: a read takes all that
//! has arrived (one call per readiness event, into a buffer that all connections share), the core handles every whole frame in it, and
//! what it has to say to a connection leaves in one call at the end. What makes it small is that a connection owns a buffer only
//! while half a frame waits in it.

mod connection;
mod driver;
mod host;
mod listener;
mod ready;

pub use driver::{Driver, Settings};
pub use host::{AllowAll, Host};
