//! What pods were granted: nobody else has it, and what their objects ask for later changes nothing.

use std::sync::Arc;
use std::time::Duration;

use model::{AllocatedPod, Pod, PodUid};
use serde_json::{Value, json};

use super::scenario::{Scenario, machine, pod};
use crate::{Action, HostAction, Input, Restored, RuntimeAction, Source, VolumeAction};

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
        Action::Runtime(RuntimeAction::StartContainer(start)) => {
            start.pod.spec.clone()?.containers[0].resources.clone()
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
    let told = next
        .tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(with_status(&scenario, wish))] });
    assert!(!told.contains("ResizeInfeasible"), "{told}");
    next.tell(Input::PodsListed { source: Source::File, pods: vec![] });
    next.up(&with_status(&scenario, asking(3, "100m")));
    while let Some(text) = next.under_way().first().cloned() {
        next.done(&text);
    }
    assert_eq!(said(&next), json!(["100m", "100m", 3, null]), "taken back, it is no wish any more");
}

/// A pod of that name that requests so much.
fn requesting(name: &str, cpu: &str) -> Pod {
    let resources = json!({ "requests": { "cpu": cpu } });
    let mut pod = pod(json!({ "containers": [{ "name": "a", "image": "i", "resources": resources }] }));
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(name.to_owned());
    pod.metadata.generation = Some(1);
    pod
}

/// The pods of what is under way for a pod, as far as it depends on resources.
fn allocated(scenario: &Scenario) -> Vec<AllocatedPod> {
    let pods = scenario.actions().filter_map(|action| match action {
        Action::Runtime(RuntimeAction::StartContainer(start)) => Some(start.pod.clone()),
        Action::Runtime(RuntimeAction::RunSandbox { pod, .. })
        | Action::Volume(VolumeAction::Sync { pod, .. })
        | Action::Host(HostAction::EnsureCgroup { pod }) => Some(pod.clone()),
        _ => None,
    });
    pods.collect()
}

fn cpu(pod: &AllocatedPod) -> i64 {
    pod.requests().get("cpu").unwrap().millis()
}

/// Cgroup, volumes, sandbox and containers of a pod that was let in, the sums of its class, and the room for others: all go
/// by what it was granted.
#[test]
fn everything_goes_by_what_was_granted() {
    let mut scenario = Scenario::new();
    scenario.apply(&requesting("u", "1"));
    let mut wish = requesting("u", "4");
    wish.metadata.generation = Some(2);
    wish.metadata.resource_version = Some("2".to_owned());
    scenario.apply(&wish);
    let mut seen = Vec::new();
    while let Some(text) = scenario.under_way().first().cloned() {
        seen.extend(allocated(&scenario));
        scenario.done(&text);
    }
    assert!(seen.iter().all(|pod| cpu(pod) == 1000) && seen.len() > 4, "{}", seen.len());
    scenario.wait(Duration::from_secs(2));
    assert_eq!(scenario.classes.unwrap().burstable_cpu_millis, 1000);
    // The node has four: what was wished for would leave no room.
    let told = scenario.apply(&requesting("other", "3"));
    assert!(!told.contains("OutOf"), "{told}");
    let told = scenario.apply(&requesting("third", "1m"));
    assert!(
        told.contains("OutOfcpu: Node didn't have enough resource: cpu, requested: 1, used: 4000"),
        "{told}"
    );
}

/// What an earlier process let in has its room before anybody else is let in, also those that wait for longer.
#[test]
fn what_runs_already_comes_first() {
    let mut scenario = Scenario::new();
    scenario.up(&requesting("runs", "3"));
    let mut next = Scenario::restarted(scenario.runtime.clone(), Duration::from_secs(5000));
    let mut running = requesting("runs", "3");
    running.metadata.creation_timestamp = Some(serde_json::from_str("\"2030-01-01T00:00:00Z\"").unwrap());
    let pods = vec![Arc::new(requesting("new", "2")), Arc::new(running)];
    let told = next.tell(Input::PodsListed { source: Source::Api, pods });
    assert!(
        told.contains("OutOfcpu: Node didn't have enough resource: cpu, requested: 2000, used: 3000"),
        "{told}"
    );
}

