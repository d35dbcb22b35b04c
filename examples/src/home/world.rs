//! A little world around the sensors: people, day and night, warmth.

use std::time::Duration;

use damselfly_session::Timestamp;

use super::chance::Chance;
use super::house::{Device, Kind, ROOMS};
use super::value::Value;

/// How often the world moves on.
pub(super) const STEP: Duration = Duration::from_secs(1);
/// It is this late when the house begins: soon it gets dark.
const HOUR_AT_START: f64 = 16.5;
const GARDEN: usize = 11;
/// How long a room counts as busy after somebody moved.
const MOTION: Duration = Duration::from_secs(12);
/// How long a door stays open behind who goes through.
const DOOR: Duration = Duration::from_secs(4);
/// Degrees that a heated room gains per second at full power.
const HEAT: f64 = 0.03;

/// One room as it is.
#[derive(Clone, Copy, Debug)]
struct Room {
    temperature: f64,
    humidity: f64,
    heating: Option<f64>,
    motion_until: Timestamp,
    door_until: Timestamp,
    window_until: Timestamp,
    smoke_until: Timestamp,
    lamps: u32,
    plugs: u32,
}

/// Somebody who lives here.
#[derive(Clone, Copy, Debug)]
struct Person {
    /// `None` while away.
    room: Option<usize>,
    moves_at: Timestamp,
}

/// What the sensors sense. It follows from the seed and from what the devices do.
#[derive(Debug)]
pub struct World {
    chance: Chance,
    started: Timestamp,
    now: Timestamp,
    day: Duration,
    rooms: [Room; ROOMS.len()],
    people: [Person; 2],
    energy: f64,
    power: f64,
}

impl World {
    /// A house at afternoon, in which a day passes in `day`.
    pub fn new(seed: u64, day: Duration, now: Timestamp) -> Self {
        let mut chance = Chance::new(seed);
        let rooms = ROOMS.map(|_| Room {
            temperature: 19.5 + chance.around_zero(),
            humidity: 48.0 + 6.0 * chance.around_zero(),
            heating: None,
            motion_until: Timestamp::ZERO,
            door_until: Timestamp::ZERO,
            window_until: Timestamp::ZERO,
            smoke_until: Timestamp::ZERO,
            lamps: 0,
            plugs: 0,
        });
        let people =
            [1, 2].map(|room| Person { room: Some(room), moves_at: now.saturating_add(chance.millis(500, 9_000)) });
        let day = day.max(Duration::from_secs(10));
        Self { chance, started: now, now, day, rooms, people, energy: 4_217.0, power: 200.0 }
    }

    /// Lets the world move on to `now`.
    pub fn step(&mut self, now: Timestamp) {
        let passed = now.saturating_since(self.now).as_secs_f64();
        self.now = now;
        for index in 0..self.people.len() {
            self.walk(index);
        }
        self.disturb();
        let outside = self.outside();
        for (index, room) in self.rooms.iter_mut().enumerate() {
            let is_open = room.window_until > now;
            let leak = if index == GARDEN {
                1.0
            } else if is_open {
                0.01
            } else {
                0.0008
            };
            room.temperature += (outside - room.temperature) * (leak * passed).min(1.0);
            if room.heating.is_some_and(|wanted| room.temperature < wanted) {
                room.temperature += HEAT * passed;
            }
            let wet = if is_open { 55.0 } else { 46.0 };
            room.humidity += (wet - room.humidity) * (0.002 * passed).min(1.0) + 0.05 * self.chance.around_zero();
        }
        let load: f64 = self.rooms.iter().map(load).sum();
        self.power = 180.0 + load;
        self.energy += self.power * passed / 3_600_000.0;
    }

    fn walk(&mut self, index: usize) {
        let now = self.now;
        let Some(person) = self.people.get_mut(index).filter(|person| person.moves_at <= now) else { return };
        // Only the one with the phone goes out: somebody stays with the demonstration.
        let goes_out = index == 0 && person.room.is_some() && self.chance.once_in(14);
        let stay = if goes_out { self.chance.millis(40_000, 120_000) } else { self.chance.millis(3_000, 28_000) };
        person.moves_at = now.saturating_add(stay);
        person.room = (!goes_out).then(|| self.chance.index(ROOMS.len()));
        let through = person.room.unwrap_or(0);
        if let Some(room) = self.rooms.get_mut(through) {
            room.door_until = now.saturating_add(DOOR);
            room.motion_until = now.saturating_add(MOTION);
            if self.chance.once_in(9) && room.window_until <= now {
                room.window_until = now.saturating_add(self.chance.millis(20_000, 70_000));
            }
        }
    }

    /// Whoever is in a room moves now and then, and rarely something burns.
    fn disturb(&mut self) {
        let now = self.now;
        for person in self.people {
            let Some(room) = person.room.and_then(|room| self.rooms.get_mut(room)) else { continue };
            if self.chance.once_in(6) {
                room.motion_until = now.saturating_add(MOTION);
            }
        }
        if self.chance.once_in(420) {
            let kitchen = 2;
            if let Some(room) = self.rooms.get_mut(kitchen) {
                room.smoke_until = now.saturating_add(self.chance.millis(8_000, 20_000));
            }
        }
    }

    /// The time of day in hours.
    pub fn hour(&self) -> f64 {
        let days = self.now.saturating_since(self.started).as_secs_f64() / self.day.as_secs_f64();
        (HOUR_AT_START + 24.0 * days) % 24.0
    }

