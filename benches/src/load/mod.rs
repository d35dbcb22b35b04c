//! The loads: packets to decode and encode, filters and topics to match.

pub mod fleet;
pub mod packets;
pub mod random;
pub mod worst;
