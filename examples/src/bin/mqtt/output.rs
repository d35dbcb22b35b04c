//! Received messages on standard output.

use std::io::{self, BufWriter, Stdout, Write};

use clap::Args;
use damselfly_client::InboundMessage;

use crate::{
    Failure,
    format::{Format, Received, now},
};

/// How to print messages.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print the topic before the payload.
    #[arg(short = 'v', long, conflicts_with = "format")]
    pub(crate) verbose: bool,
    /// How to print a message: %t topic, %p payload, %q QoS, %r retain, %l length, %x hex, %j JSON, ...
    #[arg(short = 'F', long = "output-format", value_name = "FORMAT", long_help = crate::format::HELP)]
    pub(crate) format: Option<Format>,
    /// No line end after a message.
    #[arg(short = 'N')]
    pub(crate) no_line_end: bool,
}

/// Standard output, for messages.
pub(crate) struct Paper {
    out: BufWriter<Stdout>,
    format: Format,
    has_line_end: bool,
}

impl Paper {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        let format = match &args.format {
            Some(format) => format.clone(),
            None if args.verbose => Format::verbose(),
            None => Format::payload(),
        };
        Self { out: BufWriter::new(io::stdout()), format, has_line_end: !args.no_line_end }
    }

    /// Prints one message and hands it on at once: who reads the output wants to see it now.
    pub(crate) fn print(&mut self, inbound: &InboundMessage) -> Result<(), Failure> {
        self.write(inbound).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Connection(format!("stdout: {error}")),
        })
    }

    fn write(&mut self, inbound: &InboundMessage) -> io::Result<()> {
        let at = now();
        let message = &inbound.message;
        let received_at = damselfly_session::Timestamp::ZERO.saturating_add(at);
        let subscription_ids: Vec<u32> = inbound.subscription_ids.iter().map(|id| id.get()).collect();
        let received = Received {
            topic: message.topic().as_str(),
            payload: message.payload(),
            qos: message.qos(),
            retain: message.retain(),
            properties: message.properties(),
            subscription_ids: &subscription_ids,
            message_expiry_interval: message.remaining_expiry(received_at),
            at,
        };
        self.format.write(&received, &mut self.out)?;
        if self.has_line_end {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}
