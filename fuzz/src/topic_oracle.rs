//! Topic Names and Topic Filters against the naive matcher of the topic crate's tests.

use damselfly_topic::{TopicFilter, TopicName};

use crate::oracle;

/// More would make one run slow and find nothing that fewer do not.
const MOST_TEXTS: usize = 12;

/// `data` is a list of texts, with FF between them: each is tried as a name and as a filter, then all with each other.
pub fn run(data: &[u8]) {
    let texts: Vec<&[u8]> = data.split(|byte| *byte == 0xFF).take(MOST_TEXTS).collect();
    let mut names = Vec::new();
    let mut filters = Vec::new();
    for text in texts {
        let name = TopicName::from_bytes(text);
        assert_eq!(name.is_ok(), oracle::is_name(text), "{text:02X?} as a name: {name:?}");
        let filter = TopicFilter::from_bytes(text);
        assert_eq!(filter.is_ok(), oracle::is_filter(text), "{text:02X?} as a filter: {filter:?}");
        let plain = TopicFilter::plain_from_bytes(text);
        assert_eq!(plain.is_ok(), oracle::is_plain_filter(text), "{text:02X?} as a plain filter: {plain:?}");
        names.extend(name);
        filters.extend(filter.map(TopicFilter::unshared));
    }
    check_pairs(&filters, &names);
}

fn check_pairs(filters: &[TopicFilter<'_>], names: &[TopicName<'_>]) {
    for filter in filters {
        let matched: Vec<_> = names.iter().filter(|name| oracle::matches(filter.as_str(), name.as_str())).collect();
        for name in names {
            assert_eq!(filter.matches(*name), matched.contains(&name), "{filter:?} and {name:?}");
        }
        assert!(filter.covers(*filter) && filter.overlaps(*filter), "{filter:?} and itself");
        for other in filters {
            assert_eq!(filter.overlaps(*other), other.overlaps(*filter), "{filter:?} and {other:?}");
            let shared: Vec<_> = names.iter().filter(|name| oracle::matches(other.as_str(), name.as_str())).collect();
            if filter.covers(*other) {
                assert!(shared.iter().all(|name| matched.contains(name)), "{filter:?} does not cover {other:?}");
                assert!(filter.overlaps(*other), "{filter:?} covers {other:?}");
            }
            if shared.iter().any(|name| matched.contains(name)) {
                assert!(filter.overlaps(*other), "{filter:?} overlaps {other:?}");
            }
        }
    }
}
