//! The tables.

use model::reason::Refusal;

use super::*;

const ORDINARY: Cause<'static> = Cause::Ordinary;
const EVICTED: Cause<'static> =
    Cause::Failed { reason: "Evicted", message: "low on memory", is_disruption: false };

/// Container statuses in a word each, as [`text`] writes them, with `sidecar` states as `up` and `starting`.
fn statuses(prefix: &str, words: &[&str]) -> Vec<ContainerStatus> {
    let one = |(i, word): (usize, &&str)| {
        let ended = |code: &str| json!({"terminated": {"exitCode": code.parse::<i32>().unwrap()}});
        let (state, last) = match word.split_once(' ') {
            Some(("exit", code)) => (ended(code), json!({})),
            Some(("after", code)) => (json!({"waiting": {}}), ended(code)),
            _ if *word == "wait" => (json!({"waiting": {}}), json!({})),
            _ => (json!({"running": {}}), json!({})),
        };
        serde_json::from_value(json!({
            "name": format!("{prefix}{i}"), "state": state, "lastState": last, "started": *word != "starting",
            "image": "", "imageID": "", "ready": false, "restartCount": 0,
        }))
        .unwrap()
    };
    words.iter().enumerate().filter(|(_, w)| **w != "none").map(one).collect()
}

/// `(case, restart policy, init states, regular states, is ended, phase)`; an init container whose
/// state begins with `@` is a sidecar.
type PhaseCase =
    (&'static str, &'static str, &'static [&'static str], &'static [&'static str], bool, &'static str);

const PHASES: &[PhaseCase] = &[
    ("nothing known", "Always", &[], &["none"], false, "Pending"),
    ("waiting", "Always", &[], &["wait", "wait"], false, "Pending"),
    ("all run", "Always", &[], &["run", "run"], false, "Running"),
    ("all ended", "Always", &[], &["exit 0", "exit 0"], false, "Running"),
    ("all ended, for good", "Always", &[], &["exit 0", "exit 0"], true, "Succeeded"),
    ("all failed, for good", "Always", &[], &["exit 1", "exit 1"], true, "Failed"),
    ("one of two ended", "Always", &[], &["run", "exit 0"], false, "Running"),
    ("one of two failed, for good", "Always", &[], &["exit 0", "exit 1"], true, "Failed"),
    ("one unknown", "Always", &[], &["run", "none"], false, "Pending"),
    ("one waits", "Always", &[], &["run", "wait"], false, "Pending"),
    ("crash loop", "Always", &[], &["run", "after 1"], false, "Running"),
    ("crash loop of all", "Always", &[], &["after 1", "after 1"], false, "Running"),
    ("never: all run", "Never", &[], &["run", "run"], false, "Running"),
    ("never: succeeded", "Never", &[], &["exit 0", "exit 0"], false, "Succeeded"),
    ("never: failed", "Never", &[], &["exit 1", "exit 1"], false, "Failed"),
    ("never: mixed", "Never", &[], &["exit 0", "exit 1"], false, "Failed"),
    ("never: one runs", "Never", &[], &["run", "exit 1"], false, "Running"),
    ("never: one unknown", "Never", &[], &["exit 0", "none"], false, "Pending"),
    ("on failure: succeeded", "OnFailure", &[], &["exit 0", "exit 0"], false, "Succeeded"),
    ("on failure: failed", "OnFailure", &[], &["exit 1", "exit 1"], false, "Running"),
    ("on failure: mixed", "OnFailure", &[], &["exit 0", "exit 1"], false, "Running"),
    ("on failure: failed, for good", "OnFailure", &[], &["exit 1", "exit 0"], true, "Failed"),
    ("on failure: waits after failure", "OnFailure", &[], &["after 1", "exit 0"], false, "Running"),
    ("init: none begun", "Always", &["none"], &["none"], false, "Pending"),
    ("init: runs", "Always", &["run"], &["wait"], false, "Pending"),
    ("init: failed, tried again", "Always", &["exit 1"], &["wait"], false, "Pending"),
    ("init: crash loop", "Always", &["after 1"], &["wait"], false, "Pending"),
    ("init: done", "Always", &["exit 0"], &["wait"], false, "Pending"),
    ("init: done and running", "Always", &["exit 0"], &["run"], false, "Running"),
    ("init: failed for good", "Never", &["exit 1"], &["wait"], false, "Failed"),
    ("init: waits after failing for good", "Never", &["after 1"], &["wait"], false, "Failed"),
    ("init: second of two failed", "Never", &["exit 0", "exit 1"], &["wait"], false, "Failed"),
    ("init: second pending", "Never", &["exit 0", "wait"], &["wait"], false, "Pending"),
    ("init: on failure", "OnFailure", &["exit 1"], &["wait"], false, "Pending"),
    ("sidecar: starting", "Always", &["@starting"], &["wait"], false, "Pending"),
    ("sidecar: up", "Always", &["@up"], &["wait"], false, "Pending"),
    ("sidecar: up and running", "Always", &["@up"], &["run"], false, "Running"),
    ("sidecar: not known", "Always", &["@none"], &["run"], false, "Pending"),
    ("sidecar: down while others run", "Always", &["@exit 1"], &["run"], false, "Running"),
    ("sidecar: crash loop", "Always", &["@after 1"], &["run"], false, "Running"),
    ("sidecar: outlives a success", "Never", &["@up"], &["exit 0"], false, "Running"),
    ("sidecar: all succeeded", "Never", &["@exit 0"], &["exit 0"], false, "Succeeded"),
    ("sidecar: its failure does not count", "Never", &["@exit 137"], &["exit 0"], false, "Succeeded"),
    ("sidecar: a container failed", "Never", &["@exit 0"], &["exit 1"], false, "Failed"),
    ("sidecar: gone and others restarting", "OnFailure", &["@exit 0"], &["exit 1"], false, "Running"),
];

