//! What may come in at a pod in which phase, and where that leads. The table and the diagram in `docs/ARCHITECTURE.md`
//! are what comes out here.

use std::fmt::Write as _;

use model::references::{ObjectKind, ObjectName};

use super::*;
use crate::admission::Rejection;
use crate::input::RuntimeChange;
use crate::pods::life::{Admitting, Phase, Running};
use crate::tasks::InFlight;
use crate::{ApiOutcome, EffectId, VolumeOutcome};
use model::reason::Refusal;

const PHASES: [Phase; 4] = [Phase::Admitting, Phase::Running, Phase::Terminating, Phase::Terminated];

/// A pod that stays in this phase until something comes in.
fn in_phase(phase: Phase) -> PodHarness {
    let mut harness = PodHarness::running(
        r#"{"containers":[{"name":"a","livenessProbe":{"exec":{"command":["x"]}},
                           "readinessProbe":{"exec":{"command":["x"]}}}],
            "volumes":[{"name":"v","configMap":{"name":"c"}}]}"#,
    );
    match phase {
        Phase::Admitting => harness.record.life = Life::Admitting(Admitting::default()),
        Phase::Running => {}
        Phase::Terminating => {
            harness.delete(0, 30);
            harness.drive(0);
        }
        Phase::Terminated => {
            harness.delete(0, 30);
            let last = harness.record.seen.last_mut().unwrap();
            last.containers.clear();
            last.sandboxes.clear();
            harness.drive(0);
        }
    }
    harness.drive(0);
    harness.out.take();
    assert_eq!(harness.record.life.phase(), phase);
    harness
}

/// What can be told of a pod from outside, but for what is under way.
fn picture(record: &PodRecord) -> String {
    let PodRecord { desired, life, seen, containers, report, mirror, stopped_sandboxes, .. } = record;
    format!("{desired:?} {life:?} {seen:?} {containers:?} {report:?} {mirror:?} {stopped_sandboxes:?}")
}

/// What comes of an input, in a word. The pod is driven after it, as in a step.
fn cell(phase: Phase, prepare: impl Fn(&mut PodHarness), input: impl Fn(&mut PodHarness)) -> String {
    let mut harness = in_phase(phase);
    prepare(&mut harness);
    let before = picture(&harness.record);
    input(&mut harness);
    let is_changed = picture(&harness.record) != before || !harness.out.take().is_empty();
    harness.drive(0);
    match harness.record.life.phase() {
        after if after != phase => format!("→ {after:?}"),
        _ if is_changed => "legal".to_owned(),
        _ => "ignored".to_owned(),
    }
}

/// Something that may happen, by its name.
type Named<T> = (&'static str, fn(&mut T));

/// What comes in from outside.
fn updates() -> [Named<PodHarness>; 6] {
    [
        ("a newer version", |harness| {
            let mut pod = (**harness.record.desired.pod().unwrap()).clone();
            pod.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
            harness.with(|record, cx| record.pod_changed(Source::Api, Arc::new(pod), cx));
        }),
        ("its deletion", |harness| harness.delete(0, 20)),
        ("its source has it no more", |harness| {
            let pod = harness.record.desired.pod().unwrap().clone();
            harness.record.desired = Desired::Removed { source: Source::Api, pod };
            harness.with(|record, cx| record.begin_end(EndCause::Deleted, cx));
        }),
        ("a hint of the runtime", |harness| {
            if harness.record.hints_at_change(&ContainerId::from("other"), RuntimeChange::Created) {
                harness.record.seen.outdate();
            }
        }),
        ("a relist without it", |harness| {
            harness.record.compare(None);
        }),
        ("a ConfigMap it shows changed", |harness| {
            let name = ObjectName { kind: ObjectKind::ConfigMap, namespace: "n".into(), name: "c".into() };
            harness.with(|record, cx| record.object_changed(&name, cx.now));
        }),
    ]
}

/// The results of what is done for a pod: as hoped for.
fn results() -> Vec<(&'static str, PodTask, Outcome)> {
    let (name, id) = ("a".to_owned(), ContainerId::from("a"));
    let sandbox = SandboxId::from("sandbox");
    let image = ImageRef::from("sha256:1");
    let running = PodHarness::running(r#"{"containers":[{"name":"a"}]}"#).record;
    let seen = (**running.seen.last().unwrap()).clone();
    let started = ContainerObservation { id: "a2".into(), attempt: 1, ..seen.containers[0].clone() };
    let exit = ContainerState::Exited(ContainerExit::default());
    let stopped = ContainerObservation { state: exit, ..seen.containers[0].clone() };
    let fresh = SandboxObservation { id: "other".into(), ..seen.sandboxes[0].clone() };
    let runtime = Outcome::Runtime;
    vec![
        ("observed", PodTask::Observe, runtime(RuntimeOutcome::Observed(seen))),
        ("cgroup failed", PodTask::Cgroup, Outcome::Failed(failure())),
        (
            "volumes synced",
            PodTask::Volumes,
            Outcome::Volume(VolumeOutcome::Synced { refresh_after: Some(Duration::from_secs(60)) }),
        ),
        (
            "image inspected",
            PodTask::Image(ImageUse::Container(name.clone())),
            Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Accessible(image))),
        ),
        ("sandbox started", PodTask::Sandbox, runtime(RuntimeOutcome::SandboxStarted(fresh))),
        ("sandbox stopped", PodTask::StopSandbox(sandbox.clone()), Outcome::Done),
        ("sandbox not removed", PodTask::RemoveSandbox(sandbox), Outcome::Failed(failure())),
        (
            "container started",
            PodTask::Container(name.clone()),
            runtime(RuntimeOutcome::ContainerStarted(started)),
        ),
        (
            "container stopped",
            PodTask::StopContainer(id.clone()),
            runtime(RuntimeOutcome::ContainerStopped(Some(stopped))),
        ),
        ("container not removed", PodTask::RemoveContainer(id.clone()), Outcome::Failed(failure())),
        ("postStart hook failed", PodTask::Hook(id.clone(), Hook::PostStart), Outcome::Failed(failure())),
        ("preStop hook failed", PodTask::Hook(id, Hook::PreStop), Outcome::Failed(failure())),
        (
            "liveness probed",
            PodTask::Probe(name.clone(), ProbeKind::Liveness),
            Outcome::Probed(ProbeOutcome::Success),
        ),
        (
            "readiness probed",
            PodTask::Probe(name, ProbeKind::Readiness),
            Outcome::Probed(ProbeOutcome::Failure("no".to_owned())),
        ),
        ("status written", PodTask::Status, Outcome::Api(ApiOutcome::Written { version: 7 })),
        ("mirror made", PodTask::Mirror, Outcome::Done),
        ("mirror removed", PodTask::MirrorRemoval, Outcome::Done),
        ("volumes torn down", PodTask::TearDownVolumes, Outcome::Done),
        ("cgroup removed", PodTask::RemoveCgroup, Outcome::Done),
        ("object deleted", PodTask::DeleteObject, Outcome::Done),
        ("folder removed", PodTask::Folder, Outcome::Done),
        ("logs removed", PodTask::Logs, Outcome::Done),
    ]
}

