//! A broker core that may be recorded.

use core::hash::{Hash, Hasher};
use core::num::NonZeroU16;
use core::ops::Deref;
use std::collections::BTreeMap;
use std::hash::DefaultHasher;
use std::sync::Arc;

use damselfly_broker::{
    Access, AckToken, Answer, Broker, ClientIdInUse, CommitId, Config, ConfigError, ConnectionId, Forward, Intake,
    Interest, LocalId, Output, Peer, ProblemInformation, Published, QuestionId, ReasonCode, Refused, ShardId,
};
use damselfly_codec::{Frame, SubscriptionId, SubscriptionOptions};
use damselfly_session::{Message, Timestamp};
use damselfly_topic::TopicFilter;

use super::broker_call::{Call, flag, intake, published};
use super::said::Said;
use super::stream::{Streams, first_bytes};
use super::tape::Tape;

const JOINED: &str = "brokers that are joined are not recorded";

/// A [`Broker`] whose inputs are recorded, or not: what a driver owns in place of a `Broker`.
///
/// It has the methods of the core, and shows the core itself to whoever only asks. Not recorded, made by `From<Broker>`,
/// it costs one comparison for each call.
///
/// ```
/// use damselfly_broker::{Answer, Config, Output, Peer, Timestamp};
/// use damselfly_sim::flight::{RecordedBroker, Recording, Tape};
///
/// let (tape, memory) = Tape::in_memory();
/// let mut broker = RecordedBroker::new(Config::default(), 42, tape)?;
/// let now = Timestamp::from_secs(1);
/// let connection = broker.handle_connection(now, Peer::default())?;
/// let intake = broker.handle_input(now, connection, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a");
/// while let Some(output) = broker.poll_output() {
///     if let Output::Ask { id, .. } = output {
///         broker.handle_answer(now, id, Answer::allow());
///     }
/// }
/// assert_eq!(intake.consumed, 15);
/// drop(broker);
///
/// let replay = memory.text().parse::<Recording>()?.replay()?;
/// assert_eq!((replay.differences.len(), replay.broker().map(|broker| broker.sessions_len())), (0, Some(1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordedBroker {
    core: Broker,
    /// `None` when nothing is recorded.
    recorder: Option<Box<Recorder>>,
}

/// The tape, and the numbers that stand on it for what the core names.
struct Recorder {
    tape: Tape,
    connections: BTreeMap<ConnectionId, (u64, Streams)>,
    last_connection: u64,
    questions: BTreeMap<QuestionId, u64>,
    last_question: u64,
    commits: BTreeMap<CommitId, u64>,
    last_commit: u64,
    locals: BTreeMap<LocalId, u64>,
    last_local: u64,
    /// By the hash of the token, which is nobody's but the application's.
    tokens: BTreeMap<u64, u64>,
    last_token: u64,
}

impl core::fmt::Debug for RecordedBroker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.core.fmt(f)
    }
}

impl Deref for RecordedBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.core
    }
}

/// Not recorded.
impl From<Broker> for RecordedBroker {
    fn from(core: Broker) -> Self {
        Self { core, recorder: None }
    }
}

impl RecordedBroker {
    /// A broker as [`Broker::new`] makes it, recorded from the beginning.
    pub fn new(config: Config, seed: u64, mut tape: Tape) -> Result<Self, ConfigError> {
        let text = serde_json::to_string(&config);
        let core = Broker::new(config, seed)?;
        match text {
            Ok(text) => tape.begin("broker", &text, seed),
            Err(_) => tape.stop("the config cannot be written"),
        }
        Ok(Self { core, recorder: Some(Box::new(Recorder::new(tape))) })
    }

    /// The core, from here on unrecorded.
    pub fn into_inner(self) -> Broker {
        self.core
    }

