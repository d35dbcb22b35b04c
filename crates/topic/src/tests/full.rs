//! What happens when there are as many ids as there can be.

use alloc::format;

use crate::store::MAX_IDS;
use crate::{IndexError, SubscriptionIndex, TopicFilter};

/// How many filters are taken before the first is refused.
fn taken(text: impl Fn(usize) -> alloc::string::String) -> usize {
    let mut index = SubscriptionIndex::new(1);
    let mut insert = |number: usize| index.insert(TopicFilter::new(&text(number)).unwrap(), 1_u32, ());
    let taken = (0..=MAX_IDS).find(|number| insert(*number) == Err(IndexError::Full)).unwrap();
    assert_eq!((index.len(), index.generation()), (taken, u64::try_from(taken).unwrap()), "as before the last");
    assert_eq!(index.get(TopicFilter::new(&text(taken - 1)).unwrap(), 1), Some(()));
    taken
}

#[test]
fn an_index_takes_as_many_filters_as_it_has_ids_for() {
    assert_eq!(taken(|number| format!("{number}")), MAX_IDS);
    // A root, and two nodes each.
    assert_eq!(taken(|number| format!("{number}/+")), (MAX_IDS - 1) / 2);
    // A node for every two.
    let pairs = |number: usize| format!("+/{}{}", number / 2, if number % 2 == 0 { "" } else { "/#" });
    assert_eq!(taken(pairs), MAX_IDS);
}

#[test]
fn an_index_without_room_for_another_list_stays_as_it_was() {
    let mut index = SubscriptionIndex::new(1);
    for number in 0..MAX_IDS {
        let text = format!("{number}");
        for key in 0..2_u32 {
            index.insert(TopicFilter::new(&text).unwrap(), key, ()).unwrap();
        }
    }
    let filter = TopicFilter::new("a/+").unwrap();
    assert_eq!(index.insert(filter, 0, ()), Ok(None));
    assert_eq!(index.insert(filter, 1, ()), Err(IndexError::Full));
    assert_eq!((index.len(), index.get(filter, 0), index.get(filter, 1)), (2 * MAX_IDS + 1, Some(()), None));

    let first = TopicFilter::new("0").unwrap();
    assert_eq!(index.remove(first, 0), Some(()));
    assert_eq!(index.insert(filter, 1, ()), Ok(None));
}
