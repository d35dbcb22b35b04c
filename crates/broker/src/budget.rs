//! One memory budget for everything peers can make grow. [`Config::max_memory`](crate::Config::max_memory)
//!
//! What comes and goes (messages, bytes on their way out) finds no room first: an eighth of the budget is kept for what
//! stands (connections, handshakes, sessions, wills, subscriptions, unfinished packets), so that messages for absent clients cannot
//! keep these from coming back.

use alloc::collections::{BTreeMap, VecDeque};
use core::ops::Bound;

use damselfly_codec::ReasonCode;
use damselfly_session::{StoredWill, Timestamp};

use crate::{
    AuthenticationStep, Broker, ConnectionId, Memory, Question, Secret,
    broker::{Fault, Timer, WORK_PER_CALL},
    connections::{Connection, Pause, PendingConnect, Stage},
    members::Member,
    sessions::{Session, SessionKey},
    share::Group,
};

/// What stands, in bytes.
#[derive(Debug)]
pub(crate) struct Standing {
    bytes: usize,
    /// What is kept for it.
    reserve: usize,
    /// The larger of the two: what is left of the budget is for messages.
    counted: usize,
}

impl Standing {
    pub(crate) fn new(max_memory: u64) -> Self {
        let reserve = usize::try_from(max_memory / RESERVE).unwrap_or(usize::MAX);
        Self { bytes: 0, reserve, counted: reserve }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.counted = self.bytes.max(self.reserve);
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.counted = self.bytes.max(self.reserve);
    }
}

/// Unfinished packets that are large enough to matter.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// When each grew last.
    grown: BTreeMap<ConnectionId, Timestamp>,
    /// Connections that were paused for want of memory, in order, some of which may be gone.
    paused: VecDeque<ConnectionId>,
    /// The last one looked at.
    seen: Option<ConnectionId>,
}

/// What a filter takes: a place in the set of its session, its share of the index, both with the text. A Shared
/// Subscription may be the only one of its group, which has the text twice.
pub(crate) fn subscription_weight(filter: &str) -> usize {
    if filter.starts_with("$share/") {
        Memory::PER_SHARED_SUBSCRIPTION + 4 * filter.len()
    } else {
        Memory::PER_SUBSCRIPTION + 2 * filter.len()
    }
}

/// What a session takes beside its subscriptions and messages: its identifier twice, and its will.
pub(crate) fn session_weight(session: &Session) -> usize {
    Memory::PER_SESSION + 2 * session.client_id.len() + will_weight(session.will.as_ref())
}

fn will_weight(will: Option<&StoredWill>) -> usize {
    will.map_or(0, StoredWill::heap_bytes)
}

/// What an open question takes, most of it in the client's words.
pub(crate) fn question_weight(question: &Question) -> usize {
    let of_step = |step: &AuthenticationStep| step.method.len() + secret_len(step.data.as_ref());
    let words = match question {
        Question::Connect { client_id, user_name, password, authentication, .. } => {
            client_id.len()
                + user_name.as_ref().map_or(0, |name| name.len())
                + secret_len(password.as_ref())
                + authentication.as_ref().map_or(0, of_step)
        }
        Question::Authenticate { step, .. } => of_step(step),
        // They count with the message or the filters that wait for them.
        Question::Publish { .. } | Question::Subscribe { .. } => 0,
    };
    size_of::<Question>() + words
}

fn secret_len(secret: Option<&Secret>) -> usize {
    secret.map_or(0, |secret| secret.as_bytes().len())
}

impl PendingConnect {
    /// What it takes until CONNACK, with the question about it. What the embedding program says beside its answer is its
    /// own matter.
    pub(crate) fn weight(&self) -> usize {
        let method = self.authentication_method.as_ref().map_or(0, |method| method.len());
        let data = self.authentication_data.as_ref().map_or(0, |data| data.len());
        size_of::<Self>() + self.client_id.len() + will_weight(self.will.as_ref()) + method + data + self.asked_bytes
    }
}

impl Stage {
    /// What a connection takes because of how far it came.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Asking(pending, _) | Self::Authenticating(pending) | Self::Accepted(pending) => pending.weight(),
            Self::AwaitConnect | Self::Open | Self::Reauthenticating(_) | Self::Closing => 0,
        }
    }
}

