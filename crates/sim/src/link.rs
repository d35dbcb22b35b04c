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

/// The receiving end of one direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// Arrived, and not consumed by the receiver.
    pub(crate) unread: Vec<u8>,
    /// Pieces arrive in order: none before this.
    pub(crate) last_arrival: Timestamp,
    /// The receiver takes nothing at the moment.
    pub(crate) is_paused: bool,
    /// The receiver knows that the connection is gone.
    pub(crate) is_lost: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) member: MemberId,
    pub(crate) connection: ConnectionId,
    to_broker: Pipe,
    to_client: Pipe,
    /// From then on nothing that is sent arrives.
    pub(crate) cut_at: Option<Timestamp>,
}

impl Link {
    pub(crate) fn new(member: MemberId, connection: ConnectionId) -> Self {
        Self { member, connection, to_broker: Pipe::default(), to_client: Pipe::default(), cut_at: None }
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