    /// One call: written down if anybody wants that, then made, then its answer is written. So a call that does not come
    /// back is in the recording too.
    #[inline]
    fn call<T>(
        &mut self,
        now: Timestamp,
        before: impl FnOnce(&mut Recorder) -> Call,
        make: impl FnOnce(&mut Broker) -> T,
        after: impl FnOnce(&mut Recorder, &T) -> Option<String>,
    ) -> T {
        if let Some(recorder) = &mut self.recorder {
            let call = before(recorder);
            recorder.tape.begin_call(Some(now), call.write().as_deref());
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

    /// As [`Broker::handle_connection`].
    pub fn handle_connection(&mut self, now: Timestamp, peer: Peer) -> Result<ConnectionId, Refused> {
        self.call(
            now,
            |_| Call::Connection(peer.address),
            |core| core.handle_connection(now, peer),
            |recorder, result| Some(result.as_ref().map_or_else(|_| "refused".to_owned(), |id| recorder.opened(*id))),
        )
    }

    /// As [`Broker::handle_connection_lost`].
    pub fn handle_connection_lost(&mut self, now: Timestamp, connection: ConnectionId) {
        self.call(
            now,
            |recorder| Call::Lost(recorder.connections.remove(&connection).map_or(0, |(number, _)| number)),
            |core| core.handle_connection_lost(now, connection),
            |_, ()| None,
        );
    }

    /// As [`Broker::handle_input`].
    #[inline]
    pub fn handle_input(&mut self, now: Timestamp, connection: ConnectionId, input: &[u8]) -> Intake {
        self.call(
            now,
            |recorder| {
                let (connection, kept, bytes) = recorder.take_in(connection, input);
                Call::Input { connection, kept, bytes }
            },
            |core| core.handle_input(now, connection, input),
            |recorder, intake| Some(recorder.consumed(connection, input, *intake)),
        )
    }

    /// As [`Broker::handle_frame`].
    #[inline]
    pub fn handle_frame(&mut self, now: Timestamp, connection: ConnectionId, frame: &Frame) -> Intake {
        self.call(
            now,
            |recorder| {
                let (connection, kept, bytes) = recorder.take_in(connection, frame);
                Call::Frame { connection, kept, bytes }
            },
            |core| core.handle_frame(now, connection, frame),
            |recorder, intake| Some(recorder.consumed(connection, frame, *intake)),
        )
    }

    /// As [`Broker::handle_progress`].
    #[must_use = "a client may have to wait for memory"]
    pub fn handle_progress(&mut self, now: Timestamp, connection: ConnectionId, kept: usize) -> bool {
        self.call(
            now,
            |recorder| Call::Progress { connection: recorder.connection(connection), kept },
            |core| core.handle_progress(now, connection, kept),
            |_, pauses| Some(flag(*pauses)),
        )
    }

    /// As [`Broker::handle_transmitted`].
    #[inline]
    pub fn handle_transmitted(&mut self, now: Timestamp, connection: ConnectionId, n: usize) {
        let bytes = self.recorder.as_ref().map(|_| first_bytes(n, |chunks| self.core.transmit(connection, chunks)));
        self.call(
            now,
            |recorder| Call::Transmitted { connection: recorder.connection(connection), len: n },
            |core| core.handle_transmitted(now, connection, n),
            |recorder, ()| {
                let (_, streams) = recorder.connections.get_mut(&connection)?;
                Some(streams.sent(&bytes.unwrap_or_default()))
            },
        );
    }

    /// As [`Broker::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.call(now, |_| Call::Timeout, |core| core.handle_timeout(now), |_, ()| None);
    }

    /// As [`Broker::handle_committed`].
    #[inline]
    pub fn handle_committed(&mut self, now: Timestamp, commit: CommitId) {
        self.call(
            now,
            |recorder| Call::Committed(recorder.committed(commit)),
            |core| core.handle_committed(now, commit),
            |_, ()| None,
        );
    }

    /// As [`Broker::handle_answer`].
    pub fn handle_answer(&mut self, now: Timestamp, question: QuestionId, answer: Answer) {
        self.handle_answer_with(now, question, answer, ProblemInformation::new());
    }

    /// As [`Broker::handle_answer_with`].
    pub fn handle_answer_with(
        &mut self,
        now: Timestamp,
        question: QuestionId,
        answer: Answer,
        information: ProblemInformation,
    ) {
        let (said, told) = (answer.clone(), information.clone());
        self.call(
            now,
            |recorder| {
                let question = recorder.questions.remove(&question).unwrap_or_default();
                Call::Answer { question, answer: said, information: told }
            },
            |core| core.handle_answer_with(now, question, answer, information),
            |_, ()| None,
        );
    }

    /// As [`Broker::shutdown`].
    pub fn shutdown(&mut self, now: Timestamp) {
        self.call(now, |_| Call::Shutdown, |core| core.shutdown(now), |_, ()| None);
    }

    /// As [`Broker::disconnect`].
    pub fn disconnect(&mut self, now: Timestamp, connection: ConnectionId, reason_code: ReasonCode) {
        self.disconnect_with(now, connection, reason_code, &ProblemInformation::new());
    }

    /// As [`Broker::disconnect_with`].
    pub fn disconnect_with(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        reason_code: ReasonCode,
        information: &ProblemInformation,
    ) {
        self.call(
            now,
            |recorder| {
                let (connection, information) = (recorder.connection(connection), information.clone());
                Call::Disconnect { connection, reason_code, information }
            },
            |core| core.disconnect_with(now, connection, reason_code, information),
            |_, ()| None,
        );
    }

    /// As [`Broker::redirect`].
    pub fn redirect(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        permanent: bool,
        server_reference: &str,
        information: &ProblemInformation,
    ) {
        self.call(
            now,
            |recorder| {
                let (connection, information) = (recorder.connection(connection), information.clone());
                Call::Redirect { connection, permanent, server_reference: server_reference.to_owned(), information }
            },
            |core| core.redirect(now, connection, permanent, server_reference, information),
            |_, ()| None,
        );
    }

    /// As [`Broker::remove_session`].
    pub fn remove_session(&mut self, now: Timestamp, client_id: &str) -> bool {
        self.call(
            now,
            |_| Call::RemoveSession(client_id.to_owned()),
            |core| core.remove_session(now, client_id),
            |_, was_there| Some(flag(*was_there)),
        )
    }

    /// As [`Broker::set_access`].
    pub fn set_access(&mut self, now: Timestamp, client_id: &str, access: Option<Arc<Access>>) -> bool {
        let copy = access.clone();
        self.call(
            now,
            |_| Call::SetAccess { client_id: client_id.to_owned(), access: copy },
            |core| core.set_access(now, client_id, access),
            |_, is_known| Some(flag(*is_known)),
        )
    }

    /// As [`Broker::open_local`].
    pub fn open_local(
        &mut self,
        now: Timestamp,
        client_id: &str,
        receive_maximum: NonZeroU16,
    ) -> Result<LocalId, ClientIdInUse> {
        self.call(
            now,
            |_| Call::OpenLocal { client_id: client_id.to_owned(), receive_maximum },
            |core| core.open_local(now, client_id, receive_maximum),
            |recorder, result| Some(result.map_or_else(|ClientIdInUse| "in-use".to_owned(), |id| recorder.joined(id))),
        )
    }

    /// As [`Broker::close_local`].
    pub fn close_local(&mut self, now: Timestamp, local: LocalId) {
        self.call(
            now,
            |recorder| Call::CloseLocal(recorder.locals.remove(&local).unwrap_or_default()),
            |core| core.close_local(now, local),
            |_, ()| None,
        );
    }

    /// As [`Broker::local_publish`].
    pub fn local_publish(&mut self, now: Timestamp, local: LocalId, message: Message) -> Published {
        let copy = message.clone();
        self.call(
            now,
            |recorder| Call::LocalPublish { local: recorder.local(local), message: copy },
            |core| core.local_publish(now, local, message),
            |_, result| Some(published(*result)),
        )
    }

    /// As [`Broker::local_subscribe`].
    pub fn local_subscribe(
        &mut self,
        now: Timestamp,
        local: LocalId,
        filter: TopicFilter<'_>,
        options: SubscriptionOptions,
        id: Option<SubscriptionId>,
    ) -> ReasonCode {
        self.call(
            now,
            |recorder| Call::LocalSubscribe { local: recorder.local(local), filter: filter.to_buf(), options, id },
            |core| core.local_subscribe(now, local, filter, options, id),
            |_, code| Some(code.code().to_string()),
        )
    }

    /// As [`Broker::local_unsubscribe`].
    pub fn local_unsubscribe(&mut self, now: Timestamp, local: LocalId, filter: TopicFilter<'_>) -> ReasonCode {
        self.call(
            now,
            |recorder| Call::LocalUnsubscribe { local: recorder.local(local), filter: filter.to_buf() },
            |core| core.local_unsubscribe(now, local, filter),
            |_, code| Some(code.code().to_string()),
        )
    }

    /// As [`Broker::local_acknowledge`].
    pub fn local_acknowledge(&mut self, now: Timestamp, token: AckToken) {
        let hash = hash(&token);
        self.call(
            now,
            |recorder| Call::LocalAcknowledge(recorder.tokens.remove(&hash).unwrap_or_default()),
            |core| core.local_acknowledge(now, token),
            |_, ()| None,
        );
    }

    /// As [`Broker::handle_shard_joined`]. A recording ends here.
    pub fn handle_shard_joined(&mut self, now: Timestamp, shard: ShardId) {
        self.stop(JOINED);
        self.core.handle_shard_joined(now, shard);
    }

    /// As [`Broker::handle_shard_left`].
    pub fn handle_shard_left(&mut self, now: Timestamp, shard: ShardId, interests: &[Interest]) {
        self.stop(JOINED);
        self.core.handle_shard_left(now, shard, interests);
    }

    /// As [`Broker::handle_interest`].
    pub fn handle_interest(&mut self, now: Timestamp, from: ShardId, interest: &Interest) {
        self.stop(JOINED);
        self.core.handle_interest(now, from, interest);
    }

    /// As [`Broker::handle_forward`].
    pub fn handle_forward(&mut self, now: Timestamp, forward: &Forward) {
        self.stop(JOINED);
        self.core.handle_forward(now, forward);
    }

    /// As [`Broker::poll_output`].
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.core.poll_output();
        if let Some(recorder) = &mut self.recorder {
            recorder.note_output(output.as_ref());
            self.drop_full_tape();
        }
        output
    }

