//! What `kubelet explain` says in situations that keep people up at night: the cause first, on one screen.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::scene::{EVENTUALLY, SOON, Scene, is_ready, phase, run_with, shell, with};
use super::static_pods::{Manifest, mirror};
use crate::cluster::KUBELET_ROOT;
use crate::isolation::NODE;
use crate::process::Service;
use crate::workspace;

/// Lines of a screen.
const SCREEN: usize = 40;

/// `kubelet explain` with these words.
fn explain(scene: &Scene, words: &[&str]) -> Command {
    let mut command = Command::new(&scene.cluster.paths.kubelet);
    command.arg("explain").args(words).kill_on_drop(true);
    command
}

/// A pod's name as it is asked for.
fn full(scene: &Scene, name: &str) -> String {
    format!("{}/{name}", scene.namespace)
}

/// Watches the explanation of a pod, or of the node, until something waits for what begins like this, and its error has
/// that in it. Returns the wait.
pub(super) async fn until_waits(scene: &Scene, pod: Option<&str>, what: &str, error: &str) -> Result<Value> {
    let is_meant = |wait: &Value| {
        let has = |field: &str, part: &str| wait[field].as_str().unwrap_or_default().contains(part);
        has("for", what) && (error.is_empty() || has("error", error))
    };
    let wanted = format!("a wait for {what:?} with {error:?}");
    until_explained(scene, pod, &wanted, |waits| waits.into_iter().find(is_meant)).await
}

/// Watches the explanation of a pod until it waits for nothing. That a status was seen in the API server does not say that the
/// kubelet has heard so already.
async fn until_waits_for_nothing(scene: &Scene, pod: &str) -> Result<()> {
    until_explained(scene, Some(pod), "no wait", |waits| waits.is_empty().then_some(())).await
}

/// Watches the explanation of a pod, or of the node, until its waits are as they should be.
async fn until_explained<T>(
    scene: &Scene,
    pod: Option<&str>,
    wanted: &str,
    find: impl Fn(Vec<Value>) -> Option<T>,
) -> Result<T> {
    let mut command = explain(scene, &["-w", "-o", "json"]);
    command.args(pod.map(|name| full(scene, name)));
    let mut child = command.stdout(Stdio::piped()).spawn().context("run kubelet explain")?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let mut last = Value::Null;
    let met = async {
        while let Some(line) = lines.next_line().await? {
            last = serde_json::from_str(&line).context("read an explanation")?;
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let waits = match pod {
                Some(_) => list(&last["pods"]).iter().flat_map(|pod| list(&pod["waits"])).collect(),
                None => list(&last["node"]["waits"]),
            };
            if let Some(found) = find(waits) {
                return Ok(found);
            }
        }
        bail!("the explanation has ended")
    };
    match tokio::time::timeout(EVENTUALLY, met).await {
        Ok(met) => met,
        Err(_) => bail!("{wanted} has not come: {last}"),
    }
}

/// The explanation for people, which is one screen.
pub(super) async fn text(scene: &Scene, pod: Option<&str>) -> Result<String> {
    let mut command = explain(scene, &[]);
    command.args(pod.map(|name| full(scene, name)));
    let said = run_with(b"", command).await?;
    ensure!(said.code == 0, "kubelet explain ended with {}: {}", said.code, said.err);
    ensure!(said.out.lines().count() <= SCREEN, "more than a screen:\n{}", said.out);
    Ok(said.out)
}

/// Waits until a kubelet that was just started can be asked.
pub(super) async fn answers(kubelet: &Service) -> Result<()> {
    let socket = PathBuf::from(KUBELET_ROOT).join("control.sock");
    let connect = async || UnixStream::connect(&socket).await.map(drop).context("connect to the socket");
    kubelet.answers(SOON, connect).await
}

/// Fails unless the text begins like this and has all of those in it.
pub(super) fn expect(text: &str, begins: &str, parts: &[&str]) -> Result<()> {
    ensure!(text.starts_with(begins), "it does not begin with {begins:?}:\n{text}");
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in it:\n{text}");
    }
    Ok(())
}

pub(super) async fn image_that_does_not_exist(scene: Scene) -> Result<()> {
    let container = json!({ "name": "main", "image": "registry.invalid/no/such:image" });
    scene.pod("web", json!({ "containers": [container] })).await?;
    let wait = until_waits(&scene, Some("web"), "the image of container main", "registry.invalid").await?;
    ensure!(wait["nextTry"].is_string(), "it says when it is tried again: {wait}");
    let begins = format!("{} waits for the image of container main, ", full(&scene, "web"));
    let parts = ["\n  error ", "\n  on        the image's registry", "\n  next try  in ", "admitted\n"];
    expect(&text(&scene, Some("web")).await?, &begins, &parts)
}

