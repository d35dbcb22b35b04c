//! Reason Strings and User Properties of our answers. [MQTT-3.1.2-29]

use alloc::string::ToString;

use damselfly_codec::{EncodeError, Properties, PropertiesBuf, Property};

use crate::{broker::Fault, connections::Connection, slab::index};

/// What an answer says beyond its Reason Code, for people who look for a mistake: a Reason String and User Properties.
///
/// It goes to 5.0 clients that did not set Request Problem Information to 0, as far as it fits their Maximum Packet Size:
/// the Reason String is left out first, then the User Properties. Only the embedding program's own memory bounds it.
/// [MQTT-3.1.2-29] [MQTT-3.2.2-19] [MQTT-3.2.2-20]
///
/// ```
/// use damselfly_broker::ProblemInformation;
///
/// let information = ProblemInformation::new()
///     .reason_string("the trial ended")?
///     .user_property("renew-at", "https://example.com")?;
/// assert!(ProblemInformation::new().reason_string("\0").is_err(), "no string has U+0000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProblemInformation {
    reason_string: PropertiesBuf,
    user_properties: PropertiesBuf,
}

impl ProblemInformation {
    /// Nothing to say, nothing allocated.
    pub const fn new() -> Self {
        Self { reason_string: PropertiesBuf::new(), user_properties: PropertiesBuf::new() }
    }

    /// With a Reason String in place of the one before. An error is a text that no packet can carry: with U+0000, or of
    /// more than 65,535 bytes.
    pub fn reason_string(mut self, text: &str) -> Result<Self, EncodeError> {
        self.reason_string.clear();
        self.reason_string.push(Property::ReasonString(text))?;
        Ok(self)
    }

    /// With one User Property more. Errors as those of a Reason String.
    pub fn user_property(mut self, name: &str, value: &str) -> Result<Self, EncodeError> {
        self.user_properties.push(Property::UserProperty(name, value))?;
        Ok(self)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.reason_string.is_empty() && self.user_properties.is_empty()
    }

    /// What a broken rule is in words: ours, nothing in them comes from the peer.
    pub(crate) fn of_fault(fault: Fault) -> Self {
        let text = match fault {
            Fault::Malformed(error) => error.to_string(),
            Fault::Peer(error) => error.to_string(),
            Fault::Refuse(_) => return Self::new(),
        };
        Self::new().reason_string(&text).unwrap_or_default()
    }

    /// Joins what another answer to the same packet says. The first Reason String stays.
    pub(crate) fn add(&mut self, other: Self) {
        if self.reason_string.is_empty() {
            self.reason_string = other.reason_string;
        }
        // User Properties are valid wherever they stand.
        let added = self.user_properties.extend(other.user_properties.as_properties());
        debug_assert!(added.is_ok(), "a user property that was one before");
    }

    /// `needed` with as much of it as fits.
    fn beside(&self, needed: &PropertiesBuf, fits: impl Fn(Properties<'_>) -> bool) -> Option<PropertiesBuf> {
        let user_properties = self.user_properties.as_properties();
        [(self.reason_string.as_properties(), user_properties), (Properties::EMPTY, user_properties)]
            .into_iter()
            .filter(|(reason_string, user_properties)| !reason_string.is_empty() || !user_properties.is_empty())
            .find_map(|(reason_string, user_properties)| {
                let mut properties = needed.clone();
                properties.extend(reason_string).ok()?;
                properties.extend(user_properties).ok()?;
                fits(properties.as_properties()).then_some(properties)
            })
    }
}

impl Connection {
    /// The properties of an answer: what it needs, and as much more as the client wants and takes. `len` is the length of
    /// the packet with them. `None` if it is too long or impossible even without more. [MQTT-3.1.2-24]
    pub(crate) fn answer_properties(
        &self,
        needed: PropertiesBuf,
        information: &ProblemInformation,
        len: impl Fn(Properties<'_>) -> Result<usize, EncodeError>,
    ) -> Option<PropertiesBuf> {
        let fits = |properties: Properties<'_>| len(properties).is_ok_and(|len| len <= index(self.max_packet_size));
        if self.is_v5() && self.wants_problem_information {
            if let Some(more) = information.beside(&needed, fits) {
                return Some(more);
            }
        }
        fits(needed.as_properties()).then_some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_string_stays_and_user_properties_join() {
        let say = |reason: &str, name: &str| {
            ProblemInformation::new().reason_string(reason).unwrap().user_property(name, "x").unwrap()
        };
        let mut all = ProblemInformation::new();
        all.add(say("one", "a"));
        all.add(say("two", "b"));
        let expected = say("one", "a").user_property("b", "x").unwrap();
        assert_eq!(all, expected);
        assert_eq!(all.reason_string("two").unwrap(), say("two", "a").user_property("b", "x").unwrap());
        assert!(ProblemInformation::new().is_empty() && !expected.is_empty());
    }

    #[test]
    fn a_text_may_have_65_535_bytes_and_no_more() {
        let [most, more] = [65_535, 65_536].map(|len| "x".repeat(len));
        assert!(ProblemInformation::new().reason_string(&most).is_ok());
        assert!(ProblemInformation::new().reason_string(&more).is_err());
        assert!(ProblemInformation::new().user_property(&most, &most).is_ok());
        assert!(ProblemInformation::new().user_property("a", &more).is_err());
    }
}
