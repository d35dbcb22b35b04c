//! Reads the byte notation of `testdata/README.md`.

use std::iter::Peekable;
use std::str::Chars;

/// The bytes that `text` denotes.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut rest = text.chars().peekable();
    let out = sequence(&mut rest, None)?;
    match rest.next() {
        None => Ok(out),
        Some(other) => Err(format!("unexpected {other:?} in {text:?}")),
    }
}

fn sequence(rest: &mut Peekable<Chars<'_>>, end: Option<char>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    loop {
        match rest.next() {
            None if end.is_none() => return Ok(out),
            None => return Err(format!("{end:?} is missing")),
            Some(next) if Some(next) == end => return Ok(out),
            Some(' ') => {}
            Some('"') => text(rest, &mut out)?,
            Some('{') => {
                let inner = sequence(rest, Some('}'))?;
                let len = u16::try_from(inner.len()).map_err(|_| "a field longer than 65,535 bytes".to_owned())?;
                out.extend(len.to_be_bytes());
                out.extend(inner);
            }
            Some('[') => {
                let inner = sequence(rest, Some(']'))?;
                put_variable_integer(inner.len(), &mut out);
                out.extend(inner);
            }
            Some(high) => repeated_byte(high, rest, &mut out)?,
        }
    }
}

fn text(rest: &mut Peekable<Chars<'_>>, out: &mut Vec<u8>) -> Result<(), String> {
    for next in rest {
        match next {
            '"' => return Ok(()),
            ' '..='~' => out.extend(next.to_string().bytes()),
            other => return Err(format!("{other:?} in a text: write it in hex")),
        }
    }
    Err("a text without end".to_owned())
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

/// As many bytes as the value needs, seven bits in each, the lowest first. [MQTT-1.5.5-1]
pub(crate) fn put_variable_integer(mut value: usize, out: &mut Vec<u8>) {
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

#[test]
fn notation_says_what_it_says() {
    assert_eq!(bytes(r#"10 0A0b "hi" 61*3"#), Ok(b"\x10\x0A\x0Bhiaaa".to_vec()));
    assert_eq!(
        bytes(r#"{} {"ab"} [ {} 00*126 ]"#).map(|all| all[..9].to_vec()),
        Ok(b"\0\0\0\x02ab\x80\x01\0".to_vec())
    );
    for wrong in ["1", "1g", "[ 00", "]", "\"a", "61*", "{ 00*65536 }", "\"\u{e9}\""] {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
}
