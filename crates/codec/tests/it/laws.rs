//! What has to hold for whatever bytes and packets there are: shared by property tests and fuzz targets.

use damselfly_codec::{DecodeError, Decoder, Foreign, FrameLimits, Packet, Version, split_frame};

use crate::build::with_packet;
use crate::reference::Model;

/// The encoder writes what the naive encoder wrote, of the length it promised, and the decoder reads the packet again.
pub(crate) fn round_trip(model: &Model, version: Version, bytes: &[u8]) {
    with_packet(model, version, |packet| {
        assert_eq!(encode(&packet, version), bytes, "{packet:?}");
        assert_eq!(Packet::decode(version, bytes), Ok(packet));
    });
}

/// Whatever the decoder accepts can be encoded, to no more bytes, into something that means the same.
pub(crate) fn accepted_is_stable(bytes: &[u8], version: Version) {
    let Ok(packet) = Packet::decode(version, bytes) else { return };
    // A CONNECT says its own version.
    let version = if let Packet::Connect(view) = &packet { view.fields().version } else { version };
    let again = encode(&packet, version);
    assert!(again.len() <= bytes.len(), "{packet:?}");
    assert_eq!(Packet::decode(version, &again), Ok(packet));
    let twice = encode(&Packet::decode(version, &again).expect("a packet"), version);
    assert_eq!(twice, again, "the encoder has one form for each packet");
}

/// The framing and the decoder look at nothing behind the frame, and agree about where it ends.
pub(crate) fn nothing_behind_the_frame_matters(input: &[u8], version: Version) {
    let limits = FrameLimits::default();
    let Ok(Some(frame)) = split_frame(input, &limits) else { return };
    let alone = frame.to_vec();
    assert_eq!(split_frame(&alone, &limits), Ok(Some(&alone[..])));
    assert_eq!(Packet::decode(version, &alone), Packet::decode(version, frame));
    for behind in [0x00, 0xFF] {
        let mut longer = alone.clone();
        longer.resize(alone.len() + 7, behind);
        assert_eq!(split_frame(&longer, &limits), Ok(Some(&alone[..])));
        assert!(Packet::decode(version, &longer).is_err(), "the decoder takes exactly one frame");
    }
    for cut in alone.len().saturating_sub(3)..alone.len() {
        assert!(Packet::decode(version, &alone[..cut]).is_err(), "and all of it");
    }
}

/// What a reader makes of a stream that arrives in pieces: whole packets until one is refused.
pub(crate) fn read_in_pieces(stream: &[u8], sizes: &[usize], version: Version) -> (Vec<Vec<u8>>, Option<DecodeError>) {
    let mut frames = Vec::new();
    let mut waiting: Vec<u8> = Vec::new();
    let mut arrived = stream;
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(1 << 20));
    while !arrived.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, arrived.len());
        let (piece, rest) = arrived.split_at(size);
        waiting.extend(piece);
        arrived = rest;
        loop {
            match first_frame(&waiting, version) {
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
                Ok(Some(frame)) => {
                    waiting.drain(..frame.len());
                    frames.push(frame);
                }
            }
        }
    }
    (frames, None)
}

/// The frame of the packet at the front, by framing and decoding, and by the decoder that does both.
fn first_frame(waiting: &[u8], version: Version) -> Result<Option<Vec<u8>>, DecodeError> {
    let limits = FrameLimits::default();
    let framed = split_frame(waiting, &limits).map_err(|error| error.for_version(version));
    let decoded = framed.and_then(|frame| match frame {
        Some(frame) => Packet::decode(version, frame).map(|packet| Some((packet, frame.len()))),
        None => Ok(None),
    });
    assert_eq!(Decoder::new(version, limits).decode(waiting), decoded);
    Ok(decoded?.map(|(_, len)| waiting[..len].to_vec()))
}

fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let len = packet.encoded_len(version, Foreign::Reject).expect("a packet that can be encoded");
    let mut out = vec![0xEE];
    packet.encode(version, Foreign::Reject, &mut out).expect("a packet that can be encoded");
    assert_eq!(out.len(), 1 + len, "encoded_len is exact");
    assert_eq!(out.remove(0), 0xEE, "encoding appends");
    if let Packet::Publish(publish) = packet {
        let mut passed_on = Vec::new();
        publish.encode_checked(version, Foreign::Reject, &mut passed_on).expect("a packet that can be encoded");
        assert_eq!(passed_on, out, "what was decoded need not be checked again");
    }
    out
}