fn failure() -> Failure {
    Failure { kind: FailureKind::Other, message: "no".to_owned() }
}

/// What comes of a result.
fn result(phase: Phase, task: &PodTask, outcome: &Outcome) -> String {
    if !task.may_end_in(phase) {
        return "impossible".to_owned();
    }
    let prepare = |harness: &mut PodHarness| {
        if *task == PodTask::Observe {
            harness.record.seen.outdate();
            harness.record.seen.begin_read();
        }
        if *task == PodTask::Status {
            let status = harness.record.report.current.clone();
            harness.record.report.sent = Some((harness.record.uid.clone(), status));
        }
        harness.record.tasks.begin(task.clone(), InFlight { id: EffectId(99), since: Duration::ZERO });
    };
    cell(phase, prepare, |harness| {
        harness.with(|record, cx| record.finished(task.clone(), outcome.clone(), cx))
    })
}

/// The moves of a pod's life, each with what it is for.
fn moves() -> [Named<Life>; 5] {
    [
        ("is let in", |life| life.admit(wall(0))),
        ("is turned away", |life| {
            life.reject(Rejection { reason: Refusal::NodePorts, message: String::new() });
        }),
        ("is to end", |life| {
            life.end(EndCause::Deleted, Duration::ZERO, false);
        }),
        ("nothing of it runs", Life::ended),
        ("something of it runs", |life| life.end_again(Duration::ZERO)),
    ]
}

fn life_in(phase: Phase) -> Life {
    let mut life = Life::default();
    if phase > Phase::Admitting {
        life = Life::Running(Running::new(wall(0)));
    }
    if phase > Phase::Running {
        life.end(EndCause::Completed, Duration::ZERO, false);
    }
    if phase > Phase::Terminating {
        life.ended();
    }
    assert_eq!(life.phase(), phase);
    life
}

fn written() -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> Admitting\n");
    for (what, make) in moves() {
        for phase in PHASES {
            let mut life = life_in(phase);
            make(&mut life);
            if life.phase() != phase {
                writeln!(text, "    {phase:?} --> {:?}: {what}", life.phase()).unwrap();
            }
        }
    }
    text += "    Terminated --> [*]: nothing of it is left\n```\n\n";
    text += "| what comes in | Admitting | Running | Terminating | Terminated |\n|---|---|---|---|---|\n";
    for (what, input) in updates() {
        let cells = PHASES.map(|phase| cell(phase, |_| {}, input));
        writeln!(text, "| {what} | {} |", cells.join(" | ")).unwrap();
    }
    for (what, task, outcome) in results() {
        let cells = PHASES.map(|phase| result(phase, &task, &outcome));
        writeln!(text, "| {what} | {} |", cells.join(" | ")).unwrap();
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it compares the document, or writes it")]
fn the_table_of_phases_and_inputs_is_as_the_architecture_has_it() {
    const FROM: &str =
        "<!-- The life of a pod: written by `UPDATE_DOCS=1 cargo test -p node transitions`. -->\n";
    const TO: &str = "<!-- The end of what is written. -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ARCHITECTURE.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(FROM).unwrap();
    let (held, after) = rest.split_once(TO).unwrap();
    let expected = written();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{FROM}{expected}{TO}{after}")).unwrap();
        return;
    }
    assert_eq!(
        held, expected,
        "docs/ARCHITECTURE.md is old: run UPDATE_DOCS=1 cargo test -p node transitions"
    );
}
