//! `mqtt pub`

use std::{
    collections::VecDeque,
    io::{self, IsTerminal},
    path::PathBuf,
    time::Duration,
};

use damselfly_client::{Event, Outcome, Refusal, Refused, UsageError};
use damselfly_codec::{PropertiesBuf, QoS};
use damselfly_examples::client::{Client, Completion};
use damselfly_session::Message;
use tokio::{sync::mpsc, time};

use crate::{Failure, args::PubArgs, connect::Link};

/// How many messages may be without an outcome: further lines of stdin wait unread.
const WINDOW: usize = 1_000;

/// Publishes what the flags say and waits for what becomes of it.
pub(crate) async fn run(args: PubArgs) -> Result<(), Failure> {
    let timeout = args.timeout;
    let work = publish(args);
    match timeout {
        None => work.await,
        Some(limit) => time::timeout(limit, work).await.unwrap_or(Err(Failure::Timeout)),
    }
}

async fn publish(args: PubArgs) -> Result<(), Failure> {
    let properties = args.connect.property_args().map_err(Failure::Usage)?;
    let topic = args.topic.clone().or_else(|| args.connect.url.as_ref().and_then(|url| url.topic.clone()));
    let Some(topic) = topic else {
        return Err(Failure::Usage("no topic: give --topic, or put it at the end of an mqtt:// URL".into()));
    };
    let outgoing = Outgoing { topic, qos: args.qos, retain: args.retain, properties: properties.publish.clone() };
    // Read before anything is connected: a file that is not there is no reason to disturb a broker.
    let mut source = Source::open(&args)?;
    let mut publisher = Publisher {
        link: Link::open(&args.connect, &properties)?,
        pending: VecDeque::new(),
        progress: Progress::new(&args),
    };
    publisher.link.connected().await?;
    while let Some(payload) = publisher.next_payload(&mut source).await? {
        let message = outgoing.message(&publisher.link.client, &payload)?;
        publisher.publish(message).await?;
        if let Some(delay) = args.repeat_delay {
            publisher.wait(delay).await?;
        }
    }
    publisher.finish().await
}

/// What all messages of one run share.
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: PropertiesBuf,
}

impl Outgoing {
    pub(crate) fn message(&self, client: &Client, payload: &[u8]) -> Result<Message, Failure> {
        client
            .message(&self.topic, payload, self.qos, self.retain, self.properties.as_properties())
            .map_err(|error| Failure::Usage(format!("the topic {:?}: {error}", self.topic)))
    }
}

/// Where payloads come from.
enum Source {
    /// One payload, so many times.
    Repeated { payload: Vec<u8>, left: u64 },
    /// Lines, read by a thread of their own.
    Lines(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Source {
    fn open(args: &PubArgs) -> Result<Self, Failure> {
        if args.stdin_line {
            return Ok(Self::Lines(lines_of_stdin()));
        }
        let payload = Payload { message: args.message.as_ref(), file: args.file.as_ref(), is_stdin: args.stdin_file };
        Ok(Self::Repeated { payload: payload.read()?, left: args.repeat })
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Repeated { left: 0, .. } => Ok(None),
            Self::Repeated { payload, left } => {
                *left -= 1;
                Ok(Some(payload.clone()))
            }
            Self::Lines(lines) => match lines.recv().await {
                None => Ok(None),
                Some(line) => line.map(Some).map_err(|error| Failure::Usage(format!("stdin: {error}"))),
            },
        }
    }
}

/// Where one payload comes from; it is empty if nothing is said.
pub(crate) struct Payload<'a> {
    pub(crate) message: Option<&'a String>,
    pub(crate) file: Option<&'a PathBuf>,
    pub(crate) is_stdin: bool,
}

impl Payload<'_> {
    pub(crate) fn read(&self) -> Result<Vec<u8>, Failure> {
        match (self.message, self.file) {
            (Some(text), _) => Ok(text.clone().into_bytes()),
            (None, Some(path)) => read_file(path),
            (None, None) if self.is_stdin => read_stdin(),
            (None, None) => Ok(Vec::new()),
        }
    }
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut payload = Vec::new();
    match io::Read::read_to_end(&mut io::stdin().lock(), &mut payload) {
        Ok(_) => Ok(payload),
        Err(error) => Err(Failure::Usage(format!("stdin: {error}"))),
    }
}

