//! How Damselfly is held against the standards and against programs that others wrote.
//!
//! `tests/it` checks the citations of statements in the workspace against `docs/conformance.tsv`; `run.py` drives foreign
//! clients against a broker. The examples in the project's README are compiled here.
