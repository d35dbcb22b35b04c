//! Building Properties.

use core::fmt;

use alloc::vec::Vec;

use super::allowed;
use crate::wire::{field_len, put_field, put_variable_integer, text_len};
use crate::{EncodeError, Properties, Property, PropertyId, QoS};

/// Owned Properties, in the order of their pushes.
///
/// A property that may appear once is refused the second time; whether the packet may carry it is checked when the
/// packet is encoded. One buffer serves many packets: [`PropertiesBuf::clear`] keeps its memory.
///
/// ```
/// use damselfly_codec::{EncodeError, PropertiesBuf, Property, PropertyId};
///
/// let mut properties = PropertiesBuf::new();
/// properties.push(Property::MessageExpiryInterval(60))?;
/// properties.push(Property::UserProperty("colour", "teal"))?;
/// properties.push(Property::UserProperty("colour", "blue"))?;
/// assert_eq!(
///     properties.push(Property::MessageExpiryInterval(61)),
///     Err(EncodeError::PropertyTwice(PropertyId::MessageExpiryInterval))
/// );
/// assert_eq!(properties.as_properties().user_properties().count(), 2);
/// # Ok::<(), EncodeError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
}

impl PropertiesBuf {
    /// No properties yet, nothing allocated.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends a property, or says why it cannot be one.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), EncodeError> {
        let id = property.id();
        if !allowed::REPEATED_IN_PUBLISH.contains(id) && self.as_properties().get(id).is_some() {
            return Err(EncodeError::PropertyTwice(id));
        }
        self.reserve(property)?;
        self.bytes.push(id.number());
        self.put_value(property);
        Ok(())
    }

    /// Appends all properties of `other`, or none.
    pub fn extend(&mut self, other: Properties<'_>) -> Result<(), EncodeError> {
        let len = self.bytes.len();
        for property in other {
            if let Err(error) = self.push(property) {
                self.bytes.truncate(len);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Checks the value and makes room for it.
    fn reserve(&mut self, property: Property<'_>) -> Result<(), EncodeError> {
        let value = match property {
            Property::ContentType(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => text_len(text)?,
            Property::ResponseTopic(topic) => field_len(topic.as_bytes())?,
            Property::CorrelationData(data) | Property::AuthenticationData(data) => field_len(data)?,
            Property::UserProperty(name, value) => text_len(name)? + text_len(value)?,
            Property::MaximumQoS(QoS::ExactlyOnce) => return Err(EncodeError::PropertyValue(PropertyId::MaximumQoS)),
            _ => 4,
        };
        self.bytes.reserve(1 + value);
        Ok(())
    }

    fn put_value(&mut self, property: Property<'_>) {
        let out = &mut self.bytes;
        match property {
            Property::PayloadFormatIndicator(flag)
            | Property::RequestProblemInformation(flag)
            | Property::RequestResponseInformation(flag)
            | Property::RetainAvailable(flag)
            | Property::WildcardSubscriptionAvailable(flag)
            | Property::SubscriptionIdentifierAvailable(flag)
            | Property::SharedSubscriptionAvailable(flag) => out.push(u8::from(flag)),
            Property::MaximumQoS(qos) => out.push(qos.level()),
            Property::ServerKeepAlive(value) | Property::TopicAliasMaximum(value) => {
                out.extend_from_slice(&value.to_be_bytes());
            }
            Property::ReceiveMaximum(value) => out.extend_from_slice(&value.get().to_be_bytes()),
            Property::TopicAlias(alias) => out.extend_from_slice(&alias.get().to_be_bytes()),
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value) => out.extend_from_slice(&value.to_be_bytes()),
            Property::MaximumPacketSize(value) => out.extend_from_slice(&value.get().to_be_bytes()),
            Property::SubscriptionIdentifier(id) => put_variable_integer(out, id.get()),
            Property::ContentType(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => put_field(out, text.as_bytes()),
            Property::ResponseTopic(topic) => put_field(out, topic.as_bytes()),
            Property::CorrelationData(data) | Property::AuthenticationData(data) => put_field(out, data),
            Property::UserProperty(name, value) => {
                put_field(out, name.as_bytes());
                put_field(out, value.as_bytes());
            }
        }
    }

    /// The view that packets carry.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties::from_checked_bytes(&self.bytes)
    }

    /// There is no property.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets all properties and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Checked already, for any one packet.
    #[cfg(feature = "serde")]
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        super::check::check(&bytes, allowed::ALL, allowed::REPEATED_IN_PUBLISH).ok()?;
        Some(Self { bytes })
    }
}

impl From<Properties<'_>> for PropertiesBuf {
    fn from(properties: Properties<'_>) -> Self {
        Self { bytes: properties.as_bytes().to_vec() }
    }
}

impl fmt::Debug for PropertiesBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_properties().fmt(f)
    }
}
