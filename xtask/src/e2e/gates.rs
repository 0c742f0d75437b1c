//! Feature gates: what they switch goes when they are turned off, and comes when they are turned on.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::{Value, json};

use super::environment::file_spec;
use super::scene::{SOON, Scene, container, is_ready, phase, restarts, shell, with};
use crate::cluster::{Changes, wait_for};
use crate::isolation::NODE;
use crate::process::Service;

/// A kubelet with these fields in place of the cluster's own one, which a first pod of its has shown to work.
async fn changed(scene: &Scene, name: &'static str, fields: Value) -> Result<Service> {
    scene.cluster.kubelet.stop().await?;
    let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    let spec = json!({ "containers": [shell("main", "echo out; echo err >&2; sleep 100000")] });
    // Cancel-safe: both only watch; the pod stays for the end of the scenario.
    tokio::select! {
        ready = scene.ready_pod(name, spec) => drop(ready?),
        died = kubelet.died() => return Err(died),
    }
    Ok(kubelet)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn proxy(path: &str) -> String {
    format!("/api/v1/nodes/{NODE}/proxy/{path}")
}

/// Whether the kubelet has a path.
async fn has(scene: &Scene, path: &str) -> Result<bool> {
    let said = scene.kubectl_with(b"", &["get", "--raw", &proxy(path)]).await?;
    ensure!(said.code == 0 || said.err.contains("could not find"), "{path}: {}", said.err.trim());
    Ok(said.code == 0)
}

/// Whether the kubelet may be asked to checkpoint a container. Whether the runtime can is another question.
async fn checkpoints(scene: &Scene, pod: &str) -> Result<bool> {
    let path = proxy(&format!("checkpoint/{}/{pod}/main", scene.namespace));
    let said = scene.kubectl_with(b"", &["create", "--raw", &path, "--filename=-"]).await?;
    Ok(said.code == 0 || !said.err.contains("could not find the requested resource"))
}

async fn node(scene: &Scene, until: impl Fn(&Node) -> bool) -> Result<Node> {
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let found = wait_for(&nodes, NODE, SOON, |node: Option<&Node>| node.is_some_and(&until)).await?;
    found.context("the node is gone")
}

fn declares(node: &Node, feature: &str) -> bool {
    let status = node.status.as_ref();
    let declared = status.and_then(|status| status.declared_features.as_ref());
    declared.is_some_and(|all| all.iter().any(|name| name == feature))
}

fn knows_its_user_namespace(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_some_and(|info| info.running_in_user_namespace.is_some())
}

/// A pod that ends with 42, whose container alone says that this is no reason to end for good.
fn restarting() -> Value {
    let rules = json!([{ "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } }]);
    let own = json!({ "restartPolicy": "Never", "restartPolicyRules": rules });
    json!({ "restartPolicy": "Never", "containers": [with(shell("main", "exit 42"), own)] })
}

/// A pod that ends with 42, whose container wants all of it to begin anew then.
fn restarting_all() -> Value {
    let rules =
        json!([{ "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [42] } }]);
    let own = json!({ "restartPolicy": "Never", "restartPolicyRules": rules });
    let script = "test -e /d/again && sleep 100000; touch /d/again; exit 42";
    let mounts = json!({ "volumeMounts": [{ "name": "d", "mountPath": "/d" }] });
    json!({
        "restartPolicy": "Never", "volumes": [{ "name": "d", "emptyDir": {} }],
        "containers": [with(with(shell("main", script), own), mounts)],
    })
}

/// Refused, and for this reason.
async fn refused(scene: &Scene, name: &str, spec: Value, wanted: &str) -> Result<()> {
    scene.pod(name, spec).await?;
    let refused = scene.until(name, "refused", SOON, |pod| phase(pod) == "Failed").await?;
    let reason = refused.status.and_then(|status| status.reason);
    ensure!(reason.as_deref() == Some(wanted), "the reason is {reason:?}");
    Ok(())
}

/// Whether a status has resources of the pod as a whole.
fn says_resources(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.resources.is_some())
}

/// Whether lines of a log that have no object of their own name the one that they were written for.
fn names_pods(log: &str) -> bool {
    log.lines().any(|line| line.contains("\"Started container\"") && line.contains(" pod=\""))
}

/// A pod with resources of its own beside its container's.
fn with_resources() -> Value {
    json!({ "resources": { "limits": { "memory": "64Mi" } }, "containers": [shell("main", "sleep 100000")] })
}

/// Upstream's kubelet leaves in the Node what it no longer says of itself.
pub(super) async fn what_is_on_goes_when_turned_off(scene: Scene) -> Result<()> {
    scene.ready_pod("before", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    for path in ["flagz", "statusz"] {
        ensure!(has(&scene, path).await?, "{path} is there as long as nobody turns it off");
    }
    ensure!(checkpoints(&scene, "before").await?, "checkpoints are served");
    node(&scene, |node| declares(node, "ExtendWebSocketsToKubelet") && knows_its_user_namespace(node))
        .await
        .context("wait for what the node declares")?;
    scene.pod("restarts", restarting()).await?;
    scene.until("restarts", "restarted by its rule", SOON, |pod| restarts(pod, "main") > 0).await?;
    scene.pod("restarts-all", restarting_all()).await?;
    scene.until("restarts-all", "restarted by its rule", SOON, |pod| restarts(pod, "main") > 0).await?;
    scene.ready_pod("resources", with_resources()).await?;
    scene.ready_pod("from-file", file_spec("GREETING='hi'\n", json!({}))).await?;
    ensure!(scene.first_line("from-file", "main").await? == "said hi", "it has a variable from a file");
    let before = scene.until("before", "ready", SOON, is_ready).await?;
    ensure!(says_resources(&before), "its status says what is in effect");
    ensure!(names_pods(&read(scene.cluster.kubelet.log())?), "lines say which pod they are about");

    let gates = json!({
        "ComponentFlagz": false, "ComponentStatusz": false, "ContainerCheckpoint": false,
        "ContainerRestartRules": false, "RestartAllContainersOnContainerExits": false,
        "ExtendWebSocketsToKubelet": false, "KubeletInUserNamespace": false, "PodLevelResources": false,
        "EnvFiles": false, "ContextualLogging": false,
        // These need it.
        "InPlacePodLevelResourcesVerticalScaling": false, "PodLevelResourcesFixDefaulting": false,
        "PodLevelResourcesFixKubeletQOSClass": false,
    });
    let kubelet = changed(&scene, "gates-off", json!({ "featureGates": gates })).await?;
    for path in ["flagz", "statusz"] {
        ensure!(!has(&scene, path).await?, "{path} is gone");
    }
    ensure!(!checkpoints(&scene, "gates-off").await?, "checkpoints are not served");
    let after = scene.until("gates-off", "ready", SOON, is_ready).await?;
    ensure!(!says_resources(&after), "its status says what nobody asked for: {:?}", after.status);
    ensure!(!names_pods(&read(kubelet.log())?), "lines say only what they say by themselves");
    node(&scene, |node| !declares(node, "ExtendWebSocketsToKubelet") && !knows_its_user_namespace(node))
        .await
        .context("wait for the node to declare it no longer")?;
    scene.pod("ends", restarting()).await?;
    let ended = scene.until("ends", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    ensure!(restarts(&ended, "main") == 0, "its rule does not count");
    refused(&scene, "refused", with_resources(), "PodLevelResourcesNotSupported").await?;
    refused(&scene, "refused-all", restarting_all(), "PodFeatureUnsupported").await?;
    scene.ready_pod("without-file", file_spec("GREETING='hi'\n", json!({}))).await?;
    let said = scene.first_line("without-file", "main").await?;
    ensure!(said.trim_end() == "said", "a variable from a file is {said:?}");
    kubelet.stop().await
}

/// Without the runtime's events the node goes by its lists, and works.
pub(super) async fn without_the_event_stream(scene: Scene) -> Result<()> {
    const UP: &str = "CRI event stream connected";

    ensure!(read(scene.cluster.kubelet.log())?.contains(UP), "it is used as long as nobody turns it off");
    let off = json!({ "featureGates": { "EventedPLEG": false } });
    let kubelet = changed(&scene, "events-off", off).await?;
    ensure!(!read(kubelet.log())?.contains(UP), "nobody asked for events");
    scene.pod("ends", json!({ "restartPolicy": "Never", "containers": [shell("main", "exit 3")] })).await?;
    scene.until("ends", "failed", SOON, |pod| phase(pod) == "Failed").await?;
    kubelet.stop().await
}

pub(super) async fn what_is_off_comes_when_turned_on(scene: Scene) -> Result<()> {
    // The cluster's own kubelet may just have been started.
    let is_served = scene.cluster.kubelet.answers(SOON, || has(&scene, "allocatedPods")).await?;
    ensure!(!is_served, "allocated pods are not served");
    what_is_off_is_not_there(&scene).await.context("as long as nobody turns them on")?;
    let sysctl = "net.ipv4.ip_unprivileged_port_start";
    let fields = json!({
        "featureGates": {
            "DefaultPodSysctls": true, "KubeletAllocatedPodsEndpoint": true, "PodLogsQuerySplitStreams": true,
            "PodAndContainerStatsFromCRI": true, "TaintTolerationComparisonOperators": true,
            "ReduceDefaultCrashLoopBackOffDecay": true, "UserNamespacesHostNetworkSupport": true,
            "ChangeContainerStatusOnKubeletRestart": true,
        },
        "defaultPodSysctls": { sysctl: "7" },
    });
    let kubelet = changed(&scene, "gates-on", fields).await?;
    ensure!(has(&scene, "allocatedPods").await?, "allocated pods are served");
    let metrics = scene.kubectl_out(&["get", "--raw", &proxy("metrics")]).await?;
    ensure!(metrics.contains("provider=\"cri\""), "figures of pods come from the runtime");
    let log = format!("containerLogs/{}/gates-on/main?stream=Stderr", scene.namespace);
    let printed = scene.kubectl_out(&["get", "--raw", &proxy(&log)]).await?;
    ensure!(printed == "err\n", "one stream of its log is {printed:?}");
    let reads = format!("cat /proc/sys/{}", sysctl.replace('.', "/"));
    let spec = json!({ "restartPolicy": "Never", "containers": [shell("main", &reads)] });
    let (_, printed) = scene.finished_pod("sysctl", spec).await?;
    ensure!(printed == "7\n", "{sysctl} is {printed:?}");
    node(&scene, |node| declares(node, "UserNamespacesHostNetworkSupport"))
        .await
        .context("wait for what the node declares")?;
    scene.pod("fails", json!({ "containers": [shell("main", "exit 3")] })).await?;
    scene.until("fails", "in a wait of a few seconds", SOON, waits_for_seconds).await?;
    compares_tolerations(&scene, true).await?;
    let judged = restarted_with_readiness(&scene, &kubelet, "was-ready").await?;
    scene.until(judged, "no longer ready", SOON, |pod| !is_ready(pod)).await?;
    kubelet.stop().await
}

/// The other side of the same.
async fn what_is_off_is_not_there(scene: &Scene) -> Result<()> {
    scene.ready_pod("before", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    let metrics = scene.kubectl_out(&["get", "--raw", &proxy("metrics")]).await?;
    ensure!(!metrics.contains("provider=\"cri\""), "figures of pods come from elsewhere");
    let log = format!("containerLogs/{}/before/main?stream=Stderr", scene.namespace);
    let refused = scene.kubectl_with(b"", &["get", "--raw", &proxy(&log)]).await?;
    ensure!(refused.code != 0, "one stream of its log is {:?}", refused.out);
    let own = node(scene, |_| true).await?;
    ensure!(!declares(&own, "UserNamespacesHostNetworkSupport"), "it declares what it does not do");
    scene.pod("fails-before", json!({ "containers": [shell("main", "exit 3")] })).await?;
    let waits = |pod: &Pod| wait_message(pod).contains("back-off ");
    let waiting = scene.until("fails-before", "in its first wait", SOON, waits).await?;
    ensure!(wait_message(&waiting).contains("back-off 10s "), "it waits: {}", wait_message(&waiting));
    compares_tolerations(scene, false).await?;
    let judged = restarted_with_readiness(scene, &scene.cluster.kubelet, "stays-ready").await?;
    // When the kubelet has started one it has looked at the others.
    scene.ready_pod("after", json!({ "containers": [shell("main", "sleep 100000")] })).await?;
    let pod = scene.until(judged, "there", SOON, |_| true).await?;
    ensure!(is_ready(&pod), "what was ready is not any more");
    Ok(())
}

/// A pod that was ready when the kubelet was restarted, long before its probe is due again, which will fail then.
async fn restarted_with_readiness<'a>(scene: &Scene, kubelet: &Service, name: &'a str) -> Result<&'a str> {
    let probe = json!({ "exec": { "command": ["test", "!", "-e", "/tmp/not"] }, "periodSeconds": 1000 });
    let container = with(shell("main", "sleep 100000"), json!({ "readinessProbe": probe }));
    scene.ready_pod(name, json!({ "containers": [container] })).await?;
    scene.kubectl_out(&["exec", name, "--", "touch", "/tmp/not"]).await?;
    kubelet.restart().await?;
    Ok(name)
}

/// What is said of the wait of its container.
fn wait_message(pod: &Pod) -> &str {
    let state = container(pod, "main").and_then(|status| status.state.as_ref()?.waiting.as_ref());
    state.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default()
}

/// Whether it waits as long as it would only after a first wait of one second.
fn waits_for_seconds(pod: &Pod) -> bool {
    ["back-off 2s ", "back-off 4s ", "back-off 8s "].iter().any(|part| wait_message(pod).contains(part))
}

/// Pods are held against a taint by number, or none that speaks of one is let in.
async fn compares_tolerations(scene: &Scene, compares: bool) -> Result<()> {
    let taint = "example.com/level=5:NoExecute";
    scene.kubectl_out(&["taint", "node", NODE, taint]).await?;
    node(scene, |node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        taints.is_some_and(|all| all.iter().any(|taint| taint.key == "example.com/level"))
    })
    .await?;
    let pod = |operator: &str| {
        let tolerations = json!([{ "key": "example.com/level", "operator": operator, "value": "4" }]);
        json!({ "tolerations": tolerations, "containers": [shell("main", "sleep 100000")] })
    };
    let judged = async {
        if !compares {
            scene.pod("not-compared", pod("Gt")).await?;
            return scene.event("not-compared", "TaintToleration", SOON).await.map(drop);
        }
        scene.ready_pod("above", pod("Gt")).await?;
        scene.pod("below", pod("Lt")).await?;
        // Only the event stays: a controller deletes the pod, which does not tolerate the taint.
        scene.event("below", "TaintToleration", SOON).await.map(drop)
    };
    let judged = judged.await;
    scene.kubectl_out(&["taint", "node", NODE, &format!("{taint}-")]).await?;
    judged
}

/// A setting that a gate holds back keeps the kubelet from starting.
pub(super) async fn what_they_hold_back_is_refused(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    for (name, gate, value, fields) in [
        ("no-period", "CustomCPUCFSQuotaPeriod", false, json!({ "cpuCFSQuotaPeriod": "50ms" })),
        (
            "no-maximum",
            "KubeletCrashLoopBackOffMax",
            false,
            json!({ "crashLoopBackOff": { "maxContainerRestartPeriod": "10s" } }),
        ),
        ("no-reservation", "MemoryQoS", false, json!({ "memoryReservationPolicy": "TieredReservation" })),
        ("no-json", "LoggingBetaOptions", false, json!({ "logging": { "format": "json" } })),
        (
            "no-buffer",
            "LoggingAlphaOptions",
            false,
            json!({ "logging": { "options": { "text": { "infoBufferSize": "1Ki" } } } }),
        ),
        ("no-bootstrap", "RotateKubeletServerCertificate", false, json!({ "serverTLSBootstrap": true })),
        (
            "no-sysctls",
            "DefaultPodSysctls",
            false,
            json!({ "defaultPodSysctls": { "kernel.shm_rmid_forced": "1" } }),
        ),
    ] {
        let fields = with(fields, json!({ "featureGates": { gate: value } }));
        let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, ..Changes::default() })?;
        kubelet.start().await?;
        let ended = tokio::time::timeout(SOON, kubelet.died()).await;
        let ended = ended.with_context(|| format!("it starts without {gate}"))?;
        ensure!(!ended.to_string().contains("exit status: 0"), "{gate}: {ended}");
        // The one who reads it has to learn which.
        let log = read(kubelet.log())?;
        ensure!(log.contains(gate), "the log does not name {gate}");
    }
    what_they_allow_is_done(&scene).await.context("as long as nobody turns them off")
}

/// The same settings with the gates on. Those of certificates and sysctls have tests of their own.
async fn what_they_allow_is_done(scene: &Scene) -> Result<()> {
    let fields = json!({
        "cpuCFSQuotaPeriod": "50ms", "crashLoopBackOff": { "maxContainerRestartPeriod": "3s" },
        "memoryReservationPolicy": "TieredReservation",
    });
    let kubelet = changed(scene, "all-allowed", fields).await?;
    // One line each for cgroup v1 and v2; whichever is mounted.
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_period_us cpu,cpuacct/cpu.cfs_period_us 2>/dev/null || \
                  cut -d' ' -f2 cpu.max";
    let resources = json!({ "resources": { "limits": { "cpu": "500m" } } });
    let spec = json!({ "restartPolicy": "Never", "containers": [with(shell("main", script), resources)] });
    let (_, printed) = scene.finished_pod("period", spec).await?;
    ensure!(printed.lines().any(|line| line == "50000"), "the period is {printed:?}");
    scene.pod("fails", json!({ "containers": [shell("main", "exit 3")] })).await?;
    let waits = |pod: &Pod| wait_message(pod).contains("back-off 3s ");
    scene.until("fails", "in a wait of the longest kind", SOON, waits).await?;
    kubelet.stop().await
}

/// Pods for which there is room by `maxPods` and not by `podsPerCore`.
pub(super) async fn room_is_what_the_node_says(scene: Scene) -> Result<()> {
    // More pods than cores, on any machine.
    const MANY: usize = 5000;
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "maxPods": MANY, "podsPerCore": 1 });
    let kubelet = scene.cluster.kubelet_changed("few-pods", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    let said = |node: &Node| {
        let all = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        all.and_then(|all| all.get("pods")?.0.parse::<usize>().ok())
    };
    // Not what the kubelet before it said, which has no such limit.
    let usual = 110;
    let room = said(&node(&scene, |node| said(node).is_some_and(|room| room != usual && room < MANY)).await?);
    let room = room.context("it says how many pods it takes")?;
    let mut is_refused = false;
    for number in 0..=room {
        let name = format!("pod-{number}");
        scene.pod(&name, json!({ "containers": [shell("main", "sleep 100000")] })).await?;
        let pod = scene.until(&name, "judged", SOON, |pod| is_ready(pod) || phase(pod) == "Failed").await?;
        let reason = pod.status.and_then(|status| status.reason);
        is_refused |= reason.as_deref() == Some("OutOfpods");
    }
    ensure!(is_refused, "there are {} pods where {room} have room", room + 1);
    kubelet.stop().await
}

/// A host that cannot enforce a profile takes no pod that asks for one. Which kind of host this is, the kernel says.
pub(super) async fn apparmor_needs_a_host_with_it(scene: Scene) -> Result<()> {
    let enabled = read(Path::new("/sys/module/apparmor/parameters/enabled"));
    if enabled.is_ok_and(|text| text.starts_with('Y')) {
        return Ok(());
    }
    let field = json!({ "securityContext": { "appArmorProfile": { "type": "RuntimeDefault" } } });
    scene.pod("field", json!({ "containers": [with(shell("main", "true"), field)] })).await?;
    let mut annotated = super::scene::pod("annotated", json!({ "containers": [shell("main", "true")] }));
    let key = "container.apparmor.security.beta.kubernetes.io/main";
    annotated["metadata"]["annotations"][key] = json!("localhost/any");
    scene.create::<Pod>(annotated).await?;
    for name in ["field", "annotated"] {
        let pod = scene.until(name, "refused", SOON, |pod| phase(pod) == "Failed").await?;
        let status = pod.status.unwrap_or_default();
        let (reason, message) = (status.reason.unwrap_or_default(), status.message.unwrap_or_default());
        let why = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        ensure!(reason == "AppArmor", "{name}: the reason is {reason:?}");
        ensure!(message == format!("Pod was rejected: {why}"), "{name}: the message is {message:?}");
        let told = scene.event(name, "AppArmor", SOON).await?;
        ensure!(told == why, "{name}: the event says {told:?}");
    }
    Ok(())
}
