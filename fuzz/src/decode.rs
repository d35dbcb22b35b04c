//! Bytes from a peer.

use damselfly_codec::{FrameLimits, Packet, peek, split_frame};

use crate::{VERSIONS, laws, notation};

/// `data` is a stream; its packets, and its bytes as the body of a packet of its first byte's type, are decoded.
pub fn run(data: &[u8]) {
    let mut rest = data;
    while let Some(frame) = check_front(rest) {
        rest = &rest[frame..];
    }
    check_as_body(data);
}

/// The size of the frame at the front, if there is a whole one.
fn check_front(input: &[u8]) -> Option<usize> {
    for version in VERSIONS {
        laws::accepted_is_stable(input, version);
        laws::nothing_behind_the_frame_matters(input, version);
    }
    let limits = FrameLimits::default();
    let head = &input[..input.len().min(5)];
    assert_eq!(peek(input, &limits), peek(head, &limits), "five bytes decide");
    let frame = split_frame(input, &limits).ok()??;
    check_limits(frame);
    for version in VERSIONS {
        if let Err(error) = Packet::decode(version, frame) {
            assert!(error.offset() <= frame.len(), "{error} is outside of {} bytes", frame.len());
            assert!(u8::from(error.reason_code()) >= 0x80, "{error} is no error");
            assert!(error.statement().starts_with("MQTT"), "{error} names no statement");
        }
    }
    Some(frame.len())
}

/// A frame is cut at the limit and refused one below it.
fn check_limits(frame: &[u8]) {
    let max_packet_size = u32::try_from(frame.len()).expect("a frame fits its length");
    assert_eq!(split_frame(frame, &FrameLimits { max_packet_size }), Ok(Some(frame)));
    assert!(split_frame(frame, &FrameLimits { max_packet_size: max_packet_size - 1 }).is_err());
}

/// A Remaining Length that is right lets the decoder of the body see what the fuzzer wrote.
fn check_as_body(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let mut frame = vec![*first];
    notation::put_variable_integer(body.len(), &mut frame);
    frame.extend(body);
    for version in VERSIONS {
        laws::accepted_is_stable(&frame, version);
    }
}
