//! Output that never makes the broker wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// Bytes that may wait for whoever reads them.
const ROOM: usize = 1024 * 1024;

/// Takes lines at once and has them written by a thread of its own. When that one falls behind, because nobody reads what
/// it writes, lines are dropped and counted.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    sender: Sender<Job>,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    /// Bytes taken and not written.
    waiting: AtomicUsize,
    /// Lines dropped since that was last said.
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Job {
    Line(Vec<u8>),
    /// Everything before it is written.
    Tell(SyncSender<()>),
}

impl Sink {
    pub(crate) fn start(name: &str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, jobs) = channel();
        let backlog = Arc::new(Backlog::default());
        let of_thread = Arc::clone(&backlog);
        thread::Builder::new().name(name.to_owned()).spawn(move || write(&jobs, &of_thread, out))?;
        Ok(Self { sender, backlog })
    }

    /// One line with its end.
    pub(crate) fn line(&self, line: Vec<u8>) {
        let len = line.len();
        let waiting = self.backlog.waiting.fetch_add(len, Ordering::Relaxed);
        if waiting > 0 && waiting + len > ROOM {
            self.backlog.waiting.fetch_sub(len, Ordering::Relaxed);
            self.backlog.dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.sender.send(Job::Line(line)).is_err() {
            self.backlog.waiting.fetch_sub(len, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written, at most for `limit`.
    pub(crate) fn finish(&self, limit: Duration) {
        let (written, is_written) = sync_channel(1);
        if self.sender.send(Job::Tell(written)).is_ok() {
            // In vain if nobody reads: then what is left is lost.
            let _ = is_written.recv_timeout(limit);
        }
    }
}

/// Each write is a line: so does whoever logs.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Goes on although writing fails: whoever read it is gone, which is no reason to stop.
fn write(jobs: &Receiver<Job>, backlog: &Backlog, mut out: impl Write) {
    for job in jobs {
        let line = match job {
            Job::Line(line) => line,
            Job::Tell(written) => {
                let _ = written.send(());
                continue;
            }
        };
        let _ = out.write_all(&line);
        backlog.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        let dropped = backlog.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(out, "({dropped} lines are missing after this one: they were not read in time)");
        }
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing while it is locked.
    #[derive(Clone, Debug, Default)]
    struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_reads_is_bounded_dropped_and_counted() {
        let pipe = Pipe::default();
        let stalled = pipe.0.lock().unwrap();
        let sink = Sink::start("test", pipe.clone()).unwrap();
        let half = vec![b'x'; ROOM / 2];
        for _ in 0..5 {
            sink.line(half.clone());
        }
        assert_eq!(sink.backlog.waiting.load(Ordering::Relaxed), ROOM, "two find room, one past them does not");
        drop(stalled);
        sink.finish(Duration::from_secs(30));
        sink.line(b"after\n".to_vec());
        sink.finish(Duration::from_secs(30));
        let written = String::from_utf8(pipe.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('x').count(), ROOM);
        assert!(written.contains("(3 lines are missing") && written.ends_with("after\n"));
    }

    #[test]
    fn a_line_longer_than_all_the_room_is_written_when_nothing_waits() {
        let pipe = Pipe::default();
        let sink = Sink::start("test", pipe.clone()).unwrap();
        sink.line(vec![b'x'; ROOM + 1]);
        sink.finish(Duration::from_secs(30));
        assert_eq!(pipe.0.lock().unwrap().len(), ROOM + 1);
    }
}