#[test]
fn phases() {
    for (case, policy, init, regular, is_ended, want) in PHASES {
        let init_specs: Vec<_> = init
            .iter()
            .enumerate()
            .map(|(i, word)| match word.starts_with('@') {
                true => json!({"name": format!("i{i}"), "restartPolicy": "Always"}),
                false => json!({"name": format!("i{i}")}),
            })
            .collect();
        let regular_specs: Vec<_> = (0..regular.len()).map(|i| json!({"name": format!("c{i}")})).collect();
        let mut world = World::new(
            json!({"restartPolicy": policy, "initContainers": init_specs, "containers": regular_specs}),
        );
        world.observed.sandboxes.clear();
        let init: Vec<_> = init.iter().map(|word| word.trim_start_matches('@')).collect();
        let status = PodStatus {
            init_container_statuses: Some(statuses("i", &init)),
            container_statuses: Some(statuses("c", regular)),
            ..PodStatus::default()
        };
        assert_eq!(phase::of(&world.inputs(Stage::Running), &status, *is_ended), *want, "{case}");
    }
}

/// A sidecar that starts again does not take a pod back to `Pending`, a new sandbox does.
#[test]
fn a_restarting_sidecar_in_a_pod_that_got_going() {
    let spec = json!({"initContainers": [{"name": "i0", "restartPolicy": "Always"}], "containers": [{"name": "c0"}]});
    for (sandbox_id, want) in [("s1", "Running"), ("s2", "Pending")] {
        let mut world = World::new(spec.clone())
            .with("i0", 1, "running")
            .with("c0", 0, "running")
            .note("i0", false, false);
        world.observed.sandboxes = vec![sandbox(sandbox_id, true)];
        assert_eq!(world.generate(Stage::Running).phase.as_deref(), Some(want), "{sandbox_id}");
    }
}

#[test]
fn restart_rules_of_a_container_decide_over_the_phase() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    for (code, want) in [(42, "Running"), (1, "Failed")] {
        let spec = json!({"restartPolicy": "Never", "containers":
            [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rule.clone()}]});
        let world = World::new(spec).with("c", 0, &format!("exit {code}"));
        assert_eq!(world.generate(Stage::Running).phase.as_deref(), Some(want), "{code}");
    }
}

fn one() -> Value {
    json!({"containers": [{"name": "c"}]})
}

fn with_init() -> Value {
    json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]})
}

#[test]
fn containers() {
    let two = || {
        json!({"containers": [{"name": "b"}, {"name": "a"}],
        "initContainers": [{"name": "z"}, {"name": "y", "restartPolicy": "Always"}],
        "ephemeralContainers": [{"name": "q"}, {"name": "p"}]})
    };
    let never = || json!({"restartPolicy": "Never", "containers": [{"name": "c"}]});
    for (case, world, want) in [
        ("nothing yet", World::new(one()), vec!["c: wait ContainerCreating"]),
        (
            "nothing yet, with init",
            World::new(with_init()),
            vec!["i: wait PodInitializing", "c: wait PodInitializing"],
        ),
        (
            "init lists in the order of the spec, the others by name",
            World::new(two()),
            vec![
                "z: wait PodInitializing",
                "y: wait PodInitializing",
                "a: wait PodInitializing",
                "b: wait PodInitializing",
                "p: wait PodInitializing",
                "q: wait PodInitializing",
            ],
        ),
        ("runs", World::new(one()).with("c", 0, "running"), vec!["c: running"]),
        ("created", World::new(one()).with("c", 0, "created"), vec!["c: wait ContainerCreating"]),
        ("pull fails", World::new(one()).waiting("c", "ErrImagePull"), vec!["c: wait ErrImagePull"]),
        (
            "a reason does not hide a running one",
            World::new(one()).with("c", 0, "running").waiting("c", "x"),
            vec!["c: running"],
        ),
        ("ended", World::new(one()).with("c", 0, "exit 1"), vec!["c: exit 1"]),
        (
            "backs off",
            World::new(one()).with("c", 2, "exit 1").with("c", 1, "exit 3").waiting("c", "CrashLoopBackOff"),
            vec!["c: wait CrashLoopBackOff, last exit 1, restarts 2"],
        ),
        (
            "ended and not to be restarted",
            World::new(never()).with("c", 0, "exit 1").waiting("c", "CrashLoopBackOff"),
            vec!["c: exit 1"],
        ),
        (
            "restarted",
            World::new(one()).with("c", 1, "running").with("c", 0, "exit 3"),
            vec!["c: running, last exit 3, restarts 1"],
        ),
        (
            "a done init container is not restarted",
            World::new(with_init()).with("i", 0, "exit 0").waiting("i", "CrashLoopBackOff"),
            vec!["i: exit 0", "c: wait PodInitializing"],
        ),
        (
            "a failed one is",
            World::new(with_init()).with("i", 0, "exit 1").waiting("i", "CrashLoopBackOff"),
            vec!["i: wait CrashLoopBackOff, last exit 1", "c: wait PodInitializing"],
        ),
        (
            "an init container removed after its pod got going was a success",
            World::new(with_init()).with("c", 0, "running").waiting("i", "ErrImagePull"),
            vec!["i: exit 0", "c: running"],
        ),
        (
            "a running container vanished",
            World::new(one()).with("c", 1, "running").then_lost(Stage::Running),
            vec!["c: wait ContainerCreating, last lost 137, restarts 2"],
        ),
        (
            "an ended container vanished",
            World::new(one()).with("c", 1, "exit 4").then_lost(Stage::Running),
            vec!["c: exit 4, restarts 1"],
        ),
        (
            "an ended container vanished and is waited for",
            World::new(one()).with("c", 1, "exit 4").then_lost(Stage::Running).waiting("c", "ErrImagePull"),
            vec!["c: wait ErrImagePull, last exit 4, restarts 1"],
        ),
        (
            "its successor counts on",
            World::new(one()).with("c", 4, "exit 4").then_lost(Stage::Running).with("c", 5, "running"),
            vec!["c: running, last exit 4, restarts 5"],
        ),
        (
            "the runtime lost track of one that never ran",
            World::new(one()).with("c", 0, "unknown"),
            vec!["c: wait ContainerCreating"],
        ),
        (
            "the runtime lost track of a running one",
            World::new(one()).with("c", 0, "running").then_lost(Stage::Running).with("c", 0, "unknown"),
            vec!["c: lost 137"],
        ),
    ] {
        let mut world = world;
        let status = world.generate(Stage::Running);
        assert_eq!(texts(&status), want, "{case}");
        // What was said once is said again: the core computes a status at every turn.
        world.previous = status.clone();
        assert_eq!(world.generate(Stage::Running), status, "{case}, again");
    }
}

