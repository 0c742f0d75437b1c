//! Images, containers and volumes that fail, and how the node learns of it.

use std::time::Duration;

use model::references::{ObjectKind, ObjectName};
use model::{Pod, PodUid, TrustSource};
use serde_json::json;

use super::scenario::{Scenario, pod};
use crate::{
    Action, Failure, FailureKind, Input, Outcome, RuntimeAction, RuntimeChange, RuntimeOutcome,
    VolumeFailure, VolumeOutcome, VolumeStage,
};

fn web(policy: &str) -> Pod {
    pod(json!({ "containers": [{ "name": "a", "image": "i", "imagePullPolicy": policy }] }))
}

const PRESENT: &str =
    "Pulled: Container image \"i\" already present on machine and can be accessed by the pod";

#[test]
fn an_image_that_must_be_there_and_is_not() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("Never"));
    scenario.play(&[
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
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent"));
    scenario.play(&[
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
fn why_a_container_cannot_be_started_is_shown_until_it_is() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent"));
    for text in ["write", "volumes", "cgroup", "inspect a", "sandbox"] {
        scenario.done(text);
    }
    scenario.play(&[
        (
            "fail start a#0: secret \"nope\" not found",
            "Failed: Error: secret \"nope\" not found | write Pending ready=False a=CreateContainerError",
        ),
        ("ok write", ""),
        // The image is looked at again when it is time, and that it is there explains nothing.
        ("wait 0.9", ""),
        ("wait 0.1", "inspect a"),
        ("ok inspect a", &format!("{PRESENT} | start a#0")),
        ("fail start a#0: secret \"nope\" not found", "Failed: Error: secret \"nope\" not found"),
        ("wait 2", "inspect a"),
        ("ok inspect a", &format!("{PRESENT} | start a#0")),
        (
            "ok start a#0",
            "Created: Container created | Started: Container started | write Running ready=True a=running!",
        ),
    ]);
}

#[test]
fn a_registry_that_is_away_stays_the_reason_while_the_pull_backs_off() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent"));
    scenario.play(&[("ok write", ""), ("absent inspect a", "Pulling: Pulling image \"i\" | pull a")]);
    scenario.fails("pull a", FailureKind::RegistryUnavailable, "the registry is unavailable");
    scenario.play(&[
        ("ok write", ""),
        (
            "wait 1",
            "BackOff: Back-off pulling image \"i\" | Failed: Error: ImagePullBackOff | \
             write Pending ready=False a=ImagePullBackOff",
        ),
        ("ok write", ""),
    ]);
    let status = scenario.statuses[&PodUid::from("u")].container_statuses.as_ref().unwrap()[0].clone();
    assert_eq!(
        status.state.unwrap().waiting.unwrap().message.unwrap(),
        "Back-off pulling image \"i\": RegistryUnavailable: the registry is unavailable"
    );
}

#[test]
fn a_container_that_keeps_failing_waits_longer_and_longer() {
    let mut scenario = Scenario::new();
    scenario.up(&web("IfNotPresent"));
    let begun =
        "Created: Container created | Started: Container started | write Running ready=True a=running!";
    scenario.play(&[
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
    let status = scenario.statuses[&PodUid::from("u")].container_statuses.as_ref().unwrap()[0].clone();
    assert_eq!(
        status.state.unwrap().waiting.unwrap().message.unwrap(),
        "back-off 10s restarting failed container=a pod=web_ns(u)"
    );
    assert_eq!(status.restart_count, 1);
    scenario.play(&[("wait 9", ""), ("wait 1", "inspect a")]);
}

#[test]
fn three_failed_liveness_probes_restart_the_container() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().containers[0].liveness_probe =
        serde_json::from_value(json!({ "tcpSocket": { "port": 80 } })).unwrap();
    scenario.up(&pod);
    let unhealthy = "Unhealthy: Liveness probe failed: no";
    scenario.play(&[
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
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().volumes =
        serde_json::from_value(json!([{ "name": "v", "configMap": { "name": "c" } }])).unwrap();
    scenario.apply(&pod);
    scenario.play(&[
        ("ok write", ""),
        ("ok cgroup", ""),
        ("fail volumes: configmap \"c\" not found", "FailedMount: configmap \"c\" not found"),
        ("wait 0.4", ""),
    ]);
    let named = |name: &str| {
        let (kind, namespace, name) = (ObjectKind::ConfigMap, "ns".to_owned(), name.to_owned());
        Input::ObjectChanged(ObjectName { kind, namespace, name })
    };
    assert_eq!(scenario.tell(named("other")), "");
    assert_eq!(scenario.tell(named("c")), "volumes");
    scenario.play(&[("ok volumes", "sandbox 0")]);
}

#[test]
fn volumes_that_lack_a_trust_bundle_are_tried_again_when_it_comes() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    let sources = json!([
        { "clusterTrustBundle": { "name": "b", "path": "x" } },
        { "clusterTrustBundle": { "signerName": "s/t", "labelSelector": {}, "path": "y" } },
    ]);
    use_volumes(&mut pod, json!([{ "name": "v", "projected": { "sources": sources } }]));
    scenario.apply(&pod);
    scenario.play(&[
        ("ok write", ""),
        ("ok cgroup", ""),
        ("fail volumes: no bundle", "FailedMount: no bundle"),
    ]);
    let changed = |source: TrustSource| Input::TrustBundlesChanged([source].into());
    assert_eq!(scenario.tell(changed(TrustSource::Named("s/t".to_owned()))), "");
    assert_eq!(scenario.tell(changed(TrustSource::OfSigner("b".to_owned()))), "");
    assert_eq!(scenario.tell(changed(TrustSource::Named("b".to_owned()))), "volumes");
    scenario.play(&[("fail volumes: no bundle", "FailedMount: no bundle")]);
    assert_eq!(scenario.tell(changed(TrustSource::OfSigner("s/t".to_owned()))), "volumes");
    scenario.play(&[("ok volumes", "sandbox 0")]);
}

#[test]
fn volumes_that_lack_a_certificate_are_tried_again_when_it_comes() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    use_volumes(&mut pod, json!([{ "name": "v", "projected": { "sources": [] } }]));
    scenario.apply(&pod);
    scenario.play(&[
        ("ok write", ""),
        ("ok cgroup", ""),
        ("fail volumes: not issued yet", "FailedMount: not issued yet"),
    ]);
    assert_eq!(scenario.tell(Input::PodCertificateChanged("other".into())), "");
    assert_eq!(scenario.tell(Input::PodCertificateChanged("u".into())), "volumes");
    scenario.play(&[("ok volumes", "sandbox 0")]);
}

#[test]
fn a_pod_without_room_for_its_folders_says_so() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent"));
    scenario.play(&[("ok write", ""), ("ok cgroup", "")]);
    let message = "error making pod data directories: no space".to_owned();
    let failed = Outcome::Failed(Failure { kind: FailureKind::PodFolders, message });
    assert_eq!(scenario.ends("volumes", failed), "Failed: error making pod data directories: no space");
}

#[test]
fn a_pod_whose_time_is_over_says_so_and_ends() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().active_deadline_seconds = Some(4);
    scenario.apply(&pod);
    scenario.play(&[("ok write", "")]);
    let told = scenario.wait(Duration::from_secs(5));
    let event = "DeadlineExceeded: Pod was active on the node longer than the specified deadline";
    assert!(told.contains(event), "{told}");
}

/// The pod's first container has all of these.
fn use_volumes(pod: &mut Pod, volumes: serde_json::Value) {
    let spec = pod.spec.as_mut().unwrap();
    let mounts = volumes.as_array().unwrap().iter();
    let mounts: Vec<_> = mounts.map(|v| json!({ "name": v["name"], "mountPath": "/v" })).collect();
    spec.containers[0].volume_mounts = serde_json::from_value(json!(mounts)).unwrap();
    spec.volumes = serde_json::from_value(volumes).unwrap();
}

fn volumes_fail(all: &[(&str, VolumeStage, &str)]) -> Outcome {
    let failure = |(volume, stage, message): &(&str, VolumeStage, &str)| VolumeFailure {
        volume: (*volume).to_owned(),
        stage: *stage,
        message: (*message).to_owned(),
    };
    Outcome::Volume(VolumeOutcome::Failed(all.iter().map(failure).collect()))
}

/// What cannot be processed is told at once, and instead of what happens only later.
#[test]
fn volumes_that_cannot_be_processed_are_told_with_each_attempt() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    use_volumes(
        &mut pod,
        json!([
            { "name": "n", "fc": { "lun": 1 } }, { "name": "m", "fc": { "lun": 1 } }, { "name": "e", "emptyDir": {} },
        ]),
    );
    scenario.apply(&pod);
    scenario.play(&[("ok write", ""), ("ok cgroup", "")]);
    let failed = || {
        volumes_fail(&[
            ("n", VolumeStage::Processing, "no plugin for n"),
            ("e", VolumeStage::Mounting, "no room"),
            ("m", VolumeStage::Processing, "no plugin for m"),
        ])
    };
    let wanted = "FailedMount: Unable to attach or mount volumes: unmounted volumes=[e m n], unattached volumes=[], \
                  failed to process volumes=[m n]: no plugin for n; no plugin for m";
    assert_eq!(scenario.ends("volumes", failed()), format!("FailedMount: no room | {wanted}"));
    let told = scenario.wait(Duration::from_secs(300));
    assert!(!told.contains("deadline exceeded"), "{told}");
    assert_eq!(scenario.ends("volumes", failed()), format!("FailedMount: no room | {wanted}"));
}

