//! Publishing: a volume is made available to one pod, and taken from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use model::storage::{CsiDriver, CsiVolume, FsGroupPolicy, VolumeMode};
use model::{Pod, PodUid, pod as pods};
use plugins::CallError;
use plugins::csi::{self, Certainty, PublishRequest};

use super::data::VolumeData;
use super::stage::give_up;
use super::{CsiError, CsiVolumes, Guard, Place, attributes, blocking, plugin_of, volume_use};
use crate::layout::PodLayout;
use crate::objects::Objects;
use crate::ownership::{self, ChangePolicy};
use crate::sub_path;
use crate::timing::Operation;

/// A volume for a pod.
#[derive(Debug)]
pub struct Publication<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The volume.
    pub volume: CsiVolume<'a>,
    /// Who makes it.
    pub driver: &'a CsiDriver,
    /// What its attachment says.
    pub publish_context: &'a BTreeMap<String, String>,
    /// Whether the pod may only ever read it.
    pub is_read_only: bool,
    /// Whether it was there before: then a failure takes nothing away.
    pub is_again: bool,
}

impl<O: Objects> CsiVolumes<O> {
    /// Has a volume published (`NodePublishVolume`), which was staged if its driver stages volumes, and hands its files to the
    /// group of the pod unless the driver does that. One that is published already is the driver's to recognize. When the
    /// driver says that it has not done it, nothing is left on disk.
    ///
    /// # Errors
    /// See [`CsiError`].
    pub async fn publish(&self, publication: &Publication<'_>) -> Result<(), CsiError> {
        let begun = Instant::now();
        let result = self.carry_out(publication).await;
        let plugin = plugin_of(&publication.driver.name);
        self.timing.note(&plugin, Operation::Mount, result.is_ok(), begun.elapsed());
        result
    }

    async fn carry_out(&self, publication: &Publication<'_>) -> Result<(), CsiError> {
        let Publication { pod, volume, driver, .. } = publication;
        if volume.mode == VolumeMode::Block {
            return Err(CsiError::Block);
        }
        let prepare = |cause| CsiError::Prepare { during: "mounter.SetUpAt failed to create dir", cause };
        let fs_group = crate::plugins::fs_group(pod).map_err(prepare)?;
        let request = self.request(publication, fs_group).await?;
        let uid = pods::uid(pod);
        let place = Place::published(&self.root, &uid, &volume.folder).map_err(prepare)?;
        let layout = PodLayout::new(&self.root, &uid).map_err(prepare)?;
        let guard = Arc::new(self.locks.lock(&place.folder()).await);
        let (made, data) = (place.clone(), VolumeData::published(*volume, &self.node_name));
        let make = move || layout.make().and_then(|_| made.make(&data)).map_err(prepare);
        blocking(&guard, make).await?;
        let asked = csi::node_publish_volume(&driver.endpoint, request);
        if let Err(CallError { source: cause, .. }) = self.call(driver, "NodePublishVolume", asked).await {
            if cause.certainty() == Certainty::Final && !publication.is_again {
                give_up(&guard, place).await?;
            }
            return Err(CsiError::Call { during: "", cause });
        }
        match fs_group {
            Some(group) if !driver.capabilities.mounts_with_group && has_group(publication) => {
                self.apply_group(&guard, publication, place, group).await
            }
            _ => Ok(()),
        }
    }

    /// All that the driver is told.
    async fn request(
        &self,
        publication: &Publication<'_>,
        fs_group: Option<u32>,
    ) -> Result<PublishRequest, CsiError> {
        let Publication { pod, volume, driver, publish_context, is_read_only, .. } = publication;
        let source = volume.csi();
        let prepare = |cause| CsiError::Prepare { during: "mounter.SetUpAt failed to create dir", cause };
        let target = Place::published(&self.root, &pods::uid(pod), &volume.folder).map_err(prepare)?;
        let staging = match driver.capabilities.stages && !source.is_ephemeral {
            true => Some(Place::staged(&self.root, &source.driver, &source.handle).map_err(prepare)?),
            false => None,
        };
        let path = |place: Place| place.mount().to_string_lossy().into_owned();
        let mut secrets = self.secrets("NodePublishSecretRef", source.publish_secret.as_ref()).await?;
        let mut attributes = source.attributes.clone();
        if driver.object.tells_pod_info {
            attributes.extend(attributes::pod_info(pod, source.is_ephemeral));
        }
        let tokens = self.token_attribute(pod, driver).await?;
        let has_secret_tokens = driver.object.has_tokens_in_secrets;
        if has_secret_tokens { &mut secrets } else { &mut attributes }.extend(tokens);
        Ok(PublishRequest {
            handle: source.handle.clone(),
            staging_path: staging.map(path).unwrap_or_default(),
            target_path: path(target),
            volume_use: volume_use(*volume, driver, fs_group.map(i64::from)),
            is_read_only: *is_read_only,
            publish_context: (*publish_context).clone(),
            secrets,
            attributes,
        })
    }

