//! Static pods: edited, removed and brought back, of one name, and what a new process learns of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Pod, PodUid, pod};
use serde_json::{Value, json};

use super::scenario::Scenario;
use crate::{Input, Source};

/// A static pod of this version of its manifest.
fn manifest(version: &str, container: Value) -> Pod {
    let metadata = json!({ "namespace": "ns", "name": "web-node", "uid": version });
    let mut pod: Pod =
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [container] } }))
            .unwrap();
    pod.metadata.annotations = Some(BTreeMap::from([
        (pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned()),
        (pod::ANNOTATION_CONFIG_HASH.to_owned(), version.to_owned()),
    ]));
    pod
}

fn plain(version: &str) -> Pod {
    manifest(version, json!({ "name": "a", "image": "i" }))
}

fn files(pods: &[&Pod]) -> Input {
    Input::PodsListed { source: Source::File, pods: pods.iter().map(|p| Arc::new((*p).clone())).collect() }
}

/// The mirror of a pod as the API server shows it, with the last status written to it.
fn mirror(scenario: &Scenario, of: &Pod) -> Arc<Pod> {
    let mut mirror = of.clone();
    let hash = pod::uid(of).to_string();
    mirror.metadata.uid = Some(format!("mirror-of-{hash}"));
    mirror.metadata.resource_version = Some("700".into());
    mirror.status = scenario.statuses.get(&pod::uid(&mirror)).map(|status| (**status).clone());
    let annotations = mirror.metadata.annotations.as_mut().unwrap();
    annotations.insert(pod::ANNOTATION_CONFIG_MIRROR.to_owned(), hash);
    Arc::new(mirror)
}

/// Lets everything that is under way go well, until nothing is.
fn settle(scenario: &mut Scenario) -> String {
    let mut lines = Vec::new();
    while let Some(text) = scenario.under_way().first().cloned() {
        lines.push(scenario.done(&text));
    }
    lines.retain(|line| !line.is_empty());
    lines.join(" | ")
}

/// A pod that runs and has its mirror.
fn running(of: &Pod) -> Scenario {
    let mut scenario = Scenario::new();
    scenario.tell(files(&[of]));
    settle(&mut scenario);
    let mirror = mirror(&scenario, of);
    scenario.tell(Input::PodApplied { source: Source::Api, pod: mirror });
    settle(&mut scenario);
    scenario.wait(Duration::from_secs(2));
    settle(&mut scenario);
    scenario
}

/// "mirror pod termination should satisfy grace period when static pod is updated"
#[test]
fn the_mirror_of_an_edited_pod_stays_until_the_old_one_has_ended() {
    let (old, new) = (plain("v1"), plain("v2"));
    let mut scenario = running(&old);
    assert_eq!(scenario.tell(files(&[&new])), "Killing: Stopping container a | stop a#0 30s");
    assert_eq!(scenario.wait(Duration::from_secs(20)), "", "its status is the old one's");
    scenario.done("stop a#0");
    let then = settle(&mut scenario);
    let (deleted, started) = (then.find("delete of mirror-of-v1"), then.find("start a#0"));
    assert!(deleted.is_some() && started.is_some(), "{then}");
}

/// "should successfully recreate when file is removed and recreated": the restart count goes on.
#[test]
fn a_pod_whose_file_went_and_came_back_begins_anew_and_counts_on() {
    let pod = plain("v1");
    let mut scenario = running(&pod);
    assert_eq!(scenario.tell(files(&[])), "Killing: Stopping container a | stop a#0 30s");
    assert_eq!(scenario.tell(files(&[&pod])), "");
    let then = settle(&mut scenario);
    assert!(then.contains("start a#1"), "{then}");
    assert!(!then.contains("delete"), "it has its mirror: {then}");
}

/// Two sources, one name: never both at once.
#[test]
fn the_second_of_one_name_waits_for_the_first() {
    let (first, second) = (plain("v1"), plain("v2"));
    let mut scenario = running(&first);
    let also = Input::PodsListed { source: Source::Http, pods: vec![Arc::new(second)] };
    assert_eq!(scenario.tell(also), "");
    assert_eq!(scenario.wait(Duration::from_secs(100)), "", "and leaves the mirror alone");
    scenario.tell(files(&[]));
    let then = settle(&mut scenario);
    assert!(then.contains("delete of mirror-of-v1") && then.contains("start a#0"), "{then}");
}

/// In one list the first counts, in upstream's words.
#[test]
fn of_two_of_one_name_in_a_list_the_first_is_taken() {
    let (first, second) = (plain("v1"), plain("v2"));
    let mut scenario = Scenario::new();
    let said = scenario
        .tell(Input::PodsListed { source: Source::Http, pods: vec![Arc::new(first), Arc::new(second)] });
    let event = "FailedValidation: Error validating pod web-node_ns(v2) from http due to duplicate pod name \
                 \"web-node\", ignoring";
    assert!(said.starts_with(event), "{said}");
    assert_eq!(said.matches("volumes").count(), 1, "{said}");
}

