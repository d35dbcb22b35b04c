//! An error says at which byte of the frame the rule is broken: where the field begins that breaks it.

use damselfly_codec::{Packet, Rule, Version};

use Rule as R;
use Version::{V3_1, V3_1_1, V5_0};

/// The second column is the frame; its remaining length is counted, not written.
const CASES: &[(Version, u8, &[u8], Rule, usize)] = &[
    (V5_0, 0xC0, &[0], R::TrailingBytes, 2),
    (V5_0, 0x40, &[0, 0], R::PacketIdZero, 2),
    (V5_0, 0x40, &[0, 1, 0x01], R::PubackReasonCode, 4),
    (V5_0, 0x50, &[0, 1, 0x01], R::PubrecReasonCode, 4),
    (V5_0, 0x62, &[0, 1, 0x01], R::PubrelReasonCode, 4),
    (V5_0, 0x70, &[0, 1, 0x01], R::PubcompReasonCode, 4),
    (V5_0, 0x40, &[0, 1, 0, 2, 0x01, 0], R::PropertyNotAllowed, 6),
    (V5_0, 0x40, &[0, 1, 0, 0x80, 0], R::VariableIntegerNotMinimal, 5),
    (V5_0, 0x40, &[0, 1, 0, 5, 0x1F, 0, 2, b'a', 0xFF], R::NotUtf8, 7),
    (V3_1_1, 0x40, &[0, 1, 0], R::TrailingBytes, 4),
    (V5_0, 0x20, &[2, 0, 0], R::ConnackFlagsReserved, 2),
    (V3_1, 0x20, &[1, 0], R::ConnackFlagsReserved, 2),
    (V5_0, 0x20, &[0, 1, 0], R::ConnackReasonCode, 3),
    (V5_0, 0x20, &[1, 0x80, 0], R::SessionPresentWithError, 2),
    (V5_0, 0x20, &[0, 0], R::PropertyLengthMissing, 4),
    (V5_0, 0x20, &[0, 0, 2, 0x24, 2], R::MaximumQoSInvalid, 6),
    (V5_0, 0x20, &[0, 0, 2, 0x25, 2], R::AvailabilityInvalid, 6),
    (V5_0, 0x30, &[0], R::TopicNameCut, 2),
    (V5_0, 0x30, &[0, 5, b'a'], R::TopicNameCut, 2),
    (V5_0, 0x30, &[0, 1, b'+', 0], R::TopicNameWildcard, 2),
    (V5_0, 0x30, &[0, 0, 0], R::TopicNameMissing, 2),
    (V3_1_1, 0x32, &[0, 0], R::TopicNameMissing, 2),
    (V5_0, 0x32, &[0, 1, b'a'], R::CutShort, 5),
    (V5_0, 0x32, &[0, 1, b'a', 0, 0, 0], R::PacketIdZero, 5),
    (V5_0, 0x30, &[0, 1, b'a', 5, 0x02, 0, 0], R::CutShort, 5),
    (V5_0, 0x30, &[0, 1, b'a', 3, 0x02, 0, 0, b'x'], R::CutShort, 7),
    (V5_0, 0x30, &[0, 1, b'a', 4, 0x01, 0, 0x01, 0, b'x'], R::PropertyTwice, 8),
    (V5_0, 0x30, &[0, 1, b'a', 2, 0x01, 2, b'x'], R::PayloadFormatInvalid, 7),
    (V5_0, 0x30, &[0, 1, b'a', 3, 0x23, 0, 0, b'x'], R::TopicAliasZero, 7),
    (V5_0, 0x30, &[0, 1, b'a', 4, 0x08, 0, 1, b'#', b'x'], R::ResponseTopicWildcard, 7),
    (V3_1_1, 0x82, &[0, 1], R::SubscribeEmpty, 4),
    (V3_1_1, 0x82, &[0, 1, 0, 0, 0], R::TopicFilterEmpty, 4),
    (V3_1_1, 0x82, &[0, 1, 0, 1, b'a', 4], R::SubscriptionOptionsReserved, 7),
    (V3_1_1, 0x82, &[0, 1, 0, 1, b'a', 0, 0, 1, b'b', 3], R::SubscriptionQoSInvalid, 11),
    (V3_1_1, 0x82, &[0, 1, 0, 1, b'a', 0, 0, 2, b'b', b'+', 0], R::SingleLevelWildcard, 8),
    (V5_0, 0x82, &[0, 1, 0, 0, 1, b'a', 0x30], R::RetainHandlingInvalid, 8),
    (V5_0, 0x82, &[0, 1, 2, 0x0B, 0, 0, 1, b'a', 0], R::SubscriptionIdZero, 6),
    (V5_0, 0x90, &[0, 1, 0, 0x03], R::SubackReasonCode, 5),
    (V5_0, 0x90, &[0, 1, 0, 0x00, 0x03, 0x00], R::SubackReasonCode, 6),
    (V5_0, 0x90, &[0, 1, 0], R::SubackEmpty, 5),
    (V5_0, 0xA2, &[0, 1, 0], R::UnsubscribeEmpty, 5),
    (V3_1_1, 0xA2, &[0, 1, 0, 1, b'a', 0, 2, b'#', b'b'], R::MultiLevelWildcard, 7),
    (V5_0, 0xB0, &[0, 1, 0, 0x00, 0x01], R::UnsubackReasonCode, 6),
    (V5_0, 0xB0, &[0, 1, 0], R::UnsubackEmpty, 5),
    (V5_0, 0xE0, &[0x01], R::DisconnectReasonCode, 2),
    (V3_1_1, 0xE0, &[0x00], R::TrailingBytes, 2),
    (V5_0, 0xF0, &[0x01], R::AuthReasonCode, 2),
    (V5_0, 0xF0, &[0x18, 0], R::AuthenticationMethodMissing, 2),
    (V3_1_1, 0xF0, &[], R::AuthNotInVersion, 0),
    (V5_0, 0x00, &[], R::PacketTypeReserved, 0),
    (V5_0, 0x10, b"\0\x04MQTX\x05\x02\0\0\0\0\x01c", R::ProtocolNameUnknown, 2),
    (V5_0, 0x10, b"\0\x04MQTT\x06\x02\0\0\0\0\x01c", R::ProtocolVersionUnsupported, 8),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x03\0\0\0\0\x01c", R::ConnectFlagReserved, 9),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x02\0", R::CutShort, 10),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x02\0\0\x03\x16\0\0\0\x01c", R::AuthenticationDataAlone, 12),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x02\0\0\0", R::ClientIdMissing, 13),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x02\0\0\x02\x17\x02\0\x01c", R::RequestInformationInvalid, 14),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x02\0\0\x02\x19\x02\0\x01c", R::RequestInformationInvalid, 14),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01c\0", R::UserNameNotFlagged, 16),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x82\0\0\0\0\x01c\0\x01u\0", R::PasswordNotFlagged, 19),
    (V5_0, 0x10, b"\0\x04MQTT\x05\xC2\0\0\0\0\x01c\0\x01u\0\x01p\0", R::TrailingBytes, 22),
    (V5_0, 0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c\0\0\x01#\0\0", R::WillTopicWildcard, 17),
];

