//! The subscription index.

use std::collections::{BTreeMap, BTreeSet};

use damselfly_topic::{IndexError, MAX_LEVELS, MatchCursor, SubscriptionIndex, TopicFilter, TopicName};
use proptest::prelude::*;

use crate::oracle;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

fn found(index: &SubscriptionIndex<u32, u8>, text: &str) -> Vec<(u32, u8)> {
    let mut found = Vec::new();
    index.matches(name(text), &mut found);
    found
}

#[test]
fn a_second_insertion_replaces_the_value() {
    let mut index = SubscriptionIndex::new(1);

    for text in ["a/b", "a/+", "a/#", "#"] {
        assert_eq!(index.insert(filter(text), 1, 10), Ok(None));
        assert_eq!(index.insert(filter(text), 1, 11), Ok(Some(10)));
        assert_eq!(index.insert(filter(text), 2, 20), Ok(None));
        assert_eq!(index.insert(filter(text), 2, 21), Ok(Some(20)));
        assert_eq!((index.get(filter(text), 1), index.get(filter(text), 2)), (Some(11), Some(21)));
        assert_eq!(index.get(filter(text), 3), None);
    }
    assert_eq!((index.len(), index.is_empty()), (8, false));
    assert_eq!(index.get(filter("a"), 1), None);
    assert_eq!(index.get(filter("+"), 1), None);
    assert_eq!(index.get(filter("a/+/#"), 1), None);
}

#[test]
fn what_is_removed_is_no_longer_found() {
    let mut index = SubscriptionIndex::new(1);
    for text in ["a/b", "a/+", "a/#"] {
        index.insert(filter(text), 1, 1).unwrap();
        index.insert(filter(text), 2, 2).unwrap();
    }

    for text in ["a/b", "a/+", "a/#"] {
        assert_eq!(index.remove(filter(text), 3), None);
        assert_eq!(index.remove(filter(text), 1), Some(1));
        assert_eq!(index.remove(filter(text), 1), None);
        assert_eq!(index.get(filter(text), 2), Some(2));
        assert_eq!(index.remove(filter(text), 2), Some(2));
        assert_eq!(index.remove(filter(text), 2), None);
    }
    assert!(index.is_empty());
    assert_eq!(found(&index, "a/b"), []);
    assert_eq!(index.heap_bytes(), 0);
}

/// The filter that is the name, then level by level '#', the level itself, '+'; by key within a filter.
#[test]
fn matches_come_in_the_documented_order() {
    let texts = ["+/+", "+/b", "+/#", "a/+", "a/#", "#", "a/b/#", "a/b"];
    let expected = ["a/b", "#", "a/#", "a/b/#", "a/+", "+/#", "+/b", "+/+"];
    for seed in 0..10 {
        let mut index = SubscriptionIndex::new(seed);
        for (value, text) in (0..).zip(texts) {
            index.insert(filter(text), 9, value).unwrap();
            index.insert(filter(text), 3, value).unwrap();
        }

        let order: Vec<(u32, &str)> =
            found(&index, "a/b").into_iter().map(|(key, value)| (key, texts[usize::from(value)])).collect();

        let expected: Vec<(u32, &str)> = expected.into_iter().flat_map(|text| [(3, text), (9, text)]).collect();
        assert_eq!(order, expected);
    }
}

/// [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
#[test]
fn leading_wildcards_find_no_dollar_names() {
    let mut index = SubscriptionIndex::new(1);
    for (value, text) in (0..).zip(["#", "+", "+/#", "+/x", "$SYS/#", "$SYS/+", "$SYS/x"]) {
        index.insert(filter(text), 1, value).unwrap();
    }

    assert_eq!(found(&index, "$SYS/x"), [(1, 6), (1, 4), (1, 5)]);
    assert_eq!(found(&index, "$SYS"), [(1, 4)]);
    assert_eq!(found(&index, "$other"), []);
    assert!(!index.contains_match(name("$other/x")));
    assert_eq!(found(&index, "a/$x"), [(1, 0), (1, 2)]);
}

