//! SUBSCRIBE and UNSUBSCRIBE requests, and the registry of subscriptions to restore on a new session.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use damselfly_codec::{PacketId, Properties, PropertiesBuf, SubscriptionOptions};
use damselfly_topic::TopicFilterBuf;

use crate::{Operation, Ticket};

/// A request that waits to be sent or to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Restores have none, and the end of subscriptions of earlier processes: nobody asked.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) ask: Ask,
    pub(crate) properties: PropertiesBuf,
    /// Where it was in the order of sending.
    pub(crate) order: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Subscribe(Vec<(TopicFilterBuf, SubscriptionOptions)>),
    Unsubscribe(Vec<TopicFilterBuf>),
}

/// What to restore a subscription with.
#[derive(Clone, Debug)]
struct Registered {
    options: SubscriptionOptions,
    properties: PropertiesBuf,
    /// The session in which the broker granted it.
    session: u64,
    /// Its Topic Filter is the Response Topic of this process or an earlier one.
    is_response_topic: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: VecDeque<Request>,
    sent: BTreeMap<PacketId, Request>,
    last_order: u64,
    registry: BTreeMap<TopicFilterBuf, Registered>,
    /// Counts the sessions.
    session: u64,
}

impl Requests {
    /// Those without an answer yet, sent or not.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }

    pub(crate) fn push(&mut self, ticket: Ticket, ask: Ask, properties: PropertiesBuf) {
        self.waiting.push_back(Request { ticket: Some(ticket), ask, properties, order: 0 });
    }

    pub(crate) fn next_to_send(&mut self) -> Option<Request> {
        self.waiting.pop_front()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// It could not be sent now; it stays the next one.
    pub(crate) fn put_back(&mut self, request: Request) {
        self.waiting.push_front(request);
    }

    /// The identifiers of those that were sent and have no answer.
    pub(crate) fn sent_ids(&self) -> impl Iterator<Item = PacketId> + '_ {
        self.sent.keys().copied()
    }

    pub(crate) fn mark_sent(&mut self, packet_id: PacketId, mut request: Request) {
        self.last_order += 1;
        request.order = self.last_order;
        self.sent.insert(packet_id, request);
    }

    /// The SUBSCRIBE that this SUBACK answers.
    pub(crate) fn take_subscribe(&mut self, packet_id: PacketId) -> Option<Request> {
        self.take_if(packet_id, |ask| matches!(ask, Ask::Subscribe(_)))
    }

    /// The UNSUBSCRIBE that this UNSUBACK answers.
    pub(crate) fn take_unsubscribe(&mut self, packet_id: PacketId) -> Option<Request> {
        self.take_if(packet_id, |ask| matches!(ask, Ask::Unsubscribe(_)))
    }

    fn take_if(&mut self, packet_id: PacketId, fits: impl FnOnce(&Ask) -> bool) -> Option<Request> {
        if !fits(&self.sent.get(&packet_id)?.ask) {
            return None;
        }
        self.sent.remove(&packet_id)
    }

    /// The connection ended: what was sent and not answered is sent again on the next one, with new identifiers and in
    /// its order. That goes for restores too: the broker may keep the new session without having seen them. Gives the
    /// identifiers back.
    pub(crate) fn connection_lost(&mut self, mut release: impl FnMut(PacketId)) {
        let mut unanswered = Vec::with_capacity(self.sent.len());
        while let Some((packet_id, request)) = self.sent.pop_first() {
            release(packet_id);
            unanswered.push(request);
        }
        unanswered.sort_by_key(|request| core::cmp::Reverse(request.order));
        for request in unanswered {
            self.waiting.push_front(request);
        }
    }

    /// Every ticket without an answer; nothing is left.
    pub(crate) fn drain_tickets(&mut self, mut tell: impl FnMut(Ticket)) {
        self.connection_lost(|_| ());
        while let Some(request) = self.waiting.pop_front() {
            if let Some(ticket) = request.ticket {
                tell(ticket);
            }
        }
    }

