//! A pod's volumes on disk: makes them, keeps them up to date, mounts parts of them into
//! containers and takes them down.
//!
//! [`Volumes`] is the whole interface. It starts no task and holds no picture of what is mounted:
//! the mount table and the files are the truth, so every call may be repeated, after a restart of
//! the kubelet too. [`Volumes::sync`] first collects what goes into the volumes (from the API
//! through the port [`Objects`], from the pod itself), then does the disk work of one pod on a
//! blocking thread. Work on one pod is serialized, different pods do not wait for each other.
//!
//! Each kind of volume is a module below `plugins`, but for those that are mounted one by one: those of CSI drivers
//! ([`CsiVolumes`]), and disks and folders of the node ([`HostVolumes`]). The layout on disk is upstream's, so that a
//! node can change from one kubelet to the other under running pods. What a pod's lifecycle makes of success or failure is not
//! known here.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod atomic_writer;
mod csi;
mod error;
mod expand;
mod found;
mod host_volumes;
mod layout;
mod locks;
mod measurable;
mod mounts;
mod objects;
mod ownership;
mod payload;
mod plugins;
mod sub_path;
mod tear_down;
mod timing;
mod tokens;
mod world;

pub use csi::{CsiError, CsiVolumes, DataError, ExpandError, Publication};
pub use error::{MountFailure, SetUpError, VolumeError};
pub use found::found_volumes;
pub use host_volumes::{GroupConflict, HostPublication, HostVolumeError, HostVolumes};
pub use measurable::MeasurableVolume;
pub use mounts::MountInputs;
pub use objects::{
    CertificateSource, ObjectError, Objects, PodCertificateError, PodCredential, Token, TokenSpec,
    TrustBundleError,
};
pub use payload::PathError;
pub use plugins::host_path::HostPathError;
pub use plugins::huge_pages::HugePagesError;
pub use timing::plugin_names;
pub use world::{Synced, VolumeSettings, Volumes};

#[cfg(test)]
mod tests;
