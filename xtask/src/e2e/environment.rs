//! Environment variables from all their sources.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::{Value, json};

use super::scene::{SOON, Scene, container, expect_line, is_ready, restarts, shell, waiting, with};
use super::static_pods::{Manifest, mirror};

pub(super) async fn config_maps_secrets_and_fields(scene: Scene) -> Result<()> {
    scene
        .create::<ConfigMap>(
            json!({ "metadata": { "name": "map" }, "data": { "COLOR": "green", "shape": "round" } }),
        )
        .await?;
    scene
        .create::<Secret>(json!({ "metadata": { "name": "hidden" }, "stringData": { "PASSWORD": "xyzzy" } }))
        .await?;
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    let env = json!([
        { "name": "PLAIN", "value": "plain" },
        { "name": "EXPANDED", "value": "$(PLAIN) and $$(PLAIN) and $(UNKNOWN)" },
        { "name": "SHAPE", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "shape" } } },
        { "name": "ABSENT", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "no", "optional": true } } },
        { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "hidden", "key": "PASSWORD" } } },
        { "name": "POD", "valueFrom": field("metadata.name") },
        { "name": "NAMESPACE", "valueFrom": field("metadata.namespace") },
        { "name": "LABEL", "valueFrom": field("metadata.labels['app']") },
        { "name": "SOURCE", "valueFrom": field("metadata.annotations['kubernetes.io/config.source']") },
        { "name": "NODE", "valueFrom": field("spec.nodeName") },
        { "name": "ACCOUNT", "valueFrom": field("spec.serviceAccountName") },
        { "name": "HOST_IP", "valueFrom": field("status.hostIP") },
        { "name": "MEMORY", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
        { "name": "CPU", "valueFrom": { "resourceFieldRef": { "resource": "requests.cpu", "divisor": "1m" } } },
    ]);
    let from = json!([
        { "configMapRef": { "name": "map" }, "prefix": "MAP_" },
        { "secretRef": { "name": "hidden" } },
        { "configMapRef": { "name": "not-there", "optional": true } },
    ]);
    let resources = json!({ "limits": { "memory": "64Mi", "cpu": "1" }, "requests": { "cpu": "150m" } });
    let container =
        with(shell("main", "env"), json!({ "env": env, "envFrom": from, "resources": resources }));
    let (_, log) =
        scene.finished_pod("env", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    for line in [
        "PLAIN=plain",
        "EXPANDED=plain and $(PLAIN) and $(UNKNOWN)",
        "SHAPE=round",
        "SECRET=xyzzy",
        "POD=env",
        &format!("NAMESPACE={}", scene.namespace),
        "LABEL=env",
        "SOURCE=api",
        &format!("NODE={}", crate::isolation::NODE),
        "ACCOUNT=default",
        &format!("HOST_IP={}", crate::isolation::NODE_IP),
        "MEMORY=64",
        "CPU=150",
        "MAP_COLOR=green",
        "MAP_shape=round",
        "PASSWORD=xyzzy",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "KUBERNETES_SERVICE_PORT=443",
    ] {
        expect_line(&log, line)?;
    }
    ensure!(!log.contains("ABSENT"), "an optional key that is absent sets nothing: {log}");
    Ok(())
}

pub(super) async fn host_network_pods_have_the_nodes_addresses(scene: Scene) -> Result<()> {
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let env = json!([
        field("POD_IP", "status.podIP"),
        field("POD_IPS", "status.podIPs"),
        field("HOST_IP", "status.hostIP"),
    ]);
    // What is shown is what the container says after its restart.
    let script =
        "echo POD=$POD_IP PODS=$POD_IPS HOST=$HOST_IP; test -e /d/again || { touch /d/again; exit 1; }";
    let mounts = json!([{ "name": "d", "mountPath": "/d" }]);
    let container = with(shell("main", script), json!({ "env": env, "volumeMounts": mounts }));
    let spec = json!({
        "restartPolicy": "OnFailure", "hostNetwork": true, "containers": [container],
        "volumes": [{ "name": "d", "emptyDir": {} }],
    });
    let (pod, log) = scene.finished_pod("host", spec).await?;
    ensure!(restarts(&pod, "main") == 1, "it was restarted once: {:?}", pod.status);
    let status = pod.status.unwrap_or_default();
    let all: Vec<String> = status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip).collect();
    let node = crate::isolation::NODE_IP;
    ensure!(status.pod_ip.as_deref() == Some(node), "its address is the node's: {:?}", status.pod_ip);
    expect_line(&log, &format!("POD={node} PODS={} HOST={node}", all.join(",")))
}

/// An init container that leaves this text in a file, and a container that prints what it makes of it.
pub(super) fn file_spec(content: &str, reference: Value) -> Value {
    let writer = with(
        shell("writer", "printf \"$CONTENT\" > /d/vars.env"),
        json!({
            "env": [{ "name": "CONTENT", "value": content }],
            "volumeMounts": [{ "name": "v", "mountPath": "/d" }],
        }),
    );
    let mut key = json!({ "volumeName": "v", "path": "vars.env", "key": "GREETING" });
    key = with(key, reference);
    let env = json!([{ "name": "GREETING", "valueFrom": { "fileKeyRef": key } }]);
    let reader =
        with(shell("main", "echo \"said ${GREETING-nothing}\"; sleep 100000"), json!({ "env": env }));
    json!({
        "initContainers": [writer], "containers": [reader],
        "volumes": [{ "name": "v", "emptyDir": {} }],
    })
}

/// Values stand in single quotes; a file that has them otherwise, or is not there, is an error even where
/// the key is optional.
pub(super) async fn variables_from_files(scene: Scene) -> Result<()> {
    let optional = || json!({ "optional": true });
    let good = "# for the next one\nOTHER='x'\nGREETING='hi there'\n";
    scene.ready_pod("good", file_spec(good, json!({}))).await?;
    scene.ready_pod("optional", file_spec("OTHER='x'\n", optional())).await?;
    ensure!(scene.first_line("good", "main").await? == "said hi there", "it has the value");
    ensure!(scene.first_line("optional", "main").await? == "said nothing", "it is not set at all");
    let outside = json!({ "path": "vars.env", "key": "ABSENT" });
    for (name, spec, wanted) in [
        ("quoted", file_spec("GREETING=\"hi\"\n", optional()), "couldn't parse env file"),
        (
            "elsewhere",
            file_spec(good, with(optional(), json!({ "path": "other.env" }))),
            "couldn't parse env file",
        ),
        ("keyless", file_spec(good, outside), "environment variable key \"ABSENT\" not found in file"),
    ] {
        scene.pod(name, spec).await?;
        let is_refused = |pod: &Pod| waiting(pod, "main") == "CreateContainerConfigError";
        let pod = scene.until(name, "refused", SOON, is_refused).await?;
        let state = container(&pod, "main").and_then(|status| status.state.as_ref()?.waiting.clone());
        let message = state.and_then(|waiting| waiting.message).unwrap_or_default();
        ensure!(message.contains(wanted), "{name} is told why: {message:?}");
    }
    let file = Manifest::new(&scene, "filed");
    file.write_pod("filed", file_spec(good, json!({})))?;
    let name = mirror("filed");
    scene.until(&name, "ready", SOON, is_ready).await?;
    ensure!(scene.first_line(&name, "main").await? == "said hi there", "a static pod has it, too");
    file.remove()?;
    scene.gone(&name).await
}
