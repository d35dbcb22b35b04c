//! The bytes of one connection as they are recorded: each once, and none that is secret.

use super::redact::Redactor;
use super::text::digest;

/// Both directions of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    input: Redactor,
    output: Redactor,
    /// Handed in and not consumed.
    left: Vec<u8>,
}

impl Streams {
    /// What a driver hands in: how many bytes of it are there already, and the others.
    pub(super) fn take_in(&mut self, bytes: &[u8]) -> (usize, Vec<u8>) {
        if let Some(more) = bytes.strip_prefix(&self.left[..]) {
            return (self.left.len(), self.input.pass(more));
        }
        // Not what the driver was told to do. The core sees a packet begin, so that begins here too.
        self.input = Redactor::default();
        self.left.clear();
        (0, self.input.pass(bytes))
    }

    /// The core took so many of these.
    pub(super) fn consumed(&mut self, bytes: &[u8], consumed: usize) {
        self.left.clear();
        self.left.extend_from_slice(bytes.get(consumed..).unwrap_or_default());
    }

    /// A number for bytes that were sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) -> String {
        format!("{:016x}", digest(&self.output.pass(bytes)))
    }
}

/// The first `len` bytes that a core has to send.
pub(super) fn first_bytes<'a>(len: usize, transmit: impl Fn(&mut [&'a [u8]]) -> usize) -> Vec<u8> {
    let mut room = 64;
    loop {
        let mut chunks = vec![&[][..]; room];
        let count = transmit(&mut chunks);
        let mut bytes = chunks.get(..count).unwrap_or_default().concat();
        if bytes.len() >= len || count < room {
            bytes.truncate(len);
            return bytes;
        }
        room *= 2;
    }
}
