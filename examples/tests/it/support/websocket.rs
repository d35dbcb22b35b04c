use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use super::LIMIT;

/// The key of a handshake, and the one answer that goes with it: the example of RFC 6455.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const BINARY: u8 = 0x82;
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;

/// One side of a WebSocket that knows frames only, written for the tests, so that it can do what nobody should.
pub(crate) struct Frames {
    stream: TcpStream,
    is_client: bool,
    /// Payload of binary frames that nobody has asked for.
    payload: Vec<u8>,
    received: usize,
}

/// The handshake that a client sends, with these headers of its own.
pub(crate) fn request(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// The one that a broker takes.
pub(crate) fn good_request() -> String {
    request("/mqtt", &format!("Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: mqtt\r\n"))
}

impl Frames {
    /// A connection on which nothing has been sent.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, LIMIT).unwrap(), true)
    }

    fn over(stream: TcpStream, is_client: bool) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self { stream, is_client, payload: Vec::new(), received: 0 }
    }

    /// A client whose handshake is done.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut frames = Self::open(address);
        frames.send(good_request().as_bytes());
        let head = frames.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(header(&head, "sec-websocket-accept"), [ACCEPT]);
        assert_eq!(header(&head, "sec-websocket-protocol"), ["mqtt"]);
        frames
    }

    /// A server that has the handshake of the next client.
    pub(crate) fn accept(listener: &TcpListener) -> (Self, String) {
        let mut frames = Self::over(listener.accept().unwrap().0, false);
        let head = frames.head();
        (frames, head)
    }

    /// Lines of HTTP until the empty one.
    pub(crate) fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.bytes(1)[0]);
        }
        String::from_utf8(head).unwrap()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends what may meet a closed connection.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends one frame as this side has to.
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let bytes = frame(first, payload, self.is_client);
        self.send(&bytes);
    }

    /// Sends nothing more.
    pub(crate) fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next frame: its first byte and its payload.
    pub(crate) fn receive(&mut self) -> (u8, Vec<u8>) {
        let head = self.bytes(2);
        assert_eq!(head[1] & 0x80 == 0, self.is_client, "clients mask and servers do not");
        let len = match head[1] & 0x7F {
            126 => self.bytes(2),
            127 => self.bytes(8),
            len => vec![len],
        };
        let len = len.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        let mask = if self.is_client { vec![0; 4] } else { self.bytes(4) };
        let mut payload = self.bytes(len);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        self.received += 1;
        (head[0], payload)
    }

    /// How many frames have been received.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// The next so many bytes of MQTT, in whatever frames; all have to be binary.
    pub(crate) fn read(&mut self, len: usize) -> Vec<u8> {
        while self.payload.len() < len {
            let (first, payload) = self.receive();
            assert_eq!(first, BINARY, "MQTT comes in binary frames: {payload:02X?}");
            self.payload.extend(payload);
        }
        self.payload.drain(..len).collect()
    }

    pub(crate) fn expect(&mut self, packets: &[u8]) {
        assert_eq!(self.read(packets.len()), packets);
    }

    /// Waits for a close frame with this code, and for the end of the connection.
    pub(crate) fn expect_close(mut self, code: u16) {
        let (first, payload) = self.receive();
        assert_eq!((first, payload.get(..2)), (CLOSE, Some(&code.to_be_bytes()[..])), "close with {code}");
        self.expect_end();
    }

    /// Waits until the other side closes the connection without another word.
    pub(crate) fn expect_end(mut self) {
        match self.stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("expected the end of the connection, got {other:?}"),
        }
    }

    /// The same, unless the close frame was lost with what was left unread.
    pub(crate) fn expect_close_or_end(mut self) {
        let mut first = [0];
        match self.stream.read(&mut first) {
            Ok(0) => {}
            Ok(_) => assert_eq!(first, [CLOSE]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// Waits for the text behind an answer, with this in it, and for the end.
    pub(crate) fn expect_text(mut self, head: &str, part: &str) {
        let len = header(head, "content-length")[0].parse().unwrap();
        let text = String::from_utf8(self.bytes(len)).unwrap();
        assert!(text.contains(part), "{part}: {text}");
        self.expect_end();
    }

    /// Waits for an answer: whether it is the end of the connection.
    pub(crate) fn is_at_its_end(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(len) => len == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether the other side has closed the connection by now.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let result = self.stream.read(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        result.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |len| len == 0)
    }

    /// Waits for an answer: whether it is the handshake, and CONNACK with success.
    pub(crate) fn is_accepted(&mut self) -> bool {
        let mut bytes = Vec::new();
        let mut next = [0; 256];
        while !bytes.ends_with(b"\x82\x04\x20\x02\0\0") {
            match self.stream.read(&mut next) {
                Ok(len @ 1..) => bytes.extend(&next[..len]),
                _ => return false,
            }
        }
        true
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// What a server answers to a key: that the function is right is shown by the broker's answer to [`KEY`].
pub(crate) fn accept_key(key: &str) -> String {
    tungstenite::handshake::derive_accept_key(key.as_bytes())
}

/// The values of a header, however its name is written.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// A frame with or without a mask.
pub(crate) fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ ..=125) => out.push(mask_bit | u8::try_from(len).unwrap()),
        Ok(len) => {
            out.push(mask_bit | 0x7E);
            out.extend(len.to_be_bytes());
        }
        Err(_) => {
            out.push(mask_bit | 0x7F);
            out.extend(u64::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    if !is_masked {
        out.extend(payload);
        return out;
    }
    let mask = [0x5A, 0x00, 0xFF, 0x13];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}
