//! Memory follows what is held: never less than that needs, never much more, and it is asked for in few large steps.

use damselfly_topic::{SubscriptionIndex, TopicFilter, TopicMap, TopicName};

/// Watches the memory of something that holds more and more, or less and less.
struct Watch {
    last: usize,
    changes: usize,
}

impl Watch {
    fn new() -> Self {
        Self { last: 0, changes: 0 }
    }

    /// `heap` bytes are held where `need` are needed: at most `percent` of it, and a little for small numbers.
    fn see(&mut self, heap: usize, need: usize, percent: usize, slack: usize) {
        assert!(heap >= need, "{heap} bytes for {need}");
        assert!(heap <= need * percent / 100 + slack, "{heap} bytes for {need}, {} per cent", heap * 100 / need.max(1));
        self.changes += usize::from(heap != self.last);
        self.last = heap;
    }
}

const NAMES: usize = 6_000;

/// A name is its text with 6 bytes, a record of its place and the value, a slot of 8 bytes and a place in the order.
#[test]
fn a_map_of_topics_holds_a_half_more_than_it_needs_at_most() {
    for len in [8, 60] {
        let name = |id: usize| format!("{id:0len$}");
        let need = |names: usize| names * (len + 6 + 8 + 8 + 4);
        let mut map = TopicMap::new(1);
        let mut watch = Watch::new();
        for id in 0..NAMES {
            map.insert(TopicName::new(&name(id)).unwrap(), 7_u32).unwrap();
            watch.see(map.heap_bytes(), need(id + 1), 145, 450);
        }
        assert!(watch.changes < 550, "{} changes", watch.changes);

        let mut watch = Watch::new();
        for id in (0..NAMES).rev() {
            assert_eq!(map.remove(TopicName::new(&name(id)).unwrap()), Some(7));
            watch.see(map.heap_bytes(), need(id), 430, 6_200);
        }
        assert!(watch.changes < 90, "{} changes", watch.changes);
        assert_eq!(map.heap_bytes(), 0);
    }
}

/// A filter without wildcards is as a name; one with a wildcard has two nodes of 32 bytes here, a slot and a long level.
#[test]
fn an_index_of_filters_holds_a_half_more_than_it_needs_at_most() {
    for (end, each, up, down) in [("", 20 + 6 + 4 + 12 + 8, 140, 440), ("/+", 2 * 32 + 12 + 8 + 20 + 6, 140, 600)] {
        let filter = |id: usize| format!("{id:020}{end}");
        let mut index = SubscriptionIndex::new(1);
        let mut watch = Watch::new();
        for id in 0..NAMES {
            index.insert(TopicFilter::new(&filter(id)).unwrap(), 7_u32, 1_u32).unwrap();
            watch.see(index.heap_bytes(), (id + 1) * each, up, 600);
        }
        assert!(watch.changes < 110, "{} changes", watch.changes);

        let mut watch = Watch::new();
        for id in (0..NAMES).rev() {
            assert_eq!(index.remove(TopicFilter::new(&filter(id)).unwrap(), 7), Some(1));
            watch.see(index.heap_bytes(), id * each, down, 8_000);
        }
        assert!(watch.changes < 220, "{} changes", watch.changes);
        assert_eq!(index.heap_bytes(), 0);
    }
}

/// Rising keys fill one piece of a list after the other; scattered ones leave room in each.
#[test]
fn a_long_list_of_subscribers_takes_little_more_than_its_entries() {
    const KEYS: u32 = 5_000;
    // 2,003 and 5,000 have no common factor: every key once.
    let rising = (|step| step) as fn(u32) -> u32;
    let orders = [(rising, 112, 155), (|step| KEYS - 1 - step, 100, 40), (|step| step * 2_003 % KEYS, 162, 60)];
    let filter = TopicFilter::new("a/+").unwrap();
    for (key, percent, changes) in orders {
        let mut index = SubscriptionIndex::new(1);
        let mut watch = Watch::new();
        for (step, held) in (0..KEYS).zip(1..) {
            assert_eq!(index.insert(filter, key(step), step), Ok(None));
            watch.see(index.heap_bytes(), held * 8, percent, 5_100);
        }
        assert!(watch.changes < changes, "{} changes", watch.changes);

        let mut watch = Watch::new();
        for (step, held) in (0..KEYS).zip((0..5_000).rev()) {
            assert_eq!(index.remove(filter, key(step)), Some(step));
            watch.see(index.heap_bytes(), held * 8, 450, 2_500);
        }
        assert!(watch.changes < 30, "{} changes", watch.changes);
        assert_eq!(index.heap_bytes(), 0);
    }
}

#[test]
fn a_list_of_512_is_one_piece_and_one_more_makes_two() {
    let mut index = SubscriptionIndex::new(1);
    let mut held = vec![0];
    for key in 0..513_u32 {
        index.insert(TopicFilter::new("a/+").unwrap(), key, key).unwrap();
        held.push(index.heap_bytes());
    }
    assert_eq!(held[511], held[512]);
    assert!(held[512] < held[513]);
}

/// Two subscribers each, of whom one goes: what stays needs no list.
#[test]
fn lists_move_together_when_three_of_four_are_gone_unless_too_many_filters_would_be_asked() {
    const LISTS: usize = 200;
    let list = |id: usize| if id % 2 == 0 { format!("two/{id:03}") } else { format!("two/{id:03}/+") };
    for (alone, moves) in [(0, true), (8 * LISTS - LISTS, true), (8 * LISTS + 8 - LISTS, false)] {
        let mut index = SubscriptionIndex::new(1);
        for id in 0..LISTS {
            for key in [1, 2] {
                index.insert(TopicFilter::new(&list(id)).unwrap(), key, id).unwrap();
            }
        }
        for id in 0..alone {
            index.insert(TopicFilter::new(&format!("one/{id}")).unwrap(), 1, id).unwrap();
        }
        let mut held = vec![index.heap_bytes()];
        for id in 0..LISTS {
            assert_eq!(index.remove(TopicFilter::new(&list(id)).unwrap(), 1), Some(id));
            held.push(index.heap_bytes());
        }
        let shrunk: Vec<usize> = (1..held.len()).filter(|gone| held[*gone] < held[gone - 1]).collect();
        // The last one gives everything back in any case.
        let expected = if moves { [3 * LISTS / 4 + 1, LISTS].to_vec() } else { vec![LISTS] };
        assert_eq!(shrunk[..expected.len().min(shrunk.len())], expected, "beside {alone} filters: {shrunk:?}");
    }
}
