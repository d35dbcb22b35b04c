#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod access;
mod acks;
mod audit;
mod broker;
mod budget;
mod close;
mod commands;
mod config;
mod connect;
mod connections;
mod control;
mod deliver;
mod filter_set;
mod gate;
mod held;
mod information;
mod input;
mod local;
mod lookup;
mod members;
mod messages;
mod output;
mod pressure;
mod publish;
mod query;
mod question;
mod questions;
mod resend;
mod retained;
mod route;
mod rules;
mod sessions;
mod shards;
mod share;
mod slab;
mod subscribe;
mod verbatim;
mod waiting;
mod write;

/// The crates whose types this one speaks in.
#[doc(no_inline)]
pub use {damselfly_codec as codec, damselfly_session as session, damselfly_topic as topic};

#[doc(no_inline)]
pub use damselfly_codec::{
    DecodeError, Delivery, Frame, Properties, PropertiesBuf, Property, Publish, QoS, ReasonCode, RetainHandling,
    SubscriptionId, SubscriptionOptions, Version,
};
#[doc(no_inline)]
pub use damselfly_session::{Message, PeerError, SessionExpiry, Timestamp};
#[doc(no_inline)]
pub use damselfly_topic::{TopicError, TopicFilter, TopicName};

pub use access::{Access, Action, Permission};
pub use audit::Drift;
pub use broker::{Broker, Refused};
pub use config::{Config, ConfigError, MAX_TOPIC_LEVELS, WhenFull};
pub use information::ProblemInformation;
pub use local::{ClientIdInUse, Published};
pub use output::{
    AckToken, CommitId, ConnectionId, DropReason, Event, Forward, Intake, Interest, LocalDelivery, LocalId, Output,
    Peer, QuestionId, ShardId, Why,
};
pub use query::{Counters, Memory, SessionView, SubscriptionView};
pub use question::{Answer, AuthenticationStep, Grant, Question, Secret};

#[cfg(test)]
mod tests;
