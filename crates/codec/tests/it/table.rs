//! Holds the decoder and the encoder against every row of `testdata/`.

use std::collections::BTreeSet;

use damselfly_codec::{DecodeError, Foreign, Frame, FrameLimits, Packet, Version, peek, split_frame};

use crate::render::describe;
use crate::vectors::{FILES, Outcome, Vector, all, rows};

/// Decodes bytes that are one whole frame or a refusal.
pub(crate) fn decode_whole(bytes: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    match split_frame(bytes, &FrameLimits::default()) {
        Ok(Some(frame)) => {
            assert_eq!(frame.len(), bytes.len(), "bytes follow the frame");
            Packet::decode(version, frame)
        }
        Ok(None) => panic!("part of a frame: {bytes:02X?}"),
        Err(error) => Err(error.for_version(version)),
    }
}

pub(crate) fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let len = packet.encoded_len(version, Foreign::Reject).expect("what was decoded can be encoded");
    let mut out = Vec::new();
    packet.encode(version, Foreign::Reject, &mut out).expect("what was decoded can be encoded");
    assert_eq!(out.len(), len, "encoded_len is exact");
    out
}

fn packets() -> impl Iterator<Item = (Vector, String, bool)> {
    all().into_iter().filter_map(|vector| match vector.outcome.clone() {
        Outcome::Packet { description, is_canonical } => Some((vector, description, is_canonical)),
        Outcome::Partial | Outcome::Error(_) => None,
    })
}

fn title(vector: &Vector) -> String {
    format!("{} on {:?}", vector.name, vector.version)
}

#[test]
fn names_are_unique_and_rows_differ() {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for row in FILES.iter().flat_map(|(_, text)| rows(text)) {
        assert!(names.insert(row[0]), "{} appears twice", row[0]);
        for version in row[1].split(' ') {
            assert!(seen.insert((version, row[2])), "{}: the same bytes again", row[0]);
        }
    }
}

#[test]
fn packets_are_decoded_as_described() {
    for (vector, description, _) in packets() {
        match decode_whole(&vector.bytes, vector.version) {
            Ok(packet) => assert_eq!(describe(&packet, vector.version), description, "{}", title(&vector)),
            Err(error) => panic!("{}: {error}", title(&vector)),
        }
    }
}

#[test]
fn packets_are_encoded_to_the_bytes_they_came_from() {
    for (vector, _, is_canonical) in packets() {
        let packet = decode_whole(&vector.bytes, vector.version).expect("a packet");
        let again = encode(&packet, vector.version);
        assert_eq!(again == vector.bytes, is_canonical, "{}: {again:02X?}", title(&vector));
        assert!(again.len() <= vector.bytes.len(), "{}: the encoder knows the shortest form", title(&vector));
        assert_eq!(decode_whole(&again, vector.version), Ok(packet), "{}", title(&vector));
    }
}

