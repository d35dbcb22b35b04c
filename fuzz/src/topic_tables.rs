//! The two indexes against a list that is asked entry by entry.

use damselfly_topic::{MatchCursor, SubscriptionIndex, TopicCursor, TopicFilter, TopicMap, TopicName};

use crate::oracle;

type Index = SubscriptionIndex<u32, u8>;
type Subscriptions<'a> = Vec<(TopicFilter<'a>, u32, u8)>;

/// The index finds what the list has, after insertions, replacements and removals, at once and in small parts.
pub(crate) fn check_index(filters: &[TopicFilter<'_>], names: &[TopicName<'_>], budget: usize) {
    let mut index = Index::new(7).with_max_levels(20);
    let mut list = Subscriptions::new();
    for (filter, at) in filters.iter().zip(0_u8..) {
        let key = u32::from(at % 3);
        let old = list.iter().position(|(known, owner, _)| known == filter && *owner == key);
        if let Ok(replaced) = index.insert(*filter, key, at) {
            assert_eq!(replaced, old.map(|at| list.swap_remove(at).2), "{filter:?} inserted again");
            list.push((*filter, key, at));
        }
    }
    check_lookups(&index, &list, names, budget);
    remove_half_while_asking(&mut index, &mut list, names, budget);
    check_lookups(&index, &list, names, budget);
    for (filter, key, value) in list.drain(..) {
        assert_eq!(index.remove(filter, key), Some(value), "{filter:?} removed");
        assert_eq!(index.remove(filter, key), None, "{filter:?} removed again");
    }
    assert!(index.is_empty());
    check_lookups(&index, &list, names, budget);
}

fn wanted(list: &Subscriptions<'_>, name: TopicName<'_>) -> Vec<(u32, u8)> {
    let matching = list.iter().filter(|(filter, ..)| oracle::matches(filter.as_str(), name.as_str()));
    let mut wanted: Vec<_> = matching.map(|(_, key, value)| (*key, *value)).collect();
    wanted.sort_unstable();
    wanted
}

fn check_lookups(index: &Index, list: &Subscriptions<'_>, names: &[TopicName<'_>], budget: usize) {
    assert_eq!(index.len(), list.len());
    for (filter, key, value) in list {
        assert_eq!(index.get(*filter, *key), Some(*value), "{filter:?}");
    }
    for name in names {
        let wanted = wanted(list, *name);
        let mut found = Vec::new();
        index.matches(*name, &mut found);
        let (mut cursor, mut in_parts) = (MatchCursor::new(), Vec::new());
        while !index.query(*name, &mut cursor, budget, &mut in_parts) {}
        assert_eq!(in_parts, found, "{name:?} in parts of {budget}");
        found.sort_unstable();
        assert_eq!(found, wanted, "{name:?}");
        assert_eq!(index.contains_match(*name), !wanted.is_empty(), "{name:?}");
    }
}

/// A subscription that stays is found once by a query that was begun before the others went.
fn remove_half_while_asking(index: &mut Index, list: &mut Subscriptions<'_>, names: &[TopicName<'_>], budget: usize) {
    let Some(name) = names.first() else { return };
    let before = wanted(list, *name);
    let (mut cursor, mut found) = (MatchCursor::new(), Vec::new());
    let mut is_done = index.query(*name, &mut cursor, budget, &mut found);
    for at in (0..list.len()).rev().step_by(2) {
        let (filter, key, value) = list.swap_remove(at);
        assert_eq!(index.remove(filter, key), Some(value), "{filter:?} removed");
        is_done = is_done || index.query(*name, &mut cursor, budget, &mut found);
    }
    while !is_done {
        is_done = index.query(*name, &mut cursor, budget, &mut found);
    }
    found.sort_unstable();
    let was_twice = found.windows(2).any(|pair| pair[0] == pair[1]);
    assert!(!was_twice, "{name:?} found something twice: {found:?}");
    assert!(found.iter().all(|entry| before.contains(entry)), "{name:?} found what was not there: {found:?}");
    for stayed in wanted(list, *name) {
        assert!(found.contains(&stayed), "{name:?} missed {stayed:?}");
    }
}

/// The map of names finds what the list has, at once, and in small parts while names come and go.
pub(crate) fn check_map(filters: &[TopicFilter<'_>], names: &[TopicName<'_>], budget: usize) {
    let mut map = TopicMap::new(11);
    let mut list: Vec<(TopicName<'_>, usize)> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let old = list.iter().position(|(known, _)| known == name).map(|at| list.swap_remove(at).1);
        assert_eq!(map.insert(*name, at), Ok(old), "{name:?} inserted");
        list.push((*name, at));
    }
    for filter in filters {
        check_query(&map, &list, *filter, budget);
    }
    if let Some(filter) = filters.first() {
        change_while_asking(&mut map, &mut list, *filter, budget);
        check_query(&map, &list, *filter, budget);
    }
    assert_eq!(map.len(), list.len());
    for (name, value) in list {
        assert_eq!(map.get(name), Some(&value), "{name:?}");
        assert_eq!(map.remove(name), Some(value), "{name:?} removed");
        assert_eq!(map.remove(name), None, "{name:?} removed again");
    }
    assert!(map.is_empty());
}

fn check_query(map: &TopicMap<usize>, list: &[(TopicName<'_>, usize)], filter: TopicFilter<'_>, budget: usize) {
    let matching = list.iter().filter(|(name, _)| oracle::matches(filter.as_str(), name.as_str()));
    let mut wanted: Vec<(&str, usize)> = matching.map(|(name, value)| (name.as_str(), *value)).collect();
    let (mut cursor, mut found) = (TopicCursor::new(), Vec::new());
    while !map.query(filter, &mut cursor, budget, |name, value| found.push((name.as_str().to_owned(), *value))) {}
    wanted.sort_unstable();
    found.sort_unstable();
    let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(found, wanted, "{filter:?} in parts of {budget}");
}

/// A name that stays is visited once, one that goes at most once.
fn change_while_asking(
    map: &mut TopicMap<usize>,
    list: &mut Vec<(TopicName<'_>, usize)>,
    filter: TopicFilter<'_>,
    budget: usize,
) {
    let (mut cursor, mut found) = (TopicCursor::new(), Vec::new());
    let mut ask = |map: &TopicMap<usize>| map.query(filter, &mut cursor, budget, |_, value| found.push(*value));
    let mut is_done = ask(map);
    for at in (0..list.len()).rev().step_by(3) {
        let (name, value) = list.swap_remove(at);
        assert_eq!(map.remove(name), Some(value), "{name:?} removed");
        is_done = is_done || ask(map);
    }
    while !is_done {
        is_done = ask(map);
    }
    found.sort_unstable();
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{filter:?} visited a name twice: {found:?}");
    for (name, value) in list.iter().filter(|(name, _)| oracle::matches(filter.as_str(), name.as_str())) {
        assert!(found.contains(value), "{filter:?} missed {name:?}");
    }
}
