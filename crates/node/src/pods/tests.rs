//! One pod's record driven by hand: the order of its end, what its probes and images come to.

use std::sync::Arc;
use std::time::Duration;

use checkpoints::{Entry, PodsState};
use jiff::Timestamp;
use model::observed::ContainerExit;
use model::probe::{ProbeKind, ProbeOutcome};
use model::{
    ContainerId, ContainerObservation, ContainerState, ImageRef, ImageUse, Now, Pod, PodObservation,
    SandboxId, SandboxObservation, pod,
};

use super::life::{EndCause, Life, Running, Step};
use super::record::{Desired, PodRecord};
use super::seen::Seen;
use crate::allocation::{self, Granted};
use crate::checkpoints::Checkpoints;
use crate::cx::{Cx, NodeState};
use crate::effect::{Action, Effect, Failure, FailureKind, Hook, ImageAnswer, Outcome, StateFile};
use crate::image_gc::removals::ImageRemovals;
use crate::input::Source;
use crate::machine::Machine;
use crate::node_status::Readings;
use crate::outbox::Outbox;
use crate::pressure::{PressureGauge, Pressures, Sample};
use crate::settings::Settings;
use crate::tasks::{Owner, PodTask};
use crate::volumes::Volumes;
use crate::{
    HostAction, ImageAction, ImageOutcome, ProbeAction, RuntimeAction, RuntimeOutcome, VolumeAction,
};

mod transitions;

/// A record, its clock, and what it asked for.
struct PodHarness {
    record: PodRecord,
    out: Outbox,
    checkpoints: Checkpoints,
    volumes: Volumes,
    settings: Settings,
    at: u64,
}

fn wall(second: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap()
}

