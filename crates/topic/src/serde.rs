//! Texts as strings; what is read is checked again.

use alloc::string::String;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::{
    ShareName, ShareNameBuf, SharedFilter, SharedFilterBuf, TopicFilter, TopicFilterBuf, TopicName, TopicNameBuf,
};

macro_rules! as_text {
    ($borrowed:ident, $owned:ident) => {
        impl Serialize for $borrowed<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        /// Borrows from the input, so it fails for a format or a text that has to be decoded; the owned form does not.
        impl<'de> Deserialize<'de> for $borrowed<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(<&str>::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        as_text!($owned);
    };
    ($owned:ident) => {
        impl Serialize for $owned {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $owned {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

as_text!(TopicName, TopicNameBuf);
as_text!(TopicFilter, TopicFilterBuf);
as_text!(ShareName, ShareNameBuf);
as_text!(SharedFilterBuf);

impl Serialize for SharedFilter<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SharedFilter<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(<&str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
