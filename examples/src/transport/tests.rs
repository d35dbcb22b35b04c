//! A layer over a stream that takes and gives as few bytes at once as it likes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use super::{Arrived, Layer, Origins, PATH, Transport, TransportKind, take_from};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// What each read brings, what was written, and how much more may be before it blocks.
#[derive(Default)]
struct Stream {
    reads: VecDeque<Vec<u8>>,
    written: Vec<u8>,
    room: usize,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(bytes) = self.reads.front_mut() else { return Err(ErrorKind::WouldBlock.into()) };
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        bytes.drain(..len);
        if bytes.is_empty() {
            self.reads.pop_front();
        }
        Ok(len)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.written.len();
        for slice in slices {
            let len = slice.len().min(self.room);
            self.written.extend(&slice[..len]);
            self.room -= len;
        }
        match self.written.len() - before {
            0 => Err(ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Layer for Stream {}

impl super::Stream for Stream {
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        take_from(self, buffer)
    }
}

fn stream(transport: &mut Transport<Stream>) -> &mut Stream {
    match transport {
        Transport::Plain(stream) => stream,
        Transport::WebSocket(websocket) => websocket.stream_mut(),
        Transport::Tls(tls) => tls.stream_mut(),
        Transport::SecureWebSocket(websocket) => websocket.stream_mut().stream_mut(),
    }
}

/// A server whose stream has taken the answer to the handshake, and takes no more.
fn server() -> Transport<Stream> {
    let reads = VecDeque::from([REQUEST.as_bytes().to_vec()]);
    let mut server = Transport::accepted(
        Stream { reads, written: Vec::new(), room: usize::MAX },
        TransportKind::WebSocket,
        &Origins::default(),
    );
    read(&mut server);
    assert!(server.is_open());
    (stream(&mut server).room, stream(&mut server).written) = (0, Vec::new());
    server
}

/// One read with room for everything.
fn read(transport: &mut Transport<Stream>) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let Arrived { len, .. } = transport.read(&mut buffer).unwrap().unwrap();
    buffer[..len].to_vec()
}

/// A masked frame with less than 126 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let len = u8::try_from(payload.len()).unwrap();
    [first, 0x80 | len].into_iter().chain(mask).chain(masked).collect()
}

#[test]
fn a_handshake_is_read_however_its_bytes_arrive() {
    let packets = frame(0x82, b"\xC0\0");
    let all = [REQUEST.as_bytes(), &packets].concat();
    let whole = |reads: Vec<&[u8]>| {
        let count = reads.len();
        let reads = reads.into_iter().map(<[u8]>::to_vec).collect();
        let stream = Stream { reads, written: Vec::new(), room: usize::MAX };
        let mut server = Transport::accepted(stream, TransportKind::WebSocket, &Origins::default());
        let came: Vec<u8> = (0..count).flat_map(|_| read(&mut server)).collect();
        assert!(server.is_open());
        assert_eq!(came, b"\xC0\0");
        let answer = String::from_utf8(std::mem::take(&mut self::stream(&mut server).written)).unwrap();
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    };
    for at in 1..all.len() {
        let (first, second) = all.split_at(at);
        whole(vec![first, second]);
    }
    whole(all.chunks(1).collect());
}

/// The answer to a ping waits for the end of a frame that the stream did not take whole.
#[test]
fn what_is_written_is_whole_however_little_the_stream_takes() {
    for room in 1..20 {
        let mut server = server();
        let mut rest: Vec<u8> = (0..100).collect();
        let mut pings = 0;
        while !rest.is_empty() {
            stream(&mut server).room = room;
            let (one, two) = rest.split_at(rest.len() / 2);
            let written = server.write(&[IoSlice::new(one), IoSlice::new(two)]).unwrap();
            rest.drain(..written.len);
            assert!(written.is_blocked || rest.is_empty());
            if pings < 3 {
                stream(&mut server).reads.push_back(frame(0x89, b"?"));
                assert_eq!(read(&mut server), b"");
                pings += 1;
            }
        }
        stream(&mut server).room = 100;
        assert!(!server.flush().unwrap() && !server.has_unwritten());
        let payload: Vec<u8> = (0..100).collect();
        let expected = [&[0x82, 100][..], &payload, &[0x8A, 1, b'?']].concat();
        assert_eq!(stream(&mut server).written, expected, "{room} bytes at once");
    }
}

