//! The node's own certificates: asked for through CertificateSigningRequests, kept on disk as
//! upstream keeps them, and replaced before they expire.
//!
//! | part | does |
//! |---|---|
//! | `key` | makes and reads private keys, signs with them |
//! | [`CertificatePair`] | a chain with its key, and what its leaf says |
//! | `request` | what is asked for: subject, names, usages, the PKCS #10 document |
//! | `signing` | the API's side: create or take up a request, wait for its certificate |
//! | [`CertificateStore`] | `<prefix>-<time>.pem` and the link `<prefix>-current.pem` |
//! | [`RotationTask`] | when to ask, how often to try, what to do when it has expired |

mod key;
mod pair;
mod request;
mod rotation;
mod signing;
mod store;

pub(crate) use key::{RequestKey, pem_block};
pub use pair::{CertificatePair, Leaf, PairError};
pub(crate) use request::digested_name;
pub use request::{RequestError as CertificateRequestError, Template, Use};
pub(crate) use rotation::Requester;
pub use rotation::{RotationError, RotationEvent, RotationTask};
pub use signing::SigningError;
pub(crate) use signing::{Asked, Question, ask, certificate_of};
pub use store::{CertificateStore, StoreError};

/// Certificates of tests.
#[cfg(test)]
pub(crate) mod testing {
    use jiff::{SignedDuration, Timestamp};

    /// An authority that signs in memory.
    pub(crate) struct Authority(pub(crate) rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

    impl Authority {
        pub(crate) fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = rcgen::KeyPair::generate().unwrap();
            Self(rcgen::CertifiedIssuer::self_signed(params, key).unwrap())
        }

        /// A chain and a key for a node, valid around now by these many seconds.
        pub(crate) fn pair(&self, node: &str, from_seconds: i64, to_seconds: i64) -> (String, String) {
            let key = rcgen::KeyPair::generate().unwrap();
            (self.certificate(node, &key, from_seconds, to_seconds), key.serialize_pem())
        }

        pub(crate) fn certificate(
            &self,
            node: &str,
            key: &impl rcgen::PublicKeyData,
            from_seconds: i64,
            to_seconds: i64,
        ) -> String {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
            params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
            params.not_before = from_now(from_seconds);
            params.not_after = from_now(to_seconds);
            params.signed_by(key, &self.0).unwrap().pem()
        }

        /// Signs a request as the controller manager does.
        pub(crate) fn sign(&self, request_pem: &str, from_seconds: i64, to_seconds: i64) -> String {
            use rustls::pki_types::pem::PemObject;
            let der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes());
            let mut request = rcgen::CertificateSigningRequestParams::from_der(&der.unwrap()).unwrap();
            request.params.not_before = from_now(from_seconds);
            request.params.not_after = from_now(to_seconds);
            request.signed_by(&self.0).unwrap().pem()
        }
    }

    fn from_now(seconds: i64) -> time::OffsetDateTime {
        let at = Timestamp::now() + SignedDuration::from_secs(seconds);
        time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap()
    }
}
