//! What a case calls its own: identifiers and topics that no other case uses.

use std::collections::BTreeMap;

use damselfly_codec::{PROTOCOL_MAXIMUM_PACKET_SIZE, Properties, QoS, Version};

/// What a broker says of itself in CONNACK. [MQTT-3.2.2.3]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of CONNACK of its own")]
pub struct Features {
    /// The highest QoS it takes.
    pub maximum_qos: QoS,
    /// Whether it retains messages.
    pub retain: bool,
    /// Whether it has wildcard subscriptions.
    pub wildcards: bool,
    /// Whether it has shared subscriptions.
    pub shared: bool,
    /// Whether it has Subscription Identifiers.
    pub subscription_ids: bool,
    /// The greatest Topic Alias it takes; 0 is none.
    pub topic_alias_maximum: u16,
    /// How many QoS 1 and 2 messages it takes at once.
    pub receive_maximum: u16,
    /// The largest packet it takes, in bytes.
    pub maximum_packet_size: u32,
    /// Whether it keeps sessions for as long as it is asked to, here 3,600 seconds.
    pub session_expiry: bool,
    /// The Keep Alive it asks for instead of the client's, here 60 seconds.
    pub server_keep_alive: Option<u16>,
}

impl Default for Features {
    /// What absent properties mean.
    fn default() -> Self {
        Self {
            maximum_qos: QoS::ExactlyOnce,
            retain: true,
            wildcards: true,
            shared: true,
            subscription_ids: true,
            topic_alias_maximum: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE,
            session_expiry: true,
            server_keep_alive: None,
        }
    }
}

impl Features {
    /// From the properties of a CONNACK.
    pub(super) fn announced(properties: Properties<'_>) -> Self {
        let absent = Self::default();
        let is_available = |flag: Option<bool>| flag.unwrap_or(true);
        Self {
            maximum_qos: properties.maximum_qos().unwrap_or(absent.maximum_qos),
            retain: is_available(properties.retain_available()),
            wildcards: is_available(properties.wildcard_subscription_available()),
            shared: is_available(properties.shared_subscription_available()),
            subscription_ids: is_available(properties.subscription_identifier_available()),
            topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(absent.topic_alias_maximum),
            receive_maximum: properties.receive_maximum().map_or(absent.receive_maximum, core::num::NonZero::get),
            maximum_packet_size: properties
                .maximum_packet_size()
                .map_or(absent.maximum_packet_size, core::num::NonZero::get),
            session_expiry: properties.session_expiry_interval().is_none_or(|seconds| seconds >= 3_600),
            server_keep_alive: properties.server_keep_alive(),
        }
    }
}

/// The version a connection speaks: one whose name ends in 3 or 5 speaks that, the others the version of the run.
pub(super) fn version_of(connection: &str, version: Version) -> Version {
    match connection.chars().next_back() {
        Some('3') => Version::V3_1_1,
        Some('5') => Version::V5_0,
        _ => version,
    }
}

/// Names and values that a line of a script stands for while a case runs.
#[derive(Clone, Debug)]
pub(super) struct Names<'a> {
    pub(super) version: Version,
    /// `~`: in front of every topic of the case.
    pub(super) prefix: &'a str,
    /// In front of every Client Identifier of the case.
    pub(super) client_prefix: &'a str,
    /// The connection whose line it is.
    pub(super) connection: &'a str,
    pub(super) features: Features,
    /// For a CONNECT without user name of its own.
    pub(super) user_name: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// `@method`: the Authentication Method that clients of the run know.
    pub(super) method: &'a str,
    /// Packet Identifiers the broker chose, by the names the case gave them.
    pub(super) packet_ids: &'a BTreeMap<String, u16>,
    /// `#*` and in which round of a repeated line.
    pub(super) round: u16,
}

impl Names<'_> {
    /// The Client Identifier of a connection's client.
    pub(super) fn client_id(&self, connection: &str) -> String {
        format!("{}{connection}", self.client_prefix)
    }

    /// The same with 23 characters, which every broker takes. [MQTT-3.1.3-5]
    pub(super) fn client_id_of_23(&self) -> String {
        format!("{:x<23}", self.client_id(self.connection))
    }

    /// A topic as it goes over the wire; `-` is none.
    pub(super) fn topic(&self, text: &str) -> String {
        if text == "-" { String::new() } else { text.replace('~', self.prefix) }
    }

    /// `#7`, `#*` or `#name`.
    pub(super) fn packet_id(&self, word: &str) -> Result<u16, String> {
        let name = word.strip_prefix('#').ok_or_else(|| format!("{word} is no Packet Identifier"))?;
        if name == "*" {
            return Ok(self.round);
        }
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        self.packet_ids.get(name).copied().ok_or_else(|| format!("nothing is called #{name}"))
    }

    /// A number, or `limit+1` of a limit the broker announced.
    pub(super) fn number(&self, text: &str) -> Result<u64, String> {
        match text {
            "topic_alias_maximum+1" => Ok(u64::from(self.features.topic_alias_maximum) + 1),
            "receive_maximum+1" => Ok(u64::from(self.features.receive_maximum) + 1),
            _ => text.parse().map_err(|_| format!("{text} is no number")),
        }
    }
}

#[cfg(test)]
pub(super) fn test_names(version: Version) -> Names<'static> {
    static NO_IDS: BTreeMap<String, u16> = BTreeMap::new();
    Names {
        version,
        prefix: "p",
        client_prefix: "c",
        connection: "a",
        features: Features::default(),
        user_name: None,
        password: None,
        method: "m",
        packet_ids: &NO_IDS,
        round: 1,
    }
}
