//! Makes packets of bytes that stand for choices: random ones in property tests, a fuzzer's in fuzz targets.

use damselfly_codec::{PacketType, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::reference::{ConnectModel, Model, PropertyModel, Value, WillModel, allowed_properties, encode};

/// A version, a packet for it, and its bytes.
pub(crate) fn frame() -> impl Strategy<Value = (Version, Model, Vec<u8>)> {
    let versions = select(&[Version::V3_1, Version::V3_1_1, Version::V5_0][..]);
    (versions, vec(any::<u8>(), 0..400)).prop_map(|(version, bytes)| {
        let model = Dice(&bytes).model(version);
        let bytes = encode(&model, version);
        (version, model, bytes)
    })
}

/// Choices still to be made. When they are used up each is the first of its kind: short, plain, off.
pub(crate) struct Dice<'a>(pub(crate) &'a [u8]);

const RESPONSE_TOPIC: u8 = 0x08;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const TOPIC_ALIAS: u8 = 0x23;

const PUBACK_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_CODES: &[u8] = &[0x00, 0x92];
const CONNACK_CODES: &[u8] = &[0x00, 0x80, 0x81, 0x87, 0x8A, 0x9D, 0x9F];
const RETURN_CODES: &[u8] = &[0x00, 0x84, 0x85, 0x86, 0x87, 0x88];
const SUBACK_CODES: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x87, 0x8F, 0x9E, 0xA1, 0xA2];
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
const DISCONNECT_CODES: &[u8] = &[0x00, 0x04, 0x80, 0x81, 0x82, 0x8B, 0x8C, 0x8E, 0x93, 0x9C, 0x9D, 0xA2];

