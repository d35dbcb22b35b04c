//! The file: TOML, of which every mistake is found at once and told with its line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{Setting, TABLE};
use super::value::{Kind, Value, Wrong};
use super::{Builder, Excerpt, LISTEN, Listen};

/// The keys of one `[[listen]]`: where it is, and the settings that each listener may have its own of.
const ADDRESS: &str = "address";
const OWN: [&str; 9] = [
    "max_listener_connections",
    "allow_anonymous",
    "allow_origins",
    "certificate",
    "key",
    "client_ca",
    "crl",
    "require_client_certificate",
    "certificate_as_user_name",
];

/// Sets what the text says.
pub(super) fn apply(builder: &mut Builder, text: &str) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let reader = Reader { text };
    for error in errors {
        let line = reader.line(error.span().map_or(0, |span| span.start));
        builder.complain(line, format!("this is not TOML: {}", Excerpt(error.message())));
    }
    for (key, value) in table.get_ref() {
        let line = reader.line(key.span().start);
        match Setting::find(key.get_ref()) {
            Some(setting) => set(builder, &reader, setting, line, value),
            None => builder.complain(line, unknown(key.get_ref(), Setting::nearest(key.get_ref()))),
        }
    }
}

fn unknown(key: &str, nearest: &str) -> String {
    format!("{}: there is no such key; the nearest is {nearest}", Excerpt(key))
}

struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    /// Lines count from 1.
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// As it is written.
    fn raw(&self, value: &Spanned<DeValue<'_>>) -> &'a str {
        self.text.get(value.span()).unwrap_or_default()
    }
}

fn set(
    builder: &mut Builder,
    reader: &Reader<'_>,
    setting: &'static Setting,
    line: usize,
    value: &Spanned<DeValue<'_>>,
) {
    let read = read(builder, reader, setting, value);
    // Whatever is written there, it is not the default's fault.
    builder.places.insert(setting.name, builder.at(line));
    if let Err(wrong) = read.and_then(|value| (setting.set)(&mut builder.setup, value)) {
        let demand = setting.kind.demand(wrong);
        let text = format!("{} = {}: it must be {demand}", setting.name, Excerpt(reader.raw(value)));
        builder.complain(line, text);
    }
}

fn read(
    builder: &mut Builder,
    reader: &Reader<'_>,
    setting: &Setting,
    value: &Spanned<DeValue<'_>>,
) -> Result<Value, Wrong> {
    match setting.kind {
        Kind::Listeners => listeners(builder, reader, value).map(Value::Listeners),
        Kind::Files if value.get_ref().is_str() => {
            scalar(Kind::Files, reader, value).map(|value| beside(builder, value))
        }
        kind if kind.is_list() => texts(builder, reader, setting, value).map(Value::Texts).map(|value| match kind {
            Kind::Files => beside(builder, value),
            _ => value,
        }),
        Kind::File => scalar(Kind::File, reader, value).map(|value| beside(builder, value)),
        kind => scalar(kind, reader, value),
    }
}

/// A path is looked for in the directory of the settings file, wherever the program was started.
fn beside(builder: &Builder, value: Value) -> Value {
    let directory = builder.file.as_deref().and_then(|file| Path::new(file).parent());
    let Some(directory) = directory else { return value };
    let beside = |path: String| directory.join(path).to_string_lossy().into_owned();
    match value {
        Value::Word(path) => Value::Word(beside(path)),
        Value::Texts(paths) => Value::Texts(paths.into_iter().map(beside).collect()),
        value => value,
    }
}

/// A string is read like a flag; numbers and truth values may also stand without quotes.
fn scalar(kind: Kind, reader: &Reader<'_>, value: &Spanned<DeValue<'_>>) -> Result<Value, Wrong> {
    match (value.get_ref(), kind) {
        (DeValue::String(text), Kind::Count(_) | Kind::Switch) if text != "none" => Err(Wrong::Form),
        (DeValue::String(text), _) => kind.parse(text),
        (DeValue::Integer(number), Kind::Count(_) | Kind::Size | Kind::Time | Kind::Seconds) => {
            let number = u64::from_str_radix(number.as_str(), number.radix());
            let number = number.map_err(|_| Wrong::Form)?;
            kind.parse(&number.to_string())
        }
        (DeValue::Float(_), Kind::Time) => kind.parse(reader.raw(value)),
        (DeValue::Boolean(is_on), Kind::Switch) => Ok(Value::Switch(*is_on)),
        _ => Err(Wrong::Form),
    }
}

