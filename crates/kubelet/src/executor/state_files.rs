//! Writes state files, and syncs them to disk.

use std::path::Path;

use host::atomic::{self, WriteError};
use node::{CheckpointWrite, Outcome, StateFile};

use super::failure::blocking;

/// Upstream's: they are made as temporary files.
const MODE: u32 = 0o600;

/// A state file that could not be written.
#[derive(Debug, thiserror::Error)]
enum StateFileError {
    #[error("put {name} in words")]
    Content { name: &'static str, source: serde_json::Error },
    #[error(transparent)]
    Write(WriteError),
}

/// Replaces a state file. Once this is done, every process reads the new content.
pub(super) async fn write(root: &Path, write: CheckpointWrite) -> Outcome {
    let name = write.file.name();
    let path = root.join(name);
    blocking(move || {
        let content = write.content.write().map_err(|source| StateFileError::Content { name, source })?;
        atomic::replace(&path, &content, MODE).map_err(StateFileError::Write)
    })
    .await
}

/// Syncs a state file. Once this is done, what was written before outlives a power cut.
pub(super) async fn sync(root: &Path, file: StateFile) -> Outcome {
    let path = root.join(file.name());
    blocking(move || atomic::sync(&path).map_err(StateFileError::Write)).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use checkpoints::{Entry, PodResources, PodsState};
    use node::{StateFile, Version};

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_again_and_a_failure_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let content = PodsState { pods: [("u".into(), Entry::new(&PodResources::default()))].into() };
        for file in StateFile::ALL {
            let of = |content: &PodsState| CheckpointWrite {
                file,
                content: Arc::new(content.clone()),
                version: Version(1),
            };
            assert!(matches!(write(folder.path(), of(&content)).await, Outcome::Done));
            assert!(matches!(sync(folder.path(), file).await, Outcome::Done));
            let path = folder.path().join(file.name());
            assert_eq!(PodsState::read(&std::fs::read(&path).unwrap()).unwrap(), content);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let Outcome::Failed(failure) = write(&folder.path().join("none"), of(&content)).await else {
                panic!("there is no such folder");
            };
            assert!(failure.message.contains(file.name()), "{}", failure.message);
            let Outcome::Failed(failure) = sync(&folder.path().join("none"), file).await else {
                panic!("there is no such file");
            };
            assert!(failure.message.contains(file.name()), "{}", failure.message);
        }
    }
}