    async fn apply_group(
        &self,
        guard: &Guard,
        publication: &Publication<'_>,
        place: Place,
        group: u32,
    ) -> Result<(), CsiError> {
        let handle = publication.volume.csi().handle.clone();
        let (timing, plugin) = (self.timing.clone(), plugin_of(&publication.driver.name));
        let policy = ChangePolicy::of(publication.pod);
        blocking(guard, move || {
            let apply = || {
                let volume = host::beneath::Root::open(&place.mount())?;
                ownership::apply_to_foreign(&volume, group, policy)
            };
            let applied = timing.run(&plugin, Operation::ApplyGroup, apply);
            applied.map_err(|cause| CsiError::Group { handle, cause: cause.into() })
        })
        .await
    }

    /// Has a volume taken from a pod (`NodeUnpublishVolume`), after the parts of it that were mounted for containers, and
    /// removes what was made for it. What is not there any more is fine: the driver is not called when nothing on disk tells
    /// of the volume.
    ///
    /// # Errors
    /// See [`CsiError`].
    pub async fn unpublish(
        &self,
        uid: &PodUid,
        folder: &str,
        handle: &str,
        driver: &CsiDriver,
    ) -> Result<(), CsiError> {
        let begun = Instant::now();
        let clean_up =
            |cause| CsiError::CleanUp { during: "Unmounter.TearDownAt failed to clean mount dir", cause };
        let place = Place::published(&self.root, uid, folder).map_err(clean_up)?;
        let layout = PodLayout::new(&self.root, uid).map_err(clean_up)?;
        let guard = Arc::new(self.locks.lock(&place.folder()).await);
        let result = async {
            let (looked, parts) = (place.clone(), folder.to_owned());
            let look = move || sub_path::remove_all(&layout, &parts).and_then(|()| looked.content());
            let content = blocking(&guard, move || look().map_err(clean_up)).await?;
            if content.has_data || content.is_mounted {
                let path = place.mount().to_string_lossy().into_owned();
                let asked = csi::node_unpublish_volume(&driver.endpoint, handle, &path);
                let during = "kubernetes.io/csi: Unmounter.TearDownAt failed: ";
                let answer = self.call(driver, "NodeUnpublishVolume", asked).await;
                answer.map_err(|error| CsiError::Call { during, cause: error.source })?;
            }
            let path = place.mount();
            blocking(&guard, move || match place.remove().map_err(clean_up)? {
                true => Ok(()),
                false => Err(CsiError::StillMounted { path }),
            })
            .await
        };
        let result = result.await;
        if result.is_ok() {
            self.tokens.forget(uid);
        }
        self.timing.note(&plugin_of(&driver.name), Operation::Unmount, result.is_ok(), begun.elapsed());
        result
    }
}

/// Whether the kubelet hands the files to the group of the pod (`fsGroupPolicy`).
fn has_group(publication: &Publication<'_>) -> bool {
    let Publication { volume, driver, is_read_only, .. } = publication;
    let writes_alone = |mode: &String| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod");
    match driver.object.fs_group_policy {
        _ if *is_read_only => false,
        FsGroupPolicy::None => false,
        FsGroupPolicy::File => true,
        FsGroupPolicy::ReadWriteOnceWithFsType => {
            let source = volume.csi();
            !source.fs_type.is_empty()
                && (source.is_ephemeral || volume.access_modes.iter().any(writes_alone))
        }
    }
}

#[cfg(test)]
mod tests {
    use model::storage::{CsiDriverObject, VolumeSpec};
    use serde_json::json;

    use super::*;

    fn volume(fs_type: &str, modes: &[&str]) -> VolumeSpec {
        let spec = json!({
            "accessModes": modes, "csi": { "driver": "d", "volumeHandle": "h", "fsType": fs_type },
        });
        let object = json!({ "metadata": { "name": "pv" }, "spec": spec });
        VolumeSpec::of_persistent(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn whose_files_get_the_group() {
        use FsGroupPolicy::{File, None, ReadWriteOnceWithFsType as Usual};
        let cases: [(FsGroupPolicy, &str, &[&str], bool, bool); 10] = [
            (Usual, "ext4", &["ReadWriteOnce"], false, true),
            (Usual, "ext4", &["ReadOnlyMany", "ReadWriteOncePod"], false, true),
            (Usual, "", &["ReadWriteOnce"], false, false),
            (Usual, "ext4", &["ReadWriteMany"], false, false),
            (Usual, "ext4", &[], false, false),
            (Usual, "ext4", &["ReadWriteOnce"], true, false),
            (File, "", &["ReadWriteMany"], false, true),
            (File, "", &["ReadWriteMany"], true, false),
            (None, "ext4", &["ReadWriteOnce"], false, false),
            (None, "ext4", &["ReadWriteOnce"], true, false),
        ];
        for (fs_group_policy, fs_type, modes, is_read_only, wanted) in cases {
            let object = CsiDriverObject { fs_group_policy, ..CsiDriverObject::default() };
            let driver = CsiDriver { object, ..CsiDriver::default() };
            let (pod, volume, publish_context) =
                (Pod::default(), volume(fs_type, modes), BTreeMap::default());
            let publication = Publication {
                pod: &pod,
                volume: volume.as_csi().unwrap(),
                driver: &driver,
                publish_context: &publish_context,
                is_read_only,
                is_again: false,
            };
            assert_eq!(
                has_group(&publication),
                wanted,
                "{fs_group_policy:?} {fs_type} {modes:?} {is_read_only}"
            );
        }
    }
}
