//! What is wrong with a connection over TLS, in words that say what to do.

use std::fmt;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::calendar::civil_from_days;

/// Why a connection over TLS ended, or never began.
#[derive(Debug)]
pub(crate) enum Problem {
    /// What came first is no TLS but begins like this.
    NotTls(u8),
    /// A handshake message beyond what is kept.
    TooLong,
    Failed(Error),
}

impl std::error::Error for Problem {}

impl Problem {
    /// `first` is the first byte that came, if the handshake was not over.
    pub(super) fn new(error: Error, first: Option<u8>) -> Self {
        match (&error, first) {
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Some(first)) => Self::NotTls(first),
            _ => Self::Failed(error),
        }
    }

    /// Whether it is about a certificate.
    pub(crate) fn is_of_certificate(&self) -> bool {
        match self {
            Self::Failed(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => true,
            Self::Failed(Error::AlertReceived(alert)) => of_certificate(*alert).is_some(),
            Self::Failed(_) | Self::NotTls(_) | Self::TooLong => false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls(0x10) => {
                f.write_str("this is MQTT without TLS, and only TLS is spoken here: use mqtts:// or another port")
            }
            Self::NotTls(b'A'..=b'Z') => {
                f.write_str("this is HTTP without TLS, and only TLS is spoken here: use wss:// or another port")
            }
            Self::NotTls(_) => f.write_str("what came is no TLS"),
            Self::TooLong => f.write_str("a message of the handshake is too long"),
            Self::Failed(Error::InvalidCertificate(error)) => certificate(f, error),
            Self::Failed(Error::NoCertificatesPresented) => {
                f.write_str("no certificate was shown, and one is required")
            }
            Self::Failed(Error::AlertReceived(alert)) => match of_certificate(*alert) {
                Some(text) => write!(f, "the other side {text}"),
                None => write!(f, "the other side refused: {alert:?}"),
            },
            Self::Failed(Error::PeerIncompatible(why)) => {
                write!(
                    f,
                    "there is no version or cipher of TLS that both sides speak (1.2 and 1.3 are spoken here): {why:?}"
                )
            }
            Self::Failed(Error::NoApplicationProtocol) => {
                f.write_str("the protocol that ALPN asks for is not spoken here")
            }
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// What the other side says of our certificate.
fn of_certificate(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnknownCA => {
            "does not trust the CA of the certificate it was shown: it needs that CA's certificate"
        }
        AlertDescription::CertificateExpired => {
            "says that the certificate it was shown has expired, or is not valid yet"
        }
        AlertDescription::CertificateRevoked => "says that the certificate it was shown is revoked",
        AlertDescription::CertificateRequired => "requires a certificate, and none was shown",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown => "does not accept the certificate it was shown",
        AlertDescription::AccessDenied => "says that the certificate it was shown has no access",
        _ => return None,
    })
}

/// What is wrong with the other side's certificate.
fn certificate(f: &mut fmt::Formatter<'_>, error: &CertificateError) -> fmt::Result {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            write!(f, "the certificate expired on {}", Day(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            write!(f, "the certificate is not valid before {}: check the clocks of both machines", Day(*not_before))
        }
        CertificateError::Expired => f.write_str("the certificate has expired"),
        CertificateError::NotValidYet => f.write_str("the certificate is not valid yet: check the clocks of both machines"),
        CertificateError::Revoked => f.write_str("the certificate is revoked"),
        CertificateError::UnknownIssuer => {
            f.write_str("the certificate is signed by no CA that is trusted here: name the CA's certificate, or have the other side show its whole chain")
        }
        CertificateError::UnknownRevocationStatus => {
            f.write_str("no revocation list (CRL) of the certificate's CA is known here: add it, or leave the lists out")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            write!(f, "the certificate is not valid for {}: it is valid for ", expected.to_str())?;
            if presented.is_empty() {
                return f.write_str("no name at all");
            }
            for (n, name) in presented.iter().enumerate() {
                write!(f, "{}{}", if n > 0 { ", " } else { "" }, Presented(name))?;
            }
            Ok(())
        }
        CertificateError::NotValidForName => f.write_str("the certificate is not valid for this name"),
        CertificateError::BadSignature => f.write_str("the certificate's signature is wrong"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            f.write_str("the certificate may not be used for this side of a connection: clients and servers need one each")
        }
        CertificateError::Other(error) => match error.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                f.write_str("the certificate is one of a CA, which may not stand for a client or server itself")
            }
            Some(webpki::Error::UnsupportedCertVersion) => f.write_str(
                "the certificate is one of X.509 version 1: make it anew with extensions, as openssl x509 does with \
                 -copy_extensions copy or -extfile",
            ),
            _ => write!(f, "the certificate is refused: {error}"),
        },
        error => write!(f, "the certificate is refused: {error}"),
    }
}

/// A name of a certificate without what says of which kind it is.
struct Presented<'a>(&'a str);

impl fmt::Display for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(self.0);
        f.write_str(inner.trim_matches('"'))
    }
}

/// A day of the calendar with its time, in UTC.
struct Day(UnixTime);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} at {hour:02}:{minute:02} UTC")
    }
}