/// A pod whose containers are gone is judged by what it had, and not by what it has asked for since.
#[test]
fn what_a_pod_had_is_what_it_is_judged_by() {
    let mut scenario = Scenario::new();
    scenario.up(&requesting("u", "1"));
    let mut wish = with_status(&scenario, requesting("u", "5"));
    wish.metadata.generation = Some(2);
    let mut next = Scenario::restarted([].into(), Duration::from_secs(5000));
    let told = next.tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(wish)] });
    assert!(told.contains("ResizeInfeasible") && !told.contains("OutOf"), "{told}");
    assert!(allocated(&next).iter().all(|pod| cpu(pod) == 1000), "{}", next.under_way().join(", "));
}

/// Limits in a status are as the runtime has them, which does not give as little as may be asked for. A status that is about
/// what the pod asks for now tells of nothing else.
#[test]
fn a_status_about_the_present_wish_changes_nothing() {
    let resources = json!({ "limits": { "cpu": "5m" } });
    let mut wish = pod(json!({ "containers": [{ "name": "a", "image": "i", "resources": resources }] }));
    wish.metadata.generation = Some(1);
    let mut scenario = Scenario::new();
    scenario.up(&wish);
    let mut found = with_status(&scenario, wish);
    let status = &mut found.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    let limits = json!({ "limits": { "cpu": "10m" } });
    status.resources = Some(serde_json::from_value(limits).unwrap());
    let mut next = Scenario::restarted([].into(), Duration::from_secs(5000));
    let told = next.tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(found)] });
    assert!(!told.contains("ResizeInfeasible"), "{told}");
    let limits: Vec<i64> =
        allocated(&next).iter().map(|pod| pod.limits().get("cpu").unwrap().millis()).collect();
    assert!(!limits.is_empty() && limits.iter().all(|limit| *limit == 5), "{limits:?}");
}

/// A pod that is turned away after a restart leaves nothing behind.
#[test]
fn what_an_earlier_process_made_for_a_pod_without_room_is_removed() {
    let made = |is_found: bool| {
        let mut scenario = Scenario::restarted([].into(), Duration::from_secs(5000));
        if is_found {
            scenario.tell(Input::Restored(Box::new(Restored {
                machine: machine(),
                pods: vec![PodUid::from("u")],
                ..Restored::default()
            })));
        }
        scenario.tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(requesting("u", "5"))] });
        scenario.under_way()
    };
    assert_eq!(made(true), ["tear-down", "remove-cgroup", "write Failed ready=?"]);
    assert_eq!(made(false), ["write Failed ready=?"]);
}

/// The limit of a volume in memory is a part of what was granted.
#[test]
fn volumes_in_memory_keep_their_limit() {
    let sized = |limit: &str, generation: i64| {
        let mut pod = pod(json!({
            "containers": [{ "name": "a", "image": "i" }],
            "volumes": [{ "name": "v", "emptyDir": { "medium": "Memory", "sizeLimit": limit } }],
        }));
        pod.metadata.generation = Some(generation);
        pod.metadata.resource_version = Some(generation.to_string());
        pod
    };
    let mut scenario = Scenario::new();
    scenario.apply(&sized("1Mi", 1));
    let told = scenario.apply(&sized("2Mi", 2));
    assert!(told.contains("ResizeInfeasible"), "{told}");
    while let Some(text) = scenario.under_way().first().cloned() {
        for pod in allocated(&scenario) {
            let volumes = pod.spec.clone().unwrap().volumes.unwrap();
            assert_eq!(volumes[0].empty_dir.clone().unwrap().size_limit.unwrap().0, "1Mi");
        }
        scenario.done(&text);
    }
}
