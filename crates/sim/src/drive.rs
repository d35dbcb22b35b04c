//! Performs what the cores ask for, and moves bytes between them.

use std::time::Duration;

use damselfly_broker::{
    Answer, CommitId as BrokerCommitId, ConnectionId, Event as BrokerEvent, Output as BrokerOutput, Peer, Question,
    QuestionId, Secret, Why,
};
use damselfly_client::{CommitId, ConnectionEnd, Event, Output as ClientOutput, TransportLost};
use damselfly_codec::ReasonCode;
use damselfly_session::{PeerError, Timestamp};

use crate::{
    Fault, Feature, MemberId, Sim, World,
    link::{Held, Link, Piece, Way},
    numbered::{Number, Numbered},
    sim::{Action, Member},
};

/// Of the groups a client stores, one of so many is a snapshot that takes the place of all before it.
const GROUPS_PER_SNAPSHOT: u64 = 16;

impl Sim {
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::Connect { member, crashes } => {
                let asks =
                    |process: &Member| process.crashes == crashes && process.link.is_none() && !process.is_asleep;
                if self.members.get(member.0).is_some_and(asks) {
                    self.connect(member);
                }
            }
            Action::Arrive { link, way } => self.arrive_first(link, way),
            Action::Notice { link, way } => self.notice_from_afar(link, way),
            Action::LetGo { link } => self.let_go(link),
            Action::Cut { link } => self.cut_link(link, &[Way::ToBroker, Way::ToClient]),
            Action::Read { link, way } => self.hand_in(link, way),
            Action::Synced { member, crashes, commit } => self.synced(member, crashes, commit),
            Action::Start(member) => self.start(member),
            Action::Committed(commit) => self.broker.handle_committed(self.now, commit),
            Action::Answered { question, is_welcome } => {
                self.broker.handle_answer(self.now, question, answer(is_welcome));
            }
        }
    }

    pub(crate) fn connect(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(id.0) else { return };
        if member.is_partitioned {
            self.trace.note(self.now, format_args!("{} cannot reach the broker", member.name));
            return member.client.touch().handle_transport_lost(self.now, TransportLost::NotOpened);
        }
        self.last_number += 1;
        let Ok(connection) = self.broker.handle_connection(self.now, Peer::default()) else {
            self.trace.note(self.now, format_args!("{} is not let in", member.name));
            return member.client.touch().handle_transport_lost(self.now, TransportLost::NotOpened);
        };
        let number = self.links.push(self.last_number, Link::new(id, connection));
        self.trace.note(self.now, format_args!("{} connects as link {number}", member.name));
        if let Some(watch) = &mut self.watch {
            watch.opened(number, id);
        }
        member.link = Some(number);
        if member.has_numbered_wills {
            let mut parameters = member.parameters.clone();
            if let Some(will) = &mut parameters.will {
                will.payload = format!("{} {number}", member.name).into();
            }
            member.client.touch().handle_transport_up(self.now, &parameters);
        } else {
            member.client.touch().handle_transport_up(self.now, &member.parameters);
        }
        if let Some(longest) = self.world.cut_within {
            let at = self.now.saturating_add(self.random.duration(Duration::ZERO, longest));
            self.plan(at, Action::Cut { link: number });
        }
    }

    pub(crate) fn is_partitioned(&self, link: &Link) -> bool {
        self.members.get(link.member.0).is_some_and(|member| member.is_partitioned)
    }

    fn arrive_first(&mut self, number: Number, way: Way) {
        let piece = self.links.get_mut(number).and_then(|link| link.pipe(way).pieces.pop_front());
        if let Some(piece) = piece {
            self.arrive(number, way, piece.len);
        }
    }

    pub(crate) fn arrive(&mut self, number: Number, way: Way, len: usize) {
        let Some(link) = self.links.get_mut(number) else { return };
        let is_parted = self.members.get(link.member.0).is_some_and(|member| member.is_partitioned);
        // What is held goes first.
        if is_parted || !link.held.is_empty() {
            link.held.push(Held::Piece(way, len));
            return self.count(Fault::Delayed);
        }
        link.pipe(way).arrive(len);
        self.hand_in(number, way);
    }

    /// Gives a receiver what has arrived for it.
    pub(crate) fn hand_in(&mut self, number: Number, way: Way) {
        let now = self.now;
        let Some(link) = self.links.get_mut(number) else { return };
        let (member, connection) = (link.member, link.connection);
        let pipe = link.pipe(way);
        if pipe.is_lost || pipe.is_paused || pipe.stalled_until > now {
            return;
        }
        pipe.read();
        let is_room_awaited = pipe.is_full;
        if is_room_awaited {
            *self.faults.entry(Fault::LinkFull).or_default() += 1;
        }
        let unread = pipe.unread();
        if !unread.is_empty() {
            let (consumed, is_paused) = match way {
                Way::ToBroker => {
                    let intake = self.broker.handle_input(now, connection, unread);
                    (intake.consumed, intake.paused)
                }
                Way::ToClient => {
                    let Some(member) = self.members.get_mut(member.0) else { return };
                    let intake = member.client.touch().handle_input(now, unread);
                    (intake.consumed, intake.paused)
                }
            };
            let consumed = consumed.min(unread.len());
            if consumed > 0 {
                if let Some(watch) = &mut self.watch {
                    watch.taken(now, number, way, consumed);
                }
                pipe.consume(consumed);
            }
            pipe.is_paused = is_paused;
        }
        if is_room_awaited {
            match way {
                Way::ToBroker => self.send_from_client(member),
                Way::ToClient => self.send_from_broker(connection),
            }
        }
    }

    /// The other end's goodbye, or word of the loss, reaches this one: not through a partition.
    fn notice_from_afar(&mut self, number: Number, way: Way) {
        let Some(link) = self.links.get(number) else { return };
        let is_held = (self.is_partitioned(link) || !link.held.is_empty()) && link.cut_at.is_none();
        match self.links.get_mut(number) {
            Some(link) if is_held => link.held.push(Held::Notice(way)),
            _ => self.notice(number, way),
        }
    }

    /// One end learns that its connection is gone.
    pub(crate) fn notice(&mut self, number: Number, way: Way) {
        let Some(link) = self.links.get_mut(number) else { return };
        let pipe = link.pipe(way);
        if std::mem::replace(&mut pipe.is_lost, true) {
            return;
        }
        let (member, connection, is_over) = (link.member, link.connection, link.is_over());
        match way {
            Way::ToBroker => {
                self.trace.note(self.now, format_args!("broker notices the end of link {number}"));
                if let Some(watch) = &mut self.watch {
                    watch.broker_lost(self.now, number);
                }
                self.broker.handle_connection_lost(self.now, connection);
            }
            Way::ToClient => {
                if let Some(watch) = &mut self.watch {
                    watch.client_lost(number);
                }
                if let Some(member) = self.members.get_mut(member.0).filter(|member| member.link == Some(number)) {
                    self.trace.note(self.now, format_args!("{} notices the end of link {number}", member.name));
                    member.link = None;
                    member.client.touch().handle_transport_lost(self.now, TransportLost::Failed);
                }
            }
        }
        if is_over {
            self.links.remove(number);
        }
    }

    /// Nothing that is sent arrives from now on; these ends notice in their own time, the others by silence.
    pub(crate) fn cut_link(&mut self, number: Number, noticed_by: &[Way]) {
        let now = self.now;
        let Some(link) = self.links.get_mut(number).filter(|link| link.cut_at.is_none()) else { return };
        link.cut_at = Some(now);
        link.held.clear();
        self.trace.note(now, format_args!("link {number} is cut"));
        let mut is_any_lost = false;
        for way in [Way::ToBroker, Way::ToClient] {
            is_any_lost |= !link.pipe(way).pieces.is_empty();
            link.pipe(way).pieces.clear();
        }
        self.agenda.retain(|entry| !matches!(entry.action, Action::Arrive { link, .. } if link == number));
        self.count(Fault::Cut);
        if is_any_lost {
            self.count(Fault::BytesLost);
        }
        for way in noticed_by {
            let notice = self.random.duration(Duration::ZERO, self.world.notice_within);
            self.plan(now.saturating_add(notice), Action::Notice { link: number, way: *way });
        }
    }

    /// Performs what the cores ask for until they ask for nothing more at this time.
    pub(crate) fn settle(&mut self) {
        let mut is_any_asked = false;
        loop {
            while let Some(output) = self.broker.poll_output() {
                self.perform_broker(output);
            }
            let mut is_quiet = true;
            let mut next = self.next_awake(0);
            while let Some(index) = next {
                is_any_asked = true;
                while let Some(output) = self.members.get_mut(index).and_then(|member| member.client.poll_output()) {
                    is_quiet = false;
                    self.perform_client(MemberId(index), output);
                }
                next = self.next_awake(index + 1);
            }
            if is_quiet {
                break;
            }
        }
        if is_any_asked {
            self.note_timeouts();
        }
    }

    /// The first client from this one on that may have something to say.
    fn next_awake(&self, from: usize) -> Option<usize> {
        let rest = self.members.get(from..)?;
        rest.iter().position(|member| member.client.is_awake()).map(|at| from + at)
    }

    pub(crate) fn note_timeouts(&mut self) {
        self.client_timeout =
            self.members.iter().map(|member| member.client.quiet_timeout()).fold(Timestamp::MAX, Ord::min);
    }

    /// The link of a connection, until the broker knows that it is gone.
    fn link_of(&self, connection: ConnectionId) -> Option<Number> {
        let mut links = self.links.iter().rev();
        links.find(|(_, link)| link.connection == connection && !link.is_lost_to_broker()).map(|(number, _)| number)
    }

    fn perform_broker(&mut self, output: BrokerOutput) {
        match output {
            BrokerOutput::Transmit(connection) => self.send_from_broker(connection),
            BrokerOutput::Close(connection) => {
                self.send_from_broker(connection);
                if let Some(number) = self.link_of(connection) {
                    self.close(number, Way::ToBroker);
                }
            }
            BrokerOutput::Resume(connection) => {
                if let Some(number) = self.link_of(connection) {
                    self.resume(number, Way::ToBroker);
                }
            }
            BrokerOutput::Ask { id, question } => self.answer(id, &question),
            BrokerOutput::Commit(id) => self.commit(id),
            BrokerOutput::Event(event) => {
                self.trace.note(self.now, format_args!("broker: {event:?}"));
                if let BrokerEvent::Disconnected { connection, .. } = &event {
                    if let (Some(link), Some(watch)) = (self.link_of(*connection), &mut self.watch) {
                        watch.broker_ended(self.now, link);
                    }
                }
                if let (BrokerEvent::Disconnected { why, .. }, Some(watch)) = (&event, &mut self.watch) {
                    let is_broken = match why {
                        Why::Malformed(_) => true,
                        Why::PeerError(error) => *error != PeerError::KeepAliveTimeout,
                        _ => false,
                    };
                    if is_broken {
                        watch.broken(self.now, format_args!("{event:?}"));
                    }
                }
            }
            // One broker has nobody to talk to, and no participants of its own.
            BrokerOutput::Interest { .. } | BrokerOutput::Forward { .. } | BrokerOutput::Deliver { .. } => {}
        }
    }

    fn answer(&mut self, question: QuestionId, asked: &Question) {
        let is_welcome = self.is_welcome(asked);
        let (shortest, longest) = self.world.answer_latency;
        if longest.is_zero() {
            return self.broker.handle_answer(self.now, question, answer(is_welcome));
        }
        self.note_feature(Feature::SlowAnswer);
        let at = self.now.saturating_add(self.random.duration(shortest, longest));
        self.trace.note(self.now, format_args!("a question of the broker is answered at {at}"));
        self.plan(at, Action::Answered { question, is_welcome });
    }

    fn is_welcome(&self, question: &Question) -> bool {
        let Question::Connect { user_name: Some(user_name), password, .. } = question else { return true };
        let users = &self.world.users;
        let known = users.get(&**user_name).map(String::as_bytes);
        users.is_empty() || known.is_some() && known == password.as_ref().map(Secret::as_bytes)
    }

    fn commit(&mut self, commit: BrokerCommitId) {
        let (shortest, longest) = self.world.commit_latency;
        if longest.is_zero() {
            return self.broker.handle_committed(self.now, commit);
        }
        self.note_feature(Feature::SlowCommit);
        let at = self.now.saturating_add(self.random.duration(shortest, longest)).max(self.last_commit);
        self.last_commit = at;
        self.trace.note(self.now, format_args!("the broker writes a group, stored at {at}"));
        self.plan(at, Action::Committed(commit));
    }

    fn perform_client(&mut self, id: MemberId, output: ClientOutput) {
        let Some(member) = self.members.get_mut(id.0) else { return };
        match output {
            ClientOutput::NeedTransport(need) => {
                let (at, crashes) = (need.not_before.max(self.now), member.crashes);
                self.plan(at, Action::Connect { member: id, crashes });
            }
            ClientOutput::Transmit => self.send_from_client(id),
            ClientOutput::Close => {
                self.send_from_client(id);
                if let Some(number) = self.members.get(id.0).and_then(|member| member.link) {
                    self.close(number, Way::ToClient);
                }
            }
            ClientOutput::Resume => {
                if let Some(number) = member.link {
                    self.resume(number, Way::ToClient);
                }
            }
            ClientOutput::Journal(operation) => {
                if let Some(store) = &mut member.store {
                    store.record(operation);
                }
            }
            ClientOutput::Commit(commit) => self.store(id, commit),
            ClientOutput::Event(event) => {
                self.trace.note(self.now, format_args!("{}: {event:?}", member.name));
                if let (Event::Disconnected(ConnectionEnd::PeerError { .. }), Some(watch)) = (&event, &mut self.watch) {
                    watch.broken(self.now, format_args!("{}: {event:?}", member.name));
                }
                member.events.push(event);
                self.has_events = true;
            }
        }
    }

    fn store(&mut self, id: MemberId, commit: CommitId) {
        let (shortest, longest) = self.world.store_latency;
        let Some(member) = self.members.get_mut(id.0) else { return };
        let Some(store) = &mut member.store else { return };
        let is_snapshot = self.random.between(1, GROUPS_PER_SNAPSHOT) == 1;
        store.write(commit, is_snapshot.then(|| member.client.get().snapshot()));
        let at = self.now.saturating_add(self.random.duration(shortest, longest)).max(member.last_sync);
        member.last_sync = at;
        let crashes = member.crashes;
        self.trace.note(self.now, format_args!("{} writes a group, stored at {at}", member.name));
        self.plan(at, Action::Synced { member: id, crashes, commit });
    }

    fn synced(&mut self, id: MemberId, crashes: u32, commit: CommitId) {
        let Some(member) = self.members.get_mut(id.0).filter(|member| member.crashes == crashes) else { return };
        if let Some(store) = &mut member.store {
            store.sync(commit);
            member.client.touch().handle_committed(self.now, commit);
        }
    }

    fn resume(&mut self, number: Number, way: Way) {
        if let Some(link) = self.links.get_mut(number) {
            link.pipe(way).is_paused = false;
            self.hand_in(number, way);
        }
    }

    /// The end that receives what comes this `way` closes; the other one notices once the last bytes have arrived, if
    /// anything arrives there.
    fn close(&mut self, number: Number, way: Way) {
        let Some(link) = self.links.get_mut(number) else { return };
        if link.cut_at.is_none() {
            let at = link.pipe(way.back()).last_arrival.max(self.now);
            self.plan(at, Action::Notice { link: number, way: way.back() });
        }
        self.notice(number, way);
    }

    fn send_from_broker(&mut self, connection: ConnectionId) {
        let number = self.link_of(connection);
        let mut bytes = std::mem::take(&mut self.scratch);
        while self.broker.transmit_len(connection) > 0 {
            let room = number.map_or(usize::MAX, |number| room(&self.world, &mut self.links, number, Way::ToClient));
            take(&mut bytes, room, |chunks| self.broker.transmit(connection, chunks));
            if bytes.is_empty() {
                break;
            }
            self.broker.handle_transmitted(self.now, connection, bytes.len());
            if let Some(number) = number {
                self.send(number, Way::ToClient, &bytes);
            }
        }
        self.scratch = bytes;
        if let Some(link) = number.and_then(|number| self.links.get_mut(number)) {
            link.pipe(Way::ToClient).is_full = self.broker.transmit_len(connection) > 0;
        }
    }

    fn send_from_client(&mut self, id: MemberId) {
        let Some(number) = self.members.get(id.0).map(|member| member.link) else { return };
        let mut bytes = std::mem::take(&mut self.scratch);
        let mut is_full = false;
        while let Some(member) = self.members.get_mut(id.0).filter(|member| member.has_to_send()) {
            let room = number.map_or(usize::MAX, |number| room(&self.world, &mut self.links, number, Way::ToBroker));
            take(&mut bytes, room, |chunks| member.client.get().transmit(chunks));
            is_full = bytes.is_empty();
            if is_full {
                break;
            }
            member.client.touch().handle_transmitted(self.now, bytes.len());
            if let Some(number) = number {
                self.send(number, Way::ToBroker, &bytes);
            }
        }
        if let Some(link) = number.and_then(|number| self.links.get_mut(number)) {
            link.pipe(Way::ToBroker).is_full = is_full;
        }
        self.scratch = bytes;
    }

    /// Sends bytes on their way, in pieces.
    fn send(&mut self, number: Number, way: Way, bytes: &[u8]) {
        let now = self.now;
        let (shortest, longest) = self.latency;
        let max_piece = u64::try_from(self.world.max_piece).unwrap_or(u64::MAX).max(1);
        let Some(link) = self.links.get_mut(number) else { return };
        let is_cut = link.cut_at.is_some();
        link.pipe(way).send(bytes);
        let is_late = link.pipe(way).is_full;
        if let Some(watch) = &mut self.watch {
            watch.sent(now, number, way, bytes, is_late);
        }
        if is_cut {
            return;
        }
        let is_idle = link.pipe(way).pieces.is_empty();
        let mut rest = bytes.len();
        while rest > 0 {
            let len = usize::try_from(self.random.between(1, max_piece)).unwrap_or(usize::MAX).min(rest);
            rest -= len;
            let latency = Duration::from_micros(self.random.between(shortest, longest));
            let at = arrival(link, way, now.saturating_add(latency));
            if self.trace.is_written() {
                self.trace.note(now, format_args!("link {number} {way:?} {len} bytes for {at}"));
            }
            self.last_number += 1;
            link.pipe(way).pieces.push_back(Piece { at, number: self.last_number, len });
        }
        if let Some(first) = link.pipe(way).pieces.front().copied().filter(|_| is_idle) {
            self.plan_arrival(number, way, &first);
        }
    }
}

fn answer(is_welcome: bool) -> Answer {
    if is_welcome { Answer::allow() } else { Answer::Deny(ReasonCode::BadUserNameOrPassword) }
}

/// When something arrives that would be there at `at`: not before what was sent earlier.
pub(crate) fn arrival(link: &mut Link, way: Way, at: Timestamp) -> Timestamp {
    let pipe = link.pipe(way);
    pipe.last_arrival = pipe.last_arrival.max(at);
    pipe.last_arrival
}

/// Bytes that a link takes.
fn room(world: &World, links: &mut Numbered<Link>, number: Number, way: Way) -> usize {
    let under_way = links.get_mut(number).map_or(0, |link| link.pipe(way).under_way());
    world.capacity.max(1).saturating_sub(under_way)
}

/// Copies what a core has to send, as far as there is room.
fn take<'a>(out: &mut Vec<u8>, room: usize, transmit: impl FnOnce(&mut [&'a [u8]]) -> usize) {
    out.clear();
    if room > 0 {
        let mut chunks = [&[][..]; 8];
        let count = transmit(&mut chunks);
        for chunk in chunks.get(..count).unwrap_or_default() {
            out.extend_from_slice(chunk);
        }
        out.truncate(room);
    }
}
