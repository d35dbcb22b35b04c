//! The map of topics.

use std::collections::{BTreeMap, BTreeSet};

use damselfly_topic::{SubscriptionIndex, TopicCursor, TopicFilter, TopicMap, TopicName};
use proptest::prelude::*;

use crate::oracle;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

fn map(texts: &[&str]) -> TopicMap<usize> {
    let mut map = TopicMap::new(1);
    for (value, text) in texts.iter().enumerate() {
        assert_eq!(map.insert(name(text), value), Ok(None));
    }
    map
}

fn found<V: Copy>(map: &TopicMap<V>, text: &str) -> Vec<(String, V)> {
    let mut found = Vec::new();
    let done = map.query(filter(text), &mut TopicCursor::new(), usize::MAX, |name, value| {
        found.push((name.to_string(), *value));
    });
    assert!(done);
    found
}

fn names(found: Vec<(String, usize)>) -> Vec<String> {
    found.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn values_are_set_replaced_changed_and_removed() {
    let mut map = map(&["a", "a/b"]);

    assert_eq!(map.insert(name("a"), 7), Ok(Some(0)));
    *map.get_mut(name("a/b")).unwrap() += 10;
    assert_eq!((map.get(name("a")), map.get(name("a/b")), map.get(name("b"))), (Some(&7), Some(&11), None));
    assert_eq!((map.len(), map.is_empty()), (2, false));
    assert_eq!(map.remove(name("a")), Some(7));
    assert_eq!(map.remove(name("a")), None);
    assert_eq!(map.remove(name("a/b")), Some(11));
    assert!(map.is_empty());
    assert_eq!(map.heap_bytes(), 0);
}

#[test]
fn filters_find_what_the_standard_says() {
    let map = map(&["a", "a/", "a/b", "a/b/c", "a-b", "a!/b", "/a", "/", "$SYS", "$SYS/a", "b/b"]);

    for (text, expected) in [
        ("a", &["a"][..]),
        ("x", &[]),
        ("a/#", &["a", "a/", "a/b", "a/b/c"]),
        ("a/b/#", &["a/b", "a/b/c"]),
        ("+", &["a", "a-b"]),
        ("+/b", &["a/b", "a!/b", "b/b"]),
        ("+/b/#", &["a/b", "a/b/c", "a!/b", "b/b"]),
        ("a/+", &["a/", "a/b"]),
        ("a/+/c", &["a/b/c"]),
        ("/+", &["/", "/a"]),
        ("+/+", &["/", "/a", "a/", "a/b", "a!/b", "b/b"]),
        ("#", &["/", "/a", "a", "a/", "a/b", "a/b/c", "a!/b", "a-b", "b/b"]),
        ("$SYS/#", &["$SYS", "$SYS/a"]),
        ("$SYS/+", &["$SYS/a"]),
        ("$share/g/a/+", &["a/", "a/b"]),
    ] {
        assert_eq!(names(found(&map, text)), expected, "{text}");
    }
}

/// [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
#[test]
fn leading_wildcards_find_no_dollar_names() {
    let map = map(&["\"", "!", "$", "$a", "$a/x", "$zzz", "%", "%/x", "a/$x"]);

    assert_eq!(names(found(&map, "#")), ["!", "\"", "%", "%/x", "a/$x"]);
    assert_eq!(names(found(&map, "+/x")), ["%/x"]);
    assert_eq!(names(found(&map, "+/+")), ["%/x", "a/$x"]);
    assert_eq!(names(found(&map, "+/#")), ["!", "\"", "%", "%/x", "a/$x"]);
}

#[test]
fn a_budget_bounds_the_names_looked_at() {
    let texts: Vec<String> = (0..100).map(|id| format!("room/{id:03}/lamp")).collect();
    let map = map(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let mut cursor = TopicCursor::new();
    let mut visits = Vec::new();
    let mut calls = 0;

    while !map.query(filter("room/+/lamp"), &mut cursor, 7, |name, _| visits.push(name.to_string())) {
        calls += 1;
        assert!(visits.len() <= calls * 7);
        assert!(!cursor.is_done());
    }

    assert_eq!(visits, texts);
    assert_eq!(calls, 100 / 7);
    assert!(cursor.is_done());
    assert!(map.query(filter("room/+/lamp"), &mut cursor, 7, |_, _| panic!("the cursor is done")));
}

#[test]
fn a_budget_of_nothing_still_goes_on() {
    let map = map(&["a", "b"]);
    let mut cursor = TopicCursor::new();
    let mut visits = 0;

    for _ in 0..3 {
        map.query(filter("+"), &mut cursor, 0, |_, _| visits += 1);
    }

    assert_eq!(visits, 2);
    assert!(cursor.is_done());
}

/// What does not match is jumped over, not looked at.
#[test]
fn a_filter_looks_at_little_more_than_it_finds() {
    let texts: Vec<String> =
        (0..50).flat_map(|site| (0..50).map(move |device| format!("site/{site}/device/{device}/state"))).collect();
    let map = map(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    for (text, expected, looks) in [
        ("site/7/#", 50, 51),
        ("site/7/device/9/state", 1, 1),
        ("site/+/device/9/state", 50, 200),
        ("site/7/device/+/state", 50, 101),
        ("nothing/#", 0, 1),
        ("+/7/device/9/#", 1, 5),
        ("+/+/+/+/nothing", 0, 2_500),
    ] {
        let mut visits = 0;
        let done = map.query(filter(text), &mut TopicCursor::new(), looks, |_, _| visits += 1);
        assert_eq!((done, visits), (true, expected), "{text}");
    }
}

#[test]
fn names_are_iterated_in_the_order_of_the_levels() {
    let map = map(&["b", "a/b/c", "a-b", "a", "a/b", "$x"]);

    assert_eq!(
        map.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        ["$x", "a", "a/b", "a/b/c", "a-b", "b"]
    );
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String, u8),
    Remove(String),
    Query(usize),
}

fn texts(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(levels), 1..5).prop_map(|levels| levels.join("/"))
}

fn some_names() -> impl Strategy<Value = String> {
    texts(&["", "a", "a-", "ab", "a longer level", "b", "$a"]).prop_filter("a name", |text| !text.is_empty())
}

fn some_filters() -> impl Strategy<Value = String> {
    texts(&["", "a", "a-", "ab", "a longer level", "b", "$a", "+", "+", "+", "#"])
        .prop_filter("a filter", |text| oracle::is_filter(text.as_bytes()))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (some_names(), any::<u8>()).prop_map(|(name, value)| Step::Insert(name, value)),
        2 => some_names().prop_map(Step::Remove),
        1 => (1..6_usize).prop_map(Step::Query),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// [MQTT-4.7.3-4] [MQTT3-4.7.3-4]
    #[test]
    fn a_map_agrees_with_asking_every_name(steps in steps(), filters in prop::collection::vec(some_filters(), 1..8)) {
        let mut map = TopicMap::new(1);
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(text, value) => {
                    prop_assert_eq!(map.insert(name(&text), value), Ok(model.insert(text.clone(), value)));
                }
                Step::Remove(text) => prop_assert_eq!(map.remove(name(&text)), model.remove(&text)),
                Step::Query(_) => {}
            }
            prop_assert_eq!(map.len(), model.len());
        }
        for text in filters {
            let mut found = found(&map, &text);
            found.sort();
            let expected: Vec<(String, u8)> = model
                .iter()
                .filter(|(name, _)| oracle::matches(&text, name))
                .map(|(name, value)| (name.clone(), *value))
                .collect();
            prop_assert_eq!(found, expected, "{}", text);
        }
        for (text, value) in model {
            prop_assert_eq!(map.remove(name(&text)), Some(value));
        }
        prop_assert_eq!(map.heap_bytes(), 0);
    }

    /// A query in small parts while the map changes between them.
    #[test]
    fn a_cursor_visits_each_lasting_topic_once(before in prop::collection::btree_set(some_names(), 0..60), steps in steps(), text in some_filters()) {
        let mut map = TopicMap::new(1);
        for topic in &before {
            map.insert(name(topic), 0).unwrap();
        }
        let mut lasting = before.clone();
        let mut cursor = TopicCursor::new();
        let mut visits: Vec<String> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(topic, value) => {
                    map.insert(name(&topic), value).unwrap();
                }
                Step::Remove(topic) => {
                    map.remove(name(&topic));
                    // Matters only if it was not visited yet.
                    lasting.remove(&topic);
                }
                Step::Query(budget) => {
                    map.query(filter(&text), &mut cursor, budget, |name, _| visits.push(name.to_string()));
                }
            }
        }
        map.query(filter(&text), &mut cursor, usize::MAX, |name, _| visits.push(name.to_string()));

        prop_assert!(cursor.is_done());
        let distinct: BTreeSet<&String> = visits.iter().collect();
        prop_assert_eq!(distinct.len(), visits.len(), "no topic is visited twice");
        prop_assert!(visits.iter().all(|topic| oracle::matches(&text, topic)));
        for topic in lasting.iter().filter(|topic| oracle::matches(&text, topic)) {
            prop_assert!(distinct.contains(topic), "{} is missing", topic);
        }
    }
}

#[test]
fn debug_says_how_much_is_there_and_not_what() {
    let mut map = TopicMap::new(1);
    let mut index = SubscriptionIndex::new(1);
    for n in 0..1_000_u32 {
        let text = format!("t/{n}");
        map.insert(TopicName::new(&text).unwrap(), n).unwrap();
        index.insert(TopicFilter::new(&text).unwrap(), n, ()).unwrap();
    }
    assert_eq!(format!("{map:?}"), "TopicMap { len: 1000, .. }");
    let shown = format!("{index:?}");
    assert!(shown.starts_with("SubscriptionIndex { len: 1000, max_levels: 128, generation: "), "{shown}");
}