impl PodHarness {
    /// A pod in which everything is up.
    fn running(spec: &str) -> Self {
        let pod: Pod = serde_json::from_str(&format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#
        ))
        .unwrap();
        let pod = Arc::new(pod);
        let desired = Desired::Present { source: Source::Api, pod: pod.clone() };
        let mut record = PodRecord::new(pod::uid(&pod), pod::key(&pod), desired);
        let mut seen = PodObservation::empty(pod::uid(&pod), pod::key(&pod));
        seen.sandboxes.push(SandboxObservation {
            id: SandboxId::from("sandbox"),
            attempt: 0,
            is_ready: true,
            created_at: wall(0),
            ips: vec!["10.0.0.1".to_owned()],
        });
        for c in pod::containers(&pod) {
            seen.containers.push(ContainerObservation {
                id: ContainerId::from(c.spec.name.as_str()),
                sandbox_id: SandboxId::from("sandbox"),
                name: c.spec.name.clone(),
                attempt: 0,
                state: ContainerState::Running { started_at: Some(wall(0)) },
                created_at: wall(0),
                spec_hash: Some(model::hash::container_hash(&c.spec)),
                image: String::new(),
                image_id: String::new(),
                image_used: None,
                pod_grace_seconds: None,
                resources: None,
                user: None,
                stop_signal: None,
                recursive_read_only: Vec::new(),
                image_mounts: Vec::new(),
            });
            let id = ContainerId::from(c.spec.name.as_str());
            let container = record.container_mut(&c.spec.name);
            container.instance_mut(&id).stage = super::container::Stage::Started;
        }
        record.seen = Seen::Fresh(Arc::new(seen));
        let mut running = Running::new(wall(0));
        (running.cgroup, running.volumes.step) = (Step::Done, Step::Done);
        running.volumes.are_published = true;
        record.life = Life::Running(running);
        record.granted = Granted::AsAsked;
        let settings = Settings { has_api: false, sources: vec![Source::Api], ..Settings::for_tests() };
        // All of it is written down.
        let actuated = allocation::actuated(&record.allocated().unwrap(), settings.gates);
        let written = PodsState { pods: [(record.uid.clone(), Entry::new(&actuated))].into() };
        let mut checkpoints = Checkpoints::default();
        checkpoints.restored(StateFile::ActuatedPods, written);
        let (out, volumes) = (Outbox::default(), Volumes::default());
        Self { record, out, checkpoints, volumes, settings, at: 0 }
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut PodRecord, &mut Cx<'_>) -> T) -> T {
        let now = Now { wall: wall(self.at), mono: Duration::from_secs(self.at) };
        let host_ips = ["192.0.2.1".to_owned()];
        let sample = Some(Sample::default());
        let readings = Readings { runtime_name: "containerd".to_owned(), sample, ..Readings::default() };
        let node = NodeState {
            settings: &self.settings,
            machine: Some(&Machine::default()),
            readings: &readings,
            runtime_classes: None,
            object: None,
            reported: None,
            reporting: None,
            host_ips: &host_ips,
            runtime: None,
            network_wait: None,
            pressures: Pressures::default(),
            gauge: &PressureGauge::default(),
        };
        let removals = ImageRemovals::default();
        let mut cx = Cx::new(
            now,
            &self.settings,
            node,
            &mut self.checkpoints,
            &mut self.volumes,
            &removals,
            &mut self.out,
        );
        work(&mut self.record, &mut cx)
    }

    /// What is asked for at this second, without events and probes of no interest.
    fn drive(&mut self, at: u64) -> String {
        self.at = at;
        self.with(|record, cx| record.drive(cx));
        let effects = self.out.take();
        let texts: Vec<String> = effects.iter().filter_map(describe).collect();
        texts.join(", ")
    }

    /// An action ends.
    fn finish(&mut self, task: PodTask, outcome: Outcome) {
        let in_flight = self.record.tasks.get(&task).unwrap_or_else(|| panic!("{task:?} is not under way"));
        assert_eq!(self.out.finish(in_flight.id), Some(Owner::Pod(self.record.uid.clone(), task.clone())));
        self.with(|record, cx| record.finished(task, outcome, cx));
    }

    fn stopped(&mut self, name: &str) {
        let mut ended = self.record.seen.last().unwrap().latest(name).unwrap().clone();
        ended.state = ContainerState::Exited(ContainerExit { exit_code: 143, ..ContainerExit::default() });
        self.finish(
            PodTask::StopContainer(ContainerId::from(name)),
            Outcome::Runtime(RuntimeOutcome::ContainerStopped(Some(ended))),
        );
    }

    /// Its source wants it gone within this time.
    fn delete(&mut self, at: u64, grace: i64) {
        self.at = at;
        let mut pod = (**self.record.desired.pod().unwrap()).clone();
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(wall(at)));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.with(|record, cx| record.pod_changed(Source::Api, Arc::new(pod), cx));
    }

    fn probed(&mut self, name: &str, kind: ProbeKind, outcome: ProbeOutcome) {
        self.finish(PodTask::Probe(name.to_owned(), kind), Outcome::Probed(outcome));
    }

    fn events(&mut self) -> Vec<String> {
        let of = |e: Effect| match e {
            Effect::Record(event) => Some(format!("{}: {}", event.reason, event.message)),
            _ => None,
        };
        self.out.take().into_iter().filter_map(of).collect()
    }

    fn waiting(&self, name: &str) -> &'static str {
        self.record.containers[name].waiting.as_ref().map_or("", |w| w.reason)
    }
}

