//! Named pieces of work: what the criterion benches time, and what instructions and allocations are counted of.

use std::hint::black_box;

use bytes::BytesMut;
use damselfly_codec::{QoS, Version};

use crate::{
    contender::{
        codec::{self, Decode},
        matcher::{self, Matcher},
    },
    invalid::label,
    load::{
        both::Both,
        exchange::{Exchange, Shape},
        fleet::Fleet,
        packets::{self, Stream},
        worst::{self, Worst},
    },
};

/// A piece of work, ready to be done again and again.
pub struct Prepared {
    /// Does it once.
    pub run: Box<dyn FnMut()>,
    /// Packets, matches or messages in each run: figures are per one of them.
    pub operations: u64,
}

/// Streams that are decoded, and of which the first frame is encoded.
const ENCODED: [&str; 5] = ["publish-64", "publish-64-qos1", "publish-5-properties", "publish-16k", "puback"];
/// Exchanges through the broker core: shape, QoS, route cache.
const EXCHANGES: [(&str, Shape, QoS, bool); 8] = [
    ("pairs-q0-warm", Shape::Pairs(100), QoS::AtMostOnce, true),
    ("pairs-q0-cold", Shape::Pairs(100), QoS::AtMostOnce, false),
    ("pairs-q1-warm", Shape::Pairs(100), QoS::AtLeastOnce, true),
    ("pairs-q2-warm", Shape::Pairs(100), QoS::ExactlyOnce, true),
    ("fan-in-100-q1", Shape::FanIn(100), QoS::AtLeastOnce, true),
    ("fan-out-1000-q0", Shape::FanOut(1000), QoS::AtMostOnce, true),
    ("fan-out-1000-q1", Shape::FanOut(1000), QoS::AtLeastOnce, true),
    ("fan-out-100-q0", Shape::FanOut(100), QoS::AtMostOnce, true),
];
/// Cases about codecs begin so.
pub const CODEC: [&str; 3] = ["decode/", "encode/", "forward/"];
/// Both cores: version, QoS, messages published at once.
const BOTH: [(&str, Version, QoS, usize); 6] = [
    ("q0-window-1", Version::V5_0, QoS::AtMostOnce, 1),
    ("q0-window-32", Version::V5_0, QoS::AtMostOnce, 32),
    ("q1-window-1", Version::V5_0, QoS::AtLeastOnce, 1),
    ("q1-window-32", Version::V5_0, QoS::AtLeastOnce, 32),
    ("q1-window-1-3.1.1", Version::V3_1_1, QoS::AtLeastOnce, 1),
    ("q2-window-32", Version::V5_0, QoS::ExactlyOnce, 32),
];
/// Cases that take callgrind too long: they have times alone.
pub const TIMED_ONLY: [&str; 1] = ["match/fleet-1m"];
/// A contender that only does what has to be done before one that splits its buffer can decode.
pub const COPY: &str = "copy";

/// All cases, by name.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for version in [Version::V3_1_1, Version::V5_0] {
        names.extend(packets::names(version).map(|stream| format!("decode/{}/{stream}", label(version))));
        let encoded = packets::names(version).filter(|stream| ENCODED.contains(stream));
        names.extend(encoded.map(|stream| format!("encode/{}/{stream}", label(version))));
    }
    names.push("forward/5.0/publish-5-properties".to_owned());
    names.extend(["match/fleet-10k", "match/fleet-100k", "match/plus-8", "match/hash-heavy"].map(str::to_owned));
    names.extend(EXCHANGES.iter().map(|(name, ..)| format!("broker/{name}")));
    names.extend(BOTH.iter().map(|(name, ..)| format!("both/{name}")));
    names
}

/// Who takes part in a case.
pub fn contenders(case: &str) -> Vec<&'static str> {
    match case.split_once('/') {
        Some(("match", load)) => {
            let filters = match load {
                "fleet-1m" => 1_000_000,
                "fleet-100k" => 100_000,
                _ => 10_000,
            };
            matcher::all().iter().filter(|kind| kind.most_filters >= filters).map(|kind| kind.name).collect()
        }
        Some(("decode" | "encode" | "forward", rest)) => {
            let spoken = |version: &Version| rest.starts_with(label(*version));
            codec::all().iter().filter(|codec| codec.versions.iter().any(spoken)).map(|codec| codec.name).collect()
        }
        Some(("broker" | "both", _)) => vec!["damselfly"],
        _ => Vec::new(),
    }
}

/// True when this contender needs a copy of its input before it can begin, which is not what is measured.
pub fn copies_first(case: &str, contender: &str) -> bool {
    let splits = |codec: &codec::Codec| codec.name == contender && matches!(codec.decode, Decode::Buffer(_));
    case.starts_with("decode/") && codec::all().iter().any(splits)
}

/// Gets a case ready for one contender.
pub fn prepare(case: &str, contender: &str) -> Result<Prepared, String> {
    let parts: Vec<&str> = case.split('/').collect();
    match parts.as_slice() {
        ["decode", version, stream] => decode(&stream_of(version, stream)?, contender),
        ["encode", version, stream] => {
            let codec = codec_named(contender)?;
            encode(&stream_of(version, stream)?, contender, codec.encoder)
        }
        ["forward", version, stream] => {
            let codec = codec_named(contender)?;
            encode(&stream_of(version, stream)?, contender, codec.forwarder.unwrap_or(codec.encoder))
        }
        ["match", load] => matching(load, contender),
        ["broker", name] => exchange(name),
        ["both", name] => both(name),
        _ => Err(format!("no case {case}")),
    }
}

