//! How long the node itself took: from the machine's start to the kubelet's, to registration, to
//! being ready. Told once, of a node that was new.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use telemetry::metrics::Metrics;

/// The node's coming up.
pub(super) struct NodeStart {
    kubelet: Timestamp,
    /// When the first attempt to register was made.
    tried: Option<Timestamp>,
    registered: Option<Timestamp>,
    is_told: bool,
}

impl Default for NodeStart {
    fn default() -> Self {
        Self { kubelet: Timestamp::now(), tried: None, registered: None, is_told: false }
    }
}

impl NodeStart {
    /// The node is registered; `tried` is when this attempt began.
    pub(super) fn registered(&mut self, metrics: &Metrics, tried: Timestamp, now: Timestamp, node: &Node) {
        let first = *self.tried.get_or_insert(tried);
        let created = node.metadata.creation_timestamp.as_ref();
        // Times of objects are in whole seconds.
        let is_new = created.is_some_and(|time| time.0.as_second() >= tried.as_second());
        if !is_new || self.registered.is_some() {
            self.is_told |= !is_new;
            return;
        }
        self.registered = Some(now);
        if let Some(booted) = booted() {
            metrics.node_startup_pre_kubelet.set(seconds(self.kubelet, booted));
        }
        metrics.node_startup_pre_registration.set(seconds(first, self.kubelet));
        metrics.node_startup_registration.set(seconds(now, first));
    }

    /// The API server knows that the node is ready.
    pub(super) fn ready(&mut self, metrics: &Metrics, now: Timestamp) {
        let Some(registered) = self.registered.filter(|_| !self.is_told) else { return };
        self.is_told = true;
        metrics.node_startup_post_registration.set(seconds(now, registered));
        if let Some(booted) = booted() {
            metrics.node_startup.set(seconds(now, booted));
        }
    }
}

/// Whether a status has the condition `Ready`.
pub(super) fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn booted() -> Option<Timestamp> {
    let stat = host::text::read("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

fn seconds(later: Timestamp, earlier: Timestamp) -> f64 {
    let span: SignedDuration = later.duration_since(earlier);
    span.as_secs_f64()
}
