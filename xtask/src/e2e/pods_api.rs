//! The Pods API, asked by a program as an agent on the node would.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::scene::{SOON, Scene, is_ready, run_with, shell};
use crate::cluster::{Changes, KUBELET_ROOT};

fn socket() -> PathBuf {
    Path::new(KUBELET_ROOT).join("pods-api/pods-api.sock")
}

fn client(scene: &Scene, args: &[&str]) -> Command {
    let mut client = Command::new(scene.cluster.paths.peers.pods_client());
    client.arg(socket()).args(args);
    client
}

/// What the client printed, line by line.
async fn ask(scene: &Scene, args: &[&str]) -> Result<Vec<Value>> {
    let said = run_with(b"", client(scene, args)).await?;
    ensure!(said.code == 0, "pods-client {args:?}: {}", said.err.trim());
    said.out.lines().map(|line| serde_json::from_str(line).context("read what pods-client said")).collect()
}

/// A watch.
struct Watch {
    lines: Lines<BufReader<ChildStdout>>,
    _client: Child,
}

impl Watch {
    fn start(scene: &Scene) -> Result<Self> {
        let mut client = client(scene, &["watch"]);
        let mut client =
            client.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("run pods-client")?;
        let lines = BufReader::new(client.stdout.take().context("its output")?).lines();
        Ok(Self { lines, _client: client })
    }

    /// The next event that is of this type and about this pod, and the types of those about it before.
    async fn until(&mut self, kind: &str, uid: &str) -> Result<(Value, Vec<String>)> {
        let mut before = Vec::new();
        let found = async {
            while let Some(line) = self.lines.next_line().await? {
                let event: Value = serde_json::from_str(&line).context("read an event")?;
                let found = event["type"].as_str().unwrap_or_default().to_owned();
                let about = event["pod"]["metadata"]["uid"].as_str().unwrap_or_default();
                if found == kind && about == uid {
                    return anyhow::Ok(event);
                }
                if about == uid {
                    before.push(found);
                }
            }
            bail!("the watch has ended")
        };
        let event = tokio::time::timeout(SOON, found).await;
        let event = event.with_context(|| format!("no {kind} of {uid:?}"))??;
        Ok((event, before))
    }
}

/// From its creation to its end, one pod is told of, and what is told is what the API server has.
pub(super) async fn tells_a_pods_life(scene: Scene) -> Result<()> {
    let mut watch = Watch::start(&scene)?;
    watch.until("INITIAL_SYNC_COMPLETE", "").await?;
    let spec = json!({ "containers": [shell("main", "trap 'exit 0' TERM; sleep 1000 & wait")] });
    let created = scene.ready_pod("told", spec).await?;
    let uid = created.metadata.uid.clone().context("a uid")?;
    let (added, before) = watch.until("ADDED", &uid).await?;
    ensure!(before.is_empty(), "it is added first: {before:?}");
    ensure!(added["pod"]["metadata"]["name"] == "told", "{added}");
    while !is_ready(&read(&watch.until("MODIFIED", &uid).await?.0["pod"])?) {}

    let pods: Api<Pod> = scene.api();
    let of_api = pods.get("told").await.context("get the pod")?;
    let one = ask(&scene, &["get", &uid]).await?;
    same(&read(one.first().context("no answer")?)?, &of_api)?;
    let all = ask(&scene, &["list"]).await?;
    let uids: Vec<&str> = all.iter().filter_map(|pod| pod["metadata"]["uid"].as_str()).collect();
    ensure!(uids.len() == all.len() && uids.is_sorted(), "in the order of their uids: {uids:?}");
    let listed = all.iter().find(|pod| pod["metadata"]["uid"] == uid.as_str());
    same(&read(listed.context("it is not in the list")?)?, &of_api)?;
    let unknown = ask(&scene, &["get", "nobody"]).await?;
    ensure!(
        unknown == [json!({ "code": "NotFound", "message": "pod with UID nobody not found" })],
        "nobody has that uid: {unknown:?}"
    );

    // One that comes later begins with what there is.
    let mut later = Watch::start(&scene)?;
    let (seen, _) = later.until("ADDED", &uid).await?;
    same(&read(&seen["pod"])?, &of_api)?;
    later.until("INITIAL_SYNC_COMPLETE", "").await?;

    scene.delete("told").await?;
    for watch in [&mut watch, &mut later] {
        let (gone, before) = watch.until("DELETED", &uid).await?;
        ensure!(
            before.iter().all(|kind| kind == "MODIFIED") && !before.is_empty(),
            "how it ends: {before:?}"
        );
        let pod = read(&gone["pod"])?;
        ensure!(pod.metadata.name.as_deref() == Some("told"), "which it was: {gone}");
        ensure!(pod.metadata.namespace.as_ref() == Some(&scene.namespace), "where it was: {gone}");
    }
    let metrics = format!("/api/v1/nodes/{}/proxy/metrics", crate::isolation::NODE);
    let page = scene.kubectl_out(&["get", "--raw", &metrics]).await?;
    for (name, code) in [("requests_get", "NotFound"), ("requests_list", "OK"), ("requests", "OK")] {
        let line =
            format!("kubelet_pod_{name}_total{{server_api_version=\"v1alpha1\",status_code=\"{code}\"}}");
        ensure!(page.contains(&line), "{line} is not in /metrics");
    }
    ensure!(page.contains("kubelet_pod_watch_events_dropped_total"), "events that were dropped are counted");
    Ok(())
}

