//! A kubelet that may not create its Node, which somebody else has made.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::scene::{SOON, Scene, shell};
use crate::cluster::{Credentials, write_kubeconfig};
use crate::process::Service;

/// What the kubelet calls itself to the API server.
const ACCOUNT: &str = "registrar";

/// All that a kubelet does, but for one thing.
fn rights() -> Value {
    let used = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch", "update", "patch"] });
    let made = json!([
        { "apiGroups": [""], "resources": ["pods", "events", "serviceaccounts/token"], "verbs": ["create"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        { "apiGroups": ["authentication.k8s.io", "authorization.k8s.io"], "resources": ["*"], "verbs": ["create"] },
    ]);
    let rules: Vec<Value> = [used].into_iter().chain(made.as_array().cloned().unwrap_or_default()).collect();
    json!({ "rules": rules })
}

/// Gives the account rights by a role of this name.
async fn allow(scene: &Scene, name: &str, mut role: Value) -> Result<()> {
    let client = &scene.cluster.client;
    role["metadata"] = json!({ "name": name });
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles.create(&PostParams::default(), &serde_json::from_value(role)?).await?;
    let binding = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": scene.namespace }],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    Ok(())
}

/// A kubelet with the account's rights, with or without the gate.
async fn started(scene: &Scene, name: &'static str, gate: bool) -> Result<Service> {
    let credentials = Credentials {
        kubeconfig: scene.cluster.paths.file(&format!("{ACCOUNT}.kubeconfig")),
        bootstrap: None,
        certificates: scene.cluster.paths.file(&format!("{}-pki", scene.namespace)),
        fields: json!({ "featureGates": { "KubeletRegistrationGetOnExistsOnly": gate } }),
    };
    let kubelet = scene.cluster.kubelet_with(name, &credentials)?;
    kubelet.start().await?;
    Ok(kubelet)
}

/// Waits until a kubelet has logged a line with all of this in it.
async fn logged(kubelet: &Service, parts: &[&str]) -> Result<()> {
    let found = || async {
        let log = std::fs::read_to_string(kubelet.log())?;
        let is_there = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        ensure!(is_there, "no line says {parts:?}");
        Ok(())
    };
    kubelet.answers(SOON, found).await
}

/// The Node is the one that the cluster's own kubelet has made. Only with the gate on does it matter that it may not be
/// created again, until it may.
pub(super) async fn of_a_node_that_may_not_create_itself(scene: Scene) -> Result<()> {
    const DONE: &[&str] = &["Successfully registered node"];
    const REFUSED: &[&str] = &["nodes is forbidden", "cannot create resource"];

    scene.cluster.kubelet.stop().await?;
    scene.create::<ServiceAccount>(json!({ "metadata": { "name": ACCOUNT } })).await?;
    allow(&scene, "registrar-uses", rights()).await?;
    let token = scene.kubectl_out(&["create", "token", ACCOUNT]).await?;
    write_kubeconfig(&scene.cluster.paths, ACCOUNT, &json!({ "token": token.trim() }))?;

    let usual = started(&scene, "looks-when-forbidden", false).await?;
    logged(&usual, DONE).await?;
    usual.stop().await?;

    let strict = started(&scene, "looks-when-it-exists", true).await?;
    logged(&strict, REFUSED).await?;
    let log = std::fs::read_to_string(strict.log())?;
    ensure!(!log.contains(DONE[0]), "it has not registered");
    let creates = json!({ "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["create"] }] });
    allow(&scene, "registrar-creates", creates).await?;
    logged(&strict, DONE).await?;
    let spec = json!({ "containers": [shell("main", "sleep 100000")] });
    scene.ready_pod("after", spec).await?;
    strict.stop().await
}