#[test]
fn the_number_of_levels_is_limited() {
    let mut index = SubscriptionIndex::new(1).with_max_levels(3);
    assert_eq!(index.insert(filter("a/b/c"), 1, 0), Ok(None));
    assert_eq!(index.insert(filter("+/+/#"), 1, 1), Ok(None));
    assert_eq!(index.insert(filter("a/b/c/d"), 1, 2), Err(IndexError::TooManyLevels));
    assert_eq!(index.insert(filter("+/+/+/#"), 1, 3), Err(IndexError::TooManyLevels));
    assert_eq!(found(&index, "a/b/c"), [(1, 0), (1, 1)]);
    assert_eq!(found(&index, "a/b/c/d"), [(1, 1)]);

    let mut index = SubscriptionIndex::new(1).with_max_levels(1_000);
    let deepest = vec!["+"; MAX_LEVELS].join("/");
    let too_deep = vec!["+"; MAX_LEVELS + 1].join("/");
    assert_eq!(index.insert(filter(&deepest), 1, 0), Ok(None));
    assert_eq!(index.insert(filter(&too_deep), 1, 0), Err(IndexError::TooManyLevels));
    assert_eq!(found(&index, &vec!["x"; MAX_LEVELS].join("/")), [(1, 0)]);
    assert_eq!(found(&index, &vec!["x"; MAX_LEVELS + 1].join("/")), []);
    assert_eq!(found(&index, &vec!["x"; MAX_LEVELS - 1].join("/")), []);
}

#[test]
fn a_name_deeper_than_all_filters_is_matched_by_multi_level_wildcards() {
    let mut index = SubscriptionIndex::new(1);
    let sixteen = vec!["+"; 16].join("/");
    let fifteen_and_rest = vec!["+"; 15].join("/") + "/#";
    index.insert(filter("#"), 1, 0).unwrap();
    index.insert(filter("a/#"), 1, 1).unwrap();
    index.insert(filter(&sixteen), 1, 2).unwrap();
    index.insert(filter(&fifteen_and_rest), 1, 3).unwrap();

    assert_eq!(found(&index, &("a".to_owned() + &"/a".repeat(15))), [(1, 0), (1, 1), (1, 3), (1, 2)]);
    assert_eq!(found(&index, &("a".to_owned() + &"/a".repeat(16))), [(1, 0), (1, 1), (1, 3)]);
    assert_eq!(found(&index, &"/".repeat(65_535)), [(1, 0), (1, 3)]);
}

/// The group is not the index's affair: only the filter inside is.
#[test]
fn a_shared_filter_is_refused() {
    let mut index = SubscriptionIndex::new(1);
    let shared = filter("$share/g/a/+");

    assert_eq!(index.insert(shared, 1, 1), Err(IndexError::Shared));
    assert_eq!(index.insert(shared.unshared(), 1, 1), Ok(None));
    assert_eq!(index.remove(shared, 1), None);
    assert_eq!(found(&index, "a/b"), [(1, 1)]);
}

#[test]
fn the_generation_moves_with_every_change_and_only_then() {
    let mut index = SubscriptionIndex::new(1);
    let mut last = index.generation();
    let mut moved = |index: &SubscriptionIndex<u32, u8>| core::mem::replace(&mut last, index.generation()) != last;

    index.insert(filter("a"), 1, 1).unwrap();
    assert!(moved(&index));
    index.insert(filter("a"), 1, 2).unwrap();
    assert!(moved(&index));
    index.remove(filter("a"), 2);
    index.remove(filter("b"), 1);
    index.insert(filter("$share/g/a"), 1, 2).unwrap_err();
    assert!(!moved(&index));
    index.remove(filter("a"), 1);
    assert!(moved(&index));
}

