//! A client core that is asked only when it may have something to say.

use damselfly_client::{Client, Output};
use damselfly_session::Timestamp;

use crate::flight::RecordedClient;

/// A client, and whether anything was done with it since it had nothing more to say: most of what happens in a world
/// concerns one client of many.
#[derive(Debug)]
pub(crate) struct ClientCore {
    client: Box<RecordedClient>,
    /// It has to be asked.
    is_awake: bool,
    /// The process ended: nobody asks it any more.
    is_stopped: bool,
    /// When it wants to be told the time, as of when it had nothing more to say; the end of time is never.
    timeout: Timestamp,
}

impl ClientCore {
    pub(crate) fn new(client: RecordedClient) -> Self {
        Self { client: Box::new(client), is_awake: true, is_stopped: false, timeout: Timestamp::MAX }
    }

    pub(crate) fn get(&self) -> &Client {
        &self.client
    }

    /// To do something with it: it will be asked again.
    pub(crate) fn touch(&mut self) -> &mut RecordedClient {
        self.is_awake = !self.is_stopped;
        &mut self.client
    }

    pub(crate) const fn stop(&mut self) {
        self.is_stopped = true;
        self.is_awake = false;
        self.timeout = Timestamp::MAX;
    }

    pub(crate) const fn is_awake(&self) -> bool {
        self.is_awake
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if !self.is_awake {
            return None;
        }
        let output = self.client.poll_output();
        if output.is_none() {
            self.timeout = self.poll_timeout();
            self.is_awake = false;
        }
        output
    }

    pub(crate) fn poll_timeout(&self) -> Timestamp {
        if self.is_awake { self.client.poll_timeout().unwrap_or(Timestamp::MAX) } else { self.timeout }
    }

    /// The same once it had nothing more to say.
    pub(crate) const fn quiet_timeout(&self) -> Timestamp {
        self.timeout
    }
}
