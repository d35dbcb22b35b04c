//! Sets of Packet Identifiers: what they say about themselves, and what they cost.

use core::num::NonZeroU16;

use damselfly_codec::PacketId;
use damselfly_session::{PacketIds, ReceivedIds};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("tests use no zero")
}

fn in_use(values: &[u16]) -> PacketIds {
    let mut ids = PacketIds::default();
    assert!(values.iter().all(|value| ids.reserve(id(*value))));
    ids
}

fn waiting(limit: u16, values: &[u16]) -> ReceivedIds {
    let mut ids = ReceivedIds::new(NonZeroU16::new(limit).expect("tests use no zero"));
    assert!(values.iter().all(|value| ids.restore(id(*value))));
    ids
}

#[test]
fn sets_are_equal_if_their_members_are() {
    let ids = in_use(&[1, 300]);
    assert_eq!(ids, in_use(&[300, 1]));
    for other in [&[][..], &[1], &[1, 301], &[300], &[1, 300, 301]] {
        assert_ne!(ids, in_use(other), "{other:?}");
    }
    let mut elsewhere = ids.clone();
    let given = elsewhere.allocate().expect("one is free");
    assert_ne!(ids, elsewhere);
    assert!(elsewhere.release(given));
    assert_eq!(ids, elsewhere, "where the search goes on is no part of it");
}

#[test]
fn received_identifiers_are_equal_under_the_same_limit_only() {
    let ids = waiting(3, &[1, 300]);
    assert_eq!(ids, waiting(3, &[300, 1]));
    assert_ne!(ids, waiting(4, &[1, 300]));
    assert_ne!(ids, waiting(3, &[1, 301]));
    assert_ne!(ids, waiting(3, &[1]));
    assert_eq!(ReceivedIds::default(), waiting(65_535, &[]));
}

#[test]
fn limit_can_be_changed_and_nothing_is_forgotten() {
    let mut ids = waiting(3, &[1, 2, 3]);
    assert_eq!(ids.limit().get(), 3);
    ids.set_limit(NonZeroU16::MIN);
    assert_eq!((ids.limit().get(), ids.len()), (1, 3));
    assert!([1, 2, 3].map(id).iter().all(|id| ids.contains(*id)) && !ids.contains(id(4)));
    assert!(!ids.is_empty());
    ids.clear();
    assert_eq!((ids.limit().get(), ids.len()), (1, 0), "the limit stays");
    assert!(ids.is_empty());
}

#[test]
fn each_block_beyond_two_costs_24_bytes() {
    let firsts: Vec<u16> = (0..6).map(|block| 128 * block + 1).collect();
    for (blocks, bytes) in [(0, 0), (2, 0), (6, 4 * 24)] {
        assert_eq!(in_use(&firsts[..blocks]).heap_bytes(), bytes, "{blocks}");
        assert_eq!(waiting(100, &firsts[..blocks]).heap_bytes(), bytes, "{blocks}");
    }
}

#[test]
fn emptiness_and_exhaustion_are_the_ends_of_one_scale() {
    let mut ids = PacketIds::new();
    assert!(ids.is_empty() && !ids.is_exhausted());
    for count in 1..=u16::MAX {
        assert!(!ids.is_exhausted());
        assert_eq!(ids.allocate(), Some(id(count)));
        assert!(!ids.is_empty());
    }
    assert!(ids.is_exhausted());
}
