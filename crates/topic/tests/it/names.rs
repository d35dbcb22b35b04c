//! What names and filters say about themselves.

use damselfly_topic::{TopicFilter, TopicName};

/// Levels can be empty; '/a', 'a' and 'a/' are three names. [MQTT-4.7.3-4] [MQTT3-4.7.3-4]
#[test]
fn names_are_taken_by_the_letter() {
    let name = |text| TopicName::new(text).unwrap();

    assert!(name("/a/").levels().eq(["", "a", ""]));
    assert!(name("/a/").levels().rev().eq(["", "a", ""]));
    assert_eq!(name("/").level_count(), 2);
    assert_ne!(name("a"), name("a/"));
    assert_ne!(name("a"), name("A"));
    for (filter, other) in [("a", "A"), ("a", "/a"), ("a", "a/"), ("a b", "a  b"), ("\u{e9}", "e\u{301}"), ("*", "a")] {
        assert!(!TopicFilter::new(filter).unwrap().matches(name(other)), "{filter} {other}");
    }
}

#[test]
fn a_dollar_counts_at_the_front_only() {
    assert!(TopicName::new("$SYS/x").unwrap().is_system());
    assert!(!TopicName::new("a/$SYS").unwrap().is_system());
    assert!(TopicFilter::new("$SYS/#").unwrap().is_system());
    assert!(!TopicFilter::new("+/$SYS").unwrap().is_system());
}

#[test]
fn wildcards_are_seen_anywhere() {
    assert!(TopicFilter::new("a/+/b").unwrap().has_wildcards());
    assert!(TopicFilter::new("a/#").unwrap().has_wildcards());
    assert!(!TopicFilter::new("a/b").unwrap().has_wildcards());
}
