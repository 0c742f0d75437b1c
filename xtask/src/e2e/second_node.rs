//! A second node, on a runtime without containers, which can do what containerd cannot (lists in chunks, options of bind
//! mounts), fails on command, and tells what it was asked for.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::node_object::told_of;
use super::scene::{EVENTUALLY, SOON, Scene, container, phase, pod, shell, waiting, with};
use crate::cluster::{FakeRuntime, SECOND, SECOND_ROOT, is_ready, wait_for};
use crate::process::Service;
use crate::workspace;

/// The node, ready.
async fn started(scene: &Scene, name: &'static str, fields: Value) -> Result<(Service, FakeRuntime)> {
    let (kubelet, runtime) = scene.cluster.second_node(name, &fields)?;
    runtime.start().await?;
    ready(scene, &kubelet).await?;
    Ok((kubelet, runtime))
}

async fn ready(scene: &Scene, kubelet: &Service) -> Result<()> {
    kubelet.start().await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    // Cancel-safe: both only watch.
    tokio::select! {
        ready = wait_for(&nodes, SECOND, SOON, is_ready) => ready.map(drop).context("wait for the second node"),
        died = kubelet.died() => Err(died),
    }
}

/// Ends the node and whatever ran there.
async fn ended(scene: &Scene, kubelet: &Service, runtime: &FakeRuntime) -> Result<()> {
    kubelet.stop().await?;
    runtime.stop().await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    nodes.delete(SECOND, &DeleteParams::default()).await.map(drop).context("delete the second node")
}

/// A pull that the node does not even try counts as one that failed, and the want of a secret may be told of it.
pub(super) async fn a_refused_pull_tells_of_missing_secrets(scene: Scene) -> Result<()> {
    let fields = json!({ "registryPullQPS": 1, "registryBurst": 1, "serializeImagePulls": false });
    let (kubelet, runtime) = started(&scene, "few-pulls", fields).await?;
    // The runtime pulls all that it is asked for: nothing fails but what is refused.
    let container = |n: usize| json!({ "name": format!("c{n}"), "image": format!("images.invalid/n{n}:1"), "imagePullPolicy": "Always" });
    let all: Vec<Value> = (0..2).map(container).collect();
    let secrets = json!([{ "name": "missing" }]);
    scene.pod("hasty", json!({ "nodeName": SECOND, "imagePullSecrets": secrets, "containers": all })).await?;
    scene.event_naming("hasty", "Failed", "pull QPS exceeded").await?;
    let told = scene.event("hasty", "FailedToRetrieveImagePullSecret", SOON).await?;
    ensure!(told.contains("(missing)"), "the event says {told:?}");
    scene.until("hasty", "running", SOON, |pod| phase(pod) == "Running").await?;
    ended(&scene, &kubelet, &runtime).await
}

/// Whether a kubelet asks for whole lists or for chunks, the gate says.
pub(super) async fn lists_in_chunks_with_their_gate(scene: Scene) -> Result<()> {
    const WHOLE: [&str; 3] = ["ListPodSandbox", "ListContainers", "ListImages"];
    const CHUNKS: [&str; 3] = ["StreamPodSandboxes", "StreamContainers", "StreamImages"];
    for (name, is_on) in [("lists-whole", false), ("lists-in-chunks", true)] {
        let (kubelet, runtime) =
            started(&scene, name, json!({ "featureGates": { "CRIListStreaming": is_on } })).await?;
        let spec = json!({ "nodeName": SECOND, "containers": [shell("main", "sleep 100000")] });
        scene.pod(name, spec).await?;
        scene.until(name, "running", SOON, |pod| phase(pod) == "Running").await?;
        let (wanted, others) = if is_on { (CHUNKS, WHOLE) } else { (WHOLE, CHUNKS) };
        for call in wanted {
            // The images are listed in their own time.
            let asked = || async {
                ensure!(runtime.count(call).await? > 0, "there was no {call}");
                Ok(())
            };
            kubelet.answers(SOON, asked).await?;
        }
        for call in others {
            ensure!(runtime.count(call).await? == 0, "with CRIListStreaming {is_on} there was {call}");
        }
        ended(&scene, &kubelet, &runtime).await?;
    }
    Ok(())
}

