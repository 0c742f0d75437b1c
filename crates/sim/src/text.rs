//! Histories in words.

use k8s_openapi::api::core::v1::{ContainerState, PodStatus};
use model::pod::{key, uid};
use model::{Pod, PodObservation};
use node::{Action, ApiAction, ApiOutcome, Input, Outcome, RuntimeOutcome};

pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Api(ApiAction::WriteStatus { new, .. }) => format!("{action}: {}", status(new)),
        _ => action.to_string(),
    }
}

pub(crate) fn input(input: &Input) -> String {
    match input {
        Input::PodsListed { source, pods } => {
            format!("{source:?} lists {}", pods.iter().map(|p| pod(p)).collect::<Vec<_>>().join(", "))
        }
        Input::PodApplied { source, pod: p } => format!("{source:?} applied {}", pod(p)),
        Input::PodDeleted { source, uid } => format!("{source:?} deleted {uid}"),
        Input::RuntimeHint { uid, container, change } => format!("hint {uid} {container} {change:?}"),
        Input::EventStream { is_connected } => format!("event stream {is_connected}"),
        Input::RuntimeHealth(health) => format!("runtime answers: {}", health.is_ok()),
        Input::Finished { id, outcome: o } => format!("#{} ends: {}", id.0, outcome(o)),
        Input::NodeObject(_) => "node object".to_owned(),
        Input::NodeFacts(_) => "node facts".to_owned(),
        Input::Observations(_) => "what is left".to_owned(),
        Input::ObjectChanged(name) => format!("{} changed", name.name),
        Input::ManyObjectsChanged => "objects changed".to_owned(),
        Input::FoundOnHost { pods } => format!("found on host {pods:?}"),
        Input::Tick => "tick".to_owned(),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => format!("failed ({:?}): {}", failure.kind, failure.message),
        Outcome::Runtime(RuntimeOutcome::Relisted(pods)) => {
            format!("relisted {}", pods.iter().map(observation).collect::<Vec<_>>().join("; "))
        }
        Outcome::Runtime(RuntimeOutcome::Observed(pod)) => format!("observed {}", observation(pod)),
        Outcome::Runtime(RuntimeOutcome::SandboxStarted(s)) => format!("started {}", s.id),
        Outcome::Runtime(RuntimeOutcome::ContainerStarted(c)) => format!("started {} ({:?})", c.id, c.state),
        Outcome::Runtime(RuntimeOutcome::ContainerStopped(c)) => {
            format!("stopped {:?}", c.as_ref().map(|c| &c.state))
        }
        Outcome::Api(ApiOutcome::Registered(_)) => "registered".to_owned(),
        other => format!("{other:?}"),
    }
}

fn observation(pod: &PodObservation) -> String {
    use model::ContainerState as S;
    let mut text = format!("{}:", pod.uid);
    for s in &pod.sandboxes {
        text += &format!(" {}#{}{}", s.id, s.attempt, if s.is_ready { "+" } else { "-" });
    }
    for c in &pod.containers {
        let state = match &c.state {
            S::Created => "created".to_owned(),
            S::Running { .. } => "running".to_owned(),
            S::Exited(e) => format!("exited {}", e.exit_code),
            S::Unknown => "unknown".to_owned(),
        };
        text += &format!(" {}={}#{} {state} in {}", c.id, c.name, c.attempt, c.sandbox_id);
    }
    text
}

fn pod(pod: &Pod) -> String {
    let deleted = pod
        .metadata
        .deletion_grace_period_seconds
        .map(|g| format!(" deleted within {g}s"))
        .unwrap_or_default();
    format!("{} {} v{}{deleted}", key(pod), uid(pod), pod.metadata.resource_version.as_deref().unwrap_or("-"))
}

pub(crate) fn status(status: &PodStatus) -> String {
    let mut text = status.phase.clone().unwrap_or_default();
    let state = |s: Option<&ContainerState>| match s {
        Some(ContainerState { running: Some(_), .. }) => "running".to_owned(),
        Some(ContainerState { terminated: Some(t), .. }) => format!("ended {}", t.exit_code),
        Some(ContainerState { waiting: Some(w), .. }) => w.reason.clone().unwrap_or_default(),
        _ => "?".to_owned(),
    };
    for c in status.init_container_statuses.iter().chain(&status.container_statuses).flatten() {
        text += &format!(
            " {}#{}={}{}",
            c.name,
            c.restart_count,
            state(c.state.as_ref()),
            if c.ready { "+" } else { "" }
        );
    }
    text
}

/// What a container's spec asks for, where it matters here.
pub(crate) fn spec(pod: &Pod) -> String {
    let containers: Vec<String> = model::pod::containers(pod)
        .map(|c| {
            let s = &c.spec;
            let life = s.lifecycle.as_ref();
            let marks = [
                ("L", s.liveness_probe.is_some()),
                ("R", s.readiness_probe.is_some()),
                ("S", s.startup_probe.is_some()),
                ("<", life.is_some_and(|l| l.post_start.is_some())),
                (">", life.is_some_and(|l| l.pre_stop.is_some())),
            ];
            format!("{}{}", s.name, marks.iter().filter(|(_, has)| *has).map(|(m, _)| *m).collect::<String>())
        })
        .collect();
    let spec = pod.spec.clone().unwrap_or_default();
    format!(
        "{} {} [{}] grace {:?} deadline {:?}",
        uid(pod),
        spec.restart_policy.unwrap_or_default(),
        containers.join(" "),
        spec.termination_grace_period_seconds.unwrap_or(-1),
        spec.active_deadline_seconds,
    )
}
