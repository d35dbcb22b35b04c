//! The table of the house: twelve rooms and what is in them.

use damselfly_codec::Version;

/// The rooms, in the order in which the world, the page and the tests know them.
pub const ROOMS: [&str; 12] = [
    "hall", "living", "kitchen", "dining", "office", "bedroom", "nursery", "guest", "bath", "laundry", "garage",
    "garden",
];

/// The devices of each room, by their names; what comes before a `-` says what kind it is.
const TABLE: [&str; 12] = [
    "lamp lamp-2 plug motion door temperature humidity smoke heating lock camera display",
    "lamp lamp-2 lamp-3 plug plug-2 motion window window-2 temperature humidity smoke heating",
    "lamp lamp-2 plug plug-2 plug-3 motion window temperature humidity smoke heating",
    "lamp lamp-2 plug motion window temperature humidity smoke heating",
    "lamp lamp-2 plug plug-2 motion window door temperature humidity smoke heating",
    "lamp lamp-2 plug motion window door temperature humidity smoke heating",
    "lamp lamp-2 plug motion window door temperature humidity smoke heating camera",
    "lamp plug motion window door temperature humidity smoke heating",
    "lamp lamp-2 plug motion window door temperature humidity smoke heating",
    "lamp plug plug-2 motion window door temperature humidity smoke heating",
    "lamp lamp-2 plug motion door door-2 temperature humidity smoke camera",
    "lamp lamp-2 lamp-3 plug plug-2 motion motion-2 door temperature humidity brightness camera",
];

/// What a client of the house is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Goes on and off on command.
    Lamp,
    /// A socket in the wall, likewise.
    Plug,
    /// Says when somebody moves in its room.
    Motion,
    /// Says whether it is open.
    Door,
    /// Says whether it is open.
    Window,
    /// Says when there is smoke.
    Smoke,
    /// In degrees Celsius.
    Temperature,
    /// In percent.
    Humidity,
    /// Of the sky, in lux.
    Brightness,
    /// Holds its room at so many degrees, or is off.
    Heating,
    /// Of the front door.
    Lock,
    /// Sends pictures.
    Camera,
    /// The energy of the whole house.
    Meter,
    /// Goes out with whom it belongs to.
    Phone,
    /// Hangs in the hall and shows all there is.
    Display,
    /// The rules engine.
    Rules,
    /// The program itself, which tells the page what happens.
    Feed,
}

impl Kind {
    /// The word of topics and of `house/clients`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Lamp => "lamp",
            Self::Plug => "plug",
            Self::Motion => "motion",
            Self::Door => "door",
            Self::Window => "window",
            Self::Smoke => "smoke",
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Brightness => "brightness",
            Self::Heating => "heating",
            Self::Lock => "lock",
            Self::Camera => "camera",
            Self::Meter => "meter",
            Self::Phone => "phone",
            Self::Display => "display",
            Self::Rules => "rules",
            Self::Feed => "house",
        }
    }

    const IN_ROOMS: [Self; 13] = [
        Self::Lamp,
        Self::Plug,
        Self::Motion,
        Self::Door,
        Self::Window,
        Self::Smoke,
        Self::Temperature,
        Self::Humidity,
        Self::Brightness,
        Self::Heating,
        Self::Lock,
        Self::Camera,
        Self::Display,
    ];

    /// Small sensors run on a battery and sleep most of the time.
    pub const fn is_battery(self) -> bool {
        matches!(self, Self::Motion | Self::Door | Self::Window | Self::Smoke | Self::Temperature | Self::Humidity)
    }

    /// Homes grow over years: some of what is in them is older than MQTT 5.0.
    const fn version(self) -> Version {
        match self {
            Self::Plug | Self::Door | Self::Smoke | Self::Humidity | Self::Meter => Version::V3_1_1,
            _ => Version::V5_0,
        }
    }
}

/// One client of the house.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The Client Identifier.
    pub id: String,
    /// The room it is in, or what stands in place of one in its topics.
    pub room: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The protocol version it speaks.
    pub version: Version,
    /// Where it says how it is.
    pub topic: String,
}

impl Device {
    fn of_room(room: &'static str, name: &'static str) -> Option<Self> {
        let word = name.split('-').next()?;
        let kind = Kind::IN_ROOMS.into_iter().find(|kind| kind.word() == word)?;
        let (id, topic) = (format!("{room}-{name}"), format!("home/{room}/{name}"));
        Some(Self { id, room, name, kind, version: kind.version(), topic })
    }

    fn alone(id: &str, kind: Kind, (room, name): (&'static str, &'static str), topic: &str) -> Self {
        Self { id: id.to_owned(), room, name, kind, version: kind.version(), topic: topic.to_owned() }
    }

    /// Where it says whether it is there; its will says so too.
    pub fn status_topic(&self) -> String {
        format!("home/{}/{}/status", self.room, self.name)
    }

    /// Whether it sleeps most of the time.
    pub const fn is_battery(&self) -> bool {
        self.kind.is_battery()
    }

    /// The place of its room among [`ROOMS`].
    pub fn room_number(&self) -> Option<usize> {
        ROOMS.iter().position(|room| *room == self.room)
    }
}

/// All clients of the house. Their places in this list are what [`Home`](super::Home) and its drivers call them by.
pub fn devices() -> Vec<Device> {
    let rooms = ROOMS.iter().zip(TABLE);
    let in_rooms = rooms.flat_map(|(room, names)| names.split(' ').filter_map(|name| Device::of_room(room, name)));
    let alone = [
        Device::alone("energy-meter", Kind::Meter, ("energy", "meter"), "home/energy/power"),
        Device::alone("phone", Kind::Phone, ("phone", "phone"), "home/phone/presence"),
        Device::alone("rules", Kind::Rules, ("house", "rules"), "house/rules"),
        Device::alone("house", Kind::Feed, ("house", "house"), "house"),
    ];
    in_rooms.chain(alone).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn house_has_twelve_rooms_and_more_than_120_devices_with_names_of_their_own() {
        let devices = devices();
        let ids: BTreeSet<_> = devices.iter().map(|device| device.id.as_str()).collect();
        let topics: BTreeSet<_> = devices.iter().map(|device| device.topic.as_str()).collect();
        let rooms: BTreeSet<_> = devices.iter().filter_map(Device::room_number).collect();
        assert_eq!((ids.len(), topics.len()), (devices.len(), devices.len()));
        assert_eq!(rooms.len(), 12);
        let words = TABLE.iter().flat_map(|names| names.split(' ')).count();
        assert_eq!(devices.len(), words + 4, "each name says what it is");
        assert!(words >= 120, "{words}");
    }

    #[test]
    fn each_kind_is_there_in_both_versions_and_with_both_kinds_of_power() {
        let devices = devices();
        for kind in Kind::IN_ROOMS {
            assert!(devices.iter().any(|device| device.kind == kind), "{kind:?}");
        }
        let count = |is: fn(&&Device) -> bool| devices.iter().filter(is).count();
        assert!(count(|device| device.version == Version::V3_1_1) > 30);
        assert!(count(|device| device.version == Version::V5_0) > 30);
        assert!(count(|device| device.is_battery()) > 50);
        assert_eq!(count(|device| device.kind == Kind::Camera), 4);
    }
}
