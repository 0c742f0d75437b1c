//! The links to logs that collectors read (`/var/log/containers`), removed together with the logs.
//!
//! A link is named after its pod and its container's id, and once the container is gone only the folder tells which
//! links there are. After a node was taken over, or emptied, a hundred pods go one after the other: their removals are
//! debounced, so that the folder is read once for all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::{ContainerId, PodKey};
use runtime::podfiles;
use tokio::time::Instant;

/// How long no further pod may have been told before the folder is read.
const QUIET: Duration = Duration::from_secs(1);
/// When it is read though pods keep coming.
const AT_THE_LATEST: Duration = Duration::from_secs(10);

/// The folder with the links.
pub(crate) struct LogLinks {
    folder: PathBuf,
    gone: Debounced,
}

impl LogLinks {
    /// Links in this folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, gone: Debounced::default() }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The link to a container's log.
    pub(crate) fn path(&self, key: &PodKey, container: &str, id: &ContainerId) -> PathBuf {
        self.folder.join(podfiles::log_link_name(key, container, id))
    }

    /// Removes the links of a pod's containers that lead nowhere any more. One that stays harms nobody.
    pub(crate) async fn remove_dangling(&self, key: &PodKey) {
        let Some(pods) = self.gone.add(format!("{}_{}", key.name, key.namespace)).await else { return };
        let folder = self.folder.clone();
        // Nothing is left to do where the process ends.
        let _ = tokio::task::spawn_blocking(move || sweep(&folder, &pods)).await;
    }
}

/// Reads the folder once, for all pods, each as `<name>_<namespace>`.
fn sweep(folder: &Path, pods: &BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // Neither names nor namespaces have underscores.
        let is_theirs = name.to_str().is_some_and(|name| {
            let second = name.match_indices('_').nth(1);
            second.is_some_and(|(end, _)| pods.contains(&name[..end]))
        });
        if is_theirs && !entry.path().exists() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Gathers names until no more come.
#[derive(Default)]
struct Debounced {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    names: BTreeSet<String>,
    /// When the first and the last of them came.
    since: Option<(Instant, Instant)>,
}

impl Debounced {
    /// Waits with others that add something. One of them, whichever wakes first, gets all names and has to see to them.
    /// Cancel-safe: a name that was added stays for the others.
    async fn add(&self, name: String) -> Option<BTreeSet<String>> {
        let lock = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut waiting = lock();
            waiting.names.insert(name.clone());
            let now = Instant::now();
            let first = waiting.since.map_or(now, |(first, _)| first);
            waiting.since = Some((first, now));
        }
        loop {
            let due = {
                let mut waiting = lock();
                let (first, last) = waiting.since.filter(|_| waiting.names.contains(&name))?;
                let due = (last + QUIET).min(first + AT_THE_LATEST);
                if due <= Instant::now() {
                    waiting.since = None;
                    return Some(std::mem::take(&mut waiting.names));
                }
                due
            };
            tokio::time::sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;

    /// Adds names, so far apart, and returns what each batch held.
    async fn batches(count: usize, apart: Duration) -> Vec<BTreeSet<String>> {
        let debounced = Arc::new(Debounced::default());
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..count {
            let debounced = debounced.clone();
            tasks.spawn(async move { debounced.add(format!("pod-{index}_ns")).await });
            tokio::time::sleep(apart).await;
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_folder_is_read_once_for_the_dead_pods_of_another_kubelet() {
        let batches = batches(130, Duration::from_millis(20)).await;
        assert_eq!(batches.iter().map(BTreeSet::len).collect::<Vec<_>>(), [130]);
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_never_cease_to_go_are_not_waited_for() {
        // 60 seconds of them: a reading every ten.
        let batches = batches(120, Duration::from_millis(500)).await;
        assert_eq!(batches.iter().map(BTreeSet::len).sum::<usize>(), 120);
        assert!((6..=7).contains(&batches.len()), "{batches:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_given_up_leaves_its_pod_to_the_next() {
        let debounced = Debounced::default();
        let given_up = tokio::time::timeout(QUIET / 2, debounced.add("a_ns".to_owned())).await;
        assert!(given_up.is_err());
        let both = debounced.add("b_ns".to_owned()).await.unwrap();
        assert_eq!(both.into_iter().collect::<Vec<_>>(), ["a_ns", "b_ns"]);
    }

    #[tokio::test(start_paused = true)]
    async fn removes_what_leads_nowhere_of_that_pod_alone() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        std::fs::write(&log, "").unwrap();
        let links = LogLinks::new(dir.path().join("links"));
        std::fs::create_dir(links.folder()).unwrap();
        let key = PodKey::new("ns", "web");
        for (name, target) in [
            ("web_ns_app-1.log", "/nowhere"),
            ("web_ns_app-2.log", log.to_str().unwrap()),
            ("web_ns2_app-3.log", "/nowhere"),
            ("web-1_ns_app-4.log", "/nowhere"),
            ("odd", "/nowhere"),
        ] {
            symlink(target, links.folder().join(name)).unwrap();
        }
        links.remove_dangling(&key).await;
        let mut left: Vec<_> =
            std::fs::read_dir(links.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["odd", "web-1_ns_app-4.log", "web_ns2_app-3.log", "web_ns_app-2.log"]);
    }
}