fn describe(effect: &Effect) -> Option<String> {
    let action = match effect {
        Effect::Start { action, .. } => action,
        Effect::Cancel(_) => return Some("cancel".to_owned()),
        Effect::Record(_) => return None,
    };
    Some(match action {
        Action::Runtime(RuntimeAction::StopContainer { id, grace, .. }) => {
            format!("stop {id} within {}", grace.as_secs())
        }
        Action::Probe(ProbeAction::Hook { id, hook: Hook::PreStop, timeout, .. }) => {
            format!("preStop {id} within {}", timeout.unwrap_or_default().as_secs())
        }
        Action::Probe(ProbeAction::Hook { id, hook: Hook::PostStart, .. }) => format!("postStart {id}"),
        Action::Runtime(RuntimeAction::StopSandbox { .. }) => "stop sandbox".to_owned(),
        Action::Probe(ProbeAction::Attempt { kind, container, .. }) => {
            format!("{} {container}", kind.as_str())
        }
        Action::Image(ImageAction::Inspect { .. }) => "inspect".to_owned(),
        Action::Image(ImageAction::Pull { .. }) => "pull".to_owned(),
        Action::Runtime(RuntimeAction::StartContainer(start)) => {
            format!("start {}#{}", start.container, start.attempt)
        }
        Action::Volume(VolumeAction::TearDown { .. }) => "tear down volumes".to_owned(),
        Action::Host(HostAction::RemoveCgroup { .. }) => "remove cgroup".to_owned(),
        Action::Runtime(RuntimeAction::Observe { .. }) => "observe".to_owned(),
        other => format!("{other:?}"),
    })
}

const HOOK: &str = r#""lifecycle":{"preStop":{"exec":{"command":["x"]}}}"#;

// ---- the end ----

#[test]
fn sidecars_end_after_the_others_and_in_reverse() {
    let mut harness = PodHarness::running(
        r#"{"containers":[{"name":"a"},{"name":"b"}],
            "initContainers":[{"name":"s1","restartPolicy":"Always"},{"name":"s2","restartPolicy":"Always"}]}"#,
    );
    harness.delete(0, 30);
    assert_eq!(harness.drive(0), "stop a within 30, stop b within 30");
    harness.stopped("a");
    assert_eq!(harness.drive(5), "");
    harness.stopped("b");
    assert_eq!(harness.drive(10), "stop s2 within 20");
    harness.stopped("s2");
    assert_eq!(harness.drive(12), "stop s1 within 18");
    harness.stopped("s1");
    assert_eq!(harness.drive(13), "stop sandbox");
    harness.finish(PodTask::StopSandbox(SandboxId::from("sandbox")), Outcome::Done);
    assert_eq!(harness.drive(13), "tear down volumes, remove cgroup");
}

#[test]
fn when_time_is_up_sidecars_end_with_the_rest() {
    let mut harness = PodHarness::running(
        r#"{"containers":[{"name":"a"}],"initContainers":[{"name":"s1","restartPolicy":"Always"},{"name":"s2","restartPolicy":"Always"}]}"#,
    );
    harness.delete(0, 10);
    assert_eq!(harness.drive(0), "stop a within 10");
    harness.stopped("a");
    assert_eq!(harness.drive(10), "stop s1 within 2, stop s2 within 2");
}

