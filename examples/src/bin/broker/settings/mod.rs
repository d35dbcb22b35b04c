//! What the broker is told to do: the defaults, then the file, then the flags, merged here and nowhere else.

mod file;
mod sample;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use damselfly_broker::{Action, Config, ConfigError};
use damselfly_examples::Excerpt;
use damselfly_examples::broker::{Listening, Origins};
use damselfly_examples::guard::{Limits, Policy, Sources, WrongFile};
use tracing::level_filters::LevelFilter;

use crate::listen;

pub(crate) use sample::sample;
pub(crate) use table::{Setting, TABLE};
pub(crate) use tls::Tls;
pub(crate) use value::{Kind, Value};

/// Everything there is to set. Which names stand for which fields: [`TABLE`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setup {
    pub(crate) listen: Vec<Listen>,
    pub(crate) max_listener_connections: Option<u32>,
    pub(crate) allow_origins: Vec<String>,
    pub(crate) tls: Tls,
    /// `None`: nobody said.
    pub(crate) allow_anonymous: Option<bool>,
    pub(crate) password_file: Option<String>,
    pub(crate) access_file: Option<String>,
    pub(crate) logins: Limits,
    pub(crate) log_level: LevelFilter,
    pub(crate) demo: bool,
    pub(crate) refused_topics: Vec<String>,
    pub(crate) refused_filters: Vec<String>,
    pub(crate) config: Config,
}

/// A listener that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    /// As it was written.
    pub(crate) address: String,
    /// The settings it has its own of, by their names.
    pub(crate) own: Vec<(&'static str, Value)>,
    /// The line of the file.
    line: Option<usize>,
}

impl Listen {
    pub(crate) fn at(address: &str) -> Self {
        Self { address: address.to_owned(), own: Vec::new(), line: None }
    }
}

/// Wherever it was written.
impl PartialEq for Listen {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.own == other.own
    }
}

impl Eq for Listen {}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listen: vec![Listen::at("127.0.0.1:1883")],
            max_listener_connections: None,
            allow_origins: Vec::new(),
            tls: Tls::default(),
            allow_anonymous: None,
            password_file: None,
            access_file: None,
            logins: Limits::default(),
            log_level: LevelFilter::INFO,
            demo: false,
            refused_topics: Vec::new(),
            refused_filters: Vec::new(),
            config: Config::default(),
        }
    }
}

/// What was found wrong, with the name that the user gave it: a flag, or a line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    place: Place,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Flags,
    File(Rc<str>, usize),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Flags => f.write_str(&self.text),
            // Without a line: the file as a whole.
            Place::File(file, 0) => write!(f, "{file}: {}", self.text),
            Place::File(file, line) => write!(f, "{file}:{line}: {}", self.text),
        }
    }
}

impl Mistake {
    /// What is wrong with a file that a setting names.
    fn of_file(place: &Place, name: &str, wrong: &WrongFile) -> Self {
        let file = Excerpt(&wrong.file.to_string_lossy()).to_string();
        match wrong.mistake.line {
            0 => {
                Self { place: place.clone(), text: format!("{} {file}: {}", in_words(place, name), wrong.mistake.text) }
            }
            line => Self { place: Place::File(file.into(), line), text: wrong.mistake.text.clone() },
        }
    }
}

/// A listener with its address.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) listening: Listening,
    /// The name in a client's certificate is its user name.
    pub(crate) takes_names_of_certificates: bool,
    /// Clients may connect without a name.
    pub(crate) allows_anonymous: bool,
    place: Place,
}

impl Listener {
    /// Why it cannot listen.
    pub(crate) fn mistake(&self, text: &str) -> Mistake {
        Mistake { place: self.place.clone(), text: format!("{}: {text}", in_words(&self.place, LISTEN)) }
    }
}

const LISTEN: &str = "listen";
const PASSWORD_FILE: &str = "password_file";
const ACCESS_FILE: &str = "access_file";

/// Collects what files and flags say, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    setup: Setup,
    /// Who set what; what is not here has its default.
    places: BTreeMap<&'static str, Place>,
    mistakes: Vec<Mistake>,
    file: Option<Rc<str>>,
}

