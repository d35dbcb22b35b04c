//! New rules for a session that exists: what they do not permit any more ends at once.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use damselfly_session::Timestamp;
use damselfly_topic::TopicFilter;

use crate::{
    Access, Broker, ConnectionId, DropReason,
    access::Permission,
    broker::owned,
    sessions::{Entry, NO_GROUP, Queued, SessionKey, Sink},
};

impl Broker {
    /// Gives a client other rules: `None` permits everything. The same happens when a [`Grant`](crate::Grant) that answers
    /// a CONNECT or a re-authentication brings other rules than the session had.
    ///
    /// Subscriptions that the new rules deny end with [`Event::Unsubscribed`](crate::Event::Unsubscribed), and so does the
    /// replay of retained messages for them; queued messages of topics that the client may not receive any more are
    /// dropped and counted, those of a share group go to another member. Where the new rules ask, a subscription stays if
    /// the old rules asked too, because then it was answered. What was sent already is brought to its end.
    /// [MQTT-3.10.4-3]
    ///
    /// False if there is no such session, or it is a local participant's, which needs no permission.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use damselfly_broker::{Access, Action, Broker, Config, Permission, Timestamp};
    ///
    /// let mut broker = Broker::new(Config::default(), 42)?;
    /// let now = Timestamp::from_secs(1);
    /// let access = Access::new(Permission::Deny).rule(Action::Any, "home/hall/#", Permission::Allow)?;
    /// assert!(!broker.set_access(now, "lamp", Some(Arc::new(access))), "nobody of that name is there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_access(&mut self, now: Timestamp, client_id: &str, access: Option<Arc<Access>>) -> bool {
        let key = self.sessions.find(client_id);
        let Some(key) = key.filter(|key| self.sessions.get(*key).is_some_and(|session| session.sink != Sink::Local))
        else {
            return false;
        };
        self.change_access(now, key, access);
        self.close_group();
        true
    }

    pub(crate) fn change_access(&mut self, now: Timestamp, key: SessionKey, access: Option<Arc<Access>>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.access == access {
            return;
        }
        let old = core::mem::replace(&mut session.access, access);
        let new = session.access.as_deref();
        let ended: Vec<Box<str>> = session
            .subscriptions
            .iter()
            .filter(|text| {
                TopicFilter::new(text)
                    .is_ok_and(|filter| !stays(old.as_deref(), new, |access: &Access| access.subscribe(filter)))
            })
            .map(owned)
            .collect();
        if let Some(owner) = session.owner {
            self.forget_routes(owner);
        }
        for text in &ended {
            if let Ok(filter) = TopicFilter::new(text) {
                self.unsubscribe(key, filter);
            }
        }
        if !ended.is_empty() {
            self.gate.record(None);
        }
        self.drop_ended_replays(now, key);
        let new = self.sessions.get(key).and_then(|session| session.access.clone());
        self.lookups
            .withhold(key.slot, |topic| stays(old.as_deref(), new.as_deref(), |access: &Access| access.receive(topic)));
        self.withhold_queued(now, key, old.as_deref());
        self.pump(now, key);
    }

    /// Takes out of the queue what its client may not receive any more.
    fn withhold_queued(&mut self, now: Timestamp, key: SessionKey, old: Option<&Access>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let new = session.access.clone();
        let is_permitted = |queued: &Queued| {
            self.messages
                .get(&queued.message)
                .is_none_or(|message| stays(old, new.as_deref(), |access: &Access| access.receive(message.topic())))
        };
        let mut withheld = Vec::new();
        for entry in core::mem::take(&mut session.outbound.queue) {
            match entry {
                Entry::Message(queued) if !is_permitted(&queued) => withheld.push(queued),
                kept => session.outbound.queue.push_back(kept),
            }
        }
        for queued in withheld {
            self.uncount(key.slot, &queued);
            if queued.group != NO_GROUP {
                self.move_to_member(now, key, queued, true);
                continue;
            }
            let message = self.messages.get(&queued.message).cloned();
            self.discard(queued);
            if let Some(message) = message {
                self.note_drop(Some(key.slot), message.topic(), DropReason::NotAuthorized);
            }
        }
    }

    /// Permissions are part of a cached route.
    fn forget_routes(&mut self, id: ConnectionId) {
        let cache = self.connections.get_mut(id).and_then(|connection| connection.route_cache.take());
        self.counters.route_cache_bytes -= cache.map_or(0, |cache| cache.heap_bytes());
    }
}

/// Whether what the old rules permitted is permitted still.
fn stays(old: Option<&Access>, new: Option<&Access>, permission: impl Fn(&Access) -> Permission) -> bool {
    match new.map_or(Permission::Allow, &permission) {
        Permission::Allow => true,
        Permission::Deny => false,
        Permission::Ask => old.is_some_and(|old| permission(old) == Permission::Ask),
    }
}
