//! What the buttons break, for how long, and what a driver has to do for it.

use std::collections::BTreeMap;
use std::time::Duration;

use damselfly_session::Timestamp;

use super::house::{Device, Kind};
use super::ledger::ClientIndex;

/// A button.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultName {
    /// A plug is pulled: a device is gone without a word.
    Plug,
    /// The phone is in a lift: nothing reaches it, and nobody notices at once.
    Lift,
    /// A client does not read.
    Slow,
    /// Connections are cut in the middle of packets.
    Wifi,
    /// A command waits for a device that sleeps.
    Sleeper,
    /// Two clients with one Client Identifier.
    Twins,
    /// A client with a wrong password.
    Password,
    /// The broker's listeners and connections go away and come back.
    Network,
}

impl FaultName {
    /// All buttons.
    pub const ALL: [Self; 8] =
        [Self::Plug, Self::Lift, Self::Slow, Self::Wifi, Self::Sleeper, Self::Twins, Self::Password, Self::Network];

    /// The word in `house/break/<word>`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Plug => "plug",
            Self::Lift => "lift",
            Self::Slow => "slow",
            Self::Wifi => "wifi",
            Self::Sleeper => "sleeper",
            Self::Twins => "twins",
            Self::Password => "password",
            Self::Network => "network",
        }
    }

    /// On the button.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Plug => "Pull a plug",
            Self::Lift => "Phone in a lift",
            Self::Slow => "A slow consumer",
            Self::Wifi => "Bad Wi-Fi",
            Self::Sleeper => "A command for a sleeper",
            Self::Twins => "Two clients, one id",
            Self::Password => "A wrong password",
            Self::Network => "Restart the network",
        }
    }

    /// Below it: what happens.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Plug => {
                "A lamp loses its power without a word. After one and a half keep alive periods the broker publishes its \
                 will, the tile turns grey and a rule lights the other lamp. Then the power is back."
            }
            Self::Lift => {
                "Nothing reaches the phone and nobody hears of it. Notifications at QoS 2 wait in its session and come in \
                 their order when it is back."
            }
            Self::Slow => {
                "The display in the hall stops reading. Its messages wait, those of QoS 0 are dropped for it alone, and \
                 nobody else notices."
            }
            Self::Wifi => "For a while every connection of the house is cut after a random number of bytes.",
            Self::Sleeper => {
                "A sensor sleeps longer than usual, and a command waits for it at the broker until it wakes and does it."
            }
            Self::Twins => {
                "A second client comes with the Client Identifier of a lamp. Each takes the session over from the other, \
                 and both are told (0x8E)."
            }
            Self::Password => {
                "Somebody says to be the lock of the front door and does not know its password: CONNACK 0x86."
            }
            Self::Network => {
                "The broker closes all listeners and connections, and listens on the same ports again. Sessions stay."
            }
        }
    }

    /// What `house/break/<word>` means.
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.word() == word)
    }

    /// Whom it is about unless the button says: a Client Identifier.
    const fn victim(self) -> &'static str {
        match self {
            Self::Plug => "living-lamp",
            Self::Lift => "phone",
            Self::Slow => "hall-display",
            Self::Sleeper => "bedroom-temperature",
            Self::Twins => "guest-lamp",
            Self::Password => "hall-lock",
            Self::Wifi | Self::Network => "house",
        }
    }

    /// Whether it can happen to this device.
    const fn fits(self, device: &Device) -> bool {
        match self {
            Self::Plug => matches!(
                device.kind,
                Kind::Lamp | Kind::Plug | Kind::Heating | Kind::Lock | Kind::Camera | Kind::Brightness
            ),
            Self::Twins => matches!(device.kind, Kind::Lamp | Kind::Plug | Kind::Heating),
            Self::Sleeper => device.is_battery(),
            Self::Lift => matches!(device.kind, Kind::Phone),
            Self::Slow => matches!(device.kind, Kind::Display),
            Self::Password | Self::Wifi | Self::Network => true,
        }
    }
}

/// What a driver has to do to the connections of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// The client's connection is gone and it makes none; the broker hears nothing of it.
    Unplug(ClientIndex),
    /// It is back.
    PlugIn(ClientIndex),
    /// No byte passes between the client and the broker; neither is told.
    Hold(ClientIndex),
    /// Bytes pass again.
    LetGo(ClientIndex),
    /// The client does not read.
    StopReading(ClientIndex),
    /// It reads again.
    ReadOn(ClientIndex),
    /// Each connection is cut after some random bytes, or no more.
    Cut(bool),
    /// Another client with this one's Client Identifier and password comes.
    AddTwin(ClientIndex),
    /// It is gone.
    RemoveTwin(ClientIndex),
    /// A client comes with this one's name and a wrong password.
    Intrude(ClientIndex),
    /// The broker has no network for so long.
    Restart(Duration),
}