/// Nobody may write or read again for long: the answer goes out with the rest of the frame.
#[test]
fn a_ping_within_a_frame_is_answered_when_the_frame_is_whole() {
    let mut server = server();
    stream(&mut server).room = 4;
    assert!(server.write(&[IoSlice::new(b"one")]).unwrap().is_blocked);
    stream(&mut server).reads.push_back(frame(0x89, b"?"));
    assert_eq!(read(&mut server), b"");
    stream(&mut server).room = 2;
    let written = server.write(&[IoSlice::new(b"e")]).unwrap();
    assert_eq!((written.len, written.is_blocked), (1, true), "the answer has no room");
    stream(&mut server).room = 100;
    assert!(!server.flush().unwrap());
    assert_eq!(stream(&mut server).written, b"\x82\x03one\x8A\x01?");
}

/// A frame is as long as its header says, although the caller has more by the time its rest is written.
#[test]
fn a_frame_ends_where_its_header_says() {
    let mut server = server();
    stream(&mut server).room = 4;
    assert_eq!(server.write(&[IoSlice::new(b"one")]).unwrap().len, 2);
    stream(&mut server).room = 100;
    let written = server.write(&[IoSlice::new(b"e"), IoSlice::new(b"two")]).unwrap();
    assert_eq!((written.len, written.is_blocked), (1, false), "the next frame is for the next call");
    assert_eq!(server.write(&[IoSlice::new(b"two")]).unwrap().len, 3);
    assert_eq!(stream(&mut server).written, b"\x82\x03one\x82\x03two");
}

/// Nothing may stand within a frame, the word that nothing follows neither.
#[test]
fn a_close_frame_is_not_put_into_another() {
    let mut server = server();
    stream(&mut server).room = 3;
    server.write(&[IoSlice::new(b"one")]).unwrap();
    stream(&mut server).room = 100;
    server.finish();
    assert_eq!(stream(&mut server).written, b"\x82\x03o");

    let stream_with_room = Stream { room: 100, ..Stream::default() };
    let mut early = Transport::accepted(stream_with_room, TransportKind::WebSocket, &Origins::default());
    early.finish();
    assert_eq!(stream(&mut early).written, b"", "within a handshake nobody reads frames");

    let mut server = self::server();
    stream(&mut server).room = 100;
    server.finish();
    server.finish();
    assert_eq!(stream(&mut server).written, b"\x88\x02\x03\xE8");
    assert_eq!(server.write(&[IoSlice::new(b"late")]).unwrap_err().kind(), ErrorKind::NotConnected);
}

/// Who waits for the last bytes of a packet does not read a flood of pings byte after byte, and gets no byte too many.
#[test]
fn a_reader_with_little_room_reads_past_what_is_no_payload() {
    let payload: Vec<u8> = (0..100).collect();
    let long = [&[0x02, 0xFE, 0, 0, 1, 2, 3, 4][..], &[0x00, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]].concat();
    let others = [long, frame(0x89, &[7; 125]), frame(0x80, b""), frame(0x8A, b"x"), frame(0x82, b"")].concat();
    let bytes: Vec<u8> = payload.iter().flat_map(|byte| [others.clone(), frame(0x82, &[*byte])].concat()).collect();
    for room in [1, 2, 3, 7, 50, 127, 128, 129] {
        let mut server = server();
        stream(&mut server).reads.push_back(bytes.clone());
        let (mut came, mut reads) = (Vec::new(), 0);
        while came.len() < payload.len() {
            let mut buffer = vec![0; room];
            let Arrived { len, .. } = server.read(&mut buffer).unwrap().unwrap();
            came.extend_from_slice(&buffer[..len]);
            reads += 1;
        }
        assert_eq!(came, payload, "{room} bytes at once");
        // Seven frames each; of a long header only the beginning says how long it is.
        assert!(reads <= 100 * 9, "{reads} reads of {room} bytes");
    }
}