#[test]
fn what_the_runtime_lost_track_of_stays_lost() {
    let mut world =
        World::new(one()).with("c", 0, "running").then_lost(Stage::Running).with("c", 0, "unknown");
    world.previous = world.generate(Stage::Running);
    assert_eq!(texts(&world.generate(Stage::Running)), ["c: lost 137"]);
}

/// A successor whose number starts over (its predecessors' traces are gone) does not turn the
/// restart count back or leave it standing.
#[test]
fn a_successor_that_counts_from_zero() {
    let mut world = World::new(one()).with("c", 4, "exit 4").then_lost(Stage::Running);
    let mut successor = instance("c", 0, "running");
    successor.id = "other".into();
    world.observed.containers = vec![successor];
    world.previous = world.generate(Stage::Running);
    for _ in 0..2 {
        let status = world.generate(Stage::Running);
        assert_eq!(texts(&status), ["c: running, last exit 4, restarts 5"]);
        world.previous = status;
    }
}

#[test]
fn images_of_volumes_are_named_where_that_is_wanted() {
    for (is_wanted, named) in [(false, json!(null)), (true, json!({ "image": { "imageRef": "sha256:2" } }))] {
        let spec = json!({"containers": [{"name": "c", "volumeMounts": [
            {"name": "i", "mountPath": "/i"}, {"name": "e", "mountPath": "/e"},
        ]}], "volumes": [{"name": "i", "image": {"reference": "data:1"}}, {"name": "e", "emptyDir": {}}]});
        let mut world = World::new(spec).with("c", 0, "running");
        world.gates.names_volume_images = is_wanted;
        world.observed.containers[0].image_mounts = vec![model::ImageMountObservation {
            container_path: "/i".to_owned(),
            image: model::ImageRef::from("sha256:2"),
        }];
        let status = world.generate(Stage::Running);
        let got = serde_json::to_value(&status.container_statuses.unwrap()[0].volume_mounts).unwrap();
        assert_eq!((&got[0]["volumeStatus"], &got[1]["volumeStatus"]), (&named, &json!(null)));
    }
}

#[test]
fn a_container_in_full() {
    let spec = json!({"containers": [{"name": "c", "image": "img",
    "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
    "volumeMounts": [
        {"name": "v", "mountPath": "/v"},
        {"name": "w", "mountPath": "/w", "readOnly": true},
        {"name": "x", "mountPath": "/x", "readOnly": true, "recursiveReadOnly": "Enabled"},
        {"name": "y", "mountPath": "/y", "readOnly": true, "recursiveReadOnly": "IfPossible"},
        {"name": "z", "mountPath": "/z", "readOnly": true, "recursiveReadOnly": "IfPossible"},
    ]}]});
    let mut world = World::new(spec).with("c", 1, "exit 7");
    world.observed.containers[0].user =
        Some(model::observed::ContainerUser { uid: 1, gid: 2, supplemental_groups: vec![3] });
    world.observed.containers[0].recursive_read_only = vec!["/x".to_owned(), "/y".to_owned()];
    world.observed.containers[0].stop_signal = Some("SIGUSR1".to_owned());
    let status = world.generate(Stage::Running);
    let got = serde_json::to_value(&status.container_statuses.unwrap()[0]).unwrap();
    assert_eq!(
        got,
        json!({
            "name": "c",
            "image": "docker.io/library/img:1",
            "imageID": "sha256:1",
            "containerID": "containerd://c-1",
            "restartCount": 1,
            "ready": false,
            "started": false,
            "state": {"terminated": {
                "exitCode": 7, "reason": "Error", "containerID": "containerd://c-1",
                "startedAt": "1970-01-01T00:00:10Z", "finishedAt": "1970-01-01T00:00:20Z",
            }},
            "lastState": {},
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
            "allocatedResources": {"cpu": "100m"},
            "user": {"linux": {"uid": 1, "gid": 2, "supplementalGroups": [3]}},
            "stopSignal": "SIGUSR1",
            "volumeMounts": [
                {"name": "v", "mountPath": "/v"},
                {"name": "w", "mountPath": "/w", "readOnly": true, "recursiveReadOnly": "Disabled"},
                {"name": "x", "mountPath": "/x", "readOnly": true, "recursiveReadOnly": "Enabled"},
                {"name": "y", "mountPath": "/y", "readOnly": true, "recursiveReadOnly": "Enabled"},
                {"name": "z", "mountPath": "/z", "readOnly": true, "recursiveReadOnly": "Disabled"},
            ],
        })
    );
}

#[test]
fn long_messages_share_what_a_pod_may_write() {
    let mut world = World::new(json!({"containers": [{"name": "a"}, {"name": "b"}]})).with("a", 0, "exit 1");
    let ContainerState::Exited(exit) = &mut world.observed.containers[0].state else { unreachable!() };
    exit.message = "é".repeat(6000);
    let status = world.generate(Stage::Running);
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.terminated.unwrap().message.unwrap().len(), 6 * 1024);
}

