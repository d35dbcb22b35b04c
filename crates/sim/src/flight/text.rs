//! The words of a line: numbers, names, and bytes in quotes.

use core::{fmt::Write, str::FromStr};

/// A line that is being put together.
#[derive(Debug)]
pub(super) struct Line(pub(super) String);

impl Line {
    pub(super) fn new(verb: &str) -> Self {
        Self(verb.to_owned())
    }

    pub(super) fn word(mut self, word: impl core::fmt::Display) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {word}");
        self
    }

    /// Printable ASCII as it is, everything else as `\` and two digits.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.push_str(" \"");
        for byte in bytes {
            match byte {
                b'"' | b'\\' => {}
                0x21..=0x7E => {
                    self.0.push(char::from(*byte));
                    continue;
                }
                _ => {}
            }
            let _ = write!(self.0, "\\{byte:02x}");
        }
        self.0.push('"');
        self
    }

    /// `-` stands for what is not there.
    pub(super) fn maybe(self, word: Option<impl core::fmt::Display>) -> Self {
        match word {
            Some(word) => self.word(word),
            None => self.word('-'),
        }
    }

    pub(super) fn maybe_bytes(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.word('-'),
        }
    }
}

/// What is left of a line. `None` of its methods: it says something else.
#[derive(Clone, Debug)]
pub(super) struct Words<'a>(core::str::Split<'a, char>);

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Self(line.split(' '))
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.0.next().filter(|word| !word.is_empty())
    }

    pub(super) fn number<T: FromStr>(&mut self) -> Option<T> {
        self.word()?.parse().ok()
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        self.number::<u8>().filter(|flag| *flag <= 1).map(|flag| flag == 1)
    }

    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        unquote(self.word()?)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    #[expect(clippy::option_option, reason = "whether it can be read, and whether it is there")]
    pub(super) fn maybe_bytes(&mut self) -> Option<Option<Vec<u8>>> {
        match self.word()? {
            "-" => Some(None),
            word => unquote(word).map(Some),
        }
    }

    #[expect(clippy::option_option, reason = "whether it can be read, and whether it is there")]
    pub(super) fn maybe_text(&mut self) -> Option<Option<String>> {
        self.maybe_bytes()?.map_or(Some(None), |bytes| String::from_utf8(bytes).ok().map(Some))
    }

    #[expect(clippy::option_option, reason = "whether it can be read, and whether it is there")]
    pub(super) fn maybe_number<T: FromStr>(&mut self) -> Option<Option<T>> {
        match self.word()? {
            "-" => Some(None),
            word => word.parse().ok().map(Some),
        }
    }

    /// Nothing follows.
    pub(super) fn end(&mut self) -> Option<()> {
        self.0.next().is_none().then_some(())
    }
}

fn unquote(word: &str) -> Option<Vec<u8>> {
    let inner = word.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'\\' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = tail;
            }
            b'"' => return None,
            0x21..=0x7E => bytes.push(*first),
            _ => return None,
        }
    }
    Some(bytes)
}

/// FNV-1a: a number for what would be too long to keep, the same in every release.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_from_one_word() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&b""[..], b"plain", b"a \"b\" \\ c", b"-", &all] {
            let line = Line::new("verb").bytes(bytes).word(7);
            assert!(line.0.is_ascii() && line.0.split(' ').count() == 3, "{}", line.0);
            let mut words = Words::of(&line.0);
            assert_eq!(words.word(), Some("verb"));
            assert_eq!(words.bytes().as_deref(), Some(bytes));
            assert_eq!((words.number(), words.end()), (Some(7), Some(())));
        }
    }

    #[test]
    fn broken_quotes_are_none() {
        for word in ["", "\"", "\"a", "a\"", "\"\\4\"", "\"\\4g\"", "\"a\"b\"", "\"\u{e9}\""] {
            assert_eq!(unquote(word), None, "{word}");
        }
    }
}
