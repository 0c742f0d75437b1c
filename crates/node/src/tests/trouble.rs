//! Images, containers and volumes that fail, and how the node learns of it.

use model::{Pod, PodUid};
use serde_json::json;

use super::story::{Story, pod};
use crate::{Input, ObjectKind, ObjectName, RuntimeChange};

fn web(policy: &str) -> Pod {
    pod(json!({ "containers": [{ "name": "a", "image": "i", "imagePullPolicy": policy }] }))
}

const PRESENT: &str =
    "Pulled: Container image \"i\" already present on machine and can be accessed by the pod";

#[test]
fn an_image_that_must_be_there_and_is_not() {
    let mut story = Story::new();
    story.apply(&web("Never"));
    story.play(&[
        ("ok write", ""),
        (
            "absent inspect a",
            "ErrImageNeverPull: Container image \"i\" is not present with pull policy of Never | \
             Failed: Error: ErrImageNeverPull | write Pending ready=False a=ErrImageNeverPull",
        ),
        ("ok write", ""),
        ("wait 10", "inspect a"),
    ]);
}

#[test]
fn a_pull_that_fails_is_shown_and_then_backs_off() {
    let mut story = Story::new();
    story.apply(&web("IfNotPresent"));
    story.play(&[
        ("ok write", ""),
        ("absent inspect a", "Pulling: Pulling image \"i\" | pull a"),
        (
            "fail pull a: denied",
            "Failed: Failed to pull image \"i\": denied | Failed: Error: ErrImagePull | \
             write Pending ready=False a=ErrImagePull",
        ),
        ("ok write", ""),
        (
            "wait 1",
            "BackOff: Back-off pulling image \"i\" | Failed: Error: ImagePullBackOff | \
             write Pending ready=False a=ImagePullBackOff",
        ),
        ("ok write", ""),
        ("wait 8.9", ""),
        ("wait 0.1", "inspect a"),
    ]);
}

#[test]
fn a_container_that_keeps_failing_waits_longer_and_longer() {
    let mut story = Story::new();
    story.up(&web("IfNotPresent"));
    let begun =
        "Created: Container created | Started: Container started | write Running ready=True a=running!";
    story.play(&[
        ("exit a#0 1", "inspect a | write Running ready=False a=exit 1"),
        ("ok write", ""),
        ("ok inspect a", &format!("{PRESENT} | start a#1")),
        ("ok start a#1", begun),
        ("ok write", ""),
        (
            "exit a#1 1",
            "BackOff: Back-off restarting failed container a in pod web_ns(u) | \
             remove a#0 | write Running ready=False a=CrashLoopBackOff",
        ),
        ("ok write", ""),
    ]);
    let status = story.statuses[&PodUid::from("u")].container_statuses.as_ref().unwrap()[0].clone();
    assert_eq!(
        status.state.unwrap().waiting.unwrap().message.unwrap(),
        "back-off 10s restarting failed container=a pod=web_ns(u)"
    );
    assert_eq!(status.restart_count, 1);
    story.play(&[("wait 9", ""), ("wait 1", "inspect a")]);
}

#[test]
fn three_failed_liveness_probes_restart_the_container() {
    let mut story = Story::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().containers[0].liveness_probe =
        serde_json::from_value(json!({ "tcpSocket": { "port": 80 } })).unwrap();
    story.up(&pod);
    let unhealthy = "Unhealthy: Liveness probe failed: no";
    story.play(&[
        ("wait 9", "probe a#0 Liveness"),
        ("bad probe", unhealthy),
        ("wait 10", "probe a#0 Liveness"),
        ("bad probe", unhealthy),
        ("wait 10", "probe a#0 Liveness"),
        (
            "bad probe",
            "Unhealthy: Liveness probe failed: no | \
             Killing: Container a failed liveness probe, will be restarted | stop a#0 30s",
        ),
        ("wait 20", ""),
        ("ok stop a#0", "inspect a | write Running ready=False a=exit 143"),
    ]);
}

#[test]
fn volumes_that_lack_an_object_are_tried_again_when_it_comes() {
    let mut story = Story::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().volumes =
        serde_json::from_value(json!([{ "name": "v", "configMap": { "name": "c" } }])).unwrap();
    story.apply(&pod);
    story.play(&[
        ("ok write", ""),
        ("ok cgroup", ""),
        ("fail volumes: configmap \"c\" not found", "FailedMount: configmap \"c\" not found"),
        ("wait 0.4", ""),
    ]);
    let named = |name: &str| {
        let (kind, namespace, name) = (ObjectKind::ConfigMap, "ns".to_owned(), name.to_owned());
        Input::ObjectChanged(ObjectName { kind, namespace, name })
    };
    assert_eq!(story.tell(named("other")), "");
    assert_eq!(story.tell(named("c")), "volumes");
    story.play(&[("ok volumes", "sandbox 0")]);
}

#[test]
fn the_relist_finds_an_exit_nobody_told_of() {
    let mut story = Story::new();
    story.up(&web("IfNotPresent"));
    story.ends_silently("a#0", 1);
    story.play(&[("wait 10", "inspect a | write Running ready=False a=exit 1")]);
}

#[test]
fn hints_about_what_the_node_does_itself_are_no_news() {
    let mut story = Story::new();
    let pod = web("IfNotPresent");
    story.apply(&pod);
    for text in ["write", "volumes", "cgroup", "inspect a", "sandbox"] {
        story.done(text);
    }
    assert_eq!(story.under_way(), ["start a#0"]);
    assert_eq!(story.hint("a#0", RuntimeChange::Created), "");
    assert_eq!(story.hint("a#0", RuntimeChange::Started), "");
    let started = story.done("start a#0");
    assert!(started.ends_with("write Running ready=True a=running!"), "{started}");
    // An exit is news. The status under way is not overtaken by it, but followed.
    assert_eq!(story.exits("a#0", 1), "inspect a");
    assert_eq!(story.done("write"), "write Running ready=False a=exit 1");
}
