//! `mqtt pub` and `mqtt sub`: publish and subscribe from the command line.

fn main() {}
