//! Overwrites passwords and Authentication Data in a stream of packets, however it is cut.

use core::ops::Range;

use damselfly_codec::{
    FrameLimits, PROTOCOL_MAXIMUM_PACKET_SIZE, PacketType, Properties, PropertiesBuf, Property, PropertyId, peek,
};

/// What stands where a secret stood: as long as it was.
const MASK: u8 = b'x';
const LIMITS: FrameLimits = FrameLimits { max_packet_size: PROTOCOL_MAXIMUM_PACKET_SIZE };

/// One direction of one connection.
///
/// Whether a byte is overwritten depends on the bytes before it alone, so that the same stream in other pieces becomes the
/// same. A packet that is not what it should be is overwritten from there to its end: a broken one is refused for what
/// stands before that.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// What came so far of a fixed header, or of a packet that may hold a secret.
    frame: Vec<u8>,
    /// Bytes to come of a packet that holds none.
    skip: usize,
    /// Nobody can tell any more where a packet begins.
    is_lost: bool,
}

impl Redactor {
    /// The next bytes, without secrets.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = if self.is_lost { rest.len() } else { self.next_len().min(rest.len()) };
            let (part, tail) = rest.split_at(len);
            rest = tail;
            if self.is_lost {
                out.resize(out.len() + len, MASK);
            } else if self.skip > 0 {
                self.skip -= len;
                out.extend_from_slice(part);
            } else {
                self.frame.extend_from_slice(part);
                self.append_masked(len, &mut out);
                self.look_at_header();
            }
        }
        out
    }

    /// How many bytes are of one kind.
    fn next_len(&self) -> usize {
        if self.skip > 0 {
            return self.skip;
        }
        match peek(&self.frame, &LIMITS) {
            Ok(Some(header)) => header.frame_len() - self.frame.len(),
            Ok(None) | Err(_) => 1,
        }
    }

    fn append_masked(&self, len: usize, out: &mut Vec<u8>) {
        let begin = self.frame.len() - len;
        let at = out.len();
        out.extend_from_slice(self.frame.get(begin..).unwrap_or_default());
        for secret in secrets(&self.frame) {
            let (first, last) = (secret.start.max(begin), secret.end.min(self.frame.len()));
            if let Some(part) = out.get_mut((at + first).saturating_sub(begin)..(at + last).saturating_sub(begin)) {
                part.fill(MASK);
            }
        }
    }

    fn look_at_header(&mut self) {
        match peek(&self.frame, &LIMITS) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let left = header.frame_len() - self.frame.len();
                let may_hold_secret =
                    matches!(header.packet_type(), PacketType::Connect | PacketType::Connack | PacketType::Auth);
                if left == 0 || !may_hold_secret {
                    self.frame.clear();
                    self.skip = left;
                }
            }
            Err(_) => self.is_lost = true,
        }
    }
}

/// Which bytes of this packet, as far as it is there, nobody may see. A range may end behind them.
fn secrets(frame: &[u8]) -> Vec<Range<usize>> {
    let Ok(Some(header)) = peek(frame, &LIMITS) else { return Vec::new() };
    let at = usize::from(header.header_len());
    let mut walk = Walk { frame, at, end: header.frame_len(), secrets: Vec::new() };
    // `None`: the rest is not there, or is overwritten already.
    let _ = match header.packet_type() {
        PacketType::Connect => walk.connect(),
        PacketType::Connack => walk.skip(2).and_then(|()| walk.properties()),
        PacketType::Auth => walk.skip(1).and_then(|()| walk.properties()),
        _ => None,
    };
    walk.secrets
}

struct Walk<'a> {
    frame: &'a [u8],
    at: usize,
    /// Of the packet.
    end: usize,
    secrets: Vec<Range<usize>>,
}