/// What is explained is also counted.
pub(super) async fn missing_config_map(scene: Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    let volumes = json!([{ "name": "data", "configMap": { "name": "later" } }]);
    let spec = json!({ "containers": [with(shell("main", "sleep 1000"), mounts)], "volumes": volumes });
    scene.pod("mounts", spec).await?;
    let from = json!({ "envFrom": [{ "configMapRef": { "name": "later" } }] });
    scene.pod("reads", json!({ "containers": [with(shell("main", "sleep 1000"), from)] })).await?;
    let error = "configmap \"later\" not found";
    until_waits(&scene, Some("mounts"), "its volumes", error).await?;
    let begins = format!("{} waits for its volumes, ", full(&scene, "mounts"));
    let line = format!("\n  error     MountVolume.SetUp failed for volume \"data\" : {error}\n");
    expect(&text(&scene, Some("mounts")).await?, &begins, &[&line, "\n  next try  in "])?;
    until_waits(&scene, Some("reads"), "the start of container main", error).await?;
    let begins = format!("{} waits for the start of container main, ", full(&scene, "reads"));
    let on = "\n  on        what the pod refers to";
    let said = text(&scene, Some("reads")).await?;
    expect(&said, &begins, &["\n  error     CreateContainerConfigError: ", error, on])?;
    ensure!(said.matches("image of main ready").count() <= 1, "the image is not what it is about:\n{said}");
    let page = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics")]).await?;
    for family in ["ferrolet_waits", "ferrolet_longest_wait_seconds"] {
        for on in ["volumes", "start"] {
            let series = format!("{family}{{on=\"{on}\"}} ");
            ensure!(page.lines().any(|line| line.starts_with(&series)), "no {series} in /metrics");
        }
    }
    Ok(())
}

