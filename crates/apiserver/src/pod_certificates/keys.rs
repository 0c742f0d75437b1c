//! Key pairs of pod certificates: PKCS #8 for the pod, and an empty PKCS #10 request that proves the possession of the key
//! (<https://kubernetes.io/docs/concepts/storage/projected-volumes/#podcertificate>).

use std::fmt;

use p521::ecdsa::signature::Signer as _;
use p521::elliptic_curve::Generate as _;
use p521::elliptic_curve::pkcs8::EncodePrivateKey as _;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _};

use crate::certificates::pem_block;

// DER of a whole object identifier with its tag.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
const ECDSA_SHA256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const ECDSA_SHA512: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA256: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// The parameters of RSA's algorithms.
const NULL: &[u8] = &[0x05, 0x00];

/// Where ring has the seed in the PKCS #8 document of a new Ed25519 key.
const ED25519_SEED: std::ops::Range<usize> = 16..48;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const ATTRIBUTES: u8 = 0xa0;

/// Why there is no key. The texts are upstream's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// No such kind of key (`keyType`).
    #[error("unknown key type {0:?}")]
    UnknownType(String),
    /// The system has no randomness, or a library refuses its own key.
    #[error("while generating {0} key")]
    Generate(&'static str),
}

/// A new key with its request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyWithRequest {
    /// PKCS #8, in PEM.
    pub(crate) key_pem: String,
    /// PKCS #10 without a name, in DER.
    pub(crate) request_der: Vec<u8>,
}

/// Never the key.
impl fmt::Debug for KeyWithRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyWithRequest").finish_non_exhaustive()
    }
}

/// Makes one. Blocking: an RSA key takes up to seconds of processor time.
///
/// # Errors
/// See [`KeyError`].
pub(crate) fn generate(key_type: &str) -> Result<KeyWithRequest, KeyError> {
    match key_type {
        "RSA3072" => rsa(3072).ok_or(KeyError::Generate("RSA 3072")),
        "RSA4096" => rsa(4096).ok_or(KeyError::Generate("RSA 4096")),
        "ECDSAP256" => ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, P256, ECDSA_SHA256)
            .ok_or(KeyError::Generate("ECDSA P256")),
        "ECDSAP384" => ecdsa(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, P384, ECDSA_SHA384)
            .ok_or(KeyError::Generate("ECDSA P384")),
        "ECDSAP521" => p521().ok_or(KeyError::Generate("ECDSA P521")),
        "ED25519" => ed25519().ok_or(KeyError::Generate("Ed25519")),
        _ => Err(KeyError::UnknownType(key_type.to_owned())),
    }
}

fn rsa(bits: usize) -> Option<KeyWithRequest> {
    let key = rsa::PrivateKey::new(&mut getrandom::SysRng, bits).ok()?;
    let pkcs8 = key.to_pkcs8_der().ok()?;
    let pair = ring::rsa::KeyPair::from_pkcs8(pkcs8.as_bytes()).ok()?;
    let info = public_key_info(&[RSA, NULL].concat(), pair.public_key().as_ref());
    let request = request(&info, &[RSA_SHA256, NULL].concat(), |body| {
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature).ok()?;
        Some(signature)
    });
    with_request(pkcs8.as_bytes(), request)
}

fn ecdsa(
    algorithm: &'static EcdsaSigningAlgorithm,
    curve: &[u8],
    signed_with: &[u8],
) -> Option<KeyWithRequest> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok()?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).ok()?;
    let info = public_key_info(&[EC_PUBLIC_KEY, curve].concat(), pair.public_key().as_ref());
    let request = request(&info, signed_with, |body| {
        pair.sign(&random, body).ok().map(|signature| signature.as_ref().to_vec())
    });
    with_request(pkcs8.as_ref(), request)
}

fn p521() -> Option<KeyWithRequest> {
    let secret = p521::SecretKey::try_generate_from_rng(&mut getrandom::SysRng).ok()?;
    let pkcs8 = secret.to_pkcs8_der().ok()?;
    let signer = p521::ecdsa::SigningKey::from(&secret);
    let point = signer.verifying_key().to_sec1_point(false);
    let info = public_key_info(&[EC_PUBLIC_KEY, P521].concat(), point.as_bytes());
    let request = request(&info, ECDSA_SHA512, |body| {
        let signature: p521::ecdsa::Signature = signer.try_sign(body).ok()?;
        Some(signature.to_der().as_bytes().to_vec())
    });
    with_request(pkcs8.as_bytes(), request)
}