#[test]
fn many_subscribers_of_one_filter_come_in_the_order_of_their_keys() {
    for text in ["a/b", "a/+", "a/#"] {
        let mut index = SubscriptionIndex::new(1);
        // 7 and 2,003 have no common factor: every key once, in a scattered order.
        let keys: Vec<u32> = (0..2_003).map(|step| step * 7 % 2_003).collect();
        for &key in &keys {
            assert_eq!(index.insert(filter(text), key, u8::try_from(key % 256).unwrap()), Ok(None));
        }
        let all: Vec<(u32, u8)> = (0..2_003).map(|key| (key, u8::try_from(key % 256).unwrap())).collect();
        assert_eq!(found(&index, "a/b"), all);
        let full = index.heap_bytes();

        for &key in keys.iter().rev().take(1_990) {
            assert_eq!(index.remove(filter(text), key), Some(u8::try_from(key % 256).unwrap()));
        }
        let left: Vec<(u32, u8)> = (0..13).map(|step| step * 7).map(|key| (key, u8::try_from(key).unwrap())).collect();
        assert_eq!(found(&index, "a/b"), left);
        assert!(index.heap_bytes() * 10 < full, "{} of {full} bytes are still held", index.heap_bytes());
        for (key, _) in left {
            index.remove(filter(text), key);
        }
        assert_eq!(index.heap_bytes(), 0);
    }
}

/// A run of keys goes first, then the others: each is found, and can come back.
#[test]
fn subscribers_of_one_filter_can_leave_in_any_runs() {
    const KEYS: u32 = 5_000;
    let filter = filter("a/+");
    for run in [0..256, 768..1_280, 2_304..2_816, 2_400..4_000, 4_700..KEYS] {
        let mut index = SubscriptionIndex::new(1);
        for key in 0..KEYS {
            assert_eq!(index.insert(filter, key, 1_u8), Ok(None));
        }
        for key in run.clone() {
            assert_eq!(index.remove(filter, key), Some(1), "{key} of {run:?}");
        }
        for key in (0..KEYS).filter(|key| !run.contains(key)) {
            assert_eq!(index.insert(filter, key, 2), Ok(Some(1)), "{key} after {run:?}");
        }
        for key in (0..KEYS).filter(|key| !run.contains(key)) {
            assert_eq!(index.remove(filter, key), Some(2), "{key} after {run:?}");
        }
        assert_eq!(index.heap_bytes(), 0);
    }
}

/// Two subscribers each, then one: the lists are not needed any more, nor is their memory.
#[test]
fn memory_follows_the_subscriptions_down() {
    let mut index = SubscriptionIndex::new(1);
    let text = |id: u32| if id % 3 == 0 { format!("site/{id}/+/state") } else { format!("site/{id}/lamp/state") };
    for id in 0..3_000 {
        index.insert(filter(&text(id)), 1, 1).unwrap();
        index.insert(filter(&text(id)), 2, 2).unwrap();
    }
    let full = index.heap_bytes();
    assert!(full <= 3_000 * 200, "{} bytes for a filter", full / 3_000);

    for id in 0..3_000 {
        assert_eq!(index.remove(filter(&text(id)), 1), Some(1));
    }
    let half = index.heap_bytes();
    assert!(half <= 3_000 * 140, "{} bytes for a filter", half / 3_000);
    for id in 100..3_000 {
        assert_eq!(index.remove(filter(&text(id)), 2), Some(2));
    }
    assert!(index.heap_bytes() <= full / 10, "{} of {full} bytes are still held", index.heap_bytes());

    for id in 0..3_000 {
        let expected: &[(u32, u8)] = if id < 100 { &[(2, 2)] } else { &[] };
        assert_eq!(found(&index, &format!("site/{id}/lamp/state")), expected);
    }
}

