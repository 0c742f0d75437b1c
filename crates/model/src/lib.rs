//! The vocabulary every other crate speaks: typed ids, points in time, quantities, and the
//! Kubernetes-shaped facts about pods that several crates need to agree on.
//!
//! Nothing here performs I/O, keeps state or takes a decision. Pods themselves are the
//! `k8s-openapi` types; this crate adds the views of them that the API types lack (which
//! containers are sidecars, what a pod effectively requests, which QoS class it has), and the
//! shapes in which adapters report what they observed ([`observed`]).

mod allocated;
mod chain;
pub mod cpu;
pub mod downward;
pub mod hash;
pub mod ids;
mod image;
pub mod json;
mod metadata_change;
pub mod mount;
pub mod observed;
pub mod pod;
pub mod probe;
pub mod qos;
pub mod quantity;
pub mod reason;
pub mod references;
pub mod resources;
mod signal;
pub mod storage;
pub mod sysctl;
pub mod time;
mod trust;
mod volume;

pub use allocated::AllocatedPod;
pub use chain::chain;
pub use ids::{ContainerId, ImageRef, PodKey, PodUid, SandboxId};
pub use image::{ImageUse, WantedImage, image_volumes, mounted_images};
pub use metadata_change::MetadataChange;
pub use observed::{
    CgroupObservation, ContainerObservation, ContainerState, ImageMountObservation, PodObservation,
    RuntimeCondition, RuntimeFeatures, RuntimeHandler, RuntimeHealth, SandboxObservation,
};
pub use qos::QosClass;
pub use quantity::Quantity;
pub use signal::Signal;
pub use time::Now;
pub use trust::{TrustSource, trust_sources};
pub use volume::VolumeKind;

/// The Kubernetes pod object, shared because many places hold the same immutable version of it.
pub type Pod = k8s_openapi::api::core::v1::Pod;
