//! What a broker core is told, as a value and as a line.

use core::num::NonZeroU16;
use std::net::SocketAddr;
use std::sync::Arc;

use damselfly_broker::{Access, Answer, Grant, Intake, ProblemInformation, Published, ReasonCode};
use damselfly_codec::{SubscriptionId, SubscriptionOptions};
use damselfly_session::Message;
use damselfly_topic::TopicFilterBuf;

use super::packets;
use super::redact::mask;
use super::rules::{read_access, read_information, write_access, write_information};
use super::text::{Line, Words};

/// One call. Connections, questions, commits, participants and tokens are counted from 1, in the order in which the core
/// named them.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Connection(Option<SocketAddr>),
    Lost(u64),
    /// `kept` bytes that were handed in before and not consumed come again in front.
    Input {
        connection: u64,
        kept: usize,
        bytes: Vec<u8>,
    },
    Frame {
        connection: u64,
        kept: usize,
        bytes: Vec<u8>,
    },
    Progress {
        connection: u64,
        kept: usize,
    },
    Transmitted {
        connection: u64,
        len: usize,
    },
    Timeout,
    Committed(u64),
    Answer {
        question: u64,
        answer: Answer,
        information: ProblemInformation,
    },
    Shutdown,
    Disconnect {
        connection: u64,
        reason_code: ReasonCode,
        information: ProblemInformation,
    },
    Redirect {
        connection: u64,
        permanent: bool,
        server_reference: String,
        information: ProblemInformation,
    },
    RemoveSession(String),
    SetAccess {
        client_id: String,
        access: Option<Arc<Access>>,
    },
    OpenLocal {
        client_id: String,
        receive_maximum: NonZeroU16,
    },
    CloseLocal(u64),
    LocalPublish {
        local: u64,
        message: Message,
    },
    LocalSubscribe {
        local: u64,
        filter: TopicFilterBuf,
        options: SubscriptionOptions,
        id: Option<SubscriptionId>,
    },
    LocalUnsubscribe {
        local: u64,
        filter: TopicFilterBuf,
    },
    LocalAcknowledge(u64),
}

impl Call {
    /// It is about something that is gone.
    pub(super) const fn is_void(&self) -> bool {
        match self {
            Self::Lost(number)
            | Self::Input { connection: number, .. }
            | Self::Frame { connection: number, .. }
            | Self::Progress { connection: number, .. }
            | Self::Transmitted { connection: number, .. }
            | Self::Committed(number)
            | Self::Answer { question: number, .. }
            | Self::Disconnect { connection: number, .. }
            | Self::Redirect { connection: number, .. }
            | Self::CloseLocal(number)
            | Self::LocalPublish { local: number, .. }
            | Self::LocalSubscribe { local: number, .. }
            | Self::LocalUnsubscribe { local: number, .. }
            | Self::LocalAcknowledge(number) => *number == 0,
            Self::Connection(_)
            | Self::Timeout
            | Self::Shutdown
            | Self::RemoveSession(_)
            | Self::SetAccess { .. }
            | Self::OpenLocal { .. } => false,
        }
    }

    /// `None` if it cannot be written.
    pub(super) fn write(&self) -> Option<String> {
        let line = match self {
            Self::Connection(address) => Line::new("connection").maybe(*address),
            Self::Lost(connection) => Line::new("lost").word(connection),
            Self::Input { connection, kept, bytes } => Line::new("input").word(connection).word(kept).bytes(bytes),
            Self::Frame { connection, kept, bytes } => Line::new("frame").word(connection).word(kept).bytes(bytes),
            Self::Progress { connection, kept } => Line::new("progress").word(connection).word(kept),
            Self::Transmitted { connection, len } => Line::new("transmitted").word(connection).word(len),
            Self::Timeout => Line::new("timeout"),
            Self::Committed(commit) => Line::new("committed").word(commit),
            Self::Answer { question, answer, information } => {
                write_information(write_answer(Line::new("answer").word(question), answer)?, information)?
            }
            Self::Shutdown => Line::new("shutdown"),
            Self::Disconnect { connection, reason_code, information } => {
                let line = Line::new("disconnect").word(connection).word(reason_code.code());
                write_information(line, information)?
            }
            Self::Redirect { connection, permanent, server_reference, information } => {
                let line = Line::new("redirect").word(connection).word(u8::from(*permanent));
                write_information(line.bytes(server_reference.as_bytes()), information)?
            }
            Self::RemoveSession(client_id) => Line::new("remove-session").bytes(client_id.as_bytes()),
            Self::SetAccess { client_id, access } => {
                write_access(Line::new("set-access").bytes(client_id.as_bytes()), access.as_deref())?
            }
            Self::OpenLocal { client_id, receive_maximum } => {
                Line::new("open-local").bytes(client_id.as_bytes()).word(receive_maximum)
            }
            Self::CloseLocal(local) => Line::new("close-local").word(local),
            Self::LocalPublish { local, message } => {
                let expires_at = message.expires_at().map(damselfly_session::Timestamp::as_micros);
                Line::new("local-publish").word(local).bytes(&packets::of_message(message)?).maybe(expires_at)
            }
            Self::LocalSubscribe { local, filter, options, id } => Line::new("local-subscribe")
                .word(local)
                .bytes(filter.as_str().as_bytes())
                .word(options.to_byte())
                .maybe(id.map(SubscriptionId::get)),
            Self::LocalUnsubscribe { local, filter } => {
                Line::new("local-unsubscribe").word(local).bytes(filter.as_str().as_bytes())
            }
            Self::LocalAcknowledge(token) => Line::new("local-acknowledge").word(token),
        };
        Some(line.0)
    }

