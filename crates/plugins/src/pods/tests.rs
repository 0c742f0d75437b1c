//! The service on a real socket, before pictures of a node that are made here.

use k8s_openapi::api::core::v1::Pod as ApiPod;
use model::PodKey;
use serde_json::json;
use telemetry::metrics::{Endpoint, Exposition};
use tempfile::TempDir;

use super::*;
use crate::wire::pods_client::PodsClient;

pub(super) fn pod(name: &str, phase: &str) -> PodView {
    let object =
        json!({ "metadata": { "name": name, "namespace": "ns", "uid": name }, "spec": { "containers": [] } });
    PodView {
        uid: PodUid::from(name),
        key: PodKey::new("ns", name),
        pod: Some(Arc::new(serde_json::from_value::<ApiPod>(object).unwrap())),
        allocated: None,
        is_wanted: true,
        is_static: false,
        status: Arc::new(PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() }),
        observed: None,
        phase: node::Phase::Running,
        is_finished: false,
        are_volumes_made: true,
        published: std::collections::BTreeMap::new(),
        waits: Arc::default(),
        timeline: Arc::default(),
    }
}

pub(super) fn view(pods: &[PodView]) -> View {
    let pods = pods.iter().map(|pod| (pod.uid.clone(), Arc::new(pod.clone()))).collect();
    View { pods, are_sources_synced: true, ..View::default() }
}

/// A node, and what it takes to ask it.
struct Lab {
    node: watch::Sender<Arc<View>>,
    metrics: Arc<Metrics>,
    client: PodsClient<tonic::transport::Channel>,
    _folder: TempDir,
}

async fn lab(first: View) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pods-api/pods-api.sock");
    let (node, view) = watch::channel(Arc::new(first));
    let metrics = Arc::new(Metrics::default());
    let ports = PodsPorts { view, metrics: metrics.clone() };
    PodsService::new(ports).serve(&path, std::future::pending()).unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    Lab { node, metrics, client: PodsClient::new(endpoint.connect().await.unwrap()), _folder: folder }
}

impl Lab {
    fn counted(&self) -> Vec<String> {
        let mut page = Exposition::new();
        self.metrics.write(Endpoint::Main, &mut page).unwrap();
        let page = page.into_text();
        let line =
            |line: &&str| line.starts_with("kubelet_pod_requests") || line.starts_with("kubelet_pod_watch");
        page.lines().filter(line).map(|line| line.replace("server_api_version=\"v1alpha1\",", "")).collect()
    }
}

fn bytes_of(pod: &PodView) -> Bytes {
    let object = pod.pod.as_ref().unwrap();
    encode::pod(&object.metadata, object.spec.as_ref(), &pod.status).unwrap().into()
}

#[tokio::test]
async fn lists_and_single_pods() {
    let (a, b) = (pod("a", "Running"), pod("b", "Pending"));
    let mut lab = lab(view(&[b.clone(), a.clone()])).await;
    let all = lab.client.list_pods(ListPodsRequest {}).await.unwrap().into_inner();
    assert_eq!(all.pods, [bytes_of(&a), bytes_of(&b)], "in the order of their uids");
    let one = lab.client.get_pod(GetPodRequest { pod_uid: "b".to_owned() }).await.unwrap().into_inner();
    assert_eq!(one.pod, bytes_of(&b));
    let none = lab.client.get_pod(GetPodRequest { pod_uid: "c".to_owned() }).await.unwrap_err();
    assert_eq!((none.code(), none.message()), (Code::NotFound, "pod with UID c not found"));
    let want = [
        "kubelet_pod_requests_get_total{status_code=\"NotFound\"} 1",
        "kubelet_pod_requests_get_total{status_code=\"OK\"} 1",
        "kubelet_pod_requests_list_total{status_code=\"OK\"} 1",
        "kubelet_pod_requests_total{status_code=\"NotFound\"} 1",
        "kubelet_pod_requests_total{status_code=\"OK\"} 2",
        "kubelet_pod_watch_events_dropped_total 0",
    ];
    assert_eq!(lab.counted(), want);
}

/// What a pod asks for is shown, and not what it was given of it.
#[tokio::test]
async fn a_pod_is_shown_as_its_source_has_it() {
    let mut resized = pod("a", "Running");
    let mut asked = Pod::clone(resized.pod.as_ref().unwrap());
    resized.allocated = resized.pod.clone().map(model::AllocatedPod::granted);
    asked.metadata.generation = Some(2);
    resized.pod = Some(Arc::new(asked.clone()));
    let mut lab = lab(view(&[resized.clone()])).await;
    let one = lab.client.get_pod(GetPodRequest { pod_uid: "a".to_owned() }).await.unwrap().into_inner();
    let want = encode::pod(&asked.metadata, asked.spec.as_ref(), &resized.status).unwrap();
    assert_eq!(one.pod, want);
}

#[tokio::test]
async fn nothing_is_told_before_all_sources_are_known() {
    let mut lab = lab(View { are_sources_synced: false, ..view(&[pod("a", "Running")]) }).await;
    for refused in [
        lab.client.list_pods(ListPodsRequest {}).await.unwrap_err(),
        lab.client.get_pod(GetPodRequest { pod_uid: "a".to_owned() }).await.unwrap_err(),
        lab.client.watch_pods(WatchPodsRequest {}).await.unwrap_err(),
    ] {
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::FailedPrecondition, "Kubelet is initializing")
        );
    }
    assert!(
        lab.counted()
            .contains(&"kubelet_pod_requests_total{status_code=\"FailedPrecondition\"} 3".to_owned())
    );
}

