//! What the broker says of itself against what the reference holds.

use damselfly_codec::SubscriptionId;
use damselfly_topic::TopicFilter;

use super::run::{Run, timestamp};

impl Run {
    /// The same sessions, subscriptions and retained messages.
    pub(super) fn compare(&self) -> Result<(), String> {
        self.broker.audit().map_err(|drift| drift.to_string())?;
        let mut found: Vec<_> = self.broker.sessions().map(|view| view.client_id).collect();
        found.sort_unstable();
        if !found.iter().eq(self.model.sessions.keys()) {
            return Err(format!("sessions of {found:?}, not of {:?}", self.model.sessions.keys()));
        }
        for (client, due) in &self.model.sessions {
            let Some(view) = self.broker.session(client) else { return Err(format!("{client} has no session")) };
            let found = (view.connection.is_some(), view.ends_at, view.in_flight);
            let due = (due.is_open, due.ends_at.map(timestamp), due.inflight.len());
            if found != due {
                return Err(format!("{client} has (connection, end, in flight) {found:?}, not {due:?}"));
            }
            self.model.check_queue(client, (view.queued, view.queued_bytes))?;
            self.compare_subscriptions(client)?;
        }
        self.compare_retained()
    }

    fn compare_subscriptions(&self, client: &str) -> Result<(), String> {
        let found: Vec<_> = self
            .broker
            .subscriptions(client)
            .map(|view| {
                let id = view.id.map(SubscriptionId::get);
                (view.filter, view.qos.level(), view.no_local, view.retain_as_published, id)
            })
            .collect();
        let due: Vec<_> = self.model.sessions[client]
            .subscriptions
            .iter()
            .map(|(filter, due)| (filter.as_str(), due.qos, due.no_local, due.retain_as_published, due.id))
            .collect();
        if found == due { Ok(()) } else { Err(format!("{client} is subscribed to {found:?}, not {due:?}")) }
    }

    /// What has expired may stay a while: nobody gets it.
    fn compare_retained(&self) -> Result<(), String> {
        let all = ["#", "$s/#"].map(|filter| self.broker.retained(TopicFilter::new(filter).unwrap(), usize::MAX));
        let now = timestamp(self.now);
        let mut found: Vec<_> = all
            .iter()
            .flatten()
            .filter(|message| !message.is_expired(now))
            .map(|message| (message.topic().as_str(), message.payload()))
            .collect();
        found.sort_unstable();
        let due = self.model.retained.values().filter(|message| !message.is_expired(self.now));
        let due: Vec<_> = due.map(|message| (message.topic.as_str(), message.payload.as_bytes())).collect();
        if found == due { Ok(()) } else { Err(format!("retained is {found:?}, not {due:?}")) }
    }
}
