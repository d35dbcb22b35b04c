//! Session State: what may outlive a connection. [MQTT-4.1]

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use core::num::NonZeroU16;

use damselfly_codec::{PacketId, QoS};
use damselfly_session::{Message, PacketIds, ReceivedIds, SendState, SessionExpiry, StoredWill, Timestamp, Window};
use damselfly_topic::{KeyedState, TopicCursor};
use hashbrown::HashMap;

use crate::{
    Access, ConnectionId, QuestionId,
    filter_set::FilterSet,
    lookup::LookupId,
    messages::{MessageRef, SubscriptionIds},
    slab::Slab,
};

/// One session, told apart from an earlier one in the same slot by its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Where a session's deliveries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Nowhere: QoS 1 and 2 wait.
    Offline,
    /// To a Network Connection.
    Connection(ConnectionId),
    /// To the embedding program.
    Local,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says of which list it is a member")]
pub(crate) struct Session {
    pub(crate) client_id: Box<str>,
    /// Who made it; nobody else may resume or end it.
    pub(crate) principal: Option<Arc<str>>,
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) sink: Sink,
    /// Only its subscriptions are left, on their way out of the index.
    pub(crate) is_ended: bool,
    /// It waits among [`HeldBack`](crate::held::HeldBack).
    pub(crate) is_held_back: bool,
    /// It waits among the postponed.
    pub(crate) is_postponed: bool,
    /// Share groups found it without room or connection and do not look at it until they are told.
    pub(crate) is_parked: bool,
    /// The connection whose CONNECT claimed it; the sink follows with CONNACK.
    pub(crate) owner: Option<ConnectionId>,
    pub(crate) expiry: SessionExpiry,
    /// When an offline session ends.
    pub(crate) ends_at: Option<Timestamp>,
    pub(crate) will: Option<StoredWill>,
    /// When the will of a lost connection is published.
    pub(crate) will_at: Option<Timestamp>,
    /// Topic Filters as subscribed; options and identifiers are in the index.
    pub(crate) subscriptions: FilterSet,
    /// Their bytes.
    pub(crate) subscription_bytes: u32,
    pub(crate) outbound: Outbound,
    /// Packet Identifiers of QoS 2 messages from the client that still miss their PUBREL.
    pub(crate) received: ReceivedIds,
    /// Messages from the client that wait for an answer, a commit or room.
    pub(crate) held: VecDeque<Held>,
    /// What these count for against the memory budget.
    pub(crate) held_bytes: usize,
    pub(crate) drops: u64,
    /// The number of the CONNECT that owns it: of two, the later wins.
    pub(crate) attempt: u64,
    /// Since when the queue has been full while the client was connected.
    pub(crate) full_since: Option<Timestamp>,
    /// The send quota of a local participant; a client's is its connection's.
    pub(crate) local_window: Option<Window>,
}

/// The outbound order of one session.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// Waiting for the window.
    pub(crate) queue: VecDeque<Entry>,
    /// Sent and not done, in the order of sending.
    pub(crate) inflight: VecDeque<Inflight>,
    /// How many of them, the last ones, were not sent again on the present connection yet.
    pub(crate) to_resend: usize,
    /// Bytes of the messages in `inflight`, kept only where they are limited.
    pub(crate) inflight_bytes: u64,
    pub(crate) ids: PacketIds,
    /// Messages in `queue`.
    pub(crate) messages: u32,
    /// Their bytes, each message counted whole.
    pub(crate) bytes: u64,
    /// Those of QoS 0 among them: they wait only behind a walk over retained messages.
    pub(crate) at_most_once: u32,
    /// Walks over retained messages that are not at their end or were ended early and are not taken out yet, those whose
    /// SUBACK still waits among them.
    pub(crate) replays: usize,
    /// The number of the walk of each Topic Filter that has one: a later SUBSCRIBE begins another in its place.
    #[expect(clippy::box_collection, reason = "hardly ever there: it should take no room in each session")]
    pub(crate) walks: Option<Box<BTreeMap<Box<str>, u64>>>,
}

impl Outbound {
    /// Whether a walk is to go on.
    pub(crate) fn is_walking(&self, replay: &Replay) -> bool {
        self.walks.as_ref().and_then(|walks| walks.get(&replay.filter)) == Some(&replay.number)
    }

    /// Ends the walk of a Topic Filter. What there is of it is taken out when its turn comes.
    pub(crate) fn end_walk(&mut self, filter: &str) {
        if let Some(walks) = &mut self.walks {
            walks.remove(filter);
            if walks.is_empty() {
                self.walks = None;
            }
        }
    }

    /// Whether anything waits to be sent, for the first time or again.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        !self.queue.is_empty() || self.to_resend > 0
    }

    /// Whether a QoS 0 message would overtake one that was to come before it.
    pub(crate) fn has_qos0_before(&self) -> bool {
        self.at_most_once > 0 || (self.replays > 0 && !self.queue.is_empty())
    }

    /// A message joins the queue.
    pub(crate) fn count(&mut self, queued: &Queued, weight: u64) {
        self.messages += 1;
        self.bytes += weight;
        self.at_most_once += u32::from(queued.qos == QoS::AtMostOnce);
    }

    /// A message leaves the queue.
    pub(crate) fn uncount(&mut self, queued: &Queued, weight: u64) {
        self.messages -= 1;
        self.bytes -= weight;
        self.at_most_once -= u32::from(queued.qos == QoS::AtMostOnce);
    }

    /// Whether a new message would be the next one, has a Packet Identifier, and may be in flight beside the others.
    #[inline]
    pub(crate) fn is_ready(&self, max_inflight_bytes: u64) -> bool {
        !self.has_more() && !self.ids.is_exhausted() && self.inflight_bytes < max_inflight_bytes
    }
}

