//! The certificate the main server shows, and how it changes while the server runs.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long before its end a certificate that signs itself is made anew: 30 days, in seconds.
const RENEW_BEFORE_SECONDS: i64 = 30 * 24 * 3600;

/// The serving certificate in use. Clones share it; handshakes take whatever is current.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwapOption<Loaded>,
    files: Option<Files>,
    /// How to make it anew, where nobody else does.
    recipe: Option<Recipe>,
}

/// Shows neither keys nor certificates.
impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("files", &self.files).finish_non_exhaustive()
    }
}

struct Loaded {
    key: Arc<CertifiedKey>,
    /// The certificate file as read, to see whether it changed. Empty without a file.
    pem: Vec<u8>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("failed to write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Not PEM, or not what it should hold.
    #[error("failed to parse the serving certificate or its key")]
    Parse(#[source] rustls::pki_types::pem::Error),
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("failed to use the serving certificate with its key")]
    Use(#[source] rustls::Error),
    /// Making one failed.
    #[error("failed to make a self-signed serving certificate")]
    Generate(#[source] rcgen::Error),
}

impl ServingCertificate {
    /// None yet: handshakes fail until [`ServingCertificate::show`] is called, as while the API
    /// server has not signed the node's first request (`serverTLSBootstrap`).
    pub fn pending() -> Self {
        Self { shared: Arc::new(Shared { current: ArcSwapOption::empty(), files: None, recipe: None }) }
    }

    /// From `tlsCertFile` and `tlsPrivateKeyFile`. Blocks on the disk.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let loaded = files.load()?;
        let current = ArcSwapOption::from_pointee(loaded);
        Ok(Self { shared: Arc::new(Shared { current, files: Some(files), recipe: None }) })
    }

    /// `<cert_dir>/kubelet.crt` and `kubelet.key`, made for a year when they are missing or unusable, and made
    /// anew [in time](Self::reload) when they were made here or by upstream's kubelet. Whatever else an operator has
    /// put there is used as it is. Blocks on the disk.
    pub fn self_signed(
        cert_dir: &Path,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Self, CertificateError> {
        let files = Files { certificate: cert_dir.join("kubelet.crt"), key: cert_dir.join("kubelet.key") };
        let recipe = Recipe { names: names.to_vec(), addresses: addresses.to_vec() };
        let now = Timestamp::now();
        let loaded = match files.load() {
            Ok(loaded) if is_due(&loaded, now) => recipe.renew(&files, now)?,
            Ok(loaded) => loaded,
            Err(error) => {
                let is_missing = matches!(&error, CertificateError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound);
                if !is_missing {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "Self-signed serving certificate is unusable; generating a new one"
                    );
                }
                recipe.make(&files, now)?
            }
        };
        let current = ArcSwapOption::from_pointee(loaded);
        Ok(Self { shared: Arc::new(Shared { current, files: Some(files), recipe: Some(recipe) }) })
    }

    /// Shows this from here on.
    pub fn show(&self, key: Arc<CertifiedKey>) {
        self.shared.current.store(Some(Arc::new(Loaded { key, pem: Vec::new() })));
    }

    /// Reads the files again, when it came from files; whether another one is shown now. One that signs
    /// itself is made anew a month before it expires. The last good one stays in use while the files are
    /// broken. Blocks on the disk.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        self.reload_at(Timestamp::now())
    }

    /// The files that [`reload`](Self::reload) reads.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.shared.files.iter().flat_map(|files| [files.certificate.as_path(), files.key.as_path()])
    }

    pub(crate) fn reload_at(&self, now: Timestamp) -> Result<bool, CertificateError> {
        let Some(files) = &self.shared.files else { return Ok(false) };
        let pem = read(&files.certificate)?;
        let current = self.shared.current.load_full().filter(|current| current.pem == pem);
        let is_same = current.is_some();
        let loaded = match current {
            Some(current) => current,
            None => Arc::new(files.load()?),
        };
        let loaded = match &self.shared.recipe {
            Some(recipe) if is_due(&loaded, now) => Arc::new(recipe.renew(files, now)?),
            _ if is_same => return Ok(false),
            _ => loaded,
        };
        self.shared.current.store(Some(loaded));
        Ok(true)
    }
}