#[tokio::test]
async fn a_watch_begins_with_all_and_goes_on_with_what_happens() {
    let (a, b) = (pod("a", "Pending"), pod("b", "Running"));
    let mut lab = lab(view(&[a.clone(), b.clone()])).await;
    let mut events = lab.client.watch_pods(WatchPodsRequest {}).await.unwrap().into_inner();
    let mut next = async || {
        let event = events.message().await.unwrap().unwrap();
        (event.r#type(), event.pod)
    };
    assert_eq!(next().await, (EventType::Added, bytes_of(&a)));
    assert_eq!(next().await, (EventType::Added, bytes_of(&b)));
    assert_eq!(next().await, (EventType::InitialSyncComplete, Bytes::new()));
    let running = pod("a", "Running");
    lab.node.send_replace(Arc::new(view(&[running.clone(), b])));
    assert_eq!(next().await, (EventType::Modified, bytes_of(&running)));
    lab.node.send_replace(Arc::new(view(&[running])));
    let (kind, gone) = next().await;
    assert_eq!((kind, gone), (EventType::Deleted, name_of(&pod("b", "Running")).unwrap()));
    // The node ends.
    let Lab { node, metrics, .. } = lab;
    drop(node);
    let end = events.message().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::ResourceExhausted, "watch client channel closed"));
    assert_eq!(metrics.pod_watch_events_dropped.get(), 0);
    assert_eq!(metrics.pod_requests_watch.with([VERSION, "ResourceExhausted"]).get(), 1);
}

/// A client that takes nothing is sent away once its queue is full, and gets what was in it.
#[tokio::test]
async fn a_client_that_does_not_keep_up_is_sent_away() {
    let lab = lab(view(&[])).await;
    let service = PodsService::new(PodsPorts { view: lab.node.subscribe(), metrics: lab.metrics.clone() });
    let mut events = service.watch().unwrap();
    let pods: Vec<PodView> = (0..=QUEUE).map(|n| pod(&format!("{n:03}"), "Running")).collect();
    lab.node.send_replace(Arc::new(view(&pods)));
    let kind = |event: Option<Result<WatchPodsEvent, Status>>| event.unwrap().map(|event| event.r#type());
    // The task that fills the queue has ended when it counts.
    while lab.metrics.pod_watch_events_dropped.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(kind(events.next().await).unwrap(), EventType::InitialSyncComplete);
    for _ in 0..QUEUE {
        assert_eq!(kind(events.next().await).unwrap(), EventType::Added);
    }
    assert_eq!(kind(events.next().await).unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(lab.metrics.pod_watch_events_dropped.get(), 1);
}

#[tokio::test]
async fn a_client_that_goes_is_counted_and_forgotten() {
    let lab = lab(view(&[])).await;
    let service = PodsService::new(PodsPorts { view: lab.node.subscribe(), metrics: lab.metrics.clone() });
    let before = lab.node.receiver_count();
    let events = service.watch().unwrap();
    drop(events);
    assert_eq!(lab.metrics.pod_requests_watch.with([VERSION, "Canceled"]).get(), 1);
    while lab.node.receiver_count() > before {
        tokio::task::yield_now().await;
    }
}

/// With the time stopped, no more than a burst is taken.
#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused() {
    let (_node, published) = watch::channel(Arc::new(view(&[])));
    let metrics = Arc::new(Metrics::default());
    let service = PodsService::new(PodsPorts { view: published, metrics: metrics.clone() });
    for _ in 0..BURST {
        service.list_pods(Request::new(ListPodsRequest {})).await.unwrap();
    }
    for refused in [
        service.list_pods(Request::new(ListPodsRequest {})).await.map(drop),
        service.get_pod(Request::new(GetPodRequest::default())).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "rejected by rate limit"));
    }
    service.watch_pods(Request::new(WatchPodsRequest {})).await.unwrap();
    tokio::time::advance(std::time::Duration::from_millis(10)).await;
    service.list_pods(Request::new(ListPodsRequest {})).await.unwrap();
    let counted = metrics.pod_requests_list.with([VERSION, "OK"]).get();
    assert_eq!(counted, u64::from(BURST) + 1, "those that are refused are not counted");
}

#[test]
fn a_status_that_was_not_made_here_claims_nothing() {
    let mut seen = pod("a", "Running");
    seen.status = Arc::default();
    let object = |status| {
        let object = json!({ "metadata": {}, "spec": { "containers": [] }, "status": status });
        serde_json::from_value::<ApiPod>(object).unwrap()
    };
    let made = status(&seen, &object(json!({})));
    assert_eq!(made.phase.as_deref(), Some("Pending"));
    let conditions =
        json!([{ "type": "Initialized", "status": "True" }, { "type": "Ready", "status": "True" }]);
    let made = status(&seen, &object(json!({ "phase": "Running", "conditions": conditions })));
    let conditions = made.conditions.unwrap();
    assert_eq!((made.phase.as_deref(), conditions[0].status.as_str()), (Some("Running"), "True"));
    assert_eq!(
        (conditions[1].status.as_str(), conditions[1].reason.as_deref()),
        ("False", Some("ContainersNotReady"))
    );
}
