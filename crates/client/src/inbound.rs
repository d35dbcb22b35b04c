//! Received QoS 1 and 2 messages and their acknowledgements, which leave in the order the standard wants.

use alloc::collections::{BTreeMap, VecDeque};
use core::num::NonZeroU16;

use damselfly_codec::{AckType, PacketId, ReasonCode, Version};
use damselfly_session::{ReceiveAction, ReceiveInput, ReceivedIds};

use crate::{AckToken, Acknowledgement, UsageError};

/// What a received QoS 1 or 2 PUBLISH means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A new message: give it to the application, with this token.
    Deliver(AckToken),
    /// The application has it already, or shall not have it.
    Repeat,
}

/// An acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ack_type: AckType,
    pub(crate) packet_id: PacketId,
    pub(crate) reason_code: ReasonCode,
}

impl Answer {
    /// Does the broker get its slot of our Receive Maximum back with it? [MQTT-4.9]
    pub(crate) fn ends_exchange(self) -> bool {
        match self.ack_type {
            AckType::Puback | AckType::Pubcomp => true,
            AckType::Pubrec => self.reason_code.is_error(),
            AckType::Pubrel => false,
        }
    }
}

/// A message whose acknowledgement was not sent yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    token: AckToken,
    packet_id: PacketId,
    /// What to answer, once that is known.
    answer: Option<ReasonCode>,
}

/// The receiving side of a session, and what of it belongs to the open connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// QoS 2 identifiers that wait for PUBREL, or for us to answer PUBREC. Part of the session.
    received: ReceivedIds,
    /// QoS 1 messages of this connection, in order of arrival. [MQTT-4.6.0-2]
    pubacks: VecDeque<Pending>,
    /// QoS 2 messages of this connection, in order of arrival. [MQTT-4.6.0-3]
    pubrecs: VecDeque<Pending>,
    /// QoS 2 messages of earlier connections that the application has and PUBREC was not sent for: the broker will
    /// send them again, and the application must not see them twice.
    unanswered: BTreeMap<PacketId, Pending>,
    last_token: u64,
}

impl Inbound {
    pub(crate) fn new(limit: NonZeroU16) -> Self {
        Self {
            received: ReceivedIds::new(limit),
            pubacks: VecDeque::new(),
            pubrecs: VecDeque::new(),
            unanswered: BTreeMap::new(),
            last_token: 0,
        }
    }

    /// Takes up a QoS 2 identifier that an earlier process stored.
    pub(crate) fn restore(&mut self, packet_id: PacketId) {
        let _ = self.received.restore(packet_id);
    }

    /// Does this identifier wait for PUBREL?
    pub(crate) fn awaits_pubrel(&self, packet_id: PacketId) -> bool {
        self.received.contains(packet_id)
    }

    /// Is the next QoS 1 message a new one whose PUBACK waits for nothing?
    pub(crate) fn answers_at_once(&self, acknowledgement: Acknowledgement) -> bool {
        acknowledgement == Acknowledgement::Automatic && self.pubacks.is_empty() && self.received.is_empty()
    }

    /// A QoS 1 PUBLISH came.
    pub(crate) fn at_least_once(&mut self, version: Version, packet_id: PacketId) -> Arrival {
        let token = self.next_token();
        let action = self.received.handle(version, packet_id, ReceiveInput::PublishQos1);
        let answer = match action {
            Ok(ReceiveAction::RefuseWithPuback(reason_code)) => Some(reason_code),
            _ => None,
        };
        self.pubacks.push_back(Pending { token, packet_id, answer });
        if answer.is_some() { Arrival::Repeat } else { Arrival::Deliver(token) }
    }

    /// A QoS 2 PUBLISH came. `None` if more of them wait for PUBREL than our Receive Maximum allows.
    pub(crate) fn exactly_once(&mut self, version: Version, packet_id: PacketId) -> Option<Arrival> {
        let action = self.received.handle(version, packet_id, ReceiveInput::PublishQos2).ok()?;
        if action == ReceiveAction::DeliverAndPubrec {
            let token = self.next_token();
            self.pubrecs.push_back(Pending { token, packet_id, answer: None });
            return Some(Arrival::Deliver(token));
        }
        if let Some(pending) = self.unanswered.remove(&packet_id) {
            self.pubrecs.push_back(pending);
        } else if !self.pubrecs.iter().any(|pending| pending.packet_id == packet_id) {
            let token = self.next_token();
            self.pubrecs.push_back(Pending { token, packet_id, answer: Some(ReasonCode::Success) });
        }
        Some(Arrival::Repeat)
    }

    /// PUBREL came: the Reason Code of the PUBCOMP.
    pub(crate) fn pubrel(&mut self, version: Version, packet_id: PacketId) -> ReasonCode {
        self.unanswered.remove(&packet_id);
        match self.received.handle(version, packet_id, ReceiveInput::Pubrel) {
            Ok(ReceiveAction::Pubcomp(reason_code)) => reason_code,
            _ => ReasonCode::Success,
        }
    }

    /// The application answers a message.
    pub(crate) fn acknowledge(&mut self, token: AckToken, reason_code: ReasonCode) -> Result<(), UsageError> {
        let pending = find(&mut self.pubacks, token)
            .or_else(|| find(&mut self.pubrecs, token))
            .or_else(|| self.unanswered.values_mut().find(|pending| pending.token == token))
            .filter(|pending| pending.answer.is_none())
            .ok_or(UsageError::StaleAcknowledgement)?;
        pending.answer = Some(reason_code);
        Ok(())
    }

    /// The next PUBACK or PUBREC whose turn it is.
    pub(crate) fn next_answer(&mut self, version: Version) -> Option<Answer> {
        if let Some((packet_id, reason_code)) = pop_answered(&mut self.pubacks) {
            return Some(Answer { ack_type: AckType::Puback, packet_id, reason_code });
        }
        let (packet_id, reason_code) = pop_answered(&mut self.pubrecs)?;
        if reason_code.is_error() {
            let _ = self.received.handle(version, packet_id, ReceiveInput::Refuse);
        }
        Some(Answer { ack_type: AckType::Pubrec, packet_id, reason_code })
    }

    /// The connection ended: the broker sends QoS 1 messages without PUBACK again, as new ones.
    pub(crate) fn connection_lost(&mut self) {
        self.pubacks.clear();
        for pending in self.pubrecs.drain(..) {
            self.unanswered.insert(pending.packet_id, pending);
        }
    }

    /// The session ended.
    pub(crate) fn session_lost(&mut self) {
        self.connection_lost();
        self.unanswered.clear();
        self.received.clear();
    }

    fn next_token(&mut self) -> AckToken {
        self.last_token += 1;
        AckToken(self.last_token)
    }
}

/// Tokens rise from front to back, except for repeats that an earlier connection left.
fn find(pending: &mut VecDeque<Pending>, token: AckToken) -> Option<&mut Pending> {
    match pending.binary_search_by_key(&token, |pending| pending.token) {
        Ok(index) => pending.get_mut(index),
        Err(_) => pending.iter_mut().find(|pending| pending.token == token),
    }
}

fn pop_answered(pending: &mut VecDeque<Pending>) -> Option<(PacketId, ReasonCode)> {
    let reason_code = pending.front()?.answer?;
    pending.pop_front().map(|pending| (pending.packet_id, reason_code))
}
