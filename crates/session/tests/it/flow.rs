//! A sender and a receiver that keep to the standard, over connections that break: neither accuses the other, and
//! nothing waits for ever.

use core::num::NonZeroU16;
use std::collections::VecDeque;

use damselfly_codec::{PacketId, QoS, Version};
use damselfly_session::{
    ReceiveAction, ReceiveInput, ReceiveWindow, ReceivedIds, SendAction, SendInput, SendState, Window,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Wire {
    Publish(PacketId, QoS),
    Pubrel(PacketId),
    Puback(PacketId),
    Pubrec(PacketId),
    Pubcomp(PacketId),
}

struct Exchange {
    id: PacketId,
    qos: QoS,
    state: SendState,
    /// Sent on this connection.
    is_sent: bool,
    holds_slot: bool,
}

/// How a sender counts the PUBCOMP of a PUBREL that was resent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Counts {
    /// Only slots that were taken are given back.
    Exactly,
    /// As section 4.9 says: each PUBCOMP raises the quota.
    EachPubcomp,
}

struct World {
    counts: Counts,
    window: Window,
    exchanges: VecDeque<Exchange>,
    to_receiver: VecDeque<Wire>,
    receive_window: ReceiveWindow,
    received: ReceivedIds,
    /// Answers that the receiver has decided and not sent.
    held: VecDeque<Wire>,
    to_sender: VecDeque<Wire>,
    next_id: u16,
    under_way: u16,
}

const RECEIVE_MAXIMUM: NonZeroU16 = match NonZeroU16::new(3) {
    Some(three) => three,
    None => NonZeroU16::MIN,
};

impl World {
    fn new(counts: Counts) -> Self {
        Self {
            counts,
            window: Window::new(RECEIVE_MAXIMUM),
            exchanges: VecDeque::new(),
            to_receiver: VecDeque::new(),
            receive_window: ReceiveWindow::new(RECEIVE_MAXIMUM),
            received: ReceivedIds::default(),
            held: VecDeque::new(),
            to_sender: VecDeque::new(),
            next_id: 1,
            under_way: 0,
        }
    }

    fn publish(&mut self, qos: QoS) {
        let id = PacketId::new(self.next_id).expect("few are used");
        self.next_id += 1;
        let state = SendState::after_publish(qos).expect("QoS 1 or 2");
        self.exchanges.push_back(Exchange { id, qos, state, is_sent: false, holds_slot: false });
        self.pump();
    }

    /// Sends what the window lets go, in order.
    fn pump(&mut self) {
        for exchange in self.exchanges.iter_mut().filter(|exchange| !exchange.is_sent) {
            match SendState::next(Some(exchange.state), SendInput::Reconnect).action {
                SendAction::ResendPublish => {
                    if !self.window.take() {
                        return;
                    }
                    exchange.holds_slot = true;
                    self.to_receiver.push_back(Wire::Publish(exchange.id, exchange.qos));
                }
                SendAction::ResendPubrel => self.to_receiver.push_back(Wire::Pubrel(exchange.id)),
                other => panic!("{other:?}"),
            }
            exchange.is_sent = true;
        }
    }

    fn reconnect(&mut self) {
        let waits_for_pubcomp = |exchange: &&Exchange| exchange.state == SendState::AwaitPubcomp;
        let waiting = self.exchanges.iter().filter(waits_for_pubcomp).count();
        if self.counts == Counts::EachPubcomp && waiting > usize::from(RECEIVE_MAXIMUM.get()) {
            // More come together only if one connection after the other breaks at its worst moment.
            return;
        }
        self.to_receiver.clear();
        self.to_sender.clear();
        self.held.clear();
        self.window = Window::new(RECEIVE_MAXIMUM);
        self.receive_window = ReceiveWindow::new(RECEIVE_MAXIMUM);
        self.receive_window.resumed();
        for exchange in &mut self.exchanges {
            exchange.is_sent = false;
            exchange.holds_slot = false;
        }
        self.pump();
    }

