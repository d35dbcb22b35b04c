//! Failed logins by address: how long the next answer waits, and how many logins of an address are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use damselfly_session::Timestamp;

use super::Limits;

/// How long an address is remembered after its last failure.
pub const MEMORY: Duration = Duration::from_secs(300);

/// Whom failed logins are counted for: one address of IPv4, one network of IPv6 (its first 64 bits: whoever has one has
/// them all), or whoever has none, which are the clients of Unix sockets and of the program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An address of IPv4, also one that is mapped into IPv6.
    V4([u8; 4]),
    /// The first half of an address of IPv6.
    V6(u64),
    /// No address.
    Local,
}

impl Origin {
    /// Whom the peer at this address counts for.
    pub fn of(address: Option<SocketAddr>) -> Self {
        match address.map(|address| address.ip().to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            // No more than 64 bits are left.
            Some(IpAddr::V6(ip)) => Self::V6(u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

/// What is remembered of addresses.
#[derive(Debug)]
pub(super) struct Attempts {
    limits: Limits,
    failures: BTreeMap<Origin, Failures>,
    /// The same by their age.
    by_age: BTreeSet<(Timestamp, Origin)>,
    under_way: BTreeMap<Origin, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Attempts {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, failures: BTreeMap::new(), by_age: BTreeSet::new(), under_way: BTreeMap::new() }
    }

    /// Whether one more login of this origin may begin. It counts until it is [ended](Self::end).
    pub(super) fn begin(&mut self, origin: Origin) -> bool {
        let most = match self.failures.get(&origin) {
            None => self.limits.max_logins_per_address,
            Some(_) => self.limits.max_logins_after_failure.min(self.limits.max_logins_per_address),
        };
        let under_way = self.under_way.get(&origin).copied().unwrap_or(0);
        if under_way >= most {
            return false;
        }
        self.under_way.insert(origin, under_way + 1);
        true
    }

    pub(super) fn end(&mut self, origin: Origin) {
        match self.under_way.get_mut(&origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.under_way.remove(&origin);
            }
        }
    }

    /// A login failed: how many did by now, and how long the answer waits.
    pub(super) fn fail(&mut self, origin: Origin, now: Timestamp) -> (u32, Duration) {
        self.forget(now);
        let before = self.failures.get(&origin).copied();
        if let Some(failures) = before {
            self.by_age.remove(&(failures.last, origin));
        } else if self.failures.len() >= usize::try_from(self.limits.max_failing_addresses).unwrap_or(usize::MAX) {
            // Whoever failed longest ago makes room.
            if let Some((_, oldest)) = self.by_age.pop_first() {
                self.failures.remove(&oldest);
            }
        }
        let count = before.map_or(0, |failures| failures.count).saturating_add(1);
        if self.limits.max_failing_addresses > 0 {
            self.failures.insert(origin, Failures { count, last: now });
            self.by_age.insert((now, origin));
        }
        let doubled = 1_u32.checked_shl(count - 1).unwrap_or(u32::MAX);
        let delay = self.limits.failed_login_delay.saturating_mul(doubled);
        (count, delay.min(self.limits.max_failed_login_delay))
    }

    /// Forgets who has not failed for [`MEMORY`].
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((last, origin)) = self.by_age.first().copied() {
            if last.saturating_add(MEMORY) > now {
                return;
            }
            self.by_age.pop_first();
            self.failures.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Origin {
        Origin::of(Some(SocketAddr::new(address.parse().unwrap(), 1883)))
    }

    fn limits() -> Limits {
        Limits {
            max_logins_per_address: 3,
            max_logins_after_failure: 2,
            failed_login_delay: Duration::from_millis(100),
            max_failed_login_delay: Duration::from_millis(350),
            max_failing_addresses: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn an_address_of_ipv4_and_a_network_of_ipv6_count_as_one() {
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_eq!(Origin::of(None), Origin::Local);
    }

    #[test]
    fn answers_to_an_address_wait_longer_and_longer_up_to_a_limit_and_others_do_not() {
        let mut attempts = Attempts::new(limits());
        let now = Timestamp::from_secs(1);
        let delays = [(); 5].map(|()| attempts.fail(at("192.0.2.1"), now).1.as_millis());
        assert_eq!(delays, [100, 200, 350, 350, 350]);
        assert_eq!(attempts.fail(at("192.0.2.2"), now), (1, Duration::from_millis(100)));
        let just_before = now.saturating_add(MEMORY.saturating_sub(Duration::from_micros(1)));
        assert_eq!(attempts.fail(at("192.0.2.1"), just_before).0, 6);
        assert_eq!(attempts.fail(at("192.0.2.1"), just_before.saturating_add(MEMORY)).0, 1);
        for _ in 0..100 {
            attempts.fail(at("192.0.2.1"), just_before.saturating_add(MEMORY));
        }
    }

    #[test]
    fn the_table_of_addresses_has_a_limit_and_the_oldest_makes_room() {
        let mut attempts = Attempts::new(limits());
        let count =
            |attempts: &mut Attempts, address, second| attempts.fail(at(address), Timestamp::from_secs(second)).0;
        assert_eq!([count(&mut attempts, "192.0.2.1", 1), count(&mut attempts, "192.0.2.2", 2)], [1, 1]);
        assert_eq!(count(&mut attempts, "192.0.2.1", 3), 2);
        assert_eq!(count(&mut attempts, "192.0.2.3", 4), 1, "one past the limit");
        assert_eq!([attempts.failures.len(), attempts.by_age.len()], [2, 2]);
        assert_eq!(count(&mut attempts, "192.0.2.1", 5), 3);
        assert_eq!(count(&mut attempts, "192.0.2.2", 6), 1, "it was forgotten");
    }

    #[test]
    fn logins_under_way_have_a_limit_for_each_address_and_a_smaller_one_after_a_failure() {
        let mut attempts = Attempts::new(limits());
        let (one, other) = (at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!([(); 4].map(|()| attempts.begin(one)), [true, true, true, false]);
        assert!(attempts.begin(other));
        attempts.fail(one, Timestamp::from_secs(1));
        attempts.end(one);
        assert!(!attempts.begin(one), "two are under way");
        attempts.end(one);
        assert_eq!([(); 2].map(|()| attempts.begin(one)), [true, false]);
        attempts.end(other);
        attempts.end(other);
        assert_eq!([(); 4].map(|()| attempts.begin(other)), [true, true, true, false]);
    }
}
