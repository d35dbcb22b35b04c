//! Histories as text: what several clients do, one line a step. A failing history is printed so, and read back so.
//!
//! ```text
//! limits queue=3 bytes=9000 when-full=drop-oldest
//! alice: connect 5.0 clean expiry=30 receive=2 aliases=1 packet=30 manual will qos1 retain delay=5 expiry=9 "w" "bye"
//! alice: subscribe "a/+" qos1 nolocal rap rh=1 id=7
//! alice: publish qos2 retain expiry=10 alias=1 size=100 "a/b" "m7" cut=5
//! alice: ack pubrec 2
//! wait 5
//! hold commits
//! commit 2
//! hold questions
//! answer no 1
//! ```
//!
//! `limits` comes first: what the broker's queues hold, and what goes when one is full. A message of `size=100` has so many
//! bytes of payload. With `alias=1` a client names the alias instead of the topic once it has told what that stands for;
//! a `blind` one never tells. While commits or questions are held, `commit 2` lets two journal groups be durable, and `answer
//! no 1` answers the second question that is open; `commit` and `answer` alone end that. What is asked about is in
//! `held.rs`.
//!
//! `cut=5` sends the first five bytes of the packet, then the connection breaks. A `manual` client answers nothing until
//! it is told to `ack`: its oldest answer that is due, or the oldest of a type, or so many of them. `refuse` answers the
//! oldest PUBLISH with an error. A `deaf` client no longer sees what arrives. A step that makes no sense, such as one of a
//! client without a connection, is passed over.

use core::fmt;

/// What happens in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script(pub(crate) Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What a queue holds. Counts as the first step only.
    Limits(Limits),
    /// So many seconds go by.
    Wait(u64),
    /// From here on commits or questions are not answered at once.
    Hold(Late),
    /// So many journal groups become durable; `None`: all, and the later ones at once.
    Commit(Option<usize>),
    /// Yes or no to the question at a place among the open ones; `None`: yes to all, and to the later ones at once.
    Answer(Option<(bool, usize)>),
    /// A client does something; `cut`: only so many bytes of it arrive before its connection breaks.
    Client { name: String, action: Action, cut: Option<usize> },
}

/// What may come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    Commits,
    Questions,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Messages that wait for one client.
    pub(crate) queue: Option<u32>,
    /// Their bytes.
    pub(crate) bytes: Option<u64>,
    pub(crate) when_full: WhenFull,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WhenFull {
    #[default]
    DropNewest,
    DropOldest,
    CloseLegacyPublisher,
}

