//! `vol_data.json`: which volume of which driver is, or may be, mounted beside it. Whatever kubelet comes next knows by it how
//! to have the volume taken back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use host::beneath::{BeneathError, Links, Root};
use model::storage::{CsiSource, CsiVolume, attachment_name};

/// The file's name.
pub(super) const FILE: &str = "vol_data.json";
/// The name it has while it is written, which a crash may leave.
pub(super) const TEMPORARY: &str = ".vol_data.json.tmp";

const DRIVER: &str = "driverName";
const HANDLE: &str = "volumeHandle";
const LIFECYCLE: &str = "volumeLifecycleMode";

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeData(BTreeMap<String, String>);

/// `volumeLifecycleMode`
fn lifecycle(is_ephemeral: bool) -> &'static str {
    if is_ephemeral { "Ephemeral" } else { "Persistent" }
}

impl VolumeData {
    /// Of a volume that is staged.
    pub(super) fn staged(source: &CsiSource) -> Self {
        let CsiSource { driver, handle, .. } = source;
        Self::of([(DRIVER, driver.as_str()), (HANDLE, handle.as_str())])
    }

    /// Of a volume that is published.
    pub(super) fn published(volume: CsiVolume<'_>, node_name: &str) -> Self {
        let CsiSource { driver, handle, is_ephemeral, .. } = volume.csi();
        Self::of([
            (DRIVER, driver.as_str()),
            (HANDLE, handle.as_str()),
            (LIFECYCLE, lifecycle(*is_ephemeral)),
            ("specVolID", volume.folder.as_str()),
            ("nodeName", node_name),
            ("attachmentID", &attachment_name(driver, handle, node_name)),
        ])
    }

    fn of<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// The driver's name.
    pub(crate) fn driver(&self) -> &str {
        self.0.get(DRIVER).map_or("", String::as_str)
    }

    /// The driver's name of the volume.
    pub(crate) fn handle(&self) -> &str {
        self.0.get(HANDLE).map_or("", String::as_str)
    }

    /// Whether it lives and dies with its pod.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.0.get(LIFECYCLE).is_some_and(|mode| mode == lifecycle(true))
    }

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self, folder: &Path) -> Result<(), DataError> {
        let path = folder.join(FILE);
        let text = golang::json::to_string(&self.0)
            .map_err(|source| DataError::Content { path: path.clone(), source })?;
        Ok(host::atomic::write(&path, format!("{text}\n").as_bytes(), 0o644)?)
    }

    /// Reads the file of a folder; `None` when there is none.
    pub(crate) fn read(folder: &Root) -> Result<Option<Self>, DataError> {
        let text = match folder.read(Path::new(FILE), Links::Refuse) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let path = folder.path().join(FILE);
        let data = serde_json::from_slice(&text)
            .map(Self)
            .map_err(|source| DataError::Content { path: path.clone(), source })?;
        if data.driver().is_empty() || data.handle().is_empty() {
            return Err(DataError::Incomplete { path });
        }
        Ok(Some(data))
    }
}

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] BeneathError),
    /// Likewise.
    #[error(transparent)]
    Write(#[from] host::atomic::WriteError),
    /// It is no document of that kind.
    #[error("content of {}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It names no driver or no volume.
    #[error("{} names no driver or no volume", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use model::storage::VolumeSpec;

    use super::*;

    #[test]
    fn the_file_is_the_one_upstream_writes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        assert_eq!(VolumeData::read(&root).unwrap(), None);
        let volume = VolumeSpec::of_persistent(
            &serde_json::from_value(serde_json::json!({
                "metadata": { "name": "pv-1" },
                "spec": { "csi": { "driver": "d.example", "volumeHandle": "h<1>" } },
            }))
            .unwrap(),
        )
        .unwrap();
        let staged = VolumeData::staged(volume.as_csi().unwrap().csi());
        staged.write(folder.path()).unwrap();
        let text = || std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text(), "{\"driverName\":\"d.example\",\"volumeHandle\":\"h\\u003c1\\u003e\"}\n");
        assert_eq!(VolumeData::read(&root).unwrap(), Some(staged));
        let published = VolumeData::published(volume.as_csi().unwrap(), "n");
        published.write(folder.path()).unwrap();
        assert_eq!(
            text(),
            "{\"attachmentID\":\"csi-f8715273ee649edb723b7b1d24780c75883a2a14c2dac79f3b9783b4986e3bbf\",\
             \"driverName\":\"d.example\",\"nodeName\":\"n\",\"specVolID\":\"pv-1\",\
             \"volumeHandle\":\"h\\u003c1\\u003e\",\"volumeLifecycleMode\":\"Persistent\"}\n"
        );
        assert!(!VolumeData::read(&root).unwrap().unwrap().is_ephemeral());
        for text in ["", "{}", "{\"driverName\":\"d\"}", "[]"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            VolumeData::read(&root).unwrap_err();
        }
    }
}
