//! Framing: what is known from which byte on.

use bytes::Bytes;

use super::*;

const LIMITS: FrameLimits = FrameLimits { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE };

fn rule(input: &[u8], limits: FrameLimits) -> Rule {
    peek(input, &limits).unwrap_err().rule()
}

/// [MQTT-2.1.3-1] [MQTT3-2.2.2-1] [MQTT3-2.2.2-2]
#[test]
fn the_first_byte_alone_is_enough_to_refuse_it() {
    let allowed = |first: u8| match (first >> 4, first & 0x0F) {
        (0, _) => false,
        (3, flags) => flags & 0b0110 != 0b0110 && flags & 0b1110 != 0b1000,
        (6 | 8 | 10, flags) => flags == 2,
        (_, flags) => flags == 0,
    };
    for first in 0..=u8::MAX {
        assert_eq!(peek(&[first], &LIMITS).is_ok(), allowed(first), "{first:#04x}");
    }
}

#[test]
fn a_fixed_header_is_not_yet_there_until_its_length_ends() {
    for input in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 0x80, 0x80], &[0x30, 0xFF, 0xFF, 0xFF]] {
        assert_eq!(peek(input, &LIMITS), Ok(None), "{input:?}");
    }
}

#[test]
fn a_remaining_length_is_read_at_both_ends_of_each_size() {
    for (bytes, length, header_len) in [
        (&[0x00][..], 0, 2),
        (&[0x7F], 127, 2),
        (&[0x80, 0x01], 128, 3),
        (&[0xFF, 0x7F], 16_383, 3),
        (&[0x80, 0x80, 0x01], 16_384, 4),
        (&[0xFF, 0xFF, 0x7F], 2_097_151, 4),
        (&[0x80, 0x80, 0x80, 0x01], 2_097_152, 5),
        (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455, 5),
    ] {
        let input = [&[0x30], bytes].concat();

        let header = peek(&input, &LIMITS).unwrap().unwrap();

        assert_eq!((header.remaining_length(), header.header_len()), (length, header_len));
        assert_eq!(header.frame_len(), usize::try_from(length).unwrap() + usize::from(header_len));
    }
}

/// The fourth byte shows that there are more than four; the fifth need not come. (1.5.5)
#[test]
fn a_length_of_more_than_four_bytes_is_refused_at_the_fourth() {
    assert_eq!(rule(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], LIMITS), Rule::VariableIntegerTooLong);
    assert_eq!(rule(&[0x30, 0x80, 0x80, 0x80, 0x80], LIMITS), Rule::VariableIntegerTooLong);
}

/// [MQTT-1.5.5-1], which 3.1.1 does not say.
#[test]
fn a_length_with_spare_bytes_is_refused_in_5_0_only() {
    for frame in [&[0xC0, 0x80, 0x00][..], &[0xC0, 0x80, 0x80, 0x00], &[0xC0, 0x80, 0x80, 0x80, 0x00]] {
        assert_eq!(Packet::decode(Version::V3_1_1, frame), Ok(Packet::Pingreq));

        let error = Packet::decode(Version::V5_0, frame).unwrap_err();

        assert_eq!((error.rule(), error.offset()), (Rule::VariableIntegerNotMinimal, 1));
    }
}

#[test]
fn the_limit_counts_the_fixed_header_and_holds_before_the_body_is_there() {
    let limits = FrameLimits { max_packet_size: 127 };

    assert!(peek(&[0x30, 125], &limits).unwrap().is_some());

    let error = peek(&[0x30, 126], &limits).unwrap_err();
    assert_eq!(error.rule(), Rule::PacketTooLarge);
    assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
    assert_eq!(rule(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], limits), Rule::PacketTooLarge);
}

