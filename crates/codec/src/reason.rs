//! Reason Codes. [MQTT-2.4]

use core::fmt;

use crate::{OutOfRange, PacketType};

/// One table for all Reason Codes: name, number, text, and the packets that may carry it.
macro_rules! reason_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal, $text:literal, [$($packet:ident),+];)+) => {
        /// A Reason Code of MQTT 5.0; 3.1.1 return codes are mapped to it. [MQTT-2.4]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(into = "u8", try_from = "u8"))]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum ReasonCode {
            $(#[doc = $text] $(#[doc = $doc])* $name = $code,)+
        }

        impl ReasonCode {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The text of the standard.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// Which packet types may carry it, one bit for each: table 2-6. [MQTT-2.4]
            const fn packets(self) -> u16 {
                match self {
                    $(Self::$name => 0 $(| PacketType::$packet.bit())+,)+
                }
            }
        }

        impl TryFrom<u8> for ReasonCode {
            type Error = OutOfRange;

            fn try_from(code: u8) -> Result<Self, OutOfRange> {
                match code {
                    $($code => Ok(Self::$name),)+
                    _ => Err(OutOfRange),
                }
            }
        }
    };
}

reason_codes! {
    /// Also Normal disconnection and Granted QoS 0.
    Success = 0x00, "Success", [Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth];
    GrantedQoS1 = 0x01, "Granted QoS 1", [Suback];
    GrantedQoS2 = 0x02, "Granted QoS 2", [Suback];
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message", [Disconnect];
    NoMatchingSubscribers = 0x10, "No matching subscribers", [Puback, Pubrec];
    NoSubscriptionExisted = 0x11, "No subscription existed", [Unsuback];
    ContinueAuthentication = 0x18, "Continue authentication", [Auth];
    ReAuthenticate = 0x19, "Re-authenticate", [Auth];
    UnspecifiedError = 0x80, "Unspecified error", [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    MalformedPacket = 0x81, "Malformed packet", [Connack, Disconnect];
    ProtocolError = 0x82, "Protocol error", [Connack, Disconnect];
    ImplementationSpecificError = 0x83, "Implementation specific error", [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    UnsupportedProtocolVersion = 0x84, "Unsupported protocol version", [Connack];
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid", [Connack];
    BadUserNameOrPassword = 0x86, "Bad User Name or Password", [Connack];
    NotAuthorized = 0x87, "Not authorized", [Connack, Puback, Pubrec, Suback, Unsuback, Disconnect];
    ServerUnavailable = 0x88, "Server unavailable", [Connack];
    ServerBusy = 0x89, "Server busy", [Connack, Disconnect];
    Banned = 0x8A, "Banned", [Connack];
    ServerShuttingDown = 0x8B, "Server shutting down", [Disconnect];
    BadAuthenticationMethod = 0x8C, "Bad authentication method", [Connack, Disconnect];
    KeepAliveTimeout = 0x8D, "Keep Alive timeout", [Disconnect];
    SessionTakenOver = 0x8E, "Session taken over", [Disconnect];
    TopicFilterInvalid = 0x8F, "Topic filter invalid", [Suback, Unsuback, Disconnect];
    TopicNameInvalid = 0x90, "Topic name invalid", [Connack, Puback, Pubrec, Disconnect];
    PacketIdentifierInUse = 0x91, "Packet identifier in use", [Puback, Pubrec, Suback, Unsuback];
    PacketIdentifierNotFound = 0x92, "Packet identifier not found", [Pubrel, Pubcomp];
    ReceiveMaximumExceeded = 0x93, "Receive maximum exceeded", [Disconnect];
    TopicAliasInvalid = 0x94, "Topic alias invalid", [Disconnect];
    PacketTooLarge = 0x95, "Packet too large", [Connack, Disconnect];
    MessageRateTooHigh = 0x96, "Message rate too high", [Disconnect];
    QuotaExceeded = 0x97, "Quota exceeded", [Connack, Puback, Pubrec, Suback, Disconnect];
    AdministrativeAction = 0x98, "Administrative action", [Disconnect];
    PayloadFormatInvalid = 0x99, "Payload format invalid", [Connack, Puback, Pubrec, Disconnect];
    RetainNotSupported = 0x9A, "Retain not supported", [Connack, Disconnect];
    QoSNotSupported = 0x9B, "QoS not supported", [Connack, Disconnect];
    UseAnotherServer = 0x9C, "Use another server", [Connack, Disconnect];
    ServerMoved = 0x9D, "Server moved", [Connack, Disconnect];
    SharedSubscriptionsNotSupported = 0x9E, "Shared subscriptions not supported", [Suback, Disconnect];
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded", [Connack, Disconnect];
    MaximumConnectTime = 0xA0, "Maximum connect time", [Disconnect];
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription identifiers not supported", [Suback, Disconnect];
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard subscriptions not supported", [Suback, Disconnect];
}

impl ReasonCode {
    /// The number on the wire.
    #[expect(clippy::as_conversions, reason = "the discriminants are the numbers on the wire")]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// 0x80 and above: the operation failed. [MQTT-2.4]
    pub const fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// A packet of this type may carry it: table 2-6. [MQTT-2.4]
    #[inline]
    pub const fn is_allowed_in(self, packet_type: PacketType) -> bool {
        self.packets() & packet_type.bit() != 0
    }

    /// The return code of a 3.1 or 3.1.1 CONNACK, 0 to 5; `None` where none applies and the connection is closed
    /// without a CONNACK. [MQTT3-3.2.2-6]
    pub const fn connack_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable | Self::ServerBusy | Self::QuotaExceeded | Self::ConnectionRateExceeded => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            _ => None,
        }
    }

    /// What a return code of a 3.1 or 3.1.1 CONNACK means; 6 and above are reserved.
    pub const fn from_connack_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }

    /// The return code of a 3.1 or 3.1.1 SUBACK: the granted QoS, or 0x80 for every error. [MQTT-3.9.3-2]
    pub const fn suback_return_code(self) -> Option<u8> {
        match self {
            Self::Success | Self::GrantedQoS1 | Self::GrantedQoS2 => Some(self.code()),
            _ if self.is_error() => Some(0x80),
            _ => None,
        }
    }

    /// What a return code of a 3.1 or 3.1.1 SUBACK means; others than 0, 1, 2 and 0x80 are reserved. [MQTT-3.9.3-2]
    pub const fn from_suback_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::GrantedQoS1),
            2 => Some(Self::GrantedQoS2),
            0x80 => Some(Self::UnspecifiedError),
            _ => None,
        }
    }
}

impl From<ReasonCode> for u8 {
    fn from(code: ReasonCode) -> Self {
        code.code()
    }
}

/// The text and the number: `Not authorized (0x87)`.
impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02X})", self.text(), self.code())
    }
}
