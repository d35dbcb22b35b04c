//! Certificates of a test's own.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::Place;

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, and those above it but for the root's.
    chain: String,
    /// The root's.
    pub(crate) root: String,
}

/// What a certificate says.
#[derive(Default)]
pub(crate) struct Terms<'a> {
    /// Of a client, not of a server.
    pub(crate) is_client: bool,
    pub(crate) common_name: Option<&'a str>,
    /// DNS names and addresses.
    pub(crate) names: &'a [&'a str],
    /// The years in which it begins and ends to be valid.
    pub(crate) years: Option<(i32, i32)>,
    pub(crate) serial: u64,
}

/// A certificate with its chain and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Issued {
    /// Writes both: their paths.
    pub(crate) fn write(&self, place: &Place, name: &str) -> [String; 2] {
        [place.write(&format!("{name}.pem"), &self.chain), place.write(&format!("{name}.key"), &self.key)]
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (parameters, key) = (parameters(name), KeyPair::generate().unwrap());
        let root = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), chain: String::new(), root }
    }

    /// One below it.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (parameters, key) = (parameters(name), KeyPair::generate().unwrap());
        let own = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), chain: own + &self.chain, root: self.root.clone() }
    }

    pub(crate) fn issue(&self, terms: &Terms<'_>) -> Issued {
        let names: Vec<_> = terms.names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = terms.common_name {
            parameters.distinguished_name.push(DnType::CommonName, name);
        }
        let purpose = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.extended_key_usages = vec![purpose[usize::from(terms.is_client)].clone()];
        if let Some((from, to)) = terms.years {
            (parameters.not_before, parameters.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        }
        parameters.serial_number = Some(SerialNumber::from(terms.serial));
        let key = KeyPair::generate().unwrap();
        let own = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { chain: own + &self.chain, key: key.serialize_pem() }
    }

    /// A certificate of a server on the loopback address.
    pub(crate) fn server(&self) -> Issued {
        self.issue(&Terms { names: &["localhost", "127.0.0.1", "::1"], serial: 1, ..Terms::default() })
    }

    /// A certificate of a client.
    pub(crate) fn client(&self, name: &str, serial: u64) -> Issued {
        self.issue(&Terms { is_client: true, common_name: Some(name), serial, ..Terms::default() })
    }

    /// The list of those that are revoked.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let parameters = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        parameters.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}
