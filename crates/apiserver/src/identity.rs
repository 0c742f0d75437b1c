//! The node's client certificate, read again for every new connection.
//!
//! Rotation replaces the file a kubeconfig names (`kubelet-client-current.pem`). Connections live
//! long, handshakes are rare, so reading the files at each handshake costs nothing and needs
//! neither a watch nor a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;

/// A client certificate or its key cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// No certificate in the file.
    #[error("read client certificate {path}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// No key in the file.
    #[error("read client key {path}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not go together, or the key's kind is unknown.
    #[error("client certificate {path} and its key cannot be used")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Presents the certificate that is on disk at the time of the handshake.
pub(crate) struct FileIdentity {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    // Written at handshakes only; never held across anything that waits.
    last_good: RwLock<Arc<CertifiedKey>>,
}

impl FileIdentity {
    /// Reads both files once, so that a wrong path is an error at start.
    pub(crate) fn open(
        certificate: &Path,
        key: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, IdentityError> {
        let first = load(certificate, key, &provider)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider,
            last_good: RwLock::new(Arc::new(first)),
        })
    }
}

impl std::fmt::Debug for FileIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileIdentity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl ResolvesClientCert for FileIdentity {
    fn resolve(&self, _root_hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = match load(&self.certificate, &self.key, &self.provider) {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                if let Ok(mut last) = self.last_good.write() {
                    *last = Arc::clone(&fresh);
                }
                fresh
            }
            // Rotation may be under way (certificate and key are two files); the old pair still works.
            Err(error) => {
                tracing::warn!(error = crate::call::chain(&error), "keep using the last client certificate");
                Arc::clone(&*self.last_good.read().ok()?)
            }
        };
        current.key.choose_scheme(schemes).is_some().then_some(current)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn load(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, IdentityError> {
    let bad_certificate = |source| IdentityError::Certificate { path: certificate.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .map_err(bad_certificate)?
        .collect::<Result<_, _>>()
        .map_err(bad_certificate)?;
    if chain.is_empty() {
        return Err(bad_certificate(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| IdentityError::Key { path: key.to_owned(), source })?;
    CertifiedKey::from_der(chain, private, provider)
        .map_err(|source| IdentityError::Unusable { path: certificate.to_owned(), source })
}
