//! The pods of the node as the API server tells them, each change with the moment it arrived.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One change of a pod.
pub(super) struct Change {
    /// When it arrived here.
    pub(super) at: Instant,
    /// The pod's name.
    pub(super) name: String,
    /// The pod, unless it is gone.
    pub(super) pod: Option<Pod>,
}

/// A running watch.
pub(super) struct Feed {
    changes: mpsc::Receiver<Change>,
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts watching the default namespace.
    pub(super) fn start(client: Client) -> Self {
        // 110 pods with fewer than 20 changes each fit, so the watch never waits for the reader.
        let (sender, changes) = mpsc::channel(4096);
        let task = tokio::spawn(async move {
            let pods: Api<Pod> = Api::default_namespaced(client);
            let stream = watcher(pods, watcher::Config::default()).default_backoff();
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let at = Instant::now();
                let (pod, gone) = match event {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => (pod, false),
                    Ok(watcher::Event::Delete(pod)) => (pod, true),
                    Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => continue,
                };
                let name = pod.metadata.name.clone().unwrap_or_default();
                let change = Change { at, name, pod: (!gone).then_some(pod) };
                if sender.send(change).await.is_err() {
                    return;
                }
            }
        });
        Self { changes, task }
    }

    /// Forgets what has arrived so far.
    pub(super) fn drain(&mut self) {
        while self.changes.try_recv().is_ok() {}
    }

    /// The next change, within a limit nothing healthy comes near.
    pub(super) async fn next(&mut self) -> Result<Change> {
        let change = tokio::time::timeout(Duration::from_secs(180), self.changes.recv()).await;
        change.context("nothing happens")?.context("the watch ended")
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
