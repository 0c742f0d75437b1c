//! The node's pods, one in each state that a kubelet can show.

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Value, json};

use super::callers::Callers;
use super::client;
use super::request::{self, Case};
use crate::e2e::scene::{EVENTUALLY, SOON, Scene, is_ready, phase, restarts, shell, waiting, with};
use crate::e2e::static_pods::{Manifest, mirror};

/// What there is for as long as this lives.
pub(super) struct State {
    /// The uid of the pod called `running`.
    pub(super) uid: String,
    _static: Manifest,
}

/// How many pods that are.
const PODS: usize = 6;

/// Makes them and waits until each is in its state.
pub(super) async fn arrange(scene: &Scene) -> Result<State> {
    scene.create::<ConfigMap>(json!({ "metadata": { "name": "map" }, "data": { "key": "value" } })).await?;
    let secret = json!({ "metadata": { "name": "secret" }, "stringData": { "key": "hidden" } });
    scene.create::<Secret>(secret).await?;
    scene.pod("running", running()).await?;
    scene
        .pod("succeeded", json!({ "restartPolicy": "Never", "containers": [shell("main", "echo done")] }))
        .await?;
    let fails = "echo failing; echo why > /dev/termination-log; exit 3";
    scene.pod("failed", json!({ "restartPolicy": "Never", "containers": [shell("main", fails)] })).await?;
    scene.pod("crashes", json!({ "containers": [shell("main", "echo trying; exit 1")] })).await?;
    let missing =
        json!({ "name": "main", "image": "registry.invalid/no/such:image", "imagePullPolicy": "Never" });
    scene.pod("waits", json!({ "containers": [missing] })).await?;
    let manifest = Manifest::new(scene, "static");
    manifest.write_pod("static", json!({ "containers": [shell("main", "echo static; sleep 100000")] }))?;

    let pod = scene.until("running", "ready", SOON, is_ready).await?;
    scene.until("succeeded", "finished", SOON, |pod| phase(pod) == "Succeeded").await?;
    scene.until("failed", "finished", SOON, |pod| phase(pod) == "Failed").await?;
    scene.until("waits", "waiting", SOON, |pod| waiting(pod, "main") == "ErrImageNeverPull").await?;
    scene.until(&mirror("static"), "ready", SOON, is_ready).await?;
    let backs_off = |pod: &_| restarts(pod, "main") >= 1 && waiting(pod, "main") == "CrashLoopBackOff";
    scene.until("crashes", "in back-off", EVENTUALLY, backs_off).await?;
    Ok(State { uid: pod.metadata.uid.context("a pod's uid")?, _static: manifest })
}

