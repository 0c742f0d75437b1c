//! Eviction under node pressure: a disk without room or inodes, memory and process ids that run short. The pod that uses most
//! goes, says why, and its neighbour stays.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::Api;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};
use tokio::process::Command;

use super::node_object::told_of;
use super::scene::{EVENTUALLY, SOON, Scene, condition, ended, is_ready, phase, shell, with};
use crate::cluster::{Changes, wait_for};
use crate::isolation::NODE;
use crate::process::Service;
use crate::workspace;

const MIB: u64 = 1024 * 1024;

/// A small disk for the kubelet's root folder, for as long as it is held.
struct RootDisk {
    folder: PathBuf,
}

impl RootDisk {
    /// One of this size with so many inodes.
    async fn new(scene: &Scene, mib: u64, inodes: u64) -> Result<Self> {
        let (file, folder) = (scene.cluster.paths.file("root-disk"), scene.cluster.paths.file("root-folder"));
        std::fs::File::create(&file)?.set_len(mib * MIB)?;
        workspace::create_dir(&folder)?;
        let (file, at) = (file.to_string_lossy(), folder.to_string_lossy());
        for command in [
            vec!["mkfs.ext4", "-q", "-m", "0", "-N", &inodes.to_string(), &file],
            vec!["mount", "-o", "loop", &file, &at],
        ] {
            let done = Command::new(command[0]).args(&command[1..]).output().await?;
            ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(Self { folder })
    }
}

impl Drop for RootDisk {
    fn drop(&mut self) {
        // The namespace of mounts ends with the cluster.
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

/// What runs short, and how the one pod makes it so.
struct Shortage<'a> {
    signal: &'a str,
    /// The threshold.
    limit: String,
    /// As messages call it.
    resource: &'a str,
    /// The node's condition.
    condition: &'a str,
    /// What the pod does. It has a volume at `/v`.
    script: String,
    volume: Value,
}

/// The pod that causes the shortage goes, and tells why; the other stays.
async fn goes_and_tells(scene: &Scene, shortage: &Shortage<'_>, kubelet: &Service) -> Result<()> {
    let volumes = json!([{ "name": "v", "emptyDir": shortage.volume }]);
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let spec = |script: &str| json!({ "containers": [with(shell("main", script), mount.clone())], "volumes": volumes });
    scene.ready_pod("modest", spec("exec sleep 100000")).await?;
    scene.pod("greedy", spec(&shortage.script)).await?;
    let evicted = scene.until("greedy", "evicted", EVENTUALLY, |pod| phase(pod) == "Failed").await?;
    let status = evicted.status.as_ref().context("the status")?;
    ensure!(status.reason.as_deref() == Some("Evicted"), "it failed otherwise: {status:?}");
    let message = status.message.clone().unwrap_or_default();
    let begin = format!("The node was low on resource: {}. Threshold quantity: ", shortage.resource);
    ensure!(message.starts_with(&begin), "{message}");
    let conditions = status.conditions.iter().flatten();
    let disruption =
        conditions.clone().find(|c| c.type_ == "DisruptionTarget").context("DisruptionTarget")?;
    ensure!(
        disruption.status == "True"
            && disruption.reason.as_deref() == Some("TerminationByKubelet")
            && disruption.message.as_deref() == Some(&message),
        "{disruption:?}"
    );
    ensure!(condition(&evicted, "Ready") == "False", "it is said to be ready");
    let (_, code) = ended(&evicted, "main").context("how its container has ended")?;
    ensure!(code == 137, "it was killed, and is said to have ended with {code}");
    ensure!(scene.event("greedy", "Evicted", SOON).await? == message, "the event says something else");
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    told_of(&events, NODE, "EvictionThresholdMet", &format!("Attempting to reclaim {}", shortage.resource))
        .await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    wait_for(&nodes, NODE, EVENTUALLY, |node: Option<&Node>| has_condition(node, shortage.condition, "True"))
        .await
        .with_context(|| format!("{} is not told", shortage.condition))?;
    // Enough was freed, and it is told when the time is over for which a condition stays.
    wait_for(&nodes, NODE, EVENTUALLY, |node: Option<&Node>| {
        has_condition(node, shortage.condition, "False")
    })
    .await
    .with_context(|| format!("{} stays", shortage.condition))?;
    let modest: Pod = scene.until("modest", "ready", SOON, is_ready).await?;
    ensure!(phase(&modest) == "Running", "the other pod is {}", phase(&modest));
    let counter = format!("kubelet_evictions{{eviction_signal=\"{}\"}} 1", shortage.signal);
    let is_counted = || async {
        let path = format!("/api/v1/nodes/{NODE}/proxy/metrics");
        let page = scene.kubectl_out(&["get", "--raw", &path]).await?;
        ensure!(page.lines().any(|line| line == counter), "no {counter}");
        Ok(())
    };
    kubelet.answers(SOON, is_counted).await
}

fn has_condition(node: Option<&Node>, kind: &str, status: &str) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref()).into_iter().flatten();
    conditions.into_iter().any(|c| c.type_ == kind && c.status == status)
}

