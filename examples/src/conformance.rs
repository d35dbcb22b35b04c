//! The cases of `damselfly_sim::conformance` over sockets, against any broker.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use damselfly_codec::Version;
use damselfly_sim::conformance::{Case, Features, Link, Outcome, Output, Run, ScriptError, Setup, probe};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Clock;

/// Runs cases against one broker.
#[derive(Debug)]
pub struct Conformance {
    address: SocketAddr,
    setup: Setup,
    clock: Clock,
}

/// As many cases run at the same time: each has up to four connections, and a broker may have few file descriptors.
const AT_ONCE: usize = 100;

/// How long a connection may take to open.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Why no case was run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The broker does not accept a client.
    #[error("the broker does not accept a client of {version}: {came}")]
    Refused {
        /// The version asked with.
        version: Version,
        /// What came instead of CONNACK and its success.
        came: String,
    },
    /// Never, as the tests of the crate show.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

impl Conformance {
    /// Connects once to find out what the broker says of itself; only 5.0 says it.
    ///
    /// # Errors
    ///
    /// There is no broker, or it refuses a well-behaved client.
    pub async fn probe(address: SocketAddr, setup: Setup, version: Version) -> Result<Self, ProbeError> {
        drop(TcpStream::connect(address).await?);
        let mut runner = Self { address, setup, clock: Clock::start() };
        let run = runner.run(&probe()?, version, 0).await;
        if let Some(Outcome::Failed(failure)) = run.outcome() {
            return Err(ProbeError::Refused { version, came: failure.came.clone() });
        }
        runner.setup.features = run.features().unwrap_or_default();
        Ok(runner)
    }

    /// What the broker says of itself.
    pub const fn features(&self) -> &Features {
        &self.setup.features
    }

    /// Runs all these, many at the same time; the outcomes are in the same order.
    pub async fn run_all(&self, runs: &[(&Case, Version)]) -> Vec<Outcome> {
        let numbered = runs.iter().zip(1..);
        let outcomes = numbered.map(|((case, version), number)| async move {
            let run = self.run(case, *version, number).await;
            run.outcome().cloned().unwrap_or_else(|| Outcome::Skipped("not over".to_owned()))
        });
        futures::stream::iter(outcomes).buffered(AT_ONCE).collect().await
    }

    async fn run(&self, case: &Case, version: Version, number: u32) -> Run {
        let mut run = Run::new(self.clock.now(), case, version, number, self.setup.clone());
        let (events, mut arrivals) = unbounded_channel();
        let mut links = BTreeMap::new();
        loop {
            while let Some(output) = run.poll_output() {
                self.perform(output, &mut links, &events);
            }
            if run.is_over() {
                return run;
            }
            let deadline = run.poll_timeout().and_then(|at| self.clock.instant(at));
            let deadline = deadline.unwrap_or_else(std::time::Instant::now);
            tokio::select! {
                biased;
                Some((link, bytes)) = arrivals.recv() => match bytes {
                    Some(bytes) => run.handle_input(self.clock.now(), link, &bytes),
                    None => run.handle_end(self.clock.now(), link),
                },
                () = tokio::time::sleep_until(deadline.into()) => run.handle_timeout(self.clock.now()),
            }
        }
    }

    fn perform(&self, output: Output, links: &mut BTreeMap<Link, UnboundedSender<Vec<u8>>>, events: &Events) {
        match output {
            Output::Open(link) => {
                let (to_send, sending) = unbounded_channel();
                links.insert(link, to_send);
                tokio::spawn(carry(self.address, link, sending, events.clone()));
            }
            Output::Send(link, bytes) => {
                if let Some(to_send) = links.get(&link) {
                    // Nobody receives once the connection is gone, which the case will hear.
                    let _ = to_send.send(bytes);
                }
            }
            Output::Close(link) => {
                links.remove(&link);
            }
        }
    }
}

/// Bytes that came, or nothing at the end of the connection.
type Events = UnboundedSender<(Link, Option<Vec<u8>>)>;

/// One connection, until either end closes it.
async fn carry(address: SocketAddr, link: Link, mut sending: UnboundedReceiver<Vec<u8>>, events: Events) {
    if let Ok(Ok(mut stream)) = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(len @ 1..) => {
                        let bytes = buffer.get(..len).unwrap_or_default().to_vec();
                        if events.send((link, Some(bytes))).is_err() {
                            return;
                        }
                    }
                    Ok(0) | Err(_) => break,
                },
                bytes = sending.recv() => {
                    let Some(bytes) = bytes else {
                        let _ = stream.shutdown().await;
                        return;
                    };
                    // A connection that cannot be written to may still have something to be read.
                    let _ = stream.write_all(&bytes).await;
                }
            }
        }
    }
    // The run may be over.
    let _ = events.send((link, None));
}
