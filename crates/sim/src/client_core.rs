//! A client core that is asked only when it may have something to say.

use damselfly_client::{Client, Output};
use damselfly_session::Timestamp;

use crate::flight::RecordedClient;

/// A client, and whether anything was done with it since it had nothing more to say: most of what happens in a world
/// concerns one client of many.
#[derive(Debug)]
pub(crate) struct ClientCore {
    client: Box<RecordedClient>,
    /// What was said while it was quiet; `None` if it has to be asked.
    quiet: Option<Quiet>,
}

#[derive(Clone, Copy, Debug)]
struct Quiet {
    timeout: Option<Timestamp>,
}

impl ClientCore {
    pub(crate) fn new(client: RecordedClient) -> Self {
        Self { client: Box::new(client), quiet: None }
    }

    pub(crate) fn get(&self) -> &Client {
        &self.client
    }

    /// To do something with it: it will be asked again.
    pub(crate) fn touch(&mut self) -> &mut RecordedClient {
        self.quiet = None;
        &mut self.client
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if self.quiet.is_some() {
            return None;
        }
        let output = self.client.poll_output();
        if output.is_none() {
            self.quiet = Some(Quiet { timeout: self.client.poll_timeout() });
        }
        output
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.quiet.map_or_else(|| self.client.poll_timeout(), |quiet| quiet.timeout)
    }
}
