//! What a client asked for Topic Filters that cannot be done yet: a question about the filter is open, or was when more
//! came for it. Each filter goes on in the order of arrival. [MQTT-3.8.4-5]

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
};

use damselfly_codec::{ReasonCode, SubscriptionId, SubscriptionOptions};
use damselfly_topic::TopicFilter;

use crate::{QuestionId, broker::owned, slab::index, subscribe::filter_bytes};

/// The Topic Filters of one connection that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingFilters {
    by_filter: BTreeMap<Box<str>, VecDeque<Waiting>>,
    asked: BTreeMap<QuestionId, Box<str>>,
    subscribes: usize,
    bytes: usize,
    /// Answers that waited so far.
    answers: u64,
}

/// One Topic Filter of a SUBSCRIBE or UNSUBSCRIBE that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The number of the [`LongAnswer`](crate::connections::LongAnswer) that its code belongs to.
    pub(crate) answer: u64,
    /// Its place there.
    pub(crate) place: usize,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) enum Request {
    Subscribe { options: SubscriptionOptions, id: Option<SubscriptionId>, decision: Decision },
    Unsubscribe,
}

/// Whether a subscription may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Asked(QuestionId),
    Yes,
    No(ReasonCode),
}

impl WaitingFilters {
    /// The last that waits for this very filter.
    pub(crate) fn last(&self, filter: TopicFilter<'_>) -> Option<&Request> {
        self.by_filter.get(filter.as_str())?.back().map(|waiting| &waiting.request)
    }

    /// A number that no other answer has that waits.
    pub(crate) const fn next_answer(&mut self) -> u64 {
        self.answers += 1;
        self.answers
    }

    pub(crate) fn push(&mut self, filter: TopicFilter<'_>, waiting: Waiting) {
        if let Request::Subscribe { decision, .. } = waiting.request {
            self.subscribes += 1;
            self.bytes += index(filter_bytes(filter));
            if let Decision::Asked(question) = decision {
                self.asked.insert(question, owned(filter.as_str()));
            }
        }
        self.by_filter.entry(owned(filter.as_str())).or_default().push_back(waiting);
    }

    /// An answer came in: the filter it is about, and the number of the SUBACK that waits for it.
    pub(crate) fn decide(&mut self, question: QuestionId, refusal: Option<ReasonCode>) -> Option<(Box<str>, u64)> {
        let mut number = 0;
        let filter = self.asked.remove(&question)?;
        for waiting in self.by_filter.get_mut(&filter)? {
            match &mut waiting.request {
                Request::Subscribe { decision, .. } if *decision == Decision::Asked(question) => {
                    *decision = refusal.map_or(Decision::Yes, Decision::No);
                    number = waiting.answer;
                }
                Request::Subscribe { .. } | Request::Unsubscribe => {}
            }
        }
        Some((filter, number))
    }

    /// Takes out the first that waits for a filter, if nothing is open about it.
    pub(crate) fn pop_decided(&mut self, filter: &str) -> Option<Waiting> {
        let queue = self.by_filter.get_mut(filter)?;
        if matches!(queue.front()?.request, Request::Subscribe { decision: Decision::Asked(_), .. }) {
            return None;
        }
        let first = queue.pop_front()?;
        if queue.is_empty() {
            self.by_filter.remove(filter);
        }
        if matches!(first.request, Request::Subscribe { .. }) {
            self.subscribes -= 1;
            self.bytes -= filter.len();
        }
        Some(first)
    }

    /// Questions that are open.
    pub(crate) fn questions(&self) -> impl ExactSizeIterator<Item = QuestionId> {
        self.asked.keys().copied()
    }

    /// Filters of SUBSCRIBE packets. There are at most as many of UNSUBSCRIBE: a second one behind another finds nothing.
    pub(crate) const fn subscribes(&self) -> usize {
        self.subscribes
    }

    /// Bytes of these filters.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that wait, by counting.
    pub(crate) fn count(&self) -> usize {
        self.by_filter.values().map(VecDeque::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).unwrap()
    }

    fn subscribe(answer: u64, decision: Decision) -> Waiting {
        let request = Request::Subscribe { options: SubscriptionOptions::default(), id: None, decision };
        Waiting { answer, place: 0, request }
    }

    #[test]
    fn what_waits_for_a_filter_leaves_in_order_and_is_counted_until_then() {
        let mut waiting = WaitingFilters::default();
        assert_eq!((waiting.next_answer(), waiting.next_answer()), (1, 2));
        let question = QuestionId(7);
        waiting.push(filter("a/b"), subscribe(1, Decision::Asked(question)));
        waiting.push(filter("a/b"), Waiting { answer: 2, place: 0, request: Request::Unsubscribe });
        waiting.push(filter("c"), subscribe(2, Decision::Yes));
        assert_eq!((waiting.subscribes(), waiting.bytes(), waiting.count()), (2, 4, 3));
        assert!(waiting.questions().eq([question]) && !waiting.is_empty());
        assert!(matches!(waiting.last(filter("a/b")), Some(Request::Unsubscribe)));
        assert!(waiting.last(filter("b")).is_none());

        assert!(waiting.pop_decided("a/b").is_none(), "a question is open");
        assert_eq!(waiting.pop_decided("c").map(|first| first.answer), Some(2));
        assert_eq!((waiting.subscribes(), waiting.bytes(), waiting.count()), (1, 3, 2));
        assert_eq!(waiting.decide(QuestionId(8), None), None);
        assert_eq!(waiting.decide(question, None), Some(("a/b".into(), 1)));
        assert_eq!(waiting.questions().len(), 0);
        let answers = core::iter::from_fn(|| waiting.pop_decided("a/b")).map(|first| first.answer);
        assert!(answers.eq([1, 2]));
        assert_eq!((waiting.subscribes(), waiting.bytes(), waiting.count()), (0, 0, 0));
        assert!(waiting.is_empty());
    }
}
