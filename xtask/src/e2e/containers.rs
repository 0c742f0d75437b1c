//! What a container may do and use.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::scene::{self, SOON, Scene, ended, expect_line, is_ready, phase, shell, with};
use super::static_pods::{Manifest, mirror, shown};
use crate::cluster::Changes;
use crate::isolation::NODE;
use crate::workspace;

pub(super) async fn security_context_is_applied(scene: Scene) -> Result<()> {
    let script =
        "id -u; id -g; touch /forbidden 2>/dev/null || echo read-only; grep NoNewPrivs /proc/self/status";
    let limits = json!({
        "runAsUser": 1234, "runAsGroup": 2345, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
    });
    let container = with(shell("main", script), json!({ "securityContext": limits }));
    let (_, log) =
        scene.finished_pod("limited", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    ensure!(log == "1234\n2345\nread-only\nNoNewPrivs:\t1\n", "the container is limited: {log:?}");

    // The image's user is root, which the kubelet has to refuse.
    let container = with(shell("main", "true"), json!({ "securityContext": { "runAsNonRoot": true } }));
    scene.pod("root", json!({ "containers": [container] })).await?;
    scene
        .until("root", "refused", super::scene::SOON, |pod| {
            super::scene::waiting(pod, "main") == "CreateContainerConfigError"
        })
        .await?;
    Ok(())
}

pub(super) async fn users_of_a_user_namespace_are_others_outside(scene: Scene) -> Result<()> {
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let handlers =
        nodes.get(NODE).await?.status.and_then(|status| status.runtime_handlers).unwrap_or_default();
    let default = handlers.into_iter().find(|handler| handler.name.as_deref().is_none_or(str::is_empty));
    let is_supported = default.and_then(|handler| handler.features?.user_namespaces) == Some(true);
    // Both go on: the ids of a pod that has ended are free for the next.
    let script =
        "id -u; cat /proc/self/uid_map /proc/self/gid_map; wc -c < /map/key; touch /done; sleep 100000";
    let container =
        with(shell("main", script), json!({ "volumeMounts": [{ "name": "map", "mountPath": "/map" }] }));
    let done = json!({ "exec": { "command": ["test", "-e", "/done"] }, "periodSeconds": 1 });
    let container = with(container, json!({ "readinessProbe": done }));
    let spec = json!({
        "hostUsers": false,
        "containers": [container],
        "volumes": [{ "name": "map", "configMap": { "name": "map" } }],
    });
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "map" }, "data": { "key": "four" } })).await?;
    if !is_supported {
        scene.pod("refused", spec).await?;
        let message = scene.event("refused", "FailedCreatePodSandBox", SOON).await?;
        ensure!(message.contains("does not support user namespaces"), "{message}");
        return Ok(());
    }
    let mut ranges = Vec::new();
    for name in ["one", "other"] {
        scene.ready_pod(name, spec.clone()).await?;
        let log = scene.log(name, None).await?;
        let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split_whitespace().collect()).collect();
        let [user, users, groups, length] = lines.as_slice() else { bail!("four lines: {log:?}") };
        ensure!(user == &["0"] && length == &["4"], "root inside, who can read the volume: {log:?}");
        ensure!(users == groups && users.first() == Some(&"0") && users.last() == Some(&"65536"), "{log:?}");
        let outside: u32 = users.get(1).context("where it is mapped to")?.parse()?;
        ensure!(outside >= 65536 && outside.is_multiple_of(65536), "its own users: {log:?}");
        ranges.push(outside);
    }
    ensure!(ranges[0] != ranges[1], "each pod has its own: {ranges:?}");
    Ok(())
}

