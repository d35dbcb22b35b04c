//! Properties of generated packets, streams and mutations.

use damselfly_codec::{FrameLimits, Packet, Version, peek, split_frame};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::dice::{Dice, frame};
use crate::{encoding, laws};

use crate::vectors::all;

/// One change to the bytes of a frame.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Cut(Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(from..from, part);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let byte = || prop_oneof![any::<u8>(), Just(0x00), Just(0xFF), Just(0x80), Just(0x7F)];
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

/// Puts the Remaining Length right again, so that the change is seen by the decoder of the body.
fn with_true_length(bytes: &[u8]) -> Vec<u8> {
    let Some((first, _)) = bytes.split_first() else { return Vec::new() };
    let header = bytes[1..].iter().position(|byte| *byte < 0x80).map_or(bytes.len(), |at| at + 2);
    let body = &bytes[header..];
    let mut frame = vec![*first];
    crate::notation::put_variable_integer(body.len(), &mut frame);
    frame.extend(body);
    frame
}

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5_0];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn packets_survive_encoding_and_decoding((version, model, bytes) in frame()) {
        laws::round_trip(&model, version, &bytes);
        laws::accepted_is_stable(&bytes, version);
        laws::nothing_behind_the_frame_matters(&bytes, version);
    }

    #[test]
    fn foreign_data_is_stripped_or_rejected(bytes in vec(any::<u8>(), 0..400), version in select(&VERSIONS[..2])) {
        encoding::foreign_data_is_stripped_or_rejected(&Dice(&bytes).model(Version::V5_0), version);
    }

    #[test]
    fn templates_write_the_packet(bytes in vec(any::<u8>(), 0..400), version in select(&VERSIONS[..])) {
        let mut dice = Dice(&bytes);
        let model = dice.publish(version == Version::V5_0);
        encoding::a_template_writes_the_packet(&model, version, &mut dice);
    }

    #[test]
    fn every_beginning_of_a_packet_is_waited_for((_, _, bytes) in frame(), at in any::<Index>()) {
        let limits = FrameLimits::default();
        prop_assert_eq!(split_frame(&bytes[..at.index(bytes.len())], &limits), Ok(None));
        let header = peek(&bytes, &limits).expect("a frame").expect("a whole one");
        prop_assert_eq!(header.frame_len(), bytes.len());
    }

    #[test]
    fn a_limit_below_the_packet_refuses_it_and_the_limit_itself_does_not((_, _, bytes) in frame()) {
        let len = u32::try_from(bytes.len()).expect("a short frame");
        let limits = |max_packet_size| FrameLimits { max_packet_size };
        prop_assert_eq!(split_frame(&bytes, &limits(len)), Ok(Some(&bytes[..])));
        let error = split_frame(&bytes, &limits(len - 1)).expect_err("one byte too large");
        prop_assert_eq!(u8::from(error.reason_code()), 0x95);
        // Said before the body is there, so that nobody buffers it.
        let header_len = bytes.len().min(5);
        prop_assert!(split_frame(&bytes[..header_len], &limits(len - 1)).is_err());
    }

    #[test]
    fn mutations_are_refused_or_mean_what_they_say(
        (version, _, mut bytes) in frame(),
        changes in vec(change(), 1..4),
        mend in any::<bool>(),
    ) {
        for change in &changes {
            change.apply(&mut bytes);
        }
        if mend {
            bytes = with_true_length(&bytes);
        }
        laws::accepted_is_stable(&bytes, version);
        laws::nothing_behind_the_frame_matters(&bytes, version);
    }

    #[test]
    fn mutations_of_vectors_are_refused_or_mean_what_they_say(
        which in any::<Index>(),
        changes in vec(change(), 1..4),
        mend in any::<bool>(),
    ) {
        let vectors = short_vectors();
        let mut bytes = vectors[which.index(vectors.len())].clone();
        for change in &changes {
            change.apply(&mut bytes);
        }
        if mend {
            bytes = with_true_length(&bytes);
        }
        for version in VERSIONS {
            laws::accepted_is_stable(&bytes, version);
            laws::nothing_behind_the_frame_matters(&bytes, version);
        }
    }

    #[test]
    fn streams_give_the_same_packets_however_they_are_cut(
        frames in vec(frame(), 1..6),
        version in select(&VERSIONS[..]),
        damage in proptest::option::weighted(0.3, change()),
        sizes in vec(1..40_usize, 0..60),
    ) {
        let mut stream: Vec<u8> = frames.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect();
        if let Some(damage) = damage {
            damage.apply(&mut stream);
        }
        let at_once = laws::read_in_pieces(&stream, &[], version);
        prop_assert_eq!(laws::read_in_pieces(&stream, &sizes, version), at_once.clone());
        if stream.len() < 500 {
            prop_assert_eq!(laws::read_in_pieces(&stream, &vec![1; stream.len()], version), at_once);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_mean_what_they_say(bytes in vec(any::<u8>(), 0..64)) {
        for version in VERSIONS {
            laws::accepted_is_stable(&bytes, version);
            laws::accepted_is_stable(&with_true_length(&bytes), version);
            laws::nothing_behind_the_frame_matters(&bytes, version);
        }
    }
}

/// The bytes of the vectors that are not made to be long.
fn short_vectors() -> &'static [Vec<u8>] {
    static SHORT: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
        all().into_iter().map(|vector| vector.bytes).filter(|bytes| (2..300).contains(&bytes.len())).collect()
    });
    &SHORT
}

/// Packets read in one piece come out as they went in.
#[test]
fn a_stream_of_all_vectors_comes_out_whole() {
    for version in VERSIONS {
        let frames: Vec<Vec<u8>> = all()
            .into_iter()
            .filter(|vector| vector.version == version && vector.is_packet() && vector.bytes.len() < 20_000)
            .map(|vector| vector.bytes)
            .collect();
        let stream = frames.concat();
        for size in [1, 2, 3, 7, 64, 4096, stream.len()] {
            let sizes = vec![size; stream.len() / size + 1];
            assert_eq!(laws::read_in_pieces(&stream, &sizes, version), (frames.clone(), None), "pieces of {size}");
        }
    }
    assert!(Packet::decode(Version::V5_0, &[]).is_err());
}