/// A pod whose mounts have options is run with the gate, and refused without.
pub(super) async fn options_of_bind_mounts_with_their_gate(scene: Scene) -> Result<()> {
    let folder = scene.cluster.paths.file("manifests-second");
    workspace::create_dir(&folder)?;
    // From a file: the API server knows the field only with a gate of its own.
    let mount = json!({ "name": "data", "mountPath": "/data", "bindMountOptions": ["noexec", "nosuid"] });
    let container = with(shell("main", "sleep 100000"), json!({ "volumeMounts": [mount] }));
    let spec = json!({ "containers": [container], "volumes": [{ "name": "data", "emptyDir": {} }] });
    let mut manifest = pod("options", spec);
    manifest["metadata"]["namespace"] = json!(scene.namespace);
    if let Some(spec) = manifest["spec"].as_object_mut() {
        spec.remove("nodeName");
    }
    let file = folder.join("options.yaml");
    workspace::write(&file, manifest.to_string())?;
    let name = format!("options-{SECOND}");
    for (kubelet, is_on) in [("no-mount-options", false), ("mount-options", true)] {
        let gates = json!({ "VolumeBindMountOptions": is_on });
        let fields = json!({ "featureGates": gates, "staticPodPath": folder });
        let (kubelet, runtime) = started(&scene, kubelet, fields).await?;
        if is_on {
            // The mirror of the refused one may still be there.
            scene.until(&name, "running", SOON, |pod: &Pod| phase(pod) == "Running").await?;
            let options = runtime.mount_options(&format!("{}/{name}", scene.namespace), "/data").await?;
            ensure!(options == ["noexec", "nosuid"], "the options are {options:?}");
        } else {
            let pod = scene.until(&name, "refused", SOON, |pod: &Pod| phase(pod) == "Failed").await?;
            let message = pod.status.and_then(|status| status.message).unwrap_or_default();
            ensure!(message.contains("not available: VolumeBindMountOptions"), "it is refused: {message:?}");
            let calls = runtime.calls_of(&format!("{}/{name}", scene.namespace)).await?;
            ensure!(!calls.iter().any(|call| call.name == "RunPodSandbox"), "it is run");
        }
        kubelet.stop().await?;
        scene
            .api::<Pod>()
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .context("delete its mirror")?;
        ended(&scene, &kubelet, &runtime).await?;
    }
    Ok(())
}

/// A pod on the second node.
fn on_second(fields: Value) -> Value {
    with(json!({ "nodeName": SECOND, "containers": [shell("main", "sleep 100000")] }), fields)
}

/// Whether the first mount of a pod's container is recursively read-only, as its status tells.
fn recursive_read_only(pod: &Pod) -> Option<&str> {
    let mounts = container(pod, "main").and_then(|status| status.volume_mounts.as_ref());
    mounts.and_then(|mounts| mounts.first()?.recursive_read_only.as_deref())
}

/// What a pod asks of the runtime itself: another handler, at the cost of its overhead, recursively read-only mounts, which
/// not every handler can make, settings of the kernel that the node allows, and an address of the node's range.
pub(super) async fn what_pods_ask_of_the_runtime_reaches_it(scene: Scene) -> Result<()> {
    let classes: Api<RuntimeClass> = Api::all(scene.cluster.client.clone());
    let class = json!({
        "metadata": { "name": "recursive" }, "handler": "recursive",
        "overhead": { "podFixed": { "memory": "64Mi" } },
    });
    let class: RuntimeClass = serde_json::from_value(class)?;
    classes.create(&PostParams::default(), &class).await.context("create the RuntimeClass")?;
    let fields = json!({ "allowedUnsafeSysctls": ["kernel.msg*"] });
    let (kubelet, runtime) = started(&scene, "asked", fields).await?;
    handlers_are_asked_for(&scene, &runtime).await?;
    sysctls_are_asked_for(&scene, &runtime).await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let range = json!({ "spec": { "podCIDR": "10.89.0.0/20", "podCIDRs": ["10.89.0.0/20"] } });
    nodes
        .patch(SECOND, &PatchParams::default(), &Patch::Strategic(&range))
        .await
        .context("give it a range")?;
    let asked = runtime.asked("UpdateRuntimeConfig", "").await?;
    ensure!(asked.contains("pod_cidr: \"10.89.0.0/20\""), "the runtime is told {asked}");
    ended(&scene, &kubelet, &runtime).await?;
    classes.delete("recursive", &DeleteParams::default()).await.map(drop).context("delete the RuntimeClass")
}

