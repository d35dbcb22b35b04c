//! Ours and the others behind one face each: codecs and topic matchers.

pub mod codec;
pub mod matcher;
#[cfg(feature = "rivals")]
pub mod rival_codecs;
#[cfg(feature = "rivals")]
pub mod rival_matchers;
