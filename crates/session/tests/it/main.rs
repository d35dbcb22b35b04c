//! The pieces against naive models of them.

mod transmit;