pub(super) async fn memory_limit_kills(scene: Scene) -> Result<()> {
    let limits = json!({ "resources": { "limits": { "memory": "32Mi" } } });
    let container = with(shell("main", "tail /dev/zero"), limits);
    scene.pod("greedy", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    let pod = scene.until("greedy", "failed", super::scene::SOON, |pod| phase(pod) == "Failed").await?;
    ensure!(ended(&pod, "main") == Some(("OOMKilled", 137)), "{:?}", ended(&pod, "main"));
    Ok(())
}

pub(super) async fn resources_reach_the_cgroup(scene: Scene) -> Result<()> {
    // One line each for cgroup v1 and v2; whichever is mounted.
    let script = "cd /sys/fs/cgroup; \
        cat memory/memory.limit_in_bytes memory.max 2>/dev/null; \
        cat cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 cpu.max";
    let resources = json!({
        "requests": { "cpu": "100m", "memory": "32Mi" },
        "limits": { "cpu": "500m", "memory": "64Mi" },
    });
    let container = with(shell("main", script), json!({ "resources": resources }));
    let (pod, log) =
        scene.finished_pod("bounded", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    expect_line(&log, &(64 * 1024 * 1024).to_string())?;
    expect_line(&log, "50000")?;
    let class = pod.status.and_then(|status| status.qos_class).context("the QoS class")?;
    ensure!(class == "Burstable", "the class is {class}");
    weight_of_class(&scene).await
}

/// The class of Burstable pods is weighed by what they request: when this one runs, more than the kernel's
/// default of version 1, and another number than that of version 2.
async fn weight_of_class(scene: &Scene) -> Result<()> {
    let is_right = || {
        let read = |file: &str| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let shares = ["/sys/fs/cgroup/cpu/kubepods", "/sys/fs/cgroup/cpu,cpuacct/kubepods"]
            .iter()
            .find_map(|dir| read(&format!("{dir}/burstable/cpu.shares")));
        let weight = read("/sys/fs/cgroup/kubepods/burstable/cpu.weight");
        shares.is_some_and(|shares| shares >= 1126)
            || weight.is_some_and(|weight| (43..100).contains(&weight))
    };
    let resources = json!({ "requests": { "cpu": "1100m" } });
    let heavy = with(shell("main", "sleep 100000"), json!({ "resources": resources }));
    scene.ready_pod("heavy", json!({ "containers": [heavy] })).await?;
    let looks = async {
        // The kernel does not tell of changes of these files.
        while !is_right() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, looks).await.context("the weight of the Burstable class")
}

pub(super) async fn host_network_and_names(scene: Scene) -> Result<()> {
    let script =
        "hostname; grep -c \"$IP\" /etc/hosts; grep alias-name /etc/hosts | cut -f1; cat /etc/resolv.conf";
    let address = json!([{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }]);
    let container = with(shell("main", script), json!({ "env": address }));
    let spec = json!({
        "restartPolicy": "Never", "containers": [container], "hostname": "chosen", "subdomain": "sub",
        "hostAliases": [{ "ip": "1.2.3.4", "hostnames": ["alias-name"] }],
    });
    let (_, log) = scene.finished_pod("names", spec).await?;
    expect_line(&log, "chosen")?;
    expect_line(&log, "1.2.3.4")?;
    expect_line(&log, "nameserver 10.96.0.10")?;
    let search = format!("search {}.svc.cluster.local svc.cluster.local cluster.local", scene.namespace);
    ensure!(log.contains(&search), "the search list of the cluster: {log:?}");

    let container = shell("main", "hostname; ip -4 addr show node0 | grep -o 'inet [0-9.]*'");
    let spec = json!({ "restartPolicy": "Never", "hostNetwork": true, "containers": [container] });
    let (pod, log) = scene.finished_pod("host", spec).await?;
    expect_line(&log, crate::isolation::NODE)?;
    expect_line(&log, &format!("inet {}", crate::isolation::NODE_IP))?;
    let address = pod.status.and_then(|status| status.pod_ip);
    ensure!(address.as_deref() == Some(crate::isolation::NODE_IP), "its address is the node's: {address:?}");
    Ok(())
}

/// A static pod: an API server whose own gate is off keeps no such field of others.
pub(super) async fn the_signal_that_ends_one_can_be_chosen(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    for (name, is_on) in [("stop-signals-off", false), ("stop-signals", true)] {
        let fields = json!({ "featureGates": { "ContainerStopSignals": is_on } });
        let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, ..Changes::default() })?;
        kubelet.start().await?;
        ended_by_its_signal(&scene, name, is_on).await.with_context(|| format!("with the gate {is_on}"))?;
        kubelet.stop().await?;
    }
    Ok(())
}