/// A pod with an init container, a sidecar, probes and volumes of each kind.
fn running() -> Value {
    let probe = |period: u32| json!({ "exec": { "command": ["true"] }, "periodSeconds": period });
    let mounts = json!([
        { "name": "empty", "mountPath": "/empty" }, { "name": "map", "mountPath": "/map" },
        { "name": "secret", "mountPath": "/secret" }, { "name": "memory", "mountPath": "/memory" },
    ]);
    let main = with(
        shell("main", "for i in 1 2 3 4 5; do echo line $i; done; exec sleep 100000"),
        json!({
            "stdin": true,
            "volumeMounts": mounts,
            "ports": [{ "containerPort": 8080 }],
            "env": [{ "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "key" } } }],
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
            "startupProbe": probe(1), "readinessProbe": probe(1), "livenessProbe": probe(1),
        }),
    );
    json!({
        "initContainers": [
            shell("first", "echo first"),
            with(shell("beside", "exec sleep 100000"), json!({ "restartPolicy": "Always" })),
        ],
        "containers": [main, shell("other", "echo other >&2; exec sleep 100000")],
        "volumes": [
            { "name": "empty", "emptyDir": {} },
            { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "map", "configMap": { "name": "map" } },
            { "name": "secret", "secret": { "secretName": "secret" } },
        ],
    })
}

/// Takes one pod through its life and lets another one fail, so that what a kubelet counts only once it has happened
/// has been counted.
pub(super) async fn let_one_pass(scene: &Scene) -> Result<()> {
    let probe = json!({ "exec": { "command": ["true"] }, "periodSeconds": 1 });
    let main = with(
        shell("main", "exec sleep 100000"),
        json!({
            "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe,
            "lifecycle": { "postStart": { "exec": { "command": ["true"] } } },
        }),
    );
    scene.ready_pod("passes", json!({ "containers": [main] })).await?;
    let cannot = with(shell("main", ""), json!({ "command": ["/no/such/program"] }));
    scene.pod("cannot", json!({ "restartPolicy": "Never", "containers": [cannot] })).await?;
    scene.until("cannot", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    for name in ["passes", "cannot"] {
        scene.delete(name).await?;
        scene.gone(name).await?;
    }
    Ok(())
}

/// Whether a kubelet that has just been started answers, and has read and measured all of them.
pub(super) async fn is_shown(callers: &Callers, namespace: &str, state: Option<&State>) -> Result<()> {
    let healthy = client::send(callers, &Case::of_admin("/healthz")).await?;
    ensure!(healthy.status == StatusCode::OK, "healthz says {}", healthy.status);
    if state.is_none() {
        return Ok(());
    }
    let read = async |path| -> Result<Value> {
        let answer = client::send(callers, &Case::of_admin(path)).await?;
        serde_json::from_slice(&answer.body).with_context(|| format!("read {path}"))
    };
    let pods = read("/pods").await?;
    let all = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours: Vec<&Value> =
        all.iter().filter(|pod| pod["metadata"]["namespace"] == json!(namespace)).collect();
    let known = ours.iter().filter(|pod| is_read(pod)).count();
    ensure!(ours.len() == PODS && known == PODS, "{known} of {PODS} pods are known");
    let summary = read("/stats/summary").await?;
    ensure!(summary["node"]["cpu"]["usageNanoCores"].is_number(), "the node is not measured");
    for name in LASTING {
        let all = summary["pods"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_this = |pod: &&Value| {
            pod["podRef"]["name"] == json!(name) && pod["podRef"]["namespace"] == json!(namespace)
        };
        let is_measured = all.iter().find(is_this).is_some_and(|pod| is_measured(pod, &summary["node"]));
        ensure!(is_measured, "pod {name} is not measured");
    }
    Ok(())
}

/// The pods that stay as they are.
const LASTING: [&str; 2] = ["running", "static-node-1"];

/// Whether a kubelet has read a pod's containers from the runtime, of those that have any.
fn is_read(pod: &Value) -> bool {
    let list = |name: &str| pod["status"][name].as_array().cloned().unwrap_or_default();
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let is_ready = list("conditions").iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    match name {
        "waits" => list("containerStatuses").iter().any(|c| c["state"]["waiting"]["message"].is_string()),
        _ if LASTING.contains(&name) => is_ready,
        _ => !list("containerStatuses").is_empty(),
    }
}

/// Whether everything has been measured that is, and twice where something can only be said of the time between.
fn is_measured(pod: &Value, node: &Value) -> bool {
    let list = |name: &str| pod[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let has_pressure = |of: &Value| of["cpu"]["psi"].is_object();
    let is_measured = |container: &Value| {
        container["cpu"]["usageNanoCores"].is_number()
            && container["logs"]["usedBytes"].is_number()
            && container["rootfs"]["time"].is_string()
            && has_pressure(container) == has_pressure(node)
    };
    pod["cpu"]["usageNanoCores"].is_number()
        && pod["ephemeral-storage"]["usedBytes"].is_number()
        // The other one has none.
        && (pod["podRef"]["name"] != "running" || !list("volume").is_empty())
        && !list("containers").is_empty()
        && list("containers").iter().all(is_measured)
}

impl request::Case {
    /// A request that is only made to see how far a kubelet has come.
    fn of_admin(path: &str) -> Self {
        Self {
            name: format!("GET {path}"),
            configuration: String::new(),
            port: request::Port::Main,
            caller: "admin".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: Default::default(),
            body: String::new(),
            is_plain: false,
            is_http2: false,
            compare: request::Compare::Head,
        }
    }
}
