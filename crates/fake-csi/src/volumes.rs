//! Volumes: folders, and bind mounts of them. Which are staged and published, is in a file, as a driver has to know it again
//! when it starts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use host::mount::{self, BindOptions};
use plugins::wire::csi::node_service_capability::rpc::Type;
use plugins::wire::csi::volume_capability::access_mode::Mode;
use plugins::wire::csi::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::check::mode;
use crate::journal::{Journal, shown_use};
use crate::provisioned::Provisioned;

/// Something a driver says it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `STAGE_UNSTAGE_VOLUME`
    Stage,
    /// `SINGLE_NODE_MULTI_WRITER`
    SingleNodeWriters,
    /// `VOLUME_MOUNT_GROUP`
    Group,
    /// `GET_VOLUME_STATS`
    Stats,
    /// `EXPAND_VOLUME`
    Expand,
}

impl Capability {
    pub(crate) fn wire(self) -> Type {
        match self {
            Self::Stage => Type::StageUnstageVolume,
            Self::SingleNodeWriters => Type::SingleNodeMultiWriter,
            Self::Group => Type::VolumeMountGroup,
            Self::Stats => Type::GetVolumeStats,
            Self::Expand => Type::ExpandVolume,
        }
    }
}

impl std::str::FromStr for Capability {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "stage" => Ok(Self::Stage),
            "single-node-writers" => Ok(Self::SingleNodeWriters),
            "group" => Ok(Self::Group),
            "stats" => Ok(Self::Stats),
            "expand" => Ok(Self::Expand),
            _ => Err("want stage, single-node-writers, group, stats or expand".to_owned()),
        }
    }
}

/// What is made, staged and published.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Known {
    /// By the volume: where, and how it is to be used.
    pub(crate) staged: BTreeMap<String, Place>,
    /// By the place: which volume, and how it is to be used.
    pub(crate) published: BTreeMap<String, Place>,
    /// By the service Controller.
    pub(crate) provisioned: Provisioned,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The volume, or where it is.
    pub(crate) of: String,
    /// How it is to be used.
    way: String,
}

/// The volumes below a folder.
#[derive(Debug)]
pub(crate) struct Volumes {
    folder: PathBuf,
    has_stage: bool,
    /// Whether there are those only that the service Controller has made.
    has_controller: bool,
    known: Mutex<Known>,
}

