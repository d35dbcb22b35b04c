//! CONNECT. [MQTT-3.1]

use core::fmt;

use alloc::vec::Vec;

use damselfly_topic::{TopicError, TopicName};
use nom::Parser;
use nom::combinator::{cond, map};

use crate::encode::properties_len;
use crate::properties::{allowed, listed_properties, name_rule, properties};
use crate::wire::{
    Parsed, binary, broken, byte, error_at, field_len, frame_len, put_field, put_fixed_header, text, text_len,
    two_bytes, whole,
};
use crate::{DecodeError, EncodeError, FixedHeader, Foreign, PacketType, Properties, QoS, Rule, Version};

/// Opens a Network Connection's session. [MQTT-3.1]
///
/// It is the one packet that says its version itself, so it decodes and encodes without being told.
///
/// ```
/// use damselfly_codec::{Connect, Foreign, Packet, Version};
///
/// let connect = Connect { keep_alive: 60, ..Connect::new(Version::V3_1_1, "heron") };
/// let mut frame = Vec::new();
/// connect.encode(Foreign::Reject, &mut frame)?;
///
/// let Ok(Packet::Connect(view)) = Packet::decode(Version::V5_0, &frame) else { panic!("a CONNECT") };
/// assert_eq!(view.fields(), connect);
/// # Ok::<(), damselfly_codec::EncodeError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Protocol Name and Protocol Version. [MQTT-3.1.2-1] [MQTT-3.1.2-2]
    pub version: Version,
    /// Clean Session before 5.0. [MQTT-3.1.2.4]
    pub clean_start: bool,
    /// Seconds; 0 turns it off. [MQTT-3.1.2.10]
    pub keep_alive: u16,
    /// The Client Identifier, possibly empty. [MQTT-3.1.3.1]
    pub client_id: &'a str,
    /// The Will Message with what belongs to it. [MQTT-3.1.2.5]
    pub will: Option<Will<'a>>,
    /// The User Name. [MQTT-3.1.3.5]
    pub user_name: Option<&'a str>,
    /// The Password; before 5.0 only beside a User Name. [MQTT-3.1.3.6]
    pub password: Option<&'a [u8]>,
    /// Empty before 5.0.
    pub properties: Properties<'a>,
}

/// The message a broker publishes when the connection ends otherwise than by DISCONNECT. [MQTT-3.1.2.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: TopicName<'a>,
    pub payload: &'a [u8],
    pub properties: Properties<'a>,
}

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

impl<'a> Connect<'a> {
    /// A clean start without will, credentials, properties and keep alive.
    pub const fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::EMPTY,
        }
    }

    /// Decodes the body of the CONNECT whose fixed header `peek` has answered.
    ///
    /// [`Rule::ProtocolVersionUnsupported`] is a CONNECT of another version, to which a broker may answer so.
    pub fn decode(header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        match protocol(body) {
            Ok((rest, version)) => {
                header.check_for(version)?;
                whole(version, header, body, |_| connect(rest, version))
            }
            // The version is not known: the error has the numbers of 5.0.
            Err(error) => Err(error_at(&error, Version::V5_0, header, body)),
        }
    }

    /// Bytes of the whole packet, or why it cannot be encoded.
    pub fn encoded_len(&self, policy: Foreign) -> Result<usize, EncodeError> {
        frame_len(self.body_len(policy)?)
    }

    /// Appends the packet to `out`; on an error nothing is written.
    pub fn encode(&self, policy: Foreign, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_fixed_header(out, 0x10, self.body_len(policy)?)?;
        put_field(out, self.version.protocol_name().as_bytes());
        out.push(self.version.protocol_version());
        out.push(self.flags());
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        let put_properties = |properties: Properties<'_>, out: &mut Vec<u8>| {
            if self.version.has_properties() {
                properties.put(out);
            }
        };
        put_properties(self.properties, out);
        put_field(out, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            put_properties(will.properties, out);
            put_field(out, will.topic.as_bytes());
            put_field(out, will.payload);
        }
        if let Some(user_name) = self.user_name {
            put_field(out, user_name.as_bytes());
        }
        if let Some(password) = self.password {
            put_field(out, password);
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let will = self.will.map_or(0, |will| WILL | will.qos.level() << 3 | if will.retain { WILL_RETAIN } else { 0 });
        will | if self.clean_start { CLEAN_START } else { 0 }
            | if self.user_name.is_some() { USER_NAME } else { 0 }
            | if self.password.is_some() { PASSWORD } else { 0 }
    }

    fn body_len(&self, policy: Foreign) -> Result<usize, EncodeError> {
        let version = self.version;
        if !version.has_properties() && self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::PasswordWithoutUserName);
        }
        if self.properties.set().has_authentication_data_alone() {
            return Err(EncodeError::AuthenticationMethodMissing);
        }
        let properties_len =
            |properties, allowed| properties_len(properties, version, policy, PacketType::Connect, allowed);
        let mut body = 2 + version.protocol_name().len() + 4;
        body += properties_len(self.properties, allowed::CONNECT)?;
        body += text_len(self.client_id)?;
        if let Some(will) = &self.will {
            body += properties_len(will.properties, allowed::WILL)?;
            body += field_len(will.topic.as_bytes())? + field_len(will.payload)?;
        }
        body += self.user_name.map_or(Ok(0), text_len)?;
        body += self.password.map_or(Ok(0), field_len)?;
        Ok(body)
    }
}

