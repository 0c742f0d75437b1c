//! Programs of the node that stop, are killed, or find damage.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

use super::scene::{EVENTUALLY, SOON, Scene, container, ended, is_ready, phase, restarts, shell, with};
use super::static_pods::{Manifest, annotation, mirror, shown};
use crate::cluster::KUBELET_ROOT;
use crate::process::Service;
use crate::workspace;

/// A named pipe through which a container tells the test what it does while the API server is away.
pub(super) struct ReportPipe {
    path: PathBuf,
    lines: tokio::io::Lines<BufReader<pipe::Receiver>>,
}

impl ReportPipe {
    pub(super) fn new(scene: &Scene) -> Result<Self> {
        let folder = scene.cluster.paths.file(&scene.namespace);
        workspace::create_dir(&folder)?;
        let path = folder.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o622), 0)
            .context("make a named pipe")?;
        // Open for writing too, so that the pipe does not end with its first writer.
        let reader =
            pipe::OpenOptions::new().read_write(true).open_receiver(&path).context("open a named pipe")?;
        Ok(Self { path, lines: BufReader::new(reader).lines() })
    }

    /// A container that reports `word` when it starts, and lives until it is told to end.
    fn container(&self, word: &str) -> Value {
        let script = format!("echo {word} > /reports/pipe; sleep 100000");
        with(
            shell("main", &script),
            json!({ "volumeMounts": [{ "name": "reports", "mountPath": "/reports" }] }),
        )
    }

    /// The folder that containers have as `/reports`.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.path.parent().unwrap_or(&self.path)
    }

    pub(super) fn volumes(&self) -> Value {
        json!([{ "name": "reports", "hostPath": { "path": self.folder() } }])
    }

    pub(super) async fn next(&mut self) -> Result<String> {
        let line = tokio::time::timeout(EVENTUALLY, self.lines.next_line()).await;
        line.context("the container reports nothing")??.context("the pipe ended")
    }
}

/// What must not change when only the kubelet or the runtime's daemon is restarted.
pub(super) fn identity(pod: &Pod) -> Value {
    let ready = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).and_then(|all| {
        let ready = all.iter().find(|condition| condition.type_ == "Ready")?;
        Some(json!([ready.status, ready.last_transition_time]))
    });
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let containers: Vec<Value> = containers
        .into_iter()
        .flatten()
        .map(|one| json!([one.name, one.container_id, one.restart_count, one.ready]))
        .collect();
    json!({ "ready": ready, "containers": containers, "address": pod.status.as_ref().map(|s| &s.pod_ip) })
}

/// Some pods of different kinds, all ready.
async fn settle(scene: &Scene) -> Result<Vec<(String, Value)>> {
    let side = with(shell("side", "sleep 100000"), json!({ "restartPolicy": "Always" }));
    let sleeper = || shell("main", "sleep 100000");
    let (plain, paired) = tokio::try_join!(
        scene.ready_pod("plain", json!({ "containers": [sleeper(), shell("two", "sleep 100000")] })),
        scene.ready_pod(
            "paired",
            json!({ "initContainers": [shell("first", "true"), side], "containers": [sleeper()] })
        ),
    )?;
    Ok(vec![("plain".to_owned(), identity(&plain)), ("paired".to_owned(), identity(&paired))])
}

