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

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use damselfly_codec::{Delivery, Foreign, FrameLimits, Properties, Publish, peek};

    use super::*;
    use crate::{Answer, Config, Output, Peer};

    const NOW: Timestamp = Timestamp::from_secs(1);

    fn settle(broker: &mut Broker) {
        while let Some(output) = broker.poll_output() {
            match output {
                Output::Ask { id, .. } => broker.handle_answer(NOW, id, Answer::allow()),
                Output::Commit(id) => broker.handle_committed(NOW, id),
                _ => {}
            }
        }
        broker.audit().unwrap();
    }

    fn send(broker: &mut Broker, id: ConnectionId, bytes: &[u8]) {
        assert_eq!(broker.handle_input(NOW, id, bytes).consumed, bytes.len());
        settle(broker);
    }

    /// A client of 3.1.1 with a subscription to "a" at QoS 1, if it is to have one.
    fn connect(broker: &mut Broker, name: &str, subscribes: bool) -> ConnectionId {
        let id = broker.handle_connection(NOW, Peer::default()).unwrap();
        let len = u8::try_from(name.len()).unwrap();
        send(
            broker,
            id,
            &[&[0x10, 12 + len], &b"\x00\x04MQTT\x04\x02\x00\x00\x00"[..], &[len], name.as_bytes()].concat(),
        );
        if subscribes {
            send(broker, id, b"\x82\x06\x00\x01\x00\x01a\x01");
        }
        id
    }

    fn publish(qos: u8, retain: bool, len: usize) -> Vec<u8> {
        let payload = "x".repeat(len);
        let id = PacketId::new(7).unwrap();
        let delivery = if qos == 0 { Delivery::AtMostOnce } else { Delivery::AtLeastOnce { id, dup: false } };
        let topic = Some(TopicName::new("a").unwrap());
        let mut frame = Vec::new();
        let publish = Publish { delivery, retain, topic, properties: Properties::EMPTY, payload: payload.as_bytes() };
        publish.encode(Version::V3_1_1, Foreign::Reject, &mut frame).unwrap();
        frame
    }

    /// A broker whose first client knows the way to so many receivers.
    fn warm(receivers: usize, change: impl FnOnce(&mut Config)) -> (Broker, ConnectionId) {
        let mut config = Config::default();
        change(&mut config);
        let mut broker = Broker::new(config, 1).unwrap();
        let alice = connect(&mut broker, "alice", false);
        for n in 0..receivers {
            connect(&mut broker, &format!("bob {n}"), true);
        }
        for _ in 0..2 {
            send(&mut broker, alice, &publish(0, false, 1));
        }
        (broker, alice)
    }

    fn try_as_it_came(broker: &mut Broker, id: ConnectionId, frame: &[u8]) -> bool {
        let topic = TopicName::new("a").unwrap();
        if frame[0] == 0x30 {
            return matches!(broker.publish_verbatim(NOW, id, topic, frame), Verbatim::Done);
        }
        let header = peek(frame, &FrameLimits::default()).unwrap().unwrap();
        let publish = Publish::decode(Version::V3_1_1, header, &frame[header.header_len().into()..]).unwrap();
        let came = PublishFrame::new(header, frame, &publish).unwrap();
        let outgoing = || Outgoing::of_publish(&publish, topic, None);
        let packet_id = publish.delivery.packet_id().unwrap();
        broker.publish_verbatim_qos1(NOW, (id, packet_id), (0, &came), outgoing).is_some_and(|done| done.is_ok())
    }

    /// As [`try_as_it_came`], with all that follows.
    fn goes_as_it_came(broker: &mut Broker, id: ConnectionId, frame: &[u8]) -> bool {
        let is_done = try_as_it_came(broker, id, frame);
        broker.handle_timeout(NOW);
        settle(broker);
        is_done
    }

    /// The largest payload of which the packet, with two bytes of length and the topic, is shorter than those that are shared.
    const LARGEST_QOS0: usize = SHARE_FROM - 1 - 3 - 3;
    const LARGEST_QOS1: usize = LARGEST_QOS0 - 2;

    #[test]
    fn a_small_message_to_receivers_that_are_known_goes_as_it_came() {
        for receivers in [1, 2, 3] {
            let (mut broker, alice) = warm(receivers, |_| {});
            for (qos, len, goes) in [
                (0, 1, true),
                (0, LARGEST_QOS0, true),
                (0, LARGEST_QOS0 + 1, receivers == 1),
                (0, LARGEST_QOS0 + 2, receivers == 1),
                (1, 1, true),
                (1, LARGEST_QOS1, true),
                (1, LARGEST_QOS1 + 1, false),
            ] {
                let frame = publish(qos, false, len);
                assert_eq!(
                    goes_as_it_came(&mut broker, alice, &frame),
                    goes,
                    "QoS {qos}, {len}, {receivers} receivers"
                );
            }
        }
    }

    #[test]
    fn what_has_to_be_kept_or_to_wait_takes_the_other_way() {
        let (mut broker, alice) = warm(1, |_| {});
        assert!(!goes_as_it_came(&mut broker, alice, &publish(1, true, 1)), "retained");
        broker.full_sessions = 1;
        assert!(!try_as_it_came(&mut broker, alice, &publish(1, false, 1)), "a queue is full");
        broker.full_sessions = 0;
        assert!(goes_as_it_came(&mut broker, alice, &publish(1, false, 1)));

        // A QoS 2 message to another topic misses its PUBREL.
        send(&mut broker, alice, b"\x34\x06\x00\x01b\x00\x09x");
        assert!(!goes_as_it_came(&mut broker, alice, &publish(1, false, 1)), "its identifier could be another's");
        assert!(goes_as_it_came(&mut broker, alice, &publish(0, false, 1)), "it has none");
    }

    #[test]
    fn without_memory_nothing_goes_as_it_came() {
        for qos in [0, 1] {
            let (mut broker, alice) = warm(1, |_| {});
            let frame = publish(qos, false, 1);
            assert!(goes_as_it_came(&mut broker, alice, &frame));
            broker.config.max_memory = 0;
            assert!(!goes_as_it_came(&mut broker, alice, &frame), "QoS {qos}");
        }
    }

    #[test]
    fn what_is_sent_as_it_came_counts_as_steps_bytes_and_deliveries() {
        for qos in [0, 1] {
            let (mut broker, alice) = warm(5, |_| {});
            let frame = publish(qos, false, 10);
            let (steps, waiting, deliveries) = (broker.steps, broker.waiting_bytes, broker.counters.deliveries);
            assert!(try_as_it_came(&mut broker, alice, &frame));
            assert_eq!(broker.steps, steps + 5, "QoS {qos}");
            assert_eq!(broker.waiting_bytes, waiting + 5 * frame.len());
            assert_eq!(broker.counters.deliveries, deliveries + 5);
            broker.audit().unwrap();
        }
    }

    #[test]
    fn a_receiver_that_is_behind_is_left_out_at_its_limit() {
        let frame = publish(0, false, 100);
        // CONNACK and SUBACK take nine bytes, what made the way known two packets of six.
        let before = 9 + 2 * publish(0, false, 1).len();
        for (limit, copies) in [(before + 3 * frame.len(), 3), (before + 3 * frame.len() - 6, 2)] {
            let (mut broker, alice) = warm(1, |config| config.max_transmit_bytes = u32::try_from(limit).unwrap());
            let (waiting, deliveries) = (broker.waiting_bytes, broker.counters.deliveries);
            for _ in 0..4 {
                assert!(goes_as_it_came(&mut broker, alice, &frame), "handled, whatever became of it");
            }
            assert_eq!(broker.waiting_bytes, waiting + copies * frame.len(), "limit {limit}");
            let copies = u64::try_from(copies).unwrap();
            let dropped = broker.counters.dropped(crate::DropReason::SlowReader);
            assert_eq!((broker.counters.deliveries - deliveries, dropped), (copies, 4 - copies));
        }
    }

    #[test]
    fn a_message_that_is_held_is_not_overtaken() {
        let (mut broker, alice) = warm(1, |_| {});
        let _not_committed = broker.handle_input(NOW, alice, b"\x34\x06\x00\x01a\x00\x09x");
        let deliveries = broker.counters.deliveries;
        for qos in [0, 1] {
            assert!(!try_as_it_came(&mut broker, alice, &publish(qos, false, 1)), "QoS {qos}");
        }
        assert_eq!(broker.counters.deliveries, deliveries);
    }
}
