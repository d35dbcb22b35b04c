//! The exchanges that are worth a picture.

use std::time::Duration;

use damselfly_client::{CleanStart, Config, ConnectParameters, Will};
use damselfly_codec::QoS;
use damselfly_session::SessionExpiry;
use damselfly_topic::TopicNameBuf;

use super::DiagramError;
use super::sequence::Sequence;
use super::stage::Stage;

/// Something that broker and clients say to each other, played by the real cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// A message at QoS 1. [MQTT-4.3.2]
    QoS1,
    /// A message at QoS 2. [MQTT-4.3.3]
    QoS2,
    /// A second connection with the same Client Identifier. [MQTT-3.1.4-3]
    Takeover,
    /// A client that is gone, and its will. [MQTT-3.1.2-8]
    Will,
}

impl Exchange {
    /// All of them with the names they are called by.
    pub const ALL: [(&'static str, Self); 4] =
        [("qos1", Self::QoS1), ("qos2", Self::QoS2), ("takeover", Self::Takeover), ("will", Self::Will)];

    /// Plays it.
    pub fn play(self) -> Result<Sequence, DiagramError> {
        match self {
            Self::QoS1 => message(QoS::AtLeastOnce),
            Self::QoS2 => message(QoS::ExactlyOnce),
            Self::Takeover => takeover(),
            Self::Will => will(),
        }
    }
}

fn message(qos: QoS) -> Result<Sequence, DiagramError> {
    let mut stage = Stage::new()?;
    let sensor = stage.add("sensor", Config::new("sensor"), ConnectParameters::default());
    let phone = stage.add("phone", Config::new("phone"), ConnectParameters::default());
    stage.subscribe(phone, "home/+/smoke", qos)?;
    stage.begin();
    stage.publish(sensor, "home/attic/smoke", b"true", qos)?;
    Ok(stage.finish())
}

/// The session goes on where it was: what waited comes on the second connection.
fn takeover() -> Result<Sequence, DiagramError> {
    let mut config = Config::new("phone");
    config.session_expiry = SessionExpiry::Never;
    config.clean_start = CleanStart::Never;
    config.adopt_session = true;
    let mut stage = Stage::new()?;
    let hall = stage.add("hall sensor", Config::new("hall"), ConnectParameters::default());
    let lift = stage.add("phone, in the lift", config.clone(), ConnectParameters::default());
    stage.subscribe(lift, "home/#", QoS::AtLeastOnce)?;
    stage.begin();
    stage.vanish(lift);
    stage.note(lift, "is gone, and nobody knows");
    stage.publish(hall, "home/hall/door", b"open", QoS::AtLeastOnce)?;
    stage.add("phone, in the street", config, ConnectParameters::default());
    stage.run()?;
    Ok(stage.finish())
}

fn will() -> Result<Sequence, DiagramError> {
    let mut parameters = ConnectParameters::default();
    let topic = TopicNameBuf::new("home/office/plug/status")?;
    parameters.will = Some(Will::new(topic, &b"offline"[..]));
    let mut config = Config::new("plug");
    config.keep_alive = 4;
    let mut stage = Stage::new()?;
    let plug = stage.add("plug", config, parameters);
    let phone = stage.add("phone", Config::new("phone"), ConnectParameters::default());
    stage.subscribe(phone, "home/+/plug/status", QoS::AtMostOnce)?;
    stage.begin();
    stage.wait(Duration::from_secs(5))?;
    stage.vanish(plug);
    stage.note(plug, "is pulled");
    stage.wait(Duration::from_secs(7))?;
    Ok(stage.finish())
}