/// A container for debugging may be the first to have a volume.
#[test]
fn a_container_that_comes_waits_for_the_volumes_that_it_brings() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    pod.spec.as_mut().unwrap().volumes =
        serde_json::from_value(json!([{ "name": "e", "emptyDir": {} }])).unwrap();
    scenario.up(&pod);
    let mount = json!([{ "name": "e", "mountPath": "/e" }]);
    pod.spec.as_mut().unwrap().ephemeral_containers =
        serde_json::from_value(json!([{ "name": "d", "image": "i", "volumeMounts": mount }])).unwrap();
    let told = scenario.apply(&pod);
    assert!(told.contains("volumes") && told.contains("inspect d"), "{told}");
    let told = scenario.done("inspect d");
    assert!(!told.contains("start"), "{told}");
    let told = scenario.done("volumes");
    assert!(told.contains("start d#0"), "{told}");
}

#[test]
fn every_failing_volume_is_told_and_what_is_missing_for_long() {
    let mut scenario = Scenario::new();
    let mut pod = web("IfNotPresent");
    use_volumes(
        &mut pod,
        json!([
            { "name": "v", "configMap": { "name": "c" } }, { "name": "k", "secret": { "secretName": "s" } },
            { "name": "e", "emptyDir": {} },
        ]),
    );
    scenario.apply(&pod);
    scenario.play(&[("ok write", ""), ("ok cgroup", "")]);
    let failed =
        || volumes_fail(&[("v", VolumeStage::Mounting, "no map"), ("k", VolumeStage::Mounting, "no secret")]);
    assert_eq!(scenario.ends("volumes", failed()), "FailedMount: no map | FailedMount: no secret");
    let mut told = Vec::new();
    for _ in 0..250 {
        told.push(scenario.wait(Duration::from_secs(1)));
        if scenario.under_way().iter().any(|action| action == "volumes") {
            scenario.ends("volumes", failed());
        }
    }
    let missing = |line: &&String| line.contains("Unable to attach or mount volumes");
    let wanted = "FailedMount: Unable to attach or mount volumes: unmounted volumes=[k v], unattached volumes=[], \
                  failed to process volumes=[]: context deadline exceeded";
    let found: Vec<_> = told.iter().filter(missing).collect();
    assert_eq!(found.len(), 2, "once in 123 seconds: {found:?}");
    assert!(found.iter().all(|line| line.split(" | ").any(|part| part == wanted)), "{found:?}");
    while !scenario.under_way().iter().any(|action| action == "volumes") {
        scenario.wait(Duration::from_secs(1));
    }
    scenario.done("volumes");
    let after = scenario.wait(Duration::from_secs(300));
    assert!(!after.contains("Unable to attach"), "{after}");
}

