//! The logs of a pod, removed after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{PodKey, PodUid};
use node::Outcome;
use runtime::podfiles;

use super::failure::blocking;
use super::log_links::LogLinks;

/// Where logs are, and the links to them.
pub(crate) struct PodLogs {
    pub(crate) root: PathBuf,
    pub(crate) links: Arc<LogLinks>,
}

impl PodLogs {
    /// Removes a pod's log folder, and the links into it.
    pub(crate) async fn remove(&self, uid: PodUid, key: PodKey) -> Outcome {
        let root = self.root.clone();
        let name = key.clone();
        let removed = blocking(move || {
            let dirs = if key.name.is_empty() {
                dirs_ending_with(&root, uid.as_str())
            } else {
                vec![podfiles::pod_log_dir(&root, &key, &uid)]
            };
            dirs.iter().try_for_each(|dir| podfiles::remove_pod_log_dir(dir))
        })
        .await;
        if matches!(removed, Outcome::Done) {
            self.links.remove_dangling(&name).await;
        }
        removed
    }
}

/// Log folders of a pod of which only the uid is known.
fn dirs_ending_with(root: &Path, uid: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let is_pods = |name: &str| name.rsplit_once('_').is_some_and(|(_, end)| end == uid);
    entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_pods)).map(|e| e.path()).collect()
}
