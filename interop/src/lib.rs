//! How Damselfly is held against the standards and against programs that others wrote.
//!
//! [`conformance`] says which test shows which statement, and writes it down; `run.py` drives foreign clients against a
//! broker. The examples in the project's README are compiled here.

pub mod conformance;

/// The project's README: its examples compile and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
