//! What a test can make of it: containers that end, calls that hang or take their time.

use std::time::Duration;

use futures::StreamExt as _;
use model::ContainerState;
use runtime::wire::StopContainerRequest;
use runtime::{ContainerChange, Runtime, RuntimeEvent, RuntimeSettings};

use crate::lab::Lab;

/// The calls of a pod in an answer to `calls`, with how long each took.
fn parse_calls(answer: &str) -> Vec<(String, Duration)> {
    let items = answer.strip_prefix("ok").unwrap().split_whitespace();
    items
        .map(|item| {
            let parts: Vec<&str> = item.split(':').collect();
            let nanos = parts[2].parse::<u64>().unwrap() - parts[1].parse::<u64>().unwrap();
            (parts[0].to_owned(), Duration::from_nanos(nanos))
        })
        .collect()
}

#[tokio::test]
async fn a_container_ends_on_command() {
    let mut lab = Lab::start(&[]).await;
    assert_eq!(lab.command("end default/web 3").await, "error no container of default/web runs");
    lab.run_pod("web", &[]).await;
    let answer = lab.command("end default/web 3").await;
    let at: i128 = answer.strip_prefix("ok ").unwrap().parse().unwrap();
    let pod = lab.observe("web").await;
    let ContainerState::Exited(exit) = &pod.containers[0].state else { panic!("{pod:?}") };
    assert_eq!((exit.exit_code, exit.reason.as_str()), (3, "Error"));
    assert_eq!(exit.finished_at, jiff::Timestamp::from_nanosecond(at).ok());
    assert_eq!(lab.command("ended default/web").await, format!("ok main:{at}"));
    assert!(lab.command("end default/web 3").await.starts_with("error"));
    lab.run_pod("web", &[]).await;
    assert!(lab.command("end default/web 3 other").await.starts_with("error"));
    assert!(lab.command("end default/web 3 main").await.starts_with("ok"));
    assert!(lab.command("make trouble").await.starts_with("error command \"make trouble\""));
}

#[tokio::test]
async fn a_container_ends_when_its_annotation_says_so() {
    let mut lab = Lab::start(&[]).await;
    let mut events = lab.events().await;
    let annotations = [(fake_cri::annotation::EXIT_AFTER, "1ms"), (fake_cri::annotation::EXIT_CODE, "7")];
    let (_, container) = lab.run_pod("job", &annotations).await;
    let stopped = |event: &RuntimeEvent| {
        matches!(event, RuntimeEvent::PodChanged { container_id, change: ContainerChange::Stopped, .. }
            if container_id.as_str() == container)
    };
    while !stopped(&events.next().await.unwrap()) {}
    let pod = lab.observe("job").await;
    assert!(matches!(&pod.containers[0].state, ContainerState::Exited(exit) if exit.exit_code == 7));
}

#[tokio::test]
async fn one_pods_calls_hang_and_the_others_do_not() {
    let mut lab = Lab::start(&[]).await;
    let annotations = [(fake_cri::annotation::HANG, "StopContainer")];
    let (_, container) = lab.run_pod("web", &annotations).await;
    let (_, other) = lab.run_pod("other", &[]).await;
    let stop = |id: &str| StopContainerRequest { container_id: id.to_owned(), timeout: 0 };

    let mut client = lab.client.clone();
    let request = stop(&container);
    let hung = tokio::spawn(async move { client.stop_container(request).await });
    assert_eq!(lab.command("hung default/web").await, "ok");
    lab.client.stop_container(stop(&other)).await.unwrap();
    assert!(matches!(lab.observe("web").await.containers[0].state, ContainerState::Running { .. }));
    assert_eq!(lab.command("release default/web").await, "ok");
    hung.await.unwrap().unwrap();

    // A list that selects the pod is about the pod.
    assert_eq!(lab.command("hang default/web ListContainers").await, "ok");
    let socket = format!("unix://{}", lab.dir.path().join("cri.sock").display());
    let settings =
        RuntimeSettings { request_timeout: Duration::from_millis(50), ..RuntimeSettings::default() };
    let hasty = Runtime::connect(&socket, None, settings).unwrap();
    let error = hasty.observe(&"uid-web".into(), &model::PodKey::new("default", "web")).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(lab.runtime.relist().await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_pods_calls_fail_until_it_is_released() {
    let mut lab = Lab::start(&[]).await;
    let (sandbox, _) = lab.run_pod("web", &[]).await;
    lab.run_pod("other", &[]).await;
    assert_eq!(lab.command("fail default/web PodSandboxStatus").await, "ok");
    let error = lab.runtime.sandbox(&sandbox.as_str().into()).await.unwrap_err();
    assert!(error.message().contains("PodSandboxStatus of default/web is to fail"), "{error:?}");
    lab.observe("other").await;
    assert_eq!(lab.command("release default/web").await, "ok");
    assert!(lab.runtime.sandbox(&sandbox.as_str().into()).await.unwrap().is_some());
}

#[tokio::test]
async fn requests_are_told_as_they_were_made() {
    let mut lab = Lab::start(&[]).await;
    lab.runtime.set_pod_cidr("10.0.0.0/24").await.unwrap();
    assert!(lab.command("asked UpdateRuntimeConfig").await.contains("\"10.0.0.0/24\""));
    lab.run_pod("web", &[("note", "one\nline")]).await;
    let sandbox = lab.command("asked RunPodSandbox default/web").await;
    assert!(sandbox.starts_with("ok RunPodSandboxRequest"), "{sandbox}");
    assert!(sandbox.contains("uid-web") && sandbox.contains(r"one\nline"), "{sandbox}");
    assert!(lab.command("asked CreateContainer default/web").await.contains("img:1"));
    assert_eq!(lab.command("counted RunPodSandbox 1").await, "ok");
}

#[tokio::test]
async fn calls_take_as_long_as_they_are_told_and_are_recorded() {
    let mut lab = Lab::start(&["CreateContainer=30ms"]).await;
    lab.run_pod("web", &[]).await;
    let calls = parse_calls(&lab.command("calls default/web").await);
    let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["RunPodSandbox", "CreateContainer", "StartContainer"]);
    assert!(calls[1].1 >= Duration::from_millis(30), "{calls:?}");
    assert_eq!(lab.command("calls default/none").await, "ok");
}

#[tokio::test]
async fn annotations_that_make_no_sense_are_refused() {
    let mut lab = Lab::start(&[]).await;
    let sandbox = lab.run_sandbox("web", &[(fake_cri::annotation::EXIT_AFTER, "soon")]).await;
    let request = runtime::wire::CreateContainerRequest { pod_sandbox_id: sandbox, ..Default::default() };
    let error = lab.client.create_container(request).await.unwrap_err();
    assert!(error.message().contains("\"soon\""), "{error:?}");
}
