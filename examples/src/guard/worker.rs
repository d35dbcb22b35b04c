//! The threads that verify passwords and compile rules, and the queue in front of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryIter, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use argon2::Block;
use damselfly_broker::{Access, Secret};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::attempts::Origin;
use super::password::PasswordHash;
use super::policy::Policy;
use super::users::User;
use crate::broker::Waker;
use crate::scram::random;

/// How long it is remembered that a password was right, so that a client that reconnects often does not cost a hash each
/// time.
pub const VERIFIED_FOR: Duration = Duration::from_secs(60);
/// Passwords that are remembered so at once.
pub const MAX_VERIFIED: usize = 1024;

/// Who wants in, and what is needed to decide.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) ticket: u64,
    pub(super) origin: Origin,
    pub(super) policy: Arc<Policy>,
    pub(super) claim: Claim,
    pub(super) client_id: Box<str>,
}

/// Who a client says it is.
#[derive(Clone, Debug)]
pub(super) enum Claim {
    /// It is known already, by a certificate, or it says nothing and need not.
    Known(Option<Arc<str>>),
    /// A name to be shown by a password.
    Password(Option<Box<str>>, Option<Secret>),
}

/// Sessions whose rules are to be made anew.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) generation: u32,
    pub(super) policy: Arc<Policy>,
    pub(super) sessions: Vec<(Box<str>, Holder)>,
}

/// Whose session it is.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) name: Option<Arc<str>>,
    /// With the hash that was verified, if a password was asked for.
    pub(super) user: Option<Arc<User>>,
    /// Of the policy it was admitted by.
    pub(super) generation: u32,
}

/// What a thread found out.
#[derive(Debug)]
pub(super) enum Done {
    Login { ticket: u64, verdict: Verdict },
    Batch { generation: u32, changes: Vec<(Box<str>, Change)> },
}

#[derive(Debug)]
pub(super) enum Verdict {
    Admitted { name: Option<Arc<str>>, user: Option<Arc<User>>, access: Option<Arc<Access>> },
    Refused,
}

/// What a new policy means for a session.
#[derive(Debug)]
pub(super) enum Change {
    /// It may do this.
    Access(Option<Arc<Access>>),
    /// The same, and its user has another password.
    Rekeyed(Option<Arc<Access>>),
    /// There is no such user any more.
    Removed,
}

/// Threads that work until this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    done: Receiver<Done>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
    verified: Mutex<Verified>,
}

/// Logins wait by origin and take turns, so that many of one do not delay those of another.
#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Batch>,
    turns: VecDeque<Origin>,
    logins: BTreeMap<Origin, VecDeque<Login>>,
    waiting: usize,
    is_closed: bool,
}

enum Job {
    Login(Login),
    Batch(Batch),
}

impl Workers {
    pub(super) fn start(threads: u32, waker: &Arc<OnceLock<Waker>>) -> io::Result<Self> {
        let (sender, done) = channel();
        let verified = Mutex::new(Verified::new()?);
        let shared = Arc::new(Shared { state: Mutex::default(), ready: Condvar::new(), verified });
        // From here on every way out ends the threads there are.
        let workers = Self { shared, done };
        for _ in 0..threads.max(1) {
            let (shared, sender, waker) = (workers.shared.clone(), sender.clone(), waker.clone());
            thread::Builder::new().name("logins".to_owned()).spawn(move || work(&shared, &sender, &waker))?;
        }
        Ok(workers)
    }

