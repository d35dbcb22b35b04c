//! Small spaces, looked at whole.

use damselfly_codec::{FrameLimits, Packet, Version, peek, split_frame};

use crate::notation::put_variable_integer;

/// All 256 Connect Flags, each with exactly the payload they announce. [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11]
/// [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT3-3.1.2-3] [MQTT3-3.1.2-9] [MQTT3-3.1.2-11]
/// [MQTT3-3.1.2-13] [MQTT3-3.1.2-14] [MQTT3-3.1.2-15] [MQTT3-3.1.2-19] [MQTT3-3.1.2-21] [MQTT3-3.1.2-22]
#[test]
fn connect_flags_are_taken_as_the_standard_lists_them() {
    for (version, level) in [(Version::V3_1_1, 4), (Version::V5_0, 5)] {
        for flags in 0..=u8::MAX {
            let bit = |mask: u8| flags & mask != 0;
            let will_qos = flags >> 3 & 3;
            let is_allowed =
                !bit(0x01) && (bit(0x04) || !bit(0x38)) && will_qos != 3 && (level == 5 || bit(0x80) || !bit(0x40));

            let frame = connect(level, flags);
            let outcome = Packet::decode(version, &frame);

            assert_eq!(outcome.is_ok(), is_allowed, "flags {flags:08b} at level {level}: {outcome:?}");
            let Ok(Packet::Connect(view)) = outcome else { continue };
            let connect = view.fields();
            assert_eq!(connect.version, version);
            assert_eq!(connect.clean_start, bit(0x02));
            assert_eq!(connect.user_name, bit(0x80).then_some("user"));
            assert_eq!(connect.password, bit(0x40).then_some(&b"pass"[..]));
            let will = connect.will.map(|will| (will.qos.level(), will.retain, will.topic.as_str(), will.payload));
            assert_eq!(will, bit(0x04).then_some((will_qos, bit(0x20), "will", &b"bye"[..])));
        }
    }
}

/// The same flags with a payload for other flags: a field too many or too few is never overlooked.
/// [MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT-3.1.3-1] [MQTT3-3.1.2-18] [MQTT3-3.1.2-20] [MQTT3-3.1.3-1]
#[test]
fn connect_payload_is_the_one_the_flags_announce() {
    for level in [4, 5] {
        let announced = [0x02, 0x06, 0x82, 0xC2, 0x86, 0xC6];
        for flags in announced {
            // Before 5.0 a will and a pair of user name and password look alike.
            let fields = |flags: u8| (flags & 0xC4).count_ones() + u32::from(flags & 0x04 != 0);
            let differs = |other: &u8| *other != flags && (level == 5 || fields(*other) != fields(flags));
            for payload_of in announced.into_iter().filter(differs) {
                let mut frame = connect(level, payload_of);
                frame[9] = flags;
                let outcome = Packet::decode(Version::V5_0, &frame);
                assert!(outcome.is_err(), "{flags:08b} with the payload of {payload_of:08b}: {outcome:?}");
            }
        }
    }
}

fn connect(level: u8, flags: u8) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60];
    let properties = |body: &mut Vec<u8>| body.extend((level == 5).then_some(0));
    let field = |body: &mut Vec<u8>, text: &str| {
        body.extend([0, u8::try_from(text.len()).expect("a short text")]);
        body.extend(text.bytes());
    };
    properties(&mut body);
    field(&mut body, "client");
    if flags & 0x04 != 0 {
        properties(&mut body);
        field(&mut body, "will");
        field(&mut body, "bye");
    }
    if flags & 0x80 != 0 {
        field(&mut body, "user");
    }
    if flags & 0x40 != 0 {
        field(&mut body, "pass");
    }
    let mut frame = vec![0x10];
    put_variable_integer(body.len(), &mut frame);
    frame.extend(body);
    frame
}

/// All 256 options bytes of SUBSCRIBE. [MQTT-3.8.3-5] [MQTT3-3.8.3-4]
#[test]
fn subscription_options_are_taken_as_the_standard_lists_them() {
    for options in 0..=u8::MAX {
        let five = [0x82, 7, 0, 1, 0, 0, 1, b'a', options];
        let three = [0x82, 6, 0, 1, 0, 1, b'a', options];
        let is_allowed = options & 0xC0 == 0 && options & 0x03 != 3 && options & 0x30 != 0x30;
        assert_eq!(Packet::decode(Version::V5_0, &five).is_ok(), is_allowed, "{options:08b}");
        for version in [Version::V3_1, Version::V3_1_1] {
            assert_eq!(Packet::decode(version, &three).is_ok(), options < 3, "{options:08b} on {version:?}");
        }
    }
}

/// Every first byte: known after one byte whether it can begin a packet. [MQTT-2.1.3-1] [MQTT-3.3.1-2] [MQTT-3.3.1-4]
#[test]
fn first_bytes_are_judged_at_once() {
    for first in 0..=u8::MAX {
        let (packet_type, flags) = (first >> 4, first & 0x0F);
        let is_allowed = match packet_type {
            0 => false,
            3 => flags & 0x06 != 0x06 && (flags & 0x08 == 0 || flags & 0x06 != 0),
            6 | 8 | 10 => flags == 2,
            _ => flags == 0,
        };
        let outcome = peek(&[first], &FrameLimits::default());
        assert_eq!(outcome.is_ok(), is_allowed, "{first:02X}");
        assert!(matches!(outcome, Ok(None) | Err(_)), "one byte is no fixed header");
    }
}

/// The Remaining Length on both sides of each step in its length. [MQTT-1.5.5-1]
#[test]
fn remaining_lengths_are_read_at_their_steps() {
    for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
        let mut header = vec![0x30];
        put_variable_integer(len, &mut header);
        let peeked = peek(&header, &FrameLimits::default()).expect("a length").expect("a whole header");
        assert_eq!(usize::try_from(peeked.remaining_length()), Ok(len));
        assert_eq!(usize::from(peeked.header_len()), header.len());
        assert_eq!(peeked.frame_len(), header.len() + len);
        for cut in 0..header.len() {
            assert_eq!(peek(&header[..cut], &FrameLimits::default()), Ok(None), "{len} cut to {cut} bytes");
        }
    }
}

/// A packet of the protocol's maximum is announced in five bytes and refused on them.
#[test]
fn announced_sizes_above_the_limit_are_refused_before_they_arrive() {
    let limits = FrameLimits { max_packet_size: 127 };
    assert_eq!(split_frame(&[0x30, 125], &limits), Ok(None));
    let error = split_frame(&[0x30, 126], &limits).expect_err("128 bytes in all");
    assert_eq!(u8::from(error.reason_code()), 0x95);
    assert!(split_frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &limits).is_err());
    assert_eq!(split_frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &FrameLimits::default()), Ok(None));
}