impl WhenFull {
    pub(crate) const ALL: [(Self, &'static str); 3] = [
        (Self::DropNewest, "drop-newest"),
        (Self::DropOldest, "drop-oldest"),
        (Self::CloseLegacyPublisher, "close-legacy-publisher"),
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connect(Connect),
    Subscribe { filter: String, options: Options },
    Unsubscribe { filter: String },
    Publish(Publish),
    Ack { kind: Option<Kind>, count: usize },
    Refuse,
    Deaf,
    Cut,
    Disconnect { with_will: bool, expiry: Option<u32> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) is_v5: bool,
    pub(crate) clean: bool,
    /// 5.0: Session Expiry Interval.
    pub(crate) expiry: Option<u32>,
    /// 5.0: Receive Maximum.
    pub(crate) receive: Option<u16>,
    /// 5.0: Topic Alias Maximum.
    pub(crate) aliases: Option<u16>,
    /// 5.0: Maximum Packet Size.
    pub(crate) packet: Option<u32>,
    pub(crate) manual: bool,
    pub(crate) will: Option<Will>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) publish: Publish,
    pub(crate) delay: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<u32>,
    /// 5.0: Topic Alias.
    pub(crate) alias: Option<u16>,
    /// The alias is sent without the topic, whether the broker knows it or not.
    pub(crate) is_blind: bool,
    /// Bytes of the payload, if they are more than its text has.
    pub(crate) size: Option<usize>,
    pub(crate) topic: String,
    pub(crate) payload: String,
}

impl Publish {
    /// With the payload as long as it is to be.
    pub(crate) fn padded(&self) -> Self {
        let size = self.size.unwrap_or(0);
        Self { size: None, payload: format!("{:.<size$}", self.payload), ..self.clone() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: u8,
    pub(crate) id: Option<u32>,
}

/// The answers a client owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl Kind {
    pub(crate) const ALL: [(Self, &'static str); 4] =
        [(Self::Puback, "puback"), (Self::Pubrec, "pubrec"), (Self::Pubrel, "pubrel"), (Self::Pubcomp, "pubcomp")];
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits(limits) => {
                f.write_str("limits")?;
                number(f, "queue", limits.queue)?;
                number(f, "bytes", limits.bytes)?;
                let word = WhenFull::ALL.iter().find(|(known, _)| *known == limits.when_full).map(|(_, word)| *word);
                number(f, "when-full", word)
            }
            Self::Wait(seconds) => write!(f, "wait {seconds}"),
            Self::Hold(Late::Commits) => f.write_str("hold commits"),
            Self::Hold(Late::Questions) => f.write_str("hold questions"),
            Self::Commit(None) => f.write_str("commit"),
            Self::Commit(Some(count)) => write!(f, "commit {count}"),
            Self::Answer(None) => f.write_str("answer"),
            Self::Answer(Some((yes, at))) => write!(f, "answer {} {at}", if *yes { "yes" } else { "no" }),
            Self::Client { name, action, cut } => {
                write!(f, "{name}: {action}")?;
                cut.map_or(Ok(()), |cut| write!(f, " cut={cut}"))
            }
        }
    }
}

fn flag(f: &mut fmt::Formatter<'_>, is_set: bool, word: &str) -> fmt::Result {
    if is_set { write!(f, " {word}") } else { Ok(()) }
}

fn number<T: fmt::Display>(f: &mut fmt::Formatter<'_>, key: &str, value: Option<T>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {key}={value}"))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(connect) => {
                write!(f, "connect {}", if connect.is_v5 { "5.0" } else { "3.1.1" })?;
                flag(f, connect.clean, "clean")?;
                number(f, "expiry", connect.expiry)?;
                number(f, "receive", connect.receive)?;
                number(f, "aliases", connect.aliases)?;
                number(f, "packet", connect.packet)?;
                flag(f, connect.manual, "manual")?;
                let Some(will) = &connect.will else { return Ok(()) };
                write!(f, " will delay={}{}", will.delay, will.publish)
            }
            Self::Subscribe { filter, options } => {
                write!(f, "subscribe \"{filter}\" qos{}", options.qos)?;
                flag(f, options.no_local, "nolocal")?;
                flag(f, options.retain_as_published, "rap")?;
                number(f, "rh", (options.retain_handling > 0).then_some(options.retain_handling))?;
                number(f, "id", options.id)
            }
            Self::Unsubscribe { filter } => write!(f, "unsubscribe \"{filter}\""),
            Self::Publish(publish) => write!(f, "publish{publish}"),
            Self::Ack { kind, count } => {
                f.write_str("ack")?;
                if let Some((_, word)) = Kind::ALL.iter().find(|(known, _)| Some(*known) == *kind) {
                    write!(f, " {word}")?;
                }
                if *count == 1 { Ok(()) } else { write!(f, " {count}") }
            }
            Self::Refuse => f.write_str("refuse"),
            Self::Deaf => f.write_str("deaf"),
            Self::Cut => f.write_str("cut"),
            Self::Disconnect { with_will, expiry } => {
                f.write_str("disconnect")?;
                flag(f, *with_will, "with-will")?;
                number(f, "expiry", *expiry)
            }
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " qos{}", self.qos)?;
        flag(f, self.retain, "retain")?;
        number(f, "expiry", self.expiry)?;
        number(f, "alias", self.alias)?;
        flag(f, self.is_blind, "blind")?;
        number(f, "size", self.size)?;
        write!(f, " \"{}\" \"{}\"", self.topic, self.payload)
    }
}

