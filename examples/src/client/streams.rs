//! Which stream takes a message, and what waits in each.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use damselfly_client::{AckToken, InboundMessage, Outcome, Ticket};
use damselfly_topic::{IndexError, SubscriptionIndex, TopicFilter, TopicFilterBuf, TopicName};

use super::options::{Inbox, Overflow};

/// Names a stream of one client; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamId(u64);

/// All streams of one client.
pub(super) struct Streams {
    /// From a topic to the streams that take it; the number tells filters of one stream apart, because the filter inside a
    /// Shared Subscription may be there for itself too.
    index: SubscriptionIndex<(StreamId, usize), ()>,
    waiting: BTreeMap<StreamId, Waiting>,
    last: u64,
    /// How many want each filter: streams, and requests whose messages come among the events.
    wanted: HashMap<TopicFilterBuf, usize>,
    /// SUBSCRIBE requests without their answer.
    asked: HashMap<Ticket, Asked>,
    /// In how many streams a message waits that the application has to acknowledge.
    unacknowledged: HashMap<AckToken, usize>,
    /// Messages that no stream has any more and the application never saw.
    given_up: Vec<AckToken>,
    /// How many streams are full and ask for a pause.
    full: usize,
    is_closed: bool,
    last_match: Match,
}

/// Who takes the messages of a topic: the next message often has the same one.
#[derive(Default)]
struct Match {
    topic: Vec<u8>,
    matched: Vec<((StreamId, usize), ())>,
    /// No filter came or went since.
    is_valid: bool,
}

struct Asked {
    stream: Option<StreamId>,
    filters: Vec<TopicFilterBuf>,
}