/// Levels up to eight bytes are compared as words, longer ones as texts, and a text ends anywhere in its last word.
#[test]
fn levels_of_every_length_are_told_apart() {
    let mut index = SubscriptionIndex::new(1);
    let level = |len: usize| "x".repeat(len);
    for len in 0..40_u8 {
        index.insert(filter(&format!("{}/+/{0}", level(len.into()))), 1, len).unwrap();
    }

    for len in 0..40_u8 {
        let level = level(len.into());
        assert_eq!(found(&index, &format!("{level}/abc/{level}")), [(1, len)]);
        assert_eq!(found(&index, &format!("{level}/abc/{level}y")), []);
        assert_eq!(found(&index, &format!("{level}/abc/{level}/")), []);
        assert_eq!(found(&index, &format!("{level}/abc")), []);
    }
    for len in 0..40_u8 {
        assert_eq!(index.remove(filter(&format!("{}/+/{0}", level(len.into()))), 1), Some(len));
    }
    assert_eq!(index.heap_bytes(), 0);
}

#[test]
fn a_budget_bounds_what_one_call_finds() {
    let mut index = SubscriptionIndex::new(1);
    for key in 0..1_200 {
        for (value, text) in (0..).zip(["a/b", "#", "+/b", "+/+"]) {
            index.insert(filter(text), key, value).unwrap();
        }
    }
    let mut cursor = MatchCursor::new();
    let mut parts = Vec::new();
    let mut calls = 0;

    while !index.query(name("a/b"), &mut cursor, 7, &mut parts) {
        calls += 1;
        assert!(parts.len() <= calls * 7);
        assert!(!cursor.is_done());
    }

    assert!(cursor.is_done());
    assert_eq!(parts, found(&index, "a/b"));
    assert_eq!(parts.len(), 4_800);
}

#[test]
fn a_match_within_a_budget_gives_up_before_it_has_passed_every_node() {
    let mut index = SubscriptionIndex::new(1);
    for bits in 0..1_u32 << 10 {
        let level = |at: u32| if bits & (1 << at) == 0 { "a" } else { "+" };
        let text: Vec<_> = (0..10).map(level).collect();
        index.insert(filter(&text.join("/")), bits, ()).unwrap();
    }
    let deep = ["a"; 10].join("/");
    // Eleven nodes at first; where '+' waits at depth n, up to eleven less n begin, at 2^(n-1) places. The filter without
    // '+' is not among them.
    let all = 10 + (1..=10).map(|depth| (1 << (depth - 1)) * (11 - depth)).sum::<usize>();
    let mut out = Vec::new();
    assert_eq!(index.matches_within(name(&deep), all, &mut out), Some(0));
    assert_eq!(out.len(), 1 << 10);
    out.clear();
    assert_eq!(index.matches_within(name(&deep), all - 1, &mut out), None);
    out.clear();
    assert_eq!(index.matches_within(name(&deep), 100, &mut out), None);
    assert!(out.len() <= 100, "{}", out.len());
}

#[test]
fn a_budget_bounds_the_nodes_that_one_call_enters() {
    let mut index = SubscriptionIndex::new(1);
    let levels = vec!["a"; 20];
    index.insert(filter(&(levels[1..].join("/") + "/+")), 1, 1).unwrap();
    for (budget, least, most) in [(0, 10, 21), (1, 10, 21), (5, 3, 6), (20, 1, 2), (100, 1, 1)] {
        let (mut cursor, mut out, mut calls) = (MatchCursor::new(), Vec::new(), 1);
        while !index.query(name(&levels.join("/")), &mut cursor, budget, &mut out) {
            calls += 1;
        }
        assert_eq!(out, [(1, 1)]);
        assert!((least..=most).contains(&calls), "{calls} calls with a budget of {budget}");
    }
}