impl core::str::FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| step(line).map_err(|word| format!("{line}: not understood: {word}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The words of a line that are not read yet; quoted ones without their quotes.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn of(mut line: &'a str) -> Result<Self, String> {
        let mut words = Vec::new();
        while !line.is_empty() {
            let (word, rest) = if let Some(quoted) = line.strip_prefix('"') {
                quoted.split_once('"').ok_or("a quote without its end")?
            } else {
                line.split_once(' ').unwrap_or((line, ""))
            };
            words.push(word);
            line = rest.trim_start();
        }
        Ok(Self(words))
    }

    fn first(&mut self) -> Result<&'a str, String> {
        if self.0.is_empty() { Err("a word is missing".into()) } else { Ok(self.0.remove(0)) }
    }

    fn flag(&mut self, word: &str) -> bool {
        let at = self.0.iter().position(|found| *found == word);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn number<T: core::str::FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        let value = |word: &&'a str| word.strip_prefix(key)?.strip_prefix('=');
        let Some(at) = self.0.iter().position(|word| value(word).is_some()) else { return Ok(None) };
        let word = self.0.remove(at);
        value(&word).and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| word.into())
    }

    fn qos(&mut self) -> u8 {
        (0..=2).find(|level| self.flag(&format!("qos{level}"))).unwrap_or(0)
    }

    fn publish(&mut self) -> Result<Publish, String> {
        Ok(Publish {
            qos: self.qos(),
            retain: self.flag("retain"),
            expiry: self.number("expiry")?,
            alias: self.number("alias")?,
            is_blind: self.flag("blind"),
            size: self.number("size")?,
            topic: self.first()?.into(),
            payload: self.first()?.into(),
        })
    }

    fn connect(&mut self) -> Result<Connect, String> {
        let is_v5 = match self.first()? {
            "5.0" => true,
            "3.1.1" => false,
            word => return Err(word.into()),
        };
        // What stands behind `will` is about the will.
        let own = self.0.iter().position(|word| *word == "will").unwrap_or(self.0.len());
        let mut behind = Self(self.0.split_off(own));
        let will = if behind.flag("will") {
            Some(Will { delay: behind.number("delay")?.unwrap_or(0), publish: behind.publish()? })
        } else {
            None
        };
        let connect = Connect {
            is_v5,
            clean: self.flag("clean"),
            expiry: self.number("expiry")?,
            receive: self.number("receive")?,
            aliases: self.number("aliases")?,
            packet: self.number("packet")?,
            manual: self.flag("manual"),
            will,
        };
        self.0.append(&mut behind.0);
        Ok(connect)
    }

    fn subscribe(&mut self) -> Result<Action, String> {
        let options = Options {
            qos: self.qos(),
            no_local: self.flag("nolocal"),
            retain_as_published: self.flag("rap"),
            retain_handling: self.number("rh")?.unwrap_or(0),
            id: self.number("id")?,
        };
        Ok(Action::Subscribe { filter: self.first()?.into(), options })
    }

    fn ack(&mut self) -> Result<Action, String> {
        let kind = Kind::ALL.iter().find(|(_, word)| self.flag(word)).map(|(kind, _)| *kind);
        let count = if self.0.is_empty() { 1 } else { self.first()?.parse().map_err(|_| "a number")? };
        Ok(Action::Ack { kind, count })
    }
}

/// A step that is nobody's.
fn step_of_all(words: &mut Words<'_>) -> Result<Step, String> {
    let count = |words: &mut Words<'_>| words.first()?.parse().map_err(|_| String::from("a number"));
    Ok(match words.first()? {
        "limits" => {
            let policy: Option<String> = words.number("when-full")?;
            let named = |(_, word): &&(WhenFull, &str)| policy.as_deref() == Some(*word);
            let when_full = match (WhenFull::ALL.iter().find(named), &policy) {
                (Some((when_full, _)), _) => *when_full,
                (None, None) => WhenFull::default(),
                (None, Some(policy)) => return Err(policy.clone()),
            };
            Step::Limits(Limits { queue: words.number("queue")?, bytes: words.number("bytes")?, when_full })
        }
        "wait" => Step::Wait(words.first()?.parse().map_err(|_| "a number")?),
        "hold" if words.flag("commits") => Step::Hold(Late::Commits),
        "hold" if words.flag("questions") => Step::Hold(Late::Questions),
        "commit" if words.0.is_empty() => Step::Commit(None),
        "commit" => Step::Commit(Some(count(words)?)),
        "answer" if words.0.is_empty() => Step::Answer(None),
        "answer" if words.flag("yes") => Step::Answer(Some((true, count(words)?))),
        "answer" if words.flag("no") => Step::Answer(Some((false, count(words)?))),
        word => return Err(word.into()),
    })
}

fn step(line: &str) -> Result<Step, String> {
    if line.split('"').next().is_some_and(|plain| !plain.contains(": ")) {
        let mut words = Words::of(line)?;
        let step = step_of_all(&mut words)?;
        return if words.0.is_empty() { Ok(step) } else { Err(words.0.join(" ")) };
    }
    let (name, rest) = line.split_once(": ").ok_or("whose step it is")?;
    let mut words = Words::of(rest)?;
    let cut = words.number("cut")?;
    let action = match words.first()? {
        "connect" => Action::Connect(words.connect()?),
        "subscribe" => words.subscribe()?,
        "unsubscribe" => Action::Unsubscribe { filter: words.first()?.into() },
        "publish" => Action::Publish(words.publish()?),
        "ack" => words.ack()?,
        "refuse" => Action::Refuse,
        "deaf" => Action::Deaf,
        "cut" => Action::Cut,
        "disconnect" => Action::Disconnect { with_will: words.flag("with-will"), expiry: words.number("expiry")? },
        word => return Err(word.into()),
    };
    if words.0.is_empty() { Ok(Step::Client { name: name.into(), action, cut }) } else { Err(words.0.join(" ")) }
}
