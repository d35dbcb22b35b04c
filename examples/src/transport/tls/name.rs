//! Who a certificate is about.

use rustls::pki_types::CertificateDer;

/// The object identifier 2.5.4.3, Common Name.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// Text of which all bytes are UTF-8: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0C, 0x13, 0x16];

/// The last Common Name of the subject, or the first DNS name of the Subject Alternative Name if there is none.
pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let name = common_name(certificate.subject());
    name.map(str::to_owned).or_else(|| certificate.valid_dns_names().next().map(str::to_owned))
}

/// The most specific one, which comes last. RFC 5280, section 4.1.2.4
fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while let Some((SET, mut set, rest)) = element(subject) {
        subject = rest;
        while let Some((SEQUENCE, attribute, rest)) = element(set) {
            set = rest;
            let Some((OBJECT_IDENTIFIER, COMMON_NAME, value)) = element(attribute) else { continue };
            let Some((tag, text, [])) = element(value) else { continue };
            let text = std::str::from_utf8(text).ok().filter(|text| TEXTS.contains(&tag) && !text.is_empty());
            found = text.or(found);
        }
    }
    found
}

/// The first element of some DER: tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = bytes else { return None };
    let (len, rest) = match (first, rest) {
        (..=0x7F, rest) => (usize::from(*first), rest),
        (0x81, [len, rest @ ..]) => (usize::from(*len), rest),
        (0x82, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn attribute(identifier: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        put(SET, &put(SEQUENCE, &[put(OBJECT_IDENTIFIER, identifier), put(tag, text)].concat()))
    }

    #[test]
    fn the_last_common_name_counts() {
        let organization = attribute(&[0x55, 0x04, 0x0A], 0x0C, b"home");
        let [one, two] = [&b"one"[..], b"two"].map(|name| attribute(COMMON_NAME, 0x0C, name));
        assert_eq!(common_name(&[organization.clone(), one, two, organization.clone()].concat()), Some("two"));
        assert_eq!(common_name(&organization), None);
        assert_eq!(common_name(b""), None);
    }

    #[test]
    fn what_is_no_text_or_cut_short_is_no_name() {
        let name = attribute(COMMON_NAME, 0x0C, b"name");
        for len in 0..name.len() {
            assert_eq!(common_name(&name[..len]), None, "{len}");
        }
        assert_eq!(common_name(&attribute(COMMON_NAME, 0x1E, b"\0n")), None);
        assert_eq!(common_name(&attribute(COMMON_NAME, 0x0C, b"\xFF")), None);
        assert_eq!(common_name(&attribute(COMMON_NAME, 0x0C, b"")), None);
        assert_eq!(element(&[SET, 0x81, 1, 7, 9]), Some((SET, &[7][..], &[9][..])));
        assert_eq!(element(&[SET, 0x82, 0, 1, 7]), Some((SET, &[7][..], &[][..])));
        assert_eq!(element(&[SET, 0x80]), None);
    }
}