fn stream_of(version: &str, name: &str) -> Result<Stream, String> {
    let version = [Version::V3_1_1, Version::V5_0].into_iter().find(|&known| label(known) == version);
    version.and_then(|version| packets::named(version, name)).ok_or_else(|| format!("no stream {name}"))
}

fn codec_named(contender: &str) -> Result<codec::Codec, String> {
    codec::all().into_iter().find(|codec| codec.name == contender).ok_or_else(|| format!("no codec {contender}"))
}

fn decode(stream: &Stream, contender: &str) -> Result<Prepared, String> {
    let Stream { version, bytes, packets, .. } = stream.clone();
    let operations = u64::try_from(packets).unwrap_or(u64::MAX);
    if contender == COPY {
        let run = Box::new(move || drop(black_box(BytesMut::from(&bytes[..]))));
        return Ok(Prepared { run, operations });
    }
    let codec = codec_named(contender)?;
    let decoded = codec.decode.run(version, &bytes)?;
    if decoded != packets {
        return Err(format!("{contender} found {decoded} of {packets} packets"));
    }
    let run = Box::new(move || {
        let _ = black_box(codec.decode.run(version, black_box(&bytes)));
    });
    Ok(Prepared { run, operations })
}

fn encode(stream: &Stream, contender: &str, encoder: codec::Prepare) -> Result<Prepared, String> {
    const TIMES: u64 = 1000;
    let length = stream.bytes.len() / stream.packets;
    let frame = &stream.bytes[..length];
    let mut encoder = encoder(stream.version, frame)?;
    let written = encoder.run();
    if written != length {
        return Err(format!("{contender} encodes {written} bytes of {length}"));
    }
    let run = Box::new(move || {
        for _ in 0..TIMES {
            black_box(encoder.run());
        }
    });
    Ok(Prepared { run, operations: TIMES })
}

fn exchange(name: &str) -> Result<Prepared, String> {
    /// Turns until every buffer has its size and every route is known.
    const WARM_UP: usize = 4;
    let known = EXCHANGES.iter().find(|(known, ..)| *known == name);
    let &(_, shape, qos, route_cache) = known.ok_or_else(|| format!("no exchange {name}"))?;
    let mut exchange = Exchange::new(shape, qos, route_cache)?;
    let operations = exchange.expected();
    for _ in 0..WARM_UP {
        let delivered = exchange.turn();
        if delivered != operations {
            return Err(format!("{delivered} deliveries of {operations}"));
        }
    }
    let run = Box::new(move || {
        black_box(exchange.turn());
    });
    Ok(Prepared { run, operations })
}

fn both(name: &str) -> Result<Prepared, String> {
    /// Messages of one run, as often as the window fits: one alone is too few to be told from the start.
    const RUN: u64 = 960;
    let known = BOTH.iter().find(|(known, ..)| *known == name);
    let &(_, version, qos, window) = known.ok_or_else(|| format!("no exchange {name}"))?;
    let mut both = Both::new(version, qos, window)?;
    let turns = RUN / both.expected();
    // More than there are Packet Identifiers in a block, and until every buffer has its size.
    for _ in 0..turns {
        let arrived = both.turn();
        if arrived != both.expected() {
            return Err(format!("{arrived} messages of {}", both.expected()));
        }
    }
    let run = Box::new(move || {
        for _ in 0..turns {
            black_box(both.turn());
        }
    });
    Ok(Prepared { run, operations: RUN })
}

/// A matcher and the topics to look up in it.
pub fn load(name: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let worst = |Worst { filters, topics, .. }: Worst| (filters, topics);
    let fleet = |count| {
        let fleet = Fleet::new(count);
        (fleet.filters().to_vec(), fleet.publishes(20_000))
    };
    match name {
        "fleet-10k" => Ok(fleet(10_000)),
        "fleet-100k" => Ok(fleet(100_000)),
        "fleet-1m" => Ok(fleet(1_000_000)),
        "plus-8" => Ok(worst(worst::plus())),
        "hash-heavy" => Ok(worst(worst::hash())),
        _ => Err(format!("no load {name}")),
    }
}

/// The matcher of this name with these filters.
pub fn matcher(contender: &str, filters: &[String]) -> Result<Box<dyn Matcher>, String> {
    let kind = matcher::all().into_iter().find(|kind| kind.name == contender);
    (kind.ok_or_else(|| format!("no matcher {contender}"))?.build)(filters)
}

fn matching(name: &str, contender: &str) -> Result<Prepared, String> {
    /// Topics in one run: few, because some contenders take long for each.
    const RUN: usize = 100;
    let (filters, topics) = load(name)?;
    let mut matcher = matcher(contender, &filters)?;
    let mut found = Vec::new();
    // Buffers grow before anything is counted.
    for topic in &topics[..RUN.min(topics.len())] {
        found.clear();
        matcher.matches(topic, &mut found);
    }
    let mut next = topics.into_iter().collect::<std::collections::VecDeque<_>>();
    let run = Box::new(move || {
        for _ in 0..RUN {
            found.clear();
            matcher.matches(black_box(&next[0]), &mut found);
            black_box(&found);
            next.rotate_left(1);
        }
    });
    Ok(Prepared { run, operations: 100 })
}
