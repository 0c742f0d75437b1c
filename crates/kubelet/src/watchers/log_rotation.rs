//! Keeps container logs from filling the disk (`containerLogMaxSize`, `containerLogMaxFiles`).
//!
//! The runtime writes the log; this looks at its size now and then, renames it when it has grown
//! too large, and tells the runtime to open a new one.

use std::path::Path;
use std::sync::Arc;

use config::Config;
use futures::StreamExt as _;
use model::ContainerId;
use node::View;
use runtime::logs::{LogPath, RotationPolicy, rotate};
use runtime::{Runtime, podfiles};
use tokio::sync::watch;
use tracing::warn;

/// One running container and its log.
struct Candidate {
    pod: model::PodKey,
    container: String,
    id: ContainerId,
    path: LogPath,
}

/// Looks at all logs every `containerLogMonitorInterval`, for ever.
pub(crate) async fn run(runtime: Runtime, config: Arc<Config>, view: watch::Receiver<Arc<View>>) {
    let settings = config.container_logs;
    let Some(max_bytes) = settings.max_bytes else { return };
    let policy = RotationPolicy { max_bytes, max_files: settings.max_files as usize };
    loop {
        tokio::time::sleep(settings.check_interval).await;
        let picture = view.borrow().clone();
        let candidates = candidates(&config.paths.pod_logs, &picture);
        // Sizes are looked at in one go, off the executor; what is to be rotated is rare.
        let large = tokio::task::spawn_blocking(move || {
            let is_large =
                |c: &Candidate| std::fs::metadata(c.path.full()).is_ok_and(|m| m.len() >= max_bytes);
            candidates.into_iter().filter(is_large).collect::<Vec<_>>()
        });
        let rotations = large.await.unwrap_or_default();
        // Each ends on its own; a runtime that hangs on one log holds up one worker (`containerLogMaxWorkers`).
        futures::stream::iter(rotations)
            .for_each_concurrent(settings.workers as usize, |candidate| {
                rotate_one(&runtime, candidate, policy)
            })
            .await;
    }
}

async fn rotate_one(runtime: &Runtime, candidate: Candidate, policy: RotationPolicy) {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::system()).datetime();
    let reopen = || runtime.reopen_log(&candidate.id);
    if let Err(error) = rotate(&candidate.path, policy, now, reopen).await {
        warn!(
            pod = %candidate.pod,
            containerName = candidate.container,
            containerID = %candidate.id,
            error = &error as &dyn std::error::Error,
            "Failed to rotate log for container"
        );
    }
}

fn candidates(root: &Path, view: &View) -> Vec<Candidate> {
    let mut found = Vec::new();
    for pod in view.pods.values() {
        let dir = podfiles::pod_log_dir(root, &pod.key, &pod.uid);
        for container in pod.observed.iter().flat_map(|o| &o.containers).filter(|c| c.state.is_running()) {
            let path = dir.join(podfiles::container_log_path(&container.name, container.attempt));
            found.extend(LogPath::below(root, &path).map(|path| Candidate {
                pod: pod.key.clone(),
                container: container.name.clone(),
                id: container.id.clone(),
                path,
            }));
        }
    }
    found
}
