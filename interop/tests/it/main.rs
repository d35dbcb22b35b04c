//! What is asked of the repository as a whole.

mod citations;
mod conformance;
mod limits;
mod links;
