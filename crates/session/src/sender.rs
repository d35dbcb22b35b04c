//! The sender's side of a QoS 1 or QoS 2 exchange. [MQTT-4.3.2] [MQTT-4.3.3]

use damselfly_codec::{PacketType, QoS, ReasonCode};

use crate::PeerError;

/// What the sender of one QoS 1 or 2 message waits for. A packet identifier without a state is not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SendState {
    /// QoS 1: PUBLISH is not acknowledged. [MQTT-4.3.2-3]
    AwaitPuback,
    /// QoS 2: PUBLISH is not acknowledged. [MQTT-4.3.3-3]
    AwaitPubrec,
    /// QoS 2: PUBREL is not acknowledged, and PUBLISH is never sent again. [MQTT-4.3.3-5] [MQTT-4.3.3-6]
    AwaitPubcomp,
}

/// What may happen to an exchange from the sender's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendInput {
    /// PUBACK came, whatever its Reason Code: a refused message counts as acknowledged too. [MQTT-4.4.0-2]
    Puback,
    /// PUBREC came with a Reason Code below 0x80.
    Pubrec,
    /// PUBREC came with a Reason Code of 0x80 or above.
    PubrecRefused,
    /// PUBCOMP came, whatever its Reason Code.
    Pubcomp,
    /// A new Network Connection resumed the session.
    Reconnect,
}

/// What the sender has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendAction {
    /// The exchange is over: release the packet identifier and the slot in the [`Window`](crate::Window).
    Done,
    /// Send PUBREL; for a repeated PUBREC send it again. [MQTT-4.3.3-4]
    SendPubrel,
    /// Send PUBLISH again, with DUP 1 and its identifier, in the original order, and take a slot. [MQTT-4.4.0-1]
    ResendPublish,
    /// Send PUBREL again, with its identifier, in the original order; it takes no slot. [MQTT-4.4.0-1]
    ResendPubrel,
    /// Send PUBREL with 0x92 (Packet Identifier not found), and keep nothing: the other side shall forget the
    /// identifier. Before 5.0 that PUBREL has no Reason Code.
    SendPubrelNotFound,
    /// Nothing: what came concerns an exchange that is over.
    Ignore,
    /// Close the connection; the exchange stays as it is. [MQTT-2.2.1-5]
    Close(PeerError),
}

/// A transition of the sender: the state afterwards, `None` once the identifier is free, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the state has to be stored and the action performed"]
pub struct SendStep {
    /// The state afterwards.
    pub state: Option<SendState>,
    /// What to do.
    pub action: SendAction,
}

impl SendState {
    /// The state after a first PUBLISH of this QoS; `None` for QoS 0, which has no exchange.
    pub const fn after_publish(qos: QoS) -> Option<Self> {
        match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Self::AwaitPuback),
            QoS::ExactlyOnce => Some(Self::AwaitPubrec),
        }
    }

    /// The transition, total: any state, `None` for an identifier not in use, and any input.
    ///
    /// ```
    /// use damselfly_session::{SendAction, SendInput, SendState};
    ///
    /// let step = SendState::next(Some(SendState::AwaitPubrec), SendInput::Pubrec);
    /// assert_eq!(step.action, SendAction::SendPubrel);
    /// let step = SendState::next(step.state, SendInput::Reconnect);
    /// assert_eq!(step.action, SendAction::ResendPubrel, "never PUBLISH again");
    /// let step = SendState::next(step.state, SendInput::Pubcomp);
    /// assert_eq!((step.state, step.action), (None, SendAction::Done));
    /// ```
    pub const fn next(state: Option<Self>, input: SendInput) -> SendStep {
        use SendAction::{Close, Done, Ignore, ResendPublish, ResendPubrel, SendPubrel, SendPubrelNotFound};
        use SendInput::{Puback, Pubcomp, Pubrec, PubrecRefused, Reconnect};
        use SendState::{AwaitPuback, AwaitPubcomp, AwaitPubrec};

        let (state, action) = match (state, input) {
            (Some(AwaitPuback), Puback) | (Some(AwaitPubrec), PubrecRefused) | (Some(AwaitPubcomp), Pubcomp) => {
                (None, Done)
            }
            (Some(AwaitPubrec | AwaitPubcomp), Pubrec) => (Some(AwaitPubcomp), SendPubrel),

            (Some(AwaitPuback | AwaitPubrec), Reconnect) => (state, ResendPublish),
            (Some(AwaitPubcomp), Reconnect) => (state, ResendPubrel),

            (Some(AwaitPuback), Pubrec | PubrecRefused) | (Some(AwaitPubcomp), PubrecRefused) => {
                (state, Close(PeerError::UnexpectedAck(PacketType::Pubrec)))
            }
            (Some(AwaitPubrec | AwaitPubcomp), Puback) => (state, Close(PeerError::UnexpectedAck(PacketType::Puback))),
            (Some(AwaitPuback | AwaitPubrec), Pubcomp) => (state, Close(PeerError::UnexpectedAck(PacketType::Pubcomp))),

            (None, Pubrec) => (None, SendPubrelNotFound),
            // PUBCOMP is also what comes back for a PUBREL with 0x92.
            (None, Puback | PubrecRefused | Pubcomp | Reconnect) => (None, Ignore),
        };
        SendStep { state, action }
    }
}

impl SendInput {
    /// The input that an acknowledgement is; `None` for packet types a sender does not receive.
    pub const fn from_ack(packet_type: PacketType, reason_code: ReasonCode) -> Option<Self> {
        match packet_type {
            PacketType::Puback => Some(Self::Puback),
            PacketType::Pubrec if reason_code.is_error() => Some(Self::PubrecRefused),
            PacketType::Pubrec => Some(Self::Pubrec),
            PacketType::Pubcomp => Some(Self::Pubcomp),
            PacketType::Connect
            | PacketType::Connack
            | PacketType::Publish
            | PacketType::Pubrel
            | PacketType::Subscribe
            | PacketType::Suback
            | PacketType::Unsubscribe
            | PacketType::Unsuback
            | PacketType::Pingreq
            | PacketType::Pingresp
            | PacketType::Disconnect
            | PacketType::Auth => None,
        }
    }
}
