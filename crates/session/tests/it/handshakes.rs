//! Every state of a QoS 1 or 2 exchange against everything that can happen to it. The expected outcomes are written by
//! hand, from the standard.

use core::num::NonZeroU16;
use std::collections::BTreeSet;

use damselfly_codec::{PacketId, PacketType, QoS, ReasonCode, Version};
use damselfly_session::{
    PeerError, ReceiveAction, ReceiveInput, ReceiveState, ReceivedIds, SendAction, SendInput, SendState, TooMany,
};
use proptest::prelude::*;

use PacketType::{Puback, Pubcomp, Pubrec};
use SendAction::{Close, Done, Ignore, ResendPublish, ResendPubrel, SendPubrel, SendPubrelNotFound};
use SendState::{AwaitPuback, AwaitPubcomp, AwaitPubrec};

const fn close(packet_type: PacketType) -> SendAction {
    Close(PeerError::UnexpectedAck(packet_type))
}

const SENDER: [(Option<SendState>, SendInput, Option<SendState>, SendAction); 20] = [
    // [MQTT-4.3.2-3] [MQTT-4.4.0-2] a PUBACK ends it, refused or not
    (Some(AwaitPuback), SendInput::Puback, None, Done),
    // [MQTT-2.2.1-5] what does not fit the QoS of the exchange is no acknowledgement of it
    (Some(AwaitPuback), SendInput::Pubrec, Some(AwaitPuback), close(Pubrec)),
    (Some(AwaitPuback), SendInput::PubrecRefused, Some(AwaitPuback), close(Pubrec)),
    (Some(AwaitPuback), SendInput::Pubcomp, Some(AwaitPuback), close(Pubcomp)),
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    (Some(AwaitPuback), SendInput::Reconnect, Some(AwaitPuback), ResendPublish),
    (Some(AwaitPubrec), SendInput::Puback, Some(AwaitPubrec), close(Puback)),
    // [MQTT-4.3.3-3] [MQTT-4.3.3-4]
    (Some(AwaitPubrec), SendInput::Pubrec, Some(AwaitPubcomp), SendPubrel),
    // [MQTT-4.4.0-2]
    (Some(AwaitPubrec), SendInput::PubrecRefused, None, Done),
    (Some(AwaitPubrec), SendInput::Pubcomp, Some(AwaitPubrec), close(Pubcomp)),
    (Some(AwaitPubrec), SendInput::Reconnect, Some(AwaitPubrec), ResendPublish),
    (Some(AwaitPubcomp), SendInput::Puback, Some(AwaitPubcomp), close(Puback)),
    // [MQTT-4.3.3-4] each PUBREC is answered
    (Some(AwaitPubcomp), SendInput::Pubrec, Some(AwaitPubcomp), SendPubrel),
    (Some(AwaitPubcomp), SendInput::PubrecRefused, Some(AwaitPubcomp), close(Pubrec)),
    // [MQTT-4.3.3-5]
    (Some(AwaitPubcomp), SendInput::Pubcomp, None, Done),
    // [MQTT-4.3.3-6] [MQTT-4.4.0-1] PUBREL, never PUBLISH
    (Some(AwaitPubcomp), SendInput::Reconnect, Some(AwaitPubcomp), ResendPubrel),
    // the exchange is over or never was; section 3.6.2.1 has 0x92 for it
    (None, SendInput::Puback, None, Ignore),
    (None, SendInput::Pubrec, None, SendPubrelNotFound),
    (None, SendInput::PubrecRefused, None, Ignore),
    (None, SendInput::Pubcomp, None, Ignore),
    (None, SendInput::Reconnect, None, Ignore),
];

/// [MQTT3-4.3.2-1] [MQTT3-4.3.3-1] [MQTT3-4.4.0-1] [MQTT3-2.3.1-3]
/// [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT-4.4.0-2]
#[test]
fn sender_answers_every_input_in_every_state_as_the_table_says() {
    for (state, input, expected_state, expected_action) in SENDER {
        let step = SendState::next(state, input);
        assert_eq!((step.state, step.action), (expected_state, expected_action), "{state:?} {input:?}");
    }
    let cells: BTreeSet<_> = SENDER.iter().map(|(state, input, ..)| format!("{state:?} {input:?}")).collect();
    assert_eq!(cells.len(), 4 * 5, "the table is complete");
}

#[test]
fn qos_decides_what_a_publish_waits_for() {
    assert_eq!(SendState::after_publish(QoS::AtMostOnce), None);
    assert_eq!(SendState::after_publish(QoS::AtLeastOnce), Some(AwaitPuback));
    assert_eq!(SendState::after_publish(QoS::ExactlyOnce), Some(AwaitPubrec));
}

