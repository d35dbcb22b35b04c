//! A stream that arrives in pieces.

use crate::{VERSIONS, laws};

/// The first byte of `data` is the version and how many of the next bytes are sizes of pieces; the rest is the stream.
pub fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let version = VERSIONS[usize::from(*first) % VERSIONS.len()];
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(*first) / VERSIONS.len()));
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size)).collect();

    let (frames, refusal) = laws::read_in_pieces(stream, &[], version);

    assert_eq!(laws::read_in_pieces(stream, &sizes, version), (frames.clone(), refusal), "pieces of {sizes:?}");
    let bytewise = laws::read_in_pieces(stream, &vec![1; stream.len()], version);
    assert_eq!(bytewise, (frames.clone(), refusal), "byte by byte");
    assert!(stream.starts_with(&frames.concat()), "packets are parts of the stream, in order and without a gap");
}