#[test]
fn started_and_ready() {
    let spec = || {
        json!({"containers": [{"name": "c"}], "ephemeralContainers": [{"name": "e"}],
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]})
    };
    let running = || {
        World::new(spec())
            .with("i", 0, "exit 0")
            .with("s", 0, "running")
            .with("c", 0, "running")
            .with("e", 0, "running")
    };
    for (case, world, want) in [
        ("all up", running(), "i 0 1, s 1 1, c 1 1, e - 0"),
        ("a startup probe runs", running().note("c", false, false), "i 0 1, s 1 1, c 0 0, e - 0"),
        ("not ready", running().note("c", true, false), "i 0 1, s 1 1, c 1 0, e - 0"),
        ("a sidecar not ready", running().note("s", true, false), "i 0 1, s 1 0, c 1 1, e - 0"),
        (
            "a note outlives its container",
            World::new(spec()).with("i", 0, "exit 1").with("s", 0, "exit 0").with("c", 0, "exit 0"),
            "i 0 0, s 0 0, c 0 0, e - 0",
        ),
    ] {
        let status = world.generate(Stage::Running);
        let lists = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let all: Vec<_> = lists
            .into_iter()
            .flatten()
            .flatten()
            .map(|c| {
                let started = c.started.map_or("-".to_owned(), |s| u8::from(s).to_string());
                format!("{} {started} {}", c.name, u8::from(c.ready))
            })
            .collect();
        assert_eq!(all.join(", "), want, "{case}");
    }
}

#[test]
fn conditions() {
    let gated = || json!({"containers": [{"name": "c"}], "readinessGates": [{"conditionType": "g"}]});
    let gate = |mut world: World, status: &str| {
        world.previous.conditions =
            Some(vec![serde_json::from_value(json!({"type": "g", "status": status})).unwrap()]);
        world
    };
    let pair = || json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]});
    let sidecar = || json!({"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    for (case, kind, world, want) in [
        ("always", "PodScheduled", World::new(one()), "True"),
        (
            "waiting",
            "ContainersReady",
            World::new(pair()),
            "False ContainersNotReady: containers with unready status: [a b]",
        ),
        (
            "waiting",
            "Ready",
            World::new(pair()),
            "False ContainersNotReady: containers with unready status: [a b]",
        ),
        (
            "one up",
            "ContainersReady",
            World::new(pair()).with("a", 0, "running"),
            "False ContainersNotReady: containers with unready status: [b]",
        ),
        ("up", "ContainersReady", World::new(pair()).with("a", 0, "running").with("b", 0, "running"), "True"),
        ("up", "Ready", World::new(pair()).with("a", 0, "running").with("b", 0, "running"), "True"),
        (
            "succeeded",
            "Ready",
            World::new(pair()).with("a", 0, "exit 0").with("b", 0, "exit 0"),
            "False PodCompleted",
        ),
        (
            "succeeded",
            "ContainersReady",
            World::new(pair()).with("a", 0, "exit 0").with("b", 0, "exit 0"),
            "False PodCompleted",
        ),
        (
            "failed",
            "Ready",
            World::new(pair()).with("a", 0, "exit 1").with("b", 0, "exit 0"),
            "False PodFailed",
        ),
        (
            "succeeded",
            "Initialized",
            World::new(pair()).with("a", 0, "exit 0").with("b", 0, "exit 0"),
            "True PodCompleted",
        ),
        (
            "a sidecar is not ready",
            "Ready",
            World::new(sidecar()).with("s", 0, "running").with("c", 0, "running").note("s", true, false),
            "False ContainersNotReady: containers with unready status: [s]",
        ),
        (
            "no word from the gate",
            "Ready",
            World::new(gated()).with("c", 0, "running"),
            "False ReadinessGatesNotReady: corresponding condition of pod readiness gate \"g\" does not exist.",
        ),
        (
            "the gate is shut",
            "Ready",
            gate(World::new(gated()).with("c", 0, "running"), "False"),
            "False ReadinessGatesNotReady: the status of pod readiness gate \"g\" is not \"True\", but False",
        ),
        (
            "a gate says nothing of containers",
            "ContainersReady",
            World::new(gated()).with("c", 0, "running"),
            "True",
        ),
        ("the gate is open", "Ready", gate(World::new(gated()).with("c", 0, "running"), "True"), "True"),
        ("no init containers", "Initialized", World::new(one()), "True"),
        (
            "init pending",
            "Initialized",
            World::new(with_init()),
            "False ContainersNotInitialized: containers with incomplete status: [i]",
        ),
        (
            "init failed",
            "Initialized",
            World::new(with_init()).with("i", 0, "exit 1"),
            "False ContainersNotInitialized: containers with incomplete status: [i]",
        ),
        ("init done", "Initialized", World::new(with_init()).with("i", 0, "exit 0"), "True"),
        (
            "a sidecar starts",
            "Initialized",
            World::new(sidecar()).with("s", 0, "running").note("s", false, false),
            "False ContainersNotInitialized: containers with incomplete status: [s]",
        ),
        ("a sidecar is up", "Initialized", World::new(sidecar()).with("s", 0, "running"), "True"),
        (
            "a sidecar restarts in a running pod",
            "Initialized",
            World::new(sidecar()).with("s", 0, "exit 1").with("c", 0, "running"),
            "True",
        ),
    ] {
        assert_eq!(verdict(&world.generate(Stage::Running), kind), want, "{case}: {kind}");
    }
}

#[test]
fn initialized_stays() {
    let mut world = World::new(with_init()).with("i", 0, "exit 0");
    world.previous = world.generate(Stage::Running);
    world.observed.containers = vec![instance("i", 1, "running")];
    assert_eq!(verdict(&world.generate(Stage::Running), "Initialized"), "True");
}

