//! What a user sees of the pods: when each was bound, ran, was ready, ended.
//!
//! The watch reads only the few fields it needs: a thousand pods bring ten thousand changes in seconds. Times are
//! nanoseconds since 1970, comparable with those of `fake-cri`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use futures::StreamExt as _;
use kube::api::ApiResource;
use kube::core::{NotUsed, Object};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

type Pod = Object<NotUsed, Status>;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct ContainerStatus {
    state: BTreeMap<String, serde_json::Value>,
}

/// When a pod was first seen in each of its states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PodTimes {
    /// There, with its node: they are created with it.
    pub(super) bound: i64,
    /// Its phase was Running.
    pub(super) running: Option<i64>,
    /// It was ready.
    pub(super) ready: Option<i64>,
    /// A container of it had ended.
    pub(super) ended: Option<i64>,
}

impl PodTimes {
    fn look(&mut self, pod: &Pod, now: i64) {
        let Some(status) = &pod.status else { return };
        if status.phase == "Running" {
            self.running.get_or_insert(now);
        }
        if status.conditions.iter().any(|one| one.r#type == "Ready" && one.status == "True") {
            self.ready.get_or_insert(now);
        }
        if status.container_statuses.iter().any(|one| one.state.contains_key("terminated")) {
            self.ended.get_or_insert(now);
        }
    }
}

/// All pods seen, by name.
pub(super) type AllPodTimes = BTreeMap<String, PodTimes>;

/// A running watch on the default namespace.
pub(super) struct PodWatch {
    seen: watch::Receiver<AllPodTimes>,
    task: JoinHandle<()>,
}

impl PodWatch {
    /// Starts watching.
    pub(super) fn start(client: Client) -> Self {
        let (publish, seen) = watch::channel(AllPodTimes::new());
        let task = tokio::spawn(async move {
            let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
            let pods: Api<Pod> = Api::default_namespaced_with(client, &kind);
            let stream = watcher(pods, watcher::Config::default()).default_backoff();
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let at = now();
                match event {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                        let name = pod.metadata.name.clone().unwrap_or_default();
                        publish.send_modify(|seen| {
                            let new = PodTimes { bound: at, ..PodTimes::default() };
                            seen.entry(name).or_insert(new).look(&pod, at);
                        });
                    }
                    Ok(watcher::Event::Delete(pod)) => {
                        publish.send_modify(|seen| {
                            seen.remove(pod.metadata.name.as_deref().unwrap_or_default());
                        });
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => {}
                }
            }
        });
        Self { seen, task }
    }

    /// Waits until what is seen satisfies a condition; an error when that is not within the limit.
    pub(super) async fn until(
        &mut self,
        limit: Duration,
        condition: impl Fn(&AllPodTimes) -> bool,
    ) -> Result<()> {
        match tokio::time::timeout(limit, self.seen.wait_for(|seen| condition(seen))).await {
            Err(_) => bail!("not seen within {limit:?}"),
            Ok(seen) => seen.map(drop).context("the watch ended"),
        }
    }

    /// Waits until all these pods satisfy a condition. The error says how many do not.
    pub(super) async fn until_all(
        &mut self,
        names: &[String],
        limit: Duration,
        condition: impl Fn(&PodTimes) -> bool,
    ) -> Result<()> {
        let holds = |seen: &AllPodTimes, name: &String| seen.get(name).is_some_and(&condition);
        let all = self.until(limit, |seen| names.iter().all(|name| holds(seen, name))).await;
        let Err(error) = all else { return Ok(()) };
        let seen = self.seen.borrow();
        let missing = names.iter().filter(|name| !holds(&seen, name)).count();
        Err(error.context(format!("{missing} of {} pods", names.len())))
    }

    /// What was seen of a pod.
    pub(super) fn of(&self, name: &str) -> PodTimes {
        self.seen.borrow().get(name).copied().unwrap_or_default()
    }
}

impl Drop for PodWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_seen_through_its_states() {
        let pod = |status| -> Pod {
            serde_json::from_value(
                json!({ "metadata": { "name": "a" }, "spec": { "x": 1 }, "status": status }),
            )
            .unwrap()
        };
        let mut times = PodTimes { bound: 1, ..PodTimes::default() };
        times.look(&pod(json!({ "phase": "Pending", "qosClass": "BestEffort" })), 1);
        assert_eq!(times, PodTimes { bound: 1, ..PodTimes::default() });
        let ready = json!([{ "type": "Ready", "status": "True", "lastProbeTime": null }]);
        let running = json!([{ "name": "main", "state": { "running": { "startedAt": "x" } } }]);
        times.look(&pod(json!({ "phase": "Running", "conditions": ready, "containerStatuses": running })), 2);
        let ended = json!([{ "name": "main", "state": { "terminated": { "exitCode": 1 } } }]);
        times.look(&pod(json!({ "phase": "Failed", "containerStatuses": ended })), 3);
        times.look(&pod(json!({ "phase": "Failed", "containerStatuses": ended })), 4);
        let expected = PodTimes { bound: 1, running: Some(2), ready: Some(2), ended: Some(3) };
        assert_eq!(times, expected);
    }
}
