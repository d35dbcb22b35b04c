//! Packets as one line of text, for people: a log, a page, a diagram.

use std::fmt::Write;

use damselfly_codec::{Ack, Connect, Delivery, Packet, Publish, ReasonCode, Version};
use damselfly_topic::TopicFilter;

/// The most bytes of one name that a line shows.
const LONGEST_NAME: usize = 80;
/// The most filters or Reason Codes that a line shows.
const MOST: usize = 3;

/// A packet in words: its type as the standard writes it, then what tells it from others of its type. Neither payload nor
/// password nor Authentication Data is shown, and a peer cannot make the line longer than some 400 bytes.
///
/// ```
/// use damselfly_codec::{Packet, Version};
///
/// let publish = Packet::decode(Version::V3_1_1, b"\x33\x0b\x00\x05a/b\nc\x00\x07hi").unwrap();
/// assert_eq!(damselfly_examples::packet_in_words(&publish), "PUBLISH a/b\\nc QoS 1 id 7, RETAIN, 2 bytes");
/// ```
pub fn packet_in_words(packet: &Packet<'_>) -> String {
    let name = packet.packet_type().name();
    let rest = match packet {
        Packet::Connect(view) => connect(&view.fields()),
        Packet::Connack(connack) => {
            let session = if connack.session_present { ", Session Present" } else { "" };
            format!("{}{session}", connack.reason_code)
        }
        Packet::Publish(packet) => publish_in_words(packet, packet.payload.len()),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => acknowledgement(ack),
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.filters().map(|(filter, options)| format!("{} QoS {}", shown(filter), options.qos));
            format!("{} id {}", list(filters), subscribe.packet_id)
        }
        Packet::Suback(suback) => format!("id {}: {}", suback.packet_id, codes(suback.reason_codes())),
        Packet::Unsubscribe(unsubscribe) => {
            format!("{} id {}", list(unsubscribe.filters().map(shown)), unsubscribe.packet_id)
        }
        Packet::Unsuback(unsuback) => format!("id {}: {}", unsuback.packet_id, codes(unsuback.reason_codes())),
        Packet::Pingreq | Packet::Pingresp => String::new(),
        Packet::Disconnect(disconnect) => disconnect.reason_code.to_string(),
        Packet::Auth(auth) => auth.reason_code.to_string(),
    };
    format!("{name} {rest}").trim_end().to_owned()
}

fn connect(connect: &Connect<'_>) -> String {
    let mut text = format!("{} as {}", connect.version, name(connect.client_id));
    let is_old = connect.version != Version::V5_0;
    let facts = [
        (connect.clean_start, if is_old { "Clean Session" } else { "Clean Start" }),
        (connect.will.is_some(), "a will"),
        (connect.user_name.is_some(), "a User Name"),
    ];
    for (_, word) in facts.iter().filter(|(is_so, _)| *is_so) {
        text.extend([", ", word]);
    }
    // A String takes everything.
    let _ = write!(text, ", keep alive {} s", connect.keep_alive);
    text
}

/// What follows the name of a PUBLISH, whose payload may not be at hand.
pub(crate) fn publish_in_words(publish: &Publish<'_>, payload_len: usize) -> String {
    let topic = publish.topic.map_or_else(|| "by Topic Alias".to_owned(), |topic| name(topic.as_str()));
    let (qos, id, dup) = match publish.delivery {
        Delivery::AtMostOnce => (0, None, false),
        Delivery::AtLeastOnce { id, dup } => (1, Some(id), dup),
        Delivery::ExactlyOnce { id, dup } => (2, Some(id), dup),
    };
    let id = id.map(|id| format!(" id {id}")).unwrap_or_default();
    let (dup, retain) = (if dup { ", DUP" } else { "" }, if publish.retain { ", RETAIN" } else { "" });
    format!("{topic} QoS {qos}{id}{dup}{retain}, {payload_len} bytes")
}

fn acknowledgement(ack: &Ack<'_>) -> String {
    match ack.reason_code {
        ReasonCode::Success => format!("id {}", ack.packet_id),
        reason_code => format!("id {}: {reason_code}", ack.packet_id),
    }
}

fn codes(codes: impl Iterator<Item = ReasonCode>) -> String {
    list(codes.map(|code| code.to_string()))
}

fn shown(filter: TopicFilter<'_>) -> String {
    name(filter.as_str())
}

/// The first few, and how many are left.
fn list(mut items: impl Iterator<Item = String>) -> String {
    let shown: Vec<_> = items.by_ref().take(MOST).collect();
    let left = items.count();
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    shown.join(", ") + &more
}

/// A name that a peer chose, in one line and not too long.
fn name(text: &str) -> String {
    if text.len() <= LONGEST_NAME {
        return text.escape_debug().to_string();
    }
    let end = (0..=LONGEST_NAME).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default().escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(version: Version, frame: &[u8]) -> String {
        packet_in_words(&Packet::decode(version, frame).unwrap())
    }

    #[test]
    fn a_line_says_what_a_packet_is_and_no_secret() {
        let connect = b"\x10\x20\0\x04MQTT\x04\xC6\0\x3c\0\x01a\0\x01w\0\x01x\0\x01u\0\x08password";
        let line = words(Version::V3_1_1, connect);
        assert_eq!(line, "CONNECT 3.1.1 as a, Clean Session, a will, a User Name, keep alive 60 s");
        assert_eq!(words(Version::V3_1_1, b"\x20\x02\x01\0"), "CONNACK Success (0x00), Session Present");
        assert_eq!(words(Version::V5_0, b"\x20\x03\0\x87\0"), "CONNACK Not authorized (0x87)");
        assert_eq!(words(Version::V3_1_1, b"\x3c\x05\0\x01t\0\x09"), "PUBLISH t QoS 2 id 9, DUP, 0 bytes");
        assert_eq!(words(Version::V5_0, b"\x30\x06\0\0\x03\x23\0\x01"), "PUBLISH by Topic Alias QoS 0, 0 bytes");
        assert_eq!(words(Version::V3_1_1, b"\x40\x02\0\x09"), "PUBACK id 9");
        assert_eq!(words(Version::V5_0, b"\x40\x03\0\x09\x10"), "PUBACK id 9: No matching subscribers (0x10)");
        assert_eq!(words(Version::V3_1_1, b"\xc0\0"), "PINGREQ");
        let subscribe = b"\x82\x12\0\x01\0\x01a\0\0\x01b\x01\0\x01c\x02\0\x01d\0";
        assert_eq!(words(Version::V3_1_1, subscribe), "SUBSCRIBE a QoS 0, b QoS 1, c QoS 2 and 1 more id 1");
        assert_eq!(
            words(Version::V3_1_1, b"\x90\x04\0\x01\x80\x01"),
            "SUBACK id 1: Unspecified error (0x80), Granted QoS 1 (0x01)"
        );
    }

    #[test]
    fn a_name_is_shown_up_to_its_limit() {
        let at = "é".repeat(LONGEST_NAME / 2);
        assert_eq!(name(&at), at);
        assert_eq!(name(&format!("{at}x")), format!("{at}…"));
        assert_eq!(name(&format!("x{at}")), format!("x{}…", "é".repeat(LONGEST_NAME / 2 - 1)));
    }
}