#[test]
fn sandboxes() {
    let bare = |id: &str| SandboxObservation { ips: Vec::new(), ..sandbox(id, true) };
    let host = json!({"hostNetwork": true, "containers": [{"name": "c"}]});
    for (case, spec, sandboxes, want) in [
        ("none", one(), vec![], "False PodSandboxNotReady: no pod sandbox exists"),
        ("ready", one(), vec![sandbox("a", true)], "True"),
        ("ready after another", one(), vec![sandbox("b", true), sandbox("a", false)], "True"),
        ("gone", one(), vec![sandbox("a", false)], "False PodSandboxNotReady: pod sandbox is not ready"),
        (
            "an older one is ready",
            one(),
            vec![sandbox("b", false), sandbox("a", true)],
            "False PodSandboxNotReady: pod sandbox is not ready",
        ),
        (
            "two",
            one(),
            vec![sandbox("b", true), sandbox("a", true)],
            "False PodSandboxNotReady: multiple pod sandboxes are ready and need to be reconciled",
        ),
        ("no address", one(), vec![bare("a")], "False PodSandboxNotReady: pod sandbox has no IP address"),
        ("no address of its own", host, vec![bare("a")], "True"),
    ] {
        let mut world = World::new(spec);
        world.observed.sandboxes = sandboxes;
        assert_eq!(verdict(&world.generate(Stage::Running), "PodReadyToStartContainers"), want, "{case}");
    }
}

#[test]
fn transition_times_change_with_the_status_only() {
    let mut world = World::new(one());
    let first = world.generate(Stage::Running);
    assert_eq!(condition(&first, "Ready").last_transition_time, Some(Time(at_second(1000))));
    assert_eq!(condition(&first, "Ready").observed_generation, Some(3));
    world.previous = first;
    world.now = at(2000);
    // Another reason is no transition.
    world.edit(|pod| pod.spec.as_mut().unwrap().containers[0].name = "d".to_owned());
    let second = world.generate(Stage::Running);
    assert_eq!(condition(&second, "Ready").last_transition_time, Some(Time(at_second(1000))));
    world.previous = second;
    let third = World { previous: world.previous.clone(), now: at(3000), ..World::new(one()) }
        .with("c", 0, "running");
    let third = third.generate(Stage::Running);
    assert_eq!(condition(&third, "Ready").last_transition_time, Some(Time(at_second(3000))));
    assert_eq!(condition(&third, "PodScheduled").last_transition_time, Some(Time(at_second(1000))));
    assert_eq!(third.start_time, Some(Time(at_second(900))));
    assert_eq!(third.observed_generation, Some(3));
}

fn at_second(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}

#[test]
fn conditions_of_others_stay() {
    let mut world = World::new(one()).with("c", 0, "running");
    let theirs = json!([
        {"type": "example.com/gate", "status": "True", "reason": "Theirs"},
        {"type": "Ready", "status": "False", "reason": "Stale"},
    ]);
    let theirs = PodStatus { conditions: serde_json::from_value(theirs).unwrap(), ..PodStatus::default() };
    world.edit(|pod| pod.status = Some(theirs));
    world.previous.conditions = serde_json::from_value(
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]),
    )
    .unwrap();
    let status = world.generate(Stage::Running);
    assert_eq!(verdict(&status, "example.com/gate"), "True Theirs");
    assert_eq!(verdict(&status, "DisruptionTarget"), "True TerminationByKubelet");
    assert_eq!(verdict(&status, "Ready"), "True");
    let kinds: Vec<_> = status.conditions.iter().flatten().map(|c| c.type_.as_str()).collect();
    assert_eq!(kinds.iter().filter(|k| **k == "Ready").count(), 1);
}

fn phase_and_reason(status: &PodStatus) -> (String, String) {
    (status.phase.clone().unwrap_or_default(), status.reason.clone().unwrap_or_default())
}

