//! What a client under test has to do, and the meter of its own CPU time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use damselfly_benches::process::Outcome;
use damselfly_codec::{QoS, Version};
use rustix::time::{ClockId, clock_gettime};

pub const TOPIC: &str = "bench/clients/1";
pub const PAYLOAD: [u8; 64] = [b'x'; 64];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends; a message counts when its bytes are written, at QoS 1 when PUBACK came.
    Publish,
    /// Subscribes; a message counts when the application has it.
    Receive,
}

#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Messages measured.
    #[arg(long, default_value_t = 200_000)]
    pub messages: u64,
    /// Messages before them.
    #[arg(long, default_value_t = 20_000)]
    pub warm_up: u64,
    /// Messages of QoS 1 under way, and places in a client's channel.
    #[arg(long, default_value_t = 1_000)]
    pub window: u16,
    /// Speak MQTT 5.0 instead of 3.1.1.
    #[arg(long)]
    pub v5: bool,
}

impl Load {
    pub const fn total(&self) -> u64 {
        self.messages + self.warm_up
    }

    pub const fn version(&self) -> Version {
        if self.v5 { Version::V5_0 } else { Version::V3_1_1 }
    }
}

pub struct Work {
    pub address: SocketAddr,
    pub role: Role,
    pub qos: QoS,
    pub load: Load,
}

/// Says that messages may come, or that the first one will.
pub fn say_ready() {
    println!("ready");
}

/// Counts messages, and the process's time from the last one of the warm-up to the last of all.
pub struct Meter {
    seen: u64,
    warm_up: u64,
    total: u64,
    begun: Option<(Duration, Instant)>,
}

impl Meter {
    pub const fn new(load: &Load) -> Self {
        Self { seen: 0, warm_up: load.warm_up, total: load.total(), begun: None }
    }

    /// So many messages more. True when it was the last one: then the result is told.
    pub fn note(&mut self, messages: u64) -> Outcome<bool> {
        self.seen += messages;
        if self.seen < self.warm_up {
            return Ok(false);
        }
        let Some((cpu, start)) = self.begun else {
            self.begun = Some((cpu_time()?, Instant::now()));
            return Ok(false);
        };
        if self.seen == self.total {
            println!("{} {}", cpu_time()?.saturating_sub(cpu).as_nanos(), start.elapsed().as_nanos());
        }
        Ok(self.seen >= self.total)
    }
}

/// User and system time of all threads of this process.
fn cpu_time() -> Outcome<Duration> {
    Ok(clock_gettime(ClockId::ProcessCPUTime).try_into()?)
}