#[test]
fn the_relist_finds_an_exit_nobody_told_of() {
    let mut scenario = Scenario::new();
    scenario.up(&web("IfNotPresent"));
    scenario.ends_silently("a#0", 1);
    scenario.play(&[("wait 10", "inspect a | write Running ready=False a=exit 1")]);
}

#[test]
fn hints_about_what_the_node_does_itself_are_no_news() {
    let mut scenario = Scenario::new();
    let pod = web("IfNotPresent");
    scenario.apply(&pod);
    for text in ["write", "volumes", "cgroup", "inspect a", "sandbox"] {
        scenario.done(text);
    }
    assert_eq!(scenario.under_way(), ["start a#0"]);
    assert_eq!(scenario.hint("a#0", RuntimeChange::Created), "");
    assert_eq!(scenario.hint("a#0", RuntimeChange::Started), "");
    let started = scenario.done("start a#0");
    assert!(started.ends_with("write Running ready=True a=running!"), "{started}");
    // An exit is news. The status under way is not overtaken by it, but followed.
    assert_eq!(scenario.exits("a#0", 1), "inspect a");
    assert_eq!(scenario.done("write"), "write Running ready=False a=exit 1");
}

/// What the runtime lost track of may run still, and two of it could spoil each other's data.
#[test]
fn a_container_the_runtime_lost_track_of_is_stopped_before_it_is_replaced() {
    for keeps_saying_so in [false, true] {
        let mut scenario = Scenario::new();
        scenario.up(&web("IfNotPresent"));
        scenario.is_lost("a#0");
        let stopped = scenario.hint("a#0", RuntimeChange::Stopped);
        assert!(stopped.contains("Killing: The container runtime lost track of container a"), "{stopped}");
        assert!(stopped.contains("stop a#0 30s"), "{stopped}");
        assert!(!stopped.contains("inspect"), "{stopped}");
        let next = if keeps_saying_so {
            let container = scenario.runtime[&PodUid::from("u")].containers[0].clone();
            scenario.ends("stop a#0", Outcome::Runtime(RuntimeOutcome::ContainerStopped(Some(container))))
        } else {
            scenario.done("stop a#0")
        };
        assert!(next.contains("inspect a"), "{next}");
        assert!(scenario.done("inspect a").contains("start a#1"));
        assert_eq!(scenario.hint("a#0", RuntimeChange::Stopped), "");
    }
}

