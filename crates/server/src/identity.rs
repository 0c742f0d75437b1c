//! Who a client certificate says its holder is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use x509_parser::der_parser::{Oid, oid};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ports::UserInfo;

/// What the API server records as the credential behind a request (KEP-4193).
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// What names the uid of a holder in a subject; Kubernetes' own.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// The authorities whose client certificates count, from `clientCAFile`.
pub(crate) struct ClientTrust {
    path: PathBuf,
    reads_uid: bool,
    current: ArcSwap<Trusted>,
}

struct Trusted {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// The certificates that the other end of a connection has shown: its own, then intermediates.
#[derive(Default)]
pub(crate) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// What they were last found to say, so that the requests of a connection share the work.
    known: Mutex<Option<Known>>,
}

struct Known {
    /// Whose certificates counted then.
    trusted: Arc<Trusted>,
    /// When the first of the chain expires, seconds since 1970.
    expires: i64,
    user: UserInfo,
}

impl Shown {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, known: Mutex::default() }
    }

    /// Whether there is no certificate.
    pub(crate) fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }
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
    /// Reads the file. Blocks on the disk. Whether the uid of a holder is looked for decides the feature gate
    /// `AllowParsingUserUIDFromCertAuth`.
    pub(crate) fn load(path: &Path, reads_uid: bool) -> Result<Self, TrustError> {
        let pem = std::fs::read(path).map_err(TrustError::Read)?;
        let verifier = verifier(&pem)?;
        let current = ArcSwap::from_pointee(Trusted { pem, verifier });
        Ok(Self { path: path.to_owned(), reads_uid, current })
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
    pub(crate) fn identify(&self, shown: &Shown) -> Result<UserInfo, String> {
        self.identify_at(shown, UnixTime::now())
    }

    fn identify_at(&self, shown: &Shown, now: UnixTime) -> Result<UserInfo, String> {
        let trusted = self.current.load_full();
        let mut known = shown.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.trusted, &trusted)
            && i64::try_from(now.as_secs()).is_ok_and(|now| now <= known.expires)
        {
            return Ok(known.user.clone());
        }
        let (certificate, intermediates) = shown.chain.split_first().ok_or("no certificate")?;
        trusted
            .verifier
            .verify_client_cert(certificate, intermediates, now)
            .map_err(|error| error.to_string())?;
        let parsed = parsed(certificate)?;
        let mut user = holder(&parsed, certificate)?;
        if self.reads_uid {
            user.uid = uid(&parsed)?;
        }
        let mut expires = parsed.validity().not_after.timestamp();
        for intermediate in intermediates {
            expires = expires.min(self::parsed(intermediate)?.validity().not_after.timestamp());
        }
        *known = Some(Known { trusted, expires, user: user.clone() });
        Ok(user)
    }
}

fn parsed(certificate: &[u8]) -> Result<X509Certificate<'_>, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// Whom a certificate names: the common name is the user, organizations are groups.
fn holder(certificate: &X509Certificate<'_>, der: &[u8]) -> Result<UserInfo, String> {
    let subject = certificate.subject();
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
    let name = subject.iter_common_name().filter_map(text).last().unwrap_or_default();
    if name.is_empty() {
        return Err("the certificate names nobody".into());
    }
    let groups = subject.iter_organization().filter_map(text).collect();
    let digest = golang::hex::encode(&Sha256::digest(der));
    let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")])].into();
    Ok(UserInfo { name, uid: String::new(), groups, extra })
}

/// The uid a certificate names, if any. One that is no text, is empty, or is not the only one lets nobody in, as upstream.
fn uid(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let mut uids = certificate.subject().iter_by_oid(&UID).map(|uid| uid.as_str());
    match (uids.next(), uids.next()) {
        (None, _) => Ok(String::new()),
        (Some(Ok("")), None) => Err("the certificate names an empty uid".into()),
        (Some(Ok(uid)), None) => Ok(uid.to_owned()),
        (Some(Err(_)), None) => Err("the certificate names a uid that is no text".into()),
        (Some(_), Some(_)) => Err("the certificate names several uids".into()),
    }
}

fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        // One authority in an odd form does not lock the holders of all others out.
        if let Err(error) = roots.add(certificate.map_err(TrustError::Parse)?) {
            tracing::warn!(%error, "Skipping an unusable certificate authority");
        }
    }
    if roots.is_empty() {
        return Err(TrustError::Empty);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.allow_unauthenticated().build().map_err(TrustError::Verifier)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn seconds(at: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(at))
    }

    #[test]
    fn a_certificate_may_name_the_uid_of_its_holder() {
        let ours = authority();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, ours.pem()).unwrap();
        let uid = || DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
        for (value, reads_uid, want) in [
            (None, true, Ok("")),
            (Some("u-1"), true, Ok("u-1")),
            (Some("u-1"), false, Ok("")),
            (Some(""), true, Err("the certificate names an empty uid")),
            (Some(""), false, Ok("")),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "somebody");
            if let Some(value) = value {
                params.distinguished_name.push(uid(), value);
            }
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&KeyPair::generate().unwrap(), &ours).unwrap();
            let trust = ClientTrust::load(&file, reads_uid).unwrap();
            let found = trust.identify(&Shown::new(vec![certificate.der().clone()])).map(|user| user.uid);
            assert_eq!(found, want.map(str::to_owned).map_err(str::to_owned), "{value:?} {reads_uid}");
        }
    }

    #[test]
    fn what_a_connection_has_shown_is_verified_again_when_that_may_change_the_answer() {
        let (ours, other) = (authority(), authority());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, ours.pem()).unwrap();
        let trust = ClientTrust::load(&file, true).unwrap();

        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "somebody");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let not_after = params.not_after.unix_timestamp().try_into().unwrap();
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &ours).unwrap();
        let shown = Shown::new(vec![certificate.der().clone()]);
        let name = |at| trust.identify_at(&shown, seconds(at)).map(|user| user.name);

        assert!(name(not_after - 2 * DAY).is_err(), "not yet");
        assert_eq!(name(not_after - 1), Ok("somebody".to_owned()));
        assert!(shown.known.lock().unwrap().is_some());
        assert_eq!(name(not_after), Ok("somebody".to_owned()));
        assert!(name(not_after + 1).is_err(), "expired");
        assert_eq!(name(not_after), Ok("somebody".to_owned()));

        std::fs::write(&file, other.pem()).unwrap();
        assert!(trust.reload().unwrap());
        assert!(name(not_after).is_err(), "the authority does not count any more");
        std::fs::write(&file, ours.pem()).unwrap();
        assert!(trust.reload().unwrap());
        assert_eq!(name(not_after), Ok("somebody".to_owned()));
    }
}
