use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::BrokerProcess;

/// A settings file of the broker that is removed when dropped.
pub(crate) struct SettingsFile(PathBuf);

impl SettingsFile {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// A broker with this file, which names so many listeners.
    pub(crate) fn serve(&self, flags: &[&str], listeners: usize) -> BrokerProcess {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.args(["--config", self.path()]).args(flags);
        BrokerProcess::spawn(command, listeners)
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