/// A thread that reads ahead a little: reading a terminal cannot be interrupted otherwise.
fn lines_of_stdin() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in io::BufRead::split(io::stdin().lock(), b'\n') {
            let line = line.map(|mut line| {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                line
            });
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// A connection, and the messages without an outcome in their order.
struct Publisher {
    link: Link,
    pending: VecDeque<Completion>,
    progress: Progress,
}

/// Says on stderr how far long work is.
struct Progress {
    ticks: Option<time::Interval>,
    settled: u64,
    /// How many messages there will be, if that is known.
    total: Option<u64>,
}

impl Progress {
    fn new(args: &PubArgs) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let is_shown = args.progress || !args.connect.quiet && io::stderr().is_terminal();
        Self {
            ticks: is_shown.then(|| time::interval_at(time::Instant::now() + SECOND, SECOND)),
            settled: 0,
            total: (!args.stdin_line).then_some(args.repeat),
        }
    }

    /// Ends when it is time to say something. Cancel-safe.
    async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => ticks.tick().await,
            None => std::future::pending().await,
        };
    }

    fn settled(&mut self) {
        self.settled += 1;
    }

    fn say(&self) {
        let of = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
        eprintln!("mqtt: {}{of} messages sent", self.settled);
    }
}

impl Publisher {
    /// The next payload, while outcomes and events are taken as they come.
    async fn next_payload(&mut self, source: &mut Source) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            tokio::select! {
                biased;
                outcome = next_outcome(&mut self.pending), if !self.pending.is_empty() => self.settle(outcome)?,
                payload = source.next(), if self.pending.len() < WINDOW => return payload,
                event = self.link.next() => still_running(event?.as_ref())?,
                () = self.progress.tick() => self.progress.say(),
            }
        }
    }

    async fn publish(&mut self, mut message: Message) -> Result<(), Failure> {
        loop {
            match self.link.client.publish(message) {
                Ok(completion) => {
                    self.pending.push_back(completion);
                    return Ok(());
                }
                Err(Refused { why: UsageError::QueueFull, message: back, .. }) => message = back,
                Err(refused) => return Err(refusal(&Refusal::ByLimit(refused.why))),
            }
            while !matches!(self.link.next().await?, Some(Event::QueueHasRoom) | None) {}
        }
    }

    /// Waits, while outcomes and events are taken as they come.
    async fn wait(&mut self, delay: Duration) -> Result<(), Failure> {
        let sleep = time::sleep(delay);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return Ok(()),
                outcome = next_outcome(&mut self.pending), if !self.pending.is_empty() => self.settle(outcome)?,
                event = self.link.next() => still_running(event?.as_ref())?,
                () = self.progress.tick() => self.progress.say(),
            }
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        while !self.pending.is_empty() {
            tokio::select! {
                biased;
                outcome = next_outcome(&mut self.pending) => self.settle(outcome)?,
                event = self.link.next() => still_running(event?.as_ref())?,
                () = self.progress.tick() => self.progress.say(),
            }
        }
        self.link.close().await;
        Ok(())
    }

    fn settle(&mut self, outcome: Outcome) -> Result<(), Failure> {
        self.pending.pop_front();
        tracing::debug!(?outcome, "outcome");
        self.progress.settled();
        settled(outcome)
    }
}

/// Did the broker take it?
pub(crate) fn settled(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Refused(refused) => Err(refusal(&refused)),
        Outcome::Indeterminate(why) => {
            Err(Failure::Connection(format!("nobody knows whether the message arrived: {why}")))
        }
        Outcome::Expired => Err(Failure::Connection("the message expired before it could be sent".into())),
        Outcome::Dropped(_) => Err(Failure::Connection("the message was not sent".into())),
        _ => Ok(()),
    }
}

/// Events say nothing that a publisher needs, except that there are no more.
fn still_running(event: Option<&Event>) -> Result<(), Failure> {
    event.map(|_| ()).ok_or_else(|| Failure::Connection("the connection ended".into()))
}

/// The outcome of the oldest message. Cancel-safe: the completion stays in its place.
async fn next_outcome(pending: &mut VecDeque<Completion>) -> Outcome {
    match pending.front_mut() {
        Some(completion) => completion.await,
        None => std::future::pending().await,
    }
}

pub(crate) fn refusal(refusal: &Refusal) -> Failure {
    Failure::Refused(match refusal {
        Refusal::ByServer { reason_code, reason_string: Some(text) } => {
            format!("the broker refused the message: {reason_code} ({text})")
        }
        Refusal::ByServer { reason_code, .. } => format!("the broker refused the message: {reason_code}"),
        Refusal::ByLimit(error) => format!("the message cannot be sent: {error}"),
        _ => "the broker refused the message".into(),
    })
}
