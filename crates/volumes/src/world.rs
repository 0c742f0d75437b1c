//! [`Volumes`]: the calls the rest of the kubelet makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Volume};
use model::downward::PodFacts;
use model::mount::ContainerMount;
use model::storage::{PublishedVolume, is_mounted_alone};
use model::{AllocatedPod, Pod, PodUid, VolumeKind, pod as pods};
use telemetry::metrics::Metrics;

use crate::error::{MountFailure, SetUpError, VolumeError};
use crate::layout::{self, PodLayout};
use crate::locks::Locks;
use crate::measurable::{self, MeasurableVolume};
use crate::mounts::{self, MountInputs};
use crate::objects::Objects;
use crate::plugins::files::{Files, nested_mount_points};
use crate::plugins::host_path::HostPath;
use crate::plugins::projected::Inputs;
use crate::plugins::{
    self, FileDefaults, Plan, PodContext, config_map, downward_api, empty_dir, projected, secret,
};
use crate::tear_down;
use crate::timing::{self, Operation, Timing};
use crate::tokens::TokenCache;

/// The volumes of all pods below one root directory.
#[derive(Debug)]
pub struct Volumes<O> {
    objects: O,
    /// Free of symbolic links, so that it compares with the mount table.
    root: PathBuf,
    tokens: TokenCache,
    locks: Locks<PodUid>,
    timing: Timing,
    settings: VolumeSettings,
}

/// What is done differently by configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeSettings {
    /// Whether the owners that volumes name for their files are honoured (feature gate
    /// `AtomicWriteVolumeUserFields`).
    pub honours_file_users: bool,
    /// Whether the permission bits are honoured that an emptyDir names for its folder (feature gate
    /// `EmptyDirVolumeMode`).
    pub honours_folder_modes: bool,
}

/// A pod's volumes are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// When to sync again though nothing has changed: a token has to be replaced.
    pub refresh_after: Option<Duration>,
}

impl<O: Objects> Volumes<O> {
    /// Volumes below the kubelet's root directory, which must exist. What is done with them is counted.
    pub fn new(root: &Path, objects: O, metrics: Arc<Metrics>, settings: VolumeSettings) -> Self {
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let timing = Timing::new(metrics);
        Self { objects, root, tokens: TokenCache::default(), locks: Locks::default(), timing, settings }
    }

