//! A client core that may be recorded.

use core::ops::Deref;
use std::collections::BTreeMap;

use damselfly_client::{
    AckToken, Client, CommitId, Config, ConnectParameters, Intake, Operation, Output, Refused, RestoreError, Ticket,
    TransportLost, UsageError,
};
use damselfly_codec::{Frame, Properties, QoS, ReasonCode, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::{TopicFilter, TopicName};

use super::client_call::{Call, intake};
use super::said::{Said, inbound};
use super::stream::{Streams, first_bytes};
use super::tape::Tape;
use super::text::Line;

/// The verb of a line with one stored operation.
pub(super) const STORED: &str = "stored";

/// A [`Client`] whose inputs are recorded, or not: what a driver owns in place of a `Client`.
///
/// It has the methods of the core, and shows the core itself to whoever only asks. Not recorded, made by `From<Client>`,
/// it costs one comparison for each call.
///
/// ```
/// use damselfly_client::{Config, ConnectParameters, Timestamp, TransportLost};
/// use damselfly_sim::flight::{RecordedClient, Recording, Tape};
///
/// let (tape, memory) = Tape::in_memory();
/// let mut client = RecordedClient::new(Config::new("heron"), 42, tape);
/// let mut parameters = ConnectParameters::default();
/// parameters.user_name = Some("heron".into());
/// parameters.password = Some("rose bud".into());
/// client.handle_transport_up(Timestamp::from_secs(1), &parameters);
/// client.handle_transport_lost(Timestamp::from_secs(2), TransportLost::Failed);
/// while client.poll_output().is_some() {}
/// drop(client);
///
/// assert!(memory.text().contains("heron") && !memory.text().contains("rose"));
/// assert!(memory.text().parse::<Recording>()?.replay()?.differences.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordedClient {
    core: Client,
    /// `None` when nothing is recorded.
    recorder: Option<Box<Recorder>>,
}

/// The tape, and the numbers that stand on it for what the core names.
struct Recorder {
    tape: Tape,
    /// Of the connection that is up.
    streams: Streams,
    commits: BTreeMap<CommitId, u64>,
    last_commit: u64,
    tokens: BTreeMap<AckToken, u64>,
    last_token: u64,
}

impl core::fmt::Debug for RecordedClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.core.fmt(f)
    }
}

impl Deref for RecordedClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.core
    }
}

/// Not recorded.
impl From<Client> for RecordedClient {
    fn from(core: Client) -> Self {
        Self { core, recorder: None }
    }
}

impl RecordedClient {
    /// A client as [`Client::new`] makes it, recorded from the beginning.
    pub fn new(config: Config, seed: u64, mut tape: Tape) -> Self {
        begin(&mut tape, &config, seed);
        Self { core: Client::new(config, seed), recorder: Some(Box::new(Recorder::new(tape))) }
    }

    /// A client as [`Client::restore`] makes it, recorded from there with the image.
    pub fn restore(
        config: Config,
        seed: u64,
        image: impl IntoIterator<Item = Operation>,
        mut tape: Tape,
    ) -> Result<Self, RestoreError> {
        let image: Vec<Operation> = image.into_iter().collect();
        begin(&mut tape, &config, seed);
        for operation in &image {
            let mut bytes = Vec::new();
            match operation.encode(&mut bytes) {
                Ok(()) => tape.put(&Line::new(STORED).bytes(&bytes).0),
                Err(_) => tape.stop("a stored operation cannot be written"),
            }
        }
        let core = Client::restore(config, seed, image)?;
        Ok(Self { core, recorder: Some(Box::new(Recorder::new(tape))) })
    }

    /// The core, from here on unrecorded.
    pub fn into_inner(self) -> Client {
        self.core
    }

    /// One call: written down if anybody wants that, then made, then its answer is written. So a call that does not come
    /// back is in the recording too. `None` is a call without a time.
    #[inline]
    fn call<T>(
        &mut self,
        now: Option<Timestamp>,
        before: impl FnOnce(&mut Recorder) -> Call,
        make: impl FnOnce(&mut Client) -> T,
        after: impl FnOnce(&mut Recorder, &T) -> Option<String>,
    ) -> T {
        if let Some(recorder) = &mut self.recorder {
            let call = before(recorder);
            recorder.tape.begin_call(now, call.write().as_deref());
        }
        let result = make(&mut self.core);
        if let Some(recorder) = &mut self.recorder {
            let said = after(recorder, &result);
            recorder.tape.end_call(said.as_deref());
            self.drop_full_tape();
        }
        result
    }

