//! The corpus to begin with: made of the wire vectors, so that the two cannot drift apart.

use damselfly_codec::Version;

use crate::vectors::{self, FILES, Outcome, Vector};

/// Each target with its seeds: file name and content.
pub fn all() -> Vec<(&'static str, Vec<(String, Vec<u8>)>)> {
    vec![
        ("broker_model", histories()),
        ("client_broker", worlds()),
        ("decode", decode()),
        ("roundtrip", choices()),
        ("splits", splits()),
        ("topic_oracle", topics()),
    ]
}

/// Bytes that look random and are always the same.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let key = damselfly_topic::KeyedState::new(seed);
    (0..).flat_map(|word| key.hash_word(word).to_le_bytes()).take(len).collect()
}

/// Choices of whole histories: any bytes are some.
fn histories() -> Vec<(String, Vec<u8>)> {
    (0..24).map(|seed| (format!("history-{seed:02}"), noise(seed, 900))).collect()
}

/// Choices of worlds, and behind some a stream of packets for the cores alone.
fn worlds() -> Vec<(String, Vec<u8>)> {
    let streams = decode().into_iter().filter(|(name, _)| name.ends_with("-packets"));
    let with_stream = (100..).zip(streams).map(|(seed, (name, stream))| (name, [noise(seed, 300), stream].concat()));
    let alone = (0..32).map(|seed| (format!("world-{seed:02}"), noise(1_000 + seed, 300)));
    with_stream.chain(alone).collect()
}

/// Choices for each type of packet and version: the bytes of a stream of packets are as good as any.
fn choices() -> Vec<(String, Vec<u8>)> {
    let material: Vec<u8> =
        short_vectors("publish_5", Version::V5_0).into_iter().flat_map(|vector| vector.bytes).collect();
    let mut seeds = Vec::new();
    for version in [1, 2] {
        for kind in 0..16_u8 {
            let part = material.iter().skip(usize::from(kind) * 97).take(120);
            let seed = [version, kind].iter().chain(part).copied().collect();
            seeds.push((format!("choices-{version}-{kind:02}"), seed));
        }
    }
    seeds
}

/// Short vectors of one file, for one version.
fn short_vectors(file: &str, version: Version) -> Vec<Vector> {
    let (_, text) = FILES.iter().find(|(name, _)| *name == file).expect("a file of vectors");
    let short = |vector: &Vector| vector.version == version && vector.bytes.len() < 300;
    vectors::of_file(text).into_iter().filter(short).collect()
}

/// Of each file one stream of its packets per version, and one of what is refused: the fuzzer takes them apart.
fn decode() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (file, _) in FILES {
        for (version, title) in [(Version::V3_1_1, "3"), (Version::V5_0, "5")] {
            let vectors = short_vectors(file, version);
            let packets: Vec<u8> =
                vectors.iter().filter(|vector| vector.is_packet()).flat_map(|vector| vector.bytes.clone()).collect();
            seeds.push((format!("{file}-{title}-packets"), packets));
            // One in a few is enough of those: the fuzzer makes the others by itself.
            let refusals = vectors.iter().filter(|vector| matches!(vector.outcome, Outcome::Error(_))).step_by(5);
            seeds
                .push((format!("{file}-{title}-refusals"), refusals.flat_map(|vector| vector.bytes.clone()).collect()));
        }
    }
    seeds.retain(|(_, seed)| !seed.is_empty());
    seeds
}

/// Streams with the sizes of the pieces in front.
fn splits() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (file, _) in FILES {
        for (version, title, first) in [(Version::V3_1_1, "3", 1 + 3 * 8), (Version::V5_0, "5", 2 + 3 * 5)] {
            let vectors = short_vectors(file, version);
            let few = vectors.iter().filter(|vector| vector.is_packet()).take(6).chain(vectors.last());
            let mut seed: Vec<u8> = vec![first];
            seed.extend((1..=first / 3).map(|size| size * size));
            seed.extend(few.flat_map(|vector| vector.bytes.clone()));
            seeds.push((format!("{file}-{title}"), seed));
        }
    }
    seeds
}

/// Texts as they stand in SUBSCRIBE and PUBLISH vectors, a dozen in each seed.
fn topics() -> Vec<(String, Vec<u8>)> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for vector in short_vectors("subscribe", Version::V5_0) {
        if let [0x82, _, _, _, 0, 0, len, rest @ ..] = &vector.bytes[..] {
            texts.extend(rest.get(..usize::from(*len)).map(<[u8]>::to_vec));
        }
    }
    for vector in short_vectors("publish_3", Version::V3_1_1) {
        if let [0x30, _, 0, len, rest @ ..] = &vector.bytes[..] {
            texts.extend(rest.get(..usize::from(*len)).map(<[u8]>::to_vec));
        }
    }
    texts.sort();
    texts.dedup();
    // Neighbours in the alphabet would share a seed; so filters and names are dealt out in turn.
    let seeds = texts.len().div_ceil(12);
    (0..seeds)
        .map(|seed| {
            let dealt: Vec<_> = texts.iter().skip(seed).step_by(seeds).map(Vec::as_slice).collect();
            let budget = u8::try_from(seed % 4).unwrap_or_default();
            (format!("topics-{seed:02}"), [vec![budget], dealt.join(&0xFF)].concat())
        })
        .collect()
}
