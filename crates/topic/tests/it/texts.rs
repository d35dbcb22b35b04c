//! Which texts are Topic Names, Topic Filters and ShareNames, and why others are not.

use damselfly_topic::{
    ShareName, ShareNameBuf, SharedFilter, SharedFilterBuf, TopicError, TopicFilter, TopicFilterBuf, TopicName,
    TopicNameBuf, text,
};
use proptest::prelude::*;

use crate::oracle;

type Verdict = Result<(), TopicError>;

/// Each row: bytes, what they are as a name, what they are as a filter.
const CASES: &[(&[u8], Verdict, Verdict)] = &[
    (b"", Err(TopicError::Empty), Err(TopicError::Empty)),
    (b"a", Ok(()), Ok(())),
    (b"/", Ok(()), Ok(())),
    (b" ", Ok(()), Ok(())),
    (b"home/kitchen/sensor/temperature", Ok(()), Ok(())),
    ("häuser/küche/\u{1f600}".as_bytes(), Ok(()), Ok(())),
    (b"\0", Err(TopicError::NullCharacter), Err(TopicError::NullCharacter)),
    (b"home/kitchen\0/x", Err(TopicError::NullCharacter), Err(TopicError::NullCharacter)),
    (b"\xff", Err(TopicError::NotUtf8), Err(TopicError::NotUtf8)),
    (b"home/kitchen/\xc3", Err(TopicError::NotUtf8), Err(TopicError::NotUtf8)),
    (b"\xed\xa0\x80", Err(TopicError::NotUtf8), Err(TopicError::NotUtf8)),
    (b"\xed\xbf\xbf", Err(TopicError::NotUtf8), Err(TopicError::NotUtf8)),
    (b"+", Err(TopicError::WildcardInName), Ok(())),
    (b"#", Err(TopicError::WildcardInName), Ok(())),
    (b"+/tennis/#", Err(TopicError::WildcardInName), Ok(())),
    (b"/+", Err(TopicError::WildcardInName), Ok(())),
    (b"sport+", Err(TopicError::WildcardInName), Err(TopicError::SingleLevelWildcard)),
    (b"sport/+tennis", Err(TopicError::WildcardInName), Err(TopicError::SingleLevelWildcard)),
    (b"++", Err(TopicError::WildcardInName), Err(TopicError::SingleLevelWildcard)),
    (b"sport/tennis#", Err(TopicError::WildcardInName), Err(TopicError::MultiLevelWildcard)),
    (b"sport/#/ranking", Err(TopicError::WildcardInName), Err(TopicError::MultiLevelWildcard)),
    (b"#/", Err(TopicError::WildcardInName), Err(TopicError::MultiLevelWildcard)),
    (b"+#", Err(TopicError::WildcardInName), Err(TopicError::SingleLevelWildcard)),
    (b"$share", Ok(()), Err(TopicError::ShareNameMissing)),
    (b"$share/", Ok(()), Err(TopicError::ShareNameEmpty)),
    (b"$share//t", Ok(()), Err(TopicError::ShareNameEmpty)),
    (b"$share/g", Ok(()), Err(TopicError::SharedFilterMissing)),
    (b"$share/g/", Ok(()), Err(TopicError::SharedFilterEmpty)),
    (b"$share/#", Err(TopicError::WildcardInName), Err(TopicError::ShareNameWildcard)),
    (b"$share/+/t", Err(TopicError::WildcardInName), Err(TopicError::ShareNameWildcard)),
    (b"$share/g+h/t", Err(TopicError::WildcardInName), Err(TopicError::ShareNameWildcard)),
    (b"$share/g/t#", Err(TopicError::WildcardInName), Err(TopicError::MultiLevelWildcard)),
    (b"$share/g//", Ok(()), Ok(())),
    (b"$share/g/+/#", Err(TopicError::WildcardInName), Ok(())),
    (b"$shared", Ok(()), Ok(())),
    (b"$shar/x", Ok(()), Ok(())),
    (b"/$share", Ok(()), Ok(())),
];

/// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.0-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
/// [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT3-4.7.1-1] [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT3-4.7.3-1] [MQTT3-4.7.3-2]
#[test]
fn each_kind_of_malformed_text_has_its_error() {
    for &(bytes, name, filter) in CASES {
        assert_eq!(TopicName::from_bytes(bytes).map(|_| ()), name, "as a name: {}", bytes.escape_ascii());
        assert_eq!(TopicFilter::from_bytes(bytes).map(|_| ()), filter, "as a filter: {}", bytes.escape_ascii());
    }
}

