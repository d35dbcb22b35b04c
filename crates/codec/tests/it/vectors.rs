//! Loads the wire vectors of `testdata/`.

use damselfly_codec::Version;

use crate::notation;

/// One row of a table on a connection of one version.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: Outcome,
    pub(crate) statements: Vec<String>,
}

/// What has to come of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// One whole packet.
    Packet { description: String, is_canonical: bool },
    /// The beginning of a packet.
    Partial,
    /// A refusal with this Reason Code.
    Error(u8),
}

impl Vector {
    pub(crate) fn is_packet(&self) -> bool {
        matches!(self.outcome, Outcome::Packet { .. })
    }
}

/// The files of packets, each with its name.
pub(crate) const FILES: [(&str, &str); 10] = [
    ("fixed_header", include_str!("../../testdata/fixed_header.tsv")),
    ("connect_3", include_str!("../../testdata/connect_3.tsv")),
    ("connect_5", include_str!("../../testdata/connect_5.tsv")),
    ("connack", include_str!("../../testdata/connack.tsv")),
    ("publish_3", include_str!("../../testdata/publish_3.tsv")),
    ("publish_5", include_str!("../../testdata/publish_5.tsv")),
    ("acknowledgements", include_str!("../../testdata/acknowledgements.tsv")),
    ("subscribe", include_str!("../../testdata/subscribe.tsv")),
    ("subscription_answers", include_str!("../../testdata/subscription_answers.tsv")),
    ("disconnect_auth", include_str!("../../testdata/disconnect_auth.tsv")),
];

/// Every row of every file of packets.
pub(crate) fn all() -> Vec<Vector> {
    FILES.iter().flat_map(|(_, text)| of_file(text)).collect()
}

/// Every row of one file.
pub(crate) fn of_file(text: &str) -> Vec<Vector> {
    rows(text).flat_map(|row| vectors_of_row(&row)).collect()
}

/// The rows of a table, split into columns; comments are left out.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(|line| line.split('\t').collect())
}

fn vectors_of_row(row: &[&str]) -> Vec<Vector> {
    let [name, versions, text, outcome, statements, packet] = *row else { panic!("six columns: {row:?}") };
    let bytes = bytes_of(name, text);
    let outcome = match outcome {
        "ok" => Outcome::Packet { description: packet.to_owned(), is_canonical: true },
        "ok~" => Outcome::Packet { description: packet.to_owned(), is_canonical: false },
        "partial" => Outcome::Partial,
        code => Outcome::Error(hex(code)),
    };
    versions
        .split(' ')
        .map(|version| Vector {
            name: name.to_owned(),
            version: version_of(version),
            bytes: bytes.clone(),
            outcome: outcome.clone(),
            statements: statements_of(version, statements),
        })
        .collect()
}

/// The statements of the standard of this version; 3.1 has none of its own.
fn statements_of(version: &str, statements: &str) -> Vec<String> {
    let prefix = if version == "5.0" { "MQTT-" } else { "MQTT3-" };
    statements.split(' ').filter(|statement| statement.starts_with(prefix)).map(str::to_owned).collect()
}

fn version_of(text: &str) -> Version {
    match text {
        "3.1" => Version::V3_1,
        "3.1.1" => Version::V3_1_1,
        "5.0" => Version::V5_0,
        other => panic!("no version: {other:?}"),
    }
}

pub(crate) fn bytes_of(name: &str, text: &str) -> Vec<u8> {
    let text = if text == "-" { "" } else { text };
    notation::bytes(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn hex(text: &str) -> u8 {
    u8::from_str_radix(text, 16).unwrap_or_else(|_| panic!("not a byte in hex: {text:?}"))
}