fn refused(version: Version, frame: &[u8]) -> (Rule, usize) {
    let error = Packet::decode(version, frame).expect_err("a rule is broken");
    (error.rule(), error.offset())
}

#[test]
fn the_offset_is_that_of_the_field_that_breaks_the_rule() {
    for (version, first, body, rule, offset) in CASES {
        let len = u8::try_from(body.len()).expect("short");
        let frame = [&[*first, len], *body].concat();
        assert_eq!(refused(*version, &frame), (*rule, *offset), "{frame:02X?}");
    }
}

/// The fixed header counts too, whatever its length.
#[test]
fn the_offset_counts_a_longer_fixed_header() {
    for (len, header_len) in [(20, 2), (200, 3), (20_000, 4)] {
        let mut body = vec![0, 1, b'+', 0];
        body.resize(len, b'x');
        let mut frame = vec![0x30];
        let mut rest = len;
        while rest > 127 {
            frame.push(u8::try_from(rest % 128).expect("seven bits") | 0x80);
            rest /= 128;
        }
        frame.push(u8::try_from(rest).expect("seven bits"));
        frame.extend_from_slice(&body);
        assert_eq!(refused(V5_0, &frame), (R::TopicNameWildcard, header_len));
    }
}

/// Framing is refused where it is seen: a length at its first byte, a missing end at the end.
#[test]
fn the_offset_of_a_frame_that_is_none() {
    for (frame, rule, offset) in [
        (&[0x40, 0x02, 0x00][..], R::FrameIncomplete, 3),
        (&[0x40], R::FrameIncomplete, 1),
        (&[], R::FrameIncomplete, 0),
        (&[0xC0, 0x00, 0x00, 0x00], R::TrailingBytes, 2),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x00], R::VariableIntegerTooLong, 1),
        (&[0xC0, 0x80, 0x00], R::VariableIntegerNotMinimal, 1),
        (&[0xC1, 0x00], R::FlagsReserved, 0),
    ] {
        assert_eq!(refused(V5_0, frame), (rule, offset), "{frame:02X?}");
    }
}
