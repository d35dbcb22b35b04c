//! What belongs to one Network Connection and ends with it: quota, aliases, timers, bytes under way.

use alloc::{boxed::Box, collections::VecDeque};

use core::time::Duration;

use damselfly_session::{
    BufferPool, InboundAliases, OutboundAliases, PingTimer, ReceiveWindow, Timestamp, TransmitBuffer, Window,
};

use crate::{ConnectionEnd, ServerLimits, Ticket, in_flight::InFlight};

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// CONNECT is under way; no CONNACK yet.
    AwaitConnack {
        /// When we stop waiting.
        deadline: Timestamp,
    },
    /// CONNACK accepted it.
    Open,
    /// [`Output::Close`](crate::Output::Close) was said, for this reason; nothing more is sent or received.
    Closing(ConnectionEnd),
}

/// The authentication exchange of a connection. [MQTT-4.12]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// Nothing is under way.
    Idle,
    /// Ours was the last step.
    AwaitServer,
    /// The broker's was the last step: the application has to answer.
    AwaitApplication,
}

/// How far the resending of a resumed session has come, as sequences of in-flight messages. [MQTT-4.4.0-1]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replay {
    /// PUBREL was resent up to here; `None` when done.
    pub(crate) pubrels_after: Option<u64>,
    /// PUBLISH was resent up to here; `None` when done.
    pub(crate) publishes_after: Option<u64>,
}

impl Replay {
    pub(crate) const fn from_start() -> Self {
        Self { pubrels_after: Some(0), publishes_after: Some(0) }
    }

    /// Is only left what waits for its commit, behind which more may be prepared?
    pub(crate) fn is_at_gate(self, in_flight: &mut InFlight) -> bool {
        let next = self.publishes_after.and_then(|after| in_flight.next_after(after));
        next.is_some_and(|sent| sent.holds_slot)
    }

    pub(crate) const fn is_done(self) -> bool {
        self.pubrels_after.is_none() && self.publishes_after.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) phase: Phase,
    /// When CONNACK accepted it, whatever came after.
    open_since: Option<Timestamp>,
    pub(crate) server: ServerLimits,
    /// CONNECT asked for a new session.
    pub(crate) clean_start: bool,
    pub(crate) window: Window,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) inbound_aliases: InboundAliases,
    pub(crate) outbound_aliases: OutboundAliases,
    pub(crate) ping: PingTimer,
    /// Of the CONNECT, if it named one. [MQTT-4.12.0-7]
    pub(crate) authentication_method: Option<Box<str>>,
    pub(crate) authentication: Authentication,
    /// Of the CONNACK. [MQTT-3.2.2.3.15]
    pub(crate) response_information: Option<Box<str>>,
    pub(crate) replay: Replay,
    transmit: TransmitBuffer,
    /// [`Output::Transmit`](crate::Output::Transmit) was said and not all was flushed since.
    is_announced: bool,
    /// Bytes ever appended and ever flushed.
    appended: u64,
    flushed: u64,
    /// QoS 0 messages, and where in the bytes ever appended each of them ends.
    marks: VecDeque<(u64, Ticket)>,
    owed: Owed,
}

/// Acknowledgements that wait for the transport.
#[derive(Debug, Default)]
struct Owed {
    /// From where to where in the bytes ever appended they go; those side by side are one entry.
    runs: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Owed {
    #[inline]
    fn add(&mut self, start: u64, end: u64) {
        self.bytes += end - start;
        match self.runs.back_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.runs.push_back((start, end)),
        }
    }

    #[inline]
    fn flushed(&mut self, up_to: u64) {
        while let Some(first) = self.runs.front_mut().filter(|first| first.0 < up_to) {
            let start = first.1.min(up_to);
            self.bytes -= start - first.0;
            first.0 = start;
            if first.0 < first.1 {
                return;
            }
            self.runs.pop_front();
        }
    }
}

