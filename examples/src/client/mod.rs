//! The client driver: a TCP socket, a clock and a handle around [`damselfly_client::Client`].
