//! Image volumes: pulled before the containers that mount them start, and what is said while they are not there.

use std::collections::BTreeMap;

use model::{ImageRef, Pod};
use serde_json::{Value, json};

use super::scenario::{Scenario, pod};
use crate::{Action, FailureKind, RuntimeAction};

const VOLUME: &str =
    "Pulled: Container image \"data\" already present on machine and can be accessed by the pod";
const OWN: &str = "Pulled: Container image \"i\" already present on machine and can be accessed by the pod";

/// A container that mounts the volume `v`, where it is told to.
fn container(name: &str, mounts: bool) -> Value {
    let mount = if mounts { json!([{ "name": "v", "mountPath": "/v" }]) } else { json!([]) };
    json!({ "name": name, "image": "i", "imagePullPolicy": "IfNotPresent", "volumeMounts": mount })
}

fn web(policy: &str, containers: &[Value]) -> Pod {
    let volume = json!({ "name": "v", "image": { "reference": "data", "pullPolicy": policy } });
    pod(json!({ "containers": containers, "volumes": [volume] }))
}

/// What is there before containers start.
fn prepare(scenario: &mut Scenario) {
    for text in ["write", "volumes", "cgroup", "sandbox"] {
        scenario.done(text);
    }
}

/// The images that the container which is being started mounts.
fn mounted(scenario: &Scenario) -> BTreeMap<String, ImageRef> {
    let mut actions = scenario.actions();
    let found = actions.find_map(|action| match action {
        Action::Runtime(RuntimeAction::StartContainer(start)) => Some(start.image_volumes.clone()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn the_image_of_a_volume_comes_first_and_serves_all_that_mount_it() {
    let mut scenario = Scenario::new();
    let started = scenario.apply(&web("IfNotPresent", &[container("a", true), container("b", true)]));
    assert!(started.contains("inspect volume v") && !started.contains("inspect a"), "{started}");
    prepare(&mut scenario);
    scenario.play(&[
        ("ok inspect volume v", &format!("{VOLUME} | inspect a | inspect b")),
        ("ok inspect a", &format!("{OWN} | start a#0")),
    ]);
    assert_eq!(mounted(&scenario), BTreeMap::from([("v".to_owned(), ImageRef::from("image"))]));
    scenario.play(&[("ok inspect b", OWN)]);
    let next = scenario.done("start a#0");
    assert!(next.contains("start b#0"), "{next}");
    assert_eq!(mounted(&scenario).len(), 1);
    scenario.done("start b#0");
    // The next start looks for it again: it may have been removed under the running pod.
    let restarted = scenario.exits("a#0", 1);
    assert!(restarted.contains("inspect volume v"), "{restarted}");
    assert!(!restarted.contains("inspect a"), "{restarted}");
}

#[test]
fn a_policy_of_always_pulls_at_each_start() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("Always", &[container("a", true)]));
    prepare(&mut scenario);
    let pulled =
        "Pulled: Successfully pulled image \"data\" in 1s (2s including waiting). Image size: 7 bytes.";
    scenario.play(&[
        ("ok inspect volume v", "Pulling: Pulling image \"data\" | pull volume v"),
        ("ok pull volume v", &format!("{pulled} | inspect a")),
        ("ok inspect a", &format!("{OWN} | start a#0")),
    ]);
    scenario.done("start a#0");
    scenario.exits("a#0", 1);
    scenario.play(&[("ok inspect volume v", "Pulling: Pulling image \"data\" | pull volume v")]);
}

#[test]
fn who_mounts_it_shows_why_it_is_not_there_and_the_others_run() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent", &[container("a", true), container("b", false)]));
    prepare(&mut scenario);
    scenario.play(&[
        ("ok inspect b", OWN),
        ("absent inspect volume v", "Pulling: Pulling image \"data\" | pull volume v"),
        (
            "fail pull volume v: denied",
            "Failed: Failed to pull image \"data\": denied | Failed: Error: ErrImagePull | start b#0 | \
             write Pending ready=False a=ErrImagePull b=ContainerCreating",
        ),
        ("ok start b#0", "Created: Container created | Started: Container started"),
    ]);
    let waits: Vec<String> = scenario
        .node
        .view()
        .pods
        .values()
        .next()
        .unwrap()
        .waits
        .iter()
        .map(|w| format!("{} {:?} {:?}", w.on, w.reason, w.error))
        .collect();
    let wanted = "the image of volume v Some(\"ErrImagePull\") Some(\"denied\")";
    assert_eq!(waits, [wanted, "its status to be written None None"]);
    scenario.play(&[
        ("ok write", "write Pending ready=False a=ErrImagePull b=running!"),
        ("ok write", ""),
        (
            "wait 1",
            "BackOff: Back-off pulling image \"data\" | Failed: Error: ImagePullBackOff | \
             write Pending ready=False a=ImagePullBackOff b=running!",
        ),
        ("ok write", ""),
        ("wait 8.9", ""),
        ("wait 0.1", "inspect volume v"),
        (
            "ok inspect volume v",
            &format!("{VOLUME} | inspect a | write Pending ready=False a=ContainerCreating b=running!"),
        ),
        ("ok inspect a", &format!("{OWN} | start a#0")),
    ]);
}

#[test]
fn one_that_nobody_mounts_holds_up_nobody() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("Never", &[container("a", false)]));
    prepare(&mut scenario);
    scenario.play(&[
        ("ok inspect a", &format!("{OWN} | start a#0")),
        (
            "absent inspect volume v",
            "ErrImageNeverPull: Container image \"data\" is not present with pull policy of Never",
        ),
        (
            "ok start a#0",
            "Created: Container created | Started: Container started | write Running ready=True a=running!",
        ),
        ("ok write", ""),
        ("wait 300", ""),
    ]);
}

#[test]
fn init_containers_wait_for_it_and_the_next_container_looks_again() {
    let mut scenario = Scenario::new();
    let mut made = web("IfNotPresent", &[container("a", true)]);
    let init: k8s_openapi::api::core::v1::Container = serde_json::from_value(container("i", true)).unwrap();
    made.spec.as_mut().unwrap().init_containers = Some(vec![init]);
    scenario.apply(&made);
    prepare(&mut scenario);
    scenario.play(&[
        ("ok inspect volume v", &format!("{VOLUME} | inspect i")),
        ("ok inspect i", &format!("{OWN} | start i#0")),
    ]);
    scenario.done("start i#0");
    let next = scenario.exits("i#0", 0);
    assert!(next.contains("inspect volume v"), "{next}");
}

#[test]
fn a_start_that_failed_has_it_looked_for_again() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent", &[container("a", true)]));
    prepare(&mut scenario);
    scenario.done("inspect volume v");
    scenario.done("inspect a");
    scenario.fails("start a#0", FailureKind::ContainerCreate, "ImageVolumeMountFailed: no such folder");
    scenario.play(&[("ok write", ""), ("wait 1", "inspect volume v")]);
}

#[test]
fn images_that_are_found_before_the_sandbox_are_told_after_it() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent", &[container("a", true)]));
    scenario.play(&[("ok write", ""), ("ok inspect volume v", "inspect a"), ("ok inspect a", "")]);
    scenario.done("volumes");
    scenario.done("cgroup");
    let told = scenario.done("sandbox");
    assert_eq!(told, format!("{VOLUME} | {OWN} | start a#0"));
}
