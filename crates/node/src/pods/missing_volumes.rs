//! Volumes a pod waits for too long. Each failure is told when it happens; that all of it keeps the pod from
//! starting is told in the words people look for.

use std::time::Duration;

use k8s_openapi::api::core::v1::Volume;
use model::Pod;
use model::reason::event;

use super::Context;
use super::record::PodRecord;
use crate::outbox::Outbox;

/// After this long without all volumes that is told, and again after as long (upstream's
/// `podAttachAndMountTimeout`).
const PATIENCE: Duration = Duration::from_secs(123);

/// What a pod waits for.
#[derive(Clone, Debug, Default)]
pub(crate) struct MissingVolumes {
    names: Vec<String>,
    tell_at: Option<Duration>,
}

impl MissingVolumes {
    /// The last attempt failed with these.
    pub(crate) fn failed(&mut self, mut names: Vec<String>) {
        names.sort_unstable();
        self.names = names;
    }

    /// An attempt begins; the first one sets the clock.
    pub(crate) fn tried(&mut self, pod: &Pod, ctx: &Context<'_>) {
        if self.tell_at.is_none() {
            self.tell_at = Some(ctx.now.after(PATIENCE));
            let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
            self.failed(volumes.map(|volume: &Volume| volume.name.clone()).collect());
        }
    }
}

impl PodRecord {
    /// Tells of volumes that are missing for long. Returns when it will next.
    pub(crate) fn tell_of_missing_volumes(
        &mut self,
        ctx: &Context<'_>,
        out: &mut Outbox,
    ) -> Option<Duration> {
        let at = self.missing_volumes.tell_at.filter(|_| !self.missing_volumes.names.is_empty())?;
        if at > ctx.now.mono {
            return Some(at);
        }
        let message = format!(
            "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], failed to process \
             volumes=[]: context deadline exceeded",
            self.missing_volumes.names.join(" ")
        );
        self.record_event(true, event::FAILED_MOUNT, message, out);
        let next = ctx.now.after(PATIENCE);
        self.missing_volumes.tell_at = Some(next);
        Some(next)
    }
}
