//! Bytes from connections, cut into packets.

use damselfly_codec::{FixedHeader, Frame, FrameLimits, PacketType, Publish, ReasonCode, Version, peek};
use damselfly_session::Timestamp;

use crate::{
    Broker, ConnectionId, Intake,
    broker::Fault,
    connections::{Pause, Stage},
    slab::index,
};

/// Bytes of acknowledgements and other answers that may wait beyond [`Config::max_transmit_bytes`](crate::Config::max_transmit_bytes), which messages can
/// fill: a slow reader is answered as long as it reads.
const ANSWERS_BEYOND: usize = 64 * 1024;

impl Broker {
    /// Bytes from a connection: what is left of earlier ones first. Uses whole packets only; nothing is kept.
    pub fn handle_input(&mut self, now: Timestamp, connection: ConnectionId, input: &[u8]) -> Intake {
        let mut intake = Intake::default();
        while let Some(rest) = input.get(intake.consumed..).filter(|rest| !rest.is_empty()) {
            match self.next_frame(now, connection, rest) {
                Next::Frame(header) => {
                    let Some(frame) = rest.get(..header.frame_len()) else { break };
                    let is_publish = header.packet_type() == PacketType::Publish;
                    if !is_publish {
                        let handled = self.handle_short_acks(now, connection, rest);
                        intake.consumed += handled;
                        if handled > 0 {
                            continue;
                        }
                    }
                    self.handle_packet(now, connection, header, frame, None);
                    // What is left of it comes again; the next look at the connection finds it tired.
                    if is_publish || !self.has_begun(connection) {
                        intake.consumed += frame.len();
                    }
                }
                Next::Wanted(wanted) => {
                    intake.wanted = wanted;
                    break;
                }
                Next::Paused => {
                    intake.paused = true;
                    break;
                }
                Next::Ignore => {
                    intake.consumed = input.len();
                    break;
                }
            }
        }
        intake.paused |= self.keep(now, connection, input.len() - intake.consumed);
        self.close_group();
        intake
    }

    /// One whole packet in a buffer of its own, whose payload may then be shared instead of copied. Consumes all or,
    /// paused, nothing.
    pub fn handle_frame(&mut self, now: Timestamp, connection: ConnectionId, frame: &Frame) -> Intake {
        let mut intake = Intake { consumed: frame.len(), wanted: 0, paused: false };
        // Its message counts in its place.
        self.forget_arriving(connection);
        match self.next_frame(now, connection, frame) {
            Next::Frame(header) => {
                self.handle_packet(now, connection, header, frame, Some(frame));
                if self.has_begun(connection) {
                    self.rest(now, connection);
                    intake = Intake { consumed: 0, wanted: 0, paused: true };
                }
            }
            Next::Wanted(_) | Next::Ignore => {}
            Next::Paused => intake = Intake { consumed: 0, wanted: 0, paused: true },
        }
        intake.paused |= self.keep(now, connection, frame.len() - intake.consumed);
        self.close_group();
        intake
    }

