//! Values: how they are written, in the file and as flags alike.

use std::fmt::Write;
use std::time::Duration;

use damselfly_broker::WhenFull;
use damselfly_codec::QoS;
use damselfly_examples::broker::Origin;
use damselfly_topic::TopicFilter;
use tracing::level_filters::LevelFilter;

use super::Listen;

/// How a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number of these.
    Count(&'static str),
    /// Bytes, in powers of 1,024 if a unit is named.
    Size,
    /// Seconds, which may have a fraction.
    Time,
    /// Whole seconds.
    Seconds,
    Switch,
    Choice(&'static [&'static str]),
    /// Topic Filters.
    Filters,
    /// Origins of pages.
    Origins,
    /// The path of a file.
    File,
    /// The paths of files.
    Files,
    /// Where to listen.
    Listeners,
}

/// What a setting is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    Time(Duration),
    Switch(bool),
    Word(String),
    /// A list, each item as it is written.
    Texts(Vec<String>),
    Listeners(Vec<Listen>),
    /// `none`: there is no such limit.
    Nothing,
}

/// Why a value cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is not written like one of its kind.
    Form,
    TooLarge(u64),
}

const UNITS: [(&str, u64); 3] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

impl Kind {
    /// Reads a value as it stands on the command line, or between quotes in the file.
    pub(crate) fn parse(self, text: &str) -> Result<Value, Wrong> {
        let value = match self {
            _ if text == "none" => Some(Value::Nothing),
            Self::Count(_) => number(text).map(Value::Number),
            Self::Size => size(text).map(Value::Number),
            Self::Time => time(text).map(Value::Time),
            Self::Seconds => {
                time(text).filter(|time| time.subsec_nanos() == 0).map(|time| Value::Number(time.as_secs()))
            }
            Self::Switch => match text {
                "true" | "yes" => Some(Value::Switch(true)),
                "false" | "no" => Some(Value::Switch(false)),
                _ => None,
            },
            Self::Choice(words) => words.contains(&text).then(|| Value::Word(text.to_owned())),
            Self::Filters => TopicFilter::new(text).ok().map(|_| Value::Texts(vec![text.to_owned()])),
            Self::Origins => text.parse::<Origin>().ok().map(|_| Value::Texts(vec![text.to_owned()])),
            Self::File => (!text.is_empty()).then(|| Value::Word(text.to_owned())),
            Self::Files => (!text.is_empty()).then(|| Value::Texts(vec![text.to_owned()])),
            Self::Listeners => Some(Value::Listeners(vec![Listen::at(text)])),
        };
        value.ok_or(Wrong::Form)
    }

