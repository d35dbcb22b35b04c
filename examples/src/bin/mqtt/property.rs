//! `-D PACKET NAME VALUE`: the properties of 5.0 from the command line.

use std::num::NonZeroU32;

use damselfly_codec::{PropertiesBuf, Property, SubscriptionId, Version};
use damselfly_topic::TopicName;

/// The properties per packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct PropertyArgs {
    pub(crate) connect: PropertiesBuf,
    pub(crate) will: PropertiesBuf,
    pub(crate) publish: PropertiesBuf,
    pub(crate) subscribe: PropertiesBuf,
    pub(crate) unsubscribe: PropertiesBuf,
    pub(crate) session_expiry_interval: Option<u32>,
    pub(crate) topic_alias_maximum: Option<u16>,
    pub(crate) receive_maximum: Option<std::num::NonZeroU16>,
    pub(crate) maximum_packet_size: Option<u32>,
}

impl PropertyArgs {
    /// Takes the flat list of words apart: each property is PACKET NAME VALUE, a user property has two values.
    pub(crate) fn parse(words: &[String], version: Version) -> Result<Self, String> {
        let mut properties = Self::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(packet) = words.next() {
            if version != Version::V5_0 {
                return Err("--property needs --protocol-version mqttv5".into());
            }
            let (Some(name), Some(value)) = (words.next(), words.next()) else { return Err(SHAPE.into()) };
            let second = if name == "user-property" { Some(words.next().ok_or(SHAPE)?) } else { None };
            properties
                .add(&packet.to_ascii_lowercase(), name, value, second)
                .map_err(|error| format!("-D {packet} {name}: {error}"))?;
        }
        Ok(properties)
    }

    fn add(&mut self, packet: &str, name: &str, value: &str, second: Option<&str>) -> Result<(), String> {
        let (target, names): (&mut PropertiesBuf, &[&str]) = match packet {
            "connect" => {
                if self.add_limit(name, value)? {
                    return Ok(());
                }
                (&mut self.connect, CONNECT)
            }
            "will" => (&mut self.will, WILL),
            "publish" => (&mut self.publish, PUBLISH),
            "subscribe" => (&mut self.subscribe, SUBSCRIBE),
            "unsubscribe" => (&mut self.unsubscribe, UNSUBSCRIBE),
            _ => return Err("the packets are connect, will, publish, subscribe and unsubscribe".into()),
        };
        if !names.contains(&name) {
            return Err(format!("the properties of {packet} are {}", names.join(", ")));
        }
        let property = property(name, value, second)?;
        target.push(property).map_err(|error| error.to_string())
    }

    /// What the client core says in CONNECT by itself, because it has to keep to it.
    fn add_limit(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "session-expiry-interval" => self.session_expiry_interval = Some(number(value)?),
            "topic-alias-maximum" => self.topic_alias_maximum = Some(number(value)?),
            "receive-maximum" => self.receive_maximum = Some(number(value)?),
            "maximum-packet-size" => self.maximum_packet_size = Some(number::<NonZeroU32>(value)?.get()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

const SHAPE: &str = "a property is -D PACKET NAME VALUE, or -D PACKET user-property KEY VALUE";
const CONNECT: &[&str] = &[
    "session-expiry-interval",
    "receive-maximum",
    "maximum-packet-size",
    "topic-alias-maximum",
    "request-problem-information",
    "request-response-information",
    "authentication-method",
    "authentication-data",
    "user-property",
];
const PUBLISH: &[&str] = &[
    "payload-format-indicator",
    "message-expiry-interval",
    "content-type",
    "response-topic",
    "correlation-data",
    "user-property",
];
const WILL: &[&str] = &[
    "payload-format-indicator",
    "message-expiry-interval",
    "content-type",
    "response-topic",
    "correlation-data",
    "will-delay-interval",
    "user-property",
];
const SUBSCRIBE: &[&str] = &["subscription-identifier", "user-property"];
const UNSUBSCRIBE: &[&str] = &["user-property"];

fn property<'a>(name: &str, value: &'a str, second: Option<&'a str>) -> Result<Property<'a>, String> {
    Ok(match name {
        "payload-format-indicator" => Property::PayloadFormatIndicator(flag(value)?),
        "message-expiry-interval" => Property::MessageExpiryInterval(number(value)?),
        "content-type" => Property::ContentType(value),
        "response-topic" => Property::ResponseTopic(TopicName::new(value).map_err(|error| error.to_string())?),
        "correlation-data" => Property::CorrelationData(value.as_bytes()),
        "will-delay-interval" => Property::WillDelayInterval(number(value)?),
        "request-problem-information" => Property::RequestProblemInformation(flag(value)?),
        "request-response-information" => Property::RequestResponseInformation(flag(value)?),
        "authentication-method" => Property::AuthenticationMethod(value),
        "authentication-data" => Property::AuthenticationData(value.as_bytes()),
        "subscription-identifier" => match SubscriptionId::new(number(value)?) {
            Some(id) => Property::SubscriptionIdentifier(id),
            None => return Err("a subscription identifier is 1 to 268435455".into()),
        },
        _ => Property::UserProperty(value, second.unwrap_or_default()),
    })
}

fn flag(value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("the value is 0 or 1, not {value:?}")),
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{value:?} is no fitting number: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<PropertyArgs, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        PropertyArgs::parse(&words, Version::V5_0)
    }

    #[test]
    fn several_properties_follow_each_other() {
        let all = parse(
            "publish user-property k v PUBLISH content-type text/plain will will-delay-interval 3 \
             subscribe subscription-identifier 7 connect session-expiry-interval 60",
        )
        .unwrap();
        assert_eq!(all.publish.as_properties().user_properties().collect::<Vec<_>>(), [("k", "v")]);
        assert_eq!(all.publish.as_properties().content_type(), Some("text/plain"));
        assert_eq!(all.will.as_properties().will_delay_interval(), Some(3));
        assert_eq!(all.subscribe.as_properties().subscription_ids().next(), SubscriptionId::new(7));
        assert_eq!(all.session_expiry_interval, Some(60));
    }

    #[test]
    fn a_wrong_property_says_what_would_be_right() {
        for (words, hint) in [
            ("publish content-type", "-D PACKET NAME VALUE"),
            ("publish user-property k", "KEY VALUE"),
            ("puback user-property k v", "connect, will, publish"),
            ("publish will-delay-interval 3", "message-expiry-interval"),
            ("publish message-expiry-interval soon", "number"),
            ("publish payload-format-indicator 2", "0 or 1"),
            ("publish response-topic a/#", "wildcard"),
            ("subscribe subscription-identifier 0", "268435455"),
            ("connect receive-maximum 0", "number"),
            ("publish content-type a publish content-type b", "once"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(hint), "{words}: {error}");
        }
    }

    #[test]
    fn properties_need_version_5() {
        let words = ["publish", "content-type", "a"].map(str::to_owned);
        assert!(PropertyArgs::parse(&words, Version::V3_1_1).unwrap_err().contains("mqttv5"));
        assert!(PropertyArgs::parse(&[], Version::V3_1_1).is_ok());
    }
}
