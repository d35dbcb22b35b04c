//! The settings of listeners over TLS.

use damselfly_examples::broker::{ServerTls, ServerTlsFiles};

/// As they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) certificate: Vec<String>,
    pub(crate) key: Vec<String>,
    pub(crate) client_ca: Vec<String>,
    pub(crate) crl: Vec<String>,
    pub(crate) require_client_certificate: bool,
    pub(crate) certificate_as_user_name: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificate: Vec::new(),
            key: Vec::new(),
            client_ca: Vec::new(),
            crl: Vec::new(),
            require_client_certificate: true,
            certificate_as_user_name: false,
        }
    }
}

impl Tls {
    /// What is in the files, or what is wrong with them.
    pub(super) fn load(&self) -> Result<ServerTls, String> {
        if self.certificate.is_empty() {
            return Err("TLS needs a certificate and its key: give certificate and key".into());
        }
        if self.certificate.len() != self.key.len() {
            let (certificates, keys) = (self.certificate.len(), self.key.len());
            return Err(format!(
                "there are {certificates} files in certificate and {keys} in key: each needs one of the other"
            ));
        }
        if self.client_ca.is_empty() && self.certificate_as_user_name {
            return Err("certificate_as_user_name needs client_ca, with the CAs of the clients' certificates".into());
        }
        let mut files = ServerTlsFiles::default();
        files.certificates =
            self.certificate.iter().zip(&self.key).map(|(one, two)| (one.into(), two.into())).collect();
        files.client_ca = self.client_ca.iter().map(Into::into).collect();
        files.crl = self.crl.iter().map(Into::into).collect();
        files.is_client_certificate_optional = !self.require_client_certificate;
        ServerTls::new(files).map_err(|error| error.to_string())
    }
}
