//! What can go wrong, on demand.

use std::time::Duration;

use damselfly_client::{Client, Config, Operation, OperationError, RestoreError};

use crate::{
    MemberId, Sim,
    client_core::ClientCore,
    drive::arrival,
    flight::{Memory, RecordedClient, Tape},
    link::{Held, Way},
    numbered::Number,
    sim::{Action, start},
};

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// That of the broker.
    Broker,
    /// That of the client.
    Client,
}

impl End {
    /// What this end receives comes this way.
    const fn way(self) -> Way {
        match self {
            Self::Broker => Way::ToBroker,
            Self::Client => Way::ToClient,
        }
    }
}

/// A kind of fault, as [`Sim::faults`] counts them: those that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A connection was cut.
    Cut,
    /// A connection was cut while bytes were under way.
    BytesLost,
    /// A connection was cut, and this end alone noticed.
    HalfOpen(End),
    /// This end stopped reading.
    Stall(End),
    /// A link was full, so that its sender had to wait.
    LinkFull,
    /// A client with a connection was parted from the broker.
    Partition,
    /// Something waited for the end of a partition.
    Delayed,
    /// A client made a second connection.
    ConnectAgain,
    /// A process ended.
    Crash,
    /// A store had groups that it was not told to have kept.
    Unsynced,
    /// A store cut off a group that was there in part.
    TornGroup,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Cut,
        Self::BytesLost,
        Self::HalfOpen(End::Broker),
        Self::HalfOpen(End::Client),
        Self::Stall(End::Broker),
        Self::Stall(End::Client),
        Self::LinkFull,
        Self::Partition,
        Self::Delayed,
        Self::ConnectAgain,
        Self::Crash,
        Self::Unsynced,
        Self::TornGroup,
    ];
}

