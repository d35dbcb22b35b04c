//! The receiver's side of a QoS 1 or QoS 2 exchange. [MQTT-4.3.2] [MQTT-4.3.3]

use core::num::NonZeroU16;

use damselfly_codec::{PacketId, ReasonCode, Version};

use crate::id_set::IdSet;

/// What the receiver knows of a packet identifier of the other side.
///
/// QoS 1 leaves nothing behind: whatever comes after PUBACK is a new message, DUP or not. [MQTT-4.3.2-5]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReceiveState {
    /// QoS 2: the message is accepted, and its PUBREL has not come. [MQTT-4.3.3-10]
    AwaitPubrel,
}

/// What may happen to an exchange from the receiver's point of view. DUP is not part of it: it never decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiveInput {
    /// PUBLISH at QoS 1 came.
    PublishQos1,
    /// PUBLISH at QoS 2 came.
    PublishQos2,
    /// PUBREL came, whatever its Reason Code.
    Pubrel,
    /// We answer the PUBLISH of this exchange with a PUBREC of 0x80 or above.
    Refuse,
    /// A new Network Connection resumed the session. The receiver resends nothing; the sender does.
    Reconnect,
}

/// What the receiver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiveAction {
    /// A new QoS 1 message: deliver it onward, answer PUBACK. [MQTT-4.3.2-4]
    DeliverAndPuback,
    /// A new QoS 2 message: deliver it onward, answer PUBREC. [MQTT-4.3.3-8]
    DeliverAndPubrec,
    /// A repeat of a QoS 2 message: answer PUBREC and deliver nothing. [MQTT-4.3.3-10]
    PubrecOnly,
    /// Deliver nothing, answer PUBACK with this Reason Code.
    RefuseWithPuback(ReasonCode),
    /// Answer PUBCOMP with this Reason Code, which does not travel before 5.0. [MQTT-4.3.3-11]
    Pubcomp(ReasonCode),
    /// Send nothing.
    Nothing,
}

/// A transition of the receiver: the state afterwards and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the state has to be stored and the action performed"]
pub struct ReceiveStep {
    /// The state afterwards, `None` if the identifier means nothing.
    pub state: Option<ReceiveState>,
    /// What to do.
    pub action: ReceiveAction,
}

impl ReceiveState {
    /// The transition, total: any state, `None` for an identifier that means nothing here, and any input.
    ///
    /// A QoS 1 PUBLISH whose identifier still waits for a PUBREL shows that the sender lost its session state. 5.0 has
    /// an answer for that, 0x91; before 5.0 PUBACK would promise what is not done, so the message is taken and the
    /// exchange that the sender forgot is forgotten here too.
    ///
    /// ```
    /// use damselfly_codec::Version;
    /// use damselfly_session::{ReceiveAction, ReceiveInput, ReceiveState};
    ///
    /// let first = ReceiveState::next(Version::V5_0, None, ReceiveInput::PublishQos2);
    /// assert_eq!(first.action, ReceiveAction::DeliverAndPubrec);
    /// let again = ReceiveState::next(Version::V5_0, first.state, ReceiveInput::PublishQos2);
    /// assert_eq!(again.action, ReceiveAction::PubrecOnly);
    /// ```
    pub const fn next(version: Version, state: Option<Self>, input: ReceiveInput) -> ReceiveStep {
        use ReceiveAction::{DeliverAndPuback, DeliverAndPubrec, Nothing, Pubcomp, PubrecOnly, RefuseWithPuback};
        use ReceiveInput::{PublishQos1, PublishQos2, Pubrel, Reconnect, Refuse};
        use ReceiveState::AwaitPubrel;

        let (state, action) = match (state, input) {
            (None, PublishQos1) => (None, DeliverAndPuback),
            (None, PublishQos2) => (Some(AwaitPubrel), DeliverAndPubrec),
            (None, Pubrel) => (None, Pubcomp(ReasonCode::PacketIdentifierNotFound)),

            (Some(AwaitPubrel), PublishQos1) => match version {
                Version::V5_0 => (state, RefuseWithPuback(ReasonCode::PacketIdentifierInUse)),
                Version::V3_1 | Version::V3_1_1 => (None, DeliverAndPuback),
            },
            (Some(AwaitPubrel), PublishQos2) => (state, PubrecOnly),
            (Some(AwaitPubrel), Pubrel) => (None, Pubcomp(ReasonCode::Success)),

            // [MQTT-4.3.3-9]
            (_, Refuse) => (None, Nothing),
            (_, Reconnect) => (state, Nothing),
        };
        ReceiveStep { state, action }
    }
}

