//! The Node object as this node registers and reports it: pure functions of what was measured
//! ([`NodeFacts`]), of the runtime's health ([`NodeHealth`]) and of what was reported before.
//!
//! Texts, order and rules are upstream's, since people and controllers read them: the setters of
//! status, the conditions with their reasons, and the rule when a status is worth a write.

use crate::pressure::Pressures;

mod change;
mod conditions;
mod facts;
mod registration;
mod report;
#[cfg(test)]
mod tests;

pub use change::{has_changed, reboot_event, schedulable_event, transition_events};
pub use facts::{ExtendedFacts, ImageFacts, NodeFacts};
pub use registration::{MetadataChange, initial_node, metadata_change};
pub use report::status;

pub(crate) use facts::{CPU, EPHEMERAL_STORAGE, HUGE_PAGES_PREFIX, MEMORY, PODS};
pub(crate) use registration::PROVIDED_IP_ANNOTATION;
pub(crate) use report::host_ips;

/// How the runtime and the node are, as far as status tells of it.
#[derive(Clone, Copy, Debug)]
pub struct NodeHealth<'a> {
    /// Why the runtime cannot be used, one text a cause; empty when it can.
    pub runtime_errors: &'a [String],
    /// Why the pod network is not up, as a whole text.
    pub network_error: Option<&'a str>,
    /// The runtime's last answer: its handlers and features. `None` before the first: then what
    /// was reported of them stays.
    pub runtime: Option<&'a model::RuntimeHealth>,
    /// What is short.
    pub pressures: Pressures,
    /// Whether the machine is going down.
    pub is_shutting_down: bool,
}
