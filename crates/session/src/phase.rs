//! Which packet may come from whom, and when.

use damselfly_codec::{PacketType, Version};

use crate::PeerError;

/// One of the two ends of a Network Connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that opened the connection.
    Client,
    /// The Server.
    Broker,
}

/// How far a Network Connection has come. Both ends go through the same phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No CONNECT yet.
    Opened,
    /// CONNECT without an Authentication Method; CONNACK is outstanding. The client may already send more.
    Connecting,
    /// CONNECT with an Authentication Method; CONNACK is outstanding. Only AUTH and DISCONNECT may be sent by the client.
    Authenticating,
    /// CONNACK accepted the connection.
    Open,
    /// The sender in question sent DISCONNECT.
    Disconnected,
}

impl Phase {
    /// Checks that a packet may come, in this phase, from the end that plays `from`.
    ///
    /// Before CONNECT the version is not known; any will do. AUTH in [`Phase::Open`] passes: whether the CONNECT named
    /// an Authentication Method and a re-authentication is under way is not a matter of the phase.
    ///
    /// ```
    /// use damselfly_codec::{PacketType, Version};
    /// use damselfly_session::{PeerError, Phase, Role};
    ///
    /// let check = |phase: Phase, packet| phase.check(Version::V5_0, Role::Client, packet);
    /// assert_eq!(check(Phase::Opened, PacketType::Connect), Ok(()));
    /// assert_eq!(check(Phase::Open, PacketType::Connect), Err(PeerError::SecondConnect));
    /// assert_eq!(check(Phase::Open, PacketType::Suback), Err(PeerError::NotFromClient(PacketType::Suback)));
    /// ```
    ///
    /// # Errors
    ///
    /// What the peer did wrong: the connection is to be closed.
    pub const fn check(self, version: Version, from: Role, packet_type: PacketType) -> Result<(), PeerError> {
        match from {
            Role::Client => self.check_client(version, packet_type),
            Role::Broker => self.check_broker(version, packet_type),
        }
    }

    const fn check_client(self, version: Version, packet_type: PacketType) -> Result<(), PeerError> {
        match (self, packet_type) {
            (Self::Opened, PacketType::Connect) => Ok(()),
            (Self::Opened, _) => Err(PeerError::ConnectExpected(packet_type)),
            (Self::Disconnected, _) => Err(PeerError::AfterDisconnect(packet_type)),
            (_, PacketType::Connect) => Err(PeerError::SecondConnect),
            _ if !is_from(Role::Client, version, packet_type) => Err(PeerError::NotFromClient(packet_type)),
            (Self::Connecting, PacketType::Auth) => Err(PeerError::UnexpectedAuth),
            (Self::Authenticating, PacketType::Auth | PacketType::Disconnect) | (Self::Connecting | Self::Open, _) => {
                Ok(())
            }
            (Self::Authenticating, _) => Err(PeerError::NotDuringAuthentication(packet_type)),
        }
    }

    const fn check_broker(self, version: Version, packet_type: PacketType) -> Result<(), PeerError> {
        if !is_from(Role::Broker, version, packet_type) {
            return Err(PeerError::NotFromServer(packet_type));
        }
        match (self, packet_type) {
            (Self::Connecting | Self::Authenticating, PacketType::Connack)
            | (Self::Authenticating, PacketType::Auth) => Ok(()),
            (Self::Connecting, PacketType::Auth) => Err(PeerError::UnexpectedAuth),
            (Self::Opened | Self::Connecting | Self::Authenticating, _) => Err(PeerError::ConnackExpected(packet_type)),
            (Self::Open, PacketType::Connack) => Err(PeerError::SecondConnack),
            (Self::Open, _) => Ok(()),
            (Self::Disconnected, _) => Err(PeerError::AfterDisconnect(packet_type)),
        }
    }
}

/// Does this end send such packets at all, in this version? [MQTT-2.1.2]
const fn is_from(role: Role, version: Version, packet_type: PacketType) -> bool {
    let in_5_0 = matches!(version, Version::V5_0);
    match packet_type {
        PacketType::Connect | PacketType::Subscribe | PacketType::Unsubscribe | PacketType::Pingreq => {
            matches!(role, Role::Client)
        }
        PacketType::Connack | PacketType::Suback | PacketType::Unsuback | PacketType::Pingresp => {
            matches!(role, Role::Broker)
        }
        PacketType::Publish | PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
            true
        }
        PacketType::Disconnect => in_5_0 || matches!(role, Role::Client),
        PacketType::Auth => in_5_0,
    }
}