    /// Whether it is a list of texts, one for each flag.
    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Filters | Self::Origins | Self::Files)
    }

    /// What it is called in help texts.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Count(_) => "COUNT",
            Self::Size => "SIZE",
            Self::Time | Self::Seconds => "TIME",
            Self::Switch => "true|false",
            Self::Choice(_) => "WORD",
            Self::Filters => "FILTER",
            Self::Origins => "ORIGIN",
            Self::File | Self::Files => "FILE",
            Self::Listeners => "[SCHEME://]ADDRESS:PORT",
        }
    }

    /// What stands in the file: the unit of a number without one, or what there is to choose from.
    pub(crate) fn unit(self) -> String {
        match self {
            Self::Count(what) => format!("Unit: {what}."),
            Self::Size => "Unit: bytes.".to_owned(),
            Self::Time | Self::Seconds => "Unit: seconds.".to_owned(),
            Self::Switch => "Values: true, false.".to_owned(),
            Self::Choice(words) => format!("Values: {}.", words.join(", ")),
            Self::File => "A path, from this file's directory.".to_owned(),
            Self::Files => "A path, or a list of them, from this file's directory.".to_owned(),
            Self::Filters => "A list of Topic Filters.".to_owned(),
            Self::Origins => "A list of origins.".to_owned(),
            Self::Listeners => "A list of addresses.".to_owned(),
        }
    }

    /// What would be right, after "it must be".
    pub(crate) fn demand(self, wrong: Wrong) -> String {
        match (wrong, self) {
            // The end of a type, which nobody knows by heart.
            (Wrong::TooLarge(4_294_967_295), Self::Size) => "less than 4G".to_owned(),
            (Wrong::TooLarge(limit), kind) => format!("at most {}", kind.show(&Value::Number(limit))),
            (Wrong::Form, Self::Count(what)) => format!("a whole number ({what})"),
            (Wrong::Form, Self::Size) => {
                "a size, which is a whole number of bytes, or of K, M or G: 4096, 64K, 16 MiB".to_owned()
            }
            (Wrong::Form, Self::Time) => {
                "a time, which is a number of seconds, or has a unit: 20, 0.5, 500ms, 20s, 5m, 2h, 1d".to_owned()
            }
            (Wrong::Form, Self::Seconds) => "a time of whole seconds: 20, 20s, 5m, 2h, 1d".to_owned(),
            (Wrong::Form, Self::Switch) => "true or false".to_owned(),
            (Wrong::Form, Self::Choice(words)) => format!("one of {}", words.join(", ")),
            (Wrong::Form, Self::Filters) => {
                "Topic Filters, with + for a whole level and # at the end only: a/b, +/b, a/#".to_owned()
            }
            (Wrong::Form, Self::Origins) => {
                "origins of pages, with * for all: https://home.example, http://127.0.0.1:8080".to_owned()
            }
            (Wrong::Form, Self::File) => "the path of a file".to_owned(),
            (Wrong::Form, Self::Files) => "the path of a file, or a list of such".to_owned(),
            (Wrong::Form, Self::Listeners) => {
                "addresses with their ports: 127.0.0.1:1883, ws://127.0.0.1:8083, mqtts://127.0.0.1:8883".to_owned()
            }
        }
    }

    /// A value as [`parse`](Self::parse) reads it. Lists show their items one after the other.
    pub(crate) fn show(self, value: &Value) -> String {
        match value {
            Value::Number(number) if self == Self::Size => show_size(*number),
            Value::Number(number) => number.to_string(),
            Value::Time(time) => time.as_secs_f64().to_string(),
            Value::Switch(is_on) => is_on.to_string(),
            Value::Word(word) => word.clone(),
            Value::Texts(texts) => texts.join(" "),
            Value::Listeners(listeners) => {
                listeners.iter().map(|listen| listen.address.as_str()).collect::<Vec<_>>().join(" ")
            }
            Value::Nothing => "none".to_owned(),
        }
    }

    /// The same as it stands in the file.
    pub(crate) fn show_in_file(self, value: &Value) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let list = |items: &mut dyn Iterator<Item = &String>| {
            let mut text = String::from("[");
            for (n, item) in items.enumerate() {
                let _ = write!(text, "{}{}", if n > 0 { ", " } else { "" }, quoted(item));
            }
            text + "]"
        };
        match value {
            Value::Number(number) if self == Self::Size && number % 1024 != 0 => number.to_string(),
            Value::Number(number) if self == Self::Size => quoted(&show_size(*number)),
            Value::Number(_) | Value::Switch(_) => self.show(value),
            Value::Time(_) => quoted(&format!("{}s", self.show(value))),
            Value::Word(_) | Value::Nothing => quoted(&self.show(value)),
            Value::Texts(texts) => list(&mut texts.iter()),
            Value::Listeners(listeners) => list(&mut listeners.iter().map(|listen| &listen.address)),
        }
    }
}

/// Digits and nothing else: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `4096`, `64K`, `16M`, `16 MiB`, `2g`.
fn size(text: &str) -> Option<u64> {
    let short = text.strip_suffix("iB").unwrap_or(text);
    let unit = UNITS.into_iter().find_map(|(suffix, unit)| {
        let digits = short.strip_suffix(suffix).or_else(|| short.strip_suffix(&suffix.to_ascii_lowercase()))?;
        Some((digits.trim_end_matches(' '), unit))
    });
    let (digits, unit) = unit.unwrap_or((text, 1));
    number(digits)?.checked_mul(unit)
}

/// `20`, `0.5`, `500ms`, `20 s`, `5m`, `2h`, `1d`.
fn time(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let micros = match unit {
        "" | "s" => 1_000_000,
        "us" => 1,
        "ms" => 1_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    let (whole, fraction) = digits.trim_end_matches(' ').split_once('.').unwrap_or((digits.trim_end_matches(' '), "0"));
    let unit = Duration::from_micros(micros);
    let fraction = (!fraction.is_empty() && number(fraction).is_some())
        .then(|| format!("0.{fraction}").parse::<f64>().ok())?
        .and_then(|part| Duration::try_from_secs_f64(unit.as_secs_f64() * part).ok())?;
    unit.checked_mul(number(whole)?.try_into().ok()?)?.checked_add(fraction)
}

fn show_size(bytes: u64) -> String {
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit && bytes % unit == 0) {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A type that a setting can have.
pub(crate) trait Field {
    fn get(&self) -> Value;
    fn set(&mut self, value: Value) -> Result<(), Wrong>;
}

macro_rules! number_field {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn get(&self) -> Value {
                Value::Number(u64::from(*self))
            }

            fn set(&mut self, value: Value) -> Result<(), Wrong> {
                *self = match value {
                    Value::Number(number) => {
                        number.try_into().map_err(|_| Wrong::TooLarge(u64::from(<$number>::MAX)))?
                    }
                    _ => return Err(Wrong::Form),
                };
                Ok(())
            }
        }
    )*};
}
number_field!(u16, u32, u64);

/// Fields that one variant of [`Value`] fits.
macro_rules! field {
    ($($field:ty, $variant:ident;)*) => {$(
        impl Field for $field {
            fn get(&self) -> Value {
                Value::$variant(self.clone())
            }

            fn set(&mut self, value: Value) -> Result<(), Wrong> {
                *self = match value {
                    Value::$variant(value) => value,
                    _ => return Err(Wrong::Form),
                };
                Ok(())
            }
        }
    )*};
}
field! {
    Duration, Time;
    bool, Switch;
    Vec<String>, Texts;
    Vec<Listen>, Listeners;
}

