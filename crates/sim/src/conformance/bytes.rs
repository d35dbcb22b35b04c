//! Bytes as they are written in scripts: the notation of the codec's wire vectors, with what is a case's own.

use std::iter::Peekable;
use std::str::Chars;

use super::names::Names;

/// The bytes that `text` denotes: hex, `61*200`, `"text"`, `{ … }` behind its length in two bytes and `[ … ]` behind its
/// length as a Variable Byte Integer; `~` is the case's topic prefix, `@` the Client Identifier of the connection,
/// `@23` the same with 23 characters, and `over` the length of a packet larger than the broker takes.
pub(super) fn bytes(text: &str, names: &Names<'_>) -> Result<Vec<u8>, String> {
    sequence(&mut text.chars().peekable(), None, names)
}

fn sequence(rest: &mut Peekable<Chars<'_>>, end: Option<char>, names: &Names<'_>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    loop {
        match rest.next() {
            None if end.is_none() => return Ok(out),
            None => return Err(format!("{end:?} is missing")),
            Some(next) if Some(next) == end => return Ok(out),
            Some(' ') => {}
            Some('"') => {
                let text: String = rest.by_ref().take_while(|next| *next != '"').collect();
                out.extend(text.bytes());
            }
            Some('~') => out.extend(names.prefix.bytes()),
            Some('@') if rest.clone().take(2).eq("23".chars()) => {
                let _is_23 = rest.nth(1);
                out.extend(names.client_id_of_23().bytes());
            }
            Some('@') => out.extend(names.client_id(names.connection).bytes()),
            Some('o') => {
                let rest_of_word: String = rest.by_ref().take(3).collect();
                if rest_of_word != "ver" {
                    return Err(format!("o{rest_of_word} is no word"));
                }
                put_variable_integer(names.features.maximum_packet_size.into(), &mut out);
            }
            Some('{') => {
                let inner = sequence(rest, Some('}'), names)?;
                let len = u16::try_from(inner.len()).map_err(|_| "a field longer than 65,535 bytes".to_owned())?;
                out.extend(len.to_be_bytes());
                out.extend(inner);
            }
            Some('[') => {
                let inner = sequence(rest, Some(']'), names)?;
                put_variable_integer(length(inner.len()), &mut out);
                out.extend(inner);
            }
            Some(high) => repeated_byte(high, rest, &mut out)?,
        }
    }
}

fn repeated_byte(high: char, rest: &mut Peekable<Chars<'_>>, out: &mut Vec<u8>) -> Result<(), String> {
    let low = rest.next().ok_or("half a byte")?;
    let byte = u8::from_str_radix(&format!("{high}{low}"), 16).map_err(|_| format!("not hex: {high}{low}"))?;
    let mut times = 1;
    if rest.next_if_eq(&'*').is_some() {
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        times = digits.parse().map_err(|_| format!("not a count: {digits:?}"))?;
    }
    out.extend(std::iter::repeat_n(byte, times));
    Ok(())
}

/// The first of some bytes for people: ` 10 0E 00 …`.
pub(super) fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 48;
    let mut out = bytes.iter().take(SHOWN).fold(String::new(), |out, byte| out + &format!(" {byte:02X}"));
    if bytes.len() > SHOWN {
        out.push_str(" …");
    }
    out
}

/// A length as a number that can be written.
pub(super) fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Seven bits in each byte, the lowest first. [MQTT-1.5.5-1]
pub(super) fn put_variable_integer(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value % 128).unwrap_or_default();
        value /= 128;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A text or binary field: its length in two bytes, then it.
pub(super) fn put_field(field: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let len = u16::try_from(field.len()).map_err(|_| "a field longer than 65,535 bytes".to_owned())?;
    out.extend(len.to_be_bytes());
    out.extend(field);
    Ok(())
}

#[cfg(test)]
mod tests {
    use damselfly_codec::Version;

    use super::super::names::test_names;
    use super::*;

    #[test]
    fn notation_says_what_it_says() {
        let mut names = test_names(Version::V5_0);
        names.features.maximum_packet_size = 200;
        assert_eq!(bytes(r#"10 0A0b "hi" 61*3"#, &names), Ok(b"\x10\x0A\x0Bhiaaa".to_vec()));
        assert_eq!(bytes(r#"{~ "/t"} [00*2]"#, &names), Ok(b"\0\x03p/t\x02\0\0".to_vec()));
        assert_eq!(bytes("{@} 30 over", &names), Ok(b"\0\x02ca\x30\xC8\x01".to_vec()));
        assert_eq!(bytes("@23 00", &names), Ok([b"ca", &[b'x'; 21][..], b"\0"].concat()));
        for wrong in ["1", "1g", "[ 00", "]", "61*", "{ 00*65536 }", "ovex"] {
            assert!(bytes(wrong, &names).is_err(), "{wrong}");
        }
    }
}
