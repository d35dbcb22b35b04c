//! Every packet type from either end in every phase.

use damselfly_codec::{PacketType, Version};
use damselfly_session::{PeerError, Phase, Role};

use PacketType::{
    Auth, Connack, Connect, Disconnect, Pingreq, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel, Suback, Subscribe,
    Unsuback, Unsubscribe,
};

const ALL: [PacketType; 15] = [
    Connect,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
    Auth,
];
const FROM_SERVER_ONLY: [PacketType; 4] = [Connack, Suback, Unsuback, Pingresp];
const FROM_CLIENT_ONLY: [PacketType; 4] = [Connect, Subscribe, Unsubscribe, Pingreq];

fn allowed(version: Version, from: Role, phase: Phase) -> Vec<PacketType> {
    ALL.into_iter().filter(|packet_type| phase.check(version, from, *packet_type).is_ok()).collect()
}

fn error(version: Version, from: Role, phase: Phase, packet_type: PacketType) -> PeerError {
    phase.check(version, from, packet_type).expect_err("not allowed")
}

/// [MQTT-3.1.0-1] [MQTT3-3.1.0-1]
#[test]
fn first_packet_of_a_client_is_connect() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5_0] {
        assert_eq!(allowed(version, Role::Client, Phase::Opened), [Connect]);
        assert_eq!(error(version, Role::Client, Phase::Opened, Publish), PeerError::ConnectExpected(Publish));
        assert_eq!(error(version, Role::Client, Phase::Opened, Suback), PeerError::ConnectExpected(Suback));
    }
}

/// [MQTT-3.1.0-2] [MQTT3-3.1.0-2]
#[test]
fn second_connect_is_refused_in_every_later_phase() {
    for phase in [Phase::Connecting, Phase::Authenticating, Phase::Open] {
        assert_eq!(error(Version::V3_1_1, Role::Client, phase, Connect), PeerError::SecondConnect);
    }
}

#[test]
fn client_may_send_before_connack_unless_it_authenticates_step_by_step() {
    let version = Version::V5_0;
    let ahead = allowed(version, Role::Client, Phase::Connecting);
    assert_eq!(ahead, [Publish, Puback, Pubrec, Pubrel, Pubcomp, Subscribe, Unsubscribe, Pingreq, Disconnect]);
    assert_eq!(allowed(version, Role::Client, Phase::Open), [&ahead[..], &[Auth]].concat());
}

/// [MQTT-3.1.2-30] [MQTT-4.12.0-7]
#[test]
fn authenticating_client_sends_only_auth_and_disconnect() {
    let version = Version::V5_0;
    assert_eq!(allowed(version, Role::Client, Phase::Authenticating), [Disconnect, Auth]);
    assert_eq!(
        error(version, Role::Client, Phase::Authenticating, Publish),
        PeerError::NotDuringAuthentication(Publish)
    );
    assert_eq!(error(version, Role::Client, Phase::Connecting, Auth), PeerError::UnexpectedAuth);
}

/// [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-4.12.0-6] [MQTT3-3.2.0-1]
#[test]
fn server_sends_connack_first_and_once_with_only_auth_before_it() {
    let version = Version::V5_0;
    assert_eq!(allowed(version, Role::Broker, Phase::Opened), []);
    assert_eq!(allowed(version, Role::Broker, Phase::Connecting), [Connack]);
    assert_eq!(allowed(version, Role::Broker, Phase::Authenticating), [Connack, Auth]);
    assert_eq!(error(version, Role::Broker, Phase::Connecting, Publish), PeerError::ConnackExpected(Publish));
    assert_eq!(error(version, Role::Broker, Phase::Connecting, Auth), PeerError::UnexpectedAuth);
    assert_eq!(error(version, Role::Broker, Phase::Open, Connack), PeerError::SecondConnack);
}

#[test]
fn each_end_sends_only_its_own_packet_types() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5_0] {
        for packet_type in FROM_SERVER_ONLY {
            assert_eq!(error(version, Role::Client, Phase::Open, packet_type), PeerError::NotFromClient(packet_type));
        }
        for packet_type in FROM_CLIENT_ONLY {
            assert_eq!(error(version, Role::Broker, Phase::Open, packet_type), PeerError::NotFromServer(packet_type));
        }
    }
}

#[test]
fn before_5_0_there_is_no_auth_and_a_server_never_sends_disconnect() {
    for version in [Version::V3_1, Version::V3_1_1] {
        assert_eq!(error(version, Role::Client, Phase::Open, Auth), PeerError::NotFromClient(Auth));
        assert_eq!(error(version, Role::Broker, Phase::Open, Auth), PeerError::NotFromServer(Auth));
        assert_eq!(error(version, Role::Broker, Phase::Open, Disconnect), PeerError::NotFromServer(Disconnect));
        assert!(allowed(version, Role::Client, Phase::Open).contains(&Disconnect));
    }
    assert!(allowed(Version::V5_0, Role::Broker, Phase::Open).contains(&Disconnect));
}

/// [MQTT-3.14.4-1] [MQTT3-3.14.4-2]
#[test]
fn nothing_comes_after_disconnect() {
    assert_eq!(allowed(Version::V5_0, Role::Client, Phase::Disconnected), []);
    assert_eq!(allowed(Version::V5_0, Role::Broker, Phase::Disconnected), []);
    assert_eq!(error(Version::V5_0, Role::Client, Phase::Disconnected, Pingreq), PeerError::AfterDisconnect(Pingreq));
}
