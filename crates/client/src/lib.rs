//! A sans-IO MQTT client: one state machine for one session over many connections.
#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod application;
mod audit;
mod backoff;
mod calls;
mod client;
mod closing;
mod config;
mod connect;
mod connection;
mod error;
mod event;
mod in_flight;
mod inbound;
mod operation;
mod outbox;
mod queue;
mod receive;
mod requests;
mod restore;
mod send;
mod server;

/// The crates whose types this one speaks in.
#[doc(no_inline)]
pub use {damselfly_codec as codec, damselfly_session as session, damselfly_topic as topic};

#[doc(no_inline)]
pub use damselfly_codec::{
    Delivery, Properties, PropertiesBuf, Property, Publish, QoS, ReasonCode, RetainHandling, SubscriptionId,
    SubscriptionOptions, Version,
};
#[doc(no_inline)]
pub use damselfly_session::{Message, SessionExpiry, Timestamp};
#[doc(no_inline)]
pub use damselfly_topic::{TopicError, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf};

pub use audit::Drift;
pub use backoff::Backoff;
pub use client::{Client, Intake, Unfinished};
pub use config::{Acknowledgement, CleanStart, Config, LostSession, OutboxConfig, OverflowPolicy, QueueConfig};
pub use connect::{ConnectParameters, Will};
pub use error::{ConnectionEnd, Refused, TransportLost, UsageError};
pub use event::{
    AckToken, Connected, DropReason, Event, InboundMessage, IndeterminateReason, NeedTransport, Outcome, Output,
    Refusal, SessionStatus, Ticket, UnansweredReason,
};
pub use operation::{Operation, OperationError};
pub use outbox::CommitId;
pub use restore::{Misfit, RestoreError};
pub use server::ServerLimits;
