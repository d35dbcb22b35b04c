//! From the text of a rules file to rules, or to what is wrong with it, with its line and column.

use std::fmt;
use std::time::Duration;

use damselfly_codec::QoS;
use damselfly_topic::{TopicFilter, TopicFilterBuf, TopicName};

use super::super::value::Value;

/// The most bytes of a file.
pub const MAX_FILE_BYTES: usize = 64 * 1_024;
/// The most rules in a file.
pub const MAX_RULES: usize = 200;
/// The most conditions of a rule, and the most actions.
pub const MAX_PARTS: usize = 16;
/// The longest time that a rule may name.
pub const MAX_TIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.reason)
    }
}

impl std::error::Error for RuleError {}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it is called.
    pub name: String,
    /// Its text on one line.
    pub text: String,
    /// All have to hold; the first is what it begins with.
    pub conditions: Vec<Condition>,
    /// What is done then.
    pub actions: Vec<Action>,
}

/// Something that can be true.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Of which topics.
    pub filter: TopicFilterBuf,
    /// All of them, and not one that binds the wildcards.
    pub is_about_all: bool,
    /// What their value is compared by.
    pub test: Test,
    /// What with.
    pub value: Value,
    /// For how long it has to have been so.
    pub lasting: Duration,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is the same.
    Is,
    /// It is another.
    IsNot,
    /// It is less.
    Less,
    /// It is not more.
    AtMost,
    /// It is more.
    More,
    /// It is not less.
    AtLeast,
}

impl Test {
    /// Whether `left` compares so with `right`. Things of different kinds are different and neither more nor less.
    pub fn holds(self, left: &Value, right: &Value) -> bool {
        let numbers = match (left, right) {
            (Value::Number(left), Value::Number(right)) => Some((left, right)),
            _ => None,
        };
        match self {
            Self::Is => left == right,
            Self::IsNot => left != right,
            Self::Less => numbers.is_some_and(|(left, right)| left < right),
            Self::AtMost => numbers.is_some_and(|(left, right)| left <= right),
            Self::More => numbers.is_some_and(|(left, right)| left > right),
            Self::AtLeast => numbers.is_some_and(|(left, right)| left >= right),
        }
    }
}

