//! Volumes a pod waits for too long. Each failure is told when it happens; that all of it keeps the pod from
//! starting is told in the words people look for.

use std::time::Duration;

use k8s_openapi::api::core::v1::Volume;
use model::{Now, Pod};
use serde::{Deserialize, Serialize};

/// After this long without all volumes that is told, and again after as long (upstream's
/// `podAttachAndMountTimeout`).
const PATIENCE: Duration = Duration::from_secs(123);

/// What a pod waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    pub(crate) fn tried(&mut self, pod: &Pod, now: Now) {
        if self.tell_at.is_none() {
            self.tell_at = Some(now.after(PATIENCE));
            let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
            self.failed(volumes.map(|volume: &Volume| volume.name.clone()).collect());
        }
    }

    /// What is to be told of them now, and when that is due next.
    pub(crate) fn tell(&mut self, now: Now) -> (Option<String>, Option<Duration>) {
        let Some(at) = self.tell_at.filter(|_| !self.names.is_empty()) else { return (None, None) };
        if at > now.mono {
            return (None, Some(at));
        }
        let message = format!(
            "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], failed to process \
             volumes=[]: context deadline exceeded",
            self.names.join(" ")
        );
        self.tell_at = Some(now.after(PATIENCE));
        (Some(message), self.tell_at)
    }
}