/// What is wrong is found wherever it stands, whatever the length: the check reads eight bytes at a time.
#[test]
fn a_flaw_is_found_at_every_position_of_every_length() {
    let flaws: [(&[u8], TopicError); 4] = [
        (b"\0", TopicError::NullCharacter),
        (b"+", TopicError::WildcardInName),
        (b"#", TopicError::WildcardInName),
        (b"\x80", TopicError::NotUtf8),
    ];
    for len in 1..=40 {
        let good = vec![b'a'; len];
        assert_eq!(TopicName::from_bytes(&good).map(TopicName::as_bytes), Ok(&good[..]));
        for at in 0..len {
            for (flaw, error) in flaws {
                let mut bad = good.clone();
                bad[at] = flaw[0];
                assert_eq!(TopicName::from_bytes(&bad), Err(error), "{} at {at} of {len}", flaw.escape_ascii());
            }
            // Neighbours of the special characters are ordinary.
            for ordinary in [b'\x01', b'"', b'$', b'*', b',', b'\x7f', b'3', b';'] {
                let mut fine = good.clone();
                fine[at] = ordinary;
                assert!(TopicName::from_bytes(&fine).is_ok(), "{ordinary} at {at} of {len}");
            }
        }
    }
}

/// [MQTT-4.7.3-3] [MQTT3-4.7.3-3]
#[test]
fn a_topic_has_at_most_65_535_bytes() {
    let longest = "ü".repeat(32_767) + "x";
    let too_long = "ü".repeat(32_768);

    assert_eq!(longest.len(), 65_535);
    assert!(TopicName::new(&longest).is_ok());
    assert!(TopicFilter::new(&longest).is_ok());
    assert!(text::to_str(longest.as_bytes()).is_ok());
    assert_eq!(TopicName::new(&too_long), Err(TopicError::TooLong));
    assert_eq!(TopicFilter::new(&too_long), Err(TopicError::TooLong));
    assert_eq!(TopicName::new(&"x".repeat(65_536)), Err(TopicError::TooLong));
    assert_eq!(text::check(too_long.as_bytes()), Err(TopicError::TooLong));
    assert_eq!(text::to_str(too_long.as_bytes()), Err(TopicError::TooLong));
}

/// [MQTT-1.5.4-3] [MQTT3-1.5.3-3]
#[test]
fn a_byte_order_mark_is_a_character_like_any_other() {
    let bytes = b"\xef\xbb\xbfa/\xef\xbb\xbf";

    let name = TopicName::from_bytes(bytes).unwrap();

    assert_eq!(name.as_str(), "\u{feff}a/\u{feff}");
    assert_eq!(name.as_bytes(), bytes);
    assert_eq!(text::to_str(bytes), Ok("\u{feff}a/\u{feff}"));
    assert!(!TopicFilter::new("a/\u{feff}").unwrap().matches(name));
}

#[test]
fn a_text_may_be_empty_where_a_topic_may_not() {
    assert_eq!(text::check(b""), Ok(()));
    assert_eq!(text::to_str(b""), Ok(""));
}

#[test]
fn both_checks_of_a_text_agree() {
    for (bytes, expected) in [
        (&b"client+1#"[..], Ok(())),
        (b"a\0", Err(TopicError::NullCharacter)),
        ("ä\0".as_bytes(), Err(TopicError::NullCharacter)),
        (b"ab\xc0\x80", Err(TopicError::NotUtf8)),
        (b"\0\xff", Err(TopicError::NotUtf8)),
    ] {
        assert_eq!(text::check(bytes), expected, "{}", bytes.escape_ascii());
        assert_eq!(text::to_str(bytes).map(|_| ()), expected, "{}", bytes.escape_ascii());
    }
}

