use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use super::LIMIT;

/// A client that knows bytes only, so that it can do what no client should. Every wait is bounded.
pub(crate) struct Wire {
    stream: TcpStream,
    /// 4 is 3.1.1, 5 is 5.0.
    level: u8,
}

impl Wire {
    /// A connection on which nothing has been sent.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, LIMIT).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self { stream, level: 0 }
    }

    /// The same from another address of this machine.
    pub(crate) fn open_from(from: Ipv4Addr, address: SocketAddr) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        connect(&socket, &address).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Self { stream, level: 0 }
    }

    /// The other side: a broker that has accepted the next client with 5.0, whose CONNECT it passes over.
    pub(crate) fn accept(listener: &TcpListener) -> Self {
        Self::accept_with(listener, b"\0\0\0")
    }

    /// The same with this CONNACK, after its fixed header.
    pub(crate) fn accept_with(listener: &TcpListener, connack: &[u8]) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let mut wire = Self { stream, level: 5 };
        assert_eq!(wire.receive().0, 0x10, "CONNECT");
        wire.send(&frame(0x20, connack));
        wire
    }

    /// A broker grants the next SUBSCRIBE, of one filter.
    pub(crate) fn grant(&mut self, qos: u8) {
        let (first, body) = self.receive();
        assert_eq!(first, 0x82, "SUBSCRIBE");
        self.send(&frame(0x90, &[body[0], body[1], 0, qos]));
    }

    /// A second handle to the same connection.
    pub(crate) fn again(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), level: self.level }
    }

    /// A client that was accepted, with a clean session and no Keep Alive.
    pub(crate) fn connect(address: SocketAddr, level: u8, client_id: &str) -> Self {
        let mut wire = Self::open(address);
        wire.send_connect(level, client_id);
        wire.expect_connack();
        wire
    }

    pub(crate) fn send_connect(&mut self, level: u8, client_id: &str) {
        self.send_connect_with_keep_alive(level, client_id, 0);
    }

    pub(crate) fn send_connect_with_keep_alive(&mut self, level: u8, client_id: &str, seconds: u8) {
        self.level = level;
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, 0b10, 0, seconds]);
        body.extend(self.no_properties());
        body.extend(string(client_id));
        self.send(&frame(0x10, &body));
    }

    /// A client that was accepted, whose session outlives its connection by an hour.
    pub(crate) fn connect_lasting(address: SocketAddr, level: u8, client_id: &str) -> Self {
        let mut wire = Self::open(address);
        wire.level = level;
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, 0, 0, 0]);
        body.extend(if level == 5 { &b"\x05\x11\0\0\x0E\x10"[..] } else { &[] });
        body.extend(string(client_id));
        wire.send(&frame(0x10, &body));
        let (first, body) = wire.receive();
        assert_eq!((first, body.get(1)), (0x20, Some(&0)), "CONNACK with success");
        wire
    }

    /// Asks with a will of QoS 0: the code of the CONNACK.
    pub(crate) fn ask_with_will(&mut self, level: u8, client_id: &str, topic: &str, payload: &[u8]) -> u8 {
        self.level = level;
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, 0b110, 0, 0]);
        body.extend(self.no_properties());
        body.extend(string(client_id));
        body.extend(self.no_properties());
        body.extend(string(topic));
        body.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        body.extend(payload);
        self.send(&frame(0x10, &body));
        let (first, body) = self.receive();
        assert_eq!(first, 0x20, "CONNACK");
        body[1]
    }

    /// Asks with a User Name and a Password, a clean session: the code of the CONNACK.
    pub(crate) fn ask(&mut self, level: u8, client_id: &str, user_name: Option<&str>, password: Option<&str>) -> u8 {
        self.send_credentials(level, client_id, user_name, password);
        let (first, body) = self.receive();
        assert_eq!(first, 0x20, "CONNACK");
        body[1]
    }

    /// The same without waiting.
    pub(crate) fn send_credentials(
        &mut self,
        level: u8,
        client_id: &str,
        user_name: Option<&str>,
        password: Option<&str>,
    ) {
        self.level = level;
        let mut body = b"\0\x04MQTT".to_vec();
        let flags = 0b10 | u8::from(user_name.is_some()) << 7 | u8::from(password.is_some()) << 6;
        body.extend([level, flags, 0, 0]);
        body.extend(self.no_properties());
        body.extend(string(client_id));
        body.extend(user_name.map(string).unwrap_or_default());
        body.extend(password.map(string).unwrap_or_default());
        self.send(&frame(0x10, &body));
    }

    /// Whether nothing has come yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let is_silent = self.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
        is_silent
    }

    /// Asks as this user, with a session that outlives its connection by an hour: Session Present and the code.
    pub(crate) fn ask_lasting(&mut self, level: u8, client_id: &str, (user_name, password): (&str, &str)) -> (u8, u8) {
        self.level = level;
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, 0xC0, 0, 0]);
        body.extend(if level == 5 { &b"\x05\x11\0\0\x0E\x10"[..] } else { &[] });
        body.extend([client_id, user_name, password].map(string).concat());
        self.send(&frame(0x10, &body));
        let (first, body) = self.receive();
        assert_eq!(first, 0x20, "CONNACK");
        (body[0], body[1])
    }

    /// Asks as this user with a will of QoS 0: the code of the CONNACK.
    pub(crate) fn ask_with_will_of(
        &mut self,
        level: u8,
        client_id: &str,
        (user_name, password): (&str, &str),
        topic: &str,
        payload: &[u8],
    ) -> u8 {
        self.level = level;
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, 0b1100_0110, 0, 0]);
        body.extend(self.no_properties());
        body.extend(string(client_id));
        body.extend(self.no_properties());
        body.extend(string(topic));
        body.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        body.extend(payload);
        body.extend([user_name, password].map(string).concat());
        self.send(&frame(0x10, &body));
        let (first, body) = self.receive();
        assert_eq!(first, 0x20, "CONNACK");
        body[1]
    }

    /// A retained PUBLISH of QoS 0.
    pub(crate) fn publish_retained(&mut self, topic: &str, payload: &[u8]) {
        let mut frame = publish_frame(self.level, topic, payload);
        frame[0] |= 1;
        self.send(&frame);
    }

    /// Sends DISCONNECT and waits for the end of the connection.
    pub(crate) fn disconnect(mut self) {
        self.send(&[0xE0, 0]);
        self.expect_end();
    }

    pub(crate) fn expect_connack(&mut self) {
        let (first, body) = self.receive();
        assert_eq!((first, body.get(..2)), (0x20, Some(&[0, 0][..])), "CONNACK with success");
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        assert_eq!(self.ask_for(filter, qos), qos, "SUBACK for {filter}");
    }

    /// Subscribes: the code of the SUBACK.
    pub(crate) fn ask_for(&mut self, filter: &str, qos: u8) -> u8 {
        let mut body = vec![0, 9];
        body.extend(self.no_properties());
        body.extend(string(filter));
        body.push(qos);
        self.send(&frame(0x82, &body));
        let (first, body) = self.receive();
        assert_eq!(first, 0x90, "SUBACK for {filter}");
        body[body.len() - 1]
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) {
        let frame = publish_frame(self.level, topic, payload);
        self.send(&frame);
    }

    /// A PUBLISH of QoS 1 or 2 with its Packet Identifier.
    pub(crate) fn publish_at(&mut self, qos: u8, id: u16, topic: &str, payload: &[u8]) {
        let mut body = string(topic);
        body.extend(id.to_be_bytes());
        body.extend(self.no_properties());
        body.extend(payload);
        self.send(&frame(0x30 | qos << 1, &body));
    }

    /// An acknowledgement of success: PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(crate) fn acknowledge(&mut self, first: u8, id: u16) {
        self.send(&frame(first, &id.to_be_bytes()));
    }

    /// The Reason Code of the next packet, which must be this acknowledgement.
    pub(crate) fn expect_acknowledged(&mut self, first: u8, id: u16) -> u8 {
        let (came, body) = self.receive();
        assert_eq!((came, body.get(..2)), (first, Some(&id.to_be_bytes()[..])), "{body:02X?}");
        assert!(self.level == 5 || body.len() == 2, "3.1.1 has no Reason Code: {body:02X?}");
        body.get(2).copied().unwrap_or(0)
    }

    /// The Packet Identifier and payload of the next PUBLISH, which must be of QoS 1 or 2 and have this topic.
    pub(crate) fn expect_publish_with_id(&mut self, topic: &str) -> (u16, Vec<u8>) {
        let (first, body) = self.receive();
        assert!(first & 0xF0 == 0x30 && first & 0b110 != 0, "PUBLISH of QoS 1 or 2: {first:02X}");
        assert_eq!(&body[2..2 + topic.len()], topic.as_bytes());
        let rest = &body[2 + topic.len()..];
        (u16::from_be_bytes([rest[0], rest[1]]), rest[2 + self.no_properties().len()..].to_vec())
    }

    /// The payload of the next PUBLISH, which must be of QoS 0 and have this topic.
    pub(crate) fn expect_publish(&mut self, topic: &str) -> Vec<u8> {
        let (first, body) = self.receive();
        assert_eq!(first & 0b1111_0110, 0x30, "PUBLISH of QoS 0, not {body:02X?}");
        let start = 2 + topic.len() + self.no_properties().len();
        assert_eq!(&body[2..2 + topic.len()], topic.as_bytes());
        body[start..].to_vec()
    }

    /// Sends PINGREQ and waits for PINGRESP: everything sent before has been handled.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.receive(), (0xD0, Vec::new()), "PINGRESP");
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends as much as the socket takes at once; `None` if the broker has something to say or has closed.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_blocked = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        self.stream.set_nonblocking(true).unwrap();
        let is_silent = self.stream.peek(&mut [0]).as_ref().is_err_and(is_blocked);
        let sent = match self.stream.write(bytes) {
            Ok(len) => Some(len),
            Err(error) => is_blocked(&error).then_some(0),
        };
        let sent = sent.filter(|_| is_silent);
        self.stream.set_nonblocking(false).unwrap();
        sent
    }

    /// The next packet: its first byte and its body.
    pub(crate) fn receive(&mut self) -> (u8, Vec<u8>) {
        let first = self.byte();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.byte());
            length |= (byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (first, body)
    }

    /// Waits for DISCONNECT with this Reason Code and the end of the connection. 3.1.1 has only the end.
    pub(crate) fn expect_disconnect(mut self, reason_code: u8) {
        if self.level == 5 {
            let (first, body) = self.receive();
            assert_eq!((first, body.first()), (0xE0, Some(&reason_code)), "DISCONNECT");
        }
        self.expect_end();
    }

    /// Waits for DISCONNECT with Server shutting down, whatever comes before, and stays.
    pub(crate) fn expect_shutdown(&self) {
        let mut own = self.again();
        while own.receive() != (0xE0, vec![0x8B]) {}
    }

    /// Waits until the broker closes the connection without another word.
    pub(crate) fn expect_end(mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("expected the end of the connection, got {other:?} {byte:?}"),
        }
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// An empty property list where the version has one.
    fn no_properties(&self) -> &'static [u8] {
        if self.level == 5 { &[0] } else { &[] }
    }
}

/// A PUBLISH of QoS 0.
pub(crate) fn publish_frame(level: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = string(topic);
    if level == 5 {
        body.push(0);
    }
    body.extend(payload);
    frame(0x30, &body)
}

/// With its length in front.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

/// A packet with its fixed header.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7F).unwrap();
        length >>= 7;
        if length == 0 {
            out.push(low);
            break;
        }
        out.push(low | 0x80);
    }
    out.extend(body);
    out
}
