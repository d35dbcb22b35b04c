//! Packets that a codec must refuse, and which of them each codec takes.
//!
//! `data/invalid.tsv` holds the packets, `data/accepted.tsv` what the codecs of others were seen to do with them. A rival
//! counts as checking less than ours where it stands there. `data/written.tsv` holds which of them the codecs of others,
//! having taken one, write again: what an encoder lets through.

use std::panic;

use damselfly_codec::{Packet, Version};

use crate::contender::codec::Codec;

const PACKETS: &str = include_str!("../data/invalid.tsv");
const ACCEPTED: &str = include_str!("../data/accepted.tsv");
const WRITTEN: &str = include_str!("../data/written.tsv");

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
    rows(ACCEPTED)
}

/// What the codecs of others were seen to write.
pub fn written() -> Vec<(&'static str, Version, &'static str, Behaviour)> {
    rows(WRITTEN)
}

fn rows(table: &'static str) -> Vec<(&'static str, Version, &'static str, Behaviour)> {
    let rows = table.lines().skip(1).filter_map(|line| {
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

/// Has it write what it has decoded. What it does not take it does not write either, nor does a packet count that it mends
/// on the way, so that ours takes it.
pub fn observe_written(codec: &Codec, packet: &Invalid) -> Behaviour {
    if observe(codec, packet) != Behaviour::Accepts {
        return Behaviour::Refuses;
    }
    let written = panic::catch_unwind(|| (codec.encoder)(packet.version, &packet.bytes).map(|mut it| it.written()));
    match written {
        Ok(Ok(bytes)) if !bytes.is_empty() && Packet::decode(packet.version, &bytes).is_err() => Behaviour::Accepts,
        Ok(_) => Behaviour::Refuses,
        Err(_) => Behaviour::Panics,
    }
}

/// Why a codec is left out of a comparison in this case: the first invalid packet, of the type that the case is about,
/// that it was seen to take or, where the case is about encoding, to write.
pub fn left_out(case: &str, codec: &str) -> Option<&'static str> {
    let mut parts = case.split('/');
    let (Some(what), Some(version), Some(stream)) = (parts.next(), parts.next(), parts.next()) else { return None };
    let kind = match stream.split('-').next()? {
        "mix" => "",
        "publish" => "PUBLISH:",
        "puback" => "PUBACK:",
        "connect" => "CONNECT:",
        "subscribe" => "SUBSCRIBE:",
        _ => return None,
    };
    let taken = if what == "decode" { accepted() } else { written() };
    let mut taken = taken.into_iter();
    let found = taken.find(|(name, of, what, _)| *name == codec && label(*of) == version && what.starts_with(kind));
    found.map(|(.., what, _)| what)
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

    #[test]
    fn a_codec_is_left_out_only_for_packets_of_the_same_type_and_version() {
        assert_eq!(left_out("decode/3.1.1/publish-64", "rmqtt-codec"), Some("PUBLISH: U+0000 in the Topic Name"));
        assert_eq!(left_out("decode/5.0/connect-full", "rmqtt-codec"), None);
        assert_eq!(left_out("decode/5.0/mix", "mqtt-proto"), Some("PUBLISH: Topic Alias 0"));
        assert_eq!(left_out("decode/5.0/puback", "mqttbytes"), None);
        assert_eq!(left_out("decode/3.1.1/puback", "mqttbytes"), Some("PUBACK: reserved flags"));
        assert_eq!(left_out("decode/5.0/mix", DAMSELFLY.name), None);
        assert_eq!(left_out("encode/5.0/publish-64", "mqttbytes"), Some("PUBLISH: U+0000 in the Topic Name"));
        assert_eq!(left_out("forward/5.0/publish-5-properties", "mqtt-proto"), Some("PUBLISH: Topic Alias 0"));
        // It takes one with reserved flags, and writes it with the right ones.
        assert_eq!(left_out("encode/3.1.1/puback", "mqttbytes"), None);
        assert_eq!(left_out("match/fleet-10k", "mqttbytes"), None);
    }

    /// The same of what they write.
    #[test]
    fn the_others_write_what_the_list_says_and_nothing_else() {
        for codec in all() {
            let mut seen = Vec::new();
            for packet in packets().iter().filter(|packet| codec.versions.contains(&packet.version)) {
                let behaviour = observe_written(&codec, packet);
                if behaviour != Behaviour::Refuses {
                    seen.push((codec.name, packet.version, packet.what, behaviour));
                }
            }
            let listed: Vec<_> = written().into_iter().filter(|(name, ..)| *name == codec.name).collect();
            assert_eq!(seen, listed);
        }
    }
}