impl Builder {
    /// Reads a file. Every mistake in it is kept until [`build`](Self::build).
    pub(crate) fn read(&mut self, path: &str) {
        let name: Rc<str> = Excerpt(path).to_string().into();
        self.file = Some(name.clone());
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => file::apply(self, &text),
            Ok(Err(error)) => {
                let valid = error.utf8_error().valid_up_to();
                let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
                self.complain(line, "this line is not UTF-8, as TOML must be".to_owned());
            }
            Err(error) => self.complain(0, format!("the file cannot be read: {error}")),
        }
    }

    /// A flag was given.
    pub(crate) fn flag(&mut self, setting: &'static Setting, value: Value) {
        match (setting.set)(&mut self.setup, value) {
            Ok(()) => {
                self.places.insert(setting.name, Place::Flags);
            }
            Err(wrong) => self.mistakes.push(Mistake {
                place: Place::Flags,
                text: format!("{} must be {}", setting.flag(), setting.kind.demand(wrong)),
            }),
        }
    }

    /// What was found wrong in a line of the file.
    fn complain(&mut self, line: usize, text: String) {
        let place = self.at(line);
        self.mistakes.push(Mistake { place, text });
    }

    fn at(&self, line: usize) -> Place {
        Place::File(self.file.clone().unwrap_or_default(), line)
    }

    /// Checks what the values mean together: the setup and its listeners, or every mistake, in the order of the lines.
    pub(crate) fn build(mut self) -> Result<(Setup, Vec<Listener>), Vec<Mistake>> {
        self.check_config();
        self.check_delays();
        let config = &mut self.setup.config;
        if !self.places.contains_key("max_connect_packet_size") {
            config.max_connect_packet_size = config.max_connect_packet_size.min(config.max_packet_size);
        }
        let listeners = self.listeners();
        if self.mistakes.is_empty() {
            return Ok((self.setup, listeners));
        }
        self.mistakes.sort_by(|a, b| a.place.cmp(&b.place));
        Err(self.mistakes)
    }

    /// The core names one mistake at a time: with the default in its place the next one is found.
    fn check_config(&mut self) {
        let mut checked = self.setup.clone();
        for _ in TABLE {
            let Err(error) = checked.config.check() else { return };
            let setting = field(&error).and_then(Setting::find);
            let place = setting.and_then(|setting| self.places.get(setting.name)).cloned();
            let place = place.unwrap_or(Place::Flags);
            self.mistakes.push(Mistake { text: explain(&error, &place, setting), place });
            let Some(setting) = setting else { return };
            if (setting.set)(&mut checked, setting.default()).is_err() {
                return;
            }
        }
    }

    /// A login whose answer waits for longer than the core does is told something else.
    fn check_delays(&mut self) {
        const NAME: &str = "max_failed_login_delay";
        let Some(place) = self.places.get(NAME).cloned() else { return };
        if self.setup.logins.max_failed_login_delay >= self.setup.config.question_timeout {
            let text = format!("{} must be less than {}", in_words(&place, NAME), in_words(&place, "question_timeout"));
            self.mistakes.push(Mistake { place, text });
        }
    }

    /// The same, and the files that the settings name.
    pub(crate) fn build_with_policy(self) -> Result<(Setup, Vec<Listener>, Policy), Vec<Mistake>> {
        let places = [PASSWORD_FILE, ACCESS_FILE].map(|name| self.places.get(name).cloned().unwrap_or(Place::Flags));
        let sources = self.setup.sources();
        let policy = Policy::load(&sources);
        let built = self.build();
        match (built, policy) {
            (Ok((setup, listeners)), Ok(policy)) => Ok((setup, listeners, policy)),
            (built, policy) => {
                let mut mistakes = built.err().unwrap_or_default();
                let [of_users, of_rules] = &places;
                mistakes.extend(policy.err().unwrap_or_default().iter().map(|wrong| {
                    let is_of_users = sources.password_file.as_ref() == Some(&wrong.file);
                    let (place, name) = if is_of_users { (of_users, PASSWORD_FILE) } else { (of_rules, ACCESS_FILE) };
                    Mistake::of_file(place, name, wrong)
                }));
                Err(mistakes)
            }
        }
    }

    fn listeners(&mut self) -> Vec<Listener> {
        let mut listeners = Vec::new();
        if self.setup.listen.is_empty() {
            let place = self.places.get(LISTEN).cloned().unwrap_or(Place::Flags);
            let text = "listen must name at least one address, such as 127.0.0.1:1883".to_owned();
            self.mistakes.push(Mistake { place, text });
        }
        for asked in &self.setup.listen {
            let place = asked.line.map_or(Place::Flags, |line| self.at(line));
            let setup = self.setup.of_listener(asked);
            let name = Excerpt(&asked.address).to_string();
            let mut complain = |text: &dyn fmt::Display| {
                let text = format!("{} {name}: {text}", in_words(&place, LISTEN));
                self.mistakes.push(Mistake { place: place.clone(), text });
            };
            let found = match listen::address(&asked.address, setup.may_be_reached_by_all()) {
                Ok(found) => found,
                Err(error) => {
                    complain(&error);
                    continue;
                }
            };
            let mut listening = Listening::at(found.address);
            listening.kind = found.kind;
            listening.max_connections = setup.max_listener_connections;
            listening.origins = setup.origins();
            if found.is_secure {
                match setup.tls.load() {
                    Ok(tls) => listening.tls = Some(tls),
                    Err(text) => complain(&text),
                }
            }
            let takes_names_of_certificates = setup.tls.certificate_as_user_name && listening.tls.is_some();
            let allows_anonymous = setup.lets_in_anonymous();
            listeners.push(Listener { listening, takes_names_of_certificates, allows_anonymous, place });
        }
        listeners
    }
}

