use damselfly_codec::{FixedHeader, FrameLimits, peek};

/// Bytes of one packet that are kept to say what it is; the rest of it is skipped.
pub(super) const HEAD: usize = 512;

/// Puts the heads of packets together from pieces that are cut anywhere.
///
/// It keeps at most [`HEAD`] bytes, whatever a packet's length.
#[derive(Debug, Default)]
pub(super) struct Gather {
    head: Vec<u8>,
    /// Of the packet that `head` begins: what is to be skipped after it.
    skip: usize,
    /// These are no packets: nothing more is looked at.
    is_lost: bool,
}

impl Gather {
    /// Takes bytes, and shows the head of each packet whose last byte is among them.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut show: impl FnMut(FixedHeader, &[u8])) {
        while !bytes.is_empty() && !self.is_lost {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                bytes = self.take(bytes);
            }
            if self.skip == 0 && !self.is_lost {
                self.finish(&mut show);
            }
        }
    }

    /// Takes no more than belongs to this packet's head; answers what is left.
    fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(header) = self.header() else {
            // At most five times: one byte more says how long the packet is.
            let (first, rest) = bytes.split_at_checked(1).unwrap_or((bytes, &[]));
            self.head.extend_from_slice(first);
            self.begin();
            return rest;
        };
        let missing = header.frame_len().min(HEAD).saturating_sub(self.head.len());
        let (part, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(part);
        if part.len() == missing {
            self.skip = header.frame_len().saturating_sub(HEAD);
        }
        rest
    }

    fn begin(&mut self) {
        self.is_lost = peek(&self.head, &FrameLimits::default()).is_err();
    }

    fn header(&self) -> Option<FixedHeader> {
        peek(&self.head, &FrameLimits::default()).ok().flatten()
    }

    /// Shows the packet if all of it has come.
    fn finish(&mut self, show: &mut impl FnMut(FixedHeader, &[u8])) {
        let Some(header) = self.header() else { return };
        if self.head.len() < header.frame_len().min(HEAD) {
            return;
        }
        show(header, self.head.get(usize::from(header.header_len())..).unwrap_or_default());
        // An idle connection keeps nothing.
        self.head = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of `bytes` in pieces of `size`: the length of each packet, and of its body as far as it is kept.
    fn shown(bytes: &[u8], size: usize) -> Vec<(usize, usize)> {
        let mut gather = Gather::default();
        let mut shown = Vec::new();
        for piece in bytes.chunks(size) {
            gather.push(piece, |header, body| shown.push((header.frame_len(), body.len())));
            assert!(gather.head.len() <= HEAD);
        }
        shown
    }

    fn publish(payload: usize) -> Vec<u8> {
        let length = payload + 3;
        let mut bytes = vec![0x30];
        let mut left = length;
        loop {
            let byte = u8::try_from(left % 128).unwrap();
            left /= 128;
            bytes.push(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        bytes.extend(b"\0\x01t");
        bytes.resize(bytes.len() + payload, b'x');
        bytes
    }

    #[test]
    fn packets_are_the_same_however_they_are_cut() {
        let exact = HEAD - 3;
        let bytes =
            [publish(0), b"\xC0\0".to_vec(), publish(exact - 3), publish(exact - 2), publish(100_000), publish(5)]
                .concat();
        let expected = [(5, 3), (2, 0), (HEAD, HEAD - 3), (HEAD + 1, HEAD - 3), (100_007, HEAD - 4), (10, 8)].to_vec();
        for size in [1, 2, 3, 5, 7, 511, 512, 513, 4096, bytes.len()] {
            assert_eq!(shown(&bytes, size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_packet_ends_the_looking() {
        assert_eq!(shown(b"\xC0\0\x00\0\xC0\0", 1), [(2, 0)]);
        assert_eq!(shown(b"\xC0\0\x30\xFF\xFF\xFF\xFF\x01\xC0\0", 3), [(2, 0)]);
    }
}
