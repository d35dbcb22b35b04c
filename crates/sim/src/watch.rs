//! Holds the packets on all links against what the standards say about packets alone: identifiers, windows, sizes, wills,
//! expiry. What applications see is not its business.

use core::fmt::Arguments;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use damselfly_codec::{
    Ack, Connack, Connect, Delivery, FrameLimits, PROTOCOL_MAXIMUM_PACKET_SIZE, Packet, PacketId, Publish, ReasonCode,
    Version, split_frame,
};
use damselfly_session::Timestamp;
use damselfly_topic::KeyedState;
use hashbrown::HashMap;

use crate::{
    MemberId,
    identifiers::Identifiers,
    link::Way,
    numbered::{Number, Numbered},
};

const KEY: KeyedState = KeyedState::new(0);
const LIMITS: FrameLimits = FrameLimits { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE };
/// Message Expiry Intervals are whole seconds.
const ROUNDING: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Watch {
    links: Numbered<Watched>,
    /// The identifiers that each client and the broker have in use, at the client's place.
    sessions: Vec<Both<Identifiers<Live>>>,
    /// By the hash of the payload, as the messages.
    wills: BTreeMap<u64, Will>,
    messages: HashMap<u64, Known, KeyedState>,
    last_taken: u64,
    violation: Option<String>,
}

/// What is to be known of a payload.
#[derive(Debug, Default)]
struct Known {
    /// Until when it may be given to the broker, and to a client.
    expiry: Both<Option<Timestamp>>,
    /// When the broker took it at QoS 1, each time.
    taken: Vec<u64>,
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
    payload: Vec<u8>,
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
    window: Identifiers<()>,
    /// All that was in flight on earlier connections was sent again.
    has_replayed: bool,
    /// Identifiers this end has taken and owes a PUBACK or PUBREC for, in the order they came.
    pubacks_owed: VecDeque<u16>,
    pubrecs_owed: VecDeque<u16>,
    receive_maximum: usize,
    maximum_packet_size: usize,
    /// It was put together at some time before.
    is_late: bool,
    /// The packets that the other end has not taken, with their lengths.
    under_way: VecDeque<(usize, Taken)>,
    /// The other end looks at nothing any more.
    is_discarded: bool,
}

impl Default for Sending {
    fn default() -> Self {
        let no_limit = usize::try_from(PROTOCOL_MAXIMUM_PACKET_SIZE).unwrap_or(usize::MAX);
        let receive_maximum = usize::from(u16::MAX);
        Self {
            part: Vec::new(),
            window: Identifiers::default(),
            has_replayed: false,
            pubacks_owed: VecDeque::new(),
            pubrecs_owed: VecDeque::new(),
            receive_maximum,
            maximum_packet_size: no_limit,
            is_late: false,
            under_way: VecDeque::new(),
            is_discarded: false,
        }
    }
}

impl Sending {
    /// What was in flight is sent again before anything new is sent. [MQTT-4.4.0-1] [MQTT-4.6.0-1]
    ///
    /// An identifier that is left before this PUBLISH, which is a new one.
    fn look_for_replay(&mut self, live: &Identifiers<Live>, publish: &Publish<'_>) -> Option<u16> {
        if self.has_replayed || publish.delivery.is_dup() {
            return None;
        }
        let is_left = |(id, live): &(u16, &Live)| **live == Live::Publish && self.window.get(*id).is_none();
        let left = live.iter().find(is_left).map(|(id, _)| id);
        self.has_replayed = left.is_none();
        left.filter(|left| publish.delivery.packet_id().map(PacketId::get) != Some(*left))
    }

    /// A PUBLISH has this identifier.
    fn use_identifier(&mut self, live: &mut Identifiers<Live>, id: u16, is_dup: bool) -> Used {
        let what = match live.insert(id, Live::Publish) {
            Some(_) if !is_dup => Some("is live"),
            Some(Live::Request) => Some("is that of a request"),
            Some(Live::Released) => Some("was taken by PUBREC"),
            _ => None,
        };
        let is_first = self.window.insert(id, ()).is_none();
        Used { id, what, is_first, len: self.window.len(), maximum: self.receive_maximum }
    }
}

