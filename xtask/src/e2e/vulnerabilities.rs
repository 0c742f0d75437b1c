//! Vulnerabilities that upstream's kubelet once had, each named at its test. Those of single parts are tests of those
//! parts: grep for `CVE`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

/// CVE-2020-8558. What it takes is beside the other rules for packets.
pub(super) use super::packet_rules::keep_neighbours_from_loopback_addresses as neighbours_cannot_reach_loopback_addresses;
use super::scene::{EVENTUALLY, SOON, Scene, container, restarts, shell, waiting, with};
use crate::images::PAUSE;
use crate::isolation::NODE;

/// How often the summary is read: nothing tells when disks have been measured.
const AGAIN: Duration = Duration::from_secs(2);
/// The user of the pause image.
const PAUSE_USER: i64 = 65535;

/// CVE-2019-11245: a container of an image with a user of its own was root once it was started again.
pub(super) async fn user_of_the_image_is_kept_over_restarts(scene: Scene) -> Result<()> {
    let probe = json!({ "tcpSocket": { "port": 1 }, "periodSeconds": 1, "failureThreshold": 1 });
    let main = json!({
        "name": "main", "image": PAUSE, "livenessProbe": probe, "securityContext": { "runAsNonRoot": true },
    });
    scene.pod("user", json!({ "containers": [main] })).await?;
    let uid = |pod: &_| {
        let status = container(pod, "main")?;
        Some(status.user.as_ref()?.linux.as_ref()?.uid)
    };
    let pod = scene
        .until("user", "started again", EVENTUALLY, |pod| {
            restarts(pod, "main") >= 1 && container(pod, "main").is_some_and(|status| status.user.is_some())
        })
        .await?;
    ensure!(uid(&pod) == Some(PAUSE_USER), "it runs as {:?}", uid(&pod));
    Ok(())
}

/// CVE-2024-10220, CVE-2025-1767: hooks of a repository ran as root, and repositories of the host were readable.
pub(super) async fn git_repositories_are_refused(scene: Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "git", "mountPath": "/git" }] });
    let spec = json!({
        "containers": [with(shell("main", "sleep 1000"), mounts)],
        "volumes": [{ "name": "git", "gitRepo": { "repository": "/etc", "directory": "." } }],
    });
    scene.pod("git", spec).await?;
    let message = scene.event("git", "FailedMount", SOON).await?;
    ensure!(message.contains("git"), "the event names the volume: {message}");
    scene.until("git", "held up", SOON, |pod| waiting(pod, "main") == "ContainerCreating").await?;
    Ok(())
}

/// CVE-2020-8557: what a container wrote to its hosts file filled the node's disk and counted as nobody's.
pub(super) async fn a_filled_hosts_file_counts_against_its_pod(scene: Scene) -> Result<()> {
    const KIB: u64 = 8 * 1024;
    let script = format!("dd if=/dev/zero of=/etc/hosts bs=1024 count={KIB} 2>/dev/null; sleep 1000");
    scene.ready_pod("fills", json!({ "containers": [shell("main", &script)] })).await?;
    let started = Instant::now();
    loop {
        let (_, pod) = super::stats::summary(&scene, "stats/summary").await?;
        let used = pod.pointer("/ephemeral-storage/usedBytes").and_then(Value::as_u64).unwrap_or(0);
        let own = pod.pointer("/containers/0/rootfs/usedBytes").and_then(Value::as_u64).unwrap_or(0);
        // Not in the container's own layer, where it would be counted as well.
        if used >= KIB * 1024 && own < KIB * 1024 {
            return Ok(());
        }
        ensure!(started.elapsed() < EVENTUALLY, "{used} bytes, {own} of them in the container: {pod}");
        tokio::time::sleep(AGAIN).await;
    }
}

/// CVE-2019-11250, CVE-2020-8565, CVE-2020-8564: bearer tokens and registry credentials, above all those in a form that
/// could not be read, were in the log of a kubelet that logs all it can.
pub(super) async fn nothing_secret_is_in_the_most_verbose_log(scene: Scene) -> Result<()> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/debug/flags/v");
    let set = async |level: &str| {
        let said = scene.kubectl_with(level.as_bytes(), &["replace", "--raw", &path, "-f", "-"]).await?;
        ensure!(said.code == 0, "set the verbosity: {said:?}");
        Ok(())
    };
    let log = scene.cluster.kubelet.log().to_owned();
    let before = std::fs::metadata(&log).context("look at the kubelet's log")?.len();
    set("10").await?;

    // Base64 of `sentinel-without-colon`, which is not the form `user:password`.
    let malformed = "c2VudGluZWwtd2l0aG91dC1jb2xvbg==";
    let document = json!({ "auths": { "registry.invalid": { "auth": malformed } } }).to_string();
    let registry = json!({
        "metadata": { "name": "registry" }, "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": document },
    });
    scene.create::<Secret>(registry).await?;
    let hidden = json!({ "metadata": { "name": "hidden" }, "stringData": { "key": "sentinel-in-a-secret" } });
    scene.create::<Secret>(hidden).await?;
    let token = scene.kubectl_out(&["create", "token", "default"]).await?;
    let token = token.trim();
    for bearer in [token, "sentinel-as-a-token"] {
        ask(bearer).await?;
    }
    let mounts = json!({
        "volumeMounts": [{ "name": "hidden", "mountPath": "/hidden" }],
        "env": [{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "hidden", "key": "key" } } }],
    });
    // It prints what the log of the kubelet must not show.
    let main = with(shell("main", "cat /var/run/secrets/kubernetes.io/serviceaccount/token"), mounts);
    let volumes = json!([{ "name": "hidden", "secret": { "secretName": "hidden" } }]);
    let spec = json!({ "restartPolicy": "Never", "containers": [main], "volumes": volumes });
    let (_, own_token) = scene.finished_pod("uses", spec).await?;
    let missing = json!({ "name": "main", "image": "registry.invalid/no/such:image" });
    let spec = json!({ "containers": [missing], "imagePullSecrets": [{ "name": "registry" }] });
    scene.pod("pulls", spec).await?;
    scene.until("pulls", "failing to pull", SOON, |pod| !waiting(pod, "main").is_empty()).await?;
    scene.event("pulls", "Failed", SOON).await?;
    set("2").await?;

    let text = std::fs::read(&log).context("read the kubelet's log")?;
    let text = String::from_utf8_lossy(&text[usize::try_from(before)?.min(text.len())..]);
    // It did log all it can, and about these pods.
    ensure!(text.contains(&scene.namespace), "the log says nothing about this scenario");
    for secret in
        ["sentinel", malformed, "c2VudGluZWwtaW4tYS1zZWNyZXQ=", signature(token), signature(own_token.trim())]
    {
        ensure!(!text.contains(secret), "the log shows {secret:?}");
    }
    Ok(())
}

/// The part of a token that makes it one.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().unwrap_or(token)
}

/// Asks the kubelet with a bearer token; what it answers does not matter.
async fn ask(token: &str) -> Result<()> {
    super::floods::get(super::floods::KUBELET, "/pods", Some(token)).await.map(drop)
}
