//! What the API server is told of a pod: `status` as a pure function of the pod, of what was
//! observed, of what the core remembers, and of the status it had before. The words and rules are
//! upstream v1.37's; the parts are [`containers`], [`phase`] and [`conditions`].

mod conditions;
mod containers;
mod phase;
mod resources;
pub(crate) mod restarting;
#[cfg(test)]
mod tests;
pub(crate) mod transition;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use model::{AllocatedPod, CgroupObservation, Now, Pod, PodObservation, QosClass, pod, time};

pub(crate) use restarting::CONDITION as RESTARTING_CONDITION;

use crate::admission::Rejection;
use crate::settings::{PodGates, RestartRules};

/// What a status is made from.
#[derive(Clone, Copy, Debug)]
pub struct StatusInputs<'a> {
    /// The pod as its source has it, with the resources that it was granted.
    pub pod: &'a AllocatedPod,
    /// Whether its object asks for others.
    pub is_resize_pending: bool,
    /// What the runtime holds of it.
    pub observed: &'a PodObservation,
    /// What its cgroup has, as far as known.
    pub cgroup: Option<&'a CgroupObservation>,
    /// What feature gates say about pods.
    pub gates: PodGates,
    /// Which restart rules of containers are obeyed.
    pub rules: RestartRules,
    /// The status as last computed, or as the API server had it when the node first saw the pod.
    pub previous: &'a PodStatus,
    /// What the core knows of each container beyond the observation.
    pub notes: &'a BTreeMap<String, ContainerNote>,
    /// The terminal phase that its containers came to, if they did.
    pub reached: Option<&'a str>,
    /// Where the pod is in its life.
    pub stage: Stage<'a>,
    /// When the node accepted the pod; the start time of one that has none yet.
    pub started: jiff::Timestamp,
    /// The node's addresses, primary first.
    pub host_ips: &'a [String],
    /// Whether a pod's IPv6 address comes before its IPv4 one.
    pub is_ipv6_first: bool,
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
    /// Its newest instance runs, and is not through its postStart hook: until it is, upstream's
    /// status does not know of that instance.
    pub is_in_post_start: bool,
    /// Its running instance is through its postStart hook and startup probe.
    pub is_started: bool,
    /// Its running instance is ready to serve.
    pub is_ready: bool,
    /// Its newest instance was ended so that another can take its place.
    pub is_replaced: bool,
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
        /// Whether that is a disruption, which a condition tells of.
        is_disruption: bool,
    },
    /// The node never accepted it: it fails, and nothing is said of its containers.
    Rejected(&'a Rejection),
}

pub(crate) use conditions::{is_resize_pending, resize_pending_since};

/// Computes the status.
pub fn generate(inputs: &StatusInputs<'_>) -> PodStatus {
    let StatusInputs { pod, previous, stage, .. } = inputs;
    let started = || Time(time::to_seconds(inputs.started));
    let mut status = PodStatus {
        qos_class: Some(previous.qos_class.clone().unwrap_or_else(|| QosClass::of(pod).as_str().to_owned())),
        start_time: Some(previous.start_time.clone().unwrap_or_else(started)),
        // Never back, even when a source is behind what the API server was told before.
        observed_generation: pod.metadata.generation.max(previous.observed_generation),
        // Others' fields travel along unchanged.
        nominated_node_name: previous.nominated_node_name.clone(),
        resize: previous.resize.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        extended_resource_claim_status: previous.extended_resource_claim_status.clone(),
        node_allocatable_resource_claim_statuses: previous.node_allocatable_resource_claim_statuses.clone(),
        volume_health: previous.volume_health.clone(),
        ..PodStatus::default()
    };
    if let Stage::Ending(Cause::Rejected(rejection)) | Stage::Ended(Cause::Rejected(rejection)) = stage {
        // Upstream says of such a pod that it failed and why, and nothing else.
        let message = format!("Pod was rejected: {}", rejection.message);
        fail(&mut status, &rejection.reason.to_string(), &message);
        status.conditions = Some(conditions::of_others(inputs)).filter(|list| !list.is_empty());
        return status;
    }
    containers::fill(inputs, &mut status);
    set_phase(inputs, &mut status);
    if matches!(stage, Stage::Ended(_)) {
        containers::end_all(pod, &mut status);
    }
    addresses(inputs, &mut status);
    if inputs.gates.grants_pod_level_resources {
        resources::fill(inputs, &mut status);
    }
    status.conditions = Some(conditions::generate(inputs, &status));
    status
}

/// The terminal phase that the containers have come to. It is told once sidecars have ended, too, which say nothing about it.
pub(crate) fn terminal_phase(inputs: &StatusInputs<'_>) -> Option<String> {
    let mut status = PodStatus::default();
    containers::fill(inputs, &mut status);
    containers::end_sidecars(inputs.pod, &mut status);
    status.phase = Some(phase::of(inputs, &status, false));
    if is_terminal(&status) { status.phase } else { None }
}