/// The cursor stands in what is removed: '+' beside it comes next.
#[test]
fn a_cursor_whose_subtree_is_gone_goes_on_beside_it() {
    let mut index = SubscriptionIndex::new(1);
    for key in 0..3_u32 {
        index.insert(filter("a/b/#"), key, ()).unwrap();
    }
    index.insert(filter("a/+/#"), 7, ()).unwrap();
    index.insert(filter("+/b/c"), 8, ()).unwrap();
    let (mut cursor, mut out) = (MatchCursor::new(), Vec::new());
    while out.is_empty() {
        assert!(!index.query(name("a/b/c"), &mut cursor, 1, &mut out));
    }
    for key in 0..3 {
        index.remove(filter("a/b/#"), key).unwrap();
    }
    while !index.query(name("a/b/c"), &mut cursor, 1, &mut out) {}

    assert_eq!(out, [(0, ()), (7, ()), (8, ())]);
}

/// One '+' below the other, on two ways: each is found once.
#[test]
fn a_cursor_takes_each_plus_of_each_way_once() {
    let mut index = SubscriptionIndex::new(1);
    for (key, text) in (0_u32..).zip(["a/+", "+/+", "a/+/+", "+/+/+"]) {
        index.insert(filter(text), key, ()).unwrap();
    }
    for (text, expected) in [("a/b", [0, 1]), ("a/b/c", [2, 3])] {
        for budget in 1..5 {
            let (mut cursor, mut out) = (MatchCursor::new(), Vec::new());
            while !index.query(name(text), &mut cursor, budget, &mut out) {}
            assert_eq!(out, expected.map(|key| (key, ())), "{text} {budget}");
        }
    }
}

#[test]
fn a_cursor_over_an_empty_index_is_done_at_once() {
    let index: SubscriptionIndex<u32, u8> = SubscriptionIndex::new(1);
    let mut cursor = MatchCursor::default();

    assert!(index.query(name("a"), &mut cursor, 0, &mut Vec::new()));
    assert!(cursor.is_done());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, u32, u8),
    Remove(usize, u32),
    Ask(String),
}

fn texts(levels: &'static [&'static str], max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(levels), 1..=max).prop_map(|levels| levels.join("/"))
}

