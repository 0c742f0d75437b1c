//! A certificate with its key, and what the certificate says.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::request::Template;

/// A certificate and a key that are not what they should be.
#[derive(Debug, Error)]
pub enum PairError {
    /// No certificate in the text, or a damaged one.
    #[error("no certificate can be read")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// No key in the text, or a damaged one.
    #[error("no private key can be read")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// The key belongs to another certificate, or its kind is unknown.
    #[error("certificate and key cannot be used together")]
    Unusable(#[source] rustls::Error),
    /// The certificate itself is damaged.
    #[error("certificate cannot be parsed")]
    Parse(#[source] x509_parser::error::X509Error),
    /// Its dates are outside of what a clock shows.
    #[error("certificate has no usable dates")]
    Dates,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Common name of the subject.
    pub common_name: String,
    /// Organizations of the subject.
    pub organizations: BTreeSet<String>,
    /// DNS names it is for.
    pub dns_names: BTreeSet<String>,
    /// Addresses it is for.
    pub addresses: BTreeSet<IpAddr>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
}

/// A chain with its key. What is in it never changes.
pub struct CertificatePair {
    certified: Arc<CertifiedKey>,
    key_pem: String,
    leaf: Leaf,
}

/// Never the key.
impl fmt::Debug for CertificatePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificatePair").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}

impl CertificatePair {
    /// From PEM. Both texts may be one: blocks of other kinds are skipped.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn parse(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, PairError> {
        let chain = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(PairError::Certificate)?;
        let Some(first) = chain.first() else {
            return Err(PairError::Certificate(rustls::pki_types::pem::Error::NoItemsFound));
        };
        let leaf = leaf(first)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(PairError::Key)?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(PairError::Unusable)?;
        let key_pem = key_block(key_pem);
        Ok(Self { certified: Arc::new(certified), key_pem, leaf })
    }

    /// As TLS wants it.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// What its first certificate says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whether it no longer holds.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.leaf.not_after
    }

    /// The key in PEM.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Whether it has everything that would be asked for now; it may have more.
    pub(crate) fn satisfies(&self, template: &Template) -> bool {
        self.leaf.common_name == template.common_name
            && template.organizations.iter().all(|name| self.leaf.organizations.contains(name))
            && template.dns_names.is_subset(&self.leaf.dns_names)
            && template.addresses.is_subset(&self.leaf.addresses)
    }
}

fn leaf(der: &[u8]) -> Result<Leaf, PairError> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| match error {
        x509_parser::nom::Err::Error(inner) | x509_parser::nom::Err::Failure(inner) => {
            PairError::Parse(inner)
        }
        x509_parser::nom::Err::Incomplete(_) => {
            PairError::Parse(x509_parser::error::X509Error::InvalidCertificate)
        }
    })?;
    let at = |seconds| Timestamp::from_second(seconds).map_err(|_| PairError::Dates);
    let subject = parsed.subject();
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().unwrap_or_default().to_owned()
    };
    let mut found = Leaf {
        common_name: subject.iter_common_name().last().map(text).unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect(),
        dns_names: BTreeSet::new(),
        addresses: BTreeSet::new(),
        not_before: at(parsed.validity().not_before.timestamp())?,
        not_after: at(parsed.validity().not_after.timestamp())?,
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => {
                found.dns_names.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => found.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok(found)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The first key in a text, word for word.
fn key_block(pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    let mut block = String::new();
    for line in text.lines() {
        let is_start = line.starts_with("-----BEGIN ") && line.trim_end().ends_with("PRIVATE KEY-----");
        if block.is_empty() && !is_start {
            continue;
        }
        block.push_str(line.trim_end());
        block.push('\n');
        if line.starts_with("-----END ") {
            break;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::super::testing::Authority;
    use super::*;

    #[test]
    fn reads_what_a_certificate_says() {
        let authority = Authority::new();
        let (chain, key) = authority.pair("n1", -3600, 3600);
        let both = format!("{chain}{key}");
        let pair = CertificatePair::parse(both.as_bytes(), both.as_bytes()).unwrap();
        assert_eq!(pair.leaf().common_name, "system:node:n1");
        assert_eq!(pair.leaf().organizations, BTreeSet::from(["system:nodes".to_owned()]));
        assert_eq!(pair.leaf().dns_names, BTreeSet::from(["localhost".to_owned()]));
        assert_eq!(pair.key_pem(), key.replace("\r\n", "\n"));
        assert!(!pair.is_expired(Timestamp::now()));
        assert!(pair.satisfies(&Template::for_client("n1")));
        assert!(!pair.satisfies(&Template::for_client("n2")));
        assert!(
            pair.satisfies(&Template {
                dns_names: ["localhost".into()].into(),
                ..Template::for_client("n1")
            })
        );
        let other =
            Template { addresses: ["10.0.0.1".parse().unwrap()].into(), ..Template::for_client("n1") };
        assert!(!pair.satisfies(&other));
        let text = format!("{pair:?}");
        assert!(!text.contains("PRIVATE"), "{text}");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let authority = Authority::new();
        let (chain, _) = authority.pair("n1", -10, 10);
        let (_, key) = authority.pair("n1", -10, 10);
        assert!(matches!(
            CertificatePair::parse(chain.as_bytes(), key.as_bytes()),
            Err(PairError::Unusable(rustls::Error::InconsistentKeys(_)))
        ));
        assert!(matches!(CertificatePair::parse(b"", key.as_bytes()), Err(PairError::Certificate(_))));
        assert!(matches!(CertificatePair::parse(chain.as_bytes(), b""), Err(PairError::Key(_))));
    }
}