impl Connection {
    pub(crate) fn new(
        now: Timestamp,
        phase: Phase,
        clean_start: bool,
        server: ServerLimits,
        receive_window: ReceiveWindow,
        inbound_aliases: InboundAliases,
    ) -> Self {
        Self {
            phase,
            open_since: None,
            server,
            clean_start,
            window: Window::new(server.accepts.receive_maximum),
            receive_window,
            inbound_aliases,
            outbound_aliases: OutboundAliases::new(0, 0),
            ping: PingTimer::new(0, Duration::ZERO, now),
            authentication_method: None,
            authentication: Authentication::Idle,
            response_information: None,
            replay: Replay::default(),
            transmit: TransmitBuffer::new(),
            is_announced: false,
            appended: 0,
            flushed: 0,
            marks: VecDeque::new(),
            owed: Owed::default(),
        }
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// CONNACK accepted it.
    pub(crate) fn open(&mut self, now: Timestamp) {
        self.phase = Phase::Open;
        self.open_since = Some(now);
    }

    /// Nothing more is sent or received.
    pub(crate) fn close(&mut self, end: ConnectionEnd) {
        self.phase = Phase::Closing(end);
    }

    pub(crate) const fn open_since(&self) -> Option<Timestamp> {
        self.open_since
    }

    pub(crate) const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Bytes that wait for the transport.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.transmit.len()
    }

    /// Where frames are appended; [`Connection::appended`] has to follow.
    pub(crate) fn transmit_mut(&mut self) -> &mut TransmitBuffer {
        &mut self.transmit
    }

    pub(crate) fn chunks<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        self.transmit.chunks(out)
    }

    /// Counts what was appended: true if the driver has to be told.
    #[inline]
    pub(crate) fn appended(&mut self, bytes: usize) -> bool {
        self.appended = self.appended.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        !core::mem::replace(&mut self.is_announced, true)
    }

    /// What was appended beyond `before` bytes that waited is an acknowledgement.
    pub(crate) fn appended_answer(&mut self, before: usize) {
        let len = u64::try_from(self.transmit.len() - before).unwrap_or(u64::MAX);
        self.owed.add(self.appended.saturating_sub(len), self.appended);
    }

    /// The same for an acknowledgement of so many bytes, counted here: true if the driver has to be told.
    #[inline]
    pub(crate) fn appended_short_answer(&mut self, bytes: usize) -> bool {
        let start = self.appended;
        let is_first = self.appended(bytes);
        self.owed.add(start, self.appended);
        is_first
    }

    /// Bytes of acknowledgements that wait for the transport.
    #[inline]
    pub(crate) fn owed_bytes(&self) -> usize {
        usize::try_from(self.owed.bytes).unwrap_or(usize::MAX)
    }

    /// A QoS 0 message ends with what was appended so far.
    pub(crate) fn mark(&mut self, ticket: Ticket) {
        self.marks.push_back((self.appended, ticket));
    }

    /// Are QoS 0 messages on their way?
    pub(crate) fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Takes flushed bytes off.
    pub(crate) fn advance(&mut self, now: Timestamp, bytes: usize, pool: &mut BufferPool) {
        let bytes = bytes.min(self.transmit.len());
        self.transmit.advance(bytes, pool);
        self.flushed = self.flushed.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.owed.flushed(self.flushed);
        if self.transmit.is_empty() {
            self.is_announced = false;
        }
        if bytes > 0 {
            self.ping.written(now);
        }
    }

    /// The next QoS 0 message whose bytes are all flushed.
    pub(crate) fn next_flushed(&mut self) -> Option<Ticket> {
        let (at, ticket) = *self.marks.front()?;
        if at > self.flushed {
            return None;
        }
        self.marks.pop_front();
        Some(ticket)
    }

    /// Any QoS 0 message that is left, flushed or not: the connection is gone.
    pub(crate) fn next_lost(&mut self) -> Option<Ticket> {
        self.marks.pop_front().map(|(_, ticket)| ticket)
    }

    pub(crate) fn free(&mut self, pool: &mut BufferPool) {
        self.transmit.clear(pool);
    }
}