impl Walk<'_> {
    fn connect(&mut self) -> Option<()> {
        let name = self.field()?;
        if !matches!(name.len(), 4 | 6) {
            // It may reach as far as the password.
            self.secrets.push(name.clone());
        }
        if !matches!(self.frame.get(name)?, b"MQTT" | b"MQIsdp") {
            // The refusal speaks the version that this packet claims: 5.0 where the mark stands.
            if self.frame.get(self.at).is_some_and(|level| *level < 5) {
                self.at += 1;
            }
            return self.hide_rest();
        }
        let (level, flags) = (self.byte()?, self.byte()?);
        self.skip(2)?;
        if !matches!(level, 3..=5) {
            return self.hide_rest();
        }
        if level == 5 {
            self.properties()?;
        }
        self.field()?;
        if flags & 0x04 != 0 {
            if level == 5 {
                self.properties()?;
            }
            self.field()?;
            self.field()?;
        }
        if flags & 0x80 != 0 {
            self.field()?;
        }
        if flags & 0x40 != 0 {
            self.skip(2)?;
        }
        self.hide_rest()
    }

    fn properties(&mut self) -> Option<()> {
        let mut len = 0_usize;
        let mut shift = 0_u32;
        loop {
            let byte = usize::from(self.byte()?);
            len |= (byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return self.hide_rest();
            }
        }
        let end = self.at.saturating_add(len);
        if end > self.end {
            return self.hide_rest();
        }
        while self.at < end {
            self.property()?;
        }
        Some(())
    }

    fn property(&mut self) -> Option<()> {
        let Ok(id) = PropertyId::try_from(self.byte()?) else { return self.hide_rest() };
        match id {
            PropertyId::AuthenticationData => {
                let secret = self.field()?;
                self.secrets.push(secret);
                Some(())
            }
            PropertyId::UserProperty => {
                self.field()?;
                self.field().map(drop)
            }
            PropertyId::ContentType
            | PropertyId::ResponseTopic
            | PropertyId::CorrelationData
            | PropertyId::AssignedClientIdentifier
            | PropertyId::AuthenticationMethod
            | PropertyId::ResponseInformation
            | PropertyId::ServerReference
            | PropertyId::ReasonString => self.field().map(drop),
            PropertyId::PayloadFormatIndicator
            | PropertyId::RequestProblemInformation
            | PropertyId::RequestResponseInformation
            | PropertyId::MaximumQoS
            | PropertyId::RetainAvailable
            | PropertyId::WildcardSubscriptionAvailable
            | PropertyId::SubscriptionIdentifierAvailable
            | PropertyId::SharedSubscriptionAvailable => self.skip(1),
            PropertyId::ServerKeepAlive
            | PropertyId::ReceiveMaximum
            | PropertyId::TopicAliasMaximum
            | PropertyId::TopicAlias => self.skip(2),
            PropertyId::MessageExpiryInterval
            | PropertyId::SessionExpiryInterval
            | PropertyId::WillDelayInterval
            | PropertyId::MaximumPacketSize => self.skip(4),
            // In none of these packets.
            PropertyId::SubscriptionIdentifier => self.hide_rest(),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.frame.get(self.at).copied().filter(|_| self.at < self.end)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at += len;
        (self.at <= self.end).then_some(())
    }

    /// Two bytes of length, and what they announce.
    fn field(&mut self) -> Option<Range<usize>> {
        let len = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let field = self.at..self.at + len;
        if field.end > self.end {
            self.hide_rest()?;
        }
        self.at = field.end;
        Some(field)
    }

    fn hide_rest(&mut self) -> Option<()> {
        self.secrets.push(self.at..self.end);
        None
    }
}

/// The same properties, Authentication Data overwritten.
pub(super) fn redacted(properties: Properties<'_>) -> PropertiesBuf {
    let mut copy = PropertiesBuf::new();
    for property in properties {
        let masked;
        let property = match property {
            Property::AuthenticationData(data) => {
                masked = mask(data);
                Property::AuthenticationData(&masked)
            }
            property => property,
        };
        // They were valid before, and are no longer.
        let _ = copy.push(property);
    }
    copy
}

/// As long, and nothing else.
pub(super) fn mask(secret: &[u8]) -> Vec<u8> {
    vec![MASK; secret.len()]
}