/// What the mirror says holds for a new process, whichever it hears of first.
#[test]
fn a_restarted_node_believes_the_mirror() {
    let probe = json!({ "tcpSocket": { "port": 1 }, "periodSeconds": 10 });
    let pod = manifest(
        "v1",
        json!({ "name": "a", "image": "i", "startupProbe": probe, "readinessProbe": probe, "livenessProbe": probe }),
    );
    let before = running(&pod);
    let uid = PodUid::from("mirror-of-v1");
    assert!(
        before.statuses[&uid].container_statuses.as_ref().unwrap()[0].ready,
        "{:?}",
        before.statuses[&uid]
    );
    let api = || Input::PodsListed { source: Source::Api, pods: vec![mirror(&before, &pod)] };
    let file = || files(&[&pod]);
    for (first, second) in [(file(), api()), (api(), file())] {
        let mut after = Scenario::restarted(before.runtime.clone(), before.at + Duration::from_secs(50));
        let said = format!("{} {}", after.tell(first), after.tell(second));
        assert!(!said.contains("write"), "{said}");
        let said = format!("{} {}", settle(&mut after), after.wait(Duration::from_secs(10)));
        assert!(!said.contains("write") && !said.contains("Startup"), "{said}");
        assert!(said.contains("Liveness") && said.contains("Readiness"), "{said}");
    }
}

/// "should be ready after init container is removed and kubelet restarts": a new process tells of an init container that the
/// runtime no longer holds that it had its turn, and no more.
#[test]
fn an_init_container_that_is_gone_had_its_turn() {
    let mut pod = plain("u");
    let init = serde_json::from_value(json!([{ "name": "i", "image": "i" }])).unwrap();
    pod.spec.as_mut().unwrap().init_containers = Some(init);
    let mut before = Scenario::new();
    before.tell(files(&[&pod]));
    settle(&mut before);
    before.exits("i#0", 0);
    settle(&mut before);
    let first = mirror(&before, &pod);
    before.tell(Input::PodApplied { source: Source::Api, pod: first });
    settle(&mut before);
    let uid = PodUid::from("mirror-of-u");
    let end = |scenario: &Scenario| {
        let said = scenario.statuses[&uid].init_container_statuses.as_ref().unwrap()[0].clone();
        said.state.and_then(|state| state.terminated).unwrap()
    };
    assert_eq!(end(&before).message, None);
    let mut runtime = before.runtime.clone();
    for observation in runtime.values_mut() {
        observation.containers.retain(|container| container.name != "i");
    }
    let mut after = Scenario::restarted(runtime, before.at + Duration::from_secs(50));
    after.tell(Input::PodsListed { source: Source::Api, pods: vec![mirror(&before, &pod)] });
    after.tell(files(&[&pod]));
    let then = settle(&mut after);
    assert!(!then.contains("start"), "{then}");
    let end = end(&after);
    assert_eq!((end.reason.as_deref(), end.exit_code), (Some("Completed"), 0));
    assert!(end.message.is_some_and(|text| text.starts_with("Unable to get init container status")));
}

/// A pod of `a` and `b`, of which `b` was started a second time and the runtime has lost it since, and what its mirror says.
fn lost() -> (Pod, Scenario, Arc<Pod>) {
    let mut pod = plain("u");
    let other = serde_json::from_value(json!({ "name": "b", "image": "i" })).unwrap();
    pod.spec.as_mut().unwrap().containers.push(other);
    let mut before = running(&pod);
    before.exits("b#0", 1);
    assert!(settle(&mut before).contains("write Running"));
    let said = mirror(&before, &pod);
    for held in before.runtime.values_mut() {
        held.containers.retain(|container| container.name == "a");
    }
    (pod, before, said)
}

/// Restart counts go on from what the mirror says although the node is not registered yet.
#[test]
fn the_mirror_is_believed_before_the_node_is_registered() {
    let (pod, before, said) = lost();
    let api = || Input::PodsListed { source: Source::Api, pods: vec![said.clone()] };
    let file = || files(&[&pod]);
    for (first, second) in [(file(), api()), (api(), file())] {
        let mut after =
            Scenario::unregistered(before.runtime.clone(), before.at + Duration::from_secs(50), false);
        after.tell(first);
        after.tell(second);
        let then = settle(&mut after);
        assert!(then.contains("start b#2"), "{then}");
    }
}

/// What is started before its mirror was seen counts from the start, and so says the mirror.
#[test]
fn what_is_being_started_counts_as_it_was_told() {
    let (pod, before, said) = lost();
    let mut after = Scenario::restarted(before.runtime.clone(), before.at + Duration::from_secs(50));
    after.tell(files(&[&pod]));
    while let Some(text) = after.under_way().first().filter(|text| *text != "start b#0").cloned() {
        after.done(&text);
    }
    after.tell(Input::PodsListed { source: Source::Api, pods: vec![said] });
    after.done("start b#0");
    settle(&mut after);
    let uid = PodUid::from("mirror-of-u");
    let b = after.statuses[&uid].container_statuses.as_ref().unwrap()[1].clone();
    assert_eq!((b.name.as_str(), b.restart_count), ("b", 0), "{b:?}");
    after.exits("b#0", 1);
    let then = settle(&mut after);
    assert!(then.contains("start b#2"), "counts go on from all that were told: {then}");
}
