//! The devices in the rooms.

use std::time::Duration;

use damselfly_codec::QoS;
use damselfly_session::Timestamp;

use super::actor::{Actor, Body, Context, Effect};
use super::camera::{Scene, snapshot};
use super::house::{Device, Kind};
use super::value::{Payload, Value};

/// How long a battery device listens after it has connected, before it sleeps again.
const LISTEN: Duration = Duration::from_millis(1_500);
/// The same after a command, which may be followed by another.
const LISTEN_ON: Duration = Duration::from_millis(700);
/// How often a battery device reports without a reason.
const REPORT: Duration = Duration::from_secs(60);
/// The interval that a command may ask for.
const INTERVALS: (f64, f64) = (5.0, 3_600.0);
/// Between two pictures of a camera.
const PICTURES: Duration = Duration::from_secs(10);
/// Between two messages of the meter.
const POWER: Duration = Duration::from_millis(100);
/// Between two sums of the meter.
const TOTAL: Duration = Duration::from_secs(10);
/// Between two reports of the sky.
const SKY: Duration = Duration::from_secs(5);

/// What moves a device. `offset` is a part of a second, so that not all speak at once.
pub(super) fn actor(device: &Device, now: Timestamp, offset: Duration) -> Box<dyn Actor> {
    let first = now.saturating_add(offset);
    match device.kind {
        Kind::Lamp | Kind::Plug | Kind::Heating | Kind::Lock => Box::new(Switch::new(device.kind)),
        Kind::Motion | Kind::Door | Kind::Window | Kind::Smoke | Kind::Temperature | Kind::Humidity => {
            Box::new(Sensor::new(first.saturating_add(offset.saturating_mul(50))))
        }
        Kind::Brightness => Box::new(Sky { next: first }),
        Kind::Camera => Box::new(Camera { next: first.saturating_add(offset.saturating_mul(8)) }),
        Kind::Meter => Box::new(Meter { next: first, total_at: first }),
        Kind::Phone => Box::new(Phone { is_home: None }),
        Kind::Display | Kind::Rules | Kind::Feed => Box::new(Quiet),
    }
}

/// Says that it is there, and nothing else.
struct Quiet;

impl Actor for Quiet {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        if context.device.kind == Kind::Display {
            context.want(Effect::status(context.device, "online"));
        }
    }
}

/// Lamp, plug, heating, lock: does what it is told and says so.
struct Switch {
    value: Value,
    is_told: bool,
}

impl Switch {
    fn new(kind: Kind) -> Self {
        let value = match kind {
            Kind::Lock => Value::text("locked"),
            Kind::Heating => Value::Number(20.5),
            _ => Value::Bool(false),
        };
        Self { value, is_told: false }
    }

    fn tell(&mut self, context: &mut Context<'_>) {
        let qos = if context.device.kind == Kind::Lock { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        context.want(Effect::state(&context.device.topic, self.value.clone(), qos));
    }
}

impl Actor for Switch {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        context.want(Effect::status(context.device, "online"));
        if !std::mem::replace(&mut self.is_told, true) {
            context.world.note(context.device, &Value::Bool(false), &self.value);
            self.tell(context);
        }
    }

    fn handle_message(&mut self, context: &mut Context<'_>, _topic: &str, payload: &Payload, _is_old: bool) {
        let is_known = match (context.device.kind, &payload.value) {
            (Kind::Lock, Value::Text(word)) => word == "locked" || word == "unlocked",
            (Kind::Heating, Value::Number(degrees)) => (5.0..=28.0).contains(degrees),
            (Kind::Lock, _) | (_, Value::Number(_) | Value::Text(_)) => false,
            (_, Value::Bool(_)) => true,
        };
        if !is_known {
            return;
        }
        let value = match (context.device.kind, &payload.value) {
            (Kind::Heating, Value::Bool(true)) => Value::Number(20.5),
            (_, value) => value.clone(),
        };
        if value != self.value {
            context.world.note(context.device, &self.value, &value);
            self.value = value;
            self.tell(context);
        }
    }
}

/// A sensor on a battery: sleeps, wakes when something happens or it is time, fetches what waited, reports, sleeps.
struct Sensor {
    reported: Option<Value>,
    is_awake: bool,
    interval: Duration,
    /// When to wake, or to sleep.
    next: Timestamp,
    oversleeps_until: Timestamp,
}

impl Sensor {
    fn new(first: Timestamp) -> Self {
        Self { reported: None, is_awake: false, interval: REPORT, next: first, oversleeps_until: Timestamp::ZERO }
    }

    fn report(&mut self, context: &mut Context<'_>) {
        let Some(value) = context.world.reading(context.device) else { return };
        let qos = match (context.device.kind, &value) {
            (Kind::Smoke, _) => QoS::ExactlyOnce,
            _ => QoS::AtLeastOnce,
        };
        context.want(Effect::state(&context.device.topic, value.clone(), qos));
        self.reported = Some(value);
    }