fn with_image(pod: &Pod, image: &str) -> Pod {
    let mut pod = pod.clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    pod
}

/// Somebody mended the pod: the old image's failures count for nothing.
#[test]
fn another_image_waits_out_no_back_off() {
    let mut scenario = Scenario::new();
    let pod = web("IfNotPresent");
    scenario.up(&pod);
    for attempt in 1..4 {
        scenario.exits(&format!("a#{}", attempt - 1), 1);
        scenario.wait(Duration::from_secs(100));
        while let Some(text) = scenario.under_way().first().cloned() {
            scenario.done(&text);
        }
    }
    assert!(scenario.exits("a#3", 1).starts_with("BackOff"));
    assert!(scenario.apply(&with_image(&pod, "j")).contains("inspect a"));
    while let Some(text) = scenario.under_way().first().cloned() {
        scenario.done(&text);
    }
    // From here on it counts anew.
    assert!(scenario.exits("a#4", 1).starts_with("BackOff"));
    assert!(scenario.wait(Duration::from_secs(10)).contains("inspect a"));
}

#[test]
fn another_image_waits_out_no_pull_back_off() {
    let mut scenario = Scenario::new();
    let pod = web("IfNotPresent");
    scenario.apply(&pod);
    scenario.play(&[("ok write", ""), ("absent inspect a", "Pulling: Pulling image \"i\" | pull a")]);
    scenario.fails("pull a", FailureKind::Other, "denied");
    scenario.wait(Duration::from_secs(2));
    assert!(scenario.apply(&with_image(&pod, "j")).contains("inspect a"));
    scenario.play(&[("absent inspect a", "Pulling: Pulling image \"j\" | pull a")]);
}