/// By the letter of 3.1.1, `$share` is a level like any other.
#[test]
fn share_rules_can_be_left_out() {
    for text in ["$share", "$share/", "$share//t", "$share/g", "$share/g/", "$share/#", "$share/+/t"] {
        let filter = TopicFilter::plain(text).unwrap();
        assert!(TopicFilter::new(text).is_err());
        assert_eq!(filter.shared(), None, "{text}");
        assert_eq!(filter.unshared(), filter);
    }
    assert_eq!(TopicFilter::plain("$share/a#"), Err(TopicError::MultiLevelWildcard));
    assert_eq!(TopicFilter::plain_from_bytes(b"\xff"), Err(TopicError::NotUtf8));
    assert!(TopicFilter::plain("$share/g/t").unwrap().shared().is_some());
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn a_shared_filter_comes_apart_at_the_second_separator() {
    for (text, name, filter) in [
        ("$share/g/t", "g", "t"),
        ("$share/g//t", "g", "/t"),
        ("$share/$g/$SYS/#", "$g", "$SYS/#"),
        ("$share/g/$share/h/t", "g", "$share/h/t"),
        ("$share/ü b/+/+", "ü b", "+/+"),
    ] {
        let shared = TopicFilter::new(text).unwrap().shared().unwrap();
        assert_eq!((shared.share_name().as_str(), shared.filter().as_str()), (name, filter));
        assert_eq!(shared.to_string(), text);
        assert_eq!(SharedFilter::new(text), Ok(shared));
        assert_eq!(shared.to_buf().unwrap().as_shared(), shared);
    }
    assert_eq!(TopicFilter::new("share/g/t").unwrap().shared(), None);
    assert_eq!(SharedFilter::new("share/g/t"), Err(TopicError::ShareNameMissing));
}

#[test]
fn parts_that_do_not_fit_into_one_filter_are_refused() {
    let filter = "x".repeat(65_535 - "$share/g/".len());
    let longer = filter.clone() + "x";
    let share_name = ShareName::new("g").unwrap();

    let fits = SharedFilter::from_parts(share_name, TopicFilter::new(&filter).unwrap());
    let does_not = SharedFilter::from_parts(share_name, TopicFilter::new(&longer).unwrap());

    assert_eq!(fits.to_buf().unwrap().as_str().len(), 65_535);
    assert_eq!(does_not.to_buf(), Err(TopicError::TooLong));
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn a_share_name_is_checked_on_its_own() {
    assert_eq!(ShareName::new("group").map(ShareName::as_str), Ok("group"));
    assert_eq!(ShareName::new("group").map(ShareName::as_bytes), Ok(&b"group"[..]));
    assert_eq!(ShareName::new(""), Err(TopicError::ShareNameEmpty));
    assert_eq!(ShareName::new("a/b"), Err(TopicError::ShareNameSeparator));
    assert_eq!(ShareName::new("a+"), Err(TopicError::ShareNameWildcard));
    assert_eq!(ShareName::new("#"), Err(TopicError::ShareNameWildcard));
    assert_eq!(ShareName::new("a\0"), Err(TopicError::NullCharacter));
    assert_eq!(ShareName::from_bytes(b"\xff"), Err(TopicError::NotUtf8));
}

#[test]
fn every_error_names_its_statement_in_both_versions() {
    use TopicError as E;
    for (error, v5, v3) in [
        (E::Empty, "MQTT-4.7.3-1", "MQTT3-4.7.3-1"),
        (E::TooLong, "MQTT-4.7.3-3", "MQTT3-4.7.3-3"),
        (E::NotUtf8, "MQTT-1.5.4-1", "MQTT3-1.5.3-1"),
        (E::NullCharacter, "MQTT-1.5.4-2", "MQTT3-1.5.3-2"),
        (E::WildcardInName, "MQTT-4.7.0-1", "MQTT3-4.7.1-1"),
        (E::MultiLevelWildcard, "MQTT-4.7.1-1", "MQTT3-4.7.1-2"),
        (E::SingleLevelWildcard, "MQTT-4.7.1-2", "MQTT3-4.7.1-3"),
        (E::ShareNameMissing, "MQTT-4.8.2-1", "MQTT-4.8.2-1"),
        (E::ShareNameEmpty, "MQTT-4.8.2-1", "MQTT-4.8.2-1"),
        (E::ShareNameWildcard, "MQTT-4.8.2-2", "MQTT-4.8.2-2"),
        (E::ShareNameSeparator, "MQTT-4.8.2-2", "MQTT-4.8.2-2"),
        (E::SharedFilterMissing, "MQTT-4.8.2-2", "MQTT-4.8.2-2"),
        (E::SharedFilterEmpty, "MQTT-4.8.2-2", "MQTT-4.8.2-2"),
    ] {
        assert_eq!((error.statement(), error.statement_3_1_1()), (v5, v3));
    }
}

#[test]
fn owned_texts_are_checked_and_lend_what_they_hold() {
    assert_eq!("a/b".parse::<TopicNameBuf>().unwrap().as_name(), TopicName::new("a/b").unwrap());
    assert_eq!("a/+".parse::<TopicNameBuf>(), Err(TopicError::WildcardInName));
    assert_eq!(TopicFilterBuf::try_from(String::from("a/+")).unwrap().as_filter().as_str(), "a/+");
    assert_eq!(TopicFilterBuf::try_from("a+"), Err(TopicError::SingleLevelWildcard));
    assert_eq!(ShareNameBuf::new("g").unwrap().as_share_name().as_str(), "g");
    assert_eq!(ShareNameBuf::new(""), Err(TopicError::ShareNameEmpty));
    assert_eq!(SharedFilterBuf::new("a/b"), Err(TopicError::ShareNameMissing));
    let shared = SharedFilterBuf::new("$share/g/a/#").unwrap();
    assert_eq!((shared.share_name().as_str(), shared.filter().as_str()), ("g", "a/#"));
    assert_eq!(String::from(shared.clone()), "$share/g/a/#");
    assert_eq!((&*shared.clone().into_boxed_str(), shared.as_filter().as_str()), ("$share/g/a/#", "$share/g/a/#"));
    assert_eq!(TopicFilterBuf::from(shared).as_str(), "$share/g/a/#");
    assert_eq!(TopicFilterBuf::try_from(TopicNameBuf::new("a").unwrap()).unwrap().as_str(), "a");
    let malformed = TopicNameBuf::new("$share/x").unwrap();
    assert_eq!(TopicFilterBuf::try_from(malformed), Err(TopicError::SharedFilterMissing));
}

#[test]
fn an_owned_text_is_found_by_its_str() {
    let mut names = std::collections::BTreeMap::new();
    names.insert(TopicNameBuf::new("a/b").unwrap(), 1);

    assert_eq!(names.get("a/b"), Some(&1));
    assert_eq!(&*TopicNameBuf::new("a/b").unwrap(), "a/b");
    assert_eq!(format!("{:>5}", TopicNameBuf::new("a/b").unwrap()), "  a/b");
    assert_eq!(format!("{:?}", TopicName::new("a/b").unwrap()), "TopicName(\"a/b\")");
    assert_eq!(String::from(TopicNameBuf::new("a/b").unwrap()), "a/b");
}

#[test]
fn bytes_that_were_never_checked_do_no_more_than_cut_the_text() {
    let name = TopicName::from_checked_bytes(b"ab\xffcd");

    assert_eq!(name.as_str(), "ab");
}

#[cfg(feature = "serde")]
#[test]
fn texts_are_strings_for_serde_and_checked_when_read() {
    let name: TopicNameBuf = serde_json::from_str("\"a/b\"").unwrap();
    let borrowed: TopicFilter<'_> = serde_json::from_str("\"a/+\"").unwrap();
    let shared: SharedFilter<'_> = serde_json::from_str("\"$share/g/a\"").unwrap();

    assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
    assert_eq!(serde_json::to_string(&borrowed).unwrap(), "\"a/+\"");
    assert_eq!(serde_json::to_string(&shared).unwrap(), "\"$share/g/a\"");
    assert!(serde_json::from_str::<TopicNameBuf>("\"a/+\"").is_err());
    assert!(serde_json::from_str::<TopicFilterBuf>("\"$share/g\"").is_err());
    assert!(serde_json::from_str::<TopicName<'_>>("\"\"").is_err());
    assert!(serde_json::from_str::<SharedFilterBuf>("\"a\"").is_err());
    assert!(serde_json::from_str::<ShareNameBuf>("\"a/b\"").is_err());
}

/// Bytes that are often, but not always, topics.
fn almost_topics() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec!["a", "bc", "/", "/", "+", "#", "$share/", "$share", "ü", "€", "\u{1f600}"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_checks_agree_with_the_oracle(bytes in almost_topics()) {
        prop_assert_eq!(TopicName::from_bytes(&bytes).is_ok(), oracle::is_name(&bytes));
        prop_assert_eq!(TopicFilter::from_bytes(&bytes).is_ok(), oracle::is_filter(&bytes));
        prop_assert_eq!(TopicFilter::plain_from_bytes(&bytes).is_ok(), oracle::is_plain_filter(&bytes));
        let is_text = std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'));
        prop_assert_eq!(text::check(&bytes).is_ok(), is_text);
        prop_assert_eq!(text::to_str(&bytes).is_ok(), is_text);
        if let Ok(name) = TopicName::from_bytes(&bytes) {
            prop_assert_eq!(name.as_str().as_bytes(), &bytes[..]);
            prop_assert_eq!(name.level_count(), name.levels().count());
        }
    }
}
