//! The grammar of properties: what a decoder lets through. [MQTT-2.2.2]

use damselfly_topic::{TopicError, TopicName};

use super::Properties;
use super::iter::kind;
use super::property::{Kind, PropertyId, PropertySet};
use crate::Rule;
use crate::wire::{
    Broken, Parsed, binary, broken, byte, four_bytes, skip_text, text_rule, to_usize, two_bytes, variable_integer,
};

/// Property Length and properties, each checked: allowed here, not twice, value in range. [MQTT-2.2.2]
#[inline]
pub(crate) fn properties(input: &[u8], allowed: PropertySet, repeated: PropertySet) -> Parsed<'_, Properties<'_>> {
    if let [0, rest @ ..] = input {
        return Ok((rest, Properties::EMPTY));
    }
    let (rest, (properties, _)) = listed_properties(input, allowed, repeated)?;
    Ok((rest, properties))
}

/// The same, together with the set of those that are there and may not repeat.
pub(crate) fn listed_properties(
    input: &[u8],
    allowed: PropertySet,
    repeated: PropertySet,
) -> Parsed<'_, (Properties<'_>, PropertySet)> {
    if input.is_empty() {
        return broken(Rule::PropertyLengthMissing, input);
    }
    let (rest, length) = variable_integer(input)?;
    let Some((block, rest)) = rest.split_at_checked(to_usize(length)) else { return broken(Rule::CutShort, input) };
    match check(block, allowed, repeated) {
        Ok(seen) => Ok((rest, (Properties(block), seen))),
        Err(error) => Err(error.map(|Broken { rule, left }| Broken { rule, left: left + rest.len() })),
    }
}

/// Checks the properties of a block that holds nothing else, and answers which of those that may not repeat are there.
pub(crate) fn check(
    block: &[u8],
    allowed: PropertySet,
    repeated: PropertySet,
) -> Result<PropertySet, nom::Err<Broken>> {
    let mut rest = block;
    let mut unseen = allowed;
    while let [number, value @ ..] = rest {
        let bit = unseen.bit(*number);
        if bit == 0 {
            let is_second = allowed.bit(*number) != 0;
            return broken(if is_second { Rule::PropertyTwice } else { Rule::PropertyNotAllowed }, rest);
        }
        unseen = unseen.without_bit(bit, repeated);
        rest = check_value(*number, value)?;
    }
    Ok(allowed.without(unseen))
}

/// Checks one value and answers with what follows it.
#[inline]
fn check_value(number: u8, input: &[u8]) -> Result<&[u8], nom::Err<Broken>> {
    Ok(match kind(number) {
        Some(Kind::Byte) => {
            let (rest, value) = byte(input)?;
            if value > 1 {
                return broken(byte_rule(number), input);
            }
            rest
        }
        Some(Kind::TwoBytes) => {
            let (rest, value) = two_bytes(input)?;
            if value == 0 {
                zero_rule(number, input)?;
            }
            rest
        }
        Some(Kind::FourBytes) => {
            let (rest, value) = four_bytes(input)?;
            if value == 0 {
                zero_rule(number, input)?;
            }
            rest
        }
        Some(Kind::VariableInteger) => {
            let (rest, value) = variable_integer(input)?;
            if value == 0 {
                return broken(Rule::SubscriptionIdZero, input);
            }
            rest
        }
        Some(Kind::Text) if number == PropertyId::ResponseTopic.number() => topic_value(input)?,
        Some(Kind::Text) => skip_text(input)?,
        Some(Kind::Binary) => binary(input)?.0,
        Some(Kind::TextPair) => skip_text(skip_text(input)?)?,
        None => return broken(Rule::PropertyNotAllowed, input),
    })
}

/// A Response Topic is a Topic Name. [MQTT-3.3.2-13] [MQTT-3.3.2-14]
fn topic_value(input: &[u8]) -> Result<&[u8], nom::Err<Broken>> {
    let (rest, bytes) = binary(input)?;
    match TopicName::from_bytes(bytes) {
        Ok(_) => Ok(rest),
        Err(TopicError::WildcardInName) => broken(Rule::ResponseTopicWildcard, input),
        Err(error) => broken(name_rule(error), input),
    }
}

/// The rule that a Topic Name breaks, apart from wildcards, which are said where they appear.
#[cold]
pub(crate) fn name_rule(error: TopicError) -> Rule {
    match error {
        TopicError::Empty => Rule::TopicNameEmpty,
        TopicError::WildcardInName => Rule::WillTopicWildcard,
        error => text_rule(error),
    }
}

#[cold]
fn byte_rule(number: u8) -> Rule {
    match PropertyId::try_from(number) {
        Ok(PropertyId::PayloadFormatIndicator) => Rule::PayloadFormatInvalid,
        Ok(PropertyId::RequestProblemInformation | PropertyId::RequestResponseInformation) => {
            Rule::RequestInformationInvalid
        }
        Ok(PropertyId::MaximumQoS) => Rule::MaximumQoSInvalid,
        _ => Rule::AvailabilityInvalid,
    }
}

/// Where 0 is no value.
#[cold]
fn zero_rule(number: u8, input: &[u8]) -> Result<(), nom::Err<Broken>> {
    match PropertyId::try_from(number) {
        Ok(PropertyId::ReceiveMaximum) => broken(Rule::ReceiveMaximumZero, input),
        Ok(PropertyId::TopicAlias) => broken(Rule::TopicAliasZero, input),
        Ok(PropertyId::MaximumPacketSize) => broken(Rule::MaximumPacketSizeZero, input),
        _ => Ok(()),
    }
}