#[test]
fn refusals_name_the_reason_code_and_the_statement() {
    let mut failures = Vec::new();
    for vector in all() {
        for statement in &vector.statements {
            let is_of_5_0 = statement.starts_with("MQTT-");
            assert_eq!(is_of_5_0, vector.version == Version::V5_0, "{}: {statement}", title(&vector));
        }
        let Outcome::Error(code) = vector.outcome else { continue };
        match decode_whole(&vector.bytes, vector.version) {
            Ok(packet) => failures.push(format!("{}: accepted as {packet:?}", title(&vector))),
            Err(error) => {
                if u8::from(error.reason_code()) != code || !names_one_of(error, &vector.statements) {
                    failures.push(format!(
                        "{}: {:02X} {} instead of {code:02X} {:?}",
                        title(&vector),
                        u8::from(error.reason_code()),
                        error.statement(),
                        vector.statements
                    ));
                }
                if error.offset() > vector.bytes.len() {
                    failures.push(format!("{}: offset {} is outside", title(&vector), error.offset()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of the refusals are wrong:\n{}", failures.len(), failures.join("\n"));
}

/// A number that both standards use for one rule is written as 5.0 writes it. Where a rule has no number, the error
/// names a section; which of several is left to the decoder.
fn names_one_of(error: DecodeError, statements: &[String]) -> bool {
    let number = |statement: &str| statement.trim_start_matches("MQTT3-").trim_start_matches("MQTT-").to_owned();
    let said = number(error.statement());
    if statements.iter().all(|statement| !number(statement).contains('-')) {
        return !said.contains('-');
    }
    statements.iter().any(|statement| number(statement) == said)
}

#[test]
fn refusals_are_refusals_for_an_owned_frame_too() {
    for vector in all() {
        let limits = FrameLimits::default();
        let owned = Frame::new(vector.bytes.clone().into(), &limits);
        let outcome = owned.as_ref().map_err(|error| *error).and_then(|frame| frame.packet(vector.version));
        assert_eq!(outcome.is_ok(), vector.is_packet(), "{}", title(&vector));
    }
}

/// Waiting for bytes is not an error unless the bytes at hand are one.
#[test]
fn parts_of_frames_are_waited_for() {
    let limits = FrameLimits::default();
    for vector in all() {
        match vector.outcome {
            Outcome::Packet { .. } => {
                let (first, last) = (vector.bytes.len().min(300), vector.bytes.len().saturating_sub(300));
                for cut in (0..first).chain(last.max(first)..vector.bytes.len()) {
                    assert_eq!(split_frame(&vector.bytes[..cut], &limits), Ok(None), "{} cut to {cut}", title(&vector));
                }
            }
            Outcome::Partial => {
                assert_eq!(split_frame(&vector.bytes, &limits), Ok(None), "{}", title(&vector));
                assert!(Packet::decode(vector.version, &vector.bytes).is_err(), "{}", title(&vector));
            }
            Outcome::Error(_) => {}
        }
    }
}

/// A body that ends early is refused or is another packet, and a byte more is never overlooked.
#[test]
fn bodies_that_are_shorter_or_longer_are_seen() {
    for (vector, ..) in packets().filter(|(vector, ..)| vector.bytes.len() < 400) {
        let header = peek(&vector.bytes, &FrameLimits::default()).expect("a frame").expect("a whole one");
        let body = &vector.bytes[usize::from(header.header_len())..];
        let longer = [body, &[0x00]].concat();
        for changed in (0..body.len()).map(|end| &body[..end]).chain([&longer[..]]) {
            let mut frame = vec![vector.bytes[0]];
            crate::notation::put_variable_integer(changed.len(), &mut frame);
            frame.extend(changed);
            if let Ok(packet) = decode_whole(&frame, vector.version) {
                let again = encode(&packet, vector.version);
                let was_short = again.len() < frame.len() && frame.starts_with(&again[..1]);
                assert!(again == frame || was_short, "{}: {changed:02X?} became {packet:?}", title(&vector));
                assert_eq!(decode_whole(&again, vector.version), Ok(packet), "{}", title(&vector));
            }
        }
    }
}

/// The decoder of another version never panics on a vector, and a CONNECT decides for itself.
#[test]
fn vectors_on_connections_of_another_version_do_no_harm() {
    for vector in all() {
        for version in [Version::V3_1, Version::V3_1_1, Version::V5_0] {
            let outcome = Packet::decode(version, &vector.bytes);
            if let (Outcome::Packet { description, .. }, true) = (&vector.outcome, vector.name.starts_with("connect-"))
            {
                let packet = outcome.expect("a CONNECT");
                assert_eq!(describe(&packet, version), *description, "{}", title(&vector));
            }
        }
    }
}

#[test]
fn the_table_is_as_large_as_it_should_be() {
    let count = |versions: &[Version], wanted: fn(&Outcome) -> bool| {
        all().iter().filter(|vector| versions.contains(&vector.version) && wanted(&vector.outcome)).count()
    };
    let is_error = |outcome: &Outcome| matches!(outcome, Outcome::Error(_));
    let is_packet = |outcome: &Outcome| matches!(outcome, Outcome::Packet { .. });
    assert!(count(&[Version::V3_1_1], is_error) >= 180);
    assert!(count(&[Version::V5_0], is_error) >= 310);
    assert!(count(&[Version::V3_1_1], is_packet) >= 100);
    assert!(count(&[Version::V5_0], is_packet) >= 200);
}
