//! The programs and drivers of this crate, from socket to socket.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod access;
mod auth;
mod bad_input;
mod broker_program;
mod client_cancel;
mod client_driver;
mod client_end;
mod client_interop;
mod client_streams;
mod conformance;
mod diagram;
mod embed_broker;
mod embed_client;
mod home;
mod home_simulate;
mod inspect;
mod limits;
mod mqtt;
mod mqtt_ask;
mod network;
mod passwd;
mod promises;
mod recording;
mod scram;
mod settings;
mod support;
mod tls;
mod tls_client;
mod traffic;
mod unix;
mod waker;
mod web;
mod websocket;
mod websocket_client;
