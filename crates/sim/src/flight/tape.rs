//! Where a recording is written to, and how much of it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use damselfly_session::Timestamp;

/// The form of recordings that this release writes and reads.
pub(super) const FORM: u32 = 1;
/// What every recording begins with; the form follows.
pub(super) const TITLE: &str = "damselfly flight recording";
/// The last line of a recording that was finished.
pub(super) const END: &str = "end";
/// The last line of one that had no room for more.
pub(super) const LIMIT: &str = "limit";
/// Ends one whose last call did not come back.
pub(super) const LOST: &str = " panic";
/// The core has no more to say.
pub(super) const QUIET: &str = "quiet";
/// Begins the last line of one that met what cannot be written; the reason follows.
pub(super) const STOP: &str = "stop";

/// Room that is kept for the last line.
const LAST_LINE: u64 = 256;
/// Room that is kept for the answer to a call.
const ANSWER: u64 = 256;

/// Where a recording goes: any writer, up to a number of bytes.
///
/// Each call of the core is written as it is made; the writer is flushed whenever the core has no more outputs, so that
/// what is lost when a process is killed is the turn it was in. Wrap a file in a [`BufWriter`](io::BufWriter). When the limit is reached the
/// recording ends with a note that says so, and the core goes on unrecorded; the same when writing fails.
///
/// ```
/// use damselfly_broker::Config;
/// use damselfly_sim::flight::{RecordedBroker, Tape};
///
/// let (tape, memory) = Tape::in_memory();
/// drop(RecordedBroker::new(Config::default(), 42, tape.limit(1_000_000))?);
/// assert!(memory.text().starts_with("damselfly flight recording 1\n"));
/// # Ok::<(), damselfly_broker::ConfigError>(())
/// ```
pub struct Tape {
    /// `None` when nothing more is written.
    out: Option<Box<dyn Write + Send>>,
    left: u64,
    /// Of the last line.
    now: Timestamp,
    /// The last line waits for its answer.
    is_in_call: bool,
    /// The core was called, and the call cannot be written.
    is_unwritten: bool,
    /// The last line says that there is nothing to say.
    is_quiet: bool,
}

impl core::fmt::Debug for Tape {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tape").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Tape {
    /// How many bytes a recording has at most, unless [`limit`](Self::limit) says otherwise: 64 MiB.
    pub const DEFAULT_LIMIT: u64 = 64 * 1024 * 1024;

    /// Writes to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self {
            out: Some(Box::new(out)),
            left: Self::DEFAULT_LIMIT,
            now: Timestamp::ZERO,
            is_in_call: false,
            is_unwritten: false,
            is_quiet: true,
        }
    }

    /// Writes to memory, which the other value reads.
    pub fn in_memory() -> (Self, Memory) {
        let memory = Memory::default();
        (Self::new(memory.clone()), memory)
    }

    /// At most so many bytes.
    #[must_use = "the limit is in the tape that is returned"]
    pub const fn limit(mut self, bytes: u64) -> Self {
        self.left = bytes;
        self
    }

    /// Whether anything more is written.
    pub(super) const fn is_open(&self) -> bool {
        self.out.is_some()
    }

    pub(super) fn begin(&mut self, core: &str, config: &str, seed: u64) {
        self.put(&format!("{TITLE} {FORM}"));
        self.put(&format!("core {core}"));
        self.put(&format!("config {config}"));
        self.put(&format!("seed {seed}"));
    }

    /// A call, with its time as microseconds since the one before. `None` cannot be written.
    pub(super) fn begin_call(&mut self, now: Option<Timestamp>, call: Option<&str>) {
        self.is_unwritten = call.is_none();
        let Some(call) = call else { return };
        let now = now.unwrap_or(self.now);
        let (later, earlier) = (now.saturating_micros_since(self.now), self.now.saturating_micros_since(now));
        self.now = now;
        let sign = if earlier > 0 { "-" } else { "" };
        self.append(&format!("{sign}{} {call}", later.max(earlier)), ANSWER);
        self.is_in_call = true;
        self.is_quiet = false;
    }

    /// What the core answered to it.
    pub(super) fn end_call(&mut self, answer: Option<&str>) {
        self.is_in_call = false;
        if std::mem::take(&mut self.is_unwritten) {
            // An error is said by its name, and what was refused changed nothing.
            if !answer.is_some_and(|answer| answer.starts_with(char::is_uppercase)) {
                self.stop("a call cannot be written");
            }
            return;
        }
        if let Some(answer) = answer {
            self.append(" = ", 0);
            self.append(answer, 0);
        }
        self.append("\n", 0);
    }

    /// There is nothing more to be said: told once, so that it is seen if another core says more.
    pub(super) fn quiet(&mut self) {
        if !self.is_quiet {
            self.line(QUIET);
            self.is_quiet = true;
        }
        self.flush();
    }

    pub(super) fn line(&mut self, line: &str) {
        self.is_quiet = false;
        self.put(line);
    }

    /// A line as it is.
    pub(super) fn put(&mut self, line: &str) {
        self.append(&format!("{line}\n"), 0);
    }

    /// Leaves so much room, and that of the last line.
    fn append(&mut self, text: &str, room: u64) {
        let len = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if len.saturating_add(room).saturating_add(LAST_LINE) > self.left {
            return self.finish(LIMIT);
        }
        self.left -= len;
        self.write(text);
    }

    /// The recording ends here: what follows cannot be written.
    pub(super) fn stop(&mut self, why: &str) {
        self.finish(&format!("{STOP} {why}"));
    }

    fn finish(&mut self, last: &str) {
        self.write(&format!("{last}\n"));
        self.flush();
        self.out = None;
    }

    fn write(&mut self, text: &str) {
        // Whoever records for others must not fail for it.
        if self.out.as_mut().is_some_and(|out| out.write_all(text.as_bytes()).is_err()) {
            self.out = None;
        }
    }

    pub(super) fn flush(&mut self) {
        if self.out.as_mut().is_some_and(|out| out.flush().is_err()) {
            self.out = None;
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.finish(if self.is_in_call { LOST } else { END });
    }
}

/// A recording in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// What was written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