    fn wake(&mut self, context: &mut Context<'_>) {
        self.is_awake = true;
        // Should it not come to a connection, it gives up and tries again.
        self.next = context.now.saturating_add(self.interval);
        context.want(Effect::Wake);
    }

    fn sleep(&mut self, context: &mut Context<'_>) {
        self.is_awake = false;
        self.next = context.now.saturating_add(self.interval).max(self.oversleeps_until);
        context.want(Effect::status(context.device, "asleep"));
        context.want(Effect::Sleep);
    }
}

impl Actor for Sensor {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        context.want(Effect::status(context.device, "online"));
        self.report(context);
        self.is_awake = true;
        self.next = context.now.saturating_add(LISTEN);
    }

    fn handle_message(&mut self, context: &mut Context<'_>, _topic: &str, payload: &Payload, is_old: bool) {
        if is_old {
            return;
        }
        if let Value::Number(seconds) = payload.value {
            self.interval = Duration::from_secs_f64(seconds.clamp(INTERVALS.0, INTERVALS.1));
        }
        self.report(context);
        if self.is_awake {
            self.next = self.next.max(context.now.saturating_add(LISTEN_ON));
        }
    }

    fn handle_step(&mut self, context: &mut Context<'_>) {
        let step = if context.device.kind == Kind::Humidity { 2.0 } else { 0.5 };
        let (Some(value), Some(reported)) = (context.world.reading(context.device), &self.reported) else { return };
        if value.is_near(reported, step) {
            return;
        }
        if self.is_awake {
            self.report(context);
            self.next = self.next.max(context.now.saturating_add(LISTEN_ON));
        } else if self.oversleeps_until <= context.now {
            self.wake(context);
        }
    }

    fn handle_timeout(&mut self, context: &mut Context<'_>) {
        if self.next > context.now {
            return;
        }
        if self.is_awake {
            self.sleep(context);
        } else {
            self.wake(context);
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        Some(self.next)
    }

    fn oversleep(&mut self, context: &mut Context<'_>, until: Timestamp) {
        self.oversleeps_until = until;
        if self.is_awake {
            self.sleep(context);
        }
        self.next = until;
    }
}

/// How bright it is outside.
struct Sky {
    next: Timestamp,
}

impl Actor for Sky {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        context.want(Effect::status(context.device, "online"));
    }

    fn handle_timeout(&mut self, context: &mut Context<'_>) {
        self.next = context.now.saturating_add(SKY);
        if let Some(value) = context.world.reading(context.device) {
            context.want(Effect::state(&context.device.topic, value, QoS::AtMostOnce));
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        Some(self.next)
    }
}

struct Camera {
    next: Timestamp,
}

impl Actor for Camera {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        context.want(Effect::status(context.device, "online"));
        context.want(Effect::state(&context.device.topic, Value::text("recording"), QoS::AtLeastOnce));
    }

    fn handle_timeout(&mut self, context: &mut Context<'_>) {
        self.next = context.now.saturating_add(PICTURES);
        let number = context.device.room_number().unwrap_or(0);
        let figures: Vec<u32> = context.world.figures(number).collect();
        let time = Duration::try_from_secs_f64(context.world.hour() * 3_600.0).unwrap_or_default().as_secs();
        // From dark to bright in 64 steps.
        let steps = Duration::try_from_secs_f64(context.world.daylight() * 63.0).unwrap_or_default().as_secs();
        let scene = Scene { light: u8::try_from(steps).unwrap_or(63), time, figures: &figures, number };
        let topic = format!("{}/snapshot", context.device.topic);
        context.want(Effect::Publish {
            topic,
            body: Body::Bytes(snapshot(&scene)),
            qos: QoS::AtMostOnce,
            retain: true,
        });
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        Some(self.next)
    }
}

struct Meter {
    next: Timestamp,
    total_at: Timestamp,
}

impl Actor for Meter {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        context.want(Effect::status(context.device, "online"));
    }

    fn handle_timeout(&mut self, context: &mut Context<'_>) {
        // Ten a second, also where a turn comes late; not all that were missed at once.
        self.next = self.next.saturating_add(POWER).max(context.now);
        let power = Value::rounded(context.world.power());
        context.want(Effect::command(&context.device.topic, power, QoS::AtMostOnce));
        if self.total_at <= context.now {
            self.total_at = context.now.saturating_add(TOTAL);
            let energy = (context.world.energy() * 1_000.0).round() / 1_000.0;
            context.want(Effect::state("home/energy/total", Value::Number(energy), QoS::AtLeastOnce));
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        Some(self.next)
    }
}

struct Phone {
    is_home: Option<bool>,
}

impl Actor for Phone {
    fn handle_connected(&mut self, context: &mut Context<'_>) {
        context.want(Effect::status(context.device, "online"));
        self.handle_step(context);
    }

    fn handle_step(&mut self, context: &mut Context<'_>) {
        let is_home = context.world.is_phone_home();
        if self.is_home.replace(is_home) != Some(is_home) {
            let word = if is_home { "home" } else { "away" };
            context.want(Effect::state(&context.device.topic, Value::text(word), QoS::AtLeastOnce));
        }
    }
}
