//! What a core said, as a line: its name, and a number for all of it.

use damselfly_broker::Output as BrokerOutput;
use damselfly_client::{Event, InboundMessage, Outcome, Output as ClientOutput};

use super::redact::redacted;
use super::text::{Words, digest};

/// The verb of a line that says what the core said.
pub(super) const SAID: &str = "said";

/// One output.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// For people.
    pub(super) text: String,
    digest: u64,
}

impl Said {
    pub(super) fn by_broker(output: &BrokerOutput) -> Self {
        let payload = match output {
            BrokerOutput::Deliver { delivery, .. } => delivery.message.payload(),
            BrokerOutput::Forward { forward, .. } => forward.message.payload(),
            _ => &[],
        };
        Self::new(format!("{output:?}"), payload)
    }

    pub(super) fn by_client(output: &ClientOutput) -> Self {
        let ClientOutput::Event(event) = output else { return Self::new(format!("{output:?}"), &[]) };
        let hidden = match event.clone() {
            Event::Connected(mut connected) => {
                connected.properties = redacted(connected.properties.as_properties());
                Event::Connected(connected)
            }
            Event::AuthenticationStep { properties } => {
                Event::AuthenticationStep { properties: redacted(properties.as_properties()) }
            }
            Event::Reauthenticated { properties } => {
                Event::Reauthenticated { properties: redacted(properties.as_properties()) }
            }
            event => event,
        };
        Self::new(
            format!("{:?}", ClientOutput::Event(hidden)),
            inbound(event).map_or(&[], |inbound| inbound.message.payload()),
        )
    }

    /// Messages show all but their payload.
    fn new(text: String, payload: &[u8]) -> Self {
        let digest = digest(text.as_bytes()) ^ digest(payload).rotate_left(1);
        Self { text, digest }
    }

    pub(super) fn line(&self) -> String {
        format!("{SAID} {} {:016x}", self.name(), self.digest)
    }

    /// Such as `Event.Connected`.
    fn name(&self) -> String {
        let words: Vec<_> = self.text.split(['(', ' ', '{']).take(2).collect();
        match words[..] {
            ["Event", event] => format!("Event.{event}"),
            [name, ..] => name.to_owned(),
            [] => String::new(),
        }
    }
}

/// The message that an event brings.
pub(super) const fn inbound(event: &Event) -> Option<&InboundMessage> {
    match event {
        Event::Message(inbound) => Some(inbound),
        Event::Completed { outcome: Outcome::Response(inbound), .. } => Some(inbound),
        _ => None,
    }
}

/// Reads what [`Said::line`] wrote, behind its verb.
pub(super) fn read(words: &mut Words<'_>) -> Option<String> {
    let line = format!("{SAID} {} {}", words.word()?, words.word()?);
    words.end()?;
    Some(line)
}
