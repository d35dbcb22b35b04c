//! Packets made of the fuzzer's choices.

use damselfly_codec::Version;

use crate::dice::Dice;
use crate::reference::encode;
use crate::{VERSIONS, encoding, laws};

/// The first byte of `data` is the version, the rest are the choices that make a packet: codec and naive encoder have to
/// agree about it, about what is left of it before 5.0, and about a template of it.
pub fn run(data: &[u8]) {
    let Some((first, choices)) = data.split_first() else { return };
    let version = VERSIONS[usize::from(*first) % VERSIONS.len()];
    let mut dice = Dice(choices);
    let model = dice.model(version);
    let bytes = encode(&model, version);
    laws::round_trip(&model, version, &bytes);
    laws::accepted_is_stable(&bytes, version);
    encoding::a_template_writes_the_packet(&model, version, &mut dice);
    if version == Version::V5_0 {
        encoding::foreign_data_is_stripped_or_rejected(&model, Version::V3_1_1);
        encoding::foreign_data_is_stripped_or_rejected(&model, Version::V3_1);
    }
}
