//! Rules that people can read: a text file, and the engine that keeps to it.

mod engine;
mod parse;
#[cfg(test)]
mod tests;

pub use engine::{Engine, Firing, MAX_FIRINGS, MAX_TIMERS, MAX_TOPICS, Order, WINDOW};
pub use parse::{Action, Condition, MAX_FILE_BYTES, MAX_PARTS, MAX_RULES, MAX_TIME, Rule, RuleError, Test, parse};

/// The rules of the house unless a file says otherwise.
pub const DEFAULT_RULES: &str = include_str!("default.rules");
