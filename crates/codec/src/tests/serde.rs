//! What is stored is read as hostile input.

use ::serde::de::value::Error as ValueError;
use ::serde::de::{Deserialize as _, Deserializer, Visitor};
use bytes::Bytes;
use serde_json::{from_str, to_string};

use super::*;

#[test]
fn values_travel_as_their_numbers_and_are_checked() {
    assert_eq!(to_string(&QoS::AtLeastOnce).unwrap(), "1");
    assert_eq!(to_string(&Version::V3_1_1).unwrap(), "4");
    assert_eq!(to_string(&ReasonCode::NotAuthorized).unwrap(), "135");
    assert_eq!(from_str::<PacketId>("65535").unwrap().get(), 65_535);
    for hostile in [from_str::<PacketId>("0").is_ok(), from_str::<PacketId>("65536").is_ok()] {
        assert!(!hostile);
    }
    assert!(from_str::<QoS>("3").is_err());
    assert!(from_str::<Version>("6").is_err());
    assert!(from_str::<ReasonCode>("3").is_err());
    assert!(from_str::<SubscriptionId>("268435456").is_err());
    assert!(from_str::<TopicAlias>("0").is_err());
}

#[test]
fn options_and_deliveries_survive() {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::SendIfNew,
    };
    let delivery = Delivery::AtLeastOnce { id: PacketId::new(7).unwrap(), dup: true };

    assert_eq!(from_str::<SubscriptionOptions>(&to_string(&options).unwrap()).unwrap(), options);
    assert_eq!(from_str::<Delivery>(&to_string(&delivery).unwrap()).unwrap(), delivery);
    assert_eq!(from_str::<FrameLimits>("{}").unwrap(), FrameLimits::default());
}

#[test]
fn frames_and_properties_survive_and_their_bytes_are_checked() {
    let frame = Frame::new(Bytes::from_static(&[0x40, 0x02, 0x00, 0x07]), &FrameLimits::default()).unwrap();
    let mut properties = PropertiesBuf::new();
    properties.push(Property::UserProperty("a", "b")).unwrap();
    properties.push(Property::MessageExpiryInterval(60)).unwrap();

    assert_eq!(from_str::<Frame>(&to_string(&frame).unwrap()).unwrap(), frame);
    assert_eq!(from_str::<PropertiesBuf>(&to_string(&properties).unwrap()).unwrap(), properties);
    for hostile in ["[]", "[64,2,0]", "[64,2,0,7,0]", "[65,2,0,7]", "[256]", "\"text\""] {
        assert!(from_str::<Frame>(hostile).is_err(), "{hostile}");
    }
    for hostile in ["[2,0,0,0]", "[0]", "[255]", "[35,0,0]", "[2,0,0,0,1,2,0,0,0,1]", "[3,0,1,255]"] {
        assert!(from_str::<PropertiesBuf>(hostile).is_err(), "{hostile}");
    }
}

#[test]
fn bytes_may_come_as_bytes_and_what_is_none_is_named() {
    let frame = Frame::new(Bytes::from_static(&[0x40, 0x02, 0x00, 0x07]), &FrameLimits::default()).unwrap();
    assert_eq!(from_str::<Frame>(r#""@\u0002\u0000\u0007""#).unwrap(), frame);
    assert_eq!(Frame::deserialize(OwnedBytes(frame.to_vec())).unwrap(), frame);
    let error = from_str::<Frame>("true").unwrap_err();
    assert!(format!("{error}").contains("expected bytes"), "{error}");
}

/// A format that hands its buffer over.
struct OwnedBytes(Vec<u8>);

impl<'de> Deserializer<'de> for OwnedBytes {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_byte_buf(self.0)
    }

    ::serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