/// A client that does not go on with what it stored itself: a defect of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The bytes of an operation.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The operations together.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl Sim {
    /// Cuts a client's connection now: bytes under way are lost, and each end notices in its own time.
    pub fn cut(&mut self, member: MemberId) {
        self.cut_connection(member, &[Way::ToBroker, Way::ToClient]);
    }

    /// Cuts a client's connection now so that one end alone notices. The other one takes it for open until its own
    /// timers say otherwise, or the client comes back.
    pub fn half_open(&mut self, member: MemberId, noticed_by: End) {
        self.cut_connection(member, &[noticed_by.way()]);
    }

    fn cut_connection(&mut self, member: MemberId, noticed_by: &[Way]) {
        let Some(link) = self.members.get(member.0).and_then(|member| member.link) else { return };
        match noticed_by {
            [Way::ToBroker] => self.count(Fault::HalfOpen(End::Broker)),
            [Way::ToClient] => self.count(Fault::HalfOpen(End::Client)),
            _ => {}
        }
        self.cut_link(link, noticed_by);
        self.settle();
    }

    /// One end of a client's connection reads nothing for so long: the link fills up, and the other end has to wait with
    /// what it wants to send.
    pub fn stall(&mut self, member: MemberId, reader: End, duration: Duration) {
        let until = self.now.saturating_add(duration);
        let way = reader.way();
        let Some(number) = self.members.get(member.0).and_then(|member| member.link) else { return };
        let Some(link) = self.links.get_mut(number) else { return };
        link.pipe(way).stalled_until = until;
        self.trace.note(self.now, format_args!("{reader:?} stops reading link {number} until {until}"));
        self.count(Fault::Stall(reader));
        self.plan(until, Action::Read { link: number, way });
    }

    /// Parts these clients from the broker until [`Sim::heal`]: what is sent on their connections waits, no connection
    /// can be made, and no end hears that the other one closed.
    pub fn partition(&mut self, members: &[MemberId]) {
        for id in members {
            if let Some(member) = self.members.get_mut(id.0) {
                let is_connected = member.link.is_some() && !std::mem::replace(&mut member.is_partitioned, true);
                member.is_partitioned = true;
                if is_connected {
                    *self.faults.entry(Fault::Partition).or_default() += 1;
                }
                self.trace.note(self.now, format_args!("{} is parted from the broker", member.name));
            }
        }
    }

    /// Ends a partition: what waited arrives, in its order.
    pub fn heal(&mut self, members: &[MemberId]) {
        for id in members {
            let Some(member) = self.members.get_mut(id.0) else { continue };
            if !std::mem::take(&mut member.is_partitioned) {
                continue;
            }
            self.trace.note(self.now, format_args!("{} reaches the broker again", member.name));
            let (shortest, longest) = self.world.latency;
            let links: Vec<_> = self.links.iter().filter(|(_, link)| link.member == *id).map(|(at, _)| at).collect();
            for link in links {
                let at = self.now.saturating_add(self.random.duration(shortest, longest));
                self.plan(at, Action::LetGo { link });
            }
        }
    }

    /// What was held arrives, unless there is a partition again.
    pub(crate) fn let_go(&mut self, number: Number) {
        let Some(link) = self.links.get(number).filter(|link| !self.is_partitioned(link)) else { return };
        if link.cut_at.is_some() {
            return;
        }
        let held = self.links.get_mut(number).map(|link| std::mem::take(&mut link.held)).unwrap_or_default();
        for held in held {
            match held {
                Held::Piece(way, len) => self.arrive(number, way, len),
                Held::Notice(way) => self.notice(number, way),
            }
        }
    }

    /// The client gives up its connection without a word and makes another at once: the broker still holds the old one,
    /// on which bytes may be under way, and hears of its end later, if at all. Nothing happens to a client without a
    /// connection.
    pub fn connect_again(&mut self, member: MemberId) {
        let Some(number) = self.members.get_mut(member.0).and_then(|member| member.link.take()) else { return };
        self.count(Fault::ConnectAgain);
        self.notice(number, Way::ToClient);
        let notice = self.random.duration(Duration::ZERO, self.world.notice_within);
        let at = self.now.saturating_add(notice);
        if let Some(at) = self.links.get_mut(number).map(|link| arrival(link, Way::ToBroker, at)) {
            self.plan(at, Action::Notice { link: number, way: Way::ToBroker });
        }
        self.connect(member);
        self.settle();
    }

    /// The client's process ends now, and another one starts after so long. With an outbox it goes on with what its
    /// store kept: all groups that were told to be stored; of the others some, in their order, and none in part. Without
    /// one it begins anew.
    pub fn crash(&mut self, member: MemberId, down_for: Duration) {
        let Some(process) = self.members.get_mut(member.0).filter(|process| !process.is_down) else { return };
        process.is_down = true;
        process.client.stop();
        process.crashes += 1;
        let link = process.link.take();
        *self.faults.entry(Fault::Crash).or_default() += 1;
        if let Some(watch) = &mut self.watch {
            watch.crashed(member);
        }
        self.trace.note(self.now, format_args!("{} crashes", process.name));
        if let Some(link) = link {
            // A process that is killed leaves a system that closes for it; one whose power fails leaves silence.
            let noticed_by = if self.random.between(0, 1) == 0 { &[Way::ToBroker][..] } else { &[] };
            self.cut_link(link, noticed_by);
            self.notice(link, Way::ToClient);
        }
        self.plan(self.now.saturating_add(down_for), Action::Start(member));
        self.note_timeouts();
        self.settle();
    }

    pub(crate) fn start(&mut self, id: MemberId) {
        let seed = self.random.next();
        let Some(member) = self.members.get_mut(id.0) else { return };
        let config = member.config.clone();
        let is_recorded = self.world.is_recorded;
        let client = match &mut member.store {
            None => Ok(start(config, seed, is_recorded)),
            Some(store) => store.crash(&mut self.random).map_err(StartError::from).and_then(|image| {
                let (name, count, is_torn) = (&member.name, image.operations.len(), image.is_torn);
                self.trace.note(self.now, format_args!("{name} starts with {count} operations, torn: {is_torn}"));
                member.untold_messages += image.untold_messages;
                *self.faults.entry(Fault::TornGroup).or_default() += u64::from(image.is_torn);
                *self.faults.entry(Fault::Unsynced).or_default() += u64::from(image.has_unsynced);
                Ok(restart(config, seed, image.operations, is_recorded)?)
            }),
        };
        match client {
            Ok((client, recording)) => {
                member.client = ClientCore::new(client);
                member.recording = recording;
                member.last_sync = self.now;
                member.is_down = false;
            }
            Err(error) => {
                self.trace.note(self.now, format_args!("{} does not start: {error}", member.name));
                member.start_error = Some(error);
            }
        }
    }

    /// Whether the client's process runs.
    pub fn is_up(&self, member: MemberId) -> bool {
        self.members.get(member.0).is_some_and(|member| !member.is_down)
    }

    /// Why the client's process could not go on with what its store kept; it stays down then.
    pub fn start_error(&self, member: MemberId) -> Option<StartError> {
        self.members.get(member.0).and_then(|member| member.start_error)
    }

    /// Received QoS 2 messages that are in a client's store and never reached its application: its process ended after
    /// the group was stored and before it was told so. An application that must not lose these acknowledges itself.
    pub fn untold_messages(&self, member: MemberId) -> usize {
        self.members.get(member.0).map_or(0, |member| member.untold_messages)
    }
}

/// A process that goes on with what is stored.
fn restart(
    config: Config,
    seed: u64,
    image: Vec<Operation>,
    is_recorded: bool,
) -> Result<(RecordedClient, Option<Memory>), RestoreError> {
    if !is_recorded {
        return Ok((Client::restore(config, seed, image)?.into(), None));
    }
    let (tape, recording) = Tape::in_memory();
    Ok((RecordedClient::restore(config, seed, image, tape)?, Some(recording)))
}
