//! From `volumeMounts` to the mounts the runtime makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Volume, VolumeMount};
use model::mount::{ContainerMount, MountPropagation, MountedImage};
use model::storage::{HostPlugin, PublishedPlace, PublishedVolume, is_mounted_alone};
use model::{ImageRef, ImageUse, Pod};

use crate::csi;
use crate::error::{MountFailure, SetUpError, VolumeError};
use crate::expand::expand;
use crate::layout::PodLayout;
use crate::plugins;
use crate::sub_path::{self, SubPath};

/// What the mounts of a container depend on beside its pod.
#[derive(Clone, Copy, Debug)]
pub struct MountInputs<'a> {
    /// The container's environment, for `subPathExpr`.
    pub environment: &'a BTreeMap<String, String>,
    /// The images of the volumes that are images, by the names of the volumes.
    pub images: &'a BTreeMap<String, ImageRef>,
    /// The volumes that were mounted for the pod one by one, by the names of the volumes.
    pub published: &'a BTreeMap<String, PublishedVolume>,
    /// Whether the pod's runtime handler can make mounts recursively read-only.
    pub has_recursive_read_only_mounts: bool,
}

/// A mount whose host path may still have to be made.
#[derive(Debug)]
pub(crate) struct PlannedMount {
    pub(crate) mount: ContainerMount,
    pub(crate) sub_path: Option<SubPath>,
}

/// Works out a container's mounts without touching the disk.
pub(crate) fn plan(
    layout: &PodLayout,
    pod: &Pod,
    container: &Container,
    inputs: &MountInputs<'_>,
) -> Result<Vec<PlannedMount>, VolumeError> {
    let mut planned = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let one = plan_one(layout, pod, container, (index, mount), inputs);
        planned.push(one.map_err(|cause| VolumeError::Mount { volume: mount.name.clone(), cause })?);
    }
    Ok(planned)
}

