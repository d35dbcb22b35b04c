//! The data representations of the standard, read as `nom` parsers and written into a `Vec`. [MQTT-1.5]
//!
//! A parser takes what is left of the body and answers with what is left behind it. The body is whole, so a field that
//! reaches beyond it is an error, never "incomplete". Errors keep how many bytes were left where the broken field
//! begins; the offset is computed once, when the error leaves the crate.

use alloc::vec::Vec;

use damselfly_topic::{TopicError, text as topic_text};
use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult};

use crate::{DecodeError, EncodeError, FixedHeader, PacketId, Rule, Version};

/// The longest body and the greatest variable byte integer. [MQTT-1.5.5]
pub(crate) const MAX_VARIABLE_INTEGER: u32 = 268_435_455;

pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Broken>;

/// A broken rule, `left` bytes before the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) left: usize,
}

impl ParseError<&[u8]> for Broken {
    fn from_error_kind(input: &[u8], _kind: ErrorKind) -> Self {
        Self { rule: Rule::CutShort, left: input.len() }
    }

    fn append(_input: &[u8], _kind: ErrorKind, inner: Self) -> Self {
        inner
    }
}

impl Broken {
    /// The error as the caller of a decoder sees it.
    #[cold]
    pub(crate) fn at(self, version: Version, header: FixedHeader, body: &[u8]) -> DecodeError {
        let in_body = body.len().saturating_sub(self.left);
        DecodeError::new(self.rule, version, usize::from(header.header_len()) + in_body)
    }
}

/// Stops a parser for good: the field at the start of `at` breaks `rule`, and no alternative is tried.
#[cold]
pub(crate) fn broken<T>(rule: Rule, at: &[u8]) -> Result<T, Err<Broken>> {
    Err(Err::Failure(Broken { rule, left: at.len() }))
}

/// Runs a parser over and over until nothing is left.
#[inline]
pub(crate) fn each<'a, T>(mut input: &'a [u8], parser: impl Fn(&'a [u8]) -> Parsed<'a, T>) -> Result<(), Err<Broken>> {
    while !input.is_empty() {
        input = parser(input)?.0;
    }
    Ok(())
}

/// Runs a parser that has to use up the whole body.
#[inline]
pub(crate) fn whole<'a, T>(
    version: Version,
    header: FixedHeader,
    body: &'a [u8],
    parser: impl FnOnce(&'a [u8]) -> Parsed<'a, T>,
) -> Result<T, DecodeError> {
    match parser(body) {
        Ok(([], packet)) => Ok(packet),
        Ok((rest, _)) => Err(Broken { rule: Rule::TrailingBytes, left: rest.len() }.at(version, header, body)),
        Err(error) => Err(error_at(&error, version, header, body)),
    }
}

/// The error of a parser as the caller of a decoder sees it.
#[cold]
pub(crate) fn error_at(error: &Err<Broken>, version: Version, header: FixedHeader, body: &[u8]) -> DecodeError {
    let broken = match error {
        Err::Error(broken) | Err::Failure(broken) => *broken,
        Err::Incomplete(_) => Broken { rule: Rule::CutShort, left: 0 },
    };
    broken.at(version, header, body)
}

/// A length as an index. A body has at most 268,435,455 bytes, so nothing is lost on any supported target.
#[inline]
pub(crate) fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A byte as an index, where `From` cannot be used because it is not const.
#[expect(clippy::as_conversions, reason = "a byte always fits")]
pub(crate) const fn index(byte: u8) -> usize {
    byte as usize
}

/// One byte.
#[inline]
pub(crate) fn byte(input: &[u8]) -> Parsed<'_, u8> {
    match input {
        [value, rest @ ..] => Ok((rest, *value)),
        [] => broken(Rule::CutShort, input),
    }
}

/// A Two Byte Integer. [MQTT-1.5.2]
#[inline]
pub(crate) fn two_bytes(input: &[u8]) -> Parsed<'_, u16> {
    match input.split_first_chunk() {
        Some((value, rest)) => Ok((rest, u16::from_be_bytes(*value))),
        None => broken(Rule::CutShort, input),
    }
}

/// A Four Byte Integer. [MQTT-1.5.3]
#[inline]
pub(crate) fn four_bytes(input: &[u8]) -> Parsed<'_, u32> {
    match input.split_first_chunk() {
        Some((value, rest)) => Ok((rest, u32::from_be_bytes(*value))),
        None => broken(Rule::CutShort, input),
    }
}

/// A Variable Byte Integer of one to four bytes, in as few as possible. [MQTT-1.5.5-1]
#[inline]
pub(crate) fn variable_integer(input: &[u8]) -> Parsed<'_, u32> {
    match input {
        [value @ ..0x80, rest @ ..] => Ok((rest, u32::from(*value))),
        _ => long_variable_integer(input),
    }
}