/// Protocol Name and Protocol Version. [MQTT-3.1.2-1] [MQTT-3.1.2-2]
fn protocol(body: &[u8]) -> Parsed<'_, Version> {
    let (rest, name) = binary(body)?;
    let (behind, level) = byte(rest)?;
    match (name, level) {
        (b"MQTT", 5) => Ok((behind, Version::V5_0)),
        (b"MQTT", 4) => Ok((behind, Version::V3_1_1)),
        (b"MQIsdp", 3) => Ok((behind, Version::V3_1)),
        (b"MQTT" | b"MQIsdp", _) => broken(Rule::ProtocolVersionUnsupported, rest),
        _ => broken(Rule::ProtocolNameUnknown, body),
    }
}

/// Everything behind Protocol Name and Protocol Version. [MQTT-3.1.2] [MQTT-3.1.3-1]
fn connect(input: &[u8], version: Version) -> Parsed<'_, Connect<'_>> {
    let (rest, flags) = connect_flags(input, version)?;
    let (rest, keep_alive) = two_bytes(rest)?;
    let (behind, properties) = connect_properties(rest, version)?;
    let is_set = |flag: u8| flags & flag != 0;
    let (rest, (client_id, will, user_name, password)) = (
        present(text, Rule::ClientIdMissing),
        cond(is_set(WILL), present(|input| will(input, version, flags), Rule::WillMissing)),
        cond(is_set(USER_NAME), present(text, Rule::UserNameMissing)),
        cond(is_set(PASSWORD), present(binary, Rule::PasswordMissing)),
    )
        .parse(behind)?;
    match rest {
        [] => {}
        rest if !is_set(USER_NAME) => return broken(Rule::UserNameNotFlagged, rest),
        rest if !is_set(PASSWORD) => return broken(Rule::PasswordNotFlagged, rest),
        rest => return broken(Rule::TrailingBytes, rest),
    }
    let clean_start = is_set(CLEAN_START);
    Ok((rest, Connect { version, clean_start, keep_alive, client_id, will, user_name, password, properties }))
}

/// A field that a flag promises: where nothing at all is left, that flag is what is wrong.
fn present<'a, T>(parser: impl Fn(&'a [u8]) -> Parsed<'a, T>, missing: Rule) -> impl Fn(&'a [u8]) -> Parsed<'a, T> {
    move |input| if input.is_empty() { broken(missing, input) } else { parser(input) }
}

/// The Connect Flags. [MQTT-3.1.2.3]
fn connect_flags(input: &[u8], version: Version) -> Parsed<'_, u8> {
    let (rest, flags) = byte(input)?;
    let will_qos = flags >> 3 & 0x03;
    let rule = if flags & RESERVED != 0 {
        Rule::ConnectFlagReserved
    } else if will_qos == 3 {
        Rule::WillQoSInvalid
    } else if flags & WILL == 0 && will_qos != 0 {
        Rule::WillQoSWithoutWill
    } else if flags & (WILL | WILL_RETAIN) == WILL_RETAIN {
        Rule::WillRetainWithoutWill
    } else if !version.has_properties() && flags & (USER_NAME | PASSWORD) == PASSWORD {
        Rule::PasswordWithoutUserName
    } else {
        return Ok((rest, flags));
    };
    broken(rule, input)
}