/// Whether two statuses say the same, as far as the node is concerned: others' fields and
/// conditions do not count, nor when a condition last changed or by which generation, and an
/// empty list is as good as an absent one.
pub fn is_same(a: &PodStatus, b: &PodStatus) -> bool {
    fn same_list<T: PartialEq>(a: Option<&Vec<T>>, b: Option<&Vec<T>>) -> bool {
        a.map(Vec::as_slice).unwrap_or_default() == b.map(Vec::as_slice).unwrap_or_default()
    }
    fn same_map<V: PartialEq>(a: Option<&BTreeMap<String, V>>, b: Option<&BTreeMap<String, V>>) -> bool {
        let (none_a, none_b) = (BTreeMap::new(), BTreeMap::new());
        a.unwrap_or(&none_a) == b.unwrap_or(&none_b)
    }
    a.phase == b.phase
        && a.reason == b.reason
        && a.message == b.message
        && a.host_ip == b.host_ip
        && a.pod_ip == b.pod_ip
        && a.qos_class == b.qos_class
        && a.start_time == b.start_time
        && a.observed_generation == b.observed_generation
        && a.resources == b.resources
        && same_map(a.allocated_resources.as_ref(), b.allocated_resources.as_ref())
        && same_list(a.host_ips.as_ref(), b.host_ips.as_ref())
        && same_list(a.pod_ips.as_ref(), b.pod_ips.as_ref())
        && same_list(a.container_statuses.as_ref(), b.container_statuses.as_ref())
        && same_list(a.init_container_statuses.as_ref(), b.init_container_statuses.as_ref())
        && same_list(a.ephemeral_container_statuses.as_ref(), b.ephemeral_container_statuses.as_ref())
        && conditions::is_same(a, b)
}

/// Whether a phase admits no further change.
pub fn is_terminal(status: &PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
}

fn set_phase(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let StatusInputs { pod, previous, stage, .. } = inputs;
    let is_ended = matches!(stage, Stage::Ended(_));
    let mut phase = phase::of(inputs, status, is_ended);
    let terminal = |s: &PodStatus| s.phase.clone().filter(|_| is_terminal(s));
    let was_terminal = terminal(previous).or_else(|| pod.status.as_ref().and_then(terminal));
    // Out of a terminal phase there is no way back, whatever the runtime loses after it was reached.
    if let Some(old) = was_terminal.as_deref().or(inputs.reached) {
        old.clone_into(&mut phase);
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
    if was_terminal.is_none()
        && let Stage::Ending(Cause::Failed { reason, message, .. })
        | Stage::Ended(Cause::Failed { reason, message, .. }) = stage
    {
        fail(status, reason, message);
    }
    // A pod that ended without ever having got going has failed too, or whoever waits for its
    // end would wait in vain. The phase of a static pod is left: it will be started again.
    if is_ended && !is_terminal(status) && !pod::is_static(pod) {
        status.phase = Some("Failed".to_owned());
    }
    // A phase that says "it is over" while something still runs would let controllers replace
    // the pod too early: until then all stays as it was, the reason included.
    if !is_ended && is_terminal(status) && was_terminal.is_none() && inputs.observed.has_running_container() {
        status.phase = Some(previous.phase.clone().unwrap_or_else(|| "Pending".to_owned()));
        status.reason = previous.reason.clone();
        status.message = previous.message.clone();
    }
}

fn fail(status: &mut PodStatus, reason: &str, message: &str) {
    status.phase = Some("Failed".to_owned());
    status.reason = Some(reason.to_owned());
    status.message = Some(message.to_owned());
}

fn addresses(inputs: &StatusInputs<'_>, status: &mut PodStatus) {
    let StatusInputs { pod, previous, host_ips, .. } = inputs;
    if let Some(first) = host_ips.first() {
        status.host_ip = Some(first.clone());
        status.host_ips = Some(host_ips.iter().take(2).map(|ip| HostIP { ip: ip.clone() }).collect());
    }
    let own = pod_ips(pod, inputs.observed, host_ips, inputs.is_ipv6_first);
    if own.is_empty() || matches!(inputs.stage, Stage::Ended(_)) && previous.pod_ip.is_some() {
        // The last known address stays with a pod that has ended, as upstream keeps it.
        status.pod_ip = previous.pod_ip.clone();
        status.pod_ips = previous.pod_ips.clone();
        return;
    }
    status.pod_ip = own.first().cloned();
    status.pod_ips = Some(own.into_iter().map(|ip| PodIP { ip }).collect());
}

/// The addresses of a pod, primary first and at most one of each family: the node's in the host's
/// network, otherwise those of its newest sandbox. Empty as long as there are none.
pub(crate) fn pod_ips(
    pod: &Pod,
    observed: &PodObservation,
    host_ips: &[String],
    is_ipv6_first: bool,
) -> Vec<String> {
    if pod::is_host_network(pod) {
        return host_ips.iter().take(2).cloned().collect();
    }
    let newest = observed.sandboxes.first();
    newest.map(|s| by_family(&s.ips, is_ipv6_first)).unwrap_or_default()
}

/// The first address of the family that comes first, then the first of the other, in their usual spelling.
/// What is no address is left out.
fn by_family(ips: &[String], is_ipv6_first: bool) -> Vec<String> {
    let ips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let first = |is_ipv6: bool| ips.iter().find(|ip| ip.is_ipv6() == is_ipv6).map(IpAddr::to_string);
    first(is_ipv6_first).into_iter().chain(first(!is_ipv6_first)).collect()
}