    pub(crate) fn register(
        &mut self,
        filter: TopicFilterBuf,
        options: SubscriptionOptions,
        properties: Properties<'_>,
    ) {
        let is_response_topic = self.registry.get(&filter).is_some_and(|known| known.is_response_topic);
        let registered =
            Registered { options, properties: properties.into(), session: self.session, is_response_topic };
        self.registry.insert(filter, registered);
    }

    /// A registered subscription is that to a Response Topic: false if that was known, or it is not registered.
    pub(crate) fn mark_response_topic(&mut self, filter: &str) -> bool {
        let registered = self.registry.get_mut(filter);
        registered.is_some_and(|known| !core::mem::replace(&mut known.is_response_topic, true))
    }

    /// The Response Topics among the registered subscriptions.
    pub(crate) fn response_topics(&self) -> impl Iterator<Item = &TopicFilterBuf> + '_ {
        self.registry.iter().filter(|(_, registered)| registered.is_response_topic).map(|(filter, _)| filter)
    }

    /// Asks for the end of these subscriptions, which nobody asked for, and of no others.
    pub(crate) fn end_unasked(&mut self, filters: Vec<TopicFilterBuf>) {
        self.waiting.retain(|request| request.ticket.is_some() || matches!(request.ask, Ask::Subscribe(_)));
        if !filters.is_empty() {
            let properties = PropertiesBuf::new();
            self.waiting.push_back(Request { ticket: None, ask: Ask::Unsubscribe(filters), properties, order: 0 });
        }
    }

    /// False if it was not registered.
    pub(crate) fn unregister(&mut self, filter: &str) -> bool {
        self.registry.remove(filter).is_some()
    }

    /// Is this very subscription registered, and granted in this session?
    pub(crate) fn is_registered(&self, filter: &str, options: SubscriptionOptions, properties: Properties<'_>) -> bool {
        let registered = self.registry.get(filter);
        registered.is_some_and(|known| {
            known.session == self.session && known.options == options && known.properties.as_properties() == properties
        })
    }

    /// The registered subscriptions that are granted in this session, or those that are not, as they are stored.
    pub(crate) fn registered(&self, is_granted: bool) -> impl Iterator<Item = Operation> + '_ {
        let wanted = move |registered: &Registered| (registered.session == self.session) == is_granted;
        let wanted = self.registry.iter().filter(move |(_, registered)| wanted(registered));
        wanted.map(|(filter, Registered { options, properties, .. })| Operation::Subscribe {
            filter: filter.clone(),
            options: *options,
            properties: properties.clone(),
        })
    }

    /// A new session has none of the registered subscriptions.
    pub(crate) const fn session_lost(&mut self) {
        self.session += 1;
    }

    /// Puts a SUBSCRIBE for every registered subscription that is not granted before all else, at most `per_packet`
    /// filters in each; those in one packet share their properties, and with them the Subscription Identifier.
    pub(crate) fn restore(&mut self, per_packet: usize) {
        // Those of an earlier session that were never answered are among the registered ones.
        self.waiting.retain(|request| request.ticket.is_some());
        let mut groups: Vec<Request> = Vec::new();
        let mut open: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (filter, registered) in self.registry.iter().filter(|(_, registered)| registered.session != self.session) {
            let key = registered.properties.as_properties().as_bytes();
            let entry = (filter.clone(), registered.options);
            let group = open.get(key).and_then(|index| groups.get_mut(*index));
            match group.map(|request| &mut request.ask) {
                Some(Ask::Subscribe(filters)) if filters.len() < per_packet => filters.push(entry),
                _ => {
                    open.insert(key, groups.len());
                    let properties = registered.properties.clone();
                    groups.push(Request { ticket: None, ask: Ask::Subscribe([entry].into()), properties, order: 0 });
                }
            }
        }
        for request in groups.into_iter().rev() {
            self.waiting.push_front(request);
        }
    }
}
