//! Volumes a pod waits for, in the words people look for. Each failure to make one is told when it happens; that all of it
//! keeps the pod from starting is told beside it.

use std::time::Duration;

use model::storage::is_mounted_alone;
use model::{Now, Pod, pod};
use serde::{Deserialize, Serialize};

use crate::effect::{VolumeFailure, VolumeStage};

/// After this long without all volumes that is told, and again after as long (upstream's
/// `podAttachAndMountTimeout`). In v1.37 upstream has that in its log only, as it makes no event of a wait that ran out of
/// time; a mount that hangs would have no event at all.
const PATIENCE: Duration = Duration::from_secs(123);

/// What a pod waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MissingVolumes {
    /// Those that the kubelet makes itself.
    of_files: Missing,
    /// Those that drivers make.
    of_drivers: Missing,
    tell_at: Option<Duration>,
}

/// Volumes that are not there, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub(crate) unmounted: Vec<String>,
    /// Those of them that are not attached to the node.
    pub(crate) unattached: Vec<String>,
    /// Those of them of which it is not even known what makes them.
    pub(crate) unprocessed: Vec<String>,
}

impl MissingVolumes {
    /// The last attempt to make those of the kubelet's own failed with these.
    pub(crate) fn failed(&mut self, failures: &[VolumeFailure]) {
        let unprocessed = failures.iter().filter(|failure| failure.stage == VolumeStage::Processing);
        self.of_files.unmounted = names(failures.iter());
        self.of_files.unprocessed = names(unprocessed);
    }

    /// An attempt begins; the first one sets the clock.
    pub(crate) fn tried(&mut self, pod: &Pod, now: Now) {
        if self.tell_at.is_none() {
            self.tell_at = Some(now.after(PATIENCE));
            let used = pod::used_volumes(pod).filter(|volume| !is_mounted_alone(volume));
            self.of_files.unmounted = used.map(|volume| volume.name.clone()).collect();
            self.of_files.unmounted.sort_unstable();
        }
    }

    /// Those of the kubelet's own are there.
    pub(crate) fn files_made(&mut self) {
        self.of_files = Missing::default();
        self.settle();
    }

    /// How far those of drivers are, in a round of the pod.
    pub(crate) fn of_drivers_are(&mut self, missing: Missing, now: Now) {
        self.of_drivers = missing;
        match self.of_drivers.unmounted.is_empty() {
            true => self.settle(),
            false => {
                self.tell_at.get_or_insert(now.after(PATIENCE));
            }
        }
    }

    fn settle(&mut self) {
        if self.of_files.unmounted.is_empty() && self.of_drivers.unmounted.is_empty() {
            self.tell_at = None;
        }
    }

    /// What is to be told of them now, and when that is due next. Volumes that cannot be processed are told with each
    /// attempt.
    pub(crate) fn tell(&mut self, now: Now) -> (Option<String>, Option<Duration>) {
        let is_told_later = !self.all(|missing| &missing.unmounted).is_empty()
            && self.all(|missing| &missing.unprocessed).is_empty();
        let Some(at) = self.tell_at.filter(|_| is_told_later) else { return (None, None) };
        if at > now.mono {
            return (None, Some(at));
        }
        self.tell_at = Some(now.after(PATIENCE));
        (Some(self.text("context deadline exceeded")), self.tell_at)
    }

    /// What this attempt's failures are told as: those of mounts each by itself, those before that together.
    pub(crate) fn messages(&self, failures: &[VolumeFailure]) -> Vec<String> {
        let of = |stage| failures.iter().filter(move |failure| failure.stage == stage);
        let mut messages: Vec<String> = of(VolumeStage::Mounting).map(|f| f.message.clone()).collect();
        messages.dedup();
        let causes: Vec<&str> = of(VolumeStage::Processing).map(|f| f.message.as_str()).collect();
        if !causes.is_empty() {
            messages.push(self.text(&causes.join("; ")));
        }
        messages
    }

    fn text(&self, cause: &str) -> String {
        format!(
            "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[{}], failed to process \
             volumes=[{}]: {cause}",
            self.all(|missing| &missing.unmounted).join(" "),
            self.all(|missing| &missing.unattached).join(" "),
            self.all(|missing| &missing.unprocessed).join(" ")
        )
    }

    /// Names in order.
    fn all(&self, which: impl Fn(&Missing) -> &Vec<String>) -> Vec<&str> {
        let all = which(&self.of_files).iter().chain(which(&self.of_drivers));
        let mut names: Vec<&str> = all.map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn names<'a>(failures: impl Iterator<Item = &'a VolumeFailure>) -> Vec<String> {
    let named = failures.filter(|failure| !failure.volume.is_empty());
    let mut names: Vec<String> = named.map(|failure| failure.volume.clone()).collect();
    names.sort_unstable();
    names
}
