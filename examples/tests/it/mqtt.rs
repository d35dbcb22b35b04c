//! `mqtt pub` and `mqtt sub`.
