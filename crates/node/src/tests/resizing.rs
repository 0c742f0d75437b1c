//! A pod's object asks for other resources than the pod was given.

use std::time::Duration;

use model::Pod;
use serde_json::{Value, json};

use super::scenario::{Scenario, pod};
use crate::{Action, RuntimeAction};

/// Generation and resource version go together here.
fn asking(generation: i64, cpu: &str) -> Pod {
    let resources = json!({ "requests": { "cpu": cpu }, "limits": { "cpu": "1", "memory": "64Mi" } });
    let mut pod = pod(json!({ "containers": [{ "name": "a", "image": "i", "resources": resources }] }));
    pod.metadata.generation = Some(generation);
    pod.metadata.resource_version = Some((1000 * generation).to_string());
    pod
}

/// Requests in the status, the generation it is about, and whether a resize is infeasible.
fn said(scenario: &Scenario) -> Value {
    let status = scenario.statuses.values().next().unwrap();
    let container = &status.container_statuses.as_ref().unwrap()[0];
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "PodResizePending");
    json!([
        container.allocated_resources.as_ref().unwrap()["cpu"],
        container.resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"],
        status.observed_generation,
        condition.map(|c| format!("{} {}", c.reason.as_deref().unwrap(), c.observed_generation.unwrap())),
    ])
}

/// The pod as the API server has it, with the status written last.
fn with_status(scenario: &Scenario, mut pod: Pod) -> Pod {
    pod.status = Some(scenario.statuses.values().next().unwrap().as_ref().clone());
    pod
}

#[test]
fn a_wish_changes_nothing_and_the_status_says_so() {
    let mut scenario = Scenario::new();
    scenario.up(&asking(1, "100m"));
    assert_eq!(said(&scenario), json!(["100m", "100m", 1, null]));

    let wish = with_status(&scenario, asking(2, "200m"));
    let told = scenario.apply(&wish);
    assert_eq!(
        told,
        "ResizeInfeasible: Pod resize Infeasible: {\"containers\":[{\"name\":\"a\",\"resources\":\
         {\"limits\":{\"cpu\":\"1\",\"memory\":\"64Mi\"},\"requests\":{\"cpu\":\"200m\"}}}],\
         \"generation\":2,\"error\":\"In-place resize is not supported by this kubelet\"}"
    );
    scenario.wait(Duration::from_secs(1));
    scenario.done("write");
    assert_eq!(said(&scenario), json!(["100m", "100m", 2, "Infeasible 2"]));
    assert_eq!(scenario.apply(&with_status(&scenario, wish.clone())), "", "it is told once");

    // A container that is started again gets what it had.
    scenario.exits("a#0", 1);
    scenario.done("inspect a");
    let given = scenario.actions().find_map(|action| match action {
        Action::Runtime(RuntimeAction::StartContainer { pod, .. }) => {
            pod.spec.clone()?.containers[0].resources.clone()
        }
        _ => None,
    });
    assert_eq!(given.unwrap().requests.unwrap()["cpu"].0, "100m");
    scenario.done("start a#1");
    scenario.wait(Duration::from_secs(2));
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }

    // The next process finds it so, and does not tell it again.
    let mut next = Scenario::restarted(scenario.runtime.clone(), Duration::from_secs(5000));
    next.statuses.clone_from(&scenario.statuses);
    let told = next.tell(crate::Input::PodsListed {
        source: crate::Source::Api,
        pods: vec![std::sync::Arc::new(with_status(&scenario, wish))],
    });
    assert!(!told.contains("ResizeInfeasible"), "{told}");
    next.tell(crate::Input::PodsListed { source: crate::Source::File, pods: vec![] });
    next.up(&with_status(&scenario, asking(3, "100m")));
    while let Some(text) = next.under_way().first().cloned() {
        next.done(&text);
    }
    assert_eq!(said(&next), json!(["100m", "100m", 3, null]), "taken back, it is no wish any more");
}
