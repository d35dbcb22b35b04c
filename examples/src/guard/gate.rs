use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use damselfly_broker::{Access, Answer, ConnectionId, Event, Grant, Question, QuestionId};
use damselfly_codec::ReasonCode;
use damselfly_session::Timestamp;
use damselfly_sim::flight::RecordedBroker;

use super::Limits;
use super::attempts::{Attempts, Origin};
use super::policy::{Policy, Sources};
use super::reload::{Reloader, Walk};
use super::worker::{Claim, Done, Holder, Login, Verdict, Workers};
use crate::Excerpt;
use crate::broker::{Entrance, Host, Waker};

/// Answers a broker's questions by a [`Policy`]. A [`Host`] by itself, or inside one that hands on what concerns it:
/// `attach`, `admit`, `event`, `poll_timeout`, `handle_timeout` and `woken`.
///
/// | who | answer, 5.0 | 3.1.1 |
/// |---|---|---|
/// | right name and password | CONNACK `0x00`; the User Name is the principal of the session | 0 |
/// | wrong password, unknown name, a name without a password or the reverse | CONNACK `0x86`, after a delay | 4 |
/// | no name and no password | CONNACK `0x00` if the listener allows it, else `0x87` | 0, else 5 |
/// | too many logins under way, of all or of this address | CONNACK `0x89` | 3 |
/// | enhanced authentication | CONNACK `0x8C` | has none |
///
/// Without a password file names and passwords are not looked at, and everybody is anonymous.
pub struct Guard {
    pub(super) policy: Arc<Policy>,
    /// How many policies there were before.
    pub(super) generation: u32,
    limits: Limits,
    allows_anonymous: bool,
    anonymous_by_listener: HashMap<u16, bool>,
    /// Listeners at which certificates say who clients are.
    certified: HashSet<u16>,
    waker: Arc<OnceLock<Waker>>,
    /// None where nothing is ever slow.
    pub(super) workers: Option<Workers>,
    attempts: Attempts,
    next_ticket: u64,
    logins: HashMap<u64, UnderWay>,
    tickets: HashMap<ConnectionId, u64>,
    /// Failed logins, and when they are answered.
    delayed: BTreeSet<(Timestamp, u64)>,
    /// Accepted, and not reported as connected yet.
    admitted: HashMap<ConnectionId, Holder>,
    pub(super) sessions: BTreeMap<Box<str>, Holder>,
    new_policies: (Sender<Policy>, Receiver<Policy>),
    pub(super) walk: Option<Walk>,
}

/// A login without an answer.
struct UnderWay {
    question: QuestionId,
    connection: ConnectionId,
    origin: Origin,
    address: Option<SocketAddr>,
    claim: Claim,
    client_id: Box<str>,
    /// Of the policy it is judged by.
    generation: u32,
    /// Nobody waits for the answer any more; it counts for its address as long as if somebody did.
    is_gone: bool,
}

impl Guard {
    /// Asks everybody for a password if the policy has users, and nobody otherwise. An error means that the system has no
    /// threads or no randomness.
    pub fn new(policy: Policy, limits: Limits) -> io::Result<Self> {
        let waker = Arc::new(OnceLock::new());
        let workers = policy.is_by_file().then(|| Workers::start(limits.login_threads, &waker)).transpose()?;
        Ok(Self {
            allows_anonymous: policy.users().is_none(),
            policy: Arc::new(policy),
            generation: 0,
            attempts: Attempts::new(limits.clone()),
            limits,
            anonymous_by_listener: HashMap::new(),
            certified: HashSet::new(),
            waker,
            workers,
            next_ticket: 0,
            logins: HashMap::new(),
            tickets: HashMap::new(),
            delayed: BTreeSet::new(),
            admitted: HashMap::new(),
            sessions: BTreeMap::new(),
            new_policies: channel(),
            walk: None,
        })
    }

    /// Whether clients may connect without name and password, at listeners of which nothing else is
    /// [said](Self::allow_anonymous_at).
    pub fn allow_anonymous(&mut self, is_allowed: bool) {
        self.allows_anonymous = is_allowed;
    }

    /// The same for one listener: [`Entrance::listener`].
    pub fn allow_anonymous_at(&mut self, listener: u16, is_allowed: bool) {
        self.anonymous_by_listener.insert(listener, is_allowed);
    }

