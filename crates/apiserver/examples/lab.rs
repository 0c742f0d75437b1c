//! Runs this crate against a real API server: `cargo run --example lab -- NODE-KUBECONFIG NODE-NAME`.
//!
//! Expects an empty cluster, the namespace `default` with service account `default`, and a pod
//! `web` bound to the node that names the ConfigMap and the Secret `web` (see the printed steps).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use apiserver::*;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod, PodStatus};
use serde_json::json;

fn main() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run());
}

fn rss() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned()
}

async fn run() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut args = std::env::args().skip(1);
    let (kubeconfig, name) = (args.next().unwrap(), args.next().unwrap());
    let begin = Instant::now();
    let connection = connect(
        kubeconfig.as_ref(),
        ClientSettings { user_agent: "kubelet/lab".into(), ..ClientSettings::default() },
    )
    .await
    .unwrap();
    println!("{} {}", connection.server(), rss());
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
        "status": {"capacity": {"cpu": "2", "pods": "110"}, "addresses": [{"type": "Hostname", "address": name}]},
    }))
    .unwrap();
    let registered = register(&connection.api, &node, true).await.unwrap();
    println!("registered {:?}", matches!(registered, Registered::Created(_)));
    let again = register(&connection.api, &node, true).await.unwrap();
    println!("again created={:?}", matches!(again, Registered::Created(_)));
    let uid = registered.node().metadata.uid.clone().unwrap();
    let lease = LeaseRenewerTask::new(
        connection.heartbeat.clone(),
        LeaseSettings { node_name: name.clone(), duration_seconds: 40 },
    );
    tokio::spawn(lease.run());
    let old = registered.node().status.clone().unwrap_or_default();
    let new: NodeStatus = serde_json::from_value(json!({
        "capacity": {"cpu": "2", "pods": "110"}, "allocatable": {"cpu": "2", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ok"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
    }))
    .unwrap();
    let (labels, annotations) = (Default::default(), Default::default());
    let metadata = NodeMetadata { labels: &labels, annotations: &annotations };
    let patched =
        patch_node_status(&connection.heartbeat, &name, &old, &new, metadata).await.unwrap().unwrap();
    println!("node addresses {:?}", patched.status.unwrap().addresses.unwrap().len());

    let (services, service_task) = ServiceIndex::new(connection.api.clone());
    tokio::spawn(service_task.run());
    services.synced().await;
    println!("services in default {:?}", services.for_namespace("default").keys());
    let (events, event_task) = EventRecorder::new(
        connection.with_limit(50.0, 100).unwrap(),
        EventSettings { component: "kubelet".into(), host: name.clone() },
    );
    tokio::spawn(event_task.run());
    let objects = ObjectCache::new(connection.clone());
    let mut changes = objects.changes();
    let mut node_watch = Box::pin(watch_node(connection.api.clone(), &name));
    println!("node watch {}", matches!(node_watch.next().await, Some(NodeEvent::Current(_))));
    let mut pods = Box::pin(watch_pods(connection.api.clone(), &name));
    let pod: Pod = loop {
        match pods.next().await.unwrap() {
            PodEvent::Listed(all) => {
                println!("listed {}", all.len());
                if let Some(pod) = all.first() {
                    break (**pod).clone();
                }
            }
            PodEvent::Applied(pod) => break (*pod).clone(),
            PodEvent::Deleted(_) => {}
        }
    };
    let (key, pod_uid) = (model::pod::key(&pod), model::pod::uid(&pod));
    println!("pod {key} {pod_uid} after {:?}", begin.elapsed());
    objects.register(&pod);
    let begin = Instant::now();
    println!("secret {:?}", objects.secret("default", "web").await.map(|s| s.data.as_ref().map(|d| d.len())));
    println!(
        "configmap {:?} {:?}",
        objects.config_map("default", "web").await.map(|c| c.data.clone()),
        begin.elapsed()
    );
    println!(
        "other {}",
        objects.secret("default", "other").await.err().map(|e| e.to_string()).unwrap_or_default()
    );
    let scope = TokenScope {
        namespace: "default".into(),
        service_account: "default".into(),
        audiences: vec![],
        expiration_seconds: 3607,
        pod: Some(BoundPod { name: key.name.to_string(), uid: pod_uid.clone() }),
    };
    println!("token {:?}", request_token(&connection.api, &scope).await);
    for at in 0..3 {
        events.record(NewEvent {
            subject: Subject::pod(&pod, "spec.containers{web}"),
            event_type: EventType::Normal,
            reason: "Started".into(),
            message: "Started container web".into(),
            at: jiff::Timestamp::now() + jiff::SignedDuration::from_millis(at),
        });
    }
    let status = |value| serde_json::from_value::<PodStatus>(value).unwrap();
    let before = pod.status.clone().unwrap_or_default();
    let running = status(
        json!({"phase": "Running", "qosClass": "BestEffort", "podIP": "10.1.0.5", "podIPs": [{"ip": "10.1.0.5"}], "hostIP": "10.0.0.1",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]}),
    );
    match patch_pod_status(&connection.api, &key, &pod_uid, &before, &running).await {
        Ok(PatchOutcome::Written(pod)) => println!("written {:?}", pod.status.unwrap().pod_ips),
        other => println!("unexpected {other:?}"),
    }
    let outcome = patch_pod_status(
        &connection.api,
        &key,
        &"0f0f0f0f-0000-0000-0000-000000000000".into(),
        &before,
        &running,
    )
    .await;
    println!(
        "wrong uid {}",
        matches!(outcome, Ok(PatchOutcome::Replaced)).to_string() + &format!(" {:?}", outcome.err())
    );
    let gone =
        patch_pod_status(&connection.api, &model::PodKey::new("default", "no"), &pod_uid, &before, &running)
            .await;
    println!("gone {:?}", matches!(gone, Ok(PatchOutcome::Gone)));
    mirror(&connection, &name, &uid).await;
    println!("pod event {:?}", tokio::time::timeout(Duration::from_secs(2), pods.next()).await.is_ok());
    println!("wrong uid delete {:?}", delete_pod(&connection.api, &key, &"x".into()).await.unwrap());
    println!("waiting for a change of configmap web");
    let wanted = ObjectName { kind: ObjectKind::ConfigMap, namespace: "default".into(), name: "web".into() };
    for _ in 0..2 {
        while changes.next().await != Some(ObjectChange::One(wanted.clone())) {}
        println!("configmap web {:?}", objects.config_map("default", "web").await.map(|c| c.data.clone()));
    }
    println!("delete {:?}", delete_pod(&connection.api, &key, &pod_uid).await);
    println!("events {:?} {}", events.counters(), rss());
}

async fn mirror(connection: &Connection, name: &str, uid: &str) {
    let mirror: Pod = serde_json::from_value(json!({"metadata": {"name": "static", "namespace": "default",
        "annotations": {"kubernetes.io/config.hash": "abc", "kubernetes.io/config.source": "file"}},
        "spec": {"nodeName": name, "containers": [{"name": "c", "image": "i:1"}]}}))
    .unwrap();
    for _ in 0..2 {
        match create_mirror(&connection.api, &mirror, name, uid).await {
            Ok(MirrorOutcome::Created(_)) => println!("mirror created"),
            Ok(MirrorOutcome::Present(_)) => println!("mirror present"),
            other => println!("mirror unexpected {other:?}"),
        }
    }
    println!(
        "mirror deleted {:?}",
        delete_mirror(&connection.api, &model::pod::key(&mirror), None).await.unwrap()
    );
}
