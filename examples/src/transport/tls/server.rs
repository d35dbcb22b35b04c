//! TLS of a broker's listener: its files, and what is in force of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::files::{self, TlsError};
use crate::transport::TransportKind;

/// What a broker offers for MQTT over TLS. IANA, TLS ALPN Protocol IDs
const ALPN_MQTT: &[u8] = b"mqtt";
/// What a browser asks for.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// The files of a listener over TLS, all of PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerTlsFiles {
    /// Each certificate, followed by those that lead to its CA, and its key. A client that names a server (SNI) gets the
    /// first one that is valid for the name; who names none or another gets the first.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// The CAs of clients. Default: none, and no client is asked for a certificate.
    pub client_ca: Vec<PathBuf>,
    /// Revocation lists of these CAs. With one, each client's certificate has to be of a CA that has a list here; the day
    /// when the next list is due is not looked at.
    pub crl: Vec<PathBuf>,
    /// Clients may come without a certificate although there are CAs for them. Default: no.
    pub is_client_certificate_optional: bool,
}

impl ServerTlsFiles {
    /// One certificate with its key, for clients without one.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificates: vec![(certificate.into(), key.into())], ..Self::default() }
    }
}

/// TLS for the connections of a listener. A clone is the same: to [reload](Self::reload) one reloads all.
#[derive(Clone, Debug)]
pub struct ServerTls {
    files: Arc<ServerTlsFiles>,
    in_force: Arc<Mutex<Loaded>>,
}

#[derive(Clone, Debug)]
struct Loaded {
    mqtt: Arc<ServerConfig>,
    websocket: Arc<ServerConfig>,
}

impl ServerTls {
    /// Reads the files.
    pub fn new(files: ServerTlsFiles) -> Result<Self, TlsError> {
        let loaded = load(&files)?;
        Ok(Self { files: Arc::new(files), in_force: Arc::new(Mutex::new(loaded)) })
    }

    /// Reads the files again, for connections to come; those that stand stay as they are. If anything is wrong with the
    /// files, what was in force stays so. May be called from any thread.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = load(&self.files)?;
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The files that are read.
    pub fn files(&self) -> &ServerTlsFiles {
        &self.files
    }

    /// A connection that was accepted.
    pub(crate) fn accept(&self, kind: TransportKind) -> Result<UnbufferedServerConnection, rustls::Error> {
        let loaded = self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone();
        UnbufferedServerConnection::new(match kind {
            TransportKind::Tcp => loaded.mqtt,
            TransportKind::WebSocket => loaded.websocket,
        })
    }
}

fn load(files: &ServerTlsFiles) -> Result<Loaded, TlsError> {
    let resolver = Certificates::load(files)?;
    let unfit = |error: rustls::Error| TlsError::Usage(error.to_string());
    let builder = ServerConfig::builder_with_provider(files::provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(unfit)?;
    let mut config = if files.client_ca.is_empty() {
        if !files.crl.is_empty() {
            return Err(TlsError::Usage("revocation lists are of no use without the CAs of clients".into()));
        }
        builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver))
    } else {
        let roots = files::roots(&files.client_ca)?;
        let verifier = verifier(roots, files::revoked(&files.crl)?, files)?;
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(resolver));
        // Who resumes a session is not asked for the certificate again, which may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    };
    config.alpn_protocols = vec![ALPN_MQTT.to_vec()];
    let mqtt = Arc::new(config.clone());
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    Ok(Loaded { mqtt, websocket: Arc::new(config) })
}

fn verifier(
    roots: Arc<RootCertStore>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    files: &ServerTlsFiles,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, files::provider());
    if !lists.is_empty() {
        // The lists are those of the CAs that clients have their certificates from.
        builder = builder.with_crls(lists).only_check_end_entity_revocation();
    }
    if files.is_client_certificate_optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| {
        let path = files.crl.first().or(files.client_ca.first()).cloned().unwrap_or_default();
        TlsError::Content(path, error.to_string())
    })
}

/// Chooses by the name that a client asks for.
#[derive(Debug)]
struct Certificates {
    first: Arc<CertifiedKey>,
    /// By the names of all, in lower case; one with a wildcard has it for its first label.
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl Certificates {
    fn load(files: &ServerTlsFiles) -> Result<Self, TlsError> {
        let mut all = Vec::new();
        for (certificate, key) in &files.certificates {
            all.push(Arc::new(files::certified(certificate, key)?));
        }
        let none = || TlsError::Usage("TLS needs a certificate and its key".into());
        let first = all.first().cloned().ok_or_else(none)?;
        let mut by_name = HashMap::new();
        for certified in &all {
            let own = certified.cert.first().and_then(|own| webpki::EndEntityCert::try_from(own).ok());
            for name in own.iter().flat_map(|own| own.valid_dns_names()) {
                by_name.entry(name.to_ascii_lowercase()).or_insert_with(|| certified.clone());
            }
        }
        Ok(Self { first, by_name })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let any = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(any)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(named.unwrap_or(&self.first).clone())
    }
}
