//! Whether what came is what a step waits for.

use std::time::Duration;

use damselfly_codec::{PacketType, Version};
use damselfly_session::Timestamp;

use super::connection::Connection;
use super::names::Names;
use super::pattern::{Comparison, Pattern, list};
use super::seen::Seen;

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done {
        remark: Option<String>,
    },
    /// What came is the broker's good right, and leaves the case without anything to show.
    Over {
        came: String,
    },
    Pending,
    Failed {
        came: String,
    },
}

impl Progress {
    pub(super) const DONE: Self = Self::Done { remark: None };

    fn failed(came: impl Into<String>) -> Self {
        Self::Failed { came: came.into() }
    }
}

/// A Packet Identifier that got a name.
pub(super) type Bound = Option<(String, u16)>;

/// Looks for what has to come. The standard orders packets of one kind, not answers among deliveries, so a PUBLISH is
/// compared with the first PUBLISH that waits, and an answer with the first one to the same request.
pub(super) fn expect(
    connection: &mut Connection,
    patterns: &[Pattern],
    in_any_order: bool,
    names: &Names<'_>,
    (since, after): (Timestamp, Duration),
    is_late: bool,
) -> (Progress, Bound) {
    let too_early = |at: Timestamp| at.saturating_since(since) < after;
    let mut difference = None;
    let mut found = None;
    let mut has_publish = false;
    'waiting: for (index, (at, seen)) in connection.waiting.iter().enumerate() {
        if seen.packet_type == PacketType::Publish && std::mem::replace(&mut has_publish, true) && !in_any_order {
            continue;
        }
        for pattern in patterns {
            let Pattern::Packet(pattern) = pattern else { continue };
            match pattern.compare(seen, names) {
                Comparison::Fits { remark } => {
                    if pattern.ends_case {
                        return (Progress::Over { came: seen.to_string() }, None);
                    }
                    let bound = pattern.binding(names).map(str::to_owned).zip(seen.packet_id);
                    found = Some((index, *at, remark, bound));
                    break 'waiting;
                }
                Comparison::Differs(what) => {
                    difference = difference.or_else(|| Some(format!("{seen}: {what} differs")));
                }
                Comparison::Other => {}
            }
        }
    }
    if let Some((index, at, remark, bound)) = found {
        let (_, seen) = connection.waiting.remove(index);
        if too_early(at) {
            return (Progress::failed(format!("{seen}, too early")), None);
        }
        return (Progress::Done { remark }, bound);
    }
    if let Some(difference) = difference.filter(|_| !in_any_order) {
        return (Progress::failed(difference), None);
    }
    let closed = patterns.iter().find_map(|pattern| match pattern {
        Pattern::Closed(codes) => Some(codes),
        Pattern::Packet(_) => None,
    });
    let progress = match closed {
        Some(codes) => ended(connection, codes, patterns.len() == 1, too_early, names.version),
        None => still_open(connection),
    };
    match progress {
        Progress::Pending if is_late => (nothing(connection), None),
        progress => (progress, None),
    }
}

/// Before the end a DISCONNECT may come, and if nothing else is allowed, nothing else.
fn ended(
    connection: &Connection,
    codes: &[u8],
    is_only: bool,
    too_early: impl Fn(Timestamp) -> bool,
    version: Version,
) -> Progress {
    let is_disconnect = |seen: &Seen| seen.packet_type == PacketType::Disconnect;
    if let Some((_, other)) = connection.waiting.iter().find(|(_, seen)| is_only && !is_disconnect(seen)) {
        return Progress::failed(other.to_string());
    }
    let Some(at) = connection.ended else { return Progress::Pending };
    if too_early(at) {
        return Progress::failed("the end of the connection, too early");
    }
    let told = connection.waiting.iter().find(|(_, seen)| is_disconnect(seen));
    let code = told.and_then(|(_, seen)| seen.codes.first().copied());
    match code {
        Some(code) if code < 0x80 => Progress::failed(format!("DISCONNECT {code:02X}: no error")),
        Some(code) if codes.is_empty() || codes.contains(&code) => Progress::DONE,
        Some(code) => remark(format!("the Reason Code is {code:02X}, {} is meant", list(codes))),
        None if codes.is_empty() || version != Version::V5_0 || connection.is_told => Progress::DONE,
        None => remark(format!("closed without DISCONNECT {}", list(codes))),
    }
}

const fn remark(text: String) -> Progress {
    Progress::Done { remark: Some(text) }
}

fn still_open(connection: &Connection) -> Progress {
    match connection.ended {
        Some(_) => nothing(connection),
        None => Progress::Pending,
    }
}

/// What there is instead of what was waited for.
fn nothing(connection: &Connection) -> Progress {
    let waiting: Vec<_> = connection.waiting.iter().map(|(_, seen)| seen.to_string()).collect();
    let end = if connection.ended.is_some() { "the end of the connection" } else { "nothing" };
    Progress::failed(if waiting.is_empty() { end.to_owned() } else { format!("{}, then {end}", waiting.join(", ")) })
}

/// A refused CONNECT: perhaps a CONNACK that says no, then the end.
pub(super) fn refused(connection: &mut Connection, codes: &[u8], names: &Names<'_>, is_late: bool) -> Progress {
    let first = connection.waiting.first().map(|(_, seen)| seen.clone());
    let code = match first {
        None => None,
        Some(seen) if seen.packet_type == PacketType::Connack && !connection.is_accepted => seen.codes.first().copied(),
        Some(seen) => return Progress::failed(seen.to_string()),
    };
    if let Some((_, other)) = connection.waiting.get(1) {
        return Progress::failed(other.to_string());
    }
    if connection.ended.is_none() {
        return if is_late { nothing(connection) } else { Progress::Pending };
    }
    connection.waiting.clear();
    match code {
        Some(code) if !codes.is_empty() && !codes.contains(&code) && names.version == Version::V5_0 => {
            remark(format!("the Reason Code is {code:02X}, {} is meant", list(codes)))
        }
        _ => Progress::DONE,
    }
}

/// Nothing comes, and the connection stays.
pub(super) fn quiet(connection: &Connection, is_over: bool) -> Progress {
    match connection.waiting.first() {
        Some((_, seen)) => Progress::failed(seen.to_string()),
        None if connection.ended.is_some() => Progress::failed("the end of the connection"),
        None if is_over => Progress::DONE,
        None => Progress::Pending,
    }
}
