//! What the API server is told of a pod: `status` as a pure function of the pod, of what was
//! observed, of what the core remembers, and of the status it had before. The words and rules are
//! upstream v1.37's; the parts are [`containers`], [`phase`] and [`conditions`].

mod conditions;
mod containers;
mod phase;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{HostIP, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{Now, Pod, PodObservation, QosClass, pod};

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct StatusInputs<'a> {
    /// The pod as its source has it.
    pub pod: &'a Pod,
    /// What the runtime holds of it.
    pub observed: &'a PodObservation,
    /// The status as last computed, or as the API server had it when the node first saw the pod.
    pub previous: &'a PodStatus,
    /// What the core knows of each container beyond the observation.
    pub notes: &'a BTreeMap<String, ContainerNote>,
    /// Where the pod is in its life.
    pub stage: Stage<'a>,
    /// When the node accepted the pod; the start time of one that has none yet.
    pub started: jiff::Timestamp,
    /// The node's addresses, primary first.
    pub host_ips: &'a [String],
    /// Name of the runtime: the scheme of container ids.
    pub runtime_name: &'a str,
    /// For transition times.
    pub now: Now,
}

/// What the core knows of a container beyond its observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerNote {
    /// Reason and message of `state.waiting`, for a container that is to run and does not.
    pub waiting: Option<(&'static str, String)>,
    /// Its running instance is through its postStart hook and startup probe.
    pub is_started: bool,
    /// Its running instance is ready to serve.
    pub is_ready: bool,
}

/// Where a pod is in its life, as far as its status differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Is to run.
    Running,
    /// Is to end, and something of it may still run.
    Ending(Cause<'a>),
    /// Nothing of it runs or ever will again.
    Ended(Cause<'a>),
}

/// Why a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'a> {
    /// It was deleted, or all its containers ended.
    Ordinary,
    /// The node ends it, with this reason and message: the pod fails.
    Failed {
        /// CamelCase.
        reason: &'a str,
        /// For people.
        message: &'a str,
    },
}

/// Computes the status.
pub fn generate(inputs: &StatusInputs<'_>) -> PodStatus {
    let StatusInputs { pod, previous, .. } = inputs;
    let mut status = PodStatus {
        qos_class: Some(previous.qos_class.clone().unwrap_or_else(|| QosClass::of(pod).as_str().to_owned())),
        start_time: Some(previous.start_time.clone().unwrap_or(Time(inputs.started))),
        observed_generation: pod.metadata.generation,
        // Others' fields travel along unchanged.
        nominated_node_name: previous.nominated_node_name.clone(),
        resize: previous.resize.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        extended_resource_claim_status: previous.extended_resource_claim_status.clone(),
        ..PodStatus::default()
    };
    containers::fill(inputs, &mut status);
    set_phase(inputs, &mut status);
    if is_terminal(&status) && matches!(inputs.stage, Stage::Ended(_)) {
        containers::end_all(&mut status);
    }
    addresses(inputs, &mut status);
    status.conditions = Some(conditions::generate(inputs, &status));
    status
}

/// Whether two statuses say the same. Lists that are empty and lists that are absent do.
pub fn is_same(a: &PodStatus, b: &PodStatus) -> bool {
    fn same_list<T: PartialEq>(a: Option<&Vec<T>>, b: Option<&Vec<T>>) -> bool {
        a.map(Vec::as_slice).unwrap_or_default() == b.map(Vec::as_slice).unwrap_or_default()
    }
    let conditions = |s: &PodStatus| {
        let mut list = s.conditions.clone().unwrap_or_default();
        list.sort_by(|a, b| a.type_.cmp(&b.type_));
        list
    };
    a.phase == b.phase
        && a.reason == b.reason
        && a.message == b.message
        && a.host_ip == b.host_ip
        && a.pod_ip == b.pod_ip
        && a.qos_class == b.qos_class
        && a.start_time == b.start_time
        && a.observed_generation == b.observed_generation
        && same_list(a.host_ips.as_ref(), b.host_ips.as_ref())
        && same_list(a.pod_ips.as_ref(), b.pod_ips.as_ref())
        && same_list(a.container_statuses.as_ref(), b.container_statuses.as_ref())
        && same_list(a.init_container_statuses.as_ref(), b.init_container_statuses.as_ref())
        && same_list(a.ephemeral_container_statuses.as_ref(), b.ephemeral_container_statuses.as_ref())
        && conditions(a) == conditions(b)
}

/// Whether a phase admits no further change.
pub fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn set_phase(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let StatusInputs { pod, previous, stage, .. } = inputs;
    let is_ended = matches!(stage, Stage::Ended(_));
    let mut phase = phase::of(pod, inputs.observed, status, is_ended);
    let terminal = |s: &PodStatus| s.phase.clone().filter(|_| is_terminal(s));
    // Out of a terminal phase there is no way back.
    if let Some(old) = terminal(previous).or_else(|| pod.status.as_ref().and_then(terminal)) {
        phase = old;
    }
    // Ended without having been deleted, and not even all started (its sandbox was lost): nothing
    // will come of it any more, and whoever waits for it must learn that.
    if is_ended && phase == "Pending" && pod.metadata.deletion_timestamp.is_none() && !pod::is_static(pod) {
        phase = "Failed".to_owned();
    }
    status.phase = Some(phase);
    if status.phase == previous.phase {
        status.reason = previous.reason.clone();
        status.message = previous.message.clone();
    }
    if let Stage::Ending(Cause::Failed { reason, message }) | Stage::Ended(Cause::Failed { reason, message }) = stage {
        status.phase = Some("Failed".to_owned());
        status.reason = Some((*reason).to_owned());
        status.message = Some((*message).to_owned());
    }
    // A phase that says "it is over" while something still runs would let controllers replace
    // the pod too early: the containers' end is waited for.
    if matches!(stage, Stage::Running | Stage::Ending(_))
        && is_terminal(status)
        && !is_terminal(previous)
        && inputs.observed.has_running_container()
    {
        status.phase = Some("Running".to_owned());
        if matches!(stage, Stage::Running) {
            status.reason = None;
            status.message = None;
        }
    }
}

fn addresses(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let StatusInputs { pod, previous, host_ips, .. } = inputs;
    if let Some(first) = host_ips.first() {
        status.host_ip = Some(first.clone());
        status.host_ips = Some(host_ips.iter().take(2).map(|ip| HostIP { ip: ip.clone() }).collect());
    }
    let own = if pod::is_host_network(pod) {
        host_ips.to_vec()
    } else {
        let newest = inputs.observed.sandboxes.first().filter(|s| !s.ips.is_empty());
        newest.map(|s| s.ips.clone()).unwrap_or_default()
    };
    if own.is_empty() || matches!(inputs.stage, Stage::Ended(_)) && previous.pod_ip.is_some() {
        // The last known address stays with a pod that has ended, as upstream keeps it.
        status.pod_ip = previous.pod_ip.clone();
        status.pod_ips = previous.pod_ips.clone();
        return;
    }
    status.pod_ip = own.first().cloned();
    status.pod_ips = Some(own.into_iter().take(2).map(|ip| PodIP { ip }).collect());
}
