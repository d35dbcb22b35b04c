//! Reading properties that have been checked.

use core::iter::FusedIterator;
use core::num::{NonZeroU16, NonZeroU32};

use damselfly_topic::TopicName;

use super::property::{Kind, Property, PropertyId};
use crate::wire::{binary, index, variable_integer};
use crate::{QoS, SubscriptionId, TopicAlias};

/// The properties of a packet in its order, from [`Properties::iter`](super::Properties::iter).
#[derive(Clone, Debug)]
pub struct PropertiesIter<'a>(pub(super) RawIter<'a>);

impl<'a> Iterator for PropertiesIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let (number, value) = self.0.next()?;
        typed(PropertyId::try_from(number).ok()?, value)
    }
}

impl FusedIterator for PropertiesIter<'_> {}

/// Number and value of each property; strings and binary data without their length, pairs with both.
#[derive(Clone, Debug)]
pub(super) struct RawIter<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for RawIter<'a> {
    type Item = (u8, &'a [u8]);

    /// The slice has been checked, so what stands for "does not fit" is never taken.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&number, rest) = self.0.split_first()?;
        let (value, behind) = rest.split_at_checked(value_len(number, rest))?;
        self.0 = behind;
        let prefix = if matches!(kind(number), Some(Kind::Text | Kind::Binary)) { 2 } else { 0 };
        Some((number, value.get(prefix..)?))
    }
}

impl FusedIterator for RawIter<'_> {}

/// How many bytes the value at the start of `rest` takes, the length of a string or binary field included.
#[inline]
pub(crate) fn value_len(number: u8, rest: &[u8]) -> usize {
    match kind(number) {
        Some(Kind::Byte) => 1,
        Some(Kind::TwoBytes) => 2,
        Some(Kind::FourBytes) => 4,
        Some(Kind::VariableInteger) => 1 + rest.iter().take_while(|byte| **byte >= 0x80).count(),
        Some(Kind::Text | Kind::Binary) => 2 + prefix(rest),
        Some(Kind::TextPair) => pair_len(rest),
        None => 0,
    }
}

/// The first property: its number, number and value together, and what follows.
#[inline]
pub(crate) fn split_property(properties: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [number, value @ ..] = properties else { return None };
    let (encoded, rest) = properties.split_at_checked(1 + value_len(*number, value))?;
    Some((*number, encoded, rest))
}

/// How the value of the property with this number is encoded. No property has a number above 0x2A.
#[inline]
pub(super) fn kind(number: u8) -> Option<Kind> {
    KINDS[usize::from(number & 0x3F)]
}

static KINDS: [Option<Kind>; 64] = {
    let mut table = [None; 64];
    let mut at = 0;
    while at < PropertyId::ALL.len() {
        let id = PropertyId::ALL[at];
        table[index(id.number())] = Some(id.kind());
        at += 1;
    }
    table
};

#[inline]
pub(super) fn pair_len(rest: &[u8]) -> usize {
    let name = 2 + prefix(rest);
    name + 2 + prefix(rest.get(name..).unwrap_or_default())
}

#[inline]
pub(super) fn prefix(rest: &[u8]) -> usize {
    rest.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)))
}

/// What follows a string or binary field.
#[inline]
pub(super) fn behind_field(rest: &[u8]) -> Option<&[u8]> {
    let (length, rest) = rest.split_first_chunk()?;
    rest.get(usize::from(u16::from_be_bytes(*length))..)
}

/// A text that has been checked when the packet was decoded or built.
pub(super) fn known_text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or_default()
}

pub(super) fn pair(value: &[u8]) -> Option<(&str, &str)> {
    let (rest, name) = binary(value).ok()?;
    let (_, value) = binary(rest).ok()?;
    Some((known_text(name), known_text(value)))
}

/// The value of a checked property; `None` is never taken for one.
pub(super) fn typed(id: PropertyId, value: &[u8]) -> Option<Property<'_>> {
    let byte = || value.first().copied();
    let flag = || byte().map(|value| value != 0);
    let two_bytes = || value.first_chunk().map(|value| u16::from_be_bytes(*value));
    let four_bytes = || value.first_chunk().map(|value| u32::from_be_bytes(*value));
    Some(match id {
        PropertyId::PayloadFormatIndicator => Property::PayloadFormatIndicator(flag()?),
        PropertyId::MessageExpiryInterval => Property::MessageExpiryInterval(four_bytes()?),
        PropertyId::ContentType => Property::ContentType(known_text(value)),
        PropertyId::ResponseTopic => Property::ResponseTopic(TopicName::from_checked_bytes(value)),
        PropertyId::CorrelationData => Property::CorrelationData(value),
        PropertyId::SubscriptionIdentifier => {
            Property::SubscriptionIdentifier(SubscriptionId::new(variable_integer(value).ok()?.1)?)
        }
        PropertyId::SessionExpiryInterval => Property::SessionExpiryInterval(four_bytes()?),
        PropertyId::AssignedClientIdentifier => Property::AssignedClientIdentifier(known_text(value)),
        PropertyId::ServerKeepAlive => Property::ServerKeepAlive(two_bytes()?),
        PropertyId::AuthenticationMethod => Property::AuthenticationMethod(known_text(value)),
        PropertyId::AuthenticationData => Property::AuthenticationData(value),
        PropertyId::RequestProblemInformation => Property::RequestProblemInformation(flag()?),
        PropertyId::WillDelayInterval => Property::WillDelayInterval(four_bytes()?),
        PropertyId::RequestResponseInformation => Property::RequestResponseInformation(flag()?),
        PropertyId::ResponseInformation => Property::ResponseInformation(known_text(value)),
        PropertyId::ServerReference => Property::ServerReference(known_text(value)),
        PropertyId::ReasonString => Property::ReasonString(known_text(value)),
        PropertyId::ReceiveMaximum => Property::ReceiveMaximum(NonZeroU16::new(two_bytes()?)?),
        PropertyId::TopicAliasMaximum => Property::TopicAliasMaximum(two_bytes()?),
        PropertyId::TopicAlias => Property::TopicAlias(TopicAlias::new(two_bytes()?)?),
        PropertyId::MaximumQoS => Property::MaximumQoS(QoS::try_from(byte()?).ok()?),
        PropertyId::RetainAvailable => Property::RetainAvailable(flag()?),
        PropertyId::UserProperty => {
            let (name, value) = pair(value)?;
            Property::UserProperty(name, value)
        }
        PropertyId::MaximumPacketSize => Property::MaximumPacketSize(NonZeroU32::new(four_bytes()?)?),
        PropertyId::WildcardSubscriptionAvailable => Property::WildcardSubscriptionAvailable(flag()?),
        PropertyId::SubscriptionIdentifierAvailable => Property::SubscriptionIdentifierAvailable(flag()?),
        PropertyId::SharedSubscriptionAvailable => Property::SharedSubscriptionAvailable(flag()?),
    })
}