/// Something to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Where: `{1}` is what the first wildcard of the conditions stands for, `+` is every device that there is.
    pub topic: String,
    /// What; in a text `{1}` is filled in too.
    pub value: Value,
    /// How surely.
    pub qos: QoS,
    /// Taken back after so long.
    pub taken_back: Option<Duration>,
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Vec<Rule>, RuleError> {
    if text.len() > MAX_FILE_BYTES {
        let reason = format!("the file has more than {MAX_FILE_BYTES} bytes");
        return Err(RuleError { line: 1, column: 1, reason });
    }
    let mut rules: Vec<Rule> = Vec::new();
    for words in split(text)? {
        let first = words.first().map_or((1, 1), |word| (word.line, word.column));
        if rules.len() == MAX_RULES {
            return Err(at(first, format!("this is one more than the {MAX_RULES} rules that a file may have")));
        }
        let number = rules.len() + 1;
        let rule = Reader { words: &words, next: 0 }.rule(number)?;
        if let Some(before) = rules.iter().position(|other| other.name == rule.name) {
            let reason = format!("rule {} is called {:?} too; give this one another name", before + 1, rule.name);
            return Err(at(first, reason));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn at((line, column): (usize, usize), reason: String) -> RuleError {
    RuleError { line, column, reason }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    line: usize,
    column: usize,
    text: String,
    is_quoted: bool,
}

/// The words of each rule.
fn split(text: &str) -> Result<Vec<Vec<Word>>, RuleError> {
    let mut rules: Vec<Vec<Word>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let words = words(number, line)?;
        let Some(first) = words.first() else { continue };
        if line.starts_with([' ', '\t']) {
            let (line, column) = (first.line, first.column);
            let Some(rule) = rules.last_mut() else {
                let reason =
                    "a line that begins with a blank goes on with a rule, and there is none before it".to_owned();
                return Err(RuleError { line, column, reason });
            };
            rule.extend(words);
        } else {
            rules.push(words);
        }
    }
    Ok(rules)
}

fn words(line: usize, text: &str) -> Result<Vec<Word>, RuleError> {
    let mut words = Vec::new();
    let mut letters = text.chars().enumerate().peekable();
    while let Some((place, letter)) = letters.next() {
        let column = place + 1;
        let mut word = Word { line, column, text: String::new(), is_quoted: false };
        match letter {
            '#' if words.is_empty() => break,
            letter if letter.is_whitespace() => continue,
            ',' => word.text.push(','),
            '"' => {
                word.is_quoted = true;
                loop {
                    match letters.next() {
                        None => {
                            return Err(at((line, column), "the quotation mark has no other at its end".to_owned()));
                        }
                        Some((_, '"')) => break,
                        Some((_, letter)) => word.text.push(letter),
                    }
                }
            }
            letter => {
                word.text.push(letter);
                while let Some((_, letter)) = letters.next_if(|(_, letter)| !letter.is_whitespace() && *letter != ',') {
                    word.text.push(letter);
                }
            }
        }
        words.push(word);
    }
    Ok(words)
}

struct Reader<'a> {
    words: &'a [Word],
    next: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.next)
    }

    fn take(&mut self) -> Option<Word> {
        let word = self.peek().cloned();
        self.next += 1;
        word
    }

    /// Takes this word if it is the next.
    fn take_if(&mut self, text: &str) -> bool {
        let is_next = self.peek().is_some_and(|word| word.text == text && !word.is_quoted);
        self.next += usize::from(is_next);
        is_next
    }

    /// What is wrong at the next word.
    fn error(&self, reason: impl Into<String>) -> RuleError {
        let place = match (self.peek(), self.words.last()) {
            (Some(word), _) => (word.line, word.column),
            (None, Some(last)) => {
                (last.line, last.column + last.text.chars().count() + 2 * usize::from(last.is_quoted))
            }
            (None, None) => (1, 1),
        };
        at(place, reason.into())
    }

    fn rule(&mut self, number: usize) -> Result<Rule, RuleError> {
        let name = self.name()?.unwrap_or_else(|| format!("rule {number}"));
        let start = self.next;
        if !self.take_if("when") {
            return Err(self.error("a rule begins with \"when\", or with its name and a colon before it"));
        }
        let place = self.next;
        let mut conditions = vec![self.condition()?];
        if conditions.iter().any(|condition| condition.filter.as_str().contains('{')) {
            self.next = place;
            return Err(self.error("the first condition has nothing before it that {1} could stand for"));
        }
        while self.take_if("and") {
            if conditions.len() == MAX_PARTS {
                return Err(self.error(format!("a rule has at most {MAX_PARTS} conditions")));
            }
            let place = self.next;
            let condition = self.condition()?;
            if let Err(reason) = check_numbers(condition.filter.as_str(), bound(&conditions)) {
                self.next = place;
                return Err(self.error(reason));
            }
            conditions.push(condition);
        }
        if !self.take_if("then") {
            return Err(self.error("here \"and\" with another condition follows, or \"then\" with what is to be done"));
        }
        let wildcards = bound(&conditions);
        let mut actions = vec![self.action(wildcards)?];
        while self.take_if(",") {
            if actions.len() == MAX_PARTS {
                return Err(self.error(format!("a rule has at most {MAX_PARTS} actions")));
            }
            actions.push(self.action(wildcards)?);
        }
        if self.peek().is_some() {
            return Err(self.error("here a comma with another action follows, or the end of the rule"));
        }
        let text = self.words.get(start..).unwrap_or_default();
        Ok(Rule { name, text: join(text), conditions, actions })
    }

    /// All words up to one that ends in a colon.
    fn name(&mut self) -> Result<Option<String>, RuleError> {
        if self.peek().is_some_and(|word| word.text == "when") {
            return Ok(None);
        }
        let Some(end) = self.words.iter().position(|word| word.text.ends_with(':') && !word.is_quoted) else {
            return Err(self.error("a rule begins with \"when\", or with its name and a colon before it"));
        };
        let words: Vec<&str> = self.words.iter().take(end + 1).map(|word| word.text.as_str()).collect();
        let name = words.join(" ").trim_end_matches(':').trim().to_owned();
        if name.is_empty() {
            return Err(self.error("the name before the colon is missing"));
        }
        self.next = end + 1;
        Ok(Some(name))
    }

    fn condition(&mut self) -> Result<Condition, RuleError> {
        let is_about_all = self.take_if("all");
        let place = self.next;
        let Some(word) = self.take().filter(|word| !word.is_quoted && word.text != ",") else {
            self.next = place;
            return Err(self.error("here the topic of a condition is missing, such as home/+/motion"));
        };
        let filter = known_filter(&word.text).map_err(|reason| at((word.line, word.column), reason))?;
        let test = self.test()?;
        let value = self.value()?;
        if !matches!(test, Test::Is | Test::IsNot) && !matches!(value, Value::Number(_)) {
            self.next -= 1;
            return Err(self.error("only numbers are more or less than others"));
        }
        let lasting = if self.take_if("for") { self.time()? } else { Duration::ZERO };
        Ok(Condition { filter, is_about_all, test, value, lasting })
    }

    fn test(&mut self) -> Result<Test, RuleError> {
        for (word, test) in
            [("<", Test::Less), ("<=", Test::AtMost), (">", Test::More), (">=", Test::AtLeast), ("is", Test::Is)]
        {
            if self.take_if(word) {
                let is_not = test == Test::Is && self.take_if("not");
                return Ok(if is_not { Test::IsNot } else { test });
            }
        }
        Err(self.error("here one of: is, is not, <, <=, >, >="))
    }

    fn value(&mut self) -> Result<Value, RuleError> {
        let place = self.next;
        let missing = "here a value is missing: true, false, a number, a word or a \"text\"";
        let Some(word) = self.take() else { return Err(self.error(missing)) };
        if word.is_quoted {
            return Ok(Value::Text(word.text));
        }
        Ok(match word.text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "," | "and" | "then" | "for" | "is" | "qos" => {
                self.next = place;
                return Err(self.error(missing));
            }
            text => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Number(number),
                _ => Value::text(text),
            },
        })
    }

    /// `90s`, `5m`, `2h`.
    fn time(&mut self) -> Result<Duration, RuleError> {
        let place = self.next;
        let time = self.take().and_then(|word| {
            let unit = word.text.chars().last()?;
            let seconds = [('s', 1), ('m', 60), ('h', 3_600)].into_iter().find(|(name, _)| *name == unit)?.1;
            let count: u64 = word.text.strip_suffix(unit)?.parse().ok()?;
            Some(Duration::from_secs(count.checked_mul(seconds)?))
        });
        match time {
            Some(time) if !time.is_zero() && time <= MAX_TIME => Ok(time),
            Some(_) => {
                self.next = place;
                Err(self.error("a time is at least 1s and at most 168h"))
            }
            None => {
                self.next = place;
                Err(self.error("here a time is missing, such as 90s, 5m or 2h"))
            }
        }
    }

    fn action(&mut self, wildcards: usize) -> Result<Action, RuleError> {
        let place = self.next;
        let Some(word) = self.take().filter(|word| !word.is_quoted && word.text != ",") else {
            self.next = place;
            return Err(self.error("here the topic of an action is missing, such as home/{1}/lamp/set"));
        };
        check_action(&word.text, wildcards).map_err(|reason| at((word.line, word.column), reason))?;
        let value_at = self.next;
        let value = self.value()?;
        if let Value::Text(text) = &value {
            if let Err(reason) = check_numbers(text, wildcards) {
                self.next = value_at;
                return Err(self.error(reason));
            }
        }
        let mut action = Action { topic: word.text, value, qos: QoS::AtLeastOnce, taken_back: None };
        loop {
            if action.taken_back.is_none() && self.peek().is_some_and(|word| word.text == "for") {
                if !matches!(action.value, Value::Bool(_)) {
                    return Err(self.error("only true and false can be taken back"));
                }
                self.next += 1;
                action.taken_back = Some(self.time()?);
            } else if self.take_if("qos") {
                action.qos = self.qos()?;
            } else {
                return Ok(action);
            }
        }
    }

    fn qos(&mut self) -> Result<QoS, RuleError> {
        for (word, qos) in [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
            if self.take_if(word) {
                return Ok(qos);
            }
        }
        Err(self.error("here 0, 1 or 2"))
    }
}

