//! How the main server speaks TLS.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme, SupportedCipherSuite,
    SupportedProtocolVersion,
};

use crate::certificate::ServingCertificate;
use crate::identity::ClientTrust;
use crate::settings::TlsSettings;

/// Why TLS cannot be spoken as set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// All the suites named are unknown to this server, or unsafe.
    #[error("none of the TLS cipher suites is supported: {}", .0.join(", "))]
    NoSuite(Vec<String>),
    /// None of the key exchange groups named is one this server has.
    #[error("none of the TLS curves is supported: {0:?}")]
    NoGroup(Vec<u16>),
    /// The suites left and the versions do not go together.
    #[error("combine TLS versions and cipher suites")]
    Versions(#[source] rustls::Error),
}

/// The server's side of every handshake. Built again when the authorities change.
pub(crate) fn config(
    settings: &TlsSettings,
    certificate: &ServingCertificate,
    trust: Option<&ClientTrust>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| is_chosen(suite, &settings.cipher_suites));
        let has_tls12 = provider.cipher_suites.iter().any(|suite| suite.tls13().is_none());
        if !has_tls12 && !settings.is_tls13_only && !settings.cipher_suites.iter().all(|s| is_tls13(s)) {
            return Err(TlsError::NoSuite(settings.cipher_suites.clone()));
        }
    }
    let groups = &settings.key_exchange_groups;
    if !groups.is_empty() {
        provider.kx_groups.retain(|group| groups.contains(&u16::from(group.name())));
        if provider.kx_groups.is_empty() {
            return Err(TlsError::NoGroup(groups.clone()));
        }
    }
    let provider = Arc::new(provider);
    let versions: &[&SupportedProtocolVersion] = if settings.is_tls13_only {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(TlsError::Versions)?;
    let builder = match trust {
        Some(trust) => builder
            .with_client_cert_verifier(Arc::new(ProofOfPossession { provider, trust: trust.verifier() })),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Suites of TLS 1.3 are always there, as upstream.
fn is_chosen(suite: &SupportedCipherSuite, names: &[String]) -> bool {
    suite.tls13().is_some() || names.iter().any(|name| suite_name(suite) == *name)
}

/// The IANA name.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite())
}

fn is_tls13(name: &str) -> bool {
    name.starts_with("TLS13_") || !name.contains("_WITH_")
}

/// Takes any certificate whose key the client holds. Whether an authority vouches for it is asked
/// later, so that a bad one is answered 401 and not with a broken handshake, as upstream.
#[derive(Debug)]
struct ProofOfPossession {
    provider: Arc<CryptoProvider>,
    trust: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ProofOfPossession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
