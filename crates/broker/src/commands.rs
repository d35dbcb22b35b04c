//! What the embedding program has done to connections and sessions.

use damselfly_codec::ReasonCode;
use damselfly_session::Timestamp;

use crate::{Broker, ConnectionId, ProblemInformation, broker::Fault};

impl Broker {
    /// Ends all connections, 5.0 clients with DISCONNECT `0x8B`, and refuses new ones. Sessions stay.
    pub fn shutdown(&mut self, now: Timestamp) {
        self.is_shutting_down = true;
        for connection in self.connections.ids() {
            self.disconnect(now, connection, ReasonCode::ServerShuttingDown);
        }
        self.close_group();
    }

    /// Ends a connection for a reason of the embedding program, for example
    /// [`ReasonCode::AdministrativeAction`]. The will is published. [MQTT-4.13.2-1]
    pub fn disconnect(&mut self, now: Timestamp, connection: ConnectionId, reason_code: ReasonCode) {
        self.disconnect_with(now, connection, reason_code, &ProblemInformation::new());
    }

    /// The same, and what a 5.0 client is told beside the code.
    pub fn disconnect_with(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        reason_code: ReasonCode,
        information: &ProblemInformation,
    ) {
        self.fail_with(now, connection, Fault::Refuse(reason_code), information);
        self.close_group();
    }

    /// Ends a connection and names another server, for now ([`ReasonCode::UseAnotherServer`]) or for good
    /// ([`ReasonCode::ServerMoved`]): DISCONNECT, before the client was accepted CONNACK, with the Server Reference if it
    /// fits the client's Maximum Packet Size. Before 5.0 the connection is closed, before it was accepted with return code
    /// 3. The will is published, the session stays for its expiry. [MQTT-4.11]
    ///
    /// ```
    /// use damselfly_broker::{Broker, Config, Peer, ProblemInformation, Timestamp};
    ///
    /// let mut broker = Broker::new(Config::default(), 42)?;
    /// let now = Timestamp::from_secs(1);
    /// let connection = broker.handle_connection(now, Peer::default())?;
    /// let why = ProblemInformation::new().reason_string("this one is being updated")?;
    /// broker.redirect(now, connection, false, "mqtt2.example.com:8883", &why);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn redirect(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        permanent: bool,
        server_reference: &str,
        information: &ProblemInformation,
    ) {
        self.send_elsewhere(now, connection, (permanent, server_reference), information);
        self.close_group();
    }

    /// Ends a connected or offline session for a reason of the embedding program. False if there is none.
    pub fn remove_session(&mut self, now: Timestamp, client_id: &str) -> bool {
        let Some(key) = self.sessions.find(client_id) else { return false };
        if let Some(owner) = self.sessions.get(key).and_then(|session| session.owner) {
            self.disconnect(now, owner, ReasonCode::AdministrativeAction);
        }
        if self.sessions.get(key).is_some() {
            self.end_session(now, key);
        }
        self.close_group();
        true
    }
}
