//! The codec against the wire vectors of `testdata`, a naive encoder, and generated packets.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests say what they missed")]

mod build;
mod crossed;
mod dice;
mod encoding;
mod exhaustive;
mod generated;
mod laws;
mod notation;
mod offsets;
mod reference;
mod render;

mod table;
mod values;
mod vectors;