/// How an identifier was used.
struct Used {
    id: u16,
    /// Why it should not have been.
    what: Option<&'static str>,
    /// On this connection.
    is_first: bool,
    /// How many are in flight, and how many may be.
    len: usize,
    maximum: usize,
}

impl Used {
    const fn is_broken(&self) -> bool {
        self.what.is_some() || !self.is_first || self.len > self.maximum
    }
}

/// What a packet means once the other end has taken it.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// The payload by its hash.
    Publish {
        delivery: Delivery,
        payload: u64,
        expiry: Option<u32>,
    },
    /// The last acknowledgement of a message.
    Done(u16),
    Released(u16),
    /// Of a SUBSCRIBE or UNSUBSCRIBE.
    Answered(u16),
    NoSession,
    /// The client says that it goes.
    Goodbye {
        is_normal: bool,
    },
    Other,
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

impl Default for Watch {
    fn default() -> Self {
        Self {
            links: Numbered::new(),
            sessions: Vec::new(),
            wills: BTreeMap::new(),
            messages: HashMap::with_hasher(KEY),
            last_taken: 0,
            violation: None,
        }
    }
}

impl Watch {
    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(crate) fn opened(&mut self, link: Number, member: MemberId) {
        let watched = Watched {
            member,
            version: Version::V5_0,
            ways: Both::default(),
            will: None,
            is_accepted: false,
            is_over: false,
            is_lost: Both::default(),
        };
        self.links.push_as(link, watched);
        while self.sessions.len() <= member.0 {
            self.sessions.push(Both::default());
        }
    }

    /// An end wrote these bytes, which may have been waiting because the link was full.
    pub(crate) fn sent(&mut self, now: Timestamp, link: Number, way: Way, bytes: &[u8], is_late: bool) {
        let Some(sending) = self.links.get_mut(link).map(|watched| watched.ways.get(way)) else { return };
        sending.is_late = is_late;
        let mut part = std::mem::take(&mut sending.part);
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
        if let Some(watched) = self.links.get_mut(link) {
            watched.ways.get(way).part = part;
        }
    }

    fn packet_sent(&mut self, now: Timestamp, link: Number, way: Way, frame: &[u8]) {
        let Some(watched) = self.links.get_mut(link) else { return };
        let maximum = watched.ways.get(way).maximum_packet_size;
        let taken = match Packet::decode(watched.version, frame) {
            Ok(packet) => {
                if frame.len() > maximum {
                    let len = frame.len();
                    self.broken(now, format_args!("link {link} {way:?}: {len} bytes, the maximum is {maximum}"));
                }
                self.decoded_sent(now, link, way, &packet)
            }
            Err(error) => {
                self.broken(now, format_args!("link {link} {way:?}: {error}"));
                Taken::Other
            }
        };
        if let Some(sending) = self.links.get_mut(link).map(|watched| watched.ways.get(way)) {
            if !sending.is_discarded {
                sending.under_way.push_back((frame.len(), taken));
            }
        }
    }