    /// Logins that nobody has begun with.
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().waiting
    }

    pub(super) fn push(&self, login: Login) {
        self.shared.lock().push(login);
        self.shared.ready.notify_one();
    }

    pub(super) fn push_batch(&self, batch: Batch) {
        self.shared.lock().batches.push_back(batch);
        self.shared.ready.notify_one();
    }

    /// Takes a login back; false if a thread has begun with it.
    pub(super) fn cancel(&self, origin: Origin, ticket: u64) -> bool {
        self.shared.lock().cancel(origin, ticket)
    }

    /// What was found out since this was last asked.
    pub(super) fn done(&self) -> TryIter<'_, Done> {
        self.done.try_iter()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            // What was withdrawn comes before who wants in.
            if let Some(batch) = state.batches.pop_front() {
                return Some(Job::Batch(batch));
            }
            if let Some(login) = state.pop() {
                return Some(Job::Login(login));
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn verified(&self) -> MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, login: Login) {
        let waiting = self.logins.entry(login.origin).or_default();
        if waiting.is_empty() {
            self.turns.push_back(login.origin);
        }
        waiting.push_back(login);
        self.waiting += 1;
    }

    fn pop(&mut self) -> Option<Login> {
        let origin = self.turns.pop_front()?;
        let waiting = self.logins.get_mut(&origin)?;
        let login = waiting.pop_front()?;
        if waiting.is_empty() {
            self.logins.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        self.waiting -= 1;
        Some(login)
    }

    fn cancel(&mut self, origin: Origin, ticket: u64) -> bool {
        let Some(waiting) = self.logins.get_mut(&origin) else { return false };
        let Some(at) = waiting.iter().position(|login| login.ticket == ticket) else { return false };
        waiting.remove(at);
        if waiting.is_empty() {
            self.logins.remove(&origin);
            self.turns.retain(|turn| *turn != origin);
        }
        self.waiting -= 1;
        true
    }
}

fn work(shared: &Shared, done: &Sender<Done>, waker: &OnceLock<Waker>) {
    let mut memory = Vec::new();
    while let Some(job) = shared.next() {
        let result = match job {
            Job::Login(login) => {
                let verdict = judge(shared, &login, &mut memory);
                Done::Login { ticket: login.ticket, verdict }
            }
            Job::Batch(batch) => Done::Batch { generation: batch.generation, changes: review(batch) },
        };
        if done.send(result).is_err() {
            return;
        }
        // A driver that has ended has no question left.
        let _ = waker.get().map(Waker::wake);
    }
}

fn judge(shared: &Shared, login: &Login, memory: &mut Vec<Block>) -> Verdict {
    let policy = &login.policy;
    let (name, user) = match &login.claim {
        Claim::Known(name) => (name.clone(), None),
        Claim::Password(name, password) => {
            let (Some(name), Some(password)) = (name, password) else { return Verdict::Refused };
            let known = policy.user(name);
            let decoy = || policy.users().and_then(|users| users.decoy(name));
            let is_right = known.or_else(decoy).is_some_and(|user| verify(shared, user, password, memory));
            match known {
                Some(user) if is_right => (Some(user.name.clone()), Some(user.clone())),
                // The password of the user who stood in is none.
                _ => return Verdict::Refused,
            }
        }
    };
    let access = policy.access(name.as_ref(), &login.client_id);
    Verdict::Admitted { name, user, access }
}

fn verify(shared: &Shared, user: &User, password: &Secret, memory: &mut Vec<Block>) -> bool {
    let mark = shared.verified().mark(&user.name, &user.hash, password.as_bytes());
    if mark.as_ref().is_some_and(|mark| shared.verified().is_known(mark, Instant::now())) {
        return true;
    }
    let is_right = user.hash.verify_in(password.as_bytes(), memory);
    if let Some(mark) = mark.filter(|_| is_right) {
        shared.verified().remember(mark, Instant::now());
    }
    is_right
}

fn review(batch: Batch) -> Vec<(Box<str>, Change)> {
    let policy = &batch.policy;
    let change = |(client_id, holder): (Box<str>, Holder)| {
        let access = || policy.access(holder.name.as_ref(), &client_id);
        let change = match &holder.user {
            None => Change::Access(access()),
            Some(old) => match policy.user(&old.name) {
                None => Change::Removed,
                Some(new) if new.hash == old.hash => Change::Access(access()),
                Some(_) => Change::Rekeyed(access()),
            },
        };
        (client_id, change)
    };
    batch.sessions.into_iter().map(change).collect()
}

/// Passwords that were right a while ago, as keyed digests of name, hash and password: no use to anybody without the key,
/// which is made anew by each program and never leaves it. A user whose line changes is another one.
struct Verified {
    key: [u8; 32],
    since: HashMap<[u8; 32], Instant>,
    /// The oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Verified {
    fn new() -> io::Result<Self> {
        Ok(Self { key: random()?, since: HashMap::new(), order: VecDeque::new() })
    }

