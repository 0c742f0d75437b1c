//! Takes away what is left of a pod that has ended: volumes, cgroup, its object, and when nobody refers to it any more,
//! what the runtime holds of it, its folder and its logs.

use std::time::Duration;

use model::PodObservation;

use super::backoff::{Pauses, Retry};
use super::life::{Life, Step, Terminated};
use super::record::{Desired, PodRecord};
use super::stopping::MIN_GRACE;
use crate::cx::Cx;
use crate::effect::{ApiAction, HostAction, Outcome, VolumeAction};
use crate::schedule::earliest;
use crate::tasks::PodTask;

impl PodRecord {
    /// One round for a pod in [`Life::Terminated`]. Returns when the next is due by itself.
    pub(crate) fn drive_terminated(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        // Something is there again although all was gone (a creation that outlived its
        // cancellation): end that too. A sandbox that is dead by now has its network all the same.
        let is_left = self.seen.last().is_some_and(|o| {
            o.has_running_container() || o.sandboxes.iter().any(|s| !self.stopped_sandboxes.contains(&s.id))
        });
        if is_left {
            self.life.end_again(cx.now.after(MIN_GRACE));
            return self.drive_terminating(cx);
        }
        let Life::Terminated(end) = &self.life else { return None };
        let (is_clean, is_object_due) = (end.is_clean(), end.object.is_due(cx.now));
        let (tears_down, removes_cgroup) = (end.volumes.is_due(cx.now), end.cgroup.is_due(cx.now));
        let object_at = end.object.next_at(cx.now);
        let mut next = earliest(end.volumes.next_at(cx.now), end.cgroup.next_at(cx.now));
        let (is_released, release_at) = self.release_volumes(cx);
        next = earliest(next, release_at);
        if tears_down && is_released && !self.tasks.is_open(&PodTask::TearDownVolumes) {
            let action = VolumeAction::TearDown { uid: self.uid.clone(), key: self.key.clone() };
            self.start(PodTask::TearDownVolumes, action, cx.out);
        }
        if removes_cgroup && !self.tasks.is_open(&PodTask::RemoveCgroup) {
            let action = HostAction::RemoveCgroup { uid: self.uid.clone(), key: self.key.clone() };
            self.start(PodTask::RemoveCgroup, action, cx.out);
        }
        if self.is_deletion_wanted() {
            if is_clean
                && self.is_reported()
                && is_object_due
                && let Some(uid) = self.report.api_uid.clone()
                && !self.tasks.is_open(&PodTask::DeleteObject)
            {
                self.start(
                    PodTask::DeleteObject,
                    ApiAction::DeletePod { key: self.key.clone(), uid },
                    cx.out,
                );
            }
            next = earliest(next, object_at);
        }
        if !self.desired.is_present() || self.is_returning() {
            next = earliest(next, self.drive_cleanup(cx));
        }
        next
    }

    /// Volumes that drivers have made for it go first. Returns whether they are gone, and when that is tried again.
    fn release_volumes(&mut self, cx: &mut Cx<'_>) -> (bool, Option<Duration>) {
        let (volumes, mut around) = cx.volumes();
        volumes.release(&self.uid, &self.key, &mut around)
    }

    /// Whether the API object waits for this node to remove it.
    pub(super) fn is_deletion_wanted(&self) -> bool {
        match &self.desired {
            Desired::Present { pod, .. } => {
                !self.desired.is_static() && pod.metadata.deletion_timestamp.is_some()
            }
            Desired::Removed { .. } | Desired::Orphan => false,
        }
    }

    /// Removes from the runtime and from disk what is left of a pod that nobody refers to.
    fn drive_cleanup(&mut self, cx: &mut Cx<'_>) -> Option<Duration> {
        let Life::Terminated(end) = &self.life else { return None };
        let retry_at = end.cleanup.as_ref().map(|r| r.next_at).filter(|at| *at > cx.now.mono);
        if retry_at.is_some() {
            return retry_at;
        }
        let logs = end.logs.as_ref().map(|logs| (logs.is_due(cx.now), logs.next_at(cx.now)));
        let is_folder_due = end.volumes.is_done() && end.folder.is_due(cx.now) && !self.is_returning();
        let folder_at = end.folder.next_at(cx.now);
        let observed = self.seen.fresh()?;
        let sandboxes: Vec<_> = observed.sandboxes.iter().map(|s| s.id.clone()).collect();
        let strays: Vec<_> = observed
            .containers
            .iter()
            .filter(|c| !sandboxes.contains(&c.sandbox_id))
            .map(|c| c.id.clone())
            .collect();
        let is_empty = sandboxes.is_empty() && strays.is_empty();
        for id in sandboxes {
            self.remove_sandbox(id, cx.out);
        }
        for id in strays {
            self.remove_container(&id, false, cx.out);
        }
        if is_empty && is_folder_due && !self.tasks.is_open(&PodTask::Folder) {
            let action = VolumeAction::RemoveFolder { uid: self.uid.clone(), key: self.key.clone() };
            self.start(PodTask::Folder, action, cx.out);
        }
        let Some((are_logs_due, logs_at)) = logs else { return folder_at };
        if is_empty && are_logs_due && !self.tasks.is_open(&PodTask::Logs) {
            let action = HostAction::RemovePodLogs { uid: self.uid.clone(), key: self.key.clone() };
            self.start(PodTask::Logs, action, cx.out);
        }
        earliest(folder_at, logs_at)
    }

    /// Whether the pod leaves logs behind when its record goes.
    pub(crate) fn leaves_logs(&self) -> bool {
        matches!(&self.life, Life::Terminated(end) if end.logs.is_none())
    }

    /// Whether a static pod's manifest was removed and came back unchanged, and so with the same
    /// uid: when all of the old one is gone, it begins anew.
    pub(super) fn is_returning(&self) -> bool {
        let was_unwanted = self.life.end_cause().is_some_and(|why| why.is_unwanted());
        self.desired.is_static() && self.desired.is_present() && was_unwanted
    }

    /// Whether nothing of the pod is left anywhere, but for logs whose time has not come, and its record can go.
    pub(crate) fn is_forgettable(&self) -> bool {
        let Life::Terminated(end) = &self.life else { return false };
        (!self.desired.is_present() || self.is_returning())
            && self.tasks.is_empty()
            && end.is_clean()
            && (end.folder.is_done() || self.is_returning())
            && end.logs.as_ref().is_none_or(Step::is_done)
            && self.seen.last().is_some_and(|o| o.sandboxes.is_empty() && o.containers.is_empty())
    }

    // ---- results ----

    /// What was removed is no longer held.
    pub(super) fn removal_done(
        &mut self,
        outcome: &Outcome,
        cx: &Cx<'_>,
        forget: impl FnOnce(&mut PodObservation),
    ) {
        if !outcome.is_gone() {
            self.seen.outdate();
        } else if let Some(held) = self.seen.last_mut() {
            forget(held);
        }
        let failed = match outcome {
            Outcome::Failed(failure) => Some(failure.message.clone()),
            _ => None,
        };
        if let Life::Terminated(end) = &mut self.life {
            end.cleanup = failed.map(|e| Retry::after(end.cleanup.as_ref(), e, Pauses::CALLS, cx.now));
        }
    }

    pub(super) fn end_step(
        &mut self,
        outcome: &Outcome,
        cx: &Cx<'_>,
        step: impl Fn(&mut Terminated) -> &mut Step,
    ) {
        let Life::Terminated(end) = &mut self.life else { return };
        let step = step(end);
        *step = step.after(outcome, cx.now);
    }
}
