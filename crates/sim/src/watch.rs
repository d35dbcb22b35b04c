//! Holds the packets on all links against what the standards say about packets alone: identifiers, windows, sizes, wills,
//! expiry. What applications see is not its business.

use core::fmt::Arguments;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use damselfly_codec::{
    Ack, Connack, Connect, Delivery, Disconnect, FrameLimits, PROTOCOL_MAXIMUM_PACKET_SIZE, Packet, PacketId, Publish,
    ReasonCode, Version, split_frame,
};
use damselfly_session::Timestamp;
use damselfly_topic::KeyedState;

use crate::{MemberId, link::Way};

const KEY: KeyedState = KeyedState::new(0);
const LIMITS: FrameLimits = FrameLimits { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE };
/// Message Expiry Intervals are whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Watch {
    links: BTreeMap<u64, Watched>,
    sessions: BTreeMap<MemberId, Both<BTreeMap<u16, Live>>>,
    /// By payload.
    wills: BTreeMap<Vec<u8>, Will>,
    /// Until when a payload, by its hash, may be given to the broker, and to a client.
    expiry: BTreeMap<u64, Both<Option<Timestamp>>>,
    /// When the broker took a payload at QoS 1, by its hash, each time.
    taken: BTreeMap<u64, Vec<u64>>,
    last_taken: u64,
    violation: Option<String>,
}

/// One for each way.
#[derive(Debug, Default)]
struct Both<T> {
    to_broker: T,
    to_client: T,
}

impl<T> Both<T> {
    const fn get(&mut self, way: Way) -> &mut T {
        match way {
            Way::ToBroker => &mut self.to_broker,
            Way::ToClient => &mut self.to_client,
        }
    }
}

#[derive(Debug)]
struct Will {
    member: MemberId,
    /// `None` while the connection lasts, and when it is called off.
    due: Option<Timestamp>,
}

#[derive(Debug)]
struct Watched {
    member: MemberId,
    version: Version,
    ways: Both<Sending>,
    will: Option<(Vec<u8>, Duration)>,
    /// CONNACK said so.
    is_accepted: bool,
    /// The client said goodbye.
    is_over: bool,
    /// Which end knows that it is gone.
    is_lost: Both<bool>,
}

/// What one end sent on one connection.
#[derive(Debug)]
struct Sending {
    /// Of a packet that is not complete.
    part: Vec<u8>,
    /// Identifiers of PUBLISH packets without their last acknowledgement.
    window: BTreeSet<u16>,
    /// All that was in flight on earlier connections was sent again.
    has_replayed: bool,
    /// Identifiers this end has taken and owes a PUBACK or PUBREC for, in the order they came.
    pubacks_owed: VecDeque<u16>,
    pubrecs_owed: VecDeque<u16>,
    receive_maximum: usize,
    maximum_packet_size: usize,
    /// It was put together at some time before.
    is_late: bool,
}

impl Default for Sending {
    fn default() -> Self {
        let no_limit = usize::try_from(PROTOCOL_MAXIMUM_PACKET_SIZE).unwrap_or(usize::MAX);
        let receive_maximum = usize::from(u16::MAX);
        Self {
            part: Vec::new(),
            window: BTreeSet::new(),
            has_replayed: false,
            pubacks_owed: VecDeque::new(),
            pubrecs_owed: VecDeque::new(),
            receive_maximum,
            maximum_packet_size: no_limit,
            is_late: false,
        }
    }
}

/// What an identifier stands for, from its first use until the sender may use it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    Publish,
    /// PUBREC was received.
    Released,
    /// Of a SUBSCRIBE or UNSUBSCRIBE.
    Request,
    /// The sender's process ended, and may have forgotten how far it was.
    Unknown,
}

impl Watch {
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(crate) fn opened(&mut self, link: u64, member: MemberId) {
        let watched = Watched {
            member,
            version: Version::V5_0,
            ways: Both::default(),
            will: None,
            is_accepted: false,
            is_over: false,
            is_lost: Both::default(),
        };
        self.links.insert(link, watched);
    }

