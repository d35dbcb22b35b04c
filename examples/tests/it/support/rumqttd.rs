use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use super::{SettingsFile, eventually};

/// rumqttd, which listens at one address for 3.1.1 and at another one for 5.0; killed when dropped.
pub(crate) struct Rumqttd {
    child: Child,
    addresses: [SocketAddr; 2],
    config: SettingsFile,
}

/// What it writes to standard error goes there.
fn log_of(config: &SettingsFile) -> String {
    format!("{}.log", config.path())
}

impl Rumqttd {
    /// The program that the variable `RUMQTTD` names, or the one that the shell finds.
    pub(crate) fn start(name: &str) -> Self {
        // Free a moment ago: rumqttd cannot be asked for any port.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = free.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(free);
        let listener = |version: &str, address: SocketAddr| {
            format!(
                "[{version}.1]\nname = \"{version}\"\nlisten = \"{address}\"\nnext_connection_delay_ms = 1\n\
                 [{version}.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 1048576\n\
                 max_inflight_count = 100\ndynamic_filters = true\n"
            )
        };
        let [before_5, at_5] = [listener("v4", addresses[0]), listener("v5", addresses[1])];
        let text = format!(
            "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n\
             max_segment_size = 104857600\nmax_segment_count = 10\n{before_5}{at_5}"
        );
        let config = SettingsFile::new(&format!("rumqttd-{name}"), &text);
        let program = std::env::var("RUMQTTD").unwrap_or_else(|_| "rumqttd".to_owned());
        let log = File::create(log_of(&config)).unwrap();
        let mut command = Command::new(&program);
        command.args(["--quiet", "--config", config.path()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; cargo install rumqttd"));
        let rumqttd = Self { child, addresses, config };
        for address in addresses {
            eventually("rumqttd listens", || TcpStream::connect(address).is_ok());
        }
        rumqttd
    }

    /// Whether one of its own threads has panicked: then it answers nobody any more.
    pub(crate) fn has_panicked(&self) -> bool {
        fs::read_to_string(log_of(&self.config)).is_ok_and(|text| text.contains("panicked at"))
    }

    /// For 3.1.1 and for 5.0.
    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }
}

impl Drop for Rumqttd {
    fn drop(&mut self) {
        // Fails if the process has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(log_of(&self.config));
    }
}
