//! An outage on purpose: all listeners and connections are gone for a while, as when somebody restarts the network.

use std::sync::{Arc, Mutex, PoisonError};
use std::{io, time::Duration};

use damselfly_broker::ConnectionId;
use damselfly_session::Timestamp;
use mio::Token;

use super::super::connection::Connection;
use super::super::host::Host;
use super::super::poller::Waker;
use super::{Driver, LISTENERS};

/// Takes the network away from a [`Driver`], from another thread, and gives it back.
#[derive(Clone, Debug)]
pub struct Network {
    waker: Waker,
    asked: Arc<Mutex<Option<Duration>>>,
}

impl Network {
    pub(super) fn new(waker: Waker) -> Self {
        Self { waker, asked: Arc::default() }
    }

    /// Closes all connections without a word and stops to listen; after so long the driver listens again on the same
    /// addresses. Sessions stay, wills are published. During an outage, this is how long it lasts from now on. An error
    /// means that the driver has ended or that the system refuses.
    pub fn interrupt(&self, duration: Duration) -> io::Result<()> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(duration);
        self.waker.wake()
    }

    fn take_asked(&self) -> Option<Duration> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<H: Host> Driver<H> {
    /// What takes its network away.
    pub fn network(&self) -> Network {
        self.network.clone()
    }

    /// Begins an outage if one is asked for, and ends it when it is time.
    pub(super) fn follow_network(&mut self, now: Timestamp) {
        if let Some(duration) = self.network.take_asked() {
            self.network_back_at = Some(now.saturating_add(duration));
            self.lose_network(now);
        }
        if self.network_back_at.is_some_and(|at| at <= now) {
            self.network_back_at = self.regain_network(now);
        }
    }

    fn lose_network(&mut self, now: Timestamp) {
        tracing::info!(connections = self.open_connections, "the network is gone on purpose");
        self.listeners.iter_mut().for_each(super::Listener::close);
        self.accept_again_at = None;
        let open: Vec<ConnectionId> = self.connections.iter().flatten().map(|Connection { id, .. }| *id).collect();
        for id in open {
            self.drop_connection(now, id);
        }
        self.flush(now);
    }

    /// Listens again: `None`, or when to try again if a port is not to be had at the moment.
    fn regain_network(&mut self, now: Timestamp) -> Option<Timestamp> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Err(error) = listener.open(Token(LISTENERS - index), &self.poller) {
                tracing::warn!(%error, "cannot listen again; trying again");
                return Some(now.saturating_add(self.settings.accept_pause));
            }
        }
        tracing::info!("the network is back");
        None
    }
}