/// A container that wants SIGUSR1 gets it, and says so in its status, or SIGTERM like any other.
async fn ended_by_its_signal(scene: &Scene, pod: &str, is_heard: bool) -> Result<()> {
    let file = Manifest::new(scene, pod);
    let script = "trap 'echo got USR1; exit 0' USR1; trap 'echo got TERM; exit 1' TERM; \
                  echo waits; while :; do sleep 1; done";
    let container = with(shell("main", script), json!({ "lifecycle": { "stopSignal": "SIGUSR1" } }));
    let spec = json!({
        "os": { "name": "linux" }, "terminationGracePeriodSeconds": 30, "containers": [container],
    });
    file.write_pod(pod, spec)?;
    let name = mirror(pod);
    let ready = scene.until(&name, "ready", SOON, is_ready).await?;
    let told = |pod: &Pod| scene::container(pod, "main").and_then(|status| status.stop_signal.clone());
    if is_heard {
        let tells = |pod: Option<&Pod>| pod.and_then(told).as_deref() == Some("SIGUSR1");
        shown(scene, &name, "of that signal", tells).await?;
    } else {
        ensure!(told(&ready).is_none(), "it tells of the signal {:?}", told(&ready));
    }
    let log = scene.follow(&name, "main").await?;
    file.remove()?;
    let lines = log.lines().await?;
    let wanted = if is_heard { "got USR1" } else { "got TERM" };
    ensure!(lines == ["waits", wanted], "it is ended by that signal: {lines:?}");
    scene.gone(&name).await
}

/// A resize is made, and then the kernel knows of it, or it is pending, and then nothing has changed: what the
/// status says is what the container has.
pub(super) async fn a_resize_is_done_only_when_it_is_made(scene: Scene) -> Result<()> {
    let amounts = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
    let resources =
        json!({ "requests": amounts("100e-3", "50Mi"), "limits": amounts("0.2", "134217728500m") });
    let container = with(shell("main", "sleep 100000"), json!({ "resources": resources }));
    let before = scene.ready_pod("resize", json!({ "containers": [container] })).await?;
    let given = |pod: &Pod| -> Option<[String; 2]> {
        let resources = scene::container(pod, "main")?.resources.clone()?;
        let limits = resources.limits?;
        Some([resources.requests?.get("cpu")?.0.clone(), limits.get("memory")?.0.clone()])
    };
    let first = given(&before);
    ensure!(first == Some(["100m".into(), "134217729".into()]), "amounts are canonical: {first:?}");
    let wish = json!({ "requests": amounts("150m", "60Mi"), "limits": amounts("300m", "256Mi") });
    let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": wish }] } });
    let (pods, params) = (scene.api::<Pod>(), PatchParams::default());
    let patched = pods.patch_subresource("resize", "resize", &params, &Patch::Strategic(&patch)).await;
    patched.context("ask for a resize")?;
    let is_pending = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut all = conditions.into_iter().flatten();
        let pending = all.find(|c| c.type_ == "PodResizePending" && c.status == "True");
        pending.is_some_and(|c| {
            c.observed_generation == pod.metadata.generation
                && c.message.as_ref().is_some_and(|m| !m.is_empty())
        })
    };
    let is_made = |pod: &Pod| given(pod).is_some_and(|amounts| amounts[1] == "256Mi");
    let is_settled = |pod: &Pod| is_pending(pod) || is_made(pod);
    let after = scene.until("resize", "resized, or said not to be", SOON, is_settled).await?;
    let show =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";
    let kernel = scene.kubectl_out(&["exec", "resize", "--", "sh", "-c", show]).await?;
    // The kernel counts in pages.
    let (wanted, text) = if is_made(&after) { (268_435_456, "256Mi") } else { (134_217_728, "134217729") };
    let bytes: u64 = kernel.trim().parse().with_context(|| format!("read {kernel:?}"))?;
    ensure!(bytes / 4096 == wanted / 4096, "the kernel has {bytes}, the status says {text}");
    ensure!(given(&after).is_some_and(|amounts| amounts[1] == text), "the status: {:?}", after.status);
    ensure!(
        after.status.as_ref().and_then(|status| status.observed_generation) == after.metadata.generation,
        "the status is about this generation"
    );
    Ok(())
}

/// A resize for which there is no room changes nothing: not the status, not the cgroups, not what is left for others, and a
/// kubelet that starts anew goes on with what the pod was granted.
pub(super) async fn a_resize_without_room_changes_nothing(scene: Scene) -> Result<()> {
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let all = nodes.get(NODE).await?.status.and_then(|status| status.allocatable).unwrap_or_default();
    // More than that the API server lets nobody ask for.
    let all = all.get("cpu").context("what the node has of processors")?.0.clone();
    let amounts = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
    let resources = json!({ "requests": amounts("150m", "32Mi"), "limits": amounts("300m", "64Mi") });
    let container = with(shell("main", "sleep 100000"), json!({ "resources": resources }));
    scene.ready_pod("wisher", json!({ "containers": [container] })).await?;
    scene.ready_pod("neighbour", requesting("300m")).await?;
    let wish = json!({ "requests": amounts(&all, "32Mi"), "limits": amounts(&all, "64Mi") });
    let patch = json!({ "spec": { "containers": [{ "name": "main", "resources": wish }] } });
    let (pods, params) = (scene.api::<Pod>(), PatchParams::default());
    let patched = pods.patch_subresource("resize", "wisher", &params, &Patch::Strategic(&patch)).await;
    patched.context("ask for more than there is beside the other")?;
    still_has_what_it_was_granted(&scene, "beside").await?;
    scene.cluster.kubelet.restart().await?;
    still_has_what_it_was_granted(&scene, "after-a-restart").await
}