/// The QoS 2 packet identifiers of the other side that wait for their PUBREL: part of the session. [MQTT-4.1]
///
/// The number is limited, because nothing else makes a peer ever send PUBREL: the send quota starts anew with each
/// connection. A limit of our Receive Maximum never hurts a sender that resends its PUBRELs before it publishes.
/// Memory as for [`PacketIds`](crate::PacketIds): no heap while the identifiers lie in two blocks of 128.
#[derive(Clone, Debug)]
pub struct ReceivedIds(
    /// Its tag is the limit.
    pub(crate) IdSet,
);

impl ReceivedIds {
    /// None is known, and at most `limit` ever will be.
    pub const fn new(limit: NonZeroU16) -> Self {
        Self(IdSet::new(limit.get()))
    }

    /// Runs the transition for one identifier and remembers its state. `Err` if a new QoS 2 message would exceed the
    /// limit: nothing changed, refuse it with PUBREC 0x97 (Quota exceeded), or close where the version has no refusal.
    pub fn handle(&mut self, version: Version, id: PacketId, input: ReceiveInput) -> Result<ReceiveAction, TooMany> {
        let before = self.state(id);
        let step = ReceiveState::next(version, before, input);
        match (before, step.state) {
            (None, Some(ReceiveState::AwaitPubrel)) => {
                if self.0.len() >= self.0.tag {
                    return Err(TooMany);
                }
                self.0.insert(id);
            }
            (Some(ReceiveState::AwaitPubrel), None) => {
                self.0.remove(id);
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        Ok(step.action)
    }

    /// Takes up an identifier from a stored session: `false` if it is known already.
    ///
    /// The limit does not matter: an identifier that is forgotten makes a message arrive twice. A session stored under a
    /// larger limit accepts new messages again when enough PUBRELs have come.
    #[must_use = "a `false` says that what was stored does not hold together"]
    pub fn restore(&mut self, id: PacketId) -> bool {
        self.0.insert(id)
    }

    /// The state of an identifier.
    pub fn state(&self, id: PacketId) -> Option<ReceiveState> {
        self.contains(id).then_some(ReceiveState::AwaitPubrel)
    }

    /// Does the identifier wait for its PUBREL?
    pub fn contains(&self, id: PacketId) -> bool {
        self.0.contains(id)
    }

    /// How many may wait.
    pub fn limit(&self) -> NonZeroU16 {
        NonZeroU16::new(self.0.tag).unwrap_or(NonZeroU16::MIN)
    }

    /// Sets how many may wait. Those that wait already are not forgotten.
    pub fn set_limit(&mut self, limit: NonZeroU16) {
        self.0.tag = limit.get();
    }

    /// How many wait.
    pub const fn len(&self) -> u16 {
        self.0.len()
    }

    /// Does none wait?
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all of them: the session ended.
    pub fn clear(&mut self) {
        self.0 = IdSet::new(self.0.tag);
    }

    /// Those that wait, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.0.iter()
    }

    /// Heap memory held, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// No identifier waits, and all 65,535 may.
impl Default for ReceivedIds {
    fn default() -> Self {
        Self::new(NonZeroU16::MAX)
    }
}

/// The same identifiers wait under the same limit.
impl PartialEq for ReceivedIds {
    fn eq(&self, other: &Self) -> bool {
        self.limit() == other.limit() && self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for ReceivedIds {}

/// As many QoS 2 exchanges wait for PUBREL as are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many QoS 2 exchanges without PUBREL")]
pub struct TooMany;
