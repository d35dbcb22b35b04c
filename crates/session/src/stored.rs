//! What is stored of a session, in a form that says its version and trusts nothing when it is read. (feature `serde`)

use alloc::{collections::BTreeSet, vec::Vec};
use core::{fmt, marker::PhantomData, num::NonZeroU16};

use damselfly_codec::{Delivery, Foreign, PacketId, PropertiesBuf, Publish, QoS, Version};
use damselfly_topic::{TopicName, TopicNameBuf};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
    ser::SerializeStruct as _,
};

use crate::{Message, PacketIds, ReceivedIds, SendState, SessionExpiry, Timestamp, id_set::IdSet};

/// Something that is stored, and whose form may change between releases.
pub trait Stored: Serialize + for<'de> Deserialize<'de> {
    /// The form that this release writes; 1 is the first. It changes with the form, not with the release.
    const VERSION: u16;
    /// What it is, for people who read that it cannot be read.
    const NAME: &'static str;

    /// Reads the form of an earlier release. `version` is at least 1 and below [`Stored::VERSION`].
    ///
    /// # Errors
    ///
    /// That this form is not known, unless the type says otherwise.
    fn read_earlier<'de, D: Deserializer<'de>>(version: u16, _deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(format_args!("{} has version {version}, which cannot be read", Self::NAME)))
    }
}

/// A stored value with its version in front.
///
/// A version newer than this release knows is refused before any of the value is read, and both numbers are named.
/// The version has to come first, in formats with names too.
///
/// ```
/// use damselfly_session::{Snapshot, StoredSession};
///
/// let text = serde_json::to_string(&Snapshot(StoredSession::default()))?;
/// assert!(text.starts_with(r#"{"version":1,"#));
/// let Snapshot(session) = serde_json::from_str::<Snapshot<StoredSession>>(&text)?;
/// assert_eq!(session, StoredSession::default());
///
/// let newer = serde_json::from_str::<Snapshot<StoredSession>>(r#"{"version":7,"value":{}}"#);
/// assert!(newer.unwrap_err().to_string().starts_with("session has version 7, and versions up to 1 are known"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<T>(pub T);

impl<T: Stored> Serialize for Snapshot<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Snapshot", 2)?;
        fields.serialize_field("version", &T::VERSION)?;
        fields.serialize_field("value", &self.0)?;
        fields.end()
    }
}

impl<'de, T: Stored> Deserialize<'de> for Snapshot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Snapshot", &["version", "value"], SnapshotVisitor(PhantomData))
    }
}

struct SnapshotVisitor<T>(PhantomData<T>);

impl<'de, T: Stored> Visitor<'de> for SnapshotVisitor<T> {
    type Value = Snapshot<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} with its version in front", T::NAME)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Snapshot<T>, A::Error> {
        let version = fields.next_element()?.ok_or_else(|| A::Error::missing_field("version"))?;
        let seed = ValueSeed::<T>::new(version)?;
        fields.next_element_seed(seed)?.map(Snapshot).ok_or_else(|| A::Error::missing_field("value"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Snapshot<T>, A::Error> {
        if fields.next_key::<Field>()? != Some(Field::Version) {
            return Err(A::Error::custom(format_args!("the version of a {} has to come first", T::NAME)));
        }
        let seed = ValueSeed::<T>::new(fields.next_value()?)?;
        if fields.next_key::<Field>()? != Some(Field::Value) {
            return Err(A::Error::missing_field("value"));
        }
        fields.next_value_seed(seed).map(Snapshot)
    }
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    Version,
    Value,
}

/// Reads a value whose version is known to be readable.
struct ValueSeed<T> {
    version: u16,
    value: PhantomData<T>,
}

impl<T: Stored> ValueSeed<T> {
    fn new<E: Error>(version: u16) -> Result<Self, E> {
        if version == 0 || version > T::VERSION {
            let (name, known) = (T::NAME, T::VERSION);
            return Err(E::custom(format_args!("{name} has version {version}, and versions up to {known} are known")));
        }
        Ok(Self { version, value: PhantomData })
    }
}

impl<'de, T: Stored> DeserializeSeed<'de> for ValueSeed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        if self.version < T::VERSION {
            T::read_earlier(self.version, deserializer)
        } else {
            T::deserialize(deserializer)
        }
    }
}

/// What both ends keep of a session: its end, the exchanges under way in either direction, and where packet identifiers
/// go on. Quotas and aliases belong to a connection and are never stored. [MQTT-4.1]
///
/// A broker or a client stores it inside a record of its own, with subscriptions, queue and will.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
#[non_exhaustive]
pub struct StoredSession {
    /// How long it outlives its connection.
    pub expiry: SessionExpiry,
    /// What we sent and the other side has not finished, in the order of sending. [MQTT-4.6.0-1]
    pub exchanges: Vec<StoredExchange>,
    /// The identifiers we hand out, and which are in use: those of the exchanges, and no others.
    pub packet_ids: PacketIds,
    /// QoS 2 messages of the other side that wait for PUBREL.
    pub received: ReceivedIds,
}

/// One QoS 1 or 2 message under way from us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoredExchange {
    /// Its Packet Identifier.
    pub packet_id: PacketId,
    /// What it waits for.
    pub state: SendState,
    /// The message; not needed any more while PUBCOMP is awaited, since PUBLISH is never sent again. [MQTT-4.3.3-6]
    pub message: Option<Message>,
}