impl Broker {
    /// A CONNECT or AUTH of a client that is not accepted yet is to be kept: refused if there is no room for it.
    pub(crate) fn count_handshake(&mut self, now: Timestamp, id: ConnectionId, more: usize) -> Result<(), Fault> {
        // It counts in the place of the bytes it came in.
        self.forget_arriving(id);
        if !self.may_stand(more) {
            self.look_for_room_soon(now);
            return Err(Fault::Refuse(ReasonCode::QuotaExceeded));
        }
        self.standing.add(more);
        Ok(())
    }

    /// What counts against the budget, as far as messages are concerned.
    #[inline]
    pub(crate) fn memory_used(&self) -> u64 {
        let held = self.held_bytes + self.lookups.bytes;
        let others = self.counters.route_cache_bytes + self.waiting_bytes + held + self.standing.counted;
        self.messages.bytes() + self.retained.bytes() + u64::try_from(others).unwrap_or(u64::MAX)
    }

    /// Whether a held message finds no memory: held ones do not wait for each other.
    pub(crate) fn has_no_memory_beside_held(&self) -> bool {
        let held = u64::try_from(self.held_bytes).unwrap_or(u64::MAX);
        self.memory_used().saturating_sub(held) >= self.config.max_memory
    }

    #[inline]
    pub(crate) fn has_no_memory(&self) -> bool {
        self.memory_used() >= self.config.max_memory
    }

    /// Whether [`Config::max_memory`](crate::Config::max_memory) is used up. An adapter then reads little at a time, some
    /// KiB: what it reads of an unfinished packet it has to keep.
    pub fn is_out_of_memory(&self) -> bool {
        self.has_no_memory()
    }

    /// What counts against the budget.
    pub(crate) fn memory_counted(&self) -> u64 {
        let wide = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        self.memory_used() - wide(self.standing.counted) + wide(self.standing.bytes)
    }

    /// Whether something more may stand.
    pub(crate) fn may_stand(&self, more: usize) -> bool {
        let wide = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        let after = wide(self.standing.bytes.saturating_add(more));
        after <= wide(self.standing.reserve)
            || self.memory_counted().saturating_add(wide(more)) <= self.config.max_memory
    }

    pub(crate) fn insert_session(&mut self, session: Session) -> SessionKey {
        self.standing.add(session_weight(&session));
        self.sessions.insert(session)
    }

    /// Whether the session of a CONNECT, new or with another will, would find room.
    pub(crate) fn has_room_for_session(
        &self,
        existing: Option<SessionKey>,
        client_id: &str,
        will: Option<&StoredWill>,
    ) -> bool {
        match existing.and_then(|key| self.sessions.get(key)) {
            Some(session) => {
                let more = will_weight(will).saturating_sub(will_weight(session.will.as_ref()));
                more == 0 || self.may_stand(more)
            }
            None => self.may_stand(Memory::PER_SESSION + 2 * client_id.len() + will_weight(will)),
        }
    }

    pub(crate) fn set_will(&mut self, key: SessionKey, will: Option<StoredWill>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        self.standing.add(will_weight(will.as_ref()));
        let old = core::mem::replace(&mut session.will, will);
        self.standing.remove(will_weight(old.as_ref()));
    }

    pub(crate) fn take_will(&mut self, key: SessionKey) -> Option<StoredWill> {
        let will = self.sessions.get_mut(key)?.will.take();
        self.standing.remove(will_weight(will.as_ref()));
        will
    }