fn steps() -> impl Strategy<Value = (Vec<String>, Vec<Step>)> {
    let filters = prop::collection::vec(texts(&["", "a", "a long level", "b", "$a", "+", "+", "#"], 5), 1..20)
        .prop_map(|texts| {
            texts.into_iter().filter(|text| oracle::is_filter(text.as_bytes())).chain(["+/a".to_owned()]).collect()
        });
    let step = prop_oneof![
        3 => (any::<usize>(), 0..6_u32, any::<u8>()).prop_map(|(at, key, value)| Step::Insert(at, key, value)),
        2 => (any::<usize>(), 0..6_u32).prop_map(|(at, key)| Step::Remove(at, key)),
        2 => texts(&["", "a", "a long level", "a long levem", "b", "$a"], 5).prop_map(Step::Ask),
    ];
    (filters, prop::collection::vec(step, 1..120))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// [MQTT-4.7.3-4] [MQTT3-4.7.3-4]
    #[test]
    fn an_index_agrees_with_a_list_of_filters((filters, steps) in steps(), seed in any::<u64>()) {
        let mut index = SubscriptionIndex::new(seed);
        let mut model: BTreeMap<(String, u32), u8> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(at, key, value) => {
                    let text = &filters[at % filters.len()];
                    prop_assert_eq!(index.insert(filter(text), key, value), Ok(model.insert((text.clone(), key), value)));
                }
                Step::Remove(at, key) => {
                    let text = &filters[at % filters.len()];
                    prop_assert_eq!(index.remove(filter(text), key), model.remove(&(text.clone(), key)));
                }
                Step::Ask(text) if oracle::is_name(text.as_bytes()) => {
                    let mut matches = found(&index, &text);
                    let mut called = Vec::new();
                    index.for_each_match(name(&text), |key, value| called.push((key, value)));
                    prop_assert_eq!(&matches, &called);
                    let (mut cursor, mut parts) = (MatchCursor::new(), Vec::new());
                    while !index.query(name(&text), &mut cursor, 2, &mut parts) {}
                    prop_assert_eq!(&matches, &parts);
                    for budget in [0, 5, 20, 1_000] {
                        let mut within = Vec::new();
                        match index.matches_within(name(&text), budget, &mut within) {
                            Some(_) => prop_assert_eq!(&matches, &within),
                            None => prop_assert!(budget < 1_000 && matches.starts_with(&within)),
                        }
                    }
                    prop_assert_eq!(index.contains_match(name(&text)), !matches.is_empty());
                    let mut expected: Vec<(u32, u8)> = model
                        .iter()
                        .filter(|((filter, _), _)| oracle::matches(filter, &text))
                        .map(|((_, key), value)| (*key, *value))
                        .collect();
                    matches.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(matches, expected);
                }
                Step::Ask(_) => {}
            }
            prop_assert_eq!(index.len(), model.len());
        }
        for ((text, key), value) in model {
            prop_assert_eq!(index.get(filter(&text), key), Some(value));
            prop_assert_eq!(index.remove(filter(&text), key), Some(value));
        }
        prop_assert_eq!(index.heap_bytes(), 0);
    }

    /// A query in small parts while the index changes between them.
    #[test]
    fn a_cursor_finds_each_lasting_subscription_once(
        (filters, steps) in steps(),
        before in prop::collection::vec((any::<usize>(), 0..6_u32), 0..60),
        topic in texts(&["", "a", "a long level", "b", "$a"], 4),
        budgets in prop::collection::vec(0..4_usize, 1..20),
    ) {
        prop_assume!(oracle::is_name(topic.as_bytes()));
        let mut index = SubscriptionIndex::new(1);
        let mut lasting = BTreeSet::new();
        for (at, key) in before {
            // The value says which filter it was.
            let at = at % filters.len();
            index.insert(filter(&filters[at]), key, at).unwrap();
            lasting.insert((filters[at].clone(), key));
        }
        let mut cursor = MatchCursor::new();
        let mut parts = Vec::new();
        let mut budgets = budgets.into_iter().cycle();
        for step in steps {
            match step {
                Step::Insert(at, key, _) => {
                    let at = at % filters.len();
                    index.insert(filter(&filters[at]), key, at).unwrap();
                }
                Step::Remove(at, key) => {
                    let at = at % filters.len();
                    index.remove(filter(&filters[at]), key);
                    lasting.remove(&(filters[at].clone(), key));
                }
                Step::Ask(_) => {
                    index.query(name(&topic), &mut cursor, budgets.next().unwrap_or(1), &mut parts);
                }
            }
        }
        index.query(name(&topic), &mut cursor, usize::MAX, &mut parts);

        prop_assert!(cursor.is_done());
        let distinct: BTreeSet<(String, u32)> = parts.iter().map(|&(key, at)| (filters[at].clone(), key)).collect();
        prop_assert_eq!(distinct.len(), parts.len(), "nothing is found twice");
        prop_assert!(distinct.iter().all(|(filter, _)| oracle::matches(filter, &topic)));
        for subscription in lasting.iter().filter(|(filter, _)| oracle::matches(filter, &topic)) {
            prop_assert!(distinct.contains(subscription), "{:?} is missing", subscription);
        }
    }
}

/// A broker is moved to the thread that serves it.
#[test]
fn the_indexes_can_be_sent_and_shared() {
    fn assert_send_sync<T: Send + Sync>() {}

    assert_send_sync::<SubscriptionIndex<u32, u8>>();
    assert_send_sync::<MatchCursor<u32>>();
    assert_send_sync::<damselfly_topic::TopicMap<u8>>();
    assert_send_sync::<damselfly_topic::TopicCursor>();
}
