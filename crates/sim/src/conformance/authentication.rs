//! Enhanced authentication in cases: what the client says of an Authentication Method. [MQTT-4.12]

use std::fmt::Debug;

use super::token::Token;

/// The client's side of an Authentication Method with one challenge, as SCRAM is: data in CONNECT (or the AUTH that begins
/// a re-authentication), a challenge in AUTH, an answer in AUTH.
pub trait Exchange: Debug + Send + Sync {
    /// The Authentication Method.
    fn method(&self) -> &str;

    /// The Authentication Data that begins an exchange. `nonce` is of letters and digits, and of this exchange alone.
    ///
    /// # Errors
    ///
    /// Why there is none, for the report.
    fn first(&self, nonce: &str) -> Result<Vec<u8>, String>;

    /// The Authentication Data that answers the challenge of the exchange which began with this `nonce`. One that is not
    /// `right` must not be accepted by a broker.
    ///
    /// # Errors
    ///
    /// Why there is none, for the report.
    fn answer(&self, nonce: &str, challenge: &[u8], right: bool) -> Result<Vec<u8>, String>;
}

/// The method that a [`VirtualBroker`](super::VirtualBroker) knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Countersign;

impl Countersign {
    pub(super) const METHOD: &'static str = "countersign";
    pub(super) const FIRST: &'static [u8] = b"open the gate";
    pub(super) const CHALLENGE: &'static [u8] = b"who goes there";
    pub(super) const RIGHT: &'static [u8] = b"a friend";
}

impl Exchange for Countersign {
    fn method(&self) -> &str {
        Self::METHOD
    }

    fn first(&self, _nonce: &str) -> Result<Vec<u8>, String> {
        Ok(Self::FIRST.to_vec())
    }

    fn answer(&self, _nonce: &str, challenge: &[u8], right: bool) -> Result<Vec<u8>, String> {
        if challenge != Self::CHALLENGE {
            return Err("this is no challenge".to_owned());
        }
        Ok(if right { Self::RIGHT } else { b"a foe" }.to_vec())
    }
}

/// What a client says next, as a script writes it in `authentication_data=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saying {
    /// `@first`
    First,
    /// `@answer`
    Answer,
    /// `@wrong`
    Wrong,
}

/// A packet in which the data of the exchange stand instead of their words.
pub(super) fn fill(
    packet: &[Token],
    mut data: impl FnMut(Saying) -> Result<Vec<u8>, String>,
) -> Result<Vec<Token>, String> {
    let mut property = |token: &Token| match token {
        Token::Assign(key, value) if key == "authentication_data" => {
            let saying = match value.word() {
                Some("@first") => Saying::First,
                Some("@answer") => Saying::Answer,
                Some("@wrong") => Saying::Wrong,
                _ => return Ok(token.clone()),
            };
            let hex = data(saying)?.iter().fold(String::new(), |out, byte| out + &format!("{byte:02X}"));
            Ok(Token::Assign(key.clone(), Box::new(Token::Word(hex))))
        }
        other => Ok(other.clone()),
    };
    let part = |token: &Token| match token {
        Token::Braces(list) => list.iter().map(&mut property).collect::<Result<_, _>>().map(Token::Braces),
        other => Ok(other.clone()),
    };
    packet.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::super::token::tokens;
    use super::*;

    #[test]
    fn words_of_an_exchange_become_its_data() {
        let filled = |line: &str| fill(&tokens(line).unwrap(), |saying| Ok(format!("{saying:?}").into_bytes()));
        assert_eq!(
            filled("CONNECT id=@first {authentication_data=@first receive_maximum=1}"),
            Ok(tokens("CONNECT id=@first {authentication_data=4669727374 receive_maximum=1}").unwrap())
        );
        assert_eq!(
            filled("AUTH 18 {authentication_data=@wrong}"),
            Ok(tokens("AUTH 18 {authentication_data=57726F6E67}").unwrap())
        );
        assert_eq!(
            filled("AUTH 18 {authentication_data=@answer}"),
            Ok(tokens("AUTH 18 {authentication_data=416E73776572}").unwrap())
        );
        let literal = "AUTH 18 {authentication_data=00FF}";
        assert_eq!(filled(literal), Ok(tokens(literal).unwrap()));
    }
}