    fn receive(&mut self) {
        let Some(packet) = self.to_receiver.pop_front() else { return };
        let (id, input) = match packet {
            Wire::Publish(id, QoS::ExactlyOnce) => (id, ReceiveInput::PublishQos2),
            Wire::Publish(id, _) => (id, ReceiveInput::PublishQos1),
            Wire::Pubrel(id) => (id, ReceiveInput::Pubrel),
            other => panic!("{other:?}"),
        };
        if matches!(packet, Wire::Publish(..)) {
            assert_eq!(self.receive_window.received(), Ok(()), "accused, with {:?}", self.counts);
        }
        self.held.push_back(match self.received.handle(Version::V5_0, id, input).expect("no limit") {
            ReceiveAction::DeliverAndPuback => Wire::Puback(id),
            ReceiveAction::DeliverAndPubrec | ReceiveAction::PubrecOnly => Wire::Pubrec(id),
            ReceiveAction::Pubcomp(_) => Wire::Pubcomp(id),
            other => panic!("{other:?}"),
        });
    }

    fn answer(&mut self) {
        let Some(answer) = self.held.pop_front() else { return };
        if matches!(answer, Wire::Puback(_) | Wire::Pubcomp(_)) {
            self.receive_window.answered();
        }
        self.to_sender.push_back(answer);
    }

    fn acknowledged(&mut self) {
        let Some(ack) = self.to_sender.pop_front() else { return };
        let (id, input) = match ack {
            Wire::Puback(id) => (id, SendInput::Puback),
            Wire::Pubrec(id) => (id, SendInput::Pubrec),
            Wire::Pubcomp(id) => (id, SendInput::Pubcomp),
            other => panic!("{other:?}"),
        };
        let at = self.exchanges.iter().position(|exchange| exchange.id == id).expect("not finished");
        let step = SendState::next(Some(self.exchanges[at].state), input);
        match step.action {
            SendAction::Done => {
                let done = self.exchanges.remove(at).expect("just found");
                if done.holds_slot || self.counts == Counts::EachPubcomp {
                    self.window.release();
                }
                self.pump();
            }
            SendAction::SendPubrel => {
                self.exchanges[at].state = step.state.expect("waits for PUBCOMP");
                self.to_receiver.push_back(Wire::Pubrel(id));
            }
            other => panic!("{other:?}"),
        }
    }

    fn count_under_way(&mut self) {
        let slots = self.exchanges.iter().filter(|exchange| exchange.holds_slot).count();
        self.under_way = u16::try_from(slots).expect("few").max(self.under_way);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// [MQTT-4.9.0-2] [MQTT-3.3.4-7] [MQTT-3.3.4-9] [MQTT-4.4.0-1] [MQTT3-4.4.0-1]
    #[test]
    fn nobody_is_accused_and_everything_is_finished(
        steps in proptest::collection::vec(0..14_u8, 1..200),
        exactly in any::<bool>(),
    ) {
        let counts = if exactly { Counts::Exactly } else { Counts::EachPubcomp };
        let mut world = World::new(counts);
        for step in steps {
            match step {
                0 | 1 => world.publish(QoS::AtLeastOnce),
                2 | 3 => world.publish(QoS::ExactlyOnce),
                4..=6 => world.receive(),
                7..=9 => world.answer(),
                10..=12 => world.acknowledged(),
                _ => world.reconnect(),
            }
            world.count_under_way();
        }
        for _ in 0..20 * usize::from(world.next_id) {
            world.receive();
            world.answer();
            world.acknowledged();
        }
        prop_assert!(world.exchanges.is_empty(), "{} wait for ever", world.exchanges.len());
        prop_assert!(world.received.is_empty());
        if counts == Counts::Exactly {
            prop_assert!(world.under_way <= RECEIVE_MAXIMUM.get(), "what the window is for");
        }
    }
}
