//! The attachment of volumes to the node, which others see to: the controller attaches a volume, and lists it in
//! `status.volumesAttached` of the Node; the node lists in `status.volumesInUse` what must not be detached. So nothing is
//! done with such a volume before the API server has been seen to have it in the latter list, and it stays there until it is
//! unstaged (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/#NodeStatus>).

use k8s_openapi::api::core::v1::{Node as ApiNode, NodeStatus};
use model::Now;
use model::storage::{MounterName, VolumeName, attachment_name};

use super::node_volume::NodeVolume;
use super::{Drivers, Surroundings, Volumes};
use crate::effect::{ApiAction, ApiOutcome, Outcome};
use crate::pods::backoff::{Pauses, Retry};
use crate::tasks::Owner;

/// What is missing before a volume can be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttachWait {
    /// The API server has to know that the node uses it.
    Announcement,
    /// The controller has to attach it.
    Attachment,
    /// What the driver has to be told of the attachment has to be read.
    Context,
}

impl Drivers {
    /// The driver of a volume that has to be attached to the node; so it is with those of which nobody says anything. What the
    /// kubelet mounts itself is there.
    pub(super) fn attached_by<'a>(&self, volume: &'a NodeVolume) -> Option<&'a str> {
        let MounterName::Csi(driver) = &volume.mounter else { return None };
        let is_attached =
            !volume.is_ephemeral && self.object(driver).is_none_or(|object| object.attach_required);
        is_attached.then_some(driver.as_str())
    }
}

/// Whether the API server knows it, and no write is under way that would take it back.
fn is_announced(around: &Surroundings<'_>, name: &VolumeName) -> bool {
    let has =
        |status: &NodeStatus| status.volumes_in_use.iter().flatten().any(|known| known == name.as_str());
    around.reported.is_some_and(has) && around.reporting.is_none_or(has)
}

fn is_attached(node: Option<&ApiNode>, name: &VolumeName) -> bool {
    let attached = node.and_then(|node| node.status.as_ref()?.volumes_attached.as_ref());
    attached.is_some_and(|volumes| volumes.iter().any(|volume| volume.name == name.as_str()))
}

impl Volumes {
    /// The volumes that must not be detached from the node, in order; `None` when they are those that were last said.
    pub(crate) fn newly_in_use(&mut self) -> Option<Vec<String>> {
        std::mem::take(&mut self.is_use_new).then(|| self.in_use())
    }

    fn in_use(&self) -> Vec<String> {
        let all = self.volumes.iter().filter(|(name, volume)| {
            let is_touched = !volume.stage.is_absent() || !self.idle.contains(*name);
            is_touched && self.drivers.attached_by(volume).is_some()
        });
        all.map(|(name, _)| name.to_string()).collect()
    }
}

impl NodeVolume {
    /// Brings the attachment closer. Returns what is missing; `None` when the volume can be staged.
    pub(super) fn attach(
        &mut self,
        name: &VolumeName,
        drivers: &Drivers,
        around: &mut Surroundings<'_>,
    ) -> Option<AttachWait> {
        let driver = drivers.attached_by(self)?.to_owned();
        if !is_announced(around, name) {
            return Some(AttachWait::Announcement);
        }
        if !is_attached(around.node, name) {
            // The next attachment may have another context.
            self.publish_context = None;
            return Some(AttachWait::Attachment);
        }
        if self.publish_context.is_some() {
            return None;
        }
        let owner = Owner::Volume(name.clone());
        if Self::is_due(self.retry.as_ref(), around.now) && !around.out.is_open(&owner) {
            let name = attachment_name(&driver, &self.handle, around.node_name);
            around.out.start(owner, ApiAction::ReadAttachment { name });
        }
        Some(AttachWait::Context)
    }

    /// The attachment was read, or was not.
    pub(super) fn attachment_read(&mut self, outcome: &Outcome, now: Now) {
        let error = match outcome {
            Outcome::Api(ApiOutcome::Attachment { is_attached: true, metadata, .. }) => {
                (self.publish_context, self.retry) = (Some(metadata.clone()), None);
                return;
            }
            Outcome::Api(ApiOutcome::Attachment { error: Some(error), .. }) => error.clone(),
            Outcome::Failed(failure) => failure.message.clone(),
            Outcome::Gone => "the VolumeAttachment does not exist".to_owned(),
            _ => "the VolumeAttachment does not say that it is attached".to_owned(),
        };
        let folder = self.spec.as_ref().map_or(self.handle.as_str(), |spec| spec.folder.as_str());
        let error = format!("MountVolume.WaitForAttach failed for volume {folder:?} : {error}");
        self.retry = Some(Retry::after(self.retry.as_ref(), error, Pauses::VOLUMES, now));
    }
}
