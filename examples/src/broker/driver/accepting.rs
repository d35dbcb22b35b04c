//! How connections come to be, and how they end that never were any.

use std::io;
use std::net::SocketAddr;

use damselfly_broker::{ConnectionId, Peer};
use damselfly_session::Timestamp;
use mio::{Interest, Token};

use super::{Driver, LISTENERS, Source, connection, index};
use crate::broker::connection::Connection;
use crate::broker::host::Host;
use crate::broker::listener::{Accepted, Listener};
use crate::broker::listening::{ListenAddress, Listening};
use crate::broker::socket::Socket;

/// Connections accepted per turn and listener.
const ACCEPTS: usize = 64;

impl<H: Host> Driver<H> {
    /// Listens on `address`, port 0 for a free one, and says where. Connections wait until the driver [runs](Self::run).
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        Ok(self.listen_as(&Listening::at(address))?.tcp().unwrap_or(address))
    }

    /// The same with more to say about it.
    pub fn listen_as(&mut self, asked: &Listening) -> io::Result<ListenAddress> {
        let token = Token(LISTENERS - self.listeners.len());
        let number = u16::try_from(self.listeners.len()).map_err(|_| io::ErrorKind::QuotaExceeded)?;
        let listener = Listener::bind(asked, token, &self.poller, number)?;
        let address = listener.address();
        self.listeners.push(listener);
        Ok(address)
    }

    pub(super) fn accept(&mut self, now: Timestamp, index: usize) {
        if self.accept_again_at.is_some() {
            return;
        }
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(index) else { return };
            match listener.accept() {
                Accepted::Nothing => return,
                Accepted::Stream(stream, address) => self.open(now, index, stream, address),
                Accepted::Failed(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
                Accepted::Exhausted(error) => {
                    if let Some(before) = self.exhausted.is_time(now) {
                        let connections = self.open_connections;
                        tracing::warn!(%error, connections, before, "no connection can be accepted; trying again and again");
                    }
                    self.accept_again_at = Some(now.saturating_add(self.settings.accept_pause));
                    return;
                }
            }
        }
        self.again.push(Source::Listener(index));
    }

    fn open(&mut self, now: Timestamp, listener: usize, mut stream: Socket, from: Option<SocketAddr>) {
        let address = from.map(tracing::field::display);
        let Some(place) = self.listeners.get(listener).and_then(Listener::place) else {
            tracing::debug!(address, "refused: its listener has all the connections it may have");
            return;
        };
        if let Err(error) = stream.set_nodelay() {
            tracing::debug!(address, %error, "the connection was gone before it was opened");
            return;
        }
        let id = match self.broker.handle_connection(now, from.map_or_else(Peer::default, Peer::at)) {
            Ok(id) => id,
            Err(refused) => {
                tracing::debug!(address, %refused, "refused");
                return;
            }
        };
        let slot = index(id);
        if let Err(error) = self.poller.register(&mut stream, Token(slot), Interest::READABLE | Interest::WRITABLE) {
            if let Some(before) = self.exhausted.is_time(now) {
                tracing::warn!(address, %error, before, "refused: the connection cannot be watched");
            }
            self.broker.handle_connection_lost(now, id);
            return;
        }
        let transport = match self.listeners.get(listener).map(|listener| listener.accepted(stream)) {
            Some(Ok(transport)) => transport,
            Some(Err(error)) => {
                tracing::warn!(address, %error, "refused: TLS cannot be spoken");
                return self.broker.handle_connection_lost(now, id);
            }
            None => return self.broker.handle_connection_lost(now, id),
        };
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        if let (Some(free), Some(listener)) = (self.connections.get_mut(slot), self.listeners.get_mut(listener)) {
            listener.take(place);
            *free = Some(Connection::new(id, transport, listener.number(), place));
            self.open_connections += 1;
        }
    }

    /// The peer broke the rules of what carries its packets: that ends the connection, a handshake with an answer.
    pub(super) fn give_up(&mut self, now: Timestamp, id: ConnectionId, error: &io::Error) {
        let Some(connection) = connection(&mut self.connections, id) else { return };
        let address = connection.peer_address();
        if connection.is_open() {
            self.refusals.broken(now, address, error);
            self.drop_connection(now, id);
        } else {
            self.refusals.handshake(now, address, error);
            self.close_when_written(now, id);
        }
    }
}
