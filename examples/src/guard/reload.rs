//! New users and rules while clients stay.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use damselfly_broker::{Access, Permission, ProblemInformation};
use damselfly_codec::ReasonCode;
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;

use super::gate::Guard;
use super::mistake::WrongFile;
use super::policy::{Policy, Sources};
use super::worker::{Batch, Change, Holder};
use crate::broker::Waker;

/// Sessions whose rules are compiled at once, by another thread.
const SESSIONS_PER_BATCH: usize = 64;
/// Sessions looked at to find these.
const SESSIONS_PER_LOOK: usize = 1024;
/// How long the broker's thread applies new rules before all others have their turn.
const SHARE: Duration = Duration::from_millis(1);

/// Reads the files of a [`Guard`] anew. What they say then holds for everybody from the next moments on, also for those
/// who are there:
///
/// - a permission that was withdrawn ends subscriptions and deliveries at once, one that was given holds at once;
/// - a user who was removed is disconnected (5.0: DISCONNECT `0x87` with a reason), his sessions end with all that waits in
///   them, and their wills are not published: he may do nothing any more;
/// - a user who got another password is disconnected in the same way; his sessions stay, and wait for him;
/// - a login that is under way is judged by the new files.
#[derive(Clone)]
pub struct Reloader {
    sources: Sources,
    policies: Sender<Policy>,
    waker: Arc<OnceLock<Waker>>,
}

impl Reloader {
    pub(super) fn new(sources: Sources, policies: Sender<Policy>, waker: Arc<OnceLock<Waker>>) -> Self {
        Self { sources, policies, waker }
    }

    /// Reads the files in the thread that asks, which should not be the broker's, and has the guard take them over. If
    /// anything is wrong with them, that is told, and what was there before holds on.
    pub fn reload(&self) -> Result<(), Vec<WrongFile>> {
        let policy = Policy::load(&self.sources)?;
        // Without a guard there is nobody to tell.
        let _ = self.policies.send(policy);
        let _ = self.waker.get().map(Waker::wake);
        Ok(())
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// A new policy on its way through the sessions.
#[derive(Debug)]
pub(super) struct Walk {
    /// The last one that was looked at.
    after: Option<Box<str>>,
    /// Those that came with an older policy after the walk had passed.
    late: Vec<Box<str>>,
    /// A batch is with another thread.
    waits: bool,
    changes: VecDeque<(Box<str>, Change)>,
    begun: Instant,
    sessions: usize,
    /// The most that clients had to wait for it at once.
    longest: Duration,
}

impl Walk {
    fn new() -> Self {
        let (after, late, changes) = (None, Vec::new(), VecDeque::new());
        Self { after, late, waits: false, changes, begun: Instant::now(), sessions: 0, longest: Duration::ZERO }
    }

    /// Whether there is something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        !self.waits || !self.changes.is_empty()
    }
}

impl Guard {
    pub(super) fn replace_policy(&mut self, policy: Policy) {
        self.policy = Arc::new(policy);
        self.generation = self.generation.wrapping_add(1);
        let waits = self.walk.as_ref().is_some_and(|walk| walk.waits);
        self.walk = Some(Walk { waits, ..Walk::new() });
    }

    /// A client is there, with a new session or an old one.
    pub(super) fn note_session(&mut self, client_id: &str, holder: Holder) {
        if holder.generation != self.generation {
            self.walk.get_or_insert_with(Walk::new).late.push(client_id.into());
        }
        self.sessions.insert(client_id.into(), holder);
    }

    pub(super) fn reviewed(&mut self, generation: u32, changes: Vec<(Box<str>, Change)>) {
        let Some(walk) = &mut self.walk else { return };
        walk.waits = false;
        // Files that changed again meanwhile are looked at from the beginning.
        if generation == self.generation {
            walk.changes.extend(changes);
        }
    }

    /// Does a share of the work.
    pub(super) fn walk(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        if self.walk.is_none() {
            return;
        }
        let begun = Instant::now();
        let is_over = self.walk_until(broker, now, begun);
        if let Some(walk) = &mut self.walk {
            walk.longest = walk.longest.max(begun.elapsed());
        }
        if is_over {
            self.end_walk();
        }
    }

    /// Whether nothing is left.
    fn walk_until(&mut self, broker: &mut RecordedBroker, now: Timestamp, begun: Instant) -> bool {
        loop {
            let Some(walk) = &mut self.walk else { return false };
            while let Some((client_id, change)) = walk.changes.pop_front() {
                let is_due = self.sessions.get(&client_id).is_some_and(|holder| holder.generation != self.generation);
                if is_due {
                    walk.sessions += 1;
                    apply(broker, now, &client_id, change);
                    if let Some(holder) = self.sessions.get_mut(&client_id) {
                        holder.generation = self.generation;
                    }
                }
                if begun.elapsed() >= SHARE {
                    return false;
                }
            }
            if walk.waits {
                return false;
            }
            if !self.send_batch() {
                return true;
            }
            if begun.elapsed() >= SHARE {
                return false;
            }
        }
    }

    /// Has the next sessions looked at; false if there are none.
    fn send_batch(&mut self) -> bool {
        let (Some(walk), Some(workers)) = (&mut self.walk, &self.workers) else { return false };
        let generation = self.generation;
        let mut sessions: Vec<(Box<str>, Holder)> = Vec::new();
        while let Some(client_id) = walk.late.pop() {
            if let Some(holder) = self.sessions.get(&client_id) {
                sessions.push((client_id, holder.clone()));
            }
            if sessions.len() >= SESSIONS_PER_BATCH {
                break;
            }
        }
        let start = walk.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (client_id, holder) in self.sessions.range::<str, _>((start, Bound::Unbounded)).take(SESSIONS_PER_LOOK) {
            if sessions.len() >= SESSIONS_PER_BATCH {
                break;
            }
            last = Some(client_id.clone());
            if holder.generation != generation {
                sessions.push((client_id.clone(), holder.clone()));
            }
        }
        let is_at_end = last.is_none();
        walk.after = last.or_else(|| walk.after.take());
        if sessions.is_empty() {
            return !is_at_end;
        }
        walk.waits = true;
        workers.push_batch(Batch { generation, policy: self.policy.clone(), sessions });
        true
    }

    fn end_walk(&mut self) {
        if let Some(walk) = self.walk.take() {
            let users = self.policy.users().map(super::Users::len);
            let (sessions, time, longest) = (walk.sessions, walk.begun.elapsed(), walk.longest);
            tracing::info!(users, sessions, ?time, ?longest, "new users and rules hold for everybody");
        }
    }
}

fn apply(broker: &mut RecordedBroker, now: Timestamp, client_id: &str, change: Change) {
    let connection = broker.session(client_id).and_then(|session| session.connection);
    let end = |broker: &mut RecordedBroker, reason: &str| {
        let information = ProblemInformation::new().reason_string(reason);
        if let (Some(connection), Ok(information)) = (connection, information) {
            broker.disconnect_with(now, connection, ReasonCode::NotAuthorized, &information);
        }
    };
    match change {
        Change::Access(access) => {
            broker.set_access(now, client_id, access);
        }
        Change::Rekeyed(access) => {
            broker.set_access(now, client_id, access);
            end(broker, "the password of this user was changed: connect again");
        }
        Change::Removed => {
            // So that the will of the session is not published.
            broker.set_access(now, client_id, Some(Arc::new(Access::new(Permission::Deny))));
            end(broker, "this user does not exist any more");
            broker.remove_session(now, client_id);
        }
    }
}
