//! Whether the numbers the broker keeps agree with what it holds.

use damselfly_codec::QoS;

use crate::{
    Broker,
    broker::Timer,
    connections::{Connection, Reauthentication, Stage},
    held::held_weight,
    sessions::{Entry, Session, Sink, Wait},
    shards::SHARE,
};

/// A number the broker keeps that does not agree with what it holds: a defect of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{counter}: kept as {kept}, counted {counted}")]
#[non_exhaustive]
pub struct Drift {
    /// Which number.
    pub counter: &'static str,
    /// What the broker believes.
    pub kept: u64,
    /// What there is.
    pub counted: u64,
}

fn same(counter: &'static str, kept: usize, found: usize) -> Result<(), Drift> {
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    if kept == found { Ok(()) } else { Err(Drift { counter, kept: wide(kept), counted: wide(found) }) }
}

impl Broker {
    /// Counts anew what the broker keeps numbers of, and compares. For tests and fuzzers: it walks over everything.
    ///
    /// # Errors
    ///
    /// The first number that does not agree.
    pub fn audit(&self) -> Result<(), Drift> {
        let sessions = || self.sessions.all().map(|(_, session)| session);
        let connections = || self.connections.iter().map(|(_, connection)| connection);
        let count = |is_so: fn(&Session) -> bool| sessions().filter(|session| is_so(session)).count();

        same("full sessions", self.full_sessions, count(|session| session.full_since.is_some()))?;
        same(
            "held back",
            self.held_back.len(),
            self.held_back
                .iter()
                .filter(|key| self.sessions.get(**key).is_none_or(|session| session.is_held_back))
                .count(),
        )?;
        let held = sessions().map(|session| session.held_bytes).sum::<usize>();
        let after_commit = self.after_commit.iter().map(|(.., message)| held_weight(message)).sum::<usize>();
        same("held bytes", self.held_bytes, held + after_commit)?;
        same("bytes of lookups", self.lookups.bytes, self.lookups.count_bytes())?;
        same(
            "postponed",
            self.postponed.iter().filter(|key| self.sessions.get(**key).is_some_and(|s| s.is_postponed)).count(),
            count(|s| s.is_postponed),
        )?;
        same("waiting bytes", self.waiting_bytes, connections().map(|connection| connection.transmit.len()).sum())?;
        same("what stands", self.standing.bytes(), self.standing_anew())?;
        let caches = connections().filter_map(|connection| connection.route_cache.as_ref());
        same("route caches", self.counters.route_cache_bytes, caches.map(|cache| cache.heap_bytes()).sum())?;
        same("questions", self.questions.len(), self.questions_due())?;
        let shared = |filter: &&str| filter.starts_with(SHARE);
        let plain = sessions().map(|session| session.subscriptions.iter().filter(|filter| !shared(filter)).count());
        same("subscriptions", self.index.len(), plain.sum::<usize>() + self.groups.len())?;
        if self.config.announce_interest {
            let members = |session: &Session| session.subscriptions.iter().filter(shared).count();
            let (told, told_connected) = self.shards.members_told();
            same("members told", told, sessions().map(members).sum())?;
            let connected = sessions().filter(|session| session.sink != Sink::Offline);
            same("connected members told", told_connected, connected.map(members).sum())?;
        }
        same("members parked in vain", self.parked_in_vain(), 0)?;
        self.audit_messages()?;
        sessions().try_for_each(|session| self.audit_session(session))?;
        self.connections.iter().try_for_each(|(id, connection)| {
            same("bytes of a connection", connection.waiting_bytes, connection.transmit.len())?;
            let has_timer = self.deadlines.deadline(Timer::Connection(id)).is_some();
            let needs_timer = match connection.stage {
                Stage::AwaitConnect | Stage::Authenticating(_) => true,
                Stage::Open | Stage::Reauthenticating(_) => connection.deadline().is_some(),
                Stage::Asking(..) | Stage::Accepted(_) | Stage::Closing => false,
            };
            same("timers", usize::from(has_timer || !needs_timer), 1)
        })
    }

