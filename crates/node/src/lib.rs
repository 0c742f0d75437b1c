//! The core of the node agent: every decision about pods and the node, as a value.
//!
//! [`Node::step`] takes one [`Input`] and the time, and returns the [`Effect`]s that follow. There
//! is no I/O, clock, randomness or thread in this crate; equal inputs give equal effects, so a
//! simulated world can drive years of a node's life in seconds, and a recording of a real node
//! reproduces its decisions.
//!
//! - [`core`]: the owner of all state; routes inputs, and drives the parts in one order. No part knows it.
//! - [`settings`], [`machine`]: what holds for the life of the process. What changes beside pods comes as inputs of its own:
//!   addresses, the runtime's version, images, and samples of what is left ([`pressure`]).
//! - [`cx`]: what a part is given: the time, the settings, the node, and the outbox.
//! - [`startup`]: that nothing is done before it is known what earlier processes have left.
//! - [`pods`]: the life of each pod.
//! - [`admission`]: which pods are let in.
//! - [`container_gc`], [`dead_containers`]: which dead containers stay. [`image_gc`]: which images do.
//! - [`eviction`]: what is reclaimed, and which pods go, when the node runs short.
//! - [`status`], [`node_status`]: what the API server is told, as pure functions.
//! - [`node_lifecycle`]: the node's own health, registration and report. [`qos_cgroups`]: the limits of QoS classes.
//! - [`pod_cgroups`]: what pods' cgroups have, read again and again.
//! - [`annotations`]: which annotations decisions depend on.
//! - [`runtime_class`]: which handler of the runtime a pod asks for.
//! - [`plugins`]: which plugins there are, and which are taken. [`csi`]: the drivers among them, and what the Node and CSINode
//!   objects say of them.
//! - [`volumes`]: volumes that are mounted one by one, for the node and for its pods. [`node_selector`]: which nodes terms name.
//! - [`mirrors`]: how static pods show in the API.
//! - [`checkpoints`]: what is written down for the next process.
//! - [`schedule`]: when something is due by itself. [`tasks`], [`outbox`]: what is under way, and who waits for its result.
//! - [`relist`]: when all that the runtime holds is listed. [`retained_logs`]: logs that outlive their pods for a while.
//! - [`view`]: what is published. [`wait`], [`timeline`]: what is waited for, and how it came to that.

mod admission;
mod allocation;
mod annotations;
mod checkpoints;
mod container_gc;
mod core;
mod csi;
mod cx;
mod dead_containers;
mod effect;
mod eviction;
mod image_gc;
mod input;
mod jitter;
mod machine;
mod mirrors;
mod node_lifecycle;
mod node_selector;
pub mod node_status;
mod outbox;
mod pairs;
mod plugins;
mod pod_cgroups;
mod pod_cidr;
mod pods;
pub mod pressure;
mod qos_cgroups;
mod relist;
mod retained_logs;
mod runtime_class;
mod schedule;
mod settings;
mod startup;
pub mod status;
mod tasks;
mod timeline;
mod view;
mod volumes;
mod wait;

pub use crate::core::Node;
pub use annotations::reads_annotation;
pub use dead_containers::DeadContainers;
pub use effect::{
    Action, ActionKind, ApiAction, ApiOutcome, CheckpointAction, CheckpointWrite, ContainerStart,
    CsiNodeInfo, Effect, EffectId, EventObject, EventRecord, Failure, FailureKind, Hook, HostAction,
    ImageAction, ImageAnswer, ImageOutcome, ImageQuestion, ImageRemovalCause, Outcome, PluginAction,
    PluginInfo, PluginOutcome, ProbeAction, QosAmounts, RuntimeAction, RuntimeOutcome, SandboxLoss,
    StateFile, StorageAction, Subject, Version, VolumeAction, VolumeFailure, VolumeOutcome, VolumeStage,
    Worker,
};
pub use eviction::{ContainerUsage, FilesUsage, PodToMeasure, PodUsage, PodUsages};
pub use input::{DamagedFile, Input, Restored, RuntimeChange, Source};
pub use machine::Machine;
pub use pods::life::Phase;
pub use settings::{
    CapacitySettings, Delays, ImageGcPolicy, ObjectSettings, PodGates, RestartRules, Settings,
};
pub use timeline::{Mark, Timeline};
pub use view::{PodView, PodViews, View};
pub use volumes::Drivers;
pub use wait::{Responsible, VolumeStep, Wait, WaitOn};

#[cfg(test)]
mod tests;