impl Dice<'_> {
    /// Any packet that a connection of this version may carry.
    pub(crate) fn model(&mut self, version: Version) -> Model {
        let five = version == Version::V5_0;
        match self.below(16) {
            0 | 1 => self.publish(five),
            2 => self.acknowledgement(PacketType::Puback, "PUBACK", PUBACK_CODES, five),
            3 => self.acknowledgement(PacketType::Pubrec, "PUBREC", PUBACK_CODES, five),
            4 => self.acknowledgement(PacketType::Pubrel, "PUBREL", PUBREL_CODES, five),
            5 => self.acknowledgement(PacketType::Pubcomp, "PUBCOMP", PUBREL_CODES, five),
            6 => self.connect(five),
            7 => self.connack(version),
            8 => self.subscribe(five),
            9 => {
                let codes = if five { SUBACK_CODES } else { &SUBACK_CODES[..4] };
                let (id, properties) = (self.id(), self.properties("SUBACK", five));
                Model::Suback { id, properties, codes: self.several(|dice| dice.pick(codes)) }
            }
            10 => {
                let (id, properties) = (self.id(), self.properties("UNSUBSCRIBE", five));
                Model::Unsubscribe { id, properties, filters: self.several(|dice| dice.filter(five)) }
            }
            11 => {
                let (id, properties) = (self.id(), self.properties("UNSUBACK", five));
                let codes = if five { self.several(|dice| dice.pick(UNSUBACK_CODES)) } else { Vec::new() };
                Model::Unsuback { id, properties, codes }
            }
            12 => Model::Pingreq,
            13 => Model::Pingresp,
            14 if five => self.auth(),
            _ => {
                let code = if five { self.pick(DISCONNECT_CODES) } else { 0 };
                Model::Disconnect { code, properties: self.properties("DISCONNECT", five) }
            }
        }
    }

    fn connect(&mut self, five: bool) -> Model {
        let (clean_start, keep_alive, client_id) = (self.flag(), self.two_bytes(), self.text());
        let will = self.flag().then(|| WillModel {
            qos: self.below(3),
            retain: self.flag(),
            topic: self.topic_name(),
            payload: self.payload(),
            properties: self.properties("WILL", five),
        });
        let user_name = self.flag().then(|| self.text());
        // Only 5.0 knows a password without a user name. [MQTT3-3.1.2-22]
        let password = (self.flag() && (five || user_name.is_some())).then(|| self.payload());
        let properties = self.properties("CONNECT", five);
        Model::Connect(ConnectModel { clean_start, keep_alive, client_id, will, user_name, password, properties })
    }

    fn connack(&mut self, version: Version) -> Model {
        let five = version == Version::V5_0;
        let code = self.pick(if five { CONNACK_CODES } else { RETURN_CODES });
        // 3.1 has no Session Present, and it never stands beside an error. [MQTT-3.2.2-6]
        let session_present = self.flag() && code == 0 && version != Version::V3_1;
        Model::Connack { session_present, code, properties: self.properties("CONNACK", five) }
    }

    pub(crate) fn publish(&mut self, five: bool) -> Model {
        let (qos, id, dup, retain) = (self.below(3), self.id(), self.flag(), self.flag());
        let (mut topic, properties) = (self.topic_name(), self.properties("PUBLISH", five));
        let has_alias = properties.iter().any(|property| property.id == TOPIC_ALIAS);
        if has_alias && self.flag() {
            topic.clear();
        }
        Model::Publish { qos, id, dup: dup && qos > 0, retain, topic, properties, payload: self.payload() }
    }

    fn acknowledgement(&mut self, packet_type: PacketType, carrier: &str, codes: &[u8], five: bool) -> Model {
        let (id, code) = (self.id(), if five { self.pick(codes) } else { 0 });
        Model::Ack { packet_type, id, code, properties: self.properties(carrier, five) }
    }

    fn subscribe(&mut self, five: bool) -> Model {
        let (id, properties) = (self.id(), self.properties("SUBSCRIBE", five));
        let filters = self.several(|dice| {
            let (filter, qos) = (dice.filter(five), dice.below(3));
            // No Local is not for Shared Subscriptions. [MQTT-3.8.3-4]
            let no_local = dice.flag() && !filter.starts_with("$share/");
            let more = u8::from(no_local) << 2 | u8::from(dice.flag()) << 3 | dice.below(3) << 4;
            (filter, if five { qos | more } else { qos })
        });
        Model::Subscribe { id, properties, filters }
    }

    fn auth(&mut self) -> Model {
        let (code, mut properties) = (self.pick(&[0x00, 0x18, 0x19]), self.properties("AUTH", true));
        if code != 0 || !properties.is_empty() {
            put_missing_method(&mut properties);
        }
        Model::Auth { code, properties }
    }

    /// Properties that the carrier may have, each once unless it may be repeated, in any order.
    fn properties(&mut self, carrier: &str, five: bool) -> Vec<PropertyModel> {
        let mut properties: Vec<PropertyModel> = Vec::new();
        let allowed = allowed_properties(carrier);
        for _ in 0..if five { self.below(8) } else { 0 } {
            let (id, repeats) = self.pick(&allowed);
            let value = self.value_of(id);
            if repeats || !properties.iter().any(|property| property.id == id) {
                properties.push(PropertyModel { id, value });
            }
        }
        if properties.iter().any(|property| property.id == AUTHENTICATION_DATA) {
            put_missing_method(&mut properties);
        }
        properties
    }

    /// A value the property may have, of the type that table 2-4 gives it.
    fn value_of(&mut self, id: u8) -> Value {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(u8::from(self.flag())),
            0x21 | TOPIC_ALIAS => Value::TwoBytes(self.two_bytes().max(1)),
            0x13 | 0x22 => Value::TwoBytes(self.two_bytes()),
            0x27 => Value::FourBytes(self.four_bytes().max(1)),
            0x02 | 0x11 | 0x18 => Value::FourBytes(self.four_bytes()),
            // Few bits are as likely as many.
            SUBSCRIPTION_IDENTIFIER => Value::VariableInteger(((self.four_bytes() >> 4) >> self.below(28)).max(1)),
            RESPONSE_TOPIC => Value::Text(self.topic_name()),
            0x03 | 0x12 | AUTHENTICATION_METHOD | 0x1A | 0x1C | 0x1F => Value::Text(self.text()),
            0x09 | AUTHENTICATION_DATA => Value::Binary(self.payload()),
            0x26 => Value::Pair(self.text(), self.text()),
            other => panic!("no property has the identifier {other:02X}"),
        }
    }

    fn id(&mut self) -> u16 {
        self.two_bytes().max(1)
    }

    /// Mostly short, sometimes around the sizes at which a Remaining Length grows.
    fn payload(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte());
        match len {
            0..=199 => (0..len % 20).map(|_| self.byte()).collect(),
            200..=239 => vec![self.byte(); 100 + (len - 200)],
            _ => vec![self.byte(); 16_372 + (len - 240)],
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| self.character()).collect()
    }

    /// A character that a UTF-8 Encoded String may have, of each encoded length.
    fn character(&mut self) -> char {
        let code = match self.below(9) {
            6 => 0x01 + u32::from(self.two_bytes()) % 0x7FF,
            7 => 0x800 + u32::from(self.two_bytes()) % 0xD000,
            8 => 0xE000 + self.four_bytes() % 0x10_2000,
            _ => 0x20 + u32::from(self.byte()) % 0x5F,
        };
        char::from_u32(code).unwrap_or('?')
    }

    /// One level of a Topic Name or Topic Filter, possibly empty.
    fn level(&mut self) -> String {
        self.text().replace(['/', '+', '#'], "-")
    }

    /// A Topic Name of one character and more.
    fn topic_name(&mut self) -> String {
        let levels: Vec<String> = self.several(Self::level);
        let name = levels.join("/");
        if name.is_empty() { "/".to_owned() } else { name }
    }

    /// A Topic Filter, for 5.0 also one of a Shared Subscription.
    fn filter(&mut self, five: bool) -> String {
        let mut levels = self.several(|dice| if dice.below(4) == 3 { "+".to_owned() } else { dice.level() });
        if self.flag() {
            levels.push("#".to_owned());
        }
        match (levels.join("/").as_str(), self.flag() && five) {
            ("", _) => "/".to_owned(),
            ("$share", _) => "$share-".to_owned(),
            (filter, true) => format!("$share/group/{filter}"),
            (filter, false) => filter.to_owned(),
        }
    }

    /// One to four.
    fn several<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..=self.below(4)).map(|_| one(self)).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    pub(crate) fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn two_bytes(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn four_bytes(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

/// Authentication Data and AUTH need an Authentication Method. [MQTT-3.15.2.2.2]
fn put_missing_method(properties: &mut Vec<PropertyModel>) {
    if !properties.iter().any(|property| property.id == AUTHENTICATION_METHOD) {
        properties.push(PropertyModel { id: AUTHENTICATION_METHOD, value: Value::Text("m".to_owned()) });
    }
}
