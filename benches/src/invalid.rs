//! Packets that a codec must refuse, and which of them each codec takes.
//!
//! `data/invalid.tsv` holds the packets, `data/accepted.tsv` what the codecs of others were seen to do with them. A rival
//! counts as checking less than ours where it stands there.

use std::panic;

use damselfly_codec::Version;

use crate::contender::codec::Codec;

const PACKETS: &str = include_str!("../data/invalid.tsv");
const ACCEPTED: &str = include_str!("../data/accepted.tsv");

/// One packet that must be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Where it must be refused.
    pub version: Version,
    /// What it breaks; `-` where the standard gives that no number.
    pub statement: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// In words.
    pub what: &'static str,
}

/// What a codec did with a packet that it should refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Refuses,
    /// It says that all is well.
    Accepts,
    /// It panics.
    Panics,
}

/// All packets.
pub fn packets() -> Vec<Invalid> {
    let rows = PACKETS.lines().skip(1).filter_map(|line| {
        let [version, statement, bytes, what] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
        Some(Invalid { version: version_of(version)?, statement, bytes: hex(bytes)?, what })
    });
    rows.collect()
}

/// What the codecs of others were seen to take: (name, version, words of the packet, behaviour).
pub fn accepted() -> Vec<(&'static str, Version, &'static str, Behaviour)> {
    let rows = ACCEPTED.lines().skip(1).filter_map(|line| {
        let [name, version, what, behaviour] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
        let behaviour = if behaviour == "panics" { Behaviour::Panics } else { Behaviour::Accepts };
        Some((name, version_of(version)?, what, behaviour))
    });
    rows.collect()
}

/// Tries it.
pub fn observe(codec: &Codec, packet: &Invalid) -> Behaviour {
    match panic::catch_unwind(|| codec.decode.run(packet.version, &packet.bytes)) {
        Ok(Ok(_)) => Behaviour::Accepts,
        Ok(Err(_)) => Behaviour::Refuses,
        Err(_) => Behaviour::Panics,
    }
}

/// As the tables write it.
pub const fn label(version: Version) -> &'static str {
    match version {
        Version::V3_1 => "3.1",
        Version::V3_1_1 => "3.1.1",
        Version::V5_0 => "5.0",
    }
}

fn version_of(text: &str) -> Option<Version> {
    [Version::V3_1_1, Version::V5_0].into_iter().find(|&version| label(version) == text)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::codec::{DAMSELFLY, all};

    #[test]
    fn ours_refuses_every_invalid_packet() {
        let packets = packets();
        assert!(packets.len() > 40);
        for packet in packets {
            assert_eq!(observe(&DAMSELFLY, &packet), Behaviour::Refuses, "{packet:?}");
        }
    }

    /// Without the feature `rivals` there is nobody to observe, and nothing is.
    #[test]
    fn the_others_take_what_the_list_says_and_nothing_else() {
        for codec in all().iter().filter(|codec| codec.name != DAMSELFLY.name) {
            let mut seen = Vec::new();
            for packet in packets().iter().filter(|packet| codec.versions.contains(&packet.version)) {
                let behaviour = observe(codec, packet);
                if behaviour != Behaviour::Refuses {
                    seen.push((codec.name, packet.version, packet.what, behaviour));
                }
            }
            let listed: Vec<_> = accepted().into_iter().filter(|(name, ..)| *name == codec.name).collect();
            assert_eq!(seen, listed);
        }
    }
}