#[test]
fn a_frame_is_cut_exactly_and_leaves_what_follows() {
    let input = [0x40, 0x02, 0x00, 0x07, 0xC0, 0x00, 0x30];

    let first = split_frame(&input, &LIMITS).unwrap().unwrap();
    let second = split_frame(&input[first.len()..], &LIMITS).unwrap().unwrap();
    let third = split_frame(&input[first.len() + second.len()..], &LIMITS).unwrap();

    assert_eq!((first, second, third), (&input[..4], &input[4..6], None));
}

#[test]
fn an_error_of_the_framing_takes_the_numbers_of_the_connection() {
    let error = peek(&[0x31 | 0x40], &LIMITS).unwrap_err();

    assert_eq!(error.statement(), "MQTT-2.1.3-1");
    assert_eq!(error.for_version(Version::V3_1_1).statement(), "MQTT3-2.2.2-1");
    assert_eq!(Packet::decode(Version::V3_1, &[0x71, 0]).unwrap_err().statement(), "MQTT3-2.2.2-1");
}

#[test]
fn a_frame_is_one_whole_packet_within_the_limit() {
    let limits = FrameLimits { max_packet_size: 4 };
    let new = |bytes: &'static [u8]| Frame::new(Bytes::from_static(bytes), &limits).map_err(DecodeError::rule);

    assert!(new(&[0x40, 0x02, 0x00, 0x07]).is_ok());
    assert_eq!(new(&[0x40, 0x03, 0x00, 0x07, 0x00]), Err(Rule::PacketTooLarge));
    assert_eq!(new(&[0x40, 0x02, 0x00]), Err(Rule::FrameIncomplete));
    assert_eq!(new(&[]), Err(Rule::FrameIncomplete));
    assert_eq!(new(&[0xC0, 0x00, 0x00]), Err(Rule::TrailingBytes));
    assert_eq!(new(&[0xC1, 0x00]), Err(Rule::FlagsReserved));
}

#[test]
fn a_part_of_a_frame_shares_its_memory_and_a_foreign_slice_is_copied() {
    let frame = Frame::new(Bytes::from(b"\x30\x06\x00\x01tabc".to_vec()), &LIMITS).unwrap();
    let Ok(Packet::Publish(publish)) = frame.packet(Version::V3_1_1) else { panic!("a PUBLISH") };
    let foreign = b"abc".to_vec();

    let shared = frame.slice_ref(publish.payload);
    let copied = frame.slice_ref(&foreign);

    assert_eq!(shared.as_ptr(), publish.payload.as_ptr());
    assert_ne!(copied.as_ptr(), foreign.as_ptr());
    assert_eq!(shared, copied);
    assert!(frame.slice_ref(&[]).is_empty());
    assert_eq!(format!("{frame:?}"), "Frame { packet_type: Some(Publish), len: 8 }");
}

/// [MQTT-3.1.0-1]
#[test]
fn a_brokers_decoder_wants_a_connect_first_and_learns_the_version() {
    let mut connect = Vec::new();
    Connect::new(Version::V3_1_1, "c").encode(Foreign::Reject, &mut connect).unwrap();
    connect.extend_from_slice(&[0xE0, 0x00]);
    let mut decoder = Decoder::before_connect(LIMITS);

    assert_eq!(decoder.decode(&[0xC0]), Ok(None));
    assert_eq!(decoder.decode(&[0xC0, 0x00]).unwrap_err().rule(), Rule::ConnectExpected);
    assert_eq!(decoder.decode(&connect[..9]), Ok(None));
    assert_eq!(decoder.version(), None);
    let (packet, len) = decoder.decode(&connect).unwrap().unwrap();
    assert_eq!(packet.packet_type(), PacketType::Connect);
    assert_eq!(decoder.version(), Some(Version::V3_1_1));
    let expected = Packet::Disconnect(Disconnect::with_reason(ReasonCode::Success));
    assert_eq!(decoder.decode(&connect[len..]), Ok(Some((expected, 2))));
    assert_eq!(decoder.decode(&[0xE0, 0x01, 0x00]).unwrap_err().statement(), "MQTT3-2.2.3");
}
