//! Whom the API server's certificate has to be from: the authority of the kubeconfig, those of the machine if it names
//! none, or anybody with `insecure-skip-tls-verify`.
//!
//! The library for kubeconfigs can make such a TLS configuration, too. It looks for a client certificate by all means it
//! knows, cloud providers' among them, which is half a megabyte of code for a question that is answered elsewhere.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kube::Config;
use model::chain;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use thiserror::Error;
use tracing::{info, warn};

use crate::identity::{Stamp, stamp};

/// Certificates of authorities that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum TrustError {
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no list of certificates.
    #[error("read certificates in {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A certificate is none of an authority.
    #[error("take a certificate as an authority's")]
    Root(#[source] Error),
    /// There is none, or none that verifies anything.
    #[error("verify certificates with what there is of authorities")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The machine's own authorities.
    #[error("take the authorities of the machine")]
    Machine(#[source] Error),
    /// No cryptography.
    #[error("set up TLS")]
    Tls(#[source] Error),
}

/// The TLS of a client that shows no certificate.
///
/// # Errors
/// [`TrustError`]: certificates of authorities that are named cannot be used.
pub(crate) fn client_config(config: &Config) -> Result<ClientConfig, TrustError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(TrustError::Tls)?;
    let verifier: Arc<dyn ServerCertVerifier> = if config.accept_invalid_certs {
        Arc::new(Verifier { authorities: Authorities::Anybody, provider })
    } else if let Some(path) = &config.root_cert_file {
        Arc::new(Verifier { authorities: Authorities::File(AuthorityFile::open(path)?), provider })
    } else if let Some(roots) = &config.root_cert {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from_slice(root)).map_err(TrustError::Root)?;
        }
        if store.is_empty() {
            // Nobody is to be trusted, since there will be no TLS.
            return Ok(builder.with_root_certificates(store).with_no_client_auth());
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build()?
    } else {
        let builder = builder.with_platform_verifier().map_err(TrustError::Machine)?;
        return Ok(builder.with_no_client_auth());
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// Authorities in a file, which may be replaced at any time: it is looked at in each handshake, of which there are few.
/// When it is gone or damaged, those that were in it go on.
#[derive(Debug)]
struct AuthorityFile {
    path: PathBuf,
    // Held for a `stat` and, when that has changed, one read.
    last_good: Mutex<(Stamp, Arc<WebPkiServerVerifier>)>,
}

impl AuthorityFile {
    fn open(path: &Path) -> Result<Self, TrustError> {
        let stamp = stamp(path);
        Ok(Self { path: path.to_owned(), last_good: Mutex::new((stamp, verifier_of(path)?)) })
    }

    fn current(&self) -> Arc<WebPkiServerVerifier> {
        let mut last_good = self.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stamp(&self.path);
        if found != last_good.0 {
            last_good.0 = found;
            match verifier_of(&self.path) {
                Ok(fresh) => {
                    info!(path = %self.path.display(), "Reloaded the API server's certificate authorities");
                    last_good.1 = fresh;
                }
                Err(error) => {
                    let err = chain(&error);
                    warn!(path = %self.path.display(), err, "Failed to reload the API server's certificate authorities, keeping those of before");
                }
            }
        }
        last_good.1.clone()
    }
}

fn verifier_of(path: &Path) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    let text = std::fs::read(path).map_err(|source| TrustError::Read { path: path.to_owned(), source })?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|source| TrustError::Pem { path: path.to_owned(), source })?;
        store.add(certificate).map_err(TrustError::Root)?;
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build()?)
}

/// Whom the server's certificate may be from, where that is decided here.
#[derive(Debug)]
enum Authorities {
    /// Those in a file.
    File(AuthorityFile),
    /// `insecure-skip-tls-verify`: any certificate will do, as long as the server has its key.
    Anybody,
}

/// Verifies the server's certificate by [`Authorities`], and its signatures as the library does.
#[derive(Debug)]
struct Verifier {
    authorities: Authorities,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.authorities {
            Authorities::File(file) => {
                file.current().verify_server_cert(certificate, intermediates, server, ocsp, now)
            }
            Authorities::Anybody => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::testing::Authority;

    fn accepts(trust: &AuthorityFile, chain: &str) -> bool {
        let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        let server = ServerName::try_from("localhost").unwrap();
        trust.current().verify_server_cert(&certificate, &[], &server, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn authorities_are_those_in_the_file_now() {
        let (old, new) = (Authority::new(), Authority::new());
        let (of_old, of_new) = (old.pair("n", -60, 600).0, new.pair("n", -60, 600).0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, old.0.pem()).unwrap();
        let trust = AuthorityFile::open(&path).unwrap();
        assert!(accepts(&trust, &of_old) && !accepts(&trust, &of_new));
        // Both, as while an authority is replaced.
        std::fs::write(&path, format!("{}{}", old.0.pem(), new.0.pem())).unwrap();
        assert!(accepts(&trust, &of_old) && accepts(&trust, &of_new));
        for damaged in
            ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&path, damaged).unwrap();
            assert!(accepts(&trust, &of_old) && accepts(&trust, &of_new), "{damaged:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(accepts(&trust, &of_old) && accepts(&trust, &of_new));
        std::fs::write(&path, new.0.pem()).unwrap();
        assert!(!accepts(&trust, &of_old) && accepts(&trust, &of_new));
    }

    #[test]
    fn a_file_without_certificates_is_an_error_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        assert!(matches!(AuthorityFile::open(&path), Err(TrustError::Read { .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(AuthorityFile::open(&path), Err(TrustError::Verifier(_))));
    }
}
