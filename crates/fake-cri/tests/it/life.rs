//! A pod's life as a kubelet sees it.

use std::net::IpAddr;
use std::time::Duration;

use fake_cri::{Latencies, Options, Server};
use futures::StreamExt as _;
use model::ContainerState;
use runtime::wire::*;
use runtime::{CgroupDriver, ContainerChange, DriverAnswer, RuntimeEvent};
use tonic::Code;

use crate::lab::Lab;

#[tokio::test]
async fn says_what_a_kubelet_asks_at_its_start() {
    let lab = Lab::start(&[]).await;
    let version = lab.runtime.version().await.unwrap();
    assert_eq!((version.name.as_str(), version.api_version.as_str()), ("fake-cri", "v1"));
    let health = lab.runtime.status().await.unwrap();
    assert!(health.runtime.is_met && health.network.is_met);
    assert_eq!(lab.runtime.cgroup_driver().await.unwrap(), DriverAnswer::Uses(CgroupDriver::Cgroupfs));
    lab.runtime.set_pod_cidr("10.0.0.0/24").await.unwrap();
    let usage = lab.runtime.image_fs().await.unwrap();
    assert_eq!(usage.images.len(), 1);
    assert!(lab.runtime.relist().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_pod_runs_and_goes() {
    let mut lab = Lab::start(&[]).await;
    let (sandbox, container) = lab.run_pod("web", &[]).await;
    lab.run_pod("other", &[]).await;

    let pod = lab.observe("web").await;
    assert_eq!((pod.sandboxes.len(), pod.containers.len()), (1, 1));
    assert!(pod.sandboxes[0].is_ready);
    assert!(!pod.containers[0].image_id.starts_with("sha256:"), "a reference is not an id");
    assert_eq!(
        lab.runtime.sandbox_image(&sandbox.as_str().into()).await.unwrap(),
        "registry.k8s.io/pause:3.10"
    );
    let ip: IpAddr = pod.sandboxes[0].ips[0].parse().unwrap();
    assert_ne!(lab.observe("other").await.sandboxes[0].ips[0], ip.to_string());
    assert!(matches!(pod.containers[0].state, ContainerState::Running { started_at: Some(_) }));
    assert_eq!(pod.containers[0].image, "img:1");
    assert!(lab.dir.path().join("logs/web/main/0.log").is_file());
    assert_eq!(lab.runtime.relist().await.unwrap().len(), 2);

    let id = container.as_str().into();
    let output = lab.runtime.exec_sync(&id, &["true".to_owned()], Duration::from_secs(1)).await.unwrap();
    assert_eq!(output.exit_code, 0);
    lab.runtime.reopen_log(&id).await.unwrap();
    lab.runtime.stop_container(&id, Duration::from_secs(30)).await.unwrap();
    let pod = lab.observe("web").await;
    assert!(matches!(&pod.containers[0].state, ContainerState::Exited(exit) if exit.exit_code == 143));
    assert!(lab.runtime.exec_sync(&id, &["true".to_owned()], Duration::from_secs(1)).await.is_err());

    let sandbox = sandbox.as_str().into();
    for _ in 0..2 {
        lab.runtime.stop_sandbox(&sandbox).await.unwrap();
    }
    assert!(!lab.observe("web").await.sandboxes[0].is_ready);
    lab.runtime.remove_container(&id).await.unwrap();
    for _ in 0..2 {
        lab.runtime.remove_sandbox(&sandbox).await.unwrap();
    }
    let left = lab.runtime.relist().await.unwrap();
    assert_eq!(left.iter().map(|pod| pod.uid.as_str()).collect::<Vec<_>>(), ["uid-other"]);
}

#[tokio::test]
async fn a_removed_sandbox_takes_its_containers_along() {
    let mut lab = Lab::start(&[]).await;
    let (sandbox, container) = lab.run_pod("web", &[]).await;
    lab.runtime.remove_sandbox(&sandbox.as_str().into()).await.unwrap();
    assert!(lab.runtime.relist().await.unwrap().is_empty());
    let gone = ContainerStatusRequest { container_id: container, verbose: false };
    assert_eq!(lab.client.container_status(gone).await.unwrap_err().code(), Code::NotFound);
    assert!(lab.command("ended default/web").await.starts_with("ok main:"));
}

#[tokio::test]
async fn a_container_starts_once_and_only_in_a_ready_sandbox() {
    let mut lab = Lab::start(&[]).await;
    let (sandbox, container) = lab.run_pod("web", &[]).await;
    let again = StartContainerRequest { container_id: container };
    assert_eq!(lab.client.start_container(again).await.unwrap_err().code(), Code::FailedPrecondition);
    let create =
        |sandbox: &str| CreateContainerRequest { pod_sandbox_id: sandbox.to_owned(), ..Default::default() };
    assert_eq!(lab.client.create_container(create("none")).await.unwrap_err().code(), Code::NotFound);
    lab.runtime.stop_sandbox(&sandbox.as_str().into()).await.unwrap();
    let refused = lab.client.create_container(create(&sandbox)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn lists_obey_filters() {
    let mut lab = Lab::start(&[]).await;
    let (sandbox, container) = lab.run_pod("web", &[]).await;
    lab.run_pod("other", &[]).await;
    lab.client
        .stop_container(StopContainerRequest { container_id: container.clone(), timeout: 0 })
        .await
        .unwrap();

    let running = Some(ContainerStateValue { state: runtime::wire::ContainerState::ContainerRunning.into() });
    for (filter, count) in [
        (ContainerFilter::default(), 2),
        (ContainerFilter { id: container.clone(), ..Default::default() }, 1),
        (ContainerFilter { state: running, ..Default::default() }, 1),
        (ContainerFilter { id: container, state: running, ..Default::default() }, 0),
        (ContainerFilter { pod_sandbox_id: sandbox, ..Default::default() }, 1),
        (ContainerFilter { label_selector: [("a".into(), "b".into())].into(), ..Default::default() }, 0),
    ] {
        let request = ListContainersRequest { filter: Some(filter.clone()) };
        let listed = lab.client.list_containers(request).await.unwrap().into_inner().containers;
        assert_eq!(listed.len(), count, "{filter:?}");
    }
    let stats = lab.client.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await.unwrap();
    assert_eq!(stats.into_inner().stats.len(), 2);
}

#[tokio::test]
async fn every_image_is_there() {
    let lab = Lab::start(&[]).await;
    let facts = lab.runtime.image_status("r.io/a:1").await.unwrap().unwrap();
    let listed = lab.runtime.list_images().await.unwrap();
    assert_eq!(listed, [facts]);
    let [reference] = listed[0].digests.as_slice() else { panic!("one digest: {listed:?}") };
    assert!(reference.starts_with("r.io/a@sha256:") && *reference != listed[0].id.as_str(), "{reference}");
}

#[tokio::test]
async fn events_tell_what_happens() {
    let mut lab = Lab::start(&[]).await;
    let mut events = lab.events().await;
    let (sandbox, container) = lab.run_pod("web", &[]).await;
    lab.command("end default/web 1").await;
    lab.runtime.remove_sandbox(&sandbox.as_str().into()).await.unwrap();
    let expected = [
        (&sandbox, ContainerChange::Created),
        (&sandbox, ContainerChange::Started),
        (&container, ContainerChange::Created),
        (&container, ContainerChange::Started),
        (&container, ContainerChange::Stopped),
        (&sandbox, ContainerChange::Stopped),
        (&container, ContainerChange::Deleted),
        (&sandbox, ContainerChange::Deleted),
    ];
    for (id, change) in expected {
        let event = RuntimeEvent::PodChanged {
            uid: Some("uid-web".into()),
            container_id: id.as_str().into(),
            change,
        };
        assert_eq!(events.next().await, Some(event));
    }
}

#[tokio::test]
async fn only_a_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        socket: dir.path().join("cri.sock"),
        control: dir.path().join("control.sock"),
        image_folder: dir.path().to_owned(),
        latencies: Latencies::default(),
    };
    drop(Server::bind(options.clone()).unwrap());
    drop(Server::bind(options.clone()).unwrap());
    std::fs::remove_file(&options.control).unwrap();
    std::fs::write(&options.control, "precious").unwrap();
    let error = Server::bind(options.clone()).err().unwrap();
    assert!(error.to_string().contains("control.sock"), "{error}");
    assert_eq!(std::fs::read_to_string(&options.control).unwrap(), "precious");
}