    #[cold]
    fn drop_full_tape(&mut self) {
        self.recorder.take_if(|recorder| !recorder.tape.is_open());
    }

    /// As [`Client::handle_transport_up`].
    pub fn handle_transport_up(&mut self, now: Timestamp, parameters: &ConnectParameters) {
        self.call(
            Some(now),
            |recorder| {
                recorder.streams = Streams::default();
                Call::Up(parameters.clone())
            },
            |core| core.handle_transport_up(now, parameters),
            |_, ()| None,
        );
    }

    /// As [`Client::handle_transport_lost`].
    pub fn handle_transport_lost(&mut self, now: Timestamp, why: TransportLost) {
        self.call(Some(now), |_| Call::Down(why), |core| core.handle_transport_lost(now, why), |_, ()| None);
    }

    /// As [`Client::handle_input`].
    #[inline]
    pub fn handle_input(&mut self, now: Timestamp, input: &[u8]) -> Intake {
        self.call(
            Some(now),
            |recorder| {
                let (kept, bytes) = recorder.streams.take_in(input);
                Call::Input { kept, bytes }
            },
            |core| core.handle_input(now, input),
            |recorder, result| {
                recorder.streams.consumed(input, result.consumed);
                Some(intake(*result))
            },
        )
    }

    /// As [`Client::handle_frame`].
    #[inline]
    pub fn handle_frame(&mut self, now: Timestamp, frame: &Frame) -> Intake {
        self.call(
            Some(now),
            |recorder| {
                let (kept, bytes) = recorder.streams.take_in(frame);
                Call::Frame { kept, bytes }
            },
            |core| core.handle_frame(now, frame),
            |recorder, result| {
                recorder.streams.consumed(frame, result.consumed);
                Some(intake(*result))
            },
        )
    }

    /// As [`Client::handle_progress`].
    pub fn handle_progress(&mut self, now: Timestamp) {
        self.call(Some(now), |_| Call::Progress, |core| core.handle_progress(now), |_, ()| None);
    }

    /// As [`Client::handle_transmitted`].
    #[inline]
    pub fn handle_transmitted(&mut self, now: Timestamp, bytes: usize) {
        let sent = self.recorder.as_ref().map(|_| first_bytes(bytes, |chunks| self.core.transmit(chunks)));
        self.call(
            Some(now),
            |_| Call::Transmitted(bytes),
            |core| core.handle_transmitted(now, bytes),
            |recorder, ()| Some(recorder.streams.sent(&sent.unwrap_or_default())),
        );
    }