/// No pod can start: the node itself says why, and where to look.
pub(super) async fn state_file_that_cannot_be_written(scene: Scene) -> Result<()> {
    const FILE: &str = "allocated_pods_state";
    let in_the_way = PathBuf::from(KUBELET_ROOT).join(format!(".{FILE}.tmp"));
    std::fs::create_dir(&in_the_way).context("put a folder in the way of the file")?;
    let told = async {
        scene.pod("held-up", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
        let what = format!("state file {FILE} to be written");
        let wait = until_waits(&scene, None, &what, &format!("{KUBELET_ROOT}/{FILE}")).await?;
        ensure!(wait["since"].is_string() && wait["attempts"].as_u64() > Some(0), "since when: {wait}");
        let said = text(&scene, None).await?;
        let parts = [&format!("it waits for {what}, "), "\n  on        the disk", "\n  next try  "];
        expect(&said, "node ", &parts)
    };
    let told = told.await;
    std::fs::remove_dir(&in_the_way).context("clear the way for the file")?;
    told?;
    scene.until("held-up", "ready", SOON, is_ready).await?;
    Ok(())
}

/// A pod that asks for more than there is was turned away, and waits for nothing.
pub(super) async fn full_node(scene: Scene) -> Result<()> {
    let greedy = json!({ "resources": { "requests": { "cpu": "1000" } } });
    scene.pod("greedy", json!({ "containers": [with(shell("main", "true"), greedy)] })).await?;
    scene.until("greedy", "rejected", SOON, |pod| phase(pod) == "Failed").await?;
    until_waits_for_nothing(&scene, "greedy").await?;
    let begins = format!("{} waits for nothing: has ended, phase Failed\n", full(&scene, "greedy"));
    let why = "its status says: OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000";
    let said = text(&scene, Some("greedy")).await?;
    expect(&said, &begins, &[why, "turned away\n"])?;
    ensure!(!said.contains("unmounted"), "it had nothing:\n{said}");
    expect(
        &text(&scene, None).await?,
        &format!("node {NODE} is ready"),
        &["\npods that failed: ", "\nlease renewed "],
    )
}

/// Somebody holds what is mounted in a pod's folder.
pub(super) async fn busy_unmount(scene: Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/data" }] });
    let spec = json!({
        "containers": [with(shell("main", "sleep 1000"), mounts)], "volumes": [{ "name": "data", "emptyDir": {} }],
    });
    let pod = scene.ready_pod("held", spec).await?;
    let uid = pod.metadata.uid.context("a pod without uid")?;
    let place = PathBuf::from(KUBELET_ROOT)
        .join("pods")
        .join(uid)
        .join("volumes/kubernetes.io~empty-dir/data/mounted");
    let source = scene.cluster.paths.file(&scene.namespace);
    workspace::create_dir(&place)?;
    workspace::create_dir(&source)?;
    mount_bind(&source, &place).context("mount something in the pod's folder")?;
    let holder = File::open(&place).context("hold it")?;
    scene.delete("held").await?;
    until_waits(&scene, Some("held"), "its volumes to be unmounted", "busy").await?;
    let begins = format!("{} waits for its volumes to be unmounted, ", full(&scene, "held"));
    let path = place.display().to_string();
    let parts = [
        path.as_str(),
        "\n  on        the kernel of this node, or whoever still uses what is mounted",
        "\n  next try  in ",
        "all stopped\n",
    ];
    let said = text(&scene, Some("held")).await;
    drop(holder);
    expect(&said?, &begins, &parts)?;
    scene.gone("held").await?;
    // It went with the pod.
    let _ = unmount(&place, UnmountFlags::DETACH);
    Ok(())
}

/// A static pod of a name whose last bearer still has a process, which takes all of its time.
pub(super) async fn behind_its_predecessor(scene: Scene) -> Result<()> {
    let file = Manifest::new(&scene, "twin");
    let spec = |word: &str| {
        let script = format!("trap 'true' TERM; echo {word}; while true; do sleep 0.1; done");
        json!({ "containers": [shell("main", &script)], "terminationGracePeriodSeconds": 30 })
    };
    file.write_pod("twin", spec("first"))?;
    let name = mirror("twin");
    scene.until(&name, "ready", SOON, is_ready).await?;
    file.write_pod("twin", spec("second"))?;
    until_waits(&scene, Some(&name), "the end of the pod that had its name before", "").await?;
    let said = text(&scene, Some(&name)).await?;
    let begins = format!("{} waits for container main to stop, ", full(&scene, &name));
    let second = format!("\n\n{} waits for the end of the pod that had its name before", full(&scene, &name));
    let parts = [
        "\n  on        the program in the container until its grace period is over",
        "\n  at most   ",
        &second,
        "\n  on        the pod that had the name before\n",
    ];
    expect(&said, &begins, &parts)?;
    file.remove()?;
    scene.gone(&name).await
}

/// A runtime that answers nothing. Neither does it say how it is, which the node tells as its own.
pub(super) async fn hung_runtime_call(scene: Scene) -> Result<()> {
    let pid = scene.cluster.containerd.service.pid().context("containerd does not run")?;
    let pid = Pid::from_raw(i32::try_from(pid)?).context("its pid")?;
    kill_process(pid, Signal::STOP).context("stop containerd")?;
    let said = async {
        scene.pod("new", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
        until_waits(&scene, Some("new"), "its sandbox", "").await?;
        until_waits(&scene, Some("new"), "a look for the image of container main", "").await?;
        until_waits(&scene, None, "the container runtime to be ready", "").await?;
        Ok((text(&scene, Some("new")).await?, text(&scene, None).await?))
    };
    let said: Result<(String, String)> = said.await;
    kill_process(pid, Signal::CONT).context("let containerd go on")?;
    let (of_pod, of_node) = said?;
    let begins = format!("{} waits for its sandbox, ", full(&scene, "new"));
    expect(&of_pod, &begins, &["\n  on        the container runtime\n"])?;
    let second = of_node.lines().nth(1).unwrap_or_default();
    ensure!(second.starts_with("it waits for the container runtime to be ready, "), "{of_node}");
    scene.until("new", "ready", EVENTUALLY, is_ready).await.map(drop)
}

/// The node begins while nobody answers at the API server's address.
pub(super) async fn no_api_server_at_start(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    scene.cluster.control_plane.apiserver.kill().await?;
    scene.cluster.kubelet.start().await?;
    answers(&scene.cluster.kubelet).await?;
    until_waits(&scene, None, "its registration", "refused").await?;
    let begins = format!("node {NODE} is not ready yet");
    let said = text(&scene, None).await?;
    expect(&said, &begins, &["it waits for its registration", "\n  on        the API server\n", "refused"])?;
    scene.cluster.control_plane.start_apiserver().await?;
    scene.cluster.node_ready(EVENTUALLY).await
}
