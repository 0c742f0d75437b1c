//! The client against the fake runtime.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use model::observed::ContainerExit;
use model::{ContainerState, PodKey, PodUid};
use runtime::images::Credentials;
use runtime::sandbox::{self, SandboxInputs};
use runtime::wire::{self, *};
use runtime::{
    CallObserver, ContainerChange, DriverAnswer, NodeSettings, Runtime, RuntimeEvent, RuntimeSettings, labels,
};
use tonic::Status;

use crate::fake::{Fake, Served, pod_labels};

struct Lab {
    fake: Fake,
    runtime: Runtime,
    served: Served,
    dir: tempfile::TempDir,
}

fn lab() -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let served = Served::start(&fake, dir.path());
    let runtime = served.connect(RuntimeSettings::default());
    Lab { fake, runtime, served, dir }
}

fn sandbox_of(id: &str, uid: &str, attempt: u32, state: PodSandboxState) -> PodSandbox {
    PodSandbox {
        id: id.into(),
        metadata: Some(PodSandboxMetadata { attempt, uid: uid.into(), ..Default::default() }),
        state: state.into(),
        created_at: i64::from(attempt) + 1,
        labels: pod_labels(uid, ""),
        ..Default::default()
    }
}

fn container(id: &str, uid: &str, name: &str, state: wire::ContainerState) -> ContainerStatus {
    ContainerStatus {
        id: id.into(),
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        state: state.into(),
        created_at: 5,
        started_at: 6,
        labels: pod_labels(uid, name),
        annotations: BTreeMap::from([
            (labels::CONTAINER_HASH.to_owned(), "8e45cbd0".to_owned()),
            (labels::CONTAINER_RESTART_COUNT.to_owned(), "2".to_owned()),
            (labels::POD_TERMINATION_GRACE.to_owned(), "30".to_owned()),
        ]),
        image: Some(ImageSpec { image: "img:1".into(), ..Default::default() }),
        image_ref: "img@sha256:1".into(),
        image_id: "sha256:2".into(),
        ..Default::default()
    }
}

