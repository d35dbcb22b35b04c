//! PUBLISH written into the transmit buffer of a receiver. [MQTT-3.3]

use alloc::collections::VecDeque;

use damselfly_codec::{
    Addition, Delivery, Foreign, PacketId, Properties, Publish, PublishTemplate, QoS, SubscriptionId,
};
use damselfly_session::{BufferPool, OutboundAliases, SendState};

use crate::{
    Broker, ConnectionId, DropReason, Output,
    broker::wire_class,
    connections::Connection,
    deliver::{Outgoing, Terms},
    sessions::{Inflight, Outbound, Queued},
    slab::index,
};

/// What writing needs of the broker beside session and connection, which the caller has looked up.
pub(crate) struct Writer<'a> {
    pub(crate) templates: &'a mut [PublishTemplate; 6],
    pub(crate) pool: &'a mut BufferPool,
    pub(crate) outputs: &'a mut VecDeque<Output>,
    pub(crate) waiting_bytes: &'a mut usize,
}

/// The [`Writer`] of a broker: a method would borrow the sessions and connections too.
macro_rules! writer {
    ($broker:expr) => {
        $crate::write::Writer {
            templates: &mut $broker.scratch.templates,
            pool: &mut $broker.pool,
            outputs: &mut $broker.outputs,
            waiting_bytes: &mut $broker.waiting_bytes,
        }
    };
}
pub(crate) use writer;

impl Writer<'_> {
    /// Gives a message its Packet Identifier and a place in the window, and sends it for the first time. What cannot be
    /// sent is given back.
    #[inline]
    pub(crate) fn send(
        &mut self,
        out: &mut Outgoing<'_>,
        outbound: &mut Outbound,
        (id, connection): (ConnectionId, &mut Connection),
        queued: Queued,
        ids: &[SubscriptionId],
    ) -> Result<(), (DropReason, Queued)> {
        let Some(packet_id) = outbound.ids.allocate() else { return Err((DropReason::QueueFull, queued)) };
        let terms = Terms { qos: queued.qos, retain: queued.retain, ids, group: queued.group };
        // What is too large for the receiver counts as sent. [MQTT-3.1.2-25]
        if let Err(reason) = self.write(out, (id, connection), delivery(queued.qos, packet_id, false), terms) {
            outbound.ids.release(packet_id);
            return Err((reason, queued));
        }
        let _has_slot = connection.window.take();
        outbound.inflight.push_back(inflight(packet_id, queued));
        Ok(())
    }

    /// Encodes a PUBLISH for a connection.
    #[inline]
    pub(crate) fn write(
        &mut self,
        out: &mut Outgoing<'_>,
        (id, connection): (ConnectionId, &mut Connection),
        delivery: Delivery,
        terms: Terms<'_>,
    ) -> Result<(), DropReason> {
        let class = wire_class(connection.version);
        match (delivery.packet_id(), out.frame_for(connection, class, delivery.qos(), terms)) {
            (Some(packet_id), Some(frame)) => {
                if frame.encoded_len() > index(connection.max_packet_size) {
                    return Err(DropReason::PacketTooLarge);
                }
                frame.write(packet_id, delivery.is_dup(), terms.retain, connection.transmit.tail(self.pool));
            }
            _ if out.is_plain_for(connection, class, terms) => self.write_plain(out, connection, delivery, terms)?,
            _ => self.write_anew(out, connection, delivery, terms)?,
        }
        Broker::mark_dirty(self.outputs, self.waiting_bytes, id, connection);
        Ok(())
    }

    /// The same for the only receiver of a message that has nothing beside topic and payload.
    #[inline]
    fn write_plain(
        &mut self,
        out: &Outgoing<'_>,
        connection: &mut Connection,
        delivery: Delivery,
        terms: Terms<'_>,
    ) -> Result<(), DropReason> {
        let (retain, topic) = (terms.retain, Some(out.topic));
        let publish = Publish { delivery, retain, topic, properties: Properties::EMPTY, payload: out.payload };
        let version = connection.version;
        let len = publish.encoded_len(version, Foreign::Strip).map_err(|_| DropReason::PacketTooLarge)?;
        if len > index(connection.max_packet_size) {
            return Err(DropReason::PacketTooLarge);
        }
        let written = publish.encode(version, Foreign::Strip, connection.transmit.tail(self.pool));
        debug_assert!(written.is_ok(), "a length that was computed could not be written");
        Ok(())
    }

    /// The same from a template, which is filled by the first receiver of its kind.
    fn write_anew(
        &mut self,
        out: &mut Outgoing<'_>,
        connection: &mut Connection,
        delivery: Delivery,
        terms: Terms<'_>,
    ) -> Result<(), DropReason> {
        let class = wire_class(connection.version);
        let place = class * 3 + usize::from(delivery.qos().level());
        let Some(template) = self.templates.get_mut(place) else { return Ok(()) };
        if out.filled & (1 << place) == 0 {
            // Data that only 5.0 has does not reach a 3.1.1 receiver.
            let properties = if class == 0 { Properties::EMPTY } else { out.properties };
            let (version, qos) = (connection.version, delivery.qos());
            let filled = if out.shares_payload {
                template.reset_head(version, qos, false, out.topic, properties, out.payload.len())
            } else {
                template.reset(version, qos, false, out.topic, properties, out.payload)
            };
            filled.map_err(|_| DropReason::PacketTooLarge)?;
            out.filled |= 1 << place;
        }
        let mut addition = Addition {
            packet_id: delivery.packet_id(),
            dup: delivery.is_dup(),
            retain: terms.retain,
            subscription_ids: if class == 0 { &[] } else { terms.ids },
            topic_alias: None,
            message_expiry_interval: if class == 0 { None } else { out.expiry },
        };
        let limit = index(connection.max_packet_size);
        let len = template.encoded_len(&addition).map_err(|_| DropReason::PacketTooLarge)?;
        if len > limit {
            return Err(DropReason::PacketTooLarge);
        }
        // An alias is set only by a packet that surely leaves.
        if let Some(aliases) =
            connection.outbound_aliases.as_mut().filter(|_| len + OutboundAliases::ALIAS_LEN <= limit)
        {
            addition.topic_alias = aliases.assign(out.topic).map(|assigned| (assigned.alias, assigned.send_topic));
        }
        let tail = connection.transmit.tail(self.pool);
        let written = if let Some(payload) = out.shared_payload() {
            let written = template.write_head(&addition, tail);
            connection.transmit.push_shared(payload, self.pool);
            written
        } else {
            template.write(&addition, tail)
        };
        debug_assert!(written.is_ok(), "a length that was computed could not be written");
        Ok(())
    }
}

/// QoS and Packet Identifier together.
pub(crate) const fn delivery(qos: QoS, id: PacketId, dup: bool) -> Delivery {
    match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce { id, dup },
        QoS::ExactlyOnce => Delivery::ExactlyOnce { id, dup },
    }
}

/// A message that was sent for the first time.
#[inline]
pub(crate) const fn inflight(id: PacketId, queued: Queued) -> Inflight {
    Inflight { id, state: send_state(queued.qos), queued: Some(queued), has_slot: true }
}

/// What a first PUBLISH waits for.
const fn send_state(qos: QoS) -> SendState {
    match qos {
        QoS::AtMostOnce | QoS::AtLeastOnce => SendState::AwaitPuback,
        QoS::ExactlyOnce => SendState::AwaitPubrec,
    }
}