/// A list; each item that is wrong is told with its own line, and left out.
fn texts(
    builder: &mut Builder,
    reader: &Reader<'_>,
    setting: &Setting,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<String>, Wrong> {
    let mut texts = Vec::new();
    for item in value.get_ref().as_array().ok_or(Wrong::Form)? {
        let text = item.get_ref().as_str();
        let Some(text) = text.filter(|text| matches!(setting.kind.parse(text), Ok(Value::Texts(_)))) else {
            let demand = setting.kind.demand(Wrong::Form);
            let text = format!("{}: {} is none of the {demand}", setting.name, Excerpt(reader.raw(item)));
            builder.complain(reader.line(item.span().start), text);
            continue;
        };
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// `listen = ["ADDRESS:PORT"]` or `[[listen]]`, one for each.
fn listeners(builder: &mut Builder, reader: &Reader<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Listen>, Wrong> {
    let mut listeners = Vec::new();
    for item in value.get_ref().as_array().ok_or(Wrong::Form)? {
        let line = reader.line(item.span().start);
        match item.get_ref() {
            DeValue::String(address) => listeners.push(Listen { line: Some(line), ..Listen::at(address) }),
            DeValue::Table(table) => listeners.extend(listener(builder, reader, line, table)),
            _ => {
                let demand = Kind::Listeners.demand(Wrong::Form);
                let text = format!("{LISTEN}: {} is none of the {demand}", Excerpt(reader.raw(item)));
                builder.complain(line, text);
            }
        }
    }
    Ok(listeners)
}

fn listener(builder: &mut Builder, reader: &Reader<'_>, line: usize, table: &DeTable<'_>) -> Option<Listen> {
    let mut listen = Listen { line: Some(line), ..Listen::at("") };
    let mut is_named = false;
    for (key, value) in table {
        let line = reader.line(key.span().start);
        match (&**key.get_ref(), value.get_ref()) {
            (ADDRESS, DeValue::String(address)) => {
                (listen.address, listen.line, is_named) = (address.to_string(), Some(line), true);
            }
            (ADDRESS, _) => {
                is_named = true;
                let raw = Excerpt(reader.raw(value));
                builder.complain(line, format!("{ADDRESS} = {raw}: it must be text such as \"127.0.0.1:1883\""));
            }
            (key, _) if OWN.contains(&key) => {
                let Some(setting) = Setting::find(key) else { continue };
                match read(builder, reader, setting, value).and_then(|value| setting.check(value)) {
                    Ok(value) => listen.own.push((setting.name, value)),
                    Err(wrong) => {
                        let (raw, demand) = (Excerpt(reader.raw(value)), setting.kind.demand(wrong));
                        builder.complain(line, format!("{key} = {raw}: it must be {demand}"));
                    }
                }
            }
            (key, _) => builder.complain(line, unknown_in_listener(key)),
        }
    }
    if !is_named {
        builder.complain(line, format!("[[{LISTEN}]]: {ADDRESS} is missing, such as {ADDRESS} = \"127.0.0.1:1883\""));
    }
    (!listen.address.is_empty()).then_some(listen)
}

/// Whoever appends a line to the file is easily below a `[[listen]]`.
fn unknown_in_listener(key: &str) -> String {
    if TABLE.iter().any(|setting| setting.name == key) {
        return format!("{key} does not belong to a listener: it must stand above the first [[{LISTEN}]]");
    }
    let near = |name: &&str| strsim::damerau_levenshtein(key, name);
    unknown(key, OWN.into_iter().chain([ADDRESS]).min_by_key(near).unwrap_or(ADDRESS))
}
