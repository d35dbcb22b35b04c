//! The loads: packets to decode and encode, filters and topics to match, clients of a broker core.

pub mod both;
pub mod exchange;
pub mod fleet;
pub mod packets;
pub mod random;
pub mod worst;