    fn stop(&mut self, why: &str) {
        if let Some(mut recorder) = self.recorder.take() {
            recorder.tape.stop(why);
        }
    }
}

impl Recorder {
    fn new(tape: Tape) -> Self {
        Self {
            tape,
            connections: BTreeMap::new(),
            last_connection: 0,
            questions: BTreeMap::new(),
            last_question: 0,
            commits: BTreeMap::new(),
            last_commit: 0,
            locals: BTreeMap::new(),
            last_local: 0,
            tokens: BTreeMap::new(),
            last_token: 0,
        }
    }

    /// 0 stands for a connection that is gone.
    fn connection(&self, id: ConnectionId) -> u64 {
        self.connections.get(&id).map_or(0, |(number, _)| *number)
    }

    fn local(&self, id: LocalId) -> u64 {
        self.locals.get(&id).copied().unwrap_or_default()
    }

    fn opened(&mut self, id: ConnectionId) -> String {
        self.last_connection += 1;
        self.connections.insert(id, (self.last_connection, Streams::default()));
        self.last_connection.to_string()
    }

    fn joined(&mut self, id: LocalId) -> String {
        self.last_local += 1;
        self.locals.insert(id, self.last_local);
        self.last_local.to_string()
    }

    /// It takes the earlier ones along.
    fn committed(&mut self, id: CommitId) -> u64 {
        let number = self.commits.get(&id).copied().unwrap_or_default();
        self.commits = self.commits.split_off(&id);
        number
    }

