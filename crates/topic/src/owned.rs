//! The checked texts in a form that owns its memory.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;
use core::ops::Deref;
use core::str::FromStr;

use crate::{ShareName, SharedFilter, TopicError, TopicFilter, TopicName};

macro_rules! owned_text {
    ($(#[$doc:meta])* $owned:ident, $borrowed:ident, $view:ident, $view_doc:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $owned(Box<str>);

        impl $owned {
            /// Checks a text and keeps it.
            ///
            /// # Errors
            ///
            /// As the borrowed form's.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, TopicError> {
                let text = text.into();
                $borrowed::new(&text)?;
                Ok(Self(text))
            }

            #[doc = $view_doc]
            #[inline]
            pub const fn $view(&self) -> $borrowed<'_> {
                $borrowed::from_checked_bytes(self.0.as_bytes())
            }

            /// The text.
            #[inline]
            pub const fn as_str(&self) -> &str {
                &self.0
            }

            /// Gives the text back.
            pub fn into_boxed_str(self) -> Box<str> {
                self.0
            }
        }

        impl From<$borrowed<'_>> for $owned {
            fn from(text: $borrowed<'_>) -> Self {
                Self(text.as_str().into())
            }
        }

        owned_text!(@text $owned);
    };
    (@text $owned:ident) => {
        impl Deref for $owned {
            type Target = str;

            fn deref(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $owned {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl Borrow<str> for $owned {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Debug for $owned {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($owned)).field(&self.as_str()).finish()
            }
        }

        impl fmt::Display for $owned {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $owned {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $owned {
            type Error = TopicError;

            fn try_from(text: &str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $owned {
            type Error = TopicError;

            fn try_from(text: String) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }

        impl From<$owned> for String {
            fn from(text: $owned) -> Self {
                text.into_boxed_str().into()
            }
        }
    };
}

owned_text! {
    /// A [`TopicName`] that owns its text.
    ///
    /// ```
    /// use damselfly_topic::TopicNameBuf;
    ///
    /// let name: TopicNameBuf = "home/kitchen/lamp".parse()?;
    /// assert_eq!(name.as_name().level_count(), 3);
    /// # Ok::<(), damselfly_topic::TopicError>(())
    /// ```
    TopicNameBuf, TopicName, as_name, "The name, to match and to publish with."
}

owned_text! {
    /// A [`TopicFilter`] that owns its text.
    TopicFilterBuf, TopicFilter, as_filter, "The filter, to match and to subscribe with."
}

owned_text! {
    /// A [`ShareName`] that owns its text.
    ShareNameBuf, ShareName, as_share_name, "The share name."
}

/// A [`SharedFilter`] that owns its text, that is `$share/{ShareName}/{filter}` as one piece.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFilterBuf(Box<str>);

impl SharedFilterBuf {
    /// Checks a text and keeps it.
    ///
    /// # Errors
    ///
    /// As [`SharedFilter::new`].
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, TopicError> {
        let text = text.into();
        SharedFilter::new(&text)?;
        Ok(Self(text))
    }

    /// The whole as a filter to subscribe with.
    pub const fn as_filter(&self) -> TopicFilter<'_> {
        TopicFilter::from_checked_bytes(self.0.as_bytes())
    }

    /// The group.
    pub fn share_name(&self) -> ShareName<'_> {
        self.as_shared().share_name()
    }

    /// What messages are matched with.
    pub fn filter(&self) -> TopicFilter<'_> {
        self.as_shared().filter()
    }

    /// Both parts.
    pub fn as_shared(&self) -> SharedFilter<'_> {
        let whole = self.as_filter();
        // The text was checked, so it has both parts.
        whole.shared().unwrap_or(SharedFilter::from_parts(ShareName::from_checked_bytes(&[]), whole))
    }

    /// The text.
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Gives the text back.
    pub fn into_boxed_str(self) -> Box<str> {
        self.0
    }
}

owned_text!(@text SharedFilterBuf);

impl TryFrom<SharedFilter<'_>> for SharedFilterBuf {
    type Error = TopicError;

    fn try_from(shared: SharedFilter<'_>) -> Result<Self, TopicError> {
        Self::new(format!("{shared}"))
    }
}

impl From<SharedFilterBuf> for TopicFilterBuf {
    fn from(shared: SharedFilterBuf) -> Self {
        Self(shared.0)
    }
}

/// As a filter a name matches itself only.
impl TryFrom<TopicNameBuf> for TopicFilterBuf {
    type Error = TopicError;

    fn try_from(name: TopicNameBuf) -> Result<Self, TopicError> {
        TopicFilter::try_from(name.as_name())?;
        Ok(Self(name.0))
    }
}
