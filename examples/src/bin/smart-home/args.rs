//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// A smart home of more than 120 devices, its broker, its rules and a page that shows them.
#[derive(Clone, Debug, Parser)]
#[command(name = "smart-home", disable_version_flag = true)]
pub(crate) struct Args {
    /// Serve the page at this port of 127.0.0.1; 0 is a free one
    #[arg(long, default_value_t = 8088, value_name = "PORT")]
    pub(crate) port: u16,
    /// Let programs of this machine in here too, over TCP, without a password
    #[arg(long, value_parser = local, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// All chance in the house comes from this number
    #[arg(long, default_value_t = 7, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Read the rules from this file, and again whenever it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// A day takes this long
    #[arg(long, default_value = "24m", value_parser = duration, value_name = "TIME")]
    pub(crate) day: Duration,
    /// Live so long in virtual time, with faults from the seed, and print the ledger; no sockets, no page
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) simulate: Option<Duration>,
    /// Serve no page
    #[arg(long)]
    pub(crate) no_page: bool,
}

/// Guests may switch the lamps and open the door: no others than those of this machine.
fn local(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "write an address and a port, as in 127.0.0.1:1883".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("whoever reaches it could open the door: only addresses of this machine are served, such as 127.0.0.1"
            .into())
    }
}

/// `90s`, `30m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 90s, 30m or 2h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = number.checked_mul(seconds).map(Duration::from_secs);
    duration.filter(|duration| !duration.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_come_from_this_machine_alone() {
        assert!(local("127.0.0.1:0").is_ok() && local("[::1]:1883").is_ok());
        for text in ["0.0.0.0:1883", "192.0.2.1:1883", "[::]:1883", "1883", "localhost:1883"] {
            assert!(local(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        for text in ["", "m", "0m", "30", "-1m", "30 m", "99999999999999999999h", "5\u{e9}"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
