use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use damselfly_broker::ConnectionId;
use damselfly_codec::{FixedHeader, Packet, PacketType, Version};
use damselfly_session::Timestamp;

use super::gather::Gather;
use crate::packets::{packet_in_words, publish_in_words};

/// Packets that are kept of each client.
pub(super) const PACKETS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) way: Way,
    pub(super) text: String,
}

/// What is remembered of one client, as long as its session.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) since: Timestamp,
    pub(super) version: Version,
    pub(super) address: Option<SocketAddr>,
    pub(super) receive_maximum: NonZeroU16,
    pub(super) lines: VecDeque<Line>,
}

/// One connection, until another takes its slot.
#[derive(Debug)]
struct Observed {
    id: ConnectionId,
    client: Option<Box<str>>,
    version: Version,
    receive_maximum: NonZeroU16,
    out: Gather,
    /// Before the client is known.
    early: VecDeque<Line>,
}

/// The last packets of every client: [`PACKETS`] for each session and for each connection that has none yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    connections: BTreeMap<u32, Observed>,
    clients: BTreeMap<Box<str>, Client>,
}

impl Log {
    pub(super) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.get(id)
    }

    /// Whole packets from a client.
    pub(super) fn heard(&mut self, now: Timestamp, id: ConnectionId, packets: &[u8]) {
        let mut lines = Vec::new();
        let observed = self.observed(id);
        Gather::default().push(packets, |header, body| {
            if header.packet_type() == PacketType::Connect {
                observed.note_connect(header, body);
            }
            let text = in_words(observed.version, header, body);
            lines.push(Line { at: now, way: Way::In, text });
        });
        self.add(id, lines);
    }

    /// Bytes to a client.
    pub(super) fn said(&mut self, now: Timestamp, id: ConnectionId, bytes: &[u8]) {
        let mut lines = Vec::new();
        let observed = self.observed(id);
        let version = observed.version;
        observed.out.push(bytes, |header, body| {
            lines.push(Line { at: now, way: Way::Out, text: in_words(version, header, body) });
        });
        self.add(id, lines);
    }

    /// Whose connection it is.
    pub(super) fn connected(
        &mut self,
        now: Timestamp,
        id: ConnectionId,
        client_id: &str,
        version: Version,
        address: Option<SocketAddr>,
    ) {
        let observed = self.observed(id);
        observed.client = Some(client_id.into());
        observed.version = version;
        let receive_maximum = observed.receive_maximum;
        let early = mem::take(&mut observed.early);
        let client = self.clients.entry(client_id.into()).or_insert_with(|| Client {
            since: now,
            version,
            address,
            receive_maximum,
            lines: VecDeque::new(),
        });
        (client.version, client.address, client.receive_maximum) = (version, address, receive_maximum);
        keep(&mut client.lines, early);
    }

    /// A session is gone, and what was remembered with it.
    pub(super) fn ended(&mut self, client_id: &str) {
        self.clients.remove(client_id);
    }

    fn observed(&mut self, id: ConnectionId) -> &mut Observed {
        let observed = self.connections.entry(id.slot()).or_insert_with(|| Observed::new(id));
        if observed.id != id {
            *observed = Observed::new(id);
        }
        observed
    }

    fn add(&mut self, id: ConnectionId, lines: Vec<Line>) {
        let Some(observed) = self.connections.get_mut(&id.slot()) else { return };
        match &observed.client {
            None => keep(&mut observed.early, lines),
            // Without a session there is nobody left to ask about.
            Some(client_id) => {
                if let Some(client) = self.clients.get_mut(client_id) {
                    keep(&mut client.lines, lines);
                }
            }
        }
    }
}

impl Observed {
    fn new(id: ConnectionId) -> Self {
        Self {
            id,
            client: None,
            version: Version::V5_0,
            receive_maximum: NonZeroU16::MAX,
            out: Gather::default(),
            early: VecDeque::new(),
        }
    }

    fn note_connect(&mut self, header: FixedHeader, body: &[u8]) {
        // It names its version itself.
        let Ok(Packet::Connect(view)) = Packet::decode_body(Version::V5_0, header, body) else { return };
        let connect = view.fields();
        self.version = connect.version;
        self.receive_maximum = connect.properties.receive_maximum().unwrap_or(NonZeroU16::MAX);
    }
}

fn keep(kept: &mut VecDeque<Line>, lines: impl IntoIterator<Item = Line>) {
    for line in lines {
        if kept.len() == PACKETS {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// The packet in words; of one whose end is not kept, what its head says.
fn in_words(version: Version, header: FixedHeader, body: &[u8]) -> String {
    let missing = header.frame_len().saturating_sub(usize::from(header.header_len()) + body.len());
    match Packet::decode_body(version, header, body) {
        Ok(Packet::Publish(publish)) => {
            format!("PUBLISH {}", publish_in_words(&publish, publish.payload.len() + missing))
        }
        Ok(packet) if missing == 0 => packet_in_words(&packet),
        _ => format!("{}, {} bytes", header.packet_type().name(), header.frame_len()),
    }
}
