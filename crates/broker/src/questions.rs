//! Questions that are open, and what their answers lead to.

use alloc::{boxed::Box, collections::BTreeMap};

use damselfly_codec::{PacketType, ReasonCode};
use damselfly_session::Timestamp;

use crate::{
    Answer, Broker, ConnectionId, Output, ProblemInformation, Question, QuestionId, broker::Timer, sessions::SessionKey,
};

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A CONNECT, or a step of its authentication.
    Connect(ConnectionId),
    /// A re-authentication.
    Reauthenticate(ConnectionId),
    /// A PUBLISH of a session.
    Publish(SessionKey),
    /// A Topic Filter of a SUBSCRIBE.
    Subscribe(ConnectionId),
}

#[derive(Debug)]
pub(crate) struct Questions {
    next: u64,
    open: BTreeMap<QuestionId, Asked>,
}

impl Questions {
    pub(crate) const fn new() -> Self {
        Self { next: 1, open: BTreeMap::new() }
    }

    /// Questions without an answer.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Broker {
    /// The answer to a question. One that is no longer open is ignored.
    pub fn handle_answer(&mut self, now: Timestamp, question: QuestionId, answer: Answer) {
        self.handle_answer_with(now, question, answer, ProblemInformation::new());
    }

    /// The same, and what the client is told beside it: in CONNACK, AUTH, SUBACK, PUBACK, PUBREC or, where a
    /// re-authentication ends the connection, DISCONNECT. A SUBACK has the first Reason String of the answers to its
    /// filters and all their User Properties.
    pub fn handle_answer_with(
        &mut self,
        now: Timestamp,
        question: QuestionId,
        answer: Answer,
        information: ProblemInformation,
    ) {
        self.answer(now, question, answer, information);
        self.close_group();
    }

    /// Sends a question out; without an answer in time the answer is no.
    pub(crate) fn ask(&mut self, now: Timestamp, asked: Asked, question: Question) -> QuestionId {
        let id = QuestionId(self.questions.next);
        self.questions.next += 1;
        self.questions.open.insert(id, asked);
        self.deadlines.arm(Timer::Question(id), now.saturating_add(self.config.question_timeout));
        self.outputs.push_back(Output::Ask { id, question: Box::new(question) });
        id
    }

    /// A connection that ends takes its questions along.
    pub(crate) fn cancel_question(&mut self, id: QuestionId) {
        self.questions.open.remove(&id);
        self.deadlines.disarm(Timer::Question(id));
    }

    pub(crate) fn answer(&mut self, now: Timestamp, id: QuestionId, answer: Answer, information: ProblemInformation) {
        let Some(asked) = self.questions.open.remove(&id) else { return };
        self.deadlines.disarm(Timer::Question(id));
        match asked {
            Asked::Connect(connection) => self.answer_connect(now, (connection, id), answer, information),
            Asked::Reauthenticate(connection) => {
                self.answer_reauthentication(now, (connection, id), answer, &information);
            }
            Asked::Publish(session) => {
                self.answer_publish(now, (session, id), refusal(&answer), information);
            }
            Asked::Subscribe(connection) => {
                self.answer_subscribe(now, (connection, id), refusal(&answer), information);
            }
        }
    }
}

/// A code of the embedding program that a packet can carry: what does not fit is said as "not authorized".
pub(crate) const fn sayable_refusal(packet_type: PacketType, reason_code: ReasonCode) -> ReasonCode {
    if reason_code.is_error() && reason_code.is_allowed_in(packet_type) {
        reason_code
    } else {
        ReasonCode::NotAuthorized
    }
}

/// The code of an answer that is not yes.
fn refusal(answer: &Answer) -> Option<ReasonCode> {
    match answer {
        Answer::Allow(_) => None,
        Answer::Deny(reason_code) if reason_code.is_error() => Some(*reason_code),
        Answer::Deny(_) | Answer::Redirect { .. } | Answer::Continue(_) => Some(ReasonCode::NotAuthorized),
    }
}