#[test]
fn phases_over_the_life_of_a_pod() {
    let before = |world: World, phase: &str, reason: &str| World {
        previous: PodStatus {
            phase: Some(phase.to_owned()),
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            ..PodStatus::default()
        },
        ..world
    };
    let in_api = |mut world: World, phase: &str| {
        let status = PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        world.edit(|pod| pod.status = Some(status));
        world
    };
    let is_static = |mut world: World| {
        let source = (pod::ANNOTATION_CONFIG_SOURCE.to_owned(), "file".to_owned());
        world.edit(|pod| pod.metadata.annotations = Some(BTreeMap::from([source])));
        world
    };
    let never = || json!({"restartPolicy": "Never", "containers": [{"name": "c"}]});
    let run = || World::new(one()).with("c", 0, "running");
    let init_never = json!({"restartPolicy": "Never", "containers": [{"name": "c"}],
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    for (case, world, stage, want) in [
        (
            "the reason belongs to the phase",
            before(run(), "Running", "Kept"),
            Stage::Running,
            ("Running", "Kept"),
        ),
        ("and goes with it", before(run(), "Pending", "Dropped"), Stage::Running, ("Running", "")),
        ("failed for good", before(run(), "Failed", "Evicted"), Stage::Running, ("Failed", "Evicted")),
        ("succeeded for good", before(World::new(one()), "Succeeded", ""), Stage::Running, ("Succeeded", "")),
        ("failed for good by the API", in_api(run(), "Failed"), Stage::Running, ("Failed", "")),
        ("deleted, still running", before(run(), "Running", ""), Stage::Ending(ORDINARY), ("Running", "")),
        ("evicted, still running", before(run(), "Running", ""), Stage::Ending(EVICTED), ("Running", "")),
        (
            "evicted while pending, still running",
            before(run(), "Pending", ""),
            Stage::Ending(EVICTED),
            ("Pending", ""),
        ),
        (
            "evicted, stopped",
            before(World::new(one()).with("c", 0, "exit 137"), "Running", ""),
            Stage::Ending(EVICTED),
            ("Failed", "Evicted"),
        ),
        (
            "evicted after it succeeded",
            before(World::new(never()).with("c", 0, "exit 0"), "Succeeded", ""),
            Stage::Ended(EVICTED),
            ("Succeeded", ""),
        ),
        (
            "deleted and ended well",
            before(World::new(one()).with("c", 0, "exit 0"), "Running", ""),
            Stage::Ended(ORDINARY),
            ("Succeeded", ""),
        ),
        (
            "deleted and ended badly",
            before(World::new(one()).with("c", 0, "exit 143"), "Running", ""),
            Stage::Ended(ORDINARY),
            ("Failed", ""),
        ),
        ("deleted before it got going", World::new(one()), Stage::Ended(ORDINARY), ("Failed", "")),
        (
            "deleted during init",
            World::new(with_init()).with("i", 0, "exit 1"),
            Stage::Ended(ORDINARY),
            ("Failed", ""),
        ),
        (
            "a static pod will be back",
            is_static(World::new(one()).with("c", 0, "exit 0")),
            Stage::Ended(ORDINARY),
            ("Running", ""),
        ),
        (
            "an init container failed for good while a sidecar runs",
            before(World::new(init_never).with("i", 0, "exit 1").with("s", 0, "running"), "Pending", ""),
            Stage::Running,
            ("Pending", ""),
        ),
    ] {
        let got = phase_and_reason(&world.generate(stage));
        assert_eq!((got.0.as_str(), got.1.as_str()), want, "{case}");
    }
}

#[test]
fn the_end_of_every_container() {
    let three_init = || json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}, {"name": "k"}]});
    for (case, world, want) in [
        ("ended", World::new(one()).with("c", 0, "exit 3"), vec!["c: exit 3"]),
        ("said to run", World::new(one()).with("c", 0, "running"), vec!["c: lost 137"]),
        ("never seen", World::new(one()), vec!["c: lost 137"]),
        (
            "backed off",
            World::new(one()).with("c", 1, "exit 3").waiting("c", "CrashLoopBackOff"),
            vec!["c: exit 3, restarts 1"],
        ),
        (
            "init not through",
            World::new(with_init()).with("i", 0, "running"),
            vec!["i: lost 137", "c: wait PodInitializing"],
        ),
        ("init never seen", World::new(with_init()), vec!["i: lost 137", "c: wait PodInitializing"]),
        ("init through", World::new(with_init()).with("i", 0, "exit 0"), vec!["i: exit 0", "c: lost 137"]),
        (
            "the init containers after the last that was tried stay as they are",
            World::new(three_init()).with("i", 0, "exit 0").with("j", 0, "running"),
            vec!["i: exit 0", "j: lost 137", "k: wait PodInitializing", "c: wait PodInitializing"],
        ),
    ] {
        let status = world.generate(Stage::Ended(ORDINARY));
        assert_eq!(texts(&status), want, "{case}");
        let again = World { previous: status.clone(), ..world };
        assert_eq!(again.generate(Stage::Ended(ORDINARY)), status, "{case}, again");
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let is_up = |c: &ContainerStatus| c.ready && text(c) != "exit 0" || c.started == Some(true);
        assert!(!lists.into_iter().flatten().flatten().any(is_up), "{case}");
    }
}

#[test]
fn a_rejected_pod() {
    let mut world = World::new(one());
    world.observed.sandboxes.clear();
    let rejection = Rejection { reason: Refusal::OutOf("cpu".to_owned()), message: "no".to_owned() };
    let rejected = Cause::Rejected(&rejection);
    for stage in [Stage::Ending(rejected), Stage::Ended(rejected)] {
        let got = serde_json::to_value(world.generate(stage)).unwrap();
        assert_eq!(
            got,
            json!({
                "phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected: no",
                "qosClass": "BestEffort", "startTime": "1970-01-01T00:15:00Z", "observedGeneration": 3,
            })
        );
    }
}

#[test]
fn addresses() {
    let host = || json!({"hostNetwork": true, "containers": [{"name": "c"}]});
    let list = |text: &str| text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    for (case, spec, host_ips, ips, want) in [
        ("one", one(), "10.0.0.1", "10.1.0.7", "10.1.0.7"),
        ("the node's family first", one(), "10.0.0.1", "fd00::7,10.1.0.7", "10.1.0.7,fd00::7"),
        ("a v6 node", one(), "fd00::1", "10.1.0.7,fd00::7", "fd00::7,10.1.0.7"),
        ("one of each family", one(), "10.0.0.1", "10.1.0.7,10.1.0.8,fd00::7,fd00::8", "10.1.0.7,fd00::7"),
        ("only the other family", one(), "10.0.0.1", "fd00::7", "fd00::7"),
        ("spelled as usual", one(), "fd00::1", "fd00:0:0::0007,junk", "fd00::7"),
        ("the host's", host(), "10.0.0.1,fd00::1", "", "10.0.0.1,fd00::1"),
        ("none yet", one(), "10.0.0.1", "", ""),
    ] {
        let mut world = World::new(spec);
        world.host_ips = list(host_ips);
        world.is_ipv6_first = host_ips.starts_with('f');
        world.observed.sandboxes[0].ips = list(ips);
        let status = world.generate(Stage::Running);
        let got: Vec<_> = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
        assert_eq!(got.join(","), want, "{case}");
        assert_eq!(
            status.pod_ip.unwrap_or_default(),
            list(want).first().cloned().unwrap_or_default(),
            "{case}"
        );
        assert_eq!(status.host_ip, list(host_ips).first().cloned(), "{case}");
    }
    let mut world = World::new(one());
    world.previous = world.generate(Stage::Running);
    world.observed.sandboxes.clear();
    assert_eq!(world.generate(Stage::Ended(ORDINARY)).pod_ip.as_deref(), Some("10.1.0.7"));
}

