use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use damselfly_broker::ConnectionId;

/// What a readiness event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Listener(usize),
    Connection(ConnectionId),
    Timer,
    Stop,
}

/// Collects what became ready until the driver's next turn: the runtime polls hundreds of sockets in one call, and the driver
/// handles all of them before it writes.
///
/// The lock is one that `Waker` asks for: only this thread ever takes it.
#[derive(Debug, Default)]
pub(super) struct Ready {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sources: Vec<Source>,
    driver: Option<Waker>,
}

impl Ready {
    /// A waker that queues `source`.
    pub(super) fn waker(self: &Arc<Self>, source: Source) -> Waker {
        Waker::from(Arc::new(SourceWaker { source, ready: Arc::clone(self) }))
    }

    /// Appends what is ready to `batch`; with nothing there, `driver` is woken by the next event.
    pub(super) fn take(&self, batch: &mut Vec<Source>, driver: &Waker) {
        let mut state = self.lock();
        if state.sources.is_empty() {
            if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(driver)) {
                state.driver = Some(driver.clone());
            }
        } else if batch.is_empty() {
            mem::swap(batch, &mut state.sources);
        } else {
            batch.append(&mut state.sources);
        }
    }

    fn push(&self, source: Source) {
        let mut state = self.lock();
        state.sources.push(source);
        if state.sources.len() == 1 {
            if let Some(driver) = &state.driver {
                driver.wake_by_ref();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SourceWaker {
    source: Source,
    ready: Arc<Ready>,
}

impl Wake for SourceWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.source);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.source);
    }
}
