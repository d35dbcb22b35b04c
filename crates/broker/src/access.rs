//! What a client may publish and subscribe: data, compiled once and decided in place.

use alloc::vec::Vec;

use damselfly_topic::{TopicError, TopicFilter, TopicFilterBuf, TopicName};

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// PUBLISH, wills included.
    Publish,
    /// SUBSCRIBE and the deliveries that follow from it.
    Subscribe,
    /// Both.
    Any,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// The embedding program is asked each time: [`Question::Publish`](crate::Question::Publish) or
    /// [`Question::Subscribe`](crate::Question::Subscribe). A will is not published then: nobody is there any more to wait
    /// for the answer.
    Ask,
}

/// Access rules in order: the first that fits decides.
///
/// Filters match as in the standard: `#` says nothing about topics that begin with `$`, which need rules of their own.
/// [MQTT-4.7.2-1] Topics below `$SYS/` are the broker's own: no client publishes there, whatever the rules say.
///
/// ```
/// use damselfly_broker::{Access, Action, Permission, TopicFilter, TopicName};
///
/// let access = Access::new(Permission::Deny)
///     .rule(Action::Publish, "home/kitchen/#", Permission::Allow)?
///     .rule(Action::Subscribe, "home/#", Permission::Allow)?;
/// assert_eq!(access.publish(TopicName::new("home/kitchen/lamp")?), Permission::Allow);
/// assert_eq!(access.publish(TopicName::new("home/hall/lamp")?), Permission::Deny);
/// assert_eq!(access.subscribe(TopicFilter::new("home/+/lamp")?), Permission::Allow);
/// assert_eq!(access.subscribe(TopicFilter::new("#")?), Permission::Deny);
/// # Ok::<(), damselfly_topic::TopicError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    rules: Vec<Rule>,
    otherwise: Permission,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    action: Action,
    filter: TopicFilterBuf,
    permission: Permission,
}

impl Access {
    /// No rules yet: everything is decided by `otherwise`.
    pub const fn new(otherwise: Permission) -> Self {
        Self { rules: Vec::new(), otherwise }
    }

    /// Adds a rule behind those that are there. A filter `$share/{ShareName}/{filter}` means the filter inside.
    pub fn rule(mut self, action: Action, filter: &str, permission: Permission) -> Result<Self, TopicError> {
        let filter = TopicFilter::new(filter)?.unshared();
        self.rules.push(Rule { action, filter: filter.into(), permission });
        Ok(self)
    }

    /// May a message with this topic be published?
    pub fn publish(&self, topic: TopicName<'_>) -> Permission {
        self.decide(Action::Publish, topic)
    }

    /// May a message with this topic be delivered?
    pub fn receive(&self, topic: TopicName<'_>) -> Permission {
        self.decide(Action::Subscribe, topic)
    }

    fn decide(&self, action: Action, topic: TopicName<'_>) -> Permission {
        self.rules
            .iter()
            .filter(|rule| rule.action == action || rule.action == Action::Any)
            .find(|rule| rule.filter.as_filter().matches(topic))
            .map_or(self.otherwise, |rule| rule.permission)
    }

    /// May this filter be subscribed? Yes only if all it can match is allowed: a filter that a rule covers is decided by
    /// that rule, one that reaches into a denied or asked part is denied. Shared filters are decided by the filter
    /// inside.
    pub fn subscribe(&self, filter: TopicFilter<'_>) -> Permission {
        let filter = filter.unshared();
        for rule in self.rules.iter().filter(|rule| rule.action != Action::Publish) {
            let ruled = rule.filter.as_filter();
            if ruled.covers(filter) {
                return rule.permission;
            }
            if rule.permission != Permission::Allow && ruled.overlaps(filter) {
                return Permission::Deny;
            }
        }
        self.otherwise
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.rules.capacity() * size_of::<Rule>() + self.rules.iter().map(|r| r.filter.as_str().len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn a_subscription_that_reaches_into_a_denied_part_is_denied() {
        let access = Access::new(Permission::Allow).rule(Action::Any, "secret/#", Permission::Deny).unwrap();
        assert_eq!(access.subscribe(filter("#")), Permission::Deny);
        assert_eq!(access.subscribe(filter("+/a")), Permission::Deny);
        assert_eq!(access.subscribe(filter("secret/a")), Permission::Deny);
        assert_eq!(access.subscribe(filter("open/#")), Permission::Allow);
        assert_eq!(access.subscribe(filter("$share/g/secret/a")), Permission::Deny);
        assert_eq!(access.publish(TopicName::new("secret").unwrap()), Permission::Deny);
    }

    #[test]
    fn publishing_and_receiving_have_rules_of_their_own() {
        let access = Access::new(Permission::Deny)
            .rule(Action::Publish, "up/#", Permission::Allow)
            .and_then(|access| access.rule(Action::Subscribe, "down/#", Permission::Allow))
            .and_then(|access| access.rule(Action::Any, "both/#", Permission::Allow))
            .unwrap();
        let may = |permission| permission == Permission::Allow;
        for (topic, publish, receive) in
            [("up/a", true, false), ("down/a", false, true), ("both/a", true, true), ("a", false, false)]
        {
            let name = TopicName::new(topic).unwrap();
            assert_eq!((may(access.publish(name)), may(access.receive(name))), (publish, receive), "{topic}");
            assert_eq!(may(access.subscribe(filter(topic))), receive, "{topic}");
        }
        // Places for four rules, and their texts.
        assert_eq!(access.heap_bytes(), 4 * size_of::<Rule>() + 4 + 6 + 6);
        assert_eq!(Access::new(Permission::Deny).heap_bytes(), 0);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let access = Access::new(Permission::Deny)
            .rule(Action::Publish, "a/b", Permission::Ask)
            .unwrap()
            .rule(Action::Publish, "a/#", Permission::Allow)
            .unwrap();
        assert_eq!(access.publish(TopicName::new("a/b").unwrap()), Permission::Ask);
        assert_eq!(access.publish(TopicName::new("a/c").unwrap()), Permission::Allow);
        assert_eq!(access.subscribe(filter("a/b")), Permission::Deny);
    }
}
