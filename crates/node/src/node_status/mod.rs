//! The Node object as this node registers and reports it: pure functions of configuration, machine and last readings
//! ([`NodeDescription`]), of the runtime's health ([`NodeHealth`]) and of what was reported before.
//!
//! Texts, order and rules are upstream's, since people and controllers read them: the setters of
//! status, the conditions with their reasons, and the rule when a status is worth a write.

use crate::machine::Machine;
use crate::pressure::Pressures;
use crate::settings::Settings;

mod capacity;
mod change;
mod conditions;
mod readings;
mod registration;
mod report;
#[cfg(test)]
mod tests;

pub use capacity::Resources;
pub use readings::{NodeImage, Readings};

pub(crate) use capacity::{CPU, EPHEMERAL_STORAGE, HUGE_PAGES_PREFIX, MEMORY, PODS};
pub(crate) use change::{has_changed, reboot_event, schedulable_event, transition_events};
pub(crate) use registration::{PROVIDED_IP_ANNOTATION, initial_node, labels, metadata_change};
pub(crate) use report::{host_ips, status};

/// All that the Node object is made from, beside its health.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeDescription<'a> {
    /// The configuration.
    pub(crate) settings: &'a Settings,
    /// The machine.
    pub(crate) machine: &'a Machine,
    /// What was last read of what changes.
    pub(crate) readings: &'a Readings,
}

impl<'a> NodeDescription<'a> {
    /// The machine's resources under the configuration.
    pub(crate) fn resources(self) -> Resources<'a> {
        Resources {
            settings: &self.settings.capacity,
            machine: self.machine,
            storage_bytes: self.readings.storage_bytes(),
        }
    }
}

/// How the runtime and the node are, as far as status tells of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeHealth<'a> {
    /// Why the runtime cannot be used, one text a cause; empty when it can.
    pub(crate) runtime_errors: &'a [String],
    /// Why the pod network is not up, as a whole text.
    pub(crate) network_error: Option<&'a str>,
    /// Why there are no volumes of CSI drivers yet; `None` when there can be.
    pub(crate) storage_error: Option<&'a str>,
    /// The runtime's last answer: its handlers and features. `None` before the first: then what
    /// was reported of them stays.
    pub(crate) runtime: Option<&'a model::RuntimeHealth>,
    /// What is short.
    pub(crate) pressures: Pressures,
    /// Whether the machine is going down.
    pub(crate) is_shutting_down: bool,
}