    fn decoded_sent(&mut self, now: Timestamp, link: Number, way: Way, packet: &Packet<'_>) -> Taken {
        match packet {
            Packet::Publish(publish) => return self.publish_sent(now, link, way, publish),
            Packet::Puback(ack) => {
                self.check_order(now, link, way, false, ack);
                return Taken::Done(ack.packet_id.get());
            }
            Packet::Pubrec(ack) => {
                self.check_order(now, link, way, true, ack);
                let id = ack.packet_id.get();
                return if ack.reason_code.is_error() { Taken::Done(id) } else { Taken::Released(id) };
            }
            Packet::Pubrel(ack) => {
                if self.live(link, way).is_some_and(|live| live.get(ack.packet_id.get()) == Some(&Live::Publish)) {
                    self.broken(now, format_args!("link {link} {way:?}: PUBREL {} before PUBREC", ack.packet_id));
                }
            }
            Packet::Pubcomp(ack) => return Taken::Done(ack.packet_id.get()),
            Packet::Subscribe(subscribe) => self.request_sent(now, link, subscribe.packet_id.get()),
            Packet::Unsubscribe(unsubscribe) => self.request_sent(now, link, unsubscribe.packet_id.get()),
            Packet::Suback(suback) => return Taken::Answered(suback.packet_id.get()),
            Packet::Unsuback(unsuback) => return Taken::Answered(unsuback.packet_id.get()),
            Packet::Connect(connect) => self.connect_sent(link, &connect.fields()),
            Packet::Connack(connack) => {
                self.connack_sent(now, link, connack);
                return if connack.session_present { Taken::Other } else { Taken::NoSession };
            }
            Packet::Disconnect(disconnect) if way == Way::ToBroker => {
                return Taken::Goodbye { is_normal: disconnect.reason_code == ReasonCode::Success };
            }
            Packet::Disconnect(_) | Packet::Pingreq | Packet::Pingresp | Packet::Auth(_) => {}
        }
        Taken::Other
    }

