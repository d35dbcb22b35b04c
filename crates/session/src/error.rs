//! What the other side of a connection can do wrong beyond the bytes of a packet.

use damselfly_codec::{PacketType, ReasonCode, Version};

use crate::Role;

/// A rule broken by the other side: whoever finds it closes the Network Connection, with the Reason Code if there is a
/// packet left to carry it. [MQTT-4.13]
///
/// Wrong bytes are `damselfly_codec::DecodeError`; a mistake of our own caller is another type again. The texts contain
/// nothing that the peer chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// A packet type that only a Server sends, or none may send in this version, came from a Client.
    #[error("a client must not send {0}")]
    NotFromClient(PacketType),
    /// A packet type that only a Client sends, or none may send in this version, came from a Server.
    #[error("a server must not send {0}")]
    NotFromServer(PacketType),
    /// The first packet of a Client is no CONNECT.
    #[error("the first packet must be CONNECT, not {0}")]
    ConnectExpected(PacketType),
    /// A Client sent CONNECT twice.
    #[error("a second CONNECT on one connection")]
    SecondConnect,
    /// No whole CONNECT came in the time allowed.
    #[error("no complete CONNECT in time")]
    ConnectTimeout,
    /// A Server sent something other than AUTH before CONNACK.
    #[error("{0} before CONNACK")]
    ConnackExpected(PacketType),
    /// A Server sent CONNACK twice.
    #[error("a second CONNACK on one connection")]
    SecondConnack,
    /// During enhanced authentication, before CONNACK, only AUTH and DISCONNECT may be sent.
    #[error("{0} during authentication")]
    NotDuringAuthentication(PacketType),
    /// AUTH on a connection whose CONNECT named no Authentication Method, or out of turn.
    #[error("AUTH without an authentication under way or asked for")]
    UnexpectedAuth,
    /// The Authentication Method of an AUTH or CONNACK is not that of the CONNECT.
    #[error("the authentication method changed")]
    AuthenticationMethodChanged,
    /// Session Present is set for a Client that has no Session State.
    #[error("session present, but there is no session here")]
    UnexpectedSessionPresent,
    /// A packet after DISCONNECT.
    #[error("{0} after DISCONNECT")]
    AfterDisconnect(PacketType),
    /// The Client was silent for one and a half Keep Alive periods.
    #[error("no packet within one and a half keep alive periods")]
    KeepAliveTimeout,
    /// The Server did not answer PINGREQ in time.
    #[error("no answer to PINGREQ in time")]
    PingrespTimeout,
    /// More QoS 1 and 2 messages under way than our Receive Maximum allows.
    #[error("receive maximum exceeded")]
    ReceiveMaximumExceeded,
    /// A Topic Alias of zero or above our Topic Alias Maximum.
    #[error("topic alias above the maximum")]
    TopicAliasInvalid,
    /// An empty Topic Name beside a Topic Alias that was never set on this connection.
    #[error("topic alias that was never set")]
    TopicAliasUnknown,
    /// A packet larger than our Maximum Packet Size.
    #[error("packet larger than the maximum packet size")]
    PacketTooLarge,
    /// An acknowledgement that the exchange it names does not know: PUBACK for QoS 2, PUBCOMP before PUBREL, SUBACK
    /// that nobody waits for, and the like.
    #[error("{0} does not fit the exchange of its packet identifier")]
    UnexpectedAck(PacketType),
    /// A QoS 1 PUBLISH, SUBSCRIBE or UNSUBSCRIBE with an identifier that the sender still uses for something else.
    #[error("packet identifier in use")]
    PacketIdInUse,
    /// SUBACK or UNSUBACK with another number of Reason Codes than there were Topic Filters.
    #[error("not one reason code per topic filter")]
    ReasonCodeCount,
    /// PUBLISH above the Maximum QoS we announced.
    #[error("QoS not supported")]
    QoSNotSupported,
    /// RETAIN, though we announced that it is not available.
    #[error("retain not supported")]
    RetainNotSupported,
    /// A wildcard subscription, though we announced that there are none.
    #[error("wildcard subscriptions not supported")]
    WildcardSubscriptionsNotSupported,
    /// A shared subscription, though we announced that there are none.
    #[error("shared subscriptions not supported")]
    SharedSubscriptionsNotSupported,
    /// A Subscription Identifier, though we announced that there are none.
    #[error("subscription identifiers not supported")]
    SubscriptionIdentifiersNotSupported,
    /// No Local on a shared subscription.
    #[error("no local on a shared subscription")]
    NoLocalOnShared,
    /// A Subscription Identifier in a PUBLISH of a Client.
    #[error("a client must not send a subscription identifier in PUBLISH")]
    SubscriptionIdFromClient,
    /// The Session Expiry Interval of a DISCONNECT is above zero where that of the CONNECT was zero.
    #[error("session expiry raised from zero at the end")]
    SessionExpiryRaised,
    /// A DISCONNECT of a Server carries a Session Expiry Interval.
    #[error("a server must not send a session expiry interval in DISCONNECT")]
    SessionExpiryFromServer,
    /// What was asked is not allowed to this peer, and the version or the case has no milder answer.
    #[error("not authorized")]
    NotAuthorized,
    /// Messages came faster than allowed.
    #[error("message rate too high")]
    MessageRateTooHigh,
    /// A limit of ours was exceeded, and the version or the case has no milder answer.
    #[error("quota exceeded")]
    QuotaExceeded,
}

