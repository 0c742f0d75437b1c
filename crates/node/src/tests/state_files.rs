//! State files: what pods have is written down before anything is started with it, and read again by the next process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use checkpoints::{Entry, PodResources, PodsState};
use model::{Pod, PodUid};
use serde_json::json;

use super::scenario::{Scenario, machine, pod};
use crate::{
    Action, DamagedFile, Effect, EventObject, FailureKind, HostAction, Input, Restored, RuntimeAction,
    Source, StateFile, Wait, WaitOn,
};

fn requesting(name: &str, cpu: &str, generation: i64) -> Pod {
    let resources = json!({ "requests": { "cpu": cpu } });
    let mut pod = pod(json!({ "containers": [{ "name": "a", "image": "i", "resources": resources }] }));
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(name.to_owned());
    pod.metadata.generation = Some(generation);
    pod.metadata.resource_version = Some(generation.to_string());
    pod
}

/// A file that says that this pod had so much.
fn saying(uid: &str, cpu: &str) -> PodsState {
    let requirements = serde_json::from_value(json!({ "requests": { "cpu": cpu } })).unwrap();
    let resources =
        PodResources { containers: [("a".to_owned(), requirements)].into(), ..PodResources::default() };
    PodsState { pods: [(uid.into(), Entry::new(&resources))].into() }
}

/// What each pod's container has by a file.
fn written(scenario: &Scenario, file: StateFile) -> Vec<String> {
    let pods = scenario.files.get(&file).into_iter().flat_map(|content| &content.pods);
    pods.map(|(uid, entry)| format!("{uid} {}", json!(entry.resources().containers["a"].requests))).collect()
}

fn waits(scenario: &Scenario) -> Vec<(String, Option<String>)> {
    let view = scenario.node.view();
    of_files(&view.pods.values().next().unwrap().waits)
}

/// What the node itself waits for.
fn node_waits(scenario: &Scenario) -> Vec<(String, Option<String>)> {
    of_files(&scenario.node.view().waits)
}

fn of_files(waits: &[Wait]) -> Vec<(String, Option<String>)> {
    let of_files = waits.iter().filter(|wait| matches!(wait.on, WaitOn::StateFile(_)));
    of_files.map(|wait| (wait.on.to_string(), wait.error.clone())).collect()
}

#[test]
fn the_node_says_which_file_it_cannot_write() {
    const ALLOCATED: &str = "write allocated_pods_state";
    let mut scenario = Scenario::new();
    scenario.is_disk_slow = true;
    scenario.apply(&requesting("u", "1", 1));
    let on = "state file allocated_pods_state to be written".to_owned();
    let full = Some("write /var/lib/kubelet/allocated_pods_state: no space left".to_owned());
    assert!(node_waits(&scenario).contains(&(on.clone(), None)), "a disk that hangs says so, too");
    scenario.fails(ALLOCATED, FailureKind::Other, full.as_deref().unwrap());
    let first = scenario.node.view().waits.iter().find(|wait| wait.on.to_string() == on).cloned().unwrap();
    assert_eq!((first.error.clone(), first.attempts), (full.clone(), 1));
    assert!(first.next_try.is_some_and(|at| at > first.since), "{first:?}");

    // It goes on through the attempts, since it first was tried.
    scenario.wait(Duration::from_secs(1));
    let second = scenario.node.view().waits.iter().find(|wait| wait.on.to_string() == on).cloned().unwrap();
    assert_eq!((second.since, second.error, second.next_try), (first.since, full, None), "it is under way");
    scenario.done(ALLOCATED);
    assert!(node_waits(&scenario).iter().all(|(what, _)| *what != on), "{:?}", node_waits(&scenario));
}

/// All but what is done for the sake of the status.
fn under_way(scenario: &Scenario) -> Vec<String> {
    scenario.under_way().into_iter().filter(|text| !text.starts_with("write Pending")).collect()
}

