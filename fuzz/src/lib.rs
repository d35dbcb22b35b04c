//! What the fuzz targets assert. The models and the laws are those of the crates' own tests.
#![forbid(unsafe_code)]

#[path = "../../crates/codec/tests/it/build.rs"]
mod build;
#[expect(dead_code, reason = "the fuzzer takes the place of the strategy")]
#[path = "../../crates/codec/tests/it/dice.rs"]
mod dice;
#[path = "../../crates/codec/tests/it/encoding.rs"]
mod encoding;
#[path = "../../crates/codec/tests/it/laws.rs"]
mod laws;
#[path = "../../crates/codec/tests/it/notation.rs"]
mod notation;
#[path = "../../crates/topic/tests/it/oracle.rs"]
mod oracle;
#[path = "../../crates/codec/tests/it/reference.rs"]
mod reference;
#[expect(dead_code, reason = "seeds are made of the bytes alone")]
#[path = "../../crates/codec/tests/it/vectors.rs"]
mod vectors;

pub mod broker_model;
mod bytes;
pub mod client_broker;
pub mod decode;
pub mod roundtrip;
pub mod seeds;
pub mod splits;
pub mod topic_oracle;
mod topic_tables;

use damselfly_codec::Version;

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5_0];