    /// An end wrote these bytes, which may have been waiting because the link was full.
    pub(crate) fn sent(&mut self, now: Timestamp, link: u64, way: Way, bytes: &[u8], is_late: bool) {
        let Some(watched) = self.links.get_mut(&link) else { return };
        watched.ways.get(way).is_late = is_late;
        let mut part = std::mem::take(&mut watched.ways.get(way).part);
        let is_whole = part.is_empty();
        if !is_whole {
            part.extend_from_slice(bytes);
        }
        let mut rest = if is_whole { bytes } else { &part };
        while let Ok(Some(frame)) = split_frame(rest, &LIMITS) {
            rest = rest.get(frame.len()..).unwrap_or_default();
            self.packet_sent(now, link, way, frame);
        }
        let len = rest.len();
        if is_whole {
            part.extend_from_slice(bytes.get(bytes.len() - len..).unwrap_or_default());
        } else {
            part.drain(..part.len() - len);
        }
        if let Some(watched) = self.links.get_mut(&link) {
            watched.ways.get(way).part = part;
        }
    }

    fn packet_sent(&mut self, now: Timestamp, link: u64, way: Way, frame: &[u8]) {
        let Some(watched) = self.links.get_mut(&link) else { return };
        let packet = match Packet::decode(watched.version, frame) {
            Ok(packet) => packet,
            Err(error) => return self.broken(now, format_args!("link {link} {way:?}: {error}")),
        };
        let maximum = watched.ways.get(way).maximum_packet_size;
        if frame.len() > maximum {
            let len = frame.len();
            self.broken(now, format_args!("link {link} {way:?}: {len} bytes, the maximum is {maximum}"));
        }
        match packet {
            Packet::Connect(connect) => self.connect_sent(link, &connect.fields()),
            Packet::Connack(connack) => self.connack_sent(now, link, &connack),
            Packet::Publish(publish) => self.publish_sent(now, link, way, &publish),
            Packet::Pubrel(ack) => {
                if self.live(link, way).is_some_and(|live| live.get(&ack.packet_id.get()) == Some(&Live::Publish)) {
                    self.broken(now, format_args!("link {link} {way:?}: PUBREL {} before PUBREC", ack.packet_id));
                }
            }
            Packet::Subscribe(subscribe) => self.request_sent(now, link, subscribe.packet_id.get()),
            Packet::Unsubscribe(unsubscribe) => self.request_sent(now, link, unsubscribe.packet_id.get()),
            Packet::Puback(ack) => self.check_order(now, link, way, false, &ack),
            Packet::Pubrec(ack) => self.check_order(now, link, way, true, &ack),
            Packet::Pubcomp(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingreq
            | Packet::Pingresp
            | Packet::Disconnect(_)
            | Packet::Auth(_) => {}
        }
    }

    /// PUBACK and PUBREC leave in the order in which the messages came. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    fn check_order(&mut self, now: Timestamp, link: u64, way: Way, is_pubrec: bool, ack: &Ack<'_>) {
        let Some(watched) = self.links.get_mut(&link) else { return };
        let sending = watched.ways.get(way);
        let owed = if is_pubrec { &mut sending.pubrecs_owed } else { &mut sending.pubacks_owed };
        let owed = owed.pop_front();
        if owed != Some(ack.packet_id.get()) {
            self.broken(now, format_args!("link {link} {way:?}: {ack:?} where {owed:?} is owed"));
        }
    }

    fn connect_sent(&mut self, link: u64, connect: &Connect<'_>) {
        let Some(watched) = self.links.get_mut(&link) else { return };
        watched.version = connect.version;
        let receiving = watched.ways.get(Way::ToClient);
        if let Some(maximum) = connect.properties.receive_maximum() {
            receiving.receive_maximum = maximum.get().into();
        }
        if let Some(maximum) = connect.properties.maximum_packet_size() {
            receiving.maximum_packet_size = usize::try_from(maximum.get()).unwrap_or(usize::MAX);
        }
        watched.will = connect.will.map(|will| {
            let delay = will.properties.will_delay_interval().unwrap_or(0);
            (will.payload.to_vec(), Duration::from_secs(delay.into()))
        });
    }