    /// Counts what the adapter keeps of a packet that is not whole; true if reading has to wait.
    #[inline]
    pub(crate) fn keep(&mut self, now: Timestamp, id: ConnectionId, kept: usize) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if connection.arriving == kept { connection.pause.is_some() } else { self.keep_other(now, id, kept) }
    }

    fn keep_other(&mut self, now: Timestamp, id: ConnectionId, kept: usize) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if matches!(connection.stage, Stage::Closing) {
            return false;
        }
        let before = core::mem::replace(&mut connection.arriving, kept);
        let is_paused = connection.pause.is_some();
        self.standing.add(kept);
        self.standing.remove(before);
        if kept <= SMALL {
            self.arrivals.grown.remove(&id);
        } else if kept > before {
            self.arrivals.grown.insert(id, now);
            if !is_paused && !self.may_stand(0) {
                self.pause(now, id, Pause::Memory);
                self.arrivals.paused.push_back(id);
                self.look_for_room_soon(now);
                return true;
            }
        }
        is_paused
    }

    /// The connection ends, and the adapter forgets what it kept of it.
    pub(crate) fn forget_arriving(&mut self, id: ConnectionId) {
        let kept = self.connections.get_mut(id).map_or(0, |connection| core::mem::take(&mut connection.arriving));
        self.standing.remove(kept);
        self.arrivals.grown.remove(&id);
    }

    /// Somebody found no room.
    pub(crate) fn look_for_room_soon(&mut self, now: Timestamp) {
        // Not put off by those who come later.
        if self.deadlines.deadline(Timer::Room).is_none() {
            self.deadlines.arm(Timer::Room, now.saturating_add(RETRY));
        }
    }

    /// Looks after all that found no room.
    pub(crate) fn look_for_room(&mut self, now: Timestamp) {
        self.end_stalled_arrivals(now);
        self.resume_arrivals(now);
        self.retry_held_back(now);
        let may_end_some = self.is_short() && !self.arrivals.grown.is_empty();
        if !self.held_back.is_empty() || !self.arrivals.paused.is_empty() || may_end_some {
            self.look_for_room_soon(now);
        }
    }

    /// Whether what stands has used up the budget: messages alone cannot.
    fn is_short(&self) -> bool {
        self.standing.bytes >= self.standing.reserve && self.has_no_memory()
    }

    /// Unfinished packets that did not grow for [`pause_limit`](crate::Config::pause_limit), because we do not read or
    /// because nothing comes, make room for others.
    fn end_stalled_arrivals(&mut self, now: Timestamp) {
        let limit = self.config.pause_limit;
        for _ in 0..WORK_PER_CALL.min(self.arrivals.grown.len()) {
            if !self.is_short() {
                return;
            }
            let after = self.arrivals.seen.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.arrivals.grown.range((after, Bound::Unbounded)).next();
            self.arrivals.seen = next.map(|(id, _)| *id);
            if let Some((id, _)) = next.filter(|(_, grown)| grown.saturating_add(limit) <= now) {
                self.fail(now, *id, Fault::Refuse(ReasonCode::QuotaExceeded));
            }
        }
    }

    fn resume_arrivals(&mut self, now: Timestamp) {
        let step = STEP.min(self.standing.reserve);
        let mut resumed = 0;
        while self.may_stand(resumed + step) {
            let Some(id) = self.arrivals.paused.pop_front() else { return };
            if self.is_paused_for_memory(id) {
                resumed += step;
                self.resume(now, id);
            }
        }
        if self.arrivals.paused.iter().all(|id| !self.is_paused_for_memory(*id)) {
            self.arrivals.paused.clear();
        }
    }

    fn is_paused_for_memory(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.pause == Some(Pause::Memory))
    }

    /// What stands, counted anew.
    pub(crate) fn standing_anew(&self) -> usize {
        let connections = self
            .connections
            .iter()
            .map(|(_, connection)| Memory::PER_CONNECTION + connection.arriving + connection.stage.weight());
        let sessions = self.sessions.all().map(|(_, session)| {
            let own = if session.is_ended { 0 } else { session_weight(session) };
            own + session.subscriptions.iter().map(subscription_weight).sum::<usize>()
        });
        connections.sum::<usize>() + sessions.sum::<usize>()
    }
}

impl Memory {
    /// What one connection counts for against [`Config::max_memory`](crate::Config::max_memory), beside an unfinished
    /// packet of its and what it says before CONNACK.
    pub const PER_CONNECTION: usize = size_of::<Connection>() + 160;
    /// What one session counts for, beside its will, twice its Client Identifier, subscriptions and messages.
    pub const PER_SESSION: usize = size_of::<Session>() + 64;
    /// What one subscription counts for, beside twice its Topic Filter.
    pub const PER_SUBSCRIPTION: usize = 128;
    /// What one Shared Subscription counts for, beside four times its Topic Filter with the ShareName.
    pub const PER_SHARED_SUBSCRIPTION: usize = Self::PER_SUBSCRIPTION + size_of::<Group>() + size_of::<Member>() + 64;
}

const _: () = assert!(Memory::PER_CONNECTION + Memory::PER_SESSION <= 1_536, "the documentation says how many fit");
const _: () = assert!(Memory::PER_SHARED_SUBSCRIPTION <= 512, "many clients have nothing but one of them");

/// One part in so many of the budget is kept for what stands.
const RESERVE: u64 = 8;

/// Bytes of an unfinished packet that are always read: every client has some at times.
const SMALL: usize = 1_024;

/// What a connection that is read again is expected to add at once.
const STEP: usize = 64 * 1024;

/// How often those who found no room are looked after.
const RETRY: core::time::Duration = core::time::Duration::from_millis(50);