#[test]
fn a_sandbox_waits_until_it_is_on_disk_what_the_pod_was_granted() {
    const ALLOCATED: &str = "write allocated_pods_state";
    const ACTUATED: &str = "write actuated_pods_state";
    let mut scenario = Scenario::new();
    scenario.is_disk_slow = true;
    scenario.apply(&requesting("u", "1", 1));
    scenario.done("cgroup");
    scenario.done("volumes");
    scenario.done("inspect a");
    scenario.wait(Duration::from_secs(1));
    assert_eq!(under_way(&scenario), [ALLOCATED, ACTUATED], "nothing else waits for the disk");
    let on = "state file allocated_pods_state to be written".to_owned();
    assert_eq!(waits(&scenario), [(on.clone(), None)]);

    assert_eq!(scenario.fails(ALLOCATED, FailureKind::Other, "no space left"), "");
    assert_eq!(waits(&scenario), [(on, Some("no space left".to_owned()))]);
    assert_eq!(scenario.wait(Duration::from_secs(1)), ALLOCATED, "it is tried again");
    assert_eq!(scenario.done(ALLOCATED), "sandbox 0");
    assert_eq!(waits(&scenario), []);

    // A container has what the other file says.
    scenario.done("sandbox 0");
    scenario.wait(Duration::from_secs(1));
    assert_eq!(under_way(&scenario), [ACTUATED]);
    let on = "state file actuated_pods_state to be written".to_owned();
    assert_eq!(waits(&scenario), [(on, None)]);
    assert_eq!(scenario.done(ACTUATED), "start a#0");
    for file in StateFile::ALL {
        assert_eq!(written(&scenario, file), ["u {\"cpu\":\"1\"}"]);
    }

    // What is there already holds up nothing.
    scenario.done("start a#0");
    scenario.exits("a#0", 1);
    scenario.done("inspect a");
    assert!(under_way(&scenario).contains(&"start a#1".to_owned()), "{:?}", scenario.under_way());
}

#[test]
fn an_entry_goes_with_its_pod_and_many_are_written_at_once() {
    let mut scenario = Scenario::new();
    scenario.up(&requesting("first", "1m", 1));
    scenario.tell(Input::PodDeleted { source: Source::Api, uid: "first".into() });
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    assert_eq!(written(&scenario, StateFile::AllocatedPods).len(), 1, "that is no reason for a write");

    scenario.is_disk_slow = true;
    let pods = (0..100).map(|n| Arc::new(requesting(&format!("pod-{n:03}"), "1m", 1))).collect();
    scenario.tell(Input::PodsListed { source: Source::Api, pods });
    let writes = |scenario: &Scenario| -> Vec<String> {
        scenario.under_way().into_iter().filter(|text| text.ends_with("_pods_state")).collect()
    };
    assert_eq!(writes(&scenario), ["write allocated_pods_state", "write actuated_pods_state"]);
    for text in writes(&scenario) {
        scenario.done(&text);
    }
    assert_eq!(writes(&scenario), [""; 0], "all of them in one write");
    for file in StateFile::ALL {
        let written = written(&scenario, file);
        assert_eq!((written.len(), written[0].as_str()), (100, "pod-000 {\"cpu\":\"1m\"}"));
    }
}

/// Requests of what is prepared for the pod.
fn granted(scenario: &Scenario) -> Vec<i64> {
    let pods = scenario.actions().filter_map(|action| match action {
        Action::Runtime(RuntimeAction::RunSandbox { pod, .. })
        | Action::Host(HostAction::EnsureCgroup { pod }) => pod.requests().get("cpu"),
        _ => None,
    });
    pods.map(|cpu| cpu.millis()).collect()
}