    fn mark(&self, name: &str, hash: &PasswordHash, password: &[u8]) -> Option<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        // Neither name nor hash has a line feed in it.
        mac.update(format!("{name}\n{hash}\n").as_bytes());
        mac.update(password);
        Some(mac.finalize().into_bytes().into())
    }

    fn is_known(&self, mark: &[u8; 32], now: Instant) -> bool {
        self.since.get(mark).is_some_and(|since| now.saturating_duration_since(*since) < VERIFIED_FOR)
    }

    fn remember(&mut self, mark: [u8; 32], now: Instant) {
        while let Some(oldest) = self.order.front().copied() {
            let is_over = !self.is_known(&oldest, now);
            if !is_over && self.order.len() < MAX_VERIFIED {
                break;
            }
            self.order.pop_front();
            self.since.remove(&oldest);
        }
        if self.since.insert(mark, now).is_none() {
            self.order.push_back(mark);
        }
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Verified({})", self.since.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(ticket: u64, last: u8) -> Login {
        let (origin, policy) = (Origin::V4([192, 0, 2, last]), Arc::default());
        Login { ticket, origin, policy, claim: Claim::Known(None), client_id: "c".into() }
    }

    #[test]
    fn addresses_take_turns_and_what_is_cancelled_is_not_begun() {
        let mut state = State::default();
        for ticket in 0..5 {
            state.push(login(ticket, 1));
        }
        state.push(login(5, 2));
        state.push(login(6, 3));
        assert!(state.cancel(Origin::V4([192, 0, 2, 1]), 3) && state.cancel(Origin::V4([192, 0, 2, 3]), 6));
        assert!(!state.cancel(Origin::V4([192, 0, 2, 1]), 3) && !state.cancel(Origin::Local, 0));
        assert_eq!(state.waiting, 5);
        let order: Vec<_> = std::iter::from_fn(|| state.pop()).map(|login| login.ticket).collect();
        assert_eq!(order, [0, 5, 1, 2, 4]);
        assert!(state.waiting == 0 && state.logins.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn a_password_that_was_right_is_known_for_a_while_for_that_user_and_that_hash() {
        let [hash, other] = [(); 2].map(|()| PasswordHash::new(b"rose bud").unwrap());
        let mut verified = Verified::new().unwrap();
        let now = Instant::now();
        let mark = verified.mark("heron", &hash, b"rose bud").unwrap();
        assert!(!verified.is_known(&mark, now));
        verified.remember(mark, now);
        assert!(verified.is_known(&mark, now + VERIFIED_FOR.saturating_sub(Duration::from_nanos(1))));
        assert!(!verified.is_known(&mark, now + VERIFIED_FOR));
        for (name, hash, password) in
            [("anna", &hash, &b"rose bud"[..]), ("heron", &other, b"rose bud"), ("heron", &hash, b"rosebud")]
        {
            assert!(!verified.is_known(&verified.mark(name, hash, password).unwrap(), now));
        }
        // Another program's key makes another mark of the same.
        assert_ne!(Verified::new().unwrap().mark("heron", &hash, b"rose bud").unwrap(), mark);
    }

    #[test]
    fn so_many_passwords_are_remembered_and_the_oldest_makes_room() {
        let mut verified = Verified::new().unwrap();
        let now = Instant::now();
        let mark = |n: usize| {
            let mut mark = [0; 32];
            mark[..8].copy_from_slice(&n.to_be_bytes());
            mark
        };
        for n in 0..=MAX_VERIFIED {
            verified.remember(mark(n), now);
        }
        assert_eq!((verified.since.len(), verified.order.len()), (MAX_VERIFIED, MAX_VERIFIED));
        assert!(!verified.is_known(&mark(0), now) && verified.is_known(&mark(1), now));
        // What is over makes room too.
        verified.remember(mark(0), now + VERIFIED_FOR);
        assert_eq!((verified.since.len(), verified.order.len()), (1, 1));
    }
}
