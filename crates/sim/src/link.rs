//! One connection between a client and the broker: two pipes of bytes in pieces, each end of which notices the loss of
//! the connection at its own time.

use std::collections::VecDeque;

use damselfly_broker::ConnectionId;
use damselfly_session::Timestamp;

use crate::MemberId;

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToBroker,
    ToClient,
}

impl Way {
    pub(crate) const fn back(self) -> Self {
        match self {
            Self::ToBroker => Self::ToClient,
            Self::ToClient => Self::ToBroker,
        }
    }
}

/// One direction, most of it at its receiving end.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// All bytes that were sent and that the receiving core has not consumed: first those it was shown, then those that
    /// arrived, then those under way.
    bytes: Vec<u8>,
    /// How many at the front are consumed all the same, so that not each packet moves all that follow it.
    consumed: usize,
    /// Where those end that the receiving program has read.
    read: usize,
    /// Where those end that have arrived.
    arrived: usize,
    /// On their way, in order.
    pub(crate) pieces: VecDeque<Piece>,
    /// Pieces arrive in order: none before this.
    pub(crate) last_arrival: Timestamp,
    /// The receiving core takes nothing at the moment.
    pub(crate) is_paused: bool,
    /// The receiving program reads nothing before this.
    pub(crate) stalled_until: Timestamp,
    /// The receiver knows that the connection is gone.
    pub(crate) is_lost: bool,
    /// The sender has more than the link holds.
    pub(crate) is_full: bool,
}

impl Pipe {
    /// Bytes sent and not read by the receiving program: what the link holds.
    pub(crate) fn under_way(&self) -> usize {
        self.bytes.len() - self.read
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next `len` bytes under way arrive.
    pub(crate) fn arrive(&mut self, len: usize) {
        self.arrived = (self.arrived + len).min(self.bytes.len());
    }

    /// The receiving program reads what has arrived.
    pub(crate) const fn read(&mut self) {
        self.read = self.arrived;
    }

    /// What was read, and not consumed by the receiving core.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.consumed..self.read).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.consumed = (self.consumed + len).min(self.read);
        if self.consumed * 2 >= self.bytes.len() {
            self.bytes.drain(..self.consumed);
            self.read -= self.consumed;
            self.arrived -= self.consumed;
            self.consumed = 0;
        }
    }
}

/// Bytes that travel as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) at: Timestamp,
    /// Its place among all that is planned for that time.
    pub(crate) number: u64,
    pub(crate) len: usize,
}

/// What waits for the end of a partition.
#[derive(Debug)]
pub(crate) enum Held {
    Piece(Way, usize),
    Notice(Way),
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) member: MemberId,
    pub(crate) connection: ConnectionId,
    to_broker: Pipe,
    to_client: Pipe,
    /// From then on nothing that is sent arrives.
    pub(crate) cut_at: Option<Timestamp>,
    /// In the order of arrival.
    pub(crate) held: Vec<Held>,
}

impl Link {
    pub(crate) fn new(member: MemberId, connection: ConnectionId) -> Self {
        let (to_broker, to_client) = (Pipe::default(), Pipe::default());
        Self { member, connection, to_broker, to_client, cut_at: None, held: Vec::new() }
    }

    pub(crate) const fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::ToBroker => &mut self.to_broker,
            Way::ToClient => &mut self.to_client,
        }
    }

    /// The broker knows that it is gone.
    pub(crate) const fn is_lost_to_broker(&self) -> bool {
        self.to_broker.is_lost
    }

    /// Both ends know that it is gone.
    pub(crate) const fn is_over(&self) -> bool {
        self.to_broker.is_lost && self.to_client.is_lost
    }
}