    /// As [`Client::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.call(Some(now), |_| Call::Timeout, |core| core.handle_timeout(now), |_, ()| None);
    }

    /// As [`Client::handle_committed`].
    pub fn handle_committed(&mut self, now: Timestamp, commit: CommitId) {
        self.call(
            Some(now),
            |recorder| Call::Committed(recorder.committed(commit)),
            |core| core.handle_committed(now, commit),
            |_, ()| None,
        );
    }

    /// As [`Client::pause`].
    pub fn pause(&mut self, now: Timestamp) {
        self.call(Some(now), |_| Call::Pause, |core| core.pause(now), |_, ()| None);
    }

    /// As [`Client::resume`].
    pub fn resume(&mut self, now: Timestamp) {
        self.call(Some(now), |_| Call::Resume, |core| core.resume(now), |_, ()| None);
    }

    /// As [`Client::close`].
    pub fn close(&mut self, now: Timestamp, deadline: Timestamp) {
        self.call(Some(now), |_| Call::Close(deadline), |core| core.close(now, deadline), |_, ()| None);
    }

    /// As [`Client::disconnect`].
    pub fn disconnect(&mut self, now: Timestamp) {
        self.call(Some(now), |_| Call::Disconnect, |core| core.disconnect(now), |_, ()| None);
    }

    /// As [`Client::compose`], which no recording has to tell of.
    pub fn compose(
        &mut self,
        now: Timestamp,
        topic: TopicName<'_>,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: Properties<'_>,
    ) -> Message {
        self.core.compose(now, topic, payload, qos, retain, properties)
    }

    /// As [`Client::give_back`], which no recording has to tell of.
    pub fn give_back(&mut self, message: Message) {
        self.core.give_back(message);
    }

    /// As [`Client::publish`].
    #[inline]
    pub fn publish(&mut self, now: Timestamp, message: Message) -> Result<Ticket, Refused> {
        if self.recorder.is_none() {
            return self.core.publish(now, message);
        }
        let copy = message.clone();
        self.call(
            Some(now),
            |_| Call::Publish(copy),
            |core| core.publish(now, message),
            |_, result| Some(request(result.as_ref().map_err(|refused| &refused.why))),
        )
    }

    /// As [`Client::request`].
    pub fn request(&mut self, now: Timestamp, message: Message, deadline: Timestamp) -> Result<Ticket, Refused> {
        let copy = message.clone();
        self.call(
            Some(now),
            |_| Call::Request { message: copy, deadline },
            |core| core.request(now, message, deadline),
            |_, result| Some(request(result.as_ref().map_err(|refused| &refused.why))),
        )
    }

    /// As [`Client::subscribe`].
    pub fn subscribe(
        &mut self,
        now: Timestamp,
        filters: &[(TopicFilter<'_>, SubscriptionOptions)],
        properties: Properties<'_>,
    ) -> Result<Ticket, UsageError> {
        let owned = || filters.iter().map(|(filter, options)| (filter.to_buf(), *options)).collect();
        self.call(
            Some(now),
            |_| Call::Subscribe((owned(), properties.into())),
            |core| core.subscribe(now, filters, properties),
            |_, result| Some(request(result.as_ref())),
        )
    }

    /// As [`Client::unsubscribe`].
    pub fn unsubscribe(
        &mut self,
        now: Timestamp,
        filters: &[TopicFilter<'_>],
        properties: Properties<'_>,
    ) -> Result<Ticket, UsageError> {
        let owned = || filters.iter().map(|filter| filter.to_buf()).collect();
        self.call(
            Some(now),
            |_| Call::Unsubscribe(owned(), properties.into()),
            |core| core.unsubscribe(now, filters, properties),
            |_, result| Some(request(result.as_ref())),
        )
    }

    /// As [`Client::acknowledge`].
    pub fn acknowledge(&mut self, now: Timestamp, token: AckToken, reason_code: ReasonCode) -> Result<(), UsageError> {
        self.call(
            Some(now),
            |recorder| Call::Acknowledge { token: recorder.tokens.remove(&token).unwrap_or_default(), reason_code },
            |core| core.acknowledge(now, token, reason_code),
            |_, result| Some(done(*result)),
        )
    }

    /// As [`Client::authenticate`].
    pub fn authenticate(&mut self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.call(
            None,
            |_| Call::Authenticate(properties.into()),
            |core| core.authenticate(properties),
            |_, result| Some(done(*result)),
        )
    }

    /// As [`Client::reauthenticate`].
    pub fn reauthenticate(&mut self, properties: Properties<'_>) -> Result<(), UsageError> {
        self.call(
            None,
            |_| Call::Reauthenticate(properties.into()),
            |core| core.reauthenticate(properties),
            |_, result| Some(done(*result)),
        )
    }

    /// As [`Client::poll_output`].
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.core.poll_output();
        if let Some(recorder) = &mut self.recorder {
            recorder.note_output(output.as_ref());
            self.drop_full_tape();
        }
        output
    }
}

fn begin(tape: &mut Tape, config: &Config, seed: u64) {
    match serde_json::to_string(config) {
        Ok(text) => tape.begin("client", &text, seed),
        Err(_) => tape.stop("the config cannot be written"),
    }
}

/// What the core answered, in words that go behind `=`.
pub(super) fn request(result: Result<&Ticket, &UsageError>) -> String {
    match result {
        Ok(ticket) => ticket.get().to_string(),
        Err(why) => format!("{why:?}"),
    }
}

pub(super) fn done(result: Result<(), UsageError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(why) => format!("{why:?}"),
    }
}

impl Recorder {
    fn new(tape: Tape) -> Self {
        Self {
            tape,
            streams: Streams::default(),
            commits: BTreeMap::new(),
            last_commit: 0,
            tokens: BTreeMap::new(),
            last_token: 0,
        }
    }

    /// It takes the earlier ones along.
    fn committed(&mut self, id: CommitId) -> u64 {
        let number = self.commits.get(&id).copied().unwrap_or_default();
        self.commits = self.commits.split_off(&id);
        number
    }

    fn note_output(&mut self, output: Option<&Output>) {
        let Some(output) = output else { return self.tape.quiet() };
        match output {
            Output::Commit(id) => {
                self.last_commit += 1;
                self.commits.insert(*id, self.last_commit);
            }
            Output::Event(event) => {
                if let Some(token) = inbound(event).and_then(|inbound| inbound.ack) {
                    self.last_token += 1;
                    self.tokens.insert(token, self.last_token);
                }
            }
            Output::NeedTransport(_) | Output::Transmit | Output::Close | Output::Resume | Output::Journal(_) => {}
        }
        self.tape.line(&Said::by_client(output).line());
    }
}
