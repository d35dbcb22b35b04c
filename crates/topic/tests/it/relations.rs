//! Names against filters and filters against each other.

use damselfly_topic::{TopicFilter, TopicName};
use proptest::prelude::*;

use crate::oracle;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::new(text).unwrap()
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::new(text).unwrap()
}

/// The examples of section 4.7 and their neighbours.
#[test]
fn matching_follows_the_examples_of_the_standard() {
    for (text, yes, no) in [
        (
            "sport/tennis/player1/#",
            &["sport/tennis/player1", "sport/tennis/player1/ranking"][..],
            &["sport/tennis"][..],
        ),
        ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "/sport"]),
        ("#", &["a", "/", "a/b/c"], &["$SYS", "$a/b"]),
        ("sport/tennis/+", &["sport/tennis/p1", "sport/tennis/"], &["sport/tennis", "sport/tennis/p1/ranking"]),
        ("sport/+", &["sport/"], &["sport"]),
        ("+/+", &["/finance", "/"], &["finance", "a/b/c"]),
        ("/+", &["/finance"], &["finance"]),
        ("+", &["finance"], &["/finance"]),
        ("+/tennis/#", &["a/tennis", "/tennis/x"], &["tennis"]),
        ("+/#", &["a", "a/b", "/"], &["$a", "$a/b"]),
    ] {
        for &other in yes {
            assert!(filter(text).matches(name(other)), "{text} matches {other}");
        }
        for &other in no {
            assert!(!filter(text).matches(name(other)), "{text} does not match {other}");
        }
    }
}

/// [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
#[test]
fn a_leading_wildcard_never_matches_a_leading_dollar() {
    for text in ["#", "+", "+/x", "+/#", "+/monitor/Clients"] {
        for other in ["$", "$SYS", "$SYS/x", "$SYS/monitor/Clients"] {
            assert!(!filter(text).matches(name(other)), "{text} {other}");
        }
    }
    assert!(filter("$SYS/#").matches(name("$SYS/x")));
    assert!(filter("$SYS/monitor/+").matches(name("$SYS/monitor/Clients")));
    assert!(filter("a/+").matches(name("a/$x")));
}

/// A Shared Subscription is about the messages of the filter inside, for access rules too.
#[test]
fn the_filter_inside_a_shared_one_counts() {
    let shared = filter("$share/g/secret/+");

    assert!(shared.matches(name("secret/x")));
    assert!(!shared.matches(name("$share/g/secret/x")));
    assert!(filter("secret/#").covers(shared));
    assert!(shared.overlaps(filter("+/x")));
    assert!(!filter("#").matches(name("$share/g/secret/x")));
}

/// All texts of one to three levels over a small alphabet of levels.
fn enumerate(levels: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for a in levels {
        all.push((*a).to_owned());
        for b in levels {
            all.push(format!("{a}/{b}"));
            for c in levels {
                all.push(format!("{a}/{b}/{c}"));
            }
        }
    }
    all
}

/// The alphabet of names has a level that no filter spells out, and names go one level deeper than filters.
#[test]
fn relations_agree_with_an_enumeration_of_names() {
    let filters = enumerate(&["", "a", "$b", "+", "#"]);
    let filters: Vec<&str> =
        filters.iter().map(String::as_str).filter(|text| oracle::is_filter(text.as_bytes())).collect();
    let mut names = enumerate(&["", "a", "$b", "$c", "z"]);
    names.extend(names.clone().iter().map(|text| format!("{text}/z")));
    names.retain(|text| oracle::is_name(text.as_bytes()));
    names.sort();
    names.dedup();
    let matched: Vec<Vec<bool>> =
        filters.iter().map(|filter| names.iter().map(|name| oracle::matches(filter, name)).collect()).collect();

    for (a, a_matches) in filters.iter().zip(&matched) {
        for (text, &expected) in names.iter().zip(a_matches) {
            assert_eq!(filter(a).matches(name(text)), expected, "{a} matches {text}");
        }
        for (b, b_matches) in filters.iter().zip(&matched) {
            let covers = a_matches.iter().zip(b_matches).all(|(a, b)| *a || !b);
            let overlaps = a_matches.iter().zip(b_matches).any(|(a, b)| *a && *b);
            assert_eq!(filter(a).covers(filter(b)), covers, "{a} covers {b}");
            assert_eq!(filter(a).overlaps(filter(b)), overlaps, "{a} overlaps {b}");
        }
    }
}

fn texts(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(levels), 1..6).prop_map(|levels| levels.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn matching_agrees_with_the_oracle(
        filter in texts(&["", "a", "ab", "b", "$a", "+", "+", "#"]),
        name in texts(&["", "a", "ab", "b", "$a"]),
    ) {
        prop_assume!(oracle::is_filter(filter.as_bytes()) && oracle::is_name(name.as_bytes()));
        let expected = oracle::matches(&filter, &name);
        prop_assert_eq!(TopicFilter::new(&filter).unwrap().matches(TopicName::new(&name).unwrap()), expected);
    }
}

#[test]
fn the_longest_texts_are_matched_without_recursion() {
    let slashes = "/".repeat(65_535);
    let plus = "+/".repeat(32_767) + "+";

    assert!(filter(&slashes).matches(name(&slashes)));
    assert!(filter("+/#").matches(name(&slashes)));
    assert!(!filter(&plus).matches(name(&slashes)));
    assert!(filter(&plus).matches(name(&slashes[..32_767])));
    assert!(filter("#").covers(filter(&plus)));
    assert!(filter(&plus).overlaps(filter(&plus)));
}
