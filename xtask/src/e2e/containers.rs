//! What a container may do and use.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use serde_json::json;

use super::scene::{SOON, Scene, ended, expect_line, phase, shell, with};
use crate::isolation::NODE;

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
