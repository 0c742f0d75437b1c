//! `kubectl debug`: a container put into a running pod, and a pod on the node.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde_json::json;

use super::scene::{SOON, Scene, expect_line, restarts, shell};
use crate::images::BUSYBOX;
use crate::isolation::NODE;

fn image() -> String {
    format!("--image={BUSYBOX}")
}

/// The status of a container that was put into the pod.
fn ephemeral<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let all = pod.status.as_ref()?.ephemeral_container_statuses.as_ref()?;
    all.iter().find(|status| status.name == name)
}

fn exit_code(status: Option<&ContainerStatus>) -> Option<i32> {
    Some(status?.state.as_ref()?.terminated.as_ref()?.exit_code)
}

/// It shares the processes of the container it is meant for, is talked to, ends, and is not started again.
pub(super) async fn container_in_a_pod(scene: Scene) -> Result<()> {
    let spec =
        json!({ "containers": [shell("main", "exec sleep 98765"), shell("other", "exec sleep 43210")] });
    scene.ready_pod("box", spec).await?;
    let script = "read line; echo got $line; tr '\\0' ' ' < /proc/1/cmdline; echo; cd /proc/1/root && echo from debugger > tmp/note";
    let image = image();
    let args = [
        "debug",
        "box",
        "-i",
        "--quiet",
        "--profile=general",
        "--target=main",
        "--container=debugger",
        &image,
    ];
    let args: Vec<&str> = args.into_iter().chain(["--", "sh", "-c", script]).collect();
    let said = scene.kubectl_with(b"hello\n", &args).await?;
    ensure!(said.code == 0, "kubectl debug ends well: {said:?}");
    let pod =
        scene.until("box", "debugged", SOON, |pod| exit_code(ephemeral(pod, "debugger")) == Some(0)).await?;
    // What it printed before kubectl was attached is in its log.
    let log = scene.log("box", Some("debugger")).await?;
    expect_line(&log, "got hello")?;
    expect_line(&log, "sleep 98765 ")?;
    let note = scene.kubectl_out(&["exec", "box", "-c", "main", "--", "cat", "/tmp/note"]).await?;
    ensure!(note == "from debugger\n", "it sees the files of the container it is for: {note:?}");
    ensure!(restarts(&pod, "main") == 0 && super::scene::is_ready(&pod), "the pod is as it was");

    // A second one beside it, for no container: with processes of its own, and what it ends with is told.
    let args =
        ["debug", "box", "--quiet", "--profile=general", "--container=second", &image, "--", "sh", "-c"];
    let args: Vec<&str> = args.into_iter().chain(["tr '\\0' ' ' < /proc/1/cmdline; exit 3"]).collect();
    let said = scene.kubectl_with(b"", &args).await?;
    ensure!(said.code == 0, "kubectl debug ends well: {said:?}");
    let pod = scene
        .until("box", "debugged again", SOON, |pod| exit_code(ephemeral(pod, "second")) == Some(3))
        .await?;
    let first = scene.log("box", Some("second")).await?;
    ensure!(first.starts_with("sh -c "), "it is its own first process: {first:?}");
    ensure!(
        ephemeral(&pod, "debugger").is_some_and(|status| status.restart_count == 0),
        "the first is not run again"
    );
    ensure!(super::scene::is_ready(&pod), "how they end is nothing to the pod");
    let described = scene.kubectl_out(&["describe", "pod", "box"]).await?;
    ensure!(described.contains("Ephemeral Containers:") && described.contains("debugger:"), "{described}");
    Ok(())
}

/// It has the node's files, processes and network, and with the right profile all rights.
pub(super) async fn pod_on_the_node(scene: Scene) -> Result<()> {
    let node = format!("node/{NODE}");
    let script = "read line; echo got $line; cat /proc/1/comm; \
        ls /host/var/lib/kubelet | grep pods; ip addr show node0 | grep -c 10.78; grep CapEff /proc/self/status; echo the end";
    let image = image();
    let mut rights = Vec::new();
    for profile in ["general", "sysadmin"] {
        let profile = format!("--profile={profile}");
        let args = ["debug", &node, "-i", "--quiet", &profile, &image, "--", "sh", "-c", script];
        let said = scene.kubectl_with(b"hello\n", &args).await?;
        ensure!(said.code == 0, "kubectl debug ends well: {said:?}");
        let created: Vec<Pod> = scene.api::<Pod>().list(&Default::default()).await?.items;
        let name = created.into_iter().find_map(|pod| pod.metadata.name).context("no pod was made")?;
        ensure!(name.starts_with(&format!("node-debugger-{NODE}-")), "the pod is called {name}");
        scene.until(&name, "finished", SOON, |pod| super::scene::phase(pod) == "Succeeded").await?;
        let log = scene.log(&name, None).await?;
        let first = std::fs::read_to_string("/proc/1/comm").context("look at the node's first process")?;
        for line in ["got hello", first.trim(), "pods", "1", "the end"] {
            expect_line(&log, line)?;
        }
        rights.extend(log.lines().find(|line| line.starts_with("CapEff")).map(str::to_owned));
        scene.delete(&name).await?;
        scene.gone(&name).await?;
    }
    ensure!(
        rights.len() == 2 && rights[0] != rights[1],
        "only one of the profiles gives all rights: {rights:?}"
    );
    Ok(())
}
