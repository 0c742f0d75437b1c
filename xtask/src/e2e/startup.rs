//! What decides how a kubelet starts and whether it may: drop-ins, the lock file, and what it tells systemd.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Node};
use kube::Api;
use serde_json::{Value, json};
use tokio::net::UnixDatagram;

use super::node_object::told_of;
use super::scene::{SOON, Scene, is_ready, shell};
use crate::cluster::{Changes, wait_for};
use crate::isolation::NODE;
use crate::process::Service;
use crate::workspace;

/// Waits until a pod is ready, or the kubelet has ended.
async fn works(scene: &Scene, kubelet: &Service, name: &str) -> Result<()> {
    let spec = json!({ "containers": [shell("main", "sleep 100000")] });
    // Cancel-safe: both only watch; the pod stays for the end of the scenario.
    tokio::select! {
        ready = scene.ready_pod(name, spec) => ready.map(drop),
        died = kubelet.died() => Err(died),
    }
}

/// Later ones win over earlier ones, all over the file, and flags over all; other files in the folder are nothing.
pub(super) async fn drop_ins_change_the_configuration(scene: Scene) -> Result<()> {
    let folder = scene.cluster.paths.file(&scene.namespace);
    workspace::create_dir(&folder.join("deeper"))?;
    let drop_in = |name: &str, fields: Value| {
        let mut document =
            json!({ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration" });
        if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
            document.extend(fields);
        }
        workspace::write(&folder.join(name), document.to_string())
    };
    drop_in("20-second.conf", json!({ "maxPods": 43, "clusterDomain": "second.local" }))?;
    drop_in(
        "10-first.conf",
        json!({
            "maxPods": 42, "clusterDomain": "first.local", "podsPerCore": 30, "registryPullQPS": 7,
            "evictionHard": { "memory.available": "60Mi" }, "clusterDNS": ["10.96.0.11", "10.96.0.12"],
        }),
    )?;
    drop_in("deeper/30-third.conf", json!({ "containerLogMaxFiles": 9 }))?;
    workspace::write(&folder.join("40-note.txt"), "this is for people\n")?;
    scene.cluster.kubelet.stop().await?;
    let flags = vec![format!("--config-dir={}", folder.display()), "--registry-qps=8".into()];
    let kubelet = scene.cluster.kubelet_changed("dropped-in", Changes { flags, ..Changes::default() })?;
    kubelet.start().await?;
    works(&scene, &kubelet, "works").await?;
    let said = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/configz")]).await?;
    let document: Value = serde_json::from_str(&said).context("read /configz")?;
    let found = &document["kubeletconfig"];
    for (field, wanted) in [
        ("maxPods", json!(43)),
        ("clusterDomain", json!("second.local")),
        ("podsPerCore", json!(30)),
        ("registryPullQPS", json!(8)),
        ("containerLogMaxFiles", json!(9)),
        ("clusterDNS", json!(["10.96.0.11", "10.96.0.12"])),
        // Maps grow by what is said of them.
        (
            "evictionHard",
            json!({ "memory.available": "60Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%" }),
        ),
        ("failCgroupV1", json!(false)),
    ] {
        ensure!(found[field] == wanted, "{field} is {} and not {wanted}", found[field]);
    }
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let has = |node: Option<&Node>| {
        let capacity = node.and_then(|node| node.status.as_ref()?.capacity.as_ref());
        capacity.is_some_and(|all| all.get("pods").is_some_and(|pods| pods.0 == "43"))
    };
    wait_for(&nodes, NODE, SOON, has).await.context("wait for room for 43 pods")?;
    kubelet.stop().await
}

/// One that finds no place for what it has to keep ends, and whoever looks at the node learns why.
pub(super) async fn says_why_it_cannot_be_set_up(scene: Scene) -> Result<()> {
    const NOWHERE: &str = "/proc/nowhere";
    scene.cluster.kubelet.stop().await?;
    let changes = Changes { fields: json!({ "podLogsDir": NOWHERE }), ..Changes::default() };
    let kubelet = scene.cluster.kubelet_changed("no-place", changes)?;
    kubelet.start().await?;
    let ended = tokio::time::timeout(SOON, kubelet.died()).await.context("it starts all the same")?;
    ensure!(!ended.to_string().contains("exit status: 0"), "{ended}");
    let events: Api<Event> = Api::namespaced(scene.cluster.client.clone(), "default");
    let event = told_of(&events, NODE, "KubeletSetupFailed", NOWHERE).await?;
    ensure!(event.type_.as_deref() == Some("Warning"), "it is a warning: {event:?}");
    scene.cluster.kubelet.start().await
}

/// One kubelet gives way to the next, and its pods stay.
pub(super) async fn lock_file_is_handed_over(scene: Scene) -> Result<()> {
    let lock = scene.cluster.paths.file("the.lock");
    let changes = || Changes {
        flags: vec![format!("--lock-file={}", lock.display()), "--exit-on-lock-contention".into()],
        ..Changes::default()
    };
    scene.cluster.kubelet.stop().await?;
    let first = scene.cluster.kubelet_changed("locked-first", changes())?;
    first.start().await?;
    works(&scene, &first, "first").await?;
    let id = |pod: &k8s_openapi::api::core::v1::Pod| {
        super::scene::container(pod, "main").and_then(|status| status.container_id.clone())
    };
    let before = id(&scene.until("first", "ready", SOON, is_ready).await?);
    let second = scene.cluster.kubelet_changed("locked-second", changes())?;
    second.start().await?;
    let ended = tokio::time::timeout(SOON, first.died()).await.context("the first does not give way")?;
    ensure!(ended.to_string().contains("exit status: 0"), "it gives way in good order: {ended}");
    works(&scene, &second, "second").await?;
    let pod = scene.until("first", "ready", SOON, is_ready).await?;
    ensure!(id(&pod) == before && before.is_some(), "the pod of the first runs on");
    second.stop().await
}

/// systemd hears that it has started, and then, again and again, that it is well.
pub(super) async fn systemd_is_told(scene: Scene) -> Result<()> {
    let path = std::path::PathBuf::from("/run/notify.sock");
    let _ = std::fs::remove_file(&path);
    let systemd = UnixDatagram::bind(&path).context("listen as systemd does")?;
    let hear = async || -> Result<String> {
        let mut some = [0; 256];
        let heard = tokio::time::timeout(SOON, systemd.recv(&mut some)).await;
        let count = heard.context("systemd hears nothing")?.context("hear")?;
        Ok(String::from_utf8_lossy(&some[..count]).into_owned())
    };
    scene.cluster.kubelet.stop().await?;
    let environment = vec![
        ("NOTIFY_SOCKET", path.clone().into_os_string()),
        // Twice in that time it has to say so.
        ("WATCHDOG_USEC", "6000000".into()),
    ];
    let kubelet = scene.cluster.kubelet_changed("watched", Changes { environment, ..Changes::default() })?;
    kubelet.start().await?;
    let mut heard = Vec::new();
    // In which order the first two come is nobody's concern.
    while !heard.iter().any(|word| word == "READY=1") || heard.len() < 4 {
        heard.push(hear().await?);
    }
    let well = heard.iter().filter(|word| *word == "WATCHDOG=1").count();
    ensure!(well + 1 == heard.len(), "READY once, and then only WATCHDOG: {heard:?}");
    works(&scene, &kubelet, "works").await?;
    kubelet.stop().await
}