    /// `None` if it says nothing that a broker could be told.
    pub(super) fn read(words: &mut Words<'_>) -> Option<Self> {
        let call = match words.word()? {
            "connection" => Self::Connection(words.maybe_number()?),
            "lost" => Self::Lost(words.number()?),
            "input" => Self::Input { connection: words.number()?, kept: words.number()?, bytes: words.bytes()? },
            "frame" => Self::Frame { connection: words.number()?, kept: words.number()?, bytes: words.bytes()? },
            "progress" => Self::Progress { connection: words.number()?, kept: words.number()? },
            "transmitted" => Self::Transmitted { connection: words.number()?, len: words.number()? },
            "timeout" => Self::Timeout,
            "committed" => Self::Committed(words.number()?),
            "answer" => Self::Answer {
                question: words.number()?,
                answer: read_answer(words)?,
                information: read_information(words)?,
            },
            "shutdown" => Self::Shutdown,
            "disconnect" => Self::Disconnect {
                connection: words.number()?,
                reason_code: read_code(words)?,
                information: read_information(words)?,
            },
            "redirect" => Self::Redirect {
                connection: words.number()?,
                permanent: words.flag()?,
                server_reference: words.text()?,
                information: read_information(words)?,
            },
            "remove-session" => Self::RemoveSession(words.text()?),
            "set-access" => Self::SetAccess { client_id: words.text()?, access: read_access(words)? },
            "open-local" => Self::OpenLocal { client_id: words.text()?, receive_maximum: words.number()? },
            "close-local" => Self::CloseLocal(words.number()?),
            "local-publish" => {
                let (local, packet) = (words.number()?, words.bytes()?);
                Self::LocalPublish { local, message: packets::to_message(&packet, words.maybe_number()?)? }
            }
            "local-subscribe" => Self::LocalSubscribe {
                local: words.number()?,
                filter: TopicFilterBuf::new(words.text()?).ok()?,
                options: read_options(words.number()?)?,
                id: match words.maybe_number()? {
                    Some(id) => Some(SubscriptionId::new(id)?),
                    None => None,
                },
            },
            "local-unsubscribe" => {
                Self::LocalUnsubscribe { local: words.number()?, filter: TopicFilterBuf::new(words.text()?).ok()? }
            }
            "local-acknowledge" => Self::LocalAcknowledge(words.number()?),
            _ => return None,
        };
        words.end()?;
        Some(call)
    }
}

/// What the core did with bytes.
pub(super) fn intake(intake: Intake) -> String {
    let Intake { consumed, wanted, paused } = intake;
    format!("{consumed} {wanted} {}", u8::from(paused))
}

/// The other answers of the core, in words.
pub(super) fn flag(flag: bool) -> String {
    u8::from(flag).to_string()
}

pub(super) fn published(published: Published) -> String {
    let Published { receivers, reason_code } = published;
    format!("{receivers} {}", reason_code.code())
}

pub(super) fn read_code(words: &mut Words<'_>) -> Option<ReasonCode> {
    ReasonCode::try_from(words.number::<u8>()?).ok()
}

fn read_options(byte: u8) -> Option<SubscriptionOptions> {
    // Read as those of a packet are.
    let (filters, _) = packets::to_subscribe(&[0x82, 7, 0, 1, 0, 0, 1, b'a', byte])?;
    filters.first().map(|(_, options)| *options)
}

fn write_answer(line: Line, answer: &Answer) -> Option<Line> {
    Some(match answer {
        Answer::Allow(grant) => {
            let line = line.word("allow").maybe_bytes(grant.principal.as_deref().map(str::as_bytes));
            let data = grant.authentication_data.as_deref().map(mask);
            write_access(line.maybe_bytes(data.as_deref()), grant.access.as_deref())?
        }
        Answer::Deny(reason_code) => line.word("deny").word(reason_code.code()),
        Answer::Redirect { permanent, server_reference } => {
            line.word("redirect").word(u8::from(*permanent)).bytes(server_reference.as_bytes())
        }
        Answer::Continue(data) => line.word("continue").maybe_bytes(data.as_deref().map(mask).as_deref()),
        // A release that knows more answers writes them here.
        _ => return None,
    })
}

fn read_answer(words: &mut Words<'_>) -> Option<Answer> {
    Some(match words.word()? {
        "allow" => {
            let mut grant = Grant::default();
            grant.principal = words.maybe_text()?.map(Into::into);
            grant.authentication_data = words.maybe_bytes()?.map(Into::into);
            grant.access = read_access(words)?;
            Answer::Allow(grant)
        }
        "deny" => Answer::Deny(read_code(words)?),
        "redirect" => Answer::Redirect { permanent: words.flag()?, server_reference: words.text()?.into() },
        "continue" => Answer::Continue(words.maybe_bytes()?.map(Into::into)),
        _ => return None,
    })
}