#[test]
fn a_pull_of_an_image_no_longer_wanted_is_given_up() {
    for is_too_late in [false, true] {
        let mut scenario = Scenario::new();
        let pod = web("IfNotPresent");
        scenario.apply(&pod);
        scenario.play(&[("ok write", ""), ("absent inspect a", "Pulling: Pulling image \"i\" | pull a")]);
        assert!(scenario.apply(&with_image(&pod, "j")).contains("cancel pull a"));
        let next =
            if is_too_late { scenario.done("pull a") } else { scenario.ends("pull a", Outcome::Cancelled) };
        assert_eq!(next, "inspect a");
        scenario.play(&[("absent inspect a", "Pulling: Pulling image \"j\" | pull a")]);
    }
}

/// A start that was reported as failed succeeds after the pod was said to be over. That cannot be taken back, and is not said
/// of a pod of which something runs.
#[test]
fn what_runs_after_the_last_word_is_stopped_before_anything_else_is_said() {
    let mut scenario = Scenario::new();
    let spec = json!({ "containers": [{ "name": "a", "image": "i" }], "activeDeadlineSeconds": 5 });
    scenario.apply(&pod(spec));
    for text in ["cgroup", "volumes", "inspect a", "sandbox 0"] {
        scenario.done(text);
    }
    let start =
        scenario.actions().find(|action| matches!(action, Action::Runtime(RuntimeAction::StartContainer(_))));
    let start = start.cloned().unwrap();
    scenario.fails("start a#0", FailureKind::Other, "deadline exceeded");
    scenario.wait(Duration::from_secs(6));
    while let Some(write) = scenario.under_way().into_iter().find(|text| text.starts_with("write")) {
        scenario.done(&write);
    }
    let said = || -> Option<String> { scenario.statuses.values().next()?.phase.clone() };
    assert_eq!(said().as_deref(), Some("Failed"), "{:?}", scenario.under_way());
    scenario.perform(&start);
    let wanted = scenario.hint("a#0", RuntimeChange::Started);
    assert!(wanted.contains("stop a#0") && !wanted.contains("write"), "{wanted}");
    let wanted = scenario.done("stop a#0");
    assert!(wanted.contains("write Failed ready=False a=exit 143"), "{wanted}");
}

#[test]
fn a_pod_that_the_runtime_does_not_tell_of_is_told_of_at_each_try() {
    let mut scenario = Scenario::new();
    scenario.up(&web("IfNotPresent"));
    scenario.is_silent = Some("rpc error: broken");
    let told = "FailedSync: error determining status: rpc error: broken";
    assert_eq!(scenario.hint("a#0", RuntimeChange::Stopped), told);
    scenario.play(&[("wait 0.9", ""), ("wait 0.1", told), ("wait 1.9", ""), ("wait 0.1", told)]);
}

#[test]
fn a_runtime_that_lists_nothing_is_told_of_once_a_minute() {
    let mut scenario = Scenario::new();
    scenario.wait(Duration::from_secs(120));
    assert!(scenario.node_events.iter().all(|event| !event.starts_with("ContainerGCFailed")));
    scenario.is_silent = Some("rpc error: broken");
    for count in 1..4 {
        scenario.wait(Duration::from_secs(60));
        let told =
            scenario.node_events.iter().filter(|event| *event == "ContainerGCFailed: rpc error: broken");
        assert_eq!(told.count(), count);
    }
}

#[test]
fn a_sandbox_that_the_runtime_does_not_tell_of_was_made() {
    let mut scenario = Scenario::new();
    scenario.apply(&web("IfNotPresent"));
    for text in ["write", "volumes", "cgroup", "inspect a"] {
        scenario.done(text);
    }
    let told = scenario.fails("sandbox", FailureKind::SandboxStatus, "rpc error: broken");
    assert!(
        told.starts_with("FailedPodSandBoxStatus: Unable to get pod sandbox status: rpc error: broken"),
        "{told}"
    );
}