#[test]
fn a_pre_stop_hook_counts_against_the_grace() {
    let mut harness = PodHarness::running(&format!(r#"{{"containers":[{{"name":"a",{HOOK}}}]}}"#));
    harness.delete(0, 30);
    assert_eq!(harness.drive(0), "preStop a within 34");
    harness.finish(PodTask::Hook(ContainerId::from("a"), Hook::PreStop), Outcome::Done);
    assert_eq!(harness.drive(20), "stop a within 10");
}

#[test]
fn a_pre_stop_hook_that_used_up_the_grace_leaves_two_seconds() {
    let mut harness = PodHarness::running(&format!(r#"{{"containers":[{{"name":"a",{HOOK}}}]}}"#));
    harness.delete(0, 30);
    harness.drive(0);
    assert_eq!(harness.drive(30), "stop a within 2", "the hook goes on");
}

#[test]
fn grace_is_shortened_and_never_prolonged() {
    let mut harness = PodHarness::running(r#"{"containers":[{"name":"a"}]}"#);
    harness.delete(0, 60);
    assert_eq!(harness.drive(0), "stop a within 60");
    harness.delete(1, 90);
    assert_eq!(harness.drive(1), "");
    harness.delete(2, 5);
    assert_eq!(harness.drive(2), "cancel");
    harness.finish(PodTask::StopContainer(ContainerId::from("a")), Outcome::Cancelled);
    // What was stopped half-way is looked at, and asked for again with what is left.
    assert_eq!(harness.drive(3), "observe, stop a within 4");
}

/// One that was given up and came all the same stands beside its successor.
#[test]
fn two_instances_of_a_container_each_end_once() {
    let mut harness = PodHarness::running(&format!(r#"{{"containers":[{{"name":"a",{HOOK}}}]}}"#));
    let last = harness.record.seen.last_mut().unwrap();
    let other = ContainerObservation { id: ContainerId::from("other"), ..last.containers[0].clone() };
    last.containers.push(other);
    harness.delete(0, 30);
    harness.with(|record, cx| record.drive(cx));
    assert_eq!(harness.events(), ["Killing: Stopping container a"; 2]);
    harness.at = 1;
    harness.with(|record, cx| record.drive(cx));
    assert_eq!(harness.events(), [""; 0]);
    for id in ["a", "other"] {
        harness.finish(PodTask::Hook(ContainerId::from(id), Hook::PreStop), Outcome::Done);
    }
    assert_eq!(harness.drive(2), "stop a within 28, stop other within 28");
}

#[test]
fn a_stop_that_fails_is_tried_again_with_what_is_left() {
    let mut harness = PodHarness::running(r#"{"containers":[{"name":"a"}]}"#);
    harness.delete(0, 30);
    harness.drive(0);
    let failure = Failure { kind: FailureKind::Other, message: "no".to_owned() };
    harness.finish(PodTask::StopContainer(ContainerId::from("a")), Outcome::Failed(failure));
    assert_eq!(harness.drive(0), "observe");
    let seen = (**harness.record.seen.last().unwrap()).clone();
    harness.finish(PodTask::Observe, Outcome::Runtime(RuntimeOutcome::Observed(seen)));
    assert_eq!(harness.drive(1), "stop a within 29");
}

// ---- reads ----

#[test]
fn what_happens_during_a_read_that_fails_is_seen_by_the_next() {
    let mut harness = PodHarness::running(r#"{"containers":[{"name":"a"}]}"#);
    let seen = (**harness.record.seen.last().unwrap()).clone();
    harness.record.seen.outdate();
    assert_eq!(harness.drive(0), "observe");
    harness.record.seen.outdate();
    let failure = Failure { kind: FailureKind::Other, message: "no".to_owned() };
    harness.finish(PodTask::Observe, Outcome::Failed(failure));
    assert_eq!((harness.drive(0), harness.drive(1)), (String::new(), "observe".to_owned()));
    harness.finish(PodTask::Observe, Outcome::Runtime(RuntimeOutcome::Observed(seen)));
    assert_eq!(harness.drive(1), "");
}

// ---- probes ----

fn with_probe(kind: &str, probe: &str) -> PodHarness {
    PodHarness::running(&format!(
        r#"{{"containers":[{{"name":"a","{kind}Probe":{{"exec":{{"command":["x"]}},"periodSeconds":1,{probe}}}}}]}}"#
    ))
}

fn bad() -> ProbeOutcome {
    ProbeOutcome::Failure("bad".to_owned())
}

#[test]
fn thresholds_count_outcomes_in_a_row() {
    use ProbeOutcome::Success;
    let error = || ProbeOutcome::unknown("away");
    let cases: [(&str, &[ProbeOutcome], &str); 5] = [
        ("as many as the threshold", &[bad(), bad(), bad()], "stop"),
        ("one less", &[bad(), bad()], ""),
        ("a success begins the count anew", &[bad(), bad(), Success, bad(), bad()], ""),
        ("an attempt that could not be made counts for nothing", &[bad(), bad(), error(), error()], ""),
        ("nor does it begin anew", &[bad(), bad(), error(), bad()], "stop"),
    ];
    for (name, outcomes, expected) in cases {
        let mut harness = with_probe("liveness", r#""failureThreshold":3"#);
        harness.drive(0);
        for (n, outcome) in outcomes.iter().enumerate() {
            assert_eq!(harness.drive(n as u64 + 1), "Liveness a", "{name}");
            harness.probed("a", ProbeKind::Liveness, outcome.clone());
        }
        let then = harness.drive(outcomes.len() as u64);
        assert!(
            if expected.is_empty() { !then.contains("stop") } else { then.starts_with("stop a within 30") },
            "{name}: {then}"
        );
    }
}

#[test]
fn readiness_comes_and_goes_by_its_own_thresholds() {
    let mut harness = with_probe("readiness", r#""failureThreshold":2,"successThreshold":2"#);
    let mut seen = Vec::new();
    let outcomes = [ProbeOutcome::Success, ProbeOutcome::Success, bad(), bad(), ProbeOutcome::Success];
    for (n, outcome) in outcomes.into_iter().enumerate() {
        harness.drive(n as u64);
        harness.probed("a", ProbeKind::Readiness, outcome);
        let pod = harness.record.desired.pod().unwrap().clone();
        let spec = pod::container(&pod, "a").unwrap().spec.into_owned();
        seen.push(harness.record.readiness_of(&spec, &ContainerId::from("a")).1);
    }
    assert_eq!(seen, [false, true, true, false, false]);
}

#[test]
fn a_startup_probe_holds_back_the_others() {
    let probe = r#"{"exec":{"command":["x"]},"periodSeconds":1}"#;
    let mut harness = PodHarness::running(&format!(
        r#"{{"containers":[{{"name":"a","startupProbe":{probe},"livenessProbe":{probe},"readinessProbe":{probe}}}]}}"#
    ));
    assert_eq!(harness.drive(0), "Startup a");
    harness.probed("a", ProbeKind::Startup, bad());
    assert_eq!(harness.drive(1), "Startup a");
    harness.probed("a", ProbeKind::Startup, ProbeOutcome::Success);
    assert_eq!(harness.drive(1), "Liveness a, Readiness a");
}

// ---- images ----

fn pulling(policy: &str) -> PodHarness {
    let mut harness = PodHarness::running(&format!(
        r#"{{"containers":[{{"name":"a","image":"web","imagePullPolicy":"{policy}"}}]}}"#
    ));
    harness.record.seen.last_mut().unwrap().containers.clear();
    harness.record.containers.clear();
    harness
}

fn image_task() -> PodTask {
    PodTask::Image(ImageUse::Container("a".to_owned()))
}

#[test]
fn a_pull_that_fails_shows_its_error_first_and_then_the_back_off() {
    let mut harness = pulling("IfNotPresent");
    assert_eq!(harness.drive(0), "inspect");
    harness.finish(image_task(), Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Absent)));
    assert_eq!(harness.drive(0), "pull");
    let failure =
        || Outcome::Failed(Failure { kind: FailureKind::Other, message: "no such image".to_owned() });
    harness.finish(image_task(), failure());
    assert_eq!(harness.waiting("a"), "ErrImagePull");
    assert_eq!(
        harness.events(),
        ["Failed: Failed to pull image \"web\": no such image", "Failed: Error: ErrImagePull"]
    );
    assert_eq!(harness.drive(0), "");
    harness.at = 1;
    harness.with(|record, cx| record.drive(cx));
    assert_eq!(harness.waiting("a"), "ImagePullBackOff");
    assert_eq!(
        harness.events(),
        ["BackOff: Back-off pulling image \"web\"", "Failed: Error: ImagePullBackOff"]
    );
    assert_eq!(harness.drive(9), "");
    // Ten seconds after the failure, and twice that after the next.
    assert_eq!(harness.drive(10), "inspect");
    harness.finish(image_task(), Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Absent)));
    assert_eq!(harness.drive(10), "pull");
    harness.finish(image_task(), failure());
    assert_eq!(harness.drive(29), "");
    assert_eq!(harness.drive(30), "inspect");
}

#[test]
fn policies_decide_what_an_image_needs() {
    let image = || ImageRef::from("sha256:1");
    let present = "Pulled: Container image \"web\" already present on machine";
    let accessible =
        "Pulled: Container image \"web\" already present on machine and can be accessed by the pod";
    let never = "ErrImageNeverPull: Container image \"web\" is not present with pull policy of Never";
    for (policy, answer, expected, reason, event) in [
        ("IfNotPresent", ImageAnswer::Accessible(image()), "start a#0", "", accessible),
        ("IfNotPresent", ImageAnswer::Present(image()), "start a#0", "", present),
        ("IfNotPresent", ImageAnswer::Unproven, "pull", "", ""),
        ("IfNotPresent", ImageAnswer::Absent, "pull", "", ""),
        ("Always", ImageAnswer::Accessible(image()), "pull", "", ""),
        ("Always", ImageAnswer::Present(image()), "pull", "", ""),
        ("Always", ImageAnswer::Unproven, "pull", "", ""),
        ("Never", ImageAnswer::Accessible(image()), "start a#0", "", accessible),
        ("Never", ImageAnswer::Present(image()), "start a#0", "", present),
        // As if it were not there.
        ("Never", ImageAnswer::Unproven, "", "ErrImageNeverPull", never),
        ("Never", ImageAnswer::Absent, "", "ErrImageNeverPull", never),
    ] {
        let mut harness = pulling(policy);
        harness.drive(0);
        let case = format!("{policy} {answer:?}");
        harness.finish(image_task(), Outcome::Image(ImageOutcome::Inspected(answer)));
        let events = harness.events();
        assert_eq!(events.first().map_or("", |first| first), event, "{case}");
        assert_eq!(harness.drive(0), expected, "{case}");
        assert_eq!(harness.waiting("a"), reason, "{case}");
    }
}

#[test]
fn an_absent_runtime_is_no_fault_of_the_image() {
    let mut harness = pulling("IfNotPresent");
    harness.drive(0);
    let failure = Failure { kind: FailureKind::RuntimeUnavailable, message: "away".to_owned() };
    harness.finish(image_task(), Outcome::Failed(failure));
    assert_eq!((harness.waiting("a"), harness.events().len()), ("", 0));
    assert_eq!(harness.drive(1), "inspect");
}

// ---- what a start leaves ----

#[test]
fn a_start_reported_as_failed_may_have_succeeded() {
    let mut harness = PodHarness::running(
        r#"{"containers":[{"name":"a","lifecycle":{"postStart":{"exec":{"command":["x"]}}}}]}"#,
    );
    let seen = (**harness.record.seen.last().unwrap()).clone();
    harness.record.seen.last_mut().unwrap().containers.clear();
    harness.record.containers.clear();
    harness.drive(0);
    harness.finish(
        image_task(),
        Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Accessible(ImageRef::from("sha256:1")))),
    );
    assert_eq!(harness.drive(0), "start a#0");
    let failure = Failure { kind: FailureKind::Other, message: "deadline exceeded".to_owned() };
    harness.finish(PodTask::Container("a".to_owned()), Outcome::Failed(failure));
    assert!(harness.drive(0).contains("observe"));
    harness.finish(PodTask::Observe, Outcome::Runtime(RuntimeOutcome::Observed(seen)));
    let events = harness.out.take();
    assert!(events.iter().filter_map(describe).any(|e| e == "postStart a"), "{events:?}");
    assert_eq!(harness.waiting("a"), "");
}

#[test]
fn a_pod_that_completed_ends_by_itself() {
    let mut harness = PodHarness::running(r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#);
    let container = &mut harness.record.seen.last_mut().unwrap().containers[0];
    container.state = ContainerState::Exited(ContainerExit::default());
    assert_eq!(harness.drive(0), "stop sandbox");
    assert!(matches!(&harness.record.life, Life::Terminating(end) if end.why == EndCause::Completed));
}