/// The properties of the packet itself. [MQTT-3.1.2.11]
fn connect_properties(input: &[u8], version: Version) -> Parsed<'_, Properties<'_>> {
    if !version.has_properties() {
        return Ok((input, Properties::EMPTY));
    }
    let (rest, (properties, seen)) = listed_properties(input, allowed::CONNECT, allowed::REPEATED)?;
    if seen.has_authentication_data_alone() {
        return broken(Rule::AuthenticationDataAlone, input);
    }
    Ok((rest, properties))
}

fn will_properties(input: &[u8], version: Version) -> Parsed<'_, Properties<'_>> {
    if version.has_properties() {
        properties(input, allowed::WILL, allowed::REPEATED)
    } else {
        Ok((input, Properties::EMPTY))
    }
}

/// Will Properties, Will Topic, Will Payload. [MQTT-3.1.3.2] to [MQTT-3.1.3.4]
fn will(input: &[u8], version: Version, flags: u8) -> Parsed<'_, Will<'_>> {
    let qos = match flags >> 3 & 0x03 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let retain = flags & WILL_RETAIN != 0;
    map(
        (
            |input| will_properties(input, version),
            present(will_topic, Rule::WillMissing),
            present(binary, Rule::WillMissing),
        ),
        |(properties, topic, payload)| Will { qos, retain, topic, payload, properties },
    )
    .parse(input)
}

/// The Will Topic is a Topic Name. [MQTT-3.1.3-11] [MQTT-4.7.0-1]
fn will_topic(input: &[u8]) -> Parsed<'_, TopicName<'_>> {
    let (rest, bytes) = binary(input)?;
    match TopicName::from_bytes(bytes) {
        Ok(topic) => Ok((rest, topic)),
        Err(TopicError::WildcardInName) => broken(Rule::WillTopicWildcard, input),
        Err(error) => broken(name_rule(error), input),
    }
}

/// A CONNECT within a [`Packet`](crate::Packet): small, checked, its fields a call away.
///
/// The fields of a CONNECT take twice the room of any other packet; each packet value would pay for it. Who expects a
/// CONNECT, as a broker does of the first packet, calls [`Connect::decode`] and has the fields at once.
#[derive(Clone, Copy)]
pub struct ConnectView<'a>(Fields<'a>);

#[derive(Clone, Copy)]
enum Fields<'a> {
    Wire { header: FixedHeader, body: &'a [u8] },
    Built(&'a Connect<'a>),
}

impl<'a> ConnectView<'a> {
    /// Checks the body of a CONNECT.
    pub fn decode(header: FixedHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        Connect::decode(header, body)?;
        Ok(Self(Fields::Wire { header, body }))
    }

    /// The version alone.
    pub fn version(&self) -> Version {
        match self.0 {
            Fields::Wire { body, .. } => protocol(body).map_or(Version::V5_0, |(_, version)| version),
            Fields::Built(connect) => connect.version,
        }
    }

    /// All fields, decoded again where the view is of a frame.
    pub fn fields(&self) -> Connect<'a> {
        match self.0 {
            // The body was checked when this view was made, so the empty packet is never answered.
            Fields::Wire { header, body } => {
                Connect::decode(header, body).unwrap_or(const { Connect::new(Version::V5_0, "") })
            }
            Fields::Built(connect) => *connect,
        }
    }
}

impl<'a> From<&'a Connect<'a>> for ConnectView<'a> {
    fn from(connect: &'a Connect<'a>) -> Self {
        Self(Fields::Built(connect))
    }
}

impl PartialEq for ConnectView<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.fields() == other.fields()
    }
}

impl Eq for ConnectView<'_> {}

/// All but the password, of which it says only that there is one.
impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("user_name", &self.user_name)
            .field("password", &self.password.map(|_| format_args!("hidden")))
            .field("properties", &self.properties)
            .finish()
    }
}

impl fmt::Debug for ConnectView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}