    /// Makes all volumes that containers of the pod use and brings their content up to date. To be called
    /// before the first container starts, after a restart, when an object the pod refers to, its labels,
    /// annotations or containers have changed, and after [`Synced::refresh_after`]. Volumes that are as they
    /// should be are not touched; one that fails does not keep the others back.
    ///
    /// Dropping the future abandons requests to the API; disk work that has begun runs on, and
    /// later calls for this pod wait for it.
    pub async fn sync(&self, pod: &AllocatedPod, facts: &PodFacts) -> Result<Synced, VolumeError> {
        let guard = self.locks.lock(&pods::uid(pod)).await;
        let now = Timestamp::now();
        let mut failures = Vec::new();
        let mut planned = Vec::new();
        let mut refresh_after: Option<Duration> = None;
        for volume in pods::used_volumes(pod) {
            let begun = Instant::now();
            let plan = self.plan(pod, facts, volume, now).await;
            let (name, folder, took) = (volume.name.clone(), timing::folder(volume), begun.elapsed());
            match plan {
                Ok((plan, after)) => {
                    refresh_after = [refresh_after, after].into_iter().flatten().min();
                    planned.push(Planned { name, folder, plan, took });
                }
                Err(cause) => {
                    if let Some(folder) = folder {
                        self.timing.note(folder, Operation::Mount, false, took);
                    }
                    failures.push((name, cause));
                }
            }
        }
        let layout = PodLayout::new(&self.root, &pods::uid(pod)).map_err(|e| set_up_error("", e))?;
        let fs_group = plugins::fs_group(pod).map_err(|e| set_up_error("", e))?;
        let timing = self.timing.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            carry_out_all(&layout, fs_group, &planned, now, &timing)
        });
        let carried_out = work.await.unwrap_or_else(|_| Ok(vec![(String::new(), SetUpError::Interrupted)]));
        failures.extend(carried_out.map_err(|cause| VolumeError::Folders { cause })?);
        let mut errors = failures.into_iter().map(|(volume, cause)| set_up_error(&volume, cause));
        match errors.next() {
            None => Ok(Synced { refresh_after }),
            Some(VolumeError::SetUp { volume, cause, .. }) => {
                Err(VolumeError::SetUp { volume, cause, also: errors.collect() })
            }
            Some(other) => Err(other),
        }
    }

    /// The mounts of one container, whose volumes a [`Volumes::sync`] has made.
    pub async fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        inputs: &MountInputs<'_>,
    ) -> Result<Vec<ContainerMount>, VolumeError> {
        let layout = PodLayout::new(&self.root, &pods::uid(pod)).map_err(|cause| VolumeError::Mount {
            volume: String::new(),
            cause: MountFailure::Volume(cause),
        })?;
        let planned = mounts::plan(&layout, pod, container, inputs)?;
        if planned.iter().all(|m| m.sub_path.is_none()) {
            return Ok(planned.into_iter().map(|m| m.mount).collect());
        }
        let guard = self.locks.lock(&pods::uid(pod)).await;
        let work = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            mounts::carry_out(&layout, planned)
        });
        let interrupted = || VolumeError::Mount { volume: String::new(), cause: MountFailure::Interrupted };
        work.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// The volumes of a pod whose usage can be measured; whether they are mounted is not looked at. `published`: what drivers
    /// have made for the pod.
    pub fn measurable(
        &self,
        pod: &Pod,
        published: &BTreeMap<String, PublishedVolume>,
    ) -> Vec<MeasurableVolume> {
        let layout = PodLayout::new(&self.root, &pods::uid(pod));
        layout.map(|layout| measurable::of_pod(&layout, pod, published)).unwrap_or_default()
    }

    /// Where an emptyDir of the pod is on the host; `None` for a volume of another kind, and for one the
    /// pod lacks.
    pub fn empty_dir(&self, pod: &Pod, name: &str) -> Option<PathBuf> {
        let mut volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let volume = volumes.find(|v| v.name == name && v.empty_dir.is_some())?;
        let layout = PodLayout::new(&self.root, &pods::uid(pod)).ok()?;
        plugins::location(&layout, volume).ok().map(|(path, _)| path)
    }

    /// Unmounts everything below the pod's folder and removes its volumes. What containers have left in the folder stays.
    /// A folder that is not there is fine. The pod's containers must be gone.
    ///
    /// # Errors
    /// Something is still in use, or cannot be removed.
    pub async fn tear_down(&self, uid: &PodUid) -> Result<(), VolumeError> {
        self.in_folder(uid, tear_down::tear_down).await
    }

    /// Removes the pod's folder, and whatever is mounted below it by then. A folder that is not there is fine.
    ///
    /// # Errors
    /// Something is still in use, or cannot be removed.
    pub async fn remove_folder(&self, uid: &PodUid) -> Result<(), VolumeError> {
        self.in_folder(uid, tear_down::remove_folder).await
    }

    async fn in_folder(
        &self,
        uid: &PodUid,
        work: fn(&PodLayout, &Timing) -> Result<(), SetUpError>,
    ) -> Result<(), VolumeError> {
        let fail = |cause| VolumeError::TearDown { uid: uid.to_string(), cause };
        let layout = PodLayout::new(&self.root, uid).map_err(fail)?;
        let guard = self.locks.lock(uid).await;
        self.tokens.forget(uid);
        self.objects.forget_pod_certificates(uid);
        let timing = self.timing.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            work(&layout, &timing)
        });
        work.await.unwrap_or(Err(SetUpError::Interrupted)).map_err(fail)
    }

    /// The pods that have a folder. Blocking, but only reads one folder.
    pub fn pods_on_disk(&self) -> Result<Vec<PodUid>, VolumeError> {
        tear_down::pods_on_disk(&layout::pods_dir(&self.root)).map_err(|cause| VolumeError::List { cause })
    }

    async fn plan(
        &self,
        pod: &AllocatedPod,
        facts: &PodFacts,
        volume: &Volume,
        now: Timestamp,
    ) -> Result<(Plan, Option<Duration>), SetUpError> {
        if let Some(plan) = made_elsewhere(volume)? {
            return Ok((plan, None));
        }
        if let Some(source) = &volume.host_path {
            return Ok((Plan::HostPath(HostPath::plan(source)?), None));
        }
        let namespace = pods::key(pod).namespace;
        let on_disk = || empty_dir::Medium::Disk;
        let in_memory = || empty_dir::in_memory(pod, facts, None);
        let honours_users = self.settings.honours_file_users;
        let defaults = |mode, user| FileDefaults { mode, user, honours_users };
        let (plugin, medium, payload, refresh_after) = if let Some(source) = &volume.config_map {
            let found = self.objects.config_map(&namespace, &source.name).await;
            let is_optional = source.optional.unwrap_or(false);
            let payload = config_map::payload(
                found,
                source.items.as_deref(),
                defaults(source.default_mode, source.default_user),
                is_optional,
            )?;
            (layout::CONFIG_MAP, on_disk(), payload, None)
        } else if let Some(source) = &volume.secret {
            let found =
                self.objects.secret(&namespace, source.secret_name.as_deref().unwrap_or_default()).await;
            let is_optional = source.optional.unwrap_or(false);
            let payload = secret::payload(
                found,
                source.items.as_deref(),
                defaults(source.default_mode, source.default_user),
                is_optional,
            )?;
            (layout::SECRET, in_memory(), payload, None)
        } else if let Some(source) = &volume.downward_api {
            let payload = downward_api::payload(
                pod,
                facts,
                source.items.as_deref(),
                defaults(source.default_mode, source.default_user),
            )?;
            (layout::DOWNWARD_API, in_memory(), payload, None)
        } else if let Some(source) = &volume.projected {
            let inputs = Inputs {
                objects: &self.objects,
                tokens: &self.tokens,
                pod,
                facts,
                volume: &volume.name,
                now,
                honours_users,
            };
            let (payload, refresh_after) = projected::payload(&inputs, source).await?;
            (layout::PROJECTED, in_memory(), payload, refresh_after)
        } else {
            let honours_mode = self.settings.honours_folder_modes;
            let dir = empty_dir::plan(volume.empty_dir.as_ref(), pod, facts, honours_mode)?;
            return Ok((Plan::EmptyDir(dir), None));
        };
        let mount_points = nested_mount_points(pod, &volume.name);
        Ok((Plan::Files(Files { plugin, medium, payload, mount_points }), refresh_after))
    }
}

