//! Tests of what the crate's parts share.

mod full;
mod text;
