use std::time::Duration;

/// How the driver treats sockets; what a peer may do is the core's `Config`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Bytes of the read buffer that all connections share: the most that one connection is read per turn.
    pub read_buffer: usize,
    /// How long a connection that the core closed may take to read what is left for it.
    pub close_limit: Duration,
    /// How long no connection is accepted after descriptors ran out.
    pub accept_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { read_buffer: 128 * 1024, close_limit: Duration::from_secs(2), accept_pause: Duration::from_millis(100) }
    }
}
