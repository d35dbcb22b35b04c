//! The broker as a process: started on a core of its own, measured through /proc, ended by its id.

use std::{
    error::Error,
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};

/// What a measuring program does, or why it could not.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// How a broker comes to be there.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A command with `{port}`, `{dir}` and `{mosquitto.conf}` as placeholders.
    Command(Vec<String>),
    /// One that already runs; without a process id nothing is known about its CPU time and memory.
    Address(SocketAddr, Option<u32>),
}

/// One that takes part.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its column.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Our own relay, which takes part only where it can.
    pub is_relay: bool,
}

/// A broker that answers on its port.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    pid: Option<u32>,
    /// Where it listens.
    pub address: SocketAddr,
    dir: Option<PathBuf>,
}

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Running {
    /// Starts it on `core`, then goes on on `own_core`; waits until it answers.
    pub fn start(contender: &Contender, core: Option<usize>, own_core: Option<usize>) -> Outcome<Self> {
        let parts = match &contender.origin {
            Origin::Address(address, pid) => {
                return Ok(Self { child: None, pid: *pid, address: *address, dir: None });
            }
            Origin::Command(parts) => parts,
        };
        let address = free_address()?;
        let dir = std::env::temp_dir().join(format!("damselfly-loopback-{}-{}", std::process::id(), address.port()));
        fs::create_dir_all(&dir)?;
        let parts = parts.iter().map(|part| expand(part, address.port(), &dir)).collect::<Outcome<Vec<_>>>()?;
        let [program, arguments @ ..] = parts.as_slice() else {
            return Err("an empty command".into());
        };
        let log = fs::File::create(dir.join("log"))?;
        // A child inherits the core, and so does each thread it starts.
        pin(core)?;
        let child =
            Command::new(program).args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        pin(own_core)?;
        let child = child.map_err(|error| format!("{program}: {error}"))?;
        let mut running = Self { pid: Some(child.id()), child: Some(child), address, dir: Some(dir) };
        running.wait_until_it_answers()?;
        Ok(running)
    }

    fn wait_until_it_answers(&mut self) -> Outcome<()> {
        let end = Instant::now() + START_LIMIT;
        while Instant::now() < end {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().map_or(Ok(None), Child::try_wait)? {
                return Err(format!("the broker ended with {status}: {}", self.log()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("no answer on {}: {}", self.address, self.log()).into())
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let text = self.dir.as_ref().and_then(|dir| fs::read_to_string(dir.join("log")).ok());
        let text = text.unwrap_or_default();
        let from = text.len().saturating_sub(400);
        text.get(from..).unwrap_or_default().trim().to_owned()
    }

    /// User and system time of all its threads so far.
    pub fn cpu_time(&self) -> Option<Duration> {
        let pid = self.pid?;
        nanoseconds(pid).or_else(|| ticks(pid))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// Resident memory once it has stopped moving, waited for at most three seconds.
    pub fn settled(&self) -> Option<u64> {
        let mut last = self.resident()?;
        for _ in 0..15 {
            thread::sleep(Duration::from_millis(200));
            let next = self.resident()?;
            if next == last {
                break;
            }
            last = next;
        }
        Some(last)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // An error means it has ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + STOP_LIMIT;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// Time on a core from the scheduler's own counters, which are finer than clock ticks.
fn nanoseconds(pid: u32) -> Option<Duration> {
    let mut total = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = match fs::read_to_string(task.ok()?.path().join("schedstat")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        total += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (total > 0).then(|| Duration::from_nanos(total))
}

/// `utime` + `stime`, fields 14 and 15 of /proc/PID/stat.
fn ticks(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Keeps this thread, and what it starts, on one core; `None` leaves it where it is.
pub fn pin(core: Option<usize>) -> Outcome<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the number of descriptors to what is allowed; a broker started afterwards inherits it.
pub fn raise_descriptor_limit() -> Outcome<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// mosquitto as a fair opponent: no limit on queues or on messages in flight, nothing stored, no logging, no delay.
const MOSQUITTO: &str = "allow_anonymous true\n\
    persistence false\n\
    log_dest none\n\
    max_queued_messages 0\n\
    max_inflight_messages 0\n\
    set_tcp_nodelay true\n";

fn expand(template: &str, port: u16, dir: &Path) -> Outcome<String> {
    let mut text = template.replace("{port}", &port.to_string());
    text = text.replace("{dir}", &dir.to_string_lossy());
    if text.contains("{mosquitto.conf}") {
        let path = dir.join("mosquitto.conf");
        // Started by root it would change to a user that may not read the directory.
        fs::write(&path, format!("listener {port} 127.0.0.1\nuser root\n{MOSQUITTO}"))?;
        text = text.replace("{mosquitto.conf}", &path.to_string_lossy());
    }
    Ok(text)
}
