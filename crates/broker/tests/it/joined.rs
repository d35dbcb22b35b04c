//! The tests about delivery once more: over two joined brokers, with every other client at the second.
//!
//! `groups` is not among them: whose turn it is in a share group depends on who has room, which is not known of another
//! broker's members. `shards` says what they get instead.
#![expect(clippy::duplicate_mod, reason = "one test, two worlds: each file finds its `World` in the module above it")]

#[path = "backlog.rs"]
mod backlog;
#[path = "delivery.rs"]
mod delivery;
#[path = "exchanges.rs"]
mod exchanges;
#[path = "gate.rs"]
mod gate;
#[path = "order.rs"]
mod order;
#[path = "retained.rs"]
mod retained;
#[path = "rows.rs"]
mod rows;
#[path = "sessions.rs"]
mod sessions;
#[path = "small_rules.rs"]
mod small_rules;
#[path = "subscriptions.rs"]
mod subscriptions;
#[path = "waiting.rs"]
mod waiting;
#[path = "wills.rs"]
mod wills;

mod world {
    pub(crate) use crate::world::*;

    pub(crate) type World = AnyWorld<true>;
}
