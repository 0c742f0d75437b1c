//! What pods wait for on whom, and what was reached, as whoever asks is told.

use std::time::Duration;

use model::Pod;
use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::{FailureKind, Responsible};

fn web(policy: &str) -> Pod {
    pod(json!({ "containers": [{ "name": "a", "image": "i", "imagePullPolicy": policy }] }))
}

fn marks(scenario: &Scenario) -> Vec<String> {
    let view = scenario.node.view();
    view.pods.values().flat_map(|pod| pod.timeline.marks()).map(|(_, mark)| mark.to_string()).collect()
}

/// It is looked for before each attempt to start its container.
#[test]
fn an_image_that_is_there_is_marked_once() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent"));
    for text in ["write", "volumes", "cgroup", "inspect a", "sandbox"] {
        scenario.done(text);
    }
    for _ in 0..5 {
        scenario.fails("start a#0", FailureKind::ContainerConfig, "configmap \"c\" not found");
        while !scenario.under_way().iter().any(|action| action == "start a#0") {
            scenario.wait(Duration::from_secs(1));
            if scenario.under_way().iter().any(|action| action == "inspect a") {
                scenario.done("inspect a");
            }
        }
    }
    assert_eq!(marks(&scenario).iter().filter(|mark| *mark == "image of a ready").count(), 1);
}

#[test]
fn a_pod_that_is_turned_away_has_nothing_that_could_end() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().node_selector = Some([("no".to_owned(), "such".to_owned())].into());
    scenario.apply(&pod);
    assert_eq!(marks(&scenario), ["first seen", "turned away"]);
}

/// Who looks at a pull or at an inspection learns whose turn it is, and why the last one failed.
#[test]
fn images_are_waited_for_on_whom_they_depend() {
    let mut scenario = Scenario::new();
    let waits = |scenario: &Scenario| {
        let view = scenario.node.view();
        let of_image =
            view.pods.values().flat_map(|pod| pod.waits.iter()).find(|w| w.on.to_string().contains("image"));
        of_image.map(|wait| (wait.on.to_string(), wait.responsible(), wait.error.clone())).unwrap()
    };
    scenario.apply(&web("IfNotPresent"));
    assert_eq!(
        waits(&scenario),
        ("a look for the image of container a".to_owned(), Responsible::Runtime, None)
    );
    scenario.play(&[("ok write", ""), ("absent inspect a", "Pulling: Pulling image \"i\" | pull a")]);
    let image = || "the image of container a".to_owned();
    assert_eq!(waits(&scenario), (image(), Responsible::Registry, None));
    scenario.fails("pull a", FailureKind::Other, "denied");
    scenario.wait(Duration::from_secs(20));
    assert!(scenario.under_way().contains(&"inspect a".to_owned()), "{:?}", scenario.under_way());
    let (on, who, error) = waits(&scenario);
    assert_eq!((on, who), (image(), Responsible::Registry));
    assert!(error.unwrap().contains("denied"));
}

/// A pod that has not come as far as what is written for it is told of the write's end all the same.
#[test]
fn a_write_that_is_done_is_not_waited_for() {
    let mut scenario = Scenario::new();
    scenario.is_disk_slow = true;
    scenario.apply(&web("IfNotPresent"));
    for text in ["write Pending", "volumes", "cgroup", "write allocated_pods_state", "sandbox"] {
        scenario.done(text);
    }
    let waits = |scenario: &Scenario| {
        let view = scenario.node.view();
        let all = view.pods.values().flat_map(|pod| pod.waits.iter().map(|wait| wait.on.to_string()));
        all.filter(|on| on.starts_with("state file")).collect::<Vec<_>>()
    };
    assert_eq!(waits(&scenario), ["state file actuated_pods_state to be written"]);
    scenario.done("write actuated_pods_state");
    assert_eq!(waits(&scenario), [""; 0]);
}