/// The status says nothing of it yet: the earlier process was killed after it had written the file.
#[test]
fn a_grant_outlives_the_process_that_made_it() {
    let start = |files: BTreeMap<StateFile, Result<PodsState, DamagedFile>>| {
        let mut next = Scenario::restarted([].into(), Duration::from_secs(5000));
        next.tell(Input::Restored(Box::new(Restored {
            machine: machine(),
            pods: vec![],
            files,
            ..Restored::default()
        })));
        let told = next
            .tell(Input::PodsListed { source: Source::Api, pods: vec![Arc::new(requesting("u", "3", 2))] });
        next.tell(Input::PodsListed { source: Source::File, pods: vec![] });
        (told.contains("ResizeInfeasible"), granted(&next))
    };
    let file = |content| [(StateFile::AllocatedPods, content)].into();
    assert_eq!(start([].into()), (false, vec![3000]));
    assert_eq!(start(file(Ok(saying("u", "1")))), (true, vec![1000]));
    assert_eq!(start(file(Ok(saying("other", "1")))), (false, vec![3000]));
    let damaged = DamagedFile { error: "torn".into(), kept_as: None };
    assert_eq!(start(file(Err(damaged))), (false, vec![3000]));
}

/// One that names its uid itself is none the less another pod once it asks for something else.
#[test]
fn a_static_pod_has_what_its_manifest_asks_for() {
    let mut manifest = requesting("u", "3", 1);
    let source = (model::pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned());
    manifest.metadata.annotations = Some([source].into());
    let mut next = Scenario::restarted([].into(), Duration::from_secs(5000));
    let files = [(StateFile::AllocatedPods, Ok(saying("u", "1")))].into();
    next.tell(Input::Restored(Box::new(Restored {
        machine: machine(),
        pods: vec![],
        files,
        ..Restored::default()
    })));
    next.tell(Input::PodsListed { source: Source::Api, pods: vec![] });
    next.tell(Input::PodsListed { source: Source::File, pods: vec![Arc::new(manifest)] });
    assert_eq!(granted(&next), [3000]);
}

/// What no source knows stays until all have named their pods: it may be one of those.
#[test]
fn entries_of_pods_that_nobody_knows_go_once_all_have_been_named() {
    let mut next = Scenario::restarted([].into(), Duration::from_secs(5000));
    let mut state = saying("late", "1");
    state.pods.extend(saying("gone", "1").pods);
    let files = StateFile::ALL.map(|file| (file, Ok(state.clone()))).into();
    next.tell(Input::Restored(Box::new(Restored {
        machine: machine(),
        pods: vec![],
        files,
        ..Restored::default()
    })));
    next.tell(Input::PodsListed { source: Source::File, pods: vec![] });
    let pods = ["late", "new"].map(|name| Arc::new(requesting(name, "1", 1))).into();
    next.tell(Input::PodsListed { source: Source::Api, pods });
    for file in StateFile::ALL {
        assert_eq!(written(&next, file), ["late {\"cpu\":\"1\"}", "new {\"cpu\":\"1\"}"]);
    }
}

#[test]
fn a_damaged_file_is_told_of() {
    let mut scenario = Scenario::new();
    let mut told = |kept_as: Option<&str>| {
        let damaged = DamagedFile { error: "torn".into(), kept_as: kept_as.map(str::to_owned) };
        let files = [(StateFile::AllocatedPods, Err(damaged))].into();
        let restored =
            Restored { machine: machine(), pods: vec![PodUid::from("u")], files, ..Restored::default() };
        let effects = scenario.node.step(scenario.now(), Input::Restored(Box::new(restored)));
        let event = effects.into_iter().find_map(|effect| match effect {
            Effect::Record(event) if event.about == EventObject::Node => Some(event),
            _ => None,
        });
        let event = event.unwrap();
        assert!(event.is_warning && event.reason == "StateFileDamaged");
        event.message
    };
    assert_eq!(
        told(Some("/aside")),
        "State file allocated_pods_state cannot be used (torn) and was set aside as /aside; the kubelet goes on from what \
         pods are seen to have"
    );
    assert!(told(None).contains("(torn) and cannot be set aside; "));
}
