use alloc::{boxed::Box, collections::BTreeMap};
use damselfly_topic::*;
#[derive(Debug)]
pub(crate) struct TopicMap<V>(BTreeMap<Box<str>, V>);
#[derive(Debug, Default, Clone)]
pub(crate) struct TopicCursor(Option<Box<str>>);
impl<V> TopicMap<V> {
    pub(crate) fn new(_s: u64) -> Self {
        Self(BTreeMap::new())
    }
    pub(crate) fn insert(&mut self, n: TopicName<'_>, v: V) -> Option<V> {
        self.0.insert(n.as_str().into(), v)
    }
    pub(crate) fn get(&self, n: TopicName<'_>) -> Option<&V> {
        self.0.get(n.as_str())
    }
    pub(crate) fn remove(&mut self, n: TopicName<'_>) -> Option<V> {
        self.0.remove(n.as_str())
    }
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    pub(crate) fn heap_bytes(&self) -> usize {
        0
    }
    pub(crate) fn query(&self, f: TopicFilter<'_>, c: &mut TopicCursor, b: usize, mut v: impl FnMut(&str, &V)) -> bool {
        use core::ops::Bound;
        let from = match &c.0 {
            Some(l) => Bound::Excluded(l.clone()),
            None => Bound::Unbounded,
        };
        let mut n = 0;
        for (k, x) in self.0.range::<Box<str>, _>((from, Bound::Unbounded)) {
            if n == b {
                return false;
            }
            n += 1;
            c.0 = Some(k.clone());
            if f.matches(TopicName::new(k).unwrap()) {
                v(k, x);
            }
        }
        true
    }
}