async fn handlers_are_asked_for(scene: &Scene, runtime: &FakeRuntime) -> Result<()> {
    let mounting = |mode: &str, fields: Value| {
        let mount =
            json!({ "name": "data", "mountPath": "/data", "readOnly": true, "recursiveReadOnly": mode });
        let amounts = json!({ "cpu": "10m", "memory": "64Mi" });
        let resources = json!({ "requests": amounts, "limits": amounts });
        let own = json!({ "volumeMounts": [mount], "resources": resources });
        let container = with(shell("main", "sleep 100000"), own);
        let spec = json!({ "containers": [container], "volumes": [{ "name": "data", "emptyDir": {} }] });
        with(on_second(spec), fields)
    };
    let classed = json!({ "runtimeClassName": "recursive" });
    for (name, mode, fields, told) in [
        ("classed", "Enabled", classed.clone(), "Enabled"),
        ("classed-if-possible", "IfPossible", classed, "Enabled"),
        ("if-possible", "IfPossible", json!({}), "Disabled"),
    ] {
        scene.pod(name, mounting(mode, fields)).await?;
        let pod = scene.until(name, "running", SOON, |pod| phase(pod) == "Running").await?;
        ensure!(recursive_read_only(&pod) == Some(told), "{name}: {:?}", recursive_read_only(&pod));
        let asked = runtime.asked("CreateContainer", &format!("{}/{name}", scene.namespace)).await?;
        let is_asked = asked.contains("recursive_read_only: true");
        ensure!(is_asked == (told == "Enabled"), "{name}: the runtime is asked for {asked}");
    }
    scene.pod("enabled", mounting("Enabled", json!({}))).await?;
    let is_refused = |pod: &Pod| waiting(pod, "main") == "CreateContainerConfigError";
    scene.until("enabled", "refused by a handler that cannot", SOON, is_refused).await?;

    let asked = runtime.asked("RunPodSandbox", &format!("{}/classed", scene.namespace)).await?;
    ensure!(asked.contains("runtime_handler: \"recursive\""), "the handler is not asked for: {asked}");
    let (_, overhead) = asked.split_once("overhead: Some(").context("no overhead")?;
    let overhead = overhead.split_once("resources: ").map_or(overhead, |(overhead, _)| overhead);
    ensure!(overhead.contains(&format!("memory_limit_in_bytes: {}", 64 << 20)), "the overhead is {overhead}");
    let asked = runtime.asked("RunPodSandbox", &format!("{}/if-possible", scene.namespace)).await?;
    ensure!(asked.contains("runtime_handler: \"\""), "it is asked for a handler: {asked}");
    for (name, mebibytes) in [("classed", 128_u64), ("if-possible", 64)] {
        let pod = scene.until(name, "there", SOON, |_| true).await?;
        let limit = memory_limit(&pod.metadata.uid.context("its uid")?)?;
        ensure!(limit == mebibytes << 20, "{name}: the limit of its memory is {limit}");
    }
    Ok(())
}

/// What a pod of the second node may have of memory, in bytes.
fn memory_limit(uid: &str) -> Result<u64> {
    let files = [
        format!("/sys/fs/cgroup/memory/{SECOND}/kubepods/pod{uid}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/{SECOND}/kubepods/pod{uid}/memory.max"),
    ];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    text.with_context(|| format!("read the limit of {uid}"))?.trim().parse().context("the limit is no number")
}

async fn sysctls_are_asked_for(scene: &Scene, runtime: &FakeRuntime) -> Result<()> {
    let setting = |name: &str| {
        on_second(json!({ "securityContext": { "sysctls": [{ "name": name, "value": "12345" }] } }))
    };
    for (pod, name) in [("safe", "net.ipv4.tcp_keepalive_time"), ("allowed", "kernel.msgmax")] {
        scene.pod(pod, setting(name)).await?;
        scene.until(pod, "running", SOON, |pod| phase(pod) == "Running").await?;
        let asked = runtime.asked("RunPodSandbox", &format!("{}/{pod}", scene.namespace)).await?;
        ensure!(asked.contains(&format!("sysctls: {{\"{name}\": \"12345\"}}")), "{name}: {asked}");
    }
    scene.pod("unsafe", setting("net.core.somaxconn")).await?;
    let refused = scene.until("unsafe", "refused", SOON, |pod| phase(pod) == "Failed").await?;
    let reason = refused.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some("SysctlForbidden"), "the reason is {reason:?}");
    Ok(())
}