    /// At this listener a certificate says who a client is, whatever user name and password it gives.
    pub fn take_names_of_certificates_at(&mut self, listener: u16) {
        self.certified.insert(listener);
    }

    /// What reads these files anew, from any thread.
    pub fn reloader(&self, sources: Sources) -> Reloader {
        Reloader::new(sources, self.new_policies.0.clone(), self.waker.clone())
    }

    /// Logins that have no answer yet, and failed ones whose client did not wait for it.
    pub fn logins(&self) -> usize {
        self.logins.len()
    }

    fn claim(
        &self,
        entrance: &Entrance,
        user_name: Option<&str>,
        password: Option<&damselfly_broker::Secret>,
    ) -> Option<Claim> {
        if let Some(name) = entrance.certificate_name.as_deref().filter(|_| self.certified.contains(&entrance.listener))
        {
            return Some(Claim::Known(Some(name.into())));
        }
        let is_anonymous = user_name.is_none() && password.is_none();
        if self.policy.users().is_none() || is_anonymous {
            let listener = self.anonymous_by_listener.get(&entrance.listener).copied();
            return listener.unwrap_or(self.allows_anonymous).then_some(Claim::Known(None));
        }
        Some(Claim::Password(user_name.map(Into::into), password.cloned()))
    }

    /// Begins to find out; at once where there is nothing to find out.
    fn begin(&mut self, login: UnderWay) -> Option<Answer> {
        if let Claim::Known(name) = &login.claim {
            if let Some(access) = self.policy.ready_access(name.as_ref()) {
                let name = name.clone();
                return Some(self.grant(
                    login.connection,
                    Holder { name, user: None, generation: self.generation },
                    access,
                ));
            }
        }
        let Some(workers) = &self.workers else {
            let Claim::Known(name) = login.claim else { return Some(Answer::Deny(ReasonCode::NotAuthorized)) };
            let access = self.policy.access(name.as_ref(), &login.client_id);
            return Some(self.grant(
                login.connection,
                Holder { name, user: None, generation: self.generation },
                access,
            ));
        };
        let has_room = workers.waiting() < usize::try_from(self.limits.max_queued_logins).unwrap_or(usize::MAX);
        if !has_room || !self.attempts.begin(login.origin) {
            return Some(Answer::Deny(ReasonCode::ServerBusy));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        workers.push(self.order(ticket, &login));
        self.tickets.insert(login.connection, ticket);
        self.logins.insert(ticket, login);
        None
    }

    fn order(&self, ticket: u64, login: &UnderWay) -> Login {
        let (origin, claim, client_id) = (login.origin, login.claim.clone(), login.client_id.clone());
        Login { ticket, origin, policy: self.policy.clone(), claim, client_id }
    }

    fn grant(&mut self, connection: ConnectionId, holder: Holder, access: Option<Arc<Access>>) -> Answer {
        let mut grant = Grant::default();
        grant.principal.clone_from(&holder.name);
        grant.access = access;
        if self.workers.is_some() {
            self.admitted.insert(connection, holder);
        }
        Answer::Allow(grant)
    }

    fn judged(&mut self, broker: &mut RecordedBroker, now: Timestamp, ticket: u64, verdict: Verdict) {
        let Some(login) = self.logins.get_mut(&ticket) else { return };
        if login.generation != self.generation && !login.is_gone {
            // The files changed meanwhile.
            login.generation = self.generation;
            let Some(login) = self.logins.get(&ticket) else { return };
            let order = self.order(ticket, login);
            if let Some(workers) = &self.workers {
                workers.push(order);
            }
            return;
        }
        match verdict {
            Verdict::Admitted { name, user, access } => {
                let Some(login) = self.finish(ticket) else { return };
                if !login.is_gone {
                    let holder = Holder { name, user, generation: self.generation };
                    let answer = self.grant(login.connection, holder, access);
                    broker.handle_answer(now, login.question, answer);
                }
            }
            Verdict::Refused => {
                let (failures, delay) = self.attempts.fail(login.origin, now);
                // A name that nobody has may be a password in the wrong place.
                let known = match &login.claim {
                    Claim::Password(Some(name), _) => self.policy.user(name).map(|user| user.name.clone()),
                    _ => None,
                };
                let user = known.as_deref().map(|name| tracing::field::display(Excerpt(name)));
                let address = login.address.map(tracing::field::display);
                tracing::warn!(address, user, failures, ?delay, "a login failed");
                self.delayed.insert((now.saturating_add(delay), ticket));
            }
        }
    }

    /// The login is over.
    fn finish(&mut self, ticket: u64) -> Option<UnderWay> {
        let login = self.logins.remove(&ticket)?;
        self.attempts.end(login.origin);
        if self.tickets.get(&login.connection) == Some(&ticket) {
            self.tickets.remove(&login.connection);
        }
        Some(login)
    }

    /// The connection went away: what was not begun for it is not begun any more.
    fn cancel(&mut self, connection: ConnectionId) {
        self.admitted.remove(&connection);
        let Some(ticket) = self.tickets.remove(&connection) else { return };
        let Some(login) = self.logins.get_mut(&ticket) else { return };
        login.is_gone = true;
        let origin = login.origin;
        if self.workers.as_ref().is_some_and(|workers| workers.cancel(origin, ticket)) {
            self.finish(ticket);
        }
    }

    fn answer_delayed(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        while let Some((_, ticket)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.pop_first();
            if let Some(login) = self.finish(ticket).filter(|login| !login.is_gone) {
                broker.handle_answer(now, login.question, Answer::Deny(ReasonCode::BadUserNameOrPassword));
            }
        }
    }
}

impl Host for Guard {
    fn attach(&mut self, waker: Waker) {
        // A guard serves one driver.
        let _ = self.waker.set(waker);
    }

