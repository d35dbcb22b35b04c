//! Local participants: sessions of the embedding program, the same in all but the socket.

use alloc::{sync::Arc, vec::Vec};
use core::num::NonZeroU16;

use damselfly_codec::{PacketId, QoS, ReasonCode, SubscriptionId, SubscriptionOptions, Version};
use damselfly_session::{Message, SessionExpiry, Timestamp, Window};
use damselfly_topic::TopicFilter;

use crate::{
    AckToken, Broker, DropReason, LocalId,
    broker::owned,
    gate::Release,
    sessions::{Session, SessionKey, Sink},
};

/// A session with this identifier is in use by a client or another local participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session with this client identifier exists: choose another")]
pub struct ClientIdInUse;

/// What became of a message of a local participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message may have been refused"]
pub struct Published {
    /// Sessions and other brokers that got it or will. What is counted later is 0 here: at QoS 2, and where the lookup
    /// goes on in later calls, as [`Config::steps_per_call`](crate::Config::steps_per_call) says.
    pub receivers: u32,
    /// What a PUBACK would have said.
    pub reason_code: ReasonCode,
}

impl Broker {
    /// Makes a session for the embedding program: no client may connect under its identifier. It lasts until
    /// [`Broker::close_local`]. At most `receive_maximum` QoS 1 and 2 messages are unacknowledged; more wait in its queue,
    /// under the limits of every queue.
    ///
    /// ```
    /// use damselfly_broker::{
    ///     Broker, Config, Message, Output, Properties, QoS, Timestamp, TopicFilter, TopicName,
    /// };
    ///
    /// let mut broker = Broker::new(Config::default(), 1)?;
    /// let now = Timestamp::from_secs(1);
    /// let thermostat = broker.open_local(now, "thermostat", 16.try_into()?)?;
    /// broker.local_subscribe(now, thermostat, TopicFilter::new("home/+/temperature")?, Default::default(), None);
    ///
    /// let topic = TopicName::new("home/hall/temperature")?;
    /// let message = Message::compose(topic, b"19.5", QoS::AtMostOnce, false, Properties::EMPTY, now);
    /// let published = broker.local_publish(now, thermostat, message);
    /// assert_eq!(published.receivers, 1);
    /// let delivered = core::iter::from_fn(|| broker.poll_output())
    ///     .any(|output| matches!(output, Output::Deliver { delivery, .. } if delivery.message.payload() == b"19.5"));
    /// assert!(delivered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_local(
        &mut self,
        _now: Timestamp,
        client_id: &str,
        receive_maximum: NonZeroU16,
    ) -> Result<LocalId, ClientIdInUse> {
        if self.sessions.find(client_id).is_some() {
            return Err(ClientIdInUse);
        }
        let principal = Some(Arc::from("$local"));
        let limit = self.received_limit(Version::V5_0);
        let mut session = Session::new(owned(client_id), principal, SessionExpiry::Never, limit);
        session.sink = Sink::Local;
        session.local_window = Some(Window::new(receive_maximum));
        Ok(LocalId(self.insert_session(session)))
    }

    /// Ends a local participant and its subscriptions.
    pub fn close_local(&mut self, now: Timestamp, local: LocalId) {
        if self.is_local(local) {
            self.end_session(now, local.0);
        }
        self.close_group();
    }

    fn is_local(&self, local: LocalId) -> bool {
        self.sessions.get(local.0).is_some_and(|session| session.sink == Sink::Local)
    }

    /// Publishes as a client would; topics that begin with `$SYS/` are allowed.
    pub fn local_publish(&mut self, now: Timestamp, local: LocalId, message: Message) -> Published {
        if !self.is_local(local) {
            return Published { receivers: 0, reason_code: ReasonCode::UnspecifiedError };
        }
        if message.qos() == QoS::ExactlyOnce {
            let commit = self.gate.record(Some(Release::AfterCommit));
            self.route_after(commit, Some(local.0), message);
            self.close_group();
            return Published { receivers: 0, reason_code: ReasonCode::Success };
        }
        // What waits counts for it: a participant cannot be left unread.
        if self.has_held(local.0) && self.has_no_memory() {
            self.note_drop(Some(local.0.slot), message.topic(), DropReason::Memory);
            return Published { receivers: 0, reason_code: ReasonCode::QuotaExceeded };
        }
        let tally = self.route_in_order(now, message, Some(local.0));
        self.close_group();
        let Some(tally) = tally else { return Published { receivers: 0, reason_code: ReasonCode::Success } };
        let reason_code = match (tally.dropped, tally.accepted) {
            (Some(_), _) => ReasonCode::QuotaExceeded,
            (None, 0) if !tally.is_missed => ReasonCode::NoMatchingSubscribers,
            (None, _) => ReasonCode::Success,
        };
        Published { receivers: tally.accepted, reason_code }
    }

    /// Subscribes; retained messages follow as the window allows. The answer is what a SUBACK would have said.
    pub fn local_subscribe(
        &mut self,
        now: Timestamp,
        local: LocalId,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
        id: Option<SubscriptionId>,
    ) -> ReasonCode {
        if !self.is_local(local) {
            return ReasonCode::UnspecifiedError;
        }
        let mut replays = Vec::new();
        let code = self.subscribe(local.0, filter, options, id, &mut replays);
        self.queue_replays(now, local.0, replays);
        self.close_group();
        code
    }

    /// Ends a subscription. The answer is what an UNSUBACK would have said.
    pub fn local_unsubscribe(&mut self, now: Timestamp, local: LocalId, filter: TopicFilter<'_>) -> ReasonCode {
        if !self.is_local(local) {
            return ReasonCode::UnspecifiedError;
        }
        let code = self.unsubscribe(local.0, filter);
        self.drop_ended_replays(now, local.0);
        self.close_group();
        code
    }

    /// A delivered QoS 1 or 2 message was taken care of; its place in the window is free. The token of a participant that
    /// was closed does nothing.
    #[expect(clippy::needless_pass_by_value, reason = "a token is used once: it ends here")]
    pub fn local_acknowledge(&mut self, now: Timestamp, token: AckToken) {
        self.acknowledge_locally(now, token.session, token.id);
        self.close_group();
    }

    fn acknowledge_locally(&mut self, now: Timestamp, key: SessionKey, id: PacketId) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(at) = session.outbound.find(id) else { return };
        let Some(done) = session.outbound.inflight.remove(at) else { return };
        session.outbound.ids.release(done.id);
        if let Some(window) = session.local_window.as_mut() {
            window.release();
        }
        if let Some(queued) = done.queued {
            self.discard(queued);
        }
        self.pump(now, key);
    }
}