impl Volumes {
    /// Those that an earlier process has left there.
    pub(crate) fn open(folder: &Path, has_stage: bool, has_controller: bool) -> io::Result<Self> {
        std::fs::create_dir_all(folder.join("volumes"))?;
        let known = match std::fs::read(folder.join("state.json")) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { folder: folder.to_owned(), has_stage, has_controller, known: Mutex::new(known) })
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change of what is known, which is written down when it went well.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Known) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut known = self.known();
        let answer = change(&mut known)?;
        let text = serde_json::to_vec(&*known).map_err(|error| Status::internal(error.to_string()))?;
        let (new, path) = (self.folder.join(".state.json"), self.folder.join("state.json"));
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|error| Status::internal(format!("write {}: {error}", path.display())))?;
        Ok(answer)
    }

    /// Where the content of a volume is.
    pub(crate) fn content(&self, volume: &str) -> PathBuf {
        self.folder.join("volumes").join(volume.replace('/', "_"))
    }

    pub(crate) fn make(&self, volume: &str) -> Result<PathBuf, Status> {
        let content = self.content(volume);
        std::fs::create_dir_all(&content).map_err(|error| failed("make", &content, &error))?;
        Ok(content)
    }

    /// Takes away what a volume holds.
    pub(crate) fn empty(&self, volume: &str) -> Result<(), Status> {
        let content = self.content(volume);
        match std::fs::remove_dir_all(&content) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &content, &error)),
            _ => Ok(()),
        }
    }

    /// Whether a volume is attached only to be read. One that nobody makes is attached by nobody.
    fn is_attached_read_only(
        &self,
        known: &Known,
        volume: &str,
        told: &BTreeMap<String, String>,
        journal: &Journal,
    ) -> Result<bool, Status> {
        match self.has_controller {
            true => known.provisioned.is_attached_read_only(volume, told, journal),
            false => Ok(false),
        }
    }

    pub(crate) fn stage(&self, request: &NodeStageVolumeRequest, journal: &Journal) -> Result<(), Status> {
        let (volume, path) = (&request.volume_id, &request.staging_target_path);
        if !self.has_stage {
            return Err(journal.forbidden(&format!("{volume} is to be staged, which is no capability")));
        }
        if !Path::new(path).is_dir() {
            return Err(journal.forbidden(&format!("{volume} is to be staged at {path}, which is no folder")));
        }
        let way = shown_use(request.volume_capability.as_ref()).to_string();
        self.change(|known| {
            self.is_attached_read_only(known, volume, &request.publish_context, journal)?;
            if let Some(place) = known.staged.get(volume)
                && (place.of != *path || place.way != way)
            {
                return Err(journal.forbidden(&format!(
                    "{volume} is to be staged at {path} as {way} and is at {} as {}",
                    place.of, place.way
                )));
            }
            bind(&self.make(volume)?, Path::new(path), false)?;
            known.staged.insert(volume.clone(), Place { of: path.clone(), way });
            Ok(())
        })
    }

    pub(crate) fn unstage(&self, volume: &str, path: &str, journal: &Journal) -> Result<(), Status> {
        self.change(|known| {
            if let Some((place, _)) = known.published.iter().find(|(_, place)| place.of == volume) {
                return Err(
                    journal.forbidden(&format!("{volume} is to be unstaged and is published at {place}"))
                );
            }
            unmount(Path::new(path))?;
            known.staged.remove(volume);
            Ok(())
        })
    }

    pub(crate) fn publish(
        &self,
        request: &NodePublishVolumeRequest,
        is_ephemeral: bool,
        journal: &Journal,
    ) -> Result<(), Status> {
        let (volume, path) = (&request.volume_id, Path::new(&request.target_path));
        let way = format!("{} {}", shown_use(request.volume_capability.as_ref()), request.readonly);
        let is_single = request.volume_capability.as_ref().map(mode) == Some(Mode::SingleNodeSingleWriter);
        self.change(|known| {
            let is_read_only = !is_ephemeral
                && self.is_attached_read_only(known, volume, &request.publish_context, journal)?;
            let is_elsewhere =
                |(place, of): (&String, &Place)| of.of == *volume && *place != request.target_path;
            if is_single && known.published.iter().any(is_elsewhere) {
                return Err(
                    journal.forbidden(&format!("{volume}, of a single pod, is to be published twice"))
                );
            }
            let source = match self.has_stage && !is_ephemeral {
                true => {
                    let staged = known.staged.get(volume).map(|place| place.of.as_str());
                    if staged != Some(&request.staging_target_path) {
                        return Err(journal.forbidden(&format!(
                            "{volume} is to be published from {:?} and is staged at {staged:?}",
                            request.staging_target_path
                        )));
                    }
                    PathBuf::from(&request.staging_target_path)
                }
                false => self.make(volume)?,
            };
            if !path.parent().is_some_and(Path::is_dir) {
                return Err(journal.forbidden(&format!("{} is in no folder", path.display())));
            }
            if let Some(place) = known.published.get(&request.target_path)
                && (place.of != *volume || place.way != way)
            {
                return Err(journal.forbidden(&format!(
                    "{volume} is to be published as {way} at {}, where {place:?} is",
                    path.display()
                )));
            }
            std::fs::create_dir_all(path).map_err(|error| failed("make", path, &error))?;
            bind(&source, path, request.readonly || is_read_only)?;
            known.published.insert(request.target_path.clone(), Place { of: volume.clone(), way });
            Ok(())
        })
    }

    pub(crate) fn unpublish(&self, volume: &str, path: &str) -> Result<(), Status> {
        self.change(|known| {
            unmount(Path::new(path))?;
            match std::fs::remove_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", Path::new(path), &error));
                }
                _ => {}
            }
            known.published.remove(path);
            Ok(())
        })?;
        // An ephemeral one goes with its pod, and is known by its name.
        if volume.starts_with("csi-") { self.empty(volume) } else { Ok(()) }
    }

    /// Hands the content of a volume to a group.
    pub(crate) fn give_to_group(&self, volume: &str, group: &str) -> Result<(), Status> {
        let group = group.parse().map_err(|_| Status::invalid_argument(format!("group {group:?}")))?;
        let content = self.make(volume)?;
        std::os::unix::fs::chown(&content, None, Some(group))
            .map_err(|error| failed("change the group of", &content, &error))
    }

    /// Whether a volume is staged or published there.
    pub(crate) fn is_at(&self, volume: &str, path: &str) -> bool {
        let known = self.known();
        known.published.get(path).is_some_and(|place| place.of == volume)
            || known.staged.get(volume).is_some_and(|place| place.of == path)
    }

    /// What is staged and published, for people: `VOLUME@PLACE`, and whether it is.
    pub(crate) fn told(&self) -> String {
        let known = self.known();
        let staged = known.staged.iter().map(|(volume, place)| format!("{volume}@{}", place.of));
        let published = known.published.iter().map(|(path, place)| format!("{}@{path}", place.of));
        staged.chain(published).collect::<Vec<_>>().join(" ")
    }
}

/// Unless it is there already.
fn bind(source: &Path, target: &Path, is_read_only: bool) -> Result<(), Status> {
    let place = std::fs::canonicalize(target).map_err(|error| failed("find", target, &error))?;
    let is_there = mount::is_mount_point(&place).map_err(|error| Status::internal(error.to_string()))?;
    if is_there {
        return Ok(());
    }
    let made = mount::bind(source, target, BindOptions { is_recursive: false, is_read_only });
    made.map_err(|error| Status::internal(error.to_string()))
}

fn unmount(path: &Path) -> Result<(), Status> {
    mount::unmount(path).map_err(|error| Status::internal(error.to_string()))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Status {
    Status::internal(format!("{what} {}: {error}", path.display()))
}
