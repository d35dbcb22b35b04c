//! One connection between a client and the broker: two pipes of bytes in pieces, each end of which notices the loss of
//! the connection at its own time.

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
    /// Bytes sent and not read by the receiving program: what the link holds.
    pub(crate) under_way: usize,
    /// Arrived, and not read.
    pub(crate) arrived: Vec<u8>,
    /// Read, and not consumed by the receiving core.
    pub(crate) unread: Vec<u8>,
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

/// What waits for the end of a partition.
#[derive(Debug)]
pub(crate) enum Held {
    Piece(Way, Vec<u8>),
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

    /// Both ends know that it is gone.
    pub(crate) const fn is_over(&self) -> bool {
        self.to_broker.is_lost && self.to_client.is_lost
    }
}
