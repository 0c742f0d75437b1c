//! What the node says about itself.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::{Value, json};

use super::scene::{SOON, Scene, shell};
use crate::cluster::wait_for;
use crate::isolation::{NODE, NODE_IP};

pub(super) async fn reports_itself(scene: Scene) -> Result<()> {
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let node = nodes.get(NODE).await?;
    let labels = node.metadata.labels.unwrap_or_default();
    ensure!(labels.get("kubernetes.io/hostname").is_some_and(|name| name == NODE), "the host name label");
    ensure!(labels.get("kubernetes.io/os").is_some_and(|os| os == "linux"), "the system label");
    let status = node.status.context("the node's status")?;
    let addresses = status.addresses.unwrap_or_default();
    ensure!(
        addresses.iter().any(|address| address.type_ == "InternalIP" && address.address == NODE_IP),
        "its address: {addresses:?}"
    );
    let capacity = status.capacity.unwrap_or_default();
    ensure!(capacity.get("pods").is_some_and(|pods| pods.0 == "110"), "its capacity: {capacity:?}");
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        ensure!(capacity.contains_key(resource), "no {resource} in its capacity: {capacity:?}");
    }
    let conditions = status.conditions.unwrap_or_default();
    for (kind, wanted) in
        [("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False")]
    {
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        ensure!(
            found.is_some_and(|condition| condition.status == wanted),
            "{kind} is not {wanted}: {found:?}"
        );
    }
    let info = status.node_info.context("what it runs")?;
    ensure!(info.container_runtime_version.starts_with("containerd://"), "the runtime: {info:?}");
    ensure!(info.kubelet_version.starts_with("v1.37"), "the version: {info:?}");
    let port = status.daemon_endpoints.and_then(|all| all.kubelet_endpoint).map(|endpoint| endpoint.port);
    ensure!(port == Some(10250), "the kubelet's port: {port:?}");

    let leases: Api<Lease> = Api::namespaced(scene.cluster.client.clone(), "kube-node-lease");
    // Made once the node is registered, and not part of that.
    let made = |lease: Option<&Lease>| lease.is_some();
    let lease = wait_for(&leases, NODE, SOON, made).await.context("wait for the node's lease")?;
    let first = lease.and_then(|lease| lease.spec).and_then(|spec| spec.renew_time);
    let renewed = move |lease: Option<&Lease>| {
        lease.and_then(|lease| lease.spec.as_ref()).is_some_and(|spec| spec.renew_time > first)
    };
    wait_for(&leases, NODE, SOON, renewed).await.context("wait for the lease to be renewed").map(drop)
}

pub(super) async fn serves_pods_metrics_and_configuration(scene: Scene) -> Result<()> {
    scene.ready_pod("seen", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
    let proxy = |path: &str| format!("/api/v1/nodes/{NODE}/proxy/{path}");
    let get = async |path: &str| scene.kubectl_out(&["get", "--raw", &proxy(path)]).await;

    let healthy = get("healthz").await?;
    ensure!(healthy == "ok", "healthz: {healthy:?}");
    let pods: Value = serde_json::from_str(&get("pods").await?).context("read /pods")?;
    let named = |item: &Value| item["metadata"]["namespace"] == json!(scene.namespace);
    ensure!(pods["items"].as_array().is_some_and(|items| items.iter().any(named)), "the pod is among /pods");
    let configuration: Value = serde_json::from_str(&get("configz").await?).context("read /configz")?;
    ensure!(
        configuration["kubeletconfig"]["clusterDomain"] == json!("cluster.local"),
        "/configz: {configuration}"
    );
    let metrics = get("metrics").await?;
    let projected = "kubernetes.io/projected";
    for name in [
        "kubelet_running_pods",
        "kubelet_node_name",
        "process_resident_memory_bytes",
        // About the questions it asks the API server because of this very request.
        "apiserver_delegated_authz_request_total{code=\"201\"}",
        "apiserver_delegated_authz_request_duration_seconds_bucket{code=\"201\",le=\"0.7\"}",
        "kubelet_http_inflight_requests{long_running=\"false\",method=\"GET\",path=\"metrics\",server_type=\"readwrite\"} 1",
        "kubelet_metrics_provider{provider=\"cadvisor\"} 1",
        "kubelet_orphan_pod_cleaned_volumes ",
        "kubelet_pleg_pod_relist_duration_seconds_count ",
        "rest_client_request_size_bytes_bucket{",
        "rest_client_response_size_bytes_bucket{",
        &format!(
            "storage_operation_duration_seconds_count{{migrated=\"false\",operation_name=\"volume_mount\",status=\"success\",volume_plugin=\"{projected}\"}}"
        ),
        &format!(
            "volume_manager_total_volumes{{plugin_name=\"{projected}\",state=\"actual_state_of_world\"}}"
        ),
        &format!(
            "volume_operation_total_seconds_count{{operation_name=\"overall_volume_mount\",plugin_name=\"{projected}\"}}"
        ),
    ] {
        ensure!(metrics.lines().any(|line| line.starts_with(name)), "no {name} in /metrics");
    }
    Ok(())
}

pub(super) async fn changes_its_log_verbosity(scene: Scene) -> Result<()> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/debug/flags/v");
    // The second is what kubelets are started with here.
    for level in ["3", "2"] {
        let said = scene.kubectl_with(level.as_bytes(), &["replace", "--raw", &path, "-f", "-"]).await?;
        let expected = format!("successfully set klog.logging.verbosity to {level}");
        ensure!(said.code == 0 && said.out.trim() == expected, "{said:?}");
    }
    Ok(())
}
