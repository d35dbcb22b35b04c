//! What the house does by itself: rules, faults, and what the page is told.

use std::time::Duration;

use damselfly_client::InboundMessage;
use damselfly_codec::{Properties, QoS};
use damselfly_session::Timestamp;
use serde_json::json;

use super::actor::Body;
use super::faults::{Breakage, FaultName, NotBegun};
use super::feed;
use super::ledger::ClientIndex;
use super::state::{Command, Home};
use super::value::Value;

/// How often the page is told of messages; the rest is told every so many times.
const TICK: Duration = Duration::from_millis(200);
/// How long an answer may take to get to who pressed a button.
const ANSWER: Duration = Duration::from_millis(300);

impl Home {
    /// What rules want, and what of it the page is told.
    pub(super) fn keep_rules(&mut self, now: Timestamp) {
        let Some(client) = self.find("rules") else { return };
        let mut has_fired = false;
        while let Some(firing) = self.engine.poll_firing() {
            has_fired = true;
            let text = if firing.is_held_back {
                format!("{} fires too often and is held back", firing.rule)
            } else {
                format!("{}: {}", firing.rule, firing.cause)
            };
            self.note(now, if firing.is_held_back { "error" } else { "rule" }, Some("rules"), &text);
        }
        while let Some(order) = self.engine.poll_order() {
            self.publish(now, client, &order.topic, Body::Value(order.value), order.qos, false);
        }
        if has_fired {
            self.tell_rules(now);
        }
    }

    /// `house/break/<name>`: does it and answers.
    pub(super) fn handle_request(&mut self, now: Timestamp, client: ClientIndex, inbound: &InboundMessage) {
        let word = inbound.message.topic().as_str().strip_prefix("house/break/").unwrap_or_default().to_owned();
        let asked: Option<serde_json::Value> = serde_json::from_slice(inbound.message.payload()).ok();
        let victim = asked.as_ref().and_then(|asked| asked.get("client")).and_then(serde_json::Value::as_str);
        let answer = match FaultName::read(&word) {
            Some(name) => self.begin(now, name, victim),
            None => Err(format!("nothing is called {word:?} that could be broken")),
        };
        let (is_ok, text) = match answer {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        let payload = json!({"ok": is_ok, "text": text}).to_string();
        // Who names no Response Topic wants no answer.
        if let Ok(message) = inbound.reply(now, payload.as_bytes(), Properties::EMPTY) {
            self.commands.push_back(Command::Publish { client, number: None, message });
        }
    }

    /// Breaks something; `victim` is a Client Identifier. Says what happens, or why it does not. What is broken already
    /// stays so for as long as it would have.
    pub fn begin(&mut self, now: Timestamp, name: FaultName, victim: Option<&str>) -> Result<String, String> {
        let (client, until) = match self.faults.begin(now, name, &self.devices, victim) {
            Ok(begun) => begun,
            Err(NotBegun::Already(left)) => {
                return Ok(format!("It is so already, for {} s more.", left.as_secs() + 1));
            }
            Err(NotBegun::Unfit) => {
                return Err(format!("{:?} cannot happen to {:?}.", name.title(), victim.unwrap_or_default()));
            }
        };
        let id = self.id(client);
        self.note(now, "fault", Some(&id), &format!("{} begins", name.title()));
        self.trace(now, client, name.word());
        let breakage = match name {
            FaultName::Plug => {
                self.kill(client, true);
                Breakage::Unplug(client)
            }
            FaultName::Lift => Breakage::Hold(client),
            FaultName::Slow => {
                self.ledger.slow(now, client, true);
                Breakage::StopReading(client)
            }
            FaultName::Wifi => Breakage::Cut(true),
            FaultName::Sleeper => {
                self.ask(now, client, |actor, context| actor.oversleep(context, until));
                let at = now.saturating_add(until.saturating_since(now) / 4);
                self.sleeper_command = Some((client, at));
                self.tell_faults(now);
                return Ok(name.text().to_owned());
            }
            FaultName::Twins => Breakage::AddTwin(client),
            FaultName::Password => Breakage::Intrude(client),
            FaultName::Network => {
                self.outage = Some((now.saturating_add(ANSWER), until.saturating_since(now).saturating_sub(ANSWER)));
                self.tell_faults(now);
                return Ok(name.text().to_owned());
            }
        };
        self.commands.push_back(Command::Break(breakage));
        self.tell_faults(now);
        Ok(name.text().to_owned())
    }

    fn end(&mut self, now: Timestamp, name: FaultName, client: ClientIndex) {
        let id = self.id(client);
        self.note(now, "fault", Some(&id), &format!("{} is over", name.title()));
        let breakage = match name {
            FaultName::Plug => {
                self.kill(client, false);
                Some(Breakage::PlugIn(client))
            }
            FaultName::Lift => Some(Breakage::LetGo(client)),
            FaultName::Slow => {
                self.ledger.slow(now, client, false);
                Some(Breakage::ReadOn(client))
            }
            FaultName::Wifi => Some(Breakage::Cut(false)),
            FaultName::Twins => Some(Breakage::RemoveTwin(client)),
            FaultName::Sleeper | FaultName::Password | FaultName::Network => None,
        };
        self.commands.extend(breakage.map(Command::Break));
        self.tell_faults(now);
    }

    fn kill(&mut self, client: ClientIndex, is_dead: bool) {
        if let Some(member) = self.members.get_mut(client) {
            member.is_dead = is_dead;
        }
    }

    pub(super) fn handle_faults(&mut self, now: Timestamp) {
        while let Some((name, client)) = self.faults.pop_ended(now) {
            self.end(now, name, client);
        }
        if let Some((_, duration)) = self.outage.take_if(|(at, _)| *at <= now) {
            self.commands.push_back(Command::Break(Breakage::Restart(duration)));
        }
        if let Some((client, _)) = self.sleeper_command.take_if(|(_, at)| *at <= now) {
            let topic = self.devices.get(client).map(|device| format!("{}/set", device.topic));
            if let (Some(topic), Some(feed)) = (topic, self.find("house")) {
                self.publish(now, feed, &topic, Body::Value(Value::Number(30.0)), QoS::AtLeastOnce, false);
            }
        }
        if self.next_fault.is_some_and(|at| at <= now) {
            let within = self.settings.faults_within.unwrap_or_default();
            let longest = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
            let wait = self.chance.millis(longest / 3, longest);
            self.next_fault = Some(now.saturating_add(wait));
            if self.deck.is_empty() {
                self.deck = FaultName::ALL.to_vec();
            }
            let place = self.chance.index(self.deck.len());
            let name = self.deck.swap_remove(place);
            // It may be there already, which is as well.
            let _ = self.begin(now, name, None);
        }
    }

    /// From now on nothing breaks without a button.
    pub fn calm_down(&mut self) {
        self.next_fault = None;
    }

    /// Whether nothing is broken.
    pub fn is_quiet(&self) -> bool {
        self.faults.is_quiet()
    }

    /// How often each fault began.
    pub fn fault_counts(&self) -> impl Iterator<Item = (FaultName, u64)> + '_ {
        self.faults.counts()
    }

