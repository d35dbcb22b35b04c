//! TLS of a client: whom it trusts, and what it shows.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::files::{self, TlsError};

/// How a client speaks TLS. Files are of PEM and read at each attempt to connect, so that they may be replaced at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientTls {
    /// Files with the CAs that are trusted. Default: those of the system.
    pub ca: Vec<PathBuf>,
    /// The client's certificate, followed by those that lead to its CA, and its key. Default: none.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name that the broker's certificate has to be valid for, and that the broker is told (SNI). Default: the host of
    /// the endpoint.
    pub name: Option<String>,
    /// Accept a certificate that is valid for another name. That its CA is trusted, and that it is neither expired nor
    /// revoked, is still asked for. Default: no.
    pub is_any_name_accepted: bool,
    /// Protocols to offer (ALPN). Default: none.
    pub alpn: Vec<String>,
}

impl ClientTls {
    /// Trusts the CAs of this file and no other.
    pub fn trusting(ca: impl Into<PathBuf>) -> Self {
        Self { ca: vec![ca.into()], ..Self::default() }
    }

    /// A connection to this host.
    pub(crate) fn connect(&self, host: &str) -> Result<UnbufferedClientConnection, TlsError> {
        let name = self.name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| TlsError::Usage(format!("{name:?} is no name that a certificate could be valid for")))?;
        UnbufferedClientConnection::new(Arc::new(self.config()?), name).map_err(|error| unfit(&error))
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let roots = if self.ca.is_empty() { system_roots()? } else { files::roots(&self.ca)? };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, files::provider()).build();
        let verifier = verifier.map_err(|error| TlsError::Usage(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(files::provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| unfit(&error))?;
        let builder = if self.is_any_name_accepted {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
        } else {
            builder.with_webpki_verifier(verifier)
        };
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certified = files::certified(certificate, key)?;
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(config)
    }
}

fn unfit(error: &Error) -> TlsError {
    TlsError::Usage(error.to_string())
}

/// Read once: it is more than a hundred certificates.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let text = format!(
            "the system has no certificates of CAs{why}: install ca-certificates, or name a file with the broker's CA"
        );
        return Err(TlsError::Usage(text));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// Checks all but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last.
        match self.0.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