/// How long each fault lasts.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Times {
    /// A pulled plug: longer than one and a half keep alive periods.
    pub plug: Duration,
    /// In the lift.
    pub lift: Duration,
    /// Without reading.
    pub slow: Duration,
    /// Of bad Wi-Fi.
    pub wifi: Duration,
    /// Of more sleep.
    pub sleeper: Duration,
    /// With a twin.
    pub twins: Duration,
    /// For the client with the wrong password.
    pub password: Duration,
    /// Without network.
    pub network: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            plug: seconds(14),
            lift: seconds(15),
            slow: seconds(15),
            wifi: seconds(20),
            sleeper: seconds(20),
            twins: seconds(8),
            password: seconds(3),
            network: seconds(5),
        }
    }
}

impl Times {
    const fn of(&self, name: FaultName) -> Duration {
        match name {
            FaultName::Plug => self.plug,
            FaultName::Lift => self.lift,
            FaultName::Slow => self.slow,
            FaultName::Wifi => self.wifi,
            FaultName::Sleeper => self.sleeper,
            FaultName::Twins => self.twins,
            FaultName::Password => self.password,
            FaultName::Network => self.network,
        }
    }
}

/// Why a fault does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// It is there already, for so much longer.
    Already(Duration),
    /// It cannot happen to this client.
    Unfit,
}

/// What is broken, and until when.
#[derive(Debug, Default)]
pub(super) struct Faults {
    times: Times,
    active: BTreeMap<FaultName, (ClientIndex, Timestamp)>,
    counts: BTreeMap<FaultName, u64>,
}

impl Faults {
    pub(super) fn new(times: Times) -> Self {
        Self { times, ..Self::default() }
    }

    /// Begins a fault: with whom, and until when.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        name: FaultName,
        devices: &[Device],
        victim: Option<&str>,
    ) -> Result<(ClientIndex, Timestamp), NotBegun> {
        if let Some((_, until)) = self.active.get(&name) {
            return Err(NotBegun::Already(until.saturating_since(now)));
        }
        let id = victim.unwrap_or(name.victim());
        let client = devices.iter().position(|device| device.id == id && name.fits(device)).ok_or(NotBegun::Unfit)?;
        let until = now.saturating_add(self.times.of(name));
        self.active.insert(name, (client, until));
        *self.counts.entry(name).or_default() += 1;
        Ok((client, until))
    }

    /// One that is over.
    pub(super) fn pop_ended(&mut self, now: Timestamp) -> Option<(FaultName, ClientIndex)> {
        let (name, client) =
            self.active.iter().find(|(_, (_, until))| *until <= now).map(|(name, (client, _))| (*name, *client))?;
        self.active.remove(&name);
        Some((name, client))
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.active.values().map(|(_, until)| *until).min()
    }

    pub(super) fn active(&self, name: FaultName) -> Option<(ClientIndex, Timestamp)> {
        self.active.get(&name).copied()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.active.is_empty()
    }

    /// How often each began.
    pub(super) fn counts(&self) -> impl Iterator<Item = (FaultName, u64)> + '_ {
        FaultName::ALL.into_iter().map(|name| (name, self.counts.get(&name).copied().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::house::devices;

    #[test]
    fn fault_begins_once_and_ends_by_itself() {
        let devices = devices();
        let now = Timestamp::from_secs(100);
        for name in FaultName::ALL {
            let mut faults = Faults::new(Times::default());
            let (client, until) = faults.begin(now, name, &devices, None).unwrap();
            assert!(name.fits(&devices[client]));
            assert_eq!(FaultName::read(name.word()), Some(name));
            assert_eq!(faults.begin(now, name, &devices, None), Err(NotBegun::Already(until.saturating_since(now))));
            assert_eq!(faults.pop_ended(now), None);
            assert_eq!(faults.poll_timeout(), Some(until));
            assert_eq!(faults.pop_ended(until), Some((name, client)));
            assert!(faults.is_quiet() && faults.begin(until, name, &devices, None).is_ok());
        }
    }

    #[test]
    fn fault_happens_only_to_whom_it_can() {
        let devices = devices();
        let mut faults = Faults::new(Times::default());
        let now = Timestamp::from_secs(100);
        assert_eq!(faults.begin(now, FaultName::Plug, &devices, Some("phone")), Err(NotBegun::Unfit));
        assert_eq!(faults.begin(now, FaultName::Plug, &devices, Some("nobody")), Err(NotBegun::Unfit));
        let (client, _) = faults.begin(now, FaultName::Plug, &devices, Some("bath-lamp")).unwrap();
        assert_eq!(devices[client].id, "bath-lamp");
    }
}
