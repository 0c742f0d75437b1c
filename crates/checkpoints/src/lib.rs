//! The state files of a kubelet as documents, byte for byte as upstream's v1.37 writes and reads them, so that a node can be
//! handed from one kubelet to the other and back.
//!
//! Nothing here does I/O, nor knows when a file is written.
//!
//! - [`PodsState`]: the resources of pods, in `allocated_pods_state` and `actuated_pods_state`.
//!
//! Upstream's other state files (`cpu_manager_state`, `memory_manager_state`, `kubelet_internal_checkpoint`,
//! `dra_manager_state`) are neither read nor written: what they are about is not done yet.

mod damaged;
mod pods;

pub use damaged::Damaged;
pub use pods::{Entry, PodResources, PodsState};