    /// Who waits for the answer to a question.
    fn questions_due(&self) -> usize {
        let of_connection = |(_, connection): (_, &Connection)| {
            let handshake =
                matches!(connection.stage, Stage::Asking(..) | Stage::Reauthenticating(Reauthentication::Asked(_)));
            let filters = connection.waiting.as_ref().map_or(0, |waiting| waiting.questions().len());
            usize::from(handshake) + filters
        };
        let of_session = |(_, session): (_, &Session)| {
            session.held.iter().filter(|held| matches!(held.wait, Wait::Answer(_))).count()
        };
        self.connections.iter().map(of_connection).sum::<usize>() + self.sessions.all().map(of_session).sum::<usize>()
    }

    /// Each reference and each list belongs to somebody.
    fn audit_messages(&self) -> Result<(), Drift> {
        let (mut references, mut lists) = (0, 0);
        for (_, session) in self.sessions.all() {
            let queued = session.outbound.queue.iter().filter_map(|entry| match entry {
                Entry::Message(queued) => Some(queued),
                Entry::Replay(_) => None,
            });
            for queued in queued.chain(session.outbound.inflight.iter().filter_map(|sent| sent.queued.as_ref())) {
                references += 1;
                lists += usize::from(queued.ids.is_list());
            }
        }

        let (kept, counted) = (self.messages.bytes(), self.messages.count_bytes());
        if kept != counted {
            return Err(Drift { counter: "bytes of messages", kept, counted });
        }
        same("references", self.messages.references(), references)?;
        same("lists of identifiers", self.messages.lists(), lists)
    }

    fn audit_session(&self, session: &Session) -> Result<(), Drift> {
        let outbound = &session.outbound;
        let messages = outbound.queue.iter().filter_map(|entry| match entry {
            Entry::Message(queued) => Some(self.messages.weight(queued)),
            Entry::Replay(_) => None,
        });
        same("queued messages", crate::slab::index(outbound.messages), messages.clone().count())?;
        let at_most_once = outbound.queue.iter().filter(|entry| match entry {
            Entry::Message(queued) => queued.qos == QoS::AtMostOnce,
            Entry::Replay(_) => false,
        });
        same("queued messages of QoS 0", crate::slab::index(outbound.at_most_once), at_most_once.count())?;
        let bytes = messages.sum::<u64>();
        if outbound.bytes != bytes {
            return Err(Drift { counter: "queued bytes", kept: outbound.bytes, counted: bytes });
        }
        let in_flight = outbound.inflight.iter().filter_map(|sent| sent.queued.as_ref());
        let limit = self.config.max_inflight_bytes;
        let bytes = in_flight.map(|queued| self.messages.weight_in_flight(queued, limit)).sum::<u64>();
        if outbound.inflight_bytes != bytes && session.sink != Sink::Local {
            return Err(Drift { counter: "bytes in flight", kept: outbound.inflight_bytes, counted: bytes });
        }
        let connection = session.owner.and_then(|id| self.connections.get(id));
        let answers = connection.iter().flat_map(|open| open.answers());
        let begun = outbound.queue.iter().filter(|entry| matches!(entry, Entry::Replay(_))).count();
        same("replays", outbound.replays, begun + answers.map(|answer| answer.replays.len()).sum::<usize>())?;
        let filters = session.subscriptions.iter().map(str::len).sum::<usize>();
        if !session.is_ended {
            same("bytes of filters", crate::slab::index(session.subscription_bytes), filters)?;
        }
        same("to send again", outbound.to_resend.min(outbound.inflight.len()), outbound.to_resend)?;
        same("packet identifiers", usize::from(outbound.ids.len()), outbound.inflight.len())?;
        let weight = session.held.iter().map(|held| held_weight(&held.message)).sum::<usize>();
        same("held bytes of a session", session.held_bytes, weight)?;
        let slots = outbound.inflight.iter().filter(|sent| sent.has_slot).count();
        match (session.sink, connection) {
            (Sink::Connection(_), None) => same("owners", 0, 1),
            (Sink::Connection(_), Some(open)) => {
                let waiting = open.waiting.as_ref().map_or(0, |waiting| waiting.count());
                let may_overtake = (begun > 0 || outbound.at_most_once > 0) && open.largest_as_it_came > 0;
                same("QoS 0 that overtakes", usize::from(may_overtake), 0)?;
                same("filters that wait", waiting, open.answers().map(|answer| answer.waiting).sum())?;
                same("window", usize::from(open.window.in_use()), slots)
            }
            (Sink::Local, _) => {
                let window = session.local_window.as_ref();
                same("local window", window.map_or(0, |window| usize::from(window.in_use())), slots)
            }
            (Sink::Offline, _) => Ok(()),
        }
    }
}