impl Field for Option<u32> {
    fn get(&self) -> Value {
        self.map_or(Value::Nothing, |number| number.get())
    }

    fn set(&mut self, value: Value) -> Result<(), Wrong> {
        if value == Value::Nothing {
            *self = None;
            return Ok(());
        }
        self.insert(0).set(value)
    }
}

/// A switch that nobody may have touched.
impl Field for Option<bool> {
    fn get(&self) -> Value {
        self.map_or(Value::Nothing, Value::Switch)
    }

    fn set(&mut self, value: Value) -> Result<(), Wrong> {
        *self = match value {
            Value::Nothing => None,
            Value::Switch(is_on) => Some(is_on),
            _ => return Err(Wrong::Form),
        };
        Ok(())
    }
}

impl Field for Option<String> {
    fn get(&self) -> Value {
        self.clone().map_or(Value::Nothing, Value::Word)
    }

    fn set(&mut self, value: Value) -> Result<(), Wrong> {
        *self = match value {
            Value::Nothing => None,
            Value::Word(word) => Some(word),
            _ => return Err(Wrong::Form),
        };
        Ok(())
    }
}

impl Field for QoS {
    fn get(&self) -> Value {
        Value::Number(match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        })
    }

    fn set(&mut self, value: Value) -> Result<(), Wrong> {
        *self = match value {
            Value::Number(0) => Self::AtMostOnce,
            Value::Number(1) => Self::AtLeastOnce,
            Value::Number(2) => Self::ExactlyOnce,
            Value::Number(_) => return Err(Wrong::TooLarge(2)),
            _ => return Err(Wrong::Form),
        };
        Ok(())
    }
}

/// A type with a word for each of its values.
pub(crate) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [&'static str];
    /// In the order of the names.
    const VALUES: &'static [Self];
}

impl<T: Named> Field for T {
    fn get(&self) -> Value {
        let at = Self::VALUES.iter().position(|value| value == self);
        Value::Word(at.and_then(|at| Self::NAMES.get(at)).copied().unwrap_or("unknown").to_owned())
    }

    fn set(&mut self, value: Value) -> Result<(), Wrong> {
        let Value::Word(word) = value else { return Err(Wrong::Form) };
        let at = Self::NAMES.iter().position(|name| *name == word);
        *self = *at.and_then(|at| Self::VALUES.get(at)).ok_or(Wrong::Form)?;
        Ok(())
    }
}

impl Named for WhenFull {
    const NAMES: &'static [&'static str] = &["drop-newest", "drop-oldest", "close-legacy-publisher"];
    const VALUES: &'static [Self] = &[Self::DropNewest, Self::DropOldest, Self::CloseLegacyPublisher];
}

impl Named for LevelFilter {
    const NAMES: &'static [&'static str] = &["off", "error", "warn", "info", "debug", "trace"];
    const VALUES: &'static [Self] = &[Self::OFF, Self::ERROR, Self::WARN, Self::INFO, Self::DEBUG, Self::TRACE];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_units_and_show_them() {
        let size = |text: &str| Kind::Size.parse(text);
        for (text, bytes) in [
            ("64K", 65_536),
            ("1m", 1_048_576),
            ("2G", 2_147_483_648),
            ("16MiB", 16_777_216),
            ("16 MiB", 16_777_216),
            ("1000", 1_000),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(Value::Number(bytes)), "{text}");
        }
        for text in ["16iB", "12Q", "1.5M", "K", "-1", "+1", "", "16MB", " 1", "99999999999G", "1_000"] {
            assert_eq!(size(text), Err(Wrong::Form), "{text}");
        }
        for (bytes, text) in [(65_536, "64K"), (65_537, "65537"), (0, "0"), (3 << 30, "3G")] {
            assert_eq!(Kind::Size.show(&Value::Number(bytes)), text);
        }
    }

    #[test]
    fn times_take_fractions_and_units_and_refuse_what_is_no_time() {
        for (text, millis) in
            [("20", 20_000), ("0.25", 250), ("500ms", 500), ("20 s", 20_000), ("1.5m", 90_000), ("2h", 7_200_000)]
        {
            assert_eq!(Kind::Time.parse(text), Ok(Value::Time(Duration::from_millis(millis))), "{text}");
        }
        for text in ["-1", "NaN", "soon", "", "s", ".5", "1.", "1..2", "1e3", "20 x", "99999999999999999999", "inf"] {
            assert_eq!(Kind::Time.parse(text), Err(Wrong::Form), "{text}");
        }
        assert_eq!(Kind::Seconds.parse("2m"), Ok(Value::Number(120)));
        assert_eq!(Kind::Seconds.parse("0.5"), Err(Wrong::Form));
        let time = Value::Time(Duration::from_millis(2_250));
        assert_eq!(Kind::Time.parse(&Kind::Time.show(&time)), Ok(time));
    }
}
