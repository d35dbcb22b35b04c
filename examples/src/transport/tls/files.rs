//! Certificates, keys and revocation lists from files of PEM.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, crypto::ring};

/// What is wrong with the files of TLS, with the file and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// It cannot be read.
    #[error("{path}: it cannot be read: {1}", path = .0.display())]
    Unreadable(PathBuf, io::Error),
    /// It is not what it should be.
    #[error("{path}: {1}", path = .0.display())]
    Content(PathBuf, String),
    /// A key and a certificate that do not belong together.
    #[error("{key}: this is not the key of the certificate in {certificate}", key = .key.display(), certificate = .certificate.display())]
    OtherKey {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// What does not fit together.
    #[error("{0}")]
    Usage(String),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a file, the first one's own and then those that lead to a CA.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = items(path, "certificate (-----BEGIN CERTIFICATE-----)")?;
    for certificate in &chain {
        webpki::EndEntityCert::try_from(certificate).map_err(|error| wrong_certificate(path, &error))?;
    }
    Ok(chain)
}

/// The certificates of some CAs.
pub(super) fn roots<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        for certificate in items::<CertificateDer<'static>>(path, "certificate (-----BEGIN CERTIFICATE-----)")? {
            roots.add(certificate).map_err(|error| wrong_certificate(path, &error))?;
        }
    }
    Ok(Arc::new(roots))
}

/// The lists of some files.
pub(super) fn revoked(paths: &[PathBuf]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut lists = Vec::new();
    for path in paths {
        lists.extend(items(path, "revocation list (-----BEGIN X509 CRL-----)")?);
    }
    Ok(lists)
}

/// A chain with its key.
pub(super) fn certified(certificate: &Path, key_file: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = chain(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let text = match std::fs::read_to_string(key_file) {
                Ok(text) if text.contains("ENCRYPTED") => {
                    "the key is encrypted, and nobody asks for its password: write one \
                     that is not, with openssl pkey -in THIS -out OTHER, and let nobody else read it"
                }
                _ => "there is no private key (-----BEGIN PRIVATE KEY-----) in it",
            };
            TlsError::Content(key_file.into(), text.into())
        }
        error => wrong(key_file, error),
    })?;
    let key = provider().key_provider.load_private_key(key).map_err(|error| {
        TlsError::Content(
            key_file.into(),
            format!("the key cannot be used; RSA, ECDSA (P-256, P-384) and Ed25519 can: {error}"),
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(TlsError::OtherKey { key: key_file.into(), certificate: certificate.into() }),
    }
}

/// All items of one kind; a file without any is a mistake.
fn items<T: PemObject>(path: &Path, what: &str) -> Result<Vec<T>, TlsError> {
    let read = T::pem_file_iter(path).map_err(|error| wrong(path, error))?;
    let items: Vec<T> = read.collect::<Result<_, _>>().map_err(|error| wrong(path, error))?;
    if items.is_empty() {
        return Err(TlsError::Content(path.into(), format!("there is no {what} in it")));
    }
    Ok(items)
}

fn wrong(path: &Path, error: pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => TlsError::Unreadable(path.into(), error),
        error => TlsError::Content(path.into(), format!("this is not PEM as it should be: {error}")),
    }
}

fn wrong_certificate(path: &Path, error: &dyn std::error::Error) -> TlsError {
    TlsError::Content(path.into(), format!("a certificate in it cannot be read: {error}"))
}