#[test]
fn resources_of_the_pod() {
    let amounts = |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
    let spec = json!({"overhead": {"cpu": "10m"}, "containers": [
        {"name": "a", "resources": amounts(json!({"cpu": "100m", "example.com/x": "1"}), json!({"memory": "1Gi", "example.com/x": "1"}))},
        {"name": "b", "resources": amounts(json!({"cpu": "100m"}), json!({"cpu": "1"}))},
    ]});
    let pending = World::new(spec.clone()).generate(Stage::Running);
    let mut world = World::new(spec).with("a", 0, "running").with("b", 0, "running");
    let all = json!({"cpu": "210m", "memory": "1Gi", "example.com/x": "1"});
    assert_eq!(json!(pending.allocated_resources), all);
    assert_eq!(
        json!(pending.resources),
        json!({"requests": all, "limits": {"cpu": "1010m", "memory": "1Gi", "example.com/x": "1"}})
    );
    let running = |world: &World| json!(world.generate(Stage::Running).resources);
    assert_eq!(running(&world), json!({"requests": {"memory": "1Gi"}}), "nothing is known of the cgroup");
    // Only some containers have limits, so the pod's cgroup has none; its weight is coarser than the request.
    world.cgroup = cgroup(211, None, None);
    let has = json!({"requests": {"cpu": "207m", "memory": "1Gi"}});
    assert_eq!(running(&world), has);
    // It was read before, by this process or an earlier one.
    world.previous = world.generate(Stage::Running);
    world.cgroup = None;
    assert_eq!(running(&world), has);
    world.previous.phase = Some("Pending".to_owned());
    assert_eq!(running(&world), json!({"requests": {"memory": "1Gi"}}));

    world.gates.grants_pod_level_resources = false;
    let status = world.generate(Stage::Running);
    assert_eq!((status.resources, status.allocated_resources), (None, None));
}

fn cgroup(shares: u64, cpu_limit_millis: Option<u64>, memory: Option<u64>) -> Option<CgroupObservation> {
    Some(CgroupObservation { cpu_shares: Some(shares), cpu_limit_millis, memory_limit_bytes: memory })
}

/// Upstream's `TestConvertToAPIPodLevelResourcesStatus`: what the pod asks for as a whole, and what its cgroup has of that.
#[test]
fn resources_in_effect() {
    let whole = |cpu: &str, limit: &str| json!({"requests": {"cpu": cpu, "memory": "64Mi", "hugepages-2Mi": "4Mi"}, "limits": {"cpu": limit, "memory": "100Mi", "hugepages-2Mi": "4Mi"}});
    let pages = "4Mi";
    for (case, own, has, requests, limits) in [
        (
            "a weight that the request comes to",
            whole("1", "2"),
            cgroup(998, Some(2000), Some(104_857_600)),
            json!({"cpu": "1", "memory": "64Mi", "hugepages-2Mi": pages}),
            json!({"cpu": "2", "memory": "100Mi", "hugepages-2Mi": pages}),
        ),
        (
            "somebody else has written to it",
            whole("1", "2"),
            cgroup(500, Some(1500), Some(52_428_800)),
            json!({"cpu": "489m", "memory": "64Mi", "hugepages-2Mi": pages}),
            json!({"cpu": "1500m", "memory": "50Mi", "hugepages-2Mi": pages}),
        ),
        (
            "what the kernel takes for the least",
            whole("1m", "5m"),
            cgroup(2, Some(10), None),
            json!({"cpu": "1m", "memory": "64Mi", "hugepages-2Mi": pages}),
            json!({"cpu": "5m", "memory": "100Mi", "hugepages-2Mi": pages}),
        ),
        (
            "the number of cgroup v1 for no limit",
            json!({}),
            cgroup(2, None, Some((1 << 63) - 4096)),
            json!({"memory": "32Mi"}),
            json!({"memory": "9007199254740988Ki"}),
        ),
        (
            "no limits",
            json!({}),
            cgroup(2, Some(100), Some(4096)),
            json!({"memory": "32Mi"}),
            json!({"cpu": "100m", "memory": "4Ki"}),
        ),
    ] {
        let container = json!({"name": "a", "resources": {"requests": {"memory": "32Mi"}}});
        let spec = json!({"resources": own, "containers": [container]});
        let mut world = World::new(spec).with("a", 0, "running");
        world.cgroup = has;
        let shown = json!(world.generate(Stage::Running).resources);
        assert_eq!(shown, json!({"requests": requests, "limits": limits}), "{case}");

        world.edit(|pod| {
            let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
            pod.metadata.annotations.get_or_insert_default().extend([source]);
        });
        let shown = world.generate(Stage::Running).resources;
        assert_eq!(shown, World::new(json!(world.pod.spec)).generate(Stage::Running).resources, "{case}");
    }
}