    /// More of a large packet has arrived in a buffer of the adapter's own, which takes `kept` bytes or is about to. The
    /// client is alive [MQTT-3.1.2-22]; the bytes count against [`Config::max_memory`](crate::Config::max_memory) until the
    /// packet is handed in or the connection ends. A buffer that grows as bytes arrive costs no more than was sent, however
    /// long a packet is announced.
    ///
    /// True: pause, as [`Intake::paused`] says, and do not let the buffer grow.
    #[must_use = "a client may have to wait for memory"]
    pub fn handle_progress(&mut self, now: Timestamp, connection: ConnectionId, kept: usize) -> bool {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.keep_alive.received(now);
        }
        self.keep(now, connection, kept)
    }

    #[inline]
    fn next_frame(&mut self, now: Timestamp, id: ConnectionId, rest: &[u8]) -> Next {
        let held_limit = self.held_limit();
        let steps_per_call = index(self.config.steps_per_call);
        let Some(connection) = self.connections.get_mut(id) else { return Next::Ignore };
        if connection.pause.is_some() {
            return Next::Paused;
        }
        if self.steps >= steps_per_call {
            self.rest(now, id);
            return Next::Paused;
        }
        if connection.waiting_bytes > index(self.config.max_transmit_bytes) + ANSWERS_BEYOND {
            // The silence that follows is the client's own: keep alive goes on, and bytes it takes count as life.
            connection.pause = Some(Pause::Unread);
            return Next::Paused;
        }
        if connection.acks.len() >= held_limit {
            self.pause(now, id, Pause::Held);
            return Next::Paused;
        }
        let max_packet_size = match connection.stage {
            Stage::AwaitConnect => self.config.max_connect_packet_size,
            Stage::Closing => return Next::Ignore,
            Stage::Asking(..) | Stage::Accepted(_) => return Next::Paused,
            Stage::Open | Stage::Authenticating(_) | Stage::Reauthenticating(_) => self.config.max_packet_size,
        };
        match peek(rest, &FrameLimits { max_packet_size }) {
            Ok(Some(header)) if header.frame_len() <= rest.len() => {
                connection.keep_alive.received(now);
                Next::Frame(header)
            }
            Ok(header) => self.want(now, id, header),
            Err(error) => {
                self.fail(now, id, Fault::Malformed(error));
                Next::Ignore
            }
        }
    }

    /// A packet that is not whole yet.
    #[inline(never)]
    fn want(&mut self, now: Timestamp, id: ConnectionId, header: Option<FixedHeader>) -> Next {
        if header.is_some_and(|header| self.is_too_large(id, header)) {
            self.fail(now, id, Fault::Refuse(ReasonCode::QuotaExceeded));
            return Next::Ignore;
        }
        Next::Wanted(header.map_or(0, FixedHeader::frame_len))
    }

    /// Leaves a client unread until a later call.
    fn rest(&mut self, now: Timestamp, id: ConnectionId) {
        self.resting.push_back(id);
        self.pause(now, id, Pause::Steps);
    }

    /// Whether a packet is longer than those of its type may be: most limits on what is in one follow from that.
    fn is_too_large(&self, id: ConnectionId, header: FixedHeader) -> bool {
        let limit = index(self.config.max_other_packet_size);
        header.packet_type() != PacketType::Publish
            && header.frame_len() > limit
            // CONNECT has a limit of its own.
            && self.connections.get(id).is_some_and(|open| !matches!(open.stage, Stage::AwaitConnect))
    }

    /// Asked before the properties are read: very many take long.
    #[cold]
    pub(crate) fn check_property_bytes(&self, version: Version, header: FixedHeader, body: &[u8]) -> Result<(), Fault> {
        match Publish::property_length(version, header, body) {
            Some(length) if length > self.config.max_property_bytes => Err(Fault::Refuse(ReasonCode::QuotaExceeded)),
            Some(_) | None => Ok(()),
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "one call fewer for every packet, 20 instructions")]
    fn handle_packet(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        header: FixedHeader,
        frame: &[u8],
        shared: Option<&Frame>,
    ) {
        let result = if header.packet_type() == PacketType::Publish {
            self.handle_publish(now, id, header, frame, shared)
        } else {
            self.handle_other(now, id, header, frame)
        };
        if let Err(fault) = result {
            self.fail(now, id, fault);
        }
    }

    /// Any packet but PUBLISH.
    #[inline(never)]
    fn handle_other(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        header: FixedHeader,
        frame: &[u8],
    ) -> Result<(), Fault> {
        if self.is_too_large(id, header) {
            return Err(Fault::Refuse(ReasonCode::QuotaExceeded));
        }
        self.handle_control(now, id, header, frame)
    }
}

/// What comes next in the input of a connection.
enum Next {
    Frame(FixedHeader),
    /// Not whole yet; the length of the packet if it is known.
    Wanted(usize),
    Paused,
    /// Nothing more of this connection matters.
    Ignore,
}