impl StoredSession {
    /// Collects what is stored. Identifiers of SUBSCRIBE and UNSUBSCRIBE, which do not outlive a connection, stay out.
    pub fn new(
        expiry: SessionExpiry,
        exchanges: impl IntoIterator<Item = StoredExchange>,
        packet_ids: &PacketIds,
        received: &ReceivedIds,
    ) -> Self {
        let exchanges: Vec<_> = exchanges.into_iter().collect();
        let mut own = packet_ids.clone();
        own.clear();
        for exchange in &exchanges {
            let _ = own.reserve(exchange.packet_id);
        }
        Self { expiry, exchanges, packet_ids: own, received: received.clone() }
    }
}

impl StoredExchange {
    /// An exchange. While PUBCOMP is awaited the message may be left out.
    pub const fn new(packet_id: PacketId, state: SendState, message: Option<Message>) -> Self {
        Self { packet_id, state, message }
    }
}

impl Stored for StoredSession {
    const VERSION: u16 = 1;
    const NAME: &'static str = "session";
}

/// A stored session before it is known to hold together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    expiry: SessionExpiry,
    exchanges: Vec<StoredExchange>,
    packet_ids: PacketIds,
    received: ReceivedIds,
}

/// Why a stored session does not hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredSessionError {
    /// Two exchanges have one Packet Identifier.
    #[error("two exchanges have one packet identifier")]
    DuplicateExchange,
    /// The identifiers in use are not those of the exchanges.
    #[error("the packet identifiers in use are not those of the exchanges")]
    PacketIds,
    /// A message is missing that may have to be sent again.
    #[error("a message under way is missing")]
    MessageMissing,
}

impl TryFrom<Unchecked> for StoredSession {
    type Error = StoredSessionError;

    fn try_from(unchecked: Unchecked) -> Result<Self, StoredSessionError> {
        let Unchecked { expiry, exchanges, packet_ids, received } = unchecked;
        let ids: BTreeSet<_> = exchanges.iter().map(|exchange| exchange.packet_id).collect();
        if ids.len() != exchanges.len() {
            return Err(StoredSessionError::DuplicateExchange);
        }
        if !packet_ids.iter().eq(ids) {
            return Err(StoredSessionError::PacketIds);
        }
        let is_missing = |exchange: &StoredExchange| match exchange.state {
            SendState::AwaitPuback | SendState::AwaitPubrec => exchange.message.is_none(),
            SendState::AwaitPubcomp => false,
        };
        if exchanges.iter().any(is_missing) {
            return Err(StoredSessionError::MessageMissing);
        }
        Ok(Self { expiry, exchanges, packet_ids, received })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPacketIds<S> {
    next: u16,
    in_use: S,
}

impl Serialize for PacketIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredPacketIds { next: self.0.tag, in_use: &self.0 }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PacketIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StoredPacketIds { next, mut in_use } = StoredPacketIds::<IdSet>::deserialize(deserializer)?;
        in_use.tag = next;
        Ok(Self(in_use))
    }
}

#[derive(Serialize, Deserialize)]
struct StoredReceivedIds<S> {
    limit: NonZeroU16,
    waiting: S,
}

impl Serialize for ReceivedIds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredReceivedIds { limit: self.limit(), waiting: &self.0 }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ReceivedIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StoredReceivedIds { limit, mut waiting } = StoredReceivedIds::<IdSet>::deserialize(deserializer)?;
        waiting.tag = limit.get();
        Ok(Self(waiting))
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMessage<T, P, B> {
    topic: T,
    qos: QoS,
    retain: bool,
    expires_at: Option<Timestamp>,
    properties: P,
    payload: B,
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredMessage::<TopicName<'_>, _, _> {
            topic: self.topic(),
            qos: self.qos(),
            retain: self.retain(),
            expires_at: self.expires_at(),
            properties: PropertiesBuf::from(self.properties()),
            payload: SerializeBytes(self.payload()),
        }
        .serialize(serializer)
    }
}

/// Whatever could not be sent on is refused: the bytes of the properties are checked, and that a PUBLISH may carry them.
impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = StoredMessage::<TopicNameBuf, PropertiesBuf, ByteVec>::deserialize(deserializer)?;
        let StoredMessage { topic, qos, retain, expires_at, properties, payload } = stored;
        let publish = Publish {
            delivery: Delivery::AtMostOnce,
            retain,
            topic: Some(topic.as_name()),
            properties: properties.as_properties(),
            payload: &payload.0,
        };
        publish.encoded_len(Version::V5_0, Foreign::Reject).map_err(D::Error::custom)?;
        Ok(Self::from_stored(qos, expires_at, &publish, topic.as_name()))
    }
}

struct SerializeBytes<'a>(&'a [u8]);

impl Serialize for SerializeBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes, or the sequence of numbers that a format without bytes makes of them.
struct ByteVec(Vec<u8>);

impl<'de> Deserialize<'de> for ByteVec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByteVisitor;

        impl<'de> Visitor<'de> for ByteVisitor {
            type Value = ByteVec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ByteVec, E> {
                Ok(ByteVec(bytes.to_vec()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<ByteVec, E> {
                Ok(ByteVec(bytes))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ByteVec, A::Error> {
                // A length in front may lie: the vector grows with what is really there.
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(ByteVec(bytes))
            }
        }

        deserializer.deserialize_byte_buf(ByteVisitor)
    }
}
