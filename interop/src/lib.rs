//! How Damselfly is held against the standards and against programs that others wrote.
//!
//! `tests/it` checks the citations of statements in the workspace against `docs/conformance.tsv`; `run.py` drives foreign
//! clients against a broker. The examples in the project's README are compiled here.

/// The project's README: its examples compile and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
