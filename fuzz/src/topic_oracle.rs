//! Topic Names and Topic Filters against the naive matcher of the topic crate's tests.

use damselfly_topic::{TopicFilter, TopicName};

use crate::{oracle, topic_tables};

/// More would make one run slow and find nothing that fewer do not.
const MOST_TEXTS: usize = 20;

/// The first byte of `data` is a budget, the rest a list of texts, with FF between them: each is tried as a name and as a
/// filter, then all with each other, then all in the two indexes.
pub fn run(data: &[u8]) {
    let Some((budget, rest)) = data.split_first() else { return };
    let mut names = Vec::new();
    let mut filters = Vec::new();
    for text in rest.split(|byte| *byte == 0xFF).take(MOST_TEXTS) {
        let name = TopicName::from_bytes(text);
        assert_eq!(name.is_ok(), oracle::is_name(text), "{text:02X?} as a name: {name:?}");
        let filter = TopicFilter::from_bytes(text);
        assert_eq!(filter.is_ok(), oracle::is_filter(text), "{text:02X?} as a filter: {filter:?}");
        let plain = TopicFilter::plain_from_bytes(text);
        assert_eq!(plain.is_ok(), oracle::is_plain_filter(text), "{text:02X?} as a plain filter: {plain:?}");
        names.extend(name);
        // One that is no Shared Subscription's although it begins like that matches as it stands.
        filters.extend(filter.or(plain));
    }
    check_pairs(&filters, &names);
    filters.retain(|filter| filter.shared().is_none());
    let budget = usize::from(*budget % 8);
    topic_tables::check_index(&filters, &names, budget);
    topic_tables::check_map(&filters, &names, budget);
}

/// Of a Shared Subscription's filter the text behind the ShareName counts, whatever it looks like.
fn matches(filter: TopicFilter<'_>, name: TopicName<'_>) -> bool {
    let text = match filter.shared() {
        Some(_) => filter.as_str().splitn(3, '/').last().unwrap_or_default(),
        None => filter.as_str(),
    };
    oracle::matches(text, name.as_str())
}

fn check_pairs(filters: &[TopicFilter<'_>], names: &[TopicName<'_>]) {
    let matched_by = |filter: &TopicFilter<'_>| names.iter().map(|name| matches(*filter, *name)).collect();
    let matched: Vec<Vec<bool>> = filters.iter().map(matched_by).collect();
    for (filter, matched_names) in filters.iter().zip(&matched) {
        for (name, is_matched) in names.iter().zip(matched_names) {
            assert_eq!(filter.matches(*name), *is_matched, "{filter:?} and {name:?}");
        }
        assert!(filter.covers(*filter) && filter.overlaps(*filter), "{filter:?} and itself");
        for (other, matched_by_other) in filters.iter().zip(&matched) {
            let (covers, overlaps) = (filter.covers(*other), filter.overlaps(*other));
            let both = || matched_names.iter().zip(matched_by_other);
            assert!(!covers || both().all(|(ours, theirs)| *ours || !theirs), "{filter:?} does not cover {other:?}");
            assert!(overlaps || both().all(|(ours, theirs)| !(*ours && *theirs)), "{filter:?} overlaps {other:?}");
            assert!(!covers || overlaps, "{filter:?} covers {other:?}");
            assert_eq!(other.overlaps(*filter), overlaps, "{filter:?} and {other:?}");
        }
    }
}