/// [MQTT-4.4.0-2]
#[test]
fn reason_code_of_0x80_and_above_makes_a_pubrec_a_refusal() {
    let cases = [
        (Puback, ReasonCode::Success, Some(SendInput::Puback)),
        (Puback, ReasonCode::QuotaExceeded, Some(SendInput::Puback)),
        (Pubrec, ReasonCode::Success, Some(SendInput::Pubrec)),
        (Pubrec, ReasonCode::NoMatchingSubscribers, Some(SendInput::Pubrec)),
        (Pubrec, ReasonCode::UnspecifiedError, Some(SendInput::PubrecRefused)),
        (Pubrec, ReasonCode::PayloadFormatInvalid, Some(SendInput::PubrecRefused)),
        (Pubcomp, ReasonCode::PacketIdentifierNotFound, Some(SendInput::Pubcomp)),
        (PacketType::Pubrel, ReasonCode::Success, None),
        (PacketType::Publish, ReasonCode::Success, None),
        (PacketType::Suback, ReasonCode::Success, None),
    ];
    for (packet_type, reason_code, expected) in cases {
        assert_eq!(SendInput::from_ack(packet_type, reason_code), expected, "{packet_type:?} {reason_code:?}");
    }
}

use ReceiveAction::{DeliverAndPuback, DeliverAndPubrec, Nothing, PubrecOnly, RefuseWithPuback};
use ReceiveState::AwaitPubrel;

const NOT_FOUND: ReceiveAction = ReceiveAction::Pubcomp(ReasonCode::PacketIdentifierNotFound);
const COMPLETE: ReceiveAction = ReceiveAction::Pubcomp(ReasonCode::Success);
const IN_USE: ReceiveAction = RefuseWithPuback(ReasonCode::PacketIdentifierInUse);

const RECEIVER: [(Option<ReceiveState>, ReceiveInput, Option<ReceiveState>, ReceiveAction); 10] = [
    // [MQTT-4.3.2-4] [MQTT-4.3.2-5] nothing is remembered, so the next one is new whatever its DUP says
    (None, ReceiveInput::PublishQos1, None, DeliverAndPuback),
    // [MQTT-4.3.3-8]
    (None, ReceiveInput::PublishQos2, Some(AwaitPubrel), DeliverAndPubrec),
    // [MQTT-4.3.3-11]
    (None, ReceiveInput::Pubrel, None, NOT_FOUND),
    (None, ReceiveInput::Refuse, None, Nothing),
    (None, ReceiveInput::Reconnect, None, Nothing),
    // section 3.4.2.1: a mismatch of session states
    (Some(AwaitPubrel), ReceiveInput::PublishQos1, Some(AwaitPubrel), IN_USE),
    // [MQTT-4.3.3-10]
    (Some(AwaitPubrel), ReceiveInput::PublishQos2, Some(AwaitPubrel), PubrecOnly),
    // [MQTT-4.3.3-11] [MQTT-4.3.3-12]
    (Some(AwaitPubrel), ReceiveInput::Pubrel, None, COMPLETE),
    // [MQTT-4.3.3-9]
    (Some(AwaitPubrel), ReceiveInput::Refuse, None, Nothing),
    // [MQTT-4.4.0-1] the receiver keeps its state and resends nothing
    (Some(AwaitPubrel), ReceiveInput::Reconnect, Some(AwaitPubrel), Nothing),
];

/// [MQTT-3.3.4-1] [MQTT3-3.3.4-1] [MQTT3-4.3.2-2] [MQTT3-4.3.3-2]
/// [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT-4.3.3-8] [MQTT-4.3.3-9] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]
#[test]
fn receiver_answers_every_input_in_every_state_as_the_table_says() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5_0] {
        for (state, input, mut expected_state, mut expected_action) in RECEIVER {
            if expected_action == IN_USE && version != Version::V5_0 {
                // Before 5.0 there is no refusal, and PUBACK for a dropped message would be a lie.
                (expected_state, expected_action) = (None, DeliverAndPuback);
            }
            let step = ReceiveState::next(version, state, input);
            assert_eq!((step.state, step.action), (expected_state, expected_action), "{version:?} {state:?} {input:?}");
        }
    }
    let cells: BTreeSet<_> = RECEIVER.iter().map(|(state, input, ..)| format!("{state:?} {input:?}")).collect();
    assert_eq!(cells.len(), 2 * 5, "the table is complete");
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("tests use no zero")
}

fn received_ids(limit: u16) -> ReceivedIds {
    ReceivedIds::new(NonZeroU16::new(limit).expect("tests use no zero"))
}

