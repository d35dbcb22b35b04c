//! Codecs.

use std::hint::black_box;

use bytes::BytesMut;
use damselfly_codec::{Foreign, FrameLimits, Packet, Version, peek};

/// How a codec takes its input. Each decodes all packets and gives their number, or says what it did not like.
#[derive(Clone, Copy)]
pub enum Decode {
    /// From a borrowed slice.
    Slice(fn(Version, &[u8]) -> Result<usize, String>),
    /// From a buffer that it splits.
    Buffer(fn(Version, &mut BytesMut) -> Result<usize, String>),
}

impl Decode {
    /// Decodes all of it.
    pub fn run(self, version: Version, input: &[u8]) -> Result<usize, String> {
        match self {
            Self::Slice(decode) => decode(version, input),
            Self::Buffer(decode) => decode(version, &mut BytesMut::from(input)),
        }
    }
}

/// Encodes one packet, prepared beforehand, into a buffer that is used again, and gives its length.
pub type Encoder = Box<dyn FnMut() -> usize>;

/// One codec.
#[derive(Clone, Copy)]
pub struct Codec {
    /// Crate name.
    pub name: &'static str,
    /// The versions it speaks.
    pub versions: &'static [Version],
    /// Its way in.
    pub decode: Decode,
    /// Its way out: prepared with one frame.
    pub encoder: fn(Version, &[u8]) -> Result<Encoder, String>,
}

/// Ours.
pub const DAMSELFLY: Codec =
    Codec { name: "damselfly", versions: &[Version::V3_1_1, Version::V5_0], decode: Decode::Slice(decode), encoder };

/// Ours, and with the feature `rivals` the others.
pub fn all() -> Vec<Codec> {
    #[cfg_attr(not(feature = "rivals"), expect(unused_mut, reason = "rivals are added to it"))]
    let mut list = vec![DAMSELFLY];
    #[cfg(feature = "rivals")]
    list.extend(super::rival_codecs::ALL);
    list
}

fn decode(version: Version, input: &[u8]) -> Result<usize, String> {
    let limits = FrameLimits::default();
    let (mut rest, mut count) = (input, 0);
    while let Some(header) = peek(rest, &limits).map_err(|error| error.to_string())? {
        let Some((frame, behind)) = rest.split_at_checked(header.frame_len()) else { break };
        let body = &frame[usize::from(header.header_len())..];
        match Packet::decode_body(version, header, body) {
            Ok(packet) => black_box(&packet),
            Err(error) => return Err(error.to_string()),
        };
        rest = behind;
        count += 1;
    }
    Ok(count)
}

fn encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    // The packet borrows its frame for as long as it is encoded: the rest of the program.
    let frame: &'static [u8] = frame.to_vec().leak();
    let packet = Packet::decode(version, frame).map_err(|error| error.to_string())?;
    let mut out = Vec::with_capacity(frame.len());
    Ok(Box::new(move || {
        out.clear();
        // A decoded packet is one that can be encoded.
        let encoded = black_box(&packet).encode(version, Foreign::Strip, &mut out);
        if encoded.is_ok() { out.len() } else { 0 }
    }))
}

/// Ours for a PUBLISH that it has decoded itself.
pub fn forwarder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let frame: &'static [u8] = frame.to_vec().leak();
    let Packet::Publish(packet) = Packet::decode(version, frame).map_err(|error| error.to_string())? else {
        return Err("not a PUBLISH".to_owned());
    };
    let mut out = Vec::with_capacity(frame.len());
    Ok(Box::new(move || {
        out.clear();
        let encoded = black_box(&packet).encode_checked(version, Foreign::Strip, &mut out);
        if encoded.is_ok() { out.len() } else { 0 }
    }))
}
