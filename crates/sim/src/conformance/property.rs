//! Properties by name: written as a script says, however wrong, and read as they came. [MQTT-2.2.2.2]

use damselfly_codec::{Properties, Property, PropertyId};

use super::bytes::{bytes, put_field, put_variable_integer};
use super::names::Names;
use super::token::Token;

/// Stands for the Authentication Method of the run.
pub(super) const METHOD: &str = "@method";

/// The value of a property that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Binary(data) => data.iter().try_for_each(|byte| write!(f, "{byte:02X}")),
            Self::Pair(name, value) => write!(f, "{name:?}:{value:?}"),
        }
    }
}

/// The standard's name in snake case: `receive_maximum`.
pub(super) fn name(id: PropertyId) -> String {
    let mut out = String::new();
    for letter in id.to_string().replace("QoS", "Qos").chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The property of this name.
pub(super) fn by_name(text: &str) -> Result<PropertyId, String> {
    PropertyId::ALL.iter().copied().find(|id| name(*id) == text).ok_or_else(|| format!("there is no property {text}"))
}

/// Writes the properties of `{…}` behind their length. `bytes="…"` stands for bytes as they are.
pub(super) fn put_properties(tokens: &[Token], names: &Names<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let mut all = Vec::new();
    for token in tokens {
        match token {
            Token::Comma => {}
            Token::Assign(key, value) if key == "bytes" => all.extend(match value.as_ref() {
                Token::Text(text) => bytes(text, names)?,
                other => return Err(format!("{other:?} are no bytes")),
            }),
            Token::Assign(key, value) => put_property(by_name(key)?, value, names, &mut all)?,
            other => return Err(format!("{other:?} is no property")),
        }
    }
    put_variable_integer(super::bytes::length(all.len()), out);
    out.extend(all);
    Ok(())
}

fn put_property(id: PropertyId, value: &Token, names: &Names<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    use PropertyId as P;
    out.push(id.number());
    let wrong = || format!("{value:?} is no value of {}", name(id));
    match (id, value) {
        (P::UserProperty, Token::Pair(name, value)) => {
            put_field(name.as_bytes(), out)?;
            put_field(value.as_bytes(), out)?;
        }
        (_, Token::Text(text)) => put_field(text.as_bytes(), out)?,
        (P::AuthenticationMethod, Token::Word(word)) if word == METHOD => put_field(names.method.as_bytes(), out)?,
        (P::ResponseTopic, Token::Word(topic)) => put_field(names.topic(topic).as_bytes(), out)?,
        (P::CorrelationData | P::AuthenticationData, Token::Word(hex)) => put_field(&bytes(hex, names)?, out)?,
        (P::SubscriptionIdentifier, Token::Word(number)) => put_variable_integer(names.number(number)?, out),
        (_, Token::Word(number)) => {
            let number = names.number(number)?;
            let all = number.to_be_bytes();
            let skipped = all.len().saturating_sub(width(id).ok_or_else(wrong)?);
            out.extend(all.iter().skip(skipped));
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// Bytes of the number a property holds.
const fn width(id: PropertyId) -> Option<usize> {
    use PropertyId as P;
    match id {
        P::PayloadFormatIndicator
        | P::RequestProblemInformation
        | P::RequestResponseInformation
        | P::MaximumQoS
        | P::RetainAvailable
        | P::WildcardSubscriptionAvailable
        | P::SubscriptionIdentifierAvailable
        | P::SharedSubscriptionAvailable => Some(1),
        P::ServerKeepAlive | P::ReceiveMaximum | P::TopicAliasMaximum | P::TopicAlias => Some(2),
        P::MessageExpiryInterval | P::SessionExpiryInterval | P::WillDelayInterval | P::MaximumPacketSize => Some(4),
        P::ContentType
        | P::ResponseTopic
        | P::CorrelationData
        | P::SubscriptionIdentifier
        | P::AssignedClientIdentifier
        | P::AuthenticationMethod
        | P::AuthenticationData
        | P::ResponseInformation
        | P::ServerReference
        | P::ReasonString
        | P::UserProperty => None,
    }
}

/// What came, in the order in which it came.
pub(super) fn received(properties: Properties<'_>) -> Vec<(PropertyId, Value)> {
    properties.iter().map(|property| (property.id(), value(property))).collect()
}

fn value(property: Property<'_>) -> Value {
    use Property as P;
    let text = |text: &str| Value::Text(text.to_owned());
    match property {
        P::PayloadFormatIndicator(flag)
        | P::RequestProblemInformation(flag)
        | P::RequestResponseInformation(flag)
        | P::RetainAvailable(flag)
        | P::WildcardSubscriptionAvailable(flag)
        | P::SubscriptionIdentifierAvailable(flag)
        | P::SharedSubscriptionAvailable(flag) => Value::Number(flag.into()),
        P::MessageExpiryInterval(number) | P::SessionExpiryInterval(number) | P::WillDelayInterval(number) => {
            Value::Number(number.into())
        }
        P::ServerKeepAlive(number) | P::TopicAliasMaximum(number) => Value::Number(number.into()),
        P::ReceiveMaximum(number) => Value::Number(number.get().into()),
        P::MaximumPacketSize(number) => Value::Number(number.get().into()),
        P::TopicAlias(alias) => Value::Number(alias.get().into()),
        P::SubscriptionIdentifier(id) => Value::Number(id.get().into()),
        P::MaximumQoS(qos) => Value::Number(qos.level().into()),
        P::ContentType(value)
        | P::AssignedClientIdentifier(value)
        | P::AuthenticationMethod(value)
        | P::ResponseInformation(value)
        | P::ServerReference(value)
        | P::ReasonString(value) => text(value),
        P::ResponseTopic(topic) => text(topic.as_str()),
        P::CorrelationData(data) | P::AuthenticationData(data) => Value::Binary(data.to_vec()),
        P::UserProperty(name, value) => Value::Pair(name.to_owned(), value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use damselfly_codec::Version;

    use super::super::names::test_names;
    use super::super::token::tokens;
    use super::*;

    #[test]
    fn properties_are_written_as_they_are_named() {
        let names = test_names(Version::V5_0);
        let written = |text: &str| {
            let mut out = Vec::new();
            put_properties(&tokens(text).unwrap(), &names, &mut out).map(|()| out)
        };
        assert_eq!(written("maximum_qos=1 receive_maximum=3"), Ok(vec![5, 0x24, 1, 0x21, 0, 3]));
        assert_eq!(
            written(r#"user_property="a":"" response_topic=~/r"#),
            Ok(b"\x0C\x26\0\x01a\0\0\x08\0\x03p/r".to_vec())
        );
        assert_eq!(
            written(r#"subscription_identifier=128 correlation_data=00FF bytes="FF""#),
            Ok(vec![9, 0x0B, 0x80, 1, 9, 0, 2, 0, 0xFF, 0xFF])
        );
        assert_eq!(written("authentication_method=@method"), Ok(b"\x04\x15\0\x01m".to_vec()));
        assert!(written("nonsense=1").is_err());
        assert!(written("content_type=1").is_err());
    }

    #[test]
    fn every_property_has_a_name() {
        for id in PropertyId::ALL {
            assert_eq!(by_name(&name(*id)), Ok(*id));
        }
        assert_eq!(name(PropertyId::MaximumQoS), "maximum_qos");
    }
}
