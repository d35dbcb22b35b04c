//! Cuts a line of a script into tokens.

use std::iter::Peekable;
use std::str::Chars;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Whatever stands between spaces.
    Word(String),
    /// `"text"`, and `"x"*300` for many of it.
    Text(String),
    /// `"name":"value"` of a User Property.
    Pair(String, String),
    /// `key=value`.
    Assign(String, Box<Token>),
    /// `{…}`: properties.
    Braces(Vec<Token>),
    /// `,` between Topic Filters.
    Comma,
    /// `|` between what may come.
    Bar,
}

impl Token {
    /// The text of a word.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// The tokens of a line.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, String> {
    sequence(&mut line.chars().peekable(), false)
}

fn sequence(rest: &mut Peekable<Chars<'_>>, is_inside: bool) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    loop {
        match rest.peek().copied() {
            None if is_inside => return Err("a } is missing".to_owned()),
            None => return Ok(out),
            Some('}') if is_inside => {
                rest.next();
                return Ok(out);
            }
            Some(' ') => {
                rest.next();
            }
            Some(',') => {
                rest.next();
                out.push(Token::Comma);
            }
            Some('|') => {
                rest.next();
                out.push(Token::Bar);
            }
            Some(_) => out.push(token(rest)?),
        }
    }
}

fn token(rest: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    match rest.peek().copied() {
        Some('"') => text_or_pair(rest),
        Some('{') => {
            rest.next();
            Ok(Token::Braces(sequence(rest, true)?))
        }
        _ => {
            let mut word = String::new();
            while let Some(next) = rest.next_if(|next| !matches!(next, ' ' | ',' | '|' | '{' | '}' | '"' | '=')) {
                word.push(next);
            }
            if rest.next_if_eq(&'=').is_some() {
                return Ok(Token::Assign(word, Box::new(token(rest)?)));
            }
            if word.is_empty() {
                return Err(format!("unexpected {:?}", rest.peek()));
            }
            Ok(Token::Word(word))
        }
    }
}

fn text_or_pair(rest: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    let first = text(rest)?;
    if rest.next_if_eq(&':').is_some() {
        return Ok(Token::Pair(first, text(rest)?));
    }
    Ok(Token::Text(first))
}

fn text(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    if rest.next_if_eq(&'"').is_none() {
        return Err("a text is missing".to_owned());
    }
    let mut out = String::new();
    loop {
        match rest.next() {
            None => return Err("a text without end".to_owned()),
            Some('"') => break,
            Some(other) => out.push(other),
        }
    }
    if rest.next_if_eq(&'*').is_some() {
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        out = out.repeat(digits.parse().map_err(|_| format!("not a count: {digits:?}"))?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_words_texts_and_braces() {
        let word = |text: &str| Token::Word(text.to_owned());
        assert_eq!(
            tokens(r#"PUBLISH ~/t "ab"*2, x=1 {k="v" "a":"b"} | !y"#),
            Ok(vec![
                word("PUBLISH"),
                word("~/t"),
                Token::Text("abab".to_owned()),
                Token::Comma,
                Token::Assign("x".to_owned(), Box::new(word("1"))),
                Token::Braces(vec![
                    Token::Assign("k".to_owned(), Box::new(Token::Text("v".to_owned()))),
                    Token::Pair("a".to_owned(), "b".to_owned())
                ]),
                Token::Bar,
                word("!y"),
            ])
        );
        for wrong in ["\"a", "{ a", "}", "\"a\"*", "\"a\":b"] {
            assert!(tokens(wrong).is_err(), "{wrong}");
        }
    }
}