impl PeerError {
    /// What a DISCONNECT or CONNACK says about it in 5.0. [MQTT-4.13.1]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::NotFromClient(_)
            | Self::NotFromServer(_)
            | Self::ConnectExpected(_)
            | Self::SecondConnect
            | Self::ConnackExpected(_)
            | Self::SecondConnack
            | Self::NotDuringAuthentication(_)
            | Self::UnexpectedAuth
            | Self::AuthenticationMethodChanged
            | Self::UnexpectedSessionPresent
            | Self::AfterDisconnect(_)
            | Self::TopicAliasUnknown
            | Self::UnexpectedAck(_)
            // DISCONNECT has no 0x91 (Packet Identifier in use): that code is one for acknowledgements.
            | Self::PacketIdInUse
            | Self::ReasonCodeCount
            | Self::NoLocalOnShared
            | Self::SubscriptionIdFromClient
            | Self::SessionExpiryRaised
            | Self::SessionExpiryFromServer => ReasonCode::ProtocolError,
            Self::ConnectTimeout => ReasonCode::MaximumConnectTime,
            Self::KeepAliveTimeout => ReasonCode::KeepAliveTimeout,
            Self::PingrespTimeout => ReasonCode::UnspecifiedError,
            Self::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            Self::PacketTooLarge => ReasonCode::PacketTooLarge,
            Self::QoSNotSupported => ReasonCode::QoSNotSupported,
            Self::RetainNotSupported => ReasonCode::RetainNotSupported,
            Self::WildcardSubscriptionsNotSupported => ReasonCode::WildcardSubscriptionsNotSupported,
            Self::SharedSubscriptionsNotSupported => ReasonCode::SharedSubscriptionsNotSupported,
            Self::SubscriptionIdentifiersNotSupported => ReasonCode::SubscriptionIdentifiersNotSupported,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
            Self::MessageRateTooHigh => ReasonCode::MessageRateTooHigh,
            Self::QuotaExceeded => ReasonCode::QuotaExceeded,
        }
    }

    /// The number of the statement that is broken if the end that plays `from` did it, `MQTT-` of 5.0 or `MQTT3-` of 3.1.1;
    /// where no statement names the rule, the one that makes the receiver close the connection.
    pub const fn statement(self, version: Version, from: Role) -> &'static str {
        let (in_5_0, in_3_1_1) = match from {
            Role::Client => self.statements(),
            Role::Broker => self.statements_for_server(),
        };
        match version {
            Version::V5_0 => in_5_0,
            Version::V3_1 | Version::V3_1_1 => in_3_1_1,
        }
    }

    /// The standard says some rules once for each end.
    const fn statements_for_server(self) -> (&'static str, &'static str) {
        match self {
            Self::UnexpectedAuth => ("MQTT-4.12.0-6", CLOSE_3_1_1),
            Self::ReceiveMaximumExceeded => ("MQTT-3.3.4-9", CLOSE_3_1_1),
            Self::TopicAliasInvalid => ("MQTT-3.3.2-11", CLOSE_3_1_1),
            Self::PacketTooLarge => ("MQTT-3.1.2-24", CLOSE_3_1_1),
            Self::PacketIdInUse => ("MQTT-2.2.1-4", "MQTT3-2.3.1-4"),
            other => other.statements(),
        }
    }

    const fn statements(self) -> (&'static str, &'static str) {
        match self {
            Self::ConnectExpected(_) => ("MQTT-3.1.0-1", "MQTT3-3.1.0-1"),
            Self::SecondConnect => ("MQTT-3.1.0-2", "MQTT3-3.1.0-2"),
            Self::ConnectTimeout => ("MQTT-3.1.4-1", "MQTT3-3.1.4-1"),
            Self::ConnackExpected(_) => ("MQTT-3.2.0-1", "MQTT3-3.2.0-1"),
            Self::SecondConnack => ("MQTT-3.2.0-2", CLOSE_3_1_1),
            Self::NotDuringAuthentication(_) => ("MQTT-3.1.2-30", CLOSE_3_1_1),
            Self::UnexpectedAuth => ("MQTT-4.12.0-7", CLOSE_3_1_1),
            Self::AuthenticationMethodChanged => ("MQTT-4.12.0-5", CLOSE_3_1_1),
            Self::UnexpectedSessionPresent => ("MQTT-3.2.2-4", CLOSE_3_1_1),
            Self::AfterDisconnect(_) => ("MQTT-3.14.4-1", "MQTT3-3.14.4-2"),
            Self::KeepAliveTimeout => ("MQTT-3.1.2-22", "MQTT3-3.1.2-24"),
            Self::PingrespTimeout => ("MQTT-3.12.4-1", "MQTT3-3.12.4-1"),
            Self::ReceiveMaximumExceeded => ("MQTT-3.3.4-7", CLOSE_3_1_1),
            Self::TopicAliasInvalid => ("MQTT-3.3.2-9", CLOSE_3_1_1),
            Self::PacketTooLarge => ("MQTT-3.2.2-15", CLOSE_3_1_1),
            Self::UnexpectedAck(_) => ("MQTT-2.2.1-5", "MQTT3-2.3.1-6"),
            Self::PacketIdInUse => ("MQTT-2.2.1-3", "MQTT3-2.3.1-2"),
            Self::ReasonCodeCount => ("MQTT-3.8.4-6", "MQTT3-3.8.4-5"),
            Self::QoSNotSupported => ("MQTT-3.2.2-11", CLOSE_3_1_1),
            Self::RetainNotSupported => ("MQTT-3.2.2-14", CLOSE_3_1_1),
            Self::NoLocalOnShared => ("MQTT-3.8.3-4", CLOSE_3_1_1),
            Self::SubscriptionIdFromClient => ("MQTT-3.3.4-6", CLOSE_3_1_1),
            Self::SessionExpiryFromServer => ("MQTT-3.14.2-2", CLOSE_3_1_1),
            Self::NotAuthorized => ("MQTT-4.13.2-1", "MQTT3-3.3.5-2"),
            Self::NotFromClient(_)
            | Self::NotFromServer(_)
            | Self::TopicAliasUnknown
            | Self::WildcardSubscriptionsNotSupported
            | Self::SharedSubscriptionsNotSupported
            | Self::SubscriptionIdentifiersNotSupported
            | Self::SessionExpiryRaised => ("MQTT-4.13.1-1", CLOSE_3_1_1),
            Self::MessageRateTooHigh | Self::QuotaExceeded => ("MQTT-4.13.2-1", CLOSE_3_1_1),
        }
    }
}

const CLOSE_3_1_1: &str = "MQTT3-4.8.0-1";
