//! The kinds of volumes. Each turns its part of the pod's spec into a [`Plan`]: what has to be
//! on disk. Collecting the plan may ask the API; carrying it out is blocking work ([`carry_out`]).

pub(crate) mod config_map;
pub(crate) mod downward_api;
pub(crate) mod empty_dir;
pub(crate) mod files;
pub(crate) mod host_path;
pub(crate) mod huge_pages;
pub(crate) mod projected;
pub(crate) mod secret;

use std::path::{Path, PathBuf};

use host::beneath::Root;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Volume;
use model::{Pod, VolumeKind};

use crate::error::SetUpError;
use crate::layout::{self, PodLayout};
use crate::payload::FileContent;
use crate::timing::Timing;

/// What a volume has to become.
#[derive(Debug)]
pub(crate) enum Plan {
    EmptyDir(empty_dir::EmptyDir),
    HostPath(host_path::HostPath),
    Files(files::Files),
    /// An image: pulled beside the images of containers, and mounted by the runtime.
    Image,
    /// One of a driver, which makes it when it is asked for that one.
    Published,
}

/// What all of a pod's volumes need to know.
#[derive(Debug)]
pub(crate) struct PodContext<'a> {
    pub(crate) folder: &'a Root,
    pub(crate) fs_group: Option<u32>,
    pub(crate) now: Timestamp,
    pub(crate) timing: &'a Timing,
}

/// Makes the volume `name` or brings it up to date.
pub(crate) fn carry_out(context: &PodContext<'_>, name: &str, plan: &Plan) -> Result<(), SetUpError> {
    match plan {
        Plan::EmptyDir(dir) => empty_dir::set_up(context, layout::EMPTY_DIR, name, dir).map(drop),
        Plan::HostPath(host_path) => Ok(host_path.check()?),
        Plan::Files(files) => files.set_up(context, name),
        Plan::Image | Plan::Published => Ok(()),
    }
}

/// Where the volume is on the host, and whether containers may only ever read it.
pub(crate) fn location(layout: &PodLayout, volume: &Volume) -> Result<(PathBuf, bool), SetUpError> {
    if let Some(source) = &volume.host_path {
        return Ok((Path::new(&source.path).to_owned(), false));
    }
    let kind = VolumeKind::of(volume);
    Ok((layout.volume(layout::plugin_folder(kind)?, &volume.name)?, kind != VolumeKind::EmptyDir))
}

/// `spec.securityContext.fsGroup`.
pub(crate) fn fs_group(pod: &Pod) -> Result<Option<u32>, SetUpError> {
    let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
    let to_id =
        |g: i64| u32::try_from(g).map_err(|_| SetUpError::Invalid { what: "fsGroup", value: g.to_string() });
    group.map(to_id).transpose()
}

/// What a volume says of its files where an item of it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileDefaults {
    /// `defaultMode`.
    pub(crate) mode: Option<i32>,
    /// `defaultUser`.
    pub(crate) user: Option<i64>,
    /// Whether users are honoured, an item's own included (`AtomicWriteVolumeUserFields`).
    pub(crate) honours_users: bool,
}

impl FileDefaults {
    /// A file with what an item says of it.
    pub(crate) fn file(&self, data: Vec<u8>, mode: Option<i32>, user: Option<i64>) -> FileContent {
        FileContent { data, mode: self.mode(mode), owner: self.owner(user) }
    }

    /// Permission bits as the API gives them; its default where a manifest has not been through it.
    pub(crate) fn mode(&self, item: Option<i32>) -> u32 {
        u32::try_from(item.or(self.mode).unwrap_or(0o644)).unwrap_or(0o644) & 0o777
    }

    /// The owner, if not root.
    pub(crate) fn owner(&self, item: Option<i64>) -> Option<u32> {
        item.or(self.user).filter(|_| self.honours_users).and_then(|user| u32::try_from(user).ok())
    }
}
