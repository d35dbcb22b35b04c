//! Messages that go on as they came: nothing beside topic and payload, to receivers the publisher's connection knows.

use damselfly_codec::{Packet, PacketId, PacketType, PublishFrame, QoS, Version};
use damselfly_session::Timestamp;
use damselfly_topic::TopicName;

use crate::{
    Broker, ConnectionId,
    access::Permission,
    broker::{Fault, wire_class},
    connections::{Connection, Gate},
    deliver::{Fate, Outgoing, SHARE_FROM, plain_terms},
    gate::Release,
    publish::Tally,
    route::{CachedRoute, Route, hash_topic},
    sessions::{Session, SessionKey, Sink},
    slab::index,
    write::inflight,
};

/// What became of a message that might go on as it came.
pub(crate) enum Verbatim {
    Done,
    /// It is no such case; nothing was done.
    Unfit,
    /// The cache does not know its topic, which has this hash; nothing was done.
    Unknown {
        hash: u64,
    },
}

impl Broker {
    /// The receivers of a topic the cache knows, if nothing is to be decided for any of them, and no message of the
    /// publisher is in the way.
    #[inline]
    fn plain_route<'a>(
        &self,
        known: &'a CachedRoute,
        publisher: SessionKey,
        is_free: impl Fn(&Session) -> bool,
    ) -> Option<&'a Route> {
        let may_go = known.permission == Permission::Allow
            && known.route.is_plain
            && self.shards.is_empty()
            && self.sessions.get(publisher).is_some_and(is_free);
        may_go.then_some(&known.route)
    }

    /// A QoS 0 message: its frame is theirs.
    #[inline]
    pub(crate) fn publish_verbatim(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        topic: TopicName<'_>,
        frame: &[u8],
    ) -> Verbatim {
        let Some(connection) = self.connections.get_mut(id) else { return Verbatim::Unfit };
        let (session, class) = (connection.session, wire_class(connection.version));
        let Some(cache) = connection.route_cache.take() else { return Verbatim::Unfit };
        let hash = hash_topic(&self.keys, topic);
        let Some(known) = cache.find(hash, topic, self.index.generation()) else {
            connection.route_cache = Some(cache);
            return Verbatim::Unknown { hash };
        };
        let is_done = self
            .plain_route(known, session, |session| session.held.is_empty())
            .is_some_and(|route| self.copy_to_all(now, route, topic, frame, class));
        self.put_cache_back(id, cache);
        if is_done { Verbatim::Done } else { Verbatim::Unfit }
    }

    /// A QoS 1 message: its frame is theirs but for the Packet Identifier. `None` if it is no such case; then nothing was
    /// done.
    #[inline]
    pub(crate) fn publish_verbatim_qos1<'a>(
        &mut self,
        now: Timestamp,
        (id, packet_id): (ConnectionId, PacketId),
        (class, came): (usize, &PublishFrame<'a>),
        outgoing: impl FnOnce() -> Outgoing<'a>,
    ) -> Option<Result<(), Fault>> {
        let connection = self.connections.get_mut(id)?;
        if came.qos() != QoS::AtLeastOnce
            || came.encoded_len() >= SHARE_FROM
            || connection.inbound.is_full()
            || self.config.maximum_qos < QoS::AtLeastOnce
            || self.full_sessions > 0
        {
            return None;
        }
        let session = connection.session;
        let cache = connection.route_cache.take()?;
        let mut out = outgoing();
        let is_free = |session: &Session| session.held.is_empty() && session.received.is_empty();
        let known = cache.find(hash_topic(&self.keys, out.topic), out.topic, self.index.generation());
        let route = known.and_then(|known| self.plain_route(known, session, is_free));
        let Some(route) = route.filter(|_| !out.retain && !self.has_no_memory()) else {
            self.put_cache_back(id, cache);
            return None;
        };
        let tally = self.send_to_all(now, route, &mut out, (class, came));
        self.finish(out);
        let sayable = self.sayable(id, self.puback_code(id, tally));
        let gate = Gate::Commit(self.gate.record(Some(Release::Acks(id))));
        let Some(connection) = self.connections.get_mut(id) else {
            self.put_cache_back(id, cache);
            return Some(Ok(()));
        };
        connection.route_cache = Some(cache);
        let counted = connection.inbound.received();
        let reason_code = match counted.and(sayable) {
            Ok(reason_code) => reason_code,
            Err(error) => return Some(Err(error.into())),
        };
        connection.push_ack(PacketType::Puback, packet_id, gate, reason_code);
        Some(Ok(()))
    }

    /// Sends a QoS 1 frame to every receiver of a plain route.
    #[inline]
    fn send_to_all(
        &mut self,
        now: Timestamp,
        route: &Route,
        out: &mut Outgoing<'_>,
        (class, came): (usize, &PublishFrame<'_>),
    ) -> Tally {
        let mut tally = Tally::default();
        out.is_single = route.receivers.len() == 1;
        self.steps += route.receivers.len();
        let max_inflight_bytes = self.config.max_inflight_bytes;
        for receiver in &route.receivers {
            let terms = plain_terms(receiver.qos, false, &[]);
            let Some(session) = self.sessions.at_mut(receiver.key) else { continue };
            let connection = match session.sink {
                Sink::Connection(to)
                    if receiver.qos >= QoS::AtLeastOnce && session.outbound.is_ready(max_inflight_bytes) =>
                {
                    self.connections.get_mut(to).map(|connection| (to, connection))
                }
                _ => None,
            };
            let limit = self.config.max_transmit_bytes;
            let ready = connection.filter(|(_, open)| open.may_send(limit) && takes(open, class, came.encoded_len()));
            let packet_id = ready.as_ref().and_then(|_| session.outbound.ids.allocate());
            let (Some((to, connection)), Some(packet_id)) = (ready, packet_id) else {
                tally.note(self.deliver(now, out, receiver.key, terms));
                continue;
            };
            let queued = out.queued(&mut self.messages, now, plain_terms(QoS::AtLeastOnce, false, &[]));
            came.write(packet_id, false, false, connection.transmit.tail(&mut self.pool));
            Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, to, connection);
            let _has_slot = connection.window.take();
            if max_inflight_bytes != u64::MAX {
                session.outbound.inflight_bytes += self.messages.weight_in_flight(&queued, max_inflight_bytes);
            }
            session.outbound.inflight.push_back(inflight(packet_id, queued));
            tally.note(Fate::Accepted);
        }
        self.counters.deliveries += u64::from(tally.accepted);
        tally
    }

    /// Copies a QoS 0 frame to every receiver of a plain route. False, and nothing done, if one of them needs another.
    #[inline]
    pub(crate) fn copy_to_all(
        &mut self,
        now: Timestamp,
        route: &Route,
        topic: TopicName<'_>,
        frame: &[u8],
        class: usize,
    ) -> bool {
        if (frame.len() >= SHARE_FROM && route.receivers.len() > 1) || self.has_no_memory() {
            return false;
        }
        let mut copies = 0;
        self.steps += route.receivers.len();
        for receiver in &route.receivers {
            let Some(session) = self.sessions.at(receiver.key) else { continue };
            let Sink::Connection(id) = session.sink else {
                if session.sink == Sink::Local {
                    self.copy_slowly(now, receiver.key, topic, frame, class);
                }
                continue;
            };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let is_simple = takes(connection, class, frame.len())
                && connection.waiting_bytes + frame.len() <= index(self.config.max_transmit_bytes);
            if !is_simple {
                self.copy_slowly(now, receiver.key, topic, frame, class);
                continue;
            }
            connection.transmit.tail(&mut self.pool).extend_from_slice(frame);
            connection.waiting_bytes += frame.len();
            copies += 1;
            if !connection.is_dirty {
                Self::mark_dirty(&mut self.outputs, &mut self.waiting_bytes, id, connection);
            }
        }
        self.waiting_bytes += copies * frame.len();
        self.counters.deliveries += u64::try_from(copies).unwrap_or(u64::MAX);
        true
    }

    /// One receiver for whom the frame is not fit as it is.
    #[cold]
    fn copy_slowly(&mut self, now: Timestamp, slot: u32, topic: TopicName<'_>, frame: &[u8], class: usize) {
        let version = if class == 0 { Version::V3_1_1 } else { Version::V5_0 };
        let Ok(Packet::Publish(publish)) = Packet::decode(version, frame) else { return };
        let mut out = Outgoing::of_publish(&publish, topic, None);
        let fate = self.deliver(now, &mut out, slot, plain_terms(QoS::AtMostOnce, false, &[]));
        self.counters.deliveries += u64::from(fate == Fate::Accepted);
        self.finish(out);
    }
}

/// Whether a connection takes a frame of that generation of the protocol and that length as it is.
#[inline]
fn takes(connection: &Connection, class: usize, len: usize) -> bool {
    wire_class(connection.version) == class && len <= index(connection.largest_as_it_came)
}
