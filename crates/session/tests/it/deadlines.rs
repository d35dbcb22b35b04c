//! What a queue of deadlines keeps, and when it gives memory back.

use damselfly_session::{Deadlines, Timestamp};

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

/// Bytes of one entry of the queue, for keys of eight bytes.
const ENTRY: usize = 16;

/// Places for entries: what is held beside the keys, which count 36 bytes each.
fn places(deadlines: &Deadlines<u64>) -> usize {
    let entries = deadlines.heap_bytes() - deadlines.len() * 36;
    assert_eq!(entries % ENTRY, 0);
    entries / ENTRY
}

fn armed(keys: u64) -> Deadlines<u64> {
    let mut deadlines = Deadlines::new();
    (0..keys).for_each(|key| deadlines.arm(key, at(key)));
    deadlines
}

#[test]
fn memory_is_that_of_the_entries_and_that_of_the_keys() {
    let mut deadlines = Deadlines::new();
    assert!(deadlines.is_empty());
    assert_eq!(deadlines.heap_bytes(), 0);
    for key in 0..64_u64 {
        deadlines.arm(key, at(key));
        assert!(!deadlines.is_empty());
    }
    // A power of two fills the queue, which doubles; a key, two times and half as much again for the tree.
    assert_eq!(deadlines.heap_bytes(), 64 * ENTRY + 64 * (8 + 2 * 8) * 3 / 2);
}

#[test]
fn entries_without_meaning_are_kept_until_they_outnumber_the_keys_by_64() {
    let mut deadlines = Deadlines::new();
    // Each time is earlier, so each leaves an entry behind: one key and 65 more entries are just allowed.
    for second in (0..66).rev() {
        deadlines.arm(7, at(1_000 + second));
    }
    assert!(places(&deadlines) >= 66);
    deadlines.arm(7, at(999));
    assert_eq!(places(&deadlines), 1);
    assert_eq!((deadlines.pop_due(at(998)), deadlines.pop_due(at(999))), (None, Some(7)));
}

#[test]
fn entries_of_disarmed_keys_go_too() {
    for keys in [100, 101] {
        let mut deadlines = armed(keys);
        for key in 0..keys {
            assert!(deadlines.disarm(key));
        }
        assert!(deadlines.is_empty());
        assert!(places(&deadlines) <= 64, "{} places for nothing", places(&deadlines));
    }
}

#[test]
fn entry_of_an_earlier_arming_leaves_when_its_time_has_come() {
    let mut deadlines = Deadlines::new();
    for second in 0..63 {
        deadlines.arm(0, at(second));
        deadlines.disarm(0);
    }
    deadlines.arm(0, at(1_000));
    assert_eq!(deadlines.pop_due(at(100)), None);
    for key in 1..64 {
        deadlines.arm(key, at(1_000));
    }
    assert_eq!(places(&deadlines), 64, "one for each key");
}

#[test]
fn queue_shrinks_when_less_than_a_quarter_of_it_is_used() {
    let mut deadlines = armed(256);
    let mut take = |count| {
        (0..count).for_each(|_| assert!(deadlines.pop_due(at(1_000)).is_some()));
        places(&deadlines)
    };
    assert_eq!(take(256 - 32), 256, "32 keys are enough to keep it, with the slack of 128");
    assert_eq!(take(1), 2 * 31 + 64, "31 are not");
    assert_eq!(take(30), 2 * 31 + 64, "small enough already");
}