/// The plan for a volume that others make, which is to do nothing; `None` for one that is made here.
///
/// # Errors
/// Nobody makes it.
fn made_elsewhere(volume: &Volume) -> Result<Option<Plan>, SetUpError> {
    match VolumeKind::of(volume) {
        VolumeKind::Driver(layout::GIT_REPO) => Err(SetUpError::GitRepoDisabled),
        _ if is_mounted_alone(volume) => Ok(Some(Plan::Published)),
        VolumeKind::Driver(plugin) => Err(SetUpError::NoPlugin { plugin }),
        VolumeKind::Image => Ok(Some(Plan::Image)),
        _ => Ok(None),
    }
}

/// A volume whose content is known.
struct Planned {
    name: String,
    /// The folder name of its plugin.
    folder: Option<&'static str>,
    plan: Plan,
    /// How long it took to know.
    took: Duration,
}

/// The volumes that could not be made.
///
/// # Errors
/// There is no place for any.
fn carry_out_all(
    layout: &PodLayout,
    fs_group: Option<u32>,
    planned: &[Planned],
    now: Timestamp,
    timing: &Timing,
) -> Result<Vec<(String, SetUpError)>, SetUpError> {
    let folder = layout.make()?;
    let context = PodContext { folder: &folder, fs_group, now, timing };
    let outcome = |planned: &Planned| {
        let begun = Instant::now();
        let result = plugins::carry_out(&context, &planned.name, &planned.plan);
        if let Some(folder) = planned.folder {
            timing.note(folder, Operation::Mount, result.is_ok(), planned.took + begun.elapsed());
        }
        result.err().map(|e| (planned.name.clone(), e))
    };
    Ok(planned.iter().filter_map(outcome).collect())
}

fn set_up_error(volume: &str, cause: SetUpError) -> VolumeError {
    VolumeError::SetUp { volume: volume.to_owned(), cause, also: Vec::new() }
}
