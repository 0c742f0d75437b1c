//! Who a client certificate says its holder is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ports::UserInfo;

/// What the API server records as the credential behind a request (KEP-4193).
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The authorities whose client certificates count, from `clientCAFile`.
pub(crate) struct ClientTrust {
    path: PathBuf,
    current: ArcSwap<Trusted>,
}

struct Trusted {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("read it")]
    Read(#[source] std::io::Error),
    #[error("it holds no certificate")]
    Empty,
    #[error("parse it")]
    Parse(#[source] rustls::pki_types::pem::Error),
    #[error("use it for client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

impl ClientTrust {
    /// Reads the file. Blocks on the disk.
    pub(crate) fn load(path: &Path) -> Result<Self, TrustError> {
        let pem = std::fs::read(path).map_err(TrustError::Read)?;
        let verifier = verifier(&pem)?;
        let current = ArcSwap::from_pointee(Trusted { pem, verifier });
        Ok(Self { path: path.to_owned(), current })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again; whether something else stands in it now. The last good one stays in
    /// use while the file is broken.
    pub(crate) fn reload(&self) -> Result<bool, TrustError> {
        let pem = std::fs::read(&self.path).map_err(TrustError::Read)?;
        if pem == self.current.load().pem {
            return Ok(false);
        }
        let verifier = verifier(&pem)?;
        self.current.store(Arc::new(Trusted { pem, verifier }));
        Ok(true)
    }

    /// The names of the authorities, for the handshake.
    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.current.load().verifier.clone()
    }

    /// The holder of a certificate, if an authority vouches for it now.
    pub(crate) fn identify(&self, chain: &[CertificateDer<'static>]) -> Result<UserInfo, String> {
        let (certificate, intermediates) = chain.split_first().ok_or("no certificate")?;
        self.verifier()
            .verify_client_cert(certificate, intermediates, UnixTime::now())
            .map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let subject = parsed.subject();
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
        let name = subject.iter_common_name().filter_map(text).last().unwrap_or_default();
        if name.is_empty() {
            return Err("the certificate names nobody".into());
        }
        let groups = subject.iter_organization().filter_map(text).collect();
        let digest = Sha256::digest(certificate).iter().map(|b| format!("{b:02x}")).collect::<String>();
        let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")])].into();
        Ok(UserInfo { name, uid: String::new(), groups, extra })
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        // One authority in an odd form does not lock the holders of all others out.
        if let Err(error) = roots.add(certificate.map_err(TrustError::Parse)?) {
            tracing::warn!(%error, "skipping an unusable certificate authority");
        }
    }
    if roots.is_empty() {
        return Err(TrustError::Empty);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.allow_unauthenticated().build().map_err(TrustError::Verifier)
}