/// Whether it was made by a kubelet and is to be made anew.
fn is_due(loaded: &Loaded, now: Timestamp) -> bool {
    let Some(certificate) = loaded.key.cert.first() else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let left = parsed.validity().not_after.timestamp() - now.as_second();
    if left > RENEW_BEFORE_SECONDS {
        return false;
    }
    // `name@seconds`, as upstream's kubelet names those it makes too.
    let is_made_here = parsed.subject().iter_common_name().any(|name| {
        let text = name.as_str().unwrap_or_default();
        let digits = text.rsplit_once('@').map_or("", |(_, digits)| digits);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !is_made_here && left <= 0 {
        tracing::warn!("Serving certificate has expired; replace it: the kubelet did not generate it");
    }
    is_made_here
}

/// What a certificate that signs itself is made from.
#[derive(Debug)]
struct Recipe {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Recipe {
    fn renew(&self, files: &Files, now: Timestamp) -> Result<Loaded, CertificateError> {
        tracing::info!("Self-signed serving certificate has expired or is about to; generating a new one");
        self.make(files, now)
    }

    fn make(&self, files: &Files, now: Timestamp) -> Result<Loaded, CertificateError> {
        let (certificate_pem, key_pem) = generate(&self.names, &self.addresses, now)?;
        let write = |path: &Path, source| CertificateError::Write { path: path.to_owned(), source };
        if let Some(folder) = files.key.parent() {
            fs::create_dir_all(folder).map_err(|source| write(folder, source))?;
        }
        write_atomically(&files.key, key_pem.as_bytes(), 0o600)
            .map_err(|source| write(&files.key, source))?;
        write_atomically(&files.certificate, certificate_pem.as_bytes(), 0o644)
            .map_err(|source| write(&files.certificate, source))?;
        files.load()
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shared.current.load().as_ref().map(|loaded| loaded.key.clone())
    }
}

impl Files {
    fn load(&self) -> Result<Loaded, CertificateError> {
        let (pem, key_pem) = (read(&self.certificate)?, read(&self.key)?);
        Ok(Loaded { key: Arc::new(certified(&pem, &key_pem)?), pem })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

fn certified(chain_pem: &[u8], key_pem: &[u8]) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Parse)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(CertificateError::Parse)?;
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(CertificateError::Use)?;
    if key.cert.is_empty() {
        return Err(CertificateError::Parse(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(key)
}

fn generate(
    names: &[String],
    addresses: &[IpAddr],
    now: Timestamp,
) -> Result<(String, String), CertificateError> {
    let sans = names.iter().cloned().chain(addresses.iter().map(ToString::to_string)).collect::<Vec<_>>();
    let mut params = rcgen::CertificateParams::new(sans).map_err(CertificateError::Generate)?;
    let today = now.to_zoned(TimeZone::UTC);
    let (month, day) = (today.month().unsigned_abs(), today.day().min(28).unsigned_abs());
    params.not_before = rcgen::date_time_ymd(i32::from(today.year()), month, day);
    params.not_after = rcgen::date_time_ymd(i32::from(today.year()) + 1, month, day);
    let subject =
        format!("{}@{}", names.first().map_or("kubelet", String::as_str), today.timestamp().as_second());
    params.distinguished_name.push(rcgen::DnType::CommonName, subject);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate().map_err(CertificateError::Generate)?;
    let certificate = params.self_signed(&key).map_err(CertificateError::Generate)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Under another name first, so that nobody ever reads half a file.
fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn days_ago(days: i64) -> Timestamp {
        Timestamp::from_second(Timestamp::now().as_second() - days * DAY).unwrap()
    }

    /// A folder with a pair that was made so many days ago, under this name.
    fn made(days: i64, is_by_kubelet: bool) -> (tempfile::TempDir, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let (mut certificate, mut key) = generate(&["n".to_owned()], &[], days_ago(days)).unwrap();
        if !is_by_kubelet {
            let mut params = rcgen::CertificateParams::new(vec!["n".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            params.distinguished_name.push(rcgen::DnType::CommonName, "somebody@example.com");
            let pair = rcgen::KeyPair::generate().unwrap();
            (certificate, key) = (params.self_signed(&pair).unwrap().pem(), pair.serialize_pem());
        }
        fs::write(folder.path().join("kubelet.crt"), &certificate).unwrap();
        fs::write(folder.path().join("kubelet.key"), key).unwrap();
        (folder, certificate.into_bytes())
    }

    fn shown(certificate: &ServingCertificate) -> Arc<Loaded> {
        certificate.shared.current.load_full().unwrap()
    }

    #[test]
    fn at_the_start_what_expires_soon_is_made_anew() {
        for (days, is_by_kubelet, is_kept) in
            [(1, true, true), (330, true, true), (340, true, false), (800, true, false), (0, false, true)]
        {
            let (folder, before) = made(days, is_by_kubelet);
            let certificate = ServingCertificate::self_signed(folder.path(), &["n".to_owned()], &[]).unwrap();
            assert_eq!(fs::read(folder.path().join("kubelet.crt")).unwrap() == before, is_kept, "{days}");
            assert_eq!(shown(&certificate).pem == before, is_kept, "{days}");
            assert!(!is_due(&shown(&certificate), Timestamp::now()));
        }
    }

    #[test]
    fn while_running_it_is_made_anew_in_time_and_once() {
        let (folder, before) = made(1, true);
        let certificate = ServingCertificate::self_signed(folder.path(), &["n".to_owned()], &[]).unwrap();
        for (in_days, is_new) in
            [(0, false), (300, false), (340, true), (341, false), (640, false), (700, true)]
        {
            let pem = shown(&certificate).pem.clone();
            assert_eq!(certificate.reload_at(days_ago(-in_days)).unwrap(), is_new, "in {in_days} days");
            assert_eq!(shown(&certificate).pem != pem, is_new, "in {in_days} days");
        }
        assert_ne!(fs::read(folder.path().join("kubelet.crt")).unwrap(), before);
        // Another process would find the same pair.
        let files = certificate.shared.files.as_ref().unwrap();
        assert_eq!(files.load().unwrap().pem, shown(&certificate).pem);
    }

    #[test]
    fn files_an_operator_names_are_never_written() {
        let (folder, before) = made(800, true);
        let path = folder.path().join("kubelet.crt");
        let certificate = ServingCertificate::from_files(&path, &folder.path().join("kubelet.key")).unwrap();
        assert!(!certificate.reload().unwrap());
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