/// Lets a kubelet live that evicts by this threshold alone.
async fn with_threshold(scene: &Scene, shortage: Shortage<'_>, flags: Vec<String>) -> Result<()> {
    let mut hard = json!({ "memory.available": "50Mi" });
    hard[shortage.signal] = json!(shortage.limit);
    let fields = json!({
        "evictionHard": hard,
        "evictionPressureTransitionPeriod": "15s",
    });
    let changes = Changes { fields, flags, ..Changes::default() };
    scene.cluster.kubelet.stop().await?;
    let kubelet = scene.cluster.kubelet_changed("evicting", changes)?;
    kubelet.start().await?;
    goes_and_tells(scene, &shortage, &kubelet).await?;
    for pod in ["modest", "greedy"] {
        scene.delete(pod).await?;
        scene.gone(pod).await?;
    }
    kubelet.stop().await
}

/// The disk with the root folder has no room.
pub(super) async fn of_who_fills_the_disk(scene: Scene) -> Result<()> {
    let disk = RootDisk::new(&scene, 128, 4096).await?;
    let shortage = Shortage {
        signal: "nodefs.available",
        limit: "50%".to_owned(),
        resource: "ephemeral-storage",
        condition: "DiskPressure",
        script: "dd if=/dev/zero of=/v/fill bs=1M count=80; exec sleep 100000".to_owned(),
        volume: json!({}),
    };
    with_threshold(&scene, shortage, vec![format!("--root-dir={}", disk.folder.display())]).await
}

/// It has no inodes.
pub(super) async fn of_who_uses_up_inodes(scene: Scene) -> Result<()> {
    let disk = RootDisk::new(&scene, 64, 4096).await?;
    let shortage = Shortage {
        signal: "nodefs.inodesFree",
        limit: "50%".to_owned(),
        resource: "inodes",
        condition: "DiskPressure",
        script: "i=0; while [ $i -lt 2500 ]; do : > /v/$i; i=$((i+1)); done; exec sleep 100000".to_owned(),
        volume: json!({}),
    };
    with_threshold(&scene, shortage, vec![format!("--root-dir={}", disk.folder.display())]).await
}

/// Memory runs short. Others on the machine use some, too: half of what the pod takes is left to them.
pub(super) async fn of_who_eats_memory(scene: Scene) -> Result<()> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/stats/summary");
    let summary: Value = serde_json::from_str(&scene.kubectl_out(&["get", "--raw", &path]).await?)?;
    let free = summary["node"]["memory"]["availableBytes"].as_u64().context("how much memory is free")?;
    let shortage = Shortage {
        signal: "memory.available",
        limit: free.saturating_sub(1024 * MIB).to_string(),
        resource: "memory",
        condition: "MemoryPressure",
        script: "dd if=/dev/zero of=/v/fill bs=1M count=2048; exec sleep 100000".to_owned(),
        volume: json!({ "medium": "Memory" }),
    };
    with_threshold(&scene, shortage, Vec::new()).await
}

/// Process ids run short.
pub(super) async fn of_who_forks(scene: Scene) -> Result<()> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/stats/summary");
    let summary: Value = serde_json::from_str(&scene.kubectl_out(&["get", "--raw", &path]).await?)?;
    let number =
        |name: &str| summary["node"]["rlimit"][name].as_u64().context("how many processes there may be");
    let free = number("maxpid")?.saturating_sub(number("curproc")?);
    let shortage = Shortage {
        signal: "pid.available",
        limit: free.saturating_sub(400).to_string(),
        resource: "pids",
        condition: "PIDPressure",
        script: "i=0; while [ $i -lt 800 ]; do sleep 100000 & i=$((i+1)); done; wait".to_owned(),
        volume: json!({}),
    };
    with_threshold(&scene, shortage, Vec::new()).await
}
