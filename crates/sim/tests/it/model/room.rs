//! What a queue takes, as `docs/limits.md` says, and what a packet's size lets through.

use super::{
    reference::{Content, Message, Model, Owed, Shared},
    routing::{Dropped, Outcome},
    script::WhenFull,
};

/// Whether a message finds room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    Yes,
    /// It depends on what cannot be seen: the bytes a message counts for, what else comes in the same call.
    Perhaps,
    No,
}

/// What a message counts for beyond topic and payload, at most.
const OVERHEAD: u64 = 300;

/// The bytes of a PUBLISH without a Topic Alias. [MQTT-2.1.4]
pub(crate) fn packet_len(message: &Message, content: &Content, is_v5: bool) -> usize {
    let variable = |value: usize| match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    let ids: usize = content.ids.iter().map(|id| 1 + variable(usize::try_from(*id).unwrap())).sum();
    let properties = ids + if message.expiry.is_some() { 5 } else { 0 };
    let of_v5 = if is_v5 { variable(properties) + properties } else { 0 };
    let packet_id = if content.qos > 0 { 2 } else { 0 };
    let rest = 2 + message.topic.len() + packet_id + of_v5 + message.payload.len();
    1 + variable(rest) + rest
}

impl Model {
    /// Whether a delivery is larger than its client takes. [MQTT-3.1.2-24]
    pub(crate) fn is_too_large(&self, client: &str, message: &Message, content: &Content) -> bool {
        let number = self.sessions[client].connection;
        let connection = number.and_then(|number| self.connections.get(&number));
        connection.is_some_and(|connection| {
            let len = packet_len(message, content, connection.is_v5);
            connection.packet.is_some_and(|limit| len > usize::try_from(limit).unwrap())
        })
    }

    /// Whether a delivery to a client is sent or finds room in its queue.
    pub(crate) fn room(&self, client: &str, message: &Message, content: &Content) -> Room {
        let (max_messages, max_bytes) = (self.limits.queue.unwrap_or(10_000), self.limits.bytes.unwrap_or(16 << 20));
        let session = &self.sessions[client];
        let (new, new_bytes) = self.new_in_this_call(client);
        let (queued, bytes) = session.queued;
        let least = u64::try_from(message.topic.len() + message.payload.len()).unwrap();
        let most = least + OVERHEAD;
        let surely_fits = queued + u32::try_from(new).unwrap() < max_messages && bytes + new_bytes + most <= max_bytes;
        if surely_fits || (content.qos == 0 && !self.may_queue_qos0(client)) {
            return Room::Yes;
        }
        let in_flight = session.inflight.iter().filter(|sent| sent.is_sent).count();
        let sends_again = session.inflight.iter().any(|sent| !sent.is_sent && !sent.is_released);
        let window = session.connection.map_or(0, |number| self.connections[&number].window);
        let is_opening = session.opened_in == self.call;
        let has_room = session.is_open && !is_opening && queued == 0 && !session.is_replay_behind && !sends_again;
        if has_room && in_flight + new < window {
            return Room::Yes;
        }
        let waits = !session.is_open || queued > 0 || sends_again || in_flight >= window;
        let is_full = queued >= max_messages || bytes + least > max_bytes;
        if waits && is_full && !is_opening && content.qos > 0 { Room::No } else { Room::Perhaps }
    }

    /// How many messages came for a client since its queue was looked at, and the bytes they count for at most.
    fn new_in_this_call(&self, client: &str) -> (usize, u64) {
        let is_new = |batch: u64| batch > self.count_before;
        let of_share = self.shared.iter().filter(|shared| shared.holders.contains_key(client));
        let new_shared = of_share.filter(|shared| is_new(shared.batch)).map(|shared| shared.message.payload.len());
        let owed = &self.sessions[client].owed;
        let new_owed = owed.iter().filter(|owed| is_new(owed.batch)).map(|owed| owed.message.payload.len());
        let new: Vec<u64> = new_owed.chain(new_shared).map(|len| u64::try_from(len).unwrap()).collect();
        (new.len(), new.iter().map(|len| len + OVERHEAD + 64).sum())
    }

    /// QoS 0 waits only behind retained messages that wait, or behind others that do.
    fn may_queue_qos0(&self, client: &str) -> bool {
        let session = &self.sessions[client];
        session.is_replay_behind || session.owed.iter().any(|owed| owed.is_replay || owed.content.qos == 0)
    }

    /// A message for one client meets its queue: whether it is surely dropped or may be. With the policy that drops the
    /// oldest, that is what goes.
    pub(crate) fn meet_queue(&mut self, client: &str, message: &Message, content: &Content) -> Dropped {
        self.meet_queue_in(self.room(client, message, content), client, message, content)
    }

    fn meet_queue_in(&mut self, room: Room, client: &str, message: &Message, content: &Content) -> Dropped {
        if room == Room::Yes {
            return Dropped::No;
        }
        self.note("a queue is full");
        let least = u64::try_from(message.payload.len()).unwrap();
        let fits_alone = self.limits.bytes.is_none_or(|limit| least < limit);
        if self.limits.when_full == WhenFull::DropOldest && content.qos > 0 && fits_alone {
            self.drop_oldest(client, message, room);
            return Dropped::No;
        }
        self.note_if(room == Room::No, "a queue is full: the newest goes");
        if room == Room::No { Dropped::Yes } else { Dropped::Perhaps }
    }

