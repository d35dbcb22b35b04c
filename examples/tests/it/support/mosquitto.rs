use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use super::{SettingsFile, eventually};

const PROGRAM: &str = "/usr/sbin/mosquitto";

/// Debian's mosquitto on a free port of the loopback address, killed when dropped.
pub(crate) struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _config: SettingsFile,
}

impl Mosquitto {
    /// With these lines in its configuration.
    pub(crate) fn start(name: &str, lines: &str) -> Self {
        let address = free_address();
        let text = format!("listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n{lines}\n", address.port());
        let config = SettingsFile::new(&format!("mosquitto-{name}"), &text);
        let mut command = Command::new(PROGRAM);
        command.args(["-c", config.path()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{PROGRAM}: {error}; apt-get install mosquitto"));
        let mosquitto = Self { child, address, _config: config };
        eventually("mosquitto listens", || TcpStream::connect(address).is_ok());
        mosquitto
    }

    /// With a second listener, over WebSocket: alone, version 2.0.11 does not start one. Where that is comes with it.
    pub(crate) fn start_both(name: &str) -> (Self, SocketAddr) {
        let address = free_address();
        let mosquitto = Self::start(name, &format!("listener {} 127.0.0.1\nprotocol websockets", address.port()));
        eventually("mosquitto listens over WebSocket", || TcpStream::connect(address).is_ok());
        (mosquitto, address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Free a moment ago: mosquitto cannot be asked for any port.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Fails if the process has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