    fn take_in(&mut self, id: ConnectionId, input: &[u8]) -> (u64, usize, Vec<u8>) {
        // Of a connection that is gone nothing is looked at.
        let Some((number, streams)) = self.connections.get_mut(&id) else { return (0, 0, Vec::new()) };
        let (kept, bytes) = streams.take_in(input);
        (*number, kept, bytes)
    }

    fn consumed(&mut self, id: ConnectionId, input: &[u8], result: Intake) -> String {
        if let Some((_, streams)) = self.connections.get_mut(&id) {
            streams.consumed(input, result.consumed);
        }
        intake(result)
    }

    fn note_output(&mut self, output: Option<&Output>) {
        let Some(output) = output else { return self.tape.quiet() };
        match output {
            Output::Ask { id, .. } => {
                self.last_question += 1;
                self.questions.insert(*id, self.last_question);
            }
            Output::Commit(id) => {
                self.last_commit += 1;
                self.commits.insert(*id, self.last_commit);
            }
            Output::Deliver { delivery, .. } => {
                if let Some(token) = &delivery.token {
                    self.last_token += 1;
                    self.tokens.insert(hash(token), self.last_token);
                }
            }
            Output::Transmit(_)
            | Output::Close(_)
            | Output::Resume(_)
            | Output::Interest { .. }
            | Output::Forward { .. }
            | Output::Event(_) => {}
        }
        self.tape.line(&Said::by_broker(output).line());
    }
}

fn hash(token: &AckToken) -> u64 {
    let mut hasher = DefaultHasher::new();
    token.hash(&mut hasher);
    hasher.finish()
}
