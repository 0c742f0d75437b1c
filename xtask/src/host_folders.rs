//! What kubelets leave at their usual places on a machine: nothing, if tests keep to their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Folders a kubelet makes unless it is told others.
const USUAL: &[&str] = &[
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/etc/kubernetes",
    "/usr/libexec/kubernetes",
];

/// Which of these folders there are, and what is in them.
pub(crate) struct HostFolders(BTreeSet<PathBuf>);

impl HostFolders {
    /// As it is now.
    pub(crate) fn find() -> Self {
        Self::below(USUAL.iter().map(Path::new))
    }

    fn below<'a>(folders: impl Iterator<Item = &'a Path>) -> Self {
        let mut found = BTreeSet::new();
        for folder in folders.filter(|folder| folder.exists()) {
            found.insert(folder.to_owned());
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path()));
        }
        Self(found)
    }

    /// Fails when there is more than before.
    pub(crate) fn check(&self, before: &Self) -> Result<()> {
        let new: Vec<String> = self.0.difference(&before.0).map(|path| path.display().to_string()).collect();
        ensure!(new.is_empty(), "tests have written to the machine's own folders: {}", new.join(", "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_folders_and_files_are_found() {
        let machine = tempfile::tempdir().unwrap();
        let folder = machine.path().join("kubelet");
        let find = || HostFolders::below(std::iter::once(folder.as_path()));
        let nothing = find();
        std::fs::create_dir(&folder).unwrap();
        let empty = find();
        assert!(empty.check(&nothing).is_err(), "the folder itself");
        assert!(empty.check(&empty).is_ok());
        std::fs::write(folder.join("file"), "").unwrap();
        assert!(find().check(&empty).unwrap_err().to_string().contains("kubelet/file"));
        assert!(nothing.check(&find()).is_ok(), "what is gone is nobody's concern here");
    }
}
