//! The tests about delivery once more: over two joined brokers, with every other client at the second.
#![expect(clippy::duplicate_mod, reason = "one test, two worlds: each file finds its `World` in the module above it")]

#[path = "backlog.rs"]
mod backlog;
#[path = "delivery.rs"]
mod delivery;
#[path = "exchanges.rs"]
mod exchanges;
#[path = "order.rs"]
mod order;
#[path = "retained.rs"]
mod retained;
#[path = "subscriptions.rs"]
mod subscriptions;
#[path = "wills.rs"]
mod wills;

mod world {
    pub(crate) use crate::world::*;

    pub(crate) type World = AnyWorld<true>;
}