    fn connack_sent(&mut self, now: Timestamp, link: u64, connack: &Connack<'_>) {
        let Some(watched) = self.links.get_mut(&link).filter(|_| !connack.reason_code.is_error()) else { return };
        let member = watched.member;
        watched.is_accepted = true;
        let receiving = watched.ways.get(Way::ToBroker);
        if let Some(maximum) = connack.properties.receive_maximum() {
            receiving.receive_maximum = maximum.get().into();
        }
        if let Some(maximum) = connack.properties.maximum_packet_size() {
            receiving.maximum_packet_size = usize::try_from(maximum.get()).unwrap_or(usize::MAX);
        }
        if let Some((payload, _)) = &watched.will {
            self.wills.insert(payload.clone(), Will { member, due: None });
        }
        // The client is back before its delayed wills are due. [MQTT-3.1.3-9]
        for will in self.wills.values_mut().filter(|will| will.member == member) {
            will.due = will.due.filter(|due| *due <= now);
        }
        if !connack.session_present {
            self.sessions.entry(member).or_default().get(Way::ToClient).clear();
        }
    }

    fn publish_sent(&mut self, now: Timestamp, link: u64, way: Way, publish: &Publish<'_>) {
        self.check_expiry(now, link, way, publish);
        if way == Way::ToClient {
            if let Some(Will { due, .. }) = self.wills.get(publish.payload) {
                let due = *due;
                if due.is_none_or(|due| due > now) {
                    self.broken(now, format_args!("link {link}: a will is sent that is not due: {due:?}"));
                }
            }
        }
        self.check_replay(now, link, way, publish);
        let Some(id) = publish.delivery.packet_id().map(PacketId::get) else { return };
        let is_dup = publish.delivery.is_dup();
        let Some(live) = self.live(link, way) else { return };
        let what = match live.get(&id) {
            Some(_) if !is_dup => Some("is live"),
            Some(Live::Request) => Some("is that of a request"),
            Some(Live::Released) => Some("was taken by PUBREC"),
            _ => None,
        };
        live.insert(id, Live::Publish);
        if let Some(what) = what {
            self.broken(now, format_args!("link {link} {way:?}: PUBLISH with identifier {id}, which {what}"));
        }
        let Some(watched) = self.links.get_mut(&link) else { return };
        let sending = watched.ways.get(way);
        let is_first = sending.window.insert(id);
        let (len, maximum) = (sending.window.len(), sending.receive_maximum);
        if !is_first {
            self.broken(now, format_args!("link {link} {way:?}: PUBLISH {id} twice on one connection"));
        }
        if len > maximum {
            self.broken(now, format_args!("link {link} {way:?}: {len} in flight, the Receive Maximum is {maximum}"));
        }
    }

    /// What was in flight is sent again before anything new is sent. [MQTT-4.4.0-1] [MQTT-4.6.0-1]
    fn check_replay(&mut self, now: Timestamp, link: u64, way: Way, publish: &Publish<'_>) {
        let Some(watched) = self.links.get_mut(&link) else { return };
        let member = watched.member;
        let sending = watched.ways.get(way);
        if sending.has_replayed || publish.delivery.is_dup() {
            return;
        }
        let live = self.sessions.entry(member).or_default().get(way);
        let is_left = |(id, live): (&u16, &Live)| *live == Live::Publish && !sending.window.contains(id);
        let left = live.iter().find(|(id, live)| is_left((*id, *live))).map(|(id, _)| *id);
        let is_ahead = left.is_some_and(|left| publish.delivery.packet_id().map(PacketId::get) != Some(left));
        sending.has_replayed = left.is_none();
        if is_ahead {
            self.broken(now, format_args!("link {link} {way:?}: a new PUBLISH before {left:?} was sent again"));
        }
    }

