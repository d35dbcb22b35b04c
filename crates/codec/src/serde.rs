//! `serde` of the owned forms: bytes that are checked when they are read.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Frame, FrameLimits, PropertiesBuf};

/// The bytes of the packet.
impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

/// Checks the framing as [`Frame::new`] does, with the limit of the protocol.
impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_byte_buf(ByteVisitor)?;
        Self::new(Bytes::from(bytes), &FrameLimits::default()).map_err(D::Error::custom)
    }
}

/// The encoded properties, without the Property Length in front.
impl Serialize for PropertiesBuf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_properties().as_bytes())
    }
}

/// Checks each property; which packet may carry them is checked when one is encoded.
impl<'de> Deserialize<'de> for PropertiesBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_byte_buf(ByteVisitor)?;
        Self::from_bytes(bytes).ok_or_else(|| D::Error::custom("not the properties of a packet"))
    }
}

/// Takes bytes, and the sequence of numbers that formats without bytes make of them.
struct ByteVisitor;

impl<'de> Visitor<'de> for ByteVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
        // A hint from stored state may lie; the vector grows with what is really there.
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
