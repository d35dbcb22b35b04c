//! Codecs.

use std::hint::black_box;

use bytes::BytesMut;
use damselfly_codec::{Foreign, FrameLimits, Packet, Publish, Version, peek};

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

/// The loop in which every codec decodes: `$next` takes one packet off `$input`, until nothing is left.
///
/// A macro, so that what `$next` gives is looked at where it is made: a packet that a call of the harness hands on is a
/// copy that no user of the codec would pay for. An error becomes a text only when there is one.
macro_rules! decode_all {
    ($input:ident, $next:expr, $taken:pat => $packet:ident) => {{
        let mut count = 0;
        while !$input.is_empty() {
            match $next {
                $taken => {
                    std::hint::black_box(&$packet);
                }
                other => return Err(format!("{other:?}")),
            }
            count += 1;
        }
        Ok(count)
    }};
}
#[cfg(feature = "rivals")]
pub(super) use decode_all;

/// Encodes one packet, prepared beforehand.
pub trait Encode {
    /// Does it and gives the length, 0 if it was refused.
    fn run(&mut self) -> usize;

    /// Does it and gives what was written.
    fn written(&mut self) -> Vec<u8>;
}

/// See [`Encode`].
pub type Encoder = Box<dyn Encode>;

/// Prepares the encoding of the packet in this frame.
pub type Prepare = fn(Version, &[u8]) -> Result<Encoder, String>;

/// What a codec writes into.
pub trait Buffer {
    /// Takes everything out and keeps the memory.
    fn clear(&mut self);

    /// What is in it.
    fn bytes(&self) -> &[u8];
}

impl Buffer for Vec<u8> {
    fn clear(&mut self) {
        self.clear();
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Buffer for BytesMut {
    fn clear(&mut self) {
        self.clear();
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

struct Reusing<P, B, F> {
    packet: P,
    out: B,
    write: F,
}

impl<P, B: Buffer, F: FnMut(&P, &mut B) -> bool> Encode for Reusing<P, B, F> {
    fn run(&mut self) -> usize {
        self.out.clear();
        if (self.write)(black_box(&self.packet), &mut self.out) { self.out.bytes().len() } else { 0 }
    }

    fn written(&mut self) -> Vec<u8> {
        let length = self.run();
        self.out.bytes()[..length].to_vec()
    }
}

/// Encodes into a buffer that is used again.
pub fn reusing<P: 'static, B: Buffer + 'static>(
    packet: P,
    out: B,
    write: impl FnMut(&P, &mut B) -> bool + 'static,
) -> Encoder {
    Box::new(Reusing { packet, out, write })
}

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
    pub encoder: Prepare,
    /// Its way out for a PUBLISH that it has decoded itself, where that is another one.
    pub forwarder: Option<Prepare>,
}

/// Ours.
pub const DAMSELFLY: Codec = Codec {
    name: "damselfly",
    versions: &[Version::V3_1_1, Version::V5_0],
    decode: Decode::Slice(decode),
    encoder,
    forwarder: Some(forwarder),
};

/// Ours, and with the feature `rivals` the others.
pub fn all() -> Vec<Codec> {
    #[cfg_attr(not(feature = "rivals"), expect(unused_mut, reason = "rivals are added to it"))]
    let mut list = vec![DAMSELFLY];
    #[cfg(feature = "rivals")]
    list.extend(super::rival_codecs::ALL);
    list
}

fn decode(version: Version, mut input: &[u8]) -> Result<usize, String> {
    let limits = FrameLimits::default();
    decode_all!(
        input,
        {
            let header = match peek(input, &limits) {
                Ok(Some(header)) => header,
                other => return Err(format!("{other:?}")),
            };
            let (frame, behind) = input.split_at_checked(header.frame_len()).ok_or("incomplete")?;
            input = behind;
            Packet::decode_body(version, header, &frame[usize::from(header.header_len())..])
        },
        Ok(packet) => packet
    )
}

fn encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    // The packet borrows its frame for as long as it is encoded: the rest of the program.
    let frame: &'static [u8] = frame.to_vec().leak();
    let packet = Packet::decode(version, frame).map_err(|error| error.to_string())?;
    let write = move |packet: &Packet<'_>, out: &mut Vec<u8>| packet.encode(version, Foreign::Strip, out).is_ok();
    Ok(reusing(packet, Vec::with_capacity(frame.len()), write))
}

fn forwarder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let frame: &'static [u8] = frame.to_vec().leak();
    let Packet::Publish(packet) = Packet::decode(version, frame).map_err(|error| error.to_string())? else {
        return Err("not a PUBLISH".to_owned());
    };
    let write =
        move |packet: &Publish<'_>, out: &mut Vec<u8>| packet.encode_checked(version, Foreign::Strip, out).is_ok();
    Ok(reusing(packet, Vec::with_capacity(frame.len()), write))
}
