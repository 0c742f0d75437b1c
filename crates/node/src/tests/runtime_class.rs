//! Pods whose RuntimeClass says what runs them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::{Action, Input, RuntimeAction, WaitOn};

fn classes(all: &[(&str, &str)]) -> Input {
    let entry = |(name, handler): &(&str, &str)| ((*name).to_owned(), (*handler).to_owned());
    Input::RuntimeClasses(all.iter().map(entry).collect::<BTreeMap<_, _>>())
}

/// What runs the sandbox that is being made, and a container or a pull after it.
fn handlers(scenario: &Scenario) -> Vec<String> {
    let handlers = scenario.actions().filter_map(|action| match action {
        Action::Runtime(RuntimeAction::RunSandbox { handler, .. }) => Some(handler.name.clone()),
        Action::Runtime(RuntimeAction::StartContainer(start)) => Some(start.handler.name.clone()),
        _ => None,
    });
    handlers.collect()
}

#[test]
fn a_sandbox_waits_for_the_classes_to_be_listed_and_for_its_own() {
    let mut scenario = Scenario::new();
    let container = json!({ "name": "a", "image": "i", "imagePullPolicy": "IfNotPresent" });
    scenario.apply(&pod(json!({ "runtimeClassName": "vm", "containers": [container] })));
    for text in ["write", "volumes", "cgroup", "inspect a"] {
        scenario.done(text);
    }
    let waits = |scenario: &Scenario| -> Vec<WaitOn> {
        let view = scenario.node.view();
        view.pods.values().flat_map(|pod| pod.waits.iter().map(|wait| wait.on.clone())).collect()
    };
    assert!(waits(&scenario).contains(&WaitOn::RuntimeClasses), "{:?}", waits(&scenario));
    assert_eq!(scenario.wait(Duration::from_secs(60)), "", "nothing is tried, and nobody is told");

    let told = scenario.tell(classes(&[]));
    let missing =
        "FailedCreatePodSandBox: Failed to create pod sandbox: runtimeclass.node.k8s.io \"vm\" not found";
    assert_eq!(told, missing);
    assert!(!waits(&scenario).contains(&WaitOn::RuntimeClasses));
    assert_eq!(scenario.wait(Duration::from_secs(1)), missing, "it is tried again");

    scenario.tell(classes(&[("vm", "kata")]));
    assert_eq!(handlers(&scenario), ["kata"], "at once, whenever it was to be tried");
    scenario.done("sandbox");
    assert_eq!(handlers(&scenario), ["kata"], "the container");
}

#[test]
fn a_container_of_a_pod_that_runs_needs_no_class() {
    let mut scenario = Scenario::new();
    scenario.tell(classes(&[("vm", "kata")]));
    let container = json!({ "name": "a", "image": "i", "imagePullPolicy": "Always" });
    scenario.up(&pod(json!({ "runtimeClassName": "vm", "containers": [container] })));
    scenario.tell(classes(&[]));
    scenario.exits("a#0", 1);
    scenario.wait(Duration::from_secs(30));
    while let Some(text) = scenario.under_way().into_iter().find(|text| !text.starts_with("start")) {
        scenario.done(&text);
    }
    assert_eq!(handlers(&scenario), [""]);
}
