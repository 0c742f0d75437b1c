//! The node's memory: what is held back, for which pods, and what counts as free.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Node};
use kube::Api;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::{Value, json};

use super::node_object::told_of;
use super::scene::{EVENTUALLY, SOON, Scene, shell, with};
use super::static_pods::{Manifest, annotation, mirror};
use crate::cluster::{Changes, wait_for};
use crate::isolation::NODE;
use crate::process::Service;
use crate::workspace;

const MIB: u64 = 1024 * 1024;

async fn started(scene: &Scene, name: &'static str, fields: Value) -> Result<Service> {
    let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    Ok(kubelet)
}

/// The limit of memory of a class of pods; `None` where there is none.
fn limit_of(class: &str) -> Result<Option<u64>> {
    let files = [
        format!("/sys/fs/cgroup/memory/kubepods/{class}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/kubepods/{class}/memory.max"),
    ];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    let limit = text.with_context(|| format!("read the limit of {class}"))?.trim().parse::<u64>().ok();
    // The kernel of version 1 writes the largest number of pages there can be.
    Ok(limit.filter(|limit| *limit < 1 << 60))
}

/// Half of what Guaranteed pods request is kept from the others, with the gate.
pub(super) async fn is_held_back_from_lower_classes(scene: Scene) -> Result<()> {
    let amounts = json!({ "cpu": "10m", "memory": "512Mi" });
    let resources = json!({ "requests": amounts, "limits": amounts });
    let spec =
        json!({ "containers": [with(shell("main", "sleep 100000"), json!({ "resources": resources }))] });
    // What else is here asks for less.
    let most = total_bytes()? - 256 * MIB;
    scene.cluster.kubelet.stop().await?;
    for (name, is_on) in [("nothing-held-back", false), ("held-back", true)] {
        let fields = json!({ "qosReserved": { "memory": "50%" }, "featureGates": { "QOSReserved": is_on } });
        let kubelet = started(&scene, name, fields).await?;
        scene.ready_pod(name, spec.clone()).await?;
        for class in ["burstable", "besteffort"] {
            let is_limited = || async {
                let limit = limit_of(class)?;
                ensure!(limit.is_some_and(|limit| limit <= most), "the limit of {class} is {limit:?}");
                Ok(())
            };
            if is_on {
                kubelet.answers(SOON, is_limited).await?;
            } else {
                ensure!(limit_of(class)?.is_none(), "without the gate {class} is limited");
            }
        }
        scene.delete(name).await?;
        scene.gone(name).await?;
        kubelet.stop().await?;
    }
    Ok(())
}

/// What the kernel says of huge pages, as if there were this many; the folder is the cluster's own until this is dropped.
struct HugePages {
    shown: &'static str,
}

impl HugePages {
    fn show(folder: PathBuf, count: u64) -> Result<Self> {
        let shown = "/sys/kernel/mm/hugepages";
        let kind = folder.join("hugepages-2048kB");
        workspace::create_dir(&kind)?;
        workspace::write(&kind.join("nr_hugepages"), format!("{count}\n"))?;
        mount_bind(&folder, shown).context("show other huge pages")?;
        Ok(Self { shown })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // The namespace of mounts ends with the cluster.
        let _ = unmount(self.shown, UnmountFlags::DETACH);
    }
}

fn total_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read how much memory there is")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("MemTotal")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("MemTotal")?;
    Ok(kib * 1024)
}

async fn free_bytes(scene: &Scene) -> Result<u64> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/stats/summary");
    let summary: Value = serde_json::from_str(&scene.kubectl_out(&["get", "--raw", &path]).await?)?;
    summary["node"]["memory"]["availableBytes"].as_u64().context("how much memory is free")
}