/// Upstream's `TestConvertToAPIContainerStatusesForResources`: a running container has what the runtime says.
#[test]
fn resources_of_a_container() {
    let applied = |cpu_shares, cpu_quota, memory_limit_bytes| {
        Some(ContainerResources { cpu_shares, cpu_quota, cpu_period: 100_000, memory_limit_bytes })
    };
    let amounts = |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
    for (case, asked, state, applied, want) in [
        (
            "in the canonical form",
            amounts(json!({"cpu": "100e-3"}), json!({"cpu": "0.2", "memory": "134217728500m"})),
            "running",
            applied(102, 20_000, 134_217_729),
            amounts(json!({"cpu": "100m"}), json!({"cpu": "200m", "memory": "134217729"})),
        ),
        (
            "other than asked for",
            amounts(json!({"cpu": "1", "memory": "1Gi"}), json!({"cpu": "2"})),
            "running",
            applied(512, 100_000, 0),
            amounts(json!({"cpu": "500m", "memory": "1Gi"}), json!({"cpu": "1"})),
        ),
        (
            "too little for the kernel to tell apart",
            amounts(json!({"cpu": "1m"}), json!({"cpu": "5m"})),
            "running",
            applied(2, 1_000, 0),
            amounts(json!({"cpu": "1m"}), json!({"cpu": "5m"})),
        ),
        (
            "no limit",
            amounts(json!({"cpu": "1"}), json!({"memory": "1Gi"})),
            "running",
            applied(1024, -1, 0),
            amounts(json!({"cpu": "1"}), json!({"memory": "1Gi"})),
        ),
        ("none", json!({}), "running", applied(2, 0, 0), json!({})),
        (
            "of one that has ended",
            amounts(json!({"cpu": "1"}), json!({"cpu": "2"})),
            "exit 0",
            applied(512, 100_000, 7),
            amounts(json!({"cpu": "1"}), json!({"cpu": "2"})),
        ),
        (
            "untold",
            amounts(json!({"cpu": "1"}), json!({})),
            "running",
            None,
            json!({"requests": {"cpu": "1"}}),
        ),
    ] {
        let mut world =
            World::new(json!({"containers": [{"name": "c", "resources": asked}]})).with("c", 0, state);
        world.observed.containers[0].resources = applied;
        let status = world.generate(Stage::Running);
        let mut got = json!(status.container_statuses.unwrap()[0].resources);
        // An empty list is as good as none.
        got.as_object_mut().unwrap().retain(|_, list| list.as_object().is_some_and(|l| !l.is_empty()));
        assert_eq!(got, want, "{case}");
    }
}

#[test]
fn a_resize_that_is_not_made() {
    let mut world = World::new(one()).with("c", 0, "running");
    let before = world.generate(Stage::Running);
    assert_eq!(before.conditions.iter().flatten().find(|c| c.type_.starts_with("PodResize")), None);
    world.is_resize_pending = true;
    world.previous = before.clone();
    let pending = world.generate(Stage::Running);
    let want = "True Infeasible: In-place resize is not supported by this kubelet";
    assert_eq!(verdict(&pending, "PodResizePending"), want);
    assert_eq!(condition(&pending, "PodResizePending").observed_generation, Some(3));
    assert!(!is_same(&before, &pending));
    // The next wish is another.
    world.previous = pending.clone();
    world.edit(|pod| pod.metadata.generation = Some(4));
    let next = world.generate(Stage::Running);
    assert!(!is_same(&PodStatus { observed_generation: Some(4), ..pending }, &next));
    // What another kubelet was about to do is no business of this one.
    let begun: PodCondition =
        serde_json::from_value(json!({"type": "PodResizeInProgress", "status": "True"})).unwrap();
    world.previous.conditions.as_mut().unwrap().push(begun);
    world.is_resize_pending = false;
    let after = world.generate(Stage::Running);
    assert_eq!(after.conditions.iter().flatten().find(|c| c.type_.starts_with("PodResize")), None);
}

#[test]
fn sameness() {
    let base = || World::new(one()).with("c", 0, "running").generate(Stage::Running);
    let change = |f: &dyn Fn(&mut PodStatus)| {
        let mut status = base();
        f(&mut status);
        status
    };
    let set = |status: &mut PodStatus, f: &dyn Fn(&mut PodCondition)| {
        let ready = status.conditions.iter_mut().flatten().find(|c| c.type_ == "Ready").unwrap();
        f(ready);
    };
    let theirs: PodCondition = serde_json::from_value(json!({"type": "theirs", "status": "True"})).unwrap();
    let target: PodCondition =
        serde_json::from_value(json!({"type": "DisruptionTarget", "status": "True"})).unwrap();
    for (case, other, want) in [
        ("equal", base(), true),
        ("an empty list", change(&|s| s.init_container_statuses = Some(Vec::new())), true),
        ("an empty map", change(&|s| s.allocated_resources = Some(BTreeMap::new())), true),
        ("others' condition", change(&|s| s.conditions.as_mut().unwrap().push(theirs.clone())), true),
        ("the shared condition", change(&|s| s.conditions.as_mut().unwrap().push(target.clone())), false),
        ("order of conditions", change(&|s| s.conditions.as_mut().unwrap().reverse()), true),
        ("since when", change(&|s| set(s, &|c| c.last_transition_time = None)), true),
        ("generation of a condition", change(&|s| set(s, &|c| c.observed_generation = Some(9))), true),
        ("status of a condition", change(&|s| set(s, &|c| c.status = "False".to_owned())), false),
        ("message of a condition", change(&|s| set(s, &|c| c.message = Some("m".to_owned()))), false),
        ("a condition less", change(&|s| s.conditions.as_mut().unwrap().truncate(1)), false),
        ("generation", change(&|s| s.observed_generation = Some(9)), false),
        ("others' field", change(&|s| s.nominated_node_name = Some("n".to_owned())), true),
        ("phase", change(&|s| s.phase = None), false),
        ("restarts", change(&|s| s.container_statuses.as_mut().unwrap()[0].restart_count = 1), false),
    ] {
        assert_eq!(is_same(&base(), &other), want, "{case}");
    }
}

#[test]
fn an_instance_is_the_same_whatever_stands_before_its_id() {
    for (before, restarts, last) in
        [("containerd://main#0", 0, false), ("://main#0", 0, false), ("containerd://older", 0, true)]
    {
        let mut world = World::new(json!({ "restartPolicy": "Never", "containers": [{ "name": "main" }] }));
        world = world.with("main", 0, "exit 1");
        world.previous = world.generate(Stage::Running);
        let id = world.observed.containers[0].id.to_string();
        let previous = &mut world.previous.container_statuses.as_mut().unwrap()[0];
        previous.container_id = Some(before.replace("main#0", &id));
        let status = world.generate(Stage::Running).container_statuses.unwrap().remove(0);
        assert_eq!(status.restart_count, restarts, "{before}");
        assert_eq!(status.last_state.unwrap().terminated.is_some(), last, "{before}");
    }
}