fn join(words: &[Word]) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() && word.text != "," {
            text.push(' ');
        }
        if word.is_quoted {
            text.extend(['"', '"']);
            text.insert_str(text.len() - 1, &word.text);
        } else {
            text.push_str(&word.text);
        }
    }
    text
}

/// How many wildcards the conditions have that stand for one device.
fn bound(conditions: &[Condition]) -> usize {
    let binding = conditions.iter().find(|condition| !condition.is_about_all);
    binding.map_or(0, |condition| condition.filter.as_str().split('/').filter(|level| *level == "+").count())
}

/// What the engine hears: the states of devices and whether they are there.
fn known_filter(text: &str) -> Result<TopicFilterBuf, String> {
    let filter = TopicFilter::plain(text).map_err(|error| format!("{text:?} is no Topic Filter: {error}"))?;
    let levels: Vec<&str> = text.split('/').collect();
    match levels.as_slice() {
        ["home", _, device] if *device != "#" => {}
        ["home", _, _, "status"] => {}
        _ => {
            return Err(format!(
                "{text:?}: rules hear home/ROOM/DEVICE and home/ROOM/DEVICE/status, with + for any of them"
            ));
        }
    }
    Ok(filter.to_buf())
}

fn check_action(text: &str, wildcards: usize) -> Result<(), String> {
    check_numbers(text, wildcards)?;
    let example = text.replace('+', "x");
    TopicName::new(&example).map_err(|error| format!("{text:?} is no Topic Name: {error}"))?;
    let levels: Vec<&str> = text.split('/').collect();
    if !matches!(levels.as_slice(), ["home", _, _, "set"] | ["home", "phone", "notify"]) {
        return Err(format!("{text:?}: rules say something to home/ROOM/DEVICE/set and to home/phone/notify"));
    }
    if levels.iter().any(|level| level.contains('+') && *level != "+") {
        return Err(format!("{text:?}: a + is a level of its own"));
    }
    Ok(())
}

/// Each `{1}` has its wildcard.
fn check_numbers(text: &str, wildcards: usize) -> Result<(), String> {
    for part in text.split('{').skip(1) {
        let number = part.split_once('}').and_then(|(number, _)| number.parse::<usize>().ok());
        match number {
            Some(number) if (1..=wildcards).contains(&number) => {}
            Some(number) => {
                return Err(format!("{{{number}}}: the first condition that is about one device has {wildcards} +"));
            }
            None => return Err("after { a number and } follow, such as {1}".to_owned()),
        }
    }
    Ok(())
}