    fn request_sent(&mut self, now: Timestamp, link: u64, id: u16) {
        let Some(live) = self.live(link, Way::ToBroker) else { return };
        if live.insert(id, Live::Request).is_some() {
            self.broken(now, format_args!("link {link}: a request with identifier {id}, which is live"));
        }
    }

    /// An end took these bytes, whole packets.
    pub(crate) fn taken(&mut self, now: Timestamp, link: u64, way: Way, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok(Some(frame)) = split_frame(rest, &LIMITS) {
            rest = rest.get(frame.len()..).unwrap_or_default();
            let Some(watched) = self.links.get_mut(&link) else { return };
            let version = watched.version;
            match Packet::decode(version, frame) {
                Ok(Packet::Puback(ack) | Packet::Pubcomp(ack)) => self.is_done(link, way, &ack),
                Ok(Packet::Pubrec(ack)) if ack.reason_code.is_error() => self.is_done(link, way, &ack),
                Ok(Packet::Pubrec(ack)) => {
                    if let Some(live) = self.live(link, way.back()) {
                        live.insert(ack.packet_id.get(), Live::Released);
                    }
                }
                Ok(Packet::Suback(suback)) => self.is_answered(link, suback.packet_id.get()),
                Ok(Packet::Unsuback(unsuback)) => self.is_answered(link, unsuback.packet_id.get()),
                Ok(Packet::Connack(connack)) if !connack.session_present => {
                    if let Some(live) = self.live(link, Way::ToBroker) {
                        live.clear();
                    }
                }
                Ok(Packet::Publish(publish)) => {
                    let answers = watched.ways.get(way.back());
                    match publish.delivery {
                        Delivery::AtMostOnce => {}
                        Delivery::AtLeastOnce { id, .. } => answers.pubacks_owed.push_back(id.get()),
                        Delivery::ExactlyOnce { id, .. } => answers.pubrecs_owed.push_back(id.get()),
                    }
                    if way == Way::ToBroker {
                        self.note_expiry(now, &publish);
                        self.note_taken(&publish);
                    }
                }
                Ok(Packet::Disconnect(Disconnect { reason_code, .. })) if way == Way::ToBroker => {
                    watched.is_over = reason_code == ReasonCode::Success;
                }
                // What cannot be decoded was found when it was sent.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The last acknowledgement of a message came.
    fn is_done(&mut self, link: u64, way: Way, ack: &Ack<'_>) {
        let id = ack.packet_id.get();
        if let Some(live) = self.live(link, way.back()) {
            live.remove(&id);
        }
        if let Some(watched) = self.links.get_mut(&link) {
            watched.ways.get(way.back()).window.remove(&id);
        }
    }

    fn is_answered(&mut self, link: u64, id: u16) {
        if let Some(live) = self.live(link, Way::ToBroker) {
            live.remove(&id);
        }
    }

    /// The identifiers that the sender of this way has in use.
    fn live(&mut self, link: u64, way: Way) -> Option<&mut BTreeMap<u16, Live>> {
        let member = self.links.get(&link)?.member;
        Some(self.sessions.entry(member).or_default().get(way))
    }

    /// The client gives a message until then to the broker.
    pub(crate) fn published(&mut self, payload: &[u8], expires_at: Timestamp) {
        self.expiry.entry(KEY.hash_bytes(payload)).or_default().to_broker = Some(expires_at);
    }

    /// The broker has a message until then at the latest.
    fn note_expiry(&mut self, now: Timestamp, publish: &Publish<'_>) {
        let Some(seconds) = publish.properties.message_expiry_interval() else { return };
        let until = Some(now.saturating_add(Duration::from_secs(seconds.into())));
        let known = &mut self.expiry.entry(KEY.hash_bytes(publish.payload)).or_default().to_client;
        *known = until.max(*known);
    }

    fn note_taken(&mut self, publish: &Publish<'_>) {
        if let Delivery::AtLeastOnce { .. } = publish.delivery {
            self.last_taken += 1;
            self.taken.entry(KEY.hash_bytes(publish.payload)).or_default().push(self.last_taken);
        }
    }

    /// When the broker took a QoS 1 message with this payload, each time, in numbers that rise from one to the next.
    pub(crate) fn taken_at(&self, payload: &[u8]) -> &[u64] {
        self.taken.get(&KEY.hash_bytes(payload)).map_or(&[], Vec::as_slice)
    }

    /// [MQTT-3.3.2-6]
    fn check_expiry(&mut self, now: Timestamp, link: u64, way: Way, publish: &Publish<'_>) {
        let Some(known) = self.expiry.get_mut(&KEY.hash_bytes(publish.payload)) else { return };
        let Some(until) = *known.get(way) else { return };
        let Some(watched) = self.links.get_mut(&link).filter(|watched| watched.version == Version::V5_0) else {
            return;
        };
        let is_late = watched.ways.get(way).is_late;
        let Some(seconds) = publish.properties.message_expiry_interval() else {
            return self.broken(now, format_args!("link {link} {way:?}: the Message Expiry Interval is gone"));
        };
        let says = now.saturating_add(Duration::from_secs(seconds.into()));
        // What expires after it was sent is sent again to its end.
        let is_end = publish.delivery.is_dup() && seconds <= 1;
        if says > until.saturating_add(ROUNDING) && !is_end && !is_late {
            self.broken(now, format_args!("link {link} {way:?}: expires at {says}, and should at {until}"));
        }
    }

    /// The client knows that the connection is gone: nobody answers its requests.
    pub(crate) fn client_lost(&mut self, link: u64) {
        if let Some(live) = self.live(link, Way::ToBroker) {
            live.retain(|_, live| *live != Live::Request);
        }
        self.is_lost(link, Way::ToClient);
    }

    fn is_lost(&mut self, link: u64, way: Way) {
        if let Some(watched) = self.links.get_mut(&link) {
            *watched.is_lost.get(way) = true;
            if watched.is_lost.to_broker && watched.is_lost.to_client {
                self.links.remove(&link);
            }
        }
    }

    /// The client's process ended.
    pub(crate) fn crashed(&mut self, member: MemberId) {
        let live = self.sessions.entry(member).or_default().get(Way::ToBroker);
        live.retain(|_, live| *live != Live::Request);
        for live in live.values_mut() {
            *live = Live::Unknown;
        }
    }

    /// The broker ended the connection, or knows that it is gone. [MQTT-3.1.2-8]
    pub(crate) fn broker_lost(&mut self, now: Timestamp, link: u64) {
        let Some(watched) = self.links.get_mut(&link) else { return };
        let will = watched.will.take().filter(|_| watched.is_accepted && !watched.is_over);
        let member = watched.member;
        self.is_lost(link, Way::ToBroker);
        let Some((payload, delay)) = will else { return };
        let is_open = |other: &Watched| other.member == member && other.is_accepted && !other.is_lost.to_broker;
        let is_back = self.links.values().any(is_open);
        if delay.is_zero() || !is_back {
            self.wills.insert(payload, Will { member, due: Some(now.saturating_add(delay)) });
        }
    }

    /// The payloads of the wills that were due by now.
    pub(crate) fn due_wills(&self, now: Timestamp) -> impl Iterator<Item = &[u8]> {
        self.wills
            .iter()
            .filter(move |(_, will)| will.due.is_some_and(|due| due <= now))
            .map(|(payload, _)| &payload[..])
    }

    /// A core says that the other side broke a rule.
    pub(crate) fn broken(&mut self, now: Timestamp, what: Arguments<'_>) {
        if self.violation.is_none() {
            self.violation = Some(format!("{now} {what}"));
        }
    }
}
