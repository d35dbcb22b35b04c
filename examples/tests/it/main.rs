//! The programs and drivers of this crate, from socket to socket.

mod mqtt;
