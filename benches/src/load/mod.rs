//! The loads.

pub mod fleet;
pub mod random;
