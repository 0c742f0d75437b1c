//! Private keys for certificate requests.
//!
//! New keys are P-256 keys written as SEC 1 (`EC PRIVATE KEY`), as upstream's. Keys that are on
//! disk already may be of any kind and spelling that upstream reads.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use rustls::SignatureScheme as Scheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::request::RequestError;

/// The parts of an `ECPrivateKey` (RFC 5915) on P-256 around its two variable ones, the secret and
/// the point.
const SEC1_HEAD: &[u8] = &[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
const SEC1_MIDDLE: &[u8] =
    &[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42, 0x00];
const SECRET_BYTES: usize = 32;

/// A private key that signs certificate requests.
pub(crate) struct RequestKey {
    pem: String,
    signer: Arc<dyn rustls::sign::SigningKey>,
    scheme: Scheme,
    /// The key itself, without its algorithm.
    public: Vec<u8>,
    /// SubjectPublicKeyInfo in DER.
    public_info: Vec<u8>,
}

/// Never the key.
impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl RequestKey {
    /// A new key.
    pub(crate) fn generate() -> Result<Self, RequestError> {
        let key = rcgen::KeyPair::generate().map_err(RequestError::Generate)?;
        let sec1 = sec1(&key.serialize_der(), key.public_key_raw());
        let pem = match sec1 {
            Some(sec1) => pem_block("EC PRIVATE KEY", &sec1),
            None => key.serialize_pem(),
        };
        Self::from_pem(&pem)
    }

    /// A key that exists: PKCS #8, SEC 1 or PKCS #1.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, RequestError> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(RequestError::KeyPem)?;
        let signer = rustls::crypto::ring::sign::any_supported_type(&der).map_err(RequestError::Key)?;
        let info = signer.public_key().ok_or(RequestError::KeyKind)?;
        let (_, parsed) = SubjectPublicKeyInfo::from_der(&info).map_err(|_| RequestError::KeyKind)?;
        let offered = match parsed.parsed() {
            // Upstream's choice by the length of the key.
            Ok(PublicKey::RSA(rsa)) => match rsa.key_size() {
                4096.. => Scheme::RSA_PKCS1_SHA512,
                3072..4096 => Scheme::RSA_PKCS1_SHA384,
                _ => Scheme::RSA_PKCS1_SHA256,
            },
            Ok(PublicKey::EC(point)) if point.key_size() > 256 => Scheme::ECDSA_NISTP384_SHA384,
            Ok(PublicKey::EC(_)) => Scheme::ECDSA_NISTP256_SHA256,
            _ => Scheme::ED25519,
        };
        let scheme =
            signer.choose_scheme(&[offered]).map(|chosen| chosen.scheme()).ok_or(RequestError::KeyKind)?;
        let public = parsed.subject_public_key.data.to_vec();
        let public_info = info.to_vec();
        Ok(Self { pem: pem.to_owned(), signer, scheme, public, public_info })
    }

    /// PEM, as it goes to disk.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// SubjectPublicKeyInfo in DER.
    pub(crate) fn public_info(&self) -> &[u8] {
        &self.public_info
    }

    /// Whether TLS 1.2 may encrypt keys with it, which decides about a usage.
    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.scheme, Scheme::RSA_PKCS1_SHA256 | Scheme::RSA_PKCS1_SHA384 | Scheme::RSA_PKCS1_SHA512)
    }
}

impl rcgen::PublicKeyData for RequestKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.scheme {
            Scheme::RSA_PKCS1_SHA256 => &rcgen::PKCS_RSA_SHA256,
            Scheme::RSA_PKCS1_SHA384 => &rcgen::PKCS_RSA_SHA384,
            Scheme::RSA_PKCS1_SHA512 => &rcgen::PKCS_RSA_SHA512,
            Scheme::ECDSA_NISTP384_SHA384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Scheme::ED25519 => &rcgen::PKCS_ED25519,
            // No other scheme is ever chosen.
            _ => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl rcgen::SigningKey for RequestKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signer = self.signer.choose_scheme(&[self.scheme]).ok_or(rcgen::Error::RemoteKeyError)?;
        signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// The secret of a P-256 key in PKCS #8, wrapped as SEC 1 wants it. `None` if it is another key.
fn sec1(pkcs8: &[u8], public: &[u8]) -> Option<Vec<u8>> {
    let head = &SEC1_HEAD[2..];
    let start = pkcs8.windows(head.len()).position(|window| window == head)? + head.len();
    let secret = pkcs8.get(start..start + SECRET_BYTES)?;
    (public.len() == 2 * SECRET_BYTES + 1).then(|| [SEC1_HEAD, secret, SEC1_MIDDLE, public].concat())
}

/// PEM of a single block.
pub(crate) fn pem_block(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_sec1_and_read_back_as_themselves() {
        let key = RequestKey::generate().unwrap();
        assert!(
            key.pem().starts_with("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEI"),
            "the same spelling as Go's"
        );
        let again = RequestKey::from_pem(key.pem()).unwrap();
        assert_eq!(again.public_info(), key.public_info());
        assert!(!key.is_rsa());
        assert!(!format!("{key:?}").contains(&key.pem()[40..60]));
    }

    #[test]
    fn pkcs8_keys_are_read_and_nonsense_is_refused() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let key = RequestKey::from_pem(&pair.serialize_pem()).unwrap();
        assert_eq!(key.scheme, Scheme::ECDSA_NISTP384_SHA384);
        assert_eq!(key.public, pair.public_key_raw());
        for nonsense in ["", "no key", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"]
        {
            assert!(RequestKey::from_pem(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
