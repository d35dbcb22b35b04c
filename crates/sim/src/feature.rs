//! What a world can have beside messages and faults.

/// Something out of the ordinary that happened in a [scenario](crate::Scenario), as its [report](crate::Report) counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// A client was given a retained message because it subscribed.
    Retained,
    /// A client's full offline queue dropped its oldest message.
    DroppedByClient,
    /// The broker dropped the oldest message of a client's full queue.
    DroppedByBroker,
    /// An application acknowledged a message.
    Acknowledged,
    /// An application acknowledged a message before one that came earlier.
    AcknowledgedOutOfOrder,
    /// The broker's store took its time.
    SlowCommit,
    /// A question of the broker was answered late.
    SlowAnswer,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Retained,
        Self::DroppedByClient,
        Self::DroppedByBroker,
        Self::Acknowledged,
        Self::AcknowledgedOutOfOrder,
        Self::SlowCommit,
        Self::SlowAnswer,
    ];
}