impl Setup {
    /// The same with what a listener has its own of.
    fn of_listener(&self, listen: &Listen) -> Self {
        let mut setup = self.clone();
        for (name, value) in &listen.own {
            // Whoever read it checked it.
            let _ = Setting::find(name).map(|setting| (setting.set)(&mut setup, value.clone()));
        }
        setup
    }

    /// Users and rules, and what nobody may do.
    pub(crate) fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        sources.password_file = self.password_file.as_ref().map(Into::into);
        sources.access_file = self.access_file.as_ref().map(Into::into);
        for (action, filters) in [(Action::Publish, &self.refused_topics), (Action::Subscribe, &self.refused_filters)] {
            sources.refused.extend(filters.iter().map(|filter| (action, filter.as_str().into())));
        }
        let takes_names = |setup: &Self| setup.tls.certificate_as_user_name;
        sources.has_other_names =
            takes_names(self) || self.listen.iter().any(|one| takes_names(&self.of_listener(one)));
        sources
    }

    /// What logins may cost: a delay that nobody chose ends before the core's patience does.
    pub(crate) fn logins(&self) -> Limits {
        let mut limits = self.logins.clone();
        limits.max_failed_login_delay = limits.max_failed_login_delay.min(self.config.question_timeout.mul_f32(0.9));
        limits
    }

    /// Whether clients may connect without a name.
    pub(crate) fn lets_in_anonymous(&self) -> bool {
        let has_names = self.password_file.is_some() || self.tls.certificate_as_user_name;
        self.allow_anonymous.unwrap_or(!has_names)
    }

    /// Whether it is meant that anybody who reaches a listener connects.
    fn may_be_reached_by_all(&self) -> bool {
        self.allow_anonymous == Some(true) || !self.lets_in_anonymous()
    }

    /// The pages that may connect; whoever set them checked them.
    fn origins(&self) -> Origins {
        Origins::allowing(self.allow_origins.iter().filter_map(|origin| origin.parse().ok()))
    }

    /// The names of what differs from the defaults.
    pub(crate) fn differences(&self) -> Vec<&'static str> {
        let is_other = |setting: &&Setting| (setting.get)(self) != setting.default();
        TABLE.iter().filter(is_other).map(|setting| setting.name).collect()
    }
}

/// The name as whoever set it wrote it.
fn in_words(place: &Place, name: &str) -> String {
    match place {
        Place::Flags => format!("--{}", name.replace('_', "-")),
        Place::File(..) => name.to_owned(),
    }
}

fn field(error: &ConfigError) -> Option<&'static str> {
    match *error {
        ConfigError::Zero(name) | ConfigError::TooSmall { name, .. } | ConfigError::TooLarge { name, .. } => Some(name),
        _ => None,
    }
}

/// An error of the core in the words of the file or the flags: their names, and sizes with their units.
fn explain(error: &ConfigError, place: &Place, setting: Option<&Setting>) -> String {
    let number = |limit| setting.map_or(Kind::Count(""), |setting| setting.kind).show(&Value::Number(limit));
    match *error {
        ConfigError::Zero(name) => format!("{} must not be 0", in_words(place, name)),
        ConfigError::TooSmall { name, limit } => {
            format!("{} must be at least {}", in_words(place, name), number(limit))
        }
        ConfigError::TooLarge { name, limit } => format!("{} must be at most {}", in_words(place, name), number(limit)),
        ref error => error.to_string(),
    }
}
