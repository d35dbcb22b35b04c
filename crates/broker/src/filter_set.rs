//! The Topic Filters of one session: most have one or two, some have very many.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use core::mem;

/// From here on a tree: a node of it costs more than this many filters in a list, but finds one among thousands.
const FEW: usize = 8;

/// A set of texts in their order.
#[derive(Debug)]
pub(crate) enum FilterSet {
    /// In order, with no room to spare.
    Few(Vec<Box<str>>),
    Many(BTreeSet<Box<str>>),
}

impl Default for FilterSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl FilterSet {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn contains(&self, filter: &str) -> bool {
        match self {
            Self::Few(list) => find(list, filter).is_ok(),
            Self::Many(tree) => tree.contains(filter),
        }
    }

    pub(crate) fn insert(&mut self, filter: Box<str>) {
        match self {
            Self::Few(list) => {
                let Err(at) = find(list, &filter) else { return };
                if list.len() < FEW {
                    list.reserve_exact(1);
                    list.insert(at, filter);
                } else {
                    let mut tree: BTreeSet<Box<str>> = mem::take(list).into_iter().collect();
                    tree.insert(filter);
                    *self = Self::Many(tree);
                }
            }
            Self::Many(tree) => {
                tree.insert(filter);
            }
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, filter: &str) -> bool {
        match self {
            Self::Few(list) => find(list, filter).map(|at| list.remove(at)).is_ok(),
            Self::Many(tree) => tree.remove(filter),
        }
    }

    pub(crate) fn pop_first(&mut self) -> Option<Box<str>> {
        match self {
            Self::Few(list) if list.is_empty() => None,
            Self::Few(list) => Some(list.remove(0)),
            Self::Many(tree) => tree.pop_first(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let (list, tree) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(tree) => (None, Some(tree)),
        };
        list.into_iter().flatten().chain(tree.into_iter().flatten()).map(|filter| &**filter)
    }
}

fn find(list: &[Box<str>], filter: &str) -> Result<usize, usize> {
    list.binary_search_by(|other| (**other).cmp(filter))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn it_is_a_set_in_order_below_at_and_above_the_border() {
        let mut set = FilterSet::default();
        for n in (0..FEW + 2).rev() {
            set.insert(format!("{n:02}").into());
            set.insert(format!("{n:02}").into());
        }
        assert_eq!(set.len(), FEW + 2);
        assert!(set.iter().eq((0..FEW + 2).map(|n| format!("{n:02}")).collect::<Vec<_>>().iter()));
        assert!(set.contains("08") && !set.contains("8"));
        assert!(set.remove("08") && !set.remove("08"));
        for n in (0..FEW + 2).filter(|n| *n != 8) {
            assert_eq!(set.pop_first().as_deref(), Some(&*format!("{n:02}")));
        }
        assert_eq!(set.pop_first(), None);
        assert!(set.is_empty());
    }

    #[test]
    fn eight_are_a_few_and_nine_are_many() {
        let mut set = FilterSet::default();
        for n in 1..=9 {
            assert!(matches!(set, FilterSet::Few(_)));
            assert!(!set.contains(&format!("{n}")));
            set.insert(format!("{n}").into());
            assert_eq!((set.len(), set.is_empty()), (n, false));
            assert!((1..=n).all(|n| set.contains(&format!("{n}"))));
        }
        assert!(matches!(set, FilterSet::Many(_)));
    }

    #[test]
    fn a_few_take_no_room_to_spare() {
        let mut set = FilterSet::default();
        set.insert("b".into());
        set.insert("a".into());
        let FilterSet::Few(list) = &set else { panic!("a list") };
        assert_eq!(list.capacity(), 2);
        assert!(set.remove("a") && !set.remove("a"));
        assert!(set.contains("b"));
    }
}
