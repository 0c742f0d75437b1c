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

/// The serving certificate in use. Clones share it; handshakes take whatever is current.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwapOption<Loaded>,
    files: Option<Files>,
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
        Self { shared: Arc::new(Shared { current: ArcSwapOption::empty(), files: None }) }
    }

    /// From `tlsCertFile` and `tlsPrivateKeyFile`. Blocks on the disk.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        let loaded = files.load()?;
        let current = ArcSwapOption::from_pointee(loaded);
        Ok(Self { shared: Arc::new(Shared { current, files: Some(files) }) })
    }

    /// `<cert_dir>/kubelet.crt` and `kubelet.key`, made for a year when they are missing, unusable
    /// or expired. Blocks on the disk.
    pub fn self_signed(
        cert_dir: &Path,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Self, CertificateError> {
        let (certificate, key) = (cert_dir.join("kubelet.crt"), cert_dir.join("kubelet.key"));
        match Self::from_files(&certificate, &key) {
            Ok(found) if !found.is_expired(Timestamp::now()) => return Ok(found),
            Ok(_) => tracing::info!("the self-signed serving certificate has expired; making a new one"),
            Err(CertificateError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the self-signed serving certificate is unusable; making a new one"
            ),
        }
        let (certificate_pem, key_pem) = generate(names, addresses)?;
        let write = |path: &Path, source| CertificateError::Write { path: path.to_owned(), source };
        fs::create_dir_all(cert_dir).map_err(|source| write(cert_dir, source))?;
        write_atomically(&key, key_pem.as_bytes(), 0o600).map_err(|source| write(&key, source))?;
        write_atomically(&certificate, certificate_pem.as_bytes(), 0o644)
            .map_err(|source| write(&certificate, source))?;
        Self::from_files(&certificate, &key)
    }

    /// Shows this from here on.
    pub fn show(&self, key: Arc<CertifiedKey>) {
        self.shared.current.store(Some(Arc::new(Loaded { key, pem: Vec::new() })));
    }

    /// Reads the files again, when it came from files; whether something else stands there now.
    /// The last good one stays in use while they are broken. Blocks on the disk.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let Some(files) = &self.shared.files else { return Ok(false) };
        let pem = read(&files.certificate)?;
        if self.shared.current.load().as_ref().is_some_and(|current| current.pem == pem) {
            return Ok(false);
        }
        self.shared.current.store(Some(Arc::new(files.load()?)));
        Ok(true)
    }

    /// Whether there is a certificate and it no longer holds at that time.
    fn is_expired(&self, now: Timestamp) -> bool {
        let Some(current) = self.shared.current.load_full() else { return false };
        let Some(certificate) = current.key.cert.first() else { return true };
        X509Certificate::from_der(certificate)
            .map_or(true, |(_, parsed)| parsed.validity().not_after.timestamp() <= now.as_second())
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

fn generate(names: &[String], addresses: &[IpAddr]) -> Result<(String, String), CertificateError> {
    let sans = names.iter().cloned().chain(addresses.iter().map(ToString::to_string)).collect::<Vec<_>>();
    let mut params = rcgen::CertificateParams::new(sans).map_err(CertificateError::Generate)?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC);
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