/// Proves that the kubelet works, with a new pod, and that the old ones are as they were.
pub(super) async fn unchanged(scene: &Scene, before: Vec<(String, Value)>) -> Result<()> {
    scene.ready_pod("new", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    scene.delete("new").await?;
    scene.gone("new").await?;
    let pods = scene.api::<Pod>();
    for (name, identity_before) in before {
        let now = identity(&pods.get(&name).await?);
        ensure!(now == identity_before, "{name} changed from {identity_before} to {now}");
    }
    Ok(())
}

/// A node with many pods: neither an orderly restart nor SIGKILL is noticed by any of them.
pub(super) async fn fifty_pods_outlive_stop_and_kill(scene: Scene) -> Result<()> {
    let names: Vec<String> = (0..50).map(|i| format!("pod-{i}")).collect();
    let spec = json!({ "containers": [shell("main", "sleep 100000")] });
    for name in &names {
        scene.pod(name, spec.clone()).await?;
    }
    let mut before = Vec::new();
    for name in &names {
        before.push((name.clone(), identity(&scene.until(name, "ready", EVENTUALLY, is_ready).await?)));
    }
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let ready_since = async || -> Result<Value> {
        let node = nodes.get(crate::isolation::NODE).await?;
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        let ready =
            conditions.iter().find(|c| c.type_ == "Ready").context("the node has no Ready condition")?;
        Ok(json!([ready.status, ready.last_transition_time]))
    };
    let node_before = ready_since().await?;
    scene.cluster.kubelet.restart().await?;
    unchanged(&scene, before.clone()).await?;
    scene.cluster.kubelet.kill().await?;
    scene.cluster.kubelet.start().await?;
    unchanged(&scene, before).await?;
    let node_now = ready_since().await?;
    ensure!(node_now == node_before, "the node was ready all along: {node_before}, then {node_now}");
    for name in &names {
        scene.delete(name).await?;
    }
    for name in &names {
        scene.gone(name).await?;
    }
    Ok(())
}

/// A runtime call that hangs holds up its own pod and nobody else.
pub(super) async fn hung_runtime_call_holds_up_its_own_pod(scene: Scene) -> Result<()> {
    let spec = json!({ "containers": [shell("main", "sleep 100000")], "terminationGracePeriodSeconds": 1 });
    let hung = scene.ready_pod("hung", spec.clone()).await?;
    let uid = hung.metadata.uid.context("a pod without uid")?;
    let shim = shim_of(&uid)?;
    rustix::process::kill_process(shim, Signal::STOP).context("stop the shim")?;
    let others = async {
        scene.delete("hung").await?;
        // The call is under way once the kubelet has said so.
        scene.event("hung", "Killing", SOON).await?;
        for round in ["first", "second"] {
            scene.ready_pod(round, spec.clone()).await?;
            scene.delete(round).await?;
            scene.gone(round).await?;
        }
        Result::<()>::Ok(())
    };
    let result = others.await;
    rustix::process::kill_process(shim, Signal::CONT).context("let the shim go on")?;
    result?;
    scene.gone("hung").await
}

/// The runtime's helper process that all calls about a pod's containers go through: the parent of
/// the processes in the pod's cgroup.
fn shim_of(uid: &str) -> Result<Pid> {
    for entry in std::fs::read_dir("/proc").context("list processes")? {
        let path = entry?.path();
        let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        if !read("cgroup").contains(&format!("pod{uid}")) {
            continue;
        }
        let parent = read("status").lines().find_map(|l| l.strip_prefix("PPid:")?.trim().parse::<i32>().ok());
        if let Some(pid) = parent.and_then(Pid::from_raw) {
            return Ok(pid);
        }
    }
    Err(anyhow!("no process of pod {uid}"))
}

pub(super) async fn kubelet_restart_leaves_pods_alone(scene: Scene) -> Result<()> {
    let before = settle(&scene).await?;
    scene.cluster.kubelet.restart().await?;
    unchanged(&scene, before).await
}

/// The Go kubelet forgets what its probes found and reports such pods as not ready for a moment.
pub(super) async fn kubelet_restart_keeps_probed_pods_ready(scene: Scene) -> Result<()> {
    let probe = json!({ "exec": { "command": ["true"] }, "periodSeconds": 1 });
    let probes = json!({ "readinessProbe": probe, "livenessProbe": probe, "startupProbe": probe });
    let spec = json!({ "containers": [with(shell("main", "sleep 100000"), probes)] });
    let pod = scene.ready_pod("probed", spec).await?;
    scene.cluster.kubelet.restart().await?;
    unchanged(&scene, vec![("probed".to_owned(), identity(&pod))]).await
}

/// kubernetes#125397: the initial delay counts from the container's start. Were it cut short by either
/// restart, one failure would be enough to kill.
pub(super) async fn kubelet_restart_cuts_no_initial_delay_short(scene: Scene) -> Result<()> {
    const DELAY_SECONDS: u32 = 40;
    let note = "cut -d' ' -f1 /proc/uptime >> /tmp/asked";
    let probe = |check: &str| {
        json!({ "exec": { "command": ["sh", "-c", format!("{note}; {check}")] }, "initialDelaySeconds": DELAY_SECONDS,
            "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 1 })
    };
    let script = format!("{note}; sleep 30; touch /tmp/ok; sleep 100000");
    let slow = with(shell("slow", &script), json!({ "livenessProbe": probe("test -f /tmp/ok") }));
    let starter = with(shell("starter", &script), json!({ "startupProbe": probe("test -f /tmp/ok") }));
    let ready = json!({ "exec": { "command": ["true"] }, "periodSeconds": 1 });
    let steady = with(shell("main", "sleep 100000"), json!({ "readinessProbe": ready }));
    let steady = scene.ready_pod("steady", json!({ "containers": [steady] })).await?;
    scene.pod("slow", json!({ "containers": [slow, starter] })).await?;
    let runs = |pod: &Pod, name: &str| {
        container(pod, name).is_some_and(|s| s.state.as_ref().is_some_and(|state| state.running.is_some()))
    };
    scene.until("slow", "running", SOON, move |pod| runs(pod, "slow") && runs(pod, "starter")).await?;
    scene.cluster.kubelet.restart().await?;
    unchanged(&scene, vec![("steady".to_owned(), identity(&steady))]).await?;
    scene.cluster.kubelet.kill().await?;
    scene.cluster.kubelet.start().await?;
    let pod = scene.until("slow", "ready", EVENTUALLY, is_ready).await?;
    ensure!(restarts(&pod, "slow") == 0 && restarts(&pod, "starter") == 0, "no container was killed");
    for name in ["slow", "starter"] {
        let asked = "until test $(wc -l < /tmp/asked) -ge 2; do sleep 0.2; done; head -n 2 /tmp/asked";
        let asked = scene.kubectl_out(&["exec", "slow", "-c", name, "--", "sh", "-c", asked]).await?;
        let times: Vec<f64> = asked.lines().filter_map(|line| line.parse().ok()).collect();
        let [started, first] = times[..] else { return Err(anyhow!("not two times: {asked:?}")) };
        // Upstream counts in whole seconds.
        ensure!(
            first - started > f64::from(DELAY_SECONDS) - 1.0,
            "{name} is asked {} s after its start",
            first - started
        );
    }
    unchanged(&scene, vec![("steady".to_owned(), identity(&steady))]).await
}

/// The promise to an administrator who replaces the binary and restarts the service.
pub(super) async fn takes_over_from_the_go_kubelet(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    go.start().await?;
    let before = settle(&scene).await?;
    let control_plane = ControlPlanePod::run(&scene).await?;
    go.stop().await?;
    scene.cluster.kubelet.start().await?;
    unchanged(&scene, before).await?;
    control_plane.is_unchanged(&scene).await?;
    control_plane.remove(&scene).await
}

/// And to the one who goes back.
pub(super) async fn hands_over_to_the_go_kubelet(scene: Scene) -> Result<()> {
    let before = settle(&scene).await?;
    let control_plane = ControlPlanePod::run(&scene).await?;
    scene.cluster.kubelet.stop().await?;
    let go = go_kubelet(&scene);
    go.start().await?;
    unchanged(&scene, before).await?;
    control_plane.is_unchanged(&scene).await?;
    control_plane.remove(&scene).await?;
    go.stop().await
}

/// A static pod, much as one of a control plane. Another kubelet has to find that it is the same one.
struct ControlPlanePod {
    file: Manifest,
    mirror: Pod,
}

impl ControlPlanePod {
    const NAME: &str = "fixed";

    async fn run(scene: &Scene) -> Result<Self> {
        let file = Manifest::new(scene, Self::NAME);
        let more = json!({
            "resources": { "requests": { "cpu": "10m", "memory": "10Mi" }, "limits": { "memory": "0.125Gi" } },
            "startupProbe": { "exec": { "command": ["true"] }, "periodSeconds": 1 },
            "volumeMounts": [{ "name": "host", "mountPath": "/host", "readOnly": true }],
        });
        let spec = json!({
            "containers": [with(shell("main", "sleep 100000"), more)],
            "hostNetwork": true,
            "priority": 2_000_001_000,
            "priorityClassName": "system-node-critical",
            "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
            "volumes": [{ "name": "host", "hostPath": { "path": "/etc" } }],
        });
        file.write_pod(Self::NAME, spec)?;
        let mirror = scene.until(&mirror(Self::NAME), "ready", SOON, is_ready).await?;
        Ok(Self { file, mirror })
    }

    /// The kubelet that runs now knows the pod by the same uid, so its containers and its mirror are left as they are.
    async fn is_unchanged(&self, scene: &Scene) -> Result<()> {
        let name = mirror(Self::NAME);
        let known = shown(scene, &name, "known", |pod| pod.is_some()).await?;
        let uid = known.and_then(|pod| pod.metadata.uid);
        let hash = annotation(&self.mirror, "kubernetes.io/config.hash");
        ensure!(uid.is_some() && uid == hash, "the static pod's uid was {hash:?} and is {uid:?}");
        let now = scene.api::<Pod>().get(&name).await.context("get the mirror")?;
        ensure!(now.metadata.uid == self.mirror.metadata.uid, "its mirror was made anew");
        let (before, now) = (identity(&self.mirror), identity(&now));
        // When it became ready may be forgotten, for it is known before its mirror is.
        ensure!(now["containers"] == before["containers"], "it changed from {before} to {now}");
        Ok(())
    }

    async fn remove(self, scene: &Scene) -> Result<()> {
        self.file.remove()?;
        scene.gone(&mirror(Self::NAME)).await
    }
}

/// The Go kubelet for the same node. Only one may run at a time.
pub(super) fn go_kubelet(scene: &Scene) -> Service {
    let binary = scene.cluster.paths.peers.kubernetes("kubelet");
    scene.cluster.other_kubelet("kubelet-go", &binary, crate::cluster::Kind::Usual)
}

pub(super) async fn kubelet_killed_during_start_recovers(scene: Scene) -> Result<()> {
    let names: Vec<String> = (0..6).map(|i| format!("pod-{i}")).collect();
    let first = json!({ "initContainers": [shell("first", "sleep 0.2")], "containers": [shell("main", "sleep 100000")] });
    for name in &names {
        scene.pod(name, first.clone()).await?;
    }
    // The first sign of life: some are in the middle of their start now.
    scene.until(&names[0], "begun", SOON, |pod| container(pod, "main").is_some()).await?;
    scene.cluster.kubelet.kill().await?;
    scene.cluster.kubelet.start().await?;
    for name in &names {
        let pod = scene.until(name, "ready", SOON, is_ready).await?;
        ensure!(restarts(&pod, "main") == 0, "{name} was started once: {:?}", pod.status);
    }
    for name in &names {
        scene.delete(name).await?;
    }
    for name in &names {
        scene.gone(name).await?;
    }
    Ok(())
}

pub(super) async fn kubelet_killed_during_deletion_finishes_it(scene: Scene) -> Result<()> {
    let script = "trap 'echo asked to end; sleep 3; echo ended well; exit 0' TERM; echo started; while :; do sleep 0.1; done";
    let spec = json!({ "containers": [shell("main", script)], "terminationGracePeriodSeconds": 60 });
    scene.ready_pod("slow", spec).await?;
    let mut kubectl = scene.kubectl(&["logs", "-f", "slow"]);
    let mut follow = kubectl.stdout(std::process::Stdio::piped()).spawn().context("run kubectl")?;
    let mut lines = BufReader::new(follow.stdout.take().context("the output of kubectl")?).lines();
    scene.delete("slow").await?;
    let asked = async {
        while let Some(line) = lines.next_line().await? {
            if line == "asked to end" {
                return Ok(());
            }
        }
        Err(anyhow!("the log ended early"))
    };
    tokio::time::timeout(SOON, asked).await.context("the container is not asked to end")??;
    scene.cluster.kubelet.kill().await?;
    scene.cluster.kubelet.start().await?;
    scene.gone("slow").await
}

pub(super) async fn container_that_ends_while_the_kubelet_is_away(scene: Scene) -> Result<()> {
    let mounts = json!({ "volumeMounts": [{ "name": "gate", "mountPath": "/gate" }] });
    let folder = scene.cluster.paths.file(&scene.namespace);
    workspace::create_dir(&folder)?;
    let gate = folder.join("gate");
    rustix::fs::mknodat(rustix::fs::CWD, &gate, FileType::Fifo, Mode::from_raw_mode(0o622), 0)?;
    // The containers read a line from the pipe and end with it.
    let main = with(shell("main", "read code < /gate/gate; exit $code"), mounts);
    let volumes = json!([{ "name": "gate", "hostPath": { "path": folder } }]);
    let spec = json!({ "restartPolicy": "Never", "containers": [main], "volumes": volumes });
    scene.ready_pod("ends", spec).await?;
    scene.cluster.kubelet.stop().await?;
    workspace::write(&gate, "9\n")?;
    scene.cluster.kubelet.start().await?;
    let pod = scene.until("ends", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    ensure!(ended(&pod, "main") == Some(("Error", 9)), "its exit code is known: {:?}", ended(&pod, "main"));
    Ok(())
}

pub(super) async fn pod_deleted_while_the_kubelet_is_away(scene: Scene) -> Result<()> {
    scene.ready_pod("goes", json!({ "containers": [shell("main", "echo started; sleep 100000")] })).await?;
    scene.ready_pod("forced", json!({ "containers": [shell("main", "echo started; sleep 100000")] })).await?;
    scene.cluster.kubelet.stop().await?;
    scene.delete("goes").await?;
    scene.kubectl_out(&["delete", "pod", "forced", "--grace-period=0", "--force", "--wait=false"]).await?;
    scene.gone("forced").await?;
    // Made anew under the same name: the old containers must go, the new ones must come.
    scene.pod("forced", json!({ "containers": [shell("main", "echo again; sleep 100000")] })).await?;
    scene.cluster.kubelet.start().await?;
    scene.gone("goes").await?;
    scene.until("forced", "ready", SOON, is_ready).await?;
    ensure!(scene.first_line("forced", "main").await? == "again", "the new pod runs");
    Ok(())
}

pub(super) async fn api_server_away_at_start(scene: Scene) -> Result<()> {
    let mut reports = ReportPipe::new(&scene)?;
    scene.cluster.kubelet.stop().await?;
    scene.cluster.control_plane.apiserver.kill().await?;
    let file = Manifest::new(&scene, "early");
    file.write_pod(
        "early",
        json!({ "containers": [reports.container("running")], "volumes": reports.volumes() }),
    )?;
    scene.cluster.kubelet.start().await?;
    ensure!(reports.next().await? == "running", "a static pod needs no API server");
    scene.cluster.control_plane.start_apiserver().await?;
    scene.cluster.node_ready(EVENTUALLY).await?;
    let pod = scene.until(&mirror("early"), "ready", EVENTUALLY, is_ready).await?;
    ensure!(restarts(&pod, "main") == 0, "it was not started again");
    file.remove()?;
    scene.gone(&mirror("early")).await
}

pub(super) async fn api_server_away_for_a_while(scene: Scene) -> Result<()> {
    let mut reports = ReportPipe::new(&scene)?;
    let before = settle(&scene).await?;
    let spec = json!({ "containers": [reports.container("running")], "volumes": reports.volumes() });
    let pod = scene.ready_pod("restarts", spec).await?;
    ensure!(reports.next().await? == "running", "it runs");
    scene.cluster.control_plane.apiserver.kill().await?;
    // End its only container: the kubelet has to start it again on its own.
    let id = container(&pod, "main").and_then(|status| status.container_id.clone()).unwrap_or_default();
    let id = id.trim_start_matches("containerd://");
    scene.cluster.containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", id]).await?;
    ensure!(reports.next().await? == "running", "it runs again");
    scene.cluster.control_plane.start_apiserver().await?;
    scene
        .until("restarts", "ready after one restart", EVENTUALLY, |pod| {
            restarts(pod, "main") == 1 && is_ready(pod)
        })
        .await?;
    unchanged(&scene, before).await
}

pub(super) async fn containerd_restart_leaves_pods_alone(scene: Scene) -> Result<()> {
    let before = settle(&scene).await?;
    scene.cluster.containerd.service.stop().await?;
    scene.cluster.containerd.start().await?;
    unchanged(&scene, before).await
}

/// The Go kubelet exits and leaves it to the administrator to find and remove the damaged file.
pub(super) async fn damaged_files_do_not_stop_the_node(scene: Scene) -> Result<()> {
    let before = settle(&scene).await?;
    scene.cluster.kubelet.stop().await?;
    let mut damaged = Vec::new();
    damage(KUBELET_ROOT.as_ref(), &mut damaged)?;
    ensure!(!damaged.is_empty(), "the kubelet keeps files of its own");
    // The remains of a pod nobody knows, with a file where a folder should be.
    let stray = std::path::Path::new(KUBELET_ROOT).join("pods/1b671a64-40d5-491e-99b0-da01ff1f3341");
    workspace::create_dir(&stray)?;
    workspace::write(&stray.join("volumes"), "not a folder")?;
    let late = scene.pod("late", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    scene.cluster.kubelet.start().await?;
    let name = late.metadata.name.unwrap_or_default();
    // Cancel-safe: both only watch.
    tokio::select! {
        ready = scene.until(&name, "ready", SOON, is_ready) => ready.map(drop),
        died = scene.cluster.kubelet.died() => Err(died),
    }
    .with_context(|| format!("after damage to {damaged:?}"))?;
    unchanged(&scene, before).await?;
    // What is still damaged belongs to nobody here; upstream's kubelet, which other scenarios start on this
    // node, would not start with it.
    for path in damaged {
        let mut aside = path.clone().into_os_string();
        aside.push(".damaged");
        for path in [path, aside.into()] {
            if std::fs::read(&path).is_ok_and(|text| text == DAMAGE.as_bytes()) {
                std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
    }
    Ok(())
}

const DAMAGE: &str = "{\"damaged\":";

/// Overwrites every file that the kubelet keeps for itself below its root: checkpoints, and the
/// marks that a volume is set up. Volumes' contents and what belongs to plugins stay as they are.
fn damage(folder: &std::path::Path, damaged: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_foreign = ["pki", "volumes", "volume-subpaths", "containers", "plugins_registry"]
            .contains(&name.as_str())
            || path.ends_with("kubelet/plugins");
        if kind.is_dir() && !is_foreign {
            damage(&path, damaged)?;
        } else if kind.is_file() && name != "etc-hosts" {
            workspace::write(&path, DAMAGE)?;
            damaged.push(path);
        }
    }
    Ok(())
}
