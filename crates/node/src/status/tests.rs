//! The rules as tables. Upstream tests whose cases are here in our words: `TestPodPhaseWithRestartAlways`,
//! `…RestartNever`, `…RestartOnFailure`, `…RestartAlwaysInitContainers`, `…RestartNeverInitContainers`,
//! `…RestartAlwaysRestartableInitContainers`, `TestPodPhaseWithContainerRestartPolicy`,
//! `Test_generateAPIPodStatus`, `TestGeneratePodReadyCondition`, `TestGeneratePodInitializedCondition`,
//! `TestGeneratePodReadyToStartContainersCondition`, `TestGenerateContainersReadyConditionForTerminalPhase`,
//! `TestTerminatePod`, `TestTerminatePod_EnsurePodPhaseIsTerminal`, `TestMergePodStatus`,
//! `TestConvertToAPIContainerStatuses`, `TestStatusNormalizationEnforcesMaxBytes`, `TestSortPodIPs`.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use model::observed::{ContainerExit, ContainerResources};
use model::{ContainerObservation, ContainerState, SandboxObservation};
use serde_json::{Value, json};

use super::*;

mod cases;
mod instances;

/// A pod of one moment with everything a status is made from.
struct World {
    pod: AllocatedPod,
    observed: PodObservation,
    cgroup: Option<CgroupObservation>,
    gates: PodGates,
    previous: PodStatus,
    notes: BTreeMap<String, ContainerNote>,
    host_ips: Vec<String>,
    is_ipv6_first: bool,
    now: jiff::Timestamp,
    is_resize_pending: bool,
}

impl World {
    fn new(spec: Value) -> Self {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 3});
        let pod: AllocatedPod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        let mut observed = PodObservation::empty(pod::uid(&pod), pod::key(&pod));
        observed.sandboxes.push(sandbox("s1", true));
        let notes = pod::containers(&pod).map(|c| {
            (
                c.spec.name.clone(),
                ContainerNote { is_started: true, is_ready: true, ..ContainerNote::default() },
            )
        });
        let notes = notes.collect();
        Self {
            pod,
            observed,
            cgroup: None,
            gates: PodGates::default(),
            previous: PodStatus::default(),
            notes,
            host_ips: vec!["10.0.0.1".to_owned()],
            is_ipv6_first: false,
            now: at(1000),
            is_resize_pending: false,
        }
    }

    /// Adds an instance, older ones last: `running`, `created`, `unknown` or `exit N`.
    fn with(mut self, name: &str, attempt: u32, state: &str) -> Self {
        self.observed.containers.push(instance(name, attempt, state));
        self
    }

    fn waiting(mut self, name: &str, reason: &'static str) -> Self {
        let note = self.notes.entry(name.to_owned()).or_default();
        note.waiting = Some((reason, "text".to_owned()));
        self
    }

    fn note(mut self, name: &str, is_started: bool, is_ready: bool) -> Self {
        self.notes
            .insert(name.to_owned(), ContainerNote { is_started, is_ready, ..ContainerNote::default() });
        self
    }

    fn generate(&self, stage: Stage<'_>) -> PodStatus {
        generate(&self.inputs(stage))
    }

    fn inputs<'a>(&'a self, stage: Stage<'a>) -> StatusInputs<'a> {
        StatusInputs {
            pod: &self.pod,
            is_resize_pending: self.is_resize_pending,
            observed: &self.observed,
            cgroup: self.cgroup.as_ref(),
            gates: self.gates,
            rules: RestartRules { of_containers: true, of_pods: true },
            previous: &self.previous,
            notes: &self.notes,
            reached: None,
            stage,
            started: at(900),
            host_ips: &self.host_ips,
            is_ipv6_first: self.is_ipv6_first,
            runtime_name: "containerd",
            now: Now { wall: self.now, mono: std::time::Duration::from_secs(1) },
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Pod)) {
        let mut pod = Pod::clone(&self.pod);
        change(&mut pod);
        self.pod = AllocatedPod::granted(std::sync::Arc::new(pod));
    }

    /// Takes a status as the previous one and forgets what the runtime had.
    fn then_lost(mut self, stage: Stage<'_>) -> Self {
        self.previous = self.generate(stage);
        self.observed.containers.clear();
        self
    }
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::new(second, 500_000_000).unwrap()
}

fn sandbox(id: &str, is_ready: bool) -> SandboxObservation {
    SandboxObservation {
        id: id.into(),
        attempt: 0,
        is_ready,
        created_at: at(1),
        ips: vec!["10.1.0.7".to_owned()],
    }
}

fn instance(name: &str, attempt: u32, state: &str) -> ContainerObservation {
    let state = match state.split_once(' ') {
        Some((_, code)) => ContainerState::Exited(ContainerExit {
            exit_code: code.parse().unwrap(),
            reason: if code == "0" { "Completed" } else { "Error" }.to_owned(),
            started_at: Some(at(10)),
            finished_at: Some(at(20)),
            ..ContainerExit::default()
        }),
        None if state == "running" => ContainerState::Running { started_at: Some(at(10)) },
        None if state == "created" => ContainerState::Created,
        None => ContainerState::Unknown,
    };
    ContainerObservation {
        attempt,
        created_at: at(5),
        image: "docker.io/library/img:1".to_owned(),
        image_id: "sha256:1".to_owned(),
        ..ContainerObservation::bare(format!("{name}-{attempt}").into(), "s1".into(), name, state)
    }
}

/// `running`, `exit N`, `wait Reason`, with `, last exit N` and `, restarts N` where there are some.
fn text(status: &ContainerStatus) -> String {
    let state = |s: &k8s_openapi::api::core::v1::ContainerState| match (&s.running, &s.terminated, &s.waiting)
    {
        (Some(_), ..) => "running".to_owned(),
        (_, Some(t), _) => {
            let is_lost = t.reason.as_deref() == Some("ContainerStatusUnknown");
            format!("{} {}", if is_lost { "lost" } else { "exit" }, t.exit_code)
        }
        (.., Some(w)) => format!("wait {}", w.reason.as_deref().unwrap_or_default()),
        _ => "nothing".to_owned(),
    };
    let mut text = status.state.as_ref().map(state).unwrap_or_default();
    if let Some(last) = status.last_state.as_ref().filter(|s| s.terminated.is_some()) {
        text += &format!(", last {}", state(last));
    }
    if status.restart_count > 0 {
        text += &format!(", restarts {}", status.restart_count);
    }
    text
}

/// Every container in the order of the lists: init, regular, ephemeral.
fn texts(status: &PodStatus) -> Vec<String> {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().map(|c| format!("{}: {}", c.name, text(c))).collect()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap()
}

/// `True`, or `False Reason: message`.
fn verdict(status: &PodStatus, kind: &str) -> String {
    let c = condition(status, kind);
    let mut text = c.status.clone();
    if let Some(reason) = &c.reason {
        text += &format!(" {reason}");
    }
    if let Some(message) = &c.message {
        text += &format!(": {message}");
    }
    text
}
