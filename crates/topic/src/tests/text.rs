//! The quick look at a text: whatever it does not let pass costs a close look, so it has to know each ordinary byte.

use alloc::vec;

use crate::num::load_u64;
use crate::text::{common_prefix, is_plain, padded_word, unusual, wildcards};

const fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'+' | b'#')
}

const fn is_usual(byte: u8) -> bool {
    byte.is_ascii() && byte != 0
}

#[test]
fn each_byte_at_each_place_of_a_word_is_known() {
    for byte in 0..=u8::MAX {
        for at in 0..8 {
            for filler in [b'a', b'/', 0x01, 0x7f, b'"', b'$', b'*', b','] {
                let mut bytes = [filler; 8];
                bytes[at] = byte;
                let word = load_u64(&bytes, 0);
                assert_eq!(unusual::<false>(word) == 0, is_usual(byte), "{byte:#04x} at {at} of {filler:#04x}");
                let is_ordinary = is_usual(byte) && !is_wildcard(byte);
                assert_eq!(unusual::<true>(word) == 0, is_ordinary, "{byte:#04x} at {at} of {filler:#04x}");
                if is_usual(byte) {
                    let found = if is_wildcard(byte) { 0x80 << (8 * at) } else { 0 };
                    assert_eq!(wildcards(word), found, "{byte:#04x} at {at} of {filler:#04x}");
                }
            }
        }
    }
    assert_eq!(wildcards(load_u64(b"+a#/+##+", 0)), 0x8080_8080_0080_0080);
}

#[test]
fn texts_of_every_length_pass_if_they_are_ordinary() {
    for len in 0..40 {
        for ordinary in (1..=0x7f).filter(|byte| !is_wildcard(*byte)) {
            let text = vec![ordinary; len];
            assert!(is_plain::<true>(&text) && is_plain::<false>(&text), "{len} of {ordinary:#04x}");
        }
        for (flaw, in_any) in [(0, false), (0x80, false), (0xff, false), (b'+', true), (b'#', true)] {
            for at in 0..len {
                let mut text = vec![b'a'; len];
                text[at] = flaw;
                assert!(!is_plain::<true>(&text), "{flaw:#04x} at {at} of {len}");
                assert_eq!(is_plain::<false>(&text), in_any, "{flaw:#04x} at {at} of {len}");
            }
        }
    }
}

#[test]
fn a_short_text_is_filled_up_with_ordinary_characters() {
    for len in 0..8 {
        let text = &b"\x01\x7f/abcd"[..len];
        let word = padded_word(text);
        assert_eq!(&word.to_le_bytes()[..len], text);
        assert_eq!((unusual::<true>(word), wildcards(word)), (0, 0), "{word:#x}");
    }
}

#[test]
fn texts_agree_up_to_the_first_byte_that_differs() {
    let text = b"a text of more than sixteen bytes";
    for len in 0..text.len() {
        for at in 0..len {
            let mut other = text[..len].to_vec();
            other[at] ^= 0x40;
            assert_eq!(common_prefix(&text[..len], &other), at);
            assert_eq!(common_prefix(text, &text[..at]), at);
        }
        assert_eq!(common_prefix(&text[..len], text), len);
    }
}