/// However many pings wait, one answer does, and its memory with it.
#[test]
fn pings_that_are_not_answered_at_once_are_answered_once() {
    let mut server = server();
    for _ in 0..100 {
        stream(&mut server).reads.push_back(frame(0x89, b"first"));
        read(&mut server);
    }
    assert!(server.has_unwritten());
    stream(&mut server).reads.push_back(frame(0x89, b"last"));
    read(&mut server);
    stream(&mut server).room = 100;
    assert!(!server.flush().unwrap());
    assert_eq!(stream(&mut server).written, b"\x8A\x05first\x8A\x04last");
}

/// A client takes no more than it can mask, and no more before that is written.
#[test]
fn a_client_takes_a_bounded_part_of_what_there_is() {
    let mut client = Transport::websocket(Stream::default(), &format!("ws://broker{PATH}")).unwrap();
    stream(&mut client).room = 10_000;
    assert!(!client.flush().unwrap());
    let request = String::from_utf8(std::mem::take(&mut stream(&mut client).written)).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream(&mut client).reads.push_back(answer.into_bytes());
    assert_eq!(read(&mut client), b"");
    assert!(client.is_open());

    stream(&mut client).room = 0;
    let payload = vec![7; 100_000];
    let written = client.write(&[IoSlice::new(&payload)]).unwrap();
    assert_eq!((written.len, written.is_blocked), (64 * 1024, true));
    let written = client.write(&[IoSlice::new(&payload)]).unwrap();
    assert_eq!((written.len, written.is_blocked), (0, true), "until that is written");
    stream(&mut client).room = 80_000;
    assert!(!client.flush().unwrap());
    let header = 2 + 8 + 4;
    assert_eq!(stream(&mut client).written.len(), header + 64 * 1024);
    let mask = stream(&mut client).written[10..14].to_vec();
    let masked = stream(&mut client).written[14..].iter().zip(mask.iter().cycle());
    assert!(masked.map(|(byte, mask)| byte ^ mask).all(|byte| byte == 7));
}

/// What a refused client goes on with is no second handshake, and is not kept.
#[test]
fn a_refusal_is_said_once() {
    let request = REQUEST.replace("/mqtt", "/other");
    let reads = VecDeque::from([request.clone().into_bytes(), request.into_bytes(), vec![b'x'; 1000]]);
    let stream = Stream { reads, written: Vec::new(), room: usize::MAX };
    let mut server = Transport::accepted(stream, TransportKind::WebSocket, &Origins::default());
    let error = server.read(&mut [0; 1024]).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidData, "the path is not /mqtt"));
    for _ in 0..2 {
        assert_eq!(read(&mut server), b"");
    }
    server.finish();
    let written = String::from_utf8(std::mem::take(&mut self::stream(&mut server).written)).unwrap();
    assert_eq!(written.matches("HTTP/1.1 404 Not Found\r\n").count(), 1, "{written}");
    assert!(written.ends_with("\r\n\r\nthe path is not /mqtt\n"), "{written}");
}

#[test]
fn what_has_come_of_a_handshake_stays_when_there_is_nothing_to_write() {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let session = rustls::client::UnbufferedClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let socket = Stream { room: 4096, ..Stream::default() };
    let mut client = Transport::Tls(Box::new(super::Tls::client(socket, session)));
    assert!(!client.flush().unwrap());
    let before = client.kept_bytes();
    // The beginning of a record of 80 bytes.
    stream(&mut client).reads.push_back(b"\x16\x03\x03\x00\x50\x02".to_vec());
    assert_eq!(client.read(&mut [0; 1024]).unwrap().unwrap().len, 0);
    let kept = client.kept_bytes();
    assert!(kept >= before + 6, "{kept}");
    assert!(!client.flush().unwrap());
    assert_eq!(client.kept_bytes(), kept);
}