    /// PUBACK and PUBREC leave in the order in which the messages came. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    fn check_order(&mut self, now: Timestamp, link: Number, way: Way, is_pubrec: bool, ack: &Ack<'_>) {
        let Some(watched) = self.links.get_mut(link) else { return };
        let sending = watched.ways.get(way);
        let owed = if is_pubrec { &mut sending.pubrecs_owed } else { &mut sending.pubacks_owed };
        let owed = owed.pop_front();
        if owed != Some(ack.packet_id.get()) {
            self.broken(now, format_args!("link {link} {way:?}: {ack:?} where {owed:?} is owed"));
        }
    }

    fn connect_sent(&mut self, link: Number, connect: &Connect<'_>) {
        let Some(watched) = self.links.get_mut(link) else { return };
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

    fn connack_sent(&mut self, now: Timestamp, link: Number, connack: &Connack<'_>) {
        let Some(watched) = self.links.get_mut(link).filter(|_| !connack.reason_code.is_error()) else { return };
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
            // A will with the same words that was due may still wait in a queue, or come again.
            let fresh = || Will { payload: payload.clone(), member, due: None };
            self.wills.entry(KEY.hash_bytes(payload)).or_insert_with(fresh);
        }
        // The client is back before its delayed wills are due. [MQTT-3.1.3-9]
        for will in self.wills.values_mut().filter(|will| will.member == member) {
            will.due = will.due.filter(|due| *due <= now);
        }
        if !connack.session_present {
            if let Some(session) = self.sessions.get_mut(member.0) {
                session.to_client.clear();
            }
        }
    }

    fn publish_sent(&mut self, now: Timestamp, link: Number, way: Way, publish: &Publish<'_>) -> Taken {
        let payload = KEY.hash_bytes(publish.payload);
        let expiry = publish.properties.message_expiry_interval();
        let taken = Taken::Publish { delivery: publish.delivery, payload, expiry };
        self.check_expiry(now, link, way, publish.delivery.is_dup(), payload, expiry);
        if way == Way::ToClient {
            if let Some(Will { due, .. }) = self.wills.get(&payload) {
                let due = *due;
                if due.is_none_or(|due| due > now) {
                    self.broken(now, format_args!("link {link}: a will is sent that is not due: {due:?}"));
                }
            }
        }
        let Some(watched) = self.links.get_mut(link) else { return taken };
        let Some(session) = self.sessions.get_mut(watched.member.0) else { return taken };
        let (sending, live) = (watched.ways.get(way), session.get(way));
        let left = sending.look_for_replay(live, publish);
        let used =
            publish.delivery.packet_id().map(|id| sending.use_identifier(live, id.get(), publish.delivery.is_dup()));
        if left.is_some() {
            self.broken(now, format_args!("link {link} {way:?}: a new PUBLISH before {left:?} was sent again"));
        }
        if let Some(used) = used.filter(Used::is_broken) {
            let Used { id, what, is_first, len, maximum } = used;
            if let Some(what) = what {
                self.broken(now, format_args!("link {link} {way:?}: PUBLISH with identifier {id}, which {what}"));
            }
            if !is_first {
                self.broken(now, format_args!("link {link} {way:?}: PUBLISH {id} twice on one connection"));
            }
            if len > maximum {
                self.broken(
                    now,
                    format_args!("link {link} {way:?}: {len} in flight, the Receive Maximum is {maximum}"),
                );
            }
        }
        taken
    }

    fn request_sent(&mut self, now: Timestamp, link: Number, id: u16) {
        let Some(live) = self.live(link, Way::ToBroker) else { return };
        if live.insert(id, Live::Request).is_some() {
            self.broken(now, format_args!("link {link}: a request with identifier {id}, which is live"));
        }
    }

    /// An end took so many bytes, whole packets.
    pub(crate) fn taken(&mut self, now: Timestamp, link: Number, way: Way, mut len: usize) {
        while len > 0 {
            let Some(watched) = self.links.get_mut(link) else { return };
            let under_way = &mut watched.ways.get(way).under_way;
            let Some((frame, what)) = under_way.pop_front() else { return };
            if frame > len {
                // A core that is done with a connection takes everything, and looks at nothing.
                under_way.clear();
                watched.ways.get(way).is_discarded = true;
                return;
            }
            len -= frame;
            self.packet_taken(now, link, way, what);
        }
    }

    fn packet_taken(&mut self, now: Timestamp, link: Number, way: Way, what: Taken) {
        let Some(watched) = self.links.get_mut(link) else { return };
        let Some(session) = self.sessions.get_mut(watched.member.0) else { return };
        match what {
            Taken::Publish { delivery, payload, expiry } => {
                let answers = watched.ways.get(way.back());
                match delivery {
                    Delivery::AtMostOnce => {}
                    Delivery::AtLeastOnce { id, .. } => answers.pubacks_owed.push_back(id.get()),
                    Delivery::ExactlyOnce { id, .. } => answers.pubrecs_owed.push_back(id.get()),
                }
                if way == Way::ToBroker {
                    self.note_taken(now, delivery, payload, expiry);
                }
            }
            Taken::Done(id) => {
                session.get(way.back()).remove(id);
                watched.ways.get(way.back()).window.remove(id);
            }
            Taken::Released(id) => {
                session.get(way.back()).insert(id, Live::Released);
            }
            Taken::Answered(id) => {
                session.get(Way::ToBroker).remove(id);
            }
            Taken::NoSession => session.get(Way::ToBroker).clear(),
            Taken::Goodbye { is_normal } => watched.is_over = is_normal,
            Taken::Other => {}
        }
    }

    /// The identifiers that the sender of this way has in use.
    fn live(&mut self, link: Number, way: Way) -> Option<&mut Identifiers<Live>> {
        let member = self.links.get(link)?.member;
        Some(self.sessions.get_mut(member.0)?.get(way))
    }

    /// The client gives a message until then to the broker.
    pub(crate) fn published(&mut self, payload: &[u8], expires_at: Timestamp) {
        self.messages.entry(KEY.hash_bytes(payload)).or_default().expiry.to_broker = Some(expires_at);
    }

    fn note_taken(&mut self, now: Timestamp, delivery: Delivery, payload: u64, expiry: Option<u32>) {
        if let Some(seconds) = expiry {
            // The broker has it until then at the latest.
            let until = Some(now.saturating_add(Duration::from_secs(seconds.into())));
            let known = &mut self.messages.entry(payload).or_default().expiry.to_client;
            *known = until.max(*known);
        }
        if let Delivery::AtLeastOnce { .. } = delivery {
            self.last_taken += 1;
            self.messages.entry(payload).or_default().taken.push(self.last_taken);
        }
    }

    /// When the broker took a QoS 1 message with this payload, each time, in numbers that rise from one to the next.
    pub(crate) fn taken_at(&self, payload: &[u8]) -> &[u64] {
        self.messages.get(&KEY.hash_bytes(payload)).map_or(&[], |known| &known.taken)
    }

    /// [MQTT-3.3.2-6]
    fn check_expiry(
        &mut self,
        now: Timestamp,
        link: Number,
        way: Way,
        is_dup: bool,
        payload: u64,
        expiry: Option<u32>,
    ) {
        let Some(known) = self.messages.get_mut(&payload) else { return };
        let Some(until) = *known.expiry.get(way) else { return };
        let Some(watched) = self.links.get_mut(link).filter(|watched| watched.version == Version::V5_0) else { return };
        let is_late = watched.ways.get(way).is_late;
        let Some(seconds) = expiry else {
            return self.broken(now, format_args!("link {link} {way:?}: the Message Expiry Interval is gone"));
        };
        let says = now.saturating_add(Duration::from_secs(seconds.into()));
        // What expires after it was sent is sent again to its end.
        let is_end = is_dup && seconds <= 1;
        if says > until.saturating_add(ROUNDING) && !is_end && !is_late {
            self.broken(now, format_args!("link {link} {way:?}: expires at {says}, and should at {until}"));
        }
    }

    /// The client knows that the connection is gone: nobody answers its requests.
    pub(crate) fn client_lost(&mut self, link: Number) {
        if let Some(live) = self.live(link, Way::ToBroker) {
            live.retain(|live| *live != Live::Request);
        }
        self.is_lost(link, Way::ToClient);
    }

    fn is_lost(&mut self, link: Number, way: Way) {
        if let Some(watched) = self.links.get_mut(link) {
            *watched.is_lost.get(way) = true;
            if watched.is_lost.to_broker && watched.is_lost.to_client {
                self.links.remove(link);
            }
        }
    }

    /// The client's process ended.
    pub(crate) fn crashed(&mut self, member: MemberId) {
        let Some(session) = self.sessions.get_mut(member.0) else { return };
        let live = &mut session.to_broker;
        live.retain(|live| *live != Live::Request);
        for live in live.values_mut() {
            *live = Live::Unknown;
        }
    }

    /// The broker ended the connection, or knows that it is gone.
    pub(crate) fn broker_lost(&mut self, now: Timestamp, link: Number) {
        self.broker_ended(now, link);
        self.is_lost(link, Way::ToBroker);
    }

    /// The broker is done with the connection, and may have something to say on it yet: from here on the will is due.
    /// [MQTT-3.1.2-8]
    pub(crate) fn broker_ended(&mut self, now: Timestamp, link: Number) {
        let Some(watched) = self.links.get_mut(link) else { return };
        let will = watched.will.take().filter(|_| watched.is_accepted && !watched.is_over);
        let member = watched.member;
        let Some((payload, delay)) = will else { return };
        let is_open = |other: &Watched| other.member == member && other.is_accepted && !other.is_lost.to_broker;
        let is_back = self.links.iter().any(|(number, other)| number != link && is_open(other));
        if delay.is_zero() || !is_back {
            let at = now.saturating_add(delay);
            let will = self.wills.entry(KEY.hash_bytes(&payload)).or_insert(Will { payload, member, due: None });
            will.due = Some(will.due.map_or(at, |due| due.min(at)));
        }
    }

    /// The payloads of the wills that were due by now.
    pub(crate) fn due_wills(&self, now: Timestamp) -> impl Iterator<Item = &[u8]> {
        self.wills.values().filter(move |will| will.due.is_some_and(|due| due <= now)).map(|will| &will.payload[..])
    }

    /// A core says that the other side broke a rule.
    pub(crate) fn broken(&mut self, now: Timestamp, what: Arguments<'_>) {
        if self.violation.is_none() {
            self.violation = Some(format!("{now} {what}"));
        }
    }
}
