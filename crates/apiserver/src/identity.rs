//! The client certificate a connection shows, looked up anew at each handshake, and the sign that
//! connections made with an older one are to be left.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use model::chain;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::certificates::{CertificatePair, PairError};

/// How often files named in a kubeconfig are looked at, at most.
pub(crate) const FILE_CHECK: Duration = Duration::from_secs(60);

/// A client certificate or its key cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// One of the files cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What stands in them is not a certificate with its key.
    #[error("use client certificate {path}")]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PairError,
    },
    /// The same, of what stands in the kubeconfig itself.
    #[error("use the client certificate in the kubeconfig")]
    Inline(#[source] PairError),
    /// The data in the kubeconfig is not base64.
    #[error("decode {field}")]
    Base64 {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        source: base64::DecodeError,
    },
    /// One without the other.
    #[error("client-certificate and client-key are only of use together")]
    Half,
}

/// Counts up whenever connections are to be made anew. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Renewals(Arc<watch::Sender<u64>>);

impl Renewals {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// From here on, what is sent goes over new connections.
    pub(crate) fn renew(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// A certificate that its owner replaces: the rotation's, an exec plugin's, a kubeconfig's own.
pub(crate) struct ShownIdentity(ArcSwapOption<Shown>);

struct Shown {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl std::fmt::Debug for ShownIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShownIdentity").finish_non_exhaustive()
    }
}

impl ShownIdentity {
    /// Shows nothing yet.
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self(ArcSwapOption::empty()))
    }

    /// Shows this from the next handshake on.
    pub(crate) fn show(&self, pair: &CertificatePair) {
        let shown = Shown { key: pair.certified().clone(), not_after: pair.leaf().not_after };
        self.0.store(Some(Arc::new(shown)));
    }

    /// Shows nothing from the next handshake on.
    pub(crate) fn hide(&self) {
        self.0.store(None);
    }
}

impl ResolvesClientCert for ShownIdentity {
    fn resolve(&self, _root_hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.load_full()?;
        // An expired one is worth less than none: other credentials may come with the request.
        let is_valid = Timestamp::now() < shown.not_after;
        (is_valid && shown.key.key.choose_scheme(schemes).is_some()).then(|| shown.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A certificate in files that somebody else replaces (`kubelet-client-current.pem`).
///
/// Connections live long and handshakes are rare, so the files are read at each of them. That they
/// have changed is found out when something is sent.
pub(crate) struct FileIdentity {
    certificate: PathBuf,
    key: PathBuf,
    last_good: ArcSwap<CertificatePair>,
    check_every: Duration,
    start: Instant,
    /// When they were looked at last, in milliseconds since `start`.
    checked_millis: AtomicU64,
    // Held for two calls of `stat`, never across a wait.
    stamp: Mutex<[Stamp; 2]>,
}

/// What is different when a file is another one or was written to.
pub(crate) type Stamp = Option<(u64, u64, i64, i64)>;

impl FileIdentity {
    /// Reads both files once, so that a wrong path is an error at start.
    pub(crate) fn open(certificate: &Path, key: &Path, check_every: Duration) -> Result<Self, IdentityError> {
        let stamp = [stamp(certificate), stamp(key)];
        let first = load(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            last_good: ArcSwap::from_pointee(first),
            check_every,
            start: Instant::now(),
            checked_millis: AtomicU64::new(0),
            stamp: Mutex::new(stamp),
        })
    }

    /// Whether the files have changed since the last call; looks at most as often as was set.
    pub(crate) fn has_changed(&self) -> bool {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let every = u64::try_from(self.check_every.as_millis()).unwrap_or(u64::MAX);
        let last = self.checked_millis.load(Ordering::Relaxed);
        if now.saturating_sub(last) < every {
            return false;
        }
        let turn = self.checked_millis.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if turn.is_err() {
            return false;
        }
        let fresh = [stamp(&self.certificate), stamp(&self.key)];
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        // Missing for a moment is a replacement under way.
        let has_changed = fresh != *known && fresh.iter().all(Option::is_some);
        if has_changed {
            *known = fresh;
        }
        has_changed
    }
}

impl std::fmt::Debug for FileIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileIdentity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl ResolvesClientCert for FileIdentity {
    fn resolve(&self, _root_hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match load(&self.certificate, &self.key) {
            Ok(fresh) => self.last_good.store(Arc::new(fresh)),
            // Rotation may be under way (certificate and key are two files); the old pair still works.
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "Failed to load client certificate; using the last one"
                );
            }
        }
        let current = self.last_good.load().certified().clone();
        current.key.choose_scheme(schemes).is_some().then_some(current)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub(crate) fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}

fn load(certificate: &Path, key: &Path) -> Result<CertificatePair, IdentityError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })
    };
    let (chain_pem, key_pem) = (read(certificate)?, read(key)?);
    CertificatePair::parse(&chain_pem, &key_pem)
        .map_err(|source| IdentityError::Pair { path: certificate.to_owned(), source })
}
