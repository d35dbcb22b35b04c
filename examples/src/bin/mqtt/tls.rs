//! The flags of TLS, as users of `mosquitto_pub` know them.

use std::path::PathBuf;

use clap::Args;
use damselfly_examples::client::{ClientTls, Endpoint};

/// How TLS is spoken: with `mqtts://` and `wss://`, and by `--host` as soon as one of these is given.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// PEM file with the certificates of the CAs to trust; speaks TLS. Without it: those of the system.
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    /// Directory of such files, each of them read; speaks TLS.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) capath: Option<PathBuf>,
    /// PEM file with the certificate of this client, and those that lead to its CA; speaks TLS.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with the key of that certificate, not encrypted.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Trust the CAs of the system; speaks TLS.
    #[arg(long, conflicts_with_all = ["cafile", "capath"])]
    pub(crate) tls_use_os_certs: bool,
    /// The name that the broker's certificate has to be valid for, and that the broker is told (SNI), in place of the host.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
    /// Take the certificate of any name; everything else about it is still checked.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Protocol to offer (ALPN), such as mqtt.
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) tls_alpn: Option<String>,
}

impl TlsArgs {
    /// Whether `--host` is to be spoken to in TLS.
    fn is_wanted(&self) -> bool {
        self.cafile.is_some() || self.capath.is_some() || self.cert.is_some() || self.tls_use_os_certs
    }

    /// Where to connect to; with TLS the port is another one.
    pub(crate) fn endpoint(&self, host: &str, port: Option<u16>) -> Endpoint {
        if self.is_wanted() {
            Endpoint::new(host, port.unwrap_or(8883)).secure()
        } else {
            Endpoint::new(host, port.unwrap_or(1883))
        }
    }

    /// How TLS is spoken.
    pub(crate) fn client_tls(&self) -> Result<ClientTls, String> {
        let mut tls = ClientTls::default();
        tls.ca.extend(self.cafile.clone());
        if let Some(directory) = &self.capath {
            let unreadable = |error| format!("--capath {}: {error}", directory.display());
            for entry in std::fs::read_dir(directory).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                if path.extension().is_some_and(|extension| extension == "pem" || extension == "crt") {
                    tls.ca.push(path);
                }
            }
            if tls.ca.is_empty() {
                return Err(format!("--capath {}: there is no file ending in .pem or .crt in it", directory.display()));
            }
        }
        tls.certificate = self.cert.clone().zip(self.key.clone());
        tls.name.clone_from(&self.tls_name);
        tls.is_any_name_accepted = self.insecure;
        tls.alpn.extend(self.tls_alpn.clone());
        Ok(tls)
    }
}