/// Events of what goes wrong before a container runs, and of a resolver configuration that pods get a part of.
pub(super) async fn what_goes_wrong_before_a_start_is_told(scene: Scene) -> Result<()> {
    let resolver = scene.cluster.paths.file("many.conf");
    let domains: Vec<String> = (0..40).map(|number| format!("{number}.example.com")).collect();
    let servers: String = (1..=4).map(|number| format!("nameserver 192.0.2.{number}\n")).collect();
    workspace::write(&resolver, format!("search {}\n{servers}", domains.join(" ")))?;
    let fields = json!({ "clusterDNS": null, "resolvConf": resolver });
    let (kubelet, runtime) = scene.cluster.second_node("wrongs", &fields)?;
    runtime.start().await?;
    let uid = scene.pod("blocked", on_second(json!({}))).await?.metadata.uid.context("its uid")?;
    let pods = Path::new(SECOND_ROOT).join("pods");
    workspace::create_dir(&pods)?;
    let in_the_way = pods.join(uid);
    workspace::write(&in_the_way, "not a folder\n")?;
    let asks = format!("{}/asks", scene.namespace);
    runtime.fail(&asks, "PodSandboxStatus").await?;
    ready(&scene, &kubelet).await?;

    scene.event_naming("blocked", "Failed", "error making pod data directories").await?;
    std::fs::remove_file(&in_the_way).context("clear the way")?;
    scene.pod("asks", on_second(json!({}))).await?;
    scene.event_naming("asks", "FailedPodSandBoxStatus", "Unable to get pod sandbox status").await?;
    runtime.release_of(&asks).await?;
    for name in ["blocked", "asks"] {
        scene.until(name, "running", SOON, |pod| phase(pod) == "Running").await?;
    }
    for (reason, part) in [
        ("MissingClusterDNS", "cannot create Pod using \"ClusterFirst\" policy"),
        ("DNSConfigForming", "applied search line is: 0.example.com 1.example.com"),
        ("DNSConfigForming", "applied nameserver line is: 192.0.2.1 192.0.2.2 192.0.2.3"),
    ] {
        scene.event_naming("asks", reason, part).await?;
    }
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    let part = "cannot create Pod using \"ClusterFirst\" policy";
    told_of(&events, SECOND, "MissingClusterDNS", part).await?;
    let part = "contains search line consisting of more than 29 domains!";
    told_of(&events, SECOND, "CheckLimitsForResolvConf", part).await?;
    ended(&scene, &kubelet, &runtime).await
}

/// A runtime that is away, and comes back without its pods: the log says once that its events are lost, and of each pod why it
/// starts anew.
pub(super) async fn pods_that_the_runtime_has_lost_start_anew(scene: Scene) -> Result<()> {
    let (kubelet, runtime) = started(&scene, "forgotten", json!({})).await?;
    let spec = json!({ "nodeName": SECOND, "containers": [shell("main", "sleep 100000")] });
    scene.pod("lost", spec).await?;
    // A runtime that begins anew counts its ids from the start.
    let since = |pod: &Pod| container(pod, "main")?.state.as_ref()?.running.as_ref()?.started_at.clone();
    let before = since(&scene.until("lost", "running", SOON, |pod| since(pod).is_some()).await?);
    let lines = |part: &str| -> Result<usize> {
        let log = std::fs::read_to_string(kubelet.log()).context("read the kubelet's log")?;
        Ok(log.lines().filter(|line| line.contains(part)).count())
    };
    let name = format!("pod=\"{}/lost\"", scene.namespace);
    let anew = "\"No sandbox for pod can be found. Need to start a new one\"";
    let of_pod = || -> Result<usize> {
        let log = std::fs::read_to_string(kubelet.log()).context("read the kubelet's log")?;
        Ok(log.lines().filter(|line| line.contains(anew) && line.contains(&name)).count())
    };
    ensure!(lines("CRI event stream lost")? == 0, "nothing was lost yet");
    ensure!(of_pod()? == 0, "its first sandbox takes the place of no other");
    runtime.stop().await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let is_down = |node: Option<&Node>| node.is_some_and(|node| !is_ready(Some(node)));
    wait_for(&nodes, SECOND, EVENTUALLY, is_down).await.context("wait for the node to be down")?;
    runtime.start().await?;
    let is_another = |pod: &Pod| since(pod).is_some() && since(pod) != before;
    scene.until("lost", "running anew", EVENTUALLY, is_another).await?;
    // Lists bring the pod back; the events, which are tried ever more rarely, may come back later.
    let is_connected = || async {
        let connected = lines("CRI event stream connected")?;
        ensure!(connected == 2, "its events were told to be there {connected} times");
        Ok(())
    };
    kubelet.answers(EVENTUALLY, is_connected).await?;
    let lost = lines("CRI event stream lost")?;
    ensure!(lost == 1, "its events were told to be lost {lost} times");
    let times = of_pod()?;
    ensure!(times == 1, "why it starts anew is told {times} times");
    ended(&scene, &kubelet, &runtime).await
}