#[test]
fn fourth_open_exchange_is_too_many_for_a_limit_of_three() {
    let mut ids = received_ids(3);
    for value in [7, 300, 65_535] {
        assert_eq!(ids.handle(Version::V5_0, id(value), ReceiveInput::PublishQos2), Ok(DeliverAndPubrec));
    }
    assert_eq!(ids.handle(Version::V5_0, id(1), ReceiveInput::PublishQos2), Err(TooMany));
    assert_eq!(ids.handle(Version::V5_0, id(300), ReceiveInput::PublishQos2), Ok(PubrecOnly), "repeats go on");
    assert_eq!(ids.handle(Version::V5_0, id(1), ReceiveInput::PublishQos1), Ok(DeliverAndPuback), "and QoS 1");
    assert_eq!(ids.handle(Version::V5_0, id(7), ReceiveInput::Pubrel), Ok(COMPLETE));
    assert_eq!(ids.handle(Version::V5_0, id(1), ReceiveInput::PublishQos2), Ok(DeliverAndPubrec));
    assert_eq!(ids.iter().map(PacketId::get).collect::<Vec<_>>(), [1, 300, 65_535]);
    assert!(ids.restore(id(2)), "what was stored is never forgotten");
    assert_eq!(ids.len(), 4);
    ids.clear();
    assert!(ids.is_empty() && ids.restore(id(2)) && !ids.restore(id(2)));
}

/// One sender, one receiver, a connection that breaks anywhere.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Publish(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// [MQTT-4.3.3-10] [MQTT-4.4.0-1]
    #[test]
    fn qos2_messages_arrive_exactly_once_however_often_the_connection_breaks(
        steps in proptest::collection::vec(0..8_u8, 1..200),
    ) {
        let mut sending: Vec<(u16, Option<SendState>)> = Vec::new();
        let mut received = received_ids(65_535);
        let mut delivered = Vec::new();
        let (mut to_receiver, mut to_sender) = (Vec::new(), Vec::new());
        let mut published = 0;
        // Healthy steps at the end let everything drain.
        for step in steps.into_iter().chain([7]).chain((0..200).map(|step| 1 + step % 2)) {
            match step {
                0 | 3 if published < 12 => {
                    published += 1;
                    sending.push((published, SendState::after_publish(QoS::ExactlyOnce)));
                    to_receiver.push(Wire::Publish(published));
                }
                1 | 4 if !to_receiver.is_empty() => match to_receiver.remove(0) {
                    Wire::Publish(value) => {
                        let action = received.handle(Version::V3_1_1, id(value), ReceiveInput::PublishQos2);
                        if action == Ok(DeliverAndPubrec) {
                            delivered.push(value);
                        }
                        to_sender.push(Wire::Pubrec(value));
                    }
                    Wire::Pubrel(value) => {
                        let action = received.handle(Version::V3_1_1, id(value), ReceiveInput::Pubrel);
                        prop_assert!(matches!(action, Ok(ReceiveAction::Pubcomp(_))));
                        to_sender.push(Wire::Pubcomp(value));
                    }
                    other => prop_assert!(false, "{other:?}"),
                },
                2 | 5 if !to_sender.is_empty() => {
                    let (value, input) = match to_sender.remove(0) {
                        Wire::Pubrec(value) => (value, SendInput::Pubrec),
                        Wire::Pubcomp(value) => (value, SendInput::Pubcomp),
                        other => return Err(TestCaseError::fail(format!("{other:?}"))),
                    };
                    let exchange = sending.iter_mut().find(|(sent, _)| *sent == value).expect("sent once");
                    let step = SendState::next(exchange.1, input);
                    prop_assert!(!matches!(step.action, Close(_)), "{:?}", step.action);
                    exchange.1 = step.state;
                    if step.action == SendPubrel {
                        to_receiver.push(Wire::Pubrel(value));
                    }
                }
                6 | 7 => {
                    to_receiver.clear();
                    to_sender.clear();
                    for (value, state) in &sending {
                        match SendState::next(*state, SendInput::Reconnect).action {
                            ResendPublish => to_receiver.push(Wire::Publish(*value)),
                            ResendPubrel => to_receiver.push(Wire::Pubrel(*value)),
                            action => prop_assert_eq!(action, Ignore),
                        }
                    }
                }
                _ => {}
            }
        }
        delivered.sort_unstable();
        prop_assert_eq!(delivered, (1..=published).collect::<Vec<_>>());
        prop_assert!(sending.iter().all(|(_, state)| state.is_none()), "all exchanges ended: {sending:?}");
        prop_assert!(received.is_empty());
    }
}
