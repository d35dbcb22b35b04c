//! Describes a packet in the notation of `testdata/README.md`, from the public interface alone.

use std::fmt::Write as _;

use damselfly_codec::{
    Ack, Connect, Delivery, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Version, Will,
};

pub(crate) fn describe(packet: &Packet<'_>, version: Version) -> String {
    match packet {
        Packet::Connect(view) => describe_connect(&view.fields()),
        Packet::Connack(connack) => format!(
            "CONNACK session_present={} code={}{}",
            u8::from(connack.session_present),
            code(connack.reason_code),
            properties(connack.properties)
        ),
        Packet::Publish(publish) => describe_publish(publish),
        Packet::Puback(ack) => describe_ack("PUBACK", ack),
        Packet::Pubrec(ack) => describe_ack("PUBREC", ack),
        Packet::Pubrel(ack) => describe_ack("PUBREL", ack),
        Packet::Pubcomp(ack) => describe_ack("PUBCOMP", ack),
        Packet::Subscribe(subscribe) => describe_subscribe(subscribe),
        Packet::Suback(suback) => {
            describe_answer("SUBACK", suback.packet_id.get(), suback.reason_codes(), suback.properties)
        }
        Packet::Unsubscribe(unsubscribe) => {
            let filters: Vec<_> = unsubscribe.filters().map(|filter| quoted(filter.as_str())).collect();
            let (id, list) = (unsubscribe.packet_id.get(), filters.join(", "));
            format!("UNSUBSCRIBE id={id} [{list}]{}", properties(unsubscribe.properties))
        }
        Packet::Unsuback(unsuback) => {
            let codes = unsuback.reason_codes();
            assert!(version == Version::V5_0 || codes.clone().next().is_none(), "only 5.0 has codes in UNSUBACK");
            describe_answer("UNSUBACK", unsuback.packet_id.get(), codes, unsuback.properties)
        }
        Packet::Pingreq => "PINGREQ".to_owned(),
        Packet::Pingresp => "PINGRESP".to_owned(),
        Packet::Disconnect(disconnect) => {
            format!("DISCONNECT code={}{}", code(disconnect.reason_code), properties(disconnect.properties))
        }
        Packet::Auth(auth) => format!("AUTH code={}{}", code(auth.reason_code), properties(auth.properties)),
    }
}

fn describe_connect(connect: &Connect<'_>) -> String {
    let version = match connect.version {
        Version::V3_1 => "3.1",
        Version::V3_1_1 => "3.1.1",
        Version::V5_0 => "5.0",
    };
    let mut out = format!(
        "CONNECT {version} clean={} keep_alive={} id={}",
        u8::from(connect.clean_start),
        connect.keep_alive,
        quoted(connect.client_id)
    );
    if let Some(will) = &connect.will {
        let _ = write!(out, " will=[{}]", describe_will(will));
    }
    if let Some(user_name) = connect.user_name {
        let _ = write!(out, " user={}", quoted(user_name));
    }
    if let Some(password) = connect.password {
        let _ = write!(out, " password={}", binary(password));
    }
    out + &properties(connect.properties)
}

fn describe_will(will: &Will<'_>) -> String {
    format!(
        "q{} retain={} topic={} payload={}{}",
        level(will.qos),
        u8::from(will.retain),
        quoted(will.topic.as_str()),
        binary(will.payload),
        properties(will.properties)
    )
}

fn describe_publish(publish: &Publish<'_>) -> String {
    let delivery = match publish.delivery {
        Delivery::AtMostOnce => "q0".to_owned(),
        Delivery::AtLeastOnce { id, dup } => format!("q1 id={} dup={}", id.get(), u8::from(dup)),
        Delivery::ExactlyOnce { id, dup } => format!("q2 id={} dup={}", id.get(), u8::from(dup)),
    };
    format!(
        "PUBLISH {delivery} retain={} topic={} payload={}{}",
        u8::from(publish.retain),
        publish.topic.map_or_else(|| "-".to_owned(), |topic| quoted(topic.as_str())),
        binary(publish.payload),
        properties(publish.properties)
    )
}

fn describe_ack(name: &str, ack: &Ack<'_>) -> String {
    format!("{name} id={} code={}{}", ack.packet_id.get(), code(ack.reason_code), properties(ack.properties))
}

