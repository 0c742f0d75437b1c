//! Reads the state files that an earlier kubelet has left, this one or upstream's.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use checkpoints::{Damaged, PodsState};
use node::{DamagedFile, StateFile};
use tracing::{error, info};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("read it")]
    Read(#[source] std::io::Error),
    #[error(transparent)]
    Content(#[from] Damaged),
}

/// Those that are there. One that cannot be used is set aside: upstream's kubelet does not start with it, this one goes on
/// without it.
pub(super) fn read(root: &Path) -> BTreeMap<StateFile, Result<PodsState, DamagedFile>> {
    let one = |file: StateFile| {
        let path = root.join(file.name());
        let content = content(&path)?;
        Some((file, content.map_err(|error| set_aside(&path, &error))))
    };
    StateFile::ALL.into_iter().filter_map(one).collect()
}

/// `None` when there is no file.
fn content(path: &Path) -> Option<Result<PodsState, ReadError>> {
    match std::fs::read(path) {
        Ok(content) => {
            let read = PodsState::read(&content);
            if let Ok(state) = &read {
                info!(v = 2, path = %path.display(), pods = state.pods.len(), "Restored state file");
            }
            Some(read.map_err(ReadError::from))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(Err(ReadError::Read(error))),
    }
}

fn set_aside(path: &Path, why: &ReadError) -> DamagedFile {
    let why = model::chain(why);
    let (path_text, aside) = (path.display().to_string(), free_name(path));
    match std::fs::rename(path, &aside) {
        Ok(()) => {
            let kept_as = aside.display().to_string();
            error!(
                path = path_text,
                keptAs = kept_as,
                err = why,
                "State file is damaged and was set aside; the kubelet goes on from what pods are seen to have. Look for what \
                 damaged it (the disk, or who else writes there), and remove what was set aside when it is of no more use"
            );
            DamagedFile { error: why, kept_as: Some(kept_as) }
        }
        Err(error) => {
            error!(
                path = path_text,
                err = why,
                cause = %error,
                "State file is damaged and cannot be set aside; move it away, and look for what damaged it"
            );
            DamagedFile { error: why, kept_as: None }
        }
    }
}

/// Beside the file, what was set aside before stays.
fn free_name(path: &Path) -> PathBuf {
    let mut names = (0_u32..).map(|n| {
        let mut name = path.as_os_str().to_owned();
        name.push(".damaged");
        if n > 0 {
            name.push(format!("-{n}"));
        }
        PathBuf::from(name)
    });
    let is_free = |name: &PathBuf| std::fs::symlink_metadata(name).is_err();
    names.find(is_free).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_set_aside_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let sound = PodsState::default().write().unwrap();
        std::fs::write(path("actuated_pods_state"), &sound).unwrap();
        assert_eq!(read(folder.path()), [(StateFile::ActuatedPods, Ok(PodsState::default()))].into());
        for (content, kept_as) in
            [("", "allocated_pods_state.damaged"), ("{}x", "allocated_pods_state.damaged-1")]
        {
            std::fs::write(path("allocated_pods_state"), content).unwrap();
            let mut files = read(folder.path());
            let damaged = files.remove(&StateFile::AllocatedPods).unwrap().unwrap_err();
            assert!(damaged.error.starts_with("it is no document of its kind: "), "{}", damaged.error);
            assert_eq!(damaged.kept_as, Some(path(kept_as).display().to_string()));
            assert_eq!(std::fs::read_to_string(path(kept_as)).unwrap(), content);
            assert!(!path("allocated_pods_state").exists() && path("actuated_pods_state").exists());
        }
        // Not even a file.
        std::fs::create_dir(path("allocated_pods_state")).unwrap();
        let damaged = read(folder.path()).remove(&StateFile::AllocatedPods).unwrap().unwrap_err();
        assert!(damaged.error.starts_with("read it: "), "{}", damaged.error);
        assert!(path("allocated_pods_state.damaged-2").is_dir());
    }
}
