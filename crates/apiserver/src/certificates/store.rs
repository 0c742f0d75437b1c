//! A certificate on disk, as upstream lays it out: each pair in a file of its own,
//! `<prefix>-<time>.pem`, and the link `<prefix>-current.pem` to the one in use.
//!
//! Whoever names the link in a kubeconfig gets the newest pair; whoever is killed between two
//! steps finds either the old pair or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use thiserror::Error;

use super::pair::{CertificatePair, PairError};

/// A pair that cannot be read from or written to its folder.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk says no.
    #[error("{operation} {path}")]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// What stands in a file is not a usable pair.
    #[error("use the certificate in {path}")]
    Pair {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PairError,
    },
    /// Something of somebody else is where the link should be.
    #[error("{path} is a file and not a link to the current certificate; move it away")]
    NotALink {
        /// The file.
        path: PathBuf,
    },
}

fn disk<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Disk { operation, path: path.to_owned(), source }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    folder: PathBuf,
    prefix: &'static str,
    /// Certificate and key to begin with, while the store itself has none.
    first: Option<(PathBuf, PathBuf)>,
}

impl CertificateStore {
    /// A store in a folder, which need not exist. Finishes a switch that was interrupted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        folder: &Path,
        prefix: &'static str,
        first: Option<(PathBuf, PathBuf)>,
    ) -> Result<Self, StoreError> {
        let store = Self { folder: folder.to_owned(), prefix, first };
        let (current, updated) = (store.current_path(), store.path_of("updated"));
        if !exists(&current)? && is_link(&updated)? {
            fs::rename(&updated, &current).map_err(disk("finish the switch to", &updated))?;
        }
        Ok(store)
    }

    /// The link to the pair in use, whether it is there or not.
    pub fn current_path(&self) -> PathBuf {
        self.path_of("current")
    }

    /// The pair in use: the link's, else the configured files', else `<prefix>.crt` and
    /// `<prefix>.key`. It may have expired.
    ///
    /// # Errors
    /// If the first of them that exists is no usable pair.
    pub fn current(&self) -> Result<Option<CertificatePair>, StoreError> {
        let link = self.current_path();
        if exists(&link)? {
            return read(&link, &link).map(Some);
        }
        let own = |ending: &str| self.folder.join(format!("{}.{ending}", self.prefix));
        for (certificate, key) in self.first.iter().cloned().chain([(own("crt"), own("key"))]) {
            if exists(&certificate)? && exists(&key)? {
                return read(&certificate, &key).map(Some);
            }
        }
        Ok(None)
    }

    /// Writes a pair and makes it the one in use.
    ///
    /// # Errors
    /// [`StoreError`]; the old pair stays in use then.
    pub fn update(
        &self,
        chain_pem: &[u8],
        key_pem: &str,
        now: Timestamp,
    ) -> Result<CertificatePair, StoreError> {
        // UTC, where upstream takes the machine's time zone: nobody reads it back.
        let time = now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d-%H-%M-%S").to_string();
        let path = self.path_of(&time);
        let pair = CertificatePair::parse(chain_pem, key_pem.as_bytes())
            .map_err(|source| StoreError::Pair { path: path.clone(), source })?;
        fs::create_dir_all(&self.folder).map_err(disk("create folder", &self.folder))?;
        let mut text = String::new();
        for certificate in &pair.certified().cert {
            text.push_str(&super::key::pem_block("CERTIFICATE", certificate));
        }
        text.push_str(pair.key_pem());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&path).map_err(disk("create", &path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(disk("write", &path))?;
        self.switch_to(&path)?;
        Ok(pair)
    }

    /// Lets the link point to a file, in one step.
    fn switch_to(&self, path: &Path) -> Result<(), StoreError> {
        let (current, updated) = (self.current_path(), self.path_of("updated"));
        is_link(&current)?;
        if is_link(&updated)? {
            fs::remove_file(&updated).map_err(disk("remove", &updated))?;
        }
        let target = std::path::absolute(path).map_err(disk("find the place of", path))?;
        symlink(target, &updated).map_err(disk("link", &updated))?;
        fs::rename(&updated, &current).map_err(disk("switch", &current))?;
        // So that the new name is there after a power failure too.
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(disk("sync", &self.folder))
    }

    fn path_of(&self, which: &str) -> PathBuf {
        self.folder.join(format!("{}-{which}.pem", self.prefix))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertificatePair, StoreError> {
    let chain_pem = fs::read(certificate).map_err(disk("read", certificate))?;
    let key_pem = fs::read(key).map_err(disk("read", key))?;
    CertificatePair::parse(&chain_pem, &key_pem)
        .map_err(|source| StoreError::Pair { path: certificate.to_owned(), source })
}

/// Whether there is something, behind links too.
fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(disk("look for", path))
}

/// Whether there is a link; an error if there is something else.
fn is_link(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Ok(true),
        Ok(_) => Err(StoreError::NotALink { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(disk("look at", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::testing::Authority;
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        authority: Authority,
    }

    impl Fixture {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), authority: Authority::new() }
        }

        fn open(&self) -> Result<CertificateStore, StoreError> {
            CertificateStore::open(self.folder.path(), "kubelet-client", None)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }
    }

    fn node(pair: Option<CertificatePair>) -> String {
        pair.map_or("none".to_owned(), |pair| pair.leaf().common_name.clone())
    }

    #[test]
    fn pairs_are_written_as_upstream_writes_them() {
        let fixture = Fixture::new();
        let store = fixture.open().unwrap();
        assert_eq!(node(store.current().unwrap()), "none");
        let first: Timestamp = "2026-03-01T12:00:01Z".parse().unwrap();
        let second: Timestamp = "2026-03-01T12:00:02Z".parse().unwrap();
        let (chain, key) = fixture.authority.pair("one", -10, 10);
        store.update(chain.as_bytes(), &key, first).unwrap();
        assert_eq!(node(store.current().unwrap()), "system:node:one");
        let (chain, key) = fixture.authority.pair("two", -10, 10);
        store.update(chain.as_bytes(), &key, second).unwrap();
        assert_eq!(node(store.current().unwrap()), "system:node:two");
        let target = fs::read_link(store.current_path()).unwrap();
        assert_eq!(target, fixture.at("kubelet-client-2026-03-01-12-00-02.pem"));
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o600);
        let text = fs::read_to_string(&target).unwrap();
        let labels: Vec<&str> = text.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
        assert_eq!(labels, ["-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"]);
        assert!(fixture.at("kubelet-client-2026-03-01-12-00-01.pem").exists(), "old pairs are kept");
        // The pair is refused before anything is written.
        assert!(store.update(chain.as_bytes(), "no key", first).is_err());
        assert_eq!(node(store.current().unwrap()), "system:node:two");
    }

    #[test]
    fn an_interrupted_switch_is_finished() {
        let fixture = Fixture::new();
        let store = fixture.open().unwrap();
        let (chain, key) = fixture.authority.pair("one", -10, 10);
        store.update(chain.as_bytes(), &key, Timestamp::now()).unwrap();
        fs::rename(store.current_path(), fixture.at("kubelet-client-updated.pem")).unwrap();
        assert_eq!(node(fixture.open().unwrap().current().unwrap()), "system:node:one");
        // And one that was interrupted before that is forgotten.
        symlink("nowhere", fixture.at("kubelet-client-updated.pem")).unwrap();
        let (chain, key) = fixture.authority.pair("two", -10, 10);
        store.update(chain.as_bytes(), &key, Timestamp::now()).unwrap();
        assert_eq!(node(store.current().unwrap()), "system:node:two");
        assert!(!fixture.at("kubelet-client-updated.pem").exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_link_is_left_alone() {
        let fixture = Fixture::new();
        let store = fixture.open().unwrap();
        let (chain, key) = fixture.authority.pair("one", -10, 10);
        fs::write(store.current_path(), format!("{chain}{key}")).unwrap();
        assert_eq!(node(store.current().unwrap()), "system:node:one", "it can be read");
        let error = store.update(chain.as_bytes(), &key, Timestamp::now()).unwrap_err();
        assert!(matches!(error, StoreError::NotALink { .. }), "{error}");
    }

    #[test]
    fn files_to_begin_with_are_read_until_there_is_a_link() {
        let fixture = Fixture::new();
        let (chain, key) = fixture.authority.pair("old", -10, 10);
        fs::write(fixture.at("kubelet-client.crt"), &chain).unwrap();
        fs::write(fixture.at("kubelet-client.key"), &key).unwrap();
        assert_eq!(node(fixture.open().unwrap().current().unwrap()), "system:node:old");
        let (chain, key) = fixture.authority.pair("configured", -10, 10);
        fs::write(fixture.at("my.crt"), &chain).unwrap();
        fs::write(fixture.at("my.key"), &key).unwrap();
        let first = Some((fixture.at("my.crt"), fixture.at("my.key")));
        let store = CertificateStore::open(fixture.folder.path(), "kubelet-client", first).unwrap();
        assert_eq!(node(store.current().unwrap()), "system:node:configured");
        let (chain, key) = fixture.authority.pair("new", -10, 10);
        store.update(chain.as_bytes(), &key, Timestamp::now()).unwrap();
        assert_eq!(node(store.current().unwrap()), "system:node:new");
        fs::write(fs::read_link(store.current_path()).unwrap(), "damaged").unwrap();
        assert!(matches!(store.current(), Err(StoreError::Pair { .. })));
    }
}