/// ring writes the second version of PKCS #8, which older programs do not read: the pod gets the first, as upstream's.
fn ed25519() -> Option<KeyWithRequest> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok()?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).ok()?;
    let seed = der(OCTET_STRING, &[document.as_ref().get(ED25519_SEED)?]);
    let pkcs8 =
        der(SEQUENCE, &[&der(INTEGER, &[&[0]]), &der(SEQUENCE, &[ED25519]), &der(OCTET_STRING, &[&seed])]);
    let info = public_key_info(ED25519, pair.public_key().as_ref());
    let request = request(&info, ED25519, |body| Some(pair.sign(body).as_ref().to_vec()));
    with_request(&pkcs8, request)
}

fn with_request(pkcs8: &[u8], request: Option<Vec<u8>>) -> Option<KeyWithRequest> {
    Some(KeyWithRequest { key_pem: pem_block("PRIVATE KEY", pkcs8), request_der: request? })
}

/// SubjectPublicKeyInfo (RFC 5280).
fn public_key_info(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(SEQUENCE, &[algorithm]), &der(BIT_STRING, &[&[0], key])])
}

/// A CertificationRequest (RFC 2986) with neither subject nor attributes.
fn request(info: &[u8], algorithm: &[u8], sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let subject = der(SEQUENCE, &[]);
    let body = der(SEQUENCE, &[&der(INTEGER, &[&[0]]), &subject, info, &der(ATTRIBUTES, &[])]);
    let signature = sign(&body)?;
    Some(der(SEQUENCE, &[&body, &der(SEQUENCE, &[algorithm]), &der(BIT_STRING, &[&[0], &signature])]))
}

/// A DER element of these parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant = length.iter().skip_while(|byte| **byte == 0);
    let mut element = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..0x80) => element.push(short),
        _ => {
            element.push(0x80 | u8::try_from(significant.clone().count()).unwrap_or(0));
            element.extend(significant);
        }
    }
    element.extend(content);
    element
}

#[cfg(test)]
pub(super) mod testing {
    use base64::Engine as _;
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
    use x509_parser::public_key::PublicKey;

    use super::*;

    /// What an X.509 library reads in a request that has nothing but a key, with whose public half the private one agrees and
    /// whose signature is right.
    pub(in crate::pod_certificates) fn kind_of(made: &KeyWithRequest) -> String {
        let (rest, request) = X509CertificationRequest::from_der(&made.request_der).unwrap();
        assert!(rest.is_empty());
        let info = &request.certification_request_info;
        assert_eq!((info.subject.iter_attributes().count(), info.attributes().len()), (0, 0));
        let kind = match info.subject_pki.parsed().unwrap() {
            PublicKey::RSA(key) => format!("RSA {}", key.key_size()),
            // Rounded up to whole bytes.
            PublicKey::EC(point) if point.key_size() > 512 => "EC 521".to_owned(),
            PublicKey::EC(point) => format!("EC {}", point.key_size()),
            _ => "Ed25519".to_owned(),
        };
        let body: Vec<&str> = made.key_pem.lines().filter(|line| !line.starts_with('-')).collect();
        let pkcs8 = base64::engine::general_purpose::STANDARD.decode(body.concat()).unwrap();
        let public = &info.subject_pki.subject_public_key.data;
        let (message, signature) = (info.raw, &request.signature_value.data);
        if kind == "EC 521" {
            use p521::ecdsa::signature::Verifier as _;
            use p521::elliptic_curve::pkcs8::DecodePrivateKey as _;
            let secret = p521::SecretKey::from_pkcs8_der(&pkcs8).unwrap();
            let verifier = *p521::ecdsa::SigningKey::from(&secret).verifying_key();
            assert_eq!(verifier.to_sec1_point(false).as_bytes(), &public[..]);
            verifier.verify(message, &p521::ecdsa::Signature::from_der(signature).unwrap()).unwrap();
            return kind;
        }
        let signer = rustls::crypto::ring::sign::any_supported_type(
            &rustls::pki_types::PrivateKeyDer::Pkcs8(pkcs8.into()),
        );
        assert_eq!(signer.unwrap().public_key().unwrap().as_ref(), info.subject_pki.raw);
        let algorithm: &dyn signature::VerificationAlgorithm = match kind.as_str() {
            "EC 256" => &signature::ECDSA_P256_SHA256_ASN1,
            "EC 384" => &signature::ECDSA_P384_SHA384_ASN1,
            "Ed25519" => &signature::ED25519,
            _ => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        signature::UnparsedPublicKey::new(algorithm, public).verify(message, signature).unwrap();
        kind
    }
}