#[inline(never)]
fn long_variable_integer(input: &[u8]) -> Parsed<'_, u32> {
    let mut value = 0;
    let mut rest = input;
    for shift in [0, 7, 14, 21] {
        let [byte, behind @ ..] = rest else { return broken(Rule::CutShort, input) };
        rest = behind;
        value |= u32::from(byte & 0x7F) << shift;
        if *byte == 0 && shift > 0 {
            return broken(Rule::VariableIntegerNotMinimal, input);
        }
        if *byte < 0x80 {
            return Ok((rest, value));
        }
    }
    broken(Rule::VariableIntegerTooLong, input)
}

/// Binary Data behind its two byte length. [MQTT-1.5.6]
#[inline]
pub(crate) fn binary(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, length) = two_bytes(input)?;
    match rest.split_at_checked(usize::from(length)) {
        Some((value, rest)) => Ok((rest, value)),
        None => broken(Rule::CutShort, input),
    }
}

/// A UTF-8 Encoded String. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
#[inline]
pub(crate) fn text(input: &[u8]) -> Parsed<'_, &str> {
    let (rest, bytes) = binary(input)?;
    match topic_text::to_str(bytes) {
        Ok(value) => Ok((rest, value)),
        Err(error) => broken(text_rule(error), input),
    }
}

/// Passes over a UTF-8 Encoded String that is read later, if at all: half the work of [`text`].
#[inline]
pub(crate) fn skip_text(input: &[u8]) -> Result<&[u8], Err<Broken>> {
    let (rest, bytes) = binary(input)?;
    match topic_text::check(bytes) {
        Ok(()) => Ok(rest),
        Err(error) => broken(text_rule(error), input),
    }
}

/// The rule that a UTF-8 Encoded String breaks.
#[cold]
pub(crate) fn text_rule(error: TopicError) -> Rule {
    match error {
        TopicError::NullCharacter => Rule::NullCharacter,
        _ => Rule::NotUtf8,
    }
}

/// A Packet Identifier. [MQTT-2.2.1-3]
#[inline]
pub(crate) fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, value) = two_bytes(input)?;
    match PacketId::new(value) {
        Some(id) => Ok((rest, id)),
        None => broken(Rule::PacketIdZero, input),
    }
}

/// How many bytes the variable byte integer takes: 1 to 4.
#[inline]
pub(crate) const fn variable_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// The remaining length of a body of this many bytes, if it can be said.
#[inline]
pub(crate) fn remaining_length(body: usize) -> Result<u32, EncodeError> {
    if body > to_usize(MAX_VARIABLE_INTEGER) {
        return Err(EncodeError::PacketTooLarge);
    }
    Ok(u32::try_from(body).unwrap_or(MAX_VARIABLE_INTEGER))
}

/// How many bytes a packet with this body takes, fixed header included.
#[inline]
pub(crate) fn frame_len(body: usize) -> Result<usize, EncodeError> {
    remaining_length(body)?;
    Ok(1 + variable_len(body) + body)
}

/// Writes a Variable Byte Integer; the caller has checked that it is at most 268,435,455.
#[inline]
pub(crate) fn put_variable_integer(out: &mut Vec<u8>, value: u32) {
    match u8::try_from(value) {
        Ok(value @ 0..0x80) => out.push(value),
        _ => put_long_variable_integer(out, value),
    }
}

#[inline(never)]
fn put_long_variable_integer(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let [.., low] = value.to_be_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7F);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Makes room for a whole packet and writes its fixed header.
#[inline]
pub(crate) fn put_fixed_header(out: &mut Vec<u8>, first: u8, body: usize) -> Result<(), EncodeError> {
    let length = remaining_length(body)?;
    out.reserve(5 + body);
    out.push(first);
    put_variable_integer(out, length);
    Ok(())
}

/// How many bytes a string or binary field takes with its length.
#[inline]
pub(crate) fn field_len(field: &[u8]) -> Result<usize, EncodeError> {
    if field.len() > usize::from(u16::MAX) { Err(EncodeError::FieldTooLong) } else { Ok(2 + field.len()) }
}

/// The same for a text that nobody has checked for U+0000. [MQTT-1.5.4-2]
pub(crate) fn text_len(text: &str) -> Result<usize, EncodeError> {
    if text.contains('\0') { Err(EncodeError::NullCharacter) } else { field_len(text.as_bytes()) }
}

/// Writes a field whose length has been checked with [`field_len`].
#[inline]
pub(crate) fn put_field(out: &mut Vec<u8>, field: &[u8]) {
    let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
}
