//! How long a session outlives its connection, and how long a message may still be delivered.

use core::num::NonZeroU32;

use damselfly_codec::Version;

use crate::{PeerError, Timestamp, time::MICROS_PER_SECOND};

/// When a session ends after its Network Connection closed. [MQTT-3.1.2.11.2]
///
/// Ordered by length, so a ceiling is [`Ord::min`].
///
/// ```
/// use damselfly_session::{SessionExpiry, Timestamp};
///
/// let asked = SessionExpiry::from_wire(Some(0xFFFF_FFFF));
/// assert_eq!(asked, SessionExpiry::Never);
/// let granted = asked.min(SessionExpiry::from_wire(Some(3_600)));
/// assert_eq!(granted.to_wire(), 3_600);
/// assert_eq!(granted.deadline(Timestamp::from_secs(100)), Some(Timestamp::from_secs(3_700)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SessionExpiry {
    /// With the connection: 0, or the property is absent.
    #[default]
    OnClose,
    /// This many seconds after the connection closed: 1 to 4,294,967,294.
    After(NonZeroU32),
    /// Not at all: 0xFFFFFFFF.
    Never,
}

impl SessionExpiry {
    /// From the Session Expiry Interval of a CONNECT, CONNACK or the like; `None` is the absent property, which means 0.
    pub const fn from_wire(seconds: Option<u32>) -> Self {
        match seconds {
            None | Some(0) => Self::OnClose,
            Some(u32::MAX) => Self::Never,
            Some(seconds) => match NonZeroU32::new(seconds) {
                Some(seconds) => Self::After(seconds),
                None => Self::OnClose,
            },
        }
    }

    /// From what a CONNECT says: Clean Session in 3.1 and 3.1.1, where a session lasts as long as its connection or
    /// without end; the property in 5.0, where Clean Start says nothing about the end. [MQTT3-3.1.2-4] [MQTT3-3.1.2-6]
    pub const fn from_connect(version: Version, clean_start: bool, interval: Option<u32>) -> Self {
        match version {
            Version::V3_1 | Version::V3_1_1 if clean_start => Self::OnClose,
            Version::V3_1 | Version::V3_1_1 => Self::Never,
            Version::V5_0 => Self::from_wire(interval),
        }
    }

    /// The Session Expiry Interval. `After` with 4,294,967,295 seconds, which the wire cannot say, is one second less.
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::OnClose => 0,
            Self::After(NonZeroU32::MAX) => u32::MAX - 1,
            Self::After(seconds) => seconds.get(),
            Self::Never => u32::MAX,
        }
    }

    /// Does the session have to be stored when its connection closes? [MQTT-3.1.2-23]
    pub const fn outlives_connection(self) -> bool {
        !matches!(self, Self::OnClose)
    }

    /// When a session whose connection closed at `closed` ends; `None` is never. [MQTT-4.1.0-2]
    pub fn deadline(self, closed: Timestamp) -> Option<Timestamp> {
        match self {
            Self::OnClose => Some(closed),
            Self::After(seconds) => Some(after_seconds(closed, seconds.get())),
            Self::Never => None,
        }
    }

    /// What holds after a client's DISCONNECT with this property, where `self` is what its CONNECT asked for. Absent
    /// leaves it as it is; raising it from zero is a Protocol Error. [MQTT-3.14.2.2.2]
    pub const fn after_disconnect(self, interval: Option<u32>) -> Result<Self, PeerError> {
        match (self, interval) {
            (_, None) => Ok(self),
            (Self::OnClose, Some(1..)) => Err(PeerError::SessionExpiryRaised),
            (_, Some(_)) => Ok(Self::from_wire(interval)),
        }
    }
}

/// When a message received at `received` with this Message Expiry Interval, in seconds, expires. [MQTT-3.3.2.3.3]
///
/// An interval of zero expires at once; there is no value that means "never" but the absent property.
pub fn message_expires_at(received: Timestamp, interval: u32) -> Timestamp {
    after_seconds(received, interval)
}

/// The Message Expiry Interval to forward at `now`: the seconds left, `None` if the message has expired.
///
/// What is subtracted from the received interval is the *whole* seconds waited, so the value is never zero, never more
/// than was received, and unchanged for a message that is forwarded at once. [MQTT-3.3.2-6]
///
/// ```
/// use damselfly_session::{Timestamp, message_expires_at, remaining_expiry};
///
/// let at = message_expires_at(Timestamp::from_secs(100), 10);
/// assert_eq!(remaining_expiry(at, Timestamp::from_micros(100_999_999)), Some(10));
/// assert_eq!(remaining_expiry(at, Timestamp::from_micros(101_000_000)), Some(9));
/// assert_eq!(remaining_expiry(at, Timestamp::from_micros(109_999_999)), Some(1));
/// assert_eq!(remaining_expiry(at, Timestamp::from_micros(110_000_000)), None);
/// ```
pub fn remaining_expiry(expires_at: Timestamp, now: Timestamp) -> Option<u32> {
    match expires_at.saturating_micros_since(now).div_ceil(MICROS_PER_SECOND) {
        0 => None,
        // More than the wire can say comes only from a deadline that no interval made.
        seconds => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
    }
}