/// A pod that requests so much of the processors.
fn requesting(cpu: &str) -> Value {
    let resources = json!({ "requests": { "cpu": cpu } });
    json!({ "containers": [with(shell("main", "sleep 100000"), json!({ "resources": resources }))] })
}

/// Whether the pod `wisher` has what it asked for at first, and another pod has room beside it.
async fn still_has_what_it_was_granted(scene: &Scene, other: &str) -> Result<()> {
    let is_pending = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut all = conditions.into_iter().flatten();
        all.any(|c| c.type_ == "PodResizePending" && c.observed_generation == pod.metadata.generation)
    };
    // What was wished for would leave no room.
    scene.ready_pod(other, requesting("50m")).await?;
    let pod = scene.until("wisher", "refused its wish", SOON, is_pending).await?;
    let status = pod.status.clone().unwrap_or_default();
    let cpu = |amounts: &Option<BTreeMap<String, Quantity>>| {
        amounts.as_ref().and_then(|amounts| amounts.get("cpu")).map(|cpu| cpu.0.clone())
    };
    let of_container = scene::container(&pod, "main").context("the status of its container")?;
    for (what, said) in [
        ("the pod was allocated", cpu(&status.allocated_resources)),
        ("the container was allocated", cpu(&of_container.allocated_resources)),
        ("the container has", cpu(&of_container.resources.clone().unwrap_or_default().requests)),
    ] {
        ensure!(said.as_deref() == Some("150m"), "{what} {said:?} of the processors, {other}");
    }
    let uid = pod.metadata.uid.context("its uid")?;
    let quota = quota_of_pod(&uid).context("the quota of its cgroup")?;
    ensure!(quota == 30_000, "its cgroup has a quota of {quota} us of 100 ms, {other}");
    Ok(())
}

/// Microseconds of the processors that a Burstable pod gets in a period, by its cgroup.
fn quota_of_pod(uid: &str) -> Option<u64> {
    let files = [
        format!("/sys/fs/cgroup/cpu/kubepods/burstable/pod{uid}/cpu.cfs_quota_us"),
        format!("/sys/fs/cgroup/cpu,cpuacct/kubepods/burstable/pod{uid}/cpu.cfs_quota_us"),
        format!("/sys/fs/cgroup/kubepods/burstable/pod{uid}/cpu.max"),
    ];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    text.split_whitespace().next()?.parse().ok()
}

/// Amounts in a pod's status are those of its cgroup, whoever wrote them there, and are read again as often as configured. The
/// number of version 1 for no limit is shown like any other.
pub(super) async fn what_others_write_to_a_cgroup_is_told(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "syncFrequency": "1s" });
    let kubelet = scene.cluster.kubelet_changed("looks-often", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    let pod = scene.ready_pod("bounded", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    let group = format!("kubepods/besteffort/pod{}", pod.metadata.uid.context("the pod's uid")?);
    let [v1, v2] = [
        format!("/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/{group}/memory.max"),
    ];
    let memory = |pod: &Pod| -> Option<String> {
        let resources = pod.status.as_ref()?.resources.as_ref()?;
        Some(resources.limits.as_ref()?.get("memory")?.0.clone())
    };
    let is_v1 = std::path::Path::new(&v1).exists();
    if is_v1 {
        let is_told = move |pod: &Pod| memory(pod).as_deref() == Some("9007199254740988Ki");
        scene.until("bounded", "without a limit", SOON, is_told).await?;
    }
    // Several times: read once a minute, which is usual, they would take longer than all may.
    let told = async {
        for megabytes in [256, 257, 258, 259] {
            workspace::write(if is_v1 { &v1 } else { &v2 }.as_ref(), (megabytes << 20).to_string())?;
            let is_told = move |pod: &Pod| memory(pod) == Some(format!("{megabytes}Mi"));
            scene.until("bounded", "limited by somebody else", SOON, is_told).await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, told)
        .await
        .context("what others write is not read as often as configured")??;
    kubelet.stop().await
}