    fn drop_oldest(&mut self, client: &str, message: &Message, room: Room) {
        let (now, count_before) = (self.now, self.count_before);
        let max_bytes = self.limits.bytes.unwrap_or(16 << 20);
        // An overlapping subscription and a share are two deliveries: the later one may need the room of both.
        let (_, new_bytes) = self.new_in_this_call(client);
        let most = new_bytes + u64::try_from(message.payload.len()).unwrap() + OVERHEAD;
        let session = self.sessions.get_mut(client).unwrap();
        let is_certain = |owed: &Owed| {
            !owed.may_miss()
                && !owed.is_replay
                && !owed.message.is_expired(now)
                && owed.content.qos > 0
                && owed.batch <= count_before
        };
        let is_shared = self.shared.iter().any(|shared| shared.holders.contains_key(client));
        let all_known = session.owed.iter().all(is_certain) && !is_shared;
        let fits = session.queued.1 + most <= max_bytes;
        let knows_count = u32::try_from(session.owed.len()) == Ok(session.queued.0);
        if room == Room::No && all_known && fits && knows_count {
            session.owed.remove(0);
            return self.note("a queue is full: the oldest goes");
        }
        self.has_driven_out = true;
        // Which of them went, and how many, is open: of the oldest ones, as many as the new one needs.
        let mut needed = if fits { 1 } else { usize::try_from(most).unwrap() };
        for owed in &mut session.owed {
            let freed = if is_certain(owed) { owed.message.payload.len() + owed.message.topic.len() } else { 0 };
            owed.is_optional = true;
            needed = needed.saturating_sub(freed);
            if needed == 0 {
                break;
            }
        }
        for shared in self.shared.iter_mut().filter(|shared| shared.holders.contains_key(client)) {
            shared.is_optional = true;
        }
    }

    /// Whether one of those who may get a message of a share may have no room for it, or not take it.
    pub(crate) fn may_miss_shared(&mut self, message: &Message, holders: &super::reference::Holders) -> (bool, bool) {
        let (mut is_too_large, mut is_full) = (false, false);
        let has_choice = holders.len() > 1;
        for (client, contents) in holders {
            for content in contents {
                is_too_large |= self.sessions[client].is_open && self.is_too_large(client, message, content);
                // Another member may have been the one to get it, and then nobody was driven out.
                let room = self.room(client, message, content);
                let room = if has_choice { room.min(Room::Perhaps) } else { room };
                is_full |= self.meet_queue_in(room, client, message, content) != Dropped::No;
            }
        }
        (is_too_large, is_full)
    }

    /// A member that does not take a message may have been the one that was to get it.
    pub(crate) fn forget_large_shared(&mut self) {
        let is_too_large = |shared: &Shared| {
            shared.holders.iter().any(|(client, contents)| {
                let is_open = self.sessions.get(client).is_some_and(|session| session.is_open);
                is_open && contents.iter().any(|content| self.is_too_large(client, &shared.message, content))
            })
        };
        let too_large: Vec<_> = self.shared.iter().map(is_too_large).collect();
        for (shared, is_too_large) in self.shared.iter_mut().zip(too_large) {
            shared.is_optional |= is_too_large;
        }
    }

    /// Whether a publisher can be told what came of its message. One of 3.1.1 has its connection closed instead, where
    /// the policy says so.
    pub(crate) fn may_say(&mut self, number: u32, outcome: Outcome) -> bool {
        let is_v5 = self.connections[&number].is_v5;
        self.note_if(is_v5 && outcome.dropped == Dropped::Yes, "a publisher is told that a queue is full");
        if is_v5 || self.limits.when_full != WhenFull::CloseLegacyPublisher || outcome.dropped == Dropped::No {
            return true;
        }
        if outcome.dropped == Dropped::Perhaps {
            self.is_undecided = true;
            return true;
        }
        self.note("a 3.1.1 publisher is closed because a queue is full");
        self.connections.get_mut(&number).unwrap().closed_for_queue_in = Some(self.call);
        self.fail(number, 0x97);
        false
    }

    /// Messages in flight that are larger than a new connection takes count as delivered, each in its turn.
    /// [MQTT-3.1.2-25]
    pub(crate) fn drop_large_in_flight(&mut self, client: &str) {
        let Some(number) = self.sessions[client].connection else { return };
        let window = self.connections[&number].window;
        loop {
            let session = &self.sessions[client];
            let in_use = session.inflight.iter().filter(|sent| sent.is_sent).count();
            let Some(at) = session.inflight.iter().position(|sent| !sent.is_released && !sent.is_sent) else { return };
            let next = &session.inflight[at];
            if in_use >= window || !self.is_too_large(client, &next.message, &next.content) {
                return;
            }
            self.note("a message that was sent is too large for the next connection");
            self.sessions.get_mut(client).unwrap().inflight.remove(at);
        }
    }

    /// What the broker says of its queues, before something happens to it.
    pub(crate) fn count_queue(&mut self, client: &str, queued: (u32, u64)) {
        if let Some(session) = self.sessions.get_mut(client) {
            session.queued = queued;
        }
    }

    /// Whether a queue can be as long as the broker says.
    pub(crate) fn check_queue(&self, client: &str, (queued, bytes): (u32, u64)) -> Result<(), String> {
        let session = &self.sessions[client];
        let limit = self.limits.queue.unwrap_or(10_000);
        let max_bytes = self.limits.bytes.unwrap_or(16 << 20);
        let has_replay = !session.replays.is_empty();
        if (queued > limit || bytes > max_bytes) && !has_replay {
            return Err(format!("{client} has {queued} messages of {bytes} bytes in its queue"));
        }
        let is_certain = |owed: &&Owed| !owed.may_miss() && !owed.is_replay && owed.content.qos > 0;
        let least = session.owed.iter().filter(is_certain).count();
        if u32::try_from(least).unwrap() > queued {
            return Err(format!("{client} has {queued} messages in its queue, not at least {least}"));
        }
        Ok(())
    }
}
