//! What config map, secret, downward API and projected volumes share: an emptyDir with files in
//! it that are replaced atomically.

use std::path::{Component, Path, PathBuf};

use model::{Pod, pod as pods};

use super::PodContext;
use super::empty_dir::{self, Medium};
use crate::atomic_writer;
use crate::error::SetUpError;
use crate::ownership::{self, GroupAccess};
use crate::payload::Payload;
use crate::timing::Operation;

/// A volume of files.
#[derive(Debug)]
pub(crate) struct Files {
    /// The folder name of the kind of volume.
    pub(crate) plugin: &'static str,
    /// Where the files are kept: secrets never touch a disk.
    pub(crate) medium: Medium,
    /// The files.
    pub(crate) payload: Payload,
    /// Folders for other volumes that are mounted inside this one.
    pub(crate) mount_points: Vec<PathBuf>,
}

impl Files {
    pub(crate) fn set_up(&self, context: &PodContext<'_>, name: &str) -> Result<(), SetUpError> {
        let volume = empty_dir::set_up(context, self.plugin, name, &self.medium.clone().into())?;
        // Containers get the volume read-only, so the runtime could not make these itself.
        for mount_point in &self.mount_points {
            volume.make_dirs(mount_point, 0o755)?;
        }
        atomic_writer::write(&volume, &self.payload, context.now, |volume| match context.fs_group {
            Some(group) => context.timing.run(self.plugin, Operation::ApplyGroup, || {
                ownership::apply(volume, group, GroupAccess::ReadOnly)
            }),
            None => Ok(()),
        })?;
        Ok(())
    }
}

/// The places inside the volume at which containers of the pod mount other volumes, the
/// outermost only, relative to the volume.
pub(crate) fn nested_mount_points(pod: &Pod, volume: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for container in pods::containers(pod) {
        let all: Vec<(&str, PathBuf)> = container
            .spec
            .volume_mounts
            .iter()
            .flatten()
            .map(|m| (m.name.as_str(), absolute(&m.mount_path)))
            .collect();
        for (_, outer) in all.iter().filter(|(name, _)| *name == volume) {
            let mut inner: Vec<&Path> = all
                .iter()
                .filter_map(|(_, path)| path.strip_prefix(outer).ok())
                .filter(|p| !p.as_os_str().is_empty())
                .collect();
            inner.sort_unstable();
            for path in inner {
                if !found.iter().any(|known: &PathBuf| path.starts_with(known)) {
                    found.push(path.to_owned());
                }
            }
        }
    }
    found
}

/// The path as the container sees it, without `.` and with `..` stopping at the root.
fn absolute(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned
}