    /// From 0 at night to 1 at noon.
    pub fn daylight(&self) -> f64 {
        let height = ((self.hour() - 6.0) / 12.0 * std::f64::consts::PI).sin();
        height.max(0.0).sqrt()
    }

    fn outside(&self) -> f64 {
        6.0 + 9.0 * self.daylight()
    }

    /// What the meter shows at this moment, in watts.
    pub fn power(&mut self) -> f64 {
        self.power + 6.0 * self.chance.around_zero()
    }

    /// What the meter has counted, in kWh.
    pub const fn energy(&self) -> f64 {
        self.energy
    }

    /// Whether the phone is in the house.
    pub const fn is_phone_home(&self) -> bool {
        self.people[0].room.is_some()
    }

    /// Who moves in a room, for its camera: a number for each person, where it is in the picture from 0 to 999.
    pub fn figures(&self, room: usize) -> impl Iterator<Item = u32> + '_ {
        let seconds = self.now.saturating_since(self.started).as_secs();
        let here = self.people.iter().enumerate().filter(move |(_, person)| person.room == Some(room));
        here.map(move |(index, _)| {
            let index = u64::try_from(index).unwrap_or(0);
            u32::try_from((seconds * (37 + 24 * index) + 311 * index) % 1_000).unwrap_or(0)
        })
    }

    /// What a sensor would say; `None` for what senses nothing.
    pub fn reading(&self, device: &Device) -> Option<Value> {
        let room = self.rooms.get(device.room_number()?)?;
        let is_second = device.name.ends_with("-2");
        let word = |is_open: bool| Value::text(if is_open { "open" } else { "closed" });
        Some(match device.kind {
            Kind::Motion => Value::Bool(room.motion_until > self.now && !is_second),
            Kind::Door => word(room.door_until > self.now && !is_second),
            Kind::Window => word(room.window_until > self.now && !is_second),
            Kind::Smoke => Value::Bool(room.smoke_until > self.now),
            Kind::Temperature => Value::rounded(room.temperature),
            Kind::Humidity => Value::Number(room.humidity.round()),
            Kind::Brightness => Value::Number((2.0 + 900.0 * self.daylight()).round()),
            _ => return None,
        })
    }

    /// A device did something that others feel.
    pub fn note(&mut self, device: &Device, before: &Value, value: &Value) {
        let Some(room) = device.room_number().and_then(|room| self.rooms.get_mut(room)) else { return };
        let count = match device.kind {
            Kind::Heating => {
                room.heating = match value {
                    Value::Number(degrees) => Some(degrees.clamp(5.0, 28.0)),
                    Value::Bool(true) => Some(20.5),
                    Value::Bool(false) | Value::Text(_) => None,
                };
                return;
            }
            Kind::Lamp => &mut room.lamps,
            Kind::Plug => &mut room.plugs,
            _ => return,
        };
        match (before, value) {
            (Value::Bool(false), Value::Bool(true)) => *count += 1,
            (Value::Bool(true), Value::Bool(false)) => *count = count.saturating_sub(1),
            _ => {}
        }
    }
}

/// What a room takes, in watts.
fn load(room: &Room) -> f64 {
    let heats = room.heating.is_some_and(|wanted| room.temperature < wanted);
    9.0 * f64::from(room.lamps) + 65.0 * f64::from(room.plugs) + if heats { 900.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::house::devices;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    fn run(seed: u64, seconds: u64) -> World {
        let mut world = World::new(seed, Duration::from_secs(240), at(0));
        (1..=seconds).for_each(|second| world.step(at(second)));
        world
    }

    fn device(id: &str) -> Device {
        devices().into_iter().find(|device| device.id == id).unwrap()
    }

    #[test]
    fn same_seed_makes_the_same_world() {
        let say = |world: &World| devices().iter().map(|device| world.reading(device)).collect::<Vec<_>>();
        assert_eq!(say(&run(7, 300)), say(&run(7, 300)));
        assert_ne!(say(&run(7, 300)), say(&run(8, 300)));
    }

    #[test]
    fn in_a_day_it_gets_dark_and_bright_and_each_room_sees_somebody() {
        let mut world = run(7, 0);
        let (mut darkest, mut brightest) = (f64::MAX, 0.0_f64);
        let mut busy = [false; ROOMS.len()];
        let sensors: Vec<_> = ROOMS.iter().map(|room| device(&format!("{room}-motion"))).collect();
        for second in 1..=1_200 {
            world.step(at(second));
            let Some(Value::Number(lux)) = world.reading(&device("garden-brightness")) else { panic!() };
            (darkest, brightest) = (darkest.min(lux), brightest.max(lux));
            for (seen, sensor) in busy.iter_mut().zip(&sensors) {
                *seen |= world.reading(sensor) == Some(Value::Bool(true));
            }
        }
        assert!(darkest < 10.0 && brightest > 800.0, "{darkest} {brightest}");
        assert_eq!(busy, [true; ROOMS.len()]);
    }

    #[test]
    fn room_gets_warmer_while_it_is_heated_and_the_meter_counts_it() {
        let heating = device("office-heating");
        let warmth = |is_on: bool| {
            let mut world = run(7, 1);
            world.note(&heating, &Value::Bool(!is_on), &if is_on { Value::Number(23.0) } else { Value::Bool(false) });
            (2..100).for_each(|second| world.step(at(second)));
            (world.rooms[4].temperature, world.energy())
        };
        let ((warm, much), (cold, little)) = (warmth(true), warmth(false));
        assert!(warm > cold + 1.0, "{warm} {cold}");
        assert!(much > little);
    }
}