/// What waits in one stream.
struct Waiting {
    messages: VecDeque<InboundMessage>,
    inbox: Inbox,
    is_full: bool,
    dropped: u64,
    reader: Option<Waker>,
    /// `None` once the broker refused it or it was unsubscribed.
    filters: Vec<Option<TopicFilterBuf>>,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            index: SubscriptionIndex::new(seed),
            waiting: BTreeMap::new(),
            last: 0,
            wanted: HashMap::new(),
            asked: HashMap::new(),
            unacknowledged: HashMap::new(),
            given_up: Vec::new(),
            full: 0,
            is_closed: false,
            last_match: Match::default(),
        }
    }

    /// A stream for these filters: messages may come before the SUBACK. [MQTT-3.8.4]
    pub(super) fn open(&mut self, filters: &[TopicFilterBuf], inbox: Inbox) -> Result<StreamId, IndexError> {
        self.last += 1;
        self.last_match.is_valid = false;
        let id = StreamId(self.last);
        for (at, filter) in filters.iter().enumerate() {
            if let Err(error) = self.index.insert(filter.as_filter().unshared(), (id, at), ()) {
                for (at, filter) in filters.iter().take(at).enumerate() {
                    self.index.remove(filter.as_filter().unshared(), (id, at));
                }
                return Err(error);
            }
        }
        let waiting = Waiting {
            messages: VecDeque::new(),
            inbox: Inbox { max_messages: inbox.max_messages.max(1), ..inbox },
            is_full: false,
            dropped: 0,
            reader: None,
            filters: filters.iter().cloned().map(Some).collect(),
        };
        self.waiting.insert(id, waiting);
        self.want(filters);
        Ok(id)
    }

    /// These filters are subscribed to; `stream` is `None` if their messages come among the events.
    pub(super) fn asked(&mut self, ticket: Ticket, stream: Option<StreamId>, filters: Vec<TopicFilterBuf>) {
        if stream.is_none() {
            self.want(&filters);
        }
        self.asked.insert(ticket, Asked { stream, filters });
    }

    fn want(&mut self, filters: &[TopicFilterBuf]) {
        for filter in filters {
            *self.wanted.entry(filter.clone()).or_default() += 1;
        }
    }

    /// True if nobody else wants it.
    fn want_no_more(&mut self, filter: &TopicFilterBuf) -> bool {
        let Some(count) = self.wanted.get_mut(filter) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.wanted.remove(filter);
        }
        is_last
    }

    /// What became of a request: filters that were not granted bring nothing.
    pub(super) fn answered(&mut self, ticket: Ticket, outcome: &Outcome) {
        // Most outcomes are of messages, while nothing is asked.
        if self.asked.is_empty() {
            return;
        }
        let Some(Asked { stream, filters }) = self.asked.remove(&ticket) else { return };
        for (at, filter) in filters.iter().enumerate() {
            let is_granted = match outcome {
                Outcome::Subscribed(results) => results.get(at).is_some_and(Result::is_ok),
                _ => false,
            };
            if is_granted {
                continue;
            }
            match stream {
                Some(id) => self.forget(id, at),
                None => {
                    self.want_no_more(filter);
                }
            }
        }
    }

    /// The subscription is gone for everybody.
    pub(super) fn lost(&mut self, filter: TopicFilter<'_>) {
        let has = |waiting: &Waiting| {
            let texts = waiting.filters.iter().flatten().map(TopicFilterBuf::as_str);
            texts.into_iter().any(|text| text == filter.as_str())
        };
        let ids: Vec<StreamId> = self.waiting.iter().filter(|(_, waiting)| has(waiting)).map(|(id, _)| *id).collect();
        for id in ids {
            let count = self.waiting.get(&id).map_or(0, |waiting| waiting.filters.len());
            for at in 0..count {
                let held = self.waiting.get(&id).and_then(|waiting| waiting.filters.get(at)?.as_ref());
                if held.is_some_and(|held| held.as_str() == filter.as_str()) {
                    self.forget(id, at);
                }
            }
        }
        self.wanted.remove(filter.as_str());
    }

    /// One filter of a stream brings nothing any more: true if nobody else wants it. A stream without filters ends.
    fn forget(&mut self, id: StreamId, at: usize) {
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        let Some(filter) = waiting.filters.get_mut(at).and_then(Option::take) else { return };
        if waiting.has_ended() {
            waiting.wake();
        }
        self.index.remove(filter.as_filter().unshared(), (id, at));
        self.last_match.is_valid = false;
        self.want_no_more(&filter);
    }

    /// Gives a message to each stream that takes it; back if there is none.
    pub(super) fn deliver(&mut self, message: InboundMessage) -> Option<InboundMessage> {
        self.match_topic(message.message.topic());
        let Match { matched, .. } = &self.last_match;
        if let Some(token) = message.ack.filter(|_| !matched.is_empty()) {
            self.unacknowledged.insert(token, matched.len());
        }
        let Some(last) = matched.len().checked_sub(1) else { return Some(message) };
        for at in 0..last {
            self.push(at, message.clone());
        }
        self.push(last, message);
        None
    }

    fn match_topic(&mut self, topic: TopicName<'_>) {
        let last = &mut self.last_match;
        if last.is_valid && last.topic == topic.as_bytes() {
            return;
        }
        last.topic.clear();
        last.topic.extend_from_slice(topic.as_bytes());
        last.matched.clear();
        self.index.matches(topic, &mut last.matched);
        last.matched.sort_unstable();
        last.matched.dedup_by_key(|((id, _), ())| *id);
        last.is_valid = true;
    }

    /// Gives a message to one of the streams that take it.
    fn push(&mut self, at: usize, message: InboundMessage) {
        let matched = self.last_match.matched.get(at);
        let Some(waiting) = matched.and_then(|((id, _), ())| self.waiting.get_mut(id)) else { return };
        let is_at_limit = waiting.messages.len() >= waiting.inbox.max_messages;
        let dropped = match waiting.inbox.overflow {
            Overflow::DropNewest if is_at_limit => Some(message),
            Overflow::DropOldest if is_at_limit => {
                waiting.messages.push_back(message);
                waiting.messages.pop_front()
            }
            Overflow::Pause | Overflow::DropNewest | Overflow::DropOldest => {
                waiting.messages.push_back(message);
                None
            }
        };
        waiting.wake();
        // What was read before the pause may come when some were taken already: a stream is counted once.
        let is_at_limit = waiting.messages.len() >= waiting.inbox.max_messages;
        if waiting.inbox.overflow == Overflow::Pause && is_at_limit && !waiting.is_full {
            waiting.is_full = true;
            self.full += 1;
        }
        if let Some(dropped) = dropped {
            waiting.dropped += 1;
            self.give_up(&dropped);
        }
    }

    /// One stream less that could give the message to the application.
    fn give_up(&mut self, message: &InboundMessage) {
        let Some(token) = message.ack else { return };
        let Some(count) = self.unacknowledged.get_mut(&token) else { return };
        *count -= 1;
        if *count == 0 {
            self.unacknowledged.remove(&token);
            self.given_up.push(token);
        }
    }

    /// The next message of a stream, `None` when it has ended.
    pub(super) fn poll(&mut self, id: StreamId, context: &Context<'_>) -> Poll<Option<InboundMessage>> {
        let Some(waiting) = self.waiting.get_mut(&id) else { return Poll::Ready(None) };
        let Some(message) = waiting.messages.pop_front() else {
            if self.is_closed || waiting.has_ended() {
                return Poll::Ready(None);
            }
            waiting.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        if waiting.is_full && waiting.messages.len() <= waiting.inbox.max_messages / 2 {
            waiting.is_full = false;
            self.full -= 1;
        }
        if let Some(token) = message.ack {
            // From here on the application is in charge of it.
            self.unacknowledged.remove(&token);
        }
        Poll::Ready(Some(message))
    }

    /// How many messages a stream has dropped.
    pub(super) fn dropped(&self, id: StreamId) -> u64 {
        self.waiting.get(&id).map_or(0, |waiting| waiting.dropped)
    }

    /// Ends a stream: what waits in it, and the filters that nobody else wants.
    pub(super) fn close(&mut self, id: StreamId) -> (VecDeque<InboundMessage>, Vec<TopicFilterBuf>) {
        let Some(waiting) = self.take(id) else { return (VecDeque::new(), Vec::new()) };
        let filters: Vec<_> = waiting.filters.into_iter().flatten().collect();
        let unwanted = filters.into_iter().filter(|filter| self.want_no_more(filter)).collect();
        (waiting.messages, unwanted)
    }

    /// Ends a stream whose filters stay subscribed to: what waits in it.
    pub(super) fn detach(&mut self, id: StreamId) -> VecDeque<InboundMessage> {
        self.take(id).map(|waiting| waiting.messages).unwrap_or_default()
    }

    fn take(&mut self, id: StreamId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.last_match.is_valid = false;
        for (at, filter) in waiting.filters.iter().enumerate() {
            if let Some(filter) = filter {
                self.index.remove(filter.as_filter().unshared(), (id, at));
            }
        }
        self.full -= usize::from(waiting.is_full);
        Some(waiting)
    }

    /// Nobody will take these messages.
    pub(super) fn discard(&mut self, messages: VecDeque<InboundMessage>) {
        for message in messages {
            self.give_up(&message);
        }
    }

    /// Takes a message that the application never saw and no stream has: to be refused.
    pub(super) fn pop_given_up(&mut self) -> Option<AckToken> {
        self.given_up.pop()
    }

    /// Does a stream ask for a pause?
    pub(super) const fn is_full(&self) -> bool {
        self.full > 0
    }

    /// Nothing comes any more: each stream ends after what waits in it.
    pub(super) fn end(&mut self) {
        self.is_closed = true;
        self.waiting.values_mut().for_each(Waiting::wake);
    }
}

impl Waiting {
    fn has_ended(&self) -> bool {
        self.filters.iter().all(Option::is_none)
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