    /// Once a second: somebody writes to the phone while it is in the lift.
    pub(super) fn remind(&mut self, now: Timestamp) {
        let (Some((_, until)), Some(feed)) = (self.faults.active(FaultName::Lift), self.find("house")) else { return };
        let left = until.saturating_since(now).as_secs();
        let text = Value::Text(format!("Are you still in the lift? {left} s to go"));
        self.publish(now, feed, "home/phone/notify", Body::Value(text), QoS::ExactlyOnce, false);
    }

    /// Five times a second.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.next_tick = now.saturating_add(TICK);
        self.ticks = self.ticks.wrapping_add(1);
        if self.find("house").is_some_and(|feed| self.is_connected(feed)) {
            while let Some(event) = self.feed.take_event() {
                self.tell("house/events", event, false);
            }
        }
        if let Some(traffic) = self.feed.take_traffic(now) {
            self.tell("house/traffic", traffic, false);
        }
        if matches!(self.ticks % 5, 0 | 2) {
            self.tell("house/ledger", self.ledger.totals().to_json().to_string(), true);
        }
        if self.ticks % 5 == 0 && !self.faults.is_quiet() {
            self.tell_faults(now);
        }
    }

    /// What a page needs that comes now.
    pub(super) fn tell_all(&mut self, now: Timestamp) {
        self.tell("house/clients", feed::clients(&self.devices), true);
        self.tell_rules(now);
        self.tell_faults(now);
    }

    pub(super) fn tell_rules(&mut self, _now: Timestamp) {
        let text = feed::rules(&self.engine, self.started, self.rules_file.as_deref(), self.rules_error.as_deref());
        self.tell("house/rules", text, true);
    }

    fn tell_faults(&mut self, now: Timestamp) {
        self.tell("house/faults", feed::faults(&self.faults, now), true);
    }

    fn tell(&mut self, topic: &str, text: String, retain: bool) {
        let (Some(feed), now) = (self.find("house"), self.next_tick) else { return };
        self.publish(now, feed, topic, Body::Bytes(text.into_bytes()), QoS::AtMostOnce, retain);
    }
}
