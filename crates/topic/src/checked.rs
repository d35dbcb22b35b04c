//! What all texts that were checked once have in common.

/// How a checked text is shown and made from another.
macro_rules! shown_text {
    ($name:ident) => {
        impl core::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.as_str()).finish()
            }
        }

        impl core::fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl<'a> TryFrom<&'a str> for $name<'a> {
            type Error = $crate::TopicError;

            fn try_from(text: &'a str) -> Result<Self, $crate::TopicError> {
                Self::new(text)
            }
        }
    };
}

/// The rest of a text of topic levels, name or filter: what is in it.
macro_rules! topic_text {
    ($name:ident, $levels:literal) => {
        impl<'a> $name<'a> {
            /// Takes bytes that were such a text before: those of [`as_bytes`](Self::as_bytes), kept somewhere and brought
            /// back.
            ///
            /// Nothing is checked. Other bytes match in unexpected ways and their text is cut short; they cannot do more
            /// harm than that.
            #[inline]
            pub const fn from_checked_bytes(bytes: &'a [u8]) -> Self {
                Self(bytes)
            }

            /// The text. Looks at each byte once more; see [`TopicName`](crate::TopicName).
            #[inline]
            pub const fn as_str(self) -> &'a str {
                $crate::text::checked(self.0)
            }

            /// The bytes of the text, as they travel.
            #[inline]
            pub const fn as_bytes(self) -> &'a [u8] {
                self.0
            }

            #[doc = $levels]
            pub fn levels(self) -> $crate::Levels<'a> {
                $crate::Levels::new(self.as_str())
            }

            /// The number of topic levels, at least one.
            pub fn level_count(self) -> usize {
                $crate::level::count(self.0)
            }

            /// Whether the text starts with '$': filters that start with a wildcard do not match such a name. [MQTT-4.7.2-1]
            #[inline]
            pub fn is_system(self) -> bool {
                self.0.first() == Some(&b'$')
            }
        }

        $crate::checked::shown_text!($name);

        impl<'a> TryFrom<&'a [u8]> for $name<'a> {
            type Error = $crate::TopicError;

            fn try_from(bytes: &'a [u8]) -> Result<Self, $crate::TopicError> {
                Self::from_bytes(bytes)
            }
        }
    };
}

pub(crate) use {shown_text, topic_text};