#[derive(Debug)]
pub(crate) enum Entry {
    Message(Queued),
    /// The retained messages a SUBSCRIBE asked for, sent as the window allows.
    Replay(Box<Replay>),
}

/// A message in the outbound order.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: MessageRef,
    pub(crate) ids: SubscriptionIds,
    /// The number of the share group that chose this session, or [`NO_GROUP`].
    pub(crate) group: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// No share group.
pub(crate) const NO_GROUP: u32 = u32::MAX;

/// A message that was sent at QoS 1 or 2.
#[derive(Debug)]
pub(crate) struct Inflight {
    pub(crate) id: PacketId,
    pub(crate) state: SendState,
    /// `None` once PUBREC took it over. [MQTT-4.3.3-6]
    pub(crate) queued: Option<Queued>,
    /// Its PUBLISH went out on the present connection and counts against the window.
    pub(crate) has_slot: bool,
}

/// A walk over the retained messages for one subscription.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Without `$share/{ShareName}/`.
    pub(crate) filter: Box<str>,
    pub(crate) cursor: TopicCursor,
    pub(crate) qos: QoS,
    pub(crate) ids: SubscriptionIds,
    /// Retained messages numbered later came live.
    pub(crate) before: u64,
    /// Tells it from others for the same Topic Filter.
    pub(crate) number: u64,
}

/// A PUBLISH that may not have its effect yet. Later messages of the client with the same topic wait behind it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    /// `None` if no acknowledgement is owed.
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) wait: Wait,
    /// When it came.
    pub(crate) since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For the answer to a question.
    Answer(QuestionId),
    /// For a commit: nothing published at QoS 2 is seen before it is durable.
    Commit(crate::CommitId),
    /// For nothing but earlier ones.
    Nothing,
    /// For room: within the memory budget or in the queue of a receiver.
    Room,
    /// For its own receivers to be found and served.
    Lookup {
        id: LookupId,
        /// It was committed before.
        is_durable: bool,
    },
}

impl Held {
    /// Whether it was committed: all of QoS 2 is before it asks for room.
    pub(crate) fn is_durable(&self) -> bool {
        match self.wait {
            Wait::Commit(_) => true,
            Wait::Lookup { is_durable, .. } => is_durable,
            Wait::Room => self.message.qos() == QoS::ExactlyOnce,
            Wait::Nothing | Wait::Answer(_) => false,
        }
    }
}

impl Session {
    pub(crate) fn new(
        client_id: Box<str>,
        principal: Option<Arc<str>>,
        expiry: SessionExpiry,
        limit: NonZeroU16,
    ) -> Self {
        Self {
            client_id,
            principal,
            access: None,
            sink: Sink::Offline,
            is_ended: false,
            is_held_back: false,
            is_postponed: false,
            is_parked: false,
            owner: None,
            expiry,
            ends_at: None,
            will: None,
            will_at: None,
            subscriptions: FilterSet::default(),
            subscription_bytes: 0,
            outbound: Outbound::default(),
            received: ReceivedIds::new(limit),
            held: VecDeque::new(),
            held_bytes: 0,
            drops: 0,
            attempt: 0,
            full_since: None,
            local_window: None,
        }
    }
}

/// All sessions, by slot and by Client Identifier.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Slab<Session>,
    by_client_id: HashMap<Box<str>, u32, KeyedState>,
    /// Slots of sessions that ended and wait for [`Sessions::bury`].
    ended: usize,
}

impl Sessions {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: Slab::new(), by_client_id: HashMap::with_hasher(KeyedState::new(seed)), ended: 0 }
    }

    pub(crate) fn find(&self, client_id: &str) -> Option<SessionKey> {
        let slot = *self.by_client_id.get(client_id)?;
        Some(SessionKey { slot, generation: self.slots.generation(slot)? })
    }

    pub(crate) fn insert(&mut self, session: Session) -> SessionKey {
        let client_id = session.client_id.clone();
        let (slot, generation) = self.slots.insert(session);
        self.by_client_id.insert(client_id, slot);
        SessionKey { slot, generation }
    }

    /// Ends a session and gives out what it held. One that still has subscriptions keeps its slot until
    /// [`Sessions::bury`], under no name and for no message.
    pub(crate) fn end(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.slots.get_checked_mut(key.slot, key.generation)?;
        self.by_client_id.remove(&session.client_id);
        if session.subscriptions.is_empty() {
            return self.slots.remove(key.slot);
        }
        let mut shell = Session::new("".into(), None, session.expiry, NonZeroU16::MIN);
        shell.subscriptions = core::mem::take(&mut session.subscriptions);
        shell.is_ended = true;
        self.ended += 1;
        Some(core::mem::replace(session, shell))
    }

    /// Frees the slot of a session that ended.
    pub(crate) fn bury(&mut self, key: SessionKey) {
        if self.slots.get_checked(key.slot, key.generation).is_some_and(|session| session.is_ended) {
            self.slots.remove(key.slot);
            self.ended -= 1;
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slots.get_checked(key.slot, key.generation)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slots.get_checked_mut(key.slot, key.generation)
    }

    /// The session in a slot that the index names: subscriptions leave the index before their session does.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<&Session> {
        self.slots.get(slot)
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.slots.get_mut(slot)
    }

    pub(crate) fn key(&self, slot: u32) -> Option<SessionKey> {
        Some(SessionKey { slot, generation: self.slots.generation(slot)? })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slots.iter().filter(|(_, session)| !session.is_ended)
    }

    /// All of them, those that ended and wait for [`Sessions::bury`] included.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slots.iter()
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len() - self.ended
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.slots.heap_bytes() + self.by_client_id.allocation_size()
    }
}