fn after_seconds(at: Timestamp, seconds: u32) -> Timestamp {
    at.saturating_add_micros(u64::from(seconds) * MICROS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn after(seconds: u32) -> SessionExpiry {
        SessionExpiry::After(NonZeroU32::new(seconds).expect("tests use no zero"))
    }

    /// [MQTT-3.1.2-23] [MQTT-4.1.0-2]
    #[test]
    fn wire_values_map_to_meaning_and_back() {
        let cases = [
            (0, SessionExpiry::OnClose, Some(NOW), false),
            (1, after(1), Some(Timestamp::from_secs(1_001)), true),
            (0xFFFF_FFFE, after(0xFFFF_FFFE), Some(Timestamp::from_secs(1_000 + 0xFFFF_FFFE)), true),
            (0xFFFF_FFFF, SessionExpiry::Never, None, true),
        ];
        for (wire, meaning, deadline, stored) in cases {
            assert_eq!(SessionExpiry::from_wire(Some(wire)), meaning);
            assert_eq!(meaning.to_wire(), wire);
            assert_eq!(meaning.deadline(NOW), deadline);
            assert_eq!(meaning.outlives_connection(), stored);
        }
        assert_eq!(SessionExpiry::from_wire(None), SessionExpiry::OnClose);
        assert_eq!(after(u32::MAX).to_wire(), 0xFFFF_FFFE, "a number of seconds never turns into never");
    }

    #[test]
    fn ceiling_is_the_minimum_and_never_is_longer_than_any_number() {
        assert_eq!(SessionExpiry::Never.min(after(7)), after(7));
        assert_eq!(after(3).min(after(7)), after(3));
        assert_eq!(SessionExpiry::OnClose.min(after(7)), SessionExpiry::OnClose);
    }

    /// [MQTT3-3.1.2-4] [MQTT3-3.1.2-6] [MQTT3-4.1.0-1]
    #[test]
    fn clean_session_decides_the_end_before_5_0_and_the_property_in_5_0() {
        for version in [Version::V3_1, Version::V3_1_1] {
            assert_eq!(SessionExpiry::from_connect(version, true, None), SessionExpiry::OnClose);
            assert_eq!(SessionExpiry::from_connect(version, false, None), SessionExpiry::Never);
        }
        for clean_start in [true, false] {
            assert_eq!(SessionExpiry::from_connect(Version::V5_0, clean_start, None), SessionExpiry::OnClose);
            assert_eq!(SessionExpiry::from_connect(Version::V5_0, clean_start, Some(9)), after(9));
        }
    }

    /// Section 3.14.2.2.2 of 5.0.
    #[test]
    fn disconnect_changes_the_interval_but_never_raises_it_from_zero() {
        let raised = Err(PeerError::SessionExpiryRaised);
        let cases = [
            (SessionExpiry::OnClose, None, Ok(SessionExpiry::OnClose)),
            (SessionExpiry::OnClose, Some(0), Ok(SessionExpiry::OnClose)),
            (SessionExpiry::OnClose, Some(1), raised),
            (SessionExpiry::OnClose, Some(u32::MAX), raised),
            (after(5), None, Ok(after(5))),
            (after(5), Some(0), Ok(SessionExpiry::OnClose)),
            (after(5), Some(9), Ok(after(9))),
            (SessionExpiry::Never, Some(9), Ok(after(9))),
        ];
        for (connect, property, expected) in cases {
            assert_eq!(connect.after_disconnect(property), expected, "{connect:?} {property:?}");
        }
    }

    /// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    #[test]
    fn remaining_interval_never_exceeds_what_was_received_and_ends_exactly() {
        let expires_at = message_expires_at(NOW, 3);
        let micros = |offset| Timestamp::from_micros(NOW.as_micros() + offset);
        let cases = [
            (0, Some(3)),
            (1, Some(3)),
            (999_999, Some(3)),
            (1_000_000, Some(2)),
            (2_999_999, Some(1)),
            (3_000_000, None),
            (9_000_000, None),
        ];
        for (waited, left) in cases {
            assert_eq!(remaining_expiry(expires_at, micros(waited)), left, "{waited}");
        }
    }

    #[test]
    fn zero_interval_has_expired_and_the_largest_one_is_no_infinity() {
        assert_eq!(remaining_expiry(message_expires_at(NOW, 0), NOW), None);
        let largest = message_expires_at(NOW, u32::MAX);
        assert_eq!(remaining_expiry(largest, NOW), Some(u32::MAX));
        assert_eq!(remaining_expiry(largest, Timestamp::from_secs(1_000 + 0xFFFF_FFFF)), None);
    }

    #[test]
    fn clock_before_the_message_does_not_raise_the_wire_value_past_its_range() {
        assert_eq!(remaining_expiry(Timestamp::MAX, Timestamp::ZERO), Some(u32::MAX));
    }
}