    fn answer(&mut self, id: QuestionId, question: &Question) -> Option<Answer> {
        self.admit(id, question, &Entrance::default())
    }

    fn admit(&mut self, id: QuestionId, question: &Question, entrance: &Entrance) -> Option<Answer> {
        let (connection, peer, client_id, user_name, password) = match question {
            Question::Connect { authentication: Some(_), .. } | Question::Authenticate { .. } => {
                return Some(Answer::Deny(ReasonCode::BadAuthenticationMethod));
            }
            Question::Connect { connection, peer, client_id, user_name, password, .. } => {
                (*connection, peer, client_id, user_name, password)
            }
            // The rules that are given with a grant leave nothing to be asked.
            _ => return Some(Answer::Deny(ReasonCode::NotAuthorized)),
        };
        let Some(claim) = self.claim(entrance, user_name.as_deref(), password.as_ref()) else {
            return Some(Answer::Deny(ReasonCode::NotAuthorized));
        };
        self.begin(UnderWay {
            question: id,
            connection,
            origin: Origin::of(peer.address),
            address: peer.address,
            claim,
            client_id: client_id.clone(),
            generation: self.generation,
            is_gone: false,
        })
    }

    fn event(&mut self, event: &Event, _address: Option<SocketAddr>) {
        match event {
            Event::Connected { connection, client_id, .. } => {
                if let Some(holder) = self.admitted.remove(connection) {
                    self.note_session(client_id, holder);
                }
            }
            Event::Disconnected { connection, .. } => self.cancel(*connection),
            Event::SessionEnded { client_id, .. } => {
                self.sessions.remove(client_id);
            }
            _ => {}
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        let next_answer = self.delayed.first().map(|(at, _)| *at);
        // What is left of a reload goes on at once, with everybody else's turn in between.
        let next_portion = self.walk.as_ref().filter(|walk| walk.has_work()).map(|_| Timestamp::ZERO);
        next_answer.into_iter().chain(next_portion).min()
    }

    fn handle_timeout(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.answer_delayed(broker, now);
        self.walk(broker, now);
    }

    fn woken(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        self.attempts.forget(now);
        while let Ok(policy) = self.new_policies.1.try_recv() {
            self.replace_policy(policy);
        }
        let done: Vec<Done> = self.workers.as_ref().map(|workers| workers.done().collect()).unwrap_or_default();
        for done in done {
            match done {
                Done::Login { ticket, verdict } => self.judged(broker, now, ticket, verdict),
                Done::Batch { generation, changes } => self.reviewed(generation, changes),
            }
        }
        self.walk(broker, now);
    }
}

/// No names, no passwords.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (logins, sessions) = (self.logins.len(), self.sessions.len());
        f.debug_struct("Guard").field("logins", &logins).field("sessions", &sessions).finish_non_exhaustive()
    }
}
