//! The context of a step: what a part may know of its surroundings, and where it puts what it decides.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus, Taint};
use model::{Now, RuntimeHealth};

use crate::checkpoints::Checkpoints;
use crate::image_gc::removals::ImageRemovals;
use crate::machine::Machine;
use crate::node_status::{self, NodeDescription, Readings, Resources};
use crate::outbox::Outbox;
use crate::pressure::{PressureGauge, Pressures};
use crate::settings::Settings;
use crate::volumes::{Surroundings, Volumes};

/// Passed down through one step.
pub(crate) struct Cx<'a> {
    /// The time of the step.
    pub(crate) now: Now,
    /// The configuration.
    pub(crate) settings: &'a Settings,
    /// The node, to be read.
    pub(crate) node: NodeState<'a>,
    /// What is written down for the next process.
    pub(crate) checkpoints: &'a mut Checkpoints,
    /// The volumes of drivers.
    pub(crate) volumes: &'a mut Volumes,
    /// Which answers about images are older than a removal.
    pub(crate) removals: &'a ImageRemovals,
    /// Takes effects and events.
    pub(crate) out: &'a mut Outbox,
}

/// What is known of the node.
#[derive(Clone, Copy)]
pub(crate) struct NodeState<'a> {
    /// The configuration.
    pub(crate) settings: &'a Settings,
    /// The machine; `None` before the core was told of it.
    pub(crate) machine: Option<&'a Machine>,
    /// What was last read of what changes.
    pub(crate) readings: &'a Readings,
    /// The handlers that RuntimeClasses name, by the names of the classes; `None` before they were listed.
    pub(crate) runtime_classes: Option<&'a BTreeMap<String, String>>,
    /// The Node object as the API server holds it.
    pub(crate) object: Option<&'a ApiNode>,
    /// Its status as the API server was last told, or was found to hold it.
    pub(crate) reported: Option<&'a NodeStatus>,
    /// The same of a write that is under way, or of which nobody knows how it ended.
    pub(crate) reporting: Option<&'a NodeStatus>,
    /// The node's addresses, primary first.
    pub(crate) host_ips: &'a [String],
    /// The runtime's last answer.
    pub(crate) runtime: Option<&'a RuntimeHealth>,
    /// Why the runtime's network is not ready; `None` when it is.
    pub(crate) network_wait: Option<&'a str>,
    /// What the node is short of.
    pub(crate) pressures: Pressures,
    /// By which thresholds.
    pub(crate) gauge: &'a PressureGauge,
}

impl<'a> Cx<'a> {
    pub(crate) fn new(
        now: Now,
        settings: &'a Settings,
        node: NodeState<'a>,
        checkpoints: &'a mut Checkpoints,
        volumes: &'a mut Volumes,
        removals: &'a ImageRemovals,
        out: &'a mut Outbox,
    ) -> Self {
        Self { now, settings, node, checkpoints, volumes, removals, out }
    }

    /// The volumes of drivers, and what they look at.
    pub(crate) fn volumes(&mut self) -> (&mut Volumes, Surroundings<'_>) {
        let around = Surroundings {
            now: self.now,
            node_name: &self.settings.node_name,
            node: self.node.object,
            reported: self.node.reported,
            reporting: self.node.reporting,
            out: self.out,
        };
        (self.volumes, around)
    }
}

impl<'a> NodeState<'a> {
    /// The uid of the Node object, once there is one.
    pub(crate) fn uid(self) -> Option<&'a str> {
        self.object?.metadata.uid.as_deref()
    }

    /// All that the Node object is made from; `None` before the machine is known and has been measured.
    pub(crate) fn description(self) -> Option<NodeDescription<'a>> {
        self.readings.sample.as_ref()?;
        Some(NodeDescription { settings: self.settings, machine: self.machine?, readings: self.readings })
    }

    /// The node's resources; `None` before the machine is known and has been measured.
    pub(crate) fn resources(self) -> Option<Resources<'a>> {
        self.description().map(NodeDescription::resources)
    }

    /// The node's labels: the API's, or before it was seen those it will be registered with.
    pub(crate) fn labels(self) -> BTreeMap<String, String> {
        match self.object {
            Some(node) => node.metadata.labels.clone().unwrap_or_default(),
            None => self.description().map(node_status::labels).unwrap_or_default(),
        }
    }

    pub(crate) fn taints(self) -> &'a [Taint] {
        self.object.and_then(|n| n.spec.as_ref()).and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    /// Whether the runtime knows strict groups; before it was asked, what the node reported last. `None` when nobody
    /// has said.
    pub(crate) fn has_strict_groups(self) -> Option<bool> {
        if let Some(health) = self.runtime {
            return Some(health.features.has_supplemental_groups_policy);
        }
        self.object?.status.as_ref()?.features.as_ref()?.supplemental_groups_policy
    }
}