/// Huge pages are nobody's but theirs who ask for them. Whether they count as free, the gate says: in figures, and for the
/// pressure that the node tells. Needs a machine of which a quarter of the memory is free.
pub(super) async fn of_huge_pages_is_not_free(scene: Scene) -> Result<()> {
    let total = total_bytes()?;
    let rest = total / 4;
    scene.cluster.kubelet.stop().await?;
    let _pages = HugePages::show(scene.cluster.paths.file("huge-pages"), (total - rest) / (2 * MIB))?;
    for (name, is_on, wanted) in [("huge-pages-taken", true, "True"), ("huge-pages-free", false, "False")] {
        let fields = json!({
            "featureGates": { "HugepageAwareEviction": is_on },
            // Less than this is free whenever huge pages do not count, and a threshold with a period keeps nothing from pods.
            "evictionSoft": { "memory.available": rest.to_string() },
            "evictionSoftGracePeriod": { "memory.available": "1s" },
            "evictionPressureTransitionPeriod": "1s",
        });
        let kubelet = started(&scene, name, fields).await?;
        let free = kubelet.answers(SOON, || free_bytes(&scene)).await?;
        ensure!((free < rest) == is_on, "with the gate {is_on} there are {free} of {total} bytes free");
        let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
        let is_told = |node: Option<&Node>| {
            let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
            conditions
                .is_some_and(|all| all.iter().any(|c| c.type_ == "MemoryPressure" && c.status == wanted))
        };
        let limit = EVENTUALLY + Duration::from_secs(60);
        let told = wait_for(&nodes, NODE, limit, is_told).await;
        told.with_context(|| format!("with the gate {is_on} MemoryPressure is not {wanted}"))?;
        kubelet.stop().await?;
    }
    Ok(())
}

/// The class of a pod from a file whose own resources are there and empty, told by the cgroup it is in. The API server goes by
/// a gate of its own, and refuses a status with another class: its mirror tells nothing, as with upstream's kubelet.
pub(super) async fn empty_resources_of_a_pod_and_its_class(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let resources = json!({ "resources": { "requests": { "memory": "128Mi" } } });
    let container = with(shell("main", "sleep 100000"), resources);
    let spec = json!({ "resources": {}, "containers": [container] });
    for (name, is_on) in [("empty-counts", false), ("empty-is-none", true)] {
        let gates = json!({ "PodLevelResourcesFixKubeletQOSClass": is_on });
        let kubelet = started(&scene, name, json!({ "featureGates": gates })).await?;
        let file = Manifest::new(&scene, name);
        file.write_pod(name, spec.clone())?;
        scene.event(&mirror(name), "Started", SOON).await?;
        let pod = scene.until(&mirror(name), "there", SOON, |_| true).await?;
        let uid = annotation(&pod, "kubernetes.io/config.hash").context("its uid")?;
        let classes = ["burstable", "besteffort"].map(|class| is_in(class, &uid));
        ensure!(
            classes == [is_on, !is_on],
            "with the gate {is_on} it is in burstable, besteffort: {classes:?}"
        );
        file.remove()?;
        scene.gone(&mirror(name)).await?;
        kubelet.stop().await?;
    }
    Ok(())
}

/// Whether a pod is among those of a class.
fn is_in(class: &str, uid: &str) -> bool {
    let roots = ["/sys/fs/cgroup/memory/kubepods", "/sys/fs/cgroup/kubepods"];
    roots.iter().any(|root| Path::new(&format!("{root}/{class}/pod{uid}")).exists())
}

/// A kill in the kernel's words is told of the node; one for the limit of a cgroup is not, as its container says so.
pub(super) async fn that_ran_out_is_told(scene: Scene) -> Result<()> {
    let victim = |what: &str| format!("{what}-of-{}", scene.namespace);
    let (of_group, of_machine) = (victim("group"), victim("machine"));
    let begin = "eater invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0".to_owned();
    let group = "oom_memcg=/kubepods/pod1,task_memcg=/kubepods/pod1/c";
    for message in [
        begin.clone(),
        format!(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,{group},task={of_group},pid=7,uid=0"
        ),
        begin,
        format!("Out of memory: Killed process 4242 ({of_machine}) total-vm:1kB, anon-rss:1kB"),
    ] {
        // The kernel takes each write for a message, to which more may be added as long as its line has not ended.
        std::fs::write("/dev/kmsg", format!("{message}\n")).context("write to the kernel's log")?;
    }
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    let part = format!("System OOM encountered, victim process: {of_machine}, pid: 4242");
    told_of(&events, NODE, "SystemOOM", &part).await?;
    let all = events.list(&Default::default()).await?.items;
    let mut messages = all.iter().filter_map(|event| event.message.as_deref());
    ensure!(
        !messages.any(|text| text.contains(&of_group)),
        "the kill for the limit of a cgroup is told, too"
    );
    Ok(())
}