fn describe_subscribe(subscribe: &Subscribe<'_>) -> String {
    let filters: Vec<_> = subscribe
        .filters()
        .map(|(filter, options)| {
            let mut out = format!("{} q{}", quoted(filter.as_str()), level(options.qos));
            out.push_str(if options.no_local { " nl" } else { "" });
            out.push_str(if options.retain_as_published { " rap" } else { "" });
            match options.retain_handling {
                damselfly_codec::RetainHandling::SendAtSubscribe => {}
                damselfly_codec::RetainHandling::SendIfNew => out.push_str(" rh=1"),
                damselfly_codec::RetainHandling::DoNotSend => out.push_str(" rh=2"),
            }
            out
        })
        .collect();
    format!("SUBSCRIBE id={} [{}]{}", subscribe.packet_id.get(), filters.join(", "), properties(subscribe.properties))
}

fn describe_answer(name: &str, id: u16, codes: impl Iterator<Item = ReasonCode>, all: Properties<'_>) -> String {
    let codes: Vec<_> = codes.map(code).collect();
    format!("{name} id={id} [{}]{}", codes.join(" "), properties(all))
}

/// Nothing without properties, otherwise ` {name=value, …}`.
fn properties(all: Properties<'_>) -> String {
    if all.is_empty() {
        return String::new();
    }
    let list: Vec<_> = all.iter().map(property).collect();
    format!(" {{{}}}", list.join(", "))
}

fn property(property: Property<'_>) -> String {
    match property {
        Property::PayloadFormatIndicator(flag) => format!("payload_format_indicator={}", u8::from(flag)),
        Property::MessageExpiryInterval(seconds) => format!("message_expiry_interval={seconds}"),
        Property::ContentType(text) => format!("content_type={}", quoted(text)),
        Property::ResponseTopic(topic) => format!("response_topic={}", quoted(topic.as_str())),
        Property::CorrelationData(data) => format!("correlation_data={}", binary(data)),
        Property::SubscriptionIdentifier(id) => format!("subscription_identifier={}", id.get()),
        Property::SessionExpiryInterval(seconds) => format!("session_expiry_interval={seconds}"),
        Property::AssignedClientIdentifier(text) => format!("assigned_client_identifier={}", quoted(text)),
        Property::ServerKeepAlive(seconds) => format!("server_keep_alive={seconds}"),
        Property::AuthenticationMethod(text) => format!("authentication_method={}", quoted(text)),
        Property::AuthenticationData(data) => format!("authentication_data={}", binary(data)),
        Property::RequestProblemInformation(flag) => format!("request_problem_information={}", u8::from(flag)),
        Property::WillDelayInterval(seconds) => format!("will_delay_interval={seconds}"),
        Property::RequestResponseInformation(flag) => format!("request_response_information={}", u8::from(flag)),
        Property::ResponseInformation(text) => format!("response_information={}", quoted(text)),
        Property::ServerReference(text) => format!("server_reference={}", quoted(text)),
        Property::ReasonString(text) => format!("reason_string={}", quoted(text)),
        Property::ReceiveMaximum(count) => format!("receive_maximum={count}"),
        Property::TopicAliasMaximum(count) => format!("topic_alias_maximum={count}"),
        Property::TopicAlias(alias) => format!("topic_alias={}", alias.get()),
        Property::MaximumQoS(qos) => format!("maximum_qos={}", level(qos)),
        Property::RetainAvailable(flag) => format!("retain_available={}", u8::from(flag)),
        Property::UserProperty(name, value) => format!("user_property={}:{}", quoted(name), quoted(value)),
        Property::MaximumPacketSize(bytes) => format!("maximum_packet_size={bytes}"),
        Property::WildcardSubscriptionAvailable(flag) => format!("wildcard_subscription_available={}", u8::from(flag)),
        Property::SubscriptionIdentifierAvailable(flag) => {
            format!("subscription_identifier_available={}", u8::from(flag))
        }
        Property::SharedSubscriptionAvailable(flag) => format!("shared_subscription_available={}", u8::from(flag)),
    }
}

fn code(code: ReasonCode) -> String {
    format!("{:02X}", u8::from(code))
}

fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

const LONG: usize = 24;

fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    if let Some(first) = characters.next() {
        if text.chars().count() >= LONG && characters.all(|next| next == first) {
            return format!("\"{}\"*{}", shown(first), text.chars().count());
        }
    }
    format!("\"{}\"", text.chars().map(shown).collect::<String>())
}

fn shown(character: char) -> String {
    match character {
        '"' | '\\' => character.escape_unicode().to_string(),
        ' '..='~' => character.to_string(),
        _ => character.escape_unicode().to_string(),
    }
}

pub(crate) fn binary(data: &[u8]) -> String {
    if let Some(first) = data.first() {
        if data.len() >= LONG && data.iter().all(|next| next == first) {
            return format!("{first:02X}*{}", data.len());
        }
    }
    data.iter().fold(String::new(), |out, byte| out + &format!("{byte:02X}"))
}
