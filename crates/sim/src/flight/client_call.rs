//! What a client core is told, as a value and as a line.

use damselfly_client::{ConnectParameters, Intake, TransportLost};
use damselfly_codec::{PropertiesBuf, ReasonCode};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicFilterBuf};

use super::broker_call::read_code;
use super::packets::{self, Subscriptions};
use super::text::{Line, Words};

/// One call. Commits and tokens are counted from 1, in the order in which the core named them.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Up(ConnectParameters),
    Down(TransportLost),
    /// `kept` bytes that were handed in before and not consumed come again in front.
    Input {
        kept: usize,
        bytes: Vec<u8>,
    },
    Frame {
        kept: usize,
        bytes: Vec<u8>,
    },
    Progress,
    Transmitted(usize),
    Timeout,
    Committed(u64),
    Pause,
    Resume,
    Close(Timestamp),
    Disconnect,
    Publish(Message),
    Request {
        message: Message,
        deadline: Timestamp,
    },
    Subscribe(Subscriptions),
    Unsubscribe(Vec<TopicFilterBuf>, PropertiesBuf),
    Acknowledge {
        token: u64,
        reason_code: ReasonCode,
    },
    Authenticate(PropertiesBuf),
    Reauthenticate(PropertiesBuf),
}

const LOST: [(&str, TransportLost); 3] =
    [("not-opened", TransportLost::NotOpened), ("closed", TransportLost::Closed), ("failed", TransportLost::Failed)];

impl Call {
    /// It is about something that is gone.
    pub(super) const fn is_void(&self) -> bool {
        matches!(self, Self::Committed(0) | Self::Acknowledge { token: 0, .. })
    }

    /// `None` if it cannot be written.
    pub(super) fn write(&self) -> Option<String> {
        let line = match self {
            Self::Up(parameters) => Line::new("up").bytes(&packets::of_parameters(parameters)?),
            Self::Down(why) => Line::new("down").word(LOST.iter().find(|(_, lost)| lost == why)?.0),
            Self::Input { kept, bytes } => Line::new("input").word(kept).bytes(bytes),
            Self::Frame { kept, bytes } => Line::new("frame").word(kept).bytes(bytes),
            Self::Progress => Line::new("progress"),
            Self::Transmitted(len) => Line::new("transmitted").word(len),
            Self::Timeout => Line::new("timeout"),
            Self::Committed(commit) => Line::new("committed").word(commit),
            Self::Pause => Line::new("pause"),
            Self::Resume => Line::new("resume"),
            Self::Close(deadline) => Line::new("close").word(deadline.as_micros()),
            Self::Disconnect => Line::new("disconnect"),
            Self::Publish(message) => write_message(Line::new("publish"), message)?,
            Self::Request { message, deadline } => {
                write_message(Line::new("request").word(deadline.as_micros()), message)?
            }
            Self::Subscribe((filters, properties)) => {
                let filters: Vec<_> = filters.iter().map(|(filter, options)| (filter.as_filter(), *options)).collect();
                Line::new("subscribe").bytes(&packets::of_subscribe(&filters, properties.as_properties())?)
            }
            Self::Unsubscribe(filters, properties) => {
                let filters: Vec<TopicFilter<'_>> = filters.iter().map(TopicFilterBuf::as_filter).collect();
                Line::new("unsubscribe").bytes(&packets::of_unsubscribe(&filters, properties.as_properties())?)
            }
            Self::Acknowledge { token, reason_code } => Line::new("acknowledge").word(token).word(reason_code.code()),
            Self::Authenticate(properties) => {
                Line::new("authenticate").bytes(&packets::of_properties(properties.as_properties())?)
            }
            Self::Reauthenticate(properties) => {
                Line::new("reauthenticate").bytes(&packets::of_properties(properties.as_properties())?)
            }
        };
        Some(line.0)
    }

    /// `None` if it says nothing that a client could be told.
    pub(super) fn read(words: &mut Words<'_>) -> Option<Self> {
        let time = |words: &mut Words<'_>| words.number().map(Timestamp::from_micros);
        let call = match words.word()? {
            "up" => Self::Up(packets::to_parameters(&words.bytes()?)?),
            "down" => {
                let word = words.word()?;
                Self::Down(LOST.iter().find(|(name, _)| *name == word)?.1)
            }
            "input" => Self::Input { kept: words.number()?, bytes: words.bytes()? },
            "frame" => Self::Frame { kept: words.number()?, bytes: words.bytes()? },
            "progress" => Self::Progress,
            "transmitted" => Self::Transmitted(words.number()?),
            "timeout" => Self::Timeout,
            "committed" => Self::Committed(words.number()?),
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "close" => Self::Close(time(words)?),
            "disconnect" => Self::Disconnect,
            "publish" => Self::Publish(read_message(words)?),
            "request" => {
                let deadline = time(words)?;
                Self::Request { message: read_message(words)?, deadline }
            }
            "subscribe" => Self::Subscribe(packets::to_subscribe(&words.bytes()?)?),
            "unsubscribe" => {
                let (filters, properties) = packets::to_unsubscribe(&words.bytes()?)?;
                Self::Unsubscribe(filters, properties)
            }
            "acknowledge" => Self::Acknowledge { token: words.number()?, reason_code: read_code(words)? },
            "authenticate" => Self::Authenticate(packets::to_properties(&words.bytes()?)?),
            "reauthenticate" => Self::Reauthenticate(packets::to_properties(&words.bytes()?)?),
            _ => return None,
        };
        words.end()?;
        Some(call)
    }
}

fn write_message(line: Line, message: &Message) -> Option<Line> {
    let expires_at = message.expires_at().map(Timestamp::as_micros);
    Some(line.bytes(&packets::of_message(message)?).maybe(expires_at))
}

fn read_message(words: &mut Words<'_>) -> Option<Message> {
    let packet = words.bytes()?;
    packets::to_message(&packet, words.maybe_number()?)
}

/// What the core did with bytes.
pub(super) fn intake(intake: Intake) -> String {
    let Intake { consumed, wanted, paused } = intake;
    format!("{consumed} {wanted} {}", u8::from(paused))
}