/// Makes the bind mounts for subPaths. Blocking.
pub(crate) fn carry_out(
    layout: &PodLayout,
    planned: Vec<PlannedMount>,
) -> Result<Vec<ContainerMount>, VolumeError> {
    let mut mounts = Vec::with_capacity(planned.len());
    for PlannedMount { mut mount, sub_path } in planned {
        if let Some(sub_path) = sub_path {
            mount.host_path = sub_path::prepare(layout, &sub_path).map_err(|detail| VolumeError::Mount {
                volume: sub_path.volume.clone(),
                cause: MountFailure::SubPath {
                    volume: sub_path.volume.clone(),
                    container: sub_path.container.clone(),
                    detail: crate::error::chain(&detail),
                },
            })?;
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

fn plan_one(
    layout: &PodLayout,
    pod: &Pod,
    container: &Container,
    (index, mount): (usize, &VolumeMount),
    inputs: &MountInputs<'_>,
) -> Result<PlannedMount, MountFailure> {
    let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let volume = volumes.find(|v| v.name == mount.name).ok_or_else(|| MountFailure::NoVolume {
        volume: mount.name.clone(),
        container: container.name.clone(),
    })?;
    let below = sub_path_of(mount, inputs.environment)?;
    let image = match ImageUse::Volume(volume.name.clone()).wanted(pod) {
        Some(wanted) => {
            let image = inputs.images.get(&volume.name).cloned();
            let image = image.ok_or_else(|| MountFailure::NoImage { volume: volume.name.clone() })?;
            // The runtime looks for it within the image.
            let sub_path = below.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
            Some(MountedImage { image, reference: wanted.reference, sub_path })
        }
        None => None,
    };
    let published = published(volume, container, inputs)?;
    let (path, is_always_read_only) = match (&image, published) {
        (Some(_), _) => (PathBuf::new(), true),
        (None, Some(published)) => {
            (path_of(layout, published).map_err(MountFailure::Volume)?, published.is_read_only)
        }
        (None, None) => plugins::location(layout, volume).map_err(MountFailure::Volume)?,
    };
    // What is the host's keeps its labels, or nobody else could use it any more, and so does what cannot be written.
    let is_own = volume.host_path.is_none() && image.is_none() && published.is_none_or(is_relabelled);
    let sub_path = below.filter(|_| image.is_none()).map(|below| SubPath {
        // Upstream's name of the folder, by which whoever takes the volume down finds it.
        volume: published.map_or(&mount.name, |published| &published.folder).clone(),
        container: container.name.clone(),
        index,
        volume_path: path.clone(),
        below,
    });
    let container_path = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    Ok(PlannedMount {
        mount: ContainerMount {
            host_path: path,
            image,
            container_path,
            is_read_only: mount.read_only.unwrap_or(false) || is_always_read_only,
            is_recursive_read_only: recursive_read_only(mount, inputs.has_recursive_read_only_mounts)?,
            is_relabelled: is_own,
            bind_options: mount.bind_mount_options.clone().unwrap_or_default(),
            propagation: propagation(mount)?,
        },
        sub_path,
    })
}

/// Where a volume is that was mounted by itself.
pub(crate) fn path_of(layout: &PodLayout, published: &PublishedVolume) -> Result<PathBuf, SetUpError> {
    let folder = |plugin| layout.volume(plugin, &published.folder);
    Ok(match &published.place {
        PublishedPlace::Csi => folder(csi::PLUGIN)?.join(csi::MOUNT),
        PublishedPlace::Mounted(plugin) => folder(plugin.folder())?,
        PublishedPlace::HostPath(path) => PathBuf::from(path),
    })
}

/// Whether the files of such a volume get the pod's label.
fn is_relabelled(published: &PublishedVolume) -> bool {
    let is_own = match &published.place {
        PublishedPlace::Csi | PublishedPlace::Mounted(HostPlugin::Local) => true,
        PublishedPlace::Mounted(HostPlugin::HostPath | HostPlugin::Nfs) | PublishedPlace::HostPath(_) => {
            false
        }
    };
    is_own && !published.is_read_only
}

/// What was made of a volume by itself; `None` for one that is made with the others of the pod.
fn published<'a>(
    volume: &Volume,
    container: &Container,
    inputs: &MountInputs<'a>,
) -> Result<Option<&'a PublishedVolume>, MountFailure> {
    if !is_mounted_alone(volume) {
        return Ok(None);
    }
    let published = inputs.published.get(&volume.name).ok_or_else(|| MountFailure::NoVolume {
        volume: volume.name.clone(),
        container: container.name.clone(),
    })?;
    Ok(Some(published))
}

fn sub_path_of(mount: &VolumeMount, env: &BTreeMap<String, String>) -> Result<Option<PathBuf>, MountFailure> {
    let text = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        Some(expression) => expand(expression, env).map_err(MountFailure::NoValue)?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('/') {
        return Err(MountFailure::AbsoluteSubPath(text));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(MountFailure::BackstepSubPath(text));
    }
    Ok(Some(Path::new(&text).to_owned()))
}

fn propagation(mount: &VolumeMount) -> Result<MountPropagation, MountFailure> {
    match mount.mount_propagation.as_deref() {
        None | Some("" | "None") => Ok(MountPropagation::Private),
        Some("HostToContainer") => Ok(MountPropagation::HostToContainer),
        Some("Bidirectional") => Ok(MountPropagation::Bidirectional),
        Some(other) => Err(MountFailure::Propagation(other.to_owned())),
    }
}

fn recursive_read_only(mount: &VolumeMount, is_supported: bool) -> Result<bool, MountFailure> {
    let wish = match mount.recursive_read_only.as_deref() {
        None | Some("" | "Disabled") => return Ok(false),
        Some(wish) => wish,
    };
    let refuse = |why: String| Err(MountFailure::RecursiveReadOnly { volume: mount.name.clone(), why });
    if !mount.read_only.unwrap_or(false) {
        return refuse("it is not read-only".to_owned());
    }
    if let Some(mode) = mount.mount_propagation.as_deref().filter(|m| !matches!(*m, "" | "None")) {
        return refuse(format!("it is not compatible with propagation {mode:?}"));
    }
    match wish {
        "IfPossible" => Ok(is_supported),
        "Enabled" if is_supported => Ok(true),
        "Enabled" => refuse("it is not supported by the runtime".to_owned()),
        other => refuse(format!("{other:?} is an unknown mode")),
    }
}
