//! Nodes with addresses of one family or both, and nodes that move.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;
use tokio::process::Command;

use super::scene::{EVENTUALLY, SOON, Scene, is_ready, restarts};
use super::static_pods::{Manifest, mirror};
use crate::cluster::{Changes, wait_for};
use crate::images::AGNHOST;
use crate::isolation::{NODE, NODE_IP, NODE_IPV6};
use crate::process::Service;
use crate::workspace;

/// Where names of hosts are looked up first.
const HOSTS: &str = "/etc/hosts";

/// Everything that comes over the network reaches a node whose only address is of IPv6, though the configuration says that it
/// listens on `0.0.0.0`: logs, programs to run, probes and hooks of static pods on its network. Upstream's kubelet finds no
/// address for the hook at such a pod's end.
pub(super) async fn node_of_ipv6(scene: Scene) -> Result<()> {
    node_works_with(scene, &[NODE_IPV6]).await
}

/// The same with an address of each family.
pub(super) async fn node_of_both_families(scene: Scene) -> Result<()> {
    node_works_with(scene, &[NODE_IPV6, NODE_IP]).await
}

async fn node_works_with(scene: Scene, addresses: &[&str]) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let kubelet = started(&scene, "kubelet-addresses", &addresses.join(",")).await?;
    reports(&scene, addresses).await?;
    let get = |path: &str| json!({ "httpGet": { "path": path, "port": 18080 } });
    let probe = |path: &str| {
        let mut probe = get(path);
        probe["periodSeconds"] = json!(1);
        probe
    };
    let main = json!({
        "name": "main", "image": AGNHOST, "args": ["netexec", "--http-port=18080", "--udp-port=18081"],
        "env": [{ "name": "HOST_IPS", "valueFrom": { "fieldRef": { "fieldPath": "status.hostIPs" } } }],
        "startupProbe": { "tcpSocket": { "port": 18080 }, "periodSeconds": 1, "failureThreshold": 60 },
        "readinessProbe": probe("/healthz"),
        "livenessProbe": probe("/healthz"),
        "lifecycle": { "preStop": get("/echo?msg=goodbye") },
    });
    let file = Manifest::new(&scene, "fixed");
    file.write_pod("fixed", json!({ "containers": [main], "hostNetwork": true }))?;
    let name = mirror("fixed");
    let pod = scene.until(&name, "ready", SOON, is_ready).await?;
    ensure!(restarts(&pod, "main") == 0, "it was restarted");
    let status = pod.status.context("its status")?;
    let host_ips: Vec<String> = status.host_ips.into_iter().flatten().map(|host| host.ip).collect();
    ensure!(host_ips == addresses, "addresses of its host: {host_ips:?}");
    let pod_ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|pod| pod.ip).collect();
    ensure!(pod_ips == addresses, "its own addresses: {pod_ips:?}");

    let log = scene.log(&name, None).await?;
    ensure!(!log.is_empty(), "its log is empty");
    let told = scene.kubectl_out(&["exec", &name, "--", "sh", "-c", "echo $HOST_IPS"]).await?;
    ensure!(told.trim() == addresses.join(","), "in its environment: {told:?}");
    file.remove()?;
    scene.gone(&name).await?;
    let events = scene.events(&name).await?;
    ensure!(!events.iter().any(|event| event.starts_with("FailedPreStopHook")), "{events:?}");
    kubelet.stop().await
}

/// A node that was not told its address has the one its name stands for, or else the one on the interface of its default
/// route, and notices when that is another.
pub(super) async fn of_name_and_default_route_are_found_anew(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    for step in [
        "link add node1 type bridge",
        "link add cable2 type veth peer name cable3",
        "link set cable3 master node1",
        "link set cable2 up",
        "link set cable3 up",
        "addr add 10.79.0.1/24 dev node1",
        "link set node1 up",
        "route replace default via 10.79.0.254 dev node1",
    ] {
        ip(step).await?;
    }
    // The file is the cluster's own.
    let hosts = std::fs::read_to_string(HOSTS).context("read the names of hosts")?;
    let outcome = async {
        let kubelet = started(&scene, "kubelet-moves", "").await?;
        reports(&scene, &[NODE_IP]).await.context("its name's address")?;
        workspace::write(Path::new(HOSTS), "127.0.0.1 localhost\n")?;
        reports(&scene, &["10.79.0.1"]).await.context("its default route's address")?;
        ip("route replace default via 10.78.0.254 dev node0").await?;
        reports(&scene, &[NODE_IP]).await.context("its other default route's address")?;
        kubelet.stop().await
    }
    .await;
    workspace::write(Path::new(HOSTS), hosts)?;
    ip("route replace default via 10.78.0.254 dev node0").await?;
    ip("link del node1").await?;
    ip("link del cable2").await?;
    outcome
}

/// An address that is not this machine's is not reported. What was reported before stays.
pub(super) async fn of_another_machine_are_not_reported(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let kubelet = started(&scene, "kubelet-elsewhere", "192.0.2.77").await?;
    let log = kubelet.log().to_owned();
    let told = || {
        let log = log.clone();
        async move {
            let text = std::fs::read_to_string(log).context("read the log")?;
            // Errors have words of their own in each kubelet; every one is a line of its own.
            let is_told = text.lines().any(|line| {
                line.contains("192.0.2.77") && line.contains("interface") && line.starts_with(['E', 'W'])
            });
            ensure!(is_told, "it does not say why");
            anyhow::Ok(())
        }
    };
    kubelet.answers(SOON, told).await?;
    reports(&scene, &[NODE_IP]).await?;
    kubelet.stop().await
}

async fn started(scene: &Scene, name: &'static str, node_ip: &str) -> Result<Service> {
    let changes = Changes {
        flags: vec![format!("--node-ip={node_ip}")],
        // There is no name server: that shall not take long.
        environment: vec![("RES_OPTIONS", "timeout:1 attempts:1".into())],
        ..Changes::default()
    };
    let kubelet = scene.cluster.kubelet_changed(name, changes)?;
    kubelet.start().await?;
    Ok(kubelet)
}

/// Waits until the node has exactly these addresses.
async fn reports(scene: &Scene, addresses: &[&str]) -> Result<()> {
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let has = |node: Option<&Node>| {
        let status = node.and_then(|node| node.status.as_ref());
        let all = status.into_iter().flat_map(|status| status.addresses.iter().flatten());
        all.filter(|address| address.type_ == "InternalIP").map(|address| &address.address).eq(addresses)
    };
    let found = wait_for(&nodes, NODE, EVENTUALLY + Duration::from_secs(60), has).await;
    found.map(drop).with_context(|| format!("wait for the node to have {addresses:?}"))
}

async fn ip(step: &str) -> Result<()> {
    let done = Command::new("ip").args(step.split(' ')).output().await.context("run ip")?;
    ensure!(done.status.success(), "ip {step}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
