//! What passes, for a host that wants to see it.

use damselfly_broker::{ConnectionId, Intake};
use damselfly_session::Timestamp;

use super::host::Host;

/// The core took this much of `input`.
#[inline]
pub(super) fn heard(host: &mut impl Host, now: Timestamp, id: ConnectionId, intake: Intake, input: &[u8]) {
    if host.observes() && intake.consumed > 0 {
        host.heard(now, id, input.get(..intake.consumed).unwrap_or(input));
    }
}

/// The socket took the first `written` bytes of `chunks`.
#[inline]
pub(super) fn said(host: &mut impl Host, now: Timestamp, id: ConnectionId, chunks: &[&[u8]], mut written: usize) {
    if !host.observes() {
        return;
    }
    for chunk in chunks {
        let part = chunk.get(..written).unwrap_or(chunk);
        if part.is_empty() {
            return;
        }
        host.said(now, id, part);
        written -= part.len();
    }
}
