//! Packets made of the fuzzer's choices.

use crate::dice::Dice;
use crate::reference::encode;
use crate::{VERSIONS, laws};

/// The first byte of `data` is the version, the rest are the choices that make a packet: codec and naive encoder have
/// to agree about it.
pub fn run(data: &[u8]) {
    let Some((first, choices)) = data.split_first() else { return };
    let version = VERSIONS[usize::from(*first) % VERSIONS.len()];
    let model = Dice(choices).model(version);
    let bytes = encode(&model, version);
    laws::round_trip(&model, version, &bytes);
    laws::accepted_is_stable(&bytes, version);
}
