//! Sandboxes whose process dies: what their pods come to, and that what they held on the node is given back.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::scene::{EVENTUALLY, SOON, Scene, container, ended, is_ready, phase, restarts, shell, with};
use crate::isolation::NODE_IP;

/// Where the network plugin keeps a file for each address that is taken.
const ADDRESSES: &str = "/var/lib/cni/networks/test";

/// The process of a pod's sandbox.
fn pause_of(uid: &str) -> Result<Pid> {
    let spellings = [uid.to_owned(), uid.replace('-', "_")];
    for entry in std::fs::read_dir("/proc").context("list processes")? {
        let path = entry?.path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        let cgroup = read("cgroup");
        if read("comm").trim() == "pause" && spellings.iter().any(|uid| cgroup.contains(uid)) {
            let name = path.file_name().and_then(|n| n.to_str()?.parse().ok());
            return name.and_then(Pid::from_raw).context("a process without a number");
        }
    }
    anyhow::bail!("no pause process of pod {uid}")
}

fn kill_sandbox(pod: &Pod) -> Result<()> {
    let uid = pod.metadata.uid.as_deref().context("a pod without uid")?;
    rustix::process::kill_process(pause_of(uid)?, Signal::KILL).context("kill a pause process")
}

fn address(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|s| s.pod_ip.clone()).unwrap_or_default()
}

fn has_address(address: &str) -> bool {
    Path::new(ADDRESSES).join(address).exists()
}

/// What the server behind a port of the node says.
async fn fetch(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((NODE_IP, port)).await.context("connect to the host port")?;
    stream.write_all(b"GET /who HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.context("read from the host port")?;
    Ok(text)
}

/// A container that notes its start in the pod's volume.
fn noting(name: &str, then: &str) -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "d", "mountPath": "/d" }] });
    with(shell(name, &format!("echo {name} >> /d/runs; {then}")), mounts)
}

fn spec(policy: &str, rest: Value) -> Value {
    with(json!({ "restartPolicy": policy, "volumes": [{ "name": "d", "emptyDir": {} }] }), rest)
}

async fn runs(scene: &Scene, pod: &str, container: &str) -> Result<Vec<String>> {
    let text = scene.kubectl_out(&["exec", pod, "-c", container, "--", "cat", "/d/runs"]).await?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

pub(super) async fn dead_ones_are_replaced_and_free_what_they_held(scene: Scene) -> Result<()> {
    let server = |port: u16| {
        let serve = noting("main", "echo served > /d/who; exec httpd -f -p 80 -h /d");
        with(serve, json!({ "ports": [{ "containerPort": 80, "hostPort": port }] }))
    };
    let first = noting("first", "true");
    let always = spec("Always", json!({ "initContainers": [first], "containers": [server(18_361)] }));
    let on_failure = spec(
        "OnFailure",
        json!({
            "initContainers": [noting("first", "true")],
            "containers": [noting("main", "sleep 100000"), noting("done", "true")],
        }),
    );
    let never = spec("Never", json!({ "containers": [server(18_362)] }));
    let (a, c) = tokio::try_join!(scene.ready_pod("always", always), scene.ready_pod("never", never))?;
    scene.pod("on-failure", on_failure).await?;
    let is_done = |pod: &Pod| ended(pod, "done") == Some(("Completed", 0));
    let is_up = |pod: &Pod| is_done(pod) && container(pod, "main").is_some_and(|s| s.ready);
    let b = scene.until("on-failure", "up", SOON, is_up).await?;
    for port in [18_361, 18_362] {
        ensure!(fetch(port).await?.contains("served"), "port {port} of the node is served");
    }
    for pod in [&a, &b, &c] {
        ensure!(has_address(&address(pod)), "{} is taken", address(pod));
        kill_sandbox(pod)?;
    }
    let again = |pod: &Pod| is_ready(pod) && restarts(pod, "main") == 1;
    let a_now = scene.until("always", "up again", EVENTUALLY, again).await?;
    let b_now = scene
        .until("on-failure", "up again", EVENTUALLY, |pod| is_up(pod) && restarts(pod, "main") == 1)
        .await?;
    let c_now = scene.until("never", "failed", EVENTUALLY, |pod| phase(pod) == "Failed").await?;

    let fetched = fetch(18_361).await?;
    ensure!(fetched.contains("served"), "the new sandbox has the host port: {fetched:?}");
    ensure!(runs(&scene, "always", "main").await? == ["first", "first", "main", "main"]);
    scene.event("always", "SandboxChanged", SOON).await?;
    ensure!(phase(&a_now) == "Running" && ended(&a_now, "main").is_some(), "{:?}", a_now.status);
    let hosts = scene.kubectl_out(&["exec", "always", "--", "cat", "/etc/hosts"]).await?;
    ensure!(hosts.contains(&address(&a_now)), "the hosts file has the new address: {hosts}");

    ensure!(runs(&scene, "on-failure", "main").await? == ["done", "first", "first", "main", "main"]);
    ensure!(restarts(&b_now, "done") == 0, "what has succeeded is not run again: {:?}", b_now.status);

    ensure!(restarts(&c_now, "main") == 0, "{:?}", c_now.status);
    let code = ended(&c_now, "main").map(|(_, code)| code);
    ensure!(matches!(code, Some(137 | 143)), "the container was ended: {code:?}");
    ensure!(TcpStream::connect((NODE_IP, 18_362)).await.is_err(), "a pod that has failed holds no host port");
    for (pod, now) in [(&a, &a_now), (&b, &b_now), (&c, &c_now)] {
        let (old, new) = (address(pod), address(now));
        ensure!(phase(now) == "Failed" || has_address(&new), "{new} is taken");
        // It may have been given to the successor.
        let is_in_use = [&a_now, &b_now].iter().any(|other| address(other) == old);
        ensure!(is_in_use || !has_address(&old), "{old}, of a dead sandbox, is free");
    }
    Ok(())
}