fn read(pod: &Value) -> Result<Pod> {
    serde_json::from_value(pod.clone()).context("read a pod")
}

/// Whether it is the same pod, but for what each side keeps to itself.
fn same(told: &Pod, of_api: &Pod) -> Result<()> {
    let bare = |pod: &Pod| {
        let mut pod = pod.clone();
        pod.metadata.managed_fields = None;
        // Each status that is written makes another version.
        pod.metadata.resource_version = None;
        let mine = ["kubernetes.io/config.seen", "kubernetes.io/config.source"];
        pod.metadata.annotations.get_or_insert_default().retain(|key, _| !mine.contains(&key.as_str()));
        // A patch may put them into another order.
        if let Some(conditions) = pod.status.as_mut().and_then(|status| status.conditions.as_mut()) {
            conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        }
        serde_json::to_value(pod).context("write a pod")
    };
    let (told, of_api) = (bare(told)?, bare(of_api)?);
    for part in ["metadata", "spec", "status"] {
        ensure!(told[part] == of_api[part], "{part}: told {} and not {}", told[part], of_api[part]);
    }
    Ok(())
}

pub(super) async fn is_not_there_without_its_gate(scene: Scene) -> Result<()> {
    let found = std::fs::metadata(socket()).context("the socket of the usual kubelet")?;
    let folder = socket().parent().map(std::fs::metadata).context("its folder")??;
    ensure!(found.file_type().is_socket(), "it is a socket");
    ensure!(folder.permissions().mode() & 0o777 == 0o750, "its folder: {:o}", folder.permissions().mode());
    scene.cluster.kubelet.stop().await?;
    // A kubelet that has ended leaves it behind, as upstream's does.
    std::fs::remove_file(socket()).context("remove the socket")?;
    let flags = vec!["--feature-gates=PodsAPI=false".to_owned()];
    let kubelet =
        scene.cluster.kubelet_changed("without-pods-api", Changes { flags, ..Changes::default() })?;
    kubelet.start().await?;
    let spec = json!({ "containers": [shell("main", "sleep 1000")] });
    // Cancel-safe: both only watch; the pod stays for the end of the scenario.
    tokio::select! {
        ready = scene.ready_pod("works", spec) => ready.map(drop)?,
        died = kubelet.died() => return Err(died),
    }
    ensure!(!socket().exists(), "without the gate there is no socket");
    kubelet.stop().await
}
