use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Token};

/// Events taken from the system in one call.
pub(super) const EVENTS: usize = 1024;

/// Tells which sockets are ready.
#[derive(Debug)]
pub(super) struct Poller {
    poll: Poll,
    events: Events,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(EVENTS) })
    }

    /// From now on `token` is named whenever the state of `socket` *changes*, until it is closed.
    pub(super) fn register(&self, socket: &mut impl Source, token: Token, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(socket, token, interest)
    }

    /// Waits for events, at most for `limit`.
    pub(super) fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let mut result = self.poll.poll(&mut self.events, limit);
        if is_interrupted(&result) {
            // A signal, or the process was stopped and goes on: what is ready by now comes before what is overdue.
            result = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        }
        if is_interrupted(&result) {
            self.events.clear();
            return Ok(());
        }
        result
    }

    /// What [`wait`](Self::wait) found.
    pub(super) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    pub(super) fn stop(&self, token: Token) -> io::Result<Stop> {
        let poll = mio::Waker::new(self.poll.registry(), token)?;
        Ok(Stop { waker: Waker { poll: Arc::new(poll), is_asked: Arc::default() }, is_asked: Arc::default() })
    }
}

fn is_interrupted(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

/// Ends a [`Driver`](super::Driver) from another thread.
#[derive(Clone, Debug)]
pub struct Stop {
    waker: Waker,
    is_asked: Arc<AtomicBool>,
}

impl Stop {
    /// Asks the driver to close every connection and to return.
    pub fn stop(&self) -> io::Result<()> {
        self.is_asked.store(true, Ordering::Release);
        self.waker.poll.wake()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether the waker was used since this was last asked.
    pub(super) fn take_woken(&self) -> bool {
        self.waker.is_asked.swap(false, Ordering::AcqRel)
    }
}

/// Has a [`Driver`](super::Driver) call [`Host::woken`](super::Host::woken), from another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    poll: Arc<mio::Waker>,
    is_asked: Arc<AtomicBool>,
}

impl Waker {
    /// Soon, and once for any number of calls before it. What the host is to find has to be in its place already. An error
    /// means that the driver has ended or that the system refuses.
    pub fn wake(&self) -> io::Result<()> {
        self.is_asked.store(true, Ordering::Release);
        self.poll.wake()
    }
}
