//! What can be wrong with bytes from a peer, and with a packet one wants to encode.

use core::fmt;

use crate::{PacketType, PropertyId, ReasonCode, Version};

/// One table for all rules about the bytes: name, Reason Code to answer with, statement in 5.0, statement in 3.1.1.
macro_rules! rules {
    ($($name:ident: $reason:ident, $v5:literal, $v3:literal, $text:literal;)+) => {
        /// A rule about the bytes of a packet, broken by the peer that sent them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = concat!("Broken when ", $text, ". [", $v5, "], in 3.1.1 [", $v3, "]")] $name,)+
        }

        impl Rule {
            /// Every rule, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// What a 5.0 CONNACK or DISCONNECT says about it. [MQTT-4.13]
            pub const fn reason_code(self) -> ReasonCode {
                match self {
                    $(Self::$name => ReasonCode::$reason,)+
                }
            }

            /// The statement of the standard of this version, or the section where the rule has no number of its own.
            ///
            /// `MQTT-…` is 5.0's number, which 3.1.1 may share; `MQTT3-…` is one that only 3.1.1 uses for this rule.
            pub const fn statement(self, version: Version) -> &'static str {
                match (self, version) {
                    $(
                        (Self::$name, Version::V5_0) => $v5,
                        (Self::$name, Version::V3_1 | Version::V3_1_1) => $v3,
                    )+
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

rules! {
    PacketTypeReserved: MalformedPacket, "MQTT-2.1.2", "MQTT3-2.2.1", "the packet type is 0, which is reserved";
    AuthNotInVersion: MalformedPacket, "MQTT-3.15", "MQTT3-2.2.1", "the packet type is 15, which is AUTH only in 5.0";
    FlagsReserved: MalformedPacket, "MQTT-2.1.3-1", "MQTT3-2.2.2-1", "reserved flags of the fixed header are not as listed";
    PubrelFlags: MalformedPacket, "MQTT-3.6.1-1", "MQTT-3.6.1-1", "the flags of PUBREL are not 0010";
    SubscribeFlags: MalformedPacket, "MQTT-3.8.1-1", "MQTT-3.8.1-1", "the flags of SUBSCRIBE are not 0010";
    UnsubscribeFlags: MalformedPacket, "MQTT-3.10.1-1", "MQTT-3.10.1-1", "the flags of UNSUBSCRIBE are not 0010";
    DisconnectFlags: MalformedPacket, "MQTT-3.14.1-1", "MQTT-3.14.1-1", "the flags of DISCONNECT are not 0";
    AuthFlags: MalformedPacket, "MQTT-3.15.1-1", "MQTT3-2.2.1", "the flags of AUTH are not 0";
    QoSInvalid: MalformedPacket, "MQTT-3.3.1-4", "MQTT-3.3.1-4", "a PUBLISH has both QoS bits set";
    DupAtMostOnce: MalformedPacket, "MQTT-3.3.1-2", "MQTT-3.3.1-2", "DUP is set on a PUBLISH with QoS 0";
    VariableIntegerTooLong: MalformedPacket, "MQTT-1.5.5", "MQTT3-2.2.3", "a length is encoded in more than four bytes";
    VariableIntegerNotMinimal: MalformedPacket, "MQTT-1.5.5-1", "MQTT3-2.2.3", "a length is not encoded in the minimum number of bytes";
    PacketTooLarge: PacketTooLarge, "MQTT-3.2.2-15", "MQTT3-2.2.3", "the packet is larger than the receiver accepts";
    FrameIncomplete: MalformedPacket, "MQTT-2.1.4", "MQTT3-2.2.3", "the bytes are not one whole packet";
    CutShort: MalformedPacket, "MQTT-2.1.4", "MQTT3-2.2.3", "a field reaches beyond the end of the packet or of its properties";
    TrailingBytes: MalformedPacket, "MQTT-2.1.4", "MQTT3-2.2.3", "bytes follow the last field of the packet";
    NotUtf8: MalformedPacket, "MQTT-1.5.4-1", "MQTT3-1.5.3-1", "a string is not well-formed UTF-8";
    NullCharacter: MalformedPacket, "MQTT-1.5.4-2", "MQTT3-1.5.3-2", "a string contains U+0000";
    PacketIdZero: ProtocolError, "MQTT-2.2.1-3", "MQTT3-2.3.1-1", "the packet identifier is 0";
    TopicNameCut: MalformedPacket, "MQTT-3.3.2-1", "MQTT-3.3.2-1", "the topic name of a PUBLISH is missing or cut short";
    TopicNameWildcard: MalformedPacket, "MQTT-3.3.2-2", "MQTT-3.3.2-2", "the topic name of a PUBLISH contains a wildcard";
    TopicNameMissing: ProtocolError, "MQTT-3.3.2.1", "MQTT-4.7.3-1", "the topic name is empty and there is no topic alias";
    ResponseTopicWildcard: MalformedPacket, "MQTT-3.3.2-14", "MQTT-3.3.2-14", "the response topic contains a wildcard";
    TopicNameEmpty: MalformedPacket, "MQTT-4.7.3-1", "MQTT-4.7.3-1", "a topic name is empty";
    WillTopicWildcard: MalformedPacket, "MQTT-4.7.0-1", "MQTT3-4.7.1-1", "the will topic contains a wildcard";
    TopicFilterEmpty: MalformedPacket, "MQTT-4.7.3-1", "MQTT-4.7.3-1", "a topic filter is empty";
    MultiLevelWildcard: MalformedPacket, "MQTT-4.7.1-1", "MQTT3-4.7.1-2", "'#' in a topic filter does not stand alone in the last level";
    SingleLevelWildcard: MalformedPacket, "MQTT-4.7.1-2", "MQTT3-4.7.1-3", "'+' in a topic filter does not occupy an entire level";
    ShareNameMissing: MalformedPacket, "MQTT-4.8.2-1", "MQTT-4.8.2-1", "a shared subscription has no share name";
    SharedFilterInvalid: MalformedPacket, "MQTT-4.8.2-2", "MQTT-4.8.2-2", "a share name has a wildcard, or no topic filter follows it";
    PropertyLengthMissing: MalformedPacket, "MQTT-2.2.2-1", "MQTT-2.2.2-1", "the property length is missing";
    PropertyNotAllowed: MalformedPacket, "MQTT-2.2.2.2", "MQTT-2.2.2.2", "a property is unknown or not allowed in this packet";
    PropertyTwice: ProtocolError, "MQTT-2.2.2.2", "MQTT-2.2.2.2", "a property that may appear once appears twice";
    TopicAliasZero: TopicAliasInvalid, "MQTT-3.3.2-8", "MQTT-3.3.2-8", "the topic alias is 0";
    SubscriptionIdZero: ProtocolError, "MQTT-3.8.2.1.2", "MQTT-3.8.2.1.2", "the subscription identifier is 0";
    ReceiveMaximumZero: ProtocolError, "MQTT-3.1.2.11.3", "MQTT-3.1.2.11.3", "the receive maximum is 0";
    MaximumPacketSizeZero: ProtocolError, "MQTT-3.1.2.11.4", "MQTT-3.1.2.11.4", "the maximum packet size is 0";
    PayloadFormatInvalid: ProtocolError, "MQTT-3.3.2.3.2", "MQTT-3.3.2.3.2", "the payload format indicator is neither 0 nor 1";
    RequestInformationInvalid: ProtocolError, "MQTT-3.1.2.11.7", "MQTT-3.1.2.11.7", "request problem information or request response information is neither 0 nor 1";
    MaximumQoSInvalid: ProtocolError, "MQTT-3.2.2.3.4", "MQTT-3.2.2.3.4", "the maximum QoS is neither 0 nor 1";
    AvailabilityInvalid: ProtocolError, "MQTT-3.2.2.3.5", "MQTT-3.2.2.3.5", "what a server says to be available is neither 0 nor 1";
    AuthenticationDataAlone: ProtocolError, "MQTT-3.1.2.11.10", "MQTT-3.1.2.11.10", "authentication data stands without an authentication method";
    ProtocolNameUnknown: UnsupportedProtocolVersion, "MQTT-3.1.2-1", "MQTT-3.1.2-1", "the protocol name is neither MQTT nor MQIsdp";
    ProtocolVersionUnsupported: UnsupportedProtocolVersion, "MQTT-3.1.2-2", "MQTT-3.1.2-2", "the protocol version is not one of 3, 4 and 5";
    ConnectFlagReserved: MalformedPacket, "MQTT-3.1.2-3", "MQTT-3.1.2-3", "the reserved connect flag is set";
    WillQoSInvalid: MalformedPacket, "MQTT-3.1.2-12", "MQTT3-3.1.2-14", "the will QoS is 3";
    WillQoSWithoutWill: MalformedPacket, "MQTT-3.1.2-11", "MQTT3-3.1.2-13", "will QoS is set without the will flag";
    WillRetainWithoutWill: MalformedPacket, "MQTT-3.1.2-13", "MQTT3-3.1.2-15", "will retain is set without the will flag";
    PasswordWithoutUserName: MalformedPacket, "MQTT-3.1.2.9", "MQTT3-3.1.2-22", "the password flag is set without the user name flag";
    ClientIdMissing: MalformedPacket, "MQTT-3.1.3-3", "MQTT-3.1.3-3", "the client identifier is missing";
    WillMissing: MalformedPacket, "MQTT-3.1.2-9", "MQTT-3.1.2-9", "the will flag is set and the will is missing";
    UserNameMissing: MalformedPacket, "MQTT-3.1.2-17", "MQTT3-3.1.2-19", "the user name flag is set and the user name is missing";
    PasswordMissing: MalformedPacket, "MQTT-3.1.2-19", "MQTT3-3.1.2-21", "the password flag is set and the password is missing";
    UserNameNotFlagged: MalformedPacket, "MQTT-3.1.2-16", "MQTT3-3.1.2-18", "the user name flag is not set and bytes of a user name follow";
    PasswordNotFlagged: MalformedPacket, "MQTT-3.1.2-18", "MQTT3-3.1.2-20", "the password flag is not set and bytes of a password follow";
    ConnackFlagsReserved: MalformedPacket, "MQTT-3.2.2-1", "MQTT3-3.2.2.1", "reserved connect acknowledge flags are set";
    SessionPresentWithError: ProtocolError, "MQTT-3.2.2-6", "MQTT3-3.2.2-4", "session present is set beside an error";
    ConnackReasonCode: ProtocolError, "MQTT-3.2.2-8", "MQTT3-3.2.2.3", "the reason code is none of CONNACK";
    PubackReasonCode: ProtocolError, "MQTT-3.4.2-1", "MQTT-3.4.2-1", "the reason code is none of PUBACK";
    PubrecReasonCode: ProtocolError, "MQTT-3.5.2-1", "MQTT-3.5.2-1", "the reason code is none of PUBREC";
    PubrelReasonCode: ProtocolError, "MQTT-3.6.2-1", "MQTT-3.6.2-1", "the reason code is none of PUBREL";
    PubcompReasonCode: ProtocolError, "MQTT-3.7.2-1", "MQTT-3.7.2-1", "the reason code is none of PUBCOMP";
    SubackReasonCode: ProtocolError, "MQTT-3.9.3-2", "MQTT-3.9.3-2", "the reason code is none of SUBACK";
    SubackEmpty: ProtocolError, "MQTT-3.8.4-6", "MQTT3-3.8.4-5", "a SUBACK has no reason code";
    UnsubackReasonCode: ProtocolError, "MQTT-3.11.3-2", "MQTT-3.11.3-2", "the reason code is none of UNSUBACK";
    UnsubackEmpty: ProtocolError, "MQTT-3.11.3-1", "MQTT-3.11.3-1", "an UNSUBACK has no reason code";
    DisconnectReasonCode: ProtocolError, "MQTT-3.14.2-1", "MQTT-3.14.2-1", "the reason code is none of DISCONNECT";
    AuthReasonCode: ProtocolError, "MQTT-3.15.2-1", "MQTT-3.15.2-1", "the reason code is none of AUTH";
    AuthenticationMethodMissing: ProtocolError, "MQTT-3.15.2.2.2", "MQTT-3.15.2.2.2", "an AUTH has no authentication method";
    SubscribeEmpty: ProtocolError, "MQTT-3.8.3-2", "MQTT3-3.8.3-3", "a SUBSCRIBE has no topic filter";
    SubscriptionOptionsReserved: MalformedPacket, "MQTT-3.8.3-5", "MQTT3-3.8.3-4", "reserved subscription options are set";
    SubscriptionQoSInvalid: ProtocolError, "MQTT-3.8.3.1", "MQTT3-3.8.3-4", "the QoS of a subscription is 3";
    RetainHandlingInvalid: ProtocolError, "MQTT-3.8.3.1", "MQTT3-3.8.3-4", "the retain handling of a subscription is 3";
    NoLocalOnShared: ProtocolError, "MQTT-3.8.3-4", "MQTT-3.8.3-4", "no local is set on a shared subscription";
    UnsubscribeEmpty: ProtocolError, "MQTT-3.10.3-2", "MQTT-3.10.3-2", "an UNSUBSCRIBE has no topic filter";
    ConnectExpected: ProtocolError, "MQTT-3.1.0-1", "MQTT-3.1.0-1", "a connection does not begin with CONNECT";
}

/// The bytes of a peer break a rule of the standard: which, where, and what to answer.
///
/// Nothing in it comes from the peer, so it may be logged as it is.
///
/// ```
/// use damselfly_codec::{Packet, ReasonCode, Version};
///
/// let error = Packet::decode(Version::V5_0, &[0x36, 0x00]).unwrap_err();
/// assert_eq!(error.reason_code(), ReasonCode::MalformedPacket);
/// assert_eq!(error.statement(), "MQTT-3.3.1-4");
/// assert_eq!(error.offset(), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} at byte {offset} [{}]", self.statement())]
pub struct DecodeError {
    rule: Rule,
    version: Version,
    offset: u32,
}

const _: () = assert!(size_of::<DecodeError>() <= 8, "it travels beside every packet");

impl DecodeError {
    #[cold]
    pub(crate) fn new(rule: Rule, version: Version, offset: usize) -> Self {
        Self { rule, version, offset: u32::try_from(offset).unwrap_or(u32::MAX) }
    }

    /// The broken rule.
    pub const fn rule(self) -> Rule {
        self.rule
    }

    /// The Reason Code of the CONNACK or DISCONNECT to answer a 5.0 peer with before the connection is closed. [MQTT-4.13]
    pub const fn reason_code(self) -> ReasonCode {
        self.rule.reason_code()
    }

    /// The number of the statement, such as `"MQTT-3.3.1-4"`, or of the section where the rule has no number of its own.
    ///
    /// On a 3.1 or 3.1.1 connection it is that standard's number, written `"MQTT3-…"` where 5.0 numbers the rule
    /// otherwise. Framing knows no version and answers with the number of 5.0; see [`DecodeError::for_version`].
    pub const fn statement(self) -> &'static str {
        self.rule.statement(self.version)
    }

    /// Bytes from the start of the packet, fixed header included, to the field that breaks the rule.
    pub fn offset(self) -> usize {
        crate::wire::to_usize(self.offset)
    }

    /// The same error in the numbering of `version`.
    #[must_use]
    pub const fn for_version(self, version: Version) -> Self {
        Self { version, ..self }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A packet cannot be encoded as it is: the caller's mistake, or data the version of the connection has no place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes. [MQTT-1.5.4], [MQTT-1.5.6]
    #[error("a string or binary field is longer than 65,535 bytes")]
    FieldTooLong,
    /// A string contains U+0000. [MQTT-1.5.4-2]
    #[error("a string contains U+0000")]
    NullCharacter,
    /// The packet is longer than 268,435,455 bytes behind its fixed header. [MQTT-2.1.4]
    #[error("the packet is longer than the remaining length can say")]
    PacketTooLarge,
    /// 5.0 data for a 3.1 or 3.1.1 connection, and the policy is [`Foreign::Reject`](crate::Foreign::Reject).
    #[error("{0} carries data that only 5.0 has")]
    NotInVersion(PacketType),
    /// The property has no place in this packet. [MQTT-2.2.2.2]
    #[error("{0} is not allowed in this packet")]
    PropertyNotAllowed(PropertyId),
    /// The property may appear once only.
    #[error("{0} may appear only once")]
    PropertyTwice(PropertyId),
    /// The value is not one the property can have.
    #[error("the value of {0} is out of range")]
    PropertyValue(PropertyId),
    /// Not a Reason Code of this packet. [MQTT-2.4]
    #[error("{0} is not a reason code of this packet")]
    ReasonCodeNotAllowed(ReasonCode),
    /// 3.1.1 has no CONNACK return code for it: the connection is closed without a CONNACK. [MQTT3-3.2.2-6]
    #[error("3.1.1 has no return code for {0}")]
    NoReturnCode(ReasonCode),
    /// Session Present beside an error. [MQTT-3.2.2-6]
    #[error("session present is set beside an error")]
    SessionPresentWithError,
    /// SUBSCRIBE, UNSUBSCRIBE and their acknowledgements carry at least one element. [MQTT-3.8.3-2], [MQTT-3.10.3-2]
    #[error("at least one topic filter or reason code is needed")]
    Empty,
    /// No Local on a Shared Subscription. [MQTT-3.8.3-4]
    #[error("no local is set on a shared subscription")]
    NoLocalOnShared,
    /// A PUBLISH has neither Topic Name nor Topic Alias. [MQTT-3.3.2.1]
    #[error("a PUBLISH needs a topic name or a topic alias")]
    TopicNameMissing,
    /// A password without user name, before 5.0. [MQTT3-3.1.2-22]
    #[error("before 5.0 a password needs a user name")]
    PasswordWithoutUserName,
    /// Authentication data needs a method, and AUTH needs one. [MQTT-3.1.2.11.10], [MQTT-3.15.2.2.2]
    #[error("an authentication method is needed")]
    AuthenticationMethodMissing,
    /// A PUBLISH with QoS 1 or 2 needs a Packet Identifier. [MQTT-2.2.1-3]
    #[error("a packet identifier is needed")]
    PacketIdMissing,
}