/// In chunks or whole, what is told is the same; a runtime that knows no chunks is not asked for them again.
#[tokio::test]
async fn lists_come_in_chunks_where_that_is_wanted_and_known() {
    let chunks = ["StreamPodSandboxes", "StreamContainers", "StreamContainerStats", "StreamImages"];
    let whole = ["ListPodSandbox", "ListContainers", "ListContainerStats", "ListImages"];
    for (is_wanted, is_known) in [(false, true), (true, true), (true, false)] {
        let lab = lab();
        {
            let mut world = lab.fake.0.lock().unwrap();
            world.gives_chunks = is_known;
            let sandbox = |id, uid| sandbox_of(id, uid, 0, PodSandboxState::SandboxReady);
            world.sandboxes = vec![sandbox("sb-1", "uid-1"), sandbox("sb-2", "uid-2")];
            for id in ["c-1", "c-2"] {
                let status = container(id, "uid-1", id, wire::ContainerState::ContainerRunning);
                world.statuses.insert(id.into(), status);
            }
            world.images = ["a", "b"].map(|id| Image { id: id.into(), ..Default::default() }).into();
        }
        let settings = RuntimeSettings { has_chunked_lists: is_wanted, ..RuntimeSettings::default() };
        let runtime = lab.served.connect(settings);
        for _ in 0..2 {
            let pods = runtime.relist().await.unwrap();
            assert_eq!(pods.len(), 2);
            assert_eq!(pods.iter().map(|pod| pod.containers.len()).sum::<usize>(), 2);
            assert_eq!(runtime.container_usage().await.unwrap().len(), 2);
            assert_eq!(runtime.list_images().await.unwrap().len(), 2);
        }
        let asked = lab.fake.0.lock().unwrap().asked.clone();
        let times = |call| asked.iter().filter(|asked| **asked == call).count();
        let (of_chunks, of_whole) = (chunks.map(times), whole.map(times));
        match (is_wanted, is_known) {
            (false, _) => assert_eq!((of_chunks, of_whole), ([0; 4], [2; 4])),
            // The fake makes its chunks of pods and containers from its whole lists.
            (true, true) => assert_eq!((of_chunks, of_whole), ([2; 4], [2, 2, 0, 0])),
            (true, false) => {
                // Sandboxes and containers are asked for at once: either may learn it first.
                assert!(
                    of_chunks[0] + of_chunks[1] >= 1 && of_chunks[..2].iter().all(|n| *n <= 1),
                    "{asked:?}"
                );
                assert_eq!((of_chunks[2], of_chunks[3], of_whole), (0, 1, [2; 4]), "{asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn relist_groups_by_pod_and_leaves_strangers_out() {
    let lab = lab();
    {
        let mut world = lab.fake.0.lock().unwrap();
        world.sandboxes = vec![
            sandbox_of("sb-0", "u1", 0, PodSandboxState::SandboxNotready),
            sandbox_of("sb-1", "u1", 1, PodSandboxState::SandboxReady),
            sandbox_of("sb-2", "u2", 0, PodSandboxState::SandboxReady),
            PodSandbox { id: "stranger".into(), ..Default::default() },
        ];
        let running = container("c1", "u1", "app", wire::ContainerState::ContainerRunning);
        world.statuses.insert("c1".into(), running);
    }
    let pods = lab.runtime.relist().await.unwrap();
    let shape: Vec<_> = pods
        .iter()
        .map(|pod| {
            let sandboxes: Vec<_> = pod.sandboxes.iter().map(|s| (s.id.as_str(), s.is_ready)).collect();
            (pod.uid.as_str(), pod.key.to_string(), sandboxes, pod.containers.len())
        })
        .collect();
    assert_eq!(
        shape,
        [
            ("u1", "default/web".to_owned(), vec![("sb-1", true), ("sb-0", false)], 1),
            ("u2", "default/web".to_owned(), vec![("sb-2", true)], 0),
        ]
    );
    let container = &pods[0].containers[0];
    assert_eq!((container.attempt, container.spec_hash), (2, Some(0x8e45_cbd0)));
    assert_eq!(container.pod_grace_seconds, Some(30));
    assert_eq!(container.state, ContainerState::Running { started_at: None });
}

#[tokio::test]
async fn observe_tells_all_and_skips_what_vanished() {
    let lab = lab();
    let message = lab.dir.path().join("message");
    std::fs::write(&message, "last words").unwrap();
    {
        let mut world = lab.fake.0.lock().unwrap();
        world.ips = vec!["10.0.0.2".into(), "fd00::2".into()];
        world.sandboxes = vec![
            sandbox_of("sb-1", "u1", 1, PodSandboxState::SandboxReady),
            sandbox_of("other", "u2", 0, PodSandboxState::SandboxReady),
        ];
        let mut ended = container("c1", "u1", "app", wire::ContainerState::ContainerExited);
        ended.exit_code = 3;
        ended.finished_at = 9;
        ended.reason = "Error".into();
        ended.message = "it broke".into();
        ended.annotations.insert(labels::TERMINATION_MESSAGE_PATH.into(), "/dev/termination-log".into());
        ended.mounts = vec![Mount {
            container_path: "/dev/termination-log".into(),
            host_path: message.display().to_string(),
            ..Default::default()
        }];
        world.statuses.insert("c1".into(), ended);
        let running = container("c2", "u2", "app", wire::ContainerState::ContainerRunning);
        world.statuses.insert("c2".into(), running);
        world.ghosts =
            vec![Container { id: "ghost".into(), labels: pod_labels("u1", "app"), ..Default::default() }];
    }
    let key = PodKey::new("default", "web");
    let pod = lab.runtime.observe(&PodUid::from("u1"), &key).await.unwrap();
    assert_eq!(pod.sandboxes.len(), 1);
    assert_eq!(pod.sandboxes[0].ips, ["10.0.0.2", "fd00::2"]);
    assert_eq!(pod.containers.len(), 1);
    let container = &pod.containers[0];
    assert_eq!((&*container.image, &*container.image_id), ("img:1", "img@sha256:1"));
    let stamp = |nanos| Some(jiff::Timestamp::from_nanosecond(nanos).unwrap());
    assert_eq!(
        container.state,
        ContainerState::Exited(ContainerExit {
            exit_code: 3,
            signal: 0,
            reason: "Error".into(),
            message: "it broke: last words".into(),
            started_at: stamp(6),
            finished_at: stamp(9),
        })
    );
}

#[tokio::test]
async fn a_stop_signal_is_told_where_that_is_wanted() {
    let lab = lab();
    {
        let mut world = lab.fake.0.lock().unwrap();
        world.sandboxes = vec![sandbox_of("sb-1", "u1", 0, PodSandboxState::SandboxReady)];
        for (id, signal) in [("c1", wire::Signal::Sigusr1), ("c2", wire::Signal::RuntimeDefault)] {
            let mut status = container(id, "u1", id, wire::ContainerState::ContainerRunning);
            status.stop_signal = signal.into();
            world.statuses.insert(id.into(), status);
        }
    }
    let key = PodKey::new("default", "web");
    for (reports_stop_signals, want) in [(false, None), (true, Some("SIGUSR1"))] {
        let runtime =
            lab.served.connect(RuntimeSettings { reports_stop_signals, ..RuntimeSettings::default() });
        let pod = runtime.observe(&PodUid::from("u1"), &key).await.unwrap();
        assert_eq!(pod.latest("c1").unwrap().stop_signal.as_deref(), want);
        assert_eq!(pod.latest("c2").unwrap().stop_signal, None);
    }
}

#[tokio::test]
async fn observe_of_an_unknown_pod_is_empty() {
    let lab = lab();
    let key = PodKey::new("default", "web");
    let pod = lab.runtime.observe(&PodUid::from("u1"), &key).await.unwrap();
    assert!(pod.sandboxes.is_empty() && pod.containers.is_empty());
}

#[tokio::test]
async fn every_call_is_told_of_with_how_it_went() {
    let lab = lab();
    let (tell, mut told) = tokio::sync::mpsc::channel(4);
    let observer = CallObserver::new(move |event| tell.try_send((event.call, event.is_ok)).unwrap());
    let runtime = lab.served.connect(RuntimeSettings { observer, ..RuntimeSettings::default() });
    runtime.stop_container(&"gone".into(), Duration::from_secs(1)).await.unwrap();
    runtime.relist().await.unwrap();
    runtime.status().await.unwrap_err();
    let mut all = Vec::new();
    while let Ok(event) = told.try_recv() {
        all.push(event);
    }
    all.sort_unstable();
    let want =
        [("ListContainers", true), ("ListPodSandbox", true), ("Status", false), ("StopContainer", false)];
    assert_eq!(all, want);
}

#[tokio::test]
async fn tells_kinds_of_errors_apart() {
    let mut lab = lab();
    lab.runtime.stop_container(&"gone".into(), Duration::from_secs(1)).await.unwrap();
    assert_eq!(lab.runtime.cgroup_driver().await, Ok(DriverAnswer::Unknown));
    let refused = lab.runtime.status().await.unwrap_err();
    assert!(refused.is_unimplemented() && !refused.is_timeout());

    lab.runtime = lab.served.connect(RuntimeSettings {
        request_timeout: Duration::from_millis(50),
        ..RuntimeSettings::default()
    });
    let hung = lab.runtime.start_container(&"c".into()).await.unwrap_err();
    assert!(hung.is_timeout(), "{hung:?}");
    assert_eq!(hung.to_string(), "StartContainer of \"c\" failed");

    let absent = format!("unix://{}", lab.dir.path().join("absent").display());
    let nobody = Runtime::connect(&absent, None, RuntimeSettings::default()).unwrap();
    assert!(nobody.version().await.unwrap_err().is_unavailable());
    assert!(Runtime::connect("fd://3", None, RuntimeSettings::default()).is_err());
}

#[tokio::test]
async fn connects_again_after_the_runtime_restarted() {
    let lab = lab();
    let version = lab.runtime.version().await.unwrap();
    assert_eq!((&*version.name, &*version.version), ("fake", "1.2"));
    lab.served.end().await;
    assert!(lab.runtime.version().await.is_err());
    let _again = Served::start(&lab.fake, lab.dir.path());
    assert_eq!(lab.runtime.version().await.unwrap().name, "fake");
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_call_is_the_runtimes_absence() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("cri.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    // Accepts and hangs up at once.
    let server = tokio::spawn(async move {
        loop {
            let _ = listener.accept().await;
        }
    });
    let endpoint = format!("unix://{}", socket.display());
    let runtime = Runtime::connect(&endpoint, None, RuntimeSettings::default()).unwrap();
    let error = runtime.version().await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn exec_rounds_its_timeout_up() {
    let lab = lab();
    let command = ["a".to_owned(), "b".to_owned()];
    let output = lab.runtime.exec_sync(&"c".into(), &command, Duration::from_millis(1500)).await.unwrap();
    assert_eq!((&*output.stdout, &*output.stderr, output.exit_code), (&b"2"[..], &b"a b"[..], 7));
    assert_eq!(format!("{output:?}"), "ExecOutput { exit_code: 7, .. }");
}

#[tokio::test]
async fn pull_tries_each_credential() {
    let lab = lab();
    let pod = serde_json::from_str(r#"{"metadata": {"name": "p", "namespace": "n"}}"#).unwrap();
    let sandbox = sandbox::spec(&pod, &SandboxInputs::default(), &NodeSettings::default()).unwrap();
    let credentials = ["first", "second"].map(|name| Credentials {
        username: name.into(),
        password: "hunter2".into(),
        ..Credentials::default()
    });
    lab.fake.0.lock().unwrap().pull_answers = vec![
        Err(Status::unauthenticated("denied")),
        Ok("sha256:1".into()),
        Err(Status::unauthenticated("denied")),
        Err(Status::not_found("no such tag")),
        Ok("sha256:2".into()),
    ];
    let (pulled, used) = lab.runtime.pull("r.io/a:1", &credentials, &sandbox).await.unwrap();
    assert_eq!((pulled.as_str(), used), ("sha256:1", Some(&credentials[1])));
    let error = lab.runtime.pull("r.io/a:1", &credentials, &sandbox).await.unwrap_err();
    assert_eq!(error.attempts.len(), 2);
    assert!(error.message.contains("denied") && error.message.contains("no such tag"));
    assert!(!format!("{error:?}{credentials:?}").contains("hunter2"));
    let (_, used) = lab.runtime.pull("r.io/a:1", &[], &sandbox).await.unwrap();
    assert_eq!(used, None);
    assert_eq!(lab.fake.0.lock().unwrap().pull_users, ["first", "second", "first", "second", ""]);
    assert_eq!(lab.runtime.image_status("r.io/b:1").await, Ok(None));
}

#[tokio::test]
async fn events_tell_of_pods_and_of_the_streams_own_state() {
    let lab = lab();
    let mut events = pin!(lab.runtime.events(Arc::default()));
    assert_eq!(events.next().await, Some(RuntimeEvent::Connected));
    let watcher = lab.fake.0.lock().unwrap().watchers.remove(0);
    let metadata = Some(PodSandboxMetadata { uid: "u1".into(), ..Default::default() });
    let event = ContainerEventResponse {
        container_id: "c1".into(),
        container_event_type: ContainerEventType::ContainerStoppedEvent.into(),
        pod_sandbox_status: Some(PodSandboxStatus { metadata, ..Default::default() }),
        ..Default::default()
    };
    watcher.send(Ok(event.clone())).await.unwrap();
    watcher.send(Ok(ContainerEventResponse { pod_sandbox_status: None, ..event })).await.unwrap();
    let changed = |uid: Option<&str>| RuntimeEvent::PodChanged {
        uid: uid.map(PodUid::from),
        container_id: "c1".into(),
        change: ContainerChange::Stopped,
    };
    assert_eq!(events.next().await, Some(changed(Some("u1"))));
    assert_eq!(events.next().await, Some(changed(None)));
    drop(watcher);
    assert!(matches!(events.next().await, Some(RuntimeEvent::Lost(error)) if error.is_unavailable()));
    assert_eq!(events.next().await, Some(RuntimeEvent::Connected));
}
